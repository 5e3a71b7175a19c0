"""The simulated genome: hg38's chromosomes, arms and gaps, with a GC content that is drawn once and for all."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from oncoarena.genomes import bins, genome

BIN_BP = 100_000
MEAN_GC = 0.41
"""Of the human genome (International Human Genome Sequencing Consortium 2001, doi:10.1038/35057062)."""

_SEED = 38
_ISOCHORE_SD, _ISOCHORE_MEMORY, _LOCAL_SD = 0.04, 0.92, 0.012
_COMPARTMENT_BINS = 25


@dataclass(frozen=True, eq=False)
class Landscape:
    """Bins of ``BIN_BP`` in genome order, the last of each chromosome shorter."""

    chromosomes: tuple[str, ...]
    sizes: np.ndarray
    """(n_chromosomes,) int64, bp."""
    arms: tuple[str, ...]
    """Names such as 8q, in genome order."""
    chrom: np.ndarray
    """(n_bins,) codes into ``chromosomes``."""
    arm: np.ndarray
    """(n_bins,) codes into ``arms``, by the bin's middle."""
    start: np.ndarray
    """(n_bins,) int64, bp."""
    end: np.ndarray
    """(n_bins,) int64, bp."""
    gc: np.ndarray
    """(n_bins,) share of G and C among the bases."""
    compartment: np.ndarray
    """(n_bins,) smooth, mean 0 and standard deviation 1: where chromatin is open."""
    sequenced: np.ndarray
    """(n_bins,) bool: no gap of the assembly reaches into the bin."""


@cache
def landscape() -> Landscape:
    """Lay out hg38 in bins. GC content and compartments are synthetic, but the same for every cohort."""
    assembly = genome("hg38")
    chromosomes = tuple(assembly.sizes)
    sizes = np.array([assembly.sizes[name] for name in chromosomes], dtype=np.int64)
    table = bins(assembly, BIN_BP, "all")
    chrom = table["chrom"].map(chromosomes.index).to_numpy()
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    middle = (start + end) // 2
    arm = np.zeros(len(start), dtype=np.int64)
    names = []
    for row in assembly.arms.itertuples():
        inside = (chrom == chromosomes.index(row.chrom)) & (row.start <= middle) & (middle < row.end)
        arm[inside] = len(names)
        names.append(row.id.removeprefix("chr"))
    sequenced = np.ones(len(start), dtype=bool)
    for row in assembly.gaps.itertuples():
        inside = (chrom == chromosomes.index(row.chrom)) & (start < row.end) & (row.start < end)
        sequenced &= ~inside
    rng = np.random.default_rng(_SEED)
    gc = MEAN_GC + _ISOCHORE_SD * _smooth(rng, len(start)) + _LOCAL_SD * rng.standard_normal(len(start))
    compartment = np.convolve(rng.standard_normal(len(start)), np.hanning(_COMPARTMENT_BINS), mode="same")
    compartment = (compartment - compartment.mean()) / compartment.std()
    return Landscape(
        chromosomes,
        sizes,
        tuple(names),
        chrom,
        arm,
        start,
        end,
        np.clip(gc, 0.3, 0.62),
        compartment,
        sequenced,
    )


def _smooth(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw an autoregressive walk of standard deviation 1: neighbours are alike over about a megabase."""
    steps = rng.standard_normal(n) * np.sqrt(1 - _ISOCHORE_MEMORY**2)
    walk = np.empty(n)
    value = rng.standard_normal()
    for row, step in enumerate(steps):
        value = _ISOCHORE_MEMORY * value + step
        walk[row] = value
    return walk
