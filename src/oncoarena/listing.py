"""Which of a million objects are there, and how long they are, without asking for each of them."""

import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec

from oncoarena.errors import InputError

LISTINGS = 16
"""Ranges of an S3 prefix that are listed at a time: a page of 1,000 keys takes the latency of a request."""

FEWEST_EACH = 500
"""A range is not cut below this many wanted keys."""


ABSENT = (404, 410)
"""Answers of a web server that there is nothing."""


class Unreachable(InputError):
    """A store that does not say what it holds: no such host, no right to ask, no library for its protocol."""

    def __init__(self, uri: str, error: Exception):
        super().__init__(uri, error)
        self.uri = uri

    def __str__(self) -> str:
        uri, error = self.args
        reason = " ".join(str(error).split()) or "no reason given"
        return (
            f"{uri}: could not be asked for ({type(error).__name__}: {reason}); correct the path, or see to the "
            "connection, the right to read it or the missing library"
        )


def sizes(uris: Iterable[str]) -> dict[str, int | None]:
    """Return the bytes of each file or object, None where there is none.

    On S3 pages of a listing are asked for, each from the next wanted object on, so there are never more requests
    than objects, and about one for a thousand neighbours; what is not wanted is not held. Other remote
    directories are listed once each; local files and those of web servers are asked for one by one.
    Raises Unreachable for the first file of a directory or store that does not answer.
    """
    by_parent: dict[str, list[str]] = {}
    for uri in uris:
        by_parent.setdefault(uri[: uri.rfind("/") + 1], []).append(uri)
    n_bytes: dict[str, int | None] = {}
    for parent, members in by_parent.items():
        names = [uri.rpartition("/")[2] for uri in members]
        try:
            found = _sizes_below(parent, names)
        except Exception as error:  # each protocol's library has its own
            raise Unreachable(members[0], error) from error
        n_bytes |= {uri: found.get(name) for uri, name in zip(members, names, strict=True)}
    return n_bytes


def _sizes_below(parent: str, names: Sequence[str]) -> dict[str, int]:
    filesystem, path = fsspec.core.url_to_fs(parent.rstrip("/") or parent or ".")
    protocols = [filesystem.protocol] if isinstance(filesystem.protocol, str) else filesystem.protocol
    if "file" in protocols:
        return _local_sizes(path, names)
    if "s3" in protocols:
        return _s3_sizes(filesystem, path, names)
    if "https" in protocols:
        return _asked_sizes(filesystem, path, names)
    return _listed_sizes(filesystem, path)


def _local_sizes(folder: str, names: Sequence[str]) -> dict[str, int]:
    found = {}
    for name in names:
        try:
            found[name] = os.stat(os.path.join(folder, name)).st_size
        except PermissionError:
            raise
        except OSError:  # nothing there, a file where a folder should be, a name that cannot be
            continue
    return found


def _listed_sizes(filesystem: fsspec.AbstractFileSystem, path: str) -> dict[str, int]:
    filesystem.invalidate_cache()  # another process may have written since the last listing
    try:
        listed = filesystem.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {item["name"].rstrip("/").rpartition("/")[2]: item.get("size") or 0 for item in listed}


def _asked_sizes(filesystem: fsspec.AbstractFileSystem, folder: str, names: Sequence[str]) -> dict[str, int]:
    """Ask for each object: few web servers list a folder."""

    def size(name: str) -> int | None:
        try:
            return filesystem.info(f"{folder}/{name}").get("size") or 0
        except FileNotFoundError as error:
            # fsspec says so, too, of a server that does not answer, or does not give what it has.
            if error.__cause__ is None or getattr(error.__cause__, "status", None) in ABSENT:
                return None
            raise error.__cause__ from error

    with ThreadPoolExecutor(LISTINGS) as threads:
        found = zip(names, threads.map(size, names), strict=True)
        return {name: n_bytes for name, n_bytes in found if n_bytes is not None}


def _s3_sizes(filesystem: Any, path: str, names: Sequence[str]) -> dict[str, int]:
    bucket, key, _ = filesystem.split_path(path)
    prefix = f"{key}/" if key else ""
    # S3 lists in the order of UTF-8, which is the order of code points, in which Python sorts.
    wanted = sorted({prefix + name for name in names})
    n_each = max(FEWEST_EACH, -(-len(wanted) // LISTINGS))
    ranges = [wanted[first : first + n_each] for first in range(0, len(wanted), n_each)]
    if len(ranges) > 1:
        filesystem = _leaving_dates_alone(filesystem)
    with ThreadPoolExecutor(len(ranges)) as threads:
        parts = threads.map(lambda keys: _s3_range(filesystem, bucket, prefix, keys), ranges)
        return {key[len(prefix) :]: n_bytes for part in parts for key, n_bytes in part.items()}


def _leaving_dates_alone(filesystem: Any) -> Any:
    """Return a view of S3 that does not read dates: they are four fifths of the work on a page of a listing."""
    if "session" in filesystem.storage_options:
        return filesystem
    from aiobotocore.session import AioSession

    session = AioSession(**filesystem.kwargs)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    options = {**filesystem.storage_options, "session": session, "skip_instance_cache": True}
    return type(filesystem)(*filesystem.storage_args, **options)


def _s3_range(filesystem: Any, bucket: str, prefix: str, wanted: Sequence[str]) -> dict[str, int]:
    """Walk from wanted key to wanted key, a page at a time.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """
    members, found = set(wanted), {}
    last, position = "", 0
    while position < len(wanted):
        # A listing starts after a key, and no key that is a beginning of the wanted one comes behind it.
        after = max(last, wanted[position][:-1])
        try:
            page = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, StartAfter=after)
        except FileNotFoundError:  # no such bucket
            return {}
        listed = page.get("Contents", [])
        found |= {item["Key"]: item["Size"] for item in listed if item["Key"] in members}
        if not page.get("IsTruncated") or not listed:
            return found
        last = listed[-1]["Key"]
        position = bisect_right(wanted, last)
    return found
