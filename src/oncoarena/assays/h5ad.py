"""Tables in AnnData (.h5ad): samples are observations, genes are variables, X is dense or sparse.

The file is read by a process of its own, see ``h5ad_reader``; what it reads is asked of the stream here.
"""

import io
import socket
import subprocess
import sys
from collections.abc import Container, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from oncoarena.assays.tables import RowBatch, Table, check_id
from oncoarena.errors import InputError
from oncoarena.genomes import canonical_chromosome

SILENCE_SECONDS = 120.0
"""A block takes a second; a reader that says nothing for longer is lost in a damaged file."""

_ROWS_A_BATCH_CELLS = 2_000_000


class H5adTable(Table):
    """AnnData: a row an observation, a column a variable.

    Where the variables have the columns chrom (or chromosome), start and end, 0-based and half-open in bp, they are
    the places of the genes.
    """

    row_word = "observation"
    orientation = "samples_x_genes"

    def __init__(self, stream: BinaryIO, source: str):
        super().__init__(source)
        self._stream = stream
        n_bytes = stream.seek(0, io.SEEK_END)
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable,
                "-m",
                "oncoarena.assays.h5ad_reader",
                str(theirs.fileno()),
                str(n_bytes),
            ]
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        self._connection = Connection(ours.detach())
        _, header = self._receive()
        self.id_name = header["id_name"]
        self.columns = tuple(
            check_id(name, source, f"variable {number}", "name")
            for number, name in enumerate(header["var"], 1)
        )
        self._indices = list(range(len(self.columns)))
        self._obs = [self._row_id(name, number) for number, name in enumerate(header["obs"], 1)]
        self._is_by_columns = header["kind"] == "csc"
        if header["symbols"] is not None:
            self.column_symbols = pa.array([_text(symbol) for symbol in header["symbols"]], pa.string())
        if all(header[key] is not None for key in ("chrom", "start", "end")):
            self.column_place = _places(header)

    def numeric_columns(self) -> list[int]:
        return list(range(len(self.columns)))

    def batches(
        self, columns: Sequence[int], wanted: Container[str] | None = None, texts: Sequence[int] = ()
    ) -> Iterator[RowBatch]:
        rows = [row for row, name in enumerate(self._obs) if wanted is None or name in wanted]
        if texts:
            raise InputError(f"{self.source}: AnnData has no columns of text beside those of its genes.")
        self._connection.send(np.array(rows, dtype=np.int64))
        whole = list(columns) == list(range(len(self.columns)))
        for taken, values in self._gathered(rows) if self._is_by_columns else self._blocks():
            yield RowBatch(
                pa.array([self._obs[row] for row in taken], pa.string()),
                [int(row) + 1 for row in taken],
                values if whole else values[:, list(columns)],
            )

    def _blocks(self) -> Iterator[tuple[Any, np.ndarray]]:
        while (message := self._receive())[0] == "block":
            yield message[1], message[2]
        self._stop()

    def _gathered(self, rows: list[int]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Sparse columns give no row before the last column: the rows are gathered first."""
        values = np.empty((len(rows), len(self.columns)), np.float64)
        for columns, block in self._blocks():
            values[:, columns] = block
        n_rows = max(1, _ROWS_A_BATCH_CELLS // max(len(self.columns), 1))
        for first in range(0, len(rows), n_rows):
            yield rows[first : first + n_rows], values[first : first + n_rows]

    def _receive(self) -> tuple:
        """Return the reader's next message that is no question for bytes. Raises InputError."""
        while True:
            try:
                if not self._connection.poll(SILENCE_SECONDS):
                    self._refuse(f"nothing could be read of it for {SILENCE_SECONDS:g} seconds")
                message = self._connection.recv()
                if message[0] == "refused":
                    self._refuse(message[1])
                if message[0] != "bytes":
                    return message
                self._stream.seek(message[1])
                self._connection.send_bytes(self._stream.read(message[2]))
            except (EOFError, BrokenPipeError, ConnectionResetError):
                self._refuse("the HDF5 library ended while reading it")

    def _refuse(self, reason: str) -> None:
        self._stop()
        raise InputError(
            f"{self.source}: cannot be read as AnnData (.h5ad), it is truncated, damaged or of an unknown form "
            f"({reason}). Write it again by a current anndata, or copy it again."
        )

    def _stop(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def __del__(self) -> None:
        if hasattr(self, "_connection"):
            self._stop()


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _places(header: dict[str, Any]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return chrom, start and end of the genes, unknown where they are no place."""
    names = [_text(name) for name in header["chrom"]]
    start, end = (
        np.array([_whole(value) for value in header[key]], dtype=np.int64) for key in ("start", "end")
    )
    known = (np.array(names, dtype=str) != "") & (start >= 0) & (start < end)
    chrom = [
        (canonical_chromosome(name) or name) if is_known else ""
        for name, is_known in zip(names, known, strict=True)
    ]
    return chrom, np.where(known, start, -1), np.where(known, end, -1)


def _whole(value: Any) -> int:
    try:
        return int(value) if 0 <= float(value) < 2**53 else -1
    except (TypeError, ValueError):
        return -1
