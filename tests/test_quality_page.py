"""How the report shows the quality of the data, the flow of samples and the cost of every step."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from full_study import make_full_study
from judged import NASTY, Page, make_study
from oncoarena.reporting.export import export_study
from oncoarena.reporting.flow import flow_plot
from oncoarena.reporting.glossary import compact, measure_title
from oncoarena.reporting.quality_section import ROWS_MOST, quality_section
from oncoarena.reporting.report import render_report
from oncoarena.reporting.steps import steps_section
from oncoarena.reporting.strips import DOTS_MOST, strip_plot


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(**make_full_study()))


def section(page: Page, name: str) -> str:
    return " ".join(next(e["text"] for e in page.all("section") if e["id"] == name).split())


def test_quality__names_what_was_not_taken_with_place_and_reason(page):
    told = section(page, "quality")
    assert "3 samples could not be used" in told
    assert "s40alignmentsends at byte 512 inside a BGZF block; copy the file again" in told
    assert "s3://bucket/cohort/s41.bam9,000" in told
    assert "77 samples read, 3 excluded" in told
    assert "The reference of 77 objects is hg38." in told


def test_quality__names_what_is_far_out_and_what_never_differs(page):
    told = section(page, "quality")
    assert "Far out: s3 (330)." in told
    assert "Far out: s7 (0.4)." in told
    assert "Bins (n)2,875 in all 77" in told
    assert "by label" in told
    assert "by site" in told


def test_quality__says_whose_sex_is_another(page):
    told = section(page, "quality")
    assert (
        "The sex in the sheet is that of the data in 75 samples and another in 2; in 3 one of the two" in told
    )
    tables = [e["text"] for e in page.all("table") if "Sex of the sheet" in e["text"]]
    assert len(tables) == 1
    assert re.findall(r"\bs\d+", tables[0]) == ["s5", "s9"]


def test_quality__table_puts_first_what_stands_out(page):
    (table,) = (e for e in page.all("table") if "sample by sample" in e["text"])
    listed = [
        e["text"]
        for e in page.all("th")
        if any(above is table for above in e["above"]) and e["scope"] == "row"
    ]
    assert listed[:5] == ["s40", "s41", "s42", "s3", "s7"]
    assert len(listed) == 80
    assert any("search" in above.get("class", "") for above in table["above"])


def test_quality__every_chart_is_titled_and_stands_in_a_figure_with_a_table(page):
    charts = [e for e in page.all("svg") if e.get("role") == "img"]
    for chart in charts:
        (figure,) = [above for above in chart["above"] if above["tag"] == "figure"]
        inside = {e["tag"] for e in page.elements if any(above is figure for above in e["above"])}
        assert {"figcaption", "table", "details"} <= inside
    assert sum("strips" in chart["class"] for chart in charts) == 8


def test_quality__is_left_out_where_nothing_is_known_and_says_so_where_nothing_was_excluded():
    assert "quality" not in {e["id"] for e in Page(render_report(**make_study())).all("section")}
    study = make_full_study()
    study["tables"]["excluded"] = study["tables"]["excluded"].iloc[:0]
    study["tables"]["qc_alignments"] = study["tables"]["qc_alignments"].drop(
        columns=["status", "sex_inferred"]
    )
    told = section(Page(render_report(**study)), "quality")
    assert "No object was excluded." in told
    assert "The sex" not in told


def test_quality__of_ten_thousand_samples_stays_small_and_points_to_the_export():
    n = 10_000
    samples = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "patient_id": "p",
            "label": np.resize(list("abc"), n),
            "site": np.resize(list("xy"), n),
        }
    )
    rng = np.random.default_rng(0)
    quality = pd.DataFrame(
        {"sample_id": samples["sample_id"]} | {f"m{i}": rng.standard_cauchy(n) for i in range(10)}
    )
    found = quality_section({"qc_a": quality}, samples)
    (assay,) = found["assays"]
    pictures = [shown["picture"] for entry in assay["drawn"] for shown in entry["pictures"]]
    assert len(pictures) == 20
    assert sum(map(len, pictures)) < 1_200_000
    assert len(assay["table"].rows) == ROWS_MOST
    assert (
        f"{ROWS_MOST} of 10,000, those that stand out first; all are in tables/qc_a.tsv"
        in assay["table"].caption
    )


def test_quality__of_any_content_is_escaped_and_never_fails():
    study = make_full_study()
    quality = study["tables"]["qc_alignments"]
    quality["text"] = NASTY
    quality["nothing"] = None
    quality["flag"] = True
    quality["infinite"] = np.inf
    study["tables"]["excluded"].loc[0, ["reason", "uri"]] = [NASTY, NASTY]
    study["study"]["notes"] = {"alignments": [NASTY]}
    text = render_report(**study)
    assert "<script>alert" not in text
    Page(text)


def draw(values, groups=None, **options):
    groups = ["a"] * len(values) if groups is None else groups
    given = {"order": sorted(set(groups)), "low": -np.inf, "high": np.inf} | options
    ids = [f"s{i}" for i in range(len(values))]
    text = strip_plot(
        np.asarray(values, float),
        groups,
        ids,
        axis_label="Records",
        title="t",
        description="d",
        uid="u",
        width=380,
        **given,
    )
    return ET.fromstring(text)


def by_class(root, name):
    return [e for e in root.iter() if name in (e.get("class") or "").split()]


def test_strip_plot__draws_a_dot_a_sample_and_marks_those_far_out_by_name():
    root = draw([1, 2, 3, np.nan, 50], list("aabbb"), low=-5, high=10)
    dots = "".join(e.get("d") for e in by_class(root, "dots"))
    assert dots.count("M") == 3
    (far,) = by_class(root, "far")
    assert far[0].text == "s4\nRecords 50: far out"
    assert len(by_class(root, "median")) == 2


def test_strip_plot__many_samples_become_a_box_of_their_quartiles():
    root = draw(np.linspace(0, 100, DOTS_MOST + 1))
    assert not by_class(root, "dots")
    (box,), (median,) = by_class(root, "box"), by_class(root, "median")
    at = {e.text: float(e.get("x")) for e in by_class(root, "tick")}
    left, width = float(box.get("x")), float(box.get("width"))
    assert float(median.get("x1")) == pytest.approx(left + width / 2, abs=0.02)
    assert width == pytest.approx((at["100"] - at["0"]) / 2, abs=0.02)


def test_strip_plot__of_powers_of_ten_has_a_logarithmic_axis():
    ticks = [e.text for e in by_class(draw([10, 100, 1000, 100_000]), "tick")]
    assert ticks[:5] == ["10", "100", "1,000", "10k", "100k"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (2308, "2,308"),
        (-1911.486, "−1,911.5"),
        (0.00421, "0.00421"),
        (31234567, "31.2M"),
        (1e5, "100k"),
    ],
)
def test_compact__writes_any_number_in_few_signs(value, written):
    assert compact(value) == written
    assert compact(np.nan) == "–"


def test_measure_title__writes_names_in_words():
    names = ["n_records", "insert_mode_bp", "ti_tv", "gc_slope", "total"]
    assert [measure_title(name) for name in names] == [
        "Records (n)",
        "Insert mode (bp)",
        "Ti/Tv",
        "GC slope",
        "Total",
    ]


def test_flow__is_drawn_with_who_left_and_listed_behind(page):
    told = section(page, "data")
    assert (
        "read and measuredends at byte … inside a BGZF block: 2; is aligned to hg19, the study says hg38: 1"
        in told
    )
    words = [e["text"] for e in page.all("text")]
    assert "3 samples fewer" in words
    assert "77 samples, 77 patients" in words


def test_flow_plot__of_many_long_reasons_stays_inside():
    left = [{"reason": f"{'a reason of many words ' * 9}{i}", "n_samples": 9 - i} for i in range(8)]
    stages = [
        {"stage": "a", "n_samples": 50, "n_patients": 50},
        {"stage": "b", "n_samples": 6, "n_patients": 6, "left": left},
    ]
    for width in (800, 350):
        root = ET.fromstring(flow_plot(stages, title="t", description="d", uid="u", width=width))
        height = float(root.get("height"))
        for box in by_class(root, "frame"):
            assert float(box.get("x")) + float(box.get("width")) <= width
            assert float(box.get("y")) + float(box.get("height")) <= height
        assert any("4 other reasons" in (e.text or "") for e in root.iter())


def test_cost__shows_every_step_with_its_jobs(page):
    told = section(page, "cost")
    assert "11 jobs" in told
    assert "Read the objects (extract)315 min 03 s5 min 02 s1 h 00 min2.5 GB120.0 GB36 MB" in told
    assert "Deal the splits11.10 s1.10 s–––" in told
    assert "extractalignments.25 min 02 s" in told


def test_cost__says_how_fast_objects_were_read(page):
    (table,) = (e["text"] for e in page.all("table") if "How fast objects were read" in e["text"])
    assert re.search(r"alignments777\.7 GB\S+M2 min 37 s50 MB/s20 MB/s \(s11\)", table)
    study = make_full_study()
    del study["tables"]["timings_alignments"]
    assert "How fast objects were read" not in render_report(**study)


def test_steps_section__of_nothing_is_nothing():
    assert steps_section(None) == steps_section(pd.DataFrame()) == {}


def test_export__holds_quality_exclusions_steps_and_their_figures(tmp_path):
    written = export_study(str(tmp_path), **make_full_study())
    for name in ("tables/qc_alignments.tsv", "tables/excluded.tsv", "tables/steps.tsv", "figures/flow.svg"):
        assert name in written
    assert "figures/quality-alignments-gc_slope-by-site.svg" in written
    table = pd.read_csv(tmp_path / "tables/qc_alignments.tsv", sep="\t")
    assert len(table) == 80
    for path in (tmp_path / "figures").glob("quality-*.svg"):
        assert "var(" not in path.read_text()
