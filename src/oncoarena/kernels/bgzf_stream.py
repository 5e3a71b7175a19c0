"""A stream of BGZF blocks read forward once, as a window of inflated bytes of bounded size."""

import sys
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from oncoarena.errors import BadObject
from oncoarena.kernels.bgzf import (
    COMPLAINTS,
    MAX_BLOCK,
    MAX_INFLATED,
    NEEDS_INPUT,
    NOTE_BYTES,
    OUTPUT_FULL,
    Inflater,
    measure_block,
)

# Compressed bytes held at a time, and inflated ones: the window stays in a core's own cache while it is walked.
READ_BYTES = 1 << 20
WINDOW_BYTES = 1 << 19
COPY_AGAIN = "the file is damaged: copy it again"
STALE_INDEX = "the index does not belong to this file, or is damaged: make it again (samtools index)"


@dataclass(frozen=True, eq=False)
class Pending:
    """What was read of a stream, but not taken: ``inflated`` bytes, then ``compressed`` ones.

    ``blocks`` (n, 2) int64 are places in ``inflated`` at which blocks begin (that of the first may be negative), and
    their bytes in the object; ``last_size`` is the inflated size of the last block inflated, -1 if there was none.
    """

    inflated: bytes
    blocks: np.ndarray
    compressed: bytes
    last_size: int


