"""Cohorts of many samples, compared with landmarks: rows from a scratch file against the same in memory."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from cohorts import grouped_samples, toy_cohort
from oncoarena import mapped
from oncoarena.fitting import tiles
from oncoarena.fitting.kernel_ridge import (
    Landmarks,
    RowKernel,
    deal_landmarks,
    describe_by_landmarks,
    ridge_path,
    sample_weights,
    spread,
)
from oncoarena.hypotheses import patient_similarity
from oncoarena.hypotheses.patient_similarity import Config, fit, load
from oncoarena.kernels.gram import gram
from test_patient_similarity import cohort_with_signal


@pytest.fixture
def data():
    return grouped_samples()


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    """Every array of many values goes to a scratch file, and some samples make a tile."""
    monkeypatch.setattr(mapped, "LARGE_BYTES", 0)
    monkeypatch.setattr(tiles, "ROW_TILE_VALUES", 300)
    monkeypatch.setenv("ONCOARENA_SCRATCH", str(tmp_path / "scratch"))


def fitted(train, config=None):
    return fit(config or Config(), train, None, seed=0, device="cpu")


def mapped_cohort(train, path):
    """The same cohort with its block in a read-only memory map."""
    np.save(path, train.blocks["a"].values)
    return replace(train, blocks={"a": replace(train.blocks["a"], values=np.load(path, mmap_mode="r"))})


@pytest.mark.parametrize("weighting", ["uniform", "balanced"])
def test_ridge_path__landmarks_leave_group_out_equals_refits_on_their_features(data, weighting):
    x, targets, groups = data
    kernel = gram(x, x[::2], kinds=("rbf",), gamma=0.1)[0]
    landmarks = describe_by_landmarks(kernel, np.arange(0, 21, 2))
    weights = sample_weights(targets, weighting)
    for penalty, (coefficients, constant, scores) in zip(
        (0.1, 2.0), ridge_path(landmarks, targets, weights, groups, (0.1, 2.0)), strict=True
    ):
        whole = Ridge(alpha=penalty).fit(landmarks.features, targets, sample_weight=weights)
        mean = weights @ targets / weights.sum()
        np.testing.assert_allclose(
            kernel @ coefficients - constant + mean, whole.predict(landmarks.features), atol=1e-8
        )
        for group in range(9):
            out = groups == group
            refit = Ridge(alpha=penalty).fit(
                landmarks.features[~out], targets[~out], sample_weight=weights[~out]
            )
            mean = weights[~out] @ targets[~out] / weights[~out].sum()
            np.testing.assert_allclose(scores[out], refit.predict(landmarks.features[out]) - mean, atol=1e-8)


@pytest.mark.parametrize("with_relations", [False, True])
def test_ridge_path__every_sample_a_landmark_is_the_exact_path(data, with_relations):
    x, targets, groups = data
    kernel = gram(x, x, kinds=("rbf",), gamma=0.1)[0]
    landmarks = describe_by_landmarks(kernel, np.arange(21))
    relations = x[:, :2] - x[:, :2].mean(axis=0) if with_relations else None
    weights = sample_weights(targets, "balanced")
    both = [ridge_path(k, targets, weights, groups, (0.05, 1.0), relations) for k in (kernel, landmarks)]
    for exact, approximate in zip(*both, strict=True):
        np.testing.assert_allclose(
            kernel @ approximate[0] - approximate[1], kernel @ exact[0] - exact[1], atol=1e-7
        )
        np.testing.assert_allclose(approximate[2], exact[2], atol=1e-7)


def test_deal_landmarks__a_rare_class_keeps_all_its_samples():
    labels = np.r_[np.zeros(500, int), np.full(7, 2)]
    rows = deal_landmarks(labels, 40, np.random.default_rng(0))
    assert len(rows) == len(set(rows)) == 40
    assert (np.diff(rows) > 0).all()
    assert set(np.arange(500, 507)) <= set(rows)
    assert len(deal_landmarks(labels, 1000, np.random.default_rng(0))) == 507


def test_fit__landmarks_predict_like_all_samples_and_are_all_the_model_keeps(tmp_path):
    train, test = cohort_with_signal(90, seed=1), cohort_with_signal(150, seed=2).without_labels()
    config = Config(exact_samples=50, landmarks=45)
    predictor = fitted(train, config)
    assert predictor.train_values["a"].shape == (45, 40)
    exact = fitted(train).predict_proba(test)
    assert np.abs(predictor.predict_proba(test) - exact).mean() < 0.05
    np.testing.assert_array_equal(predictor.predict_proba(test), fitted(train, config).predict_proba(test))
    predictor.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict_proba(test), predictor.predict_proba(test))


def test_describe_by_landmarks__rows_at_a_time_give_the_features_of_the_whole_kernel(data, on_disk):
    x = data[0]
    rbf, linear = gram(x, x[::2], kinds=("rbf", "linear"), gamma=0.1)
    landmarks = np.arange(0, 21, 2)
    lazy = (RowKernel(21, rbf.__getitem__) + RowKernel(21, linear.__getitem__)) / 4.0
    found, expected = (describe_by_landmarks(kernel, landmarks) for kernel in (lazy, (rbf + linear) / 4.0))
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.from_kernel, expected.from_kernel)


def test_spread__of_features_is_that_of_their_kernel(data, on_disk):
    features = data[0] + 3.0
    expected = (features**2).sum(axis=1).mean(), features.var(axis=0).sum()
    np.testing.assert_allclose(spread(features @ features.T), expected)
    landmarks = Landmarks(features.copy(), np.eye(8))
    np.testing.assert_allclose(spread(landmarks), expected)
    landmarks.divide(expected[1])
    assert spread(landmarks)[1] == pytest.approx(1.0)
    np.testing.assert_allclose(landmarks.from_kernel, np.eye(8) * np.sqrt(expected[1]))


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "landmarks"])
@pytest.mark.parametrize("drawn", ["measurements", "sets", "counts"])
def test_fit__from_a_map_in_small_tiles_is_what_memory_gives(tmp_path, monkeypatch, request, exact, drawn):
    train, test = cohort_with_signal(90, seed=1), cohort_with_signal(30, seed=2)
    if drawn != "measurements":
        as_counts = {"sets": lambda x: (x > 0.5).astype(float), "counts": lambda x: np.exp(x).round()}[drawn]
        train, test = (
            toy_cohort(part.labels, {"a": as_counts(part.blocks["a"].values)}, classes=part.classes)
            for part in (train, test)
        )
    config = Config() if exact else Config(exact_samples=50, landmarks=45)
    expected = fitted(train, config)
    request.getfixturevalue("on_disk")
    found = fitted(mapped_cohort(train, tmp_path / "a.npy"), config)
    assert [entry["kernel"] for entry in found.chosen] == [entry["kernel"] for entry in expected.chosen]
    mapped_test = mapped_cohort(test, tmp_path / "test.npy").without_labels()
    np.testing.assert_allclose(
        found.predict_proba(mapped_test), expected.predict_proba(test.without_labels()), atol=1e-8
    )
    del found
    assert list((tmp_path / "scratch").iterdir()) == []


def test_score__candidates_that_are_let_go_early_would_have_had_no_weight(monkeypatch):
    train = cohort_with_signal(90, seed=1, strength=1.0)
    found = fitted(train)
    score = patient_similarity.score
    monkeypatch.setattr(patient_similarity, "score", lambda *arguments: score(*arguments[:-1], 0.0))
    expected = fitted(train)
    for name in ("log_loss", "weight"):
        np.testing.assert_allclose(*([entry[name] for entry in of.chosen] for of in (found, expected)))
