"""The endpoint is sealed: a change of any part shows, a change of layout does not."""

import pytest

from finished_studies import make_study, run_record
from oncoarena import store
from oncoarena.referee.endpoint import endpoint_digest
from oncoarena.referee.evaluation import ESTIMAND
from oncoarena.referee.judge import evaluate_study
from oncoarena.refits import Thresholds
from oncoarena.sealing import seal_endpoint


def chk015(**options):
    checks = evaluate_study(*make_study({"one": 1.0}), n_bootstrap=20, n_permutations=20, **options)["checks"]
    (row,) = checks[checks["code"] == "CHK015"].itertuples()
    return row.outcome, row.detail


@pytest.mark.parametrize(
    "change",
    [
        {"primary": "accuracy"},
        {"estimand": ESTIMAND + " Or so."},
        {"aggregation": "mean over folds"},
        {"rule": "0.5"},
        {"positive": "b"},
    ],
)
def test_endpoint_digest__shows_a_change_of_any_part(change):
    base = endpoint_digest("auroc_macro")
    assert base.startswith("sha256:")
    assert len(base) == 71
    assert endpoint_digest(**({"primary": "auroc_macro"} | change)) != base


def test_endpoint_digest__does_not_see_white_space():
    assert endpoint_digest("brier", "mean  of\nsquares") == endpoint_digest("brier", "mean of squares")


def test_endpoint_digest__parts_cannot_change_places():
    assert endpoint_digest("a", "b", "c", "d") != endpoint_digest("a", "c", "b", "d")


def test_chk015__fires_on_another_metric():
    found, detail = chk015(primary="accuracy", previous_endpoint=endpoint_digest("auroc_macro"))
    assert found == "finding"
    assert endpoint_digest("auroc_macro")[:15] in detail


def test_chk015__is_silent_on_the_same():
    assert chk015(previous_endpoint=endpoint_digest("auroc_macro"))[0] == "pass"


def test_chk015__does_not_apply_to_the_first_results():
    assert chk015() == ("not_applicable", "No earlier results of this study were given.")


def sealed(time="2026-11-20T10:00:00+00:00", **endpoint):
    return {"digest": endpoint_digest(**({"primary": "auroc_macro"} | endpoint)), "sealed": time}


def test_chk015__fires_where_another_endpoint_was_sealed_though_no_results_exist():
    found, detail = chk015(sealed_endpoint=sealed(rule=Thresholds(5).rule()))
    assert found == "finding"
    assert endpoint_digest("auroc_macro", rule=Thresholds(5).rule())[:15] in detail
    assert chk015(rule=Thresholds(5).rule(), sealed_endpoint=sealed())[0] == "finding"


@pytest.mark.parametrize(
    ("started", "order"), [("2026-11-20T10:00:05", "before"), ("2026-11-20T09", "after")]
)
def test_chk015__says_whether_it_was_sealed_before_the_first_model_was_trained(started, order):
    *study, _, classes = make_study({"one": 1.0})
    runs = [run_record("one", started=started + "+00:00")]
    options = {"previous_endpoint": endpoint_digest("auroc_macro"), "sealed_endpoint": sealed()}
    checks = evaluate_study(*study, runs, classes, n_bootstrap=20, n_permutations=20, **options)["checks"]
    (row,) = checks[checks["code"] == "CHK015"].itertuples()
    assert row.outcome == "pass"
    assert f"{order} the first model was trained" in row.detail


def test_thresholds__the_rule_tells_every_choice_apart():
    rules = {Thresholds(folds, s).rule() for folds in (2, 3) for s in (0.9, 0.99)} | {Thresholds(0).rule()}
    assert len(rules) == 5


def test_seal_endpoint__keeps_every_endpoint_and_the_time_of_the_standing_one(tmp_path):
    uri = str(tmp_path / "endpoint.json")
    first = seal_endpoint(uri, {"primary": "accuracy", "rule": Thresholds().rule(), "positive": "cancer"})
    assert first["digest"] == endpoint_digest("accuracy", rule=Thresholds().rule(), positive="cancer")
    assert first["earlier"] == []
    assert first["estimand"] == " ".join(ESTIMAND.split())
    assert (
        seal_endpoint(uri, {"primary": "accuracy", "rule": Thresholds().rule(), "positive": "cancer"})
        == first
    )
    # Snakemake removes a rule's output before it runs again: the log remembers.
    (tmp_path / "endpoint.json").unlink()
    second = seal_endpoint(uri, {"primary": "brier"})
    assert second["earlier"] == [{"time": first["sealed"], "digest": first["digest"]}]
    assert second == store.read_json(uri)
    assert len((tmp_path / "endpoints.tsv").read_text().splitlines()) == 3
