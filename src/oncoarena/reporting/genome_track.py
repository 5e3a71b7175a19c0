"""Draw where along the genome hypotheses look: chromosomes side by side, one track a hypothesis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from oncoarena.genomes import CHROMOSOMES, GENOMES, genome
from oncoarena.reporting import svg
from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.glossary import DASH, count, percent
from oncoarena.reporting.series import Series

_TRACK, _GAP, _HEAD = 42.0, 16.0, 20.0
"""Heights (pixels) of a track, of what lies below it, and of a name above it in narrow pictures."""

_RUG = 6.0


@dataclass(frozen=True)
class Chromosome:
    """A chromosome of the picture: bp, and of its arms the border (0 where it is not known)."""

    name: str
    n_bp: int
    centromere: int = 0


def on_chromosomes(rows: pd.DataFrame) -> pd.DataFrame:
    """Pick the features that have a place on a chromosome."""
    return rows[rows["chrom"].isin(CHROMOSOMES) & (rows["start"] >= 0)]


def chromosomes_of(rows: pd.DataFrame, genomes: Sequence[str]) -> list[Chromosome]:
    """List the chromosomes that features lie on, in the order of the genome.

    Parameters: ``rows`` with the columns chrom and end; ``genomes``, the references that the study names. Where it
    names one and all features fit on it, lengths and centromeres are its; else a chromosome ends with its last feature.
    """
    ends = rows.groupby("chrom")["end"].max()
    names = [name for name in CHROMOSOMES if name in ends.index]
    known = [name for name in dict.fromkeys(genomes) if name in GENOMES]
    if len(known) == 1:
        reference = genome(known[0])
        middle = reference.centromeres.set_index("chrom")[["start", "end"]].mean(axis=1)
        if all(ends[name] <= reference.sizes[name] for name in names):
            return [Chromosome(name, reference.sizes[name], int(middle[name])) for name in names]
    return [Chromosome(name, max(int(ends[name]), 1)) for name in names]


def density(
    start: np.ndarray, end: np.ndarray, importance: np.ndarray, n_bp: int, n_columns: int
) -> np.ndarray:
    """Spread the importance of features evenly over their extents (0-based, half-open, bp).

    Returns (n_columns,): the mean importance per Mb in each of as many equal columns of ``n_bp``.
    """
    unit = n_columns / n_bp
    # A site has no extent: it is widened to a thousandth of a column.
    low = np.minimum(np.asarray(start) * unit, n_columns - 1e-3)
    high = np.maximum(np.minimum(np.asarray(end) * unit, n_columns), low + 1e-3)
    slope = np.asarray(importance) / (high - low)
    edges = np.arange(n_columns + 1)

    def ramps(at: np.ndarray) -> np.ndarray:
        """Sum, at each edge, what has accumulated of ramps that begin at ``at``."""
        order = np.argsort(at, kind="stable")
        begun = np.searchsorted(at[order], edges, "right")
        slopes = np.append(0.0, np.cumsum(slope[order]))[begun]
        return edges * slopes - np.append(0.0, np.cumsum((slope * at)[order]))[begun]

    within = np.diff(ramps(low) - ramps(high))
    return np.maximum(within, 0.0) / (n_bp / n_columns / 1e6)


def named(row: Any) -> str:
    """Name a feature: by its gene, by its place where its id says no more than that, else by its id."""
    if row.gene:
        return row.gene
    return place(row) if row.feature == f"{row.chrom}:{row.start}-{row.end}" else row.feature


def describe(row: Any) -> str:
    """Say all that is known of a feature, a line each: name, id and place."""
    known = [named(row), row.feature, place(row)] if row.start >= 0 else [named(row), row.feature]
    if row.feature == f"{row.chrom}:{row.start}-{row.end}":
        del known[1]
    return "\n".join(dict.fromkeys(known))


def place(row: Any) -> str:
    """Write where a feature lies: "chr8:127.00-128.00 Mb", sites with their base pair."""
    if row.end - row.start < 10_000:
        return f"{row.chrom}:{row.start:,}"
    return f"{row.chrom}:{row.start / 1e6:.2f}-{row.end / 1e6:.2f}\N{NO-BREAK SPACE}Mb"


def genome_track(
    rows: pd.DataFrame,
    looks: Sequence[Series],
    chromosomes: Sequence[Chromosome],
    *,
    top: int,
    title: str,
    description: str,
    uid: str,
    width: int,
) -> str:
    """Draw a track a hypothesis: the importance per Mb along the genome, each on its own scale from 0.

    Parameters: ``rows`` with the columns hypothesis, feature, gene, chrom, start, end, importance, rank, top_share and
    n_folds, all on ``chromosomes``; ``looks``, whose tracks, from above; features of a rank up to ``top`` are marked
    below their track. Returns SVG text.
    """
    stacked = width < 500
    longest = max(svg.text_width(look.label, 13) for look in looks)
    left = 0.0 if stacked else min(max(longest, svg.text_width("up to 0.00 %/Mb", 12)) + 14, 190.0)
    pixel = (width - left - 1.0) / sum(chromosome.n_bp for chromosome in chromosomes)
    starts = left + np.cumsum([0.0, *(chromosome.n_bp * pixel for chromosome in chromosomes)])
    lane = _TRACK + _GAP + (_HEAD if stacked else 0.0)
    bottom = 4.0 + lane * len(looks)
    marks = [
        svg.element(
            "rect",
            x=float(starts[i]),
            y=0.0,
            width=float(starts[i + 1] - starts[i]),
            height=bottom,
            class_="band",
        )
        for i in range(0, len(chromosomes), 2)
    ]
    for i, look in enumerate(looks):
        mine = rows[rows["hypothesis"] == look.hypothesis]
        base = 4.0 + i * lane + (_HEAD if stacked else 0.0) + _TRACK
        marks += _draw_track(mine, look, chromosomes, starts, base, top, stacked, left, width)
    marks += _draw_axis(chromosomes, starts, bottom)
    return svg.picture(
        marks,
        width=width,
        height=bottom + 30,
        title=title,
        description=description,
        uid=uid,
        class_="chart genome",
    )


def _draw_track(
    mine: pd.DataFrame,
    look: Series,
    chromosomes: Sequence[Chromosome],
    starts: np.ndarray,
    base: float,
    top: int,
    stacked: bool,
    left: float,
    width: int,
) -> list[str]:
    """Draw one hypothesis's track on its base line: its name, an area a chromosome, and ticks at its top features."""
    parts = dict(list(mine.groupby("chrom", sort=False)))
    heights = {}
    for i, chromosome in enumerate(chromosomes):
        if chromosome.name in parts:
            part = parts[chromosome.name]
            columns = max(1, round(starts[i + 1] - starts[i]))
            given = (part[name].to_numpy() for name in ("start", "end", "importance"))
            heights[chromosome.name] = density(*given, chromosome.n_bp, columns)
    highest = max((float(values.max()) for values in heights.values()), default=0.0)
    peak = f"up to {percent(highest)}/Mb" if highest > 0 else "nowhere here"
    room = (width - svg.text_width(peak, 12) - 12) if stacked else left - 12
    name = svg.shorten(look.label, room, 13)
    marks = [
        svg.text(0, base - _TRACK - 6 if stacked else base - _TRACK / 2, name, class_="label"),
        svg.text(width, base - _TRACK - 6, peak, class_="tick", text_anchor="end")
        if stacked
        else svg.text(0, base - _TRACK / 2 + 17, peak, class_="tick"),
        svg.line(left, base, float(starts[-1]), base, class_="base"),
    ]
    for i, chromosome in enumerate(chromosomes):
        across = float(starts[i + 1] - starts[i])
        target = svg.element(
            "rect", x=float(starts[i]), y=base - _TRACK, width=across, height=_TRACK, class_="target"
        )
        drawn, reading = "", f"{look.label}, {chromosome.name}\nnothing"
        if chromosome.name in heights and highest > 0:
            part = parts[chromosome.name]
            best = part.loc[part["importance"].idxmax()]
            reading = (
                f"{look.label}, {chromosome.name}\n{percent(part['importance'].sum())} of its importance"
                f"\nmost: {named(best)}, {percent(best.importance)}"
            )
            drawn = _draw_area(heights[chromosome.name] / highest, float(starts[i]), across, base)
        words = svg.element("title", svg.escape(reading))
        marks.append(svg.element("g", words, target, drawn, class_=f"mark {look.classes}"))
    at = {chromosome.name: float(starts[i]) for i, chromosome in enumerate(chromosomes)}
    pixel = float(starts[-1] - starts[0]) / sum(chromosome.n_bp for chromosome in chromosomes)
    for row in mine[(mine["rank"] <= top) & (mine["importance"] > 0)].itertuples():
        x = at[row.chrom] + (row.start + row.end) / 2 * pixel
        reading = (
            f"{describe(row)}\n{percent(row.importance)} of the importance of {look.label}"
            f"\nin the top {top} of {count(round(row.top_share * row.n_folds, 1))} of {row.n_folds} splits"
        )
        tick = svg.element(
            "path", d=f"M{svg.number(x)} {svg.number(base + 2)}v{svg.number(_RUG)}", class_="line"
        )
        target = svg.element("rect", x=x - 4, y=base, width=8.0, height=_RUG + 5, class_="target")
        words = svg.element("title", svg.escape(reading))
        marks.append(svg.element("g", words, target, tick, class_=f"mark {look.classes}"))
    return marks


