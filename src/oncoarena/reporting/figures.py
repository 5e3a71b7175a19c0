"""Draw intervals, differences and bars: a table in, one SVG out.

Every picture carries its title and description; every mark carries its reading as a ``<title>``, which
browsers show on hover without any script. Curves and matrices are drawn in ``panels``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from oncoarena.reporting import svg
from oncoarena.reporting.glossary import (
    MINUS,
    ROLES,
    axis_bounds,
    better_end,
    decimals,
    interval,
    metric,
    p_value,
    signed,
)
from oncoarena.reporting.series import Series

WIDE, NARROW = 800, 350
"""Widths (pixels) of a picture that spans the page and of one made for a telephone."""

ALPHA = 0.05
"""Level of the Holm-adjusted p-value at which two hypotheses are called separable."""


@dataclass(frozen=True)
class Row:
    """One line of an interval picture."""

    label: str
    group: str
    low: float
    middle: float
    high: float
    value: str
    beside: str
    beside_short: str
    """What stands beside the value in narrow pictures."""
    reading: str
    series: Series
    marker_class: str


def interval_plot(
    table: pd.DataFrame,
    series: Mapping[str, Series],
    *,
    metric_key: str,
    title: str,
    description: str,
    uid: str,
    width: int = WIDE,
    domain: tuple[float, float] | None = None,
) -> str:
    """Draw estimates as dots with their intervals as whiskers, grouped by role, in row order.

    Parameters: ``table`` with the columns hypothesis, estimate, ci_low, ci_high; ``metric_key`` names
    the metric on the axis; ``domain`` fixes the ends of the axis (for pictures to be compared).
    Returns SVG text. A row whose estimate is NaN is listed as not estimable.
    """
    shown = metric(metric_key)
    rows = []
    for row in table.itertuples():
        look = series[row.hypothesis]
        span = interval(row.ci_low, row.ci_high)
        estimate = decimals(row.estimate) if math.isfinite(row.estimate) else "not estimable"
        rows.append(
            Row(
                label=look.label,
                group=look.role,
                low=row.ci_low,
                middle=row.estimate,
                high=row.ci_high,
                value=estimate,
                beside=span,
                beside_short=span,
                reading=f"{look.naming}\n{shown.title} {estimate}"
                + (f"\n95 % interval {span}" if span else "\nno interval"),
                series=look,
                marker_class=look.marker_class,
            )
        )
    better = better_end(metric_key)
    return draw_intervals(
        rows,
        axis_label=f"{shown.title} ({better})" if better else shown.title,
        bounds=axis_bounds(metric_key),
        domain=domain,
        zero_line=False,
        title=title,
        description=description,
        uid=uid,
        width=width,
    )


def differences_with(comparison: pd.DataFrame, hypothesis: str) -> pd.DataFrame:
    """Turn the paired differences that involve one hypothesis so that it always comes first.

    Parameters: ``comparison`` with the columns hypothesis_a, hypothesis_b, difference (a minus b),
    ci_low, ci_high, p_value, p_holm. Returns the same columns; where it was b, the signs are turned.
    """
    as_first = comparison[comparison["hypothesis_a"] == hypothesis]
    as_second = comparison[comparison["hypothesis_b"] == hypothesis]
    turned = as_second.assign(
        hypothesis_a=as_second["hypothesis_b"],
        hypothesis_b=as_second["hypothesis_a"],
        difference=-as_second["difference"],
        ci_low=-as_second["ci_high"],
        ci_high=-as_second["ci_low"],
    )
    # Concatenating an empty table would change types, so it is left out.
    parts = [part for part in (as_first, turned) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else as_first


def is_separable(row: Any) -> bool:
    """Tell whether a row of the comparison table holds a difference that the data can tell from none.

    It takes both: a Holm-adjusted p-value below ``ALPHA`` and an interval that leaves zero out.
    """
    return bool(row.p_holm < ALPHA and (row.ci_low > 0 or row.ci_high < 0))


def forest_plot(
    differences: pd.DataFrame,
    series: Mapping[str, Series],
    *,
    metric_key: str,
    title: str,
    description: str,
    uid: str,
    width: int = WIDE,
    domain: tuple[float, float] | None = None,
) -> str:
    """Draw the paired differences of one hypothesis with each other one (see ``differences_with``).

    A filled marker is a separable difference (see ``is_separable``), an open one is not.
    """
    rows = []
    for row in differences.itertuples():
        look = series[row.hypothesis_b]
        separable = is_separable(row)
        verdict = "separable" if separable else "not separable"
        p = p_value(row.p_holm)
        span = interval(row.ci_low, row.ci_high)
        rows.append(
            Row(
                label=f"vs {look.label}",
                group=look.role,
                low=row.ci_low,
                middle=row.difference,
                high=row.ci_high,
                value=signed(row.difference),
                beside=f"{verdict}, p {p}",
                beside_short=f"p {p}",
                reading=f"{series[row.hypothesis_a].label} {MINUS} {look.label}\n{signed(row.difference)}"
                + (f" ({span})" if span else "")
                + f"\n{verdict}, Holm-adjusted p {p}",
                series=look,
                marker_class="solid" if separable else "open",
            )
        )
    shown = metric(metric_key)
    first = series[differences["hypothesis_a"].iloc[0]].label if len(differences) else ""
    ends = ("\N{LEFTWARDS ARROW} other better", f"{first} better \N{RIGHTWARDS ARROW}")
    if not shown.higher_is_better:
        ends = (f"\N{LEFTWARDS ARROW} {first} better", "other better \N{RIGHTWARDS ARROW}")
    return draw_intervals(
        rows,
        axis_label=f"Difference: {shown.title}",
        bounds=(-1.0, 1.0) if axis_bounds(metric_key) == (0.0, 1.0) else (None, None),
        domain=domain,
        zero_line=True,
        axis_ends=ends,
        title=title,
        description=description,
        uid=uid,
        width=width,
    )


def draw_intervals(
    rows: Sequence[Row],
    *,
    axis_label: str,
    bounds: tuple[float | None, float | None],
    domain: tuple[float, float] | None,
    zero_line: bool,
    title: str,
    description: str,
    uid: str,
    width: int,
    axis_ends: tuple[str, str] | None = None,
) -> str:
    """Lay out rows of label, dot with whisker, and reading; in narrow pictures the label stands above."""
    stacked = width < 500
    size = 13
    row_height, head_height = (38, 32) if stacked else (28, 34)
    label_room = (
        0 if stacked else min(220, max((svg.text_width(r.label, size) for r in rows), default=0) + 24)
    )
    beside_room = max(
        (svg.text_width(r.beside_short if stacked else r.beside, 12.5) for r in rows), default=0
    )
    value_room = beside_room + max((svg.text_width(r.value, 14.5) for r in rows), default=0) + 28
    left, right = (14, width - 14) if stacked else (label_room + 12, width - value_room - 14)
    ends = domain or svg.domain(
        [value for row in rows for value in (row.low, row.middle, row.high)],
        bounds,
        include=(0.0,) if zero_line else (),
    )
    scale = svg.Scale(*ends, float(left), float(right))
    marks: list[str] = []
    bands: list[str] = []
    y, group = 4.0, None
    for row in rows:
        if row.group != group:
            group = row.group
            y += 4 if y > 4 else 0
            if group == "control":
                n_controls = sum(r.group == "control" for r in rows)
                height = head_height + n_controls * row_height + 2
                bands.append(
                    svg.element("rect", x=0, y=y, width=width, height=float(height), rx=4, class_="band")
                )
            head = ROLES.get(group, (group.capitalize(), ""))[0]
            marks.append(svg.text(8 if group == "control" or stacked else 0, y + 21, head, class_="group"))
            y += head_height
        marks.append(
            _draw_row(row, scale, y, row_height, stacked, width, label_room, value_room, beside_room)
        )
        y += row_height
    bottom = y + 6
    steps = svg.ticks(*ends, 5)
    step = steps[1] - steps[0] if len(steps) > 1 else 1.0
    grid = [svg.line(scale(t), 4, scale(t), bottom, class_="grid") for t in steps]
    labels = [
        svg.text(scale(t), bottom + 17, svg.tick_label(t, step), class_="tick", text_anchor="middle")
        for t in steps
    ]
    if zero_line and ends[0] <= 0 <= ends[1]:
        grid.append(svg.line(scale(0.0), 4, scale(0.0), bottom, class_="zero"))
    foot = bottom + 38
    if axis_ends:
        labels.append(
            svg.text(left, foot, svg.shorten(axis_ends[0], (right - left) * 0.48, 12), class_="axis")
        )
        end = svg.shorten(axis_ends[1], (right - left) * 0.48, 12)
        labels.append(svg.text(right, foot, end, class_="axis", text_anchor="end"))
        foot += 19
    labels.append(svg.text((left + right) / 2, foot, axis_label, class_="axis", text_anchor="middle"))
    return svg.picture(
        [*bands, *grid, *labels, *marks],
        width=width,
        height=foot + 8,
        title=title,
        description=description,
        uid=uid,
        class_="chart intervals",
    )


def _draw_row(
    row: Row,
    scale: svg.Scale,
    y: float,
    height: int,
    stacked: bool,
    width: int,
    label_room: float,
    value_room: float,
    beside_room: float,
) -> str:
    """Draw one row whose top edge is at ``y``."""
    inset = 8 if row.group == "control" or stacked else 0
    text_y = y + 12 if stacked else y + height / 2 + 4.5
    mark_y = y + 24 if stacked else y + height / 2
    room = width - value_room - 16 if stacked else label_room - inset
    beside = row.beside_short if stacked else row.beside
    value_end = width - 8 - (beside_room + 10 if beside_room else 0)
    parts = [svg.text(inset, text_y, svg.shorten(row.label, room, 13), class_="label")]
    parts.append(svg.text(value_end, text_y, row.value, class_="value", text_anchor="end"))
    if beside:
        parts.append(svg.text(width - 8, text_y, beside, class_="beside", text_anchor="end"))
    if math.isfinite(row.middle):
        low, high = (max(min(v, scale.high), scale.low) for v in (row.low, row.high))
        whisker = (
            svg.line(scale(low), mark_y, scale(high), mark_y, class_="whisker")
            if math.isfinite(row.low) and math.isfinite(row.high)
            else ""
        )
        middle = max(min(row.middle, scale.high), scale.low)
        dot = svg.marker(row.series.marker, scale(middle), mark_y, class_=row.marker_class)
        parts.append(whisker + dot)
    # A clear rectangle makes the whole row answer to the pointer.
    target = svg.element("rect", x=0, y=y, width=width, height=height, class_="target")
    return svg.element(
        "g",
        svg.element("title", svg.escape(row.reading)),
        target,
        *parts,
        class_=f"mark {row.series.classes}",
    )


def bar_plot(
    rows: Sequence[tuple[str, float, str]],
    *,
    title: str,
    description: str,
    uid: str,
    width: int = WIDE,
    tones: Sequence[str] | None = None,
) -> str:
    """Draw horizontal bars from zero: (label, value, reading) a row; ``tones`` gives each its class."""
    stacked = width < 500
    row_height = 38 if stacked else 26
    label_room = 0.0 if stacked else min(240.0, max((svg.text_width(r[0], 13) for r in rows), default=0) + 16)
    value_room = 8.0 if stacked else max((svg.text_width(r[2], 13) for r in rows), default=0) + 20
    highest = max((value for _, value, _ in rows if math.isfinite(value)), default=0) or 1.0
    scale = svg.Scale(0.0, highest, label_room, width - value_room)
    marks = []
    for i, (label, value, reading) in enumerate(rows):
        y = 4.0 + i * row_height
        tone = tones[i] if tones else "t0"
        length = scale(value) - scale(0.0) if math.isfinite(value) else 0.0
        bar_y, bar_height, text_y = (y + 18, 10, y + 12) if stacked else (y + 6, 14, y + 17.5)
        room = width - svg.text_width(reading, 13) - 12 if stacked else label_room - 8
        marks.append(
            svg.element(
                "g",
                svg.element("title", svg.escape(f"{label}\n{reading}")),
                svg.element("rect", x=0, y=y, width=width, height=row_height, class_="target"),
                svg.text(0, text_y, svg.shorten(label, room, 13), class_="label"),
                svg.element(
                    "rect",
                    x=scale(0.0),
                    y=bar_y,
                    width=max(length, 1.0),
                    height=bar_height,
                    rx=2,
                    class_="bar",
                ),
                svg.text(
                    width if stacked else scale(0.0) + length + 10,
                    text_y,
                    reading,
                    class_="value",
                    text_anchor="end" if stacked else None,
                ),
                class_=f"mark {tone}",
            )
        )
    return svg.picture(
        marks,
        width=width,
        height=float(8 + len(rows) * row_height),
        title=title,
        description=description,
        uid=uid,
        class_="chart bars",
    )


def common_domain(table: pd.DataFrame, metric_key: str) -> tuple[float, float]:
    """Choose one axis for several pictures of a metric."""
    values = [*table["estimate"], *table["ci_low"], *table["ci_high"]]
    return svg.domain(values, axis_bounds(metric_key))
