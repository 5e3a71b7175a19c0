"""From the tally of an object of alignments to its blocks and its figures of quality."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from oncoarena.assays import SampleFeatures
from oncoarena.assays.alignment_reading import FRAGMENTS, AlignmentTally, lay_out
from oncoarena.assays.alignments import Options
from oncoarena.assays.gc_content import MIN_USABLE, correct, reference_gc, slope
from oncoarena.cohort import feature_table
from oncoarena.errors import BadObject
from oncoarena.genomes import AUTOSOMES, Genome, chromosome_names, genome
from oncoarena.kernels.bin_layout import BinLayout
from oncoarena.kernels.fragment_tally import FragmentTally, motif_names

# Their short arms are repeats that no read is placed in; Cristiano 2019 and others count 39 autosomal arms.
ACROCENTRIC = ("chr13", "chr14", "chr15", "chr21", "chr22")
# Why a record or fragment does not count, in words, for an object of which nothing counts.
_REASONS = {
    "n_low_mapq": "of too low a mapping quality (min_mapq)",
    "n_other_chromosome": "on other contigs, or with mates on two",
    "n_other_length": "too long (max_fragment_bp) or without a length",
    "n_beyond_chromosome": "beyond the end of their chromosome",
    "n_excluded_region": "in excluded regions",
}
# Sex from reads per base pair on X and Y over that of autosomes: two X give 1.0 and one gives 0.5; what is placed on Y
# without a Y stays under 0.03 at MAPQ 30, while one Y gives 0.1 to 0.5, since half of its sequence is repeats.
# Between these, and under 10,000 autosomal reads, the sex is left open.
_TWO_X, _ONE_X = 0.8, 0.7
_NO_Y, _SOME_Y = 0.05, 0.10
_MIN_READS = 10_000


def make_blocks(tally: AlignmentTally, source: str, options: Options) -> dict[str, SampleFeatures]:
    """Make all blocks of a sample; QC figures are with ``coverage``. Raises BadObject if no fragment counts."""
    counts = tally.counts
    _refuse_nothing(counts, source)
    grid = _grid(options)
    layout = lay_out(options)
    known = np.array([name in tally.chromosomes for name in layout.chromosomes])

    usable = grid.coverage_usable
    measured = (usable > 0) & known[grid.chromosome_of_coverage]
    coverage = np.where(measured, counts.coverage, np.nan)
    rate = np.full(len(usable), np.nan)
    judged = measured & (usable >= MIN_USABLE * grid.coverage_width)
    rate[judged] = counts.coverage[judged] / usable[judged]
    gc = _gc_content(counts, options)
    fitted = judged & grid.coverage_autosomal
    corrected = correct(rate, gc, fitted)

    divisible = (counts.long > 0) & (grid.ratio_usable > 0) & known[grid.chromosome_of_ratio]
    ratio = np.full(len(divisible), np.nan)
    ratio[divisible] = counts.short[divisible] / counts.long[divisible]
    n_ends = int(counts.motifs.sum())
    motifs = counts.motifs / n_ends if n_ends else np.full(len(counts.motifs), np.nan)
    values = {
        "coverage": coverage[grid.coverage_chosen],
        "coverage_gc": corrected[grid.coverage_chosen],
        "fragment_ratio": ratio[grid.ratio_chosen],
        "fragment_length": counts.lengths[1:] / counts.lengths[1:].sum(),
        "end_motif": motifs,
        "arm_coverage": _arm_shares(coverage, grid.bins_of_arms),
    }
    quality = _quality(tally, layout, genome(options.genome), slope(rate, gc, fitted))
    return {
        name: SampleFeatures(
            values[name].astype(np.float32), grid.features[name], quality if name == "coverage" else {}
        )
        for name in values
    }


@dataclass(frozen=True)
class _Grid:
    """What the blocks of all samples with the same options share: computed once in a process."""

    coverage_width: np.ndarray
    """(n_coverage_bins,) bp."""
    coverage_usable: np.ndarray
    """(n_coverage_bins,) bp that are not excluded."""
    ratio_usable: np.ndarray
    """(n_ratio_bins,) bp that are not excluded."""
    chromosome_of_coverage: np.ndarray
    """(n_coverage_bins,) index into the layout's chromosomes."""
    chromosome_of_ratio: np.ndarray
    coverage_autosomal: np.ndarray
    """(n_coverage_bins,) bool."""
    coverage_chosen: np.ndarray
    """Positions of the bins on the chromosomes that the options choose."""
    ratio_chosen: np.ndarray
    bins_of_arms: list[np.ndarray]
    """For each arm the positions of the coverage bins whose middle lies in it."""
    features: dict[str, pd.DataFrame]
    """The feature table of each block."""


