"""The only file that knows Dask clusters, devices, threads and seeds."""

import contextlib
import importlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

MapFunction = Callable[..., Iterable[Any]]


@contextlib.contextmanager
def object_map(n_workers: int, memory_mb: int) -> Iterator[MapFunction]:
    """Yield a ``map`` over objects: the builtin for one worker, else a local Dask cluster's.

    Each worker is a process with one thread and an equal share of ``memory_mb``; it pauses at 80 % and is
    restarted at 95 % of its share, so one absurd object cannot take the machine with it. Results come back
    in the order of the input.
    """
    if n_workers <= 1:
        yield map
        return
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            memory_limit=memory_mb * 2**20 // n_workers,
            dashboard_address=None,
            host="127.0.0.1",
        ) as cluster,
        Client(cluster) as client,
    ):

        def cluster_map(function: Callable[..., Any], *items: Iterable[Any]) -> list[Any]:
            return client.gather(client.map(function, *items, pure=False))

        yield cluster_map


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
        "tensorflow": ["tensorflow", "keras"],
        "torch": ["torch"],
        "sklearn": ["sklearn.linear_model"],
    }
    for package in packages.get(framework, []):
        importlib.import_module(package)


def prepare_framework(framework: str, threads: int, gpu: int, seed: int) -> str:
    """Seed a framework, make it deterministic and return the device to train on: "cpu" or "cuda"."""
    if framework == "tensorflow":
        import keras
        import tensorflow as tf

        # Where TensorFlow has computed already in this process (`oncoarena try`), its first caller's threads stay.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        return "cuda" if gpu and tf.config.list_physical_devices("GPU") else "cpu"
    if framework == "torch":
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        return "cuda" if gpu and torch.cuda.is_available() else "cpu"
    if framework == "numpy" and gpu:
        return "cuda" if _numba_sees_gpu() else "cpu"
    return "cpu"


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
