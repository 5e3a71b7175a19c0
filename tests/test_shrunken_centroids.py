"""Nearest shrunken centroids against scikit-learn where the two agree, and by hand where they do not."""

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from cohorts import informative_features, planted_values, toy_cohort
from oncoarena.hypotheses import shrunken_centroids
from oncoarena.hypotheses.shrunken_centroids import fit_centroids


def planted(n_samples=60, n_features=80, *, n_classes=3, strength=2.0, seed=0):
    rng = np.random.default_rng(seed)
    # Classes of unequal size.
    labels = np.minimum(np.arange(n_samples) % (n_classes + 1), n_classes - 1)
    return planted_values(labels, n_features, n_informative=6, strength=strength, rng=rng) + 3.0, labels


def fitted(values, labels, **settings):
    cohort = toy_cohort(labels, {"a": values}, classes="abcd"[: labels.max() + 1])
    config = shrunken_centroids.Config(**settings)
    return shrunken_centroids.fit(config, cohort, None, seed=3, device="cpu"), cohort


@pytest.mark.parametrize("threshold", [1e-9, 0.7, 1.5, 3.0])
def test_fit_centroids__equal_those_of_sklearn(threshold):
    x, labels = planted()
    peer = NearestCentroid(shrink_threshold=threshold).fit(x, labels)
    found = fit_centroids(x, labels, 3)
    centroids = found.mean + found.scale * found.shrunken(threshold)
    np.testing.assert_allclose(centroids, peer.centroids_, rtol=1e-10)


@pytest.mark.parametrize("threshold", [1e-9, 1.5])
def test_linear_scores__are_half_the_discriminant_scores_of_sklearn(threshold):
    (x, labels), (new, _) = planted(seed=1), planted(seed=2)
    peer = NearestCentroid(shrink_threshold=threshold, priors="empirical").fit(x, labels)
    found = fit_centroids(x, labels, 3)
    # scikit-learn leaves s0 out of the distances; Tibshirani 2002, equation 6, has it there too.
    peer.within_class_std_dev_ = found.scale
    weights, intercepts = found.linear(threshold)
    scores = new @ weights + intercepts + found.log_priors
    expected = peer.decision_function(new) / 2
    centred = [values - values.mean(axis=1, keepdims=True) for values in (scores, expected)]
    np.testing.assert_allclose(*centred, atol=1e-9)


def test_fit_centroids__by_hand():
    x = np.array([[0.0, 5.0], [2.0, 5.0], [8.0, 5.0], [10.0, 5.0]])
    found = fit_centroids(x, np.array([0, 0, 1, 1]), 2)
    # Within classes sqrt(4 / 2), and as much again for s0: the constant feature has no say in it.
    np.testing.assert_allclose(found.scale, [2 * np.sqrt(2), np.sqrt(2)])
    np.testing.assert_allclose(found.offsets, [[-4 / (2 * np.sqrt(2)), 0], [4 / (2 * np.sqrt(2)), 0]])
    np.testing.assert_allclose(found.errors, np.sqrt(1 / 2 - 1 / 4))
    assert found.largest_threshold == pytest.approx(np.sqrt(2) / 0.5)
    assert found.shrunken(found.largest_threshold).max() == 0.0


def test_fit_centroids__a_class_without_samples_lies_at_the_overall_mean():
    x, labels = planted()
    found = fit_centroids(x, labels, 5)
    np.testing.assert_array_equal(found.offsets[3:], 0.0)
    np.testing.assert_allclose(np.exp(found.log_priors[3:]), 0.5 / 60)
    np.testing.assert_allclose(found.scale, fit_centroids(x, labels, 3).scale)


def test_fit_centroids__survive_a_sample_a_class():
    x = np.arange(6.0).reshape(3, 2)
    found = fit_centroids(x, np.arange(3), 3)
    np.testing.assert_array_equal(found.scale, 1.0)
    weights, intercepts = found.linear(0.0)
    assert ((x @ weights + intercepts).argmax(axis=1) == np.arange(3)).all()


def test_shrunken_centroids__keep_the_planted_features_and_leave_noise_out():
    (values, labels), (new, truth) = planted(120, 200, seed=1), planted(120, 200, seed=2)
    predictor, _ = fitted(values, labels)
    used = np.flatnonzero((predictor.model.coefficients != 0).any(axis=1))
    assert set(informative_features(200, 6)) <= set(used)
    assert len(used) < 60
    cohort = toy_cohort(truth, {"a": new}, classes="abc")
    assert (predictor.predict_proba(cohort).argmax(axis=1) == truth).mean() > 0.9


def test_shrunken_centroids__without_a_signal_say_the_class_frequencies():
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [60, 20])
    predictor, cohort = fitted(rng.standard_normal((80, 40)), labels)
    np.testing.assert_allclose(predictor.predict_proba(cohort).mean(axis=0), [0.75, 0.25], atol=0.06)
    assert predictor.predict_proba(cohort)[:, 1].max() < 0.6


def test_shrunken_centroids__calibration_tempers_what_correlated_features_overstate():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    # One noisy measurement, repeated forty times: forty witnesses that are one.
    values = np.repeat(rng.standard_normal((200, 1)) + labels[:, None], 40, axis=1)
    values += 0.1 * rng.standard_normal(values.shape)
    predictor, cohort = fitted(values, labels)
    raw, calibrated = predictor.predict_raw(cohort), predictor.predict_proba(cohort)
    right = (calibrated.argmax(axis=1) == labels).mean()
    assert predictor.factor < 0.5
    assert calibrated.max(axis=1).mean() == pytest.approx(right, abs=0.06)
    assert raw.max(axis=1).mean() > right + 0.1
