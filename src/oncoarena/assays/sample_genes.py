"""The rows of one sample's table: their numbers, and which gene each is.

The tables of a cohort list the same genes in the same order. What was worked out of the last table's names is kept,
one table at a time, and used again where all names are the same: the result does not depend on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from oncoarena.assays.gene_features import QC_ROWS, describe_genes, feature_type_of
from oncoarena.assays.known_table import KnownTable, find_known
from oncoarena.assays.quantification import Reading
from oncoarena.assays.tables import Table
from oncoarena.assays.text_table import TextTable
from oncoarena.errors import InputError
from oncoarena.genomes import canonical_chromosome

MAX_ROWS = 5_000_000
"""More than any annotation lists (human: 60,000 genes, 500,000 transcripts): such a file is no quantification."""

_MAX_KNOWN_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Genes:
    """What the names of the rows say.

    ``rows`` picks those that are genes; the others, ``qc_rows``, count reads of no gene. ``is_mitochondrial`` is
    (n_genes,) bool, or None where no gene is named so.
    """

    rows: slice | np.ndarray
    qc_rows: np.ndarray
    qc_names: tuple[str, ...]
    features: pd.DataFrame
    is_mitochondrial: np.ndarray | None
    feature_type: str


@dataclass(frozen=True, eq=False)
class SampleRows:
    """A table of one sample: ``values`` (n_rows, n_columns) float64, the columns as in ``Reading.columns``."""

    table: Table
    values: np.ndarray
    genes: Genes
    names: pa.Array
    numbers: tuple[Sequence[int], ...]

    def refuse(self, is_wrong: np.ndarray, values: np.ndarray, column: int, remedy: str) -> None:
        """Raise InputError for the first gene, of (n_genes,), that is wrong, if there is one."""
        if not is_wrong.any():
            return
        gene = int(np.argmax(is_wrong))
        row = int(np.arange(len(self.names))[self.genes.rows][gene])
        number = _nth(self.numbers, row)
        found = "no value" if np.isnan(values[gene]) else f"{values[gene]:g}"
        place = self.table.place(number, self.table.columns[column])
        raise InputError(
            f"{self.table.source}: {place} (row {self.names[row].as_py()!r}): found {found}, {remedy}"
        )


@dataclass(frozen=True, eq=False)
class _Memo:
    names: pa.Array
    texts: tuple[pa.Array, ...]
    key: tuple
    annotation: pd.DataFrame | None
    genes: Genes
    known: KnownTable | None


_last: _Memo | None = None


def read_rows(
    table: Table, reading: Reading, *, strip_version: bool, annotation: pd.DataFrame | None
) -> SampleRows:
    """Read the rows of a sample's table. Raises InputError, e.g. if a gene is there twice or a row is cut."""
    global _last
    memo = _last
    fast = {"known": memo.known} if memo is not None and isinstance(table, TextTable) else {}
    batches, n_rows, n_bytes = [], 0, 0
    for batch in table.batches(reading.columns, texts=reading.texts, **fast):
        n_rows += len(batch.names)
        n_bytes += len(batch.raw or b"")
        if n_rows > MAX_ROWS:
            raise InputError(
                f"{table.source}: more than {MAX_ROWS} rows. Is this the expression of one sample, a row a gene?"
            )
        batches.append(batch if n_bytes <= _MAX_KNOWN_BYTES else replace(batch, raw=None))
    if not batches:
        raise InputError(f"{table.source}: a header and no rows; expected a row a gene.")
    if reading.layout is not None and not table.is_whole:
        raise InputError(
            f"{table.source}: line {batches[-1].numbers[-1]}: the last line has no end, which {reading.layout.name} "
            "always writes: the file may be cut short. Copy it again, or end the line if it is complete."
        )
    numbers = tuple(batch.numbers for batch in batches)
    values = batches[0].values if len(batches) == 1 else np.concatenate([batch.values for batch in batches])
    key = (reading.layout, len(reading.place), reading.symbol is None, strip_version)
    is_memo = memo is not None and memo.key == key and _is_same(annotation, memo.annotation)
    if is_memo and n_rows == len(memo.names) and all(batch.is_known for batch in batches):
        return SampleRows(table, values, memo.genes, memo.names, numbers)
    names = pa.concat_arrays([batch.names for batch in batches])
    texts = tuple(
        pa.concat_arrays(column) for column in zip(*(batch.texts for batch in batches), strict=True)
    )
    known = None
    if is_memo and names.equals(memo.names) and all(map(pa.Array.equals, texts, memo.texts)):
        genes = memo.genes
        # Only now it is a cohort: for one table alone, preparing for the next is not worth it.
        if isinstance(table, TextTable) and (fields := table.leading_fields(reading.columns, reading.texts)):
            known = find_known(batches, fields)
    else:
        _refuse_twice(table, names, numbers)
        genes = _describe(table, reading, names, texts, strip_version, annotation)
    _last = _Memo(names, texts, key, annotation, genes, known)
    return SampleRows(table, values, genes, names, numbers)


