"""The Brier score in its parts: how far off the probabilities are, and how much they tell samples apart."""

import numpy as np
from scipy import sparse

from oncoarena.referee.bootstrap import draw_patients, patient_strata, percentile_interval
from oncoarena.referee.metrics import brier_scores, calibration_bin_count, equal_mass_bins
from oncoarena.referee.outcomes import Outcomes
from oncoarena.referee.weighing import weight_batches, weighted_sums

PARTS = ("brier_reliability", "brier_resolution", "brier_uncertainty")

MOST_REPLICATES = 400
"""Bootstrap replicates: enough for an interval of a part, few enough for many classes."""


class _Binned:
    """Sums of one repeat by class and bin, linear in the weights of units."""

    def __init__(
        self, truth: np.ndarray, probabilities: np.ndarray, units: np.ndarray, n_units: int, positive: int
    ) -> None:
        n_rows, n_classes = probabilities.shape
        # Two classes mirror each other, and the Brier score of two is halved: the positive one is all.
        self.chosen = [positive] if n_classes == 2 else list(range(n_classes))
        n_bins = calibration_bin_count(n_rows)
        self.shape = (len(self.chosen), n_bins)
        bins = np.stack([equal_mass_bins(probabilities[:, c], n_bins) for c in self.chosen])
        hits = truth[None, :] == np.array(self.chosen)[:, None]
        cells = bins + n_bins * np.arange(len(self.chosen))[:, None]
        size = len(self.chosen) * n_bins
        n_rest = n_classes + 1
        columns = np.tile(units, len(self.chosen))
        binned = sparse.coo_matrix(
            (
                np.concatenate([np.ones(cells.size), (probabilities[:, self.chosen].T - hits).ravel()]),
                (np.concatenate([cells.ravel(), size + cells.ravel()]), np.tile(columns, 2)),
            ),
            shape=(2 * size, n_units),
        )
        rest = sparse.coo_matrix(
            (
                np.concatenate([np.ones(n_rows), brier_scores(truth, probabilities)]),
                (np.concatenate([truth, np.full(n_rows, n_classes)]), np.tile(units, 2)),
            ),
            shape=(n_rest, n_units),
        )
        self.sums = sparse.vstack([binned, rest], format="csr")

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Compute reliability, resolution and uncertainty: (3, n_replicates)."""
        sums = weighted_sums(self.sums, weights)
        size = self.shape[0] * self.shape[1]
        counts, gaps = sums[:size], sums[size : 2 * size]
        by_class = sums[2 * size : -1]
        total = by_class.sum(0)
        safe = np.where(total > 0, total, np.nan)
        share = by_class[self.chosen] / safe
        reliability = (gaps**2 / np.maximum(counts, 1)).sum(0) / safe
        uncertainty = (share * (1 - share)).sum(0)
        return np.stack([reliability, reliability + uncertainty - sums[-1] / safe, uncertainty])


def brier_parts(
    truth: np.ndarray, probabilities: np.ndarray, positive: int | None = None
) -> tuple[float, float, float]:
    """Split the Brier score: reliability - resolution + uncertainty is the score exactly.

    Each class against the rest, in bins of equal mass of its probability, summed over classes (two classes: the
    positive one, the last if None). Reliability is the squared gap between mean probability and frequency of
    a bin; uncertainty the variance of the class; resolution what is left, so it holds the variance within
    bins too.
    Source: Murphy 1973, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2; within bins: Stephenson 2008,
    doi:10.1175/2007WAF2006116.1.
    """
    rows = np.arange(len(truth))
    last = probabilities.shape[1] - 1 if positive is None else positive
    parts = _Binned(truth, probabilities, rows, len(truth), last)(np.ones((len(truth), 1)))[:, 0]
    return tuple(float(part) for part in parts)


def brier_rows(
    outcomes: Outcomes, hypothesis: str, n_bootstrap: int, seed: int
) -> dict[str, tuple[float, float, float, str]]:
    """Estimate the parts over repeats: (estimate, low, high, how) for each of ``PARTS``.

    Noise in a bin's frequency adds to reliability and resolution, in a resample twice: intervals are
    percentiles of the bootstrap less twice the bias that it shows, widened to hold the estimate.
    """
    n_units = outcomes.n_patients
    probabilities = outcomes.probabilities[hypothesis]
    repeats = [
        _Binned(
            outcomes.truth[rows], probabilities[rows], outcomes.patients[rows], n_units, outcomes.positive
        )
        for rows in (outcomes.repeats == repeat for repeat in np.unique(outcomes.repeats))
    ]

    def measure(weights: np.ndarray) -> np.ndarray:
        return np.mean([binned(weights) for binned in repeats], axis=0)

    whole = measure(np.ones((n_units, 1)))[:, 0]
    strata = patient_strata(outcomes.patients, outcomes.truth, len(outcomes.classes))
    rng = np.random.default_rng(seed)
    n_drawn = min(n_bootstrap, MOST_REPLICATES)
    batches = weight_batches(n_drawn, n_units, lambda n: draw_patients(strata, n, rng))
    drawn = np.concatenate([measure(weights) for weights in batches], axis=1)
    found = {}
    for name, estimate, replicates in zip(PARTS[:2], whole, drawn, strict=False):
        low, high = percentile_interval(replicates - 2 * (np.nanmean(replicates) - estimate))
        # Neither part is negative, but what estimates resolution may be, and belongs to its interval.
        low, high = min(max(low, 0.0), estimate), max(high, estimate)
        found[name] = float(estimate), float(low), float(high), "bootstrap less twice its bias"
    # Resamples keep the mix of classes, on which alone it depends.
    found[PARTS[2]] = float(whole[2]), np.nan, np.nan, "none: fixed by the mix of classes"
    return found
