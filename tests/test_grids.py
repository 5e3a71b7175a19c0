"""Blocks on common bins of the genome, smoothed there, and what the residual network gets of them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from cohorts import toy_block, toy_cohort
from oncoarena.cohort import feature_table
from oncoarena.fitting.genome_scales import name_sum
from oncoarena.fitting.grids import (
    Grid,
    common_bin_bp,
    fit_grid,
    fit_joint_grids,
    grid_of_features,
    spacing_bp,
)
from oncoarena.fitting.residual_tracks import ResidualConfig, ResidualTracks
from oncoarena.fitting.smoothing import SmoothedView, smooth
from oncoarena.fitting.tracks import Track, fit_track
from oncoarena.fitting.views import fit_joined_view

SIZES = {"chr1": 30_000_000, "chr2": 12_000_000}


def tiled(bin_bp, sizes=SIZES):
    """Bins of one length, the last of a chromosome shorter."""
    places = [
        (name, at, min(at + bin_bp, size)) for name, size in sizes.items() for at in range(0, size, bin_bp)
    ]
    chrom, start, end = map(list, zip(*places, strict=True))
    return feature_table([f"{bin_bp}_{i}" for i in range(len(places))], chrom, start, end)


def scattered(rng, n, sizes=SIZES):
    """Genes anywhere, of any length."""
    chrom = rng.choice(list(sizes), n)
    start = (rng.random(n) * [sizes[name] - 200_000 for name in chrom]).astype(np.int64)
    ends = start + rng.integers(1, 200_000, n)
    return feature_table([f"g{i}" for i in range(n)], chrom.tolist(), start.tolist(), ends.tolist())


def cohort_of(tables, n_samples=6, seed=0, values=None):
    """A cohort whose blocks have these features; None for features without coordinates."""
    rng = np.random.default_rng(seed)
    blocks = {}
    for name, table in tables.items():
        x = (
            rng.normal(size=(n_samples, 9 if table is None else len(table)))
            if values is None
            else values[name]
        )
        block = toy_block(name, x)
        blocks[name] = block if table is None else replace(block, features=table)
    return replace(toy_cohort(np.arange(n_samples) % 2, {}, classes="ab"), blocks=blocks)


def grid_of(cohort, max_bins=2048):
    view = fit_joined_view(cohort, "zscore")
    placed = [name for name, block in cohort.blocks.items() if block.has_coordinates]
    return fit_grid(cohort, view.block_slices(), fit_track(cohort, view), placed, max_bins)


# --- which bins ---


def test_common_bin_bp__is_that_of_the_finest_block_where_there_are_few_bins():
    assert common_bin_bp([tiled(100_000), tiled(5_000_000), tiled(1_000_000)], 2048) == 100_000


def test_common_bin_bp__joins_whole_bins_of_the_finest_block_where_there_are_many():
    # 420 bins of 100 kb: joined two by two, and again.
    assert common_bin_bp([tiled(100_000), tiled(5_000_000)], 250) == 200_000
    assert common_bin_bp([tiled(100_000), tiled(5_000_000)], 110) == 400_000


def test_common_bin_bp__halves_regular_bins_rather_than_follow_scattered_genes():
    genes = scattered(np.random.default_rng(0), 100)
    spacing = spacing_bp(genes)
    assert 100_000 < spacing < 600_000
    found = common_bin_bp([tiled(5_000_000), genes], 2048)
    assert 5_000_000 / found in (8, 16, 32)
    assert spacing <= found < 2 * spacing


def test_common_bin_bp__bins_that_nothing_touches_do_not_count():
    # A panel: 40 places of 1 kb in 200 Mb.
    starts = [number * 5_000_000 + step * 1000 for number in range(10) for step in range(4)]
    panel = feature_table([str(s) for s in starts], ["chr1"] * 40, starts, [start + 1000 for start in starts])
    assert common_bin_bp([panel, panel], 50) == 1000


# --- what a bin gets ---


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(5, 200))
def test_fit_grid__bins_are_means_weighted_by_overlap(seed, max_bins):
    rng = np.random.default_rng(seed)
    tables = {"genes": scattered(rng, 20), "ratios": tiled(5_000_000), "probes": scattered(rng, 7)}
    grid = grid_of(cohort_of(tables), max_bins)
    n_features = sum(map(len, tables.values()))
    found = grid.combine(np.eye(n_features, dtype=np.float32))  # (features, places, channels)
    step = grid.bin_bp
    bins = [(chrom, at, at + step) for chrom, size in SIZES.items() for at in range(0, size, step)]
    rows = [(channel, row) for channel, table in enumerate(tables.values()) for row in table.itertuples()]
    overlap = np.array(
        [[max(0, min(r.end, e) - max(r.start, s)) * (r.chrom == c) for c, s, e in bins] for _, r in rows]
    )
    touched = overlap.any(axis=0)
    for channel, table in enumerate(tables.values()):
        own = overlap * np.array([[of == channel] for of, _ in rows])
        shares = own / np.maximum(own.sum(axis=0), 1)
        # Each of three blocks has a third of a joined view's variance.
        np.testing.assert_allclose(
            found[:, :, channel], (shares * np.sqrt(3 * len(table)))[:, touched], rtol=1e-5
        )
    n_of_chromosome = [
        sum(c == chrom for (c, _, _), t in zip(bins, touched, strict=True) if t) for chrom in SIZES
    ]
    assert np.diff(grid.bounds).tolist() == n_of_chromosome
    assert touched.sum() <= max(max_bins, 42)


def test_fit_grid__features_without_an_end_are_one_base():
    points = feature_table(["a", "b", "c"], ["chr1"] * 3, [99, 100, 250], [-1, -1, -1])
    grid = grid_of(cohort_of({"points": points, "bins": tiled(100, {"chr1": 300})}))
    assert grid.bin_bp == 100
    found = grid.combine(np.eye(6, dtype=np.float32))[:3, :, 0] / np.sqrt(6)
    np.testing.assert_allclose(found, np.eye(3), rtol=1e-6)


def test_fit_grid__unplaced_block_has_its_own_stretch_and_channel():
    cohort = cohort_of({"a": tiled(1_000_000), "rna": None, "b": tiled(5_000_000)})
    grid = grid_of(cohort)
    assert (grid.n_bins, grid.n_places, grid.n_channels) == (42, 42 + 9, 3)
    assert grid.bounds.tolist() == [0, 30, 42, 51]
    x = np.zeros((1, 42 + 9 + 9), np.float32)
    x[0, 42:51] = np.arange(1, 10)
    found = grid.combine(x)[0]
    assert sorted(found[42:, 1] / np.sqrt(27)) == pytest.approx(range(1, 10))
    assert not found[:42].any()
    assert not found[42:, [0, 2]].any()


def test_fit_grid__one_block_of_coordinates_keeps_means_of_neighbours():
    track = Track(np.arange(9)[::-1], np.array([0, 7, 9]), False)
    cohort = cohort_of({"only": tiled(1_000_000, {"chr1": 7_000_000, "chr2": 2_000_000})})
    grid = fit_grid(cohort, {"only": slice(0, 9)}, track, ["only"], max_bins=4)
    x = np.arange(9, dtype=np.float32)[None, ::-1]
    # The root of nine features is the scale of a view of unit trace.
    assert grid.combine(x)[0, :, 0] / 3 == pytest.approx([1.0, 4.0, 6.0, 7.5])
    assert grid.bin_bp == 0


@pytest.mark.parametrize("max_bins", [7, 2048])
def test_spread__is_the_transpose_of_combine(max_bins):
    grid = grid_of(cohort_of({"a": tiled(1_000_000), "rna": None, "b": tiled(5_000_000)}), max_bins)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 60)).astype(np.float32)
    towards = rng.normal(size=(3, grid.n_places, 3))
    products = (grid.combine(x) * towards).sum(), (x * grid.spread(towards)).sum()
    np.testing.assert_allclose(*products, rtol=1e-5)


def test_residual_tracks__spread_is_the_transpose_of_bins_and_mirrors():
    grid = grid_of(cohort_of({"a": tiled(1_000_000), "rna": None, "b": tiled(5_000_000)}))
    tracks = ResidualTracks(ResidualConfig(dilations=(1, 2)), grid)
    rng = np.random.default_rng(0)
    views = [rng.normal(size=(3, 60)).astype(np.float32) for _ in range(2)]
    prepared = tracks.prepare(tracks.bins(views))
    assert prepared.shape == (3, len(tracks.places), 6)
    towards = rng.normal(size=prepared.shape)
    spread = tracks.spread(towards)
    total = sum((x * gradient).sum() for x, gradient in zip(views, spread, strict=True))
    np.testing.assert_allclose(total, (towards * prepared).sum(), rtol=1e-5)


# --- the sum of blocks ---


def _common_profile(sign, n_samples=40):
    """Two blocks of 1 Mb and of 3 Mb that follow the same profile along the genome, and noise of their own."""
    rng = np.random.default_rng(1)
    fine, coarse = tiled(1_000_000), tiled(3_000_000)
    profile = gaussian_filter1d(rng.normal(size=(n_samples, 42)), 4.0, axis=1) * 4
    of_coarse = profile.reshape(n_samples, 14, 3).mean(axis=2)
    values = {
        "fine": 100 * (profile + rng.normal(size=profile.shape)),
        "coarse": sign * (of_coarse + rng.normal(size=of_coarse.shape)),
    }
    cohort = cohort_of({"fine": fine, "coarse": coarse}, n_samples, values=values)
    return cohort, fit_joined_view(cohort, "raw"), grid_of(cohort), profile


@pytest.mark.parametrize("sign", [1, -1])
def test_fit_joint_grids__first_sum_adds_blocks_up_whatever_their_direction(sign):
    cohort, view, grid, profile = _common_profile(sign)
    x = view.transform(cohort)
    (weights, joint), (others, _) = fit_joint_grids(grid.combine(x), grid, np.array([0, 1]), 2)
    np.testing.assert_allclose(weights, np.array([1, sign]) / np.sqrt(2), rtol=1e-9)
    np.testing.assert_allclose(others, np.array([1, -sign]) / np.sqrt(2), rtol=1e-9)
    assert (joint.n_channels, joint.bin_bp, joint.n_places) == (1, 1_000_000, 42)
    summed = joint.combine(x)[:, :, 0]
    parts = []
    for columns in view.block_slices().values():
        alone = np.zeros_like(x)
        alone[:, columns] = x[:, columns]
        parts.append(joint.combine(alone)[:, :, 0])
    np.testing.assert_allclose(sum(parts), summed, atol=1e-6)
    # Both have the same share of the variance, although one is in another unit and of other bins.
    sizes = [np.square(part, dtype=np.float64).sum() for part in parts]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)
    centred = profile - profile.mean(axis=0)
    closeness = [abs(np.corrcoef(of.ravel(), centred.ravel())[0, 1]) for of in (summed, *parts)]
    assert closeness[0] > max(closeness[1:])


def test_fit_joint_grids__block_without_any_variation_has_no_part():
    cohort, view, grid, _ = _common_profile(1)
    binned = grid.combine(view.transform(cohort))
    binned[:, :, 1] = 0.0
    for _, joint in fit_joint_grids(binned, grid, np.array([0, 1]), 2):
        assert abs(joint.weights[:, 42:]).sum() == 0


def test_name_sum__names_blocks_of_weight_by_their_sign():
    assert name_sum(("coverage", "methylation"), np.array([0.7, -0.7])) == "coverage - methylation"
    assert name_sum(("a", "b", "c"), np.array([-0.3, 0.9, 0.01])) == "- a + b"


# --- smoothing ---


@pytest.mark.parametrize("sigma", [0.0, 2.0, 8.0])
def test_smooth__equals_scipy_within_each_chromosome(sigma):
    # The second chromosome is shorter than the kernel, the third is a single feature.
    bounds = np.array([0, 90, 101, 102])
    x = np.random.default_rng(0).normal(size=(3, 102)).astype(np.float32)
    smoothed = smooth(x, bounds, sigma)
    for start, stop in pairwise(bounds):
        part = x[:, start:stop].astype(np.float64)
        expected = gaussian_filter1d(part, sigma, axis=1, mode="reflect", truncate=4.0) if sigma else part
        np.testing.assert_allclose(smoothed[:, start:stop], expected, atol=2e-6)


@pytest.mark.parametrize("sigma", [0.0, 2.0, 8.0])
def test_smooth__is_symmetric(sigma):
    smoothed = smooth(np.eye(102, dtype=np.float32), np.array([0, 90, 101, 102]), sigma)
    np.testing.assert_allclose(smoothed, smoothed.T, atol=1e-6)


def test_smoothed_view__tiles_are_the_rows_of_the_whole_and_spread_is_the_transpose(monkeypatch):
    cohort, view, _, _ = _common_profile(1)
    seen = SmoothedView(view, grid_of_features(fit_track(cohort, view)), 2.0)
    whole = seen.transform(cohort)
    # Five samples of 56 features a tile.
    monkeypatch.setattr("oncoarena.fitting.tiles.ROW_TILE_VALUES", 5 * 56)
    tiles = list(seen.tiles(cohort))
    assert len(tiles) == 8
    np.testing.assert_allclose(np.concatenate([x for _, x in tiles]), whole, atol=1e-6)
    weights = np.random.default_rng(0).normal(size=(40, 56)).astype(np.float32)
    products = (whole * weights).sum(), (view.transform(cohort) * seen.spread(weights)).sum()
    np.testing.assert_allclose(*products, rtol=1e-4)


def test_grid__arrays_give_the_same_grid():
    _, view, grid, _ = _common_profile(1)
    again = Grid.from_arrays(grid.to_arrays())
    x = np.random.default_rng(0).normal(size=(2, len(view.feature_names))).astype(np.float32)
    np.testing.assert_array_equal(again.combine(x), grid.combine(x))
    assert (again.n_channels, again.bin_bp, again.n_bins) == (2, 1_000_000, 42)
    np.testing.assert_array_equal(again.bounds, grid.bounds)
