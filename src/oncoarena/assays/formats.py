"""Which format a table of numbers is in: delimited text or GCT, gzipped or not, Parquet, or AnnData."""

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Callable
from typing import BinaryIO

from oncoarena.assays.gct import VERSIONS, GctTable
from oncoarena.assays.parquet_table import ParquetTable
from oncoarena.assays.tables import Table
from oncoarena.assays.text_table import TextTable
from oncoarena.errors import InputError

HELD_BYTES = 1 << 30
"""A file of a seeking format that is no longer is read forward into memory, once: the job of a matrix asks for many
times as much. In a longer one the format seeks where it lies, and some of its bytes are fetched twice."""

_FOREIGN_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def open_table(
    stream: BinaryIO,
    source: str,
    id_column: str | None = None,
    bare: Callable[[list[bytes]], tuple[str, ...] | None] | None = None,
) -> Table:
    """Recognise the format of a stream by its first bytes and read the header.

    ``id_column`` names the column of row ids; by default it is the first column of a text, and the
    index or the first column of strings of a Parquet file. ``bare`` see ``TextTable``. Raises InputError.
    """
    start = _first_bytes(stream)
    if start.startswith(b"PAR1"):
        return ParquetTable(_held(stream), source, id_column)
    if start.startswith(b"\x89HDF"):
        from oncoarena.assays.h5ad import H5adTable

        return H5adTable(_held(stream), source)
    if start.startswith(b"\x1f\x8b"):
        stream = gzip.GzipFile(fileobj=stream)
        with contextlib.suppress(EOFError, gzip.BadGzipFile, zlib.error):  # told by its line when it is read
            start = stream.peek(8)[:8]
    for magic, name in _FOREIGN_FORMATS.items():
        if start.startswith(magic):
            raise InputError(
                f"{source}: this is {name}; expected tab- or comma-separated UTF-8 text (gzipped or not), "
                "GCT, Parquet or AnnData (.h5ad). Export it in one of these forms."
            )
    if start.removeprefix(codecs.BOM_UTF8).startswith(VERSIONS):
        return GctTable(stream, source, id_column)
    return TextTable(stream, source, id_column, bare)


def _first_bytes(stream: BinaryIO) -> bytes:
    if hasattr(stream, "peek") and len(start := stream.peek(8)) >= 8:
        return start[:8]
    start = stream.read(8)
    stream.seek(0)
    return start


def _held(stream: BinaryIO) -> BinaryIO:
    """Return a stream of the same bytes in which seeking fetches nothing, where they are not too many."""
    n_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return io.BytesIO(stream.read(n_bytes)) if n_bytes <= HELD_BYTES else stream
