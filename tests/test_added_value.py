"""What a hypothesis adds to the others: found where planted, denied where it copies, honest by chance."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from finished_studies import make_outcomes, make_study, plain_outcomes, run_record
from oncoarena.referee.comparison import holm
from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.stacking import ADDED_VALUE_COLUMNS, added_value, fit_stack


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def independent_views(n_patients, strengths, seed, n_classes=3):
    """Each hypothesis sees the truth through noise of its own: Bayes posteriors, so each adds what it sees."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n_patients) % n_classes
    given = {}
    for name, strength in strengths.items():
        seen = rng.normal(size=(n_patients, n_classes)) + strength * np.eye(n_classes)[truth]
        given[name] = softmax(strength * seen)
    return truth, given


def test_added_value__is_found_where_each_sees_something_of_its_own():
    truth, given = independent_views(300, {"one": 1.2, "two": 1.2, "none": 0.0}, 0)
    table = added_value(plain_outcomes(truth, given), list(given), 200, 999, 0).set_index("hypothesis")
    assert [*table.reset_index().columns] == ADDED_VALUE_COLUMNS
    assert (table.loc[["one", "two"], "p_holm"] < 0.01).all()
    assert (table.loc[["one", "two"], "ci_low"] > 0).all()
    assert table.loc["none", "p_value"] > 0.05
    assert table.loc["none", "gain"] < 0.01
    # Posteriors of independent evidence multiply: each counts once.
    assert table.loc[["one", "two"], "weight"].to_numpy() == pytest.approx(np.ones(2), abs=0.35)


def test_added_value__a_copy_adds_nothing_nor_does_its_original():
    truth, given = independent_views(200, {"one": 1.5}, 1)
    noise = np.random.default_rng([1, 1]).normal(0, 0.02, given["one"].shape)
    given["copy"] = softmax(np.log(given["one"]) + noise)
    table = added_value(plain_outcomes(truth, given), list(given), 200, 999, 0)
    assert (table["gain"].abs() < 0.01).all()
    assert (table["p_holm"] > 0.05).all()


def test_added_value__numbers_belong_together():
    truth, given = independent_views(120, {"one": 1.0, "two": 0.5}, 2)
    table = added_value(plain_outcomes(truth, given), ["one", "two"], 200, 99, 0)
    np.testing.assert_allclose(table["log_loss_without"] - table["log_loss_with"], table["gain"])
    assert (table["ci_low"] <= table["gain"]).all()
    assert (table["gain"] <= table["ci_high"]).all()
    np.testing.assert_allclose(table["p_holm"], holm(table["p_value"].to_numpy()))
    alone = -np.log(given["one"][np.arange(120), truth]).mean()
    assert table["log_loss_alone"][0] == pytest.approx(alone)


def test_added_value__is_honest_where_nothing_is_added():
    p_values, covered = [], 0
    for seed in range(60):
        truth, given = independent_views(80, {"one": 1.0, "none": 0.0}, seed)
        rng = np.random.default_rng([seed, 1])
        given["none"] = softmax(rng.normal(size=(80, 3)))
        table = added_value(plain_outcomes(truth, given), list(given), 100, 99, seed).set_index("hypothesis")
        p_values.append(table.loc["none", "p_value"])
        covered += table.loc["none", "ci_low"] <= 0
    # Expected 3 of 60 at most (a stack that fits noise loses), standard deviation 1.7.
    assert sum(p <= 0.05 for p in p_values) <= 8
    assert covered >= 52


def test_added_value__samples_of_a_patient_stay_together():
    # Copies of each patient's rows: folds by sample would let the stack see its own test rows.
    truth, given = independent_views(40, {"one": 0.5, "two": 0.5}, 3)
    tripled = plain_outcomes(
        np.tile(truth, 3), {name: np.tile(p, (3, 1)) for name, p in given.items()}, np.tile(np.arange(40), 3)
    )
    whole = added_value(tripled, ["one", "two"], 100, 99, 0)
    assert list(whole["n_patients"]) == [40, 40]
    single = added_value(plain_outcomes(truth, given), ["one", "two"], 100, 99, 0)
    # Three copies of everything weigh more against the penalty but tell nothing new.
    np.testing.assert_allclose(whole["gain"], single["gain"], atol=0.03)


def test_fit_stack__agrees_with_scikit_learn():
    # Two classes: the stack is a logistic regression on differences of log probabilities, with a doubled
    # intercept; scikit-learn's penalty has no centre, so a tiny one is compared.
    truth, given = independent_views(400, {"one": 1.0, "two": 0.7}, 4, n_classes=2)
    log_p = np.stack([np.log(p) for p in given.values()], axis=2)
    weight, intercept = fit_stack(log_p, truth, 1e6)
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(log_p[:, 1] - log_p[:, 0], truth)
    np.testing.assert_allclose(weight, expected.coef_[0], rtol=1e-4)
    assert intercept[1] - intercept[0] == pytest.approx(expected.intercept_[0], rel=1e-3, abs=1e-4)


def test_fit_stack__without_data_shares_equally():
    weight, intercept = fit_stack(np.zeros((1, 3, 4)), np.array([1]), 0.0)
    np.testing.assert_allclose(weight, 0.25)
    np.testing.assert_allclose(intercept, 0)


def test_added_value__needs_two_hypotheses_and_ten_patients():
    outcomes = make_outcomes({"one": 1.0, "two": 1.0})
    assert len(added_value(outcomes, ["one"], 50, 50, 0)) == 0
    assert (
        len(added_value(make_outcomes({"one": 1.0, "two": 1.0}, n_patients=9), ["one", "two"], 50, 50, 0))
        == 0
    )


def test_evaluate_study__asks_claims_and_external_models_only():
    study = make_study({"one": 1.0, "paper": 1.0, "l2": 1.0, "prior": 0.0})
    roles = {"one": "claim", "paper": "external", "l2": "baseline", "prior": "control"}
    runs = [run_record(name, role) for name, role in roles.items()]
    tables = evaluate_study(*study[:3], runs, study[4], n_bootstrap=50, n_permutations=20)
    assert list(tables["added_value"]["hypothesis"]) == ["one", "paper"]
    assert set(tables["strata_leaders"]["leader"]) <= {"one", "paper"}
