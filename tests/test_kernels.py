"""Kernels: NumPy reference, CPU path and CUDA kernel agree with scikit-learn and with each other."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.integrate import dblquad
from sklearn.metrics import pairwise

from cuda_process import in_a_process
from oncoarena.kernels import gram as gram_module
from oncoarena.kernels.gram import KERNELS, gram, gram_cpu, gram_reference

ODD_SHAPES = [(1, 1, 1), (7, 5, 3), (17, 33, 101), (2, 19, 1000)]


def pair(n: int, m: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + 100 * m + 10_000 * p)
    return rng.normal(size=(n, p)).astype(np.float32), rng.normal(size=(m, p)).astype(np.float32)


@pytest.mark.parametrize("shape", ODD_SHAPES)
@pytest.mark.parametrize("path", [gram_reference, gram_cpu])
def test_gram__equals_sklearn(shape, path):
    x, y = (values.astype(np.float64) for values in pair(*shape))
    linear, cosine, rbf = path(x, y, kinds=("linear", "cosine", "rbf"), gamma=0.07)
    np.testing.assert_allclose(linear, pairwise.linear_kernel(x, y), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(cosine, pairwise.cosine_similarity(x, y), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(rbf, pairwise.rbf_kernel(x, y, gamma=0.07), rtol=1e-10, atol=1e-12)


def test_gram__arc_cosine_is_the_mean_of_rectified_units():
    x, y = np.array([[1.0, 0.5]]), np.array([[-0.3, 2.0]])

    def product(b, a):
        w = np.array([a, b])
        density = np.exp(-(a * a + b * b) / 2) / (2 * np.pi)
        return 2 * density * max(w @ x[0], 0.0) * max(w @ y[0], 0.0)

    # Cho and Saul 2009, eq. 1: 2 x the expectation over Gaussian weights, by numerical integration.
    expected, _ = dblquad(product, -7, 7, -7, 7, epsabs=1e-5)
    assert gram(x, y, kinds=("arc_cosine",))[0, 0, 0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_gram_cpu__tiles_equal_the_reference(shape, monkeypatch):
    x, y = pair(*shape)
    centre, scale = np.linspace(-1, 1, shape[2]), np.linspace(0, 2, shape[2])
    monkeypatch.setattr(gram_module, "TILE_VALUES", 200)
    for other in (y, x):
        arguments = {"kinds": KERNELS, "gamma": 0.3, "centre": centre, "scale": scale}
        np.testing.assert_allclose(
            gram_cpu(x, other, **arguments), gram_reference(x, other, **arguments), rtol=1e-9, atol=1e-9
        )


def test_gram__centre_and_scale_equal_standardising_before():
    x, y = pair(6, 9, 40)
    centre, scale = x.mean(axis=0, dtype=np.float64), 1 / x.std(axis=0, dtype=np.float64)
    before = gram((x - centre) * scale, (y - centre) * scale, kinds=KERNELS)
    np.testing.assert_allclose(gram(x, y, kinds=KERNELS, centre=centre, scale=scale), before, atol=1e-9)


def test_gram__a_sample_of_length_zero_is_like_nothing():
    x = np.zeros((1, 4))
    linear, cosine, rbf, arc_cosine, squared_cosine = gram(x, np.ones((2, 4)), kinds=KERNELS, gamma=0.5)
    assert not linear.any()
    assert not cosine.any()
    assert not arc_cosine.any()
    assert not squared_cosine.any()
    np.testing.assert_allclose(rbf, np.exp(-2.0))


def test_gram__no_features_and_no_samples():
    assert gram(np.zeros((3, 0)), np.zeros((2, 0)), kinds=("linear", "rbf")).shape == (2, 3, 2)
    assert gram(np.zeros((0, 4)), np.zeros((2, 4))).shape == (1, 0, 2)


def test_gram__says_what_is_wrong():
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="unknown kernel tanimoto"):
        gram(x, x, kinds=("tanimoto",))
    with pytest.raises(ValueError, match="x has 3 features, y has 2"):
        gram(x, x[:, :2])
    with pytest.raises(ValueError, match="unknown device 'tpu'"):
        gram(x, x, device="tpu")


def test_import__cpu_path_does_not_touch_cuda():
    code = (
        "import sys, numpy as np; from oncoarena.kernels.gram import gram;"
        "gram(np.ones((2, 3)), np.ones((2, 3)));"
        "assert not any(name.startswith(('numba_cuda', 'numba.cuda')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SIMULATED = """
import json, sys
import numpy as np
from numba import cuda
from oncoarena.kernels import gram as module

chunk = module.CUDA_CHUNK_VALUES
results = []
for n, m, p in json.loads(sys.argv[1]):
    rng = np.random.default_rng(n + m + p)
    x = rng.normal(1.0, 1.0, size=(n, p)).astype(np.float32)
    y = rng.normal(1.0, 1.0, size=(m, p)).astype(np.float32)
    x[0] = 1.0
    arguments = dict(kinds=module.KERNELS, gamma=0.3, centre=np.ones(p), scale=np.linspace(0.1, 1, p))
    expected = module.gram_reference(x, y, **arguments)
    module.CUDA_CHUNK_VALUES = chunk
    found = module.gram(x, y, device="cuda", **arguments)
    again = module.gram(x, y, device="cuda", **arguments)
    # Sixteen features a chunk: the sums go on where the last chunk left them.
    module.CUDA_CHUNK_VALUES = 1
    chunked = module.gram(x, y, device="cuda", **arguments)
    results.append({
        "error": float(np.abs(found - expected).max()),
        "repeats": bool((found == again).all()),
        "chunks": bool((found == chunked).all()),
    })
print(json.dumps(results))
"""


def test_gram_cuda__simulated_kernel_equals_the_reference_bit_for_bit_repeatably():
    # (17, 3, 37): more than one block and more than one tile, none of them full.
    shapes = [(1, 1, 1), (17, 3, 37)]
    for result in json.loads(in_a_process(SIMULATED, json.dumps(shapes), simulator=True)):
        # Products are float32: sums of some 40 numbers near 1 carry errors near 1e-6.
        assert result["error"] < 1e-5
        assert result["repeats"]
        assert result["chunks"]


def test_gram_cuda__kernel_has_a_type_for_every_name_on_a_real_gpu():
    # The simulator runs plain Python and takes what a GPU's compiler refuses; this needs no GPU.
    code = """
from numba import types
from numba.cuda.compiler import compile_cuda
from oncoarena.kernels.gram import _cuda_kernel

def array(dtype, ndim):
    return types.Array(dtype, ndim, "C")

x, vector, stack = array(types.float32, 2), array(types.float64, 1), array(types.float64, 3)
arguments = (x, x, vector, vector, stack, array(types.int64, 1), types.float64, types.boolean, stack)
compiled = compile_cuda(_cuda_kernel().py_func, types.void, arguments, cc=(8, 0))
found = compiled.type_annotation.typemap
assert found["part_product"] == types.float32, found
assert found["product"] == types.float64, found
"""
    in_a_process(code, simulator=False)
