"""Places along the genome, and what each feature gives to each of them: one order, or common bins of all blocks.

Blocks have resolutions of their own (coverage of 100 kb, fragment ratios of 5 Mb, genes anywhere). On a common grid
every bin has one channel a block, the mean of the block's features weighted by how far they overlap the bin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from oncoarena.cohort import Cohort
from oncoarena.fitting.tiles import row_tiles
from oncoarena.fitting.tracks import Track
from oncoarena.mapped import release

# A block is of regular bins where this share of its features is as long as they are apart.
REGULAR_SHARE = 0.8


@dataclass(frozen=True)
class Grid:
    """A linear map from joined features to places in a row, with one or more channels a place."""

    weights: csr_array
    """(n_places x n_channels, n_features) float32; row place x n_channels + channel."""
    bounds: np.ndarray
    """(n_chromosomes + 1,) int64: chromosome c has places bounds[c] to bounds[c + 1]."""
    n_channels: int
    bin_bp: int = 0
    """Length of a bin of the genome (bp); 0 where places are features in their order."""
    n_bins: int = 0
    """The first so many places are bins of the genome."""

    @property
    def n_places(self) -> int:
        return int(self.bounds[-1])

    def combine(self, x: np.ndarray) -> np.ndarray:
        """Bring samples (n_samples, n_features) onto the grid: (n_samples, n_places, n_channels) float32."""
        combined = self.weights @ np.ascontiguousarray(x.T)
        return np.ascontiguousarray(combined.T).reshape(len(x), self.n_places, self.n_channels)

    def spread(self, gradient: np.ndarray) -> np.ndarray:
        """Turn a gradient by places (n_samples, n_places, n_channels) into one by features: the transpose."""
        return (self.weights.T @ np.ascontiguousarray(gradient.reshape(len(gradient), -1).T)).T

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``from_arrays`` needs, as arrays for an .npz file."""
        of_weights = {name: getattr(self.weights, name) for name in ("data", "indices", "indptr", "shape")}
        others = ("bounds", "n_channels", "bin_bp", "n_bins")
        return of_weights | {name: np.asarray(getattr(self, name)) for name in others}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild a grid from ``to_arrays``."""
        of_weights = tuple(arrays[name] for name in ("data", "indices", "indptr"))
        weights = csr_array(of_weights, shape=tuple(arrays["shape"]))
        numbers = (int(arrays[name]) for name in ("n_channels", "bin_bp", "n_bins"))
        return cls(weights, arrays["bounds"], *numbers)


def grid_of_features(track: Track) -> Grid:
    """Return the grid in which every feature, in its order, is a place."""
    n_features = len(track.order)
    ones = np.ones(n_features, dtype=np.float32)
    weights = csr_array((ones, track.order, np.arange(n_features + 1)), shape=(n_features, n_features))
    return Grid(weights, track.bounds, 1)


def fit_grid(
    cohort: Cohort, slices: Mapping[str, slice], track: Track, placed: Sequence[str], max_bins: int
) -> Grid:
    """Cut the track into some ``max_bins`` bins at most.

    With two ``placed`` blocks or more there are bins of the genome, then those of the other blocks in their order, and
    one channel a block; bins that no placed block says anything of are left out. Otherwise features of the track are
    averaged by neighbours, in one channel.

    Parameters: ``slices`` the columns of each block among the joined features; ``placed`` the blocks that meet on the
    genome, which have coordinates.
    Returns a grid whose channels have values of about 1 where a joined view has unit trace.
    """
    n_features = len(track.order)
    if len(placed) < 2:
        starts, bounds = _neighbours(track.bounds, max_bins)
        counts = np.diff(np.append(starts, n_features))
        rows, columns = np.repeat(np.arange(len(starts)), counts), track.order
        shares = np.float32(np.sqrt(n_features)) / counts.astype(np.float32)[rows]
        weights = csr_array((shares, (rows, columns)), shape=(len(starts), n_features))
        return Grid(weights, bounds, 1)

    names = list(slices)
    max_bins = max(1, max_bins // (1 if len(placed) == len(names) else 2))
    tables = {name: cohort.blocks[name].features for name in placed}
    bin_bp = common_bin_bp(list(tables.values()), max_bins)
    chromosomes = sorted(set().union(*(table["chrom"].unique() for table in tables.values())))
    overlaps = {name: _overlaps(table, chromosomes, bin_bp) for name, table in tables.items()}
    keys = np.unique(np.concatenate([key for _, key, _ in overlaps.values()]))
    # The chromosome is in the upper half of a key.
    bounds = [np.searchsorted(keys, np.arange(len(chromosomes) + 1, dtype=np.int64) << 32)]
    entries = []  # block, place, feature of the block, share
    for name, (feature, key, overlap) in overlaps.items():
        place = np.searchsorted(keys, key)
        entries.append((name, place, feature, overlap / np.bincount(place, overlap)[place]))
    unplaced = [name for name in names if name not in placed]
    n_unplaced = sum(slices[name].stop - slices[name].start for name in unplaced)
    for name in unplaced:
        columns = slices[name]
        own = track.order[(track.order >= columns.start) & (track.order < columns.stop)] - columns.start
        n_bins = max(1, max_bins * len(own) // n_unplaced)
        starts, own_bounds = _neighbours(np.array([0, len(own)]), n_bins)
        counts = np.diff(np.append(starts, len(own)))
        place = np.repeat(np.arange(len(starts)), counts)
        entries.append((name, bounds[-1][-1] + place, own, 1.0 / counts[place]))
        bounds.append(bounds[-1][-1] + own_bounds[1:])
    bounds = np.concatenate(bounds)
    rows, columns, shares = [], [], []
    for name, place, feature, share in entries:
        rows.append(place * len(names) + names.index(name))
        columns.append(slices[name].start + feature)
        # A joined view shares its unit trace evenly among the blocks.
        shares.append(share * np.sqrt(len(names) * (slices[name].stop - slices[name].start)))
    coordinates = np.concatenate(rows), np.concatenate(columns)
    shape = (int(bounds[-1]) * len(names), n_features)
    weights = csr_array((np.concatenate(shares).astype(np.float32), coordinates), shape=shape)
    return Grid(weights, bounds, len(names), bin_bp, len(keys))


def fit_joint_grids(
    binned: np.ndarray, grid: Grid, channels: np.ndarray, n_sums: int
) -> list[tuple[np.ndarray, Grid]]:
    """Add up the blocks at each bin of the genome, each first scaled to the same variance over the training samples.

    The sums are the leading principal components of the blocks over samples and bins, in which no label has a part: of
    two blocks their sum and their difference, as a change may raise one block and lower the other (methylation and
    expression).

    Parameters: ``binned`` (n_samples, n_places, n_channels) one view of the training samples on ``grid``; ``channels``
    (n_blocks,) those of the blocks with coordinates; ``n_sums`` how many sums at most.
    Returns the weights (n_blocks,) of the scaled blocks, of length 1, and the grid of each sum, which has one channel.
    """
    moment = np.zeros((len(channels), len(channels)))
    for rows in row_tiles(len(binned), binned[0].size):
        own = binned[rows, : grid.n_bins][:, :, channels].reshape(-1, len(channels)).astype(np.float64)
        moment += own.T @ own
        release(binned)
    size = np.sqrt(np.diag(moment))
    per_size = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    _, vectors = np.linalg.eigh(moment * per_size * per_size[:, None])
    places = np.repeat(np.arange(grid.n_bins), len(channels))
    rows_of_grid = places * grid.n_channels + np.tile(channels, grid.n_bins)
    shape = (grid.n_bins, grid.weights.shape[0])
    bounds = grid.bounds[grid.bounds <= grid.n_bins]
    sums = []
    for vector in vectors.T[::-1][:n_sums]:
        # An eigenvector has no sign of its own: the largest weight, of equals the first, is positive.
        vector = vector * np.sign(vector[np.abs(vector).round(6).argmax()])
        factors = np.tile(vector * per_size, grid.n_bins)
        total = csr_array((factors, (places, rows_of_grid)), shape=shape)
        weights = csr_array(total @ grid.weights).astype(np.float32)
        sums.append((vector, Grid(weights, bounds, 1, grid.bin_bp, grid.n_bins)))
    return sums


def spacing_bp(table: pd.DataFrame) -> float:
    """Return how far apart the features of a block typically start (bp, median within chromosomes)."""
    ordered = table.sort_values(["chrom", "start"])
    steps = np.diff(ordered["start"].to_numpy())
    steps = steps[(ordered["chrom"].to_numpy()[1:] == ordered["chrom"].to_numpy()[:-1]) & (steps > 0)]
    return float(np.median(steps)) if len(steps) else float(np.median(_lengths(table)))


def common_bin_bp(tables: Sequence[pd.DataFrame], max_bins: int) -> int:
    """Choose the bins of several blocks: as fine as the finest block, but some ``max_bins`` at most.

    Bins are the finest regular bins of a block (else the finest spacing) times a power of two, so that regular bins are
    halved or joined as a whole where they can be.
    """
    spacings = [spacing_bp(table) for table in tables]
    regular = [
        spacing
        for spacing, table in zip(spacings, tables, strict=True)
        if (np.abs(_lengths(table) - spacing) <= 0.01 * spacing).mean() >= REGULAR_SHARE
    ]
    finest = min(spacings)
    unit = min(regular, default=finest)
    reach = pd.concat(tables).groupby("chrom").agg({"start": "min", "end": "max"})
    span = float((reach["end"] - reach["start"]).clip(lower=1).sum())
    exponent = int(np.ceil(np.log2(max(finest, span / max_bins) / unit)))
    while (
        unit * 2.0 ** (exponent - 1) >= finest and _n_bins(tables, unit * 2.0 ** (exponent - 1)) <= max_bins
    ):
        exponent -= 1
    return max(1, round(unit * 2.0**exponent))


def _lengths(table: pd.DataFrame) -> np.ndarray:
    """Lengths (bp) of features, at least 1."""
    return np.maximum(table["end"].to_numpy() - table["start"].to_numpy(), 1)


def _n_bins(tables: Sequence[pd.DataFrame], bin_bp: float) -> int:
    """Count the bins that any feature touches."""
    chromosomes = sorted(set().union(*(table["chrom"].unique() for table in tables)))
    keys = [_overlaps(table, chromosomes, max(1, round(bin_bp)))[1] for table in tables]
    return len(np.unique(np.concatenate(keys)))


def _overlaps(
    table: pd.DataFrame, chromosomes: list[str], bin_bp: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find which features lie over which bins: feature, key of the bin, overlap (bp), one entry a pair.

    The key is the chromosome's number in the upper 32 bits, that of the bin in the lower.
    """
    start = table["start"].to_numpy()
    end = start + _lengths(table)
    first, last = start // bin_bp, (end - 1) // bin_bp
    n_over = last - first + 1
    feature = np.repeat(np.arange(len(table)), n_over)
    number = first[feature] + np.arange(len(feature)) - np.repeat(np.cumsum(n_over) - n_over, n_over)
    overlap = np.minimum(end[feature], (number + 1) * bin_bp) - np.maximum(start[feature], number * bin_bp)
    chromosome = np.searchsorted(chromosomes, table["chrom"].to_numpy(dtype=str))
    return feature, (chromosome[feature].astype(np.int64) << 32) + number, overlap.astype(np.float64)


def _neighbours(bounds: np.ndarray, max_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut chromosomes into bins of neighbours, about ``max_bins`` in all: first place of each, and their bounds."""
    width = -(-int(bounds[-1]) // max_bins)
    starts = [np.arange(start, stop, width) for start, stop in pairwise(bounds)]
    return np.concatenate(starts), np.concatenate([[0], np.cumsum([len(of) for of in starts])])
