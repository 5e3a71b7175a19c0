"""Studies side by side: read from their directories, true to their tables, complete in one file."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest

from judged import COMPETITORS, NASTY, Page, make_study
from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.reporting.compare import compare
from oncoarena.reporting.export import export_study


def finish(directory, name, **changes) -> dict:
    """Leave a finished study below a directory or URI, as the workflow does."""
    study = make_study(**changes)
    study["study"]["study"] = name
    for table in ("evaluation", "comparison", "checks"):
        store.write_table(f"{directory}/{name}/{table}.parquet", study["tables"][table])
    export_study(f"{directory}/{name}/export", **study)
    return study


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("results")
    vendor = ("vendor_x", "A vendor's model", "external")
    finish(base, "first")
    finish(base, "second", competitors=[*COMPETITORS[:1], vendor, *COMPETITORS[3:]], n_test=40)
    (base / "half").mkdir()
    return base


@pytest.fixture(scope="module")
def text(results) -> str:
    names = ["first", "second/", "half"]
    return compare([f"{results}/{name}" for name in names], f"{results}/overview/page.html")


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def matrix(page: Page) -> dict[str, list[str]]:
    """Read the table of hypotheses by studies back: cells of each hypothesis."""
    table = next(e for e in page.all("table") if "matrix" in e["class"])
    rows = [e for e in page.all("tr") if any(above is table for above in e["above"])]
    cells = {}
    for row in rows:
        inside = [
            e for e in page.elements if e["tag"] in ("th", "td") and e["above"] and e["above"][-1] is row
        ]
        words = [" ".join(e["text"].split()) for e in inside]
        cells[words[0]] = words[1:]
    return cells


def test_compare__shows_each_hypothesis_in_each_study_with_its_standing(page):
    cells = matrix(page)
    assert [re.match("first|second", cell)[0] for cell in cells["Hypothesis"][:2]] == ["first", "second"]
    assert re.fullmatch(r"●0\.9500\.850 to 0\.990leads", cells["wide_deep"][0].replace("● ", "●"))
    assert cells["wide_deep"][2] == "2of 2"
    assert cells["sparse_markers"][0].endswith("not separable from the leader")
    assert cells["sparse_markers"][0].startswith("○")
    assert cells["sparse_markers"][1:] == ["–did not take part", "0 + 1of 1"]
    assert cells["prior_only"][0].endswith("behind")
    assert cells["covariates_only"] == ["–not applicable", "–not applicable", "0of 0"]
    assert cells["vendor_x"][0] == "–did not take part"


def test_compare__says_of_each_study_leader_interval_separability_findings_and_n(page):
    articles = [" ".join(e["text"].split()) for e in page.all("article")]
    assert len(articles) == 2
    assert "Accuracy, highest 0.950 95 % interval 0.850 to 0.990 wide_deep" in articles[0]
    assert "Not separable from wide_deep 1 of 3 sparse_markers" in articles[0]
    assert "Findings of the checks 1 from 3 checks CHK003" in articles[0]
    assert "20 samples of 20 patients tested; 4 classes; official split, 1 split." in articles[0]
    assert "40 samples of 40 patients tested" in articles[1]


def test_compare__links_lead_from_the_page_to_the_reports(page):
    links = {e["href"] for e in page.all("a") if not e["href"].startswith("#")}
    assert links == {"../first/report.html", "../second/report.html"}


def test_compare__names_what_is_not_finished(page, results):
    left = next(e["text"] for e in page.all("p") if e.get("class") == "absent")
    assert f"{results}/half" in left
    assert f"{results}/first" not in left


def test_compare__page_is_complete_in_itself(text, page):
    policy = next(e["content"] for e in page.all("meta") if e.get("http-equiv") == "Content-Security-Policy")
    assert "script-src" not in policy
    assert "default-src 'none'" in policy
    assert not page.all("script")
    assert not {e["tag"] for e in page.elements} & {"link", "img", "iframe", "form"}
    assert not re.search(r"url\(|@import", text)
    ids = [e["id"] for e in page.elements if "id" in e]
    assert len(set(ids)) == len(ids)
    for element in page.elements:
        assert set(element.get("aria-labelledby", "").split()) <= set(ids)
        if element.get("href", "").startswith("#"):
            assert element["href"][1:] in ids
    for picture in re.findall(r"<svg xmlns.*?</svg>", text, re.DOTALL):
        ET.fromstring(picture)
    levels = [int(e["tag"][1]) for e in page.elements if re.fullmatch("h[1-6]", e["tag"])]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_compare__without_a_finished_study_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"no finished study.*snakemake"):
        compare([str(tmp_path)])
    with pytest.raises(InputError, match="no directory"):
        compare([])


def test_compare__a_study_whose_tables_are_gone_is_named(tmp_path):
    finish(tmp_path, "first")
    (tmp_path / "first/checks.parquet").unlink()
    with pytest.raises(InputError, match=r"checks\.parquet"):
        compare([f"{tmp_path}/first"])


def test_compare__of_studies_in_an_object_store_links_to_them():
    finish("memory://bucket/results", "first")
    page = Page(compare(["memory://bucket/results/first"], "/anywhere/page.html"))
    assert "memory://bucket/results/first/report.html" in {e["href"] for e in page.all("a")}


def test_compare__a_study_without_estimates_or_pairs_is_shown_as_such(tmp_path):
    study = finish(tmp_path, "empty", competitors=COMPETITORS[:1])
    table = study["tables"]["evaluation"].assign(estimate=np.nan)
    store.write_table(f"{tmp_path}/empty/evaluation.parquet", table)
    page = Page(compare([f"{tmp_path}/empty"]))
    article = " ".join(page.all("article")[0]["text"].split())
    assert "Nothing was evaluated." in article
    assert "No pair was compared." in article


def test_compare__escapes_what_the_studies_say(tmp_path):
    finish(tmp_path, "plain", competitors=[(NASTY, NASTY, "claim"), *COMPETITORS[1:]])
    told = store.read_json(f"{tmp_path}/plain/export/study.json")
    store.write_json(f"{tmp_path}/plain/export/study.json", told | {"study": NASTY, "verdict": [NASTY]})
    text = compare([f"{tmp_path}/plain"])
    assert "alert('x')" not in text
    assert not Page(text).all("script")
