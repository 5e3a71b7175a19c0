"""Methylation: mean beta per bin or region from calls of single cytosines, or beta per probe of an array.

Calls come from bedMethyl (modkit pileup, or ENCODE) or Bismark coverage files, one a sample, recognised by their
columns. They are averaged by calls: the beta of a bin is all methylated calls over all calls in it. Rows must be
sorted by position within a chromosome, as these tools write them: the sums do not need it, but only so can a site
that is there twice be seen in bounded memory. Beta values of arrays come from a matrix of the cohort, probes x
samples, or from one file a sample; coordinates of probes are those of the annotation table.
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
    "methylation_bins": BlockSpec(
        name="methylation_bins",
        dims=("sample", "bin"),
        dtype="float32",
        unit="beta: methylated calls / calls, 0 to 1",
        description="Mean methylation of each bin or region, each call of a cytosine weighing the same.",
        reference="https://nanoporetech.github.io/modkit/intro_pileup.html; Bismark doi:10.1093/bioinformatics/btr167",
    ),
    "methylation_calls": BlockSpec(
        name="methylation_calls",
        dims=("sample", "bin"),
        dtype="float32",
        unit="calls",
        description="Number of calls of cytosines, methylated or not, in each bin or region (exact below 2^24).",
        reference="https://nanoporetech.github.io/modkit/intro_pileup.html; Bismark doi:10.1093/bioinformatics/btr167",
    ),
    "methylation_probes": BlockSpec(
        name="methylation_probes",
        dims=("sample", "probe"),
        dtype="float32",
        unit="beta, 0 to 1",
        description="Methylation of each probe of an array.",
        reference="doi:10.1016/j.ygeno.2011.07.007",
    ),
}

FILES = ("regions",)

_LEGAL = {
    "technology": ("sequencing", "array"),
    "genome": GENOMES,
    "chromosomes": tuple(CHROMOSOME_SETS),
    "coordinates": ("auto", "one_based", "zero_based"),
    "scale": ("fraction", "percent"),
}
MIN_BIN_BP, MAX_BIN_BP = 10_000, 250_000_000


@dataclass(frozen=True)
class Options:
    """How to read methylation; raises InputError for a value that is not legal."""

    technology: str = "sequencing"
    """sequencing (calls of single cytosines) | array (beta by probe)."""
    genome: str = "hg38"
    """Of calls: hg19 | hg38 | t2t."""
    chromosomes: str = "autosomes"
    """Of calls: autosomes | all (with X and Y)."""
    bin_bp: int = 1_000_000
    """Of calls: width of a bin in bp, 10000 or more (regions can be finer); the last of a chromosome may be shorter."""
    regions: str | None = None
    """Of calls: path or URI of a BED file of regions (CpG islands, promoters) in place of bins; they may overlap."""
    min_calls: int = 1
    """Of calls: a bin with fewer has no value."""
    mod_code: str = "m"
    """Of bedMethyl: the modification, m (5mC), h (5hmC) or C (any), with its motif (m,CG,0) where there are several."""
    coordinates: str = "auto"
    """Of Bismark: one_based | zero_based; auto takes one-based sites and refuses what may be either."""
    scale: str = "fraction"
    """Of arrays: fraction (0 to 1) | percent (0 to 100)."""
    id_column: str | None = None
    """Of arrays: name of the column of probe ids; by default the first."""
    value_column: str | None = None
    """Of an array's file of one sample: name of the column of beta; by default the only column of numbers."""

    def __post_init__(self) -> None:
        for key, words in _LEGAL.items():
            legal.check_choice(key, getattr(self, key), words)
        for key, low, high in (("bin_bp", MIN_BIN_BP, MAX_BIN_BP), ("min_calls", 1, 2**31)):
            legal.check_whole(key, getattr(self, key), low, high)
        code = self.mod_code
        if not (isinstance(code, str) and code and code.isascii() and code.isprintable() and " " not in code):
            raise InputError(
                f"mod_code: found {code!r}, expected a code of modkit such as m, h, C or m,CG,0."
            )
        for key in ("regions", "id_column", "value_column"):
            value = getattr(self, key)
            if not (value is None or isinstance(value, str)):
                raise InputError(f"{key}: found {value!r}, expected text.")


def offered(options: Options) -> tuple[str, ...]:
    """Name the blocks that these options yield."""
    return (
        ("methylation_probes",)
        if options.technology == "array"
        else ("methylation_bins", "methylation_calls")
    )


def read_object(
    stream: BinaryIO,
    source: str,
    options: Options,
    *,
    sample_id: str,
    annotation: pd.DataFrame | None = None,
) -> dict[str, SampleFeatures]:
    """Read the methylation of one sample.

    Parameters: ``stream`` a bedMethyl or a Bismark coverage file, gzipped or not; of arrays a table of probes and
    beta (text with or without a header, gzipped or not, or Parquet). ``annotation`` places the probes of an array.
    Returns the blocks named by ``offered``. Raises InputError.
    """
    if options.technology == "array":
        from oncoarena.assays.methylation_probes import read_probes

        return read_probes(stream, source, options, annotation)
    from oncoarena.assays.methylation_calls import read_calls

    if not options.regions:
        return read_calls(stream, source, options)
    from oncoarena import store

    with store.open_input(options.regions) as regions:
        return read_calls(stream, source, options, regions)


def read_matrix(
    stream: BinaryIO,
    source: str,
    sample_ids: Sequence[str],
    options: Options,
    annotation: pd.DataFrame | None = None,
) -> dict[str, MatrixFeatures]:
    """Read the beta values of the given samples from one matrix of an array, probes x samples.

    Parameters: ``stream`` text (gzipped or not) or Parquet; ``sample_ids`` (n_samples,) unique. Returns the block
    ``methylation_probes``: values (n_samples, n_probes), probes in the order of the file. Raises InputError.
    """
    if options.technology != "array":
        raise InputError(
            f"{source}: a matrix of the cohort holds beta values by probe; set technology: array, or give one "
            "bedMethyl or Bismark file a sample (column in place of matrix)"
        )
    from oncoarena.assays.methylation_probes import read_probe_matrix

    return read_probe_matrix(stream, source, sample_ids, options, annotation)
