"""The config, as a hostile newcomer would write it: each mistake is one line that says what to do."""

import copy
import dataclasses
from pathlib import Path

import pandas as pd
import pytest
import yaml

from oncoarena import plan, schema
from oncoarena.errors import InputError
from oncoarena.preflight import check_study
from oncoarena.specs import read_literals
from oncoarena.study import assay_module, assay_names, read_study
from studies import ROOT

CONFIG = {
    "study": "toy",
    "samples": "samples.tsv",
    "assays": {"expression": {"matrix": "expression.tsv"}},
    "splits": {"scheme": "kfold", "folds": 2},
    "hypotheses": ["l2_logistic", "prior_only"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = [f"s{row}" for row in range(8)]
    sheet = pd.DataFrame({"sample_id": ids, "patient_id": ids, "label": ["a", "b"] * 4, "age": range(8)})
    sheet["expression"] = [f"{name}.tsv" for name in ids]
    sheet.to_csv("samples.tsv", sep="\t", index=False)
    matrix = pd.DataFrame({name: [1.5, 2.5, -1.0] for name in ids}, index=["g1", "g2", "g3"])
    matrix.to_csv("expression.tsv", sep="\t", index_label="gene")
    for name in ids:
        matrix[[name]].to_csv(f"{name}.tsv", sep="\t", index_label="gene")
    return tmp_path


def read(changes=None, **top):
    config = copy.deepcopy(CONFIG) | top
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        target = config
        for parent in parents:
            target = target[parent]
        target[last] = value
    return read_study(
        config,
        where="my.yaml",
        schemas=ROOT / "workflow/schemas",
        hypothesis_dirs=[Path("config/hypotheses"), ROOT / "config/hypotheses"],
    )


def test_read_study__good_config_is_typed(folder):
    study = read(covariates=["age"], seed=7)
    assert study.results == "results/toy"
    assert study.splits.folds == 2
    assert [spec.id for spec in study.hypotheses] == ["l2_logistic", "prior_only"]
    assert study.assays[0].matrix == "expression.tsv"
    check_study(study)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sample": "x"}, r"unknown key 'sample'; did you mean 'samples'\?"),
        ({"splits.fold": 3}, r"unknown key 'fold' in splits; did you mean 'folds'\?"),
        ({"splits.folds": "five"}, r"splits.folds: found 'five', expected a whole number"),
        ({"splits.folds": 1}, r"splits.folds: found 1, expected at least 2"),
        ({"splits.scheme": "k-fold"}, r"splits.scheme: found 'k-fold'; did you mean 'kfold'\?"),
        ({"splits": {"scheme": "official", "folds": 5}}, r"splits.folds has no meaning with scheme official"),
        ({"splits": {"scheme": "table"}}, r"scheme table needs the key table"),
        ({"splits": {"folds": 5}}, r"splits: key 'scheme' is missing"),
        ({"study": "../up"}, r"study: found '../up', expected a name"),
        ({"seed": -1}, r"seed: found -1, expected at least 0"),
        ({"seed": True}, r"seed: found True, expected a whole number"),
        ({"hypotheses": []}, r"hypotheses: is empty"),
        ({"hypotheses": ["l2_logistic", "l2_logistic"]}, r"hypotheses: an entry is listed twice"),
        ({"hypotheses": ["l2_logistc"]}, r"'l2_logistc' has no file .* did you mean 'l2_logistic'\?"),
        (
            {"assays": {"expresion": {"matrix": "x"}}},
            r"assays.expresion: there is no such assay; did you mean",
        ),
        ({"assays.expression": {}}, r"assays.expression: expected either matrix .* or column"),
        ({"assays.expression.column": "expression"}, r"expected either matrix .* or column"),
        ({"assays.expression.transfrom": "none"}, r"unknown key 'transfrom'; did you mean 'transform'\?"),
        ({"assays.expression.transform": "log"}, r"assays.expression: transform: found 'log'"),
        ({"assays.expression.matrix": 3}, r"assays.expression.matrix: found 3, expected text"),
        ({"covariates": ["label"]}, r"covariates: 'label' is the truth itself"),
        ({"covariates": "age"}, r"covariates: found 'age', expected a list"),
        ({"primary_metric": "auc"}, r"primary_metric: found 'auc'"),
        (
            {"external": [{"id": "prior_only", "predictions": "p.tsv"}]},
            r"both a hypothesis and an external model",
        ),
        ({"external": [{"id": "paper"}]}, r"external\[0\]: key 'predictions' is missing"),
    ],
)
def test_read_study__each_mistake_is_one_line_that_says_what_to_do(folder, changes, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        read(changes)
    assert "\n" not in str(caught.value)
    assert "my.yaml" in str(caught.value)


def test_read_study__several_mistakes_are_told_together(folder):
    with pytest.raises(InputError) as caught:
        read({"sed": 3, "bootstrap": 5, "splits.sheme": "kfold"})
    assert len(str(caught.value).splitlines()) == 3
    with pytest.raises(InputError) as caught:
        read({"hypotheses": ["wide_dep"], "assays.expression": {"matrx": "x"}, "splits": {"scheme": "table"}})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"samples": "nothing.tsv"}, r"nothing.tsv: there is no such file"),
        ({"assays.expression.matrix": "nothing.tsv"}, r"nothing.tsv: there is no such file; correct assays"),
        ({"assays": {"expression": {"column": "path"}}}, r"column 'path' is missing"),
        ({"assays": {"expression": {"column": "age"}}}, r"sample s0: column 'age': 0: there is no such file"),
        ({"strata": ["stage"]}, r"column 'stage' is missing"),
        ({"splits.folds": 5}, r"'a' has 4 patients, the study's splits need at least 5"),
        ({"splits": {"scheme": "official"}}, r"column 'split' is missing"),
        ({"splits": {"scheme": "leave_one_site_out"}}, r"column 'site' is missing"),
        ({"splits": {"scheme": "table", "table": "no.tsv"}}, r"no.tsv: there is no such file"),
        ({"external": [{"id": "paper", "predictions": "no.tsv"}]}, r"no.tsv: there is no such file"),
        ({"simulate": {"strenght": 3}}, r"simulate: unknown key 'strenght'; did you mean 'strength'\?"),
        (
            {"positive": "B"},
            r"positive: found 'B', expected a label of samples.tsv; did you mean 'b'\? \(legal: a, b\)",
        ),
        ({"covariates": ["Age"]}, r"column 'Age' is missing; did you mean 'age'\?"),
        (
            {"splits": {"scheme": "table", "table": "gs://b/t.tsv"}},
            r"splits.table: gs://b/t.tsv: could not be asked",
        ),
        (
            {"assays.expression.matrix": "gs://b/m.tsv"},
            r"assays.expression.matrix: gs://b/m.tsv: could not be asked",
        ),
    ],
)
def test_check_study__what_the_cohort_lacks_is_said_before_any_job(folder, changes, complaint):
    with pytest.raises(InputError, match=complaint):
        check_study(read(changes))


