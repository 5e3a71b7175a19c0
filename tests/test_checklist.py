"""The checklist says what the run knows, nothing else, and names what is left to the authors."""

import pandas as pd
import pytest

from judged import NASTY, Page, make_study
from oncoarena.reporting.checklist import COLUMNS, ITEMS, STATUS, checklist
from oncoarena.reporting.export import export_study
from oncoarena.reporting.report import render_report

CONFIG = {
    "samples": "sheet.tsv",
    "assays": {"expression": {"matrix": "counts.tsv", "transform": "log2p1", "missing_values": "allow"}},
    "bootstrap": 2000,
}


def filled(**changes) -> pd.DataFrame:
    study = make_study(**changes)
    study["study"]["config"] = CONFIG
    return checklist(**study).set_index("item")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return filled(strata=("site=Lund", "site=Nagoya"))


def test_checklist__has_all_27_items_and_their_52_parts_once():
    numbers = [item for item, *_ in ITEMS]
    assert len(set(numbers)) == len(numbers) == 52
    assert list(dict.fromkeys(int(item.rstrip("abcdefg")) for item in numbers)) == list(range(1, 28))


def test_checklist__gives_an_answer_exactly_where_it_does_not_ask_the_authors_alone(table):
    assert list(table.reset_index().columns) == COLUMNS
    assert set(table["status"]) == set(STATUS)
    assert ((table["status"] == "authors") == (table["answer"] == "")).all()


@pytest.mark.parametrize(
    "item",
    ["1", "2", "3a", "3b", "3c", "5b", "6b", "6c", "8b", "8c", "9b", "9c", "17", "18a", "18b", "18d", "19"],
)
def test_checklist__leaves_to_the_authors_what_no_run_can_know(table, item):
    assert table.loc[item, "status"] == "authors"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("4", "Which hypothesis tells BL, EWS, NB and RMS apart?"),
        ("5a", "Sample sheet sheet.tsv; expression from counts.tsv."),
        ("6a", "2 sites: Lund 53, Nagoya 27 samples."),
        ("7", "expression: transform log2p1, missing_values allow."),
        ("10", "80 samples of 80 patients (BL 20, EWS 20, NB 20, RMS 20)"),
        ("11", "hypotheses impute them from training samples. No cell of the sample sheet is empty."),
        ("12a", "1 split, each trained on 60, tested on 20 samples. CHK001 is clear"),
        ("12c", "wide_deep (numpy), sparse_markers (numpy), l2_logistic (numpy), prior_only (numpy)."),
        ("12e", "Primary Accuracy; also Log loss. Accuracy over the official test set. 2,000 resamples"),
        ("14", "Results are given by site."),
        ("16", "In training 60 samples of 60 patients (BL 15, EWS 15, NB 15, RMS 15); in test 20 samples"),
        ("18f", "BSD-3-Clause"),
        ("20a", "listed in the sheet: 80 samples of 80 patients"),
        ("20b", "site: Lund 53, Nagoya 27."),
        ("21", "Ever in training 60 samples"),
        ("23a", "wide_deep 0.950 (0.850 to 0.990), sparse_markers"),
        ("23b", "Accuracy by stratum (2)"),
        ("25", "Wide and deep leads."),
        ("26", "Findings of the checks: CHK003."),
    ],
)
def test_checklist__says_what_the_run_knows(table, item, words):
    assert words in table.loc[item, "answer"]


def test_checklist__counts_cells_of_the_sheet_that_are_empty():
    study = make_study()
    study["samples"].loc[:4, "site"] = ""
    study["samples"]["age"] = [None, *range(79)]
    assert "Missing in the sheet: site 5, age 1." in checklist(**study).set_index("item").loc["11", "answer"]


def test_checklist__of_cross_validation_says_that_all_train_and_all_are_tested():
    study = make_study()
    ids = study["samples"]["sample_id"]
    parts = [
        pd.DataFrame({"repeat": 0, "fold": fold, "sample_id": ids, "role": "train"}).assign(
            role=["test" if i % 2 == fold else "train" for i in range(len(ids))]
        )
        for fold in (0, 1)
    ]
    study["splits"] = pd.concat(parts, ignore_index=True)
    told = checklist(**study).set_index("item")["answer"]
    assert told["16"].startswith("One cohort")
    assert told["12a"].startswith("Official split: 2 splits, each trained on 40, tested on 40 samples.")


def test_checklist__of_nothing_but_a_sheet_still_lists_every_item():
    study = make_study()
    least = {key: study["study"][key] for key in ("study", "classes", "primary_metric", "scheme")}
    table = checklist(least, study["samples"], study["splits"], [], {})
    assert len(table) == 52
    assert table.set_index("item").loc[["12e", "12c", "22", "23a", "26"], "status"].eq("authors").all()


def test_checklist__stands_in_the_page_and_in_the_export(tmp_path):
    study = make_study()
    page = Page(render_report(**study))
    section = next(e for e in page.all("section") if e["id"] == "checklist")
    words = " ".join(section["text"].split())
    table = checklist(**study)
    n = table["status"].value_counts()
    assert (
        f"The run filled {n['filled']} of 52 items and began {n['begun']}; {n['authors']} it cannot know"
        in words
    )
    for row in table.itertuples():
        assert f"{row.item} {row.topic}. {row.asks}" in words
    assert words.count("to be completed by the authors") == n["begun"] + n["authors"] + 1
    export_study(str(tmp_path), **study)
    back = pd.read_csv(tmp_path / "tables/checklist.tsv", sep="\t", keep_default_na=False, dtype=str)
    assert back["answer"].tolist() == table["answer"].tolist()


def test_checklist__escapes_what_the_study_says():
    study = make_study()
    study["study"]["config"] = {"samples": NASTY, "assays": {NASTY: {"column": NASTY, "transform": NASTY}}}
    assert "alert('x')" not in render_report(**study)
