"""Similarities of samples: our kernels against what scikit-learn, SciPy and NumPy take for the same, in one process.

    python bench/kernels.py [--samples 2000] [--genes 20000] [--density 0.005] [--rounds 3] [--device cuda]

Ours and the others take turns on one thread, and what they give is compared first. Printed are median seconds and
the median of the ratios round by round. scikit-learn and SciPy get an eighth of the samples. With --device cuda ours
run on the GPU, against CuPy doing the same in separate steps (cuBLAS for products): first whole, from and to the
CPU's memory, then the kernel alone, as a share of what a copy and a matrix product reach on the same GPU.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances
from threadpoolctl import threadpool_limits

from oncoarena.kernels import gram as gram_module
from oncoarena.kernels import min_max as min_max_module
from oncoarena.kernels import tanimoto as tanimoto_module
from oncoarena.kernels.gram import CUDA_TILE, KERNELS, from_linear, gram
from oncoarena.kernels.min_max import min_max
from oncoarena.kernels.tanimoto import pack_sets, tanimoto

Way = Callable[[], np.ndarray]
ARC = ("linear", "cosine", "rbf", "arc_cosine")


def draw_sets(n_samples: int, n_genes: int, density: float) -> np.ndarray:
    """Draw mutated genes (n_samples, n_genes) bool."""
    return np.random.default_rng(0).random((n_samples, n_genes), dtype=np.float32) < density


def tanimoto_ways(sets: np.ndarray) -> dict[str, Way]:
    """Ways to compare sets; ours first."""

    def by_sparse_product() -> np.ndarray:
        members = sparse.csr_array(sets, dtype=np.float32)
        shared, sizes = (members @ members.T).toarray(), sets.sum(axis=1)
        return shared / (sizes[:, None] + sizes - shared)

    def by_product() -> np.ndarray:
        members = sets.astype(np.float32)
        shared, sizes = members @ members.T, sets.sum(axis=1)
        return shared / (sizes[:, None] + sizes - shared)

    return {
        "oncoarena, bit-packed": lambda: tanimoto(sets, sets),
        "NumPy float32 product": by_product,
        "scipy.sparse product": by_sparse_product,
    }


def slow_tanimoto_ways(sets: np.ndarray) -> dict[str, Way]:
    """The same by what one would call first; ours first."""
    return {
        "oncoarena, bit-packed": lambda: tanimoto(sets, sets),
        "scikit-learn pairwise_distances": lambda: 1.0 - pairwise_distances(sets, metric="jaccard"),
        "scipy cdist": lambda: 1.0 - cdist(sets, sets, metric="jaccard"),
    }


def min_max_ways(counts: np.ndarray) -> dict[str, Way]:
    """Ways to compare counts; ours first."""

    def broadcast() -> np.ndarray:
        smaller = np.stack([np.minimum(sample, counts).sum(axis=1) for sample in counts])
        larger = np.stack([np.maximum(sample, counts).sum(axis=1) for sample in counts])
        return smaller / larger

    return {
        "oncoarena, runs of minima": lambda: min_max(counts, counts),
        "NumPy, sample by sample": broadcast,
    }


def gram_ways(x: np.ndarray) -> dict[str, Way]:
    """Ways to standardise samples and compare them by four kernels; ours first."""
    centre, scale = x.mean(axis=0, dtype=np.float64), 1.0 / x.std(axis=0, dtype=np.float64)

    def in_steps() -> np.ndarray:
        standardised = (x - centre) * scale
        linear = standardised @ standardised.T
        squares = (standardised**2).sum(axis=1)
        return np.stack([from_linear(linear, squares, squares, kind, 1e-4) for kind in ARC])

    return {
        "oncoarena, tiles of features": lambda: gram(x, x, kinds=ARC, gamma=1e-4, centre=centre, scale=scale),
        "NumPy in separate steps": in_steps,
    }


def compare(title: str, ways: dict[str, Way], n_rounds: int) -> None:
    """Time the ways in turn and print a table; the first is the one to beat."""
    (ours, way), *others = ways.items()
    # Compiles, and warms caches and the GPU.
    expected = way()
    for name, other in others:
        error = float(np.abs(expected - other()).max())
        assert error < 1e-3 * max(1.0, float(np.abs(expected).max())), f"{name} gives something else: {error}"
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    print(f"\n{title}")
    for name, times in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(seconds[ours], times, strict=True))
        print(f"  {name:<34}{statistics.median(times):>10.3f} s{ratio:>10.1f} x")


def compare_on_cpu(options: argparse.Namespace) -> None:
    """Run the comparisons of the processor."""
    rng = np.random.default_rng(1)
    n, p = options.samples, options.genes
    for n_sets, ways in ((n // 8, slow_tanimoto_ways), (n, tanimoto_ways)):
        title = f"Tanimoto: {n_sets:,} x {p:,} genes, {options.density:.1%} mutated"
        compare(title, ways(draw_sets(n_sets, p, options.density)), options.rounds)
    for n_few, n_features in ((n // 2, 96), (n // 8, p)):
        counts = rng.poisson(3.0, (n_few, n_features)).astype(np.float32)
        compare(f"Min-max: {n_few:,} x {n_features:,} counts", min_max_ways(counts), options.rounds)
    x = rng.normal(3.0, 2.0, (n // 4, p)).astype(np.float32)
    compare(f"Gram, 4 kernels: {len(x):,} x {p:,} features", gram_ways(x), options.rounds)


def compare_on_gpu(options: argparse.Namespace) -> None:
    """Run the comparisons of the GPU; needs CuPy."""
    import cupy

    def seconds_of(way: Callable[[], object]) -> float:
        """Median time of a way, the GPU's queue empty before and after."""
        way()
        times = []
        for _ in range(options.rounds):
            cupy.cuda.Device().synchronize()
            started = time.perf_counter()
            way()
            cupy.cuda.Device().synchronize()
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    square = cupy.ones((2**13, 2**13), dtype=cupy.float32)
    copied = 2 * square.nbytes / seconds_of(square.copy)
    multiplied = 2 * len(square) ** 3 / seconds_of(lambda: square @ square)
    print(f"{name}: copy {copied / 1e9:,.0f} GB/s, float32 product {multiplied / 1e12:.1f} TFLOP/s")

    rng = np.random.default_rng(1)
    n, p = options.samples, options.genes
    sets = draw_sets(n, p, options.density)
    counts = rng.poisson(3.0, (n, p)).astype(np.float32)
    x = rng.normal(3.0, 2.0, (n, p)).astype(np.float32)
    centre, scale = x.mean(axis=0, dtype=np.float64), 1.0 / x.std(axis=0, dtype=np.float64)

    def tanimoto_in_steps() -> np.ndarray:
        members = cupy.asarray(sets).astype(cupy.float32)
        shared, sizes = members @ members.T, members.sum(axis=1)
        return cupy.asnumpy(shared / (sizes[:, None] + sizes - shared))

    def min_max_in_steps() -> np.ndarray:
        values = cupy.asarray(counts)
        smaller = cupy.stack([cupy.minimum(sample, values).sum(axis=1) for sample in values])
        totals = values.sum(axis=1)
        return cupy.asnumpy(smaller / (totals[:, None] + totals - smaller))

    def gram_in_steps() -> np.ndarray:
        values = (cupy.asarray(x) - cupy.asarray(centre, cupy.float32)) * cupy.asarray(scale, cupy.float32)
        linear, squares = values @ values.T, (values**2).sum(axis=1)
        lengths = cupy.sqrt(squares)[:, None] * cupy.sqrt(squares)
        cosine = cupy.clip(linear / lengths, -1.0, 1.0)
        angle = cupy.arccos(cosine)
        rbf = cupy.exp(-1e-4 * cupy.maximum(squares[:, None] + squares - 2.0 * linear, 0.0))
        arc = lengths * (cupy.sin(angle) + (np.pi - angle) * cosine) / np.pi
        return cupy.asnumpy(cupy.stack([linear, cosine, rbf, arc]))

    words, counted, values = cupy.asarray(pack_sets(sets)), cupy.asarray(counts), cupy.asarray(x)
    sums, out, outs = cupy.zeros((3, n, n)), cupy.empty((n, n)), cupy.empty((len(ARC), n, n))
    scaling = cupy.asarray(centre), cupy.asarray(scale)
    kinds = cupy.asarray([KERNELS.index(kind) for kind in ARC])
    launch = (-(-n // CUDA_TILE), -(-n // CUDA_TILE)), (CUDA_TILE, CUDA_TILE)
    arguments = {"kinds": ARC, "gamma": 1e-4, "centre": centre, "scale": scale, "device": "cuda"}
    cases = {
        "Tanimoto": (
            lambda: tanimoto(sets, sets, device="cuda"),
            tanimoto_in_steps,
            lambda: tanimoto_module._cuda_kernel()[launch](words, words, out),
            words.nbytes,
        ),
        "Min-max": (
            lambda: min_max(counts, counts, device="cuda"),
            min_max_in_steps,
            lambda: min_max_module._cuda_kernel()[launch](counted, counted, sums, True, out),
            counted.nbytes,
        ),
        "Gram, 4 kernels": (
            lambda: gram(x, x, **arguments),
            gram_in_steps,
            lambda: gram_module._cuda_kernel()[launch](
                values, values, *scaling, sums, kinds, 1e-4, True, outs
            ),
            values.nbytes,
        ),
    }
    for title, (ours, in_steps, kernel, n_bytes) in cases.items():
        ways = {"oncoarena, CUDA kernel": ours, "CuPy and cuBLAS in separate steps": in_steps}
        compare(f"{title}: {n:,} x {p:,}", ways, options.rounds)
        seconds = seconds_of(kernel)
        print(
            f"  kernel alone {seconds:.4f} s: {2 * n * n * p / seconds / multiplied:.1%} of a product's speed, "
            f"its input read once {n_bytes / seconds / copied:.1%} of the copy's bandwidth"
        )


def main() -> None:
    """Run the comparisons of the processor or of the GPU."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--density", type=float, default=0.005)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    with threadpool_limits(1):
        (compare_on_gpu if options.device == "cuda" else compare_on_cpu)(options)


if __name__ == "__main__":
    main()
