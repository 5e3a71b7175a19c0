"""Pictures are read back: what is drawn must agree with the axis that is drawn beside it."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from geometry import distance_to_segment
from oncoarena.reporting import agreement, figures, learning, panels
from oncoarena.reporting.series import assign_series

SERIES = assign_series(
    [
        ("deep", "Deep", "claim"),
        ("sparse", "Sparse", "claim"),
        ("logistic", "L2", "baseline"),
        ("prior", "", "control"),
    ]
)
WORDS = {"title": "A title", "description": "A description.", "uid": "f"}
NS = "{http://www.w3.org/2000/svg}"


def parse(picture: str) -> ET.Element:
    return ET.fromstring(picture)


def by_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in root.iter() if name in (element.get("class") or "").split()]


def texts(root: ET.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{NS}text")]


def value(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))


def read_axis(root: ET.Element, along: str) -> tuple[float, float]:
    """Fit value = slope * pixel + offset through the labelled ticks of one axis."""
    ticks = [t for t in by_class(root, "tick") if (t.get("text-anchor") == "middle") == (along == "x")]
    # A tick's label on the vertical axis stands 4 px below its value, so that it is centred on it.
    pixels = [float(t.get(along)) - (4 if along == "y" else 0) for t in ticks]
    slope, offset = np.polyfit(pixels, [value(t.text) for t in ticks], 1)
    return slope, offset


def marker_at(group: ET.Element) -> tuple[float, float]:
    path = next(group.iter(f"{NS}path"))
    x, y = re.fullmatch(r"translate\((\S+) (\S+)\)", path.get("transform")).groups()
    return float(x), float(y)


def evaluation(rows: list[tuple[str, float, float, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["hypothesis", "estimate", "ci_low", "ci_high"])


def comparison(rows: list[tuple]) -> pd.DataFrame:
    columns = ["hypothesis_a", "hypothesis_b", "difference", "ci_low", "ci_high", "p_value", "p_holm"]
    return pd.DataFrame(rows, columns=columns)


TABLE = evaluation(
    [
        ("deep", 0.91, 0.83, 0.97),
        ("sparse", 0.88, 0.80, 0.94),
        ("logistic", 0.85, 0.77, 0.91),
        ("prior", 0.5, 0.5, 0.5),
    ]
)


@pytest.mark.parametrize("width", [figures.WIDE, 380, figures.NARROW])
def test_interval_plot__dots_and_whiskers_lie_where_the_axis_says(width):
    root = parse(figures.interval_plot(TABLE, SERIES, metric_key="auroc_macro", width=width, **WORDS))
    slope, offset = read_axis(root, "x")
    rows = by_class(root, "mark")
    assert len(rows) == len(TABLE)
    for group, row in zip(rows, TABLE.itertuples(), strict=True):
        assert slope * marker_at(group)[0] + offset == pytest.approx(row.estimate, abs=1e-3)
        (whisker,) = by_class(group, "whisker")
        ends = [slope * float(whisker.get(end)) + offset for end in ("x1", "x2")]
        assert ends == pytest.approx([row.ci_low, row.ci_high], abs=1e-3)


def test_interval_plot__rows_stand_in_order_below_the_heading_of_their_role():
    root = parse(figures.interval_plot(TABLE, SERIES, metric_key="accuracy", **WORDS))
    heads = {head.text: float(head.get("y")) for head in by_class(root, "group")}
    assert list(heads) == ["Claims", "Baselines", "Controls"]
    heights = [marker_at(group)[1] for group in by_class(root, "mark")]
    assert heights == sorted(heights)
    assert (
        heads["Claims"]
        < heights[0]
        < heights[1]
        < heads["Baselines"]
        < heights[2]
        < heads["Controls"]
        < heights[3]
    )


def test_interval_plot__without_interval_has_a_dot_and_no_whisker():
    root = parse(
        figures.interval_plot(
            evaluation([("deep", 0.9, np.nan, np.nan)]), SERIES, metric_key="accuracy", **WORDS
        )
    )
    assert len(list(root.iter(f"{NS}path"))) == 1
    assert not by_class(root, "whisker")
    assert "0.900" in texts(root)
    assert "no interval" in by_class(root, "mark")[0].find(f"{NS}title").text


def test_interval_plot__without_estimate_says_not_estimable():
    table = evaluation([("deep", np.nan, np.nan, np.nan), ("sparse", 0.9, 0.8, 1.0)])
    root = parse(figures.interval_plot(table, SERIES, metric_key="accuracy", **WORDS))
    assert "not estimable" in texts(root)
    assert len(list(root.iter(f"{NS}path"))) == 1


def test_interval_plot__of_nothing_is_still_a_picture():
    root = parse(figures.interval_plot(evaluation([]), SERIES, metric_key="accuracy", **WORDS))
    assert root.find(f"{NS}title").text == "A title"
    assert not by_class(root, "mark")


PAIRS = comparison(
    [
        ("deep", "sparse", 0.03, -0.02, 0.08, 0.2, 0.4),
        ("logistic", "deep", -0.10, -0.15, -0.05, 0.001, 0.004),
        ("sparse", "logistic", 0.07, 0.01, 0.13, 0.02, 0.06),
    ]
)


def test_differences_with__turns_signs_so_that_the_hypothesis_comes_first():
    turned = figures.differences_with(PAIRS, "deep")
    assert list(turned["hypothesis_b"]) == ["sparse", "logistic"]
    assert turned.loc[1, ["difference", "ci_low", "ci_high"]].tolist() == pytest.approx([0.10, 0.05, 0.15])
    assert figures.differences_with(PAIRS, "prior").empty


def test_forest_plot__marks_agree_with_the_axis_and_fill_says_separable():
    turned = figures.differences_with(PAIRS, "deep")
    root = parse(figures.forest_plot(turned, SERIES, metric_key="accuracy", **WORDS))
    slope, offset = read_axis(root, "x")
    (zero,) = by_class(root, "zero")
    assert slope * float(zero.get("x1")) + offset == pytest.approx(0, abs=1e-3)
    seen = [slope * marker_at(group)[0] + offset for group in by_class(root, "mark")]
    assert seen == pytest.approx(turned["difference"].tolist(), abs=1e-3)
    filled = [next(group.iter(f"{NS}path")).get("class") for group in by_class(root, "mark")]
    assert filled == ["open", "solid"]
    assert "not separable, p 0.40" in texts(root)
    assert "separable, p 0.004" in texts(root)


@pytest.mark.parametrize(
    ("p", "low", "high", "expected"),
    [
        (0.01, 0.1, 0.2, True),
        (0.01, -0.1, 0.2, False),
        (0.2, 0.1, 0.2, False),
        (0.01, -0.3, -0.1, True),
        (np.nan, 0.1, 0.2, False),
        (0.01, np.nan, np.nan, False),
    ],
)
def test_is_separable__takes_a_small_p_and_an_interval_without_zero(p, low, high, expected):
    row = next(comparison([("a", "b", 0.1, low, high, p, p)]).itertuples())
    assert figures.is_separable(row) is expected


def test_forest_plot__good_end_of_the_axis_turns_with_the_metric():
    turned = figures.differences_with(PAIRS, "deep")
    for key, right in (("accuracy", "deep better"), ("log_loss", "other better")):
        root = parse(figures.forest_plot(turned, SERIES, metric_key=key, **WORDS))
        ends = [t for t in by_class(root, "axis") if t.text.endswith("\N{RIGHTWARDS ARROW}")]
        assert [t.text[:-2] for t in ends] == [right]


def test_bar_plot__lengths_are_proportional():
    rows = [("a", 3.0, "3 s"), ("b", 12.0, "12 s"), ("c", 0.0, "0 s")]
    root = parse(figures.bar_plot(rows, **WORDS))
    lengths = [float(bar.get("width")) for bar in by_class(root, "bar")]
    assert lengths[1] / lengths[0] == pytest.approx(4, rel=1e-3)
    assert lengths[2] <= 1


CURVE = pd.DataFrame(
    {"hypothesis": "deep", "x": [0, 0, 0.1, 0.1, 0.4, 1], "y": [0, 0.5, 0.5, 0.8, 1, 1], "n_samples": 20}
)


@pytest.mark.parametrize("kind", ["roc", "calibration", "precision_recall", "risk_coverage"])
def test_curve_panel__line_goes_through_the_points_of_the_table(kind):
    root = parse(panels.curve_panel(CURVE, SERIES, curve=kind, **WORDS))
    (across, x0), (up, y0) = read_axis(root, "x"), read_axis(root, "y")
    (polyline,) = root.iter(f"{NS}polyline")
    drawn = np.array([list(map(float, point.split(","))) for point in polyline.get("points").split()])
    drawn = np.column_stack([across * drawn[:, 0] + x0, up * drawn[:, 1] + y0])
    assert drawn == pytest.approx(CURVE[["x", "y"]].to_numpy(dtype=float), abs=1e-3)


def test_curve_panel__line_breaks_off_below_the_axis_and_comes_back():
    table = CURVE.assign(x=[0, 0.2, 0.4, 0.6, 0.8, 1.0], y=[0.4, 0.3, -2.0, -3.0, 0.1, 0.1])
    root = parse(panels.curve_panel(table, SERIES, curve="decision", **WORDS))
    pieces = [len(line.get("points").split()) for line in root.iter(f"{NS}polyline")]
    assert pieces == [2, 2]


def test_curve_panel__leaves_out_points_that_are_not_finite():
    table = CURVE.assign(y=[np.nan] * 6)
    assert not list(parse(panels.curve_panel(table, SERIES, curve="roc", **WORDS)).iter(f"{NS}polyline"))


def test_curve_panel__a_long_curve_is_thinned_and_stays_within_half_a_pixel():
    x = np.linspace(0, 1, 20_001)
    table = pd.DataFrame({"hypothesis": "deep", "x": x, "y": x**0.25, "n_samples": 9})
    root = parse(panels.curve_panel(table, SERIES, curve="precision_recall", **WORDS))
    (across, x0), (up, y0) = read_axis(root, "x"), read_axis(root, "y")
    (polyline,) = root.iter(f"{NS}polyline")
    drawn = np.array([list(map(float, point.split(","))) for point in polyline.get("points").split()])
    assert 10 < len(drawn) <= panels.POINTS_MOST
    pixels = np.column_stack([(x - x0) / across, (x**0.25 - y0) / up])[::50]
    off = [min(distance_to_segment(p, a, b) for a, b in pairwise(drawn)) for p in pixels]
    assert max(off) < 0.5


def test_confusion_matrix__cell_stands_in_the_row_of_its_truth_and_the_column_of_its_call():
    table = pd.DataFrame(
        [("A", "A", 4), ("A", "B", 1), ("B", "B", 5), ("B", "A", 0)],
        columns=["label", "predicted", "n_samples"],
    )
    root = parse(panels.confusion_matrix(table, ["A", "B"], **WORDS))
    rows = {t.text: float(t.get("y")) for t in by_class(root, "strong")}
    columns = {t.text: float(t.get("x")) for t in by_class(root, "tick") if t.get("text-anchor") == "middle"}
    found = {}
    for cell in by_class(root, "mark"):
        box = next(cell.iter(f"{NS}rect"))
        x, y = (float(box.get(a)) + float(box.get(b)) / 2 for a, b in (("x", "width"), ("y", "height")))
        truth = min(rows, key=lambda name: abs(rows[name] - y))
        called = min(columns, key=lambda name: abs(columns[name] - x))
        found[truth, called] = (next(cell.iter(f"{NS}text")).text, cell.get("class").split()[1])
    assert found == {("A", "A"): ("4", "right"), ("A", "B"): ("1", "wrong"), ("B", "B"): ("5", "right")}


@pytest.mark.parametrize("k", [1, 2, 4, 9, 20])
def test_confusion_matrix__nothing_leaves_the_picture(k):
    names = [f"Carcinoma of organ {i}" for i in range(k)]
    table = pd.DataFrame({"label": names, "predicted": names, "n_samples": 3})
    root = parse(panels.confusion_matrix(table, names, **WORDS))
    width, height = map(float, root.get("viewBox").split()[2:])
    for box in root.iter(f"{NS}rect"):
        x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height


LEARNED = pd.DataFrame(
    {
        "hypothesis": ["deep", "deep", "deep", "sparse"],
        "fraction": [1.0, 0.25, 0.5, 1.0],
        "metric": "accuracy",
        "estimate": [0.9, 0.6, 0.8, 0.7],
        "ci_low": [0.8, 0.5, 0.7, np.nan],
        "ci_high": [0.95, 0.7, 0.9, np.nan],
    }
)


def test_learning_panel__points_and_whiskers_lie_where_the_axes_say():
    looks = [SERIES["deep"]]
    table = LEARNED[LEARNED["hypothesis"] == "deep"]
    root = parse(learning.learning_panel(table, looks, metric_key="accuracy", **WORDS))
    (across, x0), (up, y0) = read_axis(root, "x"), read_axis(root, "y")
    (polyline,) = root.iter(f"{NS}polyline")
    drawn = np.array([list(map(float, point.split(","))) for point in polyline.get("points").split()])
    drawn = np.column_stack([across * drawn[:, 0] + x0, up * drawn[:, 1] + y0])
    assert drawn == pytest.approx(np.array([[0.25, 0.6], [0.5, 0.8], [1.0, 0.9]]), abs=2e-3)
    for whisker, (low, high) in zip(
        by_class(root, "whisker"), [(0.5, 0.7), (0.7, 0.9), (0.8, 0.95)], strict=True
    ):
        assert [up * float(whisker.get(end)) + y0 for end in ("y1", "y2")] == pytest.approx(
            [low, high], abs=2e-3
        )


def test_learning_panel__a_point_without_interval_has_no_whisker_and_one_without_estimate_is_left_out():
    table = pd.concat([LEARNED, LEARNED.tail(1).assign(fraction=0.5, estimate=np.nan)])
    root = parse(learning.learning_panel(table, [SERIES["sparse"]], metric_key="accuracy", **WORDS))
    assert len(by_class(root, "mark")) == 1
    assert not by_class(root, "whisker")


OVERLAP = pd.DataFrame(
    [
        ("deep", "sparse", 2.0, 1.0, 3.0, 0.55, 20.0),
        ("logistic", "deep", 0.5, 3.0, 4.0, -0.2, 20.0),
        ("sparse", "logistic", 0.0, 4.0, 3.0, np.nan, 20.0),
    ],
    columns=["hypothesis_a", "hypothesis_b", "both_wrong", "only_a", "only_b", "phi", "n"],
)


def test_overlap_matrix__cell_of_a_pair_stands_where_its_names_meet_and_tone_says_the_sign():
    looks = [SERIES[name] for name in ("deep", "sparse", "logistic")]
    root = parse(agreement.overlap_matrix(OVERLAP, looks, **WORDS))
    names = by_class(root, "strong")
    rows = {t.text: float(t.get("y")) for t in names if not t.get("transform")}
    columns = {t.text: float(t.get("x")) for t in names if t.get("transform")}
    found = {}
    for cell in by_class(root, "mark"):
        box = next(cell.iter(f"{NS}rect"))
        x, y = (float(box.get(a)) + float(box.get(b)) / 2 for a, b in (("x", "width"), ("y", "height")))
        pair = (
            min(rows, key=lambda name: abs(rows[name] - y)),
            min(columns, key=lambda name: abs(columns[name] - x)),
        )
        found[pair] = (next(cell.iter(f"{NS}text")).text, cell.get("class").split()[1])
    assert found == {
        ("sparse", "deep"): ("2", "wrong"),
        ("logistic", "deep"): ("0.5", "right"),
        ("logistic", "sparse"): ("0", "level"),
    }
    width, height = map(float, root.get("viewBox").split()[2:])
    for box in root.iter(f"{NS}rect"):
        assert float(box.get("x")) + float(box.get("width")) <= width
        assert float(box.get("y")) + float(box.get("height")) <= height


def test_overlap_matrix__leaves_controls_to_the_table():
    with_control = OVERLAP.replace("logistic", "prior")
    section = agreement.agreement(with_control, None, SERIES)
    assert len(by_class(parse(section["overlap"]), "mark")) == 1
    assert len(section["overlap_table"].rows) == 3
    only_control = with_control[with_control["phi"] != 0.55]
    assert agreement.agreement(only_control.iloc[:1], None, SERIES)["overlap"] is None


def test_gain_plot__agrees_with_the_axis_and_fill_takes_a_small_p_and_an_interval_above_zero():
    gains = pd.DataFrame(
        [
            ("sparse", 0.05, 0.01, 0.09, 0.2),
            ("deep", 0.12, 0.04, 0.21, 0.004),
            ("logistic", -0.1, -0.2, -0.05, 0.01),
        ],
        columns=["hypothesis", "gain", "ci_low", "ci_high", "p_holm"],
    )
    root = parse(agreement.gain_plot(gains, SERIES, **WORDS))
    slope, offset = read_axis(root, "x")
    marks = by_class(root, "mark")
    seen = [slope * marker_at(group)[0] + offset for group in marks]
    assert seen == pytest.approx([0.12, 0.05, -0.1], abs=1e-3)
    assert [next(g.iter(f"{NS}path")).get("class") for g in marks] == ["solid", "open", "open"]
    assert "adds, p 0.004" in texts(root)
    assert "not shown to add, p 0.20" in texts(root)


def test_every_picture__says_its_title_and_description_and_escapes_names():
    nasty = assign_series([("<b>A&B</b>\x00\"'", "<b>a title</b>", "claim")])
    (x,) = nasty
    drawings = [
        figures.interval_plot(evaluation([(x, 0.5, 0.4, 0.6)]), nasty, metric_key="accuracy", **WORDS),
        figures.forest_plot(comparison([(x, x, 0.1, 0.0, 0.2, 1, 1)]), nasty, metric_key="accuracy", **WORDS),
        figures.bar_plot([("<b>A&B</b>", 1.0, "<1 & 2>")], **WORDS),
        panels.curve_panel(CURVE.assign(hypothesis=x), nasty, curve="calibration", **WORDS),
        panels.confusion_matrix(
            pd.DataFrame({"label": ["<b>"], "predicted": ["A&B"], "n_samples": [2.5]}), ["<b>"], **WORDS
        ),
    ]
    for drawing in drawings:
        root = parse(drawing)
        assert root.get("role") == "img"
        assert root.get("aria-labelledby").split() == [
            root.find(f"{NS}{t}").get("id") for t in ("title", "desc")
        ]
        assert (root.find(f"{NS}title").text, root.find(f"{NS}desc").text) == ("A title", "A description.")
        assert not list(root.iter("b"))
        assert not list(root.iter(f"{NS}b"))
    assert any("<b>A&B" in text for text in texts(parse(drawings[0])))
