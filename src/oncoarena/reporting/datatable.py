"""Tables of the report: rows of text under headings, ready for the page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from oncoarena.reporting import figures
from oncoarena.reporting.glossary import (
    CURVES,
    DASH,
    METRICS,
    MINUS,
    ROLES,
    better_end,
    count,
    decimals,
    interval,
    metric,
    p_value,
    signed,
)
from oncoarena.reporting.series import Series

ROC_READINGS = (0.0, 0.05, 0.1, 0.2, 0.5)
"""False-positive rates at which the table behind the ROC curves reads them."""

READINGS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Positions at which the tables behind the other curves read them."""

BOARD_MOST = 9
"""The most metrics side by side; what is beyond them stands in a table of its own."""

_FURTHER_TESTS = {
    "p_corrected_t": "p (corrected t)",
    "p_delong": "p (DeLong)",
    "p_mcnemar": "p (McNemar)",
    "probability_a_better": "P(first better)",
    "probability_equivalent": "P(equivalent)",
    "probability_b_better": "P(second better)",
}
"""Columns of the comparison table that are shown where they hold anything."""


@dataclass(frozen=True)
class DataTable:
    """A caption, headings and rows; the first ``n_text`` columns are words, the others numbers."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_text: int = 1


def metric_order(evaluation: pd.DataFrame, primary_metric: str) -> list[str]:
    """List the metrics of a table: the primary one, then the known ones as defined, then the rest."""
    found = set(evaluation["metric"]) - {primary_metric}
    known = [key for key in METRICS if key in found]
    first = [primary_metric] if primary_metric in set(evaluation["metric"]) else []
    return [*first, *known, *sorted(found - set(known))]


def sort_rows(rows: pd.DataFrame, series: Mapping[str, Series], metric_key: str) -> pd.DataFrame:
    """Order one metric's rows by role, and within a role the best first; rows without estimate come last."""
    roles = [look.role for look in series.values()]
    sign = -1.0 if metric(metric_key).higher_is_better else 1.0
    if metric(metric_key).higher_is_better is None:
        sign = 0.0
    rank = rows["hypothesis"].map(lambda name: roles.index(series[name].role))
    value = (sign * rows["estimate"]).fillna(math.inf)
    return rows.assign(_rank=rank, _value=value).sort_values(["_rank", "_value"], kind="stable")[rows.columns]


def leaderboard_table(
    evaluation: pd.DataFrame, series: Mapping[str, Series], primary_metric: str
) -> dict[str, Any]:
    """Arrange the first metrics of every hypothesis, in the order of the primary metric, grouped by role.

    Returns {"metrics": [(title, direction)], "groups": [(role title, what it is, rows)]} where a row is
    (hypothesis, [(estimate, interval)]).
    """
    keys = metric_order(evaluation, primary_metric)[:BOARD_MOST]
    cells = {
        (row.hypothesis, row.metric): (decimals(row.estimate), interval(row.ci_low, row.ci_high))
        for row in evaluation.itertuples()
    }
    primary = evaluation[evaluation["metric"] == primary_metric]
    ordered = list(sort_rows(primary, series, primary_metric)["hypothesis"])
    ordered += [name for name in series if name in set(evaluation["hypothesis"]) - set(ordered)]
    groups: dict[str, list[tuple[str, list[tuple[str, str]]]]] = {}
    for name in ordered:
        row = [cells.get((name, key), (DASH, "")) for key in keys]
        groups.setdefault(series[name].role, []).append((name, row))
    return {
        "metrics": [(metric(key).title, better_end(key)) for key in keys],
        "definitions": [
            (metric(key).title, metric(key).definition) for key in keys if metric(key).definition
        ],
        "groups": [(*ROLES.get(role, (role, "")), rows) for role, rows in groups.items()],
    }


def further_metrics_table(
    evaluation: pd.DataFrame, series: Mapping[str, Series], primary_metric: str
) -> DataTable | None:
    """List the metrics that the leaderboard has no room for: a row a metric, a column a hypothesis."""
    keys = metric_order(evaluation, primary_metric)[BOARD_MOST:]
    if not keys:
        return None
    names = [name for name in series if name in set(evaluation["hypothesis"])]
    cells = {
        (row.metric, row.hypothesis): decimals(row.estimate)
        + (f" ({span})" if (span := interval(row.ci_low, row.ci_high)) else "")
        for row in evaluation.itertuples()
    }
    body = [[metric(key).title, *(cells.get((key, name), DASH) for name in names)] for key in keys]
    return DataTable("Further metrics", ["Metric", *(series[name].label for name in names)], body)


def comparison_table(comparison: pd.DataFrame, series: Mapping[str, Series]) -> DataTable:
    """List every paired difference of one metric, with each test that the table holds."""
    further = {
        column: heading
        for column, heading in _FURTHER_TESTS.items()
        if column in comparison.columns and comparison[column].notna().any()
    }
    rows = [
        [
            series[row.hypothesis_a].label,
            series[row.hypothesis_b].label,
            "separable" if figures.is_separable(row) else "not separable",
            signed(row.difference),
            interval(row.ci_low, row.ci_high) or DASH,
            p_value(row.p_value),
            p_value(row.p_holm),
            *(p_value(getattr(row, column)) for column in further),
        ]
        for row in comparison.itertuples()
    ]
    headings = ["First", "Second", "Verdict", f"First {MINUS} second", "95 % interval", "p", "p (Holm)"]
    return DataTable("Every paired difference", [*headings, *further.values()], rows, n_text=3)


