"""The only file that knows where bytes live (local paths, s3://, https://) and how a block is laid out.

A block on its store is Parquet parts (rows are samples; one fixed-size-list column of float32), a feature
table and a receipt. Whatever is written appears whole or not at all: local files are renamed into place,
objects are put whole, and the receipt that vouches for the parts comes last; one of a block that was there goes first.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from oncoarena.cohort import FEATURE_COLUMNS, Block, BlockSpec
from oncoarena.errors import InputError
from oncoarena.listing import sizes
from oncoarena.mapped import release
from oncoarena.objects import ObjectFacts, ObjectStream

QUESTIONS_AT_ONCE = 16
"""Requests under way at a time: a store answers a small one in some 20 ms."""

BUFFER_BYTES = 64 << 10
"""Of an object's stream, for small reads; larger ones pass it by, and what is in it would be copied twice."""

ROWS_PER_PART = 4096
ROWS_PER_GROUP, BYTES_PER_GROUP = 256, 16 << 20
"""Samples in a Parquet row group, at most: the unit in which a block is written and decoded, so memory stays bounded
however wide its rows are."""

# A missing value is a NaN. To say that none is null makes a block a third faster to read.
_VALUE = pa.field("element", pa.float32(), nullable=False)

MEMORY_SHARE, MEMORY_BYTES = 0.25, 2**31
"""A block larger than this share of physical memory, or 2 GiB, is opened from a memory-mapped scratch file."""


def is_remote(uri: str) -> bool:
    """Tell whether a URI needs fsspec (s3://, https://, ...) rather than the local file system."""
    return "://" in uri and not uri.startswith("file://")


def join(base: str, *names: str) -> str:
    """Join path parts below a local directory or a URI."""
    return "/".join([base.rstrip("/"), *names])


def parent(uri: str) -> str:
    """Return the directory or prefix that a file lies in."""
    return uri.rpartition("/")[0] or "."


@contextlib.contextmanager
def open_input(uri: str) -> Iterator[BinaryIO]:
    """Open a local path or URI for reading bytes (seekable); raise InputError if there is nothing."""
    try:
        with fsspec.open(uri, "rb").open() as stream:
            yield stream
    except FileNotFoundError as error:
        raise InputError(f"{uri}: there is no such file; correct the path") from error
    except IsADirectoryError as error:
        raise InputError(f"{uri}: is a directory, expected a file; correct the path") from error


def read_range(uri: str, start: int, end: int) -> bytes:
    """Read the bytes ``start`` to ``end`` of a file or object, by one request."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    if not is_remote(uri):
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            content = file.read(end - start)
    else:
        # Of an empty range a server gives everything, or an error.
        content = filesystem.cat_file(path, start=start, end=end) if end > start else b""
    if len(content) != end - start:
        raise InputError(f"{uri}: ends before byte {end}; remove it and run again")
    return content


@contextlib.contextmanager
def open_object(
    uri: str,
    first: int = 0,
    end: int | None = None,
    *,
    facts: ObjectFacts | None = None,
    opened: ObjectStream | None = None,
) -> Iterator[tuple[BinaryIO, ObjectStream]]:
    """Open an object for one pass: a buffered stream, and below it the reader that hashes and counts.

    ``opened`` is that reader where it is there already (see ``objects.open_ahead``).
    """
    raw = ObjectStream(uri, facts=facts, first=first, end=end) if opened is None else opened
    with raw, io.BufferedReader(raw, BUFFER_BYTES) as stream:
        yield stream, raw


def exists(uri: str) -> bool:
    """Tell whether a file or object is there."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    return filesystem.exists(path)


def missing(uris: Iterable[str]) -> list[str]:
    """Name those files that are not there, by listings rather than one by one (see ``listing.sizes``)."""
    return [uri for uri, n_bytes in sizes(uris).items() if n_bytes is None]


