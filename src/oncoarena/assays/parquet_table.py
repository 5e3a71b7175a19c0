"""Tables in Parquet: a column of ids, all others of numbers."""

from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from oncoarena.assays.tables import RowBatch, Table, abbreviated, check_id, find_id_column
from oncoarena.errors import InputError

_CELLS_A_BATCH = 2_000_000
_MIN_ROWS_A_BATCH = 256


class ParquetTable(Table):
    """Parquet."""

    row_word = "row"

    def __init__(self, stream: BinaryIO, source: str, id_column: str | None = None):
        super().__init__(source)
        self._file = self._guard(lambda: pyarrow.parquet.ParquetFile(stream, page_checksum_verification=True))
        schema = self._guard(lambda: self._file.schema_arrow)
        names = self._guard(lambda: list(schema.names))
        self._types = self._guard(lambda: list(schema.types))
        if id_column is None:
            self._id_index = self._default_id_index(schema, names)
        else:
            self._id_index = find_id_column(names, id_column, source)
            if not _is_string(self._types[self._id_index]):
                raise InputError(
                    f"{source}: column {id_column!r} (id_column) has type {self._types[self._id_index]}; "
                    "expected strings. Write the ids as strings."
                )
        self._names = names
        self.id_name = names[self._id_index]
        if names.count(self.id_name) > 1:
            raise InputError(
                f"{source}: {names.count(self.id_name)} columns named {self.id_name!r}; expected one column of ids."
            )
        self._indices = [index for index in range(len(names)) if index != self._id_index]
        self.columns = tuple(
            check_id(names[index], source, f"column {index + 1}", "column name") for index in self._indices
        )

    def numeric_columns(self) -> list[int]:
        return [i for i, index in enumerate(self._indices) if _is_numeric(self._types[index])]

    def batches(
        self, columns: Sequence[int], wanted: Container[str] | None = None, texts: Sequence[int] = ()
    ) -> Iterator[RowBatch]:
        names = []
        text_names = [self._names[self._indices[position]] for position in texts]
        for position in columns:
            index = self._indices[position]
            kind = self._types[index]
            if not (_is_numeric(kind) or pa.types.is_null(kind)):
                raise InputError(
                    f"{self.source}: column {self.columns[position]!r} has type {kind}; expected integers or "
                    "floating-point numbers. Convert the column, or remove it if it holds no values."
                )
            names.append(self._names[index])
        iterator = self._guard(
            lambda: self._file.iter_batches(
                batch_size=max(_MIN_ROWS_A_BATCH, _CELLS_A_BATCH // (len(names) + 1)),
                columns=[self.id_name, *names, *text_names],
                use_threads=False,
            )
        )
        number = 1
        while (batch := self._guard(lambda: next(iterator, None))) is not None:
            raw_ids = self._guard(batch.column(self.id_name).to_pylist)
            ids = [self._row_id(raw_id, row) for row, raw_id in enumerate(raw_ids, number)]
            rows = [row for row, name in enumerate(ids) if wanted is None or name in wanted]
            if rows:
                values = np.empty((len(rows), len(names)))
                kept = pa.array(rows) if len(rows) < len(ids) else None
                index_of = {name: index for index, name in enumerate(batch.schema.names)}
                for position, name in enumerate(names):
                    column = batch.column(index_of[name])
                    values[:, position] = self._guard(partial(_as_float64, column, kept))
                strings = tuple(
                    self._guard(partial(_as_strings, batch.column(index_of[name]), kept))
                    for name in text_names
                )
                kept_ids = pa.array([ids[row] for row in rows], pa.string())
                yield RowBatch(kept_ids, [number + row for row in rows], values, strings)
            number += len(ids)

    def _default_id_index(self, schema: pa.Schema, names: list[str]) -> int:
        strings = [index for index, kind in enumerate(self._types) if _is_string(kind)]
        metadata = self._guard(lambda: schema.pandas_metadata) or {}
        indices = metadata.get("index_columns", []) if isinstance(metadata, dict) else []
        in_index = [index for index in strings if isinstance(indices, list) and names[index] in indices]
        if in_index or strings:
            return (in_index or strings)[0]
        raise InputError(
            f"{self.source}: no column of strings to take the row ids from; the columns are "
            f"{abbreviated(names)}. Add a column of ids (or an index of strings) to the table."
        )

    def _guard(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{self.source}: cannot be read as Parquet, it is truncated or damaged ({reason[:200]}). "
                "Write or copy it again."
            ) from None


def _as_float64(column: pa.Array, rows: pa.Array | None) -> np.ndarray:
    column = column if rows is None else column.take(rows)
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _as_strings(column: pa.Array, rows: pa.Array | None) -> pa.Array:
    column = column if rows is None else column.take(rows)
    return column.cast(pa.string()).fill_null("")


def _is_numeric(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
