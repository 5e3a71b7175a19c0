"""How far a job has come: a bar on a terminal, a line a minute in a log."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TextIO

LINE_EVERY_S = 60.0


class Progress:
    """Counts objects and bytes; prints a line a minute to stdout and draws a bar where there is a terminal."""

    def __init__(
        self, title: str = "objects", terminal: TextIO | None = None, line_every_s: float = LINE_EVERY_S
    ):
        self.title = title
        self._terminal = terminal if terminal is not None and terminal.isatty() else None
        self._line_every_s = line_every_s
        self._bar = None
        self._n_objects = self._n_bytes = self._n_done = self._bytes_done = 0
        self._started = 0.0

    @contextlib.contextmanager
    def over(self, n_objects: int, n_bytes: int) -> Iterator[None]:
        """Report on this many objects and bytes until the context is left."""
        self._n_objects, self._n_bytes = n_objects, n_bytes
        self._started = time.perf_counter()
        done = threading.Event()
        reporter = threading.Thread(target=self._report, args=(done,), name="oncoarena-progress", daemon=True)
        if self._terminal is not None and n_objects:
            from tqdm import tqdm

            self._bar = tqdm(
                total=n_bytes, desc=self.title, unit="B", unit_scale=True, file=self._terminal, leave=False
            )
        reporter.start()
        try:
            yield
        finally:
            done.set()
            reporter.join()
            if self._bar is not None:
                self._bar.close()
            if n_objects:
                print(self.line(), flush=True)

    def advance(self, n_bytes: int) -> None:
        """Count one object as done."""
        self._n_done += 1
        self._bytes_done += n_bytes
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._n_done}/{self._n_objects} objects", refresh=False)
            self._bar.update(n_bytes)

    def line(self) -> str:
        """Say how far it is, how fast, and how long the rest will take."""
        seconds = time.perf_counter() - self._started
        rate = self._bytes_done / max(seconds, 1e-9)
        left = f", about {(self._n_bytes - self._bytes_done) / rate:.0f} s left" if rate else ""
        return (
            f"{self.title}: {self._n_done} of {self._n_objects} objects, {self._bytes_done / 1e6:.1f} of "
            f"{self._n_bytes / 1e6:.1f} MB in {seconds:.0f} s, {rate / 1e6:.1f} MB/s{left}"
        )

    def _report(self, done: threading.Event) -> None:
        while not done.wait(self._line_every_s):
            print(self.line(), flush=True)
