"""Whole lines of a text object, gzipped or not, a few megabytes at a time.

The checksum of every gzip member is verified. An object that was cut short is refused as far as its bytes can
tell: inside a gzip member, before the empty block that ends a BGZF file, or inside its last line. That line needs
no end where the bytes say that the text is whole: in BGZF, which ends by its empty block, or in one gzip member.
"""

import codecs
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

import numpy as np

from oncoarena.errors import BadObject, InputError

# Small, since what is left of a piece is copied at the end of every gzip member, of which BGZF has many.
READ_BYTES = 1 << 18
MAX_LINE_BYTES = 1 << 20
INFLATED_BYTES = 1 << 20
# The empty block that ends a BGZF file: SAM specification v1, section 4.1.2.
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
MISSING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "None")
"""Cells that mean "not measured"."""
FOREIGN_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x89HDF": "an HDF5 file",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PAR1": "a Parquet file",
}


@dataclass(frozen=True, eq=False)
class LineChunk:
    """Consecutive whole lines: ``text`` ends by a newline; ``number`` is that of its first line, from 1;
    ``offset`` is the byte of the object where it begins, None in a compressed one."""

    text: bytes
    number: int
    offset: int | None

    def place(self, position: int) -> tuple[int, int | None]:
        """Return the number of the line at a byte of the text, and its offset in the object."""
        number = self.number + self.text.count(b"\n", 0, position)
        return number, None if self.offset is None else self.offset + position

    def line(self, position: int) -> str:
        """Return the line that begins at a byte of the text, without its end."""
        end = self.text.find(b"\n", position)
        return self.text[position:end].decode(errors="replace").rstrip("\r")


@dataclass(eq=False)
class _Members:
    """How many gzip members were begun; of BGZF, whose end block tells that it is whole, one."""

    n: int = 0


def line_chunks(
    stream: BinaryIO, source: str, chunk_bytes: int = 4 << 20, *, may_lack_end: bool = False
) -> Iterator[LineChunk]:
    """Yield the lines of an object in chunks of about ``chunk_bytes``, each line once.

    Parameters: ``may_lack_end`` says that the last line needs no line end, as in a file that a person wrote; without
    it such a line of plain text, or of several gzip members, is taken for one that was cut.
    Raises InputError where it is no text, BadObject where it is damaged, empty or cut short.
    """
    start = stream.read(READ_BYTES)
    for magic, name in FOREIGN_FORMATS.items():
        if start.startswith(magic):
            raise InputError(f"{source}: this is {name}; expected text, gzipped or not. Export it as text.")
    is_gzip = start.startswith(b"\x1f\x8b")
    # The extra field that tells the size of a BGZF block: SAM specification v1, section 4.1.
    is_bgzf = is_gzip and start[12:14] == b"BC"
    inflate = _inflate_blocks if is_bgzf else _inflate
    members = _Members()
    pieces = inflate(stream, start, source, members) if is_gzip else _read(stream, start)
    number, offset = 1, 0
    pending: list[bytes] = []
    n_pending = 0
    for piece in pieces:
        if number == 1 and not offset and not n_pending and piece.startswith(codecs.BOM_UTF8):
            piece, offset = piece[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
        pending.append(piece)
        n_pending += len(piece)
        if n_pending < chunk_bytes:
            continue
        text = b"".join(pending)
        end = text.rfind(b"\n") + 1
        pending, n_pending = [text[end:]], len(text) - end
        if n_pending > MAX_LINE_BYTES:
            n_lines = number + text.count(b"\n", 0, end)
            raise BadObject(
                f"{source}: line {n_lines} is longer than {MAX_LINE_BYTES} bytes; is this the right file?"
            )
        if end:
            chunk = LineChunk(text[:end], number, None if is_gzip else offset)
            yield chunk
            number += chunk.text.count(b"\n")
            offset += end
    rest = b"".join(pending)
    # Several members may have been cut between two of them, where each that is there is whole.
    if rest and not rest.endswith(b"\n") and (may_lack_end or members.n == 1):
        rest += b"\n"
    if rest and not rest.endswith(b"\n"):
        last = number + rest.count(b"\n")
        at = None if is_gzip else offset + len(rest)
        raise BadObject(
            f"{source}: line {last} is the last and has no line end: the file was cut short; copy it again "
            "(or, if it is whole, end its last line)",
            offset=at,
        )
    if rest:
        yield LineChunk(rest, number, None if is_gzip else offset)
    elif number == 1:
        raise BadObject(f"{source}: the file is empty; copy it again", offset=0)


def _read(stream: BinaryIO, data: bytes) -> Iterator[bytes]:
    while data:
        yield data
        data = stream.read(READ_BYTES)


def _inflate(stream: BinaryIO, data: bytes, source: str, members: _Members) -> Iterator[bytes]:
    """Yield the content of all gzip members in bounded pieces; zlib checks length and CRC of each."""
    n_read = 0
    member = None
    while data:
        n_read += len(data)
        while data:
            if member is None:
                if data[0] == 0 and not data.strip(b"\0"):
                    break  # the padding that the gzip format allows after its last member
                member = zlib.decompressobj(wbits=31)
                members.n += 1
            try:
                piece = member.decompress(data, READ_BYTES)
            except zlib.error as error:
                at = n_read - len(data)
                raise BadObject(
                    f"{source}: the gzip stream is damaged at or after byte {at} ({error}); copy the file again",
                    offset=at,
                ) from None
            if piece:
                yield piece
            if member.eof:
                data, member = member.unused_data, None
            else:
                data = member.unconsumed_tail
        data = stream.read(READ_BYTES)
    if member is not None:
        _refuse_cut(source, n_read)


def _inflate_blocks(stream: BinaryIO, data: bytes, source: str, members: _Members) -> Iterator[bytes]:
    """Yield the content of all BGZF blocks in bounded pieces, the CRC of each checked; some three times faster."""
    from oncoarena.kernels.bgzf import COMPLAINTS, NEEDS_INPUT, NOTE_BYTES, Inflater

    members.n = 1
    inflater = Inflater()
    out = np.empty(INFLATED_BYTES, dtype=np.uint8)
    notes = np.empty((len(out) // NOTE_BYTES + 2, 2), dtype=np.int64)
    n_before, n_in_last = 0, -1
    more = data
    data = b""
    while more:
        data += more
        blocks = np.frombuffer(bytearray(data), dtype=np.uint8)
        start, reason = 0, None
        while reason != NEEDS_INPUT:
            reason, start, filled, _, last = inflater.inflate(blocks, start, len(blocks), out, 0, notes, 0)
            n_in_last = last if last >= 0 else n_in_last
            if filled:
                yield out[:filled].tobytes()
            if reason in COMPLAINTS:
                at = n_before + start
                raise BadObject(
                    f"{source}: the gzip stream is damaged at byte {at} ({COMPLAINTS[reason]}); copy the file again",
                    offset=at,
                )
        n_before, data = n_before + start, data[start:]
        more = stream.read(READ_BYTES)
    # An empty block ends the file.
    if data or n_in_last != 0:
        _refuse_cut(source, n_before + len(data))


def _refuse_cut(source: str, n_read: int) -> NoReturn:
    raise BadObject(
        f"{source}: the gzip stream ends at byte {n_read} without its end: the file was cut short; copy it again",
        offset=n_read,
    )


def as_number(cell: str) -> float | None:
    """Read a cell of text; NaN where it says that the value is missing, None where it is no number."""
    cell = cell.strip()
    if cell in MISSING:
        return math.nan
    # float() takes digits of any script and underscores, which no table of numbers means.
    if not cell.isascii() or "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None
