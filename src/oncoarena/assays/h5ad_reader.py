"""The reading end of AnnData: a process of its own, as HDF5 may crash or never return on a damaged file.

It opens no file: bytes are asked of the parent (``("bytes", offset, size)``). It sends ``("header", ...)``, waits for
the rows that are wanted, and sends ``("block", ...)`` until ``("end",)``, or ``("refused", reason)`` at any time.
Source: https://anndata.readthedocs.io/en/latest/fileformat-prose.html
"""

import io
import resource
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import h5py
import numpy as np

SYMBOLS = ("gene_name", "gene_symbol", "gene_symbols", "feature_name", "hgnc_symbol", "symbol")
CHROMOSOMES = ("chrom", "chromosome", "chr")
CELLS_A_BLOCK = 2_000_000
_MAX_NAMES = 20_000_000
_MAX_CHUNK_BYTES = 1 << 28
_MAX_ADDRESSES = 8 << 30
"""Bytes of address space: far more than is ever used, far less than a damaged size may ask for."""


class Damaged(Exception):
    """The file contradicts itself, or is not in a form that is read here."""


class _Remote(io.RawIOBase):
    """A file whose bytes are asked of the parent."""

    def __init__(self, connection: Connection, size: int):
        self._connection = connection
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        n_bytes = max(0, min(len(buffer), self._size - self._at))
        if n_bytes:
            self._connection.send(("bytes", self._at, n_bytes))
            data = self._connection.recv_bytes()
            buffer[: len(data)] = data
            self._at += len(data)
            return len(data)
        return 0


