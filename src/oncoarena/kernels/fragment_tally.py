"""Fragments of a sequenced sample, counted into genome bins, lengths, end motifs and base composition.

This file holds what is counted (``FragmentTally``), which reads (``FragmentFilters``), and the NumPy reference
that counts arrays of fragments or of records; ``bin_layout`` says where. ``bam_walk`` counts the same from the
bytes of a BAM file.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from oncoarena.errors import BadObject, InputError
from oncoarena.kernels.bin_layout import BinLayout

# SAM flags, SAM specification v1 section 1.4 (https://samtools.github.io/hts-specs/SAMv1.pdf).
PROPER_PAIR, UNMAPPED, REVERSE, FIRST, LAST = 0x2, 0x4, 0x10, 0x40, 0x80
DUPLICATE, SECONDARY_OR_SUPPLEMENTARY = 0x400, 0x900
# Lengths (bp, both ends included) of short and long fragments: Cristiano 2019, doi:10.1038/s41586-019-1272-6.
SHORT_BP = (100, 150)
LONG_BP = (151, 220)
MOTIF_BASES = 4
N_MOTIFS = 4**MOTIF_BASES
# What stands in place of a motif: the 5' end is clipped; or a base of it is N or not in the file.
CLIPPED_END, UNREAD_END = -1, -2
COUNTERS = (
    "n_records",
    "n_mapped",
    "n_duplicates",
    "n_proper",
    "n_unplaced",
    "n_low_mapq",
    "n_other_chromosome",
    "n_other_length",
    "n_beyond_chromosome",
    "n_excluded_region",
    "n_fragments",
    "n_ends",
    "n_clipped_ends",
    "n_unread_ends",
)
"""``n_records`` all records; ``n_mapped``, ``n_duplicates`` and ``n_proper`` (in a proper pair) of the primary ones;
``n_unplaced`` records without a position. Of the fragments with the flags asked for, the first reason counts:
``n_low_mapq``; ``n_other_chromosome`` (not in the layout, or mates on two); ``n_other_length`` (or none);
``n_beyond_chromosome`` (a coordinate outside the chromosome); ``n_excluded_region``; else ``n_fragments``.
``n_ends`` 5' ends whose motif was counted; ``n_clipped_ends`` and ``n_unread_ends`` (N, or no bases) that were not."""
_COUNTER = {name: position for position, name in enumerate(COUNTERS)}
# The fate of a fragment, as ``judge_fragments`` tells it: a position in COUNTERS.
KEPT = _COUNTER["n_fragments"]


@dataclass(frozen=True)
class FragmentFilters:
    """Which reads make a fragment that counts: a fragment is counted once, from its first read (flag 0x40)."""

    required_flags: int = 3
    """SAM flags that must be set: paired and in a proper pair."""
    excluded_flags: int = 3852
    """SAM flags that must not be set: unmapped, mate unmapped, secondary, failed, duplicate, supplementary."""
    min_mapq: int = 30
    min_fragment_bp: int = 1
    max_fragment_bp: int = 1000

    def __post_init__(self) -> None:
        for name in ("required_flags", "excluded_flags"):
            if not 0 <= getattr(self, name) < 2**16:
                raise InputError(f"{name} is {getattr(self, name)}: expected SAM flags, 0 to 65535")
        if self.required_flags & self.excluded_flags:
            both = self.required_flags & self.excluded_flags
            raise InputError(
                f"required_flags and excluded_flags both name {both}: no read can pass; drop it from one"
            )
        if not 0 <= self.min_mapq <= 255:
            raise InputError(f"min_mapq is {self.min_mapq}: expected 0 to 255")
        if not 1 <= self.min_fragment_bp <= self.max_fragment_bp <= 1_000_000:
            raise InputError(
                f"min_fragment_bp is {self.min_fragment_bp} and max_fragment_bp {self.max_fragment_bp}: "
                "expected 1 <= min_fragment_bp <= max_fragment_bp <= 1000000"
            )


