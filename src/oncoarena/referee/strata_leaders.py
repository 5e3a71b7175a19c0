"""Which hypothesis each stratum favours, and whether its patients can tell."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from oncoarena.referee.comparison import difference_interval, exchange_p_values, holm
from oncoarena.referee.evaluation import MIN_PATIENTS, effective_trials
from oncoarena.referee.metrics import METRICS
from oncoarena.referee.outcomes import Outcomes
from oncoarena.referee.replicates import Replicates, resample

LEADER_COLUMNS = [
    "grouping",
    "stratum",
    "metric",
    "n_samples",
    "n_patients",
    "leader",
    "estimate",
    "runner_up",
    "runner_up_estimate",
    "difference",
    "ci_low",
    "ci_high",
    "p_value",
    "p_holm",
    "separable",
    "leads_overall",
]


def strata_leaders(
    outcomes: Outcomes,
    strata: pd.DataFrame,
    hypotheses: Sequence[str],
    metric: str,
    n_bootstrap: int,
    n_permutations: int,
    seed: int,
    overall: Replicates | None = None,
    map: Callable[..., Iterable] = map,
) -> pd.DataFrame:
    """Name the best two hypotheses of all samples and of each stratum in a metric, and compare them.

    Parameters: ``strata`` as for ``evaluate``; ``hypotheses``, those in question (claims and external models).
    difference is leader minus runner-up, with the paired bootstrap interval and the exchange p value of the
    comparison; p_holm is corrected over the strata; separable where p_holm is below 0.05 and the interval
    excludes 0; leads_overall says whether the leader is that of all samples. Strata of too few patients or without
    the metric have no leader ("").
    ``overall`` are the replicates of all samples, where they are at hand; ``map`` may be that of a thread
    pool: it deals out strata.
    Returns a table with the columns of ``LEADER_COLUMNS``, all samples first (grouping and stratum "all").
    """
    outcomes = outcomes.only(hypotheses)
    if len(outcomes.hypotheses) < 2:
        return pd.DataFrame(columns=LEADER_COLUMNS)
    groups = [("all", "all", np.ones(len(outcomes.truth), dtype=bool))]
    for column in strata.columns:
        names = strata[column].to_numpy(dtype=object)
        groups += [(column, name, names == name) for name in sorted(set(names))]

    def row(group: tuple[str, str, np.ndarray]) -> dict[str, object]:
        grouping, stratum, inside = group
        whole = grouping == "all"
        part = outcomes if whole else outcomes.take(inside)
        known = {
            "grouping": grouping,
            "stratum": stratum,
            "metric": metric,
            "n_samples": len(np.unique(part.sample_ids)),
            "n_patients": part.n_patients,
        }
        at_hand = overall if whole else None
        return known | _leader(part, metric, n_bootstrap, n_permutations, seed, at_hand)

    rows = list(map(row, groups))
    table = pd.DataFrame(rows, columns=LEADER_COLUMNS)
    inside = table["grouping"] != "all"
    table["p_holm"] = table["p_value"]
    table.loc[inside, "p_holm"] = holm(table.loc[inside, "p_value"].to_numpy(dtype=np.float64))
    clear = (table["ci_low"] > 0) | (table["ci_high"] < 0)
    table["separable"] = (table["p_holm"] < 0.05) & clear
    table["leads_overall"] = (table["leader"] == table["leader"].iloc[0]) & (table["leader"] != "")
    return table


def _leader(
    part: Outcomes,
    metric: str,
    n_bootstrap: int,
    n_permutations: int,
    seed: int,
    at_hand: Replicates | None,
) -> dict[str, object]:
    numbers = ("estimate", "runner_up_estimate", "difference", "ci_low", "ci_high", "p_value")
    nobody = {"leader": "", "runner_up": ""} | dict.fromkeys(numbers, np.nan)
    if part.n_patients < MIN_PATIENTS:
        return nobody
    found = (at_hand or resample(part, 1, seed)).estimates
    sign = -1 if METRICS[metric].higher_is_better else 1
    ranked = sorted(part.hypotheses, key=lambda name: sign * found[name][metric])
    estimates = {name: found[name][metric] for name in ranked}
    if not np.isfinite(list(estimates.values())).all():
        return nobody
    first, second = ranked[:2]
    drawn = (at_hand or resample(part.only([first, second]), n_bootstrap, seed)).samples
    gap = estimates[first] - estimates[second]
    low, high = difference_interval(
        metric, gap, drawn[first][metric] - drawn[second][metric], effective_trials(part)[metric]
    )
    return {
        "leader": first,
        "estimate": estimates[first],
        "runner_up": second,
        "runner_up_estimate": estimates[second],
        "difference": gap,
        "ci_low": low,
        "ci_high": high,
        "p_value": exchange_p_values(part, (first, second), seed, n_permutations)[metric],
    }
