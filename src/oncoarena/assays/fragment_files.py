"""Tables of fragments: a row a fragment, tab-separated, gzipped or not, without sequences.

Columns are chrom, start, end (0-based, half-open), mapq, strand, as finaletoolkit writes them; chrom, start, end
alone or with mapq; or the six of BED (chrom, start, end, name, mapq, strand). Rows are sorted by coordinate, as
tabix wants them. Lines ahead of the first row that begin with #, track or browser are skipped, and so are a first
line of names (chrom, start, ...) and empty lines behind the last row.
"""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from oncoarena.assays.byte_lines import LineChunk, line_chunks
from oncoarena.errors import BadObject, InputError
from oncoarena.genomes import GENOMES, canonical_chromosome, genome
from oncoarena.kernels import fragment_rows
from oncoarena.kernels.bin_layout import BinLayout
from oncoarena.kernels.fragment_rows import FragmentRows
from oncoarena.kernels.fragment_tally import (
    COUNTERS,
    FragmentFilters,
    FragmentTally,
    empty_tally,
    place_of,
    tally_fragments,
)

EXPECTED = "expected chrom, start, end, mapq, strand, separated by tabs"
# Positions of mapq and strand among the fields of a row, by the number of fields.
_LAYOUTS = {3: (-1, -1), 4: (3, -1), 5: (3, 4), 6: (4, 5)}
_FAULTS = {
    fragment_rows.EMPTY_NAME: "the name of the chromosome is empty",
    fragment_rows.WRONG_START: "the start is no whole number of bp",
    fragment_rows.WRONG_END: "the end is no whole number of bp",
    fragment_rows.WRONG_MAPQ: "the mapping quality is no whole number from 0 to 255",
    fragment_rows.WRONG_STRAND: "the strand is neither + nor - nor .",
    fragment_rows.MANY_RUNS: "the rows are not sorted: chromosomes alternate; sort them (sort -k1,1 -k2,2n)",
}
# The largest set of contigs in use, hg38 with alternates, decoys and HLA, has about 3,400.
MAX_CONTIGS = 100_000
_HEADS = (b"#", b"track", b"browser")
_CHROM_NAMES = ("chrom", "chr", "chromosome")
_N_RECORDS, _N_MAPPED, _N_LOW_MAPQ = (
    COUNTERS.index(name) for name in ("n_records", "n_mapped", "n_low_mapq")
)


def tally_table(
    stream: BinaryIO,
    source: str,
    genome_name: str,
    layout: BinLayout,
    filters: FragmentFilters,
    chunk_bytes: int = 4 << 20,
) -> FragmentTally:
    """Count the fragments of a table; motifs and base composition stay 0.

    Rows of chromosomes that are not in the layout are counted as such. Raises InputError, BadObject with the
    number of the row where the table is damaged, unsorted or of another genome.
    """
    tally = empty_tally(layout, filters)
    order = _Order()
    n_fields = 0
    empty_line: BadObject | None = None
    for chunk in line_chunks(stream, source, chunk_bytes):
        if not n_fields:
            chunk = _without_head(chunk)
            if not chunk.text:
                continue
            n_fields = _count_fields(chunk, source)
        if empty_line is not None and not _is_blank(chunk.text):
            raise empty_line
        rows = fragment_rows.scan_rows(chunk.text, n_fields, *_LAYOUTS[n_fields])
        if rows.status != fragment_rows.SOUND:
            # Empty lines may end the table; among its rows they are a fault.
            empty_line = _fault(chunk, rows, n_fields, source)
            if not _is_blank(chunk.text[rows.line :]):
                raise empty_line
        _check_lengths(chunk, rows, source)
        chromosome, reference = order.follow(chunk, rows, layout, source)
        _check_ends(chunk, rows, chromosome, layout, genome_name, source)
        sure = rows.mapq >= filters.min_mapq
        tally.counters[_N_RECORDS] += len(sure)
        tally.counters[_N_MAPPED] += len(sure)
        tally.counters[_N_LOW_MAPQ] += np.count_nonzero(~sure)
        counted = sure & (chromosome >= 0)
        tally.chromosome_reads += np.bincount(chromosome[counted], minlength=len(tally.chromosome_reads))
        tally_fragments(tally, layout, filters, chromosome[sure], rows.start[sure], rows.end[sure])
        if len(sure) and tally.first_place < 0:
            tally.first_place = place_of(0, int(rows.start[0]))
        if len(sure):
            tally.last_place = place_of(int(reference[-1]), int(rows.start[-1]))
    return tally


def _is_blank(text: bytes) -> bool:
    return not text.replace(b"\r\n", b"\n").strip(b"\n")


def _without_head(chunk: LineChunk) -> LineChunk:
    position = 0
    if chunk.number == 1:
        names = chunk.line(0).split("\t")
        if names[0].lower() in _CHROM_NAMES and len(names) > 1 and not names[1].isdigit():
            position = chunk.text.index(b"\n") + 1
    while chunk.text.startswith(_HEADS, position):
        position = chunk.text.index(b"\n", position) + 1
    number, offset = chunk.place(position)
    return LineChunk(chunk.text[position:], number, offset)


