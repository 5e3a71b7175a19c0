"""The only file that knows memory maps: arrays that lie in files, of which only what is being read is in memory.

Pages of a map that were read count as resident memory until they are dropped (``release``), although the system can
read them again at any time. Every function here takes ordinary arrays too.
"""

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np

LARGE_BYTES = 2**27
"""An array above this size (128 MiB) goes to a scratch file rather than to memory."""

GATHERED_BYTES, PAGE_BYTES = 2**26, 2**21
"""Rows are taken from a map in pieces of this size; the system may bring in a large page for each row."""


def scratch_directory() -> Path:
    """Where large arrays are laid down: ONCOARENA_SCRATCH, else a folder for temporary files."""
    return Path(os.environ.get("ONCOARENA_SCRATCH", os.path.join(tempfile.gettempdir(), "oncoarena-scratch")))


def map_of(values: np.ndarray) -> np.memmap | None:
    """Return the memory map that an array is a part of, None for an array in memory."""
    while isinstance(values, np.ndarray):
        if isinstance(values, np.memmap) and isinstance(values.base, mmap.mmap):
            return values
        values = values.base
    return None


def release(values: np.ndarray) -> None:
    """Drop what was read or written of an array's map from this process's memory; the file keeps it all.

    Nothing happens to an array in memory, or to a map whose changes have no file to go to (mode "c").
    """
    found = map_of(values)
    if found is not None and found.mode != "c":
        found.base.madvise(mmap.MADV_DONTNEED)


def large_array(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Return a writable array to be filled: in memory, or above ``LARGE_BYTES`` in a scratch file without a name.

    The file is gone when the array is, however the process ends.
    """
    if np.prod(shape) * np.dtype(dtype).itemsize <= LARGE_BYTES:
        return np.empty(shape, dtype=dtype)
    folder = scratch_directory()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def take_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return ``values[rows]`` (integer positions or a boolean mask) without bringing a large map into memory.

    Neighbouring rows of a map stay a part of it; others are copied, above ``LARGE_BYTES`` to a map of their own.
    """
    if map_of(values) is None:
        return values[rows]
    rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
    if len(rows) and (np.diff(rows) == 1).all():
        return values[rows[0] : rows[-1] + 1]
    taken = gather(values, rows, large_array((len(rows), *values.shape[1:]), values.dtype))
    taken.flags.writeable = False
    return taken


def gather(values: np.ndarray, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Copy ``values[rows]`` (integer positions) to ``out`` and return it; few rows of a map are in memory at a time."""
    step = max(1, GATHERED_BYTES // max(values[:1].nbytes, PAGE_BYTES))
    for first in range(0, len(rows), step):
        out[first : first + step] = values[rows[first : first + step]]
        release(values)
        release(out)
    return out
