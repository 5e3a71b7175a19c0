"""How much each candidate of a multi-kernel model weighs, and what that choice is worth on patients it did not see.

Hundreds of candidates are compared by the same leave-patient-out scores. The best of them owe part of their lead to
chance, so that the scores of the weighted sum are too good to calibrate it by: on noise they look like a signal. For
the last temperature the weights, and the temperature of each candidate, are found anew without the patients of a fold.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from oncoarena.fitting.kernel_candidates import Candidate
from oncoarena.fitting.selection import fit_temperature, fit_temperatures, log_loss, softmax

# 16 MiB of float64: scores of candidates that get their temperatures together.
TILE_VALUES = 2**21


def weigh(losses: np.ndarray, n_patients: int, floor: float) -> np.ndarray:
    """Turn log losses (n_candidates,) into weights exp(-n_patients x loss / 2) of sum 1.

    Those below ``floor`` of the largest are 0.
    """
    weights = np.exp(-0.5 * n_patients * (losses - losses.min()))
    weights[weights < floor] = 0.0
    return weights / weights.sum()


def score(
    fits: Iterable[Candidate], labels: np.ndarray, offset: np.ndarray, n_patients: int, floor: float
) -> tuple[list[Candidate], np.ndarray, np.ndarray]:
    """Return the candidates that ``weigh`` gives a weight, their temperatures and their log losses.

    The scores of others are let go as soon as they are behind: there are hundreds of candidates.
    """
    # How far a log loss may lie above the best one before the weight falls below the floor.
    margin = 2.0 * np.log(1.0 / floor) / n_patients if floor > 0 else np.inf
    scored: list[tuple[Candidate, float, float]] = []
    best = np.inf
    for candidate in fits:
        factor = fit_temperature(candidate.scores, labels, offset)
        loss = log_loss(softmax(factor * candidate.scores + offset), labels)
        if loss > best + margin:
            continue
        scored.append((candidate, factor, loss))
        if loss < best:
            best = loss
            scored = [kept for kept in scored if kept[2] <= best + margin]
    return [kept[0] for kept in scored], *np.array([kept[1:] for kept in scored]).reshape(-1, 2).T


def cross_weighted(
    scores: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    offset: np.ndarray,
    folds: np.ndarray,
    floor: float,
) -> np.ndarray:
    """Return scores (n_samples, n_classes) of the weighted sum, weighted for each fold by the others' patients.

    Parameters: ``scores`` of each candidate, (n_samples, n_classes) leave-patient-out; ``groups`` (n_samples,) codes of
    patients; ``offset`` (n_samples, n_classes) logits that no temperature changes; ``folds`` (n_samples,) from 0,
    which split no patient; ``floor`` see ``weigh``.
    """
    n_folds = int(folds.max()) + 1
    factors, losses = np.empty((2, n_folds, len(scores)))
    step = max(1, TILE_VALUES // scores[0].size)
    for start in range(0, len(scores), step):
        tile = np.stack(scores[start : start + step])
        for fold in range(n_folds):
            seen = folds != fold
            factors[fold, start : start + step] = fit_temperatures(tile[:, seen], labels[seen], offset[seen])
            for number, (own, of) in enumerate(zip(factors[fold, start:], tile, strict=False), start):
                losses[fold, number] = log_loss(softmax(own * of[seen] + offset[seen]), labels[seen])
    crossed = np.zeros_like(scores[0])
    for fold in range(n_folds):
        held_out = folds == fold
        weights = weigh(losses[fold], len(np.unique(groups[~held_out])), floor)
        for number in np.flatnonzero(weights):
            crossed[held_out] += weights[number] * factors[fold, number] * scores[number][held_out]
    return crossed
