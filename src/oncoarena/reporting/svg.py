"""Build SVG text: elements, scales, ticks, markers and the shortening of long lines.

Colours are never written here: marks use ``currentColor`` and the page's style sheet gives each class
its tone, so one picture serves a light screen, a dark one and paper.
"""

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# Mean advance of a character over the font size, for common sans-serif faces.
CHARACTER_WIDTH = 0.57

_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def escape(text: object) -> str:
    """Write any value as text that is safe between tags and inside quoted attributes."""
    return html.escape(_ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", str(text)), quote=True)


def number(value: float) -> str:
    """Write a coordinate with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def element(name: str, *children: str, **attributes: object) -> str:
    """Write one element; children are markup, attribute values are escaped, None leaves one out.

    A trailing underscore of a keyword is dropped (``class_``) and others become hyphens.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="'
        f'{number(value) if isinstance(value, float) else escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def text(x: float, y: float, content: object, **attributes: object) -> str:
    """Write a line of text with its baseline at (x, y)."""
    return element("text", escape(content), x=float(x), y=float(y), **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> str:
    """Write a straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), **attributes)


def picture(
    body: Iterable[str], *, width: float, height: float, title: str, description: str, uid: str, class_: str
) -> str:
    """Wrap marks into one ``<svg>`` that a screen reader announces by its title and description.

    ``uid`` must be unique on the page; the ids of title and description are made from it.
    """
    return element(
        "svg",
        element("title", escape(title), id=f"{uid}-t"),
        element("desc", escape(description), id=f"{uid}-d"),
        *body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=float(width),
        height=float(height),
        role="img",
        class_=class_,
        aria_labelledby=f"{uid}-t {uid}-d",
    )


@dataclass(frozen=True)
class Scale:
    """A linear map from data, ``low`` to ``high``, to pixels, ``start`` to ``stop``."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def ticks(low: float, high: float, n_wanted: int = 5) -> list[float]:
    """List the round numbers (steps of 1, 2 or 5 times a power of ten) from ``low`` to ``high``."""
    raw = (high - low) / max(n_wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    fitting = [power * factor for factor in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
    wanted = next(step for step in fitting if step >= raw * (1 - 1e-9))
    # A step as long as the axis may have no multiple on it: then the next shorter one that has.
    for step in reversed(fitting[: fitting.index(wanted) + 1]):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if first <= last:
            break
    # Twelve decimals of the step: fewer would make the ticks of a short axis one and the same.
    decimals = 12 - min(math.floor(math.log10(step)), 0)
    return [round(i * step, decimals) for i in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """Write a tick with just the decimals its step needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
    return f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def domain(
    values: Iterable[float],
    bounds: tuple[float | None, float | None] = (None, None),
    include: Sequence[float] = (),
) -> tuple[float, float]:
    """Choose the ends of an axis: round, a little wider than the finite values, inside ``bounds``."""
    finite = [float(v) for v in [*values, *include] if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    # Values that differ by rounding alone have no room for a tick between them: they count as one.
    alike = high - low <= 1e-9 * max(abs(low), abs(high))
    pad = 0.05 * max(abs(high), 1.0) if alike else 0.04 * (high - low)
    low, high = low - pad, high + pad
    steps = ticks(low, high)
    step = steps[1] - steps[0] if len(steps) > 1 else high - low
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    low = low if bounds[0] is None else max(low, bounds[0])
    high = high if bounds[1] is None else min(high, bounds[1])
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def text_width(content: str, size: float) -> float:
    """Estimate the width of a line in pixels (no font is measured)."""
    return CHARACTER_WIDTH * size * len(content)


def shorten(content: str, room: float, size: float) -> str:
    """Cut the middle out of a line so that it fits into ``room`` pixels; the end often tells names apart."""
    n_fit = max(int(room / (CHARACTER_WIDTH * size)), 3)
    if len(content) <= n_fit:
        return content
    n_end = (n_fit - 1) * 2 // 5
    return f"{content[: n_fit - 1 - n_end].rstrip()}\N{HORIZONTAL ELLIPSIS}{content[len(content) - n_end :].lstrip()}"


_MARKERS = {
    "circle": "M{r},0A{r},{r},0,1,1,-{r},0A{r},{r},0,1,1,{r},0Z",
    "square": "M-{s},-{s}H{s}V{s}H-{s}Z",
    "diamond": "M0,-{b}L{b},0L0,{b}L-{b},0Z",
    "triangle": "M0,-{b}L{b},{s}H-{b}Z",
    "wedge": "M0,{b}L{b},-{s}H-{b}Z",
    "bar": "M-{t},-{b}H{t}V{b}H-{t}Z",
}
MARKERS = tuple(_MARKERS)


def marker(shape: str, x: float, y: float, radius: float = 4.5, **attributes: object) -> str:
    """Draw one of ``MARKERS`` centred on (x, y)."""
    sizes = {"r": radius, "s": 0.87 * radius, "b": 1.25 * radius, "t": 0.45 * radius}
    path = _MARKERS[shape].format(**{key: number(value) for key, value in sizes.items()})
    return element("path", d=path, transform=f"translate({number(x)} {number(y)})", **attributes)


def simplify(points: np.ndarray, tolerance: float, n_most: int) -> np.ndarray:
    """Leave out the points of a line that the eye cannot miss (Douglas and Peucker).

    Parameters: ``points`` (n, 2) in pixels; ``tolerance`` in pixels; ``n_most`` the most to keep.
    Returns (m, 2), the first and last point among them.
    Source: doi:10.3138/FM57-6770-U75U-7727.
    """
    points = np.asarray(points, dtype=float)
    if len(points) <= 2:
        return points
    # Coordinates are written with one decimal: points that are written alike draw nothing.
    written = points.round(1)
    moved = np.append(True, (np.diff(written, axis=0) != 0).any(axis=1))
    moved[-1] = True
    points = points[moved]
    keep = np.zeros(len(points), dtype=bool)
    keep[[0, -1]] = True
    waiting = [(0, len(points) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        start, along = points[first], points[last] - points[first]
        away = points[first + 1 : last] - start
        # To the chord itself and not to the line through it: a curve may double back.
        share = np.clip(away @ along / max(float(along @ along), 1e-12), 0, 1)
        off = np.hypot(*(away - share[:, None] * along).T)
        farthest = int(np.argmax(off))
        if off[farthest] > tolerance:
            middle = first + 1 + farthest
            keep[middle] = True
            waiting += [(first, middle), (middle, last)]
    points = points[keep]
    if len(points) > n_most:
        points = points[np.unique(np.linspace(0, len(points) - 1, n_most).round().astype(int))]
    return points