@dataclass(eq=False)
class FragmentTally:
    """What was counted in an object or in a part of it; int64 arrays that add up.

    ``coverage`` (n_coverage_bins,) fragments by midpoint; ``short`` and ``long`` (n_ratio_bins,) those of
    ``SHORT_BP`` and ``LONG_BP``; ``lengths`` (max_fragment_bp + 1,) fragments by length in bp; ``motifs`` (256,)
    5' ends by their first four bases, AAAA to TTTT; ``gc_bases`` and ``bases`` (n_coverage_bins,) C or G, and A, C, G
    or T, in the first reads of the fragments of a bin; ``chromosome_reads`` (n_chromosomes,) reads of enough
    MAPQ and without an excluded flag; ``counters`` (len(COUNTERS),), see there. ``first_place`` and ``last_place``
    are those of the first and the last record (``place_of``), -1 where there are none.
    """

    coverage: np.ndarray
    short: np.ndarray
    long: np.ndarray
    lengths: np.ndarray
    motifs: np.ndarray
    gc_bases: np.ndarray
    bases: np.ndarray
    chromosome_reads: np.ndarray
    counters: np.ndarray
    first_place: int = -1
    last_place: int = -1

    @property
    def counts(self) -> dict[str, int]:
        """The counters by name."""
        return dict(zip(COUNTERS, self.counters.tolist(), strict=True))


SUMMED = (
    "coverage",
    "short",
    "long",
    "lengths",
    "motifs",
    "gc_bases",
    "bases",
    "chromosome_reads",
    "counters",
)


def empty_tally(layout: BinLayout, filters: FragmentFilters) -> FragmentTally:
    """Begin a tally in which nothing was counted yet."""
    n = dict.fromkeys(("coverage", "gc_bases", "bases"), layout.n_coverage_bins)
    n |= {"short": layout.n_ratio_bins, "long": layout.n_ratio_bins, "lengths": filters.max_fragment_bp + 1}
    n |= {"motifs": N_MOTIFS, "chromosome_reads": len(layout.chromosomes), "counters": len(COUNTERS)}
    return FragmentTally(**{name: np.zeros(n[name], dtype=np.int64) for name in SUMMED})


def place_of(reference: int, position: int) -> int:
    """Encode a record's place so that places of a sorted file never decrease; -1 as reference comes last."""
    return ((reference if reference >= 0 else 2**31 - 1) << 32) + position + 1


def merge(first: FragmentTally, second: FragmentTally) -> FragmentTally:
    """Join the tallies of two neighbouring parts of one object.

    Raises BadObject if the second begins before the place at which the first ended.
    """
    if first.last_place >= 0 and second.first_place >= 0 and second.first_place < first.last_place:
        raise BadObject(
            "records are not sorted by coordinate: a part of the file begins before the place at which the part "
            "ahead of it ended; sort it (samtools sort) and index it again"
        )
    sums = {name: getattr(first, name) + getattr(second, name) for name in SUMMED}
    return FragmentTally(
        **sums,
        first_place=first.first_place if first.first_place >= 0 else second.first_place,
        last_place=second.last_place if second.last_place >= 0 else first.last_place,
    )


def motif_names() -> tuple[str, ...]:
    """Name the 256 motifs in the order of their codes, AAAA to TTTT."""
    return tuple("".join(letters) for letters in product("ACGT", repeat=MOTIF_BASES))


def motif_code(bases: str) -> int:
    """Encode four bases, 5' to 3'; UNREAD_END where there are fewer, or others than A, C, G, T (any case)."""
    digits = ["ACGT".find(base) for base in bases.upper()]
    if len(digits) != MOTIF_BASES or min(digits) < 0:
        return UNREAD_END
    return sum(digit << 2 * (MOTIF_BASES - 1 - place) for place, digit in enumerate(digits))