def test_check_study__prevalence_needs_two_labels(folder):
    study = read(prevalence=0.01, positive="a")
    check_study(study)
    table = pd.read_csv("samples.tsv", sep="\t")
    table["label"] = [*"abcabcab"]
    table.to_csv("samples.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match=r"prevalence: found 0.01 in a study of 3 labels \(a, b, c\)"):
        check_study(study)
    check_study(read(positive="a"))


def test_check_study__one_file_of_two_samples_names_both(folder):
    Path("samples.tsv").write_text(Path("samples.tsv").read_text().replace("s5.tsv", "s2.tsv"))
    study = read(assays={"expression": {"column": "expression"}})
    with pytest.raises(InputError, match=r"row 7: .*'s2.tsv' of sample s5 stands on row 4 \(sample s2\) too"):
        check_study(study)
    check_study(read())


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("gs://bucket/s3.tsv", "ImportError"),
        ("https://127.0.0.1:9/raw/s3.tsv", "Cannot connect"),
        ("nosuch://bucket/s3.tsv", "Protocol not known"),
    ],
)
def test_check_study__store_that_cannot_be_asked_is_one_line_with_sample_and_uri(folder, uri, reason):
    Path("samples.tsv").write_text(Path("samples.tsv").read_text().replace("\ts3.tsv", f"\t{uri}"))
    study = read(assays={"expression": {"column": "expression"}})
    with pytest.raises(
        InputError, match=f"^sample s3: column 'expression': {uri}: could not .*{reason}"
    ) as caught:
        check_study(study)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, [], ["study"], "study", 3])
def test_read_study__config_that_is_no_mapping_is_refused(folder, content):
    with pytest.raises(InputError, match=r"my.yaml: found .*, expected a mapping \(key: value lines\)"):
        read_study(content, where="my.yaml", schemas=ROOT / "workflow/schemas", hypothesis_dirs=[])


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [("abc", "'abc'"), ("inf", "inf"), ("", "missing"), ("NA", "missing")],
)
def test_check_study__bad_cell_of_a_matrix_is_named_with_row_and_column(folder, cell, complaint):
    path = folder / "expression.tsv"
    lines = path.read_text().splitlines()
    lines[2] = "\t".join(["g2", "2.5", cell, *["2.5"] * 6])
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=complaint) as caught:
        check_study(read())
    message = str(caught.value)
    assert "expression.tsv" in message
    assert "s1" in message
    assert "3" in message


