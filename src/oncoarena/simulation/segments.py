"""Copy-number segments of a tumour as SEG: arms gained and lost, a few focal changes, an unknown purity."""

import numpy as np
import pandas as pd

from oncoarena.simulation.landscape import Landscape

ACROCENTRIC = ("13p", "14p", "15p", "21p", "22p")
ARM_THRESHOLD = 1.0
"""Of a profile: an arm above it is gained, one below its negative is lost."""

_NOISE_LOG2 = 0.04
_N_FOCAL = 8
_PROBE_BP = 3_000
_MIN_SEGMENT_BP = 100_000


def autosomal_arms(genome: Landscape) -> np.ndarray:
    """Return the (39,) codes of arms that copy-number profiles are made of."""
    names = np.array(genome.arms)
    known = ~np.isin(names, ACROCENTRIC) & ~np.char.startswith(names, "X") & ~np.char.startswith(names, "Y")
    return np.flatnonzero(known)


def draw_segments(
    rng: np.random.Generator, genome: Landscape, sample_id: str, profile: np.ndarray, sex: str
) -> pd.DataFrame:
    """Draw the segments of one sample: ID, chrom, loc.start and loc.end (1-based, closed), num.mark, seg.mean.

    Parameters: ``profile`` (n_arms,) of ``autosomal_arms``, in units of noise; ``sex`` F or M decides chrX.
    """
    arms = autosomal_arms(genome)
    change = np.where(profile > ARM_THRESHOLD, 1, np.where(profile < -ARM_THRESHOLD, -1, 0))
    purity = rng.uniform(0.4, 0.9)
    pieces = [
        (int(genome.start[genome.arm == arm].min()), int(genome.end[genome.arm == arm].max()), arm, 2 + step)
        for arm, step in zip(arms, change, strict=True)
    ]
    for _ in range(rng.poisson(_N_FOCAL)):
        pieces = _cut(rng, pieces, int(rng.integers(len(pieces))))
    on_x = [code for code, name in enumerate(genome.arms) if name.startswith("X")]
    pieces += [
        (int(genome.start[genome.arm == arm].min()), int(genome.end[genome.arm == arm].max()), arm, 2)
        for arm in on_x
    ]
    normal = np.array([1 if sex == "M" and piece[2] in on_x else 2 for piece in pieces])
    copies = np.array([piece[3] for piece in pieces]) - 2 + normal
    ratio = (purity * np.maximum(copies, 0) + (1 - purity) * normal) / 2
    start, end, arm = (np.array([piece[column] for piece in pieces]) for column in range(3))
    first_bin = np.searchsorted(genome.arm, arm)
    return pd.DataFrame(
        {
            "ID": sample_id,
            "chrom": np.array(genome.chromosomes)[genome.chrom[first_bin]],
            "loc.start": start + 1,
            "loc.end": end,
            "num.mark": np.maximum((end - start) // _PROBE_BP, 1),
            "seg.mean": np.round(np.log2(ratio) + rng.normal(0, _NOISE_LOG2, len(ratio)), 4),
        }
    )


def _cut(rng: np.random.Generator, pieces: list, chosen: int) -> list:
    """Cut a short focal gain or loss out of a segment; leave a segment that is too short as it is."""
    start, end, arm, copies = pieces[chosen]
    length = int(rng.integers(500_000, 5_000_000))
    room = end - start - length - 2 * _MIN_SEGMENT_BP
    if room <= 0:
        return pieces
    first = start + _MIN_SEGMENT_BP + int(rng.integers(room))
    last = first + length
    focal = max(copies + int(rng.choice([-1, 1, 2])), 0)
    parts = [(start, first, arm, copies), (first, last, arm, focal), (last, end, arm, copies)]
    return pieces[:chosen] + parts + pieces[chosen + 1 :]
