"""Thresholds chosen on training samples: the right ones, never moved by a test sample, and counted rightly."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from finished_studies import make_study, noisy_probabilities
from oncoarena.errors import InputError
from oncoarena.referee.evaluation import strata_of_rows
from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.metrics import SENSITIVITY_LEVELS, SPECIFICITIES
from oncoarena.referee.operating_points import (
    choose_thresholds,
    operating_points,
    sensitivity_threshold,
    specificity_threshold,
)
from oncoarena.referee.outcomes import join_outcomes
from oncoarena.referee.prevalence import predictive_values

NO_STRATA = pd.DataFrame()


def trained_study(strengths, *, seed=0, decimals=None, **options):
    """A study of two classes with made-up probabilities of its training samples too."""
    study = make_study(strengths, n_classes=2, seed=seed, **options)
    _, samples, splits, _, _ = study
    rng = np.random.default_rng([seed, 7])
    rows = splits[splits["role"] == "train"]
    truth = (samples.set_index("sample_id")["label"] == "b").astype(int)[rows["sample_id"]].to_numpy()
    tables = []
    for name, strength in strengths.items():
        given = noisy_probabilities(truth, 2, strength, rng, decimals)
        table = rows[["repeat", "fold", "sample_id"]].assign(hypothesis=name)
        tables.append(table.assign(p_a=given[:, 0], p_b=given[:, 1]))
    order = ["hypothesis", "repeat", "fold", "sample_id", "p_a", "p_b"]
    return study, pd.concat(tables, ignore_index=True)[order]


def judged(study, training, prevalence=None, columns=(), n_bootstrap=200):
    predictions, samples, splits, _, classes = study
    outcomes = join_outcomes(predictions, samples, splits, classes)
    thresholds = choose_thresholds(training, samples, splits, classes)
    strata = strata_of_rows(outcomes, samples, list(columns)) if columns else NO_STRATA
    return (
        outcomes,
        thresholds,
        operating_points(outcomes, thresholds, strata, {}, n_bootstrap, 0, prevalence),
    )


# --- one threshold


@pytest.mark.parametrize("n", [9, 40, 99, 250])
@pytest.mark.parametrize("decimals", [1, None])
@pytest.mark.parametrize("level", SPECIFICITIES)
def test_specificity_threshold__is_the_lowest_that_keeps_the_promise_by_trying_all(n, decimals, level):
    scores = np.random.default_rng(n).random(n)
    scores = scores if decimals is None else scores.round(decimals)
    candidates = np.append(scores, np.nextafter(scores, 2))
    kept = [t for t in candidates if ((scores >= t).sum() + 1) / (n + 1) <= 1 - level + 1e-9]
    found = specificity_threshold(scores, level)
    if kept:
        assert found == min(kept)
    else:
        assert np.isnan(found)


@pytest.mark.parametrize("n", [4, 40, 99])
@pytest.mark.parametrize("decimals", [1, None])
@pytest.mark.parametrize("level", SENSITIVITY_LEVELS)
def test_sensitivity_threshold__is_the_highest_that_keeps_the_promise_by_trying_all(n, decimals, level):
    scores = np.random.default_rng(n).random(n)
    scores = scores if decimals is None else scores.round(decimals)
    kept = [t for t in scores if (scores >= t).sum() / (n + 1) >= level - 1e-9]
    found = sensitivity_threshold(scores, level)
    if kept:
        assert found == max(kept)
    else:
        assert np.isnan(found)


def test_specificity_threshold__99_percent_needs_99_negatives():
    scores = np.random.default_rng(0).random(99)
    assert specificity_threshold(scores, 0.99) == np.nextafter(scores.max(), np.inf)
    assert np.isnan(specificity_threshold(scores[1:], 0.99))
    assert np.isnan(specificity_threshold(scores[:0], 0.9))


@pytest.mark.parametrize("n", [30, 99, 150])
def test_specificity_threshold__new_negatives_are_called_no_more_often_than_promised(n):
    rng = np.random.default_rng(n)
    for level in (0.9, 0.95):
        thresholds = np.array([specificity_threshold(rng.random(n), level) for _ in range(4000)])
        # Scores are uniform: the share of new negatives below a threshold is the threshold itself.
        realised = thresholds.mean()
        error = 4 * thresholds.std() / np.sqrt(len(thresholds))
        assert level - error <= realised <= level + 1 / (n + 1) + error


# --- all of a study


def test_choose_thresholds__agree_with_scikit_learns_curve_of_each_training_part():
    study, training = trained_study({"one": 1.5, "two": 0.5}, n_patients=150, n_repeats=2)
    found = choose_thresholds(training, *study[1:3], study[4])
    truth = study[1].set_index("sample_id")["label"] == "b"
    assert len(found) == 2 * 6 * 7
    for key, part in training.groupby(["hypothesis", "repeat", "fold"]):
        positive = truth[part["sample_id"]].to_numpy()
        # As the referee reads them: scaled to sum to 1.
        scores = part["p_b"].to_numpy() / part[["p_a", "p_b"]].to_numpy().sum(axis=1)
        false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
        n_negatives, n_positives = (~positive).sum(), positive.sum()
        mine = found[(found[["hypothesis", "repeat", "fold"]] == list(key)).all(axis=1)]
        for row in mine.itertuples():
            called = scores >= row.threshold
            if row.rule == "specificity":
                if (n_negatives + 1) * (1 - row.level) < 1 - 1e-9:
                    assert np.isnan(row.threshold)
                    continue
                # The best point of the curve among those that keep the promise to a new negative.
                allowed = false * n_negatives + 1 <= (n_negatives + 1) * (1 - row.level) + 1e-9
                assert row.sensitivity == pytest.approx(true[allowed].max())
            else:
                enough = true * n_positives >= (n_positives + 1) * row.level - 1e-9
                assert row.specificity == pytest.approx(1 - false[enough].min())
            assert row.specificity == pytest.approx((~called[~positive]).mean())
            assert row.sensitivity == pytest.approx(called[positive].mean())
            assert (row.n_negatives, row.n_positives) == (n_negatives, n_positives)


def test_choose_thresholds__no_label_and_no_prediction_of_a_test_sample_moves_one():
    study, training = trained_study({"one": 1.0}, n_patients=120)
    predictions, samples, splits, _, classes = study
    before = choose_thresholds(training, samples, splits, classes)
    for fold in range(3):
        tested = splits.query("fold == @fold and role == 'test'")["sample_id"]
        flipped = samples.copy()
        inside = flipped["sample_id"].isin(tested)
        flipped.loc[inside, "label"] = np.where(flipped.loc[inside, "label"] == "a", "b", "a")
        after = choose_thresholds(training, flipped, splits, classes)
        mine = [table[table["fold"] == fold] for table in (before, after)]
        pd.testing.assert_frame_equal(*mine)
        others = [table[table["fold"] != fold] for table in (before, after)]
        # A test sample of this fold trains in the others: there its label must count.
        assert not others[0].equals(others[1])
    worse = predictions.assign(p_a=predictions["p_b"], p_b=predictions["p_a"])
    points = [judged((table, *study[1:]), training)[2] for table in (predictions, worse)]
    names = [
        "threshold",
        "threshold_low",
        "threshold_high",
        "train_specificity",
        "train_sensitivity",
        "finest",
    ]
    pd.testing.assert_frame_equal(points[0][names], points[1][names])
    assert points[0]["sensitivity"].mean() > points[1]["sensitivity"].mean() + 0.2


def test_choose_thresholds__missing_and_foreign_training_samples_are_refused():
    study, training = trained_study({"one": 1.0})
    with pytest.raises(InputError, match="no row for"):
        choose_thresholds(training.iloc[1:], *study[1:3], study[4])
    tested = study[2].query("role == 'test'").iloc[0]
    foreign = training.iloc[:1].assign(fold=tested["fold"], sample_id=tested["sample_id"])
    with pytest.raises(InputError, match="not a test sample of that split"):
        choose_thresholds(pd.concat([training, foreign]), *study[1:3], study[4])


def test_operating_points__count_calls_by_hand_over_folds_and_repeats():
    study, training = trained_study({"one": 1.5, "two": 0.7}, n_patients=120, n_repeats=3, samples_each=2)
    outcomes, thresholds, points = judged(study, training)
    for row in points.itertuples():
        if row.remark:
            continue
        chosen = thresholds.query(
            "hypothesis == @row.hypothesis and rule == @row.rule and level == @row.level"
        )
        of_split = chosen.set_index(["repeat", "fold"])["threshold"]
        at = of_split[list(zip(outcomes.repeats, outcomes.folds, strict=True))].to_numpy()
        called = outcomes.probabilities[row.hypothesis][:, 1] >= at
        rates = []
        for repeat in range(3):
            inside = outcomes.repeats == repeat
            positive = outcomes.truth[inside] == 1
            rates.append(((~called[inside])[~positive].mean(), called[inside][positive].mean()))
        assert (row.specificity, row.sensitivity) == pytest.approx(np.mean(rates, axis=0))
        assert (row.threshold, row.n_splits) == (pytest.approx(of_split.mean()), 9)
        assert (row.n_negatives, row.n_positives) == (60, 60)
        for name in ("specificity", "sensitivity"):
            share = getattr(row, name)
            low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
            assert low <= share + 1e-12
            assert high >= share - 1e-12
            hits = round(share * 60)
            exact = binomtest(hits, 60).proportion_ci(0.95, method="exact")
            # Shares of samples of patients fall between whole patients.
            assert getattr(row, f"{name}_exact_low") == pytest.approx(exact.low, abs=0.02)
            assert getattr(row, f"{name}_exact_high") == pytest.approx(exact.high, abs=0.02)


def test_operating_points__what_a_training_part_cannot_show_is_told_and_not_counted():
    study, training = trained_study({"one": 1.0}, n_patients=120)
    _, _, points = judged(study, training)
    row = points.query("rule == 'specificity' and level == 0.99").iloc[0]
    assert row["remark"] == "needs 99 negative training samples; a training part has 40"
    assert np.isnan(row["threshold"])
    assert np.isnan(row["sensitivity"])
    assert row["finest"] == pytest.approx(40 / 41)


def test_operating_points__strata_are_judged_at_the_same_thresholds():
    sheet = {"stage": ["I", "II"] * 60}
    study, training = trained_study({"one": 1.5}, n_patients=120, sheet=sheet)
    _, _, points = judged(study, training, columns=["stage"])
    whole, one, two = (
        points.query("stratum == @s and rule == 'specificity' and level == 0.9").iloc[0]
        for s in ("all", "stage=I", "stage=II")
    )
    assert whole["threshold"] == one["threshold"] == two["threshold"]
    # Labels alternate as stages do: all negatives are of stage I.
    assert (one["n_negatives"], one["n_positives"]) == (60, 0)
    assert one["specificity"] == whole["specificity"]
    assert np.isnan(one["sensitivity"])
    assert two["sensitivity"] == whole["sensitivity"]


def test_operating_points__predictive_values_follow_what_was_realised():
    study, training = trained_study({"one": 1.5}, n_patients=200)
    _, _, points = judged(study, training, prevalence=0.02)
    for row in points[points["remark"] == ""].itertuples():
        expected = predictive_values(row.sensitivity, row.specificity, 0.02)
        np.testing.assert_allclose([row.ppv, row.npv], expected)
        assert row.ppv_low <= row.ppv <= row.ppv_high
        assert row.npv_low <= row.npv <= row.npv_high
    assert judged(study, training)[2]["ppv"].isna().all()


def test_operating_points__bootstrap_intervals_cover_what_fixed_thresholds_do():
    rng = np.random.default_rng(1)
    covered = np.zeros(2)
    n_studies = 150
    for trial in range(n_studies):
        study, training = trained_study({"one": 1.2}, n_patients=80, n_folds=2, seed=trial)
        _, thresholds, points = judged(study, training, n_bootstrap=120)
        row = points.query("rule == 'specificity' and level == 0.9").iloc[0]
        at = thresholds.query("rule == 'specificity' and level == 0.9")["threshold"].to_numpy()
        truth = np.repeat([0, 1], 4000)
        given = noisy_probabilities(truth, 2, 1.2, rng)[:, 1]
        called = np.mean([given >= t for t in at], axis=0)
        real = 1 - called[truth == 0].mean(), called[truth == 1].mean()
        for k, name in enumerate(("specificity", "sensitivity")):
            covered[k] += row[f"{name}_exact_low"] <= real[k] <= row[f"{name}_exact_high"]
    # The exact interval covers 95 % at least; less two and a half standard deviations of 150 trials.
    assert (covered / n_studies >= 0.95 - 2.5 * np.sqrt(0.95 * 0.05 / n_studies)).all()


def test_evaluate_study__has_operating_points_where_training_predictions_are_given():
    study, training = trained_study({"one": 1.0, "two": 0.5, "published": 1.0})
    options = {"n_bootstrap": 50, "n_permutations": 20}
    assert len(evaluate_study(*study, **options)["operating_points"]) == 0
    two = training[training["hypothesis"] != "published"]
    reasons = {"published": "trained elsewhere"}
    points = evaluate_study(*study, training_predictions=two, no_thresholds=reasons, **options)[
        "operating_points"
    ]
    assert points.groupby("hypothesis").size().to_dict() == {"one": 7, "two": 7, "published": 1}
    assert points.set_index("hypothesis").loc["published", "remark"] == "trained elsewhere"


def test_evaluate_study__positive_class_turns_the_points_around():
    study, training = trained_study({"one": 1.0})
    options = {"n_bootstrap": 20, "n_permutations": 20, "training_predictions": training}
    points = [
        evaluate_study(*study, positive=name, **options)["operating_points"].query("rule == 'specificity'")
        for name in ("a", "b")
    ]
    swapped = study[0].assign(p_a=study[0]["p_b"], p_b=study[0]["p_a"])
    turned = study[1].assign(label=study[1]["label"].map({"a": "b", "b": "a"}))
    again = training.assign(p_a=training["p_b"], p_b=training["p_a"])
    mirrored = evaluate_study(
        swapped, turned, *study[2:], positive="b", **options | {"training_predictions": again}
    )["operating_points"].query("rule == 'specificity'")
    assert points[0]["sensitivity"].tolist() == pytest.approx(mirrored["sensitivity"].tolist(), nan_ok=True)
    assert points[0]["sensitivity"].tolist() != pytest.approx(points[1]["sensitivity"].tolist(), nan_ok=True)
