"""Weights of candidates, and the temperature that does not believe a lead by chance."""

import numpy as np
import pytest

from cohorts import toy_cohort
from oncoarena.fitting import kernel_weights
from oncoarena.fitting.kernel_weights import cross_weighted, weigh
from oncoarena.fitting.selection import log_loss
from oncoarena.hypotheses.patient_similarity import Config, fit


@pytest.fixture
def many():
    """Scores of 60 candidates, one of which knows something, on 40 samples of 20 patients in 4 folds."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20) % 2, 2)
    scores = list(rng.normal(size=(60, 40, 2)))
    scores[7] = scores[7] + 2.0 * np.eye(2)[labels]
    groups = np.repeat(np.arange(20), 2)
    return scores, labels, groups, np.zeros((40, 2)), groups % 4


def test_weigh__is_the_share_of_the_likelihood_to_the_power_of_a_half():
    losses = np.array([0.30, 0.32, 0.90])
    likelihood = np.exp(-50 * losses)
    np.testing.assert_allclose(weigh(losses, 50, 0.0), likelihood**0.5 / (likelihood**0.5).sum())
    assert weigh(losses, 50, 1e-3)[2] == 0.0


def test_cross_weighted__a_fold_does_not_know_its_own_labels(many):
    scores, labels, *others, folds = many
    before = cross_weighted(scores, labels, *others, folds, 1e-3)
    changed = np.where(folds == 2, 1 - labels, labels)
    after = cross_weighted(scores, changed, *others, folds, 1e-3)
    np.testing.assert_array_equal(before[folds == 2], after[folds == 2])
    assert (before[folds != 2] != after[folds != 2]).any()


@pytest.mark.parametrize("tile_values", [1, 500])
def test_cross_weighted__does_not_depend_on_the_tiles(many, monkeypatch, tile_values):
    expected = cross_weighted(*many, 1e-3)
    monkeypatch.setattr(kernel_weights, "TILE_VALUES", tile_values)
    np.testing.assert_allclose(cross_weighted(*many, 1e-3), expected, rtol=1e-9)


def noise(n_samples, seed, n_features=200):
    """Two classes, and features of noise that know nothing of them."""
    values = np.random.default_rng(seed).normal(size=(n_samples, n_features))
    return toy_cohort(np.arange(n_samples) % 2, {"a": values}, classes="ab")


def excess_on(test, predictor):
    """Log loss above that of the class frequencies."""
    return log_loss(predictor.predict_proba(test.without_labels()), test.labels) - np.log(2)


def test_fit__on_noise_the_probabilities_stay_near_the_class_frequencies():
    test = noise(400, 100)
    excess = [
        excess_on(test, fit(Config(), noise(100, seed), None, seed=0, device="cpu")) for seed in range(8)
    ]
    # Weights and temperature from the same scores: EXCESS.
    assert np.mean(excess) < 0.015


@pytest.mark.parametrize("n_samples", [40, 100])
def test_fit__batches_with_as_many_of_each_class_do_not_tell_the_left_out_label(n_samples):
    def in_batches(n_samples, seed):
        cohort = noise(n_samples, seed)
        batch = np.repeat([-1.0, 1.0], n_samples // 2)[:, None]
        shift = 2.0 * np.random.default_rng(5).normal(size=(1, 200))
        return toy_cohort(cohort.labels, {"a": cohort.blocks["a"].values + batch * shift}, classes="ab")

    predictor = fit(Config(), in_batches(n_samples, 0), None, seed=0, device="cpu")
    assert min((entry["log_loss"] for entry in predictor.chosen), default=1.0) > 0.5
    assert excess_on(in_batches(400, 1), predictor) < 0.05
