"""Which format a table of numbers is in: delimited text, gzipped or not, or Parquet."""

import gzip
from typing import BinaryIO

from oncoarena.assays.parquet_table import ParquetTable
from oncoarena.assays.tables import Table
from oncoarena.assays.text_table import TextTable
from oncoarena.errors import InputError

_FOREIGN_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x89HDF": "an HDF5 file",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def open_table(stream: BinaryIO, source: str, id_column: str | None = None) -> Table:
    """Recognise the format of a stream by its first bytes and read the header.

    ``id_column`` names the column of row ids; by default it is the first column of a text, and the
    index or the first column of strings of a Parquet file. Raises InputError.
    """
    start = stream.read(8)
    stream.seek(0)
    if start.startswith(b"PAR1"):
        return ParquetTable(stream, source, id_column)
    if start.startswith(b"\x1f\x8b"):
        stream = gzip.GzipFile(fileobj=stream)
    for magic, name in _FOREIGN_FORMATS.items():
        if start.startswith(magic):
            raise InputError(
                f"{source}: this is {name}; expected tab- or comma-separated UTF-8 text (gzipped or not), "
                "or Parquet. Export it in one of these forms."
            )
    return TextTable(stream, source, id_column)
