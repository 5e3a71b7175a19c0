"""The linear support vector machine against scikit-learn's on the features themselves, and by hand."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from cohorts import planted_values, toy_cohort
from oncoarena.hypotheses import linear_svm
from oncoarena.hypotheses.linear_svm import INTERCEPT_SCALING, fit_margins


def planted_cohort(n_samples=60, n_features=90, *, n_classes=3, strength=2.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % n_classes
    values = planted_values(labels, n_features, n_informative=9, strength=strength, rng=rng)
    return toy_cohort(labels, {"a": values}, classes="abcd"[:n_classes])


def fitted(cohort, seed=3, **settings):
    return linear_svm.fit(linear_svm.Config(**settings), cohort, None, seed=seed, device="cpu")


def test_linear_svm__on_components_equals_sklearn_on_z_scores():
    train, test = planted_cohort(seed=1), planted_cohort(seed=2)
    scaler = StandardScaler().fit(train.blocks["a"].values)
    x, new = (scaler.transform(part.blocks["a"].values) / np.sqrt(90) for part in (train, test))
    peer = LinearSVC(C=3.0, dual=False, intercept_scaling=INTERCEPT_SCALING, tol=1e-8).fit(x, train.labels)
    expected = peer.decision_function(new)
    predictor = fitted(train, costs=(3.0,))
    found = predictor.view.transform(test) @ predictor.model.coefficients + predictor.model.intercept
    # Up to the calibration's factor, and to what LIBLINEAR leaves of the optimum at its default tolerance.
    factor = (found * expected).sum() / (expected**2).sum()
    np.testing.assert_allclose(found / factor, expected, atol=0.01)


def test_fit_margins__two_classes_mirror_each_other():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    x = rng.standard_normal((40, 4)) + labels[:, None]
    weights, intercepts = fit_margins(x, labels, 2, 1.0)
    np.testing.assert_array_equal(weights[:, 0], -weights[:, 1])
    assert intercepts[0] == -intercepts[1]
    assert (weights[:, 1] > 0).all()


def test_fit_margins__finds_the_widest_margin_of_two_points():
    # Points at 1 and 3: at a high cost the border is at 2 and the margin is 1.
    weights, intercepts = fit_margins(np.array([[1.0], [3.0]]), np.array([0, 1]), 2, 1e6)
    np.testing.assert_allclose(weights[:, 1], [1.0], atol=0.05)
    np.testing.assert_allclose(intercepts[1], -2.0, atol=0.1)


def test_fit_margins__without_features_or_with_one_class_says_the_frequencies():
    weights, intercepts = fit_margins(np.zeros((4, 0)), np.array([0, 1, 1, 1]), 3, 1.0)
    assert weights.shape == (0, 3)
    np.testing.assert_allclose(intercepts, [-0.5, 0.5, -1.0])
    weights, intercepts = fit_margins(np.ones((3, 2)), np.ones(3, dtype=int), 2, 1.0)
    np.testing.assert_array_equal(weights, 0.0)
    np.testing.assert_allclose(intercepts, [-1.0, 1.0])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_linear_svm__says_the_truth_about_its_certainty(n_classes):
    train = planted_cohort(600, 30, n_classes=n_classes, strength=0.6, seed=1)
    test = planted_cohort(900, 30, n_classes=n_classes, strength=0.6, seed=2)
    probabilities = fitted(train).predict_proba(test)
    right = probabilities.argmax(axis=1) == test.labels
    assert right.mean() > 1.3 / n_classes
    assert probabilities.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.06)


def test_linear_svm__is_certain_of_a_strong_signal_and_of_nothing_in_noise():
    strong, noise = planted_cohort(60, strength=5.0), planted_cohort(60, strength=0.0)
    assert fitted(strong).predict_proba(strong).max(axis=1).mean() > 0.9
    new = planted_cohort(60, strength=0.0, seed=9)
    assert fitted(noise).predict_proba(new).max(axis=1).mean() < 0.5
