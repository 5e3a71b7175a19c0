"""Similarities of sets and of counts: every path agrees with SciPy and brute force, and is a kernel."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.distance import cdist

from cuda_process import in_a_process
from oncoarena.kernels import tanimoto as tanimoto_module
from oncoarena.kernels.min_max import (
    RUN,
    TILE_SAMPLES,
    min_max,
    min_max_cpu,
    min_max_reference,
    weighted_gains,
)
from oncoarena.kernels.tanimoto import pack_sets, tanimoto, tanimoto_cpu, tanimoto_reference

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=70)
SETS = arrays(np.bool_, SHAPES)
COUNTS = arrays(np.float32, SHAPES, elements=st.integers(0, 1000).map(float))
SHARES = arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32, allow_subnormal=False))
ODD_SHAPES = [(1, 1, 1), (7, 5, 64), (3, 9, 65), (TILE_SAMPLES + 3, 2 * TILE_SAMPLES + 1, RUN + 7)]


def is_kernel(matrix):
    """Whether a matrix of similarities is symmetric, from 0 to 1, and positive semidefinite."""
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(matrix.diagonal(), 1.0)
    assert matrix.min() >= 0.0
    assert matrix.max() <= 1.0
    # Rounding of a matrix of ones: its size times float32's error where values are not whole numbers.
    assert np.linalg.eigvalsh(matrix).min() > -1e-6 * len(matrix)


@settings(deadline=None, max_examples=60)
@given(SETS)
def test_tanimoto__is_a_kernel_and_scipys_jaccard(x):
    found = tanimoto(x, x)
    is_kernel(found)
    # SciPy too takes two empty sets for the same.
    np.testing.assert_allclose(found, 1.0 - cdist(x, x, metric="jaccard"), atol=1e-15)


@settings(deadline=None, max_examples=60)
@given(st.one_of(COUNTS, SHARES))
def test_min_max__is_a_kernel_and_its_definition(x):
    found = min_max(x, x)
    is_kernel(found)
    smaller = np.minimum(x[:, None], x[None]).astype(np.float64).sum(axis=2)
    larger = np.maximum(x[:, None], x[None]).astype(np.float64).sum(axis=2)
    expected = np.divide(smaller, larger, out=np.ones_like(smaller), where=larger > 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(SETS)
def test_min_max__of_sets_is_tanimoto_to_the_last_bit(x):
    np.testing.assert_array_equal(min_max(x.astype(np.float32), x.astype(np.float32)), tanimoto(x, x))


@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_every_path__equals_the_reference_on_odd_shapes(shape, monkeypatch):
    n, m, p = shape
    rng = np.random.default_rng(p)
    x, y = rng.poisson(0.7, (n, p)), rng.poisson(0.7, (m, p))
    monkeypatch.setattr(tanimoto_module, "PACKED_VALUES", 2 * p)
    monkeypatch.setattr(tanimoto_module, "TILE_WORDS", 50)
    np.testing.assert_array_equal(tanimoto_cpu(x, y), tanimoto_reference(x, y))
    np.testing.assert_array_equal(min_max_cpu(x, y), min_max_reference(x, y))


def test_pack_sets__keeps_every_member_and_nothing_beyond():
    x = np.random.default_rng(0).random((5, 131)) < 0.5
    packed = pack_sets(x)
    assert packed.shape == (5, 3)
    np.testing.assert_array_equal(np.bitwise_count(packed).sum(axis=1), x.sum(axis=1))
    assert len(np.unique(pack_sets(np.eye(131)), axis=0)) == 131


@pytest.mark.parametrize("compare", [tanimoto, min_max])
def test_similarity__of_nothing(compare):
    x = np.array([[0.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(compare(x, x), np.eye(2))
    assert compare(x[:0], x).shape == (0, 2)
    assert compare(x, x[:0]).shape == (2, 0)
    np.testing.assert_array_equal(compare(x[:, :0], x[:, :0]), np.ones((2, 2)))


@pytest.mark.parametrize("compare", [tanimoto, min_max])
def test_similarity__says_what_is_wrong(compare):
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="x has 3 features, y has 2"):
        compare(x, x[:, :2])
    with pytest.raises(ValueError, match="unknown device 'tpu'"):
        compare(x, x, device="tpu")


def test_similarity__twice_gives_the_same_bits_and_a_sample_alone_gets_what_it_gets_in_a_batch():
    x = np.random.default_rng(3).dirichlet(np.ones(1200), size=90)
    together = min_max(x, x)
    np.testing.assert_array_equal(min_max(x, x), together)
    np.testing.assert_array_equal(min_max(x[7:8], x)[0], together[7])


def test_weighted_gains__equals_brute_force():
    rng = np.random.default_rng(1)
    x, start, y = rng.gamma(1.0, size=(4, 530)), rng.gamma(1.0, size=530), rng.gamma(1.0, size=(6, 530))
    weights = rng.normal(size=(4, 6))
    gains = np.minimum(x[:, None], y[None]) - np.minimum(start, y)
    np.testing.assert_allclose(
        weighted_gains(x, start, y, weights), (weights[:, :, None] * gains).sum(axis=1), atol=1e-5
    )


def test_import__cpu_path_does_not_touch_cuda():
    code = (
        "import sys, numpy as np; from oncoarena.kernels.min_max import min_max;"
        "from oncoarena.kernels.tanimoto import tanimoto;"
        "tanimoto(np.ones((2, 3)), np.ones((2, 3))); min_max(np.ones((2, 3)), np.ones((2, 3)));"
        "assert not any(name.startswith(('numba_cuda', 'numba.cuda')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SIMULATED = """