def _count_fields(chunk: LineChunk, source: str) -> int:
    n_fields = chunk.line(0).count("\t") + 1
    if n_fields not in _LAYOUTS:
        raise InputError(
            f"{source}: line {chunk.number} has {n_fields} tab-separated fields ({chunk.line(0)[:60]!r}); {EXPECTED} "
            "(or the first three, the first four, or the six of BED)"
        )
    return n_fields


def _fault(chunk: LineChunk, rows: FragmentRows, n_fields: int, source: str) -> BadObject:
    number, offset = chunk.place(rows.line)
    line = chunk.line(rows.line)
    if rows.status == fragment_rows.WRONG_FIELDS:
        words = f"{line.count(chr(9)) + 1} fields where the first row has {n_fields}"
    else:
        words = _FAULTS[rows.status]
    return BadObject(f"{source}: line {number} ({line[:60]!r}): {words}; {EXPECTED}", offset)


def _at_row(chunk: LineChunk, row: int) -> tuple[int, int | None, str]:
    """Return number, offset and text of a row's line."""
    position = 0
    for _ in range(row):
        position = chunk.text.index(b"\n", position) + 1
    return *chunk.place(position), chunk.line(position)


def _check_lengths(chunk: LineChunk, rows: FragmentRows, source: str) -> None:
    wrong = rows.end <= rows.start
    if wrong.any():
        number, offset, line = _at_row(chunk, int(wrong.argmax()))
        raise BadObject(f"{source}: line {number} ({line[:60]!r}): the end is not beyond the start", offset)


def _check_ends(
    chunk: LineChunk,
    rows: FragmentRows,
    chromosome: np.ndarray,
    layout: BinLayout,
    genome_name: str,
    source: str,
) -> None:
    """Refuse a fragment beyond the end of its chromosome: the table is of another genome."""
    wrong = (chromosome >= 0) & (rows.end > layout.sizes[chromosome])
    if not wrong.any():
        return
    row = int(wrong.argmax())
    name, end = layout.chromosomes[chromosome[row]], int(rows.end[row])
    fitting = [other for other in GENOMES if genome(other).sizes[name] >= end]
    hint = (
        f"it would fit {' or '.join(fitting)}" if fitting else f"no genome of {', '.join(GENOMES)} is so long"
    )
    number, offset, _ = _at_row(chunk, row)
    raise BadObject(
        f"{source}: line {number}: a fragment ends at {name}:{end}, but {name} of {genome_name} has "
        f"{int(layout.sizes[chromosome[row]])} bp; {hint}; correct genome, or the file",
        offset,
    )


class _Order:
    """The order of rows over chunks: chromosomes in one stretch each, starts that never decrease."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.last_start = -1

    def follow(
        self, chunk: LineChunk, rows: FragmentRows, layout: BinLayout, source: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return each row's chromosome in the layout (-1 for none) and its number in the order of the table."""
        chromosome = np.empty(len(rows.start), np.int64)
        reference = np.empty(len(rows.start), np.int64)
        for first, last, name in self._runs(chunk, rows):
            canonical = canonical_chromosome(name)
            name = canonical or name
            current = next(reversed(self.seen), None)
            if name in self.seen and name != current:
                number, offset, _ = _at_row(chunk, first)
                raise BadObject(
                    f"{source}: line {number}: chromosome {name[:40]!r} appears again after {current[:40]!r}: the rows "
                    "are not sorted, or two tables were joined; sort them (sort -k1,1 -k2,2n)",
                    offset,
                )
            if name != current:
                self.seen[name] = len(self.seen)
                self.last_start = -1
            if len(self.seen) > MAX_CONTIGS:
                raise BadObject(f"{source}: more than {MAX_CONTIGS} chromosomes; {EXPECTED}")
            starts = rows.start[first:last]
            wrong = np.diff(starts, prepend=self.last_start) < 0
            if wrong.any():
                number, offset, line = _at_row(chunk, first + int(wrong.argmax()))
                raise BadObject(
                    f"{source}: line {number} ({line[:60]!r}) starts before the row ahead of it: the rows are not "
                    "sorted; sort them (sort -k1,1 -k2,2n)",
                    offset,
                )
            self.last_start = int(starts[-1])
            known = canonical in layout.chromosomes
            chromosome[first:last] = layout.chromosomes.index(canonical) if known else -1
            reference[first:last] = self.seen[name]
        return chromosome, reference

    @staticmethod
    def _runs(chunk: LineChunk, rows: FragmentRows) -> Iterator[tuple[int, int, str]]:
        ends = [*rows.runs[1:, 0].tolist(), len(rows.start)]
        for (first, name_from, name_to), last in zip(rows.runs.tolist(), ends, strict=True):
            yield first, last, chunk.text[name_from:name_to].decode(errors="backslashreplace")
