"""What one feature alone can do: chosen on a training part, tried on its test part."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

SHORT_LIST = 20
"""Features that are tried on all training rows after the screening on some of them."""


@dataclass(frozen=True)
class SingleFeature:
    """The feature that tells one class from the rest best in a training part."""

    column: int
    falls: bool
    """Whether low values speak for the class."""
    median: float
    """Stands in for a missing value."""

    def score(self, values: np.ndarray) -> np.ndarray:
        """Score samples by the feature's values (n_samples,): higher speaks for the class."""
        filled = np.where(np.isfinite(values), values, self.median)
        return -filled if self.falls else filled


def feature_aurocs(values: np.ndarray, positive: np.ndarray, step: int = 2000) -> np.ndarray:
    """Compute the AUROC of every feature by itself, missing values at the median, ties one half.

    Parameters: ``values`` (n_samples, n_features); ``positive`` (n_samples, n_classes) bool.
    Returns (n_classes, n_features); NaN where a class or its rest is empty.
    Source: Mann-Whitney by ranks, doi:10.1214/aoms/1177730491.
    """
    hits = positive.sum(0)[:, None]
    others = len(values) - hits
    areas = np.empty((positive.shape[1], values.shape[1]))
    for start in range(0, values.shape[1], step):
        part = values[:, start : start + step]
        ranks = rankdata(np.where(np.isfinite(part), part, medians(part)), axis=0)
        won = positive.T.astype(np.float64) @ ranks - hits * (hits + 1) / 2
        areas[:, start : start + step] = np.where(
            hits * others > 0, won / np.maximum(hits * others, 1), np.nan
        )
    return areas


def choose_feature(values: np.ndarray, positive: np.ndarray, columns: np.ndarray) -> SingleFeature:
    """Choose the feature whose AUROC lies farthest from one half.

    Parameters: ``values`` (n_rows, n_features), ``positive`` (n_rows,) bool; ``columns`` (n_features,)
    numbers them in the result.
    """
    areas = np.nan_to_num(feature_aurocs(values, positive[:, None])[0], nan=0.5)
    best = int(np.argmax(np.abs(areas - 0.5)))
    return SingleFeature(int(columns[best]), bool(areas[best] < 0.5), float(medians(values[:, [best]])[0]))


def short_list(areas: np.ndarray) -> np.ndarray:
    """List the ``SHORT_LIST`` features whose AUROC (n_features,) lies farthest from one half."""
    return np.argsort(-np.abs(areas - 0.5), kind="stable")[:SHORT_LIST]


def medians(values: np.ndarray) -> np.ndarray:
    """Compute each feature's median over what is present, 0 where nothing is: (n_features,)."""
    missing = ~np.isfinite(values)
    if not missing.any():
        return np.median(values, axis=0)
    ordered = np.sort(np.where(missing, np.inf, values), axis=0)
    n = len(values) - missing.sum(0)
    low, high = np.maximum((n - 1) // 2, 0), np.minimum(n // 2, len(values) - 1)
    columns = np.arange(values.shape[1])
    middle = (ordered[low, columns] + ordered[high, columns]) / 2
    return np.where(n > 0, middle, 0.0)
