"""Parts of a BAM file that can be read on their own, from its index.

Formats: SAM specification v1, section 5.2 (BAI; https://samtools.github.io/hts-specs/SAMv1.pdf), and CSI v1
(https://samtools.github.io/hts-specs/CSIv1.pdf). A virtual offset is the byte of a BGZF block, times 65,536, plus
the byte within the inflated block.
"""

import gzip
import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from oncoarena.errors import BadObject

# The largest index believed, inflated: that of a human genome at high depth has some 10 MB.
MAX_INDEX_BYTES = 512 << 20
PART_BYTES = 256 << 20
MAKE_AGAIN = "make the index again (samtools index)"
_WORD = struct.Struct("<i")


@dataclass(frozen=True)
class Part:
    """A range of a BAM file that begins and ends at a record.

    It begins ``first_in_block`` bytes into the inflated block at ``first_byte``, with byte 0 for the first record
    of the file; and ends in the same way. The last part ends where the file does.
    """

    first_byte: int
    end_byte: int
    first_in_block: int = 0
    end_in_block: int = 0
    is_last: bool = False


def whole_file(n_bytes: int) -> Part:
    """Return the one part that is all of a file of ``n_bytes``."""
    return Part(first_byte=0, end_byte=n_bytes, is_last=True)


def parts_from_index(index: BinaryIO, n_bytes: int, source: str, part_bytes: int = PART_BYTES) -> list[Part]:
    """Cut a BAM file into parts of about equal size, at records that its index names.

    Parameters: ``index`` a stream of a BAI or CSI index; ``n_bytes`` size of the BAM file; ``source`` name of the BAM
    file in messages; ``part_bytes`` size of a part, compressed.
    Returns at least one part, in order, without gaps.
    Raises BadObject for an index that is damaged, or of another file.
    """
    offsets = np.unique(_record_offsets(_read_index(index, source), source))
    offsets = offsets[offsets > 0]
    blocks = (offsets >> np.uint64(16)).astype(np.int64)
    if len(blocks) and blocks[-1] >= n_bytes:
        raise BadObject(
            f"the index of {source} names byte {blocks[-1]}, but the file has {n_bytes}: it is the index of another "
            f"file, or the file is cut short; copy the file again or {MAKE_AGAIN}"
        )
    n_parts = max(1, round(n_bytes / part_bytes))
    # The first record that begins at or behind each even share; a large block of them makes a larger part.
    wanted = np.arange(1, n_parts) * n_bytes // n_parts
    rows = np.unique(np.searchsorted(blocks, wanted))
    cuts = [(int(blocks[row]), int(offsets[row] & np.uint64(0xFFFF))) for row in rows if row < len(blocks)]
    cuts = [cut for cut in cuts if cut[0] > 0]
    starts, ends = [(0, 0), *cuts], [*cuts, (n_bytes, 0)]
    return [
        Part(first, end, first_in_block, end_in_block, is_last=number == len(cuts))
        for number, ((first, first_in_block), (end, end_in_block)) in enumerate(
            zip(starts, ends, strict=True)
        )
    ]


def _read_index(index: BinaryIO, source: str) -> bytes:
    """Read all of an index; CSI is inflated."""
    content = index.read(MAX_INDEX_BYTES + 1)
    if content.startswith(b"\x1f\x8b"):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as inflating:
                content = inflating.read(MAX_INDEX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise BadObject(f"the index of {source} is damaged ({error}); {MAKE_AGAIN}") from None
    if len(content) > MAX_INDEX_BYTES:
        raise BadObject(f"the index of {source} has more than {MAX_INDEX_BYTES} bytes; {MAKE_AGAIN}")
    return content


class _Fields:
    """Fields of an index, taken one after the other; each is checked to be there."""

    def __init__(self, content: bytes, source: str):
        self.content, self.source, self.position = content, source, 0

    def skip(self, n_bytes: int) -> int:
        """Pass over bytes and return where they begin."""
        start = self.position
        if n_bytes < 0 or start + n_bytes > len(self.content):
            raise BadObject(
                f"the index of {self.source} is damaged: at its byte {start} it says that {n_bytes} bytes follow, "
                f"but it ends at {len(self.content)}; {MAKE_AGAIN}"
            )
        self.position = start + n_bytes
        return start

    def take_int(self) -> int:
        """Take a 32-bit integer."""
        return _WORD.unpack_from(self.content, self.skip(4))[0]

    def take_count(self) -> int:
        """Take a 32-bit integer that counts something, each with some bytes of its own."""
        count = self.take_int()
        self.skip(4 * count)
        self.position -= 4 * count
        return count

    def take_offsets(self, n: int) -> np.ndarray:
        """Take n virtual offsets, (n,) uint64."""
        return np.frombuffer(self.content, dtype="<u8", count=n, offset=self.skip(8 * n))


def _record_offsets(content: bytes, source: str) -> np.ndarray:
    """List virtual offsets at which records begin: the starts of chunks, and the linear index or its like."""
    fields = _Fields(content, source)
    magic = content[fields.skip(4) : 4]
    if magic == b"BAI\1":
        is_csi, depth = False, 5
    elif magic == b"CSI\1":
        is_csi = True
        fields.take_int()
        depth = fields.take_int()
        fields.skip(fields.take_count())
        if not 0 <= depth <= 10:
            raise BadObject(
                f"the index of {source} is damaged: it says that its depth is {depth}; {MAKE_AGAIN}"
            )
    else:
        raise BadObject(
            f"the index of {source} is neither BAI nor CSI: it begins with {magic!r}; {MAKE_AGAIN}"
        )
    # A bin behind the last one holds figures of the reference, not chunks.
    n_bins_possible = ((1 << 3 * (depth + 1)) - 1) // 7
    found = []
    for _ in range(fields.take_count()):
        for _ in range(fields.take_count()):
            number = fields.take_int()
            if is_csi:
                found.append(fields.take_offsets(1))
            chunks = fields.take_offsets(2 * fields.take_count())
            if number < n_bins_possible:
                found.append(chunks[::2])
        if not is_csi:
            found.append(fields.take_offsets(fields.take_count()))
    return np.concatenate(found) if found else np.empty(0, dtype=np.uint64)
