"""The only file that knows Dask clusters, devices, threads and seeds."""

import collections
import contextlib
import functools
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

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

ANSWER_S = 10
"""A scheduler that exists answers within milliseconds; behind a slow tunnel within seconds."""


@dataclass(frozen=True)
class ObjectJob:
    """Work on one object: its parts are read on their own, joined two by two, and finished.

    ``ahead``, of a job of one part, may open the object before its turn: ``read`` then gets what it returns in place
    of the part, and closes it. All functions and values must survive pickling.
    """

    parts: Sequence[Any]
    read: Callable[[Any], Any]
    merge: Callable[[Any, Any], Any]
    finish: Callable[[Any], Any]
    ahead: Callable[[], Any] | None = None


Pool = Callable[[Sequence[ObjectJob]], Iterator[tuple[int, Any]]]
"""Runs jobs and yields (number of the job, its result or the exception that it raised) as they end."""


def run_serially(jobs: Sequence[ObjectJob]) -> Iterator[tuple[int, Any]]:
    """Run jobs in this process, one after the other, the next ones' objects opened meanwhile (a ``Pool``)."""
    ahead: collections.deque[Any] = collections.deque()
    try:
        for number, job in enumerate(jobs):
            opened = ahead.popleft() if ahead else None
            for later in jobs[number + 1 + len(ahead) : number + 1 + OPEN_AHEAD]:
                ahead.append(_open_ahead(later))
            parts = job.parts if opened is None else (opened,)
            try:
                outcome = job.finish(_reduce([job.read(part) for part in parts], job.merge))
            except Exception as error:
                outcome = error
            yield number, outcome
    finally:
        for opened in ahead:
            if opened is not None:
                opened.close()


def _open_ahead(job: ObjectJob) -> Any:
    """Open a job's object; return None where it cannot be: in its turn the job will say why."""
    with contextlib.suppress(Exception):
        return job.ahead() if job.ahead is not None else None


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
    from distributed import as_completed

    number_of = {}
    for number, job in enumerate(jobs):
        if len(job.parts) == 1:
            number_of[client.submit(_run_whole, job, pure=False)] = number
            continue
        read = [client.submit(job.read, part, pure=False) for part in job.parts]
        joined = _reduce(read, functools.partial(client.submit, job.merge, pure=False))
        number_of[client.submit(job.finish, joined, pure=False)] = number
        del read, joined
    for future in as_completed(list(number_of)):
        error = future.exception()
        # What a worker holds of a job is let go when its future is.
        yield number_of.pop(future), error if error is not None else future.result()


def _run_whole(job: ObjectJob) -> Any:
    """Run a job of one part: one message to a worker in place of two."""
    return job.finish(job.read(job.parts[0]))


def _reduce(values: list[Any], merge: Callable[[Any, Any], Any]) -> Any:
    """Join neighbours two by two until one is left."""
    while len(values) > 1:
        joined = [merge(first, second) for first, second in zip(values[::2], values[1::2], strict=False)]
        values = joined + values[len(joined) * 2 :]
    return values[0]


def training_environment(framework: str, threads: int, gpu: int) -> dict[str, str]:
    """Return the environment variables with which a training process must start.

    They are read when a framework is loaded, hence before a hypothesis is imported: thread caps,
    determinism, memory growth on a GPU, and no GPU at all for a job that did not ask for one.
    """
    count = str(threads)
    environment = {
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "NUMBA_NUM_THREADS": count,
        "PYTHONHASHSEED": "0",
    }
    if gpu == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if framework == "tensorflow":
        environment |= {
            "TF_NUM_INTRAOP_THREADS": count,
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "KERAS_BACKEND": "tensorflow",
            # oneDNN picks its order of summation by machine and load; off, a seed means the same everywhere.
            "TF_ENABLE_ONEDNN_OPTS": "0",
        }
    if framework == "torch":
        # Without it cuBLAS may reduce in another order from run to run.
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return environment


def preload(framework: str) -> None:
    """Import a framework's packages, without computing anything, so that forked children share them."""
    packages = {
        # Boosted trees, where they are installed.
        "tensorflow": ["tensorflow", "keras", *(["ydf"] if importlib.util.find_spec("ydf") else [])],
        "torch": ["torch"],
        "sklearn": ["sklearn.linear_model"],
    }
    for package in packages.get(framework, []):
        importlib.import_module(package)


