"""Alignment records of BAM, counted from their bytes.

The reference is ``fragment_tally.tally_records`` on arrays; here are the CPU kernel, which takes the fields it needs
from inflated bytes, and its launcher. Format: SAM specification v1, section 4.2
(https://samtools.github.io/hts-specs/SAMv1.pdf).
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from oncoarena.kernels.bin_layout import BinLayout
from oncoarena.kernels.fragment_tally import (
    CLIPPED_END,
    COUNTERS,
    DUPLICATE,
    FIRST,
    LAST,
    LONG_BP,
    MOTIF_BASES,
    PROPER_PAIR,
    REVERSE,
    SECONDARY_OR_SUPPLEMENTARY,
    SHORT_BP,
    SUMMED,
    UNMAPPED,
    UNREAD_END,
    FragmentFilters,
    FragmentTally,
)

# The longest record believed: the longest reads known, with their bases, qualities and tags, are a tenth of it.
MAX_RECORD_BYTES = 64 << 20
# Bytes of the fixed fields, the length of the record before them included.
FIXED_BYTES = 36
# Why a walk stopped.
NEEDS_MORE, BAD_LENGTH, BAD_FIELDS, BAD_REFERENCE, BAD_POSITION, NOT_SORTED = range(6)
UNPLACED = 2**31 - 1

_SOFT_CLIP, _SKIP, _HARD_CLIP = 4, 3, 5
# Bases as four bits, "=ACMGRSVTWYHKDBN": the digit of A, C, G and T in a motif, -1 for others.
_DIGIT = np.full(16, -1, dtype=np.int64)
_DIGIT[[1, 2, 4, 8]] = range(4)
# For the two bases of a byte: how many are C or G, and from bit 32 on how many are A, C, G or T.
_NIBBLE = np.where(_DIGIT >= 0, 1 << 32, 0) + ((_DIGIT == 1) | (_DIGIT == 2))
_COMPOSITION = (_NIBBLE[:, None] + _NIBBLE[None, :]).ravel()

# Places in COUNTERS, in its order.
(
    _N_RECORDS,
    _N_MAPPED,
    _N_DUPLICATES,
    _N_PROPER,
    _N_UNPLACED,
    _N_LOW_MAPQ,
    _N_OTHER_CHROMOSOME,
    _N_OTHER_LENGTH,
    _N_BEYOND_CHROMOSOME,
    _N_EXCLUDED_REGION,
    _N_FRAGMENTS,
    _N_ENDS,
    _N_CLIPPED_ENDS,
    _N_UNREAD_ENDS,
) = range(len(COUNTERS))


@intrinsic
def _load_int32(typingctx, address):
    """Load a 32-bit integer from an address that need not be a multiple of four."""

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(32).as_pointer())
        return builder.sext(builder.load(pointer, align=1), ir.IntType(64))

    return types.int64(types.int64), codegen


@njit(cache=True, nogil=True)
def _end_code(data, address, record, flag, n_name, n_cigar, n_bases):
    """Encode the 5' end of a read whose record lies at ``record``; see ``fragment_tally.RecordArrays``."""
    if n_cigar == 0:
        return UNREAD_END
    cigar = record + FIXED_BYTES + n_name
    first = _load_int32(address + cigar)
    last = _load_int32(address + cigar + 4 * (n_cigar - 1))
    if n_cigar == 2 and first & 15 == _SOFT_CLIP and last & 15 == _SKIP:
        # What stands in for a CIGAR of more than 65,535 operations, kept in a tag: no short read has one.
        return UNREAD_END
    operation = (last if flag & REVERSE else first) & 15
    if operation in (_SOFT_CLIP, _HARD_CLIP):
        return CLIPPED_END
    if n_bases < MOTIF_BASES:
        return UNREAD_END
    code = 0
    bases = cigar + 4 * n_cigar
    for k in range(MOTIF_BASES):
        base = n_bases - 1 - k if flag & REVERSE else k
        digit = _DIGIT[(data[bases + base // 2] >> (0 if base & 1 else 4)) & 15]
        if digit < 0:
            return UNREAD_END
        code = code * 4 + (3 - digit if flag & REVERSE else digit)
    return code


@njit(cache=True, nogil=True)
def _walk_cpu(data, start, stop, to_layout, settings, where, counts, places):
    """Count the whole records of ``data[start:stop]``; return why it stopped, and where."""
    (
        required,
        excluded,
        min_mapq,
        min_bp,
        max_bp,
        coverage_bp,
        ratio_bp,
        short_low,
        short_high,
        long_low,
        long_high,
    ) = settings
    sizes, coverage_offsets, ratio_offsets, excluded_start, excluded_end, excluded_offsets = where
    coverage, short, long, lengths, motifs, gc_bases, all_bases, chromosome_reads, counters = counts
    first_place, last_place = places
    address = data.ctypes.data
    n_references = len(to_layout)
    n_records = n_mapped = n_duplicates = n_proper = n_unplaced = 0
    k = 0
    status = NEEDS_MORE
    while start + 4 <= stop:
        record = address + start
        n_bytes = _load_int32(record)
        if n_bytes < FIXED_BYTES - 4 or n_bytes > MAX_RECORD_BYTES:
            status = BAD_LENGTH
            break
        if start + 4 + n_bytes > stop:
            break
        reference, position = _load_int32(record + 4), _load_int32(record + 8)
        word = _load_int32(record + 12)
        n_name, mapq = word & 255, (word >> 8) & 255
        word = _load_int32(record + 16)
        n_cigar, flag = word & 65535, (word >> 16) & 65535
        n_bases = _load_int32(record + 20)
        next_reference, next_position = _load_int32(record + 24), _load_int32(record + 28)
        fields = FIXED_BYTES - 4 + n_name + 4 * n_cigar + (n_bases + 1) // 2 + n_bases
        if n_name < 1 or n_bases < 0 or fields > n_bytes:
            status = BAD_FIELDS
            break
        if not (-1 <= reference < n_references and -1 <= next_reference < n_references):
            status = BAD_REFERENCE
            break
        if position < -1 or next_position < -1:
            status = BAD_POSITION
            break
        place = ((reference if reference >= 0 else UNPLACED) << 32) + position + 1
        if place < last_place:
            status = NOT_SORTED
            break
        if first_place < 0:
            first_place = place
        last_place = place
        here = start
        start += 4 + n_bytes

        n_records += 1
        n_unplaced += reference < 0
        if flag & SECONDARY_OR_SUPPLEMENTARY == 0:
            n_mapped += flag & UNMAPPED == 0
            n_duplicates += flag & DUPLICATE != 0
            n_proper += flag & PROPER_PAIR != 0
        if flag & excluded:
            continue
        chromosome = to_layout[reference] if reference >= 0 else -1
        is_sure = mapq >= min_mapq
        if is_sure and chromosome >= 0:
            chromosome_reads[chromosome] += 1
        side = flag & (FIRST | LAST)
        if flag & required != required or (side != FIRST and side != LAST):
            continue
        is_first = side == FIRST
        if not is_sure:
            counters[_N_LOW_MAPQ] += is_first
            continue

        template = _load_int32(record + 32)
        begin = position if template > 0 else next_position
        n_bp = abs(template)
        end = begin + n_bp
        fate = _N_FRAGMENTS
        if chromosome < 0 or next_reference != reference:
            fate = _N_OTHER_CHROMOSOME
        elif n_bp < min_bp or n_bp > max_bp:
            fate = _N_OTHER_LENGTH
        elif begin < 0 or end > sizes[chromosome]:
            fate = _N_BEYOND_CHROMOSOME
        else:
            # k: the first excluded interval that ends behind the start of the fragment. In a sorted file it is
            # mostly that of the fragment before.
            low, high = excluded_offsets[chromosome], excluded_offsets[chromosome + 1]
            if not (
                low <= k <= high
                and (k == low or excluded_end[k - 1] <= begin)
                and (k == high or excluded_end[k] > begin)
            ):
                k = low + np.searchsorted(excluded_end[low:high], begin, "right")
            if k < high and excluded_start[k] < end:
                fate = _N_EXCLUDED_REGION
        if is_first:
            counters[fate] += 1
        if fate != _N_FRAGMENTS:
            continue

        code = _end_code(data, address, here, flag, n_name, n_cigar, n_bases)
        if code >= 0:
            motifs[code] += 1
            counters[_N_ENDS] += 1
        else:
            counters[_N_CLIPPED_ENDS if code == CLIPPED_END else _N_UNREAD_ENDS] += 1
        if not is_first:
            continue
        middle = (begin + end) // 2
        coverage_bin = coverage_offsets[chromosome] + middle // coverage_bp
        coverage[coverage_bin] += 1
        lengths[n_bp] += 1
        if short_low <= n_bp <= short_high:
            short[ratio_offsets[chromosome] + middle // ratio_bp] += 1
        elif long_low <= n_bp <= long_high:
            long[ratio_offsets[chromosome] + middle // ratio_bp] += 1
        bases = here + FIXED_BYTES + n_name + 4 * n_cigar
        composition = 0
        for pair in range(bases, bases + n_bases // 2):
            composition += _COMPOSITION[data[pair]]
        if n_bases & 1:
            composition += _COMPOSITION[data[bases + n_bases // 2] & 240]
        gc_bases[coverage_bin] += composition & 0xFFFFFFFF
        all_bases[coverage_bin] += composition >> 32

    counters[_N_RECORDS] += n_records
    counters[_N_MAPPED] += n_mapped
    counters[_N_DUPLICATES] += n_duplicates
    counters[_N_PROPER] += n_proper
    counters[_N_UNPLACED] += n_unplaced
    places[0], places[1] = first_place, last_place
    return status, start


class RecordWalker:
    """Counts records, given as consecutive pieces of inflated bytes, into one tally."""

    def __init__(
        self,
        tally: FragmentTally,
        layout: BinLayout,
        filters: FragmentFilters,
        reference_to_layout: np.ndarray,
    ):
        """Parameters as of ``fragment_tally.tally_records``; ``tally`` is empty and made for layout and filters.

        Raises ValueError if ``reference_to_layout`` names a chromosome that the layout has not.
        """
        self._tally = tally
        self._to_layout = np.ascontiguousarray(reference_to_layout, dtype=np.int64)
        if np.any(self._to_layout >= len(layout.chromosomes)):
            raise ValueError(
                f"reference_to_layout goes beyond the {len(layout.chromosomes)} chromosomes of the layout"
            )
        self._settings = (
            filters.required_flags,
            filters.excluded_flags,
            filters.min_mapq,
            filters.min_fragment_bp,
            filters.max_fragment_bp,
            layout.coverage_bp,
            layout.ratio_bp,
            *SHORT_BP,
            *LONG_BP,
        )
        self._where = (
            layout.sizes,
            layout.coverage_offsets,
            layout.ratio_offsets,
            layout.excluded_start,
            layout.excluded_end,
            layout.excluded_offsets,
        )
        self._counts = tuple(getattr(tally, name) for name in SUMMED)
        self._places = np.array([tally.first_place, tally.last_place], dtype=np.int64)

    def walk(self, data: np.ndarray, start: int, stop: int) -> tuple[int, int]:
        """Count the whole records of ``data[start:stop]`` (uint8).

        Returns NEEDS_MORE and the place at which the first incomplete record begins; or what is wrong with a record
        (BAD_LENGTH, BAD_FIELDS, BAD_REFERENCE, BAD_POSITION, NOT_SORTED) and the place of that record.
        """
        status, start = _walk_cpu(
            data, start, stop, self._to_layout, self._settings, self._where, self._counts, self._places
        )
        self._tally.first_place, self._tally.last_place = self._places.tolist()
        return status, start
