"""The only file that knows Dask: jobs on objects, run in this process or by the workers of a cluster."""

import collections
import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oncoarena import provenance
from oncoarena.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

KEEP_FREED_MEMORY = {"MALLOC_TRIM_THRESHOLD_": 256 << 20, "MALLOC_MMAP_THRESHOLD_": 32 << 20}
"""Of a worker: buffers of some MB come and go with every request; by Dask's default each is given back to the system,
whose pages are zeroed again, 7 % of the time."""

OPEN_AHEAD = 2
"""Objects that are fetched and hashed while one is read: of a table, SHA-256 takes as long as reading what is in it, so
that one alone would now and then be waited for."""

FINISHING = 4
"""Objects of a store that are finished at once while the next are read: an answer takes some 30 ms, a table 10."""

BATCH_BYTES, TASKS_PER_WORKER = 32 << 20, 4
"""Small objects go to a Dask worker together, up to so many bytes: a task costs scheduler and worker some 4 ms, as long
as reading a table of expression. Where that makes fewer tasks for each worker than this, fewer bytes."""

WORKER_WORTH_S = 3.0
"""Seconds of work for which one more process is started: each takes 1.3 s of a core to import what it needs, and the
first of them 1.5 s for the scheduler."""

ANSWER_S = 10
"""A scheduler that exists answers within milliseconds; behind a slow tunnel within seconds."""


@dataclass(frozen=True)
class ObjectJob:
    """Work on one object: its parts are read on their own, joined two by two, and finished.

    ``ahead``, of a job of one part, may open the object before its turn: ``read`` then gets what it returns in place
    of the part, and closes it. ``n_bytes``, the size of the object, lets small ones share a task. ``finish_aside``
    where to finish is to wait for a store: the next job is read meanwhile. All functions and values must survive
    pickling.
    """

    parts: Sequence[Any]
    read: Callable[[Any], Any]
    merge: Callable[[Any, Any], Any]
    finish: Callable[[Any], Any]
    ahead: Callable[[], Any] | None = None
    n_bytes: int | None = None
    finish_aside: bool = False


Pool = Callable[[Sequence[ObjectJob]], Iterator[tuple[int, Any]]]
"""Runs jobs and yields (number of the job, its result or the exception that it raised) as they end."""


def run_serially(jobs: Sequence[ObjectJob]) -> Iterator[tuple[int, Any]]:
    """Run jobs in this process, one after the other, the next ones' objects opened meanwhile (a ``Pool``)."""
    ahead: collections.deque[Any] = collections.deque()
    finishing: collections.deque[tuple[int, Future[Any]]] = collections.deque()
    with ThreadPoolExecutor(FINISHING, thread_name_prefix="oncoarena-finishing") as threads:
        try:
            for number, job in enumerate(jobs):
                opened = ahead.popleft() if ahead else None
                for later in jobs[number + 1 + len(ahead) : number + 1 + OPEN_AHEAD]:
                    ahead.append(_open_ahead(later))
                parts = job.parts if opened is None else (opened,)
                whole = _now(_read, job, parts)
                if whole.exception() is None:
                    run = threads.submit if job.finish_aside else _now
                    whole = run(job.finish, whole.result())
                finishing.append((number, whole))
                while finishing and (finishing[0][1].done() or len(finishing) > FINISHING):
                    yield _outcome(*finishing.popleft())
            while finishing:
                yield _outcome(*finishing.popleft())
        finally:
            for opened in ahead:
                if opened is not None:
                    opened.close()


def _read(job: ObjectJob, parts: Sequence[Any]) -> Any:
    return _reduce([job.read(part) for part in parts], job.merge)


