"""The log of looks at the test samples only grows, tells configurations apart, and holds every look and no other."""

import pytest

from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.looks import COLUMNS, configuration_digest, looks_with, record_look
from oncoarena.refits import Thresholds
from oncoarena.results import evaluate
from oncoarena.sealing import seal_endpoint
from oncoarena.splits import SplitPlan
from studies import prepare_study

RUN = {
    "hypothesis": "l2_logistic",
    "code_digest": "sha256:1",
    "config": {"c": 1},
    "seed": 1,
    "digests": {"splits": "sha256:2", "blocks": {"expression": "sha256:3"}},
    "seconds": 3.5,
    "title": "L2",
}


def test_record_look__every_look_is_a_line_and_none_is_lost(tmp_path):
    first = record_look(str(tmp_path), [RUN], "endpoint-1")
    second = record_look(str(tmp_path), [RUN, {"hypothesis": "external"}], "endpoint-2")
    assert list(first.columns) == list(COLUMNS)
    assert second["endpoint"].tolist() == ["endpoint-1", "endpoint-2"]
    assert second["hypotheses"].tolist() == ["l2_logistic", "l2_logistic,external"]
    assert second.iloc[0].equals(first.iloc[0])
    assert len((tmp_path / "looks.tsv").read_text().splitlines()) == 3


def test_looks_with__writes_nothing(tmp_path):
    assert len(looks_with(str(tmp_path), [RUN], "endpoint-1")) == 1
    assert not list(tmp_path.iterdir())
    record_look(str(tmp_path), [RUN], "endpoint-1")
    assert looks_with(str(tmp_path), [RUN], "endpoint-2")["endpoint"].tolist() == ["endpoint-1", "endpoint-2"]
    assert len((tmp_path / "looks.tsv").read_text().splitlines()) == 2


@pytest.fixture
def judge(tmp_path):
    """A function that judges a small trained study on disk, anew each time, with the options given."""
    study = prepare_study(tmp_path, SplitPlan("kfold", folds=2, seed=7))
    store.write_json(study.assay_receipt, {**store.read_json(study.assay_receipt), "excluded": []})
    tested = study.splits[study.splits["role"] == "test"]
    given = tested[["repeat", "fold", "sample_id"]].assign(p_cancer=0.4, p_healthy=0.6)
    given.insert(0, "hypothesis", "l2_logistic")
    folder = str(tmp_path / "runs")
    for name, table in {"samples": study.samples, "splits": study.splits, "predictions": given}.items():
        store.write_table(f"{folder}/{name}.parquet", table)
    run = {
        **RUN,
        "status": "trained",
        "reason": "",
        "permuted_labels": False,
        "splits": [],
        "blocks": ["expression"],
    }
    store.write_json(f"{folder}/run.json", run)
    endpoint = {"primary": "auroc_macro", "rule": Thresholds().rule(), "positive": "cancer"}
    seal_endpoint(f"{folder}/endpoint.json", endpoint)

    def evaluate_with(**options):
        evaluate(
            **{
                "samples_uri": f"{folder}/samples.parquet",
                "splits_uri": f"{folder}/splits.parquet",
                "endpoint_uri": f"{folder}/endpoint.json",
                "prediction_uris": [f"{folder}/predictions.parquet"],
                "run_uris": [f"{folder}/run.json"],
                "refit_uris": [],
                "assay_receipts": [study.assay_receipt],
                "results": str(tmp_path / "results"),
                "competitors": {"l2_logistic": {"title": "L2", "role": "claim", "claim": "."}},
                "external": [],
                "strata": [],
                "primary_metric": "auroc_macro",
                "positive": "cancer",
                "prevalence": None,
                "thresholds": {},
                "bootstrap": 20,
                "seed": 1,
            }
            | options
        )

    return evaluate_with


def test_evaluate__a_judgement_that_fails_is_no_look(judge, tmp_path):
    with pytest.raises(InputError, match="cancre"):
        judge(positive="cancre")
    assert not (tmp_path / "results").exists()
    judge()
    checks = store.read_table(str(tmp_path / "results/checks.parquet")).set_index("code")
    assert checks.loc["CHK012", "detail"] == "The test set was consulted once, with one configuration."
    assert checks.loc["CHK015", "outcome"] == "pass"
    assert len((tmp_path / "results/looks.tsv").read_text().splitlines()) == 2


def test_evaluate__no_result_is_without_its_look(judge, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(store, "write_table", full)
    with pytest.raises(OSError, match="no space"):
        judge()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["looks.tsv"]


def test_configuration_digest__does_not_change_with_cost_or_title():
    assert configuration_digest([RUN]) == configuration_digest([{**RUN, "seconds": 9.0, "title": "other"}])


@pytest.mark.parametrize(
    "change",
    [
        {"code_digest": "sha256:9"},
        {"config": {"c": 2}},
        {"seed": 2},
        {"digests": {}},
        {"hypothesis": "other"},
    ],
)
def test_configuration_digest__changes_with_what_decides_predictions(change):
    assert configuration_digest([RUN]) != configuration_digest([{**RUN, **change}])
