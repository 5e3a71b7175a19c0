"""BAM files for tests, written by pysam or byte by byte, and what an independent loop over pysam counts in them."""

import io
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pysam

from oncoarena.kernels.bam_index import Part
from oncoarena.kernels.bam_walk import read_header, walk_bam
from oncoarena.kernels.bin_layout import BinLayout, lay_out_bins
from oncoarena.kernels.fragment_tally import (
    SUMMED,
    FragmentFilters,
    FragmentTally,
    RecordArrays,
    motif_names,
)

END_MARKER = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
REFERENCES = {"chr1": 900_000, "chrUn": 5_000, "chr2": 400_000}
# What of the references is counted, in another order than the file's.
COUNTED = {"chr2": 400_000, "chr1": 900_000}
TO_LAYOUT = np.array([1, -1, 0])
EXCLUDED = {"chr1": [(0, 20_000), (300_000, 300_001), (300_001, 310_000)], "chr2": [(100_000, 150_000)]}
# Any order of reads, mates, strands, duplicates and further alignments.
FLAGS = [
    99,
    147,
    83,
    163,
    67,
    131,
    115,
    195,
    3,
    65,
    73,
    133,
    77,
    141,
    99 + 1024,
    355,
    403,
    99 + 512,
    2147,
    0,
    4,
    16,
]


def layout(coverage_bp: int = 10_000, ratio_bp: int = 100_000) -> BinLayout:
    return lay_out_bins(COUNTED, coverage_bp=coverage_bp, ratio_bp=ratio_bp, excluded=EXCLUDED)


def sam_header() -> pysam.AlignmentHeader:
    references = [{"SN": name, "LN": size} for name, size in REFERENCES.items()]
    return pysam.AlignmentHeader.from_dict({"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": references})


def random_read(rng: np.random.Generator, header: pysam.AlignmentHeader, reference: int, position: int):
    """Draw a read with any flags, clips, mates, lengths and bases."""
    read = pysam.AlignedSegment(header)
    read.query_name = "r" * int(rng.integers(1, 40))
    read.flag = int(rng.choice(FLAGS[:8] if rng.random() < 0.7 else FLAGS))
    read.reference_id, read.reference_start = reference, position
    read.mapping_quality = int(rng.choice([0, 29, 30, 60, 60, 60]))
    read.next_reference_id = reference if rng.random() < 0.95 else int(rng.integers(-1, 3))
    read.next_reference_start = max(-1, position + int(rng.integers(-200, 200)))
    length = int(rng.normal(160, 40)) if rng.random() < 0.8 else int(rng.integers(-1200, 1200))
    read.template_length = length * int(rng.choice([-1, 1]))
    n_bases = int(rng.choice([0, 1, 3, 4, 5, 50, 75, 101], p=[0.05] * 5 + [0.25] * 3))
    if n_bases:
        read.query_sequence = "".join(
            rng.choice(list("ACGTNR"), n_bases, p=[0.24, 0.25, 0.25, 0.24, 0.01, 0.01])
        )
        if n_bases >= 50:
            n = n_bases
            cigars = [f"{n}M", f"{n}M", f"4S{n - 4}M", f"{n - 9}M9S", f"2H{n}M", f"{n}M3H", f"9M2D{n - 9}M"]
            read.cigarstring = str(rng.choice(cigars))
    if rng.random() < 0.3:
        read.set_tags([("NM", 3), ("XB", "text")])
    return read