@lru_cache(maxsize=4)
def _grid(options: Options) -> _Grid:
    layout = lay_out(options)
    chosen = chromosome_names(options.chromosomes)
    n_coverage, n_ratio = (
        np.diff(offsets) for offsets in (layout.coverage_offsets, layout.ratio_offsets)
    )  # bins by chromosome
    of_coverage, of_ratio = (np.repeat(np.arange(len(n)), n) for n in (n_coverage, n_ratio))
    width, usable = _widths(layout, layout.coverage_offsets, layout.coverage_bp)
    coverage_bins = _bin_table(layout, layout.coverage_offsets, layout.coverage_bp)
    ratio_bins = _bin_table(layout, layout.ratio_offsets, layout.ratio_bp)
    coverage_chosen, ratio_chosen = (
        np.flatnonzero(bins["chrom"].isin(chosen)) for bins in (coverage_bins, ratio_bins)
    )
    arms = genome(options.genome).arms
    arms = arms[arms["chrom"].isin(chosen) & ~((arms["arm"] == "p") & arms["chrom"].isin(ACROCENTRIC))]
    coverage_features = coverage_bins.iloc[coverage_chosen].reset_index(drop=True)
    return _Grid(
        coverage_width=width,
        coverage_usable=usable,
        ratio_usable=_widths(layout, layout.ratio_offsets, layout.ratio_bp)[1],
        chromosome_of_coverage=of_coverage,
        chromosome_of_ratio=of_ratio,
        coverage_autosomal=np.isin(np.array(layout.chromosomes), AUTOSOMES)[of_coverage],
        coverage_chosen=coverage_chosen,
        ratio_chosen=ratio_chosen,
        bins_of_arms=_bins_of_arms(arms, coverage_bins),
        features={
            "coverage": coverage_features,
            "coverage_gc": coverage_features,
            "fragment_ratio": ratio_bins.iloc[ratio_chosen].reset_index(drop=True),
            "fragment_length": feature_table([f"{n_bp}bp" for n_bp in range(1, options.max_fragment_bp + 1)]),
            "end_motif": feature_table(list(motif_names())),
            "arm_coverage": feature_table(*(arms[name].tolist() for name in ("id", "chrom", "start", "end"))),
        },
    )


def _refuse_nothing(counts: FragmentTally, source: str) -> None:
    numbers = counts.counts
    if numbers["n_fragments"]:
        return
    why = [f"{numbers[name]} {words}" for name, words in _REASONS.items() if numbers[name]]
    raise BadObject(
        f"{source}: none of its {numbers['n_records']} records makes a fragment that counts"
        f"{': ' + ', '.join(why) if why else ''}; expected paired reads in proper pairs (required_flags, "
        "excluded_flags) of the genome that is configured. Correct the options, or leave the sample out"
    )


