"""Contributions of features to the score of a class: what every way to explain a model shares, without a framework.

A feature is compared with its training mean, where every view of a block is 0, and keeps what its own column of
a view contributes. A missing value counts as what it was imputed with. In a view of ranks or of shares a column
depends on the whole sample: there a feature is explained as it stands after the view.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from oncoarena.attribution import Attribution
from oncoarena.fitting.views import View

# Points on the path of an integrated gradient (Gauss-Legendre). Contributions of heads then sum to their gain within
# 1e-6 of the range of the score, those of residual networks within 1 %.
PATH_STEPS = 16


def over_mean(values: np.ndarray, label: int, present: np.ndarray | None = None) -> np.ndarray:
    """Return what a class has more than the mean class: of logits the score, of weights those of the score.

    Parameters: ``values`` (..., n_present); ``label`` the class; ``present`` (n_present,) codes of the classes that
    the model knows, None for all. Returns (...); 0 for a class that the model does not know.
    """
    at = label if present is None else np.flatnonzero(present == label)
    if np.size(at) == 0:
        return np.zeros(values.shape[:-1])
    return values[..., np.squeeze(at)] - values.mean(axis=-1)


def explain_linear(
    terms: Iterable[tuple[np.ndarray, np.ndarray]], baseline: float, slices: Mapping[str, slice]
) -> Attribution:
    """Explain a linear model: a feature contributes its weight times its value.

    Parameters: ``terms`` (values (n_samples, n_features) of a view, weights (n_features,) of the score), at least
    one; ``baseline`` the score where all values are 0; ``slices`` the columns of each block.
    """
    contributions, score = 0.0, baseline
    for values, weights in terms:
        score = score + values.astype(np.float64) @ weights
        contributions = contributions + values * weights.astype(np.float32)
    return Attribution(
        score, np.full(len(score), baseline), split_blocks(contributions, slices), "weights", exact=True
    )


def split_blocks(contributions: np.ndarray, slices: Mapping[str, slice]) -> dict[str, np.ndarray]:
    """Cut joined contributions (n_samples, sum of n_features) into those of each block."""
    return {name: contributions[:, columns] for name, columns in slices.items()}


def mean_gradient(
    gradient: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    end: np.ndarray,
    n_steps: int = PATH_STEPS,
) -> np.ndarray:
    """Average a gradient over the straight path from ``start`` (1, ...) to each sample of ``end`` (n_samples, ...).

    Times ``end - start`` these are integrated gradients (Sundararajan 2017, arXiv:1703.01365): they sum to what
    the function gains along the path. Returns an array like ``end``, float64.
    """
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    total = np.zeros(end.shape)
    for node, weight in zip((1.0 + nodes) / 2.0, weights / 2.0, strict=True):
        total += weight * gradient(start + float(node) * (end - start))
    return total


def view_slope(view: View, values: np.ndarray) -> np.ndarray:
    """Return the derivative of a z-scored or raw view by its own features, (n_samples, n_features) float64.

    Parameters: ``values`` (n_samples, n_features) without missing ones.
    """
    in_tails = view.tail_scale > 0
    distance = np.divide(values - view.median, view.tail_scale, out=np.zeros(values.shape), where=in_tails)
    prepared = view.prepare(values)
    inside = (np.float32(view.lowest) < prepared) & (prepared < np.float32(view.highest))
    return inside * view.factor / np.sqrt(1.0 + distance**2)
