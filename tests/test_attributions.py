"""Contributions of features: they sum to what they explain, and they point at what was planted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad_vec
from sklearn.metrics import roc_auc_score

from cohorts import informative_features, planted_values, toy_block, toy_cohort, untidy_cohort
from oncoarena.fitting.attributions import mean_gradient, over_mean, view_slope
from oncoarena.fitting.keras_members import Selection
from oncoarena.fitting.kernel_attributions import kernel_contributions, path_gradient
from oncoarena.fitting.views import fit_view
from oncoarena.hypotheses import (
    elastic_net,
    genome_neighbours,
    l2_logistic,
    patient_similarity,
    sparse_markers,
    wide_deep,
)
from oncoarena.kernels.gram import KERNELS, from_linear

HEADS = {"penalties": (0.03, 0.003), "deep_units": (4,), "steps": 60, "inner_folds": 3, "inner_repeats": 1}
WIDE = wide_deep.Config(**HEADS, views=("zscore", "rank"), tree_rounds=0)
TRACKS = genome_neighbours.Config(
    **HEADS, sigmas=(0.0, 3.0), views=("zscore", "raw"), channels=3, dilations=(1, 2), windows=4
)
END_TO_END = replace(TRACKS, end_to_end_samples=1, end_to_end_epochs=1, end_to_end_batch=8)
SPARSE = sparse_markers.Config(n_repeats=1, survivors=(8, 64), kept=(0.01, 0.05, 0.2, 1.0))
CASES = {
    "wide": (wide_deep, WIDE),
    "wide and deep": (wide_deep, WIDE),
    "wide and trees": (wide_deep, replace(WIDE, tree_rounds=20)),
    "smoothed": (genome_neighbours, TRACKS),
    "residual": (genome_neighbours, END_TO_END),
    "sparse": (sparse_markers, SPARSE),
    "similarity": (patient_similarity, patient_similarity.Config()),
    "landmarks": (patient_similarity, patient_similarity.Config(exact_samples=20, landmarks=24)),
    "ridge": (l2_logistic, l2_logistic.Config()),
    "elastic net": (elastic_net, elastic_net.Config()),
}
INEXACT = ("wide and deep", "residual")


def give_a_share(wanted):
    """What stands in for the selection out of fold where a test wants certain members: shares by number."""

    def select(oof_logits, *_):
        shares = np.array([float(wanted(number, len(oof_logits))) for number in range(len(oof_logits))])
        shares /= shares.sum()
        return Selection(shares, 1.7 * shares, 1.7, np.zeros(len(shares)), 0.0, 0.0, 0.0)

    return select


# Each view has two wide heads, then a deep one; the end-to-end network comes last.
MEMBERS = {
    "wide": lambda number, n: number % 3 < 2,
    "wide and deep": lambda number, n: True,
    # The last, after those of the views, are the trees.
    "wide and trees": lambda number, n: number % 3 < 2 or number == n - 1,
    # All but the six members of the two unsmoothed tracks and the three of the random network.
    "smoothed": lambda number, n: number % 3 < 2 and 6 <= number < 12,
    "residual": lambda number, n: True,
}


def fit(case, train, seed=0):
    module, config = CASES[case]
    with pytest.MonkeyPatch.context() as patch:
        if case in MEMBERS:
            patch.setattr(module, "select_members", give_a_share(MEMBERS[case]))
        return module.fit(config, train, None, seed=seed, device="cpu")


@pytest.fixture(scope="module")
def fitted():
    """One fit of each case on an untidy cohort: missing values, a constant feature, an absent class."""
    found = {}

    def of(case):
        if case not in found:
            found[case] = fit(case, untidy_cohort("train"))
        return found[case]

    return of


PROBE = untidy_cohort("test").take(np.arange(8)).without_labels()


def total(attribution):
    return sum(part.sum(axis=1, dtype=np.float64) for part in attribution.contributions.values())


def mean_size(predictor, cohort, label=1):
    """Mean absolute contribution of the features of the only block."""
    (part,) = predictor.attribute(cohort.without_labels(), label).contributions.values()
    return np.abs(part).mean(axis=0)


# --- the promises of every attribution ---


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("label", [0, 2, 3])
def test_attribute__contributions_sum_to_the_score_less_its_baseline(case, label, fitted):
    found = fitted(case).attribute(PROBE, label)
    assert found.exact == (case not in INEXACT)
    assert {name: part.shape for name, part in found.contributions.items()} == {
        "expression": (8, 60),
        "coverage": (8, 40),
    }
    assert found.score.shape == found.baseline.shape == (8,)
    gain = found.score - found.baseline
    # float32 contributions; quadrature over a kinked path where not exact.
    tolerance = (1e-4 if found.exact else 1e-2) * max(np.ptp(gain), 1e-6)
    np.testing.assert_allclose(total(found), gain, atol=tolerance)
    np.testing.assert_array_equal(found.baseline, found.baseline[0])


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("ridge", "elastic net")])
def test_attribute__score_is_the_logit_before_calibration_over_the_mean_logit(case, fitted):
    predictor = fitted(case)
    raw, calibrated = predictor.predict_raw(PROBE), predictor.predict_proba(PROBE)
    np.testing.assert_allclose(raw.sum(axis=1), 1.0)
    assert not np.allclose(raw, calibrated)
    # The fourth class has no training sample: sparse markers know three.
    known = 3 if case == "sparse" else 4
    logits = np.log(raw[:, :known])
    for label in (0, known - 1):
        expected = logits[:, label] - logits.mean(axis=1)
        np.testing.assert_allclose(predictor.attribute(PROBE, label).score, expected, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_attribute__feature_that_says_nothing_in_training_contributes_nothing(case, fitted):
    found = fitted(case).attribute(PROBE, 1)
    # The 21st is constant, the 14th has no value.
    silent = found.contributions["coverage"][:, [20, 13]]
    assert not silent.any()
    assert found.contributions["coverage"].any()


@pytest.mark.parametrize("case", CASES)
def test_attribute__sample_alone_gets_what_it_gets_in_a_batch(case, fitted):
    together = fitted(case).attribute(PROBE, 1)
    alone = fitted(case).attribute(PROBE.take(np.array([7])), 1)
    size = max(np.abs(part).max() for part in together.contributions.values())
    for name, part in together.contributions.items():
        np.testing.assert_allclose(alone.contributions[name][0], part[7], atol=1e-5 * size)
    nobody = fitted(case).attribute(PROBE.take(np.arange(0)), 1)
    assert nobody.contributions["coverage"].shape == (0, 40)


@pytest.mark.parametrize("case", CASES)
def test_attribute__loaded_model_says_the_same(case, fitted, tmp_path):
    fitted(case).save(tmp_path)
    loaded = CASES[case][0].load(tmp_path)
    before, after = fitted(case).attribute(PROBE, 1), loaded.attribute(PROBE, 1)
    assert (before.method, before.exact) == (after.method, after.exact)
    np.testing.assert_array_equal(before.score, after.score)
    for name, part in before.contributions.items():
        np.testing.assert_array_equal(part, after.contributions[name])
    if hasattr(loaded, "predict_raw"):
        np.testing.assert_array_equal(fitted(case).predict_raw(PROBE), loaded.predict_raw(PROBE))


@pytest.mark.parametrize("case", ["sparse", "ridge", "elastic net"])
def test_attribute__class_that_the_model_does_not_know_is_not_explained(case, fitted):
    found = fitted(case).attribute(PROBE, 3)
    assert not found.score.any()
    assert not total(found).any()


@pytest.mark.parametrize("case", ["wide and deep", "sparse", "similarity", "ridge"])
def test_attribute__duplicated_features_share(case):
    rng = np.random.default_rng(4)
    labels = np.arange(40) % 2
    values = planted_values(labels, 16, n_informative=4, strength=1.5, rng=rng)
    cohort = toy_cohort(labels, {"e": np.hstack([values, values[:, :4]])}, classes="ab")
    if case == "sparse":
        # A hard gate may cut between twins; those that keep all features do not.
        module, config = sparse_markers, replace(SPARSE, kept=(1.0,), survivors=(20,))
        predictor = module.fit(config, cohort, None, seed=0, device="cpu")
    else:
        predictor = fit(case, cohort)
    (part,) = predictor.attribute(cohort.without_labels(), 1).contributions.values()
    assert part[:, :4].any()
    np.testing.assert_allclose(part[:, 16:], part[:, :4], atol=2e-4 * np.abs(part).max())


# --- planted signals ---


def test_attribute__wide_deep_ranks_the_features_of_an_additive_signal_first():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    values = planted_values(labels, 200, n_informative=30, strength=0.8, rng=rng)
    cohort = toy_cohort(labels, {"e": values}, classes="ab")
    planted = np.isin(np.arange(200), informative_features(200, 30))
    predictor = wide_deep.fit(WIDE, cohort.take(np.arange(80)), None, seed=0, device="cpu")
    assert roc_auc_score(planted, mean_size(predictor, cohort.take(np.arange(80, 120)))) > 0.8


def test_attribute__sparse_markers_name_the_planted_ten():
    rng = np.random.default_rng(1)
    labels = np.arange(140) % 2
    values = planted_values(labels, 500, n_informative=10, strength=1.2, rng=rng)
    cohort = toy_cohort(labels, {"e": values}, classes="ab")
    predictor = sparse_markers.fit(SPARSE, cohort.take(np.arange(100)), None, seed=0, device="cpu")
    size = mean_size(predictor, cohort.take(np.arange(100, 140)))
    leading = set(np.argsort(-size)[:10].tolist())
    assert len(leading & set(informative_features(500, 10).tolist())) >= 9


def test_attribute__genome_neighbours_peak_inside_the_planted_region():
    rng = np.random.default_rng(2)
    labels = np.arange(90) % 2
    values = rng.normal(size=(90, 160))
    values[:, 100:120] += 0.7 * labels[:, None]
    # Columns in any order: contributions are in that of the block, not of the genome.
    shuffled = rng.permutation(160)
    block = toy_block("bins", values, coordinates=True)
    block = replace(
        block,
        values=block.values[:, shuffled],
        features=block.features.iloc[shuffled].reset_index(drop=True),
    )
    cohort = toy_cohort(labels, {"bins": values}, classes="ab")
    cohort = replace(cohort, blocks={"bins": block})
    predictor = genome_neighbours.fit(TRACKS, cohort.take(np.arange(60)), None, seed=0, device="cpu")
    size = mean_size(predictor, cohort.take(np.arange(60, 90)))
    planted = (shuffled >= 100) & (shuffled < 120)
    assert roc_auc_score(planted, size) > 0.8
    assert set(shuffled[np.argsort(-size)[:5]]) <= set(range(98, 122))


def test_attribute__patient_similarity_points_at_the_features_that_make_the_clusters():
    rng = np.random.default_rng(3)
    kind = np.arange(160) % 4
    # Each class is two clusters on opposite sides: no single feature differs between the classes.
    labels = kind % 2
    sides = rng.choice([-1.0, 1.0], size=(2, 20)) * np.repeat(np.eye(2), 10, axis=1)
    values = rng.normal(size=(160, 100))
    values[:, :20] += 1.5 * np.where(kind < 2, 1.0, -1.0)[:, None] * sides[labels]
    cohort = toy_cohort(labels, {"e": values}, classes="ab")
    predictor = patient_similarity.fit(
        patient_similarity.Config(), cohort.take(np.arange(120)), None, seed=0, device="cpu"
    )
    size = mean_size(predictor, cohort.take(np.arange(120, 160)))
    assert roc_auc_score(np.arange(100) < 20, size) > 0.8


# --- the pieces ---


def test_over_mean__is_what_a_class_has_more_than_the_mean_of_those_known():
    logits = np.array([[1.0, 2.0, 6.0]])
    assert over_mean(logits, 2) == [3.0]
    present = np.array([0, 3, 4])
    assert over_mean(logits, 3, present) == [-1.0]
    assert over_mean(logits, 1, present) == [0.0]


def test_mean_gradient__sums_to_the_gain_of_a_smooth_function():
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(1, 5)), rng.normal(size=(6, 5))
    weights = rng.normal(size=(5, 3))
    averaged = mean_gradient(lambda x: np.cos(x @ weights) @ weights.T, start, end)
    gain = np.sin(end @ weights).sum(axis=1) - np.sin(start @ weights).sum()
    np.testing.assert_allclose(((end - start) * averaged).sum(axis=1), gain, rtol=1e-10)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("kind", ["zscore", "raw"])
def test_view_slope__is_the_finite_difference_of_the_view(kind, heavy):
    rng = np.random.default_rng(0)
    train = rng.standard_t(2, size=(60, 7)) if heavy else rng.normal(size=(60, 7))
    train[:, 3] = 1.0
    view = fit_view(train, kind)
    assert view.is_heavy_tailed == heavy
    values, step = rng.normal(size=(5, 7)), 1e-3
    values[0, 0] = 100.0 * np.abs(train).max()  # where the view stops following
    rise = view.transform(values + step).astype(float) - view.transform(values - step)
    np.testing.assert_allclose(view_slope(view, values), rise / (2 * step), atol=2e-3 * view.factor.max())
    assert view_slope(view, values)[0, 0] == 0.0


@pytest.mark.parametrize("kind", ["rbf", "arc_cosine"])
def test_path_gradient__is_the_integral_of_the_gradient(kind):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 6)), rng.normal(size=(5, 6))
    x[1], x[2] = y[1], 1e-6 * x[2]
    gamma, step = 0.3, 1e-5

    def kernel(x):
        return from_linear(x @ y.T, (x**2).sum(1), (y**2).sum(1), kind, gamma)

    def gradient(place):
        moved = [kernel(place * x + step * side * axis) for axis in np.eye(6) for side in (1, -1)]
        return np.stack([up - down for up, down in zip(moved[::2], moved[1::2], strict=True)]) / (2 * step)

    expected, _ = quad_vec(gradient, 1e-4, 1.0, epsabs=1e-7)  # (6, n, m); the arc-cosine has a kink at 0
    own, pair = path_gradient(x @ y.T, (x**2).sum(1), (y**2).sum(1), kind, gamma)
    found = own * x.T[:, :, None] + pair * y.T[:, None, :]
    rows = [0, 1, 3]  # finite differences say nothing of the short one
    np.testing.assert_allclose(found[:, rows], expected[:, rows], atol=1e-3)
    gain = kernel(x) - kernel(np.zeros_like(x))
    np.testing.assert_allclose((found * x.T[:, :, None]).sum(axis=0), gain, atol=1e-9)


@pytest.mark.parametrize("kind", KERNELS)
def test_kernel_contributions__sum_to_the_gain_even_far_from_all_that_is_known(kind):
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(n, 30)).astype(np.float32) for n in (6, 9))
    x[0], x[1], y[2] = 0.0, 1e3 * y[0], 0.0
    coefficients = rng.normal(size=9)
    scaling = {"centre": np.zeros(30), "scale": np.full(30, 0.2)}
    found = kernel_contributions(x, y, {kind: coefficients}, gamma=0.4, **scaling)

    def similarity(x):
        x, z = 0.2 * x.astype(np.float64), 0.2 * y.astype(np.float64)
        return from_linear(x @ z.T, (x**2).sum(1), (z**2).sum(1), kind, 0.4) @ coefficients

    gain = similarity(x) - similarity(np.zeros((1, 30)))
    assert np.isfinite(found).all()
    assert not found[0].any()
    size = np.abs(found).sum(axis=1)
    np.testing.assert_allclose(found.sum(axis=1, dtype=np.float64), gain, atol=1e-5 * size.max(), rtol=1e-5)
