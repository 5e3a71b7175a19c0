"""Tanimoto similarity of sets, 64 members at a time: how alike are the mutated genes of two patients?

Of two sets, the number of shared members over the number of members of either (Jaccard's index); two empty sets are
alike, 1. The matrix of a cohort is positive semidefinite (Ralaivola 2005, doi:10.1016/j.neunet.2005.07.009).
In this order: the NumPy reference, the CPU path, the CUDA kernel and the launcher ``tanimoto``. Whole numbers are
counted, so all paths agree to the last bit.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from oncoarena.kernels.gram import CUDA_TILE, CUDA_TILE_PADDED, check_pair, require_gpu

# Members of a set that one machine word holds.
WORD_BITS = 64
# Words of packed sets that stay in a core's cache while all others are compared with them (256 KiB).
TILE_WORDS = 2**15
# Values packed at a time (16 MiB of booleans).
PACKED_VALUES = 2**24


def tanimoto_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compare sets the plain way: whole matrices, float64.

    Parameters and returns as in ``tanimoto``.
    """
    x, y = (x != 0).astype(np.float64), (y != 0).astype(np.float64)
    return _share_of_union(x @ y.T, x.sum(axis=1), y.sum(axis=1))


def _share_of_union(shared: np.ndarray, x_sizes: np.ndarray, y_sizes: np.ndarray) -> np.ndarray:
    """Divide numbers of shared members (n, m) by those of members of either set; 1 where both are empty."""
    union = x_sizes[:, None] + y_sizes[None, :] - shared
    return np.divide(shared, union, out=np.ones(shared.shape), where=union > 0)


def pack_sets(x: np.ndarray) -> np.ndarray:
    """Pack sets into machine words, a bit a possible member.

    Parameters: ``x`` (n, p), a member where not 0.
    Returns (n, p / 64 rounded up) uint64; the bits beyond p are 0.
    """
    n_sets, n_members = x.shape
    packed = np.zeros((n_sets, math.ceil(n_members / WORD_BITS) * WORD_BITS // 8), dtype=np.uint8)
    step = max(1, PACKED_VALUES // max(n_members, 1))
    for start in range(0, n_sets, step):
        bits = np.packbits(x[start : start + step] != 0, axis=1)
        packed[start : start + step, : bits.shape[1]] = bits
    return packed.view(np.uint64)


@intrinsic
def _population_count(typing_context, word):
    """Count the bits of a uint64 that are 1: one instruction of the processor, or of eight words at a time."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def _count_shared(x, y, step, out):
    """Count the members that packed sets x (n, w) and y (m, w) share, into out (n, m) float64.

    ``step`` sets of y at a time stay in the cache; four of them at once share each word read from x.
    """
    for first in range(0, len(y), step):
        end = min(first + step, len(y))
        for i in range(len(x)):
            j = first
            while j + 4 <= end:
                a, b, c, d = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
                for k in range(x.shape[1]):
                    word = x[i, k]
                    a += _population_count(word & y[j, k])
                    b += _population_count(word & y[j + 1, k])
                    c += _population_count(word & y[j + 2, k])
                    d += _population_count(word & y[j + 3, k])
                out[i, j], out[i, j + 1], out[i, j + 2], out[i, j + 3] = a, b, c, d
                j += 4
            while j < end:
                a = np.uint64(0)
                for k in range(x.shape[1]):
                    a += _population_count(x[i, k] & y[j, k])
                out[i, j] = a
                j += 1


def tanimoto_cpu(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compare sets by counting bits of packed words.

    Parameters and returns as in ``tanimoto``.
    """
    x_words = pack_sets(x)
    y_words = x_words if y is x else pack_sets(y)
    shared = np.empty((len(x), len(y)))
    _count_shared(x_words, y_words, max(4, TILE_WORDS // x_words.shape[1]), shared)
    return _share_of_union(shared, _sizes(x_words), _sizes(y_words))


def _sizes(words: np.ndarray) -> np.ndarray:
    return np.bitwise_count(words).sum(axis=1, dtype=np.float64)


@cache
def _cuda_kernel() -> Callable:
    """Compile the CUDA kernel; numba.cuda is imported only when a GPU is asked for."""
    # A name of the module, not of this function: numba's simulator replaces it there.
    global cuda
    from numba import cuda, uint64

    @cuda.jit
    def tanimoto_kernel(x, y, out):
        """Compare packed sets x (n, w) and y (m, w) uint64, into out (n, m) float64; one thread is one pair."""
        # One allocation a line: the simulator tells shared arrays apart by their source line.
        x_tile = cuda.shared.array((CUDA_TILE, CUDA_TILE_PADDED), uint64)
        y_tile = cuda.shared.array((CUDA_TILE, CUDA_TILE_PADDED), uint64)
        column, row = cuda.threadIdx.x, cuda.threadIdx.y
        i = cuda.blockIdx.y * CUDA_TILE + row
        j = cuda.blockIdx.x * CUDA_TILE + column
        y_row = cuda.blockIdx.x * CUDA_TILE + row
        n, m, n_words = x.shape[0], y.shape[0], x.shape[1]
        shared = 0
        union = 0
        for tile in range((n_words + CUDA_TILE - 1) // CUDA_TILE):
            word = tile * CUDA_TILE + column
            x_tile[row, column] = uint64(0)
            y_tile[row, column] = uint64(0)
            if word < n_words and i < n:
                x_tile[row, column] = x[i, word]
            if word < n_words and y_row < m:
                y_tile[row, column] = y[y_row, word]
            cuda.syncthreads()
            for k in range(CUDA_TILE):
                a = x_tile[row, k]
                b = y_tile[column, k]
                shared += cuda.popc(a & b)
                union += cuda.popc(a | b)
            cuda.syncthreads()
        if i < n and j < m:
            out[i, j] = shared / union if union > 0 else 1.0

    return tanimoto_kernel


def tanimoto_cuda(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compare sets on the GPU, which gets them packed.

    Parameters and returns as in ``tanimoto``.
    Raises InputError if no GPU can be used.
    """
    cuda = require_gpu()
    kernel = _cuda_kernel()
    x_words = cuda.to_device(pack_sets(x))
    y_words = x_words if y is x else cuda.to_device(pack_sets(y))
    out = cuda.device_array((len(x), len(y)), dtype=np.float64)
    grid = (math.ceil(len(y) / CUDA_TILE), math.ceil(len(x) / CUDA_TILE))
    kernel[grid, (CUDA_TILE, CUDA_TILE)](x_words, y_words, out)
    return out.copy_to_host()


def tanimoto(x: np.ndarray, y: np.ndarray, *, device: str = "cpu") -> np.ndarray:
    """Compare each set of ``x`` with each set of ``y``.

    Parameters: ``x`` (n, p) and ``y`` (m, p), a member where not 0; ``device`` "cpu" or "cuda".
    Returns (n, m) float64 from 0 (nothing shared) to 1 (the same sets, also two empty ones).
    Raises ValueError for shapes that do not fit or an unknown device; InputError without a GPU.
    """
    check_pair(x, y, device)
    if 0 in (len(x), len(y), x.shape[1]):
        return tanimoto_reference(x, y)
    return {"cpu": tanimoto_cpu, "cuda": tanimoto_cuda}[device](x, y)