def _widths(layout: BinLayout, offsets: np.ndarray, bin_bp: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the width of each bin and what of it is not excluded, bp, (n_bins,) int64 each."""
    widths, usable = [], []
    for c, size in enumerate(layout.sizes.tolist()):
        edges = np.minimum(np.arange(offsets[c + 1] - offsets[c] + 1) * bin_bp, size)
        part = slice(layout.excluded_offsets[c], layout.excluded_offsets[c + 1])
        starts, ends = layout.excluded_start[part], np.minimum(layout.excluded_end[part], size)
        # Excluded bp ahead of a place: whole intervals that begin ahead of it, less what of the last lies behind.
        before = np.concatenate([[0], np.cumsum(ends - starts)])
        n_begun = np.searchsorted(starts, edges, "left")
        overhang = np.maximum(np.append(ends, 0)[n_begun - 1] - edges, 0) * (n_begun > 0)
        widths.append(np.diff(edges))
        usable.append(np.diff(edges) - np.diff(before[n_begun] - overhang))
    return np.concatenate(widths), np.concatenate(usable)


def _bin_table(layout: BinLayout, offsets: np.ndarray, bin_bp: int) -> pd.DataFrame:
    n_bins = np.diff(offsets)
    start = (np.arange(offsets[-1]) - np.repeat(offsets[:-1], n_bins)) * bin_bp
    end = np.minimum(start + bin_bp, np.repeat(layout.sizes, n_bins))
    chrom = np.repeat(np.array(layout.chromosomes, dtype=object), n_bins).tolist()
    ids = [f"{name}:{a}-{b}" for name, a, b in zip(chrom, start.tolist(), end.tolist(), strict=True)]
    return feature_table(ids, chrom, start, end)


def _gc_content(counts: FragmentTally, options: Options) -> np.ndarray:
    if options.reference is not None:
        return reference_gc(options.reference, options.genome, options.coverage_bp)
    return np.divide(
        counts.gc_bases, counts.bases, out=np.full(len(counts.bases), np.nan), where=counts.bases > 0
    )


def _bins_of_arms(arms: pd.DataFrame, coverage_bins: pd.DataFrame) -> list[np.ndarray]:
    middle = (coverage_bins["start"] + coverage_bins["end"]) // 2
    return [
        np.flatnonzero((coverage_bins["chrom"] == chrom) & (middle >= start) & (middle < end))
        for chrom, start, end in zip(arms["chrom"], arms["start"], arms["end"], strict=True)
    ]


def _arm_shares(coverage: np.ndarray, bins_of_arms: list[np.ndarray]) -> np.ndarray:
    """Return the share of the fragments that each arm has; NaN for an arm without a measured bin."""
    sums = np.full(len(bins_of_arms), np.nan)
    for row, bins in enumerate(bins_of_arms):
        if not np.isnan(coverage[bins]).all():
            sums[row] = np.nansum(coverage[bins])
    total = np.nansum(sums)
    return sums / total if total > 0 else np.full(len(sums), np.nan)


def _quality(
    tally: AlignmentTally, layout: BinLayout, reference: Genome, gc_slope: float
) -> dict[str, float | int | str]:
    """Return the figures of quality of an object; NaN for what its format does not tell."""
    counts = tally.counts
    numbers = counts.counts
    lengths = np.arange(len(counts.lengths))
    n_reads = counts.chromosome_reads
    n_end_reads = sum(numbers[name] for name in ("n_ends", "n_clipped_ends", "n_unread_ends"))
    flagged = tally.format != FRAGMENTS

    def share(part: float, whole: float) -> float:
        return float(part / whole) if whole else float("nan")

    n_duplicates = numbers["n_duplicates"] if flagged else float("nan")
    by_name = dict(zip(layout.chromosomes, n_reads.tolist(), strict=True))
    return {
        "format": tally.format,
        "content": "reads" if flagged else "fragments",
        "n_records": numbers["n_records"],
        "n_mapped": numbers["n_mapped"],
        "n_duplicates": n_duplicates,
        "duplicate_rate": share(n_duplicates, numbers["n_mapped"]),
        "n_low_mapq": numbers["n_low_mapq"],
        "n_fragments": numbers["n_fragments"],
        "insert_mode_bp": int(counts.lengths.argmax()),
        "mean_coverage": share(float(lengths @ counts.lengths), sum(reference.sizes.values())),
        "gc_slope": gc_slope,
        "short_long_ratio": share(counts.short.sum(), counts.long.sum()),
        "clipped_end_rate": share(numbers["n_clipped_ends"], n_end_reads),
        "share_chr_y": share(by_name["chrY"], n_reads.sum()),
        "sex_inferred": _infer_sex(by_name, layout),
    }


def _infer_sex(n_reads: dict[str, int], layout: BinLayout) -> str:
    """Return XX, XY or unclear, from reads per usable bp on X and Y over those of autosomes."""
    usable = layout.sizes - np.array(
        [
            (layout.excluded_end[a:b] - layout.excluded_start[a:b]).sum()
            for a, b in zip(layout.excluded_offsets[:-1], layout.excluded_offsets[1:], strict=True)
        ]
    )
    n_bp = dict(zip(layout.chromosomes, usable.tolist(), strict=True))
    n_autosomal = sum(n_reads[name] for name in AUTOSOMES)
    autosomal_bp = sum(n_bp[name] for name in AUTOSOMES)
    if n_autosomal < _MIN_READS or min(autosomal_bp, n_bp["chrX"], n_bp["chrY"]) <= 0:
        return "unclear"
    expected = n_autosomal / autosomal_bp
    x, y = (n_reads[name] / n_bp[name] / expected for name in ("chrX", "chrY"))
    if x >= _TWO_X and y < _NO_Y:
        return "XX"
    if x <= _ONE_X and y >= _SOME_Y:
        return "XY"
    return "unclear"
