"""Sums of methylation calls over bins or regions, from bedMethyl and Bismark coverage files.

The bedMethyl of ENCODE has 11 columns and no counts: the methylated calls are the percentage of the coverage, rounded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pandas as pd

from oncoarena.assays import SampleFeatures
from oncoarena.assays.byte_lines import LineChunk, line_chunks
from oncoarena.assays.methylation_regions import read_regions
from oncoarena.cohort import feature_table
from oncoarena.errors import BadObject, InputError
from oncoarena.genomes import AUTOSOMES, Genome, bins, canonical_chromosome, genome
from oncoarena.kernels import methylation_rows as rows

CHUNK_BYTES = 4 << 20
# A percentage may differ from that of its counts by one unit of its last digit (rounded or cut), and by float32.
PERCENT_SLACK = 1e-3
# Calls per bp of chrX and chrY relative to the autosomes. Copies alone would give 0.5 and 0.5 in a male, 1 and 0 in a
# female; both have fewer CpGs per bp than autosomes, and half of chrY is not sequenced at all. A hint, no more.
MALE = {"x_below": 0.65, "y_above": 0.05}
FEMALE = {"x_above": 0.5, "y_below": 0.02}
# At one position a cytosine may be on "+", "-" or ".": a fourth row must repeat one of the three before it.
_N_CARRIED = 3
_FORMATS = ("bedMethyl", "Bismark coverage", "bedMethyl of ENCODE")
# What modbam2bed writes where ENCODE names the sample (field 4): its coverage counts reads without a call too.
_MODBAM2BED = (b"5mC", b"5hmC", b"5fC", b"5caC", b"5hmU", b"5fU", b"5caU", b"6mA", b"8oxoG", b"h", b"a")
_HEADER_STARTS = (b"#", b"track", b"browser")


@dataclass(eq=False)
class _Intervals:
    """Bins or regions of one chromosome, by start, and what was summed in each."""

    order: np.ndarray
    start: np.ndarray
    end: np.ndarray
    furthest: np.ndarray
    """The largest end so far: intervals before the first one beyond a position cannot reach that position."""
    n_methylated: np.ndarray
    n_calls: np.ndarray

    def add(self, position: np.ndarray, n_methylated: np.ndarray, n_calls: np.ndarray) -> None:
        """Add sites at sorted positions."""
        low = np.searchsorted(self.furthest, position[0], side="right")
        high = np.searchsorted(self.start, position[-1], side="right")
        if low >= high:
            return
        first = np.searchsorted(position, self.start[low:high])
        end = np.searchsorted(position, self.end[low:high])
        for total, counts in ((self.n_methylated, n_methylated), (self.n_calls, n_calls)):
            summed = np.concatenate(([0], np.cumsum(counts)))
            total[low:high] += summed[end] - summed[first]


@dataclass(eq=False)
class _Tally:
    """What is known of the object so far."""

    intervals: dict[str, _Intervals]
    chrom: str | None = None
    carried: np.ndarray = field(default_factory=lambda: np.empty((2, 0), np.int64))
    """Position and strand of the last sites of ``chrom``, (2, at most 3)."""
    seen: set[str] = field(default_factory=set)
    n_sites: dict[str, int] = field(default_factory=dict)
    n_calls: dict[str, int] = field(default_factory=dict)
    n_methylated: int = 0
    n_elsewhere: int = 0
    n_other_codes: int = 0
    other_code: str = ""

    @property
    def n_records(self) -> int:
        """Rows that were read, of whatever contig and modification."""
        return sum(self.n_sites.values()) + self.n_elsewhere + self.n_other_codes


def read_calls(
    stream: BinaryIO, source: str, options: Any, regions: BinaryIO | None = None
) -> dict[str, SampleFeatures]:
    """Read the calls of one sample and average them over bins, or over ``regions`` (a BED file).

    Parameters: ``options`` see ``methylation.Options``. Returns the blocks ``methylation_bins`` (beta, NaN with
    fewer than ``min_calls`` calls) and ``methylation_calls``, both (n_bins,).
    Raises InputError; BadObject where the object is damaged, unsorted or of another genome.
    """
    build = genome(options.genome)
    if regions is None:
        places = bins(build, options.bin_bp, options.chromosomes)
    else:
        places = read_regions(regions, options, build)
    tally = _Tally(_intervals_by_chromosome(places))
    kind = None
    for chunk in line_chunks(stream, source, CHUNK_BYTES):
        if kind is None:
            chunk, kind = _recognise(chunk, source)
        if kind is not None:
            _add_chunk(tally, chunk, kind, source, options, build)
    _refuse_nothing(tally, kind, source, options)
    n_methylated, n_calls = np.zeros((2, len(places)), dtype=np.int64)
    for found in tally.intervals.values():
        n_methylated[found.order] = found.n_methylated
        n_calls[found.order] = found.n_calls
    beta = np.full(len(places), np.nan)
    enough = n_calls >= options.min_calls
    beta[enough] = n_methylated[enough] / n_calls[enough]
    chrom, start, end = (places[name].tolist() for name in ("chrom", "start", "end"))
    ids = [f"{c}:{s}-{e}" for c, s, e in zip(chrom, start, end, strict=True)]
    features = feature_table(ids, chrom, start, end)
    qc = _quality(tally, kind, build, float(np.mean(~enough)))
    return {
        "methylation_bins": SampleFeatures(beta.astype(np.float32), features, qc),
        "methylation_calls": SampleFeatures(n_calls.astype(np.float32), features, qc),
    }


def _intervals_by_chromosome(places: pd.DataFrame) -> dict[str, _Intervals]:
    found = {}
    chrom = places["chrom"].to_numpy()
    start, end = (places[name].to_numpy(np.int64) for name in ("start", "end"))
    for name in pd.unique(chrom):
        order = np.flatnonzero(chrom == name)
        order = order[np.argsort(start[order], kind="stable")]
        zeros = np.zeros((2, len(order)), dtype=np.int64)
        found[str(name)] = _Intervals(
            order, start[order], end[order], np.maximum.accumulate(end[order]), zeros[0], zeros[1]
        )
    return found


def _recognise(chunk: LineChunk, source: str) -> tuple[LineChunk, int | None]:
    """Pass over the header lines of a chunk and tell the format of the first row; None where it has none."""
    at = 0
    while at < len(chunk.text):
        end = chunk.text.index(b"\n", at)
        line = chunk.text[at:end].rstrip(b"\r")
        fields = line.replace(b" ", b"\t").split(b"\t")
        named = fields[0].lower() in (b"chrom", b"chr", b"chromosome") and not fields[-1].isdigit()
        if line and not named and not line.startswith(_HEADER_STARTS):
            break
        at = end + 1
    number, offset = chunk.place(at)
    chunk = LineChunk(chunk.text[at:], number, offset)
    if not chunk.text:
        return chunk, None
    if len(fields) in rows.N_FIELDS:
        kind = rows.N_FIELDS.index(len(fields))
        if kind != rows.ENCODE or fields[3] not in _MODBAM2BED:
            return chunk, kind
    hints = {
        2: "if this is a table of beta values by probe, set technology: array",
        7: "this may be a cytosine report of Bismark; give its coverage file (.cov.gz)",
        11: "this may be of modbam2bed, which has no counts; write it with modkit pileup",
    }
    raise BadObject(
        f"{source}: line {number}: {len(fields)} fields; expected the 18 of bedMethyl (modkit pileup; 11 of ENCODE) "
        f"or the 6 of a Bismark coverage file; {hints.get(len(fields), 'give one of these')}",
        offset=offset,
    )


def _add_chunk(tally: _Tally, chunk: LineChunk, kind: int, source: str, options: Any, build: Genome) -> None:
    for part in rows.scan_rows(chunk.text, kind, options.mod_code.encode()):
        n_rows = part.numbers.shape[1]
        if n_rows:
            position = _check_rows(part, chunk, kind, source, options)
            for run, first, end in _runs(part, n_rows):
                name = chunk.text[part.runs[run, 1] : part.runs[run, 2]].decode(errors="replace")
                _add_run(tally, part, position, slice(first, end), name, chunk, source, build)
        tally.n_other_codes += part.n_other_codes
        tally.other_code = tally.other_code or part.other_code.decode(errors="replace")
        if part.status != rows.SOUND:
            _refuse_line(part, chunk, kind, source)


def _runs(part: rows.Rows, n_rows: int) -> Iterator[tuple[int, int, int]]:
    first = part.runs[:, 0].tolist()
    return zip(range(len(first)), first, [*first[1:], n_rows], strict=True)


def _check_rows(part: rows.Rows, chunk: LineChunk, kind: int, source: str, options: Any) -> np.ndarray:
    """Refuse rows that contradict themselves; return the 0-based position of each site."""
    numbers = part.numbers
    start, end = numbers[rows.START], numbers[rows.END]

    def refuse(wrong: np.ndarray, remedy: str) -> None:
        if wrong.any():
            _refuse_row(int(np.argmax(wrong)), part, chunk, source, remedy)

    if kind != rows.BISMARK:
        refuse(end <= start, "the end is not beyond the start; copy or write the file again")
        total = numbers[rows.N_METHYLATED] + numbers[rows.N_UNMETHYLATED] + numbers[rows.N_OTHER]
        refuse(
            total != numbers[rows.N_VALID],
            "N_valid_cov (field 10) is not N_mod + N_canonical + N_other_mod (fields 12 to 14); copy or write the "
            "file again",
        )
        position = start
    else:
        position = _bismark_position(start, end, refuse, options.coordinates)
    if kind == rows.ENCODE:  # the counts were made from the percentage
        return position
    n_valid = numbers[rows.N_VALID]
    percent = 100.0 * numbers[rows.N_METHYLATED] / np.maximum(n_valid, 1)
    tolerance = 10.0**-part.decimals + PERCENT_SLACK
    refuse(
        (np.abs(part.percent - percent) > tolerance) & (n_valid > 0),
        "the percentage (0 to 100) is not that of the counts; copy or write the file again",
    )
    return position


def _bismark_position(start: np.ndarray, end: np.ndarray, refuse: Any, coordinates: str) -> np.ndarray:
    span = end - start
    if coordinates == "zero_based":
        refuse(
            (span < 1) | (span > 2),
            "0-based, half-open coordinates span 1 or 2 bp; set coordinates: one_based",
        )
        return start
    if coordinates == "auto":
        refuse(
            span == 1,
            "the end is the start + 1: this may be a site in 0-based coordinates (.zero.cov) or a CpG in 1-based ones "
            "(merged_CpG_evidence.cov); set coordinates: zero_based or one_based",
        )
    refuse(
        (span < 0) | (span > 1) | (start < 1),
        "expected 1-based coordinates of one site, its end at its start",
    )
    return start - 1


def _add_run(
    tally: _Tally,
    part: rows.Rows,
    position: np.ndarray,
    where: slice,
    name: str,
    chunk: LineChunk,
    source: str,
    build: Genome,
) -> None:
    """Add consecutive rows of one chromosome."""
    chrom = canonical_chromosome(name)
    if chrom is None or chrom not in build.sizes:
        tally.n_elsewhere += where.stop - where.start
        return
    sites = position[where]
    strand = part.numbers[rows.STRAND, where]
    if chrom != tally.chrom:
        if chrom in tally.seen:
            remedy = f"{chrom} was there before, and others between; sort the file (sort -k1,1 -k2,2n)"
            _refuse_row(where.start, part, chunk, source, remedy)
        tally.seen.add(chrom)
        tally.chrom, tally.carried = chrom, tally.carried[:, :0]
    n_carried = tally.carried.shape[1]
    joined = np.concatenate([tally.carried, [sites, strand]], axis=1)
    _check_order(joined, n_carried, where.start, part, chunk, source)
    # Sorted, so that the last site is the furthest.
    if sites[-1] >= build.sizes[chrom]:
        row = where.start + int(np.searchsorted(sites, build.sizes[chrom]))
        remedy = f"{chrom} of {build.name} has {build.sizes[chrom]} bp: this is another genome, or damaged; set genome"
        _refuse_row(row, part, chunk, source, remedy)
    tally.carried = joined[:, -_N_CARRIED:]
    n_methylated = part.numbers[rows.N_METHYLATED, where]
    n_calls = part.numbers[rows.N_VALID, where]
    tally.n_sites[chrom] = tally.n_sites.get(chrom, 0) + len(sites)
    tally.n_calls[chrom] = tally.n_calls.get(chrom, 0) + int(n_calls.sum())
    tally.n_methylated += int(n_methylated.sum())
    if chrom in tally.intervals:
        tally.intervals[chrom].add(sites, n_methylated, n_calls)


def _check_order(
    joined: np.ndarray, n_carried: int, first_row: int, part: rows.Rows, chunk: LineChunk, source: str
) -> None:
    """Refuse a site before the last, or a site that is there twice: only in sorted rows can it be seen."""
    position, strand = joined
    if (falls := np.diff(position) < 0).any():
        row = first_row + int(np.argmax(falls)) + 1 - n_carried
        _refuse_row(
            row, part, chunk, source, "the line before has a larger start; sort the file (sort -k1,1 -k2,2n)"
        )
    for lag in range(1, _N_CARRIED + 1):
        twice = (position[lag:] == position[:-lag]) & (strand[lag:] == strand[:-lag])
        if twice.any():
            row = first_row + int(np.argmax(twice)) + lag - n_carried
            _refuse_row(
                row,
                part,
                chunk,
                source,
                "this site is there twice: a row before has its position and strand; keep one row a site (of several "
                "motifs name one, e.g. mod_code: m,CG,0)",
            )


def _refuse_row(row: int, part: rows.Rows, chunk: LineChunk, source: str, remedy: str) -> NoReturn:
    line = int(part.numbers[rows.LINE, row])
    number, offset = chunk.place(line)
    raise BadObject(f"{source}: line {number} ({chunk.line(line)[:120]!r}): {remedy}", offset=offset)


def _refuse_line(part: rows.Rows, chunk: LineChunk, kind: int, source: str) -> NoReturn:
    number, offset = chunk.place(part.line)
    said = {
        rows.WRONG_FIELDS: f"{part.field} fields found, {rows.N_FIELDS[kind]} expected ({_FORMATS[kind]})",
        rows.WRONG_INTEGER: f"field {part.field} is not a whole number of 0 or more",
        rows.WRONG_PERCENT: f"field {part.field} is not a percentage",
        rows.WRONG_STRAND: f"field {part.field} is not a strand (+, - or .)",
        rows.EMPTY_NAME: "field 1, the chromosome, is empty",
    }[part.status]
    raise BadObject(
        f"{source}: line {number} ({chunk.line(part.line)[:120]!r}): {said}; copy or write the file again",
        offset=offset,
    )


def _refuse_nothing(tally: _Tally, kind: int | None, source: str, options: Any) -> None:
    if kind is None:
        raise BadObject(f"{source}: a header and no rows; expected a row a site. Copy it again")
    if tally.n_sites:
        return
    if tally.n_elsewhere:
        raise BadObject(
            f"{source}: none of its {tally.n_elsewhere} sites is on a chromosome of {options.genome} (chr1 to chrY, "
            "with or without chr); this is another genome"
        )
    raise InputError(
        f"{source}: {tally.n_other_codes} rows and none of modification {options.mod_code!r}, the first is of "
        f"{tally.other_code!r}; set mod_code (m is 5mC, h is 5hmC, C any modification of C)"
    )


def _quality(tally: _Tally, kind: int, build: Genome, missing_rate: float) -> dict[str, float | int | str]:
    n_sites, n_calls = sum(tally.n_sites.values()), sum(tally.n_calls.values())

    def per_bp(chroms: Sequence[str]) -> float:
        return sum(tally.n_calls.get(c, 0) for c in chroms) / sum(build.sizes[c] for c in chroms)

    autosomes = per_bp(AUTOSOMES)
    x, y = (per_bp([name]) / autosomes if autosomes else np.nan for name in ("chrX", "chrY"))
    sex = ""
    if "chrX" in tally.n_sites and x < MALE["x_below"] and y > MALE["y_above"]:
        sex = "male"
    elif "chrX" in tally.n_sites and x > FEMALE["x_above"] and y < FEMALE["y_below"]:
        sex = "female"
    return {
        "format": _FORMATS[kind],
        "n_records": tally.n_records,
        "n_sites": n_sites,
        "n_calls": n_calls,
        "mean_calls": n_calls / n_sites,
        "global_beta": tally.n_methylated / n_calls if n_calls else np.nan,
        "missing_rate": missing_rate,
        "n_sites_elsewhere": tally.n_elsewhere,
        "calls_x_ratio": x,
        "calls_y_ratio": y,
        "sex_inferred": sex,
    }
