"""The endpoint is sealed: a change of any part shows, a change of layout does not."""

import pytest

from finished_studies import make_study
from oncoarena.referee.endpoint import endpoint_digest
from oncoarena.referee.evaluation import ESTIMAND
from oncoarena.referee.judge import evaluate_study


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
        {"threshold_rule": "0.5"},
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
