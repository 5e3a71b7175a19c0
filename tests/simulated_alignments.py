"""Simulated libraries, written once for the tests that read them with pysam."""

from pathlib import Path

import numpy as np
import pysam

from oncoarena.simulation import bam
from oncoarena.simulation.fragments import Damage, Library, draw_fragments
from oncoarena.simulation.landscape import landscape


def library(*, tumour_fraction=0.0, gc_slope=0.0, gained=(), lost=(), sex="F", short=0.18) -> Library:
    """Describe a sample with the given arms gained and lost in its tumour."""
    genome = landscape()
    copies = np.full(len(genome.start), 2.0)
    copies[genome.chrom == genome.chromosomes.index("chrX")] = 2.0 if sex == "F" else 1.0
    copies[genome.chrom == genome.chromosomes.index("chrY")] = 0.0 if sex == "F" else 1.0
    change = np.zeros(len(genome.arms))
    change[np.isin(genome.arms, gained)] = 1
    change[np.isin(genome.arms, lost)] = -1
    flat = np.full(len(copies), short)
    return Library(copies, copies + change[genome.arm], tumour_fraction, gc_slope, flat, flat + 0.37)


def write_library(path: Path, described: Library, n_fragments: int, *, seed=0, damage=None, window=1 << 14):
    """Write fragments as an indexed BAM; ten pairs without a place end it."""
    rng, genome = np.random.default_rng(seed), landscape()
    damage = damage or Damage()
    windows = draw_fragments(rng, genome, described, n_fragments, damage, window)
    with path.open("wb") as stream:
        bam.write_bgzf(stream, bam.header(genome.chromosomes, genome.sizes.tolist(), "s1"))
        for records in bam.encode_records(rng, windows, 10, damage, 50):
            bam.write_bgzf(stream, records.view(np.uint8), records.itemsize)
        stream.write(bam.BGZF_END)
    pysam.index(str(path))
    return path


def proper_fragments(path: Path) -> np.ndarray:
    """Read with pysam: rows (chromosome code, start, length) of pairs that pass the field's filters."""
    with pysam.AlignmentFile(path) as file:
        rows = [
            (read.reference_id, read.reference_start, read.template_length)
            for read in file
            if read.is_proper_pair
            and read.is_forward
            and not read.flag & (0x100 | 0x200 | 0x400 | 0x800)
            and read.mapping_quality >= 30
        ]
    return np.array(rows)
