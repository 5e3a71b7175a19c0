"""Tables in delimited text.

Text may be gzipped, with a byte order mark, either kind of line end, quoted fields, comment lines
("#") before the header, trailing delimiters, or R's header that is one field shorter than the rows.

Arrow reads whole chunks of narrow tables as long as nothing in them is out of the ordinary. All else is
split line by line, and what Arrow refuses is parsed cell by cell: that names the bad row and cell.
"""

import codecs
import csv
import gzip
import re
import zlib
from collections.abc import Container, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import BinaryIO, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv

from oncoarena.assays.tables import RowBatch, Table, check_id, find_id_column
from oncoarena.errors import InputError

MISSING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "None")
"""Cells that mean "not measured"."""

_CHUNK_BYTES = 8 << 20
_MAX_LINE_BYTES = 256 << 20
_SNIFFED_ROWS = 1000
# Of wider rows, splitting off the id costs less than a column of Arrow for every field.
_NARROW_FIELDS = 100
_BLANK = b"\t,; "
_BLANK_STARTS = (b"", b"\t", b",", b";", b" ")
_NUMBER = re.compile(rb"[-+]?((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|inf(inity)?|nan)", re.IGNORECASE)


class TextTable(Table):
    """Delimited text."""

    row_word = "line"

    def __init__(self, stream: BinaryIO, source: str, id_column: str | None = None):
        super().__init__(source)
        self._chunks = _chunks(stream, source)
        header_number, header, first_row = self._read_start()
        self._header_number = header_number
        self._delimiter = next((d for d in (b"\t", b",", b";") if d in header), None)
        if self._delimiter is None:
            raise InputError(
                f"{source}: line {header_number}: the header {header[:60].decode(errors='replace')!r} has one "
                "field only; expected names separated by tabs or commas. Is this the right file?"
            )
        fields = self._split(header, header_number)
        self._n_header = len(fields)
        while fields and not fields[-1].strip():
            fields.pop()
        if first_row is not None:
            row = self._split(first_row[1], first_row[0])
            if len(row) == self._n_header + 1 == len(fields) + 1:
                self._accept_row_names(row, first_row[0], fields)
        names = [self._decode(field, header_number, "header").strip() for field in fields]
        self._n_fields = len(names)
        self._n_most = max(self._n_fields, self._n_header)
        self._id_index = 0 if id_column is None else find_id_column(names, id_column, source)
        self._indices = [index for index in range(self._n_fields) if index != self._id_index]
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

    def batches(self, columns: Sequence[int], wanted: Container[str] | None = None) -> Iterator[RowBatch]:
        is_narrow = wanted is None and self._n_fields <= _NARROW_FIELDS
        for first, text in self._chunks:
            batch = self._read_plain(first, text, columns) if is_narrow else None
            if batch is None:
                batch = self._read_lines(first, text, columns, wanted)
            if batch.ids:
                yield batch

    def _read_plain(self, first: int, text: bytes, columns: Sequence[int]) -> RowBatch | None:
        """Read lines by Arrow; None where one is blank, quoted, ragged or wrong: see ``_read_lines``."""
        if b'"' in text or text.startswith(codecs.BOM_UTF8):
            return None
        names = [str(index) for index in range(self._n_fields)]
        id_name = names[self._id_index]
        types = {id_name: pa.string(), **{names[self._indices[p]]: pa.float64() for p in columns}}
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(text),
                pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(text) + 1),
                pyarrow.csv.ParseOptions(
                    delimiter=self._delimiter.decode(), quote_char=False, ignore_empty_lines=False
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=types, include_columns=list(types), null_values=list(MISSING)
                ),
            )
        except pa.ArrowInvalid:
            return None
        ids = table.column(0).to_pylist()
        # One look at all of them is cheaper than one at each.
        joined = "".join(ids)
        if not joined.isprintable():
            return None
        bare = ids
        if any(mark in joined for mark in _BLANK.decode()):
            bare = [name.strip(_BLANK.decode()) for name in ids]
            ids = [name.strip() for name in ids]
        if "" in bare:
            return None
        self.n_rows += len(ids)
        self.first_ids += ids[: 5 - len(self.first_ids)]
        values = np.empty((len(ids), len(columns)))
        for position, column in enumerate(table.columns[1:]):
            values[:, position] = column.to_numpy()
        return RowBatch(ids, range(first, first + len(ids)), values)

    def _read_lines(
        self, first: int, text: bytes, columns: Sequence[int], wanted: Container[str] | None
    ) -> RowBatch:
        """Read line by line what may be quoted, blank, ragged or wrong. Raises InputError."""
        indices = [self._indices[position] for position in columns]
        pick = itemgetter(*indices) if len(indices) > 1 else (lambda fields: (fields[indices[0]],))
        whole_rows = self._id_index == 0 and indices == list(range(1, self._n_fields))
        delimiter, n_fields = self._delimiter, self._n_fields
        ids: list[str] = []
        numbers: list[int] = []
        cells: list[bytes] = []
        for number, line in enumerate(text.split(b"\n"), first):
            if self._is_blank(line):
                continue
            quoted = b'"' in line
            if whole_rows and not quoted and line.count(delimiter) == n_fields - 1:
                raw_id, rest = line.split(delimiter, 1)
            else:
                fields = self._fields(line, number)
                raw_id, picked = fields[self._id_index], pick(fields)
                if quoted:
                    self._check_no_delimiter(picked, number, columns)
                rest = delimiter.join(picked)
            name = self._row_id(self._decode(raw_id, number, "id"), number)
            if wanted is None or name in wanted:
                ids.append(name)
                numbers.append(number)
                cells.append(rest)
        return RowBatch(ids, numbers, self._parse(cells, numbers, columns))

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


def _chunks(stream: BinaryIO, source: str) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, lines that end by a newline only), a few megabytes at a time."""
    number, rest = 1, b""
    while True:
        try:
            data = stream.read(_CHUNK_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{source}: the gzip stream is truncated or damaged after line {number - 1} ({error}). "
                "Copy or download the file again."
            ) from None
        if number == 1 and not rest:
            data = data.removeprefix(codecs.BOM_UTF8)
        last = not data
        data = rest + data
        end = len(data) if last else data.rfind(b"\n") + 1
        text, rest = data[:end], data[end:]
        if len(rest) > _MAX_LINE_BYTES:
            raise InputError(
                f"{source}: line {number} is longer than {_MAX_LINE_BYTES >> 20} MB. Is this a table of text?"
            )
        if b"\r" in text:
            text = _without_carriage_returns(text, number, source)
        if text:
            yield number, text
        if last:
            return
        number += text.count(b"\n")


def _without_carriage_returns(text: bytes, number: int, source: str) -> bytes:
    """Give every line the end of Unix; ``number`` is that of the first line. Raises InputError."""
    text = text.replace(b"\r\n", b"\n")
    if b"\r" not in text:
        return text
    lines = [line.rstrip(b"\r") for line in text.split(b"\n")]
    for offset, line in enumerate(lines):
        if b"\r" in line:
            raise InputError(
                f"{source}: line {number + offset}: a carriage return that ends no line (old Mac line "
                "ends?). Convert the line ends to \\n."
            )
    return b"\n".join(lines)