def test_check_study__files_that_rules_make_need_not_exist_yet(folder):
    study = read(
        samples="resources/srbct/samples.tsv",
        assays={"expression": {"matrix": "resources/srbct/expression.tsv.gz"}},
    )
    check_study(study, plan.made_by_rules(study))
    with pytest.raises(InputError, match="there is no such file"):
        check_study(study)


def test_check_study__matrix_is_read_again_only_when_it_changed(folder, monkeypatch):
    from oncoarena.assays import expression

    reads = []
    original = expression.read_matrix
    monkeypatch.setattr(expression, "read_matrix", lambda *a, **k: reads.append(1) or original(*a, **k))
    cache = folder / "cache"
    check_study(read(), cache=cache)
    check_study(read(), cache=cache)
    assert len(reads) == 1
    path = folder / "expression.tsv"
    path.write_text(path.read_text().replace("1.5", "7.25"))
    check_study(read(), cache=cache)
    assert len(reads) == 2


def test_check_study__external_predictions_are_checked_against_the_splits(folder):
    rows = [f"s{row}\t0.5\t0.5" for row in range(7)]
    Path("paper.tsv").write_text("sample_id\tp_a\tp_b\n" + "\n".join(rows) + "\n")
    study = read(external=[{"id": "paper", "predictions": "paper.tsv"}])
    with pytest.raises(InputError, match=r"paper.tsv.*'s7'"):
        check_study(study)
    Path("paper.tsv").write_text("sample_id\tp_a\tp_b\n" + "\n".join([*rows, "s7\t0.5\t0.5"]) + "\n")
    check_study(study)


GOOD_MODULE = '"""Claim."""\nFRAMEWORK = "numpy"\nBLOCKS = "all"\n\n\nclass Config:\n    alpha: float = 1.0\n'


@pytest.mark.parametrize(
    ("module", "entry", "complaint"),
    [
        (GOOD_MODULE, "title: x\nmodule: nowhere.py\n", "module 'nowhere.py' was not found"),
        (
            GOOD_MODULE,
            "title: x\nmodule: idea.py\nconfg: {}\n",
            r"unknown key 'confg'; did you mean 'config'\?",
        ),
        (
            GOOD_MODULE,
            "title: x\nmodule: idea.py\nconfig: {alhpa: 1}\n",
            r"unknown key 'alhpa'; did you mean 'alpha'\?",
        ),
        (GOOD_MODULE, "title: x\nmodule: idea.py\ntitle: y\n", "line 3.*key 'title' is given twice"),
        (GOOD_MODULE, "title: x\nmodule: [idea.py\n", "line"),
        (
            GOOD_MODULE,
            "title: x\nmodule: idea.py\nblocks: [nosuch]\n",
            "needs block 'nosuch', which no assay",
        ),
        (GOOD_MODULE.replace('"numpy"', '"jax"'), "title: x\nmodule: idea.py\n", "FRAMEWORK is 'jax'"),
        (
            GOOD_MODULE.replace('"numpy"', "choose()"),
            "title: x\nmodule: idea.py\n",
            "line 2: FRAMEWORK must be a literal",
        ),
        (GOOD_MODULE.replace('"all"', "3"), "title: x\nmodule: idea.py\n", "BLOCKS is 3"),
        (GOOD_MODULE.replace("Config", "Conf"), "title: x\nmodule: idea.py\n", "has no class Config"),
        ("def broken(:\n", "title: x\nmodule: idea.py\n", "line 1: is not Python"),
    ],
)
def test_read_study__bad_hypothesis_is_named_with_its_file(folder, module, entry, complaint):
    Path("config/hypotheses").mkdir(parents=True)
    Path("config/hypotheses/idea.yaml").write_text(entry)
    Path("idea.py").write_text(module)
    with pytest.raises(InputError, match=complaint) as caught:
        read(hypotheses=["idea"])
    assert "idea" in str(caught.value)


def test_read_literals__nothing_is_imported(tmp_path):
    path = tmp_path / "idea.py"
    path.write_text(GOOD_MODULE + "raise RuntimeError('imported')\n")
    assert read_literals(path).config_fields == ("alpha",)


