"""A shard of BAM files by one worker and by two, and the blocks that came of it read back as training batches.

    python bench/extraction.py [--samples 24] [--reads 1000000] [--rounds 3] [--part-mb 256 16] [--cohort FOLDER]
        [--rows 4096] [--features 20000]

Extraction is timed on the wall from the first object to the last, with the workers started and their kernels
loaded, for whole files a task and for ranges of indexed files: two Dask workers on two cores against one on one core,
against this process, without Dask, on one core, and on both (its reading and hashing thread then runs beside it).
Batches of 256 consecutive rows in shuffled order are compared with plain ``read()`` of the same bytes; the one-time
decoding of the block into its scratch file is given beside them. Printed are medians of interleaved rounds and of
the ratios round by round. ``--cohort`` keeps the files for the next time.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from oncoarena import store
from oncoarena.cohort import BlockSpec, feature_table
from oncoarena.extraction import extract_shard
from oncoarena.pools import dask_pool, object_pool
from oncoarena.simulation.cfdna import simulate_cohort
from oncoarena.study import AssayPlan, assay_module

BATCH_ROWS = 256


def time_extraction(folder: Path, samples: pd.DataFrame, n_rounds: int, part_mb: int) -> None:
    """Print how long one worker and two take for the same shard."""
    options = assay_module("alignments").Options(part_mb=part_mb)
    plan = AssayPlan("alignments", options, column="alignments")
    ways = {
        "one Dask worker on one core": (dask_pool, 1, 1),
        "this process on one core": (object_pool, 1, 1),
        "this process on two cores": (object_pool, 1, 2),
        "two workers": (dask_pool, 2, 2),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(n_rounds):
        for way, (open_pool, n_workers, n_cores) in ways.items():
            with on_cores(n_cores), open_pool(n_workers, 4000) as pool:
                # The first object of a worker loads its kernels; a shard has hundreds.
                name = f"{part_mb}-{number}-{way.replace(' ', '-')}"
                extract_shard(plan, samples.iloc[:2], str(folder / f"warm-{name}"), pool=pool)
                started = time.perf_counter()
                extract_shard(plan, samples, str(folder / f"shard-{name}"), pool=pool)
                seconds[way].append(time.perf_counter() - started)
    n_bytes = sum(store.sizes(samples["alignments"]).values())
    print(f"{len(samples)} BAM files, {n_bytes / 1e6:.0f} MB, parts of {part_mb} MB:")
    for way, values in seconds.items():
        ratios = [a / b for a, b in zip(values, seconds["two workers"], strict=True)]
        print(
            f"  {way}: {statistics.median(values):.2f} s, {statistics.median(ratios):.2f} times two workers"
        )


@contextlib.contextmanager
def on_cores(n_cores: int) -> Iterator[None]:
    """Let this thread, and all threads and processes that it starts, run on so many cores only."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:n_cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def time_batches(folder: Path, n_rows: int, n_features: int, n_rounds: int) -> None:
    """Print how fast a block is read as training batches, beside plain reading of as many bytes."""
    values = np.random.default_rng(0).normal(size=(n_rows, n_features)).astype(np.float32)
    (folder / "plain").write_bytes(values.tobytes())
    spec = BlockSpec("toy", ("sample", "feature"), "float32", "none", "numbers")
    features = feature_table([str(i) for i in range(n_features)])
    ids = [f"s{row}" for row in range(n_rows)]
    receipt = store.write_block(str(folder / "block"), spec, ids, iter(values), features, {})
    started = time.perf_counter()
    cached = store.open_block(receipt, folder / "scratch", share_of_memory=0.0).values
    decoding = time.perf_counter() - started
    starts = np.arange(0, n_rows, BATCH_ROWS)
    rates: dict[str, list[float]] = {"batches": [], "read": []}
    for number in range(n_rounds):
        order = np.random.default_rng(number).permutation(starts)
        started = time.perf_counter()
        for start in order:
            np.array(cached[start : start + BATCH_ROWS])
        rates["batches"].append(values.nbytes / 1e6 / (time.perf_counter() - started))
        started = time.perf_counter()
        with open(folder / "plain", "rb", buffering=0) as file:
            while file.read(BATCH_ROWS * n_features * 4):
                pass
        rates["read"].append(values.nbytes / 1e6 / (time.perf_counter() - started))
    batches, plain = (statistics.median(rates[name]) for name in rates)
    ratio = statistics.median(a / b for a, b in zip(rates["batches"], rates["read"], strict=True))
    print(
        f"block of {values.nbytes / 1e6:.0f} MB: batches {batches:.0f} MB/s, plain read {plain:.0f} MB/s, "
        f"ratio {ratio:.2f}; decoded once at {values.nbytes / 1e6 / decoding:.0f} MB/s"
    )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--reads", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part-mb", type=int, nargs="+", default=[256, 16], help="sizes of a task's part")
    parser.add_argument("--cohort", type=Path, help="folder of the BAM files, written if it is not there")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--features", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        time_batches(Path(folder), options.rows, options.features, options.rounds)
        cohort = options.cohort or Path(folder, "cohort")
        if not cohort.exists():
            simulate_cohort(cohort, n_samples=options.samples, n_reads=options.reads)
        samples = pd.read_csv(cohort / "samples.tsv", sep="\t", dtype=str)
        for part_mb in options.part_mb:
            time_extraction(Path(folder), samples, options.rounds, part_mb)


if __name__ == "__main__":  # the workers import this file again
    main()
