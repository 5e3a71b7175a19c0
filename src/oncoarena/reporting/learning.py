"""Learning curves: what more patients to train on would bring."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from oncoarena.reporting import svg
from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.glossary import (
    DASH,
    Curve,
    axis_bounds,
    better_end,
    decimals,
    interval,
    metric,
    role_rank,
)
from oncoarena.reporting.panels import PANEL
from oncoarena.reporting.series import Series

LEARNING = Curve(
    "Learning curves",
    "Learning",
    "Share of training patients",
    "",
    "Trained on a part of the training patients (each part holds the smaller ones), tested on the same test samples. A "
    "line that has not levelled off says that more patients would help; whiskers are 95\N{NO-BREAK SPACE}% intervals.",
    each="metric",
)

_SINGLE = 380
"""Width (pixels) where there is but one panel."""

_DODGE = 3.0
"""Pixels by which the points of neighbouring hypotheses stand apart, so that whiskers do not hide each other."""


def learning_section(
    table: pd.DataFrame | None, series: Mapping[str, Series], primary: str
) -> list[dict[str, Any]]:
    """Draw one panel a metric, the primary one first.

    Parameters: ``table`` with the columns hypothesis, fraction (of the training patients), metric, estimate,
    ci_low, ci_high; None or empty: no section. Returns at most one section, of the form of a curve section.
    """
    if table is None or table.empty:
        return []
    keys = sorted(table["metric"].unique(), key=lambda key: key != primary)
    looks = [look for look in series.values() if look.hypothesis in set(table["hypothesis"])]
    drawn = [
        {
            "label": metric(key).title,
            "key": f"v{i}",
            "picture": Markup(
                learning_panel(
                    table[table["metric"] == key],
                    looks,
                    metric_key=key,
                    title=f"Learning curves: {metric(key).title}",
                    description="One line a hypothesis. The numbers are in the table of this section.",
                    uid=f"learning-{i}",
                    width=_SINGLE if len(keys) == 1 else PANEL,
                )
            ),
        }
        for i, key in enumerate(keys)
    ]
    boxes = [(look, look.role != "control" or len(looks) <= 3) for look in looks]
    return [
        {
            "id": "learning",
            "curve": LEARNING,
            "panels": drawn,
            "boxes": boxes,
            "table": learning_table(table, series, keys),
        }
    ]


def learning_panel(
    table: pd.DataFrame,
    looks: Sequence[Series],
    *,
    metric_key: str,
    title: str,
    description: str,
    uid: str,
    width: int = PANEL,
) -> str:
    """Draw the learning curves of one metric: the share of patients across, the metric upward. Returns SVG text."""
    left, right, top, bottom = 46.0, width - 12.0, 10.0, 40.0
    side = right - left
    low, high = svg.domain([*table["estimate"], *table["ci_low"], *table["ci_high"]], axis_bounds(metric_key))
    x_scale = svg.Scale(0.0, 1.05, left, right)
    air = 0.03 * (high - low)
    y_scale = svg.Scale(low - air, high + air, top + side, top)
    y_ticks = svg.ticks(low, high, 4)
    step = y_ticks[1] - y_ticks[0] if len(y_ticks) > 1 else 1.0
    middle = top + side / 2
    shown = metric(metric_key).title
    upward = f"{shown} ({better_end(metric_key)})" if better_end(metric_key) and width > PANEL else shown
    parts = [
        svg.element("rect", x=left, y=top, width=side, height=side, class_="frame"),
        *(svg.line(left, y_scale(t), right, y_scale(t), class_="grid") for t in y_ticks),
        *(svg.line(x_scale(t), top, x_scale(t), top + side, class_="grid") for t in (0.25, 0.5, 0.75, 1.0)),
    ]
    for tick in (0.0, 0.5, 1.0):
        name = svg.number(tick)
        parts.append(svg.text(x_scale(tick), top + side + 16, name, class_="tick", text_anchor="middle"))
    for tick in y_ticks:
        name = svg.tick_label(tick, step)
        parts.append(svg.text(left - 7, y_scale(tick) + 4, name, class_="tick", text_anchor="end"))
    turn = f"rotate(-90 11 {svg.number(middle)})"
    parts.append(
        svg.text((left + right) / 2, top + side + 34, LEARNING.x, class_="axis", text_anchor="middle")
    )
    parts.append(svg.text(11, middle, upward, class_="axis", text_anchor="middle", transform=turn))
    ordered = sorted(looks, key=lambda look: -role_rank(look.role))
    for i, look in enumerate(ordered):
        rows = table[table["hypothesis"] == look.hypothesis].sort_values("fraction", kind="stable")
        shift = (i - (len(ordered) - 1) / 2) * _DODGE if len(ordered) <= 6 else 0.0
        parts.append(_draw_line(rows, look, shown, x_scale, y_scale, shift))
    return svg.picture(
        parts,
        width=width,
        height=top + side + bottom,
        title=title,
        description=description,
        uid=uid,
        class_="chart learning",
    )


def _draw_line(
    rows: pd.DataFrame, look: Series, shown: str, x_scale: svg.Scale, y_scale: svg.Scale, shift: float
) -> str:
    rows = rows[np.isfinite(rows["estimate"])]
    path = " ".join(
        f"{x_scale(row.fraction) + shift:.1f},{y_scale(row.estimate):.1f}" for row in rows.itertuples()
    )
    parts = [svg.element("polyline", points=path, class_="line", stroke_dasharray=look.dash)] if path else []
    for row in rows.itertuples():
        x, span = x_scale(row.fraction) + shift, interval(row.ci_low, row.ci_high)
        reading = f"{look.naming}\n{row.fraction:.0%} of training patients\n{shown} {decimals(row.estimate)}"
        whisker = svg.line(x, y_scale(row.ci_low), x, y_scale(row.ci_high), class_="whisker") if span else ""
        dot = svg.marker(look.marker, x, y_scale(row.estimate), 4, class_=look.marker_class)
        words = svg.escape(reading + (f"\n95 % interval {span}" if span else ""))
        parts.append(svg.element("g", svg.element("title", words), whisker, dot, class_="mark"))
    return svg.element("g", *parts, class_=f"curve {look.classes}", data_label=look.label)


def learning_table(table: pd.DataFrame, series: Mapping[str, Series], keys: Sequence[str]) -> DataTable:
    """List every point: a row a metric and hypothesis, a column a fraction."""
    fractions = sorted(table["fraction"].unique())
    cells = {
        (row.metric, row.hypothesis, row.fraction): decimals(row.estimate)
        + (f" ({span})" if (span := interval(row.ci_low, row.ci_high)) else "")
        for row in table.itertuples()
    }
    body = [
        [metric(key).title, look.label, *(cells.get((key, name, fraction), DASH) for fraction in fractions)]
        for key in keys
        for name, look in series.items()
        if any((key, name, fraction) in cells for fraction in fractions)
    ]
    headings = ["Metric", "Hypothesis", *(f"{fraction:.0%} of patients" for fraction in fractions)]
    return DataTable("Estimate and 95 % interval by share of training patients", headings, body, n_text=2)