def test_read_literals__fields_that_config_inherits_are_known(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shared_part.py").write_text("class Base:\n    beta: float = 1.0\n    alpha: int = 1\n")
    path = tmp_path / "idea.py"
    text = GOOD_MODULE.replace("class Config:", "class Config(Base):")
    path.write_text(text.replace("\n\n\n", "\nfrom shared_part import Base\n\n\n"))
    assert read_literals(path).config_fields == ("beta", "alpha")


def test_science_of_a_hypothesis__does_not_change_with_title_or_resources(folder):
    Path("config/hypotheses").mkdir(parents=True)
    Path("idea.py").write_text(GOOD_MODULE)
    entry = Path("config/hypotheses/idea.yaml")
    entry.write_text("title: x\nmodule: idea.py\n")
    before = read(hypotheses=["idea"]).hypotheses[0].training
    entry.write_text("title: y\nmodule: idea.py\nrole: baseline\nresources: {mem_mb: 9000}\n")
    assert read(hypotheses=["idea"]).hypotheses[0].training == before
    entry.write_text("title: y\nmodule: idea.py\nconfig: {alpha: 2.0}\n")
    assert read(hypotheses=["idea"]).hypotheses[0].training != before


@pytest.mark.parametrize(
    "path", sorted([ROOT / "config/config.yaml", *(ROOT / "config/studies").glob("*.yaml")])
)
def test_ready_studies__are_legal(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = read_study(
        schema.read_yaml(path),
        where=str(path),
        schemas=ROOT / "workflow/schemas",
        hypothesis_dirs=[ROOT / "config/hypotheses"],
    )
    check_study(study, plan.made_by_rules(study))


@pytest.mark.parametrize("name", assay_names())
def test_config_readme__documents_every_option_of_an_assay(name):
    text = (ROOT / "config/README.md").read_text()
    section = text.split(f"**`{name}`**")[1].split("\n**")[0].split("\n###")[0]
    options = [item.name for item in dataclasses.fields(assay_module(name).Options)]
    assert not [option for option in options if f"`{option}`" not in section]
    assert not [block for block in assay_module(name).BLOCKS if f"`{block}`" not in section]


def test_config_readme__documents_every_key_of_the_schemas():
    text = (ROOT / "config/README.md").read_text()
    for name in ("config", "hypothesis"):
        content = yaml.safe_load((ROOT / f"workflow/schemas/{name}.schema.yaml").read_text())
        keys = set(content["properties"])
        for part in content["properties"].values():
            keys |= set(part.get("properties", {}))
        absent = sorted(key for key in keys if f"`{key}`" not in text)
        assert not absent


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"thresholds": {"inner_folds": 1}}, "my.yaml: thresholds.inner_folds: found 1, expected 2 to 10"),
        (
            {"thresholds": {"inner_fold": 3}},
            "unknown key 'inner_fold' in thresholds; did you mean 'inner_folds'?",
        ),
        ({"thresholds": {"specificity": 0.97}}, "thresholds.specificity: found 0.97"),
        ({"seeds": 0}, "seeds: found 0, expected at least 1"),
        ({"learning_curve": [0.5, 0.5]}, "learning_curve: an entry is listed twice"),
        ({"learning_curve": [1.5]}, "learning_curve[0]: found 1.5, expected at most 1"),
    ],
)
def test_read_study__keys_of_what_is_trained_again_are_checked(folder, changes, complaint):
    with pytest.raises(InputError) as caught:
        read(CONFIG | changes)
    assert complaint in str(caught.value)


def test_read_study__two_labels_get_thresholds_without_asking_and_nothing_else_is_trained_again(folder):
    study = read(CONFIG)
    assert plan.refit_runs(study) == ["l2_logistic/0/thresholds", "prior_only/0/thresholds"]
    more = read(CONFIG | {"seeds": 2, "learning_curve": [0.5], "thresholds": {"inner_folds": 0}})
    assert plan.refit_runs(more) == ["l2_logistic/0/seeds", "l2_logistic/0/learning"]


def test_study_endpoint__is_sealed_with_every_choice_that_calls_depend_on(folder):
    base = read(CONFIG).endpoint()
    for change in (
        {"primary_metric": "brier"},
        {"positive": "a"},
        {"thresholds": {"inner_folds": 2}},
        {"thresholds": {"specificity": 0.99}},
    ):
        assert read(CONFIG | change).endpoint() != base
    assert read(CONFIG | {"seeds": 3, "bootstrap": 200}).endpoint() == base
