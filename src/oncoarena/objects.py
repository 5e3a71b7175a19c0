"""One object, local or remote, read forward once: ranged, ahead of its reader, hashed, retried."""

import functools
import hashlib
import io
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import fsspec

from oncoarena.errors import BadObject, InputError

CHUNK_BYTES = 8 << 20
"""Bytes of one request: long enough that its latency does not count. Two are in memory, and the first of each object
that is opened ahead."""

JUMP_BYTES = 256 << 10
"""Bytes of the first request after a jump: a format that seeks takes a little here and there, as Parquet the pages of
one column. They double while reading goes on forward, up to those of a chunk."""

LAID_BY = 4
"""Buffers of CHUNK_BYTES that a process keeps for the chunks to come, at most."""

READERS = 4
"""Threads that fetch and hash, of all streams of a process: one is read, a few are opened ahead."""

ATTEMPTS = 6
HEADER_BYTES = 128 << 10
"""Bytes of a request before the range that a reader was given: headers are small."""

OVERLAP_BYTES = 64 << 10
"""A range may be read on by this: a BGZF block that begins in it, or at its end, ends within."""

FIRST_PAUSE_S = 0.2
"""A request that fails is made again after this pause, then after twice as long, ..."""


@dataclass(frozen=True)
class ObjectFacts:
    """What the store says of an object; equal facts before and after mean that it was not replaced."""

    n_bytes: int
    version: str
    """ETag of an object, time of change of a file, "" where the store tells nothing."""


def object_facts(uri: str) -> ObjectFacts:
    """Ask the store for an object's size and version. Raises InputError if there is none."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    filesystem.invalidate_cache()
    try:
        info = filesystem.info(path)
    except FileNotFoundError as error:
        raise InputError(f"{uri}: there is no such file; correct the path") from error
    except PermissionError as error:
        raise InputError(f"{uri}: may not be read ({error}); ask for access, or correct the path") from error
    if info.get("type") == "directory":
        raise InputError(f"{uri}: is a directory, expected a file; correct the path")
    if info.get("size") is None:
        raise InputError(f"{uri}: its server does not tell its size, so it cannot be read in ranges; copy it")
    version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or ""
    return ObjectFacts(int(info["size"]), str(version))


def check_unchanged(uri: str, facts: ObjectFacts) -> None:
    """Raise BadObject where the store says something else of an object than it did."""
    if object_facts(uri) != facts:
        raise BadObject(f"{uri}: was changed while it was read; run again when it is complete")


class ObjectStream(io.RawIOBase):
    """The bytes of an object, fetched in ranges while the reader works on those before.

    Read forward, each byte is fetched once. Seeking is possible; what lies in the chunk at hand costs
    nothing, all else is fetched (again): little of it after a jump, and nothing ahead until reading has gone on
    forward for a while. ``n_fetched`` counts the bytes that were fetched.
    A reader of the range ``first`` to ``end`` may read the object's header before it and a little beyond it.
    ``facts`` where the store was asked before, so that a change since then is one too.
    Reads raise BadObject if the store does not give the bytes after ``ATTEMPTS`` attempts.
    """

    def __init__(
        self,
        uri: str,
        *,
        facts: ObjectFacts | None = None,
        first: int = 0,
        end: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ):
        super().__init__()
        self.uri = uri
        self.facts = object_facts(uri) if facts is None else facts
        self.n_fetched = 0
        self._filesystem, self._path = fsspec.core.url_to_fs(uri)
        self._file = open(self._path, "rb", buffering=0) if _is_local(self._filesystem) else None  # noqa: SIM115
        self._chunk_bytes = self._stride = chunk_bytes
        self._first = first
        self._hash_end = self.facts.n_bytes if end is None else min(end, self.facts.n_bytes)
        self._end = min(self._hash_end + OVERLAP_BYTES, self.facts.n_bytes)
        self._position = 0
        self._hash, self._n_hashed = hashlib.sha256(), first
        self._chunk, self._chunk_start = memoryview(b""), 0
        self._next: tuple[int, Future[memoryview]] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.facts.n_bytes}[whence]
        if base + offset < 0:
            raise OSError(22, "a position before the start of the object", self.uri)
        self._position = base + offset
        return self._position

    def readinto(self, buffer) -> int:
        if self._position >= self._end or not len(buffer):
            return 0
        within = self._position - self._chunk_start
        if not 0 <= within < len(self._chunk):
            self._load(self._position, len(buffer))
            within = 0
        n_bytes = min(len(buffer), len(self._chunk) - within)
        buffer[:n_bytes] = self._chunk[within : within + n_bytes]
        self._position += n_bytes
        return n_bytes

    def fetch_ahead(self) -> None:
        """Ask for the first chunk before the first read."""
        if self._next is None and not self._chunk and self._end:
            self._next = (0, _readers().submit(self._fetch, 0, self._stride))

    def digest(self) -> str:
        """Fetch what was not and return the SHA-256 of the range's bytes, as ``sha256:<hex>``."""
        while self._n_hashed < self._hash_end:
            self._load(self._n_hashed, self._chunk_bytes)
        return "sha256:" + self._hash.hexdigest()

    def finish(self) -> str:
        """Return the ``digest``; raises BadObject if the object was replaced while it was read."""
        digest = self.digest()
        check_unchanged(self.uri, self.facts)
        return digest

    def close(self) -> None:
        if not self.closed:
            self._drop_next()
            _lay_by(self._chunk)
            if self._file is not None:
                self._file.close()
        super().close()

    def _load(self, start: int, n_wanted: int) -> None:
        """Make the chunk that begins at ``start`` the one at hand; ask for the one after it where reading goes on."""
        if self._next is not None and self._next[0] == start:
            chunk = self._next[1].result()
            is_forward = True
        else:
            self._drop_next()
            is_forward = self._set_stride(start, n_wanted)
            chunk = self._fetch(start, self._stride)
        _lay_by(self._chunk)
        self._chunk, self._chunk_start = chunk, start
        following = start + len(chunk)
        ahead = (
            is_forward
            and self._stride == self._chunk_bytes
            and self._first <= start
            and following < self._end
        )
        self._next = (following, _readers().submit(self._fetch, following, self._stride)) if ahead else None

    def _set_stride(self, start: int, n_wanted: int) -> bool:
        """Choose how much to fetch at ``start``; tell whether reading goes on forward there."""
        if self._chunk and start == self._chunk_start + len(self._chunk):
            self._stride = min(2 * self._stride, self._chunk_bytes)
            return True
        # The range's first byte, or the first that was not hashed: what was read forward before a jump goes on.
        if start == self._n_hashed:
            self._stride = self._chunk_bytes
            return True
        if start >= self._first:
            self._stride = min(max(n_wanted, JUMP_BYTES), self._chunk_bytes)
        return False

    def _drop_next(self) -> None:
        """Forget the chunk that was asked for ahead; one that is being fetched is waited for."""
        if self._next is not None and not self._next[1].cancel() and self._next[1].exception() is None:
            _lay_by(self._next[1].result())
        self._next = None

    def _fetch(self, start: int, length: int) -> memoryview:
        """Fetch one chunk, in the reading thread; what extends the hashed prefix is hashed there too."""
        stop = min(start + (length if start >= self._first else HEADER_BYTES), self._end)
        if self._file is not None:
            chunk = _read_file(self._file, start, stop)
        else:
            chunk = memoryview(self._request(start, stop))
        if len(chunk) != stop - start:
            raise BadObject(
                f"{self.uri}: {len(chunk)} bytes came where {stop - start} were asked for at byte {start}; the object "
                "was changed, or its server does not serve ranges",
                start,
            )
        self.n_fetched += len(chunk)
        if start <= self._n_hashed < stop:
            self._hash.update(chunk[self._n_hashed - start : self._hash_end - start])
            self._n_hashed = stop
        return chunk

    def _request(self, start: int, stop: int) -> bytes:
        pause = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._filesystem.cat_file(self._path, start=start, end=stop)
            except FileNotFoundError as error:
                raise BadObject(f"{self.uri}: was removed while it was read", start) from error
            except Exception as error:  # the libraries of each protocol have their own
                if attempt == ATTEMPTS:
                    raise BadObject(
                        f"{self.uri}: the bytes from {start} could not be fetched in {ATTEMPTS} attempts "
                        f"({type(error).__name__}: {error}); run again when the store answers",
                        start,
                    ) from error
            time.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")


