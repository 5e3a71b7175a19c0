"""The order of the one-way F statistic, by which features are screened."""

import numpy as np
import pytest
from sklearn.feature_selection import f_classif

from oncoarena.fitting import f_screening
from oncoarena.fitting.f_screening import largest, variance_between


@pytest.mark.parametrize("tile_values", [1, 100, f_screening.TILE_VALUES])
def test_variance_between__is_the_share_that_makes_f(monkeypatch, tile_values):
    monkeypatch.setattr(f_screening, "TILE_VALUES", tile_values)
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(40, 30)) + 50.0, rng.integers(0, 3, size=40)
    x[:, 7] += labels
    rows = np.flatnonzero(np.arange(40) % 4)
    share = variance_between(x, rows, labels[rows])
    # F is the ratio of the mean squares between 3 classes and within them.
    expected = (share / 2) / ((1 - share) / (len(rows) - 3))
    np.testing.assert_allclose(expected, f_classif(x[rows], labels[rows])[0])


def test_variance_between__what_does_not_vary_is_last():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(30, 5)), rng.integers(0, 3, size=30)
    x[:, 1], x[:, 3] = 7.0, np.nan
    share = variance_between(x, np.arange(30), labels)
    np.testing.assert_array_equal(share[[1, 3]], -1.0)
    assert (share[[0, 2, 4]] >= 0).all()


def test_largest__ties_go_to_the_first_and_more_than_there_are_is_all():
    share = np.array([0.1, 0.5, 0.3, 0.5, 0.3])
    np.testing.assert_array_equal(largest(share, 3), [1, 2, 3])
    np.testing.assert_array_equal(largest(share, 9), np.arange(5))
