"""Min-max similarity of counts: how much two patients have in common, feature by feature.

The sum of the smaller values over the sum of the larger ones (Ruzicka's index); two samples without any count are
alike, 1. Of values 0 and 1 it is Tanimoto's similarity. The matrix of a cohort is positive semidefinite (Ralaivola
2005, doi:10.1016/j.neunet.2005.07.009). In this order: the NumPy reference, the CPU path, the CUDA kernel, the
launcher ``min_max``, and ``weighted_gains``, of which the contributions of features are made. The larger values are
both totals less the smaller values, so only minima are summed; totals are summed in the same order, so that no
similarity is above 1 and that of a sample with itself is 1.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numba import njit

from oncoarena.kernels.gram import (
    CUDA_CHUNK_VALUES,
    CUDA_TILE,
    CUDA_TILE_PADDED,
    check_pair,
    chunk_features,
    require_gpu,
)

# Features whose minima are summed in float32 before their sum is added to a float64: whole numbers up to 2^15 stay
# exact, and a run of a sample (2 KB) stays in the fastest cache.
RUN = 512
# Samples whose runs stay in a core's cache while all others are compared with them.
TILE_SAMPLES = 64


def min_max_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compare counts the plain way: float64, one sample of ``x`` after the other.

    Parameters and returns as in ``min_max``.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    out = np.ones((len(x), len(y)))
    for sample, row in zip(x, out, strict=True):
        larger = np.maximum(sample, y).sum(axis=1)
        np.divide(np.minimum(sample, y).sum(axis=1), larger, out=row, where=larger > 0)
    return out


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "nnan"})
def _add_minima(x, y, out):
    """Add to out (n, m) float64 the sums of minima of x (n, p) and y (m, p) float32, run by run."""
    for start in range(0, x.shape[1], RUN):
        for first in range(0, len(y), TILE_SAMPLES):
            for i in range(len(x)):
                a = x[i, start : start + RUN]
                for j in range(first, min(first + TILE_SAMPLES, len(y))):
                    b = y[j, start : start + RUN]
                    total = np.float32(0.0)
                    for k in range(len(a)):
                        total += min(a[k], b[k])
                    out[i, j] += total


def min_max_cpu(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compare counts run by run, vectorised.

    Parameters and returns as in ``min_max``.
    """
    same = y is x
    x = np.ascontiguousarray(x, dtype=np.float32)
    y = x if same else np.ascontiguousarray(y, dtype=np.float32)
    smaller = np.zeros((len(x), len(y)))
    _add_minima(x, y, smaller)
    larger = sum_values(x)[:, None] + sum_values(y)[None, :] - smaller
    return np.divide(smaller, larger, out=np.ones(smaller.shape), where=larger > 0)


def sum_values(x: np.ndarray) -> np.ndarray:
    """Sum the values of each sample (n,) float64, as ``min_max`` does: the minima of it and itself."""
    totals = np.zeros((len(x), 1, 1))
    for sample, total in zip(x, totals, strict=True):
        _add_minima(sample[None], sample[None], total)
    return totals[:, 0, 0]


