"""Whether two hypotheses can be told apart on the same patients."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from oncoarena.referee import metrics
from oncoarena.referee.bootstrap import exact_interval, percentile_interval, swap_patients
from oncoarena.referee.calibration import delong, difference, mean_influence
from oncoarena.referee.evaluation import PERFECT_AT_ONE, SHARES, effective_trials
from oncoarena.referee.outcomes import Outcomes
from oncoarena.referee.replicates import Replicates, Scorer, metric_names
from oncoarena.referee.weighing import weight_batches

COMPARISON_COLUMNS = [
    "hypothesis_a",
    "hypothesis_b",
    "metric",
    "difference",
    "ci_low",
    "ci_high",
    "p_value",
    "p_holm",
    "family",
    "p_corrected_t",
    "probability_a_better",
    "probability_equivalent",
    "probability_b_better",
    "p_delong",
    "p_mcnemar",
]

METHOD = (
    "difference is a minus b. Its interval is the 95 % percentile interval of the bootstrap over patients "
    "that serves the estimates: both hypotheses on the same resamples. The p value is two-sided, from "
    "exchanging the two predictions of a patient (all samples, all repeats) at random: (b + 1) / (m + 1), "
    "where b of m exchanges differ at least as much. p_holm is Holm's correction over the pairs of a "
    "family for one metric: claims and external models among themselves, and all pairs with a baseline or "
    "control. p_corrected_t is Nadeau and Bengio's t test over the splits, the probabilities are its "
    "Bayesian reading with a region of practical equivalence of 0.01 either way."
)
"""How pairs are compared, in words for the report."""

EQUIVALENT = 0.01
"""Half the width of the region of practical equivalence, in units of the metric."""

SPLIT_METRICS = {
    "auroc_macro": metrics.macro_auroc,
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "macro_f1": metrics.macro_f1,
    "mcc": metrics.mcc,
    "log_loss": metrics.log_loss,
    "brier": metrics.brier,
}
"""Metrics that are computed on each split by itself for the corrected t test."""

MIN_SPLITS = 5
"""Fewer splits say nothing about their spread: no t test over them."""


def compare(
    outcomes: Outcomes,
    replicates: Replicates,
    families: Mapping[str, str],
    train_sizes: Mapping[tuple[int, int], int],
    n_permutations: int,
    seed: int,
    map: Callable[..., Iterable] = map,
) -> pd.DataFrame:
    """Compare every pair of hypotheses in every metric (see ``METHOD``).

    Parameters: ``replicates`` as ``resample`` gives for these outcomes; ``families`` names each
    hypothesis's role: pairs of two "claim" or "external" are one family for Holm, all others another;
    ``train_sizes`` is the number of training samples of each (repeat, fold); ``map`` may be that of a
    thread pool: it deals out pairs.
    Returns the comparison table: the columns of ``COMPARISON_COLUMNS``.
    """
    trials = effective_trials(outcomes)
    by_split = {name: split_metrics(outcomes, name) for name in outcomes.hypotheses}
    shares = _test_shares(outcomes, train_sizes)
    pairs = list(combinations(outcomes.hypotheses, 2))
    seeds = range(seed, seed + len(pairs))
    exchanged = map(partial(exchange_p_values, outcomes, n_permutations=n_permutations), pairs, seeds)
    rows = []
    for (a, b), p_values in zip(pairs, exchanged, strict=True):
        closed = {
            "auroc_macro": {"p_delong": _delong_p(outcomes, a, b)},
            "accuracy": {"p_mcnemar": mcnemar_p(outcomes, a, b)},
        }
        competing = {families.get(a, "claim"), families.get(b, "claim")} <= {"claim", "external"}
        for metric in metric_names(len(outcomes.classes)):
            change = replicates.estimates[a][metric] - replicates.estimates[b][metric]
            drawn = replicates.samples[a][metric] - replicates.samples[b][metric]
            low, high = difference_interval(metric, change, drawn, trials[metric])
            row = {
                "hypothesis_a": a,
                "hypothesis_b": b,
                "metric": metric,
                "difference": change,
                "ci_low": low,
                "ci_high": high,
                "p_value": p_values[metric],
                "family": "claims" if competing else "with a baseline or control",
            }
            if metric in by_split[a]:
                gaps = by_split[a][metric] - by_split[b][metric]
                row |= corrected_t(gaps, shares, metrics.METRICS[metric].higher_is_better)
            rows.append(row | closed.get(metric, {}))
    table = pd.DataFrame(rows, columns=COMPARISON_COLUMNS)
    if len(table):
        numbers = [name for name in COMPARISON_COLUMNS if name.startswith(("p_", "probability"))]
        table[numbers] = table[numbers].astype(np.float64)
        grouped = table.groupby(["family", "metric"])["p_value"]
        table["p_holm"] = grouped.transform(lambda p: holm(p.to_numpy()))
    return table


def difference_interval(
    metric: str, change: float, drawn: np.ndarray, n_trials: float
) -> tuple[float, float]:
    """Compute the paired bootstrap interval of a difference.

    Where no resample ever differs and the metric is bounded, patients on whom the two differ may
    still exist: the exact upper limit of 0 among ``n_trials`` is put on either side. The calibration
    error is biased by an amount that differs between hypotheses: no interval.
    """
    if not np.isfinite(change) or metric == "ece":
        return np.nan, np.nan
    low, high = percentile_interval(drawn)
    if low == high and metric in SHARES + PERFECT_AT_ONE:
        _, reach = exact_interval(0.0, n_trials)
        return change - reach, change + reach
    return min(low, change), max(high, change)


def exchange_p_values(
    outcomes: Outcomes, pair: tuple[str, str], seed: int, n_permutations: int
) -> dict[str, float]:
    """Test each metric's difference by exchanging the predictions of patients at random.

    Under the null hypothesis the labels a and b mean nothing within a patient. NaN where the metric
    is undefined. Source: Good 2005, doi:10.1007/b138696; p: Phipson and Smyth 2010, doi:10.2202/1544-6115.1585.
    """
    a, b = pair
    n_patients = outcomes.n_patients
    # Rows of a, then of b; a patient is two units, of which an exchange picks one for each side.
    scorer = Scorer(
        np.tile(outcomes.truth, 2),
        np.concatenate([outcomes.probabilities[a], outcomes.probabilities[b]]),
        np.concatenate([outcomes.patients, outcomes.patients + n_patients]),
        np.tile(outcomes.repeats, 2),
        2 * n_patients,
        outcomes.positive,
    )

    def gap(swapped: np.ndarray) -> dict[str, np.ndarray]:
        left = scorer(np.concatenate([1 - swapped, swapped]))
        right = scorer(np.concatenate([swapped, 1 - swapped]))
        return {name: left[name] - right[name] for name in left}

    observed = gap(np.zeros((n_patients, 1), dtype=np.uint8))
    exceeded = dict.fromkeys(observed, 0)
    rng = np.random.default_rng(seed)
    for swapped in weight_batches(
        n_permutations, 2 * n_patients, lambda n: swap_patients(n_patients, n, rng)
    ):
        for name, drawn in gap(swapped).items():
            # The allowance counts ties that rounding would part.
            exceeded[name] += int((np.abs(drawn) >= np.abs(observed[name]) - 1e-10).sum())
    return {
        name: (exceeded[name] + 1) / (n_permutations + 1) if np.isfinite(observed[name][0]) else np.nan
        for name in observed
    }


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct p values for their number by Holm's method; NaN stays NaN and is not counted.

    Source: Holm 1979, https://www.jstor.org/stable/4615733.
    """
    corrected = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected


