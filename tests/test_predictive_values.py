"""Specificity at a sensitivity, and what a call is worth at a stated prevalence."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from finished_studies import make_outcomes, make_study, plain_outcomes
from oncoarena.errors import InputError
from oncoarena.referee.bootstrap import exact_interval
from oncoarena.referee.evaluation import evaluate
from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.metrics import SENSITIVITY_LEVELS, SPECIFICITIES
from oncoarena.referee.prevalence import predictive_values
from oncoarena.referee.replicates import Scorer


def evaluated(outcomes, prevalence=None, n_bootstrap=200):
    table = evaluate(outcomes, pd.DataFrame(), n_bootstrap, 0, prevalence=prevalence)
    return table.set_index("metric")


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("decimals", [1, None])
def test_scorer__specificity_at_a_sensitivity_agrees_with_scikit_learns_curve(positive, decimals):
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 2
    scores = rng.normal(size=120) + truth
    scores = 1 / (1 + np.exp(-scores))
    scores = scores if decimals is None else scores.round(decimals)
    probabilities = np.column_stack([1 - scores, scores])
    scorer = Scorer(truth, probabilities, np.arange(120), np.zeros(120, int), 120, positive)
    weights = rng.integers(4, size=(120, 3)).astype(np.uint8)
    weights[:, 0] = 1
    found = scorer(weights)
    for r in range(3):
        false, true, _ = roc_curve(
            truth == positive,
            probabilities[:, positive],
            sample_weight=weights[:, r],
            drop_intermediate=False,
        )
        for level in SENSITIVITY_LEVELS:
            expected = 1 - false[true >= level - 1e-12].min()
            assert found[f"specificity_at_{100 * level:.0f}_sensitivity"][r] == pytest.approx(expected)


def test_evaluate__a_sensitivity_that_few_positives_cannot_show_has_no_specificity():
    table = evaluated(make_outcomes({"one": 2.0}, n_patients=16, n_classes=2))
    assert np.isfinite(table.loc["specificity_at_80_sensitivity", "estimate"])
    # Eight positives: 90 % would be told from 100 % by less than one patient.
    assert np.isnan(table.loc["specificity_at_90_sensitivity", "estimate"])


def test_predictive_values__agree_with_a_table_of_counts():
    # 1,000 people of whom 20 are ill; 90 % of them and 5 % of the others are called.
    ppv, npv = predictive_values(0.9, 0.95, 0.02)
    assert ppv == pytest.approx(18 / (18 + 49))
    assert npv == pytest.approx(931 / (931 + 2))
    assert np.isnan(predictive_values(0.0, 1.0, 0.02)[0])


def test_evaluate__predictive_values_at_the_studys_own_prevalence_are_the_shares_of_calls():
    outcomes = make_outcomes({"one": 1.0}, n_patients=90, n_classes=2)
    table = evaluated(outcomes, prevalence=float((outcomes.truth == 1).mean()))
    called = outcomes.probabilities["one"].argmax(axis=1) == 1
    assert table.loc["ppv", "estimate"] == pytest.approx((outcomes.truth[called] == 1).mean())
    assert table.loc["npv", "estimate"] == pytest.approx((outcomes.truth[~called] == 0).mean())
    assert (table.loc[["ppv", "npv"], "ci_low"] <= table.loc[["ppv", "npv"], "estimate"]).all()
    assert "prevalence 0.5" in table.loc["ppv", "interval"]


def test_evaluate__predictive_values_at_a_specificity_follow_the_sensitivity_there():
    table = evaluated(make_outcomes({"one": 1.5}, n_patients=240, n_classes=2), prevalence=0.01)
    for s in SPECIFICITIES:
        sensitivity = table.loc[f"sensitivity_at_{100 * s:.0f}_specificity"]
        for k, name in enumerate(("ppv", "npv")):
            row = table.loc[f"{name}_at_{100 * s:.0f}_specificity"]
            for end in ("estimate", "ci_low", "ci_high"):
                expected = predictive_values(sensitivity[end], s, 0.01)[k]
                np.testing.assert_allclose(row[end], expected)


def test_evaluate__no_false_alarm_among_few_is_not_a_certain_call():
    truth = np.arange(40) % 2
    outcomes = plain_outcomes(truth, {"one": np.eye(2)[truth]})
    row = evaluated(outcomes, prevalence=0.01).loc["ppv"]
    assert (row["estimate"], row["ci_high"]) == (1, 1)
    low = binomtest(20, 20).proportion_ci(0.95**0.5, method="exact").low
    assert row["ci_low"] == pytest.approx(predictive_values(low, low, 0.01)[0])
    assert exact_interval(1.0, 20, 0.95**0.5)[0] == pytest.approx(low)


def test_evaluate__intervals_of_predictive_values_cover():
    rng = np.random.default_rng(0)
    expected = predictive_values(0.8, 0.9, 0.05)
    covered = np.zeros(2)
    for _ in range(200):
        truth = np.repeat([0, 1], [60, 40])
        called = np.where(rng.random(100) < np.where(truth == 1, 0.8, 0.1), 1, 0)
        table = evaluated(plain_outcomes(truth, {"one": np.eye(2)[called] * 0.8 + 0.1}), 0.05, 60)
        for k, name in enumerate(("ppv", "npv")):
            covered[k] += table.loc[name, "ci_low"] <= expected[k] <= table.loc[name, "ci_high"]
    # The exact rectangle is wider than it must be; 95 % of 200 less two standard deviations is 184.
    assert (covered >= 184).all()


@pytest.mark.parametrize(("n_classes", "prevalence"), [(3, 0.1), (2, 0.0), (2, 1.0)])
def test_evaluate_study__a_prevalence_that_means_nothing_is_refused(n_classes, prevalence):
    with pytest.raises(
        InputError, match=f"prevalence: found {prevalence:g} in a study of {n_classes} classes"
    ):
        evaluate_study(*make_study({"one": 1.0}, n_classes=n_classes), prevalence=prevalence)
