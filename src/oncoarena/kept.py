"""What was read of each object of a shard, kept until the shard is done: an interrupted one goes on with the next.

A kept result is one file below ``<shard>/objects/``, named by a key of all that decides it, and written whole: it is
there and right, or not there. Its first line is its summary as JSON; behind it are the values of each block, float32,
lowest byte first. Feature tables, which many objects share, lie beside, each once.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from oncoarena import store
from oncoarena.assays import SampleFeatures
from oncoarena.cohort import FEATURE_COLUMNS


def keep(
    folder: str, key: str, found: Mapping[str, SampleFeatures], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the features of one object and return its summary.

    It holds facts, qc, by block the digests of ``features`` and the ``counts`` of values, and ``first_byte``, where
    those begin in the file.
    """
    with _keeping:
        digests = {name: _keep_features(folder, name, block.features) for name, block in found.items()}
    qc = {name: value for block in found.values() for name, value in block.qc.items()}
    summary = {
        **facts,
        "features": digests,
        "counts": {name: len(block.values) for name, block in found.items()},
        "qc": {name: _plain(value) for name, value in qc.items()},
    }
    values = [np.ascontiguousarray(block.values, _VALUE) for block in found.values()]
    line = json.dumps(summary).encode() + b"\n"
    store.write_bytes(_result(folder, key), b"".join([line, *values]))
    return {**summary, "first_byte": len(line)}


def kept_before(folder: str, keys: list[str]) -> dict[str, dict[str, Any]]:
    """Return the summaries of those results that are there, by key."""
    # An S3 server may keep an empty object of a client that died between the head and the body of its request.
    n_bytes = store.sizes([_result(folder, key) for key in keys])
    there = [key for key in keys if n_bytes[_result(folder, key)]]

    def summary(key: str) -> dict[str, Any]:
        with store.open_input(_result(folder, key)) as stream:
            line = stream.readline()
        return {**json.loads(line), "first_byte": len(line)}

    found = dict(zip(there, store.at_once(summary, there), strict=True))
    for answer in found.values():
        if isinstance(answer, Exception):
            raise answer
    return found


def kept_values(folder: str, key: str, summary: Mapping[str, Any], block: str) -> np.ndarray:
    """Read one block of one object, (n_features,) float32; ``summary`` is that which ``keep`` returned."""
    counts = summary["counts"]
    n_before = sum(counts[name] for name in list(counts)[: list(counts).index(block)])
    start = summary["first_byte"] + n_before * _VALUE.itemsize
    end = start + counts[block] * _VALUE.itemsize
    return np.frombuffer(store.read_range(_result(folder, key), start, end), _VALUE)


def kept_features(folder: str, digest: str) -> pd.DataFrame:
    """Read a feature table by its digest."""
    return store.read_table(_table(folder, digest))


def _result(folder: str, key: str) -> str:
    return store.join(folder, f"{key}.values")


def _table(folder: str, digest: str) -> str:
    return store.join(folder, f"features-{digest}.parquet")


_VALUE = np.dtype("<f4")

_last: dict[str, tuple[pd.DataFrame, str]] = {}
"""The table that this process last kept in a folder for a block, and its digest: objects of one kind share theirs."""


_keeping = threading.Lock()
"""Held while a table is kept: objects that are finished at once share theirs."""


def _keep_features(folder: str, block: str, features: pd.DataFrame) -> str:
    place = store.join(folder, block)
    if place in _last and _last[place][0] is features:
        return _last[place][1]
    content = store.table_bytes(features[list(FEATURE_COLUMNS)])
    digest = hashlib.sha256(content).hexdigest()[:32]
    if not store.sizes([_table(folder, digest)])[_table(folder, digest)]:
        store.write_bytes(_table(folder, digest), content)
    while len(_last) >= 16:
        _last.pop(next(iter(_last)))
    _last[place] = (features, digest)
    return digest


def _plain(value: Any) -> Any:
    """A figure of quality as JSON can say it; what is not finite is not known."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
