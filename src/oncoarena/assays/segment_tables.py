"""Tables of segments: SEG, .cns of CNVkit and ASCAT, read in chunks, the samples asked for kept."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from oncoarena.assays.byte_lines import MISSING, LineChunk, as_number, line_chunks
from oncoarena.assays.tables import abbreviated
from oncoarena.errors import AbsentSamples, BadObject, InputError
from oncoarena.genomes import Genome, canonical_chromosome, genome

CHUNK_BYTES = 4 << 20
# Names of columns, in lower case, by what they hold: of DNAcopy, IGV and GDC; of CNVkit; of ASCAT and GDC.
_NAMES = {
    "sample": ("id", "sample", "sample_id", "sampleid", "gdc_aliquot"),
    "chrom": ("chrom", "chr", "chromosome"),
    "start": ("loc.start", "start", "startpos"),
    "end": ("loc.end", "end", "endpos"),
    "log2": ("seg.mean", "log2", "segment_mean"),
    "major": ("nmajor", "major_copy_number", "cn1"),
    "minor": ("nminor", "minor_copy_number", "cn2"),
}
# DNAcopy and array tools number the sex chromosomes.
_NUMBERED = {"23": "chrX", "24": "chrY", "chr23": "chrX", "chr24": "chrY"}


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments of one sample, in the order of the file; arrays are (n_segments,).

    ``chrom`` holds canonical names; ``start`` and ``end`` are 0-based, half-open; ``log2`` is NaN in a table of copies
    alone; ``major`` and ``minor`` are NaN where a table has none; ``line`` numbers lines of the file from 1.
    Those of other contigs (``n_elsewhere``) and those without a value (``n_without_value``) are counted alone.
    """

    name: str
    format: str
    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray
    log2: np.ndarray
    major: np.ndarray
    minor: np.ndarray
    line: np.ndarray
    n_elsewhere: int = 0
    n_without_value: int = 0


@dataclass(frozen=True)
class _Header:
    """What the first line tells: the format and where each column is."""

    format: str
    delimiter: str
    n_fields: int
    columns: dict[str, int]
    one_based: bool


def read_sample(stream: BinaryIO, source: str, sample_id: str, options: Any) -> tuple[Segments, int]:
    """Read the segments of one sample from its own table, or its rows from one of several samples.

    Returns them and the number of rows of the table.
    Raises InputError; BadObject where the table is damaged or of another genome.
    """
    found, names, n_rows = _read(stream, source, {sample_id}, options)
    if sample_id in found:
        return found[sample_id], n_rows
    if len(names) == 1:
        return found[names[0]], n_rows
    raise InputError(
        f"{source}: {len(names)} samples and none named {sample_id!r}; the table has {abbreviated(names)}. Use the "
        "same sample ids in the sheet and in the table."
    )


def read_samples(
    stream: BinaryIO, source: str, sample_ids: Sequence[str], options: Any
) -> tuple[list[Segments], int]:
    """Read the segments of the given samples from one table; also returns the number of other samples in it.

    Raises InputError, also for a sample without any segment.
    """
    sample_ids = [str(sample_id) for sample_id in sample_ids]
    found, names, _ = _read(stream, source, set(sample_ids), options)
    absent = [sample_id for sample_id in sample_ids if sample_id not in names]
    if absent:
        raise AbsentSamples(
            f"{source}: no segment of {abbreviated(absent)} of the sample sheet; the table has {abbreviated(names)}. "
            "Use the same sample ids in the sheet and in the table, or remove the sample from the sheet.",
            absent,
        )
    return [found[sample_id] for sample_id in sample_ids], len(names) - len(sample_ids)


def _read(
    stream: BinaryIO, source: str, wanted: set[str], options: Any
) -> tuple[dict[str, Segments], list[str], int]:
    """Return the segments of the wanted samples and of the first one, the names of all, and the number of rows."""
    build = genome(options.genome)
    header, n_rows = None, 0
    names: dict[str, None] = {}
    parts: dict[str, list[pd.DataFrame]] = {}
    for chunk in line_chunks(stream, source, CHUNK_BYTES):
        if header is None:
            header, chunk = _read_header(chunk, source, options)
        if header is None or not chunk.text:
            continue
        rows = _read_rows(chunk, header, source)
        n_rows += len(rows)
        if "sample" in header.columns and (rows["sample"] == "").any():
            line = rows["line"].to_numpy()[(rows["sample"] == "").to_numpy()][0]
            raise BadObject(f"{source}: line {line}: the sample is empty; correct the row")
        names.update(dict.fromkeys(rows["sample"].unique().tolist()))
        if not names:
            continue
        # The first may be the only one, under a name of its own.
        rows = rows[rows["sample"].isin(wanted | {next(iter(names))})]
        rows = _checked(rows, chunk, header, source, options, build)
        for name, part in rows.groupby("sample", sort=False):
            parts.setdefault(name, []).append(part)
    if not names:
        raise BadObject(f"{source}: a header and no rows; expected a row a segment. Copy it again")
    found = {}
    for name, tables in parts.items():
        table = pd.concat(tables, ignore_index=True)
        on = table["chrom"] != ""
        if not on.any():
            raise BadObject(
                f"{source}: none of the {len(table)} segments of {name!r} is on a chromosome of {build.name} (1 to 22, "
                "X, Y, with or without chr); this is another genome"
            )
        # A value that is not there is no 0: the segment covers nothing.
        has_value = ~np.isnan(table["major" if header.format == "ASCAT" else "log2"].to_numpy())
        if not (on & has_value).any():
            if name not in wanted and len(names) > 1:
                continue
            raise BadObject(f"{source}: none of the segments of {name!r} has a value; write the file again")
        n_elsewhere, n_without = int((~on).sum()), int((on & ~has_value).sum())
        table = table[on & has_value]
        arrays = {key: table[key].to_numpy() for key in ("start", "end", "log2", "major", "minor", "line")}
        chrom = table["chrom"].to_numpy(dtype=object)
        found[name] = Segments(
            name, header.format, chrom, **arrays, n_elsewhere=n_elsewhere, n_without_value=n_without
        )
        _refuse_overlaps(found[name], header, source)
    return found, list(names), n_rows


