"""Cohorts of very many samples: what passes by in tiles is what would have been computed in memory."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from cohorts import toy_cohort
from oncoarena import mapped
from oncoarena.fitting import components, tiles, torch_screening
from oncoarena.fitting.components import fit_components, fit_view_components
from oncoarena.fitting.torch_evidence import make_splits, rank_features
from oncoarena.fitting.torch_screening import screen
from oncoarena.fitting.views import VIEW_KINDS, fit_joined_view, fit_joined_views, fit_views, offers_shares


@pytest.fixture
def values() -> np.ndarray:
    """Counts of samples with very different totals; one feature of one sample is missing."""
    rng = np.random.default_rng(5)
    composition = rng.dirichlet(np.full(9, 3.0), size=400)
    drawn = rng.poisson(composition * 10 ** rng.uniform(2, 3, size=(400, 1))).astype(np.float32)
    drawn[7, 2] = np.nan
    return drawn


@pytest.fixture
def few_samples(monkeypatch):
    """Streams from 100 samples on, some samples a tile."""
    monkeypatch.setattr(tiles, "MANY_SAMPLES", 100)
    monkeypatch.setattr(components, "MANY_SAMPLES", 100)
    monkeypatch.setattr(torch_screening, "MANY_SAMPLES", 100)
    monkeypatch.setattr(tiles, "ROW_TILE_VALUES", 300)
    monkeypatch.setattr(tiles, "TILE_VALUES", 200)


def mapped_copy(path, values: np.ndarray) -> np.ndarray:
    """The same values as a read-only memory map."""
    np.save(path, values)
    return np.load(path, mmap_mode="r")


# --- memory maps ---


@pytest.mark.parametrize("limit", [0, 2**27], ids=["to a scratch file", "to memory"])
def test_take_rows__values_are_those_of_the_map(tmp_path, values, monkeypatch, limit):
    monkeypatch.setattr(mapped, "LARGE_BYTES", limit)
    monkeypatch.setattr(mapped, "GATHERED_BYTES", 3 * mapped.PAGE_BYTES)
    monkeypatch.setenv("ONCOARENA_SCRATCH", str(tmp_path))
    whole = mapped_copy(tmp_path / "values.npy", values)
    rows = np.array([3, 3, 399, 0, 17])
    taken = mapped.take_rows(whole, rows)
    np.testing.assert_array_equal(taken, values[rows])
    assert (mapped.map_of(taken) is None) == (limit > 0)
    np.testing.assert_array_equal(mapped.take_rows(whole, np.arange(400) % 3 == 0), values[::3])
    assert [path.name for path in tmp_path.iterdir()] == ["values.npy"]


def test_take_rows__neighbours_stay_a_part_of_the_map(tmp_path, values):
    whole = mapped_copy(tmp_path / "values.npy", values)
    part = mapped.take_rows(whole, np.arange(5, 200))
    assert mapped.map_of(part) is whole
    np.testing.assert_array_equal(part, values[5:200])


def test_release__values_come_back_and_private_changes_are_kept(tmp_path, values):
    whole = mapped_copy(tmp_path / "values.npy", values)
    mapped.release(whole[3:9])
    np.testing.assert_array_equal(whole, values)
    own = np.load(tmp_path / "values.npy", mmap_mode="c")
    own[4] = -1.0
    mapped.release(own)
    assert (own[4] == -1.0).all()


# --- views ---


def test_fit_views__means_spreads_and_ranges_are_those_of_all_samples(few_samples, monkeypatch):
    values = np.random.default_rng(0).normal(20.0, 3.0, size=(400, 9))
    values[7, 2] = np.nan
    streamed = fit_views(values, ("raw", "zscore", "share"))
    monkeypatch.setattr(tiles, "MANY_SAMPLES", 1000)
    whole = fit_views(values, ("raw", "zscore", "share"))
    for kind, view in streamed.items():
        for name in ("mean", "factor", "lowest", "highest"):
            # The missing value is filled with a median of fewer samples.
            np.testing.assert_allclose(getattr(view, name), getattr(whole[kind], name), rtol=2e-3)


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_fit_views__a_map_gives_what_an_array_gives(tmp_path, values, few_samples, kind):
    whole = mapped_copy(tmp_path / "values.npy", values)
    found, expected = (fit_views(of, (kind,))[kind].transform(values) for of in (whole, values))
    np.testing.assert_array_equal(found, expected)
    assert offers_shares(whole) == offers_shares(values)


def test_fit_views__ranks_have_nearly_unit_trace_by_spaced_samples(values, few_samples):
    x = fit_views(values, ("rank",))["rank"].transform(values)
    assert (x**2).sum(axis=1).mean() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_fit_views__a_feature_that_moves_in_one_of_very_many_samples_is_seen(values, few_samples, kind):
    values[:, 4] = 0.0
    values[201, 4] = 50.0
    view = fit_views(values, (kind,))[kind]
    assert view.varies.all()
    if kind != "rank":
        assert view.factor.all()


def test_fit_views__samples_without_a_value_are_left_out_of_very_many_too(values, few_samples):
    absent = np.full((30, values.shape[1]), np.nan, np.float32)
    between = np.vstack([values[:200], absent, values[200:]])
    np.testing.assert_allclose(fit_views(between)["raw"].mean, fit_views(values)["raw"].mean, rtol=1e-6)


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_tiles__together_they_are_the_transformed_cohort(values, few_samples, kind):
    cohort = toy_cohort(np.arange(400) % 2, {"a": values, "b": values[:, ::-1]}, classes=("a", "b"))
    view = fit_joined_view(cohort, kind)
    rows, x = zip(*view.tiles(cohort), strict=True)
    assert len(rows) > 10
    np.testing.assert_array_equal(np.concatenate([np.arange(400)[part] for part in rows]), np.arange(400))
    np.testing.assert_array_equal(np.concatenate(x), view.transform(cohort))


def test_fit_joined_views__are_those_fitted_one_by_one(values):
    cohort = toy_cohort(np.arange(400) % 2, {"a": values, "b": -values}, classes=("a", "b"))
    for kind, view in zip(VIEW_KINDS, fit_joined_views(cohort, VIEW_KINDS), strict=True):
        alone = fit_joined_view(cohort, kind)
        np.testing.assert_array_equal(view.transform(cohort), alone.transform(cohort))


# --- components ---


def spiked_cohort(n_samples: int = 600, n_features: int = 80):
    """Samples with five strong directions in noise."""
    rng = np.random.default_rng(2)
    strong = rng.normal(size=(n_samples, 5)) * [9, 8, 7, 6, 5] @ rng.normal(size=(5, n_features))
    values = strong + rng.normal(size=(n_samples, n_features))
    return toy_cohort(np.arange(n_samples) % 2, {"a": values}, classes=("a", "b"))


def test_fit_view_components__of_few_features_they_are_the_exact_ones(few_samples):
    cohort = spiked_cohort()
    view = fit_joined_view(cohort, "raw")
    streamed = fit_view_components(view, cohort, 10, np.random.default_rng(0))
    whole = fit_components(view.transform(cohort), 10)
    np.testing.assert_allclose(streamed.train_scores, whole.train_scores, atol=1e-4)
    np.testing.assert_allclose(streamed.basis, whole.basis, atol=1e-3)


def test_fit_view_components__landmarks_find_the_strong_directions(few_samples, monkeypatch):
    monkeypatch.setattr(components, "EXACT_SIDE", 60)
    monkeypatch.setattr(components, "N_LANDMARKS", 60)
    cohort = spiked_cohort()
    view = fit_joined_view(cohort, "raw")
    streamed = fit_view_components(view, cohort, 20, np.random.default_rng(0))
    whole = fit_components(view.transform(cohort), 20)
    np.testing.assert_allclose(streamed.basis.T @ streamed.basis, np.eye(20), atol=1e-5)
    moment = streamed.train_scores.T.astype(np.float64) @ streamed.train_scores
    np.testing.assert_allclose(moment, np.diag(np.diag(moment)), atol=1e-4 * moment[0, 0])
    assert (np.diff(np.diag(moment)) <= 0).all()
    strong = (streamed.train_scores[:, :5] ** 2).sum(axis=0)
    np.testing.assert_allclose(strong, (whole.train_scores[:, :5] ** 2).sum(axis=0), rtol=0.02)
    np.testing.assert_allclose(streamed.project(view.transform(cohort)), streamed.train_scores, atol=1e-5)
    assert (streamed.train_scores.max(axis=0) >= -streamed.train_scores.min(axis=0)).all()


def test_fit_components__a_basis_in_a_scratch_file_is_the_same(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(13, 101)).astype(np.float32)
    inside = fit_components(x)
    monkeypatch.setattr(mapped, "LARGE_BYTES", 0)
    monkeypatch.setenv("ONCOARENA_SCRATCH", str(tmp_path))
    outside = fit_components(x)
    assert mapped.map_of(outside.basis) is not None
    np.testing.assert_array_equal(outside.basis, inside.basis)
    np.testing.assert_array_equal(outside.project(x), inside.project(x))
    np.testing.assert_array_equal(outside.feature_weights(np.eye(12)), inside.feature_weights(np.eye(12)))


# --- sparse gates ---


def test_screen__streamed_samples_give_the_ranking_and_the_best_features_of_every_split(
    values, few_samples, monkeypatch
):
    cohort = toy_cohort(np.arange(400) % 2, {"a": np.nan_to_num(values)}, classes=("a", "b"))
    splits = make_splits(cohort, 3, 1, seed=0, device="cpu")
    view = fit_joined_view(cohort, "zscore")
    streamed = screen(view, cohort, splits, n_most=3)
    x = torch.from_numpy(view.transform(cohort))
    whole = rank_features(x, splits)
    assert len(streamed.features) < x.shape[1]
    assert torch.equal(streamed.in_view(streamed.ranked.order), whole.order[:, :3])
    assert torch.equal(streamed.x(), x[:, streamed.features])
    torch.testing.assert_close(streamed.ranked.mean, whole.mean[:, streamed.features])
    torch.testing.assert_close(streamed.ranked.evidence, whole.evidence[:, streamed.features])
    torch.testing.assert_close(streamed.spread.float(), x.std(dim=0, correction=0))


# --- memory ---

FIT = """
import json, sys
import numpy as np
from cohorts import toy_block
from oncoarena.cohort import Block, LabelledCohort
from oncoarena.fitting import components
from oncoarena.fitting.views import fit_joined_views

