"""Draw cell-free DNA fragments of one library, window by window along the genome.

All tables here are synthetic, shaped after what is known: lengths pile up around one nucleosome (167 bp) and two,
with shoulders every 10 bp below (Snyder 2016, doi:10.1016/j.cell.2015.11.050); fragments of a tumour are shorter
(Mouliere 2018, doi:10.1126/scitranslmed.aat4921); fragment ends prefer CC, those of a tumour less (Jiang 2020,
doi:10.1158/2159-8290.CD-19-0622).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from oncoarena.simulation.landscape import MEAN_GC, Landscape

MIN_FRAGMENT_BP, MAX_FRAGMENT_BP = 60, 600
GC_LEVELS = 128
WINDOW_FRAGMENTS = 1 << 16
"""Fragments drawn at once, about: memory stays the same whatever the size of the library."""

_TABLE = 1 << 16


@dataclass(frozen=True, eq=False)
class Library:
    """What decides the fragments of one sample; arrays are (n_bins,) over the landscape's bins."""

    healthy_copies: np.ndarray
    tumour_copies: np.ndarray
    tumour_fraction: float
    """Share of the genomes in plasma, where both have two copies, that come from the tumour."""
    gc_slope: float
    """Log of coverage for each unit of GC content."""
    healthy_short: np.ndarray
    """Share of fragments of the short kind among those from healthy cells."""
    tumour_short: np.ndarray
    """The same among those from the tumour."""


@dataclass(frozen=True)
class Damage:
    """Shares of fragments that a reader must know how to leave out."""

    duplicate: float = 0.06
    low_mapq: float = 0.05
    half_mapped: float = 0.01
    """Pairs of which one read has no place."""
    unmapped: float = 0.01
    """Pairs without any place, at the end of the file."""
    qc_fail: float = 0.003
    secondary: float = 0.005
    """Further records, half of them secondary and half supplementary, of reads that have a place."""


@dataclass(frozen=True, eq=False)
class Fragments:
    """Fragments of one window, sorted by start; arrays are (n,)."""

    chrom: int
    window_end: int
    """Where the next window begins, bp: later reads than this may still come before its own."""
    start: np.ndarray
    end: np.ndarray
    motif: np.ndarray
    """(n, 2) uint8: 4-mers at the 5' ends, of the forward and of the reverse strand; AAAA is 0, TTTT is 255."""
    gc_level: np.ndarray
    """GC content of the place, in units of 1 / ``GC_LEVELS``."""
    original: np.ndarray
    """The row of which a row is a copy; its own where it is not a duplicate."""
    mapq: np.ndarray
    """(n, 2) uint8 of the left and of the right read."""
    half_mapped: np.ndarray
    qc_fail: np.ndarray
    forward_first: np.ndarray
    """Whether the forward read is the first of the pair."""

    @property
    def duplicate(self) -> np.ndarray:
        return self.original != np.arange(len(self.original))


def draw_fragments(
    rng: np.random.Generator,
    genome: Landscape,
    library: Library,
    n_fragments: int,
    damage: Damage,
    window_fragments: int = WINDOW_FRAGMENTS,
) -> Iterator[Fragments]:
    """Draw ``n_fragments`` fragments that have a place, in windows of neighbouring bins, in genome order."""
    healthy = (1 - library.tumour_fraction) * library.healthy_copies
    tumour = library.tumour_fraction * library.tumour_copies
    copies = healthy + tumour
    span = (genome.end - genome.start) * genome.sequenced
    weight = span * copies * np.exp(library.gc_slope * (genome.gc - MEAN_GC))
    counts = rng.multinomial(n_fragments, weight / weight.sum())
    share = np.divide(tumour, copies, out=np.zeros(len(copies)), where=copies > 0)
    levels = np.round(genome.gc * GC_LEVELS).astype(np.uint8)
    for first, last in _windows(genome.chrom, counts, window_fragments):
        bins = np.repeat(np.arange(first, last), counts[first:last])
        yield _draw_window(rng, genome, library, damage, share, levels, bins, last)


