"""Read a cohort of GDC STAR count files into one block: oncoarena against a loop over pandas.read_csv, in one run.

    python bench/expression.py [--files 500] [--genes 60660] [--rounds 3] [--readers NAME ...] [--cohort FOLDER]

The files are in the layout of the GDC: nine columns, a comment, four rows of QC. ``oncoarena`` reads as an
extraction job does, with one worker: every row is checked, figures of quality are taken, the block is aligned and
digested; ``assay alone`` leaves an array. ``pandas`` does what most scripts do, unchecked, all columns, and leaves a
matrix of log2(TPM + 1) in Parquet; ``two columns`` asks for no more than that needs. Each reads in a process of its
own, in turn; printed are the median seconds of the process (CPU, wall, and wall from the call on, without the start of
Python and pandas), its peak memory, and the ratios to the first reader. ``--cohort`` keeps the files for the next time.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

COUNTS = ("unstranded", "stranded_first", "stranded_second")
RATES = ("tpm_unstranded", "fpkm_unstranded", "fpkm_uq_unstranded")


def write_cohort(folder: Path, n_files: int, n_genes: int) -> None:
    """Write files of sparse counts, half of the genes without a read, as in a tumour."""
    rng = np.random.default_rng(0)
    kinds = np.array(["protein_coding", "lncRNA", "processed_pseudogene"])[rng.integers(0, 3, n_genes)]
    names = [f"GENE{row}" if row % 2 else f"AC{row:06d}.{row % 9}" for row in range(n_genes)]
    leading = [
        f"ENSG{row:011d}.{row % 20}\t{name}\t{kind}"
        for row, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]
    lengths = rng.gamma(2.0, 1000.0, n_genes) + 100.0
    means = np.where(rng.random(n_genes) < 0.5, 0.02, rng.lognormal(5.0, 2.5, n_genes))
    for number in range(n_files):
        counts = rng.poisson(means * rng.gamma(4.0, 0.25, n_genes))
        first = rng.binomial(counts, 0.5)
        rates = counts / lengths
        tpm, fpkm = rates / rates.sum() * 1e6, rates / counts.sum() * 1e9
        with open(folder / f"s{number:04d}.rna_seq.augmented_star_gene_counts.tsv", "w") as text:
            text.write("# gene-model: GENCODE v36\n")
            text.write("\t".join(["gene_id", "gene_name", "gene_type", *COUNTS, *RATES]) + "\n")
            for name in ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous"):
                text.write(f"{name}\t\t\t{10**6}\t{10**6}\t{10**6}\t\t\t\n")
            rows = zip(leading, counts, first, counts - first, tpm, fpkm, fpkm * 1.3, strict=True)
            text.writelines(
                f"{gene}\t{a}\t{b}\t{c}\t{x:.4f}\t{y:.4f}\t{z:.4f}\n" for gene, a, b, c, x, y, z in rows
            )


def read_ours(paths: list[Path], target: Path, **keywords) -> None:
    """Read as a job of the workflow does."""
    from oncoarena import study
    from oncoarena.extraction import extract_shard

    plan = study.AssayPlan("expression", study.assay_module("expression").Options(), column="file")
    sheet = pd.DataFrame({"sample_id": [path.name[:5] for path in paths], "file": [str(p) for p in paths]})
    extract_shard(plan, sheet, str(target), **keywords)


def read_with_two(paths: list[Path], target: Path) -> None:
    """Read as a job with two threads does: two workers of a local Dask cluster."""
    from oncoarena.pools import object_pool

    with object_pool(2, 8000) as pool:
        read_ours(paths, target, pool=pool)


def read_objects(paths: list[Path], target: Path) -> None:
    """Read by the assay alone, into one array."""
    from oncoarena.assays.expression import Options, read_object

    values = None
    for row, path in enumerate(paths):
        with open(path, "rb") as stream:
            found = read_object(stream, str(path), Options(), sample_id=path.name)["expression"]
        if values is None:
            values = np.empty((len(paths), len(found.values)), np.float32)
        values[row] = found.values
    np.save(f"{target}.npy", values)


def read_pandas(paths: list[Path], target: Path, **keywords) -> None:
    """Read as most scripts do, without a check."""
    columns = {}
    for path in paths:
        table = pd.read_csv(path, sep="\t", comment="#", index_col="gene_id", **keywords)
        columns[path.name[:5]] = table["tpm_unstranded"].iloc[4:]
    matrix = np.log2(pd.concat(columns, axis=1) + 1).astype(np.float32)
    matrix.to_parquet(f"{target}.parquet")


def read_pandas_narrow(paths: list[Path], target: Path) -> None:
    """The same, of the two columns that are needed."""
    read_pandas(paths, target, usecols=["gene_id", "tpm_unstranded"])


READERS = {
    "oncoarena": read_ours,
    "oncoarena, two workers": read_with_two,
    "oncoarena, assay alone": read_objects,
    "pandas": read_pandas,
    "pandas, two columns": read_pandas_narrow,
}


def measure(reader: str, folder: Path, target: Path) -> tuple[float, float, float, float]:
    """Run one reader in a fresh process; return seconds (CPU, wall, wall of the call) and peak memory in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--alone", reader, str(folder), str(target)]
    started = time.perf_counter()
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    wall = time.perf_counter() - started
    cpu, of_call, peak = map(float, said.splitlines()[-1].split())
    return cpu, wall, of_call, peak


def main() -> None:
    """Run the comparison, or one reader alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--genes", type=int, default=60_660)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--cohort", type=Path, help="folder of the files, written if it is not there")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        reader, folder, target = options.alone
        started = time.perf_counter()
        READERS[reader](sorted(Path(folder).iterdir()), Path(target))
        wall = time.perf_counter() - started
        own, workers = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = sum(used.ru_utime + used.ru_stime for used in (own, workers))
        print(f"\n{cpu} {wall} {max(own.ru_maxrss, workers.ru_maxrss) / 1024}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.cohort or Path(scratch, "cohort")
        if not folder.exists():
            folder.mkdir()
            write_cohort(folder, options.files, options.genes)
        n_bytes = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{len(list(folder.iterdir()))} files x {options.genes} genes, {n_bytes / 1e6:.0f} MB of text")
        measured = {name: [] for name in options.readers}
        for _ in range(options.rounds):
            for name in options.readers:
                measured[name].append(measure(name, folder, Path(scratch, "block")))
        compared = [Path(scratch, name) for name in ("block.npy", "block.parquet")]
        if all(path.exists() for path in compared):
            theirs = pd.read_parquet(compared[1]).to_numpy().T
            np.testing.assert_allclose(np.load(compared[0]), theirs, rtol=1e-6)
    base = measured[options.readers[0]]
    for name, rounds in measured.items():
        cpu, wall, of_call, peak = (statistics.median(values) for values in zip(*rounds, strict=True))
        ratios = [
            statistics.median(a[i] / b[i] for a, b in zip(rounds, base, strict=True)) for i in (0, 1, 2)
        ]
        print(
            f"{name:<24}{cpu:8.2f} CPU s{wall:8.2f} s{of_call:8.2f} s of the call{peak:8.0f} MB peak   "
            "{:5.2f} x the CPU, {:5.2f} x the time, {:5.2f} x the call of ".format(*ratios)
            + options.readers[0]
        )


if __name__ == "__main__":
    main()
