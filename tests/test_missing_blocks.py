"""Patients of whom a whole block was never measured: the claims train on them and predict for them."""

import numpy as np
import pytest

from cohorts import toy_cohort, with_values
from oncoarena.fitting.selection import log_loss
from oncoarena.hypotheses import genome_neighbours, patient_similarity, sparse_markers, wide_deep

HEADS = {"penalties": (0.03, 0.003), "deep_units": (4,), "steps": 60, "inner_folds": 3, "inner_repeats": 1}
CLAIMS = {
    "wide_deep": (wide_deep, wide_deep.Config(**HEADS)),
    "genome_neighbours": (
        genome_neighbours,
        genome_neighbours.Config(**HEADS, channels=3, dilations=(1, 2), windows=4),
    ),
    "sparse_markers": (
        sparse_markers,
        sparse_markers.Config(n_repeats=1, survivors=(8, 64), kept=(0.05, 0.2, 1.0)),
    ),
    "patient_similarity": (patient_similarity, patient_similarity.Config()),
}


def cohort(n_samples, seed, missing):
    """Two blocks that both know the class; ``missing`` names the samples without each."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % 2
    blocks = {}
    for name, n_features in (("rna", 40), ("counts", 30)):
        values = rng.normal(size=(n_samples, n_features))
        # Neighbours shift together, and few enough of them for every claim to see it.
        values[:, 10:16] += 1.2 * labels[:, None]
        values = rng.poisson(np.exp(1.5 + 0.5 * values)) if name == "counts" else values
        values = values.astype(np.float32)
        values[missing.get(name, slice(0))] = np.nan
        blocks[name] = values
    return toy_cohort(labels, blocks, classes="ab", coordinates=("rna", "counts"))


@pytest.fixture(scope="module")
def fitted():
    # A quarter lacks one block, another quarter the other, regardless of class.
    train = cohort(64, 0, {"rna": np.arange(64) % 8 < 2, "counts": np.arange(64) % 8 >= 6})
    found = {}

    def of(claim):
        if claim not in found:
            module, config = CLAIMS[claim]
            found[claim] = module.fit(config, train, None, seed=0, device="cpu")
        return found[claim]

    return of


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("missing", ["rna", "counts"])
def test_claim__sample_without_a_block_is_told_by_the_other(claim, missing, fitted):
    test = cohort(100, 1, {missing: np.arange(100) >= 0})
    probabilities = fitted(claim).predict_proba(test.without_labels())
    assert np.isfinite(probabilities).all()
    # A coin's log loss is 0.69.
    assert log_loss(probabilities, test.labels) < 0.6
    assert ((probabilities[:, 1] > 0.5) == test.labels).mean() > 0.7


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim__complete_samples_are_told_better_than_those_without_a_block(claim, fitted):
    complete, without = cohort(200, 2, {}), cohort(200, 2, {"rna": np.arange(200) >= 0})
    losses = [
        log_loss(fitted(claim).predict_proba(c.without_labels()), c.labels) for c in (complete, without)
    ]
    assert losses[0] < losses[1]


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim__sample_without_any_block_is_left_undecided(claim, fitted):
    nobody = cohort(3, 3, {"rna": slice(None), "counts": slice(None)})
    probabilities = fitted(claim).predict_proba(nobody.without_labels())
    # Classes of one size, and nothing known: near one half, and the same for all.
    np.testing.assert_allclose(probabilities, probabilities[[0, 0, 0]], atol=1e-6)
    assert 0.15 < probabilities[0, 0] < 0.85


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim__absent_block_contributes_the_same_to_everyone(claim, fitted):
    test = cohort(6, 4, {"rna": slice(None)}).without_labels()
    contributions = fitted(claim).attribute(test, 1).contributions
    assert contributions["counts"].any()
    # Imputed with the medians of training; residual networks look at both blocks together.
    size = np.abs(contributions["counts"]).sum(axis=1).mean()
    assert np.ptp(contributions["rna"].sum(axis=1)) < 0.1 * size


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim__block_that_nobody_has_is_as_if_it_were_not_there(claim):
    train = cohort(40, 5, {"rna": slice(None)})
    module, config = CLAIMS[claim]
    predictor = module.fit(config, train, None, seed=0, device="cpu")
    test = cohort(20, 6, {"rna": slice(None)})
    probabilities = predictor.predict_proba(test.without_labels())
    assert log_loss(probabilities, test.labels) < 0.69
    # A value that comes up later says nothing to a model that has never seen one.
    revived = with_values(test, {"rna": np.ones((20, 40))})
    np.testing.assert_array_equal(predictor.predict_proba(revived.without_labels()), probabilities)
