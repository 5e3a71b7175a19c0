"""Estimates are the stated estimand, intervals cover, and neither crashes where data are too few."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import binomtest, norm, t
from sklearn.metrics import accuracy_score, roc_auc_score

from finished_studies import make_outcomes, make_study, noisy_probabilities, plain_outcomes
from oncoarena.errors import InputError
from oncoarena.referee import metrics
from oncoarena.referee.bootstrap import (
    chunks,
    draw_patients,
    exact_interval,
    logit_interval,
    patient_strata,
    percentile_interval,
)
from oncoarena.referee.evaluation import EVALUATION_COLUMNS, evaluate, strata_of_rows, stratum_names
from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.outcomes import join_outcomes
from oncoarena.referee.replicates import Scorer, metric_names, resample

NO_STRATA = pd.DataFrame()


def row(table, hypothesis, metric, stratum="all"):
    chosen = table.query("hypothesis == @hypothesis and metric == @metric and stratum == @stratum")
    assert len(chosen) == 1
    return chosen.iloc[0]


# --- resampling


def test_draw_patients__every_replicate_keeps_the_size_of_every_stratum():
    strata = np.array([0] * 7 + [1] * 3 + [2])
    counts = draw_patients(strata, 500, np.random.default_rng(0))
    for stratum, size in enumerate((7, 3, 1)):
        assert (counts[strata == stratum].sum(axis=0) == size).all()
    # Each patient is drawn once on average; the standard error of a mean of 500 is under 0.05.
    assert np.abs(counts.mean(axis=1) - 1).max() < 0.2
    assert counts[:7].var(axis=1).mean() == pytest.approx(1 - 1 / 7, abs=0.1)


def test_patient_strata__a_patient_of_two_classes_is_a_stratum_of_its_own():
    strata = patient_strata(np.array([0, 1, 2, 2, 3]), np.array([0, 1, 0, 1, 0]), 2)
    assert strata[0] == strata[3]
    assert len({strata[0], strata[1], strata[2]}) == 3


def test_chunks__cover_all_replicates_whatever_the_number_of_patients():
    for n_units in (1, 1000, 10**9):
        assert sum(chunks(1000, n_units)) == 1000


def test_percentile_interval__is_undefined_where_many_replicates_are():
    values = np.append(np.arange(80.0), np.full(20, np.nan))
    assert np.isnan(percentile_interval(values)).all()
    assert percentile_interval(np.append(np.arange(1001.0), np.nan)) == pytest.approx((25, 975))


def test_percentile_interval__is_wider_where_patients_are_few():
    drawn = norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    # For normal replicates the half width is that of Student's t, times the root of n / (n - 1).
    for n in (5, 30, 1000):
        half = t.ppf(0.975, n - 1) * np.sqrt(n / (n - 1))
        assert percentile_interval(drawn, n) == pytest.approx((-half, half), rel=5e-3)
    assert percentile_interval(drawn, 1) == percentile_interval(drawn)


def test_logit_interval__is_normal_on_the_scale_of_log_odds():
    log_odds = np.random.default_rng(0).normal(2.0, 0.5, 20_000)
    low, high = logit_interval(float(expit(2.1)), expit(log_odds), 1000)
    assert (low, high) == pytest.approx(expit(2.1 + np.array([-1, 1]) * norm.ppf(0.975) * 0.5), abs=2e-3)


def test_logit_interval__stays_inside_and_is_undefined_where_many_replicates_are():
    low, high = logit_interval(0.99, np.array([1.0] * 500 + [0.97] * 500), 20)
    assert 0 < low < 0.97
    assert 0.99 < high < 1
    assert np.isnan(logit_interval(0.9, np.array([0.9] * 8 + [np.nan] * 2), 20)).all()


@pytest.mark.parametrize(("hits", "trials"), [(20, 20), (18, 20), (0, 7), (3, 11)])
def test_exact_interval__agrees_with_scipy(hits, trials):
    expected = binomtest(hits, trials).proportion_ci(method="exact")
    assert exact_interval(hits / trials, trials) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_scorer__agrees_with_the_metrics_under_any_weights(n_classes):
    rng = np.random.default_rng(n_classes)
    truth = rng.integers(n_classes, size=80)
    probabilities = noisy_probabilities(truth, n_classes, 1.0, rng)
    patients, repeats = rng.integers(25, size=80), np.repeat([0, 1], 40)
    scorer = Scorer(truth, probabilities, patients, repeats, 25, n_classes - 1)
    weights = rng.integers(1, 4, size=(25, 6), dtype=np.uint8)
    values = scorer(weights)
    assert tuple(values) == metric_names(n_classes)
    measured = {
        "auroc_macro": metrics.macro_auroc,
        "accuracy": metrics.accuracy,
        "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1,
        "mcc": metrics.mcc,
        "log_loss": metrics.log_loss,
        "brier": metrics.brier,
        "ece": metrics.expected_calibration_error,
    }
    for name, measure in measured.items():
        for r in range(6):
            by_repeat = [
                measure(truth[rows], probabilities[rows], weights[patients[rows], r].astype(float))
                for rows in (repeats == 0, repeats == 1)
            ]
            assert values[name][r] == pytest.approx(np.mean(by_repeat)), name


def test_resample__replicates_are_what_a_plain_loop_over_patients_gives():
    outcomes = make_outcomes({"one": 1.0}, n_patients=21, samples_each=2)
    found = resample(outcomes, 50, seed=5).samples["one"]
    strata = patient_strata(outcomes.patients, outcomes.truth, 3)
    counts = draw_patients(strata, 50, np.random.default_rng(5))
    for r in range(50):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(outcomes.patients == p), n) for p, n in enumerate(counts[:, r])]
        )
        truth, given = outcomes.truth[rows], outcomes.probabilities["one"][rows]
        assert found["accuracy"][r] == pytest.approx(accuracy_score(truth, given.argmax(axis=1)))
        assert found["auroc_macro"][r] == pytest.approx(
            roc_auc_score(truth, given, multi_class="ovr", average="macro")
        )


def test_resample__same_seed_same_replicates_and_all_hypotheses_share_them():
    outcomes = make_outcomes({"one": 1.0, "two": 0.5})
    twin = plain_outcomes(
        outcomes.truth, dict.fromkeys(("x", "y"), outcomes.probabilities["one"]), outcomes.patients
    )
    replicates = resample(twin, 40, 3)
    np.testing.assert_array_equal(replicates.samples["x"]["log_loss"], replicates.samples["y"]["log_loss"])
    again = resample(twin, 40, 3)
    np.testing.assert_array_equal(replicates.samples["x"]["brier"], again.samples["x"]["brier"])
    assert (replicates.samples["x"]["brier"] != resample(twin, 40, 4).samples["x"]["brier"]).any()


# --- the estimand


def test_evaluate__pools_folds_and_averages_repeats():
    predictions, samples, splits, _, classes = make_study({"one": 1.0}, n_patients=30, n_repeats=3, n_folds=5)
    table = evaluate(join_outcomes(predictions, samples, splits, classes), NO_STRATA, 50, 0)
    assert list(table.columns) == EVALUATION_COLUMNS
    label = samples.set_index("sample_id")["label"]
    areas, shares = [], []
    for _, rows in predictions.groupby("repeat"):
        given = rows[["p_a", "p_b", "p_c"]].to_numpy()
        truth = label[rows["sample_id"]].to_numpy()
        areas.append(roc_auc_score(truth, given, multi_class="ovr", average="macro", labels=list(classes)))
        shares.append((np.array(classes)[given.argmax(axis=1)] == truth).mean())
    assert row(table, "one", "auroc_macro")["estimate"] == pytest.approx(np.mean(areas))
    assert row(table, "one", "accuracy")["estimate"] == pytest.approx(np.mean(shares))
    assert (table["n_samples"] == 30).all()
    assert (table["n_patients"] == 30).all()


def test_evaluate__intervals_hold_their_estimate_and_stay_in_bounds():
    table = evaluate(make_outcomes({"one": 1.0}, n_classes=2), NO_STRATA, 200, 0).dropna(subset="ci_low")
    assert (table["ci_low"] <= table["estimate"]).all()
    assert (table["ci_high"] >= table["estimate"]).all()
    shares = table[table["metric"].str.contains("auroc|accuracy|sensitivity|auprc")]
    assert shares["ci_low"].min() >= 0
    assert shares["ci_high"].max() <= 1


def test_evaluate__twenty_of_twenty_right_is_not_certainty():
    truth = np.arange(20) % 4
    table = evaluate(plain_outcomes(truth, {"one": np.eye(4)[truth]}), NO_STRATA, 100, 0)
    accuracy = row(table, "one", "accuracy")
    assert accuracy["estimate"] == 1
    assert accuracy["ci_low"] == pytest.approx(binomtest(20, 20).proportion_ci(method="exact").low)
    for metric in ("auroc_macro", "balanced_accuracy", "macro_f1", "mcc"):
        assert row(table, "one", metric)["ci_low"] < 0.9, metric


def test_evaluate__samples_of_one_patient_count_once():
    truth = np.repeat(np.arange(30) % 2, 4)
    rng = np.random.default_rng(0)
    by_patient = np.repeat(noisy_probabilities(truth[::4], 2, 1.0, rng), 4, axis=0)
    patients = np.repeat(np.arange(30), 4)
    clustered = evaluate(plain_outcomes(truth, {"one": by_patient}, patients), NO_STRATA, 400, 0)
    single = evaluate(plain_outcomes(truth[::4], {"one": by_patient[::4]}), NO_STRATA, 400, 0)
    for metric in ("auroc_macro", "accuracy", "auroc_delong", "calibration_slope"):
        ours, theirs = row(clustered, "one", metric), row(single, "one", metric)
        assert ours[["estimate", "ci_low", "ci_high"]].tolist() == pytest.approx(
            theirs[["estimate", "ci_low", "ci_high"]].tolist()
        ), metric


def test_evaluate__intervals_cover_the_truth():
    # Two classes one standard deviation apart: the AUROC is known, so is the accuracy of the best cut.
    rng = np.random.default_rng(1)
    n_studies, distance = 200, 1.0
    known = {
        "auroc_macro": norm.cdf(distance / np.sqrt(2)),
        "auroc_delong": norm.cdf(distance / np.sqrt(2)),
        "accuracy": norm.cdf(distance / 2),
        "calibration_slope": 1.0,
        "calibration_intercept": 0.0,
    }
    covered = dict.fromkeys(known, 0)
    for study in range(n_studies):
        truth = np.arange(60) % 2
        score = rng.normal(size=60) + distance * truth
        p = expit(distance * (score - distance / 2))
        table = evaluate(plain_outcomes(truth, {"one": np.column_stack([1 - p, p])}), NO_STRATA, 250, study)
        for metric, value in known.items():
            found = row(table, "one", metric)
            covered[metric] += found["ci_low"] <= value <= found["ci_high"]
    # Nominal 95 %; three standard errors of 200 studies are 4.6 %.
    for metric, count in covered.items():
        assert count / n_studies > 0.90, metric
    assert covered["auroc_macro"] / n_studies < 0.995


# --- strata


def test_stratum_names__numbers_become_bands_and_gaps_are_named():
    samples = pd.DataFrame(
        {
            "age": [*range(20, 80, 2), np.nan],
            "sex": ["f", "m"] * 15 + [""],
            "stage": [1.0, 2.0, 3.0] * 10 + [4.0],
        }
    )
    named = stratum_names(samples, ["age", "sex", "stage"])
    assert named["age"].value_counts().to_dict() == {
        "age=20 to 38": 10,
        "age=40 to 58": 10,
        "age=60 to 78": 10,
        "age=missing": 1,
    }
    assert set(named["sex"]) == {"sex=f", "sex=m", "sex=missing"}
    assert set(named["stage"]) == {"stage=1", "stage=2", "stage=3", "stage=4"}


@pytest.mark.parametrize("sites", [[str(i) for i in range(1, 9)], range(1, 9), np.arange(1.0, 9.0)])
def test_stratum_names__sites_are_names_even_where_they_are_numbers(sites):
    named = stratum_names(pd.DataFrame({"site": sites}), ["site"])
    assert named["site"].tolist() == [f"site={i}" for i in range(1, 9)]
    long = stratum_names(pd.DataFrame({"site": [12345671.0, 12345672.0, np.nan]}), ["site"])
    assert long["site"].tolist() == ["site=12345671", "site=12345672", "site=missing"]


def test_stratum_names__an_unknown_column_is_refused():
    with pytest.raises(InputError, match=r"found 'sexe', expected a column of the sample sheet: sex\."):
        stratum_names(pd.DataFrame({"sex": ["f"]}), ["sexe"])


def test_evaluate__a_stratum_is_the_study_of_its_samples_alone():
    site = np.repeat(["A", "B", "C"], [36, 21, 3])
    predictions, samples, splits, _, classes = make_study({"one": 1.0}, sheet={"site": site})
    outcomes = join_outcomes(predictions, samples, splits, classes)
    table = evaluate(outcomes, strata_of_rows(outcomes, samples, ["site"]), 100, 0)
    assert list(table["stratum"].unique()) == ["all", "site=A", "site=B", "site=C"]
    given = predictions.merge(samples, on="sample_id").query("site == 'A'")
    expected = accuracy_score(
        given["label"], np.array(classes)[given[["p_a", "p_b", "p_c"]].to_numpy().argmax(axis=1)]
    )
    found = row(table, "one", "accuracy", "site=A")
    assert found["estimate"] == pytest.approx(expected)
    assert (found["n_samples"], found["n_patients"]) == (36, 36)
    # Three patients are too few: numbers are withheld, counts are given.
    small = table[table["stratum"] == "site=C"]
    assert small[["estimate", "ci_low", "ci_high"]].isna().all(axis=None)
    assert (small["n_patients"] == 3).all()
    assert set(small["metric"]) == set(table.loc[table["stratum"] == "site=A", "metric"])


def test_evaluate__a_stratum_of_one_class_has_no_ranking_but_an_accuracy():
    outcomes = plain_outcomes(np.zeros(8, dtype=int), {"one": np.tile([0.6, 0.4], (8, 1))})
    table = evaluate(outcomes, NO_STRATA, 50, 0)
    for metric in ("auroc_macro", "auprc", "auroc_delong", "calibration_slope", "mcc"):
        assert np.isnan(row(table, "one", metric)["estimate"]), metric
    assert row(table, "one", "accuracy")["estimate"] == 1


# --- the whole


def test_join_outcomes__the_truth_is_found_by_name_not_by_position():
    predictions, samples, splits, _, classes = make_study({"one": 3.0}, samples_each=2)
    straight = join_outcomes(predictions, samples, splits, classes)
    mixed = join_outcomes(
        predictions.sample(frac=1, random_state=1),
        samples.sample(frac=1, random_state=2),
        splits.sample(frac=1, random_state=3),
        classes,
    )
    np.testing.assert_array_equal(straight.truth, mixed.truth)
    np.testing.assert_array_equal(straight.probabilities["one"], mixed.probabilities["one"])
    np.testing.assert_array_equal(straight.patients, mixed.patients)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.iloc[1:], "sample 's00000' is not in the sample sheet"),
        (lambda s: s.assign(label="z"), "label 'z' is not a class of this study: a, b, c"),
    ],
)
def test_join_outcomes__a_sheet_that_does_not_fit_is_refused(change, message):
    predictions, samples, splits, _, classes = make_study({"one": 1.0})
    with pytest.raises(InputError, match=message):
        join_outcomes(predictions, change(samples), splits, classes)


def test_evaluate_study__gives_every_table_and_does_not_depend_on_who_else_ran():
    sheet = {"sex": ["f", "m"] * 30}
    predictions, samples, splits, runs, classes = make_study({"one": 1.0, "two": 0.5}, sheet=sheet)
    both = evaluate_study(predictions, samples, splits, runs, classes, ["sex"], 60, 1, n_permutations=50)
    tables = {"evaluation", "comparison", "checks", "curves", "confusion"}
    tables |= {"failures", "overlap", "added_value", "strata_leaders"}
    assert set(both) == tables | {"recalibration", "operating_points", "seeds", "learning"}
    alone = evaluate_study(
        predictions.query("hypothesis == 'two'"), samples, splits, runs, classes, ["sex"], 60, 1
    )
    pd.testing.assert_frame_equal(
        both["evaluation"].query("hypothesis == 'two'").reset_index(drop=True),
        alone["evaluation"],
    )
    assert len(alone["comparison"]) == 0


def test_evaluate_study__two_classes_may_name_either_as_positive():
    predictions, samples, splits, runs, classes = make_study({"one": 1.0}, n_classes=2)
    tables = {
        name: evaluate_study(predictions, samples, splits, runs, classes, (), 30, 1, positive=name)[
            "evaluation"
        ]
        for name in classes
    }
    first, second = (row(tables[name], "one", "auroc_macro")["estimate"] for name in classes)
    assert first == pytest.approx(second)
    first, second = (row(tables[name], "one", "calibration_intercept")["estimate"] for name in classes)
    assert first == pytest.approx(-second)


def test_evaluate_study__unknown_choices_are_refused():
    predictions, samples, splits, runs, classes = make_study({"one": 1.0})
    with pytest.raises(InputError, match="primary metric 'auprc' is not computed for 3 classes"):
        evaluate_study(predictions, samples, splits, runs, classes, primary="auprc")
    with pytest.raises(InputError, match="positive class 'z' is not a class"):
        evaluate_study(predictions, samples, splits, runs, classes, positive="z")


def test_evaluate_study__a_thread_pool_changes_nothing():

    study = make_study({"one": 1.0, "two": 0.5, "three": 0.0}, n_patients=30)
    plain = evaluate_study(*study, n_bootstrap=40, n_permutations=40)
    with ThreadPoolExecutor(2) as pool:
        pooled = evaluate_study(*study, n_bootstrap=40, n_permutations=40, map=pool.map)
    for name, table in plain.items():
        pd.testing.assert_frame_equal(table, pooled[name])


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_evaluate__every_metric_of_the_table_is_explained(n_classes):
    table = evaluate(make_outcomes({"one": 1.0}, n_classes=n_classes), NO_STRATA, 20, 0)
    assert set(table["metric"]) <= set(metrics.METRICS)