def n_devices(framework: str, threads: int, gpu: int) -> int:
    """Say on how many devices a model is trained at once, in a process that has not computed yet.

    As many GPUs as were asked for and are there. Where none is, the processor stands in for several, one thread
    each at least, so that the same code runs on any machine. NumPy and scikit-learn use one device.
    """
    if gpu < 2 or framework not in ("tensorflow", "torch"):
        return 1
    if framework == "tensorflow":
        import tensorflow as tf

        found = len(tf.config.list_physical_devices("GPU"))
    else:
        import torch

        found = torch.cuda.device_count()
    return min(gpu, found or max(1, threads))


def prepare_framework(framework: str, threads: int, gpu: int, seed: int, n_devices: int = 1) -> str:
    """Seed a framework, make it deterministic and return the device to train on: "cpu" or "cuda".

    For ``n_devices`` above 1 without a GPU, TensorFlow's processor is cut into as many devices; PyTorch's threads are
    shared among as many processes.
    """
    if framework == "tensorflow":
        import keras
        import tensorflow as tf

        # Where TensorFlow has computed already in this process (`oncoarena try`), its first caller's threads stay.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        if gpu and tf.config.list_physical_devices("GPU"):
            return "cuda"
        if n_devices > 1:
            parts = [tf.config.LogicalDeviceConfiguration()] * n_devices
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
        return "cpu"
    if framework == "torch":
        import torch

        torch.set_num_threads(max(1, threads // n_devices))
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        return "cuda" if gpu and torch.cuda.is_available() else "cpu"
    if framework == "numpy" and gpu:
        return "cuda" if _numba_sees_gpu() else "cpu"
    return "cpu"


@contextlib.contextmanager
def training_scope(framework: str, device: str, n_devices: int, precision: str) -> Iterator[None]:
    """Hold what a hypothesis's ``fit`` runs in: copies of its variables on several devices, and mixed precision.

    Precision "mixed": layers multiply in bfloat16, and weights, gradients and sums stay float32. On a processor it
    is the same, and slower. For several devices PyTorch has processes instead (see ``ranks``).
    """
    with contextlib.ExitStack() as stack:
        if framework == "tensorflow":
            import keras
            import tensorflow as tf

            if n_devices > 1:
                kind = "GPU" if device == "cuda" else "CPU"
                names = [f"/{kind}:{number}" for number in range(n_devices)]
                stack.enter_context(tf.distribute.MirroredStrategy(names).scope())
                stack.enter_context(_told_of_uneven_batches(n_devices))
            if precision == "mixed":
                stack.callback(keras.config.set_dtype_policy, keras.config.dtype_policy())
                keras.config.set_dtype_policy("mixed_bfloat16")
        if framework == "torch" and precision == "mixed":
            import torch

            # Its cache would keep the bfloat16 copies of weights for the whole block, whatever steps change them.
            stack.enter_context(torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False))
        yield


@contextlib.contextmanager
def _told_of_uneven_batches(n_devices: int) -> Iterator[None]:
    """Say what to do where Keras stumbles over a first batch that it cannot deal out evenly."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        error.add_note(
            f"On {n_devices} devices model.fit wants {n_devices}, {2 * n_devices}, ... samples in its first batch: "
            "choose such a batch_size, no larger than the cohort, or gpu: 1"
        )
        raise


def _numba_sees_gpu() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba warns of a driver that is not there: that is the answer
        try:
            from numba import cuda

            return bool(cuda.is_available())
        except ImportError:
            return False


def spawn_seed(study_seed: int, *names: str | int) -> int:
    """Derive an independent 32-bit seed for a named purpose, the same on every machine.

    One ``SeedSequence`` is spawned by the names (hypothesis, repeat, fold), so adding a hypothesis or a
    fold leaves the seeds of all others as they were.
    """
    key = [part for name in names for part in (_name_words(name) if isinstance(name, str) else [name])]
    return int(np.random.SeedSequence(study_seed, spawn_key=key).generate_state(1)[0])


def _name_words(name: str) -> list[int]:
    raw = name.encode()
    return [int.from_bytes(raw[first : first + 4], "big") for first in range(0, len(raw), 4)] + [len(raw)]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
