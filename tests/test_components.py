"""Principal components: the same subspace as scikit-learn finds, nothing lost."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from oncoarena.fitting import components
from oncoarena.fitting.components import Components, fit_components


def random_samples(n_samples: int, n_features: int) -> np.ndarray:
    rng = np.random.default_rng(n_samples * 1000 + n_features)
    return (rng.normal(size=(n_samples, n_features)) * np.linspace(3, 1, n_features) + 2.0).astype(np.float32)


@pytest.mark.parametrize(("n_samples", "n_features"), [(13, 101), (40, 7), (9, 9), (2, 5), (6, 1)])
def test_fit_components__scores_equal_sklearn_up_to_sign(n_samples, n_features):
    x = random_samples(n_samples, n_features)
    fitted = fit_components(x)
    rank = min(n_samples - 1, n_features)
    expected = PCA(rank, svd_solver="full").fit_transform(x.astype(np.float64))
    assert fitted.train_scores.shape == (n_samples, rank)
    # float32 means leave an error near 1e-7 of the values.
    np.testing.assert_allclose(np.abs(fitted.train_scores), np.abs(expected), atol=2e-5)


@pytest.mark.parametrize(("n_samples", "n_features"), [(13, 101), (40, 7)])
def test_fit_components__keep_every_distance_between_training_samples(n_samples, n_features):
    x = random_samples(n_samples, n_features).astype(np.float64)
    scores = fit_components(x).train_scores
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(scores @ scores.T, centred @ centred.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n_samples", "n_features"), [(13, 101), (40, 7)])
def test_project__training_samples_land_on_their_scores(n_samples, n_features):
    x = random_samples(n_samples, n_features)
    fitted = fit_components(x)
    np.testing.assert_allclose(fitted.project(x), fitted.train_scores, atol=1e-4)


def test_project__equals_sklearn_on_new_samples():
    x, new = random_samples(12, 60), random_samples(7, 60)
    expected = PCA(11, svd_solver="full").fit(x.astype(np.float64)).transform(new.astype(np.float64))
    np.testing.assert_allclose(np.abs(fit_components(x).project(new)), np.abs(expected), atol=1e-4)


def test_feature_weights__give_the_same_linear_score_as_the_components():
    x, new = random_samples(12, 60), random_samples(7, 60)
    fitted = fit_components(x)
    w = np.random.default_rng(0).normal(size=(11, 3))
    by_feature = (new.astype(np.float64) - fitted.mean) @ fitted.feature_weights(w)
    np.testing.assert_allclose(by_feature, fitted.project(new) @ w, atol=1e-6)


@pytest.mark.parametrize(("n_samples", "n_features"), [(13, 101), (40, 7)])
def test_fit_components__tiles_do_not_change_the_result(n_samples, n_features, monkeypatch):
    x = random_samples(n_samples, n_features)
    whole = fit_components(x)
    monkeypatch.setattr(components, "TILE_VALUES", 3 * n_samples)
    tiled = fit_components(x)
    np.testing.assert_allclose(tiled.train_scores, whole.train_scores, atol=1e-6)
    np.testing.assert_allclose(tiled.project(x), whole.project(x), atol=1e-6)


def test_fit_components__signs_do_not_depend_on_the_library():
    scores = fit_components(random_samples(13, 101)).train_scores
    largest = scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])]
    assert (largest > 0).all()


def test_fit_components__duplicated_samples_add_no_component():
    x = random_samples(5, 30)
    assert fit_components(np.vstack([x, x])).train_scores.shape == (10, 4)


def test_fit_components__samples_that_are_all_alike_have_none():
    fitted = fit_components(np.full((4, 6), 3.25, dtype=np.float32))
    assert fitted.train_scores.shape == (4, 0)
    assert fitted.project(np.zeros((2, 6), np.float32)).shape == (2, 0)
    assert not fitted.feature_weights(np.zeros((0, 3))).any()


def test_components__round_trip_through_arrays_is_exact():
    x = random_samples(12, 60)
    fitted = fit_components(x)
    again = Components.from_arrays(fitted.to_arrays())
    np.testing.assert_array_equal(again.project(x), fitted.project(x))
