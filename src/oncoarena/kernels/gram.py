"""Gram matrices of samples: linear, cosine, Gaussian, arc-cosine and other kernels in one pass over the features.

In this order: the NumPy reference, the CPU path, the CUDA kernel and the launcher ``gram``. Every path
centres and scales features as it reads them, so a standardised copy of the data never exists.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType

import numpy as np

from oncoarena.errors import InputError
from oncoarena.mapped import release

KERNELS = ("linear", "cosine", "rbf", "arc_cosine", "squared_cosine")
# 32 MiB of float64 a tile of features: memory stays bounded whatever the number of features.
TILE_VALUES = 2**22
# Side of a tile of the CUDA kernel, in samples and in features: 256 threads a block.
CUDA_TILE = 16
# One spare column keeps the threads of a warp on different banks of shared memory.
CUDA_TILE_PADDED = 17
# Features sent to the GPU at a time hold at most this many float32 values (1 GiB).
CUDA_CHUNK_VALUES = 2**28


def gram_reference(
    x: np.ndarray,
    y: np.ndarray,
    *,
    kinds: Sequence[str] = ("linear",),
    gamma: float = 1.0,
    centre: np.ndarray | None = None,
    scale: np.ndarray | None = None,
) -> np.ndarray:
    """Compute kernels between samples the plain way: whole matrices, float64.

    Parameters and returns as in ``gram``.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if centre is not None:
        x, y = x - centre, y - centre
    if scale is not None:
        x, y = x * scale, y * scale
    linear = x @ y.T
    return np.stack([from_linear(linear, (x**2).sum(1), (y**2).sum(1), kind, gamma) for kind in kinds])


def from_linear(
    linear: np.ndarray, x_squares: np.ndarray, y_squares: np.ndarray, kind: str, gamma: float = 1.0
) -> np.ndarray:
    """Turn inner products into another kernel.

    "cosine": the inner product of samples of unit length; 0 where a sample has length 0.
    "rbf": exp(-gamma * squared distance).
    "arc_cosine": order 1, what an infinitely wide layer of rectified linear units computes
    (Cho and Saul 2009, "Kernel methods for deep learning", NeurIPS 22).
    "squared_cosine": the square of the cosine, a product of two kernels. It sees along which lines samples lie and
    not on which side, so it tells classes of one mean apart by how their features go together; all other kernels
    drown that in the noise of their linear part.

    Parameters: ``linear`` (n, m) inner products, ``x_squares`` (n,) and ``y_squares`` (m,) squared
    lengths, ``kind`` one of ``KERNELS``, ``gamma`` per unit of squared distance.
    Returns (n, m) float64, a fresh array.
    """
    if kind == "linear":
        return linear.astype(np.float64)
    if kind == "rbf":
        squared = x_squares[:, None] + y_squares[None, :] - 2.0 * linear
        return np.exp(-gamma * np.maximum(squared, 0.0))
    lengths = np.sqrt(x_squares)[:, None] * np.sqrt(y_squares)[None, :]
    cosine = np.divide(linear, lengths, out=np.zeros(linear.shape), where=lengths > 0)
    np.clip(cosine, -1.0, 1.0, out=cosine)
    if kind == "cosine":
        return cosine
    if kind == "squared_cosine":
        return cosine**2
    angle = np.arccos(cosine)
    return lengths * (np.sin(angle) + (np.pi - angle) * cosine) / np.pi


