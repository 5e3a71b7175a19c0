"""Operating points: what calling at thresholds chosen on training samples does on the test samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from oncoarena.referee.operating_points import OPERATING_METHOD
from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.figures import NARROW, WIDE, Row, draw_intervals
from oncoarena.reporting.glossary import DASH, count, decimals, interval
from oncoarena.reporting.series import Series

_RATES = {"sensitivity": "Sensitivity", "specificity": "Specificity"}


def operating_section(
    table: pd.DataFrame | None,
    series: Mapping[str, Series],
    named: float,
    positive: str,
    prevalence: float | None = None,
) -> dict[str, Any]:
    """Draw the operating point that was named before the run, and list all of them.

    Parameters: ``table`` with the columns of ``referee.operating_points.OPERATING_COLUMNS``, None or empty where no
    thresholds were chosen; ``named``, the specificity named in the config; ``positive``, the class that is called;
    ``prevalence`` at which PPV and NPV are stated. Returns {} without a table.
    """
    if table is None or table.empty:
        return {}
    points = table[(table["rule"] != "") & (table["stratum"] == "all")]
    known = points[(points["rule"] == "specificity") & (points["remark"] == "")]
    # Where the training parts are too small for the level that was named, the nearest that they can show.
    shown = named if len(_at(known, named)) else known["level"].max()
    first, strata = _at(points, shown), _at(table[table["stratum"] != "all"], shown)
    told = table[table["rule"] == ""]
    return {
        "named": percent(named),
        "shown": percent(shown) if len(known) else "",
        "positive": positive,
        "prevalence": f"{100 * prevalence:g}\N{NO-BREAK SPACE}%" if prevalence is not None else "",
        "drawn": [
            {
                "title": f"{title} on the test samples, aimed at a specificity of {percent(shown)}",
                "key": rate,
                **{
                    name: Markup(
                        _draw(
                            _at(known, shown),
                            series,
                            rate,
                            shown,
                            uid=f"operating-{rate}-{name}",
                            width=width,
                        )
                    )
                    for name, width in (("wide", WIDE), ("narrow", NARROW))
                },
            }
            for rate, title in _RATES.items()
            if len(known)
        ],
        "first": point_table(first, series, f"Aimed at a specificity of {percent(shown)}")
        if len(known)
        else None,
        "every": point_table(points, series, "Every operating point"),
        "strata": stratum_table(strata, series) if len(known) and len(strata) else None,
        "lacking": list(dict.fromkeys(_lack(row) for row in points.itertuples() if row.remark)),
        "absent": [(series[row.hypothesis], row.remark) for row in told.itertuples()],
        "method": OPERATING_METHOD,
    }


def percent(level: float) -> str:
    """Write a level as "95 %"."""
    return f"{100 * level:.0f}\N{NO-BREAK SPACE}%"


def point_table(points: pd.DataFrame, series: Mapping[str, Series], caption: str) -> DataTable:
    """List operating points: where each threshold came from, and what it does on the test samples."""
    with_values = points[["ppv", "npv"]].notna().any(axis=None)
    body = [
        [
            series[row.hypothesis].label,
            f"{row.rule} {percent(row.level)}",
            "none" if row.remark else _threshold(row),
            count(row.n_train_negatives),
            count(row.n_train_positives),
            decimals(row.finest),
            *_rate(row, "specificity"),
            *_rate(row, "sensitivity"),
            *([_with_interval(row, "ppv"), _with_interval(row, "npv")] if with_values else []),
        ]
        for row in points.itertuples()
    ]
    headings = [
        "Hypothesis",
        "Aimed at",
        "Threshold (of all splits)",
        "Training negatives",
        "Training positives",
    ]
    headings += ["Finest level", "Specificity", "Exact 95 %", "Sensitivity", "Exact 95 %"]
    return DataTable(caption, [*headings, *(["PPV", "NPV"] if with_values else [])], body, n_text=3)


def stratum_table(points: pd.DataFrame, series: Mapping[str, Series]) -> DataTable:
    """List what the same thresholds do in each stratum."""
    body = [
        [
            str(row.stratum),
            series[row.hypothesis].label,
            count(row.n_negatives),
            *_rate(row, "specificity"),
            count(row.n_positives),
            *_rate(row, "sensitivity"),
        ]
        for row in points.sort_values("stratum", kind="stable").itertuples()
    ]
    headings = ["Stratum", "Hypothesis", "Negative patients", "Specificity", "Exact 95 %"]
    headings += ["Positive patients", "Sensitivity", "Exact 95 %"]
    return DataTable("The same thresholds in each stratum", headings, body, n_text=2)


def _lack(row: Any) -> str:
    return f"A {row.rule} of {percent(row.level)} {row.remark}."


def _at(table: pd.DataFrame, specificity: float) -> pd.DataFrame:
    return table[(table["rule"] == "specificity") & ((table["level"] - specificity).abs() < 1e-9)]


def _threshold(row: Any) -> str:
    span = f" ({decimals(row.threshold_low)} to {decimals(row.threshold_high)})" if row.n_splits > 1 else ""
    return decimals(row.threshold) + span


def _with_interval(row: Any, name: str) -> str:
    span = interval(getattr(row, f"{name}_low"), getattr(row, f"{name}_high"))
    return decimals(getattr(row, name)) + (f" ({span})" if span else "")


def _rate(row: Any, name: str) -> Sequence[str]:
    exact = interval(getattr(row, f"{name}_exact_low"), getattr(row, f"{name}_exact_high"))
    return _with_interval(row, name), exact or DASH


def _draw(
    points: pd.DataFrame, series: Mapping[str, Series], rate: str, level: float, *, uid: str, width: int
) -> str:
    shown = _RATES[rate]
    rows = []
    ordered = sorted(points.itertuples(), key=lambda row: list(series).index(row.hypothesis))
    for row in ordered:
        look, value = series[row.hypothesis], decimals(getattr(row, rate))
        # The wider of the two intervals, end by end: the bootstrap knows repeats, the exact one small numbers.
        lows = getattr(row, f"{rate}_low"), getattr(row, f"{rate}_exact_low")
        highs = getattr(row, f"{rate}_high"), getattr(row, f"{rate}_exact_high")
        low, high = pd.Series(lows).min(), pd.Series(highs).max()
        span = interval(low, high)
        rows.append(
            Row(
                label=look.label,
                group=look.role,
                low=low,
                middle=getattr(row, rate),
                high=high,
                value=value,
                beside=span,
                beside_short=span,
                reading=f"{look.naming}\n{shown} {value}" + (f"\n95 % interval {span}" if span else ""),
                series=look,
                marker_class=look.marker_class,
            )
        )
    return draw_intervals(
        rows,
        axis_label=f"{shown}, aimed at a specificity of {percent(level)}",
        bounds=(0.0, 1.0),
        domain=None,
        zero_line=False,
        title=f"{shown} at the threshold chosen on training samples",
        description="Dots are estimates, whiskers 95 % intervals, one row a hypothesis. "
        "The numbers are in the table of this section.",
        uid=uid,
        width=width,
    )
