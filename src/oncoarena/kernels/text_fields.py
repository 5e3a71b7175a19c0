"""Fields of tab-separated text: where they are, which change from row to row, what numbers they hold."""

import numba
import numpy as np

TAB, NEWLINE, RETURN, HASH, COMMA, COLON, POINT = b"\t\n\r#,:."
# What is told of a row that cannot be used; 0 stands for none.
SOUND, N_FIELDS, COMMENT = range(3)


@numba.njit(cache=True, nogil=True)
def locate_fields(text, columns, n_fields, starts, ends):
    """Find the wanted fields of every row of a tab-separated text; blank rows are passed over.

    Parameters: ``text`` (n_bytes,) uint8, ends by a newline; ``columns`` (n_columns,) int64 ascending;
    ``n_fields`` of every row; ``starts`` and ``ends`` (n_rows + 1 or more, n_columns) int32, to be filled.
    Returns number of rows, byte of the first bad row (-1 where all are sound), what is wrong with it.
    """
    n_rows, n_columns = 0, len(columns)
    at, n_bytes = 0, len(text)
    while at < n_bytes:
        row_start = at
        if text[at] == HASH:
            return n_rows, row_start, COMMENT
        field, wanted, start = 0, 0, at
        while True:
            byte = text[at]
            if byte in (TAB, NEWLINE):
                if wanted < n_columns and field == columns[wanted]:
                    end = at
                    if byte == NEWLINE and end > start and text[end - 1] == RETURN:
                        end -= 1
                    starts[n_rows, wanted] = start
                    ends[n_rows, wanted] = end
                    wanted += 1
                field += 1
                start = at + 1
                at += 1
                if byte == NEWLINE:
                    break
            else:
                at += 1
        length = at - 1 - row_start
        if length == 0 or (length == 1 and text[row_start] == RETURN):
            continue
        if field != n_fields:
            return n_rows, row_start, N_FIELDS
        n_rows += 1
    return n_rows, -1, SOUND


@numba.njit(cache=True, nogil=True)
def changes(text, starts, ends):
    """Tell which rows have another text in a field than the row before; the first has.

    Parameters: ``text`` (n_bytes,) uint8; ``starts`` and ``ends`` (n_rows,). Returns (n_rows,) bool.
    """
    result = np.ones(len(starts), np.bool_)
    for row in range(1, len(starts)):
        length = ends[row] - starts[row]
        if length != ends[row - 1] - starts[row - 1]:
            continue
        same = True
        for k in range(length):
            if text[starts[row] + k] != text[starts[row - 1] + k]:
                same = False
                break
        result[row] = not same
    return result


@numba.njit(cache=True, nogil=True)
def whole_number(text, start, end):
    """Value of a field of 1 to 10 digits, -1 for anything else."""
    if end <= start or end - start > 10:
        return -1
    value = 0
    for at in range(start, end):
        digit = text[at] - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


@numba.njit(cache=True, nogil=True)
def decimal(text, start, end):
    """Value of a field like 0.25 or 1e-3, NaN for anything else."""
    value, scale, digits, at = 0.0, 1.0, 0, start
    seen_point = False
    while at < end:
        byte = text[at]
        if 48 <= byte <= 57:
            value = value * 10.0 + (byte - 48)
            scale = scale * 10.0 if seen_point else scale
            digits += 1
        elif byte == 46 and not seen_point:
            seen_point = True
        else:
            break
        at += 1
    if digits == 0 or digits > 17:
        return np.nan
    value /= scale
    if at < end and (text[at] | 32) == 101:
        at += 1
        sign = 1
        if at < end and (text[at] == 45 or text[at] == 43):
            sign = -1 if text[at] == 45 else 1
            at += 1
        exponent = whole_number(text, at, end)
        return np.nan if exponent < 0 or exponent > 300 else value * 10.0 ** (sign * exponent)
    return value if at == end else np.nan


@numba.njit(cache=True, nogil=True)
def list_part(text, start, end, index):
    """Bounds of a comma-separated part of a field; an empty part where there are fewer."""
    at = start
    for _ in range(index):
        while at < end and text[at] != 44:
            at += 1
        if at >= end:
            return end, end
        at += 1
    stop = at
    while stop < end and text[stop] != 44:
        stop += 1
    return at, stop


@numba.njit(cache=True, nogil=True)
def subfield(text, start, end, index):
    """Bounds of a colon-separated part of a field; an empty part where there are fewer."""
    at = start
    for _ in range(index):
        while at < end and text[at] != 58:
            at += 1
        if at >= end:
            return end, end
        at += 1
    stop = at
    while stop < end and text[stop] != 58:
        stop += 1
    return at, stop


@numba.njit(cache=True, nogil=True)
def same_text(text, start, end, other, other_end):
    """Whether two fields hold the same bytes."""
    if end - start != other_end - other:
        return False
    k = 0
    while k < end - start and text[start + k] == text[other + k]:
        k += 1
    return k == end - start


@numba.njit(cache=True, nogil=True)
def key_place(text, start, end, first, second):
    """Place of a key of two letters among colon-separated ones, -1 where it is not there."""
    index, at = 0, start
    while at < end:
        stop = at
        while stop < end and text[stop] != 58:
            stop += 1
        if stop - at == 2 and text[at] == first and text[at + 1] == second:
            return index
        index += 1
        at = stop + 1
    return -1
