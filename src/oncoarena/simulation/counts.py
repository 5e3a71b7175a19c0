"""Counts of reads: RNA-seq by gene as the GDC gives them, methylation calls by CpG site as modkit does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from oncoarena.simulation.landscape import Landscape
from oncoarena.simulation.writing import write_text_table

REGION_BP = 5_000_000
"""Width of what shares a methylation level, of the order of partially methylated domains (Lister 2009,
doi:10.1038/nature08514)."""
_SITES_A_REGION = 30
_STAR_COLUMNS = ("unstranded", "stranded_first", "stranded_second")


@dataclass(frozen=True, eq=False)
class Transcriptome:
    """The genes of a cohort, in genome order; arrays are (n_genes,)."""

    genes: pd.DataFrame
    """id, chrom, start, end (0-based half-open), gene."""
    length_bp: np.ndarray
    baseline: np.ndarray
    """log2 of typical TPM."""
    scale: np.ndarray
    """log2 for a unit of a profile."""


@dataclass(frozen=True, eq=False)
class Methylome:
    """The CpG sites of a cohort, in genome order; arrays are (n_sites,)."""

    chrom: np.ndarray
    """Names."""
    start: np.ndarray
    region: np.ndarray
    """Codes of the regions of ``REGION_BP`` that share a methylation level."""
    region_chrom: np.ndarray
    """(n_regions,) names."""
    baseline: np.ndarray
    """log odds of methylation."""


def draw_transcriptome(rng: np.random.Generator, genome: Landscape, n_genes: int) -> Transcriptome:
    """Place genes on chr1 to chrX and draw how strongly they are expressed."""
    usable = np.flatnonzero(genome.sequenced & (genome.chrom < genome.chromosomes.index("chrY")))
    bins = np.sort(rng.choice(usable, n_genes, replace=n_genes > len(usable)))
    start = genome.start[bins] + rng.integers(0, 60_000, n_genes)
    order = np.lexsort([start, genome.chrom[bins]])
    numbers = rng.permutation(n_genes) + 1
    genes = pd.DataFrame(
        {
            # Of no annotation: real ids begin with ENSG0.
            "id": [f"ENSG9{number:010d}" for number in numbers],
            "chrom": np.array(genome.chromosomes)[genome.chrom[bins]][order],
            "start": start[order],
            "end": (start + rng.integers(2_000, 40_000, n_genes))[order],
            "gene": [f"SIM{number}" for number in numbers],
        }
    )
    return Transcriptome(
        genes,
        length_bp=np.round(np.exp(rng.normal(7.6, 0.6, n_genes))).astype(np.int64),
        baseline=rng.normal(4.5, 2.0, n_genes),
        scale=rng.uniform(0.5, 1.0, n_genes),
    )


def write_star_counts(
    path: Path, rng: np.random.Generator, transcriptome: Transcriptome, profile: np.ndarray, n_reads: int
) -> None:
    """Write one sample's counts in the format of the GDC (STAR, augmented), genes in the order of their ids.

    Parameters: ``profile`` (n_genes,) in units of the genes' ``scale``; ``n_reads`` is expected in all genes.
    Source: https://docs.gdc.cancer.gov/Data/Bioinformatics_Pipelines/Expression_mRNA_Pipeline/.
    """
    length_kb = transcriptome.length_bp / 1000
    expected = np.exp2(transcriptome.baseline + transcriptome.scale * profile) * length_kb
    depth = n_reads * np.exp(rng.normal(0, 0.3))
    counts = rng.poisson(expected * depth / expected.sum())
    first = rng.binomial(counts, 0.5)
    order = np.argsort(transcriptome.genes["id"].to_numpy(), kind="stable")
    rate = counts / length_kb
    per_million = counts.sum() / 1e6
    upper = np.quantile(counts[counts > 0], 0.75) if counts.any() else 1.0
    units = {
        "tpm_unstranded": rate * (1e6 / max(rate.sum(), 1e-9)),
        "fpkm_unstranded": rate / max(per_million, 1e-9),
        "fpkm_uq_unstranded": rate * 1e3 / upper,
    }
    n_lost = rng.poisson(depth * np.array([0.04, 0.06, 0.05, 0.02]))
    names = ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")
    header = ("gene_id", "gene_name", "gene_type", *_STAR_COLUMNS, *units)
    lines = ["# gene-model: simulated", "\t".join(header)]
    lines += [
        "\t".join([name, "", "", *[str(n)] * 3, "", "", ""]) for name, n in zip(names, n_lost, strict=True)
    ]
    table = {
        "gene_id": [f"{name}.1" for name in transcriptome.genes["id"].to_numpy()[order]],
        "gene_name": transcriptome.genes["gene"].to_numpy()[order],
        "gene_type": ["protein_coding"] * len(order),
        **dict(zip(_STAR_COLUMNS, (counts[order], first[order], (counts - first)[order]), strict=True)),
        **{name: np.round(values[order], 4) for name, values in units.items()},
    }
    write_text_table(path, pa.table(table), "\n".join(lines) + "\n", header=False)


def draw_methylome(rng: np.random.Generator, genome: Landscape) -> Methylome:
    """Place CpG sites on all chromosomes, some in every region, mostly methylated."""
    usable = genome.sequenced
    keys = genome.chrom * 1000 + genome.start // REGION_BP
    kept, region = np.unique(keys[usable], return_inverse=True)
    bins = np.flatnonzero(usable)
    chosen = np.sort(rng.integers(0, len(bins), len(kept) * _SITES_A_REGION))
    start = genome.start[bins[chosen]] + rng.integers(0, 99_000, len(chosen))
    order = np.lexsort([start, genome.chrom[bins[chosen]]])
    places = np.stack([genome.chrom[bins[chosen]], start, region[chosen]])[:, order]
    # A CpG is two bases: sites that touch would not be two.
    apart = np.append(True, (np.diff(places[0]) != 0) | (np.diff(places[1]) > 1))
    chrom, start, region = places[:, apart]
    names = np.array(genome.chromosomes)
    is_island = rng.random(len(start)) < 0.2
    return Methylome(
        chrom=names[chrom],
        start=start,
        region=region,
        region_chrom=names[kept // 1000],
        baseline=np.where(is_island, rng.normal(-2.2, 0.5, len(start)), rng.normal(1.2, 0.5, len(start))),
    )


def write_bedmethyl(
    path: Path, rng: np.random.Generator, methylome: Methylome, profile: np.ndarray, calls: float, sex: str
) -> None:
    """Write one sample's 5mC calls as bedMethyl, gzipped.

    Parameters: ``profile`` (n_regions,) moves the log odds of all sites of a region, a half for each unit; ``calls``
    of a site of two copies, on average; ``sex`` F or M decides how many X and Y have.
    Source: https://nanoporetech.github.io/modkit/intro_pileup.html (18 columns).
    """
    odds = methylome.baseline + 0.5 * profile[methylome.region]
    copies = np.where(methylome.chrom == "chrX", 2 if sex == "F" else 1, 2)
    copies = np.where(methylome.chrom == "chrY", 0 if sex == "F" else 1, copies)
    n_valid = rng.poisson(calls * copies / 2)
    n_modified = rng.binomial(n_valid, 1 / (1 + np.exp(-odds)))
    seen = n_valid > 0
    start, n_valid, n_modified = methylome.start[seen], n_valid[seen], n_modified[seen]
    n = len(start)
    zero = np.zeros(n, dtype=np.int64)
    table = {
        "chrom": methylome.chrom[seen],
        "start": start,
        "end": start + 1,
        "code": ["m"] * n,
        "score": n_valid,
        "strand": ["."] * n,
        "start_again": start,
        "end_again": start + 1,
        "colour": ["255,0,0"] * n,
        "n_valid": n_valid,
        "percent": [f"{share:.2f}" for share in 100 * n_modified / n_valid],
        "n_modified": n_modified,
        "n_canonical": n_valid - n_modified,
        "n_other": zero,
        "n_delete": zero,
        "n_fail": rng.binomial(n_valid, 0.05),
        "n_different": zero,
        "n_no_call": zero,
    }
    write_text_table(path, pa.table(table), header=False, level=1)
