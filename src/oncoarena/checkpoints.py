"""The finished models of a part, kept until the part is done: a reclaimed job goes on with the next one.

A kept model is one .zip of its folder (what it predicted, explained and cost; the model itself where models are
saved), named by a key of all that decides it, and written whole. Its first 32 bytes, which readers of .zip pass over,
are the SHA-256 of the others: it is there and right, or not there.
"""

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oncoarena import store

DIGEST_BYTES = 32


def model_keys(fits: Sequence[Mapping[str, Any]], common: Mapping[str, Any]) -> dict[str, str]:
    """Name each model of a part by a digest of all that decides it: its id to its key.

    Parameters: ``fits`` of ``refits.plan_fits``; ``common``, JSON-able, what decides all of them alike (spec, digests
    of blocks and code, versions, devices). Of a split's file the bytes count, which hold the labels, not its place.
    """
    splits = {uri: store.digest(uri) for uri in dict.fromkeys(fit["uri"] for fit in fits)}
    return {
        fit["id"]: store.digest_json([common, {**fit, "uri": splits[fit["uri"]]}]).removeprefix("sha256:")[
            :32
        ]
        for fit in fits
    }


def keep(folder: str, key: str, directory: Path) -> None:
    """Write a finished model's local directory below ``folder``."""

    def write(path: str) -> None:
        with open(path, "w+b") as stream:
            stream.seek(DIGEST_BYTES)
            with zipfile.ZipFile(stream, "w") as archive:
                for member in sorted(directory.rglob("*")):
                    archive.write(member, member.relative_to(directory))
            stream.seek(DIGEST_BYTES)
            digest = hashlib.file_digest(stream, "sha256").digest()
            stream.seek(0)
            stream.write(digest)

    store.write_whole(_archive(folder, key), write)


def restore(folder: str, keys: Mapping[str, str], output: Path) -> set[str]:
    """Put those models that were kept into ``output``, a directory each, and return their ids.

    Parameters: ``keys`` of ``model_keys``. An archive that is damaged is told and counts as not there.
    """
    absent = set(store.missing([_archive(folder, key) for key in keys.values()]))
    restored = set()
    for name, key in keys.items():
        uri = _archive(folder, key)
        if uri in absent:
            continue
        with tempfile.TemporaryFile() as local:
            with store.open_input(uri) as stream:
                shutil.copyfileobj(stream, local)
            local.seek(0)
            promised = local.read(DIGEST_BYTES)
            if hashlib.file_digest(local, "sha256").digest() != promised:
                print(f"{uri}: is damaged; {name} is trained again", flush=True)
                continue
            with zipfile.ZipFile(local) as archive:
                archive.extractall(output / name)
        restored.add(name)
    return restored


def _archive(folder: str, key: str) -> str:
    return store.join(folder, f"{key}.zip")
