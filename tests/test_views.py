"""Views: what is fitted on the training part, and only there."""

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.preprocessing import StandardScaler

from cohorts import toy_cohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting import tiles
from oncoarena.fitting.views import (
    VIEW_KINDS,
    JoinedView,
    View,
    fit_joined_view,
    fit_view,
    offered_kinds,
    offers_shares,
)


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.normal(5.0, np.linspace(0.1, 4.0, 17), size=(23, 17)).astype(np.float32)


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_fit_view__training_part_has_mean_zero_and_unit_trace(values, kind):
    x = fit_view(values, kind).transform(values)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-6)
    assert np.cov(x.T, ddof=0).trace() == pytest.approx(1.0, rel=1e-5)


def test_fit_view__zscore_equals_sklearn(values):
    expected = StandardScaler().fit_transform(values) / np.sqrt(values.shape[1])
    np.testing.assert_allclose(fit_view(values, "zscore").transform(values), expected, atol=1e-5)


def test_fit_view__raw_keeps_relations_between_features(values):
    x = fit_view(values, "raw").transform(values)
    ratio = x.std(axis=0) / values.std(axis=0)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_fit_view__rank_equals_scipy_ranks_of_each_sample(values):
    ranks = rankdata(values, axis=1)
    centred = ranks - ranks.mean(axis=0)
    expected = centred / np.sqrt((centred**2).sum(axis=1).mean())
    np.testing.assert_allclose(fit_view(values, "rank").transform(values), expected, atol=1e-6)


def test_fit_view__ties_share_their_mean_rank():
    counts = np.random.default_rng(0).poisson(1.0, size=(12, 30))
    ranks = rankdata(counts, axis=1)
    centred = ranks - ranks.mean(axis=0)
    expected = centred / np.sqrt((centred**2).sum(axis=1).mean())
    np.testing.assert_allclose(fit_view(counts, "rank").transform(counts), expected, atol=1e-6)


def test_fit_view__rank_ignores_a_monotone_change_of_a_sample(values):
    view = fit_view(values, "rank")
    np.testing.assert_array_equal(view.transform(np.exp(values / 4)), view.transform(values))


@pytest.fixture
def counts() -> np.ndarray:
    rng = np.random.default_rng(7)
    composition = rng.dirichlet(np.full(12, 3.0), size=40)
    return rng.poisson(composition * 10 ** rng.uniform(2, 5, size=(40, 1))).astype(np.float32)


def test_fit_view__share_is_the_centred_root_of_the_share_of_a_sample(counts):
    root = np.sqrt(counts / counts.sum(axis=1, keepdims=True, dtype=np.float64))
    centred = root - root.mean(axis=0)
    expected = centred / np.sqrt((centred**2).sum(axis=1).mean())
    np.testing.assert_allclose(fit_view(counts, "share").transform(counts), expected, atol=1e-6)


def test_fit_view__share_ignores_the_total_of_a_sample(counts):
    view = fit_view(counts, "share")
    np.testing.assert_allclose(view.transform(counts * 1000), view.transform(counts), atol=1e-6)


def test_fit_view__share_divides_by_what_was_found_and_survives_an_empty_sample(counts):
    view = fit_view(counts, "share")
    some, new = counts[:3].copy(), counts[:3].copy()
    some[0, 4] = np.nan
    new[1], new[2] = 0.0, np.nan
    found = np.delete(counts[0], 4) / np.delete(counts[0], 4).sum(dtype=np.float64)
    expected = np.insert(np.sqrt(found), 4, np.median(np.sqrt(counts / counts.sum(axis=1)[:, None])[:, 4]))
    np.testing.assert_allclose(view.prepare(some)[0], expected, atol=1e-6)
    assert np.isfinite(view.transform(new)).all()
    np.testing.assert_array_equal(view.prepare(new)[2], view.mean)


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_fit_view__sample_without_any_value_is_left_out_and_lies_at_the_mean(counts, kind):
    absent = np.full_like(counts[:1], np.nan)
    alone, beside = fit_view(counts, kind), fit_view(np.vstack([absent, counts, absent]), kind)
    np.testing.assert_array_equal(beside.mean, alone.mean)
    np.testing.assert_array_equal(beside.median, alone.median)
    transformed = beside.transform(np.vstack([counts, absent]))
    assert not transformed[-1].any()
    # Once prepared it is exactly at the mean too: a cosine of rounding errors would have length 1.
    assert not (beside.prepare(absent) - beside.mean).any()
    # Unit trace over all samples, those without a value included.
    scale = np.sqrt((len(counts) + 2) / len(counts))
    np.testing.assert_allclose(transformed[:-1], scale * alone.transform(counts), rtol=1e-5, atol=1e-7)


