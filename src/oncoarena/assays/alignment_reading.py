"""From an object of alignments to its tally: which format it is, which genome, which of its parts."""

import functools
import io
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from oncoarena import store
from oncoarena.assays import cram_ranges, fragment_files, htslib_alignments
from oncoarena.assays.alignments import Options
from oncoarena.assays.byte_lines import FOREIGN_FORMATS, line_chunks
from oncoarena.errors import BadObject, InputError
from oncoarena.genomes import CHROMOSOMES, canonical_chromosome, genome, matching_genomes
from oncoarena.kernels.bam_index import Part, parts_from_index, read_index, whole_file
from oncoarena.kernels.bam_walk import read_header, walk_bam
from oncoarena.kernels.bin_layout import BinLayout, lay_out_bins
from oncoarena.kernels.fragment_tally import FragmentFilters, FragmentTally, merge

HEAD_BYTES = 4096
BAM, CRAM, FRAGMENTS = "BAM", "CRAM", "table of fragments"


@dataclass(frozen=True, eq=False)
class AlignmentTally:
    """What was counted in an object or in a part of it.

    ``format`` is BAM, CRAM or FRAGMENTS; ``chromosomes`` are those that the object's header names, or all where it
    has none: of others nothing is known.
    """

    counts: FragmentTally
    format: str
    chromosomes: tuple[str, ...]


@functools.lru_cache(maxsize=4)
def lay_out(options: Options) -> BinLayout:
    """Lay out the bins of all 24 chromosomes, with what is left out of them, once a process. Raises InputError."""
    reference = genome(options.genome)
    excluded: dict[str, list[tuple[int, int]]] = {}
    if options.exclude_gaps:
        for table in (reference.gaps, reference.centromeres):
            for chromosome, start, end in zip(table["chrom"], table["start"], table["end"], strict=True):
                excluded.setdefault(chromosome, []).append((start, end))
    if options.exclude_regions is not None:
        for chromosome, start, end in read_regions(options.exclude_regions, reference.sizes):
            excluded.setdefault(chromosome, []).append((start, end))
    return lay_out_bins(
        reference.sizes, coverage_bp=options.coverage_bp, ratio_bp=options.ratio_bp, excluded=excluded
    )


