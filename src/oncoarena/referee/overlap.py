"""Whether hypotheses fail on the same patients."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import sparse

from oncoarena.referee.bootstrap import chunks, draw_patients, patient_strata, percentile_interval
from oncoarena.referee.outcomes import Outcomes
from oncoarena.referee.weighing import weighted_sums

OVERLAP_COLUMNS = [
    "hypothesis_a",
    "hypothesis_b",
    "both_wrong",
    "only_a",
    "only_b",
    "both_right",
    "expected_both_wrong",
    "kappa",
    "kappa_low",
    "kappa_high",
    "phi",
    "n",
]

MOST_REPLICATES = 200


def error_overlap(outcomes: Outcomes, n_bootstrap: int, seed: int) -> pd.DataFrame:
    """Count for each pair of hypotheses which samples either gets wrong by its most probable class.

    Counts are means over repeats, n the samples of a repeat; only_a counts samples that a alone gets
    wrong; expected_both_wrong is what independent errors would give. kappa (with a 95 % interval of the
    bootstrap over patients) and phi say how far errors fall together: 0 as by chance, 1 always.
    They are NaN where neither, or each, is always wrong or always right.
    Source: kappa of errors, Cohen 1960, doi:10.1177/001316446002000104; diversity of classifiers, Kuncheva 2003,
    doi:10.1023/A:1022859003006.
    Returns a table with the columns of ``OVERLAP_COLUMNS``.
    """
    names = outcomes.hypotheses
    wrong = np.array(
        [p.argmax(axis=1) != outcomes.truth for p in outcomes.probabilities.values()], dtype=bool
    )
    pairs = list(combinations(range(len(names)), 2))
    if not pairs:
        return pd.DataFrame(columns=OVERLAP_COLUMNS)
    a, b = np.array(pairs).T
    # Rows: both wrong for each pair, wrong for each hypothesis, all samples; linear in the weights.
    hits = [*(wrong[i] & wrong[j] for i, j in pairs), *wrong, np.ones(len(outcomes.truth), dtype=bool)]
    units = [outcomes.patients[hit] for hit in hits]
    rows = np.repeat(np.arange(len(hits)), [len(part) for part in units])
    sums = sparse.csr_matrix(
        (np.ones(len(rows)), (rows, np.concatenate(units))), shape=(len(hits), outcomes.n_patients)
    )

    def measure(weights: np.ndarray) -> tuple[np.ndarray, ...]:
        counts = weighted_sums(sums, weights)
        return counts[: len(pairs)], counts[len(pairs) : -1][a], counts[len(pairs) : -1][b], counts[-1]

    both, wrong_a, wrong_b, total = measure(np.ones((outcomes.n_patients, 1)))
    strata = patient_strata(outcomes.patients, outcomes.truth, len(outcomes.classes))
    rng = np.random.default_rng(seed)
    sizes = chunks(min(n_bootstrap, MOST_REPLICATES), outcomes.n_patients)
    drawn = np.concatenate(
        [kappa_phi(*measure(draw_patients(strata, size, rng)))[0] for size in sizes], axis=1
    )
    kappa, phi = kappa_phi(both, wrong_a, wrong_b, total)
    per_repeat = 1 / outcomes.n_repeats
    lows, highs = np.array([percentile_interval(replicates) for replicates in drawn]).T
    return pd.DataFrame(
        {
            "hypothesis_a": [names[i] for i in a],
            "hypothesis_b": [names[j] for j in b],
            "both_wrong": both[:, 0] * per_repeat,
            "only_a": (wrong_a - both)[:, 0] * per_repeat,
            "only_b": (wrong_b - both)[:, 0] * per_repeat,
            "both_right": (total - wrong_a - wrong_b + both)[:, 0] * per_repeat,
            "expected_both_wrong": (wrong_a * wrong_b / total)[:, 0] * per_repeat,
            "kappa": kappa[:, 0],
            "kappa_low": lows,
            "kappa_high": highs,
            "phi": phi[:, 0],
            "n": total[0] * per_repeat,
        },
        columns=OVERLAP_COLUMNS,
    )


def kappa_phi(
    both: np.ndarray, wrong_a: np.ndarray, wrong_b: np.ndarray, total: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute Cohen's kappa and phi of two error patterns from counts, elementwise."""
    p, a, b = both / total, wrong_a / total, wrong_b / total
    by_chance = a * b + (1 - a) * (1 - b)
    agreed = p + (1 - a - b + p)
    spread = a * (1 - a) * b * (1 - b)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(
            by_chance < 1, (agreed - by_chance) / np.where(by_chance < 1, 1 - by_chance, 1), np.nan
        )
        phi = np.where(spread > 0, (p - a * b) / np.sqrt(np.where(spread > 0, spread, 1)), np.nan)
    return kappa, phi
