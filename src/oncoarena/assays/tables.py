"""Tables of numbers with named rows and columns, read batch by batch: what all formats have in common."""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from oncoarena.errors import InputError

SYMBOL_COLUMNS = ("gene_name", "gene_symbol", "hgnc_symbol", "external_gene_name", "symbol")
"""Names of columns that hold the symbols of genes."""

MISSING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "None")
"""Cells that mean "not measured"."""

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class RowBatch:
    """Consecutive rows of a table.

    ``names`` (n_rows,) strings are the ids of the rows, ``numbers`` their places in the file from 1, ``values``
    (n_rows, n_columns) float64 with NaN where missing, and ``texts`` columns of (n_rows,) strings. ``raw`` holds the
    bytes of the rows where each is one plain line of a text; ``is_known`` tells that names and texts are those of the
    known table (see ``TextTable.batches``).
    """

    names: pa.Array
    numbers: Sequence[int]
    values: np.ndarray
    texts: tuple[pa.Array, ...] = ()
    raw: bytes | None = None
    is_known: bool = False

    @cached_property
    def ids(self) -> list[str]:
        """The ids of the rows as a list."""
        return self.names.to_pylist()


class Table(ABC):
    """What all formats have in common.

    ``columns`` are the names of all columns but that of the row ids, which is ``id_name``; ``is_bare`` tells
    whether they are not from a header. ``n_rows`` and ``first_ids`` tell of the rows read so far, ``is_whole``
    whether the last of them is complete, as far as can be seen.
    """

    row_word: str
    columns: tuple[str, ...]
    id_name: str
    is_bare = False
    is_whole = True
    orientation: str | None = None
    """``genes_x_samples`` or ``samples_x_genes`` where the format says so."""
    symbol_names = SYMBOL_COLUMNS
    """Columns that may hold the symbols of genes, where rows are genes."""
    column_symbols: pa.Array | None = None
    """Symbols of the genes in ``columns``, where the format knows."""
    column_place: tuple[list[str], np.ndarray, np.ndarray] | None = None
    """Places (chrom, start, end) of the genes in ``columns``, where the format knows."""
    _indices: list[int]

    def __init__(self, source: str):
        self.source = source
        self.n_rows = 0
        self.first_ids: list[str] = []

    @abstractmethod
    def numeric_columns(self) -> list[int]:
        """Find the columns that hold numbers (positions in ``columns``), as far as types or first rows tell."""

    @abstractmethod
    def batches(
        self, columns: Sequence[int], wanted: Container[str] | None = None, texts: Sequence[int] = ()
    ) -> Iterator[RowBatch]:
        """Yield the rows, once: the given ``columns`` of the rows whose id is ``wanted`` (None: of all).

        ``texts`` are columns to read as strings beside the ids.
        """

    def place(self, row: int, column: str) -> str:
        """Name a cell for a message."""
        return f"{self.row_word} {row}, column {column!r}"

    def number_of(self, column: int) -> int:
        """Return where in the file a column (a position in ``columns``) stands, counted from 1."""
        return self._indices[column] + 1

    def _row_id(self, text: str | None, row: int) -> str:
        name = check_id(text, self.source, f"{self.row_word} {row}", "id of the row")
        self.n_rows += 1
        if len(self.first_ids) < 5:
            self.first_ids.append(name)
        return name


def check_id(text: str | None, source: str, place: str, what: str) -> str:
    text = "" if text is None else text.strip()
    if not text:
        raise InputError(f"{source}: {place}: the {what} is empty. Give every row and column a name.")
    if not text.isprintable():
        raise InputError(
            f"{source}: {place}: the {what} {text[:40]!r} has unprintable characters. Remove them."
        )
    return text


def find_id_column(columns: Sequence[str], id_column: str, source: str) -> int:
    found = [index for index, name in enumerate(columns) if name == id_column]
    if len(found) != 1:
        count = "no column" if not found else f"{len(found)} columns"
        raise InputError(
            f"{source}: {count} named {id_column!r}; expected one column of ids of that name (id_column). "
            f"The columns are {abbreviated(columns)}."
        )
    return found[0]


def abbreviated(names: Sequence[str], n_shown: int = 5) -> str:
    """List the first few names for a message."""
    shown = ", ".join(repr(name[:40]) for name in names[:n_shown])
    return shown + (f" and {len(names) - n_shown} more" if len(names) > n_shown else "")
