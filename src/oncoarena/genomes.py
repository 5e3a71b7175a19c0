"""Human reference genomes: chromosome sizes, arms, centromeres and assembly gaps of hg19, hg38 and T2T-CHM13v2."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from types import MappingProxyType

import numpy as np
import pandas as pd

from oncoarena.errors import InputError

AUTOSOMES = tuple(f"chr{number}" for number in range(1, 23))
CHROMOSOMES = (*AUTOSOMES, "chrX", "chrY")
GENOMES = ("hg19", "hg38", "t2t")
CHROMOSOME_SETS = {"autosomes": AUTOSOMES, "all": CHROMOSOMES}
_CANONICAL = {name.removeprefix("chr").lower(): name for name in CHROMOSOMES}


@dataclass(frozen=True, eq=False)
class Genome:
    """A reference genome; coordinates are 0-based and half-open, in bp, names with "chr".

    ``sizes`` is bp by chromosome, chr1 to chr22, chrX, chrY. The tables have the columns chrom, start, end:
    ``arms`` (48 rows) also ``arm`` ("p", "q") and ``id`` ("chr1p"); ``centromeres`` (24 rows); ``gaps`` also ``kind``.
    """

    name: str
    sizes: Mapping[str, int]
    arms: pd.DataFrame
    centromeres: pd.DataFrame
    gaps: pd.DataFrame


def genome(name: str) -> Genome:
    """Return a genome by name: hg19 (GRCh37), hg38 (GRCh38) or t2t (T2T-CHM13v2.0, hs1).

    The tables are copies: a caller may change them. Raises InputError for another name.
    Source: UCSC Genome Browser, tables chrom.sizes, cytoBand and gap, as the files in genome_data say.
    """
    if name not in GENOMES:
        raise InputError(f"genome: found {name!r}, expected one of {', '.join(GENOMES)}.")
    found = _read(name)
    return replace(
        found, arms=found.arms.copy(), centromeres=found.centromeres.copy(), gaps=found.gaps.copy()
    )


@functools.cache
def _read(name: str) -> Genome:
    with (files("oncoarena") / "genome_data" / f"{name}.tsv").open(encoding="utf-8") as text:
        table = pd.read_csv(text, sep="\t", comment="#")

    def of_kind(pattern: str) -> pd.DataFrame:
        return table[table["kind"].str.fullmatch(pattern)].reset_index(drop=True)

    chromosomes = of_kind("chromosome")
    arms = of_kind("[pq]_arm")
    arms["arm"] = arms.pop("kind").str[0]
    arms["id"] = arms["chrom"] + arms["arm"]
    gaps = of_kind("gap_.*")
    gaps["kind"] = gaps["kind"].str.removeprefix("gap_")
    return Genome(
        name=name,
        sizes=MappingProxyType(dict(zip(chromosomes["chrom"], chromosomes["end"].tolist(), strict=True))),
        arms=arms,
        centromeres=of_kind("centromere").drop(columns="kind"),
        gaps=gaps,
    )


def canonical_chromosome(name: str) -> str | None:
    """Return a chromosome's name with "chr", of "1", "chr1", "X" and the like; None for any other contig."""
    lower = name.lower()
    return _CANONICAL.get(lower.removeprefix("chr"))


def chromosome_names(chromosomes: str) -> tuple[str, ...]:
    """Return the names of ``autosomes`` or ``all``. Raises InputError for another word."""
    if chromosomes not in CHROMOSOME_SETS:
        raise InputError(f"chromosomes: found {chromosomes!r}, expected one of {', '.join(CHROMOSOME_SETS)}.")
    return CHROMOSOME_SETS[chromosomes]


def bins(genome: Genome, bin_bp: int, chromosomes: str = "autosomes") -> pd.DataFrame:
    """Cut chromosomes into bins of equal width, each beginning at its chromosome's position 0.

    Parameters: ``bin_bp`` width in bp; ``chromosomes`` autosomes | all.
    Returns chrom, start, end, a row a bin in the order of the genome; the last bin of a chromosome is shorter.
    Raises InputError for a width below 1.
    """
    if bin_bp < 1:
        raise InputError(f"width of bins: found {bin_bp} bp, expected at least 1.")
    names = chromosome_names(chromosomes)
    sizes = np.array([genome.sizes[name] for name in names], dtype=np.int64)
    n_bins = -(-sizes // bin_bp)
    first = np.repeat(np.cumsum(n_bins) - n_bins, n_bins)
    start = (np.arange(n_bins.sum()) - first) * bin_bp
    end = np.minimum(start + bin_bp, np.repeat(sizes, n_bins))
    return pd.DataFrame(
        {"chrom": np.repeat(np.array(names, dtype=object), n_bins), "start": start, "end": end}
    )


def matching_genomes(sizes: Mapping[str, int]) -> list[str]:
    """Name the genomes whose chromosomes have the given sizes.

    Parameters: ``sizes`` bp by contig name, with or without "chr"; contigs that are no chromosome are ignored.
    Returns names of GENOMES; none where no contig is a chromosome.
    """
    known = {canonical_chromosome(name): n_bp for name, n_bp in sizes.items()}
    known.pop(None, None)
    return [
        name
        for name in GENOMES
        if known and all(genome(name).sizes[chromosome] == n_bp for chromosome, n_bp in known.items())
    ]
