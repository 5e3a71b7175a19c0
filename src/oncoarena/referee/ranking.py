"""Rank metrics under many weightings at once: one sort for each class, then one pass for all replicates.

A bootstrap replicate or a permutation is a column of small integer weights over units (patients). The
scores are sorted once; a pass over the sorted rows updates the running sums of all replicates side by
side, so the cost of a replicate is an addition or a multiplication for each row, not a sort.
"""

from dataclasses import dataclass

import numba
import numpy as np


@dataclass(frozen=True)
class Ranking:
    """Rows in ascending order of score, ready for the passes below; all arrays are (n_rows,)."""

    units: np.ndarray
    """int32: the row of the weight matrix that weighs this row."""
    positive: np.ndarray
    """bool: whether the row belongs to the class that should score high."""
    closes: np.ndarray
    """bool: whether the next row (in ascending order) has another score, or there is none."""


def rank_rows(positive: np.ndarray, scores: np.ndarray, units: np.ndarray) -> Ranking:
    """Sort rows by score and mark where a group of equal scores ends.

    Parameters: ``positive`` (n_rows,) bool, ``scores`` (n_rows,) float, ``units`` (n_rows,) int.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    closes = np.append(ordered[1:] != ordered[:-1], True)
    return Ranking(units[order].astype(np.int32), positive[order], closes[: len(order)])


def auroc_replicates(
    ranking: Ranking, weights: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> np.ndarray:
    """Compute the area under the ROC curve for every column of weights; ties count one half.

    Parameters: ``weights`` (n_units, n_replicates) uint8; ``positives`` and ``negatives``
    (n_replicates,), the weight of all positive and all negative rows.
    Returns (n_replicates,) float64, NaN where either class has no weight.
    """
    areas = np.zeros(weights.shape[1])
    _auroc_pass(ranking.units, ranking.positive, ranking.closes, weights, areas)
    return _ratio(areas, positives * negatives)


def detection_replicates(
    ranking: Ranking,
    weights: np.ndarray,
    positives: np.ndarray,
    negatives: np.ndarray,
    specificities: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute average precision, and the sensitivity at each specificity, for every column of weights.

    The sensitivity is the largest of the empirical ROC curve where the specificity is at least the
    one asked for. Parameters as in ``auroc_replicates``; ``specificities`` (n_points,).
    Returns (n_replicates,) and (n_points, n_replicates) float64, NaN where a class has no weight.
    """
    n_replicates = weights.shape[1]
    precision = np.zeros(n_replicates)
    reached = np.zeros((len(specificities), n_replicates))
    # The allowance forgives the rounding of 1 - specificity, far less than one sample.
    allowed = (1 - specificities)[:, None] * negatives[None, :] + 1e-9
    _detection_pass(ranking.units, ranking.positive, ranking.closes, weights, allowed, precision, reached)
    defined = np.where(negatives > 0, positives, 0.0)
    return _ratio(precision, defined), _ratio(reached, defined)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, np.nan)


@numba.njit(cache=True, nogil=True)
def _auroc_pass(units, positive, closes, weights, areas):
    # Whole numbers throughout: twice the area is one, and narrow integers are added several at a time.
    n_replicates = weights.shape[1]
    doubled = np.zeros(n_replicates, np.int64)
    below = np.zeros(n_replicates, np.int32)
    tied_positive = np.zeros(n_replicates, np.int32)
    tied_negative = np.zeros(n_replicates, np.int32)
    in_tie = False
    for i in range(len(units)):
        row = weights[units[i]]
        if closes[i] and not in_tie:
            if positive[i]:
                for r in range(n_replicates):
                    doubled[r] += 2 * np.int64(row[r]) * np.int64(below[r])
            else:
                for r in range(n_replicates):
                    below[r] += np.int32(row[r])
            continue
        in_tie = True
        if positive[i]:
            for r in range(n_replicates):
                tied_positive[r] += np.int32(row[r])
        else:
            for r in range(n_replicates):
                tied_negative[r] += np.int32(row[r])
        if closes[i]:
            for r in range(n_replicates):
                doubled[r] += np.int64(tied_positive[r]) * (
                    2 * np.int64(below[r]) + np.int64(tied_negative[r])
                )
                below[r] += tied_negative[r]
                tied_positive[r] = 0
                tied_negative[r] = 0
            in_tie = False
    for r in range(n_replicates):
        areas[r] = 0.5 * doubled[r]


@numba.njit(cache=True, nogil=True)
def _detection_pass(units, positive, closes, weights, allowed, precision, reached):
    n_replicates = weights.shape[1]
    true = np.zeros(n_replicates, np.float64)
    false = np.zeros(n_replicates, np.float64)
    tied = np.zeros(n_replicates, np.float64)
    for i in range(len(units) - 1, -1, -1):
        row = weights[units[i]]
        if positive[i]:
            for r in range(n_replicates):
                tied[r] += row[r]
        else:
            for r in range(n_replicates):
                false[r] += row[r]
        # In descending order a group of equal scores ends where the ascending one begins.
        if i == 0 or closes[i - 1]:
            for r in range(n_replicates):
                true[r] += tied[r]
                if tied[r] > 0:
                    precision[r] += tied[r] * true[r] / (true[r] + false[r])
                tied[r] = 0.0
            for k in range(allowed.shape[0]):
                for r in range(n_replicates):
                    if false[r] <= allowed[k, r]:
                        reached[k, r] = true[r]
