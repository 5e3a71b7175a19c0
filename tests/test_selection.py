"""Inner folds, log loss, temperature and greedy selection against independent answers."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax as scipy_softmax

from cohorts import toy_cohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.selection import (
    TEMPERATURE_BOUNDS,
    fit_temperature,
    fit_temperatures,
    greedy_selection,
    inner_folds,
    log_loss,
    softmax,
    spread_to_classes,
)


def cohort_of(labels, patients=None):
    labels = np.asarray(labels)
    return toy_cohort(labels, {"x": np.zeros((len(labels), 1))}, classes="abcd", patients=patients)


@settings(max_examples=30, deadline=None)
@given(
    patients=st.lists(st.integers(0, 8), min_size=2, max_size=40).filter(lambda p: len(set(p)) > 1),
    n_folds=st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_inner_folds__keep_the_samples_of_a_patient_together(patients, n_folds, seed):
    cohort = cohort_of(np.arange(len(patients)) % 3, [f"p{p}" for p in patients])
    folds = inner_folds(cohort, n_folds, 2, seed)
    assert folds.shape == (2, len(patients))
    for row in folds:
        assert set(row) == set(range(min(n_folds, len(set(patients)))))
        for patient in set(patients):
            assert len(set(row[np.array(patients) == patient])) == 1


def test_inner_folds__are_stratified_and_differ_between_repeats():
    labels = np.repeat([0, 1, 2], [20, 10, 5])
    folds = inner_folds(cohort_of(labels), 5, 3, 0)
    for row in folds:
        for label, expected in ((0, 4), (1, 2), (2, 1)):
            assert (np.bincount(row[labels == label], minlength=5) == expected).all()
    assert not np.array_equal(folds[0], folds[1])


def test_inner_folds__same_seed_same_folds():
    cohort = cohort_of(np.arange(30) % 4)
    np.testing.assert_array_equal(inner_folds(cohort, 5, 2, 7), inner_folds(cohort, 5, 2, 7))
    assert not np.array_equal(inner_folds(cohort, 5, 2, 7), inner_folds(cohort, 5, 2, 8))


def test_inner_folds__refuse_a_single_patient():
    with pytest.raises(NotApplicable, match="at least 2 patients, found 1"):
        inner_folds(cohort_of([0, 1, 1], ["p", "p", "p"]), 5, 1, 0)


def test_softmax__equals_scipy_and_survives_huge_logits():
    logits = np.random.default_rng(0).normal(0, 30, size=(4, 9, 3))
    before = logits.copy()
    np.testing.assert_allclose(softmax(logits), scipy_softmax(logits, axis=-1), rtol=1e-12)
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_array_equal(softmax(np.array([1e6, 0.0, -1e6])), [1.0, 0.0, 0.0])


def test_log_loss__equals_sklearn():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), size=50)
    labels = rng.integers(0, 4, size=50)
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=range(4))
    assert log_loss(probabilities, labels) == pytest.approx(expected, rel=1e-12)


def test_log_loss__a_certain_mistake_is_finite():
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))


def smoothed_loss(log_factor, logits, labels, offset):
    n_samples, n_classes = logits.shape
    targets = np.full((n_samples, n_classes), 1 / (n_samples + n_classes))
    targets[np.arange(n_samples), labels] = (n_samples + 1) / (n_samples + n_classes)
    return -(targets * np.log(scipy_softmax(np.exp(log_factor) * logits + offset, axis=1))).sum()


@pytest.mark.parametrize("strength", [0.3, 1.0, 5.0, 40.0])
@pytest.mark.parametrize("with_offset", [False, True])
def test_fit_temperature__equals_scipy_minimize(strength, with_offset):
    rng = np.random.default_rng(int(strength * 10))
    logits = rng.normal(size=(90, 4))
    labels = (strength * logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    offset = rng.normal(size=4) if with_offset else None
    found = fit_temperature(logits, labels, offset)
    expected = minimize_scalar(
        smoothed_loss,
        bounds=np.log(TEMPERATURE_BOUNDS),
        args=(logits, labels, np.zeros(4) if offset is None else offset),
        method="bounded",
        options={"xatol": 1e-10},
    )
    # The loss is flat at its minimum: scipy, which compares losses, knows the place to about 1e-7.
    assert found == pytest.approx(np.exp(expected.x), rel=1e-5)


def test_fit_temperatures__many_at_once_are_as_one_by_one():
    rng = np.random.default_rng(4)
    labels, offset = rng.integers(0, 3, size=50), rng.normal(size=(50, 3))
    strengths = np.array([0.0, 0.01, 1.0, 30.0, -2.0, 1e5])
    logits = strengths[:, None, None] * (np.eye(3)[labels] + rng.normal(size=(6, 50, 3)))
    one_by_one = [fit_temperature(of, labels, offset) for of in logits]
    np.testing.assert_allclose(fit_temperatures(logits, labels, offset), one_by_one, rtol=1e-9)


def test_fit_temperature__undoes_a_change_of_scale():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(60, 3))
    labels = (2 * logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    assert fit_temperature(logits * 8, labels) == pytest.approx(fit_temperature(logits, labels) / 8)


def test_fit_temperature__without_an_error_is_sure_only_as_far_as_the_number_of_samples_goes():
    for n_samples in (10, 100):
        labels = np.arange(n_samples) % 2
        logits = np.eye(2)[labels]
        probabilities = softmax(fit_temperature(logits, labels) * logits)
        assert probabilities.max() == pytest.approx((n_samples + 1) / (n_samples + 2), rel=1e-6)


def test_fit_temperature__useless_logits_fall_to_the_lower_bound():
    labels = np.arange(30) % 2
    misled = np.eye(2)[1 - labels]
    assert fit_temperature(misled, labels) == pytest.approx(TEMPERATURE_BOUNDS[0], rel=1e-6)
    assert np.isfinite(fit_temperature(np.zeros((30, 2)), labels))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-6, 1.0, 1e4]), n_classes=st.integers(1, 5))
def test_fit_temperature__no_other_factor_does_better(seed, scale, n_classes):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(12, n_classes))
    labels = rng.integers(0, n_classes, size=12)
    found = np.log(fit_temperature(logits, labels))
    low, high = np.log(TEMPERATURE_BOUNDS)
    assert low - 1e-9 <= found <= high + 1e-9
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        losses = [smoothed_loss(t, logits, labels, 0.0) for t in np.linspace(low, high, 50)]
        best = np.nanmin(losses)
        assert smoothed_loss(found, logits, labels, 0.0) <= best + 1e-6 * abs(best)


def members(strengths, n_samples=200, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, size=n_samples)
    truth = np.eye(n_classes)[labels]
    noise = rng.normal(size=(len(strengths), n_samples, n_classes))
    return np.stack([s * truth + e for s, e in zip(strengths, noise, strict=True)]), labels


def test_greedy_selection__weights_are_a_mean_and_beat_the_best_member():
    logits, labels = members([2.0, 1.8, 1.9, 0.1, 0.0])
    weights = greedy_selection(logits, labels, 20)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0)
    together = log_loss(softmax(np.tensordot(weights, logits, axes=1)), labels)
    assert together < min(log_loss(softmax(member), labels) for member in logits)
    assert weights[3:].sum() < 0.2


def test_greedy_selection__a_lone_good_member_is_chosen_alone():
    logits, labels = members([3.0, 0.0, 0.0, 0.0])
    logits[1:] *= 5
    np.testing.assert_array_equal(greedy_selection(logits, labels, 20), [1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("max_members", [1, 2, 5])
def test_greedy_selection__draws_at_most_max_members(max_members):
    logits, labels = members([1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    weights = greedy_selection(logits, labels, max_members)
    draws = weights / weights[weights > 0].min()
    assert np.count_nonzero(weights) <= max_members
    assert draws.sum() <= max_members + 1e-9


def test_greedy_selection__does_not_chase_noise():
    # Forty members without any signal: no mixture may claim to be much better than the mean of a few.
    logits, labels = members([0.0] * 40, n_samples=40)
    weights = greedy_selection(logits * 0.05, labels, 40)
    chosen = log_loss(softmax(np.tensordot(weights, logits * 0.05, axes=1)), labels)
    assert chosen > np.log(3) - 0.05


def test_spread_to_classes__unseen_classes_weigh_half_a_sample():
    found = spread_to_classes(np.array([[0.25, 0.75], [1.0, 0.0]]), np.array([0, 2]), 3, 10)
    unseen = 0.5 / 11.5
    assert found[:, 1] == pytest.approx([unseen, unseen])
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert found[0, 2] / found[0, 0] == pytest.approx(3.0)


def test_spread_to_classes__changes_nothing_when_all_are_present():
    known = np.array([[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(spread_to_classes(known, np.arange(3), 3, 10), known)
