"""From the stream of a BAM file, or of a part of one, to its tally of fragments.

A file is read forward once, in bounded memory; blocks are inflated by ``bgzf`` and records counted by
``bam_records``. Format: SAM specification v1, section 4 (https://samtools.github.io/hts-specs/SAMv1.pdf).
"""

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from oncoarena.errors import BadObject
from oncoarena.kernels import bam_records
from oncoarena.kernels.bam_index import Part
from oncoarena.kernels.bam_records import NEEDS_MORE, RecordWalker
from oncoarena.kernels.bgzf_stream import COPY_AGAIN, STALE_INDEX, BgzfStream, Pending
from oncoarena.kernels.bin_layout import BinLayout
from oncoarena.kernels.fragment_tally import FragmentFilters, FragmentTally, empty_tally

# The longest header believed, text and names of references: those of large projects have a few million bytes.
MAX_HEADER_BYTES = 64 << 20
HEADER_READ_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class BamHeader:
    """The header of a BAM file.

    ``names`` of the references and their ``sizes`` (n_references,) int64, in bp; ``text`` the SAM header. The
    records begin ``first_in_block`` inflated bytes behind the start of the block at ``first_byte``: with what is
    ``pending``, and then at byte ``next_byte`` of the file.
    """

    names: tuple[str, ...]
    sizes: np.ndarray
    text: str
    first_byte: int
    first_in_block: int
    pending: Pending
    next_byte: int

    @property
    def lengths(self) -> dict[str, int]:
        """Size of every reference in bp, by name."""
        return dict(zip(self.names, self.sizes.tolist(), strict=True))


def read_header(stream: BinaryIO, source: str) -> BamHeader:
    """Read the header of a BAM file from a stream that stands at its first byte.

    Raises BadObject for a header that is damaged, cut short or absurd, or names a reference twice.
    """
    blocks = BgzfStream(stream, source, 0, read_bytes=HEADER_READ_BYTES)
    n_taken = 0

    def bad(message: str) -> BadObject:
        at = blocks.offset_of(blocks.start)
        return BadObject(f"{source}: {message}; {COPY_AGAIN}", at)

    def take(n_bytes: int, what: str) -> bytes:
        nonlocal n_taken
        n_taken += n_bytes
        if n_bytes < 0 or n_taken > MAX_HEADER_BYTES:
            raise bad(f"the header says that {what} has {n_bytes} bytes, which cannot be")
        while blocks.stop - blocks.start < n_bytes:
            if not blocks.fill():
                raise bad(f"the file ends inside its header, in {what}")
        taken = blocks.window[blocks.start : blocks.start + n_bytes].tobytes()
        blocks.start += n_bytes
        return taken

    def take_int(what: str) -> int:
        return int.from_bytes(take(4, what), "little", signed=True)

    if take(4, "its first field") != b"BAM\1":
        raise BadObject(f"{source}: this is no BAM file: its first bytes are not BAM\\1", 0)
    text = take(take_int("the length of its text"), "its text")
    n_references = take_int("the number of its references")
    if not 0 <= 9 * n_references <= MAX_HEADER_BYTES:
        raise bad(f"the header says that there are {n_references} references, which cannot be")
    names: list[str] = []
    sizes: list[int] = []
    for number in range(1, n_references + 1):
        name = take(
            take_int(f"the length of the name of reference {number}"), f"the name of reference {number}"
        )
        size = take_int(f"the size of reference {number}")
        if len(name) < 2 or name[-1] or 0 in name[:-1] or size < 0:
            raise bad(f"reference {number} of the header has the name {name[:50]!r} and the size {size}")
        names.append(name[:-1].decode("utf-8", errors="backslashreplace"))
        sizes.append(size)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise bad(f"the header names the reference {twice!r} twice")
    first_byte, first_in_block = blocks.place_of(blocks.start)
    pending, next_byte = blocks.leave()
    return BamHeader(
        names=tuple(names),
        sizes=np.array(sizes, dtype=np.int64),
        text=text.rstrip(b"\0").decode("utf-8", errors="backslashreplace"),
        first_byte=first_byte,
        first_in_block=first_in_block,
        pending=pending,
        next_byte=next_byte,
    )


