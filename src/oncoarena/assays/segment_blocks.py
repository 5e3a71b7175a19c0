"""Segments averaged over bins and chromosome arms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from oncoarena.assays import MatrixFeatures, SampleFeatures
from oncoarena.assays.segment_tables import Segments
from oncoarena.cohort import feature_table
from oncoarena.errors import BadObject
from oncoarena.genomes import AUTOSOMES, bins, genome

COPY_FLOOR = 0.25
"""Copies that a lost segment counts as, since log2 of 0 is no number: -3 in a diploid tumour, one copy being -1."""

ALTERED_LOG2 = 0.2
"""A segment beyond this is altered: fraction of genome altered of cBioPortal (https://docs.cbioportal.org/user-guide/faq/)."""

# One copy lost is -1, none is 0; a chrY that is not there is far below one copy. A hint only: tumours lose X and Y.
_ONE_X_BELOW, _Y_ABOVE = -0.5, -2.0


class SegmentGrid:
    """Where segments are averaged: bins and arms of one genome, on one line of all chromosomes."""

    def __init__(self, options: Any):
        self.options = options
        self.genome = genome(options.genome)
        sizes = self.genome.sizes
        ends = np.cumsum(list(sizes.values()))
        self.chromosome_start = dict(zip(sizes, (ends - list(sizes.values())).tolist(), strict=True))
        self.bins = bins(self.genome, options.bin_bp, options.chromosomes)
        arms = self.genome.arms
        self.arms = arms[arms["chrom"].isin(set(self.bins["chrom"]))].reset_index(drop=True)
        self.bins_on_line = self._on_line(self.bins)
        self.arms_on_line = self._on_line(self.arms)

    def _on_line(self, places: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        shift = np.array([self.chromosome_start[name] for name in places["chrom"]], dtype=np.int64)
        return places["start"].to_numpy(np.int64) + shift, places["end"].to_numpy(np.int64) + shift

    def features(self, segments: Segments, n_records: int, source: str) -> dict[str, SampleFeatures]:
        """Return the blocks of one sample, ``n_records`` being the rows of its object."""
        values, qc = self._values(segments, source)
        tables = self._tables()
        qc["n_records"] = n_records
        return {name: SampleFeatures(row, tables[name], qc) for name, row in values.items()}

    def matrices(
        self, samples: Sequence[Segments], source: str, notes: tuple[str, ...]
    ) -> dict[str, MatrixFeatures]:
        """Return the blocks of several samples, in their order."""
        found = [self._values(segments, source) for segments in samples]
        tables = self._tables()
        qc = pd.DataFrame(
            [{"sample_id": segments.name, **row} for segments, (_, row) in zip(samples, found, strict=True)]
        )
        return {
            name: MatrixFeatures(
                np.stack([values[name] for values, _ in found]),
                tables[name],
                qc,
                # What is said of the object is said once.
                notes if name == "copy_ratio" else (),
            )
            for name in found[0][0]
        }

    def _tables(self) -> dict[str, pd.DataFrame]:
        chrom, start, end = (self.bins[name].tolist() for name in ("chrom", "start", "end"))
        ids = [f"{c}:{s}-{e}" for c, s, e in zip(chrom, start, end, strict=True)]
        by_bin = feature_table(ids, chrom, start, end)
        arm = [self.arms[name].tolist() for name in ("id", "chrom", "start", "end")]
        return {"copy_ratio": by_bin, "allele_balance": by_bin, "copy_ratio_arms": feature_table(*arm)}

    def _values(
        self, segments: Segments, source: str
    ) -> tuple[dict[str, np.ndarray], dict[str, float | int | str]]:
        log2 = log2_ratios(segments, source)
        values = {
            "copy_ratio": self._averaged(segments, log2, self.bins_on_line),
            "copy_ratio_arms": self._averaged(segments, log2, self.arms_on_line),
        }
        if self.options.alleles:
            total = segments.major + segments.minor
            share = np.full(len(total), np.nan)
            some = total > 0
            share[some] = segments.minor[some] / total[some]
            values["allele_balance"] = self._averaged(segments, share, self.bins_on_line)
        return values, self._quality(segments, log2)

    def _averaged(
        self, segments: Segments, values: np.ndarray, places: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        known = ~np.isnan(values)
        shift = np.array([self.chromosome_start[name] for name in segments.chrom], dtype=np.int64)
        start, end = (segments.start + shift)[known], (segments.end + shift)[known]
        place_start, place_end = places
        mean, covered = average_segments(start, end, values[known], place_start, place_end)
        mean[covered < self.options.min_covered * (place_end - place_start)] = np.nan
        return mean.astype(np.float32)

    def _quality(self, segments: Segments, log2: np.ndarray) -> dict[str, float | int | str]:
        length = segments.end - segments.start
        on = np.array([name in AUTOSOMES for name in segments.chrom], dtype=bool)
        covered = int(length[on].sum())
        altered = int(length[on & (np.abs(log2) > ALTERED_LOG2)].sum())
        total = sum(self.genome.sizes[name] for name in AUTOSOMES)
        x, y = (_mean_log2(segments, log2, length, name) for name in ("chrX", "chrY"))
        return {
            "format": segments.format,
            "name_in_file": segments.name,
            "n_segments": len(log2),
            "n_segments_elsewhere": segments.n_elsewhere,
            "n_without_value": segments.n_without_value,
            "fraction_genome_altered": altered / covered if covered else np.nan,
            "covered_share": covered / total,
            "log2_chrx": x,
            "log2_chry": y,
            "sex_inferred": infer_sex(x, y),
        }


def average_segments(
    start: np.ndarray, end: np.ndarray, values: np.ndarray, place_start: np.ndarray, place_end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average segments over places, each base weighing the same.

    Parameters: ``start`` and ``end`` (n_segments,) of disjoint segments in any order, ``values`` (n_segments,);
    ``place_start`` and ``place_end`` (n_places,) of disjoint places, sorted; all 0-based, half-open.
    Returns the mean (n_places,) float64, NaN where nothing is covered, and the bp covered (n_places,) int64.
    """
    order = np.argsort(start)
    start, end, values = start[order], end[order], values[order]
    # Between two neighbouring points lies at most one segment and at most one place.
    points = np.unique(np.concatenate([start, end, place_start, place_end]))
    left, length = points[:-1], np.diff(points)
    segment = np.searchsorted(start, left, side="right") - 1
    place = np.searchsorted(place_start, left, side="right") - 1
    inside = (segment >= 0) & (place >= 0)
    inside[inside] = (left[inside] < end[segment[inside]]) & (left[inside] < place_end[place[inside]])
    segment, place, length = segment[inside], place[inside], length[inside]
    covered = np.zeros(len(place_start), dtype=np.int64)
    np.add.at(covered, place, length)
    total = np.bincount(place, length * values[segment], minlength=len(place_start))
    mean = np.full(len(place_start), np.nan)
    np.divide(total, covered, out=mean, where=covered > 0)
    return mean, covered


def log2_ratios(segments: Segments, source: str) -> np.ndarray:
    """Return the log2 ratio of each segment; of copies log2(copies / ploidy), at least COPY_FLOOR copies.

    Ploidy is the mean number of copies over the autosomal segments by length, so that 0 is the sample's own average.
    Raises BadObject where it cannot be told.
    """
    if segments.format != "ASCAT":
        return segments.log2
    copies = segments.major + segments.minor
    length = (segments.end - segments.start) * np.array([name in AUTOSOMES for name in segments.chrom])
    ploidy = float((copies * length).sum() / length.sum()) if length.any() else 0.0
    if not ploidy > 0:
        raise BadObject(
            f"{source}: the ploidy of {segments.name!r} cannot be told: no copy on any autosome; give all its segments"
        )
    return np.log2(np.maximum(copies, COPY_FLOOR) / ploidy)


def infer_sex(log2_chrx: float, log2_chry: float) -> str:
    """Infer the sex from mean log2 ratios of the sex chromosomes (NaN where not covered); "" where they do not say.

    An X as the autosomes are says nothing alone: so is that of a man against a normal of the same sex.
    """
    if log2_chry > _Y_ABOVE or log2_chrx < _ONE_X_BELOW:
        return "male"
    return "female" if log2_chrx >= _ONE_X_BELOW and not np.isnan(log2_chry) else ""


def _mean_log2(segments: Segments, log2: np.ndarray, length: np.ndarray, chrom: str) -> float:
    on = segments.chrom == chrom
    return float(np.average(log2[on], weights=length[on])) if on.any() else np.nan