def _draw_area(heights: np.ndarray, start: float, across: float, base: float) -> str:
    """Draw columns (n_columns,), 0 to 1, as one area on the base line; equal neighbours are one step."""
    written = np.round(heights * _TRACK, 1)
    step = across / len(written)
    begins = np.flatnonzero(np.append(True, np.diff(written) != 0))
    ends = np.append(begins[1:], len(written))
    steps = [
        f"V{svg.number(base - written[first])}H{svg.number(start + last * step)}"
        for first, last in zip(begins, ends, strict=True)
    ]
    path = f"M{svg.number(start)} {svg.number(base)}{''.join(steps)}V{svg.number(base)}Z"
    return svg.element("path", d=path, class_="bar") if written.any() else ""


def _draw_axis(chromosomes: Sequence[Chromosome], starts: np.ndarray, bottom: float) -> list[str]:
    """Draw the chromosomes, their arms where known, and the names for which there is room."""
    marks, taken = [], -np.inf
    for i, chromosome in enumerate(chromosomes):
        start, across = float(starts[i]), float(starts[i + 1] - starts[i])
        border = across * chromosome.centromere / chromosome.n_bp
        for x, wide in ((start, border), (start + border, across - border)) if border else ((start, across),):
            marks.append(
                svg.element(
                    "rect", x=x + 0.5, y=bottom, width=max(wide - 1.0, 0.5), height=7.0, rx=2.5, class_="arm"
                )
            )
        name, middle = chromosome.name.removeprefix("chr"), start + across / 2
        half = svg.text_width(name, 12) / 2
        if middle - half > taken + 3:
            taken = middle + half
            marks.append(svg.text(middle, bottom + 23, name, class_="tick", text_anchor="middle"))
    return marks


def track_table(
    rows: pd.DataFrame, looks: Sequence[Series], chromosomes: Sequence[Chromosome], caption: str
) -> DataTable:
    """List the share of each hypothesis's importance on each chromosome."""
    shares: Mapping[tuple[str, str], float] = (
        rows.groupby(["hypothesis", "chrom"])["importance"].sum().to_dict()
    )
    totals: Mapping[str, float] = rows.groupby("hypothesis")["importance"].sum().to_dict()
    body = [["all of them", *(percent(totals.get(look.hypothesis, 0.0)) for look in looks)]]
    for chromosome in chromosomes:
        cells = [shares.get((look.hypothesis, chromosome.name)) for look in looks]
        body.append([chromosome.name, *(DASH if cell is None else percent(cell) for cell in cells)])
    return DataTable(caption, ["Chromosome", *(look.label for look in looks)], body)
