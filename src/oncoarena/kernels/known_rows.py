"""Read numbers of a tab-separated text whose rows are named as those of a text read before.

The files of a cohort list the same genes in the same order, so most of their bytes are known: comparing them
costs a fraction of splitting, and only the fields behind them are parsed.
"""

from dataclasses import dataclass

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# A decimal number of up to 15 digits, a whole number divided by a power of ten, is rounded once, hence to the nearest
# float64 (Clinger 1990, doi:10.1145/93542.93557).
MAX_DIGITS = 15
_POWERS = 10.0 ** np.arange(MAX_DIGITS + 1)

TAB, LINE_END, PLUS, MINUS, POINT, ZERO, NINE = b"\t\n+-.09"


@dataclass(frozen=True, eq=False)
class KnownRows:
    """The leading fields of the rows of a text, each with its delimiter.

    Those of row r are the bytes ``text[bounds[r] : bounds[r + 1]]``: ``text`` is (n_bytes,) uint8, ``bounds``
    (n_rows + 1,) int64.
    """

    text: np.ndarray
    bounds: np.ndarray


def find_rows(text: bytes, n_fields: int, n_leading: int) -> KnownRows | None:
    """Find the leading fields of every row of a plain text: every row of ``n_fields``, no quotes.

    Returns None where the text is not so.
    """
    buffer = np.frombuffer(text if text.endswith(b"\n") else text + b"\n", np.uint8)
    line_ends = np.flatnonzero(buffer == LINE_END)
    marks = np.flatnonzero(buffer == TAB)
    if len(marks) != len(line_ends) * (n_fields - 1):
        return None
    marks = marks.reshape(len(line_ends), n_fields - 1)
    starts = np.append(0, line_ends[:-1] + 1)
    if (marks[:, 0] < starts).any() or (marks[:, -1] > line_ends).any():
        return None
    ends = marks[:, n_leading - 1] + 1
    step = np.zeros(len(buffer) + 1, np.int8)
    step[starts] = 1
    step[ends] = -1
    return KnownRows(buffer[np.cumsum(step[:-1], dtype=np.int8) > 0], np.append(0, np.cumsum(ends - starts)))


def join_rows(parts: list[KnownRows]) -> KnownRows:
    """Join the rows of consecutive texts."""
    lengths = np.concatenate([np.diff(part.bounds) for part in parts])
    return KnownRows(np.concatenate([part.text for part in parts]), np.append(0, np.cumsum(lengths)))


