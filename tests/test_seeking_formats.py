"""Formats that seek, and what is fetched for them: an object that fits into memory once, of a longer one little."""

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse

from oncoarena import objects, store
from oncoarena.assays import formats
from oncoarena.objects import ObjectStream

N_GENES, N_SAMPLES = 8000, 200
CHUNK = 2 << 20
"""Shorter than that of a study, so that a small matrix is many."""


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    defaults = {**ObjectStream.__init__.__kwdefaults__, "chunk_bytes": CHUNK}
    monkeypatch.setattr(ObjectStream.__init__, "__kwdefaults__", defaults)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """A Parquet matrix of 13 MB, (n_genes, n_samples) in eight row groups, and its values."""
    path = tmp_path_factory.mktemp("matrix") / "matrix.parquet"
    values = np.random.default_rng(0).random((N_GENES, N_SAMPLES))
    table = pd.DataFrame(values, columns=[f"s{number}" for number in range(N_SAMPLES)])
    table.insert(0, "id", [f"g{number}" for number in range(N_GENES)])
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path, row_group_size=1000)
    return str(path), values


def read(path, columns=None):
    """Return the values of some columns (None: all), and the bytes fetched for them and for the digest."""
    with store.open_object(path) as (stream, raw):
        table = formats.open_table(stream, path)
        wanted = table.numeric_columns() if columns is None else columns
        values = np.concatenate([batch.values for batch in table.batches(wanted)])
        n_read = raw.n_fetched
        assert raw.finish() == store.digest(path)
        return values, n_read, raw.n_fetched, raw.facts.n_bytes


@pytest.mark.parametrize("columns", [None, range(40), range(0, N_SAMPLES, 10)])
def test_open_table__parquet_is_fetched_once_whatever_columns_are_wanted(matrix, columns):
    path, expected = matrix
    values, _, n_fetched, n_bytes = read(path, columns)
    np.testing.assert_array_equal(values, expected if columns is None else expected[:, columns])
    assert n_fetched == n_bytes


@pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
def test_open_table__h5ad_is_fetched_once(tmp_path, kind):
    path = str(tmp_path / "matrix.h5ad")
    expected = np.random.default_rng(0).random((300, 2000)).astype(np.float32)
    expected[expected < 0.5] = 0
    write_h5ad(path, expected, kind)
    values, _, n_fetched, n_bytes = read(path)
    np.testing.assert_array_equal(values, expected)
    assert n_fetched == n_bytes


def test_open_table__of_a_parquet_too_long_to_hold_little_is_fetched_twice(matrix, monkeypatch):
    monkeypatch.setattr(formats, "HELD_BYTES", 1 << 20)
    path, expected = matrix
    values, n_read, n_fetched, n_bytes = read(path)
    np.testing.assert_array_equal(values, expected)
    # The first chunks again, and what lies at the end.
    assert n_read <= n_bytes + 2 * CHUNK + 2 * objects.JUMP_BYTES
    values, n_read, n_fetched, n_bytes = read(path, range(20))
    np.testing.assert_array_equal(values, expected[:, :20])
    # Of each row group one short request, or two where the columns end beyond it; then the digest.
    assert n_read <= 2 * CHUNK + 8 * 3 * objects.JUMP_BYTES + 2 * objects.JUMP_BYTES
    assert n_fetched <= n_read + n_bytes


def write_h5ad(path, values, kind):
    """Write AnnData as its specification says: h5py is enough for what is read here."""
    with h5py.File(path, "w") as file:
        for name, length in zip(("obs", "var"), values.shape, strict=True):
            group = file.create_group(name)
            group.attrs["_index"] = "_index"
            group["_index"] = np.array([f"{name}{number}" for number in range(length)], dtype="S")
        if kind == "dense":
            file.create_dataset("X", data=values, chunks=(100, 500))
            return
        sparse = getattr(scipy.sparse, f"{kind}_matrix")(values)
        group = file.create_group("X")
        group.attrs["encoding-type"], group.attrs["shape"] = f"{kind}_matrix", values.shape
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(sparse, name)
