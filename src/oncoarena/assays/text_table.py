"""Tables in delimited text.

Text may be gzipped, with a byte order mark, either kind of line end, quoted fields, comment lines
("#") before the header, trailing delimiters, or R's header that is one field shorter than the rows.

Arrow reads whole chunks of narrow tables as long as nothing in them is out of the ordinary. All else is
split line by line, and what Arrow refuses is parsed cell by cell: that names the bad row and cell.
"""

import codecs
import csv
import re
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import BinaryIO, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv

from oncoarena.assays.known_table import KnownTable, LeadingFields, read_known
from oncoarena.assays.tables import MISSING, RowBatch, Table, check_id, find_id_column
from oncoarena.assays.text_chunks import read_chunks
from oncoarena.errors import InputError

_SNIFFED_ROWS = 1000
# Of wider rows, splitting off the id costs less than a column of Arrow for every field.
_NARROW_FIELDS = 100
_BLANK = b"\t,; "
_BLANK_STARTS = (b"", b"\t", b",", b";", b" ")
_NUMBER = re.compile(rb"[-+]?((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|inf(inity)?|nan)", re.IGNORECASE)


class TextTable(Table):
    """Delimited text.

    ``bare``, where given, is asked for the names of the columns of a file that has no header, by the fields of its
    first line; it returns None where that line is a header.
    """

    row_word = "line"

    def __init__(
        self,
        stream: BinaryIO,
        source: str,
        id_column: str | None = None,
        bare: Callable[[list[bytes]], tuple[str, ...] | None] | None = None,
    ):
        super().__init__(source)
        self._chunks = self._watched(read_chunks(stream, source))
        header_number, header, first_row = self._read_start()
        self._header_number = header_number
        self._delimiter = next((d for d in (b"\t", b",", b";") if d in header), None)
        if self._delimiter is None:
            raise InputError(
                f"{source}: line {header_number}: the header {header[:60].decode(errors='replace')!r} has one "
                "field only; expected names separated by tabs or commas. Is this the right file?"
            )
        fields = self._split(header, header_number)
        named = bare(fields) if bare is not None else None
        if named is not None:
            self._give_back(header_number, header, first_row)
            self.is_bare = True
            fields, first_row = [name.encode() for name in named], None
        self._n_header = len(fields)
        while fields and not fields[-1].strip():
            fields.pop()
        if first_row is not None:
            row = self._split(first_row[1], first_row[0])
            if len(row) == self._n_header + 1 == len(fields) + 1:
                self._accept_row_names(row, first_row[0], fields)
        if not fields:
            raise InputError(
                f"{source}: line {header_number}: the header names no column; give every column a name."
            )
        names = [self._decode(field, header_number, "header").strip() for field in fields]
        self._n_fields = len(names)
        self._n_most = max(self._n_fields, self._n_header)
        self._id_index = 0 if id_column is None else find_id_column(names, id_column, source)
        self._indices = [index for index in range(self._n_fields) if index != self._id_index]
        self.id_name = names[self._id_index]
        self.columns = tuple(
            check_id(names[index], source, f"line {header_number}, field {index + 1}", "column name")
            for index in self._indices
        )

    def numeric_columns(self) -> list[int]:
        first, text = next(self._chunks, (0, b""))
        self._chunks = chain([(first, text)], self._chunks)
        rows = [
            self._fields(line, number)
            for number, line in enumerate(text.split(b"\n", _SNIFFED_ROWS)[:_SNIFFED_ROWS], first)
            if not self._is_blank(line)
        ]
        cells = [[row[index].strip() for row in rows] for index in self._indices]
        missing = {token.encode() for token in MISSING}
        return [
            position
            for position, column in enumerate(cells)
            if any(cell not in missing for cell in column)
            and all(cell in missing or _NUMBER.fullmatch(cell) for cell in column)
        ]

    def batches(
        self,
        columns: Sequence[int],
        wanted: Container[str] | None = None,
        texts: Sequence[int] = (),
        known: KnownTable | None = None,
    ) -> Iterator[RowBatch]:
        """See ``Table.batches``; rows that begin as the ``known`` ones are read fast and give the same."""
        is_narrow = wanted is None and self._n_fields <= _NARROW_FIELDS
        if known is not None and known.fields != self.leading_fields(columns, texts):
            known = None
        first_row = 0
        for first, text in self._chunks:
            batch = read_known(first, text, known, first_row) if known is not None else None
            if batch is not None:
                self.n_rows += len(batch.names)
            elif is_narrow:
                batch = self._read_plain(first, text, columns, texts)
            if batch is None:
                batch = self._read_lines(first, text, columns, wanted, texts)
            if len(batch.names):
                yield batch
            first_row += len(batch.names)

    def leading_fields(self, columns: Sequence[int], texts: Sequence[int]) -> LeadingFields | None:
        """Say how rows are split for ``known_table``; None for a table that it does not serve."""
        if self._delimiter != b"\t" or self._n_fields > _NARROW_FIELDS:
            return None
        indices = (self._id_index, *(self._indices[position] for position in texts))
        return LeadingFields(self._n_fields, indices, tuple(self._indices[position] for position in columns))

    def _read_plain(
        self, first: int, text: bytes, columns: Sequence[int], texts: Sequence[int]
    ) -> RowBatch | None:
        """Read lines by Arrow; None where one is blank, quoted, ragged or wrong: see ``_read_lines``."""
        if b'"' in text or text.startswith(codecs.BOM_UTF8):
            return None
        names = [str(index) for index in range(self._n_fields)]
        read = [
            (names[self._id_index], pa.string()),
            *((names[self._indices[position]], pa.string()) for position in texts),
            *((names[self._indices[position]], pa.float64()) for position in columns),
        ]
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(text),
                pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(text) + 1),
                pyarrow.csv.ParseOptions(
                    delimiter=self._delimiter.decode(), quote_char=False, ignore_empty_lines=False
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=dict(read), include_columns=list(dict(read)), null_values=list(MISSING)
                ),
            )
        except pa.ArrowInvalid:
            return None
        found = dict(zip(table.column_names, table.columns, strict=True))
        ids = found[read[0][0]].combine_chunks()
        # One look at all of them is cheaper than one at each.
        if not _is_plain_ascii(ids):
            listed = ids.to_pylist()
            joined = "".join(listed)
            if not joined.isprintable():
                return None
            bare = listed
            if any(mark in joined for mark in _BLANK.decode()):
                bare = [name.strip(_BLANK.decode()) for name in listed]
                ids = pa.array([name.strip() for name in listed], pa.string())
            if "" in bare:
                return None
        self.n_rows += len(ids)
        self.first_ids += ids[: 5 - len(self.first_ids)].to_pylist()
        strings = tuple(found[name].combine_chunks() for name, _ in read[1 : len(texts) + 1])
        values = np.empty((len(ids), len(columns)))
        for position, (name, _) in enumerate(read[len(texts) + 1 :]):
            values[:, position] = found[name].to_numpy()
        return RowBatch(ids, range(first, first + len(ids)), values, strings, text)

    def _read_lines(
        self,
        first: int,
        text: bytes,
        columns: Sequence[int],
        wanted: Container[str] | None,
        texts: Sequence[int],
    ) -> RowBatch:
        """Read line by line what may be quoted, blank, ragged or wrong. Raises InputError."""
        indices = [self._indices[position] for position in columns]
        pick = itemgetter(*indices) if len(indices) > 1 else (lambda fields: (fields[indices[0]],))
        text_indices = [self._indices[position] for position in texts]
        whole_rows = not texts and self._id_index == 0 and indices == list(range(1, self._n_fields))
        delimiter, n_fields = self._delimiter, self._n_fields
        ids: list[str] = []
        numbers: list[int] = []
        cells: list[bytes] = []
        strings: list[list[str]] = [[] for _ in texts]
        for number, line in enumerate(text.split(b"\n"), first):
            if self._is_blank(line):
                continue
            quoted = b'"' in line
            if whole_rows and not quoted and line.count(delimiter) == n_fields - 1:
                raw_id, rest = line.split(delimiter, 1)
            else:
                fields = self._fields(line, number)
                raw_id, picked = fields[self._id_index], pick(fields) if indices else ()
                if quoted:
                    self._check_no_delimiter(picked, number, columns)
                rest = delimiter.join(picked)
            name = self._row_id(self._decode(raw_id, number, "id"), number)
            if wanted is None or name in wanted:
                ids.append(name)
                numbers.append(number)
                cells.append(rest)
                for column, index in zip(strings, text_indices, strict=True):
                    column.append(self._decode(fields[index], number, "text"))
        found = tuple(pa.array(column, pa.string()) for column in strings)
        return RowBatch(pa.array(ids, pa.string()), numbers, self._parse(cells, numbers, columns), found)

    def _read_start(self) -> tuple[int, bytes, tuple[int, bytes] | None]:
        """Find the header and the first row under it; give the row back to the chunks."""
        header, n_comments = None, 0
        for number, text in self._chunks:
            start = 0
            while start < len(text):
                end = text.find(b"\n", start)
                end = end if end >= 0 else len(text)
                line = text[start:end]
                if not self._is_blank(line):
                    if header is None and line.startswith(b"#"):
                        n_comments += 1
                    elif header is None:
                        header = (number, line)
                    else:
                        self._chunks = chain([(number, text[start:])], self._chunks)
                        return *header, (number, line)
                number, start = number + 1, end + 1
        if header is None:
            found = f"{n_comments} comment lines (#) and nothing else" if n_comments else "nothing"
            raise InputError(f"{self.source}: the file is empty: expected a header and rows, found {found}.")
        return *header, None

    def _give_back(self, number: int, line: bytes, next_row: tuple[int, bytes] | None) -> None:
        """Put a line that was taken for the header back before the rows."""
        if next_row is None:
            self._chunks = iter([(number, line)])
            return
        first, text = next(self._chunks)
        # Blank lines keep the numbers of the lines right.
        self._chunks = chain([(number, line + b"\n" * (first - number) + text)], self._chunks)

    def _watched(self, chunks: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        for number, text in chunks:
            self.is_whole = text.endswith(b"\n")
            yield number, text

    def _accept_row_names(self, row: list[bytes], number: int, fields: list[bytes]) -> None:
        """Give R's unnamed column of row names, which its header leaves out, an empty name."""
        if not row[-1].strip():
            raise InputError(
                f"{self.source}: line {number}: the row has one field more than the header and its last field "
                "is empty: this may be a trailing delimiter or a missing value under a header without a "
                "name for the row ids. Remove the trailing delimiters, or write NA for missing values."
            )
        fields.insert(0, b"")
        self._n_header += 1

    def _split(self, line: bytes, number: int) -> list[bytes]:
        if b'"' not in line:
            return line.split(self._delimiter)
        text = self._decode(line, number, "line")
        try:
            (fields,) = csv.reader([text], delimiter=self._delimiter.decode(), strict=True)
        except (csv.Error, ValueError) as error:
            raise InputError(
                f"{self.source}: line {number}: the quotes in this line do not match ({error}). "
                "Close every quoted field on its own line, or write the table without quotes."
            ) from None
        return [field.encode() for field in fields]

    def _is_blank(self, line: bytes) -> bool:
        return line[:1] in _BLANK_STARTS and not line.strip(_BLANK)

    def _fields(self, line: bytes, number: int) -> list[bytes]:
        """Split a row and check the count of its fields; empty ones beyond the named columns may be there."""
        fields = self._split(line, number)
        n_found = len(fields)
        while self._n_fields < len(fields) <= self._n_most and not fields[-1].strip():
            fields.pop()
        if len(fields) != self._n_fields:
            raise InputError(
                f"{self.source}: line {number}: {n_found} fields found, {self._n_fields} expected from the "
                f"header (line {self._header_number}). Give every row one field a column, also where a value "
                "is missing."
            )
        return fields

    def _decode(self, raw: bytes, number: int, what: str) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.source}: line {number}: the {what} is not UTF-8 text (byte 0x{raw[error.start]:02x}). "
                "Save the file as UTF-8."
            ) from None

    def _parse(self, cells: list[bytes], numbers: list[int], columns: Sequence[int]) -> np.ndarray:
        """Parse the joined cells of some rows into (n_rows, n_columns) float64."""
        shape = (len(cells), len(columns))
        # One cell a line makes a single Arrow column, whatever the number of columns of the table.
        text = b"\n".join(cells).replace(self._delimiter, b"\n") + b"\n"
        try:
            column = pyarrow.csv.read_csv(
                pa.BufferReader(text),
                pyarrow.csv.ReadOptions(column_names=["value"], use_threads=False, block_size=len(text) + 1),
                pyarrow.csv.ParseOptions(ignore_empty_lines=False, quote_char=False),
                pyarrow.csv.ConvertOptions(column_types={"value": pa.float64()}, null_values=list(MISSING)),
            ).column(0)
        except pa.ArrowInvalid:
            column = None
        if column is not None and len(column) == shape[0] * shape[1]:
            return column.to_numpy().reshape(shape)
        values = np.empty(shape)
        for row, (number, line) in enumerate(zip(numbers, cells, strict=True)):
            for position, cell in enumerate(line.split(self._delimiter)):
                values[row, position] = self._parse_cell(cell, number, self.columns[columns[position]])
        return values

    def _check_no_delimiter(self, cells: Sequence[bytes], number: int, columns: Sequence[int]) -> None:
        for position, cell in zip(columns, cells, strict=True):
            if self._delimiter in cell:
                self._refuse_cell(cell, number, self.columns[position])

    def _parse_cell(self, cell: bytes, number: int, column: str) -> float:
        cell = cell.strip()
        if cell.decode(errors="replace") in MISSING:
            return np.nan
        if not _NUMBER.fullmatch(cell):
            self._refuse_cell(cell, number, column)
        return float(cell)

    def _refuse_cell(self, cell: bytes, number: int, column: str) -> NoReturn:
        comma = "Use a point for decimals. " if b"," in cell else ""
        raise InputError(
            f"{self.source}: {self.place(number, column)}: found {cell[:40].decode(errors='replace')!r}, expected "
            f"a number. {comma}Correct the cell, or leave it empty (or NA) if the value is missing."
        )


def _is_plain_ascii(names: pa.Array) -> bool:
    """Tell whether all names are visible ASCII without blanks and delimiters, and none is empty."""
    _, offsets, data = names.buffers()
    ends = np.frombuffer(offsets, np.int32)[names.offset : names.offset + len(names) + 1]
    text = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None else np.empty(0, np.uint8)
    if not len(text) or (ends[1:] == ends[:-1]).any() or text.min() <= 0x20 or text.max() >= 0x7F:
        return False
    return not ((text == ord(",")) | (text == ord(";"))).any()
