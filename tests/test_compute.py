"""Devices, threads and seeds: decided in one place, before a framework is loaded."""

import os
import subprocess
import sys

import pytest

from oncoarena import compute


def test_spawn_seed__depends_on_every_name_and_on_the_order():
    seeds = {
        compute.spawn_seed(study, *names)
        for study in (0, 1)
        for names in [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 0), ("ab", 0, 0), ("a", "b", 0, 0)]
    }
    assert len(seeds) == 12
    assert compute.spawn_seed(7, "wide_deep", 2, 3) == compute.spawn_seed(7, "wide_deep", 2, 3)


def test_spawn_seed__is_the_same_on_every_machine():
    # Written down once: a change here would change the predictions of every published study.
    assert compute.spawn_seed(1, "wide_deep", 0, 0) == 815772714


@pytest.mark.parametrize(
    ("framework", "question", "answer"),
    [
        (
            "numpy",
            "import os; print(os.environ['OMP_NUM_THREADS'], repr(os.environ['CUDA_VISIBLE_DEVICES']))",
            "2 ''",
        ),
        (
            "torch",
            "import torch; print(torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())",
            "2 True",
        ),
        (
            "tensorflow",
            "import tensorflow as tf; print(tf.config.threading.get_intra_op_parallelism_threads())",
            "2",
        ),
    ],
)
def test_training_environment__caps_threads_as_the_framework_sees_them(framework, question, answer):

    code = f"from oncoarena import compute; compute.prepare_framework({framework!r}, 2, 0, 5); {question}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | compute.training_environment(framework, threads=2, gpu=0),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == answer


@pytest.mark.parametrize("framework", ["numpy", "sklearn", "torch"])
def test_prepare_framework__asks_for_no_gpu_where_there_is_none(framework):
    code = f"from oncoarena import compute; print(compute.prepare_framework({framework!r}, 1, 1, 5))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("cpu", "cuda")


def test_prepare_framework__tensorflow_may_be_prepared_again_after_it_has_computed():
    code = (
        "from oncoarena import compute; import tensorflow as tf; tf.constant(1.0) + 1.0;"
        "print(compute.prepare_framework('tensorflow', 2, 0, 5))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "cpu"