def walk_bam(
    stream: BinaryIO,
    source: str,
    header: BamHeader,
    layout: BinLayout,
    reference_to_layout: np.ndarray,
    filters: FragmentFilters,
    part: Part | None = None,
) -> FragmentTally:
    """Count the fragments of a BAM file, or of a part of it.

    Parameters: ``stream`` stands where ``read_header`` left it, or can seek; ``reference_to_layout`` (n_references,)
    int64 the layout's chromosome of every reference, -1 for those not counted; ``part`` one of ``bam_index``'s, None
    for the whole.
    Raises BadObject, with the byte of the block, for damage, a file cut short, records that do not fit their format
    or are not sorted by coordinate, and a part that does not begin and end at a record.
    """
    if len(reference_to_layout) != len(header.names):
        raise ValueError(
            f"{len(reference_to_layout)} entries for the {len(header.names)} references of {source}"
        )
    blocks = _open_part(stream, source, header, part)
    tally = empty_tally(layout, filters)
    walker = RecordWalker(tally, layout, filters, reference_to_layout)
    while True:
        status, blocks.start = walker.walk(blocks.window, blocks.start, blocks.stop)
        if status != NEEDS_MORE:
            raise _complain(blocks, status, tally, header, part)
        if not blocks.fill():
            break
    if blocks.start != blocks.stop:
        at = blocks.offset_of(blocks.start)
        if part is not None and not part.is_last:
            raise BadObject(
                f"{source}: byte {at}: a part of the file ends inside a record; {STALE_INDEX}", at
            )
        remedy = COPY_AGAIN if part is None or part.first_byte == 0 else f"{COPY_AGAIN}, or {STALE_INDEX}"
        raise BadObject(f"{source}: the file ends inside a record, at byte {at}; {remedy}", at)
    return tally


def _open_part(stream: BinaryIO, source: str, header: BamHeader, part: Part | None) -> BgzfStream:
    is_first = part is None or part.first_byte == 0
    if is_first and (part is None or part.is_last):
        if stream.seekable() and stream.tell() != header.next_byte:
            stream.seek(header.next_byte)
        return BgzfStream(stream, source, header.next_byte, pending=header.pending)
    byte, in_block = (
        (header.first_byte, header.first_in_block) if is_first else (part.first_byte, part.first_in_block)
    )
    end = None if part.is_last else (part.end_byte, part.end_in_block)
    stream.seek(byte)
    blocks = BgzfStream(stream, source, byte, end=end)
    while blocks.stop < in_block and blocks.fill():
        pass
    if blocks.stop < in_block:
        raise BadObject(
            f"{source}: byte {byte}: less follows this block than the index says; {STALE_INDEX}", byte
        )
    blocks.start = in_block
    return blocks


def _complain(
    blocks: BgzfStream, status: int, tally: FragmentTally, header: BamHeader, part: Part | None
) -> BadObject:
    """Describe what is wrong with the record at which a walk stopped."""
    at = blocks.offset_of(blocks.start)
    fields = blocks.window[blocks.start : blocks.start + bam_records.FIXED_BYTES].tobytes()
    numbers = np.frombuffer(fields[: len(fields) // 4 * 4], dtype="<i4").tolist()
    remedy = COPY_AGAIN
    if status == bam_records.NOT_SORTED:
        before, here = (
            f"{_name(header, reference)}:{position + 1}"
            for reference, position in (divmod(tally.last_place, 1 << 32), (numbers[1], numbers[2] + 1))
        )
        what, remedy = f"is at {here}, behind one at {before}", "sort the file by coordinate (samtools sort)"
    elif status == bam_records.BAD_LENGTH:
        what = f"says that it has {numbers[0]} bytes, which cannot be"
    elif status == bam_records.BAD_FIELDS:
        what = f"has {numbers[0]} bytes, too few for its name, CIGAR and {numbers[5]} bases"
    elif status == bam_records.BAD_REFERENCE:
        what = f"names the references {numbers[1]} and {numbers[6]}, but the header has {len(header.names)}"
    else:
        what = f"names the positions {numbers[2]} and {numbers[7]}, which cannot be"
    if part is not None and part.first_byte and status != bam_records.NOT_SORTED:
        remedy += f", or {STALE_INDEX}"
    number, of_part = int(tally.counters[0]) + 1, " of a part" if part is not None and part.first_byte else ""
    return BadObject(f"{blocks.source}: byte {at}: record {number}{of_part} {what}; {remedy}", at)


def _name(header: BamHeader, reference: int) -> str:
    return header.names[reference] if 0 <= reference < len(header.names) else "unplaced"
