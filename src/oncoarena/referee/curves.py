"""Curves and confusion tables, ready to draw: at most ``MAX_POINTS`` points a curve."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from oncoarena.referee.metrics import calibration_bin_count, confusion, equal_mass_bins
from oncoarena.referee.outcomes import Outcomes

MAX_POINTS = 400
CURVE_COLUMNS = ["hypothesis", "curve", "label", "x", "y", "n_samples"]
GRID = np.linspace(0, 1, 201)
"""Positions at which curves of several repeats are averaged."""


def curves(outcomes: Outcomes) -> pd.DataFrame:
    """Draw up every curve of every hypothesis.

    roc: x is 1 - specificity, y sensitivity, a label a class against the rest, and "macro", their
    mean at equal x; repeats are averaged at equal x too. calibration: x mean probability, y share of
    the class, bins of equal mass over all repeats; label "top" is the most probable class. risk_coverage:
    x share of samples kept when the least certain are referred on, y accuracy of those kept. Two classes
    have precision_recall (x recall) and decision (x threshold probability, y net benefit) as well, with
    the hypothesis "treat all" as the reference of the latter.
    n_samples is how many samples stand behind a point, on average over repeats.
    Returns a table with the columns of ``CURVE_COLUMNS``.
    """
    parts = []
    for hypothesis, probabilities in outcomes.probabilities.items():
        for curve, label, x, y, n in _all_curves(outcomes, probabilities):
            parts.append(
                pd.DataFrame(
                    {
                        "hypothesis": hypothesis,
                        "curve": curve,
                        "label": label,
                        "x": x,
                        "y": y,
                        "n_samples": n,
                    },
                    columns=CURVE_COLUMNS,
                )
            )
    if len(outcomes.classes) == 2 and parts:
        positive = outcomes.truth == outcomes.positive
        x, y = _net_benefit(positive, np.ones(len(positive)))
        label = outcomes.classes[outcomes.positive]
        parts.append(
            pd.DataFrame(
                {"hypothesis": "treat all", "curve": "decision", "label": label, "x": x, "y": y,
                 "n_samples": len(positive) / outcomes.n_repeats},
                columns=CURVE_COLUMNS,
            )
        )  # fmt: skip
    if not parts:
        return pd.DataFrame(columns=CURVE_COLUMNS)
    return pd.concat(parts, ignore_index=True)


def confusion_tables(outcomes: Outcomes) -> pd.DataFrame:
    """Count samples by true and predicted class for each hypothesis, mean over repeats.

    Returns the columns hypothesis, label (the truth), predicted, n_samples; zero cells are kept.
    """
    n_classes = len(outcomes.classes)
    parts = []
    for hypothesis, probabilities in outcomes.probabilities.items():
        table = confusion(outcomes.truth, probabilities.argmax(axis=1), n_classes) / outcomes.n_repeats
        parts.append(
            pd.DataFrame(
                {
                    "hypothesis": hypothesis,
                    "label": np.repeat(outcomes.classes, n_classes),
                    "predicted": np.tile(outcomes.classes, n_classes),
                    "n_samples": table.ravel(),
                }
            )
        )
    columns = ["hypothesis", "label", "predicted", "n_samples"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _all_curves(outcomes: Outcomes, probabilities: np.ndarray) -> list[tuple]:
    n_repeats = outcomes.n_repeats
    n_samples = len(outcomes.truth) / n_repeats
    found, on_grid = [], []
    for c, name in enumerate(outcomes.classes):
        positive, scores = outcomes.truth == c, probabilities[:, c]
        if not positive.any() or positive.all():
            continue
        on_grid.append(_average(_roc, positive, scores, outcomes.repeats)[1])
        if n_repeats == 1:
            x, y = simplify(*_roc(positive, scores))
        else:
            x, y = GRID, on_grid[-1]
        found.append(("roc", name, *_from_origin(x, y), n_samples))
        found.append(("calibration", name, *_reliability(positive, scores, n_repeats)))
    if on_grid:
        found.append(("roc", "macro", *_from_origin(GRID, np.mean(on_grid, axis=0)), n_samples))
    top, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == outcomes.truth
    found.append(("calibration", "top", *_reliability(right, top, n_repeats)))
    kept, y = _average(_risk_coverage, right, top, outcomes.repeats)
    found.append(("risk_coverage", "top", kept[1:], y[1:], kept[1:] * n_samples))
    if len(outcomes.classes) == 2:
        positive = outcomes.truth == outcomes.positive
        scores, name = probabilities[:, outcomes.positive], outcomes.classes[outcomes.positive]
        if positive.any() and not positive.all():
            recall, precision = _average(_precision_recall, positive, scores, outcomes.repeats)
            found.append(("precision_recall", name, recall, precision, n_samples))
        found.append(("decision", name, *_net_benefit(positive, scores), n_samples))
    return found


def simplify(x: np.ndarray, y: np.ndarray, n_points: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Thin a curve to at most ``n_points``, keeping its ends and the corners spaced evenly along it."""
    turns = np.ones(len(x), dtype=bool)
    # A point on the straight line between its neighbours carries nothing.
    cross = (x[1:-1] - x[:-2]) * (y[2:] - y[1:-1]) - (y[1:-1] - y[:-2]) * (x[2:] - x[1:-1])
    turns[1:-1] = cross != 0
    x, y = x[turns], y[turns]
    if len(x) <= n_points:
        return x, y
    length = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], n_points)).clip(max=len(x) - 1))
    return x[kept], y[kept]