def squared_lengths(
    x: np.ndarray, *, centre: np.ndarray | None = None, scale: np.ndarray | None = None
) -> np.ndarray:
    """Return the squared lengths (n,) float64 of the samples (x - centre) * scale; parameters as in ``gram``."""
    lengths = np.zeros(len(x))
    step = max(1, TILE_VALUES // max(len(x), 1))
    for start in range(0, x.shape[1], step):
        columns = slice(start, start + step)
        tile = _standardise(x[:, columns], columns, centre, scale)
        lengths += np.einsum("ij,ij->i", tile, tile)
        release(x)
    return lengths


def median_gamma(linear: np.ndarray) -> float:
    """Return the gamma of a Gaussian as wide as the median distance: 1 / (2 median squared distance).

    Parameters: ``linear`` (n, n) inner products of samples, n at least 2.
    """
    squares = np.diag(linear)
    squared = squares[:, None] + squares[None, :] - 2.0 * linear
    pairs = squared[np.triu_indices(len(linear), k=1)]
    # More than half of the pairs may be duplicates; the features vary, so some pair is apart.
    positive = pairs[pairs > 1e-12 * squares.max()]
    return float(0.5 / np.median(positive))


def gram_cpu(
    x: np.ndarray,
    y: np.ndarray,
    *,
    kinds: Sequence[str] = ("linear",),
    gamma: float = 1.0,
    centre: np.ndarray | None = None,
    scale: np.ndarray | None = None,
) -> np.ndarray:
    """Compute kernels between samples by BLAS, one tile of features after the other, in float64.

    Parameters and returns as in ``gram``.
    """
    n_features = x.shape[1]
    same = x is y
    linear = np.zeros((len(x), len(y)))
    x_squares, y_squares = np.zeros(len(x)), np.zeros(len(y))
    step = max(1, TILE_VALUES // max(len(x) + len(y), 1))
    for start in range(0, n_features, step):
        columns = slice(start, start + step)
        x_tile = _standardise(x[:, columns], columns, centre, scale)
        y_tile = x_tile if same else _standardise(y[:, columns], columns, centre, scale)
        # NumPy sees A @ A.T and halves the work.
        linear += x_tile @ y_tile.T
        x_squares += np.einsum("ij,ij->i", x_tile, x_tile)
        y_squares += np.einsum("ij,ij->i", y_tile, y_tile)
        release(x)
        release(y)
    return np.stack([from_linear(linear, x_squares, y_squares, kind, gamma) for kind in kinds])


def _standardise(
    values: np.ndarray, columns: slice, centre: np.ndarray | None, scale: np.ndarray | None
) -> np.ndarray:
    tile = np.array(values, dtype=np.float64)
    if centre is not None:
        tile -= centre[columns]
    if scale is not None:
        tile *= scale[columns]
    return tile


@cache
def _cuda_kernel() -> Callable:
    """Compile the CUDA kernel; numba.cuda is imported only when a GPU is asked for."""
    # A name of the module, not of this function: numba's simulator replaces it there.
    global cuda
    from numba import cuda, float32

    @cuda.jit
    def gram_kernel(x, y, centre, scale, sums, kinds, gamma, is_last, out):
        """Add one chunk of features to the sums; after the last chunk write every kernel asked for.

        x (n, p), y (m, p) float32; centre, scale (p,) float64; sums (3, n, m) float64: inner
        products, squared lengths of x and of y; kinds (k,) positions in KERNELS; out (k, n, m).
        One thread is one pair of samples. It adds 16 products in float32, then the sum of them in
        float64, always in the order of the features: two runs give the same bits.
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
        product = sums[0, i, j] if inside else 0.0
        x_square = sums[1, i, j] if inside else 0.0
        y_square = sums[2, i, j] if inside else 0.0

        for tile in range((p + CUDA_TILE - 1) // CUDA_TILE):
            feature = tile * CUDA_TILE + column
            x_tile[row, column] = 0.0
            y_tile[row, column] = 0.0
            if feature < p and i < n:
                x_tile[row, column] = (x[i, feature] - centre[feature]) * scale[feature]
            if feature < p and y_row < m:
                y_tile[row, column] = (y[y_row, feature] - centre[feature]) * scale[feature]
            cuda.syncthreads()
            part_product = float32(0.0)
            part_x = float32(0.0)
            part_y = float32(0.0)
            for k in range(CUDA_TILE):
                a = x_tile[row, k]
                b = y_tile[column, k]
                part_product += a * b
                part_x += a * a
                part_y += b * b
            product += part_product
            x_square += part_x
            y_square += part_y
            cuda.syncthreads()

        if inside:
            sums[0, i, j] = product
            sums[1, i, j] = x_square
            sums[2, i, j] = y_square
            if is_last:
                length = math.sqrt(x_square) * math.sqrt(y_square)
                cosine = 0.0
                if length > 0.0:
                    cosine = min(1.0, max(-1.0, product / length))
                angle = math.acos(cosine)
                for k in range(kinds.shape[0]):
                    if kinds[k] == 0:
                        out[k, i, j] = product
                    elif kinds[k] == 1:
                        out[k, i, j] = cosine
                    elif kinds[k] == 2:
                        squared = x_square + y_square - 2.0 * product
                        out[k, i, j] = math.exp(-gamma * max(squared, 0.0))
                    elif kinds[k] == 4:
                        out[k, i, j] = cosine * cosine
                    else:
                        out[k, i, j] = length * (math.sin(angle) + (math.pi - angle) * cosine) / math.pi

    return gram_kernel


def require_gpu() -> ModuleType:
    """Return ``numba.cuda``; raises InputError if no GPU can be used."""
    from numba import cuda

    if not cuda.is_available():
        raise InputError(
            'device "cuda" was asked for, but no NVIDIA GPU with a driver was found: '
            'set the device of this hypothesis to "cpu", or run it on a machine with a GPU'
        )
    return cuda


def check_pair(x: np.ndarray, y: np.ndarray, device: str) -> None:
    """Raise ValueError unless two matrices of samples have the same features and ``device`` is "cpu" or "cuda"."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x has {x.shape[1]} features, y has {y.shape[1]}")
    if device not in ("cpu", "cuda"):
        raise ValueError(f'unknown device {device!r}: expected "cpu" or "cuda"')


def chunk_features(n_samples: int, chunk_values: int) -> int:
    """Return how many features go to the GPU at a time: ``chunk_values`` of so many samples at most.

    Whole tiles a chunk, so that the order of the sums does not depend on the size of a chunk.
    """
    return math.ceil(max(1, chunk_values // max(n_samples, 1)) / CUDA_TILE) * CUDA_TILE


def gram_cuda(
    x: np.ndarray,
    y: np.ndarray,
    *,
    kinds: Sequence[str] = ("linear",),
    gamma: float = 1.0,
    centre: np.ndarray | None = None,
    scale: np.ndarray | None = None,
) -> np.ndarray:
    """Compute kernels between samples on the GPU, one chunk of features after the other.

    Parameters and returns as in ``gram``. Products are float32, sums float64.
    Raises InputError if no GPU can be used.
    """
    cuda = require_gpu()
    n, m, n_features = len(x), len(y), x.shape[1]
    kernel = _cuda_kernel()
    sums = cuda.to_device(np.zeros((3, n, m)))
    out = cuda.device_array((len(kinds), n, m), dtype=np.float64)
    codes = cuda.to_device(np.array([KERNELS.index(kind) for kind in kinds], dtype=np.int64))
    grid = (math.ceil(m / CUDA_TILE), math.ceil(n / CUDA_TILE))
    centre = np.zeros(n_features) if centre is None else centre
    scale = np.ones(n_features) if scale is None else scale
    step = chunk_features(n + m, CUDA_CHUNK_VALUES)
    for start in range(0, n_features, step):
        columns = slice(start, start + step)
        kernel[grid, (CUDA_TILE, CUDA_TILE)](
            cuda.to_device(np.ascontiguousarray(x[:, columns], dtype=np.float32)),
            cuda.to_device(np.ascontiguousarray(y[:, columns], dtype=np.float32)),
            cuda.to_device(np.ascontiguousarray(centre[columns], dtype=np.float64)),
            cuda.to_device(np.ascontiguousarray(scale[columns], dtype=np.float64)),
            sums,
            codes,
            gamma,
            start + step >= n_features,
            out,
        )
    return out.copy_to_host()


def gram(
    x: np.ndarray,
    y: np.ndarray,
    *,
    kinds: Sequence[str] = ("linear",),
    gamma: float = 1.0,
    centre: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """Compute one or several kernels between samples of (x - centre) * scale.

    Parameters: ``x`` (n, p) and ``y`` (m, p), finite; ``kinds`` of ``KERNELS``; ``gamma`` of "rbf", per
    unit of squared distance; ``centre`` and ``scale`` (p,), or None to leave the features as they
    are; ``device`` "cpu" or "cuda".
    Returns (len(kinds), n, m) float64.
    Raises ValueError for shapes that do not fit, an unknown kind or device; InputError without a GPU.
    """
    unknown = [kind for kind in kinds if kind not in KERNELS]
    if unknown:
        raise ValueError(f"unknown kernel {', '.join(unknown)}: expected {', '.join(KERNELS)}")
    check_pair(x, y, device)
    if 0 in (len(x), len(y), x.shape[1]):
        return gram_reference(x, y, kinds=kinds, gamma=gamma)
    return {"cpu": gram_cpu, "cuda": gram_cuda}[device](
        x, y, kinds=kinds, gamma=gamma, centre=centre, scale=scale
    )
