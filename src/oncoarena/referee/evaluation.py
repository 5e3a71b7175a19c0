"""How good each hypothesis is: one number a metric and stratum, with an interval over patients."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from oncoarena.errors import InputError
from oncoarena.referee.bootstrap import exact_interval, logit_interval, percentile_interval
from oncoarena.referee.calibration import Influence, delong, mean_influence, recalibration
from oncoarena.referee.decomposition import PARTS, brier_rows
from oncoarena.referee.metrics import SPECIFICITIES
from oncoarena.referee.outcomes import Outcomes
from oncoarena.referee.prevalence import prevalence_rows
from oncoarena.referee.replicates import AT_SENSITIVITY, SENSITIVITIES, Replicates, resample

ESTIMAND = (
    "In each repeat the test predictions of all folds are pooled, the metric is computed on the pooled "
    "samples, and the results are averaged over repeats. Intervals are 95 % percentile intervals of a "
    "bootstrap over patients within classes: the same resampled patients in all repeats and for all "
    "hypotheses. They say how the result would vary with other patients tested, not with models trained "
    "anew. Those of AUROC and AUPRC are on the scale of their log-odds, with the bootstrap's standard "
    "error: they hold the true value more often where patients are few, and for the same reason those of "
    "other scores than shares are widened by what Student's t with the patients of the smallest class has "
    "more than a normal variable. Intervals of shares (accuracy, balanced accuracy, top 3, sensitivity) "
    "are widened to hold the exact Clopper-Pearson interval with patients as trials, so that 20 of 20 "
    "right is not certainty; other scores whose bootstrap never leaves the perfect value get that exact "
    "interval instead. The calibration error has no interval: noise alone keeps it above zero."
)
"""The estimand and its interval, in words for the report."""

EVALUATION_COLUMNS = [
    "hypothesis",
    "metric",
    "stratum",
    "estimate",
    "ci_low",
    "ci_high",
    "n_samples",
    "n_patients",
    "interval",
]

MIN_PATIENTS = 5
"""A stratum of fewer patients gets no estimate: any number would be read as more than it is."""

SHARES = ("accuracy", "balanced_accuracy", "top3_accuracy", *SENSITIVITIES, *AT_SENSITIVITY)
"""Metrics that are shares of patients, or means of such: the exact interval applies to them."""

AREAS = ("auroc_macro", "auprc")
"""Areas under curves: their intervals are computed on the scale of their log-odds."""

PERFECT_AT_ONE = ("auroc_macro", "auprc", "macro_f1", "mcc")
"""Metrics whose best value is 1 and which are no plain shares."""


def evaluate(
    outcomes: Outcomes,
    strata: pd.DataFrame,
    n_bootstrap: int,
    seed: int,
    overall: Replicates | None = None,
    map: Callable[..., Iterable] = map,
    prevalence: float | None = None,
) -> pd.DataFrame:
    """Estimate every metric of every hypothesis, overall and in each stratum (see ``ESTIMAND``).

    Parameters: ``strata`` has one row a row of ``outcomes`` and a column of str a grouping (see
    ``stratum_names``); ``overall`` are the replicates of all samples, where they are at hand; ``map`` may be that of a
    thread pool: it deals out hypotheses; ``prevalence`` of the positive class of two adds PPV and NPV there.
    Returns the evaluation table: the columns of ``EVALUATION_COLUMNS``; stratum "all" first.
    """
    overall = resample(outcomes, n_bootstrap, seed, map) if overall is None else overall
    options = n_bootstrap, seed, prevalence, map
    rows = _stratum_rows(outcomes, "all", overall, *options)
    for column in strata.columns:
        names = strata[column].to_numpy(dtype=object)
        for name in sorted(set(names)):
            chosen = outcomes.take(names == name)
            small = chosen.n_patients < MIN_PATIENTS
            replicates = None if small else resample(chosen, n_bootstrap, seed, map)
            rows += _stratum_rows(chosen, name, replicates, *options)
    return pd.DataFrame(rows, columns=EVALUATION_COLUMNS)


CODES = ("site",)
"""Columns of the sheet whose numbers are names: 2 is no more than 1, and no site belongs to a band of sites."""


def plain_names(values: pd.Series) -> pd.Series:
    """Write the cells of a column as stripped str, "" where missing, whole numbers without decimals."""
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return values.astype(object).where(values.notna(), "").astype(str).str.strip()


def stratum_names(samples: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Name the stratum of each sample in each column: "column=value".

    Numbers with more than five values are cut into thirds by rank (quarters from 200 samples on),
    named by their range, but not the numbers of ``CODES``; missing values make the stratum "column=missing".
    Returns a table of str, one row a sample, one column a grouping.
    Raises InputError for a column that the sample sheet does not have.
    """
    named = {}
    for column in columns:
        if column not in samples.columns:
            raise InputError(
                f"strata: found {column!r}, expected a column of the sample sheet: {', '.join(samples.columns)}."
            )
        values = samples[column]
        text = plain_names(values)
        numbers = pd.to_numeric(text, errors="coerce")
        known = text != ""
        if column in CODES:
            pass
        elif known.any() and numbers[known].notna().all() and numbers[known].nunique() > 5:
            text = _bands(numbers)
        elif pd.api.types.is_numeric_dtype(values):
            text = numbers.map("{:g}".format)
        named[column] = (f"{column}=" + text.where(known, "missing")).to_numpy(dtype=object)
    return pd.DataFrame(named, index=samples.index)


