"""Read an expression matrix: oncoarena's checked, streaming reader against pandas.read_csv, in one run.

    python bench/read_matrix.py [--genes 20000] [--samples 200] [--rounds 5]

Both read the same tab-separated file in turn; printed are the median CPU seconds, the median of the ratios
round by round, and the peak memory of a process that does nothing else.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from oncoarena.assays import expression


def write_matrix(path: Path, n_genes: int, n_samples: int) -> list[str]:
    """Write a matrix of log-like values; return the sample ids."""
    values = np.random.default_rng(0).gamma(2.0, 3.0, size=(n_genes, n_samples)).round(4)
    ids = [f"s{column:05d}" for column in range(n_samples)]
    table = pd.DataFrame(values, index=[f"ENSG{row:011d}" for row in range(n_genes)], columns=ids)
    table.to_csv(path, sep="\t", index_label="gene")
    return ids


def read_ours(path: Path, ids: list[str]) -> np.ndarray:
    """Read as the pipeline does: every cell checked, samples in the order of the sheet."""
    with open(path, "rb") as stream:
        return expression.read_matrix(stream, str(path), ids, expression.Options())["expression"].values


def read_pandas(path: Path, ids: list[str]) -> np.ndarray:
    """Read as most scripts do, without a check."""
    return pd.read_csv(path, sep="\t", index_col=0)[ids].to_numpy(dtype=np.float32).T


READERS = {"oncoarena": read_ours, "pandas": read_pandas}


def cpu_seconds(reader: str, path: Path, ids: list[str]) -> float:
    """Time one read in this process."""
    started = time.process_time()
    READERS[reader](path, ids)
    return time.process_time() - started


def peak_memory_mb(reader: str, path: Path) -> int:
    """Measure a fresh process that reads the file once."""
    command = [sys.executable, __file__, "--alone", reader, str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Run the comparison, or one read alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        reader, path = options.alone
        with open(path) as stream:
            ids = stream.readline().rstrip("\n").split("\t")[1:]
        READERS[reader](Path(path), ids)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "matrix.tsv")
        ids = write_matrix(path, options.genes, options.samples)
        assert np.array_equal(read_ours(path, ids), read_pandas(path, ids))
        seconds = {name: [] for name in READERS}
        for _ in range(options.rounds):
            for name in READERS:
                seconds[name].append(cpu_seconds(name, path, ids))
        ratios = [ours / theirs for ours, theirs in zip(seconds["oncoarena"], seconds["pandas"], strict=True)]
        print(
            f"{options.genes} genes x {options.samples} samples, {path.stat().st_size / 1e6:.0f} MB of text"
        )
        for name in READERS:
            median, memory = statistics.median(seconds[name]), peak_memory_mb(name, path)
            print(f"{name:<12}{median:8.2f} CPU s{memory:8d} MB peak")
        print(f"ratio oncoarena / pandas, median of {options.rounds}: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
