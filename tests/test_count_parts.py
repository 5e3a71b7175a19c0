"""Blocks of sets, counts and shares in patient_similarity: what they offer, how they are prepared and explained."""

import numpy as np
import pytest

from cohorts import toy_cohort
from cuda_process import in_a_process
from oncoarena.fitting.count_parts import (
    CountPart,
    CountView,
    fit_count_view,
    offered_counts,
    read_part,
)
from oncoarena.fitting.kernel_attributions import min_max_contributions
from oncoarena.fitting.selection import log_loss
from oncoarena.hypotheses.patient_similarity import Config, fit, load
from oncoarena.kernels.min_max import min_max
from oncoarena.kernels.tanimoto import tanimoto

GENES = np.random.default_rng(0).random((30, 40)) < 0.2
COUNTS = np.random.default_rng(1).poisson(4.0, (30, 40))
WITH_NAN = np.where(np.random.default_rng(2).random((30, 40)) < 0.1, np.nan, GENES)
SPREAD = COUNTS * 10.0 ** np.linspace(0, 2, 30)[:, None] + 0.25
# One candidate a kernel, so that those of counts carry the model.
ONLY_COUNTS = Config(views=(), weight_floor=0.0, penalties=(0.1, 1.0))
BY_NATURE = Config(views=("zscore",), kernels=("rbf",), weight_floor=0.0, penalties=(0.1, 1.0))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (GENES, ("set",)),
        (WITH_NAN, ("set",)),
        (COUNTS, ("count",)),
        (COUNTS / COUNTS.sum(axis=1, keepdims=True), ("count",)),
        (1e6 * COUNTS / COUNTS.sum(axis=1, keepdims=True), ("count",)),
        (np.rint(SPREAD), ("count", "proportion")),
        (SPREAD, ("proportion",)),
        (np.log2(COUNTS + 1.0), ()),
        (GENES - 0.5, ()),
        (-COUNTS, ()),
        (COUNTS[:, :1], ()),
    ],
)
def test_offered_counts__goes_by_the_nature_of_the_values(values, expected):
    assert offered_counts(values.astype(np.float32)) == expected


def test_fit__only_kernels_of_counts_that_are_asked_for():
    config = Config(**{**vars(ONLY_COUNTS), "count_kernels": ("min_max",)})
    predictor = fit(config, cohort(40, 3), None, seed=0, device="cpu")
    assert {entry["kernel"] for entry in predictor.chosen} == {"min_max"}


def test_prepare__missing_members_are_what_most_training_samples_are():
    nan = np.nan
    train = np.array([[nan, 0, 1, 1], [nan, 1, 1, 0], [nan, 0, 0, nan], [nan, 0, 1, 0]], dtype=np.float32)
    view = fit_count_view(train, "set")
    np.testing.assert_array_equal(view.measured, [False, True, True, True])
    np.testing.assert_array_equal(view.mean, np.float32([0, 1 / 4, 3 / 4, 1 / 3]))
    new = np.array([[1, nan, nan, nan], [1, nan, 0, 1], [nan] * 4], dtype=np.float32)
    expected = np.stack([[0, 0, 1, 0], [0, 0, 0, 1], view.mean])
    np.testing.assert_array_equal(view.prepare(new), expected.astype(np.float32))


def test_prepare__proportions_are_of_what_was_measured_and_never_negative():
    train = np.array([[1, 3, 6], [20, 50, 30], [2, 2, 4]], dtype=np.float32)
    view = fit_count_view(train, "proportion")
    np.testing.assert_allclose(
        view.mean, [(0.1 + 0.2 + 0.25) / 3, (0.3 + 0.5 + 0.25) / 3, 1.4 / 3], rtol=1e-6
    )
    new = np.array([[5, -1, 15], [np.nan, 1, 3], [0, 0, 0], [np.nan] * 3], dtype=np.float32)
    expected = [[0.25, 0, 0.75], [view.mean[0], 0.25, 0.75], [0, 0, 0], view.mean]
    np.testing.assert_allclose(view.prepare(new), expected, rtol=1e-6)


