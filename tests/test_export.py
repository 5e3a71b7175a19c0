"""The export: tables that lose nothing, figures that open alone, metadata that say what each file is."""

import hashlib
import io
import json
import re
import xml.etree.ElementTree as ET
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import fsspec
import pandas as pd
import pytest

from judged import further_tables, make_study
from oncoarena.reporting import crate, gallery
from oncoarena.reporting.export import export_study
from oncoarena.reporting.report import compose, render_report

NS = "{http://www.w3.org/2000/svg}"

# Terms of the context of RO-Crate 1.1 that this export may use.
TERMS = {
    "@id", "@type", "about", "alternateName", "conformsTo", "contentSize", "datePublished", "description",
    "encodingFormat", "endTime", "hasPart", "identifier", "instrument", "license", "mentions", "name", "object",
    "result", "softwareVersion",
}  # fmt: skip


@pytest.fixture(scope="module")
def study() -> dict:
    study = make_study(strata=("site=Lund", "site=Nagoya"))
    study["tables"] |= further_tables()
    return study


@pytest.fixture(scope="module")
def exported(study, tmp_path_factory) -> tuple[Path, list[str]]:
    directory = tmp_path_factory.mktemp("export")
    return directory, export_study(str(directory), **study)


@pytest.fixture(scope="module")
def graph(exported) -> dict[str, dict]:
    content = json.loads((exported[0] / crate.METADATA).read_text())
    assert content["@context"] == "https://w3id.org/ro/crate/1.1/context"
    entities = content["@graph"]
    assert len({entity["@id"] for entity in entities}) == len(entities)
    return {entity["@id"]: entity for entity in entities}


def test_export__every_table_comes_back_as_it_was(study, exported):
    for name, table in {**study["tables"], "splits": study["splits"]}.items():
        back = pd.read_csv(
            exported[0] / "tables" / f"{name}.tsv", sep="\t", keep_default_na=False, na_values=[]
        )
        for column in table.columns:
            if table[column].dtype.kind == "f":
                pd.testing.assert_series_equal(pd.to_numeric(back[column]), table[column], check_exact=True)
            else:
                assert back[column].astype(str).tolist() == table[column].astype(str).tolist()


def test_export__keeps_the_sample_sheet_to_itself(study, exported):
    patients = set(study["samples"]["patient_id"])
    for path in exported[0].rglob("*.tsv"):
        assert not patients & set(re.split(r"[\t\n]", path.read_text()))


def test_export__runs_say_who_took_part_and_why_not(exported):
    runs = pd.read_csv(exported[0] / "tables/runs.tsv", sep="\t").set_index("hypothesis")
    assert runs.loc["wide_deep", "seconds"] == 12.5
    assert runs.loc["covariates_only", ["status", "reason"]].tolist() == [
        "not_applicable",
        "needs a covariate",
    ]


def test_export__holds_the_page_as_rendered(study, exported):
    assert (exported[0] / "report.html").read_text() == render_report(**study)


def figures_of(directory: Path) -> dict[str, ET.Element]:
    return {
        path.stem: ET.fromstring(path.read_text()) for path in sorted((directory / "figures").glob("*.svg"))
    }


def test_export__each_chart_of_the_page_is_a_file_once(study, exported):
    page = render_report(**study)
    on_page = set(re.findall(r"<svg xmlns[^>]*><title[^>]*>([^<]*)</title>", page))
    titles = [root.find(f"{NS}title").text for root in figures_of(exported[0]).values()]
    assert sorted(titles) == sorted(on_page)


def test_export__figures_open_alone_with_their_own_colours(exported):
    for name, root in figures_of(exported[0]).items():
        assert root.tag == f"{NS}svg"
        style = root.find(f"{NS}style").text
        assert "var(" not in style
        assert "url(" not in style
        tones = {
            t for e in root.iter() for t in (e.get("class") or "").split() if re.fullmatch("t[0-9bc]", t)
        }
        for tone in tones:
            assert re.search(rf"\.{tone} {{ color: #[0-9a-f]{{6}}; }}", style), (name, tone)
        assert not [value for e in root.iter() for value in e.attrib.values() if "://" in value]
        ids = [e.get("id") for e in root.iter() if e.get("id")]
        assert set(root.get("aria-labelledby").split()) <= set(ids)
        assert len(ids) == len(set(ids))


