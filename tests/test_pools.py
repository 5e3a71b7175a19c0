"""Jobs on objects: run in this process or by several, with the same outcomes."""

import functools
import os
import threading

import pytest

from oncoarena import pools
from oncoarena.errors import InputError


def halve(number):
    if number < 0:
        raise InputError(f"{number} is negative")
    return [number / 2]


def join(first, second):
    return first + second


@pytest.mark.parametrize("n_workers", [1, 2])
def test_object_pool__parts_are_joined_in_order_and_an_error_is_an_outcome(n_workers):
    jobs = [pools.ObjectJob(tuple(range(n_parts)), halve, join, tuple) for n_parts in (1, 2, 3, 7)] + [
        pools.ObjectJob((4, -1, 6), halve, join, tuple)
    ]
    with pools.object_pool(n_workers, 1000) as pool:
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
        pools.ObjectJob(
            (None,), functools.partial(read, name), join, str, functools.partial(Opened, notes, name)
        )
        for name in names
    ]


def test_run_serially__opens_the_objects_of_the_next_jobs_before_it_reads_this_one():
    notes = []
    jobs = jobs_that_note(notes, ["a", "bad", "c", "d", "e"])
    assert dict(pools.run_serially(jobs)) == {0: "a", 1: "bad", 2: "c", 3: "d", 4: "e"}
    assert pools.OPEN_AHEAD == 2
    assert notes == [
        *("open c", "read a closed"),
        *("open d", "read bad closed"),
        *("open e", "read c opened", "close c"),
        *("read d opened", "close d", "read e opened", "close e"),
    ]


def test_run_serially__object_of_a_store_is_finished_while_the_next_are_read():
    third_is_read = threading.Event()
    n_read = []

    def read(number, _):
        n_read.append(number)
        if number == 2:
            third_is_read.set()
        return number

    def finish(number):
        if number == 3:
            raise InputError("3 is not to be kept")
        assert number or third_is_read.wait(10)
        return -number

    jobs = [
        pools.ObjectJob((None,), functools.partial(read, number), join, finish, finish_aside=True)
        for number in range(5)
    ]
    outcomes = list(pools.run_serially(jobs))
    assert [number for number, _ in outcomes] == list(range(5))
    assert [outcome for _, outcome in outcomes if isinstance(outcome, int)] == [0, -1, -2, -4]
    assert str(outcomes[3][1]) == "3 is not to be kept"


def test_run_serially__is_at_most_some_objects_ahead_of_what_is_finished():
    n_read, ahead = [], []
    go_on = threading.Event()

    def finish(_):
        assert go_on.wait(10)
        return len(n_read)

    def read(number, _):
        n_read.append(number)
        if len(n_read) == pools.FINISHING + 1:
            # Were more read before the first is finished, some of them would be there when it is.
            threading.Timer(0.3, go_on.set).start()

    jobs = [
        pools.ObjectJob((None,), functools.partial(read, number), join, finish, finish_aside=True)
        for number in range(20)
    ]
    for number, _ in pools.run_serially(jobs):
        ahead.append(len(n_read) - number)
    assert ahead[0] == pools.FINISHING + 1
    assert max(ahead) <= pools.FINISHING + 1


def test_run_serially__closes_what_it_opened_where_its_caller_stops():
    notes = []
    jobs = pools.run_serially(jobs_that_note(notes, ["a", "b", "c"]))
    assert next(jobs) == (0, "a")
    jobs.close()
    assert notes == ["open b", "open c", "read a closed", "close b", "close c"]


def sized(n_bytes, n_parts=1):
    return pools.ObjectJob(tuple(range(n_parts)), halve, join, tuple, n_bytes=n_bytes)


def test_share_out__small_neighbours_are_one_task_and_each_job_is_in_one(monkeypatch):
    monkeypatch.setattr(pools, "BATCH_BYTES", 100)
    sizes = [40, 40, 40, 120, 10, None, 5, 5, 90, 1, 99, 300, 2]
    tasks = pools.share_out([*map(sized, sizes), sized(7, n_parts=3)], 1)
    assert tasks == [[0, 1], [2], [3], [4], [5], [6, 7, 8], [9, 10], [11], [12], [13]]


def test_share_out__every_worker_gets_several_tasks():
    tasks = pools.share_out([sized(4_000_000)] * 48, 3)
    assert [len(numbers) for numbers in tasks] == [4] * 12
    assert [number for numbers in tasks for number in numbers] == list(range(48))
    # 500 tables of 4.4 MB on two workers: by the bytes of a task.
    assert {len(numbers) for numbers in pools.share_out([sized(4_400_000)] * 500, 2)} == {7, 3}
    # BAM files are tasks of their own.
    assert len(pools.share_out([sized(40_000_000)] * 12, 2)) == 12
    assert pools.share_out([sized(0)] * 3, 2) == [[0, 1, 2]]
    assert pools.share_out([], 2) == []


def test_object_pool__jobs_that_share_a_task_have_their_own_outcomes():
    numbers = [4, -1, 6, 8, -3, 10, 12, 14]
    jobs = [pools.ObjectJob((number,), halve, join, tuple, n_bytes=1000) for number in numbers]
    assert max(map(len, pools.share_out(jobs, 1))) > 1
    with pools.dask_pool(1, 1000) as pool:
        outcomes = dict(pool(jobs))
    assert sorted(outcomes) == list(range(8))
    for place, number in enumerate(numbers):
        if number < 0:
            assert str(outcomes[place]) == f"{number} is negative"
        else:
            assert outcomes[place] == (number / 2,)


@pytest.mark.parametrize("n_bytes", [None, 1000])
def test_object_pool__job_that_kills_its_workers_takes_none_with_it_that_waited_there(n_bytes):
    reads = [halve, halve, end_the_process, halve, halve, halve, halve, halve]
    jobs = [pools.ObjectJob((2,), read, join, tuple, n_bytes=n_bytes) for read in reads]
    assert len(pools.share_out(jobs, 1)) == (4 if n_bytes else 8)
    with pools.dask_pool(1, 1000) as pool:
        outcomes = dict(pool(jobs))
    assert type(outcomes.pop(2)).__name__ == "KilledWorker"
    assert outcomes == dict.fromkeys([0, 1, 3, 4, 5, 6, 7], (1.0,))


def test_n_workers_worth__short_work_is_for_one_and_long_work_for_all():
    assert [pools.n_workers_worth(seconds, 8) for seconds in (0.0, 5.9, 6.1, 20.0, 1e6)] == [1, 1, 2, 6, 8]


def end_the_process(_):
    os._exit(1)


def test_object_pool__job_that_kills_its_workers_has_failed_and_the_others_have_not():
    jobs = [
        pools.ObjectJob((0,), halve, join, tuple),
        pools.ObjectJob((0,), end_the_process, join, tuple),
        pools.ObjectJob((8,), halve, join, tuple),
    ]
    with pools.object_pool(2, 1000) as pool:
        outcomes = dict(pool(jobs))
    assert outcomes[0] == (0.0,)
    assert outcomes[2] == (4.0,)
    assert type(outcomes[1]).__name__ == "KilledWorker"