def split_metrics(outcomes: Outcomes, hypothesis: str) -> dict[str, np.ndarray]:
    """Compute each of ``SPLIT_METRICS`` on the test part of each split by itself: (n_splits,) each."""
    probabilities = outcomes.probabilities[hypothesis]
    parts = [(outcomes.truth[rows], probabilities[rows]) for rows in _split_rows(outcomes)]
    return {
        name: np.array([measure(truth, given) for truth, given in parts])
        for name, measure in SPLIT_METRICS.items()
    }


def corrected_t(gaps: np.ndarray, test_share: float, higher_is_better: bool | None) -> dict[str, float]:
    """Test differences over overlapping splits, with the variance that their overlap asks for.

    Parameters: ``gaps`` (n_splits,), a minus b on each split; ``test_share`` is n_test / n_train.
    Returns p_corrected_t and the posterior probabilities that a is better, that both are equivalent
    within ``EQUIVALENT`` and that b is better; all NaN with fewer than ``MIN_SPLITS`` splits or no spread.
    Source: Nadeau and Bengio 2003, doi:10.1023/A:1024068626366; Corani and Benavoli 2015,
    doi:10.1007/s10994-015-5486-z.
    """
    names = ("p_corrected_t", "probability_a_better", "probability_equivalent", "probability_b_better")
    gaps = gaps[np.isfinite(gaps)]
    n_splits = len(gaps)
    spread = gaps.var(ddof=1) if n_splits >= MIN_SPLITS else 0.0
    if spread == 0 or not np.isfinite(test_share):
        return dict.fromkeys(names, np.nan)
    error = np.sqrt((1 / n_splits + test_share) * spread)
    posterior = student(n_splits - 1, loc=gaps.mean(), scale=error)
    p_value = 2 * student.sf(abs(gaps.mean()) / error, n_splits - 1)
    above, below = posterior.sf(EQUIVALENT), posterior.cdf(-EQUIVALENT)
    a_better, b_better = (above, below) if higher_is_better else (below, above)
    return dict(zip(names, (p_value, a_better, 1 - above - below, b_better), strict=True))


