"""Cutting a matrix of samples and features into tiles: memory stays bounded whatever its size."""

from collections.abc import Iterator

import numpy as np

from oncoarena.mapped import gather, release

# 64 MiB of float64 a tile.
TILE_VALUES = 2**23
# 2 MiB of float64: what is done value by value stays in the cache of a core.
CACHED_VALUES = 2**18
# Rows that are transformed together hold at most this many values (32 MiB of float32).
ROW_TILE_VALUES = 2**23
# A cohort of more samples than this is only ever read sample by sample; what needs whole features (medians) is
# taken from this many evenly spaced samples.
MANY_SAMPLES = 8192


def row_tiles(n_samples: int, n_features: int) -> Iterator[slice]:
    """Cut the samples of a matrix into neighbours of bounded size; one empty slice where there is none."""
    step = max(1, ROW_TILE_VALUES // max(n_features, 1))
    return (slice(first, min(first + step, n_samples)) for first in range(0, max(n_samples, 1), step))


def tiles(
    values: np.ndarray, by_samples: bool = False, n_values: int | None = None
) -> Iterator[tuple[slice, slice]]:
    """Cut (n_samples, n_features) values into tiles of all samples, or of all features.

    A tile holds at most ``n_values``, by default ``TILE_VALUES``, but one sample or feature at least. A matrix of
    many samples is always cut ``by_samples``. Once a tile is done with, its pages of a memory map are let go.
    """
    n_samples, n_features = values.shape
    n_values = TILE_VALUES if n_values is None else n_values
    if n_samples > MANY_SAMPLES:
        by_samples, n_values = True, min(n_values, 8 * CACHED_VALUES)
    if by_samples:
        step = max(1, n_values // max(n_features, 1))
        cut = ((slice(i, i + step), slice(0, n_features)) for i in range(0, n_samples, step))
    else:
        step = max(1, n_values // max(n_samples, 1))
        cut = ((slice(0, n_samples), slice(j, j + step)) for j in range(0, n_features, step))
    for tile in cut:
        yield tile
        release(values)


def spaced_samples(values: np.ndarray) -> np.ndarray:
    """Return all samples, or ``MANY_SAMPLES`` evenly spaced ones of more than that, in memory."""
    if len(values) <= MANY_SAMPLES:
        return values
    rows = np.linspace(0, len(values) - 1, MANY_SAMPLES).round().astype(np.int64)
    return gather(values, rows, np.empty((MANY_SAMPLES, *values.shape[1:]), values.dtype))
