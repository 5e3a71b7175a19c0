"""Delimited text, gzipped or not, as chunks of whole lines."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from oncoarena.errors import InputError

CHUNK_BYTES = 8 << 20
MAX_LINE_BYTES = 256 << 20
_FIRST_BYTES = 64 << 10


def read_chunks(stream: BinaryIO, source: str) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, whole lines); the first chunk is small, for the header.

    Parameters: ``stream`` needs ``read`` and ``readline``.
    Raises InputError if a gzip stream is damaged or cut, a line is too long or ends by a carriage return only.
    """
    number, text, n_bytes = 1, b"", min(_FIRST_BYTES, CHUNK_BYTES)
    while True:
        try:
            data = stream.read(n_bytes)
            end = stream.readline(MAX_LINE_BYTES) if data[-1:] != b"\n" else b""
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            number += _count_lines(text)
            raise InputError(
                f"{source}: the gzip stream is truncated or damaged after line {number - 1} ({error}). "
                "Copy or download the file again."
            ) from None
        if not data:
            return
        if len(end) == MAX_LINE_BYTES:
            raise InputError(
                f"{source}: a line after line {number + _count_lines(text)} is longer than {MAX_LINE_BYTES >> 20} MB. "
                "Is this a table of text?"
            )
        number += _count_lines(text)
        if not text:
            data = data.removeprefix(codecs.BOM_UTF8)
        text = data + end
        if b"\r" in text:
            text = _without_carriage_returns(text, number, source)
        yield number, text
        n_bytes = CHUNK_BYTES


def _count_lines(text: bytes) -> int:
    # bytes.count is eight times slower where lines are short.
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord("\n")))


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
