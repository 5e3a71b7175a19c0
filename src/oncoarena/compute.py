"""The only file that knows devices, threads and seeds."""

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator

import numpy as np


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