def mcnemar_p(outcomes: Outcomes, a: str, b: str) -> float:
    """Test by McNemar's exact test whether a and b are right on different samples.

    NaN where a sample is tested more than once or a patient has several samples: then samples are no
    independent trials. Source: McNemar 1947, doi:10.1007/BF02295996.
    """
    if len(outcomes.truth) != outcomes.n_patients:
        return np.nan
    right_a, right_b = (outcomes.probabilities[x].argmax(axis=1) == outcomes.truth for x in (a, b))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def separability(
    evaluation: pd.DataFrame, comparison: pd.DataFrame, claims: Sequence[str], metric: str
) -> str:
    """Say in a sentence whether the two leading claims can be told apart in a metric.

    Parameters: the evaluation and comparison tables; ``claims`` are the hypotheses in question.
    """
    chosen = evaluation.query("stratum == 'all' and metric == @metric and hypothesis in @claims")
    chosen = chosen.dropna(subset="estimate")
    known = metrics.METRICS[metric]
    title = known.title
    if len(chosen) < 2:
        return f"Fewer than two claims have a value of {title}, so there is nothing to tell apart."
    ranked = chosen.sort_values("estimate", ascending=not known.higher_is_better, kind="stable")
    first, second = ranked.iloc[0], ranked.iloc[1]
    pair = {first["hypothesis"], second["hypothesis"]}
    together = comparison["hypothesis_a"].isin(pair) & comparison["hypothesis_b"].isin(pair)
    row = comparison[together & (comparison["metric"] == metric)].iloc[0]
    sign = 1 if row["hypothesis_a"] == first["hypothesis"] else -1
    low, high = sorted((sign * row["ci_low"], sign * row["ci_high"]))
    gap = sign * row["difference"]
    lead = (
        f"By {title}, {first['hypothesis']} ({first['estimate']:.3f}) is ahead of "
        f"{second['hypothesis']} ({second['estimate']:.3f})"
    )
    found = (
        f"difference {gap:.3f}, 95 % interval {low:.3f} to {high:.3f}, Holm-corrected p = {row['p_holm']:.2g}"
    )
    if gap == 0:
        lead = f"By {title}, {first['hypothesis']} and {second['hypothesis']} are level ({first['estimate']:.3f})"
    if gap != 0 and row["p_holm"] < 0.05 and (low > 0 or high < 0):
        return f"{lead}, and these data tell the two apart ({found})."
    needed = patients_needed(gap, low, high, int(first["n_patients"]))
    more = f" About {needed:,} patients would be needed to tell so small a difference." if needed else ""
    joint = "and" if gap == 0 else "but"
    return f"{lead}, {joint} these data cannot tell the two apart ({found}).{more}"


def patients_needed(gap: float, low: float, high: float, n_patients: int, power: float = 0.8) -> int | None:
    """Estimate how many patients would show a difference of this size, two-sided 5 %.

    The standard error is read off the interval and shrinks with the root of the patients. None where
    the difference is zero or the interval has no width.
    """
    error = (high - low) / (2 * norm.ppf(0.975))
    if not np.isfinite(error) or error <= 0 or gap == 0:
        return None
    needed = n_patients * ((norm.ppf(0.975) + norm.ppf(power)) * error / abs(gap)) ** 2
    # Two figures: a standard error read off an interval carries no more.
    digits = max(0, int(np.floor(np.log10(needed))) - 1)
    return max(n_patients + 1, int(np.ceil(needed / 10**digits) * 10**digits))


def _delong_p(outcomes: Outcomes, a: str, b: str) -> float:
    if len(outcomes.classes) != 2:
        return np.nan
    areas = []
    for name in (a, b):
        scores = outcomes.probabilities[name][:, outcomes.positive]
        parts = []
        for repeat in np.unique(outcomes.repeats):
            rows = outcomes.repeats == repeat
            positive = outcomes.truth[rows] == outcomes.positive
            parts.append(delong(positive, scores[rows], outcomes.patients[rows], outcomes.n_patients))
        areas.append(mean_influence(parts))
    return difference(*areas).p_value()


def _split_rows(outcomes: Outcomes) -> list[np.ndarray]:
    pairs = np.stack([outcomes.repeats, outcomes.folds], axis=1)
    splits, codes = np.unique(pairs, axis=0, return_inverse=True)
    order = np.argsort(codes.reshape(-1), kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes.reshape(-1), minlength=len(splits)))[:-1])


def _test_shares(outcomes: Outcomes, train_sizes: Mapping[tuple[int, int], int]) -> float:
    """Average n_test / n_train over splits; NaN where a split's training size is not known."""
    shares = [
        len(rows) / train_sizes.get((int(outcomes.repeats[rows[0]]), int(outcomes.folds[rows[0]])), np.nan)
        for rows in _split_rows(outcomes)
        if len(rows)
    ]
    return float(np.mean(shares)) if shares else np.nan
