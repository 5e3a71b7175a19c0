"""Tables that begin as the last one did: names and texts of the rows are known, only the numbers are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from oncoarena.assays.tables import RowBatch

if TYPE_CHECKING:
    from oncoarena.kernels.known_rows import KnownRows


@dataclass(frozen=True)
class LeadingFields:
    """How the rows of a tab-separated text are split: ``n_leading`` fields hold ids and texts.

    ``indices`` are the fields of the ids and the texts, ``columns`` those of the numbers, in the order asked for.
    """

    n_fields: int
    indices: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def n_leading(self) -> int:
        """Count the fields up to the last text."""
        return max(self.indices) + 1

    @property
    def is_fit(self) -> bool:
        """Whether all numbers are behind all texts."""
        return bool(self.columns) and min(self.columns) >= self.n_leading


@dataclass(frozen=True, eq=False)
class KnownTable:
    """What the rows of a table begin with; ``fields`` says how: only a table split in the same way is read by it."""

    fields: LeadingFields
    rows: "KnownRows"
    names: pa.Array
    texts: tuple[pa.Array, ...]


def find_known(batches: Sequence[RowBatch], fields: LeadingFields) -> KnownTable | None:
    """Describe the rows of a table, so that those of the next may be known; None where they are not plain."""
    if not fields.is_fit or any(batch.raw is None for batch in batches):
        return None
    from oncoarena.kernels.known_rows import find_rows, join_rows

    parts = [find_rows(batch.raw, fields.n_fields, fields.n_leading) for batch in batches]
    if None in parts:
        return None
    return KnownTable(
        fields,
        join_rows(parts),
        pa.concat_arrays([batch.names for batch in batches]),
        tuple(pa.concat_arrays(found) for found in zip(*(batch.texts for batch in batches), strict=True)),
    )


def read_known(first: int, text: bytes, known: KnownTable, first_row: int) -> RowBatch | None:
    """Read lines that begin as the known rows from ``first_row`` on do; None where one does not.

    Parameters: ``first`` the number of the first line of ``text``.
    """
    from oncoarena.kernels.known_rows import read_known_rows

    fields = known.fields
    placed = np.full(fields.n_fields - fields.n_leading, -1)
    placed[np.array(fields.columns) - fields.n_leading] = range(len(fields.columns))
    values = read_known_rows(text, known.rows, first_row, placed)
    if values is None:
        return None
    n_rows = len(values)
    names = known.names.slice(first_row, n_rows)
    texts = tuple(column.slice(first_row, n_rows) for column in known.texts)
    return RowBatch(names, range(first, first + n_rows), values, texts, is_known=True)
