"""The flow of samples as a picture: from the sheet to the test sets, with who left and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from oncoarena.reporting import svg
from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.figures import NARROW, WIDE
from oncoarena.reporting.glossary import DASH, count, plural

_REASONS_MOST = 5
_BOX, _LINE = 46.0, 16.0


def left_lines(stage: Mapping[str, Any], most: int = _REASONS_MOST) -> list[tuple[str, int]]:
    """List who left before a stage: (reason, samples), the most frequent first, the rest in one line."""
    left = [(str(item["reason"]), int(item["n_samples"])) for item in stage.get("left") or []]
    if len(left) > most:
        rest = left[most - 1 :]
        left = [*left[: most - 1], (f"{len(rest)} other reasons", sum(n for _, n in rest))]
    return left


def flow_section(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Collect the picture of the flow and its table; {} where no flow is known."""
    if not stages:
        return {}
    drawn = {
        name: Markup(
            flow_plot(
                stages,
                title="Flow of samples",
                description="From the sample sheet to the test sets, with who left at each step and why. "
                "The numbers are in the table of this section.",
                uid=f"flow-{name}",
                width=width,
            )
        )
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    }
    return {**drawn, "table": flow_table(stages)}


def flow_plot(
    stages: Sequence[Mapping[str, Any]], *, title: str, description: str, uid: str, width: int
) -> str:
    """Draw a box a stage, one below the other, and beside each arrow a box of those who left.

    Parameters: ``stages`` as ``quality.sample_flow`` gives them. Returns SVG text.
    Source of the form: CONSORT, doi:10.1136/bmj.c332.
    """
    stacked = width < 500
    box = 0.56 * width if stacked else 300.0
    side = box / 2 + (26 if stacked else 70)
    said = [f"{reason}: {count(n)}" for stage in stages for reason, n in left_lines(stage)]
    # As wide as its longest line, where there is room for it.
    room = min(width - side - 2, max((svg.text_width(line, 12) for line in said), default=0.0) + 24, 420.0)
    room = max(room, 130.0)
    parts, y = [], 2.0
    for i, stage in enumerate(stages):
        left = left_lines(stage)
        if i:
            wrapped = [line for reason, n in left for line in _wrap(f"{reason}: {count(n)}", room - 20)]
            height = _LINE * (len(wrapped) + 1) + 14
            gap = max(30.0, height + 18 if left else 0.0)
            parts.append(_arrow(box / 2, y, box / 2, y + gap))
            if left:
                n_left = plural(sum(n for _, n in left), "sample")
                at = y + (gap - height) / 2 - 2
                parts.append(_arrow(box / 2, at + height / 2, side, at + height / 2))
                parts.append(
                    svg.element("rect", x=side, y=at, width=room, height=height, rx=4, class_="frame")
                )
                parts.append(svg.text(side + 10, at + 20, f"{n_left} fewer", class_="value"))
                for k, line in enumerate(wrapped, start=1):
                    parts.append(svg.text(side + 10, at + 20 + _LINE * k, line, class_="beside"))
            y += gap
        words = str(stage["stage"])
        counts = f"{plural(int(stage['n_samples']), 'sample')}, {plural(int(stage['n_patients']), 'patient')}"
        parts.append(svg.element("rect", x=1, y=y, width=box - 2, height=_BOX, rx=4, class_="stage"))
        parts.append(svg.text(13, y + 19, svg.shorten(words[:1].upper() + words[1:], box - 24, 13)))
        parts.append(svg.text(13, y + 37, svg.shorten(counts, box - 24, 13), class_="value"))
        y += _BOX
    return svg.picture(
        parts,
        width=width,
        height=y + 4,
        title=title,
        description=description,
        uid=uid,
        class_="chart flow-chart",
    )


def flow_table(stages: Sequence[Mapping[str, Any]]) -> DataTable:
    """List the stages with who left before each."""
    rows = [
        [
            str(stage["stage"]),
            "; ".join(f"{reason}: {count(n)}" for reason, n in left_lines(stage, 50)) or DASH,
            count(stage["n_samples"]),
            count(stage["n_patients"]),
        ]
        for stage in stages
    ]
    return DataTable(
        "Flow of samples", ["Stage", "Who left before it", "Samples", "Patients"], rows, n_text=2
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw an arrow down or to the right."""
    head = f"M{svg.number(x2)} {svg.number(y2)}" + ("l-4 -7h8Z" if x1 == x2 else "l-7 -4v8Z")
    return svg.line(x1, y1, x2, y2, class_="arrow") + svg.element("path", d=head, class_="arrowhead")


def _wrap(line: str, room: float) -> list[str]:
    """Break a line into at most three that fit into ``room`` pixels."""
    n_fit = max(int(room / (svg.CHARACTER_WIDTH * 12)), 8)
    lines, words = [""], line.split()
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > n_fit:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    if len(lines) > 3:
        lines = [*lines[:2], " ".join(lines[2:])]
    return [svg.shorten(line, room, 12) for line in lines]