def judge_fragments(
    layout: BinLayout, filters: FragmentFilters, chromosome: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Tell which fragments count.

    Parameters: ``chromosome`` (n,) positions in ``layout.chromosomes``, -1 for others; ``start`` and ``end`` (n,) bp.
    Returns (n,) positions in COUNTERS: KEPT, or the first reason against.
    """
    chromosome, start, end = (np.asarray(values, dtype=np.int64) for values in (chromosome, start, end))
    n_bp = end - start
    fate = np.full(len(start), KEPT, dtype=np.int64)
    known = chromosome >= 0
    size = np.full(len(start), np.iinfo(np.int64).max)
    size[known] = layout.sizes[chromosome[known]]
    excluded = np.zeros(len(start), dtype=bool)
    for c in np.unique(chromosome[known]):
        mine = chromosome == c
        part = slice(layout.excluded_offsets[c], layout.excluded_offsets[c + 1])
        starts, ends = layout.excluded_start[part], layout.excluded_end[part]
        # Disjoint and sorted: those that begin before the end of the fragment, less those that end before its start.
        excluded[mine] = np.searchsorted(starts, end[mine], "left") > np.searchsorted(
            ends, start[mine], "right"
        )
    fate[excluded] = _COUNTER["n_excluded_region"]
    fate[(start < 0) | (end > size)] = _COUNTER["n_beyond_chromosome"]
    fate[(n_bp < filters.min_fragment_bp) | (n_bp > filters.max_fragment_bp)] = _COUNTER["n_other_length"]
    fate[~known] = _COUNTER["n_other_chromosome"]
    return fate


def tally_fragments(
    tally: FragmentTally,
    layout: BinLayout,
    filters: FragmentFilters,
    chromosome: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    *,
    gc_bases: np.ndarray | None = None,
    bases: np.ndarray | None = None,
) -> np.ndarray:
    """Add fragments to a tally, the plain way: one NumPy call for each array of it.

    Parameters as in ``judge_fragments``; ``gc_bases`` and ``bases`` (n,) in their first reads, where known.
    Returns (n,) bool: those that counted.
    """
    fate = judge_fragments(layout, filters, chromosome, start, end)
    tally.counters += np.bincount(fate, minlength=len(COUNTERS))
    kept = fate == KEPT
    c, start, end = (np.asarray(values, dtype=np.int64)[kept] for values in (chromosome, start, end))
    middle, n_bp = (start + end) // 2, end - start
    coverage_bin = layout.coverage_offsets[c] + middle // layout.coverage_bp
    ratio_bin = layout.ratio_offsets[c] + middle // layout.ratio_bp
    tally.coverage += np.bincount(coverage_bin, minlength=len(tally.coverage))
    tally.lengths += np.bincount(n_bp, minlength=len(tally.lengths))
    for counts, (low, high) in ((tally.short, SHORT_BP), (tally.long, LONG_BP)):
        counts += np.bincount(ratio_bin[(n_bp >= low) & (n_bp <= high)], minlength=len(counts))
    if bases is not None and gc_bases is not None:
        np.add.at(tally.bases, coverage_bin, np.asarray(bases)[kept])
        np.add.at(tally.gc_bases, coverage_bin, np.asarray(gc_bases)[kept])
    return kept


def tally_ends(tally: FragmentTally, codes: np.ndarray) -> None:
    """Add 5' ends to a tally: codes of ``motif_code``, CLIPPED_END or UNREAD_END."""
    codes = np.asarray(codes, dtype=np.int64)
    tally.motifs += np.bincount(codes[codes >= 0], minlength=N_MOTIFS)
    tally.counters[_COUNTER["n_ends"]] += np.count_nonzero(codes >= 0)
    tally.counters[_COUNTER["n_clipped_ends"]] += np.count_nonzero(codes == CLIPPED_END)
    tally.counters[_COUNTER["n_unread_ends"]] += np.count_nonzero(codes == UNREAD_END)


@dataclass(frozen=True, eq=False)
class RecordArrays:
    """Alignment records as arrays (n,), in the order of the file; fields as in the SAM specification.

    ``reference`` and ``next_reference`` are the file's own numbers (-1 for none), ``position`` and ``next_position``
    0-based, ``end_code`` the ``motif_code`` of the read's 5' end (reverse-complemented if the read is on the reverse
    strand), CLIPPED_END if a clip (S or H) touches it, UNREAD_END if unknown; ``gc_bases`` and ``bases`` count the
    C and G, and the A, C, G and T, of the read.
    """

    flag: np.ndarray
    mapq: np.ndarray
    reference: np.ndarray
    position: np.ndarray
    next_reference: np.ndarray
    next_position: np.ndarray
    template_length: np.ndarray
    end_code: np.ndarray
    gc_bases: np.ndarray
    bases: np.ndarray


def tally_records(
    tally: FragmentTally,
    layout: BinLayout,
    filters: FragmentFilters,
    records: RecordArrays,
    reference_to_layout: np.ndarray,
) -> None:
    """Add alignment records to a tally: the NumPy reference of ``bam_walk``, and what counts CRAM.

    Parameters: ``reference_to_layout`` (n_references,) int64, the layout's chromosome of a reference of the file,
    -1 for those not counted.
    Raises BadObject if the records are not sorted by coordinate.
    """
    flag, tlen = (np.asarray(values, dtype=np.int64) for values in (records.flag, records.template_length))
    reference, position = (
        np.asarray(values, dtype=np.int64) for values in (records.reference, records.position)
    )
    _follow_order(tally, reference, position)
    primary = flag & SECONDARY_OR_SUPPLEMENTARY == 0
    counts = {
        "n_records": np.ones(len(flag), dtype=bool),
        "n_mapped": primary & (flag & UNMAPPED == 0),
        "n_duplicates": primary & (flag & DUPLICATE != 0),
        "n_proper": primary & (flag & PROPER_PAIR != 0),
        "n_unplaced": reference < 0,
    }
    for name, which in counts.items():
        tally.counters[_COUNTER[name]] += np.count_nonzero(which)

    # One entry more, so that -1, no reference, is no chromosome of the layout either.
    chromosome = np.append(np.asarray(reference_to_layout, dtype=np.int64), -1)[reference]
    allowed = flag & filters.excluded_flags == 0
    sure = np.asarray(records.mapq) >= filters.min_mapq
    tally.chromosome_reads += np.bincount(
        chromosome[allowed & sure & (chromosome >= 0)], minlength=len(tally.chromosome_reads)
    )
    paired = allowed & (flag & filters.required_flags == filters.required_flags)
    first = paired & (flag & (FIRST | LAST) == FIRST)
    tally.counters[_COUNTER["n_low_mapq"]] += np.count_nonzero(first & ~sure)

    # The leftmost read of a template has a positive template length; its mate names its start.
    start = np.where(tlen > 0, position, np.asarray(records.next_position, dtype=np.int64))
    end = start + np.abs(tlen)
    chromosome = np.where(np.asarray(records.next_reference) == reference, chromosome, -1)
    first &= sure
    kept = tally_fragments(
        tally, layout, filters, chromosome[first], start[first], end[first],
        gc_bases=np.asarray(records.gc_bases)[first], bases=np.asarray(records.bases)[first],
    )  # fmt: skip
    tally_ends(tally, np.asarray(records.end_code)[first][kept])
    last = paired & sure & (flag & (FIRST | LAST) == LAST)
    kept = judge_fragments(layout, filters, chromosome[last], start[last], end[last]) == KEPT
    tally_ends(tally, np.asarray(records.end_code)[last][kept])


def _follow_order(tally: FragmentTally, reference: np.ndarray, position: np.ndarray) -> None:
    if not len(reference):
        return
    places = (np.where(reference >= 0, reference, 2**31 - 1) << 32) + position + 1
    before = np.concatenate([[tally.last_place], places[:-1]])
    wrong = np.flatnonzero(places < before)
    if len(wrong):
        raise BadObject(
            f"records are not sorted by coordinate: record {tally.counters[0] + wrong[0] + 1} comes before the one "
            "ahead of it; sort the file (samtools sort)"
        )
    tally.first_place = tally.first_place if tally.first_place >= 0 else int(places[0])
    tally.last_place = int(places[-1])