def test_similarities__sets_bit_by_bit_are_those_of_partial_members():
    part = CountPart("genes", fit_count_view(WITH_NAN.astype(np.float32), "set"))
    assert part.kernel == "tanimoto"
    values = WITH_NAN.astype(np.float32)
    sets = part.view.prepare(values)
    values[4] = np.nan
    with_partial = part.view.prepare(values)
    found, others = part.similarities(with_partial, sets, "cpu"), np.arange(30) != 4
    np.testing.assert_array_equal(found[others], tanimoto(sets, sets)[others])
    np.testing.assert_array_equal(found[4], min_max(part.view.mean[None], sets)[0])


def test_read_part__gives_back_what_was_written():
    view = CountView("proportion", np.array([0.25, 0.75]), np.array([True, False]))
    part = CountPart("spectra", view, {"min_max": np.arange(6.0).reshape(3, 2)})
    again = read_part("spectra", part.to_arrays())
    assert (again.block, again.view.kind) == ("spectra", "proportion")
    np.testing.assert_array_equal(again.view.mean, view.mean)
    np.testing.assert_array_equal(again.view.measured, view.measured)
    np.testing.assert_array_equal(again.coefficients["min_max"], part.coefficients["min_max"])


def explain(x, start, y, coefficients, **given):
    x, start, y = np.float32(x), np.float32(start), np.float32(y)
    arguments = x, start, y, min_max(x, y), min_max(start[None], y), coefficients
    return min_max_contributions(*arguments, **given)


def test_min_max_contributions__sum_to_the_gain_also_from_and_to_nothing():
    rng = np.random.default_rng(5)
    x, y, coefficients = rng.gamma(0.5, size=(6, 50)), rng.gamma(0.5, size=(9, 50)), rng.normal(size=9)
    x[0] = y[0] = 0.0
    x[1] = y[1]
    for start in (x.mean(axis=0), np.zeros(50)):
        found = explain(x, start, y, coefficients)
        gain = (min_max(x, y) - min_max(start[None], y)) @ coefficients
        np.testing.assert_allclose(found.sum(axis=1, dtype=np.float64), gain, atol=1e-5)
        assert not found[:, (x == start).all(axis=0)].any()


def test_min_max_contributions__of_two_features_are_their_shapley_values_of_numerator_and_denominator():
    # x = (2, 0), start (1, 1), y = (3, 1): S from 2 to 2 as +1 -1; L from 4 to 4 as 0 and 0.
    np.testing.assert_allclose(explain([[2, 0]], [1, 1], [[3, 1]], np.ones(1)), [[0.25, -0.25]], atol=1e-6)
    # x = (5, 1): S from 2 to 4 by the first (+2); L from 4 to 6 by the first (+2): all of the gain is its own.
    gain = 4 / 6 - 2 / 4
    np.testing.assert_allclose(explain([[5, 1]], [1, 1], [[3, 1]], np.ones(1)), [[gain, 0.0]], atol=1e-6)


def test_min_max_contributions__product_of_matrices_gives_the_same_for_sets():
    y, coefficients = GENES[:20], np.random.default_rng(3).normal(size=20)
    x = np.vstack([GENES[20:], GENES.mean(axis=0)])
    start = GENES.mean(axis=0)
    np.testing.assert_allclose(
        explain(x, start, y, coefficients, compared_are_sets=True),
        explain(x, start, y, coefficients),
        atol=1e-6,
    )


