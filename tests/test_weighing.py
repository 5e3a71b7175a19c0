"""Sums under many weightings: scipy's own, to the last bit, however the draws are joined."""

import numpy as np
import pytest
from scipy import sparse

from oncoarena.referee import weighing
from oncoarena.referee.bootstrap import chunks, draw_patients
from oncoarena.referee.weighing import weight_batches, weighted_sums


@pytest.mark.parametrize(
    ("n_sums", "n_units", "n_replicates"), [(1, 1, 1), (7, 50, 3), (40, 900, 130), (3, 5, 0)]
)
def test_weighted_sums__are_scipys_to_the_last_bit(n_sums, n_units, n_replicates):
    rng = np.random.default_rng(n_units)
    n_rows = 4 * n_units
    places = rng.integers(n_sums, size=n_rows), rng.integers(n_units, size=n_rows)
    table = sparse.csr_matrix((rng.normal(size=n_rows), places), shape=(n_sums, n_units))
    weights = rng.integers(256, size=(n_units, n_replicates)).astype(np.uint8)
    np.testing.assert_array_equal(weighted_sums(table, weights), table @ weights.astype(np.float64))
    # Weights drawn column by column are as good.
    np.testing.assert_array_equal(
        weighted_sums(table, np.asfortranarray(weights)), table @ weights.astype(np.float64)
    )


@pytest.mark.parametrize("n_replicates", [1, 31, 500, 1000])
def test_weight_batches__hand_on_the_same_draws_whatever_their_size(monkeypatch, n_replicates):
    strata = np.arange(40_000) % 2

    def drawn(least):
        monkeypatch.setattr(weighing, "LEAST_COLUMNS", least)
        rng = np.random.default_rng(0)
        return list(weight_batches(n_replicates, len(strata), lambda n: draw_patients(strata, n, rng)))

    one_by_one, joined = drawn(1), drawn(128)
    assert [part.shape[1] for part in one_by_one] == list(chunks(n_replicates, len(strata)))
    assert all(part.shape[1] >= 128 for part in joined[:-1])
    np.testing.assert_array_equal(np.concatenate(one_by_one, axis=1), np.concatenate(joined, axis=1))