import json, sys
import numpy as np
from oncoarena.kernels import min_max as counts, tanimoto as sets

chunk = counts.CUDA_CHUNK_VALUES
results = []
for n, m, p in json.loads(sys.argv[1]):
    rng = np.random.default_rng(n + m + p)
    x, y = rng.poisson(0.7, (n, p)).astype(np.float32), rng.poisson(0.7, (m, p)).astype(np.float32)
    x[0] = y[0] = 0.0
    tanimoto = sets.tanimoto(x, y, device="cuda") == sets.tanimoto_reference(x, y)
    # The simulator is slow: some of the features will do where 64 are not one word.
    x, y = x[:, : 1 + p // 30], y[:, : 1 + p // 30]
    shares = x / np.float32(3.0), y / np.float32(7.0)
    counts.CUDA_CHUNK_VALUES = chunk
    whole = counts.min_max(*shares, device="cuda")
    again = counts.min_max(*shares, device="cuda")
    # Sixteen features a chunk: the sums go on where the last chunk left them.
    counts.CUDA_CHUNK_VALUES = 1
    results.append({
        "tanimoto": bool(tanimoto.all()),
        "min_max": bool((counts.min_max(x, y, device="cuda") == counts.min_max_reference(x, y)).all()),
        "error": float(np.abs(whole - counts.min_max_reference(*shares)).max()),
        "repeats": bool((whole == again).all()),
        "chunks": bool((whole == counts.min_max(*shares, device="cuda")).all()),
    })
print(json.dumps(results))
"""


def test_cuda__simulated_kernels_equal_the_references():
    # More than one block, and for sets more than one tile of words (17 x 64 members), none of them full.
    for result in json.loads(in_a_process(SIMULATED, json.dumps([(1, 1, 1), (17, 3, 1100)]), simulator=True)):
        assert result["tanimoto"]
        assert result["min_max"]
        assert result["error"] < 1e-6
        assert result["repeats"]
        assert result["chunks"]


def test_cuda__kernels_have_a_type_for_every_name_on_a_real_gpu():
    # The simulator runs plain Python and takes what a GPU's compiler refuses; this needs no GPU.
    code = """
from numba import types
from numba.cuda.compiler import compile_cuda
from oncoarena.kernels import min_max, tanimoto

def types_of(kernel, *arguments):
    return compile_cuda(kernel.py_func, types.void, arguments, cc=(8, 0)).type_annotation.typemap

def array(dtype, ndim):
    return types.Array(dtype, ndim, "C")

words, values, out = array(types.uint64, 2), array(types.float32, 2), array(types.float64, 2)
found = types_of(tanimoto._cuda_kernel(), words, words, out)
assert found["a"] == found["b"] == types.uint64, found
assert found["shared.1"] == found["union.1"] == types.int64, found
found = types_of(min_max._cuda_kernel(), values, values, array(types.float64, 3), types.boolean, out)
assert found["part_smaller"] == types.float32, found
assert found["smaller"] == types.float64, found
"""
    in_a_process(code, simulator=False)
