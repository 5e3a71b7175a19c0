"""Draw ROC curves, calibration curves and confusion matrices: a table in, one SVG out."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from oncoarena.reporting import svg
from oncoarena.reporting.glossary import CURVES, count, decimals, role_rank
from oncoarena.reporting.series import Series

POINTS_MOST = 400
"""The most points drawn of one curve."""

PANEL = 254
"""Width (pixels) of one of several panels: three stand in a row."""

_TOLERANCE_PX = 0.35


def curve_panel(
    points: pd.DataFrame,
    series: Mapping[str, Series],
    *,
    curve: str,
    title: str,
    description: str,
    uid: str,
    width: int = PANEL,
) -> str:
    """Draw the curves of one class, all hypotheses in one square.

    Parameters: ``points`` with the columns hypothesis, x, y, n_samples in the order of the line;
    ``curve`` is a key of ``glossary.CURVES``. Calibration points grow with the root of their samples.
    Returns SVG text; each line carries its hypothesis's name for the page's script to read values by.
    """
    kind = CURVES[curve]
    points = points[np.isfinite(points["x"]) & np.isfinite(points["y"])]
    low, high = 0.0, 1.0
    if kind.floor:
        low, high = kind.floor, max(0.1, float(points["y"].max()) * 1.08 if len(points) else 1.0)
    left, right, top, bottom = 40.0, width - 10.0, 10.0, 40.0
    side = right - left
    # A little air, or lines along 0 and 1 would vanish in the frame.
    air = 0.025 * (high - low)
    x_scale = svg.Scale(-0.025, 1.025, left, right)
    y_scale = svg.Scale(low - air, high + air, top + side, top)
    y_ticks = svg.ticks(low, high, 3) if kind.floor else [0.0, 0.5, 1.0]
    y_lines = y_ticks if kind.floor else [0.25, 0.5, 0.75]
    parts = [
        svg.element("rect", x=left, y=top, width=side, height=side, class_="frame"),
        *(svg.line(x_scale(t), top, x_scale(t), top + side, class_="grid") for t in (0.25, 0.5, 0.75)),
        *(svg.line(left, y_scale(t), right, y_scale(t), class_="grid") for t in y_lines),
    ]
    if kind.diagonal:
        parts.append(svg.line(x_scale(0), y_scale(0), x_scale(1), y_scale(1), class_="diagonal"))
    if low < 0:
        parts.append(svg.line(left, y_scale(0), right, y_scale(0), class_="diagonal"))
    for tick in (0.0, 0.5, 1.0):
        name = svg.number(tick)
        parts.append(svg.text(x_scale(tick), top + side + 16, name, class_="tick", text_anchor="middle"))
    for tick in y_ticks:
        name = svg.tick_label(tick, y_ticks[1] - y_ticks[0]) if kind.floor else svg.number(tick)
        parts.append(svg.text(left - 7, y_scale(tick) + 4, name, class_="tick", text_anchor="end"))
    middle = top + side / 2
    turn = f"rotate(-90 11 {svg.number(middle)})"
    parts.append(svg.text((left + right) / 2, top + side + 34, kind.x, class_="axis", text_anchor="middle"))
    parts.append(svg.text(11, middle, kind.y, class_="axis", text_anchor="middle", transform=turn))
    biggest = max(float(points["n_samples"].max()), 1.0) if len(points) else 1.0
    drawn = dict(list(points.groupby("hypothesis", sort=False)))
    # Controls first and claims last, so that what matters lies on top; of the claims the solid line first,
    # so that the dashes of others show on it where lines coincide.
    for look in sorted(series.values(), key=lambda look: -role_rank(look.role)):
        if look.hypothesis in drawn:
            parts.append(_draw_curve(drawn[look.hypothesis], look, curve, x_scale, y_scale, biggest))
    return svg.picture(
        parts,
        width=width,
        height=top + side + bottom,
        title=title,
        description=description,
        uid=uid,
        class_=f"chart curves {curve}",
    )


def _draw_curve(
    points: pd.DataFrame, look: Series, curve: str, x_scale: svg.Scale, y_scale: svg.Scale, biggest: float
) -> str:
    """Draw one line, with dots where the kind has them; a line that leaves below the axis is broken off."""
    inside = points["y"].to_numpy(dtype=float) >= CURVES[curve].floor
    pieces = np.split(np.arange(len(points)), np.flatnonzero(np.diff(inside)) + 1)
    x, y = points["x"].to_numpy(dtype=float), points["y"].to_numpy(dtype=float)
    parts = []
    for piece in pieces:
        if not len(piece) or not inside[piece[0]]:
            continue
        pixels = np.column_stack([x_scale(x[piece]), y_scale(y[piece])])
        pixels = svg.simplify(pixels, _TOLERANCE_PX, POINTS_MOST)
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in pixels)
        parts.append(svg.element("polyline", points=path, class_="line", stroke_dasharray=look.dash))
    if CURVES[curve].dots:
        for row in points.head(POINTS_MOST).itertuples():
            share = math.sqrt(max(row.n_samples, 0) / biggest)
            reading = (
                f"{look.naming}\npredicted {decimals(row.x)}, observed {decimals(row.y)}"
                f"\n{count(row.n_samples)} samples"
            )
            dot = svg.marker(look.marker, x_scale(row.x), y_scale(row.y), 2 + 3 * share, class_="solid")
            parts.append(svg.element("g", svg.element("title", svg.escape(reading)), dot, class_="mark"))
    return svg.element("g", *parts, class_=f"curve {look.classes}", data_label=look.label)


def classes_in(table: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """List the study's classes and after them any other that a confusion table holds."""
    found = [*map(str, table["label"]), *map(str, table["predicted"])]
    return list(dict.fromkeys([*map(str, classes), *found]))


