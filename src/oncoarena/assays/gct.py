"""Matrices in GCT 1.2 and 1.3: text that says how many rows and columns it has.

Source: https://clue.io/connectopedia/gct_format and the GenePattern file formats guide. GTEx writes GCT 1.2 by tissue
with one column more, of the numbers of rows, before Name and Description.
"""

from collections.abc import Container, Iterator, Sequence
from itertools import chain
from typing import BinaryIO

from oncoarena.assays.known_table import KnownTable
from oncoarena.assays.tables import SYMBOL_COLUMNS, RowBatch
from oncoarena.assays.text_table import TextTable
from oncoarena.errors import InputError

VERSIONS = (b"#1.2", b"#1.3")
_MAX_META_ROWS = 10_000


class GctTable(TextTable):
    """GCT: version, counts of rows and columns, header, rows that describe columns (1.3), rows of genes."""

    orientation = "genes_x_samples"
    symbol_names = ("Description", "pr_gene_symbol", *SYMBOL_COLUMNS)
    _has_row_numbers = False

    def __init__(self, stream: BinaryIO, source: str, id_column: str | None = None):
        super().__init__(stream, source, id_column)
        if self._has_row_numbers and id_column is None:
            names = (self.id_name, *self.columns)
            self._id_index = 1
            self._indices = [0, *range(2, len(names))]
            self.id_name = names[1]
            self.columns = tuple(names[index] for index in self._indices)

    def batches(
        self,
        columns: Sequence[int],
        wanted: Container[str] | None = None,
        texts: Sequence[int] = (),
        known: KnownTable | None = None,
    ) -> Iterator[RowBatch]:
        """See ``Table.batches``. Raises InputError, also if the count of rows is not as the file says."""
        yield from super().batches(columns, wanted, texts, known)
        if self.n_rows != self._n_declared or not self.is_whole:
            end = "" if self.is_whole else ", the last without a line end"
            raise InputError(
                f"{self.source}: {self.n_rows} rows found{end}; line 2 says {self._n_declared}. The file is cut short "
                "or was edited: copy it again, or correct line 2."
            )

    def _read_start(self) -> tuple[int, bytes, tuple[int, bytes] | None]:
        """Read the lines above the rows of genes; the first of those is given back to the chunks."""
        _, version = self._take_line()
        number, line = self._take_line()
        n_meta_columns, n_meta_rows = 1, 0
        counts = line.rstrip(b"\t").split(b"\t")
        expected = 2 if version.startswith(b"#1.2") else 4
        if len(counts) != expected or not all(count.isdigit() and len(count) < 12 for count in counts):
            raise InputError(
                f"{self.source}: line {number}: found {line[:60].decode(errors='replace')!r}, expected {expected} "
                f"counts (rows, columns{', columns and rows of metadata' if expected == 4 else ''}) separated by tabs."
            )
        self._n_declared = int(counts[0])
        if expected == 4:
            n_meta_columns, n_meta_rows = int(counts[2]), int(counts[3])
        header_number, header = self._take_line()
        n_fields = 1 + n_meta_columns + int(counts[1])
        n_found = header.rstrip(b"\t").count(b"\t") + 1
        names = [name.strip().lower() for name in header.split(b"\t", 3)[:3]]
        if expected == 2 and n_found == n_fields + 1 and names == [b"id", b"name", b"description"]:
            self._has_row_numbers = True
        elif n_found != n_fields:
            raise InputError(
                f"{self.source}: line {header_number}: {n_found} columns found, {n_fields} expected from line "
                f"{number}. The file is damaged or was edited: copy it again, or correct line 2."
            )
        if n_meta_rows > _MAX_META_ROWS:
            raise InputError(f"{self.source}: line {number}: {n_meta_rows} rows of metadata. Correct line 2.")
        for _ in range(n_meta_rows):
            self._take_line()
        first = next(self._chunks, None)
        if first is None:
            return header_number, header, None
        self._chunks = chain([first], self._chunks)
        return header_number, header, (first[0], first[1].split(b"\n", 1)[0])

    def _take_line(self) -> tuple[int, bytes]:
        number, text = next(self._chunks, (0, b""))
        if not number:
            raise InputError(f"{self.source}: the file ends above the rows of genes. Copy it again.")
        line, _, rest = text.partition(b"\n")
        if rest:
            self._chunks = chain([(number + 1, rest)], self._chunks)
        return number, line
