"""Beta values by probe of methylation arrays, from a matrix of the cohort or from one table a sample."""

from collections.abc import Sequence
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa

from oncoarena.assays import MatrixFeatures, SampleFeatures
from oncoarena.assays.byte_lines import as_number
from oncoarena.assays.formats import open_table
from oncoarena.assays.gene_features import describe_genes
from oncoarena.assays.tables import RowBatch, Table, abbreviated
from oncoarena.errors import AbsentSamples, BadObject, InputError

# With both chromosomes X at work about half of the probes of chrX lie between; with one of them few do.
INTERMEDIATE = (0.3, 0.7)
_TOP = {"fraction": 1.0, "percent": 100.0}
_REMEDY_ABOVE = {
    "fraction": "if all are percentages (0 to 100), set scale: percent",
    "percent": "correct the cell or leave it empty",
}


def read_probes(
    stream: BinaryIO, source: str, options: Any, annotation: pd.DataFrame | None
) -> dict[str, SampleFeatures]:
    """Read the beta values of one sample from a table of probes and beta, with or without a header.

    Returns the block ``methylation_probes``, (n_probes,) in the order of the file. Raises InputError.
    """
    table = open_table(stream, source, options.id_column, _bare_columns)
    column = _beta_column(table, options)
    values, features = _gather(table, [column], options, annotation)
    qc = {key: column[0].item() for key, column in _quality(values, features, annotation).items()}
    qc["n_records"] = values.shape[1]
    return {"methylation_probes": SampleFeatures(values[0], features, qc)}


def read_probe_matrix(
    stream: BinaryIO, source: str, sample_ids: Sequence[str], options: Any, annotation: pd.DataFrame | None
) -> dict[str, MatrixFeatures]:
    """Read the beta values of the given samples from a matrix, probes x samples.

    Returns the block ``methylation_probes``, (n_samples, n_probes). Raises InputError.
    """
    sample_ids = [str(sample_id) for sample_id in sample_ids]
    table = open_table(stream, source, options.id_column)
    position_of: dict[str, int] = {}
    for position, name in enumerate(table.columns):
        if position_of.setdefault(name, position) != position and name in sample_ids:
            raise InputError(
                f"{source}: sample {name!r} is there twice, as a column. Keep one column a sample."
            )
    absent = [sample_id for sample_id in sample_ids if sample_id not in position_of]
    if absent:
        raise AbsentSamples(
            f"{source}: no column for {abbreviated(absent)} of the sample sheet; the columns are "
            f"{abbreviated(table.columns)}. Give a matrix of probes x samples (a row a probe) that names every sample.",
            absent,
        )
    values, features = _gather(
        table, [position_of[sample_id] for sample_id in sample_ids], options, annotation
    )
    quality = _quality(values, features, annotation)
    qc = pd.DataFrame({"sample_id": pd.Series(sample_ids, dtype=str), **quality})
    n_other = len(table.columns) - len(sample_ids)
    notes = (f"{source}: {n_other} columns that are no sample of the sheet were ignored.",) if n_other else ()
    return {"methylation_probes": MatrixFeatures(values, features, qc, notes)}


def _bare_columns(fields: list[bytes]) -> tuple[str, ...] | None:
    """Name the columns of a file of one sample whose first line already holds a value."""
    is_value = len(fields) == 2 and as_number(fields[1].decode(errors="replace")) is not None
    return ("probe", "beta") if is_value else None


def _beta_column(table: Table, options: Any) -> int:
    """Choose the column of beta values of a file of one sample."""
    if options.value_column:
        found = [index for index, name in enumerate(table.columns) if name == options.value_column]
        problem = f"{len(found) or 'no'} columns named {options.value_column!r} (value_column)"
    else:
        found = [0] if len(table.columns) == 1 else table.numeric_columns()
        problem = f"{len(found) or 'no'} columns of numbers"
    if len(found) != 1:
        raise InputError(
            f"{table.source}: {problem}; expected one. Name the column of beta values (value_column); the columns are "
            f"{abbreviated(table.columns, 20)}."
        )
    return found[0]


def _gather(
    table: Table, columns: Sequence[int], options: Any, annotation: pd.DataFrame | None
) -> tuple[np.ndarray, pd.DataFrame]:
    """Read columns of beta; returns (n_columns, n_probes) float32 and the features, each probe once."""
    source = table.source
    names: list[pa.Array] = []
    numbers: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    for batch in table.batches(columns):
        _check_beta(batch, table, columns, options.scale)
        names.append(batch.names)
        numbers.append(np.asarray(batch.numbers, dtype=np.int64))
        parts.append((batch.values / _TOP[options.scale]).astype(np.float32))
    if not parts:
        raise InputError(f"{source}: a header and no rows; expected a row a probe.")
    if not table.is_whole:
        raise BadObject(
            f"{source}: the last line, {numbers[-1][-1]}, has no line end: the file was cut short; copy it again "
            "(or, if it is whole, end its last line)"
        )
    probes = pa.concat_arrays(names)
    _refuse_twice(probes, numbers, table)
    values = np.empty((len(columns), len(probes)), dtype=np.float32)
    end = len(probes)
    while parts:  # freed one by one, so that the matrix is never held twice
        part = parts.pop()
        values[:, end - len(part) : end] = part.T
        end -= len(part)
    return values, describe_genes(probes, source, strip_version=False, annotation=annotation)


def _refuse_twice(probes: pa.Array, numbers: list[np.ndarray], table: Table) -> None:
    index = pd.Index(probes.to_pylist())
    if index.is_unique:
        return
    again = int(np.argmax(index.duplicated()))
    first = int(np.argmax(index == index[again]))
    number = np.concatenate(numbers)
    raise InputError(
        f"{table.source}: probe {index[again]!r} is there twice, in {table.row_word}s {number[first]} and "
        f"{number[again]}. Keep one row a probe."
    )


def _check_beta(batch: RowBatch, table: Table, columns: Sequence[int], scale: str) -> None:
    wrong = (batch.values < 0) | (batch.values > _TOP[scale])
    if not wrong.any():
        return
    row, column = np.argwhere(wrong)[0]
    place = table.place(batch.numbers[row], table.columns[columns[column]])

    def refuse(remedy: str) -> NoReturn:
        raise InputError(
            f"{table.source}: {place} (probe {batch.ids[row]!r}): found {batch.values[row, column]:g}, expected a beta "
            f"value of 0 to {_TOP[scale]:g}; {remedy}."
        )

    if batch.values[row, column] < 0:
        refuse("if these are M-values, write beta = 2^M / (2^M + 1)")
    refuse(_REMEDY_ABOVE[scale])


def _quality(
    values: np.ndarray, features: pd.DataFrame, annotation: pd.DataFrame | None
) -> dict[str, np.ndarray]:
    """Return figures by sample, each (n_samples,), of (n_samples, n_probes) beta values."""
    n_samples, n_probes = values.shape
    n_missing = np.isnan(values).sum(axis=1)
    n_known = n_probes - n_missing
    with np.errstate(invalid="ignore"):
        mean = np.nansum(values, axis=1, dtype=np.float64) / n_known
    figures = {
        "n_probes": np.full(n_samples, n_probes),
        "missing_rate": n_missing / n_probes,
        "global_beta": mean,
    }
    if annotation is not None:
        of_x = values[:, (features["chrom"] == "chrX").to_numpy()]
        between = ((of_x > INTERMEDIATE[0]) & (of_x < INTERMEDIATE[1])).sum(axis=1)
        with np.errstate(invalid="ignore"):
            figures["chrx_intermediate"] = between / (~np.isnan(of_x)).sum(axis=1)
    return figures