def strata_of_rows(outcomes: Outcomes, samples: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Name the strata of the sample behind each row of ``outcomes``: one row a row, one column a grouping.

    Bands of numbers are cut over the samples that are tested, each counted once.
    """
    sheet = samples.set_index(samples["sample_id"].astype(str))
    tested, positions = np.unique(outcomes.sample_ids, return_inverse=True)
    return stratum_names(sheet.loc[tested], columns).iloc[positions].reset_index(drop=True)


def _bands(numbers: pd.Series) -> pd.Series:
    """Cut numbers into bands of about equal size, each named by its smallest and largest value."""
    n_bands = 4 if numbers.notna().sum() >= 200 else 3
    edges = np.unique(numbers.quantile(np.linspace(0, 1, n_bands + 1)[1:-1]))
    codes = np.searchsorted(edges, numbers.to_numpy(), side="left")
    names = pd.Series("", index=numbers.index, dtype=object)
    for code in range(len(edges) + 1):
        inside = (codes == code) & numbers.notna()
        if inside.any():
            names[inside] = f"{numbers[inside].min():g} to {numbers[inside].max():g}"
    return names


def _stratum_rows(
    outcomes: Outcomes,
    stratum: str,
    replicates: Replicates | None,
    n_bootstrap: int,
    seed: int,
    prevalence: float | None,
    map: Callable[..., Iterable],
) -> list[tuple]:
    """List the rows of one stratum; without replicates (too small) the numbers are NaN."""
    n_samples, n_patients = len(np.unique(outcomes.sample_ids)), outcomes.n_patients
    trials, smallest = effective_trials(outcomes), smallest_class(outcomes)
    binary = len(outcomes.classes) == 2
    parts = partial(brier_rows, outcomes, n_bootstrap=n_bootstrap, seed=seed)
    measured = outcomes.hypotheses if replicates is not None else ()
    brier = dict(zip(measured, map(parts, measured), strict=True))
    rows = []
    for hypothesis in outcomes.hypotheses:
        if replicates is None:
            names = [*trials, *PARTS, *(CLOSED_FORM if binary else ())]
            values = dict.fromkeys(names, (np.nan, np.nan, np.nan, "too few patients"))
        else:
            estimates, samples = replicates.estimates[hypothesis], replicates.samples[hypothesis]
            values = {
                name: (estimate, *metric_interval(name, estimate, samples[name], trials[name], smallest))
                for name, estimate in estimates.items()
            }
            values |= brier[hypothesis]
            values |= _closed_form(outcomes, hypothesis) if binary else {}
            if binary and prevalence is not None:
                at = {s: values[name][:3] for s, name in zip(SPECIFICITIES, SENSITIVITIES, strict=True)}
                values |= prevalence_rows(outcomes, hypothesis, prevalence, at, n_bootstrap, seed)
        rows += [
            (hypothesis, name, stratum, estimate, low, high, n_samples, n_patients, how)
            for name, (estimate, low, high, how) in values.items()
        ]
    return rows


def metric_interval(
    metric: str, estimate: float, replicates: np.ndarray, n_trials: float, n_smallest: int
) -> tuple[float, float, str]:
    """Compute the interval of one metric, and say how: (low, high, method). See ``ESTIMAND``.

    Parameters: ``n_trials`` see ``effective_trials``; ``n_smallest`` patients of the smallest class.
    """
    if not np.isfinite(estimate):
        return np.nan, np.nan, "undefined"
    if metric == "ece":
        # Gaps of pure noise add up, in resamples doubly: an interval would miss a calibrated model's 0.
        return np.nan, np.nan, "none: biased upward"
    # Shares are widened below, and areas have an interval of another kind.
    is_plain = metric not in SHARES and metric not in AREAS
    low, high = percentile_interval(replicates, n_smallest if is_plain else np.inf)
    if not np.isfinite(low):
        return low, high, "undefined in too many resamples"
    # The estimate itself always belongs to its interval (metrics biased in resamples may miss it).
    low, high = min(low, estimate), max(high, estimate)
    exact_low, exact_high = exact_interval(estimate, n_trials)
    if metric in SHARES and np.isfinite(exact_low):
        return min(low, exact_low), max(high, exact_high), "bootstrap with Clopper-Pearson"
    if metric in PERFECT_AT_ONE and low == high == 1 and np.isfinite(exact_low):
        return exact_low, exact_high, "Clopper-Pearson"
    if metric in AREAS:
        low, high = logit_interval(estimate, replicates, n_trials)
        return min(low, estimate), max(high, estimate), "bootstrap of the log-odds"
    return low, high, "bootstrap"


def smallest_class(outcomes: Outcomes) -> int:
    """Count the patients of the smallest class that has any."""
    pairs = np.unique(np.stack([outcomes.patients, outcomes.truth]), axis=1)
    by_class = np.bincount(pairs[1])
    return int(by_class[by_class > 0].min(initial=0)) if len(by_class) else 0


def effective_trials(outcomes: Outcomes) -> dict[str, float]:
    """Count for each metric how many patients its exact interval may take as trials.

    Accuracy: all patients. A mean over classes: the number of equally split trials with the same
    variance, n_classes^2 / sum(1 / n_class). Rankings: the same with the smaller side of each class
    against the rest. Sensitivity: the patients of the positive class; specificity: those of the other.
    """
    n_classes = len(outcomes.classes)
    pairs = np.unique(np.stack([outcomes.patients, outcomes.truth]), axis=1)
    by_class = np.bincount(pairs[1], minlength=n_classes).astype(np.float64)
    sides = np.minimum(by_class, outcomes.n_patients - by_class)
    means, ranks = _harmonic(by_class), float(sides.min()) if n_classes == 2 else _harmonic(sides)
    trials = {
        "auroc_macro": ranks,
        "accuracy": float(outcomes.n_patients),
        "balanced_accuracy": means,
        "macro_f1": means,
        "mcc": means,
    }
    if n_classes > 3:
        trials["top3_accuracy"] = float(outcomes.n_patients)
    trials |= {"log_loss": np.nan, "brier": np.nan, "ece": np.nan}
    if n_classes == 2:
        trials |= {"auprc": ranks} | dict.fromkeys(SENSITIVITIES, float(by_class[outcomes.positive]))
        trials |= dict.fromkeys(AT_SENSITIVITY, float(by_class[1 - outcomes.positive]))
    return trials


def _harmonic(sizes: np.ndarray) -> float:
    present = sizes[sizes > 0]
    return float(len(present) ** 2 / (1 / present).sum()) if len(present) else np.nan


CLOSED_FORM = ("auroc_delong", "calibration_slope", "calibration_intercept")
"""Metrics of two classes whose interval comes from a formula over patients."""


def _closed_form(outcomes: Outcomes, hypothesis: str) -> dict[str, tuple[float, float, float, str]]:
    scores = outcomes.probabilities[hypothesis][:, outcomes.positive]
    positive = outcomes.truth == outcomes.positive
    fits = []
    for repeat in np.unique(outcomes.repeats):
        rows = outcomes.repeats == repeat
        given = positive[rows], scores[rows], outcomes.patients[rows], outcomes.n_patients
        fits.append((delong(*given), *recalibration(*given)))
    area, slope, intercept = (mean_influence(list(parts)) for parts in zip(*fits, strict=True))
    return {
        "auroc_delong": _delong_row(area),
        "calibration_slope": (slope.estimate, *slope.interval(), "patient-clustered Wald"),
        "calibration_intercept": (intercept.estimate, *intercept.interval(), "patient-clustered Wald"),
    }


def _delong_row(area: Influence) -> tuple[float, float, float, str]:
    low, high = area.interval()
    if area.standard_error == 0 or not np.isfinite(low):
        return area.estimate, np.nan, np.nan, "DeLong not defined: the classes are separated"
    return area.estimate, max(low, 0.0), min(high, 1.0), "DeLong"
