"""What calling at a threshold is worth where the threshold was chosen without a test sample.

A threshold comes from the training part of its split alone: from the probabilities that models gave to training
samples which they had not seen. It is then applied to the test part, and what it does there is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from oncoarena.referee.bootstrap import (
    draw_patients,
    exact_interval,
    patient_strata,
    percentile_interval,
)
from oncoarena.referee.metrics import SENSITIVITY_LEVELS, SPECIFICITIES
from oncoarena.referee.outcomes import Outcomes, join_outcomes
from oncoarena.referee.prevalence import predictive_interval
from oncoarena.referee.weighing import weight_batches, weighted_sums

LEVELS = (*(("specificity", s) for s in SPECIFICITIES), *(("sensitivity", s) for s in SENSITIVITY_LEVELS))
"""What thresholds aim at: (rule, level)."""

THRESHOLD_COLUMNS = [
    "hypothesis",
    "repeat",
    "fold",
    "rule",
    "level",
    "threshold",
    "n_negatives",
    "n_positives",
    "finest",
    "specificity",
    "sensitivity",
]

_RATES = ("specificity", "sensitivity")

OPERATING_COLUMNS = [
    "hypothesis",
    "stratum",
    "rule",
    "level",
    "threshold",
    "threshold_low",
    "threshold_high",
    "n_splits",
    "n_train_negatives",
    "n_train_positives",
    "finest",
    "train_specificity",
    "train_sensitivity",
    *(f"{rate}{end}" for rate in _RATES for end in ("", "_low", "_high", "_exact_low", "_exact_high")),
    *(f"{value}{end}" for value in ("ppv", "npv") for end in ("", "_low", "_high")),
    "n_negatives",
    "n_positives",
    "remark",
]

OPERATING_METHOD = (
    "Thresholds are chosen on training samples alone: in every training part each hypothesis is trained again on "
    "inner folds grouped by patient, and the probabilities of the samples left out decide. For a specificity it is "
    "the lowest threshold at which a new negative sample is expected to be called at most that often: no more than "
    "(n + 1) (1 - specificity) - 1 of the n training negatives reach it. For a sensitivity it is the highest "
    "that at least (n + 1) sensitivity of the n training positives reach. A level that so few samples cannot show has "
    "no threshold; finest is the nearest to 1 that they can. A sample is called where its probability is at least "
    "the threshold of its split. Specificity and sensitivity are those realised on the test samples, pooled "
    "over the folds of a repeat, mean over repeats, with the 95 % interval of the bootstrap over patients and the "
    "exact Clopper-Pearson interval with patients as trials; the thresholds are held fixed in both."
)
"""How thresholds are chosen and judged, in words for the report."""


def specificity_threshold(negatives: np.ndarray, level: float) -> float:
    """Choose the lowest threshold that a new negative score reaches with probability 1 - ``level`` at most.

    Scores (n_negatives,) that are exchangeable with the new one fill n + 1 places in order, each as likely: with j
    of them at or above the threshold the new one is there with probability (j + 1) / (n + 1) at most.
    NaN where even a threshold above all of them promises less than ``level``.
    Source: Wilks 1941, doi:10.1214/aoms/1177731788; Vovk 2005, doi:10.1007/b106715.
    """
    n_above = int(np.floor((len(negatives) + 1) * (1 - level) + 1e-9)) - 1
    if n_above < 0:
        return np.nan
    # Just above the highest score that must not be called; ties with it are not called either.
    return float(np.nextafter(np.sort(negatives)[::-1][n_above], np.inf))


def sensitivity_threshold(positives: np.ndarray, level: float) -> float:
    """Choose the highest threshold that a new positive score reaches with probability ``level`` at least.

    Parameters: ``positives`` (n_positives,). NaN where not even the lowest of them promises so much.
    Source: as for ``specificity_threshold``.
    """
    n_called = int(np.ceil((len(positives) + 1) * level - 1e-9))
    return float(np.sort(positives)[::-1][n_called - 1]) if n_called <= len(positives) else np.nan


def choose_thresholds(
    training: pd.DataFrame,
    samples: pd.DataFrame,
    splits: pd.DataFrame,
    classes: Sequence[str],
    positive: str | None = None,
) -> pd.DataFrame:
    """Choose the thresholds of every hypothesis and split from out-of-fold probabilities of its training part.

    Parameters: ``training`` (hypothesis, repeat, fold, sample_id, ``p_<class>``), each training sample of each split
    once; ``positive``, the positive class of two (the last if None).
    Returns a table with the columns of ``THRESHOLD_COLUMNS``: counts and rates are those of the training part.
    Raises InputError if a training sample is missing or one is no training sample.
    """
    # Training samples stand where predictions of test samples are expected: the same checks apply.
    parts = splits[splits["role"] == "train"].assign(role="test")
    known = join_outcomes(training, samples, parts, classes, positive)
    truth = known.truth == known.positive
    rows = []
    for (repeat, fold), inside in _splits(known.repeats, known.folds).items():
        positives, negatives = inside[truth[inside]], inside[~truth[inside]]
        for name, probabilities in known.probabilities.items():
            scores = probabilities[:, known.positive]
            high, low = scores[positives], scores[negatives]
            for rule, level in LEVELS:
                aims = rule == "specificity"
                threshold = specificity_threshold(low, level) if aims else sensitivity_threshold(high, level)
                n_deciding = len(low) if aims else len(high)
                rates = (_share(low < threshold), _share(high >= threshold))
                rates = (np.nan, np.nan) if np.isnan(threshold) else rates
                finest = n_deciding / (n_deciding + 1)
                rows.append((name, repeat, fold, rule, level, threshold, len(low), len(high), finest, *rates))
    return pd.DataFrame(rows, columns=THRESHOLD_COLUMNS)


def operating_points(
    outcomes: Outcomes,
    thresholds: pd.DataFrame,
    strata: pd.DataFrame,
    reasons: Mapping[str, str],
    n_bootstrap: int,
    seed: int,
    prevalence: float | None = None,
) -> pd.DataFrame:
    """Count what the thresholds do on the test samples, overall and in each stratum (see ``OPERATING_METHOD``).

    Parameters: ``thresholds`` as ``choose_thresholds`` gives; ``strata`` as for ``evaluate``; ``reasons`` says why a
    hypothesis has none; ``prevalence`` adds PPV and NPV.
    Returns a table with the columns of ``OPERATING_COLUMNS``: threshold is the mean over splits, between
    threshold_low and threshold_high; n_train_... and finest are those of the smallest training part; rates of the
    training part are means over splits; n_negatives and n_positives count tested patients. A hypothesis
    without thresholds has one row, whose remark says why.
    """
    chosen = dict(iter(thresholds.groupby("hypothesis", sort=False)))
    judged = outcomes.only([name for name in outcomes.hypotheses if name in chosen])
    rows: list[dict[str, object]] = []
    if judged.hypotheses:
        points = {name: _points(judged, chosen[name]) for name in judged.hypotheses}
        calls = {name: _calls(judged, name, points[name].by_row) for name in judged.hypotheses}
        groups = [("all", np.ones(len(judged.truth), dtype=bool))]
        for column in strata.columns:
            names = strata[column].to_numpy(dtype=object)
            groups += [(name, names == name) for name in sorted(set(names))]
        for stratum, inside in groups:
            part = judged if inside.all() else judged.take(inside)
            called = {name: values[:, inside] for name, values in calls.items()}
            realised = _realise(part, called, n_bootstrap, seed, prevalence)
            for name in judged.hypotheses:
                for told, found in zip(points[name].told, realised[name], strict=True):
                    found = {} if told["remark"] else found
                    rows.append({"hypothesis": name, "stratum": stratum, **told, **found})
    rows += [
        {"hypothesis": name, "stratum": "all", "rule": "", "remark": reasons.get(name) or "no thresholds"}
        for name in outcomes.hypotheses
        if name not in chosen
    ]
    table = pd.DataFrame(rows, columns=OPERATING_COLUMNS)
    words = ["hypothesis", "stratum", "rule", "remark"]
    numbers = [name for name in OPERATING_COLUMNS if name not in words]
    table[numbers] = table[numbers].astype(np.float64)
    return table


@dataclass(frozen=True)
class _Points:
    """The thresholds of one hypothesis: as told of each of ``LEVELS``, and for each test row."""

    told: list[dict[str, object]]
    by_row: np.ndarray
    """(n_levels, n_rows); NaN where a split has none."""


def _points(outcomes: Outcomes, chosen: pd.DataFrame) -> _Points:
    by_row = np.full((len(LEVELS), len(outcomes.truth)), np.nan)
    splits = _splits(outcomes.repeats, outcomes.folds)
    told = []
    for k, (rule, level) in enumerate(LEVELS):
        mine = chosen[(chosen["rule"] == rule) & (chosen["level"] == level)]
        for row in mine.itertuples():
            by_row[k, splits[row.repeat, row.fold]] = row.threshold
        deciding = "negative" if rule == "specificity" else "positive"
        n_least = int(mine[f"n_{deciding}s"].min())
        finest = float(mine["finest"].min())
        remark = ""
        if mine["threshold"].isna().any():
            remark = f"needs {_n_needed(level)} {deciding} training samples; a training part has {n_least}"
        told.append(
            {
                "rule": rule,
                "level": level,
                "threshold": np.nan if remark else mine["threshold"].mean(),
                "threshold_low": np.nan if remark else mine["threshold"].min(),
                "threshold_high": np.nan if remark else mine["threshold"].max(),
                "n_splits": len(mine),
                "n_train_negatives": mine["n_negatives"].min(),
                "n_train_positives": mine["n_positives"].min(),
                "finest": finest,
                "train_specificity": np.nan if remark else mine["specificity"].mean(),
                "train_sensitivity": np.nan if remark else mine["sensitivity"].mean(),
                "remark": remark,
            }
        )
    return _Points(told, by_row)


def _n_needed(level: float) -> int:
    """Samples of one side without which a level cannot be told from 1: n / (n + 1) must reach it."""
    return int(np.ceil(level / (1 - level) - 1e-9))


def _calls(outcomes: Outcomes, hypothesis: str, thresholds: np.ndarray) -> np.ndarray:
    """Say which rows are called at each level: (n_levels, n_rows) bool."""
    return outcomes.probabilities[hypothesis][:, outcomes.positive][None, :] >= thresholds


def _realise(
    outcomes: Outcomes,
    calls: Mapping[str, np.ndarray],
    n_bootstrap: int,
    seed: int,
    prevalence: float | None,
) -> dict[str, list[dict[str, float]]]:
    """Count specificity and sensitivity of all calls, with intervals: for each hypothesis a dictionary a level."""
    truth = outcomes.truth == outcomes.positive
    n_units, n_levels = outcomes.n_patients, len(LEVELS)
    # Rows: negatives not called, positives called, for each hypothesis and level; then all negatives, all positives.
    right = np.concatenate([np.concatenate([~called & ~truth, called & truth]) for called in calls.values()])
    hits = np.concatenate([right, ~truth[None, :], truth[None, :]])
    repeats = []
    for repeat in np.unique(outcomes.repeats):
        rows, columns = np.nonzero(hits & (outcomes.repeats == repeat))
        counted = (np.ones(len(rows)), (rows, outcomes.patients[columns]))
        repeats.append(sparse.csr_matrix(counted, shape=(len(hits), n_units)))

    def measure(weights: np.ndarray) -> np.ndarray:
        """Rates (n_hypotheses, 2, n_levels, n_replicates), mean over repeats."""
        rates = []
        for table in repeats:
            sums = weighted_sums(table, weights)
            counts = sums[:-2].reshape(len(calls), 2, n_levels, -1)
            with np.errstate(invalid="ignore", divide="ignore"):
                rates.append(counts / sums[-2:][None, :, None, :])
        return np.mean(rates, axis=0)

    whole = measure(np.ones((n_units, 1)))[..., 0]
    strata = patient_strata(outcomes.patients, outcomes.truth, 2)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            measure(weights)
            for weights in weight_batches(n_bootstrap, n_units, lambda n: draw_patients(strata, n, rng))
        ],
        axis=-1,
    )
    trials = [len(np.unique(outcomes.patients[side])) for side in (~truth, truth)]
    found: dict[str, list[dict[str, float]]] = {}
    for h, name in enumerate(calls):
        found[name] = []
        for k in range(n_levels):
            values: dict[str, float] = {}
            for side, rate in enumerate(_RATES):
                estimate = float(whole[h, side, k])
                low, high = percentile_interval(drawn[h, side, k])
                exact = exact_interval(estimate, trials[side])
                values |= {rate: estimate, f"{rate}_low": low, f"{rate}_high": high}
                values |= {f"{rate}_exact_low": exact[0], f"{rate}_exact_high": exact[1]}
            if prevalence is not None:
                rates, replicates = whole[h, ::-1, k], drawn[h, ::-1, k]
                pair = predictive_interval(rates, replicates, trials[::-1], prevalence)
                for value, (estimate, low, high) in zip(("ppv", "npv"), pair, strict=True):
                    values |= {value: estimate, f"{value}_low": low, f"{value}_high": high}
            found[name].append(values | {"n_negatives": trials[0], "n_positives": trials[1]})
    return found


def _splits(repeats: np.ndarray, folds: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Row numbers of each (repeat, fold)."""
    found = pd.DataFrame({"repeat": repeats, "fold": folds}).groupby(["repeat", "fold"]).indices
    return {(int(repeat), int(fold)): rows for (repeat, fold), rows in found.items()}


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if len(hits) else np.nan
