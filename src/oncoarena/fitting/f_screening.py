"""Which features tell the classes apart by their means: the order of the one-way F statistic."""

import numpy as np

# 64 MiB of float64 a tile.
TILE_VALUES = 2**23


def variance_between(x: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the share of each feature's variance that lies between classes, (n_features,) float64, 0 to 1.

    It orders features as F does, and is finite. A feature that does not vary has -1. Features go tile by tile.
    Parameters: ``x`` (n_samples, n_features), NaN where missing, which counts as the mean; ``rows`` (n_rows,) of it
    that are seen, at least one; ``labels`` (n_rows,) class codes.
    """
    of_class = (labels[:, None] == np.unique(labels)).astype(np.float64)  # (n_rows, n_present)
    share = np.empty(x.shape[1])
    step = max(1, TILE_VALUES // len(rows))
    for start in range(0, x.shape[1], step):
        tile = x[:, start : start + step][rows].astype(np.float64)
        n_found = np.maximum(np.count_nonzero(~np.isnan(tile), axis=0), 1)
        tile -= np.nansum(tile, axis=0) / n_found
        np.nan_to_num(tile, copy=False)
        between = ((of_class.T @ tile) ** 2 / of_class.sum(axis=0)[:, None]).sum(axis=0)
        total = (tile**2).sum(axis=0)
        share[start : start + step] = np.divide(
            between, total, out=np.full(len(total), -1.0), where=total > 0
        )
    return share


def largest(share: np.ndarray, n_kept: int) -> np.ndarray:
    """Return the places of the ``n_kept`` largest of (n_features,), in rising order; ties go to the first."""
    return np.sort(np.argsort(-share, kind="stable")[:n_kept])