def _is_same(annotation: pd.DataFrame | None, other: pd.DataFrame | None) -> bool:
    if annotation is None or other is None:
        return annotation is other
    return annotation is other or annotation.equals(other)


def _describe(
    table: Table,
    reading: Reading,
    names: pa.Array,
    texts: tuple[pa.Array, ...],
    strip_version: bool,
    annotation: pd.DataFrame | None,
) -> Genes:
    is_gene = ~np.asarray(pc.is_in(names, pa.array(QC_ROWS)))
    at = np.flatnonzero(is_gene)
    if not len(at):
        raise InputError(f"{table.source}: no row is a gene; expected a row a gene.")
    is_run = at[-1] - at[0] + 1 == len(at)
    rows = slice(int(at[0]), int(at[-1]) + 1) if is_run else at
    ids = names.take(pa.array(at))
    texts = tuple(column.take(pa.array(at)) for column in texts)
    symbols = texts[-1] if reading.symbol is not None else None
    place = places_of_exons(texts[:3], table, ids) if reading.place else None
    feature_type = reading.layout.feature_type if reading.layout is not None else "gene"
    is_gencode = pc.all(pc.match_like(ids, "ENS%|%|%|%|%|%|%")).as_py()
    if feature_type == "transcript" and symbols is None and is_gencode:
        # GENCODE's names of transcripts: transcript|gene|gene of HAVANA|transcript of HAVANA|name|symbol|...
        parts = [name.split("|") for name in ids.to_pylist()]
        ids = pa.array([part[0] for part in parts], pa.string())
        symbols = pa.array([part[5] for part in parts], pa.string())
    features = describe_genes(
        ids,
        table.source,
        strip_version=strip_version,
        annotation=annotation,
        symbols=symbols,
        place=place,
    )
    qc_rows = np.flatnonzero(~is_gene)
    is_mitochondrial = (
        features["gene"].str.upper().str.startswith("MT-") | features["id"].str.upper().str.startswith("MT-")
    ).to_numpy(dtype=bool)
    return Genes(
        rows=rows,
        qc_rows=qc_rows,
        qc_names=tuple(names.take(pa.array(qc_rows)).to_pylist()),
        features=features,
        is_mitochondrial=is_mitochondrial if is_mitochondrial.any() else None,
        # salmon's quant.genes.sf has the header of quant.sf.
        feature_type=feature_type_of(ids, feature_type),
    )


def places_of_exons(
    texts: Sequence[pa.Array], table: Table, ids: pa.Array
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Turn lists of exons ("chr1;chr1", "11;31", "20;40") into one place a gene; unknown where it has several.

    Parameters: ``texts`` chromosomes, starts and ends, each (n_genes,) and 1-based, closed; ``table`` and ``ids``
    (n_genes,) are for messages. Returns chrom, start, end, each (n_genes,), 0-based, half-open, in bp; "", -1, -1
    where unknown. Raises InputError.
    """
    lists = [pc.split_pattern(column, ";") for column in texts]
    lengths = [np.asarray(pc.list_value_length(column)) for column in lists]
    n_exons = lengths[0]
    try:
        starts, ends = (
            pc.list_flatten(column).cast(pa.int64()).to_numpy(zero_copy_only=False) for column in lists[1:]
        )
        is_sound = all(np.array_equal(n_exons, other) for other in lengths[1:]) and bool(
            ((starts >= 1) & (starts <= ends)).all()
        )
    except pa.ArrowInvalid:
        is_sound = False
    if not is_sound:
        raise InputError(
            f"{table.source}: the columns Chr, Start and End of genes such as {ids[0].as_py()!r} are not lists of the "
            "same number of exons with 1 <= start <= end. Copy the file of featureCounts again."
        )
    first = np.append(0, np.cumsum(n_exons)[:-1])
    chromosomes = pc.list_flatten(lists[0]).dictionary_encode()
    codes = chromosomes.indices.to_numpy()
    names = [canonical_chromosome(name) or name for name in chromosomes.dictionary.to_pylist()]
    is_one = np.minimum.reduceat(codes, first) == np.maximum.reduceat(codes, first)
    chrom = [names[code] if one else "" for code, one in zip(codes[first], is_one, strict=True)]
    start = np.where(is_one, np.minimum.reduceat(starts, first) - 1, -1)
    return chrom, start, np.where(is_one, np.maximum.reduceat(ends, first), -1)


def _refuse_twice(table: Table, names: pa.Array, numbers: tuple[Sequence[int], ...]) -> None:
    if len(names.unique()) == len(names):
        return
    seen: dict[str, int] = {}
    for row, name in enumerate(names.to_pylist()):
        if seen.setdefault(name, row) != row:
            first, second = _nth(numbers, seen[name]), _nth(numbers, row)
            raise InputError(
                f"{table.source}: gene {name!r} is there twice, in {table.row_word}s {first} and {second}. "
                "Keep one row a gene, e.g. by its id instead of its symbol."
            )


def _nth(numbers: tuple[Sequence[int], ...], row: int) -> int:
    """Return the number in the file of a row, which is counted from 0."""
    for part in numbers:
        if row < len(part):
            return part[row]
        row -= len(part)
    raise IndexError(row)
