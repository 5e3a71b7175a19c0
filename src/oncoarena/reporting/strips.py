"""Draw one measure of every sample: a strip of dots a group, boxes where there are too many to see."""

import math
from collections.abc import Sequence

import numpy as np

from oncoarena.quality import spans_powers
from oncoarena.reporting import svg
from oncoarena.reporting.glossary import compact, plural

DOTS_MOST = 250
"""The most samples of a group that are drawn one by one."""

_FAR_MOST = 60
_GOLDEN = 0.6180339887


def strip_plot(
    values: np.ndarray,
    groups: Sequence[str],
    sample_ids: Sequence[str],
    *,
    order: Sequence[str],
    low: float,
    high: float,
    axis_label: str,
    title: str,
    description: str,
    uid: str,
    width: int,
) -> str:
    """Draw a row a group: each sample a dot, the median a line, and what lies outside of the fences marked.

    Parameters: ``values`` (n,), NaN where missing; ``groups`` and ``sample_ids`` (n,); ``order`` the groups from
    the top; ``low`` and ``high`` the fences (see ``quality.fences``). A group of more than ``DOTS_MOST`` is drawn as
    a box (quartiles) with whiskers (5 % and 95 %). Returns SVG text.
    """
    names, ids = np.asarray(groups, dtype=object), np.asarray(sample_ids, dtype=object)
    known = np.isfinite(values)
    scale, ticks = _axis(values[known], width, order)
    row_height, top = 24.0, 4.0
    bottom = top + row_height * len(order) + 2
    parts = [svg.line(scale(at), top, scale(at), bottom, class_="grid") for at, _ in ticks]
    parts += [
        svg.text(scale(at), bottom + 16, name, class_="tick", text_anchor="middle") for at, name in ticks
    ]
    for fence in (low, high):
        if math.isfinite(fence) and low < high and scale.inside(fence):
            parts.append(svg.line(scale(fence), top, scale(fence), bottom, class_="diagonal"))
    for i, group in enumerate(order):
        chosen = known & (names == group)
        far = chosen & ((values < low) | (values > high))
        y = top + row_height * (i + 0.5)
        label = svg.text(0, y + 4, svg.shorten(group, scale.start - 12, 12), class_="tick strong")
        parts.append(label + _draw_group(values[chosen & ~far], values[chosen], scale, y, group))
        for j in np.flatnonzero(far)[:_FAR_MOST]:
            reading = f"{ids[j]}\n{axis_label} {compact(values[j])}: far out"
            dot = svg.marker("diamond", scale(values[j]), y, 4.5, class_="solid")
            parts.append(
                svg.element("g", svg.element("title", svg.escape(reading)), dot, class_="mark t1 far")
            )
    parts.append(
        svg.text((scale.start + scale.stop) / 2, bottom + 33, axis_label, class_="axis", text_anchor="middle")
    )
    return svg.picture(
        parts,
        width=width,
        height=bottom + 40,
        title=title,
        description=description,
        uid=uid,
        class_="chart strips",
    )


class _Axis:
    """A linear or logarithmic axis from values to pixels."""

    def __init__(self, low: float, high: float, start: float, stop: float, logarithmic: bool):
        self.start, self.stop, self.logarithmic = start, stop, logarithmic
        self._scale = svg.Scale(self._bend(low), self._bend(high), start, stop)

    def _bend(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def inside(self, value: float) -> bool:
        """Tell whether a value lies on the axis."""
        return (not self.logarithmic or value > 0) and self._scale.low <= self._bend(
            value
        ) <= self._scale.high

    def __call__(self, value: float) -> float:
        return self._scale(self._bend(value))


def _axis(values: np.ndarray, width: int, order: Sequence[str]) -> tuple[_Axis, list[tuple[float, str]]]:
    """Choose the axis and its ticks: logarithmic for positive values over some powers of ten."""
    longest = max((svg.text_width(group, 12) for group in order), default=0.0)
    start, stop = min(longest + 14, 0.34 * width), width - 12.0
    smallest, largest = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if spans_powers(values):
        first, last = math.floor(math.log10(smallest)), math.ceil(math.log10(largest))
        step = max(1, math.ceil((last - first) / 5))
        marks = [(10.0**power, compact(10.0**power)) for power in range(first, last + 1, step)]
        return _Axis(10.0**first, 10.0**last, start, stop, True), marks
    # The ends are those of the data: a measure far from zero would else be a smear at one side.
    low, high = svg.domain([smallest, largest], (0.0, None) if smallest >= 0 else (None, None))
    marks = svg.ticks(low, high, 4)
    return _Axis(low, high, start, stop, False), [(at, compact(at)) for at in marks]


def _draw_group(near: np.ndarray, every: np.ndarray, scale: _Axis, y: float, group: str) -> str:
    """Draw one row: dots or a box, and the median of all of its values; ``near`` leaves out those far out."""
    if not len(every):
        return ""
    lower, middle, upper = np.quantile(every, [0.25, 0.5, 0.75])
    reading = (
        f"{group}: {plural(len(every), 'sample')}\nmedian {compact(middle)}"
        f"\nquartiles {compact(lower)} to {compact(upper)}"
    )
    if len(near) > DOTS_MOST:
        ends = np.quantile(near, [0.05, 0.95])
        body = svg.line(scale(ends[0]), y, scale(ends[1]), y, class_="whisker") + svg.element(
            "rect",
            x=scale(lower),
            y=y - 5,
            width=max(scale(upper) - scale(lower), 1.5),
            height=10,
            class_="box",
        )
    else:
        # Heights are dealt by the golden ratio, so that neighbours in value do not hide each other.
        heights = (np.arange(len(near)) * _GOLDEN % 1.0 - 0.5) * 11
        path = "".join(
            f"M{scale(value):.1f} {y + height:.1f}h0"
            for value, height in zip(np.sort(near), heights, strict=True)
        )
        body = svg.element("path", d=path, class_="dots") if path else ""
    median = svg.line(scale(middle), y - 9, scale(middle), y + 9, class_="median")
    target = svg.element("rect", x=0, y=y - 12, width=scale.stop, height=24, class_="target")
    return svg.element("g", svg.element("title", svg.escape(reading)), target, body, median, class_="mark t0")
