"""What single fields of a row of variants say: chromosome, position, alleles, genotype."""

import numba
import numpy as np

from oncoarena.kernels.text_fields import whole_number

# Numbers of chromosomes that a name may hold: those of VCF, and of MAF, where 23 is X and 24 is Y.
LAST_OF_VCF, LAST_OF_MAF = 22, 24
# More digits than any position has.
_MAX_DIGITS = 15
_BASE = np.full(256, 255, np.uint8)
for _code, _letters in enumerate(("Aa", "Cc", "Gg", "Tt")):
    for _letter in _letters:
        _BASE[ord(_letter)] = _code
BASE = _BASE


@numba.njit(cache=True, nogil=True)
def chromosome_number(text, start, end, last):
    """Number of a chromosome, 0 to 23 (X is 22, Y is 23), -1 for any other contig and for numbers above ``last``."""
    if end - start > 3 and (text[start] | 32) == 99 and (text[start + 1] | 32) == 104:
        start += 3 if (text[start + 2] | 32) == 114 else 0
    if end - start == 1:
        byte = text[start]
        if 49 <= byte <= 57:
            return byte - 49
        if (byte | 32) == 120:
            return 22
        if (byte | 32) == 121:
            return 23
    elif end - start == 2 and 49 <= text[start] <= 50 and 48 <= text[start + 1] <= 57:
        number = (text[start] - 48) * 10 + text[start + 1] - 48
        if number <= last:
            return number - 1
    return -1


@numba.njit(cache=True, nogil=True)
def position_number(text, start, end):
    """Value of a position, -1 where it is none; R writes 100000000 as 1e+08, pandas a column with gaps as 100.0."""
    value = whole_number(text, start, end)
    if value >= 0:
        return value
    value, n_digits, shift, at, seen_point = 0, 0, 0, start, False
    while at < end:
        byte = text[at]
        if 48 <= byte <= 57:
            value = value * 10 + (byte - 48)
            n_digits += 1
            shift -= seen_point
        elif byte == 46 and not seen_point:
            seen_point = True
        else:
            break
        at += 1
    if n_digits == 0 or n_digits > _MAX_DIGITS:
        return -1
    if at < end:
        if (text[at] | 32) != 101:
            return -1
        at += 1
        sign = 1
        if at < end and (text[at] == 43 or text[at] == 45):
            sign = -1 if text[at] == 45 else 1
            at += 1
        exponent = whole_number(text, at, end)
        if exponent < 0 or exponent > _MAX_DIGITS:
            return -1
        shift += sign * exponent
    for _ in range(shift):
        value *= 10
        if value > 10**_MAX_DIGITS:
            return -1
    for _ in range(-shift):
        if value % 10:
            return -1
        value //= 10
    return value


@numba.njit(cache=True, nogil=True)
def is_bases(text, start, end):
    """1 where a field is A, C, G and T only, 0 where other letters are in it, -1 where it is no sequence."""
    if end <= start:
        return -1
    usable = 1
    for at in range(start, end):
        if BASE[text[at]] == 255:
            lower = text[at] | 32
            if lower < 97 or lower > 122:
                return -1
            usable = 0
    return usable


@numba.njit(cache=True, nogil=True)
def is_symbolic(text, start, end):
    """Whether an allele is written as <DEL>, as a breakend, or as * or . alone (VCF v4.3, section 1.4.1)."""
    if end - start == 1:
        return text[start] == 42 or text[start] == 46
    if end - start < 2:
        return False
    first, last = text[start], text[end - 1]
    if first == 60:
        return last == 62
    if first == 46 or last == 46:
        return True
    at = start
    while at < end and text[at] != 91 and text[at] != 93:
        at += 1
    return at < end


@numba.njit(cache=True, nogil=True)
def carries(text, start, end, allele, n_alleles):
    """1 where a genotype such as 0/1 or 1|2 has an allele, 0 where not, -1 where it is no genotype.

    A separator ahead of the first allele tells its phase (VCF v4.4, section 1.6.2).
    """
    if start < end and (text[start] == 47 or text[start] == 124):
        start += 1
    found, at = 0, start
    if start == end:
        return -1
    while at < end:
        stop = at
        while stop < end and text[stop] != 47 and text[stop] != 124:
            stop += 1
        if not (stop - at == 1 and text[at] == 46):
            number = whole_number(text, at, stop)
            if number < 0 or number > n_alleles:
                return -1
            if number == allele:
                found = 1
        at = stop + 1
    # A separator must stand between two alleles.
    return -1 if text[end - 1] == 47 or text[end - 1] == 124 else found
