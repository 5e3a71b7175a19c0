"""Alignments: coverage, fragment lengths and fragment ends of one sample's paired-end reads, from one pass.

An object is a BAM or CRAM file sorted by coordinate, or a table of fragments (BED, gzipped or not: see
``fragment_files``); which one is told by its content. What is counted is in ``kernels/fragment_tally``, what is made
of the counts in ``alignment_blocks``. Fragments of all chromosomes make the blocks of lengths and of end motifs;
``chromosomes`` chooses those of which the others have bins.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import pandas as pd

from oncoarena import legal
from oncoarena.assays import SampleFeatures
from oncoarena.cohort import BlockSpec
from oncoarena.errors import InputError
from oncoarena.genomes import CHROMOSOME_SETS, GENOMES

if TYPE_CHECKING:
    from oncoarena.assays.alignment_reading import AlignmentTally
    from oncoarena.kernels.bam_index import Part

BLOCKS = {
    spec.name: spec
    for spec in (
        BlockSpec(
            name="coverage",
            dims=("sample", "bin"),
            dtype="float32",
            unit="fragments",
            description="Fragments whose midpoint lies in the bin; NaN where the whole bin is excluded.",
            reference="doi:10.1186/1471-2105-10-80",
        ),
        BlockSpec(
            name="coverage_gc",
            dims=("sample", "bin"),
            dtype="float32",
            unit="ratio to the sample's typical bin of the same GC content",
            description="Fragments per usable base pair of the bin, divided by the mean of the middle half of the "
            "sample's autosomal bins of the same GC content, then by that of all of them; 1 is two copies in a "
            "diploid genome. NaN where more than half of the bin is excluded or its GC content is not known.",
            reference="doi:10.1093/nar/gks001",
        ),
        BlockSpec(
            name="fragment_ratio",
            dims=("sample", "bin"),
            dtype="float32",
            unit="short fragments per long fragment",
            description="Fragments of 100 to 150 bp over those of 151 to 220 bp whose midpoint lies in the bin; "
            "NaN where there is no long one.",
            reference="doi:10.1038/s41586-019-1272-6",
        ),
        BlockSpec(
            name="fragment_length",
            dims=("sample", "length"),
            dtype="float32",
            unit="fraction of fragments",
            description="Share of the fragments that have the length in bp.",
            reference="doi:10.1126/scitranslmed.aat4921",
        ),
        BlockSpec(
            name="end_motif",
            dims=("sample", "motif"),
            dtype="float32",
            unit="fraction of fragment ends",
            description="Share of the 5' ends of fragments whose first four bases, read from the sequence itself, are "
            "the motif; NaN where the object has no sequences.",
            reference="doi:10.1158/2159-8290.CD-19-0622",
        ),
        BlockSpec(
            name="arm_coverage",
            dims=("sample", "arm"),
            dtype="float32",
            unit="fraction of fragments",
            description="Share of the fragments in the chromosome arm (bins by their middle; without the short arms of "
            "acrocentric chromosomes), of those in all arms.",
            reference="doi:10.1126/scitranslmed.3004742",
        ),
    )
}
SAME = ("content",)
"""Files of fragments have no sequences, hence no motifs: beside files of reads they are told by what is missing."""

FILES = ("exclude_regions", "reference")

# Least and most of each whole number; bins below 1 kb would make blocks of millions of features.
_BOUNDS = {
    "coverage_bp": (1_000, 100_000_000),
    "ratio_bp": (10_000, 300_000_000),
    "required_flags": (0, 4095),
    "excluded_flags": (0, 4095),
    "min_mapq": (0, 254),
    "max_fragment_bp": (220, 10_000),
    "part_mb": (1, 1_000_000),
}


@dataclass(frozen=True)
class Options:
    """How to read alignments; raises InputError for a value that is not legal."""

    genome: str = "hg38"
    """hg19 | hg38 | t2t: the genome that the reads were aligned to."""
    chromosomes: str = "autosomes"
    """autosomes | all: chromosomes of which coverage, fragment ratio and arms are features."""
    coverage_bp: int = 100_000
    """Width of the bins of coverage, bp."""
    ratio_bp: int = 5_000_000
    """Width of the bins of the fragment ratio, bp."""
    max_fragment_bp: int = 1000
    """Length of the longest fragment that counts, bp."""
    required_flags: int = 3
    """SAM flags that a read must have: paired, in a proper pair."""
    excluded_flags: int = 3852
    """SAM flags that a read must not have: it or its mate unmapped, secondary, supplementary, duplicate, failed."""
    min_mapq: int = 30
    """Least mapping quality of a read."""
    exclude_gaps: bool = True
    """Leave out fragments that touch an assembly gap or a centromere."""
    exclude_regions: str | None = None
    """Path or URI of a BED file of further regions to leave out, such as a blacklist."""
    reference: str | None = None
    """FASTA of the genome: CRAM may need it (a local path then), and GC content is taken from it."""
    part_mb: int = 256
    """Size of the ranges in which an indexed BAM file is shared between workers, 10^6 bytes."""

    def __post_init__(self) -> None:
        for key, words in (("genome", GENOMES), ("chromosomes", tuple(CHROMOSOME_SETS))):
            legal.check_choice(key, getattr(self, key), words)
        for key, (least, most) in _BOUNDS.items():
            legal.check_whole(key, getattr(self, key), least, most)
        if self.required_flags & self.excluded_flags:
            raise InputError(
                f"required_flags {self.required_flags} and excluded_flags {self.excluded_flags} share the flag "
                f"{self.required_flags & self.excluded_flags}: no read can pass. Drop it from one."
            )
        legal.check_switch("exclude_gaps", self.exclude_gaps)
        for key in FILES:
            legal.check_text(key, getattr(self, key), "a path or URI")


def read_object(
    stream: BinaryIO,
    source: str,
    options: Options,
    *,
    sample_id: str,
    annotation: pd.DataFrame | None = None,
) -> dict[str, SampleFeatures]:
    """Read the alignments of one sample: all blocks, see ``BLOCKS``; QC figures are with ``coverage``.

    ``annotation`` is not used: features are bins of the genome. Raises InputError.
    """
    (part,) = plan_parts(None, 0, source, options)
    tally = read_part(stream, source, options, part, sample_id=sample_id, annotation=annotation)
    return finish_object(tally, source, options, sample_id=sample_id, annotation=annotation)


def index_suffixes(uri: str) -> tuple[str, ...]:
    """What the names of indexes of an object add to its own."""
    return (".crai",) if uri.lower().endswith(".cram") else (".bai", ".csi")


def plan_parts(index: BinaryIO | None, n_bytes: int, source: str, options: Options) -> "list[Part]":
    """Cut an indexed BAM or CRAM file of ``n_bytes`` into ranges of about ``part_mb``; anything else is one part."""
    from oncoarena.assays import alignment_reading

    return alignment_reading.plan(index, n_bytes, source, options)


def read_part(
    stream: BinaryIO,
    source: str,
    options: Options,
    part: "Part",
    *,
    sample_id: str,
    annotation: pd.DataFrame | None = None,
) -> "AlignmentTally":
    """Count what is in one part of an object. Raises InputError."""
    from oncoarena.assays import alignment_reading

    return alignment_reading.read(stream, source, options, part)


def merge_parts(first: "AlignmentTally", second: "AlignmentTally") -> "AlignmentTally":
    """Join the tallies of two neighbouring parts, in order. Raises BadObject if they are not sorted."""
    from oncoarena.assays import alignment_reading

    return alignment_reading.join(first, second)


def finish_object(
    tally: "AlignmentTally",
    source: str,
    options: Options,
    *,
    sample_id: str,
    annotation: pd.DataFrame | None = None,
) -> dict[str, SampleFeatures]:
    """Make the blocks of a sample from the tally of its whole object. Raises InputError."""
    from oncoarena.assays import alignment_blocks

    return alignment_blocks.make_blocks(tally, source, options)
