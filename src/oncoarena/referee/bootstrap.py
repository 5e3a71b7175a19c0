"""Resampling patients, and intervals from what comes of it.

The patient is the unit: all samples of a patient, in all repeats and for all hypotheses, are drawn
together. Patients are drawn with replacement within classes (a patient with samples of several
classes belongs to the stratum of that set of classes), so each replicate has the study's mix.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.special import expit, logit
from scipy.stats import beta, norm
from scipy.stats import t as student

CONFIDENCE = 0.95
"""Nominal coverage of every interval."""

CHUNK_CELLS = 3_200_000
"""Weights held at a time, patients times replicates: 3 MB stay in a processor's cache."""


def patient_strata(patients: np.ndarray, truth: np.ndarray, n_classes: int) -> np.ndarray:
    """Code each patient's set of classes: (n_patients,) int.

    Parameters: ``patients`` (n_rows,) codes 0 to n_patients - 1, ``truth`` (n_rows,) class codes.
    """
    n_patients = int(patients.max(initial=-1)) + 1
    has = sparse.coo_matrix(
        (np.ones(len(patients), dtype=np.int64), (patients, truth)), shape=(n_patients, n_classes)
    ).toarray()
    if n_classes < 63:
        # One number a set of classes sorts far faster than rows of a table.
        sets = (has > 0) @ (1 << np.arange(n_classes - 1, -1, -1, dtype=np.int64))
        _, strata = np.unique(sets, return_inverse=True)
    else:
        _, strata = np.unique(has > 0, axis=0, return_inverse=True)
    return strata.reshape(-1)


def draw_patients(strata: np.ndarray, n_replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Count how often each patient is drawn in each replicate: (n_patients, n_replicates) uint8."""
    counts = np.empty((len(strata), n_replicates), dtype=np.uint8)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        draws = rng.integers(len(members), size=(n_replicates, len(members)))
        draws += np.arange(n_replicates)[:, None] * len(members)
        drawn = np.bincount(draws.ravel(), minlength=n_replicates * len(members))
        counts[members] = drawn.reshape(n_replicates, len(members)).T
    return counts


def swap_patients(n_patients: int, n_replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Decide by a fair coin for each patient and replicate: (n_patients, n_replicates) uint8, 0 or 1."""
    return rng.integers(2, size=(n_patients, n_replicates), dtype=np.uint8)


def chunks(n_replicates: int, n_units: int) -> Iterator[int]:
    """Cut replicates into chunks that fit ``CHUNK_CELLS``: yields the size of each."""
    size = max(32, CHUNK_CELLS // max(n_units, 1))
    for start in range(0, n_replicates, size):
        yield min(size, n_replicates - start)


def percentile_interval(replicates: np.ndarray, n_units: float = np.inf) -> tuple[float, float]:
    """Take the central ``CONFIDENCE`` part of bootstrap replicates (n_replicates,).

    With ``n_units``, the patients of the smallest class, the part is larger by what Student's t has more than the
    normal distribution and a variance over n - 1 more than one over n. NaN where more than a tenth of the replicates
    are undefined: the rest would be a chosen sample.
    Source: Efron and Tibshirani 1993, doi:10.1201/9780429246593; Hesterberg 2015, doi:10.1080/00031305.2015.1089789.
    """
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < max(0.9 * len(replicates), 1):
        return np.nan, np.nan
    tail = (1 - CONFIDENCE) / 2
    if 1 < n_units < np.inf:
        tail = norm.cdf(np.sqrt(n_units / (n_units - 1)) * student.ppf(tail, n_units - 1))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def logit_interval(estimate: float, replicates: np.ndarray, n_trials: float) -> tuple[float, float]:
    """Compute the interval of a share-like score (an area under a curve) on the scale of its log-odds.

    The estimate's log-odds, more or less as many bootstrap standard errors of them as a normal variable needs: near 1,
    and with few patients, percentiles of the replicates reach too little beyond the estimate. Parameters: ``n_trials``
    the patients that decide; a replicate of 0 or 1 counts as a tenth of a patient away. NaN as ``percentile_interval``.
    Source: Boyd, Eng and Page 2013, doi:10.1007/978-3-642-40994-3_29.
    """
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < max(0.9 * len(replicates), 1) or not n_trials > 0:
        return np.nan, np.nan
    edge = min(0.1 / n_trials, 0.25)
    error = logit(np.clip(defined, edge, 1 - edge)).std()
    reach = norm.ppf((1 + CONFIDENCE) / 2) * error
    centre = logit(np.clip(estimate, edge, 1 - edge))
    return float(expit(centre - reach)), float(expit(centre + reach))


def exact_interval(share: float, n_trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Compute the Clopper-Pearson interval of a share; the number of trials may be fractional.

    Source: Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    if not (n_trials > 0 and 0 <= share <= 1):
        return np.nan, np.nan
    hits = share * n_trials
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, hits, n_trials - hits + 1) if hits > 0 else 0.0
    high = beta.ppf(1 - tail, hits + 1, n_trials - hits) if hits < n_trials else 1.0
    return float(low), float(high)