def interval_table(rows: pd.DataFrame, series: Mapping[str, Series], caption: str) -> DataTable:
    """List the estimates of one or several metrics and strata."""
    body = [
        [
            series[row.hypothesis].label,
            metric(row.metric).title,
            "all samples" if row.stratum == "all" else str(row.stratum),
            decimals(row.estimate),
            interval(row.ci_low, row.ci_high) or DASH,
            count(row.n_samples),
            count(row.n_patients),
        ]
        for row in rows.itertuples()
    ]
    headings = ["Hypothesis", "Metric", "Stratum", "Estimate", "95 % interval", "Samples", "Patients"]
    return DataTable(caption, headings, body, n_text=3)


def leader_table(leaders: pd.DataFrame, series: Mapping[str, Series]) -> DataTable:
    """List which hypothesis each stratum favours, and whether its patients can tell."""
    body = [
        [
            str(row.stratum),
            series[row.leader].label if row.leader else "too few to say",
            series[row.runner_up].label if row.runner_up else DASH,
            ("yes" if row.separable else "no") if row.leader else DASH,
            count(row.n_patients),
            decimals(row.estimate),
            signed(row.difference),
            interval(row.ci_low, row.ci_high) or DASH,
            p_value(row.p_holm),
        ]
        for row in leaders.itertuples()
    ]
    headings = ["Stratum", "Leader", "Next", "Separable", "Patients", "Estimate", "Ahead by", "95 % interval"]
    return DataTable("Which hypothesis each stratum favours", [*headings, "p (Holm)"], body, n_text=4)


def curve_table(points: pd.DataFrame, series: Mapping[str, Series], kind: str) -> DataTable:
    """List one kind of curve: calibration bin by bin, others read at fixed positions."""
    return calibration_table(points, series) if CURVES[kind].dots else read_curves(points, series, kind)


def read_curves(points: pd.DataFrame, series: Mapping[str, Series], kind: str) -> DataTable:
    """Read each curve at fixed positions: the point at, or else the last one before, each of them.

    Where several points of a ROC curve share a position the highest is read.
    """
    positions = ROC_READINGS if kind == "roc" else READINGS
    body = []
    for (label, name), curve in points.groupby(["label", "hypothesis"], sort=False):
        at = curve[np.isfinite(curve["y"])].sort_values(["x", "y"], kind="stable")
        x, y = at["x"].to_numpy(dtype=float), at["y"].to_numpy(dtype=float)
        last = np.searchsorted(x, np.asarray(positions) + 1e-9, side="right") - 1
        read = [decimals(y[i]) if i >= 0 else DASH for i in last]
        body.append([str(label), series[name].label, *read])
    across = CURVES[kind].x
    caption = f"{CURVES[kind].y} at a {across[:1].lower() + across[1:]} of at most"
    return DataTable(caption, ["Class", "Hypothesis", *(f"{p:g}" for p in positions)], body, n_text=2)


def calibration_table(points: pd.DataFrame, series: Mapping[str, Series]) -> DataTable:
    """List each calibration curve, one line a curve: predicted, observed and samples of each bin."""
    body = [
        [
            str(label),
            series[name].label,
            "; ".join(
                f"{decimals(row.x, 2)} \N{RIGHTWARDS ARROW} {decimals(row.y, 2)} (n {count(row.n_samples)})"
                for row in curve.itertuples()
            ),
        ]
        for (label, name), curve in points.groupby(["label", "hypothesis"], sort=False)
    ]
    headings = ["Class", "Hypothesis", "Predicted \N{RIGHTWARDS ARROW} observed (samples)"]
    return DataTable("Calibration, bin by bin", headings, body, n_text=3)


def confusion_table(table: pd.DataFrame, names: Sequence[str], caption: str) -> DataTable:
    """Arrange one hypothesis's counts: a row a true class, a column a called class."""
    cells = {(str(row.label), str(row.predicted)): count(row.n_samples) for row in table.itertuples()}
    rows = [[name, *(cells.get((name, called), "0") for called in names)] for name in names]
    return DataTable(caption, ["True class", *(f"called {name}" for name in names)], rows)


def class_table(samples: pd.DataFrame, splits: pd.DataFrame, classes: Sequence[str]) -> DataTable:
    """Count samples and patients of each class, and how many ever play each role."""
    known = splits["role"].unique()
    roles = [role for role in ("train", "validation", "test") if role in known]
    labels = samples["label"].astype(str)
    label_of = pd.Series(labels.to_numpy(), index=samples["sample_id"])
    played = splits[["role", "sample_id"]].drop_duplicates()
    counted = pd.crosstab(played["sample_id"].map(label_of), played["role"])
    rows = []
    for name in map(str, classes):
        members = samples[labels == name]
        in_role = [counted[role].get(name, 0) for role in roles]
        rows.append([name, *map(count, [len(members), members["patient_id"].nunique(), *in_role])])
    headings = ["Class", "Samples", "Patients", *(f"Ever in {role}" for role in roles)]
    return DataTable("Samples by class", headings, rows)


def split_table(splits: pd.DataFrame) -> DataTable:
    """Count the samples of each role in each split."""
    counted = pd.crosstab([splits["repeat"], splits["fold"]], splits["role"])
    roles = [role for role in ("train", "validation", "test") if role in counted.columns]
    rows = [
        [str(repeat), str(fold), *(count(line[role]) for role in roles)]
        for (repeat, fold), line in counted.iterrows()
    ]
    return DataTable(
        "Samples in each split", ["Repeat", "Fold", *(r.capitalize() for r in roles)], rows, n_text=2
    )