@cache
def _cuda_kernel() -> Callable:
    """Compile the CUDA kernel; numba.cuda is imported only when a GPU is asked for."""
    # A name of the module, not of this function: numba's simulator replaces it there.
    global cuda
    from numba import cuda, float32

    @cuda.jit
    def min_max_kernel(x, y, sums, is_last, out):
        """Add one chunk of features to the sums; after the last chunk write the similarities.

        x (n, p), y (m, p) float32; sums (3, n, m) float64: minima, totals of x and of y; out (n, m). One thread is
        one pair of samples. It adds 16 values in float32, then the sum of them in float64, always in the order of
        the features: two runs give the same bits.
        """
        # One allocation a line: the simulator tells shared arrays apart by their source line.
        x_tile = cuda.shared.array((CUDA_TILE, CUDA_TILE_PADDED), float32)
        y_tile = cuda.shared.array((CUDA_TILE, CUDA_TILE_PADDED), float32)
        column, row = cuda.threadIdx.x, cuda.threadIdx.y
        i = cuda.blockIdx.y * CUDA_TILE + row
        j = cuda.blockIdx.x * CUDA_TILE + column
        y_row = cuda.blockIdx.x * CUDA_TILE + row
        n, m, p = x.shape[0], y.shape[0], x.shape[1]
        inside = i < n and j < m
        smaller = sums[0, i, j] if inside else 0.0
        x_total = sums[1, i, j] if inside else 0.0
        y_total = sums[2, i, j] if inside else 0.0

        for tile in range((p + CUDA_TILE - 1) // CUDA_TILE):
            feature = tile * CUDA_TILE + column
            x_tile[row, column] = 0.0
            y_tile[row, column] = 0.0
            if feature < p and i < n:
                x_tile[row, column] = x[i, feature]
            if feature < p and y_row < m:
                y_tile[row, column] = y[y_row, feature]
            cuda.syncthreads()
            part_smaller = float32(0.0)
            part_x = float32(0.0)
            part_y = float32(0.0)
            for k in range(CUDA_TILE):
                a = x_tile[row, k]
                b = y_tile[column, k]
                part_smaller += min(a, b)
                part_x += a
                part_y += b
            smaller += part_smaller
            x_total += part_x
            y_total += part_y
            cuda.syncthreads()

        if inside:
            sums[0, i, j] = smaller
            sums[1, i, j] = x_total
            sums[2, i, j] = y_total
            if is_last:
                larger = x_total + y_total - smaller
                out[i, j] = smaller / larger if larger > 0.0 else 1.0

    return min_max_kernel


def min_max_cuda(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compare counts on the GPU, one chunk of features after the other.

    Parameters and returns as in ``min_max``.
    Raises InputError if no GPU can be used.
    """
    cuda = require_gpu()
    kernel = _cuda_kernel()
    n, m, n_features = len(x), len(y), x.shape[1]
    sums = cuda.to_device(np.zeros((3, n, m)))
    out = cuda.device_array((n, m), dtype=np.float64)
    grid = (math.ceil(m / CUDA_TILE), math.ceil(n / CUDA_TILE))
    step = chunk_features(n + m, CUDA_CHUNK_VALUES)
    for start in range(0, n_features, step):
        columns = slice(start, start + step)
        kernel[grid, (CUDA_TILE, CUDA_TILE)](
            cuda.to_device(np.ascontiguousarray(x[:, columns], dtype=np.float32)),
            cuda.to_device(np.ascontiguousarray(y[:, columns], dtype=np.float32)),
            sums,
            start + step >= n_features,
            out,
        )
    return out.copy_to_host()


def min_max(x: np.ndarray, y: np.ndarray, *, device: str = "cpu") -> np.ndarray:
    """Compare each sample of ``x`` with each sample of ``y``.

    Parameters: ``x`` (n, p) and ``y`` (m, p), finite and not negative; ``device`` "cpu" or "cuda".
    Returns (n, m) float64 from 0 (no feature in common) to 1 (the same values).
    Raises ValueError for shapes that do not fit or an unknown device; InputError without a GPU.
    """
    check_pair(x, y, device)
    if 0 in (len(x), len(y), x.shape[1]):
        return min_max_reference(x, y)
    return {"cpu": min_max_cpu, "cuda": min_max_cuda}[device](x, y)


@njit(cache=True, nogil=True)
def _add_weighted_gains(x, start, y, weights, out):
    """Fill out (n, p) float32; see ``weighted_gains``. The sums over y are float64."""
    sums = np.empty(RUN)
    for first in range(0, x.shape[1], RUN):
        before = start[first : first + RUN]
        for i in range(len(x)):
            after = x[i, first : first + RUN]
            sums[:] = 0.0
            for j in range(len(y)):
                other = y[j, first : first + RUN]
                weight = weights[i, j]
                for k in range(len(after)):
                    sums[k] += weight * (min(after[k], other[k]) - min(before[k], other[k]))
            out[i, first : first + RUN] = sums[: len(after)]


def weighted_gains(x: np.ndarray, start: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum over ``y`` weight x what the minimum with it gains from ``start`` to ``x``, feature by feature.

    Parameters: ``x`` (n, p), ``start`` (p,), ``y`` (m, p), ``weights`` (n, m).
    Returns (n, p) float32.
    """
    out = np.zeros(x.shape, dtype=np.float32)
    x, start, y = (np.ascontiguousarray(values, dtype=np.float32) for values in (x, start, y))
    _add_weighted_gains(x, start, y, np.ascontiguousarray(weights, dtype=np.float64), out)
    return out