def confusion_matrix(
    table: pd.DataFrame, classes: Sequence[str], *, title: str, description: str, uid: str
) -> str:
    """Draw one hypothesis's confusion matrix: true classes down, called classes across.

    Parameters: ``table`` with the columns label, predicted, n_samples. The shade is the share of the
    row; the diagonal (right) and the rest (wrong) have their own tones. Returns SVG text.
    """
    names = classes_in(table, classes)
    k = len(names)
    cell = 46 if k <= 5 else 38 if k <= 8 else 28 if k <= 13 else 26
    size = 13 if k <= 8 else 11
    longest = max((svg.text_width(name, 12) for name in names), default=0.0)
    most = 118.0 if k <= 9 else 168.0
    label_room = min(longest + 18, most)
    slanted = longest > cell - 6
    top = min(longest, most - 12) * 0.72 + 38 if slanted else 40.0
    width = label_room + k * cell + (min(longest, most - 12) * 0.72 - cell / 2 + 6 if slanted else 4.0)
    counts = {
        (str(row.label), str(row.predicted)): float(row.n_samples)
        for row in table.itertuples()
        if row.n_samples > 0
    }
    totals = {name: sum(n for (label, _), n in counts.items() if label == name) for name in names}
    side = float(k * cell)
    parts = [
        svg.text(label_room + side / 2, 12, "called as", class_="axis", text_anchor="middle"),
        svg.text(label_room - 8, top - 8, "true", class_="axis", text_anchor="end"),
        svg.element("rect", x=label_room, y=top, width=side, height=side, class_="frame"),
    ]
    for i, name in enumerate(names):
        short = svg.shorten(name, most - 12, 12)
        middle = i * cell + cell / 2
        x, y = label_room + middle, top - 7
        if slanted:
            turn = f"rotate(-45 {svg.number(x + 3)} {svg.number(y)})"
            parts.append(svg.text(x + 3, y, short, class_="tick", transform=turn))
        else:
            parts.append(svg.text(x, y, short, class_="tick", text_anchor="middle"))
        parts.append(
            svg.text(label_room - 8, top + middle + 4, short, class_="tick strong", text_anchor="end")
        )
    if k > 1:
        ruled = "".join(
            f"M{svg.number(label_room + i * cell)} {svg.number(top)}v{k * cell}"
            f"M{svg.number(label_room)} {svg.number(top + i * cell)}h{k * cell}"
            for i in range(1, k)
        )
        parts.append(svg.element("path", d=ruled, class_="grid"))
    cells = []
    for (label, predicted), n in counts.items():
        corner = (label_room + names.index(predicted) * cell, top + names.index(label) * cell)
        reading = f"{count(n)} of {count(totals[label])} {label} called {predicted}"
        outcome = "right" if label == predicted else "wrong"
        cells.append(_draw_cell(n, n / totals[label], corner, cell, size, reading, outcome))
    # Said once for all cells: a large matrix has hundreds of them.
    parts.append(svg.element("g", *cells, font_size=size, text_anchor="middle") if cells else "")
    return svg.picture(
        parts,
        width=width,
        height=top + side + 6,
        title=title,
        description=description,
        uid=uid,
        class_="chart confusion",
    )


def _draw_cell(
    n: float, share: float, corner: tuple[float, float], cell: int, size: int, reading: str, outcome: str
) -> str:
    x, y = corner
    return svg.element(
        "g",
        svg.element("title", svg.escape(reading)),
        svg.element(
            "rect",
            x=x + 1.5,
            y=y + 1.5,
            width=cell - 3,
            height=cell - 3,
            rx=3,
            fill_opacity=0.12 + 0.83 * share,
        ),
        svg.text(
            x + cell / 2,
            y + cell / 2 + size * 0.35,
            count(n),
            class_="deep" if share > 0.85 else "middle" if share > 0.63 else None,
        ),
        class_=f"mark {outcome}",
    )