@functools.cache
def _readers_of(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READERS, thread_name_prefix="oncoarena-reader")


def _readers() -> ThreadPoolExecutor:
    """The threads of this process that fetch and hash; a forked child has its own."""
    return _readers_of(os.getpid())


def open_ahead(uri: str, facts: ObjectFacts | None = None) -> ObjectStream:
    """Open an object that will be read soon: its first chunk is fetched and hashed meanwhile."""
    stream = ObjectStream(uri, facts=facts)
    stream.fetch_ahead()
    return stream


def _is_local(filesystem: fsspec.AbstractFileSystem) -> bool:
    return "file" in ([filesystem.protocol] if isinstance(filesystem.protocol, str) else filesystem.protocol)


def _read_file(file: io.FileIO, start: int, stop: int) -> memoryview:
    """Read a range of a file, less where it ends before, into a buffer that was laid by or a new one."""
    try:
        buffer = _laid_by.pop()
    except IndexError:
        buffer = bytearray(CHUNK_BYTES)
    if len(buffer) < stop - start:
        buffer = bytearray(stop - start)
    chunk = memoryview(buffer)[: stop - start]
    file.seek(start)
    n_read = 0
    while n_read < len(chunk) and (n_more := file.readinto(chunk[n_read:])):
        n_read += n_more
    return chunk[:n_read]


_laid_by: list[bytearray] = []
"""Buffers of chunks that were read, for those to come: the system zeroes every page of a new one, which takes longer
than to read a file of which it has the pages."""


def _lay_by(chunk: memoryview) -> None:
    """Take the buffer of a chunk that nobody reads any more."""
    buffer = chunk.obj
    chunk.release()
    if isinstance(buffer, bytearray) and len(buffer) == CHUNK_BYTES and len(_laid_by) < LAID_BY:
        _laid_by.append(buffer)
