"""Expression: one value a gene, from a matrix of the whole cohort or from one file a sample.

A sample's file that a known program wrote (see ``quantification``) gives log2(TPM + 1), or log2(CPM + 1) where it
has neither TPM nor lengths; so does a matrix of featureCounts. Any other table and matrix is taken as it is unless
``quantity`` and ``transform`` say what it holds; where it looks like counts of reads, that is told. Which quantity was
taken is a figure of quality, and must be the same for all samples (``SAME``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pandas as pd

from oncoarena import legal
from oncoarena.assays import MatrixFeatures, SampleFeatures
from oncoarena.assays.formats import open_table
from oncoarena.assays.quantification import (
    COUNTS_EXCEED,
    are_whole,
    bare_names,
    choose_reading,
    transcripts_per_million,
)
from oncoarena.assays.sample_genes import SampleRows, read_rows
from oncoarena.assays.tables import FLOAT32_MAX
from oncoarena.cohort import BlockSpec
from oncoarena.errors import InputError

BLOCKS = {
    "expression": BlockSpec(
        name="expression",
        dims=("sample", "gene"),
        dtype="float32",
        unit="log2(TPM + 1), log2(CPM + 1), or as in the file: see quantity in the table of quality",
        description="Expression of each gene (or transcript) in each sample.",
        reference="doi:10.1007/s12064-012-0162-3",
    )
}

LIKE_COUNTS = (
    f"whole numbers of 0 or more, some above {COUNTS_EXCEED}, are used as they are; for counts of reads set quantity: "
    "cpm, for other values set transform: none"
)
"""The ``remark`` in the table of quality on a table of one sample that may hold counts; the same for every sample."""

SAME = ("quantity", "feature_type")
"""Figures of quality that must be equal in all samples of a study."""

_LEGAL = {
    "orientation": ("auto", "genes_x_samples", "samples_x_genes"),
    "quantity": ("auto", "tpm", "cpm", "counts"),
    "transform": ("auto", "none", "log2p1"),
    "missing_values": ("refuse", "allow"),
}


@dataclass(frozen=True)
class Options:
    """How to read expression; raises InputError for a value that is not legal."""

    orientation: str = "auto"
    """Of a matrix: auto | genes_x_samples | samples_x_genes. ``auto`` looks where the sample ids are."""
    quantity: str = "auto"
    """auto | tpm | cpm | counts. Of a program's table and a matrix of featureCounts: what to take, ``auto`` TPM where
    possible, else CPM (counts per million). Of any other: what it holds; ``cpm`` means counts, to be scaled to CPM."""
    transform: str = "auto"
    """auto | none | log2p1, i.e. log2(1 + value). ``auto``: none for a matrix or table of which ``quantity`` is auto
    and no program is known."""
    missing_values: str = "refuse"
    """refuse | allow cells without a value."""
    id_column: str | None = None
    """Name of the column of row ids; by default the first one (Parquet: the index or the first of strings)."""
    value_column: str | None = None
    """Of a file of one sample: name of the column of values (or counts); by default the program's, or the only column
    of numbers."""
    strip_version: bool = True
    """Remove the version of Ensembl ids and a name behind it, e.g. of ENSG00000141510.16_TP53."""

    def __post_init__(self) -> None:
        for key, words in _LEGAL.items():
            legal.check_choice(key, getattr(self, key), words)
        for key in ("id_column", "value_column"):
            legal.check_text(key, getattr(self, key), "the name of a column")
        legal.check_switch("strip_version", self.strip_version)


def read_object(
    stream: BinaryIO,
    source: str,
    options: Options,
    *,
    sample_id: str,
    annotation: pd.DataFrame | None = None,
) -> dict[str, SampleFeatures]:
    """Read the expression of one sample from its own table, a row a gene.

    Parameters: ``stream`` a text (gzipped or not) or Parquet table, see ``quantification`` for those that need no
    option; ``sample_id`` is not looked at; ``annotation`` see ``gene_features.describe_genes``.
    Returns the block ``expression``: values (n_genes,) float32 in the order of the file. Objects that name the
    same genes share one feature table. Raises InputError.
    """

    def bare(fields: list[bytes]) -> tuple[str, ...] | None:
        named = bare_names(fields)
        return named if named is not None and options.value_column in (None, *named) else None

    table = open_table(stream, source, options.id_column, bare)
    reading = choose_reading(table, options)
    rows = read_rows(table, reading, strip_version=options.strip_version, annotation=annotation)
    genes = rows.genes
    if reading.layout is not None:
        _refuse_unfinished(rows, reading.layout.name)
    column = dict(zip(reading.columns, rows.values.T, strict=True))
    of_genes = {
        position: _checked(
            rows, found[genes.rows], position, options, reading.quantity != "values" or reading.is_log
        )
        for position, found in column.items()
    }
    values = of_genes[reading.value]
    counts = None if reading.counts is None else of_genes[reading.counts]
    total = _total(values)
    if reading.quantity != "values" and total == 0:
        raise InputError(f"{source}: every value is 0: nothing was quantified. Leave the sample out.")
    if reading.length is not None:
        lengths = of_genes[reading.length]
        rows.refuse(
            (values > 0) & (lengths == 0),
            lengths,
            reading.length,
            "expected more than 0 bp where there are reads.",
        )
        values = transcripts_per_million(values, lengths)
    elif reading.quantity == "CPM":
        values = values * (1e6 / total)
    qc = {
        "layout": reading.layout.name if reading.layout is not None else "table",
        "feature_type": genes.feature_type,
        "quantity": f"log2({reading.label} + 1)" if reading.is_log else reading.label,
    }
    if (
        (reading.quantity, options.transform) == ("values", "auto")
        and (values > COUNTS_EXCEED).any()
        and are_whole(values)
    ):
        qc["remark"] = LIKE_COUNTS
    n_missing, n_zero = int(np.isnan(values).sum()), len(values) - int(np.count_nonzero(values))
    qc |= {
        "n_records": len(rows.names),
        "n_features": len(values),
        "n_detected": len(values) - n_missing - n_zero,
        "n_missing": n_missing,
        "missing_rate": n_missing / len(values),
        "n_zero": n_zero,
        "total": _total(values),
    }
    qc |= _shares(rows, values, counts, None if counts is None else column[reading.counts])
    values = np.log1p(values) / np.log(2) if reading.is_log else values
    return {"expression": SampleFeatures(values.astype(np.float32), genes.features, qc)}


def read_matrix(
    stream: BinaryIO,
    source: str,
    sample_ids: Sequence[str],
    options: Options,
    annotation: pd.DataFrame | None = None,
) -> dict[str, MatrixFeatures]:
    """Read the expression of the given samples from one matrix.

    Parameters: ``stream`` a text (gzipped or not), Parquet, GCT or AnnData (.h5ad), genes x samples or samples x
    genes; ``sample_ids`` (n_samples,) unique, names of columns or rows, or of the alignments that name columns;
    ``annotation`` see ``gene_features.describe_genes``.
    Returns the block ``expression``: values (n_samples, n_genes) float32, genes in the order of the file.
    Samples that are not asked for are ignored, and counted in a note.
    Raises InputError, also if a sample is not in the matrix.
    """
    from oncoarena.assays.expression_matrix import read_samples

    table = open_table(stream, source, options.id_column)
    return {
        "expression": read_samples(table, [str(sample_id) for sample_id in sample_ids], options, annotation)
    }


def _refuse_unfinished(rows: SampleRows, layout: str) -> None:
    """Refuse a table whose last rows, counts of reads of no gene, are not there."""
    if layout == "HTSeq counts" and rows.names[-1].as_py() != "__alignment_not_unique":
        if any(name.startswith("__") for name in rows.genes.qc_names):
            problem = "the rows after __no_feature are not complete: the file is cut short. Copy it again."
        else:
            first = rows.values[0, 0]
            problem = (
                f"the column of values is named '{first:g}', a number: the header is missing. Add a header line "
                "(if the name is right, give it as value_column); if these are counts of HTSeq, its last rows "
                "(__no_feature to __alignment_not_unique) are cut off."
            )
        raise InputError(f"{rows.table.source}: {problem}")


def _checked(
    rows: SampleRows, values: np.ndarray, column: int, options: Options, is_amount: bool
) -> np.ndarray:
    """Return the values of genes, (n_genes,), if each is one that the options allow. Raises InputError."""
    # The smallest and the largest, NaN where any is, vouch for all of them.
    if values.min() >= (0 if is_amount else -FLOAT32_MAX) and values.max() <= FLOAT32_MAX:
        return values
    remedy = "expected a finite number. Correct the cell or leave it empty."
    rows.refuse(np.abs(values) > FLOAT32_MAX, values, column, remedy)
    if options.missing_values == "refuse":
        remedy = "expected a number. Fill the cell, or set missing_values: allow."
        rows.refuse(np.isnan(values), values, column, remedy)
    if is_amount:
        remedy = "expected 0 or more. For values already in logarithms, leave quantity out and set transform: none."
        rows.refuse(values < 0, values, column, remedy)
    return values


def _total(values: np.ndarray) -> float:
    """Sum what is not missing."""
    total = float(values.sum())
    return float(np.nansum(values)) if np.isnan(total) else total


def _shares(
    rows: SampleRows, values: np.ndarray, counts: np.ndarray | None, all_counts: np.ndarray | None
) -> dict[str, float]:
    """Figures of quality that not every table has: reads counted, assigned, and of mitochondrial genes."""
    shares = {}
    genes = rows.genes
    if counts is not None:
        assigned = _total(counts)
        shares["library_size"] = assigned
        if len(genes.qc_rows) and assigned > 0:
            others = all_counts[genes.qc_rows]
            wrong = ~((others >= 0) & (others <= FLOAT32_MAX))
            if wrong.any():
                raise InputError(
                    f"{rows.table.source}: row {genes.qc_names[int(np.argmax(wrong))]!r}: found "
                    f"{others[int(np.argmax(wrong))]:g}, expected a count of reads. Copy the file again."
                )
            shares["assigned_share"] = assigned / (assigned + float(others.sum()))
    amounts = values if counts is None else counts
    total = _total(amounts)
    if genes.is_mitochondrial is not None and total > 0:
        shares["mitochondrial_share"] = _total(amounts[genes.is_mitochondrial]) / total
    return shares
