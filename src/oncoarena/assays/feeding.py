"""Feed a stream to htslib, which reads file descriptors, without a copy on disk."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import BinaryIO

PIPE_CHUNK = 1 << 20


@contextlib.contextmanager
def file_descriptor(stream: BinaryIO) -> Iterator[int]:
    """Yield the reading end of a pipe into which a thread copies the stream from where it stands.

    An error of the stream ends the pipe, as the end of the object would, and is raised when the context is
    left, in place of what the reader said of the end: only what was read inside an undisturbed context may be trusted.
    Whatever reads the descriptor must be closed inside the context.
    """
    reading, writing = os.pipe()
    failures: list[BaseException] = []

    def feed() -> None:
        try:
            with open(writing, "wb", buffering=0) as pipe:
                while chunk := stream.read(PIPE_CHUNK):
                    view = memoryview(chunk)
                    while view:
                        view = view[pipe.write(view) :]
        except BrokenPipeError:
            pass  # the reader has had enough
        except BaseException as error:
            failures.append(error)

    feeder = threading.Thread(target=feed, name="oncoarena-feeder", daemon=True)
    feeder.start()
    try:
        yield reading
    finally:
        # A feeder that waits for room in the pipe is freed by the closing of its other end.
        os.close(reading)
        feeder.join()
        if failures:
            raise failures[0]