def test_offers_shares__samples_without_a_value_have_no_total(counts):
    even = np.round(1000 * counts / counts.sum(axis=1, keepdims=True))
    assert not offers_shares(even)
    assert not offers_shares(np.vstack([even, np.full((len(even), even.shape[1]), np.nan)]))


def test_offers_shares__only_counts_whose_totals_differ(counts):
    assert offers_shares(counts)
    missing = counts.copy()
    missing[0, 0] = np.nan
    assert offers_shares(missing)
    assert not offers_shares(counts / counts.sum(axis=1, keepdims=True))
    assert not offers_shares(np.where(counts > counts.min(), counts, -1.0))
    assert not offers_shares(counts[:, :1])
    assert not offers_shares(np.zeros((5, 0)))


def test_fit_joined_view__a_block_without_shares_is_z_scored_beside_shares(counts):
    normal = np.random.default_rng(0).normal(size=(40, 5))
    cohort = toy_cohort(np.arange(40) % 2, {"counts": counts, "normal": normal}, classes=("a", "b"))
    assert offered_kinds(cohort, ("raw", "share")) == ("raw", "share")
    joined = fit_joined_view(cohort, "share")
    assert [view.kind for view in joined.views] == ["share", "zscore"]
    without = toy_cohort(cohort.labels, {"normal": normal}, classes=("a", "b"))
    assert offered_kinds(without, ("raw", "share")) == ("raw",)


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_transform__a_sample_does_not_depend_on_the_others(values, kind):
    view = fit_view(values[:15], kind)
    together = view.transform(values)
    alone = np.vstack([view.transform(values[i : i + 1]) for i in range(len(values))])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_view__tiles_do_not_change_the_result(values, kind, monkeypatch):
    whole = fit_view(values, kind).transform(values)
    # One feature, or one sample, a tile.
    monkeypatch.setattr(tiles, "TILE_VALUES", 5)
    np.testing.assert_allclose(fit_view(values, kind).transform(values), whole, atol=1e-7)


def test_transform__a_feature_that_hardly_moved_in_training_cannot_run_away(values):
    # Almost constant: without a limit the z-score of a new value of 50 would be several hundred.
    values[:, 3] = np.linspace(0.0, 1e-3, len(values))
    values[7, 3] = 0.5
    view = fit_view(values, "zscore")
    trained = view.transform(values)
    new = np.repeat(values[:1], 2, axis=0)
    new[:, 3] = [50.0, -50.0]
    seen = np.ptp(trained, axis=0)
    beyond = np.maximum(view.transform(new) - trained.max(axis=0), trained.min(axis=0) - view.transform(new))
    assert (beyond <= 0.5 * seen + 1e-6).all()


def test_transform__a_little_beyond_the_training_range_stays_as_it_is(values):
    view = fit_view(values, "raw")
    new = values.max(axis=0, keepdims=True) + 0.2 * np.ptp(values, axis=0)
    np.testing.assert_allclose(view.prepare(new), new, rtol=1e-6)


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_fit_view__constant_and_empty_features_are_zero_for_every_sample(values, kind):
    values = values.copy()
    values[:, 3] = 1e4
    values[:, 8] = np.nan
    view = fit_view(values, kind)
    new = values[:4] + 1.0
    new[:, 8] = 7.0
    for x in (view.transform(values), view.transform(new)):
        assert np.isfinite(x).all()
        assert not x[:, [3, 8]].any()


def test_fit_view__all_constant_gives_zeros_not_a_division_by_zero():
    constant = np.full((5, 4), 2.5)
    for kind in VIEW_KINDS:
        assert not fit_view(constant, kind).transform(constant + 1).any()


def test_transform__missing_value_stands_at_the_training_median(values):
    view = fit_view(values, "raw")
    filled, missing = values[:6].copy(), values[:6].copy()
    filled[2, 4] = np.median(values[:, 4])
    missing[2, 4] = np.nan
    np.testing.assert_allclose(view.transform(missing), view.transform(filled), atol=1e-7)


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_transform__leaves_a_read_only_block_alone(values, kind):
    values[0, 0] = np.nan
    values.flags.writeable = False
    before = values.copy()
    view = fit_view(values, kind)
    view.transform(values)
    view.prepare(values)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("n_samples", [20, 60, 300])
def test_fit_view__asinh_stays_away_from_gaussian_features(n_samples):
    rng = np.random.default_rng(n_samples)
    assert not fit_view(rng.normal(3.0, 2.0, size=(n_samples, 200)), "raw").is_heavy_tailed


