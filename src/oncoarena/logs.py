"""Where a job's words go: everything into its log, a user's mistake to the terminal as well."""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import TextIO

from oncoarena import store
from oncoarena.errors import InputError


@contextlib.contextmanager
def log_to(path: str) -> Iterator[TextIO]:
    """Send stdout and stderr of this process and of its children to a file; yield what was stderr before.

    An InputError is printed there and on the terminal, without a traceback, and ends the process with
    status 1; any other exception leaves its traceback in the log, is named on the terminal, and likewise.
    """
    directory = os.path.dirname(path)
    if directory:
        os.makedirs(directory, exist_ok=True)
    terminal = os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        with os.fdopen(os.dup(terminal), "w") as before:
            yield before
    except InputError as error:
        print(error, file=sys.stderr)
        os.write(terminal, f"\n{error}\n\n".encode())
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        os.write(terminal, f"\n{type(error).__name__}: {error} (the whole story: {path})\n\n".encode())
        sys.exit(1)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.close(log)
        os.close(terminal)


def failed_logs(snakemake_log: str, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the log of each job that failed on another machine, and its text.

    Parameters: ``snakemake_log`` the path of Snakemake's own log, which names them; ``prefix`` where logs are stored.
    A job that was stopped before it could store its log has an explanation for text.
    """
    with open(snakemake_log, encoding="utf-8", errors="replace") as stream:
        told = [line for line in stream if "(check log file(s) for error details)" in line]
    for uri in dict.fromkeys(re.findall(rf"{re.escape(prefix)}\S+", "".join(told))):
        if store.exists(uri):
            with store.open_input(uri) as log:
                yield uri, log.read().decode("utf-8", errors="replace")
        else:
            yield uri, "the job was stopped before it stored its log; the reason that was given is above"
