"""Extraction on a Dask cluster that exists already: scheduler and workers are processes of their own."""

import contextlib
import os
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path

import pandas as pd
import pytest

import oncoarena
from object_store import free_port
from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.extraction import extract_shard
from oncoarena.pools import object_pool
from oncoarena.simulation.cfdna import simulate_cohort
from oncoarena.study import AssayPlan, assay_module

WAIT_S = 60
DASK = str(Path(sysconfig.get_path("scripts"), "dask"))


@contextlib.contextmanager
def processes(*commands, environ=None):
    """Run commands until the block ends."""
    started = [
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | (environ or {})
        )
        for command in commands
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def cluster(folder, n_workers, environ=None):
    """Start a scheduler and workers as a user would on machines of a cluster; yield the scheduler's address."""
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = [DASK, "scheduler", f"--host={address}", "--no-dashboard"]
    worker = [DASK, "worker", address, "--host=127.0.0.1", "--nthreads=1", "--memory-limit=2GiB"]
    worker += ["--no-dashboard", f"--local-directory={folder}"]
    with processes(scheduler), processes(*[worker] * n_workers, environ=environ):
        wait_for_workers(address, n_workers)
        yield address


def wait_for_workers(address, n_workers):
    from distributed import Client

    end = time.monotonic() + WAIT_S
    while True:
        try:
            with Client(address, timeout="2s") as client:
                if n_workers:
                    client.wait_for_workers(n_workers, timeout=end - time.monotonic())
            return
        except OSError:
            if time.monotonic() > end:
                raise


def test_extract_shard__attached_cluster_gives_the_bytes_of_one_process(tmp_path):
    sheet = simulate_cohort(tmp_path / "cohort", n_samples=4, n_reads=20_000)
    samples = pd.read_csv(sheet, sep="\t", dtype=str)
    # Two of the objects are cut into parts, which other workers read.
    plan = AssayPlan("alignments", assay_module("alignments").Options(part_mb=1), column="alignments")
    receipts = {}
    with cluster(tmp_path, 2) as address, object_pool(1, 1000, address) as pool:
        receipts["cluster"] = extract_shard(plan, samples, str(tmp_path / "cluster"), pool=pool)
    receipts["here"] = extract_shard(plan, samples, str(tmp_path / "here"))
    for block, uri in receipts["here"]["blocks"].items():
        here, there = store.read_json(uri), store.read_json(receipts["cluster"]["blocks"][block])
        assert [part["digest"] for part in here["parts"]] == [part["digest"] for part in there["parts"]]


def test_object_pool__scheduler_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr("oncoarena.pools.ANSWER_S", 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(InputError, match=f"{address} does not answer"), object_pool(1, 1000, address):
        pass
    with pytest.raises(InputError, match="does not answer"), object_pool(1, 1000, "nonsense://there"):
        pass


def test_object_pool__scheduler_without_workers_is_one_line(tmp_path):
    with (
        cluster(tmp_path, 0) as address,
        pytest.raises(InputError, match="no worker is attached"),
        object_pool(1, 1000, address),
    ):
        pass


def test_object_pool__workers_with_other_code_are_refused(tmp_path):
    other = tmp_path / "other/oncoarena"
    other.parent.mkdir()
    shutil.copytree(Path(oncoarena.__file__).parent, other)
    (other / "provenance.py").write_text((other / "provenance.py").read_text() + "\n# changed\n")
    with (
        cluster(tmp_path, 1, environ={"PYTHONPATH": str(other.parent)}) as address,
        pytest.raises(InputError, match=r"1 of 1 workers of .* have another oncoarena than this one"),
        object_pool(1, 1000, address),
    ):
        pass