def at_once(ask: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
    """Ask a store many things at once; return the answers in order, an exception where one was raised."""

    def answer(*one: Any) -> Any:
        try:
            return ask(*one)
        except Exception as error:
            return error

    with ThreadPoolExecutor(QUESTIONS_AT_ONCE, thread_name_prefix="oncoarena-asking") as threads:
        return list(threads.map(answer, *arguments))


def write_whole(uri: str, write: Callable[[str], None]) -> None:
    """Let ``write`` fill a temporary local file, then move it to its place in one step."""
    if is_remote(uri):
        with tempfile.TemporaryDirectory() as directory:
            local = os.path.join(directory, "object")
            write(local)
            filesystem, path = fsspec.core.url_to_fs(uri)
            filesystem.put_file(local, path)
        return
    target = Path(uri.removeprefix("file://"))
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same directory, so that the rename cannot cross file systems.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        write(str(temporary))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_directory(uri: str, local: Path) -> None:
    """Put a local directory in its place; what was there before goes away."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)
    filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
    filesystem.put(f"{local}/", f"{path}/", recursive=True)


def remove_directory(uri: str) -> None:
    """Remove a directory and all that is in it, if it is there."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    filesystem.invalidate_cache()
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def write_text(uri: str, text: str) -> None:
    """Write a text file whole."""
    write_whole(uri, lambda path: Path(path).write_text(text, encoding="utf-8"))


def write_bytes(uri: str, content: bytes) -> None:
    """Write a file of bytes whole."""
    write_whole(uri, lambda path: Path(path).write_bytes(content))


def write_json(uri: str, content: Any) -> None:
    """Write JSON whole, keys in the order given."""
    write_text(uri, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(uri: str) -> Any:
    """Read JSON from a path or URI."""
    with open_input(uri) as stream:
        return json.load(stream)


def write_table(uri: str, table: pd.DataFrame) -> None:
    """Write a tidy table as Parquet, whole."""
    write_bytes(uri, table_bytes(table))


def table_bytes(table: pd.DataFrame) -> bytes:
    """Return a tidy table as Parquet, the same bytes for the same content."""
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pq.write_table(arrow, buffer, compression="zstd")
    return buffer.getvalue()


def read_table(uri: str) -> pd.DataFrame:
    """Read a tidy table written by ``write_table``."""
    with open_input(uri) as stream:
        return pq.read_table(stream).to_pandas()


def digest(uri: str) -> str:
    """Return the SHA-256 of a file's bytes, as ``sha256:<hex>``."""
    with open_input(uri) as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def digest_json(content: Any) -> str:
    """Return the SHA-256 of a JSON-able value in canonical form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def write_block(
    uri: str,
    spec: BlockSpec,
    sample_ids: list[str],
    rows: Iterator[np.ndarray],
    features: pd.DataFrame,
    provenance: Mapping[str, Any],
    inputs: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """Write a block below ``uri`` and return its receipt, which is also written, last; an older one is removed first.

    Parameters: ``rows`` yields one (n_features,) float32 array a sample, in the order of ``sample_ids``,
    so that no more than two row groups are in memory; ``provenance`` (assay, options, code digest) is copied
    into the receipt; ``inputs`` (uri and digest of each object that was read) go into a table beside it.
    The bytes depend on the values alone, not on who computed them.
    """
    receipt_uri = join(uri, "receipt.json")
    filesystem, path = fsspec.core.url_to_fs(receipt_uri)
    with contextlib.suppress(FileNotFoundError):
        filesystem.rm_file(path)
    n_features, parts = len(features), []
    row_digests: dict[str, str] = {}
    for number, first in enumerate(range(0, len(sample_ids), ROWS_PER_PART)):
        ids = sample_ids[first : first + ROWS_PER_PART]
        part = join(uri, f"part-{number:05d}.parquet")
        hashed = hashlib.sha256()
        write_whole(part, functools.partial(_write_part, ids, rows, n_features, row_digests, hashed))
        parts.append({"uri": part, "n_samples": len(ids), "digest": f"sha256:{hashed.hexdigest()}"})
    tables = {
        "features": features[list(FEATURE_COLUMNS)],
        "samples": pd.DataFrame({"sample_id": list(row_digests), "digest": list(row_digests.values())}),
        "inputs": pd.DataFrame(list(inputs), columns=["uri", "digest"], dtype=str),
    }
    uris = {name: join(uri, f"{name}.parquet") for name in tables}
    for name, table in tables.items():
        write_table(uris[name], table)
    receipt = {
        "uri": uri,
        "spec": asdict(spec),
        "shape": [len(sample_ids), n_features],
        "parts": parts,
        **{name: {"uri": own, "digest": digest(own)} for name, own in uris.items()},
        **provenance,
    }
    receipt["digest"] = digest_json(
        [receipt["spec"], receipt["shape"], [part["digest"] for part in parts], receipt["features"]["digest"]]
    )
    write_json(receipt_uri, receipt)
    return receipt


def _write_part(
    ids: list[str],
    rows: Iterator[np.ndarray],
    n_features: int,
    row_digests: dict[str, str],
    hashed: "hashlib._Hash",
    path: str,
) -> None:
    """Write the next rows as a part, a group at a time; ``row_digests`` and ``hashed`` are brought up to date."""
    of_values = pa.list_(_VALUE, n_features)
    schema = pa.schema([("sample_id", pa.string()), pa.field("values", of_values, nullable=False)])
    options = {"use_dictionary": False, "write_statistics": False, "write_page_checksum": True}

    def write(ids: list[str], values: np.ndarray) -> None:
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=of_values)
        file.write_table(pa.Table.from_arrays([pa.array(ids), column], schema=schema))

    with (
        open(path, "wb") as plain,
        pq.ParquetWriter(_Hashing(plain, hashed), schema, compression="NONE", **options) as file,
        ThreadPoolExecutor(1, thread_name_prefix="oncoarena-writer") as thread,
    ):
        # One group is encoded and hashed while the rows of the next are fetched.
        writing = None
        n_rows = min(ROWS_PER_GROUP, len(ids), max(1, BYTES_PER_GROUP // (4 * max(1, n_features))))
        buffers = np.empty((2, n_rows, n_features), np.float32)
        for number, first in enumerate(range(0, len(ids), n_rows)):
            of_group = ids[first : first + n_rows]
            values = buffers[number % 2, : len(of_group)]
            for row, sample_id in enumerate(of_group):
                values[row] = next(rows)
                row_digests[sample_id] = hashlib.sha256(values[row]).hexdigest()[:32]
            if writing is not None:
                writing.result()
            writing = thread.submit(write, of_group, values)
        if writing is not None:
            writing.result()


class _Hashing(io.RawIOBase):
    """A file that is written forward and hashed as it is."""

    def __init__(self, file: BinaryIO, hashed: "hashlib._Hash"):
        self._file, self._hashed = file, hashed

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def write(self, content) -> int:
        self._hashed.update(content)
        return self._file.write(content)


def block_samples(receipt: Mapping[str, Any]) -> pd.DataFrame:
    """Read a block's sample_id and digest of values, a row per sample in the order of its rows."""
    return read_table(receipt["samples"]["uri"])


def block_inputs(receipt: Mapping[str, Any]) -> pd.DataFrame:
    """Read uri and digest of each object that a block was read from, in the order of reading."""
    return read_table(receipt["inputs"]["uri"])


def open_block(
    receipt: Mapping[str, Any], scratch: Path | None = None, share_of_memory: float = MEMORY_SHARE
) -> Block:
    """Read a block: values (n_samples, n_features) float32 in the order of ``block_samples``.

    When ``scratch`` is given and the block exceeds ``share_of_memory`` or ``MEMORY_BYTES``, the values are
    decoded once into a memory-mapped file there and opened read-only. Raises InputError if a part is damaged.
    """
    n_samples, n_features = receipt["shape"]
    spec = BlockSpec(**{**receipt["spec"], "dims": tuple(receipt["spec"]["dims"])})
    features = read_table(receipt["features"]["uri"])
    n_bytes = 4 * n_samples * n_features
    if scratch is None or n_bytes <= min(share_of_memory * _physical_memory(), MEMORY_BYTES):
        values = np.empty((n_samples, n_features), dtype=np.float32)
        _decode_parts(receipt, values)
        values.flags.writeable = False
        return Block(spec, values, features)
    cached = scratch / f"{receipt['digest'].removeprefix('sha256:')[:32]}.npy"
    if not cached.exists():

        def decode(path: str) -> None:
            values = np.lib.format.open_memmap(path, "w+", np.float32, (n_samples, n_features))
            _decode_parts(receipt, values)
            values.flush()

        write_whole(str(cached), decode)
    return Block(spec, np.load(cached, mmap_mode="r"), features)


def _decode_parts(receipt: Mapping[str, Any], values: np.ndarray) -> None:
    """Fill ``values`` from the parts, a row group at a time."""
    first, n_features = 0, values.shape[1]
    for part in receipt["parts"]:
        try:
            with open_input(part["uri"]) as stream:
                file = pq.ParquetFile(stream, page_checksum_verification=True)
                # No checksum covers the footer, which may name a type of another size, or raise most errors below.
                if (kind := file.schema_arrow.field("values").type) != pa.list_(_VALUE, n_features):
                    raise pa.ArrowInvalid(f"its values are {kind}")
                for group in range(file.num_row_groups):
                    column = file.read_row_group(group, columns=["values"]).column("values")
                    for chunk in column.chunks:
                        flat = chunk.flatten().to_numpy(zero_copy_only=False)
                        values[first : first + len(chunk)] = flat.reshape(len(chunk), n_features)
                        first += len(chunk)
                        release(values)
        except (pa.ArrowException, OSError, ValueError, KeyError, AttributeError) as error:
            raise InputError(
                f"{part['uri']}: cannot be read as a part of block {receipt['spec']['name']} ({error}); "
                "delete the block's directory and run again"
            ) from error
    if first != len(values):
        raise InputError(
            f"{receipt['uri']}: its parts hold {first} samples, the receipt says {len(values)}; "
            "delete the block's directory and run again"
        )


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
