"""Pairs are compared on the same patients, and what cannot be told apart is said so."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_1samp
from scipy.stats import t as student

from finished_studies import make_outcomes, make_study, noisy_probabilities, plain_outcomes
from oncoarena.referee import metrics
from oncoarena.referee.comparison import (
    COMPARISON_COLUMNS,
    compare,
    corrected_t,
    difference_interval,
    exchange_p_values,
    holm,
    mcnemar_p,
    patients_needed,
    separability,
    split_metrics,
)
from oncoarena.referee.evaluation import evaluate
from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.replicates import metric_names, resample

MEASURES = {
    "auroc_macro": metrics.macro_auroc,
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "macro_f1": metrics.macro_f1,
    "mcc": metrics.mcc,
    "log_loss": metrics.log_loss,
    "brier": metrics.brier,
}


def compared(outcomes, families=None, n_bootstrap=200, n_permutations=200, seed=0):
    sizes = dict.fromkeys(itertools.product(range(20), range(20)), 40)
    return compare(
        outcomes, resample(outcomes, n_bootstrap, seed), families or {}, sizes, n_permutations, seed
    )


# --- exchange of predictions


@pytest.mark.parametrize("n_classes", [2, 3])
def test_exchange_p_values__agree_with_all_exchanges_of_a_small_study(n_classes):
    rng = np.random.default_rng(4)
    # Eight patients of two samples each; all 256 exchanges can be listed.
    truth = np.repeat(np.arange(8) % n_classes, 2)
    patients = np.repeat(np.arange(8), 2)
    a, b = (noisy_probabilities(truth, n_classes, strength, rng) for strength in (1.2, 0.0))
    found = exchange_p_values(plain_outcomes(truth, {"a": a, "b": b}, patients), ("a", "b"), 0, 20_000)
    for name, measure in MEASURES.items():
        gaps = []
        for swapped in itertools.product([False, True], repeat=8):
            chosen = np.array(swapped)[patients][:, None]
            left, right = np.where(chosen, b, a), np.where(chosen, a, b)
            gaps.append(measure(truth, left) - measure(truth, right))
        expected = np.mean(np.abs(gaps) >= abs(gaps[0]) - 1e-10)
        # Three standard errors of 20,000 draws are at most 1.1 %.
        assert found[name] == pytest.approx(expected, abs=0.012), name


def test_exchange_p_values__alike_predictions_are_never_told_apart():
    outcomes = make_outcomes({"one": 1.0})
    twin = plain_outcomes(outcomes.truth, dict.fromkeys(("x", "y"), outcomes.probabilities["one"]))
    assert set(exchange_p_values(twin, ("x", "y"), 0, 99).values()) == {1.0}


def test_exchange_p_values__smallest_value_is_one_in_m_plus_one():
    outcomes = make_outcomes({"one": 4.0, "two": 0.0}, n_patients=90)
    assert exchange_p_values(outcomes, ("one", "two"), 0, 99)["log_loss"] == pytest.approx(0.01)


def test_exchange_p_values__what_is_undefined_has_none():
    truth = np.zeros(6, dtype=int)
    rng = np.random.default_rng(0)
    given = {name: noisy_probabilities(truth, 2, 1.0, rng) for name in "ab"}
    found = exchange_p_values(plain_outcomes(truth, given), ("a", "b"), 0, 50)
    assert np.isnan(found["auroc_macro"])
    assert np.isfinite(found["brier"])


def test_exchange_p_values__are_honest_under_the_null():
    rng = np.random.default_rng(2)
    n_studies, small = 200, dict.fromkeys(("auroc_macro", "log_loss"), 0)
    for _ in range(n_studies):
        truth = np.arange(30) % 2
        given = {name: noisy_probabilities(truth, 2, 1.0, rng) for name in "ab"}
        found = exchange_p_values(plain_outcomes(truth, given), ("a", "b"), int(rng.integers(2**31)), 99)
        for name in small:
            small[name] += found[name] <= 0.1
    # 10 % expected; three standard errors of 200 studies are 6.4 %.
    for name, count in small.items():
        assert 0.036 <= count / n_studies <= 0.164, name


# --- multiplicity and closed forms


def test_holm__agrees_with_worked_examples():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm"); p.adjust(c(1:5) / 100, "holm")
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.arange(1, 6) / 100) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm(np.array([0.5, np.nan, 0.9])) == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)


def test_corrected_t__without_overlap_is_the_ordinary_t_test():
    gaps = np.random.default_rng(0).normal(0.3, 1, size=12)
    found = corrected_t(gaps, 0.0, True)
    assert found["p_corrected_t"] == pytest.approx(ttest_1samp(gaps, 0).pvalue)


def test_corrected_t__overlap_widens_by_the_published_factor():
    gaps = np.random.default_rng(1).normal(0.02, 0.05, size=20)
    found = corrected_t(gaps, 0.25, True)
    statistic = gaps.mean() / np.sqrt((1 / 20 + 0.25) * gaps.var(ddof=1))
    assert found["p_corrected_t"] == pytest.approx(2 * student.sf(abs(statistic), 19))
    # The posterior by simulation: three standard errors of 200,000 draws are 0.3 %.
    draws = gaps.mean() + gaps.mean() / statistic * np.random.default_rng(2).standard_t(19, 200_000)
    assert found["probability_a_better"] == pytest.approx((draws > 0.01).mean(), abs=0.004)
    assert found["probability_equivalent"] == pytest.approx((np.abs(draws) <= 0.01).mean(), abs=0.004)
    assert sum(found.values()) - found["p_corrected_t"] == pytest.approx(1)


def test_corrected_t__where_lower_is_better_the_sides_change_places():
    gaps = np.random.default_rng(1).normal(0.5, 0.05, size=10)
    assert corrected_t(gaps, 0.25, True)["probability_a_better"] > 0.99
    assert corrected_t(gaps, 0.25, False)["probability_b_better"] > 0.99


@pytest.mark.parametrize("gaps", [[0.1, 0.2, 0.1, 0.3], [0.1] * 8, [np.nan] * 8])
def test_corrected_t__says_nothing_on_few_splits_or_no_spread(gaps):
    assert np.isnan(list(corrected_t(np.array(gaps), 0.2, True).values())).all()


def test_split_metrics__are_those_of_each_test_part_alone():
    outcomes = make_outcomes({"one": 1.0}, n_repeats=2, n_folds=3)
    found = split_metrics(outcomes, "one")
    expected = [
        metrics.accuracy(outcomes.truth[rows], outcomes.probabilities["one"][rows])
        for rows in (
            (outcomes.repeats == repeat) & (outcomes.folds == fold)
            for repeat in range(2)
            for fold in range(3)
        )
    ]
    assert found["accuracy"].tolist() == pytest.approx(expected)


def test_mcnemar_p__agrees_with_the_binomial_test_of_discordant_pairs():
    truth = np.zeros(20, dtype=int)
    right_a, right_b = np.arange(20) < 16, np.arange(20) >= 10
    given = {name: np.eye(2)[np.where(right, 0, 1)] for name, right in (("a", right_a), ("b", right_b))}
    expected = binomtest(int((right_a & ~right_b).sum()), int((right_a ^ right_b).sum())).pvalue
    assert mcnemar_p(plain_outcomes(truth, given), "a", "b") == pytest.approx(expected)
    assert mcnemar_p(plain_outcomes(truth, given), "a", "a") == 1
    assert np.isnan(mcnemar_p(plain_outcomes(truth, given, np.arange(20) // 2), "a", "b"))


def test_difference_interval__two_perfect_scores_may_still_differ_elsewhere():
    low, high = difference_interval("accuracy", 0.0, np.zeros(100), 20.0)
    assert high == pytest.approx(binomtest(0, 20).proportion_ci(method="exact").high)
    assert low == pytest.approx(-high)


# --- the table


def test_compare__every_pair_and_metric_once():
    outcomes = make_outcomes({"one": 1.0, "two": 0.5, "three": 0.0})
    table = compared(outcomes)
    assert list(table.columns) == COMPARISON_COLUMNS
    pairs = table[["hypothesis_a", "hypothesis_b"]].drop_duplicates().apply(tuple, axis=1).tolist()
    assert pairs == [("one", "two"), ("one", "three"), ("two", "three")]
    assert (
        table.groupby(["hypothesis_a", "hypothesis_b"])["metric"].apply(tuple) == [metric_names(3)] * 3
    ).all()
    known = table.dropna(subset="ci_low")
    assert set(table["metric"]) - set(known["metric"]) == {"ece"}
    assert ((known["ci_low"] <= known["difference"]) & (known["difference"] <= known["ci_high"])).all()
    assert (table["p_holm"] >= table["p_value"] - 1e-12).all()


def test_compare__differences_are_those_of_the_estimates():
    outcomes = make_outcomes({"one": 1.0, "two": 0.5}, n_repeats=2)
    estimates = evaluate(outcomes, pd.DataFrame(), 20, 0).pivot_table(
        index="hypothesis", columns="metric", values="estimate"
    )
    for row in compared(outcomes).itertuples():
        expected = estimates.loc["one", row.metric] - estimates.loc["two", row.metric]
        assert row.difference == pytest.approx(expected), row.metric


def test_compare__pairing_narrows_the_interval():
    # The same noise in both: each alone varies much, their difference little.
    rng = np.random.default_rng(0)
    truth = np.arange(100) % 2
    base = noisy_probabilities(truth, 2, 1.0, rng)
    near = 0.9 * base + 0.1 * noisy_probabilities(truth, 2, 1.0, rng)
    outcomes = plain_outcomes(truth, {"a": base, "b": near})
    alone = evaluate(outcomes, pd.DataFrame(), 200, 0).query("metric == 'auroc_macro'").iloc[0]
    pair = compared(outcomes).query("metric == 'auroc_macro'").iloc[0]
    assert pair["ci_high"] - pair["ci_low"] < (alone["ci_high"] - alone["ci_low"]) / 2


def test_compare__the_three_tests_of_an_area_agree_roughly():
    rng = np.random.default_rng(6)
    truth = np.arange(200) % 2
    given = {name: noisy_probabilities(truth, 2, s, rng) for name, s in (("a", 1.2), ("b", 0.8))}
    row = compared(plain_outcomes(truth, given), n_permutations=2000).query("metric == 'auroc_macro'").iloc[0]
    assert row["p_delong"] == pytest.approx(row["p_value"], abs=0.05)
    assert (row["ci_low"] > 0) == (row["p_delong"] < 0.05)


def test_compare__controls_do_not_make_claims_pay_for_their_number():
    strengths = {"one": 1.0, "two": 0.6, "prior_only": 0.0, "forest": 0.7}
    outcomes = make_outcomes(strengths)
    families = {"one": "claim", "two": "external", "prior_only": "control", "forest": "baseline"}
    table = compared(outcomes, families)
    claims = table[table["family"] == "claims"]
    assert set(claims["hypothesis_a"] + claims["hypothesis_b"]) == {"onetwo"}
    assert claims["p_holm"].tolist() == pytest.approx(claims["p_value"].tolist(), nan_ok=True)
    others = table[(table["family"] != "claims") & (table["metric"] == "brier")]
    assert others["p_holm"].tolist() == pytest.approx(holm(others["p_value"].to_numpy()).tolist())


def test_compare__repeated_splits_get_the_corrected_t_test():
    table = compared(make_outcomes({"one": 1.0, "two": 0.0}, n_repeats=2, n_folds=3))
    row = table.query("metric == 'accuracy'").iloc[0]
    assert 0 <= row["p_corrected_t"] <= 1
    parts = row[["probability_a_better", "probability_equivalent", "probability_b_better"]]
    assert parts.sum() == pytest.approx(1)
    single = compared(make_outcomes({"one": 1.0, "two": 0.0}, n_folds=3))
    assert single["p_corrected_t"].isna().all()


# --- the verdict in a sentence


def verdict(strengths, metric="auroc_macro", **options):
    predictions, samples, splits, runs, classes = make_study(strengths, **options)
    tables = evaluate_study(predictions, samples, splits, runs, classes, n_bootstrap=200, n_permutations=400)
    return separability(tables["evaluation"], tables["comparison"], list(strengths), metric)


def test_separability__a_clear_lead_is_called_one():
    text = verdict({"weak": 0.2, "strong": 3.0}, n_patients=120)
    assert text.startswith("By AUROC (macro), strong (")
    assert "these data tell the two apart" in text


def test_separability__where_lower_is_better_the_lower_leads():
    assert verdict({"weak": 0.2, "strong": 3.0}, "log_loss").startswith("By Log loss, strong (")


def test_separability__a_narrow_lead_says_how_many_patients_would_do():
    text = verdict({"one": 1.0, "two": 1.1}, n_patients=30)
    assert "these data cannot tell the two apart" in text
    assert "patients would be needed" in text


def test_separability__alike_claims_are_level():
    outcomes = make_outcomes({"one": 1.0})
    twin = plain_outcomes(outcomes.truth, dict.fromkeys(("x", "y"), outcomes.probabilities["one"]))
    text = separability(evaluate(twin, pd.DataFrame(), 50, 0), compared(twin), ["x", "y"], "accuracy")
    assert text.startswith("By Accuracy, x and y are level (")
    assert ", and these data cannot tell" in text
    assert "patients would be needed" not in text


def test_separability__one_claim_has_no_rival():
    assert verdict({"one": 1.0}).startswith("Fewer than two claims have a value of ")


def test_patients_needed__follows_the_square_of_the_interval():
    # Half width 1.96 se: a gap of 2.8 se is found with power 0.8, so at half that four times as many.
    assert patients_needed(2.8016, -1.96, 1.96, 1000) == pytest.approx(1000, rel=0.1)
    assert patients_needed(1.4008, -1.96, 1.96, 1000) == pytest.approx(4000, rel=0.1)
    assert patients_needed(0.0, -1.96, 1.96, 1000) is None
    assert patients_needed(1.0, 0.5, 0.5, 1000) is None
