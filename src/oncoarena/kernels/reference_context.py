"""What stands in a reference sequence around variants: trinucleotides, and classes of insertions and deletions.

The sequence is FASTA text as it lies on disk (memory-mapped), read through its index: for a whole genome nothing is
loaded but the pages that hold variants.
"""

import numba
import numpy as np

from oncoarena.kernels.variant_rows import (
    ALT_LENGTH,
    ALT_START,
    BASE,
    CHROM,
    REF_LENGTH,
    REF_START,
    START,
)

# Codes of bases beside A, C, G, T (0 to 3): any other letter, a place outside the sequence, no letter at all.
OTHER, OUTSIDE, DAMAGED = 4, 5, 6


@numba.njit(cache=True, nogil=True)
def base_at(fasta, index, chrom, pos):
    """Code of the base at a position of a chromosome.

    Parameters: ``fasta`` (n_bytes,) uint8; ``index`` (24, 4) int64: length, first byte, bases and bytes a line.
    """
    if pos < 0 or pos >= index[chrom, 0]:
        return OUTSIDE
    byte = fasta[index[chrom, 1] + pos // index[chrom, 2] * index[chrom, 3] + pos % index[chrom, 2]]
    code = BASE[byte]
    if code < 4:
        return code
    lower = byte | 32
    return OTHER if 97 <= lower <= 122 else DAMAGED


@numba.njit(cache=True, nogil=True)
def contexts(fasta, index, chrom, pos, result):
    """Read the base before, at and behind each position into ``result`` (n, 3) uint8; see ``base_at``."""
    for k in range(len(chrom)):
        for shift in range(3):
            result[k, shift] = base_at(fasta, index, chrom[k], pos[k] + shift - 1)


@numba.njit(cache=True, nogil=True)
def _same(fasta, index, chrom, start, letters, length):
    """Whether the reference has the given bases (codes) from a position on."""
    k = 0
    while k < length and base_at(fasta, index, chrom, start + k) == letters[k]:
        k += 1
    return k == length


@numba.njit(cache=True, nogil=True)
def indel_classes(fasta, index, others, alleles, result):
    """Classify insertions and deletions as SigProfilerMatrixGenerator does (doi:10.1186/s12864-019-6041-2).

    Parameters: ``others`` (n, 8) int64 as in ``variant_rows``, its starts of alleles in ``alleles`` (n_bytes,) uint8
    codes of bases; ``result`` (n,) int64: place in ``mutation_classes.INDEL_CLASSES``, -1 for what is no plain
    insertion or deletion, -2 where the deleted bases are not those of the reference, -3 where the FASTA has no letter.
    """
    for row in range(len(others)):
        entry = others[row]
        n_ref, n_alt = entry[REF_LENGTH], entry[ALT_LENGTH]
        chrom, start = entry[CHROM], entry[START]
        ref = alleles[entry[REF_START] : entry[REF_START] + n_ref]
        result[row] = -1
        for k in range(n_ref):
            code = base_at(fasta, index, chrom, start + k)
            if code == DAMAGED:
                result[row] = -3
                break
            if code != ref[k]:
                result[row] = -2
                break
        if result[row] != -1 or (n_ref > 0 and n_alt > 0):
            continue
        unit = ref if n_ref > 0 else alleles[entry[ALT_START] : entry[ALT_START] + n_alt]
        length = n_ref + n_alt
        n_repeats = 0
        before = start - length
        while before > 0 and n_repeats < 5 and _same(fasta, index, chrom, before, unit, length):
            n_repeats += 1
            before -= length
        behind = start + n_ref
        while (
            n_repeats < 5
            and behind + length < index[chrom, 0]
            and _same(fasta, index, chrom, behind, unit, length)
        ):
            n_repeats += 1
            behind += length
        if length == 1:
            is_pyrimidine_t = unit[0] == 0 or unit[0] == 3
            result[row] = (12 if n_alt else 0) + (6 if is_pyrimidine_t else 0) + n_repeats
            continue
        size = min(length, 5)
        if n_repeats == 0 and n_ref > 0:
            homology = 0
            for k in range(length - 1, 0, -1):
                if _same(fasta, index, chrom, start + length, unit[:k], k) or _same(
                    fasta, index, chrom, start - k, unit[length - k :], k
                ):
                    homology = k
                    break
            if homology > 0:
                # 2:1, 3:1, 3:2, 4:1 to 4:3, 5:1 to 5:5
                result[row] = 72 + (size - 2) * (size - 1) // 2 + min(homology, 5) - 1
                continue
        result[row] = 24 + (24 if n_alt else 0) + (size - 2) * 6 + n_repeats


@numba.njit(cache=True, nogil=True)
def hash_others(others, letters, result):
    """Hash each allele of the second table (sample, place, bases) into ``result`` (n,) uint64 by FNV-1a."""
    for row in range(len(others)):
        entry = others[row]
        value = np.uint64(0xCBF29CE484222325)
        for field in (0, CHROM, START, REF_LENGTH, ALT_LENGTH):
            number = np.uint64(entry[field])
            for shift in range(0, 40, 8):
                value = (value ^ ((number >> np.uint64(shift)) & np.uint64(255))) * np.uint64(0x100000001B3)
        for first, length in ((REF_START, REF_LENGTH), (ALT_START, ALT_LENGTH)):
            for k in range(entry[length]):
                value = (value ^ np.uint64(letters[entry[first] + k])) * np.uint64(0x100000001B3)
        result[row] = value


@numba.njit(cache=True, nogil=True)
def copy_alleles(text, others, letters):
    """Copy the bases of alleles out of a text into ``letters`` as codes; their starts are set to the copy's."""
    at = 0
    for row in range(len(others)):
        entry = others[row]
        for first, length in ((REF_START, REF_LENGTH), (ALT_START, ALT_LENGTH)):
            for k in range(entry[length]):
                letters[at + k] = BASE[text[entry[first] + k]]
            entry[first] = at
            at += entry[length]
