"""Rows of methylation calls, from the bytes of bedMethyl and of Bismark coverage files.

One pass over the bytes: fields that nothing is taken from are counted and skipped. Rows are described, not
judged: what they mean is the part of ``assays.methylation_calls``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np

MAX_ROWS = 1 << 16
MAX_RUNS = 1 << 10

BEDMETHYL, BISMARK, ENCODE = 0, 1, 2
N_FIELDS = (18, 6, 11)
# What is wrong with a line, as the scan tells it.
SOUND, WRONG_FIELDS, WRONG_INTEGER, WRONG_PERCENT, WRONG_STRAND, EMPTY_NAME = range(6)
# Integers of a line, by row of ``Rows.numbers``; of Bismark and ENCODE, N_OTHER is 0.
START, END, N_METHYLATED, N_UNMETHYLATED, N_OTHER, N_VALID, STRAND, LINE = range(8)
_N_NUMBERS = 8
# 10^15 bp or calls are far beyond anything true and far below what an int64 holds.
_MAX_DIGITS = 15
_TAB, _SPACE, _NEWLINE, _RETURN, _HASH = (numba.uint8(ord(c)) for c in "\t \n\r#")


@dataclass(frozen=True, eq=False)
class Rows:
    """Some consecutive rows of a text.

    ``numbers`` is (8, n_rows) int64, its rows START to LINE (the byte of the text where the line begins; STRAND
    is 0 for ".", 1 for "+", 2 for "-"); ``percent`` (n_rows,) float64 and ``decimals`` (n_rows,) the digits after
    its point; ``runs`` (n_runs, 3) first row, first and end byte of the name of each run of rows that name the
    same chromosome; ``n_other_codes`` rows of another modification, ``other_code`` the first such name.
    ``status`` is SOUND, or what is wrong with the line that begins at ``line``, in its field ``field`` from 1.
    """

    numbers: np.ndarray
    percent: np.ndarray
    decimals: np.ndarray
    runs: np.ndarray
    n_other_codes: int
    other_code: bytes
    status: int
    line: int
    field: int


def scan_rows(text: bytes, kind: int, code: bytes) -> Iterator[Rows]:
    """Read the rows of a text that ends by a newline; stop after the first line that is wrong.

    Parameters: ``kind`` BEDMETHYL, BISMARK or ENCODE; ``code`` the modification whose rows of a bedMethyl are wanted,
    with or without its motif ("m" finds "m" and "m,CG,0"). Lines that are empty or begin with "#" are passed over.
    Of ENCODE, methylated calls are coverage x percentage, rounded, half a call up.
    Sources: https://nanoporetech.github.io/modkit/intro_pileup.html (18 columns, by tabs, or by spaces from the
    tenth on), https://felixkrueger.github.io/Bismark/bismark/methylation_extraction/ (6 columns),
    https://www.encodeproject.org/data-standards/wgbs/ (11 columns).
    """
    data = np.frombuffer(text, dtype=np.uint8)
    wanted = np.frombuffer(code, dtype=np.uint8)
    # No line of n fields is shorter than 2 n bytes.
    capacity = min(MAX_ROWS, len(data) // (2 * N_FIELDS[kind]) + 1)
    at = 0
    while at < len(data):
        numbers = np.empty((_N_NUMBERS, capacity), dtype=np.int64)
        percent = np.empty(capacity)
        decimals = np.empty(capacity, dtype=np.int64)
        runs = np.empty((MAX_RUNS, 3), dtype=np.int64)
        state = np.zeros(8, dtype=np.int64)
        _scan(data, at, kind, N_FIELDS[kind], wanted, numbers, percent, decimals, runs, state)
        at, n_rows, n_runs, n_other, code_first, code_end, status, field = (int(x) for x in state)
        yield Rows(
            numbers[:, :n_rows],
            percent[:n_rows],
            decimals[:n_rows],
            runs[:n_runs],
            n_other,
            text[code_first:code_end],
            status,
            at,
            field,
        )
        if status != SOUND:
            return


@numba.njit(cache=True, nogil=True)
def _integer(data, first, end):
    """Read the digits of a field; -1 where it holds anything else."""
    if end == first or end - first > _MAX_DIGITS:
        return -1
    value = 0
    for at in range(first, end):
        digit = numba.int64(data[at]) - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


@numba.njit(cache=True, nogil=True)
def _lower(data, at):
    return data[at] | 32


@numba.njit(cache=True, nogil=True)
def _decimal(data, first, end):
    """Read a number such as 66.67 or 9.5e-05; returns it and its digits after the point, -1 where it is none."""
    digits, n_digits, n_after, at, has_point = 0, 0, 0, first, False
    scale = 1.0
    value = 0.0
    while at < end:
        byte = data[at]
        if 48 <= byte <= 57:
            # More than 15 digits say nothing that a float64 could hold.
            if n_digits < _MAX_DIGITS:
                digits = digits * 10 + (numba.int64(byte) - 48)
                if has_point:
                    scale *= 10.0
            elif not has_point:
                return -1.0, 0
            n_digits += 1
            if has_point:
                n_after += 1
        elif byte == 46 and not has_point:
            has_point = True
        else:
            break
        at += 1
    if n_digits == 0:
        if (
            end - first == 3
            and (data[first] | 32) == 110
            and (data[first + 1] | 32) == 97
            and (data[first + 2] | 32) == 110
        ):
            return np.inf, 0  # NaN, as some write 0 of 0; wrong wherever there are calls
        return -1.0, 0
    value = digits / scale
    if at < end:
        if data[at] != 101 and data[at] != 69:
            return -1.0, 0
        at += 1
        sign = 1
        if at < end and (data[at] == 45 or data[at] == 43):
            sign = -1 if data[at] == 45 else 1
            at += 1
        exponent = _integer(data, at, end)
        if exponent < 0 or exponent > 300:
            return -1.0, 0
        value = value * 10.0 ** (sign * exponent)
        n_after = max(0, n_after - sign * exponent)
    return value, n_after


@numba.njit(cache=True, nogil=True)
def _same(data, first, end, other_first, other_end):
    n_bytes = end - first
    if n_bytes != other_end - other_first:
        return False
    step = 0
    while step < n_bytes and data[first + step] == data[other_first + step]:
        step += 1
    return step == n_bytes


@numba.njit(cache=True, nogil=True)
def _is_code(data, first, end, code):
    """Whether a name is the code, or the code followed by a comma and a motif."""
    if end - first < len(code):
        return False
    for step in range(len(code)):
        if data[first + step] != code[step]:
            return False
    return end - first == len(code) or data[first + len(code)] == 44


@numba.njit(cache=True, nogil=True)
def _strand(data, first, end):
    """0 for ".", 1 for "+", 2 for "-", -1 for anything else."""
    mark = data[first] if end - first == 1 else 0
    return 1 if mark == 43 else 2 if mark == 45 else 0 if mark == 46 else -1


@numba.njit(cache=True, nogil=True)
def _scan(data, at, kind, n_fields, code, numbers, percent, decimals, runs, state):
    """Fill the arrays until the text or the room in them ends; ``state`` is what ``scan_rows`` unpacks."""
    n_rows, n_runs, n_other = 0, 0, 0
    starts = np.empty(n_fields, dtype=np.int64)
    ends = np.empty(n_fields, dtype=np.int64)
    size = len(data)
    status, field = 0, 0
    while at < size and n_rows < len(percent) and n_runs < len(runs):
        line = at
        if data[at] == _HASH:
            while data[at] != _NEWLINE:
                at += 1
            at += 1
            continue
        n_found, first = 0, at
        # An unsigned position spares numba's test for negative ones at every byte.
        cursor = numba.uint64(at)
        while True:
            byte = data[cursor]
            # Nearly all bytes are above a space, and need this one comparison only.
            if byte <= _SPACE and byte in (_SPACE, _TAB, _NEWLINE):
                end = numba.int64(cursor)
                if n_found < n_fields:
                    starts[n_found] = first
                    ends[n_found] = end
                n_found += 1
                first = end + 1
                if byte == _NEWLINE:
                    break
            cursor += numba.uint64(1)
        at = first
        last = min(n_found, n_fields) - 1
        if ends[last] > starts[last] and data[ends[last] - 1] == _RETURN:
            ends[last] -= 1
        if n_found == 1 and ends[0] == starts[0]:
            continue
        if n_found != n_fields:
            status, field, at = 1, n_found, line
            break
        if ends[0] == starts[0]:
            status, field, at = 5, 1, line
            break
        if kind == 0 and not _is_code(data, starts[3], ends[3], code):
            if n_other == 0:
                state[4], state[5] = starts[3], ends[3]
            n_other += 1
            continue
        row = numbers[:, n_rows]
        is_percentage = True
        row[0] = _integer(data, starts[1], ends[1])
        row[1] = _integer(data, starts[2], ends[2])
        if kind == 0:
            row[2] = _integer(data, starts[11], ends[11])
            row[3] = _integer(data, starts[12], ends[12])
            row[4] = _integer(data, starts[13], ends[13])
            row[5] = _integer(data, starts[9], ends[9])
            value, n_after = _decimal(data, starts[10], ends[10])
            row[6] = _strand(data, starts[5], ends[5])
        elif kind == 2:
            row[5] = _integer(data, starts[9], ends[9])
            value, n_after = _decimal(data, starts[10], ends[10])
            is_percentage = value <= 100 or (row[5] == 0 and value == np.inf)
            row[2] = int(row[5] * value / 100 + 0.5) if row[5] > 0 and 0 <= value <= 100 else 0
            row[3] = max(row[5], 0) - row[2]
            row[4] = 0
            row[6] = _strand(data, starts[5], ends[5])
        else:
            row[2] = _integer(data, starts[4], ends[4])
            row[3] = _integer(data, starts[5], ends[5])
            row[4] = 0
            row[5] = row[2] + row[3]
            value, n_after = _decimal(data, starts[3], ends[3])
            row[6] = 0
        row[7] = line
        if row[0] < 0 or row[1] < 0 or row[2] < 0 or row[3] < 0 or row[4] < 0 or row[5] < 0:
            status, at = 2, line
            if row[0] < 0:
                field = 2
            elif row[1] < 0:
                field = 3
            elif kind == 0:
                field = 10 if row[5] < 0 else 12 if row[2] < 0 else 13 if row[3] < 0 else 14
            elif kind == 2:
                field = 10
            else:
                field = 5 if row[2] < 0 else 6
            break
        if value < 0 or not is_percentage:
            status, field, at = 3, 4 if kind == 1 else 11, line
            break
        if row[6] < 0:
            status, field, at = 4, 6, line
            break
        percent[n_rows] = value
        decimals[n_rows] = n_after
        if n_runs == 0 or not _same(data, starts[0], ends[0], runs[n_runs - 1, 1], runs[n_runs - 1, 2]):
            runs[n_runs, 0], runs[n_runs, 1], runs[n_runs, 2] = n_rows, starts[0], ends[0]
            n_runs += 1
        n_rows += 1
    state[0], state[1], state[2], state[3] = at, n_rows, n_runs, n_other
    state[6], state[7] = status, field
