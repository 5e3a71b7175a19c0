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
from numba import njit

from oncoarena.errors import BadObject

# The largest index believed, inflated: that of a human genome at high depth has some 10 MB.
MAX_INDEX_BYTES = 512 << 20
PART_BYTES = 256 << 20
MAKE_AGAIN = "make the index again (samtools index)"
# Magic, min_shift, depth, length of the auxiliary data.
_CSI_HEADER = struct.Struct("<4x4xii")


@dataclass(frozen=True)
class Part:
    """A range of a BAM file that begins and ends at a record, or of a CRAM file, at a container.

    It begins ``first_in_block`` bytes into the inflated block at ``first_byte``, with byte 0 for the first record
    of the file; and ends in the same way. The last part ends where the file does. ``header_bytes``, of CRAM, is where
    the first container of records begins.
    """

    first_byte: int
    end_byte: int
    first_in_block: int = 0
    end_in_block: int = 0
    is_last: bool = False
    header_bytes: int = 0


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
    offsets = np.unique(_record_offsets(read_index(index, source), source))
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


def read_index(index: BinaryIO, source: str) -> bytes:
    """Read all of an index; CSI and CRAI are inflated. Raises BadObject."""
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


@njit(cache=True)
def _load(content, at, n_bytes):
    """Return the unsigned little-endian number of ``n_bytes`` at a place."""
    value = np.uint64(0)
    for k in range(n_bytes):
        value |= np.uint64(content[at + k]) << np.uint64(8 * k)
    return value


@njit(cache=True)
def _load_count(content, at):
    """Return the signed 32-bit count at a place."""
    return np.int64(np.int32(_load(content, at, 4)))


@njit(cache=True)
def _walk_cpu(content, at, is_csi, n_bins_possible, found):
    """Gather the offsets of all references into ``found``, from the number of references on, at ``at``.

    Returns how many there are, and the place and length of the first field that is not all there, -1 and 0 if all
    are. A count is held against the four bytes at least that each of what it counts takes.
    """
    n_found = 0
    end = len(content)
    if at + 4 > end:
        return n_found, at, 4
    n_references = _load_count(content, at)
    at += 4
    if n_references < 0 or at + 4 * n_references > end:
        return n_found, at, 4 * n_references
    for _ in range(n_references):
        if at + 4 > end:
            return n_found, at, 4
        n_bins = _load_count(content, at)
        at += 4
        if n_bins < 0 or at + 4 * n_bins > end:
            return n_found, at, 4 * n_bins
        for _ in range(n_bins):
            n_fixed = 16 if is_csi else 8
            if at + n_fixed > end:
                return n_found, at, n_fixed
            number = _load(content, at, 4)
            if is_csi:
                found[n_found] = _load(content, at + 4, 8)
                n_found += 1
            n_chunks = _load_count(content, at + n_fixed - 4)
            at += n_fixed
            if n_chunks < 0 or at + 16 * n_chunks > end:
                return n_found, at, 16 * n_chunks
            # A bin behind the last one holds figures of the reference, not chunks.
            if number < n_bins_possible:
                for chunk in range(n_chunks):
                    found[n_found] = _load(content, at + 16 * chunk, 8)
                    n_found += 1
            at += 16 * n_chunks
        if not is_csi:
            if at + 4 > end:
                return n_found, at, 4
            n_intervals = _load_count(content, at)
            at += 4
            if n_intervals < 0 or at + 8 * n_intervals > end:
                return n_found, at, 8 * n_intervals
            for interval in range(n_intervals):
                found[n_found] = _load(content, at + 8 * interval, 8)
                n_found += 1
            at += 8 * n_intervals
    return n_found, -1, 0


def _record_offsets(content: bytes, source: str) -> np.ndarray:
    """List virtual offsets at which records begin: the starts of chunks, and the linear index or its like."""
    if content.startswith(b"BAI\1"):
        is_csi, depth, start = False, 5, 4
    elif content.startswith(b"CSI\1"):
        is_csi = True
        if len(content) < _CSI_HEADER.size:
            raise _cut_short(source, 4, _CSI_HEADER.size - 4, len(content))
        depth, n_auxiliary = _CSI_HEADER.unpack_from(content)
        start = _CSI_HEADER.size + n_auxiliary
        if not 0 <= depth <= 10:
            raise BadObject(
                f"the index of {source} is damaged: it says that its depth is {depth}; {MAKE_AGAIN}"
            )
        if not _CSI_HEADER.size <= start <= len(content):
            raise _cut_short(source, _CSI_HEADER.size, n_auxiliary, len(content))
    else:
        raise BadObject(
            f"the index of {source} is neither BAI nor CSI: it begins with {content[:4]!r}; {MAKE_AGAIN}"
        )
    n_bins_possible = ((1 << 3 * (depth + 1)) - 1) // 7
    # Every offset takes eight bytes, those at the starts of chunks sixteen.
    found = np.empty(len(content) // 8 + 1, dtype=np.uint64)
    data = np.frombuffer(content, dtype=np.uint8)
    n_found, at, n_bytes = _walk_cpu(data, start, is_csi, n_bins_possible, found)
    if at >= 0:
        raise _cut_short(source, at, n_bytes, len(content))
    return found[:n_found]


def _cut_short(source: str, at: int, n_bytes: int, end: int) -> BadObject:
    return BadObject(
        f"the index of {source} is damaged: at its byte {at} it says that {n_bytes} bytes follow, but it ends at "
        f"{end}; {MAKE_AGAIN}"
    )
