"""Write simulated fragments as coordinate-sorted, paired-end BAM (SAM/BAM specification v1.6, hts-specs of samtools).

Every record has the same length, so a NumPy structured array is the bytes of the file. Bases are drawn with the
GC content of their place; no reference genome underlies them, and overlapping reads do not agree.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import BinaryIO

import deflate
import numpy as np

from oncoarena.simulation.fragments import GC_LEVELS, Damage, Fragments

NAME_DIGITS = 12
BGZF_BLOCK = 65280
"""Uncompressed bytes of a BGZF block, at most, as htslib writes them."""
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

PAIRED, PROPER, UNMAPPED, MATE_UNMAPPED, REVERSE, MATE_REVERSE = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
FIRST, LAST, SECONDARY, QC_FAIL, DUPLICATE, SUPPLEMENTARY = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800

_CODES = {"A": 1, "C": 2, "G": 4, "T": 8}
_READ_GROUP = np.frombuffer(b"RGZ1\0", np.uint8)
_NO_EDITS = np.frombuffer(b"NMC\0", np.uint8)
# Where a mapped read has its CIGAR, a read without a place has one tag more: all records are of one length.
_NO_SCORES = np.frombuffer(b"ASC\0XSC\0", np.uint8)


def header(chromosomes: Sequence[str], sizes: Sequence[int], sample_id: str) -> bytes:
    """Return the BAM header: reference sequences, one read group, coordinate order."""
    lines = ["@HD\tVN:1.6\tSO:coordinate"]
    lines += [f"@SQ\tSN:{name}\tLN:{size}" for name, size in zip(chromosomes, sizes, strict=True)]
    lines += [f"@RG\tID:1\tSM:{sample_id}\tPL:ILLUMINA", "@PG\tID:oncoarena\tPN:oncoarena\tCL:simulate"]
    text = "\n".join(lines).encode() + b"\n"
    parts = [b"BAM\1", struct.pack("<i", len(text)), text, struct.pack("<i", len(sizes))]
    for name, size in zip(chromosomes, sizes, strict=True):
        parts.append(struct.pack("<i", len(name) + 1) + name.encode() + b"\0" + struct.pack("<i", size))
    return b"".join(parts)


def write_bgzf(stream: BinaryIO, content: bytes | memoryview, unit: int = 1, level: int = 1) -> None:
    """Append BGZF blocks that hold ``content``; no block ends inside one of its ``unit`` bytes long records."""
    step = BGZF_BLOCK // unit * unit
    view = memoryview(content).cast("B")
    for first in range(0, len(view), step):
        raw = view[first : first + step]
        packed = deflate.deflate_compress(raw, level)
        # The size of a block, less one, counts 18 bytes before and 8 after the packed ones.
        stream.write(bytes.fromhex("1f8b08040000000000ff060042430200") + struct.pack("<H", len(packed) + 25))
        stream.write(packed)
        stream.write(struct.pack("<II", zlib.crc32(raw), len(raw)))


def record_dtype(read_bp: int, mapped: bool = True) -> np.dtype:
    """Return the layout of a record, with its block size; both kinds are of the same length."""
    middle = [("cigar", "<u4"), ("seq", "u1", read_bp // 2), ("qual", "u1", read_bp), ("edits", "u1", 4)]
    if not mapped:
        middle = [("seq", "u1", read_bp // 2), ("qual", "u1", read_bp), ("scores", "u1", 8)]
    return np.dtype(
        [
            ("block_size", "<i4"),
            ("ref", "<i4"),
            ("pos", "<i4"),
            ("name_length", "u1"),
            ("mapq", "u1"),
            ("bin", "<u2"),
            ("n_cigar", "<u2"),
            ("flag", "<u2"),
            ("n_bases", "<i4"),
            ("mate_ref", "<i4"),
            ("mate_pos", "<i4"),
            ("template", "<i4"),
            ("name", "<u4", NAME_DIGITS // 4),
            ("name_end", "u1"),
            *middle,
            ("read_group", "u1", 5),
        ]
    )


def encode_records(
    rng: np.random.Generator,
    windows: Iterator[Fragments],
    n_unmapped: int,
    damage: Damage,
    read_bp: int,
) -> Iterator[np.ndarray]:
    """Yield the records of a file in their order: (n,) arrays of ``record_dtype``, those without a place last.

    Two records a fragment of ``windows``, two for each of ``n_unmapped`` pairs, and the secondary ones on top.
    """
    waiting: list[np.ndarray] = []
    chrom, number = 0, 0
    for window in windows:
        if window.chrom != chrom:
            yield from waiting
            waiting, chrom = [], window.chrom
        records = np.concatenate([*waiting, _window_records(rng, window, number, damage, read_bp)])
        number += len(window.start)
        # Positions and their places make keys that differ: the order does not depend on how sorting is done.
        keys = (records["pos"].astype(np.int64) << 32) | np.arange(len(records))
        keys.sort()
        n_ready = int(np.searchsorted(keys, window.window_end << 32))
        # Rows of bytes are gathered some times faster than records, which are copied field by field.
        rows = records.view(np.uint8).reshape(-1, records.itemsize).take(keys & 0xFFFFFFFF, axis=0)
        records = rows.view(records.dtype)[:, 0]
        yield records[:n_ready]
        waiting = [records[n_ready:]]
    yield from waiting
    for first in range(0, n_unmapped, 1 << 16):
        numbers = np.arange(first, min(first + (1 << 16), n_unmapped)) + number
        yield _unmapped_pairs(rng, numbers, read_bp)


def _window_records(
    rng: np.random.Generator, window: Fragments, first_number: int, damage: Damage, read_bp: int
) -> np.ndarray:
    n = len(window.start)
    left, right = _new_records(n, read_bp), _new_records(n, read_bp)
    numbers = np.arange(first_number, first_number + n)
    for records, side in ((left, 0), (right, 1)):
        records["ref"] = records["mate_ref"] = window.chrom
        records["name"] = _names(numbers)
        records["mapq"] = window.mapq[:, side]
        records["cigar"] = read_bp << 4
        records["qual"] = _qualities(rng, n, read_bp)
        records["seq"] = _bases(rng, window.gc_level, read_bp)
    left["seq"][:, :2] = _motif_bytes()[0, window.motif[:, 0]]
    right["seq"][:, -2:] = _motif_bytes()[1, window.motif[:, 1]]
    copies = np.flatnonzero(window.duplicate)
    for records in (left, right):
        records["seq"][copies] = records["seq"][window.original[copies]]
    left["pos"] = right["mate_pos"] = window.start
    right["pos"] = left["mate_pos"] = window.end - read_bp
    left["template"] = window.end - window.start
    right["template"] = -left["template"]
    left["bin"] = _bin_numbers(left["pos"], read_bp)
    right["bin"] = _bin_numbers(right["pos"], read_bp)
    common = PAIRED | PROPER | np.where(window.duplicate, DUPLICATE, 0) | np.where(window.qc_fail, QC_FAIL, 0)
    left["flag"] = common | MATE_REVERSE | np.where(window.forward_first, FIRST, LAST)
    right["flag"] = common | REVERSE | np.where(window.forward_first, LAST, FIRST)
    _lose_mates(left, right, window.half_mapped, read_bp)
    return np.concatenate([left, right, _further_records(rng, left, window, damage, read_bp)])


def _lose_mates(left: np.ndarray, right: np.ndarray, lost: np.ndarray, read_bp: int) -> None:
    """Leave the right reads of some pairs without a place of their own: they stand where their mate does."""
    left["flag"][lost] = left["flag"][lost] & ~np.uint16(PROPER | MATE_REVERSE) | MATE_UNMAPPED
    left["template"][lost] = 0
    left["mate_pos"][lost] = left["pos"][lost]
    mates = right[lost]
    unmapped = _new_records(len(mates), read_bp, mapped=False)
    for field in ("ref", "mate_ref", "name", "seq", "qual"):
        unmapped[field] = mates[field]
    unmapped["pos"] = unmapped["mate_pos"] = left["pos"][lost]
    unmapped["bin"] = _bin_numbers(unmapped["pos"], 1)
    unmapped["flag"] = mates["flag"] & ~np.uint16(PROPER | REVERSE) | UNMAPPED
    right[lost] = unmapped.view(right.dtype)


def _further_records(
    rng: np.random.Generator, left: np.ndarray, window: Fragments, damage: Damage, read_bp: int
) -> np.ndarray:
    """Place copies of some reads elsewhere in the window, by turns as secondary and supplementary."""
    chosen = np.flatnonzero((rng.random(len(left)) < damage.secondary) & ~window.half_mapped)
    records = left[chosen]
    if len(records):
        records["pos"] = rng.integers(window.start[0], window.window_end - read_bp, len(records))
    records["bin"] = _bin_numbers(records["pos"], read_bp)
    records["template"] = 0
    is_secondary = np.arange(len(records)) % 2 == 0
    records["flag"] &= ~np.uint16(PROPER)
    records["flag"] |= np.where(is_secondary, SECONDARY, SUPPLEMENTARY).astype(np.uint16)
    records["mapq"][is_secondary] = 0
    return records


def _unmapped_pairs(rng: np.random.Generator, numbers: np.ndarray, read_bp: int) -> np.ndarray:
    records = _new_records(2 * len(numbers), read_bp, mapped=False)
    for field in ("ref", "pos", "mate_ref", "mate_pos"):
        records[field] = -1
    records["name"] = np.repeat(_names(numbers), 2, axis=0)
    records["bin"] = 4680  # reg2bin(-1, 0)
    both = PAIRED | UNMAPPED | MATE_UNMAPPED
    records["flag"] = np.tile([both | FIRST, both | LAST], len(numbers))
    records["seq"] = _bases(rng, np.full(len(records), GC_LEVELS // 2, np.uint8), read_bp)
    records["qual"] = _qualities(rng, len(records), read_bp)
    return records.view(record_dtype(read_bp))


def _new_records(n: int, read_bp: int, mapped: bool = True) -> np.ndarray:
    records = np.zeros(n, dtype=record_dtype(read_bp, mapped))
    records["block_size"] = records.dtype.itemsize - 4
    records["name_length"] = NAME_DIGITS + 1
    records["n_cigar"] = int(mapped)
    records["n_bases"] = read_bp
    records["read_group"] = _READ_GROUP
    if mapped:
        records["edits"] = _NO_EDITS
    else:
        records["scores"] = _NO_SCORES
    return records


def _names(numbers: np.ndarray) -> np.ndarray:
    """Return (n, 3) uint32 whose bytes are the numbers in twelve decimal digits."""
    digits = _four_digits()
    return np.stack(
        [digits[numbers // 10**8], digits[numbers // 10**4 % 10**4], digits[numbers % 10**4]], axis=1
    )


@cache
def _four_digits() -> np.ndarray:
    return np.frombuffer(b"".join(b"%04d" % number for number in range(10**4)), "<u4")


def _bases(rng: np.random.Generator, gc_level: np.ndarray, read_bp: int) -> np.ndarray:
    """Draw (n, read_bp / 2) uint8, two bases a byte, each G or C with the chance gc_level / ``GC_LEVELS``."""
    half = read_bp // 2
    words = rng.integers(0, 1 << 16, (len(gc_level), half), dtype=np.uint16)
    return _base_pairs()[(gc_level.astype(np.int32)[:, None] << 16) | words]


@cache
def _base_pairs() -> np.ndarray:
    """Return (GC_LEVELS * 65536,) uint8: for each GC content, the two bases that sixteen random bits stand for."""
    byte = np.arange(256)
    level = np.arange(GC_LEVELS)[:, None]
    is_gc = byte < 2 * level
    strong = np.where(byte < level, _CODES["G"], _CODES["C"])
    weak = np.where(byte < 128 + level, _CODES["A"], _CODES["T"])
    base = np.where(is_gc, strong, weak).astype(np.uint8)  # (GC_LEVELS, 256)
    return ((base[:, :, None] << 4) | base[:, None, :]).reshape(-1)


@cache
def _motif_bytes() -> np.ndarray:
    """Return (2, 256, 2) uint8: the packed bases of each 4-mer, and of its reverse complement."""
    digits = np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3  # (256, 4), A 0 ... T 3
    code = np.array(list(_CODES.values()), dtype=np.uint8)
    both = np.stack([code[digits], code[3 - digits[:, ::-1]]])  # (2, 256, 4)
    return both[..., 0::2] << 4 | both[..., 1::2]


def _qualities(rng: np.random.Generator, n: int, read_bp: int) -> np.ndarray:
    return _quality_rows(read_bp)[rng.integers(0, 256, n, dtype=np.uint8)]


@cache
def _quality_rows(read_bp: int) -> np.ndarray:
    """Return (256, read_bp) uint8: rows of the four values of a binned sequencer, worse towards the end."""
    rng = np.random.default_rng(read_bp)
    lapse = rng.random((256, read_bp)) < np.linspace(0.02, 0.15, read_bp)
    return np.where(lapse, rng.choice([2, 12, 23], (256, read_bp)), 37).astype(np.uint8)


def _bin_numbers(pos: np.ndarray, span_bp: int) -> np.ndarray:
    """Compute the smallest bin that holds [pos, pos + span) (SAM specification v1.6, section 5.3)."""
    first, last = pos.astype(np.int64), pos.astype(np.int64) + span_bp - 1
    number = np.zeros(len(first), dtype=np.int64)
    for shift in (26, 23, 20, 17, 14):  # from the largest bins to the smallest
        level = (29 - shift) // 3
        fits = first >> shift == last >> shift
        number = np.where(fits, ((1 << 3 * level) - 1) // 7 + (first >> shift), number)
    return number
