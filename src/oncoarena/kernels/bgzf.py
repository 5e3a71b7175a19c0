"""BGZF blocks, the compression of BAM files, inflated and checked.

In this order: the reference by zlib (which also serves where libdeflate is not found), the CPU kernel that calls
libdeflate, and the launcher ``Inflater``. Format: SAM specification v1, section 4.1
(https://samtools.github.io/hts-specs/SAMv1.pdf), RFC 1951 and RFC 1952.
"""

import ctypes
import weakref
import zlib

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# Bytes of a block before and behind its compressed data, without the extra field; the most it can inflate to.
HEADER_BYTES, FOOTER_BYTES, MAX_INFLATED = 12, 8, 65_536
MAX_BLOCK = 65_536
# Why an inflater stopped.
NEEDS_INPUT, OUTPUT_FULL, NOT_A_BLOCK, BAD_DATA, BAD_CRC = range(5)
COMPLAINTS = {
    NOT_A_BLOCK: "what should be a BGZF block has no valid header",
    BAD_DATA: "the compressed data of a BGZF block are damaged",
    BAD_CRC: "the CRC32 of a BGZF block does not match its data",
}
# Blocks that begin within so many bytes of the one noted before them are not noted: tiny blocks cost no memory.
NOTE_BYTES = 4096


def inflate_reference(
    data: np.ndarray, start: int, end: int, out: np.ndarray, filled: int, notes: np.ndarray, n_notes: int
) -> tuple[int, int, int, int, int]:
    """Inflate whole blocks one by one with zlib.

    Parameters and returns as in ``Inflater.inflate``.
    """
    last = -1
    while True:
        size, header, inflated = measure_block(data, start, end)
        if size <= 0:
            return (NEEDS_INPUT if size == 0 else NOT_A_BLOCK), start, filled, n_notes, last
        if filled + inflated > len(out):
            return OUTPUT_FULL, start, filled, n_notes, last
        inflater = zlib.decompressobj(wbits=-15)
        try:
            # One byte more than expected tells a block that is too long, without inflating all of it.
            plain = inflater.decompress(data[start + header : start + size - FOOTER_BYTES], inflated + 1)
        except zlib.error:
            return BAD_DATA, start, filled, n_notes, last
        if len(plain) != inflated or not inflater.eof:
            return BAD_DATA, start, filled, n_notes, last
        if zlib.crc32(plain) != int(data[start + size - 8 : start + size - 4].view("<u4")[0]):
            return BAD_CRC, start, filled, n_notes, last
        out[filled : filled + inflated] = np.frombuffer(plain, np.uint8)
        if inflated and (n_notes == 0 or filled - notes[n_notes - 1, 0] >= NOTE_BYTES):
            notes[n_notes] = filled, start
            n_notes += 1
        start, filled, last = start + size, filled + inflated, inflated


@njit(cache=True, nogil=True)
def measure_block(data, start, end):
    """Measure the block that begins at ``data[start]``.

    Returns its size (0 if not all of it lies before ``end``, -1 if it is none), how many of its bytes are ahead of the
    compressed data, and how many it inflates to.
    """
    if end - start < HEADER_BYTES:
        return 0, 0, 0
    # FLG 4: an extra field and nothing else.
    if data[start] != 31 or data[start + 1] != 139 or data[start + 2] != 8 or data[start + 3] != 4:
        return -1, 0, 0
    header = HEADER_BYTES + int(data[start + 10]) + (int(data[start + 11]) << 8)
    if end - start < header:
        return 0, 0, 0
    field = HEADER_BYTES
    size = -1
    while field + 4 <= header:
        n = int(data[start + field + 2]) + (int(data[start + field + 3]) << 8)
        if data[start + field] == 66 and data[start + field + 1] == 67 and n == 2 and field + 6 <= header:
            size = int(data[start + field + 4]) + (int(data[start + field + 5]) << 8) + 1
        field += 4 + n
    if field != header or size <= header + FOOTER_BYTES:
        return -1, 0, 0
    if end - start < size:
        return 0, 0, 0
    inflated = 0
    for i in range(4):
        inflated += int(data[start + size - 4 + i]) << 8 * i
    if inflated > MAX_INFLATED:
        return -1, 0, 0
    return size, header, inflated


@intrinsic
def _call_inflate(typingctx, function, decompressor, source, n_source, target, n_target):
    """Call libdeflate_deflate_decompress at an address: 0 if exactly ``n_target`` bytes came out.

    The address is an argument, so that the compiled kernel can be kept on disk for other processes. Pointers and
    sizes are passed as 64-bit integers, which go into the same registers.
    """
    word = ir.IntType(64)

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(32), [word] * 6)
        target_function = builder.inttoptr(arguments[0], kind.as_pointer())
        return builder.call(target_function, [*arguments[1:], ir.Constant(word, 0)])

    return types.int32(*[types.int64] * 6), codegen


