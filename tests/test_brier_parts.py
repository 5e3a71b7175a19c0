"""The parts of the Brier score add up, agree with the textbook, and their intervals cover."""

import numpy as np
import pytest

from finished_studies import make_outcomes, make_study, noisy_probabilities, plain_outcomes
from oncoarena.referee import metrics
from oncoarena.referee.decomposition import PARTS, brier_parts, brier_rows
from oncoarena.referee.evaluation import evaluate, strata_of_rows
from oncoarena.referee.outcomes import join_outcomes


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_brier_parts__add_up_to_the_score(n_classes):
    rng = np.random.default_rng(n_classes)
    truth = rng.integers(n_classes, size=300)
    probabilities = noisy_probabilities(truth, n_classes, 1.0, rng)
    reliability, resolution, uncertainty = brier_parts(truth, probabilities)
    assert reliability - resolution + uncertainty == pytest.approx(metrics.brier(truth, probabilities))


@pytest.mark.parametrize("n_classes", [2, 4])
def test_brier_parts__agree_with_the_five_terms_of_stephenson(n_classes):
    # Murphy's three terms, and the variance and covariance within bins, each by its own formula.
    rng = np.random.default_rng(n_classes)
    truth = rng.integers(n_classes, size=240)
    probabilities = noisy_probabilities(truth, n_classes, 1.0, rng)
    expected = np.zeros(3)
    for c in [1] if n_classes == 2 else range(n_classes):
        p, y = probabilities[:, c], (truth == c).astype(float)
        bins = metrics.equal_mass_bins(p, metrics.calibration_bin_count(240))
        for k in np.unique(bins):
            inside = bins == k
            share, gap = inside.mean(), p[inside] - p[inside].mean()
            expected[0] += share * (p[inside].mean() - y[inside].mean()) ** 2
            expected[1] += share * (y[inside].mean() - y.mean()) ** 2
            expected[1] -= share * (gap**2).mean() - 2 * share * (gap * (y[inside] - y[inside].mean())).mean()
        expected[2] += y.mean() * (1 - y.mean())
    assert brier_parts(truth, probabilities) == pytest.approx(expected)


def test_brier_parts__class_frequencies_have_no_resolution_and_the_truth_all_of_it():
    truth = np.arange(90) % 3
    assert brier_parts(truth, np.full((90, 3), 1 / 3)) == pytest.approx((0, 0, 2 / 3))
    assert brier_parts(truth, np.eye(3)[truth]) == pytest.approx((0, 2 / 3, 2 / 3))


def test_brier_rows__are_means_over_repeats_with_intervals_that_hold_them():
    outcomes = make_outcomes({"one": 1.0}, n_patients=60, n_repeats=3)
    rows = brier_rows(outcomes, "one", 100, 0)
    by_repeat = [
        brier_parts(
            outcomes.truth[outcomes.repeats == r], outcomes.probabilities["one"][outcomes.repeats == r]
        )
        for r in range(3)
    ]
    assert [rows[name][0] for name in PARTS] == pytest.approx(np.mean(by_repeat, axis=0))
    for name in PARTS[:2]:
        estimate, low, high, _ = rows[name]
        assert 0 <= low <= estimate <= high
    assert np.isnan(rows["brier_uncertainty"][1])


def test_brier_rows__an_estimate_under_zero_belongs_to_its_interval():
    # Probabilities that vary within bins and know nothing: what they gain is noise about less than nothing.
    rng = np.random.default_rng(6)
    truth = np.arange(100) % 2
    outcomes = plain_outcomes(truth, {"one": noisy_probabilities(truth, 2, 0.0, rng)})
    estimate, low, high, _ = brier_rows(outcomes, "one", 200, 0)["brier_resolution"]
    assert estimate < 0
    assert low <= estimate <= high


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_brier_rows__intervals_cover_the_truth(power):
    # A large population in the bins of 400 samples; cohorts of its mix of classes, as resamples have.
    rng = np.random.default_rng(3)
    p = rng.beta(1.0, 2.0, size=400_000)
    truth = (rng.random(len(p)) < p).astype(int)
    q = p**power / (p**power + (1 - p) ** power)
    probabilities = np.column_stack([1 - q, q])
    bins = metrics.equal_mass_bins(q, metrics.calibration_bin_count(400))
    n_inside = np.bincount(bins)
    reliability = (np.bincount(bins, q - truth) ** 2 / n_inside).sum() / len(p)
    uncertainty = truth.mean() * (1 - truth.mean())
    target = {"brier_reliability": reliability}
    target["brier_resolution"] = reliability + uncertainty - metrics.brier(truth, probabilities)
    sides = np.flatnonzero(truth == 0), np.flatnonzero(truth == 1)
    n_positive = round(400 * truth.mean())
    covered = dict.fromkeys(target, 0)
    for seed in range(200):
        rows = np.append(rng.choice(sides[0], 400 - n_positive), rng.choice(sides[1], n_positive))
        found = brier_rows(plain_outcomes(truth[rows], {"one": probabilities[rows]}), "one", 400, seed)
        for name, value in target.items():
            _, low, high, _ = found[name]
            covered[name] += low - 1e-12 <= value <= high
    # 95 % of 200, less three standard deviations.
    assert min(covered.values()) >= 180


def test_evaluate__lists_the_parts_overall_and_by_stratum():
    predictions, samples, splits, _, classes = make_study({"one": 1.0}, sheet={"sex": ["f", "m"] * 30})
    outcomes = join_outcomes(predictions, samples, splits, classes)
    table = evaluate(outcomes, strata_of_rows(outcomes, samples, ["sex"]), 50, 0)
    wide = table.pivot_table(index="stratum", columns="metric", values="estimate")
    assert list(wide.index) == ["all", "sex=f", "sex=m"]
    np.testing.assert_allclose(
        wide["brier_reliability"] - wide["brier_resolution"] + wide["brier_uncertainty"], wide["brier"]
    )