def test_export__figures_stay_inside_their_frame(exported):
    for name, root in figures_of(exported[0]).items():
        width, height = map(float, root.get("viewBox").split()[2:])
        for group in root.findall(f"{NS}g"):
            x, y = map(float, re.fullmatch(r"translate\((\S+) (\S+)\)", group.get("transform")).groups())
            for line in group.iter(f"{NS}line"):
                assert 0 <= x + float(line.get("x2")) <= width, name
                assert 0 <= y + float(line.get("y2")) <= height, name
            for text in group.iter(f"{NS}text"):
                assert y + float(text.get("y")) <= height, name


def test_export__curves_carry_a_legend_of_every_line_drawn(exported):
    for name, root in figures_of(exported[0]).items():
        lines = {e.get("data-label") for e in root.iter() if e.get("data-label")}
        words = {text.text for text in root.iter(f"{NS}text")}
        assert lines <= words
        assert bool(lines) == name.startswith(("roc", "calibration", "learning"))


def test_gallery__names_are_files_on_any_system_and_never_collide():
    study = make_study(classes=("A/B", "A:B", "a b"))
    names = [figure.name for figure in gallery.collect(compose(**study))]
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[\w.-]+", name, re.ASCII) for name in names)
    assert {"roc-A_B", "roc-A_B-2", "roc-a_b-3"} <= set(names)


def test_crate__descriptor_and_root_are_as_the_specification_asks(graph, study):
    descriptor, root = graph["ro-crate-metadata.json"], graph["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert descriptor["about"] == {"@id": "./"}
    assert root["@type"] == "Dataset"
    assert datetime.fromisoformat(root["datePublished"]) == datetime.fromisoformat(study["study"]["created"])
    assert root["name"]
    assert "Wide and deep leads." in root["description"]
    terms = graph[root["license"]["@id"]]
    assert terms["name"] == "To be stated by the authors"
    assert terms["description"]


def test_crate__is_flat_and_every_reference_resolves(graph):
    links = 0
    for entity in graph.values():
        assert set(entity) <= TERMS
        for key, value in entity.items():
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, dict):
                    assert set(part) == {"@id"}
                    outside = key == "conformsTo" or part["@id"].startswith("https://spdx.org/")
                    assert outside or part["@id"] in graph
                    links += 1
                else:
                    assert isinstance(part, str)
    assert links > 50


def test_crate__describes_every_file_that_is_there_and_no_other(exported, graph):
    directory, written = exported
    on_disk = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    parts = [part["@id"] for part in graph["./"]["hasPart"]]
    assert {unquote(part) for part in parts} | {crate.METADATA} == on_disk == set(written)
    assert written[-1] == crate.METADATA
    for part in parts:
        entity, content = graph[part], (directory / unquote(part)).read_bytes()
        assert entity["@type"] == "File"
        assert entity["contentSize"] == str(len(content))
        assert entity["identifier"] == "sha256:" + hashlib.sha256(content).hexdigest()
        assert entity["encodingFormat"].partition("/")[0] in ("text", "image", "application")


def test_crate__names_software_and_hypotheses_behind_the_results(graph):
    action = graph["#evaluation"]
    used = [graph[link["@id"]] for link in action["instrument"]]
    assert {"numpy": "2.4.1"}.items() <= {e["name"]: e["softwareVersion"] for e in used}.items()
    judged = {graph[link["@id"]]["alternateName"] for link in action["object"]}
    assert judged == {"wide_deep", "sparse_markers", "l2_logistic", "prior_only", "covariates_only"}
    assert action["description"] == "snakemake --cores 2"


def test_crate__takes_the_licence_that_is_given(study, tmp_path):
    address = "https://spdx.org/licenses/CC-BY-4.0"
    export_study(str(tmp_path), **study, licence=address)
    entities = json.loads((tmp_path / crate.METADATA).read_text())["@graph"]
    assert next(e for e in entities if e["@id"] == "./")["license"] == {"@id": address}
    assert next(e for e in entities if e["@id"] == address)["name"] == "CC-BY-4.0"


def test_export__to_an_object_store_is_the_same(study, exported):
    written = export_study("memory://bucket/export", **study)
    assert written == exported[1]
    memory = fsspec.filesystem("memory")
    for path in written:
        assert memory.cat(f"/bucket/export/{path}") == (exported[0] / path).read_bytes()


def test_export__of_nothing_but_a_sheet_is_still_a_crate(study, tmp_path):
    written = export_study(str(tmp_path), study["study"], study["samples"], study["splits"], [], {})
    assert "report.html" in written
    assert "oncoarena" in (tmp_path / crate.METADATA).read_text()
    assert pd.read_csv(io.StringIO((tmp_path / "tables/runs.tsv").read_text()), sep="\t").empty
