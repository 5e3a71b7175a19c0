"""Segments of copy number: log2 ratio per bin and per chromosome arm, and allele balance where it is known.

Three formats are recognised by their header: SEG (DNAcopy, IGV, GDC; one or many samples), .cns of CNVkit, and the
segments of ASCAT (one or many samples). Coordinates of SEG and ASCAT are 1-based, both ends included
(https://cnvkit.readthedocs.io/en/stable/fileformats.html#seg, https://github.com/VanLoo-lab/ascat/issues/144), those of
.cns 0-based and half-open (https://cnvkit.readthedocs.io/en/stable/fileformats.html); ``coordinates`` says otherwise.
A segment without a value (NA, or the log2 of nothing) covers nothing, and is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import pandas as pd

from oncoarena import legal
from oncoarena.assays import MatrixFeatures, SampleFeatures
from oncoarena.cohort import BlockSpec
from oncoarena.errors import InputError
from oncoarena.genomes import CHROMOSOME_SETS, GENOMES

BLOCKS = {
    "copy_ratio": BlockSpec(
        name="copy_ratio",
        dims=("sample", "bin"),
        dtype="float32",
        unit="log2 ratio",
        description="Log2 copy ratio of each bin: mean of its segments by length, missing where too little is covered.",
        reference="doi:10.1093/biostatistics/kxh008; doi:10.1371/journal.pcbi.1004873; doi:10.1073/pnas.1009843107",
    ),
    "copy_ratio_arms": BlockSpec(
        name="copy_ratio_arms",
        dims=("sample", "arm"),
        dtype="float32",
        unit="log2 ratio",
        description="Log2 copy ratio of each chromosome arm: mean of its segments by length.",
        reference="doi:10.1093/biostatistics/kxh008; doi:10.1371/journal.pcbi.1004873; doi:10.1073/pnas.1009843107",
    ),
    "allele_balance": BlockSpec(
        name="allele_balance",
        dims=("sample", "bin"),
        dtype="float32",
        unit="minor / (major + minor) copies, 0 to 0.5",
        description="Share of the minor allele's copies in each bin: 0.5 balanced, 0 loss of heterozygosity.",
        reference="doi:10.1073/pnas.1009843107",
    ),
}

_LEGAL = {
    "genome": GENOMES,
    "chromosomes": tuple(CHROMOSOME_SETS),
    "coordinates": ("auto", "one_based", "zero_based"),
}
MIN_BIN_BP, MAX_BIN_BP = 10_000, 250_000_000


@dataclass(frozen=True)
class Options:
    """How to read segments; raises InputError for a value that is not legal."""

    genome: str = "hg38"
    """hg19 | hg38 | t2t."""
    chromosomes: str = "autosomes"
    """autosomes | all (with X and Y)."""
    bin_bp: int = 1_000_000
    """Width of a bin in bp, 10000 or more; the last of a chromosome may be shorter."""
    min_covered: float = 0.5
    """Share of a bin or arm that segments must cover for it to have a value, more than 0 and at most 1."""
    alleles: bool = False
    """Whether the files hold copies of both alleles, and allele_balance is wanted."""
    coordinates: str = "auto"
    """auto (as the format has them) | one_based, both ends included | zero_based, half-open."""

    def __post_init__(self) -> None:
        for key, words in _LEGAL.items():
            legal.check_choice(key, getattr(self, key), words)
        legal.check_whole("bin_bp", self.bin_bp, MIN_BIN_BP, MAX_BIN_BP)
        share = self.min_covered
        if not legal.is_number(share) or not 0 < share <= 1:
            raise InputError(f"min_covered: found {share!r}, expected a share above 0 and at most 1.")
        legal.check_switch("alleles", self.alleles)


def offered(options: Options) -> tuple[str, ...]:
    """Name the blocks that these options yield."""
    return ("copy_ratio", "copy_ratio_arms", *(("allele_balance",) if options.alleles else ()))


def read_object(
    stream: BinaryIO,
    source: str,
    options: Options,
    *,
    sample_id: str,
    annotation: pd.DataFrame | None = None,
) -> dict[str, SampleFeatures]:
    """Read the segments of one sample.

    Parameters: ``stream`` SEG, .cns or ASCAT, gzipped or not; of a file of several samples the rows named
    ``sample_id`` are taken, of a file of one sample all rows whatever their name. Bins have coordinates of their own:
    ``annotation`` is not looked at. Returns the blocks named by ``offered``. Raises InputError.
    """
    from oncoarena.assays.segment_blocks import SegmentGrid
    from oncoarena.assays.segment_tables import read_sample

    grid = SegmentGrid(options)
    return grid.features(*read_sample(stream, source, sample_id, options), source)


def read_matrix(
    stream: BinaryIO,
    source: str,
    sample_ids: Sequence[str],
    options: Options,
    annotation: pd.DataFrame | None = None,
) -> dict[str, MatrixFeatures]:
    """Read the segments of the given samples from one SEG or ASCAT table of the cohort.

    Parameters: as of ``read_object``; ``sample_ids`` (n_samples,) unique. Returns the blocks named by ``offered``:
    values (n_samples, n_bins), (n_samples, n_arms). Raises InputError, also if a sample has no segment.
    """
    from oncoarena.assays.segment_blocks import SegmentGrid
    from oncoarena.assays.segment_tables import read_samples

    grid = SegmentGrid(options)
    found, n_other = read_samples(stream, source, sample_ids, options)
    notes = (f"{source}: {n_other} samples that are not in the sheet were ignored.",) if n_other else ()
    return grid.matrices(found, source, notes)