def random_reads(seed: int, counts: tuple[int, ...] = (1500, 20, 700)) -> list[pysam.AlignedSegment]:
    """Draw reads of every reference in the order of their places, and some without a place."""
    rng, header = np.random.default_rng(seed), sam_header()
    reads = []
    for reference, (n, size) in enumerate(zip(counts, header.lengths, strict=True)):
        positions = np.concatenate([rng.integers(0, size, n), rng.integers(size - 100, size, n // 20)])
        for position in np.sort(positions):
            reads.append(random_read(rng, header, reference, int(position)))
    for _ in range(12):
        read = pysam.AlignedSegment(header)
        read.query_name, read.flag, read.query_sequence = "unplaced", 77, "ACGTA"
        reads.append(read)
    return reads


def write_bam(path: Path, reads: Iterable[pysam.AlignedSegment], index: str = "") -> Path:
    """Write reads, and an index: bai, csi or none."""
    with pysam.AlignmentFile(str(path), "wb", header=sam_header()) as file:
        for read in reads:
            file.write(read)
    if index:
        pysam.index(*(["-c"] if index == "csi" else []), str(path))
    return path


def inflate(content: bytes) -> bytes:
    """Inflate all members of a gzip file."""
    plain = b""
    while content:
        inflater = zlib.decompressobj(wbits=31)
        plain += inflater.decompress(content)
        content = inflater.unused_data
    return plain


def block(plain: bytes, level: int = 6) -> bytes:
    """Compress bytes to one BGZF block."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15)
    packed = deflater.compress(plain) + deflater.flush()
    head = bytes.fromhex("1f8b08040000000000ff060042430200") + struct.pack("<H", len(packed) + 25)
    return head + packed + struct.pack("<II", zlib.crc32(plain), len(plain))


def bgzf(plain: bytes, sizes: Iterator[int] | int = 60_000, marker: bytes = END_MARKER) -> bytes:
    """Compress bytes to BGZF blocks of the sizes given."""
    blocks, start = [], 0
    while start < len(plain):
        size = sizes if isinstance(sizes, int) else next(sizes)
        blocks.append(block(plain[start : start + size]))
        start += size
    return b"".join(blocks) + marker


def plain_header(references: dict[str, int], text: bytes = b"@HD\tVN:1.6\n") -> bytes:
    """Return the inflated header of a BAM file."""
    head = b"BAM\1" + struct.pack("<i", len(text)) + text + struct.pack("<i", len(references))
    for name, size in references.items():
        head += struct.pack("<i", len(name) + 1) + name.encode() + b"\0" + struct.pack("<i", size)
    return head


def tally(content: bytes, part: Part | None = None, filters: FragmentFilters | None = None) -> FragmentTally:
    """Count the fragments of a BAM file given as bytes."""
    stream = io.BytesIO(content)
    header = read_header(stream, "x.bam")
    return walk_bam(stream, "x.bam", header, layout(), TO_LAYOUT, filters or FragmentFilters(), part)


def assert_same(first: FragmentTally, second: FragmentTally) -> None:
    for name in SUMMED:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert (first.first_place, first.last_place) == (second.first_place, second.last_place)


def five_prime(read: pysam.AlignedSegment) -> str | int:
    """Return the motif of a read's 5' end, -1 if it is clipped, -2 if it is not known."""
    operations = read.cigartuples
    if not operations or len(operations) > 65_535:
        return -2
    if operations[-1 if read.is_reverse else 0][0] in (pysam.CSOFT_CLIP, pysam.CHARD_CLIP):
        return -1
    motif = (read.get_forward_sequence() or "")[:4]
    return motif if len(motif) == 4 and set(motif) <= set("ACGT") else -2


def pysam_counts(path: Path, filters: FragmentFilters) -> dict[str, Counter]:
    """Count a BAM file with pysam, read by read, into plain counters: the independent answer."""
    found = {name: Counter() for name in SUMMED}
    counters = found["counters"]
    with pysam.AlignmentFile(str(path), check_sq=False) as file:
        for read in file.fetch(until_eof=True):
            counters["n_records"] += 1
            counters["n_unplaced"] += read.reference_id < 0
            if not (read.is_secondary or read.is_supplementary):
                counters["n_mapped"] += not read.is_unmapped
                counters["n_duplicates"] += read.is_duplicate
                counters["n_proper"] += read.is_proper_pair
            if read.flag & filters.excluded_flags:
                continue
            name = read.reference_name if read.reference_name in COUNTED else None
            if name and read.mapping_quality >= filters.min_mapq:
                found["chromosome_reads"][name] += 1
            if read.flag & filters.required_flags != filters.required_flags or read.is_read1 == read.is_read2:
                continue
            fate, start, end = _fate(read, name, filters)
            if read.is_read1:
                counters[fate] += 1
            if fate != "n_fragments":
                continue
            motif = five_prime(read)
            counters[{-1: "n_clipped_ends", -2: "n_unread_ends"}.get(motif, "n_ends")] += 1
            if isinstance(motif, str):
                found["motifs"][motif] += 1
            if read.is_read1:
                middle, bases = (start + end) // 2, read.query_sequence or ""
                found["lengths"][end - start] += 1
                found["coverage"][name, middle // 10_000] += 1
                found["gc_bases"][name, middle // 10_000] += bases.count("G") + bases.count("C")
                found["bases"][name, middle // 10_000] += sum(bases.count(base) for base in "ACGT")
                found["short"][name, middle // 100_000] += 100 <= end - start <= 150
                found["long"][name, middle // 100_000] += 151 <= end - start <= 220
    return found


def _fate(read: pysam.AlignedSegment, name: str | None, filters: FragmentFilters) -> tuple[str, int, int]:
    start = read.reference_start if read.template_length > 0 else read.next_reference_start
    end = start + abs(read.template_length)
    if read.mapping_quality < filters.min_mapq:
        return "n_low_mapq", start, end
    if name is None or read.next_reference_id != read.reference_id:
        return "n_other_chromosome", start, end
    if not filters.min_fragment_bp <= end - start <= filters.max_fragment_bp:
        return "n_other_length", start, end
    if start < 0 or end > COUNTED[name]:
        return "n_beyond_chromosome", start, end
    if any(left < end and start < right for left, right in EXCLUDED[name]):
        return "n_excluded_region", start, end
    return "n_fragments", start, end


def named_counts(tally: FragmentTally) -> dict[str, Counter]:
    """Name what is in a tally of ``layout()`` as ``pysam_counts`` does."""
    bins = layout()
    names = {
        "motifs": motif_names(),
        "lengths": range(len(tally.lengths)),
        "chromosome_reads": bins.chromosomes,
        "counters": list(tally.counts),
    }
    for kind, offsets in (("coverage", bins.coverage_offsets), ("ratio", bins.ratio_offsets)):
        names[kind] = [
            (name, row)
            for name, n in zip(bins.chromosomes, np.diff(offsets), strict=True)
            for row in range(n)
        ]
    names |= {"gc_bases": names["coverage"], "bases": names["coverage"]}
    names |= {"short": names["ratio"], "long": names["ratio"]}
    return {
        name: Counter(dict(zip(names[name], getattr(tally, name).tolist(), strict=True))) for name in SUMMED
    }


def as_arrays(path: Path) -> RecordArrays:
    """Read all records with pysam into arrays."""
    codes = {motif: code for code, motif in enumerate(motif_names())} | {-1: -1, -2: -2}
    rows = []
    with pysam.AlignmentFile(str(path), check_sq=False) as file:
        for read in file.fetch(until_eof=True):
            bases = read.query_sequence or ""
            rows.append(
                (
                    read.flag,
                    read.mapping_quality,
                    read.reference_id,
                    read.reference_start,
                    read.next_reference_id,
                    read.next_reference_start,
                    read.template_length,
                    codes[five_prime(read)],
                    bases.count("G") + bases.count("C"),
                    sum(bases.count(base) for base in "ACGT"),
                )
            )
    return RecordArrays(*np.array(rows).T)
