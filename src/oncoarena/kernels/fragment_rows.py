"""Rows of a table of fragments, from their bytes: one pass, fields that nothing is taken from are skipped."""

from dataclasses import dataclass

import numba
import numpy as np

MAX_RUNS = 1 << 12
# What is wrong with a line, as the scan tells it.
SOUND, WRONG_FIELDS, EMPTY_NAME, WRONG_START, WRONG_END, WRONG_MAPQ, WRONG_STRAND, MANY_RUNS = range(8)
# 10^12 bp are far beyond any genome and far below what an int64 holds.
_MAX_DIGITS = 12
_TAB, _NEWLINE, _RETURN, _ZERO, _NINE = (numba.uint8(ord(character)) for character in "\t\n\r09")
_PLUS, _MINUS, _DOT = (numba.uint8(ord(character)) for character in "+-.")


@dataclass(frozen=True, eq=False)
class FragmentRows:
    """Consecutive rows of a text of whole lines.

    ``start``, ``end`` and ``mapq`` (n_rows,) int64; ``runs`` (n_runs, 3) int64: the first row, and the first and end
    byte of the name, of each run of rows that name the same chromosome. ``status`` is SOUND, or what is wrong
    with the line that begins at byte ``line``.
    """

    start: np.ndarray
    end: np.ndarray
    mapq: np.ndarray
    runs: np.ndarray
    status: int
    line: int


def scan_rows(text: bytes, n_fields: int, mapq_field: int, strand_field: int) -> FragmentRows:
    """Read the rows of a text whose lines all end by a newline; an empty line ends in WRONG_FIELDS.

    Parameters: ``n_fields`` tab-separated fields of a row; ``mapq_field`` and ``strand_field`` their positions
    from 0, -1 where there is none (mapq is then 255).
    """
    buffer = np.frombuffer(text, np.uint8)
    n_rows = text.count(b"\n")
    columns = np.empty((3, n_rows), np.int64)
    runs = np.empty((MAX_RUNS, 3), np.int64)
    n_read, n_runs, status, line = _scan(buffer, n_fields, mapq_field, strand_field, columns, runs)
    start, end, mapq = columns[:, :n_read]
    return FragmentRows(start, end, mapq, runs[:n_runs], status, line)


@numba.njit(nogil=True, cache=True)
def _scan(buffer, n_fields, mapq_field, strand_field, columns, runs):
    n_rows = n_runs = 0
    name_from = name_to = 0
    position = 0
    n_bytes = len(buffer)
    while position < n_bytes:
        line = position
        columns[2, n_rows] = 255
        for field in range(n_fields):
            begin = position
            while buffer[position] != _TAB and buffer[position] != _NEWLINE:
                position += 1
            stop = position
            is_last = buffer[position] == _NEWLINE
            if is_last and stop > begin and buffer[stop - 1] == _RETURN:
                stop -= 1
            if is_last != (field == n_fields - 1):
                return n_rows, n_runs, WRONG_FIELDS, line
            position += 1
            if field == 0:
                if stop == begin:
                    return n_rows, n_runs, EMPTY_NAME, line
                same = n_runs > 0 and stop - begin == name_to - name_from
                if same:
                    for offset in range(stop - begin):
                        if buffer[begin + offset] != buffer[name_from + offset]:
                            same = False
                            break
                if not same:
                    if n_runs == len(runs):
                        return n_rows, n_runs, MANY_RUNS, line
                    runs[n_runs, 0], runs[n_runs, 1], runs[n_runs, 2] = n_rows, begin, stop
                    n_runs += 1
                name_from, name_to = begin, stop
            elif field == 1 or field == 2 or field == mapq_field:
                number = _whole_number(buffer, begin, stop)
                if field == 1:
                    wrong, row = WRONG_START, 0
                elif field == 2:
                    wrong, row = WRONG_END, 1
                else:
                    wrong, row = WRONG_MAPQ, 2
                if number < 0 or (row == 2 and number > 255):
                    return n_rows, n_runs, wrong, line
                columns[row, n_rows] = number
            elif field == strand_field:
                sign = buffer[begin]
                if stop != begin + 1 or (sign != _PLUS and sign != _MINUS and sign != _DOT):
                    return n_rows, n_runs, WRONG_STRAND, line
        n_rows += 1
    return n_rows, n_runs, SOUND, n_bytes


@numba.njit(nogil=True, cache=True, inline="always")
def _whole_number(buffer, begin, stop):
    """Return the number that the digits spell, -1 where they are no digits or too many."""
    if stop == begin or stop - begin > _MAX_DIGITS:
        return -1
    number = 0
    for position in range(begin, stop):
        digit = buffer[position]
        if digit < _ZERO or digit > _NINE:
            return -1
        number = number * 10 + (digit - _ZERO)
    return number
