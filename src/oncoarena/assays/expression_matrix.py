"""A matrix of expression: the samples that are asked for, whichever way it lies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from oncoarena.assays import MatrixFeatures
from oncoarena.assays.gene_features import QC_ROWS, describe_genes, feature_type_of
from oncoarena.assays.quantification import (
    COUNTS_EXCEED,
    FEATURE_COUNTS,
    are_whole,
    has_layout,
    names_of_samples,
    transcripts_per_million,
)
from oncoarena.assays.sample_genes import places_of_exons
from oncoarena.assays.tables import FLOAT32_MAX, RowBatch, Table, abbreviated
from oncoarena.errors import AbsentSamples, InputError

if TYPE_CHECKING:
    from oncoarena.assays.expression import Options

_QUANTITIES = {"auto": "values", "tpm": "TPM", "cpm": "CPM", "counts": "counts"}


@dataclass(frozen=True, eq=False)
class _Found:
    """What was read of a matrix: ``values`` (n_samples, n_genes) float32, ``tally`` figures of each sample.

    ``symbols`` and ``lengths`` (bp) are (n_genes,), ``place`` as in ``describe_genes``, each None where not known.
    ``n_extra`` counts the other columns or rows, ``n_qc`` rows (columns) of counts of no gene that were left out.
    """

    values: np.ndarray
    ids: pa.Array
    symbols: pa.Array | None
    tally: "_Tally"
    n_extra: int
    n_qc: int
    place: tuple[Sequence[str], np.ndarray, np.ndarray] | None = None
    lengths: np.ndarray | None = None


def read_samples(
    table: Table, sample_ids: list[str], options: "Options", annotation: pd.DataFrame | None
) -> MatrixFeatures:
    """Read the expression of the given samples; see ``expression.read_matrix``."""
    names = names_of_samples(table.columns, sample_ids)
    orientation = table.orientation if options.orientation == "auto" else options.orientation
    is_feature_counts = has_layout(table, FEATURE_COUNTS)
    if orientation is None:
        in_header = is_feature_counts or not set(sample_ids).isdisjoint(names)
        orientation = "genes_x_samples" if in_header else "samples_x_genes"
    notes = []
    if orientation == "genes_x_samples":
        if is_feature_counts and options.quantity == "auto":
            options = replace(options, quantity="tpm")
            # Not what a matrix gives by default: it must not pass unseen.
            notes.append(
                f"{table.source}: counts of featureCounts were turned into TPM by its column Length. For CPM (counts "
                "per million) set quantity: cpm; for the counts quantity: counts and transform: none."
            )
        found = _read_genes_x_samples(table, names, sample_ids, options, is_feature_counts)
        if names != table.columns:
            notes.append(
                f"{table.source}: columns named by alignments were taken for the samples that these files are named "
                "after, as path/S1.sorted.bam for S1."
            )
    else:
        found = _read_samples_x_genes(table, sample_ids, options)
    values, ids, tally = found.values, found.ids, found.tally
    if options.quantity == "cpm" or found.lengths is not None:
        _scale_to_million(values, tally.total, found.lengths, sample_ids, table.source, _is_log(options))
    features = describe_genes(
        ids,
        table.source,
        strip_version=options.strip_version,
        annotation=annotation,
        symbols=found.symbols,
        place=found.place,
    )
    if (options.quantity, options.transform) == ("auto", "auto") and tally.are_like_counts:
        notes.append(
            f"{table.source}: all values are whole numbers of 0 or more, some above {COUNTS_EXCEED}, as counts of "
            "reads are, and were used as they are. For counts set quantity: cpm (counts per million); for other "
            "values set quantity to what they are, or transform: none."
        )
    if found.n_extra:
        notes.append(
            f"{table.source}: {found.n_extra} columns or rows that are no sample of the sheet were ignored."
        )
    if found.n_qc:
        what = "rows or columns that count reads of no gene"
        notes.append(f"{table.source}: {found.n_qc} {what} were left out.")
    if annotation is not None:
        n_placed = int((features["chrom"] != "").sum())
        where = "the annotation" if found.place is None else "the annotation or the file"
        notes.append(f"{table.source}: {n_placed} of {len(ids)} genes have a coordinate in {where}.")
    quantity = _QUANTITIES[options.quantity]
    label = f"log2({quantity} + 1)" if _is_log(options) else quantity
    figures = {
        "sample_id": pd.Series(sample_ids, dtype=str),
        "feature_type": feature_type_of(ids),
        "quantity": label,
        **tally.columns(len(ids)),
    }
    if options.quantity in ("cpm", "counts") or found.lengths is not None:
        figures["library_size"] = tally.total
    return MatrixFeatures(values, features, pd.DataFrame(figures), tuple(notes))


def _read_genes_x_samples(
    table: Table,
    column_names: Sequence[str],
    sample_ids: list[str],
    options: "Options",
    is_feature_counts: bool,
) -> _Found:
    """Read rows of genes; ``column_names`` are those of the table, with samples named as in the sheet."""
    position_of: dict[str, int] = {}
    wanted = set(sample_ids)
    for position, name in enumerate(column_names):
        if name in wanted and position_of.setdefault(name, position) != position:
            raise InputError(
                f"{table.source}: sample {name!r} is there twice, in columns {table.number_of(position_of[name])} and "
                f"{table.number_of(position)}. Keep one column a sample."
            )
    _refuse_absent(table, sample_ids, position_of, "column", options)
    own = [table.columns.index(name) for name in FEATURE_COUNTS.place] if is_feature_counts else []
    symbol = [
        table.columns.index(name)
        for name in table.symbol_names
        if name in table.columns and name not in wanted
    ][:1]
    columns = [position_of[sample_id] for sample_id in sample_ids]
    has_lengths = is_feature_counts and options.quantity == "tpm"
    if has_lengths:
        columns.append(table.columns.index(FEATURE_COUNTS.length))
    genes: dict[str, int] = {}
    strings = []
    lengths = []
    tally = _Tally(len(sample_ids))
    parts = []
    n_qc = 0
    for whole in table.batches(columns, texts=own + symbol):
        batch = _without_qc_rows(whole)
        n_qc += len(whole.names) - len(batch.names)
        _add_genes(genes, batch, table)
        if has_lengths:
            lengths.append(_checked_lengths(batch, table))
            batch = replace(batch, values=batch.values[:, :-1])
        parts.append(_checked(batch, table, options, lambda column: sample_ids[column], not has_lengths))
        strings.append(batch.texts)
        tally.add(batch.values)
    _refuse_no_features(table, len(genes), "gene")
    n_in_rows = sum(sample_id in genes for sample_id in sample_ids)
    if options.orientation == "auto" and table.orientation is None and n_in_rows == len(sample_ids):
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
    n_own = len(FEATURE_COUNTS.names()) - 1 if is_feature_counts else 0
    ids = pa.array(genes, pa.string())
    found = [pa.concat_arrays(column) for column in zip(*strings, strict=True)]
    return _Found(
        values,
        ids,
        symbols=found[-1] if symbol else None,
        tally=tally,
        n_extra=len(table.columns) - len(sample_ids) - n_own - len(symbol),
        n_qc=n_qc,
        place=places_of_exons(found[:3], table, ids) if own else None,
        lengths=np.concatenate(lengths) if has_lengths else None,
    )


def _read_samples_x_genes(table: Table, sample_ids: list[str], options: "Options") -> _Found:
    """Read rows of samples."""
    positions = [position for position, name in enumerate(table.columns) if name not in QC_ROWS]
    genes = [table.columns[position] for position in positions]
    _refuse_no_features(table, len(genes), "gene")
    first_position: dict[str, int] = {}
    for position, name in zip(positions, genes, strict=True):
        if first_position.setdefault(name, position) != position:
            raise InputError(
                f"{table.source}: gene {name!r} is there twice, in columns {table.number_of(first_position[name])} and "
                f"{table.number_of(position)}. Keep one column a gene."
            )
    row_of = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    values = np.empty((len(sample_ids), len(genes)), dtype=np.float32)
    found: dict[str, int] = {}
    tally = _Tally(len(sample_ids))
    for batch in table.batches(positions, row_of):
        for name, number in zip(batch.ids, batch.numbers, strict=True):
            if found.setdefault(name, number) != number:
                raise InputError(
                    f"{table.source}: sample {name!r} is there twice, in {table.row_word}s {found[name]} and {number}. "
                    "Keep one row a sample."
                )
        rows = [row_of[name] for name in batch.ids]
        values[rows] = _checked(batch, table, options, lambda column: genes[column])
        tally.add(batch.values.T, rows)
    _refuse_absent(table, sample_ids, found, "row", options)
    return _Found(
        values,
        pa.array(genes, pa.string()),
        symbols=table.column_symbols,
        tally=tally,
        n_extra=table.n_rows - len(sample_ids),
        n_qc=len(table.columns) - len(genes),
        place=table.column_place,
    )


def _without_qc_rows(batch: RowBatch) -> RowBatch:
    is_gene = pc.invert(pc.is_in(batch.names, pa.array(QC_ROWS)))
    rows = np.flatnonzero(is_gene)
    if len(rows) == len(batch.names):
        return batch
    return RowBatch(
        batch.names.filter(is_gene),
        [batch.numbers[row] for row in rows],
        batch.values[rows],
        tuple(column.filter(is_gene) for column in batch.texts),
    )


def _is_log(options: "Options") -> bool:
    return options.transform == "log2p1" or (options.transform == "auto" and options.quantity != "auto")


def _scale_to_million(
    values: np.ndarray,
    totals: np.ndarray,
    lengths: np.ndarray | None,
    sample_ids: list[str],
    source: str,
    is_log: bool,
) -> None:
    """Turn counts (n_samples, n_genes) into CPM, or TPM by ``lengths`` (n_genes,) in bp, in place; ``is_log`` takes
    log2(1 + value) of them. ``totals`` (n_samples,) of the counts. Raises InputError.
    """
    if (totals == 0).any():
        sample_id = sample_ids[int(np.argmax(totals == 0))]
        raise InputError(f"{source}: sample {sample_id!r} has no counts above 0. Leave it out of the sheet.")
    for row, total in zip(values, totals, strict=True):
        counts = row.astype(np.float64)
        scaled = counts * (1e6 / total) if lengths is None else transcripts_per_million(counts, lengths)
        row[:] = _log2p1(scaled) if is_log else scaled


def _log2p1(values: np.ndarray) -> np.ndarray:
    return np.log1p(values) / np.log(2)


def _refuse_absent(
    table: Table, sample_ids: list[str], found: dict[str, int], axis: str, options: "Options"
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
    raise AbsentSamples(
        f"{table.source}: no {axis} for {abbreviated(absent)} of the sample sheet. Add the {axis} to the matrix, or "
        f"remove the sample from the sheet.{hint}",
        absent,
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
        self._are_whole = True
        self._largest = 0.0

    @property
    def are_like_counts(self) -> bool:
        """Whether the values of all samples are whole numbers that may be counts of reads."""
        return self._are_whole and self._largest > COUNTS_EXCEED

    def add(self, values: np.ndarray, rows: Sequence[int] | slice = slice(None)) -> None:
        """Add (n_genes, n_samples) values of the samples at ``rows``."""
        self.n_missing[rows] += np.isnan(values).sum(axis=0)
        self.n_zero[rows] += (values == 0).sum(axis=0)
        self.total[rows] += np.nansum(values, axis=0)
        self._are_whole = self._are_whole and are_whole(values)
        if self._are_whole:
            self._largest = float(np.fmax.reduce(values, axis=None, initial=self._largest))

    def columns(self, n_features: int) -> dict[str, np.ndarray]:
        """Return the figures, each (n_samples,)."""
        return {
            "n_features": np.full(len(self.total), n_features),
            "n_detected": n_features - self.n_missing - self.n_zero,
            "n_missing": self.n_missing,
            "missing_rate": self.n_missing / n_features,
            "n_zero": self.n_zero,
            "total": self.total,
        }


def _checked_lengths(batch: RowBatch, table: Table) -> np.ndarray:
    """Return the last column of a batch, lengths in bp (n_rows,). Raises InputError for one that is none."""
    lengths = batch.values[:, -1]
    is_sound = (lengths > 0) & np.isfinite(lengths)
    if not is_sound.all():
        row = int(np.argmin(is_sound))
        place = table.place(batch.numbers[row], FEATURE_COUNTS.length)
        raise InputError(
            f"{table.source}: {place} (row {batch.ids[row]!r}): found {lengths[row]:g}, expected more than 0 bp. Copy "
            "the file of featureCounts again, or set quantity: cpm."
        )
    return lengths


def _checked(
    batch: RowBatch,
    table: Table,
    options: "Options",
    column_name: Callable[[int], str],
    is_final: bool = True,
) -> np.ndarray:
    """Check every value of a batch, transform it and round it to float32, (n_rows, n_columns).

    Counts for CPM, or TPM (not ``is_final``), stay counts, until those of all genes are known. Raises InputError.
    """
    values = batch.values

    def refuse(is_wrong: np.ndarray, remedy: str) -> None:
        if is_wrong.any():
            row, column = np.argwhere(is_wrong)[0]
            cell = values[row, column]
            found = "no value" if np.isnan(cell) else f"{cell:g}"
            place = table.place(batch.numbers[row], column_name(column))
            raise InputError(f"{table.source}: {place} (row {batch.ids[row]!r}): found {found}, {remedy}")

    refuse(np.abs(values) > FLOAT32_MAX, "expected a finite number. Correct the cell or leave it empty.")
    if options.missing_values == "refuse":
        refuse(np.isnan(values), "expected a number. Fill the cell, or set missing_values: allow.")
    if _is_log(options) or options.quantity != "auto":
        refuse(
            values < 0,
            "expected 0 or more. For values already in logarithms, leave quantity out and set transform: none.",
        )
    if is_final and _is_log(options) and options.quantity != "cpm":
        values = _log2p1(values)
    return values.astype(np.float32)
