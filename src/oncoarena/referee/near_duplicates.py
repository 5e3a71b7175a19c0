"""Samples that resemble each other more than two patients do."""

import numpy as np

from oncoarena.referee.pieces import standardise

LEAST_CORRELATION = 0.95
"""Correlation below which two samples are no duplicates, however lonely they are together."""

COPIES = 3
"""Most copies of one sample that can be told: its next neighbours after these say what is usual."""

SPACINGS = range(COPIES + 1, COPIES + 6)
"""Ranks of the neighbours whose distances say how fast similarity falls off among patients."""

CHANCE = 1e-3
"""Probability that any pair of unrelated samples of a study is taken for a duplicate."""


def near_duplicates(values: np.ndarray, patients: np.ndarray) -> list[tuple[int, int, float]]:
    """Find pairs of samples of different patients that are nearly the same.

    Features are standardised, so what all samples have in common does not count, and samples are
    correlated over features. A pair is taken for a duplicate if it correlates by at least
    ``LEAST_CORRELATION`` and stands out of the sample's own neighbours: on the scale of Fisher's z the gap
    between it and the sample's neighbour number ``COPIES`` + 1 is wider than chance allows where
    similarity has an exponential tail, whose scale the spacings of the neighbours after that give.
    Parameters: ``values`` (n_samples, n_features), NaN where missing; ``patients`` (n_samples,) codes.
    Returns (row, row, correlation) of each pair, the first the lower; none with fewer than twelve samples.
    Source: spacings of exponential order statistics, Renyi 1953, doi:10.1007/BF02127580.
    """
    n_samples = len(values)
    deepest = max(SPACINGS) + 1
    if n_samples < deepest + 3:
        return []
    x = standardise(values)
    x -= x.mean(axis=1, keepdims=True)
    x /= np.maximum(np.sqrt((x**2).sum(axis=1, keepdims=True)), 1e-12)
    nearest = np.empty((n_samples, deepest), dtype=np.int64)
    z = np.empty((n_samples, deepest))
    step = max(1, 20_000_000 // n_samples)
    for start in range(0, n_samples, step):
        r = x[start : start + step] @ x.T
        r[patients[start : start + step, None] == patients[None, :]] = -1
        chosen = np.argpartition(-r, deepest, axis=1)[:, :deepest]
        order = np.argsort(-np.take_along_axis(r, chosen, 1), axis=1, kind="stable")
        nearest[start : start + step] = np.take_along_axis(chosen, order, 1)
        found = np.take_along_axis(r, nearest[start : start + step], 1).astype(np.float64)
        # float32 cannot tell correlations closer to 1 than this.
        z[start : start + step] = np.arctanh(np.clip(found, -1 + 1e-6, 1 - 1e-6))
    spacing = np.mean([(k * (z[:, k - 1] - z[:, k])).mean() for k in SPACINGS])
    # The largest of COPIES exponential spacings exceeds this once in n_samples / CHANCE.
    gap = spacing * np.log(COPIES * n_samples / CHANCE)
    pairs: dict[tuple[int, int], float] = {}
    stands_out = z[:, :COPIES] - z[:, COPIES, None] > gap
    for row, k in np.argwhere(stands_out & (np.tanh(z[:, :COPIES]) >= LEAST_CORRELATION)):
        other = nearest[row, k]
        pairs[min(row, other), max(row, other)] = float(np.tanh(z[row, k]))
    return [(int(a), int(b), r) for (a, b), r in sorted(pairs.items())]
