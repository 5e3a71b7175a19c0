"""Devices, threads and seeds: decided in one place, before a framework is loaded."""

import functools
import os
import subprocess
import sys

import pytest

from oncoarena import compute
from oncoarena.errors import InputError


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
    import os

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


def halve(number):
    if number < 0:
        raise InputError(f"{number} is negative")
    return [number / 2]


def join(first, second):
    return first + second


@pytest.mark.parametrize("n_workers", [1, 2])
def test_object_pool__parts_are_joined_in_order_and_an_error_is_an_outcome(n_workers):
    jobs = [compute.ObjectJob(tuple(range(n_parts)), halve, join, tuple) for n_parts in (1, 2, 3, 7)] + [
        compute.ObjectJob((4, -1, 6), halve, join, tuple)
    ]
    with compute.object_pool(n_workers, 1000) as pool:
        outcomes = dict(pool(jobs))
    assert sorted(outcomes) == [0, 1, 2, 3, 4]
    for number, n_parts in enumerate((1, 2, 3, 7)):
        assert outcomes[number] == tuple(part / 2 for part in range(n_parts))
    assert isinstance(outcomes[4], InputError)
    assert str(outcomes[4]) == "-1 is negative"


class Opened:
    """Notes what is done with an object."""

    def __init__(self, notes, name):
        if name == "bad":
            raise InputError("there is no such file")
        self.notes, self.name = notes, name
        notes.append(f"open {name}")

    def close(self):
        self.notes.append(f"close {self.name}")


def jobs_that_note(notes, names):
    def read(name, opened):
        notes.append(f"read {name} {'opened' if opened is not None else 'closed'}")
        if opened is not None:
            opened.close()
        return name

    return [
        compute.ObjectJob(
            (None,), functools.partial(read, name), join, str, functools.partial(Opened, notes, name)
        )
        for name in names
    ]


def test_run_serially__opens_the_objects_of_the_next_jobs_before_it_reads_this_one():
    notes = []
    jobs = jobs_that_note(notes, ["a", "bad", "c", "d", "e"])
    assert dict(compute.run_serially(jobs)) == {0: "a", 1: "bad", 2: "c", 3: "d", 4: "e"}
    assert compute.OPEN_AHEAD == 2
    assert notes == [
        *("open c", "read a closed"),
        *("open d", "read bad closed"),
        *("open e", "read c opened", "close c"),
        *("read d opened", "close d", "read e opened", "close e"),
    ]


def test_run_serially__closes_what_it_opened_where_its_caller_stops():
    notes = []
    jobs = compute.run_serially(jobs_that_note(notes, ["a", "b", "c"]))
    assert next(jobs) == (0, "a")
    jobs.close()
    assert notes == ["open b", "open c", "read a closed", "close b", "close c"]


def end_the_process(_):
    os._exit(1)


def test_object_pool__job_that_kills_its_workers_has_failed_and_the_others_have_not():
    jobs = [
        compute.ObjectJob((0,), halve, join, tuple),
        compute.ObjectJob((0,), end_the_process, join, tuple),
        compute.ObjectJob((8,), halve, join, tuple),
    ]
    with compute.object_pool(2, 1000) as pool:
        outcomes = dict(pool(jobs))
    assert outcomes[0] == (0.0,)
    assert outcomes[2] == (4.0,)
    assert type(outcomes[1]).__name__ == "KilledWorker"


def test_prepare_framework__tensorflow_may_be_prepared_again_after_it_has_computed():
    code = (
        "from oncoarena import compute; import tensorflow as tf; tf.constant(1.0) + 1.0;"
        "print(compute.prepare_framework('tensorflow', 2, 0, 5))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "cpu"
