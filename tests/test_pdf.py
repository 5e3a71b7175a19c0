"""The report on paper: tagged, complete, the same bytes every time, whatever the study holds."""

import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import typst

from full_study import make_full_study
from judged import NASTY, make_study
from oncoarena.reporting import paper
from oncoarena.reporting.page import read_template
from oncoarena.reporting.pdf import compile_paper, lay_out, render_pdf
from oncoarena.reporting.report import compose


@pytest.fixture(scope="module")
def page():
    return compose(**make_full_study())


@pytest.fixture(scope="module")
def document(page):
    return lay_out(page)


def objects(pdf: bytes) -> bytes:
    """All objects of a PDF in plain: those that lie in compressed streams as well."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    unpacked = []
    for stream in streams:
        try:
            unpacked.append(zlib.decompress(stream))
        except zlib.error:
            continue
    return b"\n".join([pdf, *unpacked])


def pages_of(document, folder: Path) -> list[bytes]:
    """Set a document in type as pictures, page by page."""
    data, files = document
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "report.typ").write_text(read_template("report.typ"))
    compiler = typst.Compiler(str(folder / "report.typ"), font_paths=typst.Fonts(include_system_fonts=False))
    found, warnings = compiler.compile_with_warnings(format="svg")
    assert not [warning.message for warning in warnings]
    return found if isinstance(found, list) else [found]


def words(document) -> str:
    """All that a document says, figures aside."""

    def strings(tree):
        if isinstance(tree, str):
            yield tree
        elif isinstance(tree, dict):
            for value in tree.values():
                yield from strings(value)
        elif isinstance(tree, list):
            for value in tree:
                yield from strings(value)

    return " ".join(strings(document[0])).replace("\N{ZERO WIDTH SPACE}", "")


def test_pdf__is_tagged_titled_in_english_and_declares_its_standard(page):
    pdf = render_pdf(page)
    assert pdf.startswith(b"%PDF-1.7")
    plain = objects(pdf)
    for mark in (
        b"/StructTreeRoot",
        b"/MarkInfo",
        b"/Lang",
        b"/Figure",
        b"/TH",
        b"/Outlines",
        b"pdfuaid:part",
    ):
        assert mark in plain
    assert b"srbct: oncoarena report" in plain
    assert b"LibertinusSerif" in plain


def test_pdf__is_the_same_bytes_each_time_and_dated_by_the_study(page):
    first = render_pdf(page)
    assert first == render_pdf(page)
    assert b"2026-11-20T14:03" in objects(first)
    assert b"CreateDate" not in objects(render_pdf({**page, "created": "", "made": ""}))


def test_pdf__is_some_pages_and_small(document, tmp_path):
    pages = pages_of(document, tmp_path)
    assert 8 <= len(pages) <= 30
    assert len(compile_paper(document)) < 1_500_000


def test_paper__says_what_the_page_says(document):
    told = words(document)
    for sentence in (
        "Wide and deep leads.",
        "Not separable from wide_deep",
        "Accuracy of each hypothesis",
        "wide_deep, which leads, against the others",
        "A hypothesis is no better than guessing",
        "sparse_markers Interval holds zero.",
        "Refuted where a model of few features does better.",
        "covariates_only is not applicable to this cohort: needs a covariate",
        "ends at byte 512 inside a BGZF block",
        "Far out: s3 (330).",
        "another in 2; in 3 one of the two does not say.",
        "Read the objects (extract)",
        "snakemake --cores 2",
        "to be completed by the authors",
        "doi:10.1145/2988450.2988454",
    ):
        assert sentence in told, sentence


def test_paper__has_every_section_of_the_page_once(document):
    heads = [
        item["text"] for item in document[0]["items"] if item["kind"] == "heading" and item["level"] == 1
    ]
    assert len(set(heads)) == len(heads)
    for title in (
        "Leaderboard",
        "Paired differences",
        "ROC curves",
        "Checks",
        "Data quality",
        "Reporting checklist",
    ):
        assert title in heads


def test_paper__figures_are_files_with_words_for_those_who_cannot_see_them(document):
    data, files = document
    items = [*data["first"], *data["items"]]
    drawn = [item for item in items if item["kind"] == "figure"]
    drawn += [figure for item in items if item["kind"] == "figures" for figure in item["figures"]]
    assert sorted(item["file"] for item in drawn) == sorted(files)
    for item in drawn:
        assert len(item["alt"]) > 10
        assert "table of this section" not in item["alt"]
    for text in files.values():
        assert "var(" not in text


def test_paper__numbers_of_the_leaderboard_are_those_of_the_table(document):
    told = words(document)
    for row in make_study()["tables"]["evaluation"].itertuples():
        assert f"{row.estimate:.3f}\n{row.ci_low:.3f} to {row.ci_high:.3f}" in told


@pytest.mark.parametrize(
    "strange", ["#panic()", NASTY, "*_`$\\ [x] // /* @a <b>", "日本語 \N{COMBINING ACUTE ACCENT}"]
)
def test_pdf__takes_any_name_as_text_and_not_as_code(strange, tmp_path):
    study = make_full_study(classes=(strange, "b"))
    study["study"]["study"] = study["study"]["verdict"][0] = strange
    study["runs"][0]["claim"] = strange
    study["study"]["config"] = {"key": strange}
    assert render_pdf(compose(**study)).startswith(b"%PDF")


def test_pdf__of_nothing_but_a_sheet_is_still_a_report():
    study = make_study()
    told = words(lay_out(compose(study["study"], study["samples"], study["splits"], [], {})))
    for sentence in (
        "Nothing was evaluated.",
        "No check was run.",
        "No pair was compared",
        "Nothing was trained",
    ):
        assert sentence in told
    study["study"] = {key: study["study"][key] for key in ("study", "classes", "primary_metric", "scheme")}
    assert render_pdf(compose(study["study"], study["samples"], study["splits"], [], {}))


def test_pdf__of_missing_estimates_is_made():
    study = make_study(classes=("case", "control"))
    study["tables"]["evaluation"][["estimate", "ci_low", "ci_high"]] = np.nan
    assert render_pdf(compose(**study))


def test_pdf__of_twenty_classes_and_fourteen_hypotheses_stays_small():
    roles = ["claim"] * 4 + ["baseline"] * 4 + ["external"] * 2 + ["control"] * 4
    study = make_study(
        classes=tuple(f"Carcinoma of organ {i}" for i in range(20)),
        competitors=[(f"hypothesis_{i}", f"Hypothesis {i}", role) for i, role in enumerate(roles)],
        n_test=100,
    )
    assert len(render_pdf(compose(**study))) < 4_000_000


def test_breakable__lets_long_words_break_and_leaves_short_ones():
    assert paper.breakable("a short line of words") == "a short line of words"
    digest = "sha256:" + "0123456789abcdef" * 4
    broken = paper.breakable(digest)
    assert broken.replace("\N{ZERO WIDTH SPACE}", "") == digest
    assert max(map(len, broken.split("\N{ZERO WIDTH SPACE}"))) <= 22
