"""Expression: one value a gene, from a matrix of the whole cohort or from one file a sample.

Quantities are taken as the file has them (counts, TPM, log ratios of an array): choosing between them is
the user's part, ``transform`` is the only change made, and it looks at one value at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pandas as pd

from oncoarena.assays import MatrixFeatures, SampleFeatures
from oncoarena.assays.formats import open_table
from oncoarena.assays.tables import RowBatch, Table, abbreviated
from oncoarena.cohort import BlockSpec, feature_table
from oncoarena.errors import InputError

BLOCKS = {
    "expression": BlockSpec(
        name="expression",
        dims=("sample", "gene"),
        dtype="float32",
        unit="as in the file; log2(1 + value) where the transform is log2p1",
        description="Expression of each gene in each sample.",
    )
}

_LEGAL = {
    "orientation": ("auto", "genes_x_samples", "samples_x_genes"),
    "transform": ("none", "log2p1"),
    "missing_values": ("refuse", "allow"),
}


@dataclass(frozen=True)
class Options:
    """How to read expression; raises InputError for a value that is not legal."""

    orientation: str = "auto"
    """Of a matrix: auto | genes_x_samples | samples_x_genes. ``auto`` looks where the sample ids are."""
    transform: str = "none"
    """none | log2p1, i.e. log2(1 + value), for counts and TPM."""
    missing_values: str = "refuse"
    """refuse | allow cells without a value."""
    id_column: str | None = None
    """Name of the column of row ids; by default the first one (Parquet: the index or the first of strings)."""
    value_column: str | None = None
    """Of a file of one sample: name of the column of values; by default the only column of numbers."""

    def __post_init__(self) -> None:
        for key, legal in _LEGAL.items():
            if getattr(self, key) not in legal:
                raise InputError(f"{key}: found {getattr(self, key)!r}, expected one of {', '.join(legal)}.")
        for key in ("id_column", "value_column"):
            if not (
                getattr(self, key) is None or (isinstance(getattr(self, key), str) and getattr(self, key))
            ):
                raise InputError(f"{key}: found {getattr(self, key)!r}, expected the name of a column.")


def read_object(
    stream: BinaryIO, source: str, options: Options, annotation: pd.DataFrame | None = None
) -> dict[str, SampleFeatures]:
    """Read the expression of one sample from its own table, a row a gene.

    Parameters: ``stream`` a text (gzipped or not) or Parquet table; ``annotation`` see ``annotate``.
    Returns the block ``expression``: values (n_genes,) float32 in the order of the file.
    Raises InputError.
    """
    table = open_table(stream, source, options.id_column)
    column = _value_column(table, options)
    name = table.columns[column]
    genes: dict[str, int] = {}
    tally = _Tally(1)
    parts = []
    for batch in table.batches([column]):
        _add_genes(genes, batch, table)
        parts.append(_transformed(batch, table, options, lambda _: name)[:, 0])
        tally.add(batch.values)
    if not genes:
        raise InputError(f"{source}: a header and no rows; expected a row a gene.")
    features = annotate(list(genes), source, annotation)
    qc = {key: column[0].item() for key, column in tally.columns(len(genes)).items()}
    return {"expression": SampleFeatures(np.concatenate(parts), features, qc)}


def read_matrix(
    stream: BinaryIO,
    source: str,
    sample_ids: Sequence[str],
    options: Options,
    annotation: pd.DataFrame | None = None,
) -> dict[str, MatrixFeatures]:
    """Read the expression of the given samples from one matrix.

    Parameters: ``stream`` a text (gzipped or not) or Parquet table, genes x samples or samples x genes;
    ``sample_ids`` (n_samples,) unique; ``annotation`` see ``annotate``.
    Returns the block ``expression``: values (n_samples, n_genes) float32, genes in the order of the file.
    Samples that are not asked for are ignored, and counted in a note.
    Raises InputError, also if a sample is not in the matrix.
    """
    sample_ids = [str(sample_id) for sample_id in sample_ids]
    table = open_table(stream, source, options.id_column)
    orientation = options.orientation
    if orientation == "auto":
        in_header = not set(sample_ids).isdisjoint(table.columns)
        orientation = "genes_x_samples" if in_header else "samples_x_genes"
    read = _read_genes_x_samples if orientation == "genes_x_samples" else _read_samples_x_genes
    values, genes, tally, n_extra = read(table, sample_ids, options)
    notes = []
    if n_extra:
        notes.append(f"{source}: {n_extra} columns or rows that are no sample of the sheet were ignored.")
    features = annotate(genes, source, annotation)
    if annotation is not None:
        n_placed = int((features["chrom"] != "").sum())
        notes.append(f"{source}: {n_placed} of {len(genes)} genes have a coordinate in the annotation.")
    qc = pd.DataFrame({"sample_id": pd.Series(sample_ids, dtype=str), **tally.columns(len(genes))})
    return {"expression": MatrixFeatures(values, features, qc, tuple(notes))}


def annotate(ids: Sequence[str], source: str, annotation: pd.DataFrame | None) -> pd.DataFrame:
    """Build the feature table of genes, with what an annotation knows of them.

    ``annotation`` has columns id, chrom, start, end (0-based, half-open, bp) and optionally gene; genes it
    does not list keep unknown coordinates. Raises InputError if it is not sound or lists none of the genes.
    """
    features = feature_table(list(ids))
    if annotation is None:
        return features
    known = _checked_annotation(annotation)
    position = known.index.get_indexer(features["id"])
    found = position >= 0
    if not found.any():
        raise InputError(
            f"{source}: the annotation lists none of its genes: the matrix has {abbreviated(list(ids))}, the "
            f"annotation has {abbreviated(list(known.index))}. Use the same ids (with or without version) in both."
        )
    for column in ("chrom", "start", "end", "gene"):
        features.loc[found, column] = known[column].to_numpy()[position[found]]
    return features


def _checked_annotation(annotation: pd.DataFrame) -> pd.DataFrame:
    """Return the annotation indexed by id, its columns in the types of a feature table."""
    missing = [name for name in ("id", "chrom", "start", "end") if name not in annotation.columns]
    if missing:
        raise InputError(
            f"annotation: no column {', '.join(missing)}; expected id, chrom, start, end and optionally gene. "
            f"The columns are {abbreviated([str(name) for name in annotation.columns])}."
        )

    def text(name: str) -> pd.Series:
        return annotation[name].astype("string").fillna("").str.strip()

    known = pd.DataFrame({"chrom": text("chrom"), "gene": text("gene") if "gene" in annotation else ""})
    for name in ("start", "end"):
        cells = text(name)
        numbers = pd.to_numeric(cells.where(cells != "", "-1"), errors="coerce").to_numpy(
            np.float64, na_value=np.nan
        )
        whole = np.isfinite(numbers) & (np.abs(numbers) < 2**53) & (numbers == np.round(numbers))
        if not whole.all():
            row = int(np.argmin(whole))
            raise InputError(
                f"annotation: row {row + 1}, column {name!r}: found {cells.iloc[row]!r}, expected a whole number of bp."
            )
        known[name] = numbers.astype(np.int64)
    ids = text("id")
    unknown = (known["chrom"] == "") & (known["start"] == -1) & (known["end"] == -1)
    sound = unknown | ((known["chrom"] != "") & (known["start"] >= 0) & (known["start"] < known["end"]))
    problems = [
        (ids == "", "the id is empty. Give every row an id"),
        (ids.duplicated(), "the id is there twice. Keep one row an id"),
        (
            ~sound,
            "expected a chrom and 0 <= start < end (0-based, half-open), or all three empty. Correct the row",
        ),
    ]
    for is_wrong, remedy in problems:
        if is_wrong.any():
            row = int(np.argmax(is_wrong))
            place = known.iloc[row]
            raise InputError(
                f"annotation: row {row + 1}, id {ids.iloc[row]!r} ({place['chrom']}:{place['start']}-{place['end']}): "
                f"{remedy}."
            )
    return known.set_index(pd.Index(ids.astype(str)))


def _value_column(table: Table, options: Options) -> int:
    """Choose the column of values of a file of one sample."""
    columns = table.columns
    if options.value_column is not None:
        found = [position for position, name in enumerate(columns) if name == options.value_column]
        problem = f"{len(found) or 'no'} columns named {options.value_column!r} (value_column)"
    else:
        # With one column there is no choice: what is wrong in it is then told by row.
        found = [0] if len(columns) == 1 else table.numeric_columns()
        named = [columns[position] for position in found]
        problem = f"{len(found) or 'no'} columns of numbers" + (f" ({abbreviated(named)})" if named else "")
    if len(found) != 1:
        raise InputError(
            f"{table.source}: {problem}; expected one. Name the column of values (value_column); the columns are "
            f"{abbreviated(columns, 20)}."
        )
    name = columns[found[0]]
    if options.value_column is None and name.replace(".", "", 1).lstrip("-").isdigit():
        raise InputError(
            f"{table.source}: the column of values is named {name!r}, a number: the header is missing, or begins "
            "with '#'. Add a header line; if the name is right, give it as value_column."
        )
    return found[0]


def _read_genes_x_samples(
    table: Table, sample_ids: list[str], options: Options
) -> tuple[np.ndarray, list[str], "_Tally", int]:
    """Read rows of genes; returns values (n_samples, n_genes), gene ids, figures, count of other columns."""
    position_of: dict[str, int] = {}
    wanted = set(sample_ids)
    for position, name in enumerate(table.columns):
        if name in wanted and position_of.setdefault(name, position) != position:
            raise InputError(
                f"{table.source}: sample {name!r} is there twice, in columns {table.number_of(position_of[name])} and "
                f"{table.number_of(position)}. Keep one column a sample."
            )
    _refuse_absent(table, sample_ids, position_of, "column", options)
    genes: dict[str, int] = {}
    tally = _Tally(len(sample_ids))
    parts = []
    for batch in table.batches([position_of[sample_id] for sample_id in sample_ids]):
        _add_genes(genes, batch, table)
        parts.append(_transformed(batch, table, options, lambda column: sample_ids[column]))
        tally.add(batch.values)
    _refuse_no_features(table, len(genes), "gene")
    n_in_rows = sum(sample_id in genes for sample_id in sample_ids)
    if options.orientation == "auto" and n_in_rows == len(sample_ids):
        raise InputError(
            f"{table.source}: both the columns and the rows are named by samples of the sheet. Say which axis holds "
            "the samples (orientation: genes_x_samples or samples_x_genes)."
        )
    values = np.empty((len(sample_ids), len(genes)), dtype=np.float32)
    end = len(genes)
    while parts:  # freed one by one, so that the matrix is never held twice
        part = parts.pop()
        values[:, end - len(part) : end] = part.T
        end -= len(part)
    return values, list(genes), tally, len(table.columns) - len(sample_ids)


def _read_samples_x_genes(
    table: Table, sample_ids: list[str], options: Options
) -> tuple[np.ndarray, list[str], "_Tally", int]:
    """Read rows of samples; returns values (n_samples, n_genes), gene ids, figures, count of other rows."""
    genes = table.columns
    _refuse_no_features(table, len(genes), "gene")
    first_position: dict[str, int] = {}
    for position, name in enumerate(genes):
        if first_position.setdefault(name, position) != position:
            raise InputError(
                f"{table.source}: gene {name!r} is there twice, in columns {table.number_of(first_position[name])} and "
                f"{table.number_of(position)}. Keep one column a gene."
            )
    row_of = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    values = np.empty((len(sample_ids), len(genes)), dtype=np.float32)
    found: dict[str, int] = {}
    tally = _Tally(len(sample_ids))
    for batch in table.batches(range(len(genes)), row_of):
        for name, number in zip(batch.ids, batch.numbers, strict=True):
            if found.setdefault(name, number) != number:
                raise InputError(
                    f"{table.source}: sample {name!r} is there twice, in {table.row_word}s {found[name]} and {number}. "
                    "Keep one row a sample."
                )
        rows = [row_of[name] for name in batch.ids]
        values[rows] = _transformed(batch, table, options, lambda column: genes[column])
        tally.add(batch.values.T, rows)
    _refuse_absent(table, sample_ids, found, "row", options)
    return values, list(genes), tally, table.n_rows - len(sample_ids)


def _refuse_absent(
    table: Table, sample_ids: list[str], found: dict[str, int], axis: str, options: Options
) -> None:
    absent = [sample_id for sample_id in sample_ids if sample_id not in found]
    if not absent:
        return
    if not found:
        rows = f", the first rows {abbreviated(table.first_ids)}" if table.first_ids else ""
        raise InputError(
            f"{table.source}: no {axis} is named by a sample of the sheet ({abbreviated(sample_ids)}); the columns are "
            f"{abbreviated(table.columns)}{rows}. Use the same sample ids in the sheet and in the matrix."
        )
    other = "samples_x_genes" if axis == "column" else "genes_x_samples"
    hint = (
        f" If the other axis holds the samples, set orientation: {other}."
        if options.orientation == "auto"
        else ""
    )
    raise InputError(
        f"{table.source}: no {axis} for {abbreviated(absent)} of the sample sheet. Add the {axis} to the matrix, or "
        f"remove the sample from the sheet.{hint}"
    )


def _refuse_no_features(table: Table, n_features: int, name: str) -> None:
    if n_features == 0:
        raise InputError(f"{table.source}: a header and no {name}s; expected values of at least one {name}.")


def _add_genes(genes: dict[str, int], batch: RowBatch, table: Table) -> None:
    """Add the genes of a batch, with the numbers of their rows. Raises InputError if one is there twice."""
    added = dict(zip(batch.ids, batch.numbers, strict=True))
    if len(added) == len(batch.ids) and genes.keys().isdisjoint(added):
        genes.update(added)
        return
    for name, number in zip(batch.ids, batch.numbers, strict=True):
        if genes.setdefault(name, number) != number:
            raise InputError(
                f"{table.source}: gene {name!r} is there twice, in {table.row_word}s {genes[name]} and {number}. "
                "Keep one row a gene, e.g. by its id instead of its symbol."
            )


class _Tally:
    """Figures of quality of the values as they are in the file, gathered sample by sample."""

    def __init__(self, n_samples: int):
        self.n_missing = np.zeros(n_samples, dtype=np.int64)
        self.n_zero = np.zeros(n_samples, dtype=np.int64)
        self.total = np.zeros(n_samples)

    def add(self, values: np.ndarray, rows: Sequence[int] | slice = slice(None)) -> None:
        """Add (n_genes, n_samples) values of the samples at ``rows``."""
        self.n_missing[rows] += np.isnan(values).sum(axis=0)
        self.n_zero[rows] += (values == 0).sum(axis=0)
        self.total[rows] += np.nansum(values, axis=0)

    def columns(self, n_features: int) -> dict[str, np.ndarray]:
        """Return the figures, each (n_samples,)."""
        return {
            "n_features": np.full(len(self.total), n_features),
            "n_missing": self.n_missing,
            "n_zero": self.n_zero,
            "total": self.total,
        }


def _transformed(
    batch: RowBatch, table: Table, options: Options, column_name: Callable[[int], str]
) -> np.ndarray:
    """Check every value of a batch, transform it and round it to float32, (n_rows, n_columns)."""
    values = batch.values

    def refuse(is_wrong: np.ndarray, remedy: str) -> None:
        if is_wrong.any():
            row, column = np.argwhere(is_wrong)[0]
            cell = values[row, column]
            found = "no value" if np.isnan(cell) else f"{cell:g}"
            place = table.place(batch.numbers[row], column_name(column))
            raise InputError(f"{table.source}: {place} (row {batch.ids[row]!r}): found {found}, {remedy}")

    limit = np.finfo(np.float32).max
    refuse(np.abs(values) > limit, "expected a finite number. Correct the cell or leave it empty.")
    if options.missing_values == "refuse":
        refuse(np.isnan(values), "expected a number. Fill the cell, or set missing_values: allow.")
    if options.transform == "log2p1":
        refuse(
            values < 0,
            "expected 0 or more for log2(1 + value). Set transform: none for values already in logarithms.",
        )
        values = np.log1p(values) / np.log(2)
    return values.astype(np.float32)