def _windows(chrom: np.ndarray, counts: np.ndarray, window_fragments: int) -> Iterator[tuple[int, int]]:
    """Cut bins into runs within a chromosome that hold about ``window_fragments``; a bin is never cut."""
    edges = np.flatnonzero(np.diff(chrom, prepend=-1, append=-1))
    total = np.concatenate([[0], np.cumsum(counts)])
    for first, last in itertools.pairwise(edges):
        n_parts = max(1, -(-int(total[last] - total[first]) // window_fragments))
        goals = total[first] + (total[last] - total[first]) * np.arange(1, n_parts) // n_parts
        cuts = np.unique(np.concatenate([[first], np.searchsorted(total, goals), [last]]))
        yield from itertools.pairwise(cuts.tolist())


def _draw_window(
    rng: np.random.Generator,
    genome: Landscape,
    library: Library,
    damage: Damage,
    share: np.ndarray,
    levels: np.ndarray,
    bins: np.ndarray,
    last: int,
) -> Fragments:
    n = len(bins)
    # Starts are sorted within their bins; bins come in order and starts do not leave them.
    start = genome.start[bins] + (rng.random(n) * (genome.end[bins] - genome.start[bins])).astype(np.int64)
    start.sort()
    is_tumour = rng.random(n) < share[bins]
    short = rng.random(n) < np.where(is_tumour, library.tumour_short[bins], library.healthy_short[bins])
    length = length_table()[short.view(np.uint8), _words(rng, n)]
    motif = np.stack([motif_table()[is_tumour.view(np.uint8), _words(rng, n)] for _ in range(2)], axis=1)

    copied = rng.random(n) < damage.duplicate
    original = np.arange(n)
    if n:
        copied[0] = False
        original = np.maximum.accumulate(np.where(copied, 0, original))
    start, length, motif = start[original], length[original], motif[original]
    mapq = np.full((n, 2), 60, dtype=np.uint8)
    low = rng.random(n) < damage.low_mapq
    mapq[low] = rng.integers(0, 30, (int(low.sum()), 1))
    # Now and then only one of the two reads is hard to place.
    one = np.flatnonzero(rng.random(n) < damage.low_mapq / 5)
    mapq[one, rng.integers(0, 2, len(one))] = 5
    return Fragments(
        chrom=int(genome.chrom[last - 1]),
        window_end=int(genome.end[last - 1]),
        start=start,
        end=start + length,
        motif=motif,
        gc_level=levels[bins][original],
        original=original,
        mapq=mapq,
        half_mapped=(rng.random(n) < damage.half_mapped) & ~copied,
        qc_fail=rng.random(n) < damage.qc_fail,
        forward_first=(rng.random(n) < 0.5)[original],
    )


def _words(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, _TABLE, n, dtype=np.uint16)


@cache
def length_table() -> np.ndarray:
    """Return (2, 65536) int64 quantiles of the fragment length, bp: of the usual kind and of the short one."""
    return np.stack([_quantiles(shares) for shares in length_shares()]) + MIN_FRAGMENT_BP


def length_shares() -> np.ndarray:
    """Return (2, n_lengths) shares of lengths from ``MIN_FRAGMENT_BP`` to ``MAX_FRAGMENT_BP``: usual, short."""
    length = np.arange(MIN_FRAGMENT_BP, MAX_FRAGMENT_BP + 1)

    def bell(mode: float, below: float, above: float) -> np.ndarray:
        shape = np.exp(-0.5 * ((length - mode) / np.where(length < mode, below, above)) ** 2)
        return shape / shape.sum()

    # Nucleases cut where the helix faces outward: once a turn.
    turns = np.where(length < 167, 0.82 + 0.18 * np.cos(2 * np.pi * (length - 167) / 10.4), 1)
    usual = turns * (0.9 * bell(167, 15, 13) + 0.08 * bell(330, 30, 28) + 0.02 * bell(200, 60, 90))
    short = turns * (0.93 * bell(143, 16, 17) + 0.05 * bell(300, 30, 30) + 0.02 * bell(200, 60, 90))
    return np.stack([usual / usual.sum(), short / short.sum()])


@cache
def motif_table() -> np.ndarray:
    """Return (2, 65536) uint8 quantiles of the 4-mer at fragment ends: of healthy cells and of a tumour."""
    return np.stack([_quantiles(shares) for shares in motif_shares()]).astype(np.uint8)


def motif_shares() -> np.ndarray:
    """Return (2, 256) shares of 4-mers (AAAA first, TTTT last) at fragment ends: healthy cells, tumour."""
    # Preferences of A, C, G, T at the four places; a tumour's are nearer to none.
    healthy = np.array([[22, 40, 20, 18], [21, 38, 18, 23], [28, 27, 19, 26], [32, 22, 19, 27]]) / 100
    tumour = 0.55 * healthy + 0.45 * np.array([27, 22, 24, 27]) / 100
    own = np.exp(np.random.default_rng(256).normal(0, 0.25, 256))
    shares = [np.einsum("a,b,c,d->abcd", *places).ravel() * own for places in (healthy, tumour)]
    return np.stack([values / values.sum() for values in shares])


def _quantiles(shares: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.cumsum(shares), (np.arange(_TABLE) + 0.5) / _TABLE).clip(max=len(shares) - 1)
