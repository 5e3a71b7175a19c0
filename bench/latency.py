"""Many small objects of a store that takes its time: what of the waiting one process hides.

    python bench/latency.py [--objects 200] [--genes 5000] [--latency-ms 30] [--rounds 3]

The store is this machine's file system behind a protocol of its own, which waits before every request is answered.
Printed are the seconds of reading all objects to a block, without latency and with it, the requests, and how long they
would take one after the other.
"""

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
from fsspec.implementations.local import LocalFileSystem

from oncoarena import study
from oncoarena.extraction import extract_shard


class SlowFileSystem(LocalFileSystem):
    """Local files that come after ``latency_s``; counts the requests that a store would get."""

    protocol = "slow"
    latency_s = 0.0
    n_requests = 0
    _counting = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("slow://"))

    def _wait(self) -> None:
        with self._counting:
            SlowFileSystem.n_requests += 1
        time.sleep(self.latency_s)

    def info(self, path, **keywords):
        self._wait()
        return super().info(path, **keywords)

    def cat_file(self, path, start=None, end=None, **keywords):
        self._wait()
        # The one of fsspec asks for the size first, which a ranged request does not.
        with open(self._strip_protocol(path), "rb") as file:
            file.seek(start or 0)
            return file.read(-1 if end is None else end - (start or 0))

    def put_file(self, path, target, **keywords):
        self._wait()
        Path(self._strip_protocol(target)).parent.mkdir(parents=True, exist_ok=True)
        super().put_file(path, target, **keywords)


def write_cohort(folder: Path, n_objects: int, n_genes: int) -> pd.DataFrame:
    """Write tables of one sample each; return the sheet, with URIs of the slow store."""
    rng = np.random.default_rng(0)
    names = [f"s{number:04d}" for number in range(n_objects)]
    for name in names:
        rows = "".join(f"ENSG{gene:011d}\t{value}\n" for gene, value in enumerate(rng.poisson(20.0, n_genes)))
        (folder / f"{name}.tsv").write_text(f"gene_id\tcount\n{rows}")
    return pd.DataFrame({"sample_id": names, "file": [f"slow://{folder}/{name}.tsv" for name in names]})


def main() -> None:
    """Read the cohort in turn without latency and with it, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--genes", type=int, default=5000)
    parser.add_argument("--latency-ms", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    fsspec.register_implementation("slow", SlowFileSystem, clobber=True)
    plan = study.AssayPlan("expression", study.assay_module("expression").Options(), column="file")
    seconds: dict[float, list[float]] = {0.0: [], options.latency_ms / 1000: []}
    requests = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "objects")
        folder.mkdir()
        sheet = write_cohort(folder, options.objects, options.genes)
        for number in range(options.rounds + 1):
            for latency, measured in seconds.items():
                SlowFileSystem.latency_s, SlowFileSystem.n_requests = latency, 0
                started = time.perf_counter()
                extract_shard(plan, sheet, f"slow://{scratch}/{number}-{latency:g}")
                # The first round compiles and imports.
                if number:
                    measured.append(time.perf_counter() - started)
                requests = SlowFileSystem.n_requests
    without, with_latency = (statistics.median(measured) for measured in seconds.values())
    one_by_one = requests * options.latency_ms / 1000
    print(
        f"\n{options.objects} objects, {requests} requests: {without:.2f} s without latency, {with_latency:.2f} s at "
        f"{options.latency_ms:g} ms a request, which would take {one_by_one:.1f} s one after the other"
    )


if __name__ == "__main__":
    main()
