"""Bins of a genome, flat over its chromosomes, and the intervals of it that are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oncoarena.errors import InputError


@dataclass(frozen=True, eq=False)
class BinLayout:
    """Where fragments are counted: chromosomes cut into bins, each beginning at its chromosome's position 0.

    The bins of chromosome c are ``coverage_offsets[c]`` to ``coverage_offsets[c + 1]`` of a flat array (the last
    bin may be shorter), the same for the ratio bins; its excluded intervals (0-based, half-open, sorted,
    disjoint) are ``excluded_offsets[c]`` to ``excluded_offsets[c + 1]`` of ``excluded_start`` and ``excluded_end``.
    All arrays are int64; offsets are (n_chromosomes + 1,).
    """

    chromosomes: tuple[str, ...]
    sizes: np.ndarray
    coverage_bp: int
    ratio_bp: int
    coverage_offsets: np.ndarray
    ratio_offsets: np.ndarray
    excluded_start: np.ndarray
    excluded_end: np.ndarray
    excluded_offsets: np.ndarray

    @property
    def n_coverage_bins(self) -> int:
        return int(self.coverage_offsets[-1])

    @property
    def n_ratio_bins(self) -> int:
        return int(self.ratio_offsets[-1])


def lay_out_bins(
    sizes: Mapping[str, int],
    *,
    coverage_bp: int = 100_000,
    ratio_bp: int = 5_000_000,
    excluded: Mapping[str, Sequence[tuple[int, int]]] | None = None,
) -> BinLayout:
    """Lay out bins over chromosomes.

    Parameters: ``sizes`` length in bp by chromosome, in the order of the bins; ``coverage_bp`` and ``ratio_bp``
    widths of bins; ``excluded`` intervals (start, end) by chromosome, in any order, that may overlap; those of
    chromosomes not in ``sizes`` are ignored.
    Raises InputError for a width or an interval that makes no sense.
    """
    for name, width in (("coverage_bp", coverage_bp), ("ratio_bp", ratio_bp)):
        if width < 1:
            raise InputError(f"{name} is {width}: expected at least 1 bp")
    lengths = np.array(list(sizes.values()), dtype=np.int64)
    merged = [_merge_intervals(name, (excluded or {}).get(name, ())) for name in sizes]
    intervals = np.concatenate([np.empty((0, 2), np.int64), *merged])
    return BinLayout(
        chromosomes=tuple(sizes),
        sizes=lengths,
        coverage_bp=int(coverage_bp),
        ratio_bp=int(ratio_bp),
        coverage_offsets=_offsets(-(-lengths // coverage_bp)),
        ratio_offsets=_offsets(-(-lengths // ratio_bp)),
        excluded_start=intervals[:, 0].copy(),
        excluded_end=intervals[:, 1].copy(),
        excluded_offsets=_offsets([len(intervals) for intervals in merged]),
    )


def _offsets(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _merge_intervals(chromosome: str, intervals: Sequence[tuple[int, int]]) -> np.ndarray:
    merged: list[list[int]] = []
    for start, end in sorted((int(start), int(end)) for start, end in intervals):
        if not 0 <= start <= end:
            raise InputError(f"excluded interval {chromosome}:{start}-{end}: expected 0 <= start <= end")
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        elif start < end:
            merged.append([start, end])
    return np.array(merged, dtype=np.int64).reshape(-1, 2)