def _read_header(chunk: LineChunk, source: str, options: Any) -> tuple[_Header | None, LineChunk]:
    at = 0
    while at < len(chunk.text):
        line = chunk.line(at)
        next_line = chunk.text.index(b"\n", at) + 1
        if line.strip() and not line.startswith(("#", "track")):
            break
        at = next_line
    else:
        return None, chunk
    delimiter = "\t" if "\t" in line else ","
    names = [name.strip().strip('"').lower() for name in line.split(delimiter)]
    number, _ = chunk.place(at)
    rest_number, offset = chunk.place(next_line)
    rest = LineChunk(chunk.text[next_line:], rest_number, offset)
    if rest.text and rest.line(0).count(delimiter) == len(names):
        names.insert(0, "")  # R leaves out the name of the column of row names
    columns: dict[str, int] = {}
    for what, aliases in _NAMES.items():
        places = [index for index, name in enumerate(names) if name in aliases]
        if len(places) > 1:
            both = " and ".join(repr(names[index]) for index in places)
            raise InputError(
                f"{source}: line {number}: columns {both} both name the {what}; keep one of them"
            )
        if places:
            columns[what] = places[0]
    has_alleles = "major" in columns and "minor" in columns
    # Which coordinates a table has depends on its format: one that only resembles a format is not guessed at.
    kind = None
    if {"chrom", "start", "end"} <= columns.keys():
        if "gene" in names and "log2" in names:
            kind = "CNVkit"
        elif "sample" in columns and "log2" in columns:
            kind = "SEG"
        elif "sample" in columns and has_alleles:
            kind = "ASCAT"
    if kind is None:
        raise InputError(
            f"{source}: line {number}: the header {line[:120]!r} is not that of segments; expected SEG (ID, chrom, "
            "loc.start, loc.end, num.mark, seg.mean), .cns of CNVkit (chromosome, start, end, gene, log2) or ASCAT "
            "(sample, chr, startpos, endpos, nMajor, nMinor)"
        )
    if options.alleles and not has_alleles:
        raise InputError(
            f"{source}: line {number}: no columns of copies of both alleles (nMajor and nMinor, or cn1 and cn2 of "
            "CNVkit); set alleles: false, or give segments that have them"
        )
    one_based = kind != "CNVkit" if options.coordinates == "auto" else options.coordinates == "one_based"
    return _Header(kind, delimiter, len(names), columns, one_based), rest


def _read_rows(chunk: LineChunk, header: _Header, source: str) -> pd.DataFrame:
    """Return the rows of a chunk: sample and chrom as text, numbers as float64 (NaN where missing), line."""
    names = [f"f{index}" for index in range(header.n_fields)]
    types = {
        names[index]: pa.string() if what in ("sample", "chrom") else pa.float64()
        for what, index in header.columns.items()
    }
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(chunk.text),
            pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(chunk.text) + 1),
            pyarrow.csv.ParseOptions(delimiter=header.delimiter, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=list(MISSING)
            ),
        )
        numbers = np.arange(chunk.number, chunk.number + len(table))
        columns = {what: table[names[index]] for what, index in header.columns.items()}
        rows = pd.DataFrame(
            {
                what: np.array(column.to_pylist(), dtype=object)
                if what in ("sample", "chrom")
                else column.to_numpy()
                for what, column in columns.items()
            }
        )
        # Arrow makes a row of an empty line, and joins lines by a quote that is not closed.
        if (rows["chrom"] == "").any() or len(table) != chunk.text.count(b"\n"):
            rows, numbers = _by_line(chunk, header, source)
    except pa.ArrowInvalid:
        rows, numbers = _by_line(chunk, header, source)
    for what in _NAMES:
        if what not in rows:
            rows[what] = "" if what == "sample" else np.nan
    for what in ("sample", "chrom"):
        rows[what] = rows[what].str.strip() if len(rows) else rows[what].astype(object)
    rows["line"] = numbers
    return rows