def peak_mb():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

values = np.load(sys.argv[1], mmap_mode="r")
n = len(values)
described = toy_block("a", np.zeros((1, values.shape[1])))
ids = np.arange(n).astype(str)
cohort = LabelledCohort(ids, ids, {"a": Block(described.spec, values, described.features)},
                        labels=np.arange(n) % 2, classes=("a", "b"))
components.N_LANDMARKS = 256  # to save time
before = peak_mb()
train = cohort.take(np.flatnonzero(np.arange(n) % 50))
(view,) = fit_joined_views(train, ("zscore",))
fitted = components.fit_view_components(view, train, 16, np.random.default_rng(0))
print(json.dumps({"growth": peak_mb() - before, "scores": fitted.train_scores.shape}))
"""


def test_fit__a_mapped_block_of_400_mb_is_never_whole_in_memory(tmp_path):
    n_samples, n_features = 20_000, 5_000
    block = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (n_samples, n_features))
    rng = np.random.default_rng(0)
    for first in range(0, n_samples, 1000):
        block[first : first + 1000] = rng.standard_normal((1000, n_features), dtype=np.float32)
        mapped.release(block)
    environment = os.environ | {"ONCOARENA_SCRATCH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.path.dirname(__file__)
    command = [sys.executable, "-c", FIT, str(tmp_path / "a.npy")]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    assert found["scores"] == [19_600, 16]
    # Of the block's 381 MiB, 8,192 samples are in memory once; with a copy of it, or all its pages, it would be more.
    assert found["growth"] < 320
