"""Sums of rows under many weightings at once, straight from small integer weights."""

from collections.abc import Callable, Iterator

import numba
import numpy as np
from scipy import sparse

from oncoarena.referee.bootstrap import chunks

LEAST_COLUMNS = 128
"""Replicates weighed together, where there are so many: two lines of a processor's cache a patient."""


def weighted_sums(table: sparse.csr_matrix, weights: np.ndarray) -> np.ndarray:
    """Multiply a table (n_sums, n_units) with weights (n_units, n_replicates) uint8: (n_sums, n_replicates) float64.

    What ``table @ weights.astype(float)`` gives, to the last bit, without the eightfold copy of the weights.
    """
    sums = np.zeros((table.shape[0], weights.shape[1]))
    data = np.asarray(table.data, dtype=np.float64)
    _add_rows(table.indptr, table.indices, data, np.ascontiguousarray(weights, dtype=np.uint8), sums)
    return sums


def weight_batches(
    n_replicates: int, n_units: int, draw: Callable[[int], np.ndarray]
) -> Iterator[np.ndarray]:
    """Draw weights in the chunks of ``bootstrap.chunks`` and hand them on ``LEAST_COLUMNS`` or more at a time.

    Parameters: ``draw`` gives the weights (n, number of replicates) of a chunk. How they are joined decides nothing:
    it is called as without. Yields (n, number of replicates) arrays.
    """
    waiting: list[np.ndarray] = []
    for size in chunks(n_replicates, n_units):
        waiting.append(draw(size))
        if sum(part.shape[1] for part in waiting) >= LEAST_COLUMNS:
            yield _side_by_side(waiting)
            waiting = []
    if waiting:
        yield _side_by_side(waiting)


def _side_by_side(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


@numba.njit(cache=True, nogil=True)
def _add_rows(starts, units, data, weights, sums):
    n_replicates = weights.shape[1]
    for i in range(len(starts) - 1):
        for j in range(starts[i], starts[i + 1]):
            row, value = weights[units[j]], data[j]
            for r in range(n_replicates):
                sums[i, r] += value * row[r]