def cohort(n_samples, seed, *, missing=False):
    """Sets and counts that both know the class, and a block of measurements that does a little."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % 2
    genes = (rng.random((n_samples, 60)) < 0.05 + 0.15 * (np.arange(60) // 30 == labels[:, None])).astype(
        float
    )
    shape = 3.0 + 3.0 * (np.arange(24) // 12 == labels[:, None])
    spectra = rng.poisson(rng.gamma(shape) * 10 ** rng.uniform(0, 1.5, (n_samples, 1)))
    blocks = {"genes": genes, "spectra": spectra.astype(float)}
    blocks["expression"] = rng.normal(size=(n_samples, 10)) + 0.3 * labels[:, None]
    if missing:
        genes[rng.random(genes.shape) < 0.03] = np.nan
        for turn, values in enumerate(blocks.values()):
            values[turn::9] = np.nan
    return toy_cohort(labels, blocks, classes="ab")


@pytest.mark.parametrize("config", [ONLY_COUNTS, BY_NATURE], ids=["counts only", "with others"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("landmarks", [False, True])
def test_fit__kernels_of_counts_predict_explain_and_load(config, missing, landmarks, tmp_path):
    if landmarks:
        config = Config(**{**vars(config), "exact_samples": 20, "landmarks": 40})
    train, test = cohort(60, 0, missing=missing), cohort(100, 1, missing=missing)
    predictor = fit(config, train, None, seed=0, device="cpu")
    seen = {(entry["block"], entry["view"], entry["kernel"]) for entry in predictor.chosen}
    own = {
        ("genes", "set", "tanimoto"),
        ("spectra", "count", "min_max"),
        ("spectra", "proportion", "min_max"),
    }
    assert own < seen
    assert ("+", "own") in {(block, view) for block, view, _ in seen}
    probabilities = predictor.predict_proba(test.without_labels())
    assert log_loss(probabilities, test.labels) < 0.5
    alone = [predictor.predict_proba(test.take(np.array([i])))[0] for i in range(4)]
    np.testing.assert_allclose(alone, probabilities[:4], rtol=1e-9)
    explained = predictor.attribute(test.without_labels(), 1)
    total = sum(part.sum(axis=1, dtype=np.float64) for part in explained.contributions.values())
    np.testing.assert_allclose(
        total, explained.score - explained.baseline, atol=1e-5 * np.ptp(explained.score)
    )
    predictor.save(tmp_path)
    loaded = load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(test), probabilities)
    again = loaded.attribute(test, 1)
    for name, contributions in explained.contributions.items():
        np.testing.assert_array_equal(again.contributions[name], contributions)


def test_fit__sum_over_blocks_predicts_what_it_promised():
    # The same sets twice: their sum is the kernel of one block, and must give the same predictions.
    once = cohort(40, 2)
    genes = once.blocks["genes"].values
    both = [
        fit(ONLY_COUNTS, toy_cohort(once.labels, blocks, classes="ab"), None, seed=0, device="cpu")
        for blocks in ({"a": genes}, {"a": genes, "b": genes})
    ]
    twice = toy_cohort(once.labels, {"a": genes, "b": genes}, classes="ab")
    np.testing.assert_allclose(*(predictor.predict_proba(twice) for predictor in both), atol=1e-9)


def test_fit__a_gene_mutated_in_no_training_sample_makes_a_patient_less_like_all_of_them():
    genes = cohort(40, 3).blocks["genes"].values.copy()
    genes[:, 7] = 0.0
    part = CountPart("genes", fit_count_view(genes, "set"))
    train, new = part.view.prepare(genes), genes[:5].copy()
    before = part.similarities(part.view.prepare(new), train, "cpu")
    new[:, 7] = 1.0
    after = part.similarities(part.view.prepare(new), train, "cpu")
    assert (after[before > 0] < before[before > 0]).all()


@pytest.mark.parametrize("values", [np.zeros((12, 5)), np.full((12, 5), np.nan), np.ones((12, 5))])
def test_fit__block_of_counts_that_says_nothing_gives_the_class_frequencies(values):
    train = toy_cohort([0] * 9 + [1] * 3, {"a": values}, classes="ab")
    predictor = fit(ONLY_COUNTS, train, None, seed=0, device="cpu")
    np.testing.assert_allclose(predictor.predict_proba(train)[:, 1], 3.5 / 13)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (BY_NATURE, "compares all 40 training samples with each other (exact up to 1,500"),
        (Config(exact_samples=30, landmarks=20), "compares 40 training samples with 20 of them as landmarks"),
    ],
)
def test_fit__says_which_path_it_takes_and_why(config, expected, capsys):
    fit(config, cohort(40, 3), None, seed=0, device="cpu")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"patient_similarity: {expected}")
    assert "exact_samples" in line


def test_fit__simulated_gpu_gives_the_probabilities_of_the_cpu():
    code = """
import numpy as np
from test_count_parts import ONLY_COUNTS, cohort, fit
train = cohort(8, 0)
on_gpu, on_cpu = (fit(ONLY_COUNTS, train, None, seed=0, device=device) for device in ("cuda", "cpu"))
np.testing.assert_allclose(on_gpu.predict_proba(train), on_cpu.predict_proba(train), atol=1e-5)
"""
    in_a_process(code, simulator=True)