@pytest.mark.parametrize("n_samples", [40, 60, 300])
def test_fit_view__asinh_fires_on_counts_with_a_long_tail(n_samples):
    rng = np.random.default_rng(n_samples)
    counts = rng.poisson(np.exp(rng.normal(2.0, 2.0, size=(n_samples, 200))))
    view = fit_view(counts, "zscore")
    assert view.is_heavy_tailed
    # The tail is drawn in, the order of samples within a feature is kept.
    x = view.transform(counts)
    standard = (counts - counts.mean(axis=0)) / counts.std(axis=0)
    assert np.abs(x).max() * np.sqrt(200) < np.abs(standard).max()
    np.testing.assert_array_equal(rankdata(x, axis=0), rankdata(counts.astype(np.float32), axis=0))


def test_prepare__centre_and_scale_give_transform():
    rng = np.random.default_rng(4)
    heavy = rng.standard_t(1.5, size=(50, 30))
    for kind in VIEW_KINDS:
        view = fit_view(heavy, kind)
        np.testing.assert_allclose(
            (view.prepare(heavy) - view.mean) * view.factor, view.transform(heavy), atol=1e-6
        )


@settings(max_examples=40, deadline=None)
@given(
    values=npst.arrays(
        np.float32,
        st.tuples(st.integers(1, 7), st.integers(1, 6)),
        elements=st.floats(-1e6, 1e6, width=32) | st.just(np.nan),
    ),
    kind=st.sampled_from(VIEW_KINDS),
)
def test_fit_view__any_block_gives_finite_values_and_at_most_unit_trace(values, kind):
    x = fit_view(values, kind).transform(values)
    assert np.isfinite(x).all()
    trace = float((x.astype(np.float64) ** 2).sum() / len(x))
    assert trace == pytest.approx(1.0, rel=1e-3) or not x.any()


def test_view__round_trip_through_arrays_is_exact(values):
    view = fit_view(values, "zscore")
    again = View.from_arrays(view.to_arrays())
    np.testing.assert_array_equal(again.transform(values), view.transform(values))


def test_fit_view__says_what_is_wrong(values):
    with pytest.raises(ValueError, match="unknown view 'log'"):
        fit_view(values, "log")
    with pytest.raises(ValueError, match="at least one training sample"):
        fit_view(values[:0], "raw")
    with pytest.raises(ValueError, match="fitted on 17 features, found 16"):
        fit_view(values, "raw").transform(values[:, 1:])


@pytest.fixture
def joined_cohort(values):
    wide = np.random.default_rng(2).normal(size=(23, 90))
    return toy_cohort(np.arange(23) % 2, {"narrow": values, "wide": wide}, classes=("a", "b"))


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_fit_joined_view__blocks_have_equal_trace_whatever_their_width(joined_cohort, kind):
    view = fit_joined_view(joined_cohort, kind)
    x = view.transform(joined_cohort)
    assert x.shape == (23, 107)
    for columns in view.block_slices().values():
        assert float((x[:, columns] ** 2).sum() / 23) == pytest.approx(0.5, rel=1e-5)


def test_fit_joined_view__names_follow_the_blocks_asked_for(joined_cohort):
    view = fit_joined_view(joined_cohort, "raw", ["wide", "narrow"])
    assert view.feature_names[0] == "wide:wide_0"
    assert view.feature_names[-1] == "narrow:narrow_16"
    assert view.block_slices() == {"wide": slice(0, 90), "narrow": slice(90, 107)}


def test_fit_joined_view__a_constant_block_leaves_its_share_to_the_others(joined_cohort, values):
    cohort = toy_cohort(np.zeros(23, int), {"flat": np.ones((23, 3)), "narrow": values}, classes=("a",))
    x = fit_joined_view(cohort, "zscore").transform(cohort)
    assert float((x**2).sum() / 23) == pytest.approx(1.0, rel=1e-5)


def test_joined_view__round_trip_through_a_file_is_exact(joined_cohort, tmp_path):
    view = fit_joined_view(joined_cohort, "rank")
    np.savez(tmp_path / "view.npz", **view.to_arrays())
    with np.load(tmp_path / "view.npz", allow_pickle=False) as arrays:
        again = JoinedView.from_arrays(dict(arrays))
    np.testing.assert_array_equal(again.transform(joined_cohort), view.transform(joined_cohort))
    np.testing.assert_array_equal(again.feature_names, view.feature_names)


def test_fit_joined_view__refuses_a_block_that_is_not_there(joined_cohort):
    with pytest.raises(NotApplicable, match="needs block methylation; this cohort has narrow, wide"):
        fit_joined_view(joined_cohort, "raw", ["methylation"])
    with pytest.raises(NotApplicable, match="at least one block"):
        fit_joined_view(toy_cohort([0, 1], {}, classes=("a", "b")), "raw")