def _by_line(chunk: LineChunk, header: _Header, source: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Read lines one by one: empty lines are passed over, what is wrong is named."""
    found: dict[str, list[Any]] = {what: [] for what in header.columns}
    numbers = []
    at = 0
    for raw in chunk.text.split(b"\n")[:-1]:
        position, at = at, at + len(raw) + 1
        if not raw.strip():
            continue
        number, offset = chunk.place(position)

        def refuse(problem: str, number: int = number, offset: int | None = offset) -> NoReturn:
            raise BadObject(
                f"{source}: line {number}: {problem}; correct or copy the file again", offset=offset
            )

        try:
            (fields,) = csv.reader([raw.rstrip(b"\r").decode()], delimiter=header.delimiter, strict=True)
        except (csv.Error, UnicodeDecodeError, ValueError) as error:
            refuse(f"cannot be split into fields ({error})")
        if len(fields) != header.n_fields:
            refuse(f"{len(fields)} fields found, {header.n_fields} expected from the header")
        for what, index in header.columns.items():
            cell = fields[index].strip()
            if what not in ("sample", "chrom"):
                value = as_number(cell)
                if value is None:
                    refuse(f"field {index + 1} ({what}): found {cell[:40]!r}, expected a number")
                cell = value
            found[what].append(cell)
        numbers.append(number)
    return pd.DataFrame(found), np.array(numbers, dtype=np.int64)


def _checked(
    rows: pd.DataFrame, chunk: LineChunk, header: _Header, source: str, options: Any, build: Genome
) -> pd.DataFrame:
    """Refuse rows that cannot be; return them with canonical chromosomes ("" where none) and 0-based coordinates."""

    def refuse(wrong: Any, problem: str) -> None:
        wrong = np.asarray(wrong)
        if wrong.any():
            row = rows.iloc[int(np.argmax(wrong))]
            place = f"{row['sample']} {row['chrom']}:{row['start']:.10g}-{row['end']:.10g}".strip()
            raise BadObject(f"{source}: line {row['line']} ({place}): {problem}")

    start, end = rows["start"].to_numpy(np.float64), rows["end"].to_numpy(np.float64)
    whole = np.isfinite(start) & np.isfinite(end) & (np.floor(start) == start) & (np.floor(end) == end)
    refuse(~whole, "the start or the end is no whole number; correct the row")
    refuse(rows["chrom"] == "", "the chromosome is empty; correct the row")
    first = 1 if header.one_based else 0
    refuse(
        start < first,
        f"a start below {first} in coordinates that are {first}-based; if they are not, set coordinates",
    )
    refuse(
        end < start, "the segment is reversed, its end is before its start; correct or write the file again"
    )
    if not header.one_based:
        refuse(
            end == start,
            "the segment is empty, its end is its start; if its end is part of it, set coordinates",
        )
    known = {name: _canonical(name, build) for name in rows["chrom"].unique().tolist()}
    chrom = rows["chrom"].map(known).to_numpy(dtype=object)
    size = np.array([build.sizes.get(name, np.inf) for name in chrom], dtype=np.float64)
    refuse(
        end > size, f"the end is beyond the chromosome in {build.name}: this is another genome; set genome"
    )
    if header.format == "ASCAT" or options.alleles:
        major, minor = rows["major"].to_numpy(np.float64), rows["minor"].to_numpy(np.float64)
        # CNVkit leaves both empty where no germline variant tells the alleles apart, ASCAT where it has no copies.
        missing = np.isnan(major) & np.isnan(minor)
        sound = np.isfinite(major) & np.isfinite(minor) & (minor >= 0) & (major >= minor)
        refuse(~(sound | missing), "expected copies of two alleles, major >= minor >= 0; correct the row")
    # The log2 ratio of no reads, or to none, is infinite: no value either.
    log2 = rows["log2"].to_numpy(np.float64)
    log2 = np.where(np.isfinite(log2), log2, np.nan)
    start, end = start.astype(np.int64) - header.one_based, end.astype(np.int64)
    return rows.assign(chrom=chrom, start=start, end=end, log2=log2)


def _canonical(name: str, build: Genome) -> str:
    chrom = _NUMBERED.get(name.lower()) or canonical_chromosome(name)
    return chrom if chrom in build.sizes else ""


def _refuse_overlaps(segments: Segments, header: _Header, source: str) -> None:
    """Refuse segments of one sample of which one base has two values."""
    order = np.lexsort((segments.start, segments.chrom.astype(str)))
    chrom, start, end, line = (
        array[order] for array in (segments.chrom, segments.start, segments.end, segments.line)
    )
    overlap = (chrom[1:] == chrom[:-1]) & (start[1:] < end[:-1])
    if not overlap.any():
        return
    at = int(np.argmax(overlap))
    by = int(end[at] - start[at + 1])
    shared = header.one_based and by == 1
    remedy = "if ends are not part of segments, set coordinates: zero_based" if shared else "correct the file"
    raise BadObject(
        f"{source}: lines {line[at]} and {line[at + 1]}: segments of {segments.name or 'the sample'!r} on "
        f"{chrom[at]} overlap ({start[at]}-{end[at]} and {start[at + 1]}-{end[at + 1]}, 0-based); {remedy}"
    )
