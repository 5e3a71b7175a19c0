"""Robust statistics of features, and ranks within a sample."""

import numpy as np

from oncoarena.fitting.tiles import CACHED_VALUES, tiles

# A spread below this share of the typical size of a feature is rounding, not variation (float32).
CONSTANT_RELATIVE_SPREAD = 1e-6
# Quartiles of the Gaussian lie this many standard deviations apart.
GAUSSIAN_IQR = 1.349


def describe(
    values: np.ndarray, totals: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Median, robust standard deviation, excess kurtosis and "varies" of each feature, by tiles.

    Parameters: ``values`` (n_samples, n_features), NaN where missing, of at most ``tiles.MANY_SAMPLES`` samples; with
    ``totals`` (n_samples,) the statistics are those of the square roots of shares.
    """
    n_samples, n_features = values.shape
    median, scale, kurtosis = np.zeros(n_features), np.zeros(n_features), np.zeros(n_features)
    varies = np.zeros(n_features, dtype=bool)
    for _, columns in tiles(values, n_values=8 * CACHED_VALUES):
        # One feature a row: a sort along a row reads memory in order, and puts NaN last.
        x = values[:, columns]
        x = x if totals is None else root_shares(x.astype(np.float64), totals)
        x = np.array(x.T, dtype=np.float64, order="C")
        x.sort(axis=1)
        n_found = n_samples - np.isnan(x).sum(axis=1)
        median[columns] = _quantile(x, n_found, 0.5)
        if (n_found < n_samples).any():
            x = np.sort(np.where(np.isnan(x), median[columns, None], x), axis=1)
        size = np.maximum(np.abs(x[:, 0]), np.abs(x[:, -1]))
        # Half of the values are equal (sparse counts): the mean distance from the median still moves.
        spread = np.abs(x - median[columns, None]).mean(axis=1)
        everyone = np.full(len(x), n_samples)
        robust = (_quantile(x, everyone, 0.75) - _quantile(x, everyone, 0.25)) / GAUSSIAN_IQR
        scale[columns] = np.where(robust > 1e-3 * spread, robust, spread)
        x -= x.mean(axis=1, keepdims=True)
        np.square(x, out=x)
        second, fourth = x.mean(axis=1), np.einsum("ij,ij->i", x, x) / n_samples
        moves = np.sqrt(second) > CONSTANT_RELATIVE_SPREAD * size
        varies[columns] = moves
        kurtosis[columns] = np.divide(fourth, second**2, out=np.full_like(second, 3.0), where=moves) - 3.0
    return median, scale, kurtosis, varies


def _quantile(rows: np.ndarray, n_found: np.ndarray, quantile: float) -> np.ndarray:
    """Quantile of the first ``n_found`` values of each sorted row, by linear interpolation; 0 of none."""
    position = quantile * np.maximum(n_found - 1, 0)
    below = np.floor(position).astype(np.int64)
    row, share = np.arange(len(rows)), position - below
    above = np.minimum(below + 1, np.maximum(n_found - 1, 0))
    found = rows[row, below] * (1.0 - share) + rows[row, above] * share
    return np.where(n_found > 0, found, 0.0)


def moves_at_all(values: np.ndarray) -> np.ndarray:
    """Tell of each feature (n_features,) whether two samples differ in it; one pass over the samples."""
    low = np.full(values.shape[1], np.inf, dtype=values.dtype)
    high = -low
    for rows, columns in tiles(values, by_samples=True):
        # fmin and fmax pass over NaN.
        low = np.fmin(low, np.fmin.reduce(values[rows, columns], axis=0))
        high = np.fmax(high, np.fmax.reduce(values[rows, columns], axis=0))
    size = np.maximum(np.abs(low), np.abs(high))
    return (low < high) & (high - low > CONSTANT_RELATIVE_SPREAD * size)


def unmeasured(values: np.ndarray) -> np.ndarray:
    """Positions of the samples without any value."""
    found = []
    if values.shape[1]:
        for rows, _ in tiles(values, by_samples=True):
            candidates = rows.start + np.flatnonzero(np.isnan(values[rows, 0]))
            found += [row for row in candidates if np.isnan(values[row]).all()]
    return np.array(found, dtype=np.int64)


def sample_totals(values: np.ndarray) -> np.ndarray:
    """Sum of the positive values of each sample (n_samples,) float64; 1 where there is none."""
    totals = np.ones(len(values))
    for rows, columns in tiles(values, by_samples=True):
        found = np.nansum(np.maximum(values[rows, columns], 0), axis=1, dtype=np.float64)
        totals[rows] = np.where(found > 0, found, 1.0)
    return totals


def root_shares(values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Square roots of shares (n_samples, n_features) float64; NaN stays NaN."""
    return np.sqrt(np.maximum(values, 0) / totals[:, None])


def mean_ranks(sample: np.ndarray) -> np.ndarray:
    """Rank the values of one sample from 0; ties share their mean rank."""
    order = np.argsort(sample)
    ordered = sample[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    n_tied = np.diff(first, append=len(sample))
    ranks = np.empty(len(sample))
    ranks[order] = np.repeat(first + (n_tied - 1) / 2.0, n_tied)
    return ranks
