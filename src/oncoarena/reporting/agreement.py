"""Whether hypotheses fail on the same samples, and what each adds to the others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from oncoarena.referee.stacking import ADDED_VALUE_METHOD
from oncoarena.reporting import svg
from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.figures import ALPHA, NARROW, WIDE, Row, draw_intervals
from oncoarena.reporting.glossary import DASH, count, decimals, interval, p_value, signed
from oncoarena.reporting.series import Series

_SEE_TABLE = "The numbers are in the table of this section."


def agreement(
    overlap: pd.DataFrame | None, added: pd.DataFrame | None, series: Mapping[str, Series]
) -> dict[str, Any]:
    """Collect the section on what hypotheses share and what each adds.

    Parameters: ``overlap`` with the columns hypothesis_a, hypothesis_b, both_wrong, only_a, only_b, phi and
    n, perhaps expected_both_wrong; ``added`` with hypothesis, gain, ci_low, ci_high, p_value and p_holm; either
    may be None or empty.
    Controls are left out of the matrix: whom they fail with says nothing.
    """
    shared = overlap if overlap is not None and len(overlap) else None
    gains = added if added is not None and len(added) else None
    section: dict[str, Any] = {
        "overlap": None,
        "overlap_table": overlap_table(shared, series) if shared is not None else None,
        "gains": None,
        "gain_table": gain_table(gains, series) if gains is not None else None,
        "method": ADDED_VALUE_METHOD,
    }
    if shared is not None:
        section["overlap"] = _draw_overlap(shared, series)
    if gains is not None:
        section["gains"] = {
            name: Markup(
                gain_plot(
                    gains,
                    series,
                    title="What each hypothesis adds to all others",
                    description=f"Fall in log loss with 95 % intervals. {_SEE_TABLE}",
                    uid=f"gains-{name}",
                    width=width,
                )
            )
            for name, width in (("wide", WIDE), ("narrow", NARROW))
        }
    return section


def _draw_overlap(overlap: pd.DataFrame, series: Mapping[str, Series]) -> Markup | None:
    found = {*overlap["hypothesis_a"], *overlap["hypothesis_b"]}
    looks = [look for name, look in series.items() if name in found and look.role != "control"]
    if len(looks) < 2:
        return None
    return Markup(
        overlap_matrix(
            overlap,
            looks,
            title="Errors that two hypotheses share",
            description=f"Test samples that both get wrong, a cell a pair. {_SEE_TABLE}",
            uid="overlap",
        )
    )


@dataclass(frozen=True)
class Cell:
    """What a triangle of pairs says of one pair: a number, how strong and of which kind the tie is, and a reading."""

    number: str
    strength: float
    """0 to 1."""
    kind: str
    """Class that gives the colour: right, wrong or level."""
    reading: str


def overlap_matrix(
    overlap: pd.DataFrame, looks: Sequence[Series], *, title: str, description: str, uid: str
) -> str:
    """Draw the count of samples that both of a pair get wrong, shaded by phi.

    Orange says that errors fall together more than by chance (phi above 0), blue that they fall apart, grey that there
    is no telling: one of the two is never wrong.
    Returns SVG text.
    """
    cells = {
        frozenset((row.hypothesis_a, row.hypothesis_b)): _overlap_cell(row) for row in overlap.itertuples()
    }
    return pair_triangle(cells, looks, title=title, description=description, uid=uid)


def pair_triangle(
    cells: Mapping[frozenset[str], Cell], looks: Sequence[Series], *, title: str, description: str, uid: str
) -> str:
    """Draw a triangle of pairs of hypotheses, a cell each; a pair without a cell stays empty. Returns SVG text."""
    n = len(looks)
    cell = 44 if n <= 6 else 36
    names = [svg.shorten(look.label, 168, 12) for look in looks]
    room = max(svg.text_width(name, 12) for name in names) + 14
    marks, top = [], 4.0
    for i in range(1, n):
        y = top + (i - 1) * cell
        marks.append(svg.text(room - 8, y + cell / 2 + 4, names[i], class_="tick strong", text_anchor="end"))
        for j in range(i):
            found = cells.get(frozenset((looks[i].hypothesis, looks[j].hypothesis)))
            if found is not None:
                marks.append(_draw_pair(found, room + j * cell, y, cell))
    foot = top + (n - 1) * cell
    for j in range(n - 1):
        # Slanted below the triangle, where each column ends.
        x, y = room + j * cell + cell / 2 + 4, foot + 14
        turn = f"rotate(-45 {svg.number(x)} {svg.number(y)})"
        marks.append(svg.text(x, y, names[j], class_="tick strong", text_anchor="end", transform=turn))
    slanted = 0.72 * max(svg.text_width(name, 12) for name in names[:-1])
    return svg.picture(
        marks,
        width=max(room, slanted) + (n - 1) * cell + 6,
        height=foot + slanted + 22,
        title=title,
        description=description,
        uid=uid,
        class_="chart confusion overlap",
    )


def _overlap_cell(row: Any) -> Cell:
    phi = row.phi if math.isfinite(row.phi) else 0.0
    expected = getattr(row, "expected_both_wrong", math.nan)
    chance = f" (by chance {decimals(expected, 1)})" if math.isfinite(expected) else ""
    reading = (
        f"{row.hypothesis_a} and {row.hypothesis_b}\nboth wrong {count(row.both_wrong)} of {count(row.n)}{chance}"
        f"\nonly {row.hypothesis_a} {count(row.only_a)}, only {row.hypothesis_b} {count(row.only_b)}"
        f"\nphi {decimals(row.phi, 2)}"
    )
    kind = "wrong" if phi > 0 else "right" if phi < 0 else "level"
    return Cell(count(row.both_wrong), min(abs(phi), 1.0), kind, reading)


def _draw_pair(found: Cell, x: float, y: float, cell: int) -> str:
    box = svg.element(
        "rect",
        x=x + 1.5,
        y=y + 1.5,
        width=float(cell - 3),
        height=float(cell - 3),
        rx=3,
        fill_opacity=0.08 + 0.87 * found.strength,
    )
    # Ink on pale cells, black on mid ones: the same rule as in confusion matrices.
    shade = "deep" if found.strength > 0.87 else "middle" if found.strength > 0.63 else None
    number = svg.text(x + cell / 2, y + cell / 2 + 4.5, found.number, class_=shade, text_anchor="middle")
    words = svg.element("title", svg.escape(found.reading))
    return svg.element("g", words, box, number, class_=f"mark {found.kind}")


def gain_plot(
    gains: pd.DataFrame,
    series: Mapping[str, Series],
    *,
    title: str,
    description: str,
    uid: str,
    width: int = WIDE,
) -> str:
    """Draw by how much the log loss of a stack of all others falls when each hypothesis joins. Returns SVG text."""
    order = list(series)
    rows = []
    for row in gains.sort_values("hypothesis", key=lambda names: names.map(order.index)).itertuples():
        look, span, p = series[row.hypothesis], interval(row.ci_low, row.ci_high), p_value(row.p_holm)
        told = row.p_holm < ALPHA and row.ci_low > 0
        rows.append(
            Row(
                label=look.label,
                group=look.role,
                low=row.ci_low,
                middle=row.gain,
                high=row.ci_high,
                value=signed(row.gain),
                beside=f"{'adds' if told else 'not shown to add'}, p {p}",
                beside_short=f"p {p}",
                reading=f"{look.naming}\nlog loss falls by {decimals(row.gain)}\n95 % interval {span}"
                f"\np {p} after Holm",
                series=look,
                marker_class="solid" if told else "open",
            )
        )
    return draw_intervals(
        rows,
        axis_label="Fall in log loss when it joins all others",
        bounds=(None, None),
        domain=None,
        zero_line=True,
        axis_ends=("\N{LEFTWARDS ARROW} it harms", "it adds \N{RIGHTWARDS ARROW}"),
        title=title,
        description=description,
        uid=uid,
        width=width,
    )


def overlap_table(overlap: pd.DataFrame, series: Mapping[str, Series]) -> DataTable:
    """List every pair: who is wrong on how many samples, and how far errors fall together."""
    further = [
        (column, heading)
        for column, heading in (("expected_both_wrong", "Both wrong by chance"), ("kappa", "Kappa"))
        if column in overlap.columns
    ]
    body = [
        [
            series[row.hypothesis_a].label,
            series[row.hypothesis_b].label,
            count(row.both_wrong),
            count(row.only_a),
            count(row.only_b),
            count(row.n),
            *(decimals(getattr(row, column), 2) for column, _ in further),
            decimals(row.phi, 2),
        ]
        for row in overlap.itertuples()
    ]
    headings = ["First", "Second", "Both wrong", "Only first", "Only second", "Samples"]
    headings += [*(heading for _, heading in further), "Phi"]
    return DataTable("Errors in common, pair by pair", headings, body, n_text=2)


def gain_table(gains: pd.DataFrame, series: Mapping[str, Series]) -> DataTable:
    """List what each hypothesis adds."""
    further = {
        "log_loss_alone": "Log loss alone",
        "log_loss_without": "Stack without it",
        "log_loss_with": "Stack of all",
        "weight": "Weight",
    }
    further = {column: heading for column, heading in further.items() if column in gains.columns}
    body = [
        [
            series[row.hypothesis].label,
            signed(row.gain),
            interval(row.ci_low, row.ci_high) or DASH,
            p_value(row.p_value),
            p_value(row.p_holm),
            *(decimals(getattr(row, column)) for column in further),
        ]
        for row in gains.itertuples()
    ]
    headings = ["Hypothesis", "Fall in log loss", "95 % interval", "p", "p (Holm)", *further.values()]
    return DataTable("What each hypothesis adds to all others", headings, body)