@intrinsic
def _call_crc32(typingctx, function, data, n_data):
    """Call libdeflate_crc32 at an address."""
    word = ir.IntType(64)

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), word, word])
        target_function = builder.inttoptr(arguments[0], kind.as_pointer())
        return builder.call(target_function, [ir.Constant(ir.IntType(32), 0), *arguments[1:]])

    return types.uint32(*[types.int64] * 3), codegen


@njit(cache=True, nogil=True)
def _inflate_cpu(data, start, end, out, filled, notes, n_notes, decompress, crc32, decompressor):
    source, target = data.ctypes.data, out.ctypes.data
    last = -1
    while True:
        size, header, inflated = measure_block(data, start, end)
        if size <= 0:
            return (NEEDS_INPUT if size == 0 else NOT_A_BLOCK), start, filled, n_notes, last
        if filled + inflated > len(out):
            return OUTPUT_FULL, start, filled, n_notes, last
        n_source = size - header - FOOTER_BYTES
        if (
            _call_inflate(
                decompress, decompressor, source + start + header, n_source, target + filled, inflated
            )
            != 0
        ):
            return BAD_DATA, start, filled, n_notes, last
        expected = 0
        for i in range(4):
            expected += int(data[start + size - 8 + i]) << 8 * i
        if int(_call_crc32(crc32, target + filled, inflated)) != expected:
            return BAD_CRC, start, filled, n_notes, last
        if inflated > 0 and (n_notes == 0 or filled - notes[n_notes - 1, 0] >= NOTE_BYTES):
            notes[n_notes, 0] = filled
            notes[n_notes, 1] = start
            n_notes += 1
        start, filled, last = start + size, filled + inflated, inflated


def _libdeflate() -> ctypes.CDLL | None:
    """Find the C functions of libdeflate in the extension module of the package deflate; None if not there."""
    try:
        from deflate import _deflate

        library = ctypes.CDLL(_deflate.__file__)
        library.libdeflate_alloc_decompressor.restype = ctypes.c_void_p
        library.libdeflate_free_decompressor.argtypes = [ctypes.c_void_p]
        for name in ("deflate_decompress", "crc32"):
            getattr(library, f"libdeflate_{name}")
    except (ImportError, AttributeError, OSError):
        return None
    return library


class Inflater:
    """Inflates BGZF blocks, with libdeflate where its functions are found, else with zlib; for one thread."""

    def __init__(self) -> None:
        self._addresses: tuple[int, int, int] | None = None
        library = _libdeflate() if ctypes.sizeof(ctypes.c_void_p) == 8 else None
        decompressor = library.libdeflate_alloc_decompressor() if library is not None else None
        if library is not None and decompressor:
            functions = library.libdeflate_deflate_decompress, library.libdeflate_crc32
            decompress, crc32 = (ctypes.cast(function, ctypes.c_void_p).value for function in functions)
            self._addresses = (decompress, crc32, decompressor)
            weakref.finalize(self, library.libdeflate_free_decompressor, decompressor)

    @property
    def engine(self) -> str:
        """The library that inflates: libdeflate or zlib."""
        return "zlib" if self._addresses is None else "libdeflate"

    def inflate(
        self,
        data: np.ndarray,
        start: int,
        end: int,
        out: np.ndarray,
        filled: int,
        notes: np.ndarray,
        n_notes: int,
    ) -> tuple[int, int, int, int, int]:
        """Inflate the whole blocks of ``data[start:end]`` into ``out`` from ``filled`` on, as many as fit.

        Parameters: ``data`` and ``out`` uint8; ``notes`` (more than len(out) / NOTE_BYTES, 2) int64, whose rows from
        ``n_notes`` on receive the place in ``out`` and the place in ``data`` of a block; tiny blocks share a note.
        Returns the reason why it stopped (NEEDS_INPUT, OUTPUT_FULL or one of COMPLAINTS), the new ``start``,
        ``filled`` and ``n_notes``, and the inflated size of the last block, -1 if there was none. What lies
        before ``filled`` has passed its checks: size and CRC32.
        """
        if self._addresses is None:
            return inflate_reference(data, start, end, out, filled, notes, n_notes)
        return _inflate_cpu(data, start, end, out, filled, notes, n_notes, *self._addresses)