def read_known_rows(text: bytes, known: KnownRows, first_row: int, wanted: np.ndarray) -> np.ndarray | None:
    """Read the numbers behind the leading fields of rows that are ``known``, from row ``first_row`` on.

    Parameters: ``wanted`` (n_fields - n_leading,) int64, a field's column in the result, -1 where it is not read.
    Returns (n_rows, n_wanted) float64, NaN for an empty field; None as soon as anything is not known or not plain:
    another name, another count of fields, a number that could be rounded twice or has an exponent or the sign "+",
    a blank, a quote, a word.
    """
    if text[-1:] != b"\n":
        return None
    bounds = known.bounds[first_row:]
    values = np.empty(
        (min(max(len(bounds) - 1, 0), len(text) // len(wanted)), int((wanted >= 0).sum())), order="F"
    )
    buffer = np.frombuffer(text, np.uint8)
    n_rows = _read_rows(buffer, known.text, bounds, wanted, np.flatnonzero(wanted >= 0), values)
    return values[:n_rows] if n_rows >= 0 else None


# All below take addresses: of an array that is handed on, every call would count the references.
_memcmp = types.ExternalFunction("memcmp", types.intc(types.intp, types.intp, types.intp))

BLOCK_BYTES = 64
"""Bytes that are looked at together: a mark a byte makes a uint64, the first byte lowest."""
_BLOCK = ir.VectorType(ir.IntType(8), BLOCK_BYTES)


def _load_block(builder, address):
    return builder.load(builder.inttoptr(address, _BLOCK.as_pointer()), align=1)


@intrinsic
def _mark_other_bytes(typing_context, address, other):
    """Mark those of 64 bytes that differ from 64 others."""

    def generate(context, builder, signature, arguments):
        first, second = (_load_block(builder, address) for address in arguments)
        return builder.bitcast(builder.icmp_unsigned("!=", first, second), ir.IntType(64))

    return types.uint64(types.intp, types.intp), generate


def _marker(comparison, byte):
    """Make a function that marks those of 64 bytes that compare so with a byte."""

    @intrinsic
    def mark(typing_context, address):
        def generate(context, builder, signature, arguments):
            block = _load_block(builder, arguments[0])
            found = builder.icmp_unsigned(comparison, block, ir.Constant(_BLOCK, [byte] * BLOCK_BYTES))
            return builder.bitcast(found, ir.IntType(64))

        return types.uint64(types.intp), generate

    return mark


_mark_tabs = _marker("==", TAB)
_mark_line_ends = _marker("==", LINE_END)
# All below "+", as are tab, line end, blank and quote: no number has one.
_mark_field_ends = _marker("<", PLUS)


@intrinsic
def _count_before(typing_context, marks):
    """Count the bytes before the first mark; 64 where there is none."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def _count_marks(typing_context, marks):
    """Count the marks."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def _load_word(typing_context, address):
    """Load 8 bytes of any alignment as uint64, the first byte lowest."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load(pointer, align=1)

    return types.uint64(types.intp), generate


@intrinsic
def _load_byte(typing_context, address):
    """Load the byte at an address."""

    def generate(context, builder, signature, arguments):
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))

    return types.uint8(types.intp), generate


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _count_digits(word):
    """Count the digits that a word begins with."""
    digits = word ^ np.uint64(0x3030303030303030)
    # Adding 0x76 sets the high bit of all but 0 to 9; a carry spoils later bytes only.
    marks = (digits + np.uint64(0x7676767676767676)) | digits
    return _count_before(marks & np.uint64(0x8080808080808080)) >> 3


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _parse_digits(word, n_digits):
    """Return the number of the first digits of a word, 1 to 8 of them (Lemire 2021, doi:10.1002/spe.2984)."""
    digits = (word ^ np.uint64(0x3030303030303030)) << np.uint64(64 - 8 * n_digits)
    digits = digits * np.uint64(10) + (digits >> np.uint64(8))
    high = (digits & np.uint64(0x000000FF000000FF)) * np.uint64(0x000F424000000064)
    low = ((digits >> np.uint64(16)) & np.uint64(0x000000FF000000FF)) * np.uint64(0x0000271000000001)
    return np.int64((high + low) >> np.uint64(32))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _is_same(here, there, length, is_block):
    """Tell whether bytes are the same; ``is_block`` where 64 may be looked at in both places."""
    if is_block and length <= BLOCK_BYTES:
        return _count_before(_mark_other_bytes(here, there)) >= length
    return _memcmp(here, there, length) == 0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _read_number(here, at):
    """Return the number of a field, NaN of an empty one, and where it ends; -1 where it is not plain."""
    first = at
    negative = _load_byte(here + at) == MINUS
    at += negative
    mantissa = 0
    n_digits = 0
    n_decimals = 0
    while ZERO <= _load_byte(here + at) <= NINE:
        mantissa = 10 * mantissa + (np.int64(_load_byte(here + at)) - ZERO)
        n_digits += 1
        at += 1
    if n_digits > 0 and _load_byte(here + at) == POINT:
        at += 1
        while ZERO <= _load_byte(here + at) <= NINE:
            mantissa = 10 * mantissa + (np.int64(_load_byte(here + at)) - ZERO)
            n_decimals += 1
            at += 1
    if at == first:
        return np.nan, at
    if n_digits == 0 or n_digits + n_decimals > MAX_DIGITS:
        return np.nan, -1
    number = mantissa / _POWERS[n_decimals]
    return -number if negative else number, at


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _read_short(here, at, end, last_word):
    """Return the number of a field that ends there, with up to 7 digits before and behind a point; -1 for others."""
    if at > last_word:
        return -1.0
    word = _load_word(here + at)
    n_digits = _count_digits(word)
    if n_digits == 0 or n_digits == 8:
        return -1.0
    whole = _parse_digits(word, n_digits)
    point = at + n_digits
    if point == end:
        return np.float64(whole)
    if point >= last_word or _load_byte(here + point) != POINT:
        return -1.0
    word = _load_word(here + point + 1)
    n_decimals = _count_digits(word)
    if n_decimals == 0 or n_decimals == 8 or point + 1 + n_decimals != end:
        return -1.0
    mantissa = whole * np.int64(_POWERS[n_decimals]) + _parse_digits(word, n_decimals)
    return mantissa / _POWERS[n_decimals]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _read_fields(here, at, wanted, row):
    """Fill a row of values field by field, one that is longer than a block or near the end of the text.

    Returns where the next row begins, -1 where this one is not plain.
    """
    last = len(wanted) - 1
    # The text ends by a line end, at which every loop over bytes stops.
    for field in range(last + 1):
        column = wanted[field]
        if column < 0:
            while _load_byte(here + at) >= PLUS:
                at += 1
        else:
            row[column], at = _read_number(here, at)
        if at < 0 or _load_byte(here + at) != (TAB if field < last else LINE_END):
            return -1
        at += 1
    return at


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _read_rows(buffer, names, bounds, wanted, fields, values):
    """Fill ``values`` and return the count of rows, or -1 where a row is not known or not plain.

    Parameters: ``fields`` are those of ``wanted`` that are read.
    """
    at = 0
    n_bytes = len(buffer)
    last_word = n_bytes - 8
    last_block = n_bytes - BLOCK_BYTES
    last_known = len(names) - BLOCK_BYTES
    here = np.int64(buffer.ctypes.data)  # unsigned and signed together would make a float
    there = np.int64(names.ctypes.data)
    one = np.uint64(1)
    row = 0
    while at < n_bytes:
        if row == len(values):
            return -1
        known = bounds[row]
        length = bounds[row + 1] - known
        is_block = at <= last_block and known <= last_known
        if at + length >= n_bytes or not _is_same(here + at, there + known, length, is_block):
            return -1
        at += length
        line_ends = _mark_line_ends(here + at) if at <= last_block else np.uint64(0)
        if line_ends == 0:
            at = _read_fields(here, at, wanted, values[row])
            if at < 0:
                return -1
            row += 1
            continue
        # All marks up to the first line end: where the next row begins is known before a number is read.
        in_row = line_ends ^ (line_ends - one)
        ends = _mark_field_ends(here + at) & in_row
        if ends != (_mark_tabs(here + at) | line_ends) & in_row or _count_marks(ends) != len(wanted):
            return -1
        following = at + _count_before(line_ends) + 1
        start = at
        field = 0
        for number in range(len(fields)):
            while field < fields[number]:
                start = at + _count_before(ends) + 1
                ends &= ends - one
                field += 1
            end = at + _count_before(ends)
            found = _read_short(here, start, end, last_word)
            if found < 0:
                found, stop = _read_number(here, start)
                if stop != end:
                    return -1
            values[row, wanted[field]] = found
        at = following
        row += 1
    return row