def _now(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Call a function; return what an executor would, which has the result or the exception already."""
    future: Future[Any] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


def _outcome(number: int, future: Future[Any]) -> tuple[int, Any]:
    """Wait for a job's end; return its number and its result or exception."""
    error = future.exception()
    return number, future.result() if error is None else error


def _open_ahead(job: ObjectJob) -> Any:
    """Open a job's object; return None where it cannot be: in its turn the job will say why."""
    with contextlib.suppress(Exception):
        return job.ahead() if job.ahead is not None else None


def n_workers_worth(seconds: float, most: int) -> int:
    """Say how many processes, ``most`` at the most, should share work that takes one of them so many seconds."""
    return max(1, min(most, int(seconds / WORKER_WORTH_S)))


@contextlib.contextmanager
def object_pool(n_workers: int, memory_mb: int, scheduler: str | None = None) -> Iterator[Pool]:
    """Yield a ``Pool``: this process for one worker, else ``dask_pool``."""
    if scheduler is None and n_workers <= 1:
        yield run_serially
        return
    with dask_pool(n_workers, memory_mb, scheduler) as pool:
        yield pool


@contextlib.contextmanager
def dask_pool(n_workers: int, memory_mb: int, scheduler: str | None = None) -> Iterator[Pool]:
    """Yield a ``Pool`` on a Dask cluster on this machine, or on one that exists.

    On this machine each worker is a process with one thread and an equal share of ``memory_mb``; it pauses at 80 %
    and is restarted at 95 % of its share, so one absurd object cannot take the machine with it: after three
    workers that died of it, its job has failed. With ``scheduler`` (an address such as tcp://10.0.0.7:8786) the jobs
    go to the workers that are attached there, however many; their memory limits are their owner's.
    The dashboard's address is printed. Raises InputError if the scheduler does not answer, has no workers,
    or has workers with another oncoarena than this one.
    """
    with _cluster(n_workers, memory_mb) if scheduler is None else _attach(scheduler) as client:
        print(f"Dask dashboard: {client.dashboard_link}", flush=True)
        yield functools.partial(_run_on_cluster, client)


@contextlib.contextmanager
def _cluster(n_workers: int, memory_mb: int) -> Iterator["Client"]:
    import dask
    from distributed import Client, LocalCluster

    environment = dask.config.get("distributed.nanny.pre-spawn-environ") | KEEP_FREED_MEMORY
    with (
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ": environment,
                "distributed.worker.profile.enabled": False,
            }
        ),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            memory_limit=memory_mb * 2**20 // n_workers,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            # A bad object is an outcome that its caller tells, not a line in a worker's log.
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def _attach(scheduler: str) -> Iterator["Client"]:
    from distributed import Client

    try:
        client = Client(scheduler, timeout=f"{ANSWER_S}s")
    except (OSError, ValueError) as error:
        raise InputError(
            f"compute.dask.scheduler: {scheduler} does not answer as a Dask scheduler within {ANSWER_S} s ({error}); "
            "start it (dask scheduler), correct the address, or remove the key"
        ) from error
    with client:
        try:
            own, found = provenance.package_digest(), client.run(provenance.package_digest)
        except ImportError as error:
            raise InputError(
                f"compute.dask.scheduler: a worker of {scheduler} lacks what oncoarena needs ({error}); install "
                "oncoarena there and start it again"
            ) from error
        if not found:
            raise InputError(
                f"compute.dask.scheduler: no worker is attached to {scheduler}; start some (dask worker {scheduler})"
            )
        others = sorted(worker for worker, digest in found.items() if digest != own)
        if others:
            raise InputError(
                f"compute.dask.scheduler: {len(others)} of {len(found)} workers of {scheduler} have another oncoarena "
                f"than this one, first {others[0]}; install this one there and start them again"
            )
        yield client


def _run_on_cluster(client: "Client", jobs: Sequence[ObjectJob]) -> Iterator[tuple[int, Any]]:
    """Run jobs on a cluster (a ``Pool`` when given its client)."""
    from distributed import KilledWorker, as_completed

    numbers_of = {}
    for numbers in share_out(jobs, len(client.nthreads())):
        numbers_of[_submit(client, [jobs[number] for number in numbers])] = numbers
    suspects = []
    for future in as_completed(list(numbers_of)):
        # What a worker holds of a job is let go when its future is.
        numbers, error = numbers_of.pop(future), future.exception()
        if error is None:
            outcomes = future.result()
            yield from zip(numbers, outcomes if len(numbers) > 1 else [outcomes], strict=True)
        elif len(numbers) == 1 and not isinstance(error, KilledWorker):
            yield numbers[0], error
        else:
            suspects += numbers
    # With the task that killed its workers Dask blames those that waited for their turn on them. One after the other,
    # none but the guilty job fails again.
    for number in suspects:
        future = _submit(client, [jobs[number]])
        error = future.exception()
        yield number, error if error is not None else future.result()


def share_out(jobs: Sequence[ObjectJob], n_workers: int) -> list[list[int]]:
    """Share out jobs as tasks, the numbers of the jobs of each: neighbours that are small are one."""
    n_bytes = [job.n_bytes if len(job.parts) == 1 else None for job in jobs]
    most_bytes = min(BATCH_BYTES, sum(filter(None, n_bytes)) // (TASKS_PER_WORKER * max(1, n_workers)))
    tasks: list[list[int]] = []
    room = -1  # of the last task; none that may be shared has 0
    for number, size in enumerate(n_bytes):
        if size is not None and size <= room:
            tasks[-1].append(number)
            room -= size
        else:
            tasks.append([number])
            room = -1 if size is None else most_bytes - size
    return tasks


def _submit(client: "Client", jobs: list[ObjectJob]) -> Any:
    """Give a worker one job, or several that it runs as one task; return the future of its outcome or outcomes."""
    if len(jobs) > 1:
        return client.submit(_run_together, jobs, pure=False)
    (job,) = jobs
    if len(job.parts) == 1:
        return client.submit(_run_whole, job, pure=False)
    read = [client.submit(job.read, part, pure=False) for part in job.parts]
    joined = _reduce(read, functools.partial(client.submit, job.merge, pure=False))
    return client.submit(job.finish, joined, pure=False)


def _run_together(jobs: list[ObjectJob]) -> list[Any]:
    return [outcome for _, outcome in run_serially(jobs)]


def _run_whole(job: ObjectJob) -> Any:
    """Run a job of one part: one message to a worker in place of two."""
    return job.finish(job.read(job.parts[0]))


def _reduce(values: list[Any], merge: Callable[[Any, Any], Any]) -> Any:
    """Join neighbours two by two until one is left."""
    while len(values) > 1:
        joined = [merge(first, second) for first, second in zip(values[::2], values[1::2], strict=False)]
        values = joined + values[len(joined) * 2 :]
    return values[0]
