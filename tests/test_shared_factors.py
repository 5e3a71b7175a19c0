"""Factors that all samples share: how many there are, and similarities without them."""

import numpy as np
import pytest

from cohorts import toy_cohort
from oncoarena.fitting.components import fit_components
from oncoarena.fitting.kernel_attributions import kernel_contributions
from oncoarena.fitting.shared_factors import (
    SharedFactors,
    count_factors,
    fit_shared_factors,
    without_factors,
)
from oncoarena.hypotheses.patient_similarity import Config, fit, load
from oncoarena.kernels.gram import KERNELS, from_linear


def with_factors(rng, n_samples, n_features, n_factors, loadings=None):
    loadings = rng.normal(0, 0.5, (n_factors, n_features)) if loadings is None else loadings
    return rng.normal(size=(n_samples, n_factors)) @ loadings + rng.normal(size=(n_samples, n_features))


def subtypes(rng, n_samples, axes, loadings):
    """Two classes of one mean: three subtypes each, in a plane of their own."""
    labels = np.arange(n_samples) % 2
    corners = 4.0 * np.array([[1, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    of_patient = corners[rng.integers(3, size=n_samples)]
    values = with_factors(rng, n_samples, axes.shape[2], len(loadings), loadings)
    return labels, values + np.einsum("na,nap->np", of_patient, axes[labels])


@pytest.mark.parametrize(("n_samples", "n_features"), [(60, 400), (300, 100)])
@pytest.mark.parametrize("n_factors", [0, 1, 4])
def test_count_factors__finds_those_that_were_planted(n_samples, n_features, n_factors):
    rng = np.random.default_rng(n_factors)
    for _ in range(10):
        x = with_factors(rng, n_samples, n_features, n_factors)
        variances = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2 / n_samples
        assert count_factors(variances, n_samples, n_features) == n_factors


@pytest.mark.parametrize("variances", [[], [0.0, 0.0], [1.0], [3.0, 2.0, 1.0]])
def test_count_factors__few_components_hold_none(variances):
    assert count_factors(np.array(variances), 4, 3) == 0


def test_fit_shared_factors__one_outlying_sample_is_no_factor():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(60, 200))
    x[7] += 20 * rng.normal(size=200)
    x -= x.mean(axis=0)
    variances = np.linalg.eigvalsh(x @ x.T) / 60
    assert count_factors(variances, 60, 200) == 1
    assert fit_shared_factors(x @ x.T, 200) is None


def test_shared_factors__remove_is_a_projection_of_the_samples():
    rng = np.random.default_rng(1)
    train = with_factors(rng, 40, 90, 3)
    train -= train.mean(axis=0)
    new = with_factors(rng, 5, 90, 3)
    _, _, directions = np.linalg.svd(train, full_matrices=False)
    outside = np.eye(90) - directions[:3].T @ directions[:3]

    shared = fit_shared_factors(train @ train.T, 90)
    linear, new_squares, train_squares = shared.remove(new @ train.T, (new**2).sum(1), (train**2).sum(1))
    np.testing.assert_allclose(linear, new @ outside @ train.T, atol=1e-9)
    np.testing.assert_allclose(new_squares, ((new @ outside) ** 2).sum(axis=1))
    np.testing.assert_allclose(train_squares, ((train @ outside) ** 2).sum(axis=1))
    # A sample that is nothing but its factors has no length left.
    _, nothing, _ = shared.remove(directions[:1] @ train.T, np.ones(1), (train**2).sum(1))
    assert nothing == [0.0]


@pytest.mark.parametrize("kind", KERNELS)
def test_kernel_contributions__sum_to_the_gain_without_the_factors(kind):
    rng = np.random.default_rng(2)
    y = with_factors(rng, 40, 60, 2).astype(np.float32)
    y -= y.mean(axis=0)
    x, scale = rng.normal(size=(4, 60)).astype(np.float32), np.full(60, 0.2)
    scaled, compared = 0.2 * x.astype(np.float64), 0.2 * y.astype(np.float64)
    shared = fit_shared_factors(compared @ compared.T, 60)
    coefficients = rng.normal(size=40)
    found = kernel_contributions(
        x, y, {kind: coefficients}, gamma=0.4, centre=np.zeros(60), scale=scale, factors=shared
    )

    def similarity(x):
        squares = (x**2).sum(axis=1), (compared**2).sum(axis=1)
        return from_linear(*shared.remove(x @ compared.T, *squares), kind, 0.4) @ coefficients

    gain = similarity(scaled) - similarity(np.zeros((1, 60)))
    np.testing.assert_allclose(found.sum(axis=1, dtype=np.float64), gain, atol=1e-5, rtol=1e-5)


def test_patient_similarity__tells_subtypes_of_one_mean_apart_once_shared_factors_are_out(tmp_path):
    rng = np.random.default_rng(3)
    axes, loadings = (
        np.linalg.qr(rng.normal(size=(150, 4)))[0].T.reshape(2, 2, 150),
        rng.normal(0, 0.5, (5, 150)),
    )
    labels, values = subtypes(rng, 160, axes, loadings)
    train = toy_cohort(labels, {"a": values}, classes="ab")
    truth, values = subtypes(rng, 200, axes, loadings)
    test = toy_cohort(truth, {"a": values}, classes="ab").without_labels()

    def accuracy(config):
        predictor = fit(config, train, None, seed=0, device="cpu")
        return (predictor.predict_proba(test).argmax(axis=1) == truth).mean(), predictor

    found, predictor = accuracy(Config())
    assert found > 0.8
    assert {entry["kernel"] for entry in predictor.chosen} == {"squared_cosine"}
    assert sum(entry["weight"] for entry in predictor.chosen if entry["less_factors"]) > 0.5
    assert accuracy(Config(kernels=("linear", "cosine", "rbf", "arc_cosine")))[0] < 0.7
    predictor.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict_proba(test), predictor.predict_proba(test))
    explained = predictor.attribute(test, 1)
    total = explained.baseline + explained.contributions["a"].sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(total, explained.score, atol=1e-4)


def test_without_factors__is_the_components_but_those_of_the_factors():
    rng = np.random.default_rng(4)
    x = with_factors(rng, 80, 200, 2)
    x -= x.mean(axis=0)
    x = (x / np.sqrt((x**2).sum(axis=1).mean())).astype(np.float32)  # unit trace
    for max_components in (None, 30):
        components = fit_components(x, max_components)
        rest = without_factors(components, 200)
        np.testing.assert_array_equal(rest.train_scores, components.train_scores[:, 2:])
        np.testing.assert_allclose(rest.project(x), rest.train_scores, atol=1e-5)
    noise = rng.normal(size=(80, 200))
    noise = (noise - noise.mean(axis=0)) / np.sqrt(200)
    assert without_factors(fit_components(noise.astype(np.float32)), 200) is None


@pytest.mark.parametrize(("kind", "share"), [("linear", 1e-9), ("cosine", 1e-9), ("rbf", 0.05)])
def test_relations__samples_less_their_factors_sum_to_nothing_in_the_kernel(kind, share):
    x = with_factors(np.random.default_rng(0), 30, 400, 2)
    x *= np.linspace(0.5, 2.0, 30)[:, None]  # of unequal lengths
    x -= x.mean(axis=0)
    linear = x @ x.T
    factors = fit_shared_factors(linear, 400)
    left, squares, _ = factors.remove(linear, np.diag(linear), np.diag(linear))
    gamma = 0.01 / np.median(squares)
    kernel = from_linear(left, squares, squares, kind, gamma)
    centred = kernel - kernel.mean(axis=0)

    def length(weights):
        return np.linalg.norm(centred @ (weights / np.linalg.norm(weights, axis=0)))

    others = np.random.default_rng(1).normal(size=factors.amounts.shape)
    assert length(factors.relations(kind, squares, gamma)) < share * length(others)


def test_relations__there_are_none_where_a_sample_is_as_its_mirror_image():
    factors = SharedFactors(np.ones((3, 1)), np.ones((3, 1)))
    assert factors.relations("squared_cosine", np.ones(3), 1.0) is None
