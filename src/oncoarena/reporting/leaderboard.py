"""The leaderboard as plain text, for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from oncoarena.reporting.datatable import metric_order, sort_rows
from oncoarena.reporting.glossary import ROLES, decimals, metric, plural
from oncoarena.reporting.series import assign_series

WIDTH = 80
_LABEL_MOST = 22
_SCORE_WIDTH = 22
_OTHER_METRICS = ("accuracy", "auroc_macro", "log_loss", "brier")
"""Metrics beside the primary one, as many as fit."""


def leaderboard(evaluation: pd.DataFrame, runs: Sequence[Mapping[str, Any]], primary_metric: str) -> str:
    """Lay out the overall results for a terminal of 80 columns, the best first in each role.

    Parameters: ``evaluation`` with the columns hypothesis, metric, stratum, estimate, ci_low, ci_high,
    n_samples, n_patients; ``runs`` with hypothesis, title and role, perhaps status and reason;
    ``primary_metric`` is the metric to sort by, shown with its interval; others follow without.
    Returns the lines joined; the last names the hypotheses that were not applicable.
    """
    rows = evaluation[evaluation["stratum"] == "all"]
    known = [(run["hypothesis"], run.get("title") or "", run.get("role") or "claim") for run in runs]
    names = {name for name, _, _ in known}
    known += [(name, name, "external") for name in rows["hypothesis"].unique() if name not in names]
    series = assign_series(known)
    absent = [run for run in runs if run.get("status") == "not_applicable"]
    lines = _table_lines(rows, series, primary_metric) if len(rows) else ["Nothing was evaluated."]
    for run in absent:
        line = f"Not applicable: {run['hypothesis']}: {run.get('reason') or 'no reason was given'}"
        lines.append(line if len(line) <= WIDTH else line[: WIDTH - 3] + "...")
    return "\n".join(lines)


def _table_lines(rows: pd.DataFrame, series: Mapping[str, Any], primary_metric: str) -> list[str]:
    scores = {
        (row.hypothesis, row.metric): (row.estimate, row.ci_low, row.ci_high) for row in rows.itertuples()
    }
    ordered = [
        *sort_rows(rows[rows["metric"] == primary_metric], series, primary_metric)["hypothesis"],
        *rows["hypothesis"].unique(),
    ]
    ordered = sorted(dict.fromkeys(ordered), key=lambda name: list(ROLES).index(series[name].role))
    label_width = 2 + min(_LABEL_MOST, max(map(len, ordered)))
    keys, columns = _columns(metric_order(rows, primary_metric), primary_metric, WIDTH - label_width)
    titles = [_fit(metric(key).title, width - 1) for key, width in zip(keys, columns, strict=True)]
    head = " " * label_width + "".join(t.rjust(w) for t, w in zip(titles, columns, strict=True))
    lines, role = [head.rstrip(), "-" * len(head)], None
    for name in ordered:
        if series[name].role != role:
            role = series[name].role
            lines.append(ROLES.get(role, (role, ""))[0])
        line = "  " + _fit(name, label_width - 2).ljust(label_width - 2)
        for key, width in zip(keys, columns, strict=True):
            estimate, low, high = scores.get((name, key), (float("nan"),) * 3)
            score = _plain(estimate)
            if key == primary_metric:
                score += f" [{_plain(low)}, {_plain(high)}]" if pd.notna(low) and pd.notna(high) else " " * 15
            line += score.rjust(width)
        lines.append(line.rstrip())
    largest = rows.loc[rows["n_samples"].idxmax()]
    n = f"{plural(int(largest.n_samples), 'test sample')} of {plural(int(largest.n_patients), 'patient')}"
    return [*lines, "", f"{n}; 95 % intervals over patients."]


def _columns(found: Sequence[str], primary_metric: str, room: int) -> tuple[list[str], list[int]]:
    """Choose the metrics that fit, and the width of each column."""
    keys, widths = [], []
    for key in (primary_metric, *(key for key in _OTHER_METRICS if key != primary_metric)):
        width = _SCORE_WIDTH if key == primary_metric else max(len(metric(key).title), 6) + 2
        if key in found and sum(widths) + width <= room:
            keys.append(key)
            widths.append(width)
    return keys, widths


def _plain(value: float) -> str:
    """Write a score in ASCII, so that any terminal shows it."""
    return decimals(value).replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 2, 1)] + ".."
