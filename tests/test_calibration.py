"""DeLong, recalibration and overconfidence against their definitions."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from oncoarena.referee.calibration import delong, difference, overconfidence, recalibration

# --- closed forms


def brute_delong_variance(positive, scores):
    order = (scores[positive][:, None] > scores[~positive]) + 0.5 * (
        scores[positive][:, None] == scores[~positive]
    )
    return order.mean(), order.mean(1).var(ddof=1) / len(order) + order.mean(0).var(ddof=1) / order.shape[1]


def test_delong__agrees_with_the_definition_over_all_pairs():
    rng = np.random.default_rng(0)
    positive = np.arange(400) % 3 == 0
    scores = np.round(rng.normal(size=400) + positive, 1)
    found = delong(positive, scores, np.arange(400), 400)
    area, variance = brute_delong_variance(positive, scores)
    assert found.estimate == pytest.approx(area)
    # The factors n / (n - 1) are by class there, over all patients here: under 1 % at this size.
    assert found.standard_error == pytest.approx(np.sqrt(variance), rel=0.01)


def test_delong__a_difference_knows_that_both_saw_the_same_patients():
    rng = np.random.default_rng(0)
    positive = np.arange(200) % 2 == 0
    scores = rng.normal(size=200) + positive
    a = delong(positive, scores, np.arange(200), 200)
    b = delong(positive, scores + 0.1 * rng.normal(size=200), np.arange(200), 200)
    assert difference(a, b).standard_error < a.standard_error / 3
    assert difference(a, a).p_value() == 1
    spread = [
        delong(s[0], s[1], np.arange(200), 200).estimate - delong(s[0], s[2], np.arange(200), 200).estimate
        for s in (
            (positive, x, x + 0.5 * rng.normal(size=200))
            for x in (rng.normal(size=200) + positive for _ in range(300))
        )
    ]
    x = rng.normal(size=200) + positive
    pair = difference(
        delong(positive, x, np.arange(200), 200),
        delong(positive, x + 0.5 * rng.normal(size=200), np.arange(200), 200),
    )
    assert pair.standard_error == pytest.approx(np.std(spread), rel=0.35)


def test_recalibration__agrees_with_logistic_regression():
    rng = np.random.default_rng(3)
    x = rng.normal(size=500)
    positive = rng.random(500) < expit(0.5 + 0.6 * x)
    slope, intercept = recalibration(positive, expit(x), np.arange(500), 500)
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], positive)
    assert slope.estimate == pytest.approx(model.coef_[0, 0], abs=1e-5)
    # In the large: the mean of fitted probabilities is the share of positives.
    assert expit(x + intercept.estimate).mean() == pytest.approx(positive.mean())
    refits = [
        LogisticRegression(C=np.inf).fit(x[rows, None], positive[rows]).coef_[0, 0]
        for rows in rng.integers(500, size=(200, 500))
    ]
    assert slope.standard_error == pytest.approx(np.std(refits), rel=0.2)


def test_recalibration__separated_classes_have_no_slope():
    x = np.append(np.linspace(-3, -1, 10), np.linspace(1, 3, 10))
    slope, _ = recalibration(x > 0, expit(x), np.arange(20), 20)
    assert np.isnan(slope.estimate)


def test_overconfidence__tells_calibrated_from_sharpened():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(4, p=row) for row in p])
    gap, z = overconfidence(truth, p, np.arange(2000), 2000)
    assert abs(z) < 3
    assert abs(gap) < 0.02
    sharp = p**2 / (p**2).sum(axis=1, keepdims=True)
    gap, z = overconfidence(truth, sharp, np.arange(2000), 2000)
    assert gap > 0.05
    assert z > 5