def _from_origin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start a ROC curve at (0, 0): averaging at equal x keeps only the top of the first step."""
    return (x, y) if y[0] == 0 else (np.append(0.0, x), np.append(0.0, y))


def _average(
    curve: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    hits: np.ndarray,
    scores: np.ndarray,
    repeats: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Average a curve over repeats at the positions of ``GRID``; where it jumps, take the top of the step."""
    heights = []
    for repeat in np.unique(repeats):
        x, y = curve(hits[repeats == repeat], scores[repeats == repeat])
        last = np.append(x[1:] != x[:-1], True)
        heights.append(np.interp(GRID, x[last], y[last]))
    return GRID, np.mean(heights, axis=0)


def _descending(hits: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count hits and misses at and above each score, highest first: two (n_scores,) arrays."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)
    true = np.cumsum(hits[order])[ends]
    return true, np.cumsum(~hits[order])[ends]


def _roc(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not positive.any() or positive.all():
        return np.array([0.0, 1.0]), np.array([np.nan, np.nan])
    true, false = _descending(positive, scores)
    return np.append(0, false / false[-1]), np.append(0, true / true[-1])


def _precision_recall(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true, false = _descending(positive, scores)
    precision = true / (true + false)
    return np.append(0, true / true[-1]), np.append(precision[0], precision)


def _risk_coverage(right: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true, false = _descending(right, confidence)
    kept = true + false
    return np.append(0, kept / kept[-1]), np.append(true[0] / kept[0], true / kept)


def _reliability(
    hits: np.ndarray, probability: np.ndarray, n_repeats: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    bins = equal_mass_bins(probability, calibration_bin_count(len(hits) // n_repeats))
    used, codes = np.unique(bins, return_inverse=True)
    n = np.bincount(codes, minlength=len(used))
    return np.bincount(codes, probability) / n, np.bincount(codes, hits) / n, n / n_repeats


def _net_benefit(positive: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute net benefit, true positives less false ones at the odds of the threshold, a sample.

    Source: Vickers and Elkin 2006, doi:10.1177/0272989X06295361.
    """
    thresholds = np.linspace(0.01, 0.99, 99)
    true, false = (
        (len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")) / len(positive)
        for scores in (probability[positive], probability[~positive])
    )
    return thresholds, true - false * thresholds / (1 - thresholds)