def main() -> None:
    """Serve one file over the connection whose descriptor is the first argument, its size the second."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MAX_ADDRESSES if hard == resource.RLIM_INFINITY else min(_MAX_ADDRESSES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    with Connection(int(sys.argv[1])) as connection:
        try:
            with h5py.File(_Remote(connection, int(sys.argv[2])), "r") as file:
                matrix = Matrix(file)
                connection.send(("header", matrix.header))
                for block in matrix.blocks(connection.recv()):
                    connection.send(("block", *block))
            connection.send(("end",))
        except (BrokenPipeError, ConnectionResetError):
            return  # the parent has had enough
        except Exception as error:  # h5py raises almost any type for a damaged file
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            connection.send(("refused", reason[:200]))


class Matrix:
    """X of an AnnData, if it is stored soundly."""

    def __init__(self, file: h5py.File):
        id_name, obs = _names(file, "obs")
        _, var = _names(file, "var")
        self._shape = (len(obs), len(var))
        self._x = file.get("X")
        self.kind = self._checked_kind()
        self.header = {
            "id_name": id_name,
            "obs": obs,
            "var": var,
            "kind": self.kind,
            **_places(file["var"], len(var)),
        }

    def blocks(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray | slice, np.ndarray]]:
        """Yield (rows, values) or, of sparse columns, (slice of columns, values): see ``h5ad``."""
        n_obs, n_var = self._shape
        n_rows = max(1, CELLS_A_BLOCK // max(n_var, 1))
        if self.kind == "csc":
            n_columns = max(1, CELLS_A_BLOCK // max(n_obs, 1))
            for first in range(0, n_var, n_columns):
                end = min(first + n_columns, n_var)
                yield slice(first, end), self._lines(first, end)[:, rows].T
            return
        if self.kind == "dense" and self._x.chunks is not None:
            n_rows = -(-n_rows // self._x.chunks[0]) * self._x.chunks[0]
        for first in range(0, n_obs, n_rows):
            taken = rows[(rows >= first) & (rows < first + n_rows)]
            if not len(taken):
                continue
            read = self._lines if self.kind == "csr" else self._dense
            if len(taken) * 4 >= n_rows:
                yield taken, read(taken[0], taken[-1] + 1)[taken - taken[0]]
            else:
                yield taken, np.concatenate([read(row, row + 1) for row in taken])

    def _dense(self, first: int, end: int) -> np.ndarray:
        return self._x[first:end].astype(np.float64)

    def _lines(self, first: int, end: int) -> np.ndarray:
        """Read rows of a CSR or columns of a CSC matrix, (end - first, n_across) float64."""
        n_across = self._shape[1 if self.kind == "csr" else 0]
        bounds = self._bounds[first : end + 1]
        indices = self._x["indices"][bounds[0] : bounds[-1]].astype(np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= n_across):
            raise Damaged("indices of X point outside of it")
        lines = np.zeros((end - first) * n_across)
        cells = np.repeat(np.arange(end - first), np.diff(bounds)) * n_across + indices
        if len(np.unique(cells)) < len(cells):
            raise Damaged("X holds a cell twice")
        lines[cells] = self._x["data"][bounds[0] : bounds[-1]]
        return lines.reshape(end - first, n_across)

    def _checked_kind(self) -> str:
        """Tell how X is stored: dense, csr or csc."""
        if self._x is None:
            raise Damaged("there is no X")
        if isinstance(self._x, h5py.Dataset):
            if self._x.shape != self._shape:
                raise Damaged(f"X has shape {self._x.shape}, obs and var say {self._shape}")
            _check_numbers(self._x)
            return "dense"
        encoding = str(self._x.attrs["encoding-type"])
        if encoding not in ("csr_matrix", "csc_matrix"):
            raise Damaged(f"X is encoded as {encoding[:40]!r}; expected an array, csr_matrix or csc_matrix")
        kind = encoding[:3]
        data, indices, indptr = (self._x[key] for key in ("data", "indices", "indptr"))
        for dataset in (data, indices, indptr):
            _check_numbers(dataset)
        if tuple(int(n) for n in self._x.attrs["shape"]) != self._shape:
            raise Damaged(f"X has shape {self._x.attrs['shape']}, obs and var say {self._shape}")
        n_lines, n_across = self._shape if kind == "csr" else self._shape[::-1]
        if data.ndim != 1 or indices.shape != data.shape or indptr.shape != (n_lines + 1,):
            raise Damaged("data, indices and indptr of X do not fit together")
        self._bounds = indptr[:].astype(np.int64)
        steps = np.diff(self._bounds)
        is_rising = self._bounds[0] == 0 and self._bounds[-1] == len(data) and (steps >= 0).all()
        if not is_rising or (steps > n_across).any():
            raise Damaged("indptr of X does not rise from 0 to the length of its data")
        return kind


def _check_numbers(dataset: h5py.Dataset) -> None:
    if dataset.dtype.kind not in "iuf":
        raise Damaged(f"{dataset.name} holds {dataset.dtype}; expected numbers")
    if dataset.chunks is not None:
        n_bytes = dataset.dtype.itemsize * float(np.prod(dataset.chunks, dtype=float))
        if n_bytes > _MAX_CHUNK_BYTES:
            raise Damaged(
                f"{dataset.name} is stored in chunks of {n_bytes / 2**20:.0f} MB; expected at most "
                f"{_MAX_CHUNK_BYTES >> 20}"
            )


def _names(file: h5py.File, key: str) -> tuple[str, list[str]]:
    group = file[key]
    if not isinstance(group, h5py.Group):
        raise Damaged(
            f"{key} is in the form of AnnData before version 0.7; write it again with a current one"
        )
    name = str(group.attrs["_index"])
    return name, ["" if item is None else str(item) for item in _column(group[name])]


def _places(group: h5py.Group, n_var: int) -> dict[str, list[Any] | None]:
    """Read the columns of var that tell the symbols and places of genes; None where there are none."""
    found: dict[str, list[Any] | None] = {}
    for key, names in (
        ("symbols", SYMBOLS),
        ("chrom", CHROMOSOMES),
        ("start", ("start",)),
        ("end", ("end",)),
    ):
        name = next((name for name in names if name in group), None)
        found[key] = None if name is None else list(_column(group[name]))
        if name is not None and len(found[key]) != n_var:
            raise Damaged(f"column {name!r} of var has {len(found[key])} values for {n_var} genes")
    return found


def _column(item: h5py.Dataset | h5py.Group) -> np.ndarray:
    """Read a column of obs or var, None (or NaN) where missing."""
    if isinstance(item, h5py.Dataset):
        if item.ndim != 1 or len(item) > _MAX_NAMES:
            raise Damaged(f"{item.name} has shape {item.shape}; expected one dimension")
        return item.asstr()[:].astype(object) if h5py.check_string_dtype(item.dtype) else item[:]
    if "codes" in item:
        codes = item["codes"][:]
        categories = np.append(_column(item["categories"]).astype(object), [None])
        return categories[codes]
    values = _column(item["values"]).astype(object)
    values[item["mask"][:].astype(bool)] = None
    return values


if __name__ == "__main__":
    main()