def read_regions(uri: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Read regions (chrom, start, end) of the chromosomes from a BED file. Raises InputError naming the line."""
    regions = []
    n_lines = 0
    with store.open_input(uri) as stream:
        for chunk in line_chunks(stream, uri, may_lack_end=True):
            for number, line in enumerate(chunk.text.decode(errors="replace").splitlines(), chunk.number):
                if not line.strip() or line.startswith(("#", "track", "browser")):
                    continue
                n_lines += 1
                fields = line.split("\t")
                numbers = [text for text in fields[1:3] if text.isascii() and text.isdigit()]
                if len(numbers) < 2 or not int(numbers[0]) < int(numbers[1]):
                    raise InputError(
                        f"{uri}: line {number}: found {line[:60]!r}, expected chrom, start, end, separated by "
                        "tabs, with start < end (BED)."
                    )
                chromosome = canonical_chromosome(fields[0])
                if chromosome is None:
                    continue
                start, end = map(int, numbers)
                if end > sizes[chromosome]:
                    raise InputError(
                        f"{uri}: line {number}: the region ends at {end}, but {chromosome} has {sizes[chromosome]} bp; "
                        "is this a file of another genome?"
                    )
                regions.append((chromosome, start, end))
    if n_lines and not regions:
        raise InputError(
            f"{uri}: none of its {n_lines} regions lies on a chromosome; expected names as chr1 or 1."
        )
    return regions


def filters_of(options: Options) -> FragmentFilters:
    """Return the filters that the options name."""
    return FragmentFilters(
        required_flags=options.required_flags,
        excluded_flags=options.excluded_flags,
        min_mapq=options.min_mapq,
        max_fragment_bp=options.max_fragment_bp,
    )


def recognise(start: bytes, source: str) -> str:
    """Tell the format of an object from its first bytes (a few thousand). Raises InputError, BadObject."""
    if not start:
        raise BadObject(f"{source}: the file is empty; copy it again", 0)
    if start.startswith(b"CRAM"):
        return CRAM
    if start.startswith(b"\x1f\x8b"):
        try:
            start = zlib.decompressobj(wbits=31).decompress(start, 4096)
        except zlib.error as error:
            raise BadObject(f"{source}: the gzip stream is damaged ({error}); copy it again", 0) from None
    if start.startswith(b"BAM\1"):
        return BAM
    if start.startswith((b"@HD\t", b"@SQ\t", b"@RG\t", b"@PG\t", b"@CO\t")):
        raise InputError(f"{source}: this is SAM text; convert it (samtools sort -o NAME.bam).")
    for magic, name in FOREIGN_FORMATS.items():
        if start.startswith(magic):
            raise InputError(
                f"{source}: this is {name}; expected BAM, CRAM or a table of fragments (BED, gzipped or not)."
            )
    return FRAGMENTS


def map_references(lengths: Mapping[str, int], options: Options, source: str) -> np.ndarray:
    """Find the chromosomes among the references of a header, and check that they are of the genome.

    Parameters: ``lengths`` bp by name, in the order of the header.
    Returns (n_references,) int64 positions in CHROMOSOMES, -1 for other contigs.
    Raises BadObject naming contig, length found and expected, and the genome that would fit.
    """
    sizes = genome(options.genome).sizes
    found: dict[str, str] = {}
    mapped = np.full(len(lengths), -1, dtype=np.int64)
    for number, (name, n_bp) in enumerate(lengths.items()):
        chromosome = canonical_chromosome(name)
        if chromosome is None:
            continue
        if n_bp != sizes[chromosome]:
            fitting = matching_genomes(lengths)
            hint = (
                f"its chromosomes are those of {fitting[0]}; set genome: {fitting[0]}"
                if fitting
                else "they fit none of the genomes hg19, hg38 and t2t; align the reads to one of them"
            )
            raise BadObject(
                f"{source}: contig {name!r} has {n_bp} bp in the header, {chromosome} of {options.genome} has "
                f"{sizes[chromosome]}; {hint}",
                0,
            )
        if chromosome in found:
            raise BadObject(
                f"{source}: the header names {chromosome} twice, as {found[chromosome]!r} and {name!r}; align the "
                "reads to a genome that has it once",
                0,
            )
        found[chromosome] = name
        mapped[number] = CHROMOSOMES.index(chromosome)
    if not found:
        some = ", ".join(list(lengths)[:5]) or "nothing"
        raise BadObject(
            f"{source}: no contig of the header is a chromosome of {options.genome} (found {some}); expected names "
            "as chr1 or 1",
            0,
        )
    return mapped


def plan(index: BinaryIO | None, n_bytes: int, source: str, options: Options) -> list[Part]:
    """Cut an indexed BAM or CRAM file into ranges; without an index, or with one of a table, there is one part.

    Raises BadObject for an index that is damaged or of another file.
    """
    if index is None:
        return [whole_file(n_bytes)]
    content = read_index(index, source)
    part_bytes = options.part_mb * 1_000_000
    if _is_of_table(content):
        return [whole_file(n_bytes)]
    if cram_ranges.is_crai(content):
        return cram_ranges.parts_from_crai(content, n_bytes, source, part_bytes)
    return parts_from_index(io.BytesIO(content), n_bytes, source, part_bytes)


def _is_of_table(content: bytes) -> bool:
    """Tell a CSI index of a table, as tabix writes it: it describes the columns in 28 bytes or more."""
    return content.startswith(b"CSI\1") and int.from_bytes(content[12:16], "little") >= 28


def read(stream: BinaryIO, source: str, options: Options, part: Part) -> AlignmentTally:
    """Count what is in one part of an object of any format. Raises InputError, BadObject."""
    layout, filters = lay_out(options), filters_of(options)
    start = stream.read(HEAD_BYTES)
    stream.seek(0)
    form = recognise(start, source)
    is_whole = part.first_byte == 0 and part.is_last
    if not is_whole and form != (CRAM if part.header_bytes else BAM):
        other = CRAM if part.header_bytes else BAM
        raise BadObject(
            f"{source}: has an index as of a {other} file, but is a {form}; remove or correct the index"
        )
    if form == BAM:
        header = read_header(stream, source)
        to_layout = map_references(header.lengths, options, source)
        counts = walk_bam(stream, source, header, layout, to_layout, filters, part)
        return AlignmentTally(counts, form, known_chromosomes(header.names))
    if form == FRAGMENTS:
        counts = fragment_files.tally_table(stream, source, options.genome, layout, filters)
        return AlignmentTally(counts, form, layout.chromosomes)
    counts, lengths = htslib_alignments.tally_cram(
        stream if is_whole else cram_ranges.CramRange(stream, part, source),
        source,
        layout,
        filters,
        lambda lengths: map_references(lengths, options, source),
        options.reference,
    )
    return AlignmentTally(counts, form, known_chromosomes(lengths))


def known_chromosomes(names: Iterable[str]) -> tuple[str, ...]:
    """Return the chromosomes among the names of contigs."""
    return tuple(name for name in map(canonical_chromosome, names) if name is not None)


def join(first: AlignmentTally, second: AlignmentTally) -> AlignmentTally:
    """Join the tallies of two neighbouring parts, in order. Raises BadObject if they are not sorted."""
    return AlignmentTally(merge(first.counts, second.counts), first.format, first.chromosomes)
