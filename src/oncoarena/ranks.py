"""Start the processes that train one PyTorch model together, watch them, and end them, whatever happens.

The training process is number 0. The others are fresh processes (``python -m oncoarena.ranks``), never forks of one
that has run PyTorch: CUDA does not survive a fork. Each prepares the same cohort and calls the same ``fit``; what they
share meanwhile is said in ``data_parallel``. One that fails ends all, and its last words are told; all of them end
with process 0, because each reads from a pipe that process 0 alone holds open.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oncoarena import compute, data_parallel
from oncoarena.errors import InputError, NotApplicable

POLL_SECONDS = 0.2
"""How often process 0 looks whether the others live."""
GRACE_SECONDS = 2.0
"""How long an error of process 0 waits for the end of the process that may have caused it."""


@dataclass(frozen=True)
class Member:
    """A process that helps process 0 with one model: its number and the folder in which they meet."""

    number: int
    folder: Path


@contextlib.contextmanager
def processes(
    job: Any, fit: Mapping[str, Any], n_devices: int, device: str, member: Member | None
) -> Iterator[None]:
    """Run the block, which fits one model, in as many processes as devices where the framework wants that.

    Parameters: ``job``, a training.Job, and ``fit``, the model of it; ``member`` is None but in processes 1, 2, ...
    If another process fails, process 0 says why and exits with status 1.
    """
    if member is not None:
        data_parallel.join(member.number, n_devices, device, member.folder)
        with contextlib.suppress(NotApplicable):  # process 0 finds the same, and says it
            yield
        # Process 0 may still be reading what was sent last; it ends the others when it has its model.
        threading.Event().wait()
    if job.gpu > 1 and (device == "cpu" or n_devices < job.gpu):
        _say(job, f"asked for {job.gpu} GPUs and trains on {n_devices} x {device}")
    if job.spec.framework == "torch" and n_devices > 1:
        with _others(job, fit, n_devices) as folder:
            data_parallel.join(0, n_devices, device, folder)
            yield
            shared = data_parallel.is_used()
            data_parallel.leave()
        if not shared:
            _say(
                job,
                f"fit shared no work among its {n_devices} processes, so it took as long as in one "
                "(see oncoarena.data_parallel)",
            )
    else:
        yield


def _say(job: Any, remark: str) -> None:
    print(f"{job.spec.id}: {remark}", flush=True)


@contextlib.contextmanager
def _others(job: Any, fit: Mapping[str, Any], n_processes: int) -> Iterator[Path]:
    """Have processes 1, 2, ... at work on one model during the block; yield the folder in which all meet."""
    threads = max(1, job.threads // n_processes)
    environment = os.environ | compute.training_environment(job.spec.framework, threads, job.gpu)
    with tempfile.TemporaryDirectory(dir=job.output) as directory, contextlib.ExitStack() as stack:
        folder = Path(directory)
        own = dataclasses.replace(job, fits=[dict(fit)], output=directory)
        path = folder / "job.json"
        path.write_text(json.dumps(dataclasses.asdict(own)))
        others: list[subprocess.Popen] = []
        stack.callback(_end, others)
        for number in range(1, n_processes):
            command = [sys.executable, "-m", "oncoarena.ranks", str(path), str(number)]
            log = stack.enter_context(open(_log(folder, number), "wb"))
            others.append(
                subprocess.Popen(
                    command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
                )
            )
        done = threading.Event()
        watch = threading.Thread(target=_watch, args=(job.spec.id, others, folder, done), daemon=True)
        watch.start()
        try:
            yield folder
        except (NotApplicable, InputError):
            raise
        except Exception:
            time.sleep(GRACE_SECONDS)
            raise
        finally:
            done.set()
            watch.join()


def _log(folder: Path, number: int) -> Path:
    return folder / f"process{number}.log"


def _watch(name: str, others: Sequence[subprocess.Popen], folder: Path, done: threading.Event) -> None:
    """Until ``done``: if a process ends, print what it said, end all of them and this one."""
    while not done.wait(POLL_SECONDS):
        for number, process in enumerate(others, start=1):
            status = process.poll()
            if status is None:
                continue
            _end(others)
            cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            lines = _log(folder, number).read_text(errors="replace").splitlines()
            words = [line.strip() for line in lines if line.strip()] or ["it said nothing"]
            print(*words, sep="\n", file=sys.stderr)
            print(
                f"{name}: of {len(others) + 1} processes that train together, number {number} ended with {cause} "
                f"({words[-1]}); the others were ended",
                file=sys.stderr,
                flush=True,
            )
            os._exit(1)  # the main thread may be waiting for the dead one


def _end(others: Sequence[subprocess.Popen]) -> None:
    """End processes and wait for them."""
    for process in others:
        process.kill()
    for process in others:
        process.stdin.close()
        process.wait()


def _end_with_first() -> None:
    """Wait until process 0 has closed the pipe or is gone, then end this process."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


def main(job_path: str, number: str) -> None:
    """Be process ``number`` of those that fit the one model of a job."""
    from oncoarena import training

    threading.Thread(target=_end_with_first, daemon=True).start()
    try:
        job = training.read_job(Path(job_path))
        compute.preload(job.spec.framework)
        training.train_one(job, job.fits[0], Member(int(number), Path(job_path).parent))
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # at once: the process group need not be wound up, nor waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
