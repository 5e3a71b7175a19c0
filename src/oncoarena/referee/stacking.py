"""Whether a hypothesis knows something that the others together do not."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from oncoarena.referee.bootstrap import (
    chunks,
    draw_patients,
    patient_strata,
    percentile_interval,
    swap_patients,
)
from oncoarena.referee.comparison import holm
from oncoarena.referee.metrics import LOG_LOSS_FLOOR
from oncoarena.referee.outcomes import Outcomes
from oncoarena.splits import deal_folds

ADDED_VALUE_COLUMNS = [
    "hypothesis",
    "log_loss_alone",
    "log_loss_without",
    "log_loss_with",
    "gain",
    "ci_low",
    "ci_high",
    "p_value",
    "p_holm",
    "weight",
    "n_samples",
    "n_patients",
]

ADDED_VALUE_METHOD = (
    "The hypotheses are stacked: a multinomial logistic regression on the logarithms of their "
    "probabilities, one weight a hypothesis and one intercept a class, fitted on the test predictions of "
    "other patients (five folds grouped by patient). gain is by how much the log loss falls when a "
    "hypothesis is added to a stack of all others; its 95 % interval is that of the bootstrap over patients, "
    "its p value one-sided, from changing the sign of patients' gains at random; p_holm is corrected over "
    "the hypotheses. A gain at or below zero: the others know it already."
)
"""How added value is measured, in words for the report."""

PENALTY = 1.0
"""Prior precision of each weight about equal shares and of each intercept about 0, in units of one sample."""

MOST_ROWS = 5_000
"""Rows that a stack is fitted on: far more than its few coefficients need."""

N_FOLDS = 5


def added_value(
    outcomes: Outcomes,
    hypotheses: Sequence[str],
    n_bootstrap: int,
    n_permutations: int,
    seed: int,
    map: Callable[..., Iterable] = map,
) -> pd.DataFrame:
    """Measure for each hypothesis what it adds to all others (see ``ADDED_VALUE_METHOD``).

    Parameters: ``hypotheses``, those in question (claims and external models); ``map`` may be that of a
    thread pool.
    Returns a table with the columns of ``ADDED_VALUE_COLUMNS``, where weight is the mean over folds
    in the stack of all; empty with fewer than two
    hypotheses or fewer than ten patients.
    Source: stacking, Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1; logarithmic pool, Genest and Zidek 1986,
    doi:10.1214/ss/1177013825.
    """
    hypotheses = list(hypotheses)
    empty = pd.DataFrame(columns=ADDED_VALUE_COLUMNS)
    if len(hypotheses) < 2 or outcomes.n_patients < 2 * N_FOLDS:
        return empty
    order, first = np.unique(outcomes.patients, return_index=True)
    dealt = deal_folds(outcomes.truth[first], order, N_FOLDS, np.random.default_rng(seed))
    folds = dealt[outcomes.patients]
    log_p = np.stack(
        [np.log(np.maximum(outcomes.probabilities[name], LOG_LOSS_FLOOR)) for name in hypotheses], axis=2
    )  # (n_rows, n_classes, n_hypotheses)
    rows = np.arange(len(outcomes.truth))
    stacks = [list(range(len(hypotheses)))]
    stacks += [[k for k in stacks[0] if k != left_out] for left_out in stacks[0]]
    fit = partial(_stacked_losses, log_p, outcomes.truth, folds, outcomes.n_repeats, seed)
    (whole, weights), *without = map(fit, stacks)
    strata = patient_strata(outcomes.patients, outcomes.truth, len(outcomes.classes))
    n_rows = np.bincount(outcomes.patients)
    gains = np.stack([np.bincount(outcomes.patients, losses - whole) for losses, _ in without])
    drawn, exceeded = [], np.zeros(len(hypotheses), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for size in chunks(n_bootstrap, len(n_rows)):
        counts = draw_patients(strata, size, rng).astype(np.float64)
        drawn.append((gains @ counts) / (n_rows @ counts))
    for size in chunks(n_permutations, len(n_rows)):
        signs = 1.0 - 2.0 * swap_patients(len(n_rows), size, rng)
        exceeded += (gains @ signs >= gains.sum(1, keepdims=True) - 1e-10).sum(1)
    table = []
    for k, (name, replicates) in enumerate(zip(hypotheses, np.concatenate(drawn, axis=1), strict=True)):
        low, high = percentile_interval(replicates)
        gain = float(gains[k].sum() / n_rows.sum())
        table.append(
            {
                "hypothesis": name,
                "log_loss_alone": float(-log_p[rows, outcomes.truth, k].mean()),
                "log_loss_without": float(without[k][0].mean()),
                "log_loss_with": float(whole.mean()),
                "gain": gain,
                "ci_low": min(low, gain),
                "ci_high": max(high, gain),
                "p_value": (exceeded[k] + 1) / (n_permutations + 1),
                "weight": float(weights[k]),
                "n_samples": len(np.unique(outcomes.sample_ids)),
                "n_patients": outcomes.n_patients,
            }
        )
    found = pd.DataFrame(table, columns=ADDED_VALUE_COLUMNS)
    found["p_holm"] = holm(found["p_value"].to_numpy())
    return found


def fit_stack(log_p: np.ndarray, truth: np.ndarray, row_weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit the weights of hypotheses and the intercepts of classes by Newton's method.

    Parameters: ``log_p`` (n_rows, n_classes, n_hypotheses); ``truth`` (n_rows,); ``row_weight`` of each
    row against ``PENALTY``. Returns (n_hypotheses,) and (n_classes,).
    """
    n_rows, n_classes, n_stacked = log_p.shape
    centre = np.append(np.full(n_stacked, 1 / n_stacked), np.zeros(n_classes))
    coefficients = centre.copy()
    hot = np.eye(n_classes)[truth]

    def loss(at: np.ndarray) -> float:
        logits = log_p @ at[:n_stacked] + at[n_stacked:]
        misfit = (logsumexp(logits, axis=1) - logits[np.arange(n_rows), truth]).sum()
        return row_weight * misfit + PENALTY / 2 * ((at - centre) ** 2).sum()

    current = loss(coefficients)
    for _ in range(50):
        logits = log_p @ coefficients[:n_stacked] + coefficients[n_stacked:]
        p = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))  # (n_rows, n_classes)
        gap = row_weight * (p - hot)
        gradient = np.append(np.einsum("ik,ikh->h", gap, log_p), gap.sum(0)) + PENALTY * (
            coefficients - centre
        )
        mean = np.einsum("ik,ikh->ih", p, log_p)
        centred = log_p - mean[:, None, :]
        weighted = p[:, :, None] * centred
        hessian = np.empty((len(centre), len(centre)))
        hessian[:n_stacked, :n_stacked] = np.tensordot(weighted, centred, axes=([0, 1], [0, 1]))
        hessian[:n_stacked, n_stacked:] = weighted.sum(0).T
        hessian[n_stacked:, :n_stacked] = weighted.sum(0)
        hessian[n_stacked:, n_stacked:] = np.diag(p.sum(0)) - p.T @ p
        step = np.linalg.solve(row_weight * hessian + PENALTY * np.eye(len(centre)), gradient)
        # The loss is convex: halve a step that overshoots.
        scale = 1.0
        while (following := loss(coefficients - scale * step)) > current and scale > 1e-6:
            scale /= 2
        if following > current:
            break
        coefficients = coefficients - scale * step
        current = following
        if np.abs(scale * step).max() < 1e-8:
            break
    return coefficients[:n_stacked], coefficients[n_stacked:]


def _stacked_losses(
    log_p: np.ndarray,
    truth: np.ndarray,
    folds: np.ndarray,
    n_repeats: int,
    seed: int,
    members: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Compute each row's log loss under the stack fitted on other patients, and the mean weights."""
    given = log_p[:, :, members]
    losses, weights = np.empty(len(truth)), []
    for fold in range(N_FOLDS):
        train, test = np.flatnonzero(folds != fold), folds == fold
        used = train
        if len(train) > MOST_ROWS:
            used = np.random.default_rng([seed, fold]).choice(train, MOST_ROWS, replace=False)
        # Repeats of one sample are one sample's worth of evidence.
        weight, intercept = fit_stack(given[used], truth[used], 1 / n_repeats)
        logits = given[test] @ weight + intercept
        losses[test] = logsumexp(logits, axis=1) - logits[np.arange(test.sum()), truth[test]]
        weights.append(weight)
    return losses, np.mean(weights, axis=0)