class BgzfStream:
    """Inflates a stream piece by piece: ``window[start:stop]`` are the bytes that were not taken yet.

    Who has taken bytes moves ``start`` forward, and calls ``fill`` for more.
    """

    def __init__(
        self,
        stream: BinaryIO,
        source: str,
        offset: int,
        *,
        end: tuple[int, int] | None = None,
        pending: Pending | None = None,
        read_bytes: int | None = None,
    ):
        """Begin where the stream stands: at a block, or behind the bytes that are pending.

        Parameters: ``source`` its name in messages; ``offset`` the byte of the object at which the stream stands;
        ``end`` the place (byte of a block, byte within it when inflated) behind the last byte wanted, None for the
        end of the object, which is then checked for its end-of-file marker; ``read_bytes`` how much is read at once,
        None for ``READ_BYTES``.
        """
        pending = pending or Pending(b"", np.empty((0, 2), dtype=np.int64), b"", -1)
        self.source = source
        self._stream = stream
        self._end_byte, self._end_in_block = (sys.maxsize, 0) if end is None else end
        self._inflater = Inflater()
        # data[position:filled] is compressed and not inflated yet; data[0] is byte ``base`` of the object.
        self._position, self._filled = 0, len(pending.compressed)
        self._data = np.empty(max(read_bytes or READ_BYTES, self._filled) + MAX_BLOCK, dtype=np.uint8)
        self._data[: self._filled] = np.frombuffer(pending.compressed, dtype=np.uint8)
        self._base = offset - self._filled
        self._last_size = pending.last_size
        self._is_done = False
        self.start, self.stop = 0, len(pending.inflated)
        # Rows: place in the window, byte of the object at which its block begins.
        self._notes = pending.blocks
        self._n_notes = len(pending.blocks)
        self.window = np.frombuffer(pending.inflated, dtype=np.uint8)
        self._grow(WINDOW_BYTES + self.stop + MAX_INFLATED)

    def leave(self) -> tuple[Pending, int]:
        """Hand back what was read but not taken, and the byte of the object at which the stream stands."""
        self._make_room()
        pending = Pending(
            inflated=self.window[: self.stop].tobytes(),
            blocks=self._notes[: self._n_notes].copy(),
            compressed=self._data[self._position : self._filled].tobytes(),
            last_size=self._last_size,
        )
        return pending, self._base + self._filled

    def place_of(self, place: int) -> tuple[int, int]:
        """Find a place in the window: the byte at which its block begins, and the inflated bytes from there.

        Where blocks are tiny, it may be a block shortly before.
        """
        row = int(np.searchsorted(self._notes[: self._n_notes, 0], place, "right")) - 1
        if row < 0 or place == self.stop:
            return self._base + self._position, 0
        return int(self._notes[row, 1]), place - int(self._notes[row, 0])

    def offset_of(self, place: int) -> int:
        """Return the byte at which the block of a place in the window begins, as ``place_of`` does."""
        return self.place_of(place)[0]

    def fill(self) -> bool:
        """Inflate more behind the bytes that were not taken yet; return False where there is no more.

        Raises BadObject for a damaged block, an object cut short, and an end that is not at a block.
        """
        if self._is_done:
            return False
        self._make_room()
        before = self.stop
        while not self._is_done:
            limit = min(self._filled, self._end_byte - self._base)
            status = self._inflate(limit)
            if status != NEEDS_INPUT:
                break
            if self._base + self._position == self._end_byte:
                self._is_done = self._inflate_last()
                break
            if self._base + self._filled >= self._end_byte:
                at = self._end_byte
                raise BadObject(f"{self.source}: byte {at} is inside a BGZF block; {STALE_INDEX}", at)
            if not self._read():
                self._check_end()
                self._is_done = True
        return self.stop > before

    def _inflate(self, limit: int) -> int:
        n_before = self._n_notes
        status, self._position, self.stop, self._n_notes, last = self._inflater.inflate(
            self._data, self._position, limit, self.window, self.stop, self._notes, n_before
        )
        self._notes[n_before : self._n_notes, 1] += self._base
        self._last_size = last if last >= 0 else self._last_size
        if status in COMPLAINTS:
            at = self._base + self._position
            raise BadObject(f"{self.source}: byte {at}: {COMPLAINTS[status]}; {COPY_AGAIN}", at)
        return status

    def _inflate_last(self) -> bool:
        """Inflate the block at the end and keep its first bytes; return False if the window has no room for it."""
        if not self._end_in_block:
            return True
        before = self.stop
        while self.stop == before:
            n_block = measure_block(self._data, self._position, self._filled)[0]
            status = self._inflate(self._position + n_block if n_block > 0 else self._filled)
            if status == OUTPUT_FULL:
                return False
            if n_block > 0:
                break
            if not self._read():
                self._check_end()
        if self.stop - before < self._end_in_block:
            raise BadObject(
                f"{self.source}: byte {self._end_byte}: the BGZF block is shorter than the index says; {STALE_INDEX}",
                self._end_byte,
            )
        self.stop = before + self._end_in_block
        return True

    def _read(self) -> bool:
        """Read more compressed bytes behind those that are left; return False at the end of the stream."""
        left = self._filled - self._position
        self._data[:left] = self._data[self._position : self._filled]
        self._base += self._position
        self._position, self._filled = 0, left
        # The block at the end is wanted only if something in it is.
        wanted = self._end_byte + (MAX_BLOCK if self._end_in_block else 0) - self._base - left
        room = min(len(self._data) - left, wanted)
        n_read = self._stream.readinto(memoryview(self._data)[left : left + room]) if room > 0 else 0
        self._filled += n_read
        return n_read > 0

    def _check_end(self) -> None:
        at = self._base + self._filled
        if self._filled > self._position:
            raise BadObject(
                f"{self.source}: the file ends inside a BGZF block, at byte {at}; it is cut short", at
            )
        if self._end_byte != sys.maxsize:
            raise BadObject(
                f"{self.source}: the file ends at byte {at}, before the part that the index names", at
            )
        if self._last_size != 0:
            raise BadObject(
                f"{self.source}: the file ends at byte {at} without the end-of-file marker of BGZF; it is cut short",
                at,
            )

    def _make_room(self) -> None:
        """Move what was not taken to the front of the window, and widen it if a block would not fit behind."""
        left = self.stop - self.start
        if self.start:
            self.window[:left] = self.window[self.start : self.stop]
            first = max(0, int(np.searchsorted(self._notes[: self._n_notes, 0], self.start, "right")) - 1)
            kept = self._notes[first : self._n_notes].copy()
            kept[:, 0] -= self.start
            self._notes[: len(kept)] = kept
            self._n_notes = len(kept)
            self.start, self.stop = 0, left
        if left + MAX_INFLATED > len(self.window):
            self._grow(2 * len(self.window))

    def _grow(self, n_bytes: int) -> None:
        window = np.empty(n_bytes, dtype=np.uint8)
        window[: self.stop] = self.window[: self.stop]
        notes = np.empty((n_bytes // NOTE_BYTES + 2, 2), dtype=np.int64)
        notes[: self._n_notes] = self._notes[: self._n_notes]
        self.window, self._notes = window, notes
