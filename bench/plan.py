"""A cohort of a million objects, checked and planned: seconds and memory from the sheet to the DAG.

    python bench/plan.py [--samples 1000000] [--object-gb 1.0] [--directories 8] [--folder /dev/shm]
    python bench/plan.py --costs

The sheet is written, and for every sample a sparse file of the size of an object: it has a length and takes no room but
an inode (`df -i`), so a petabyte fits where a million small files do. What is done before the first job is done in one
process, step by step; printed are seconds on the wall and of CPU, and the peak memory of the process so far. Then
Snakemake checks the sheet and deals the shards, and plans the rest without running it.

With --costs the table of docs/scale.md is printed instead: extraction of a million samples of each assay.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parent.parent
COHORTS = (
    ("alignments", 1_000_000, 1e9),
    ("alignments", 10_000, 100e9),
    ("variants", 1_000_000, 100e6),
    ("methylation", 1_000_000, 300e6),
    ("expression", 1_000_000, 4.41e6),
    ("segments", 1_000_000, 5e3),
)
"""Assay, objects and bytes of an object."""

SITES = ("north", "east", "south", "west", "centre")


def write_cohort(folder: Path, n_samples: int, object_bytes: int, n_directories: int) -> None:
    """Write the sheet (two samples a patient) and a sparse file for each sample."""
    for number in range(n_directories):
        (folder / f"raw/{number}").mkdir(parents=True)
    with open(folder / "samples.tsv", "w") as sheet:
        sheet.write("sample_id\tpatient_id\tlabel\tsite\tage\talignments\n")
        for row in range(n_samples):
            patient = row // 2
            path = f"{folder}/raw/{row * n_directories // n_samples}/s{row:07d}.bam"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            os.truncate(path, object_bytes)
            label = "cancer" if patient % 2 else "healthy"
            site, age = SITES[patient % len(SITES)], 40 + patient % 40
            sheet.write(f"s{row:07d}\tp{patient:07d}\t{label}\t{site}\t{age}\t{path}\n")


def write_config(folder: Path) -> Path:
    """Write the study: one assay, all hypotheses of the demo study, five folds."""
    demo = yaml.safe_load((ROOT / "config/studies/cfdna.yaml").read_text())
    del demo["simulate"]
    study = {**demo, "study": "petabyte", "samples": f"{folder}/samples.tsv", "results": f"{folder}/results"}
    study |= {"covariates": ["age", "site"], "strata": ["site"]}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def print_costs() -> None:
    """Print what the extraction of each cohort takes, with as many nodes as there are shards."""
    from oncoarena import costs, prices
    from oncoarena.splits import SplitPlan
    from oncoarena.study import AssayPlan, Study, assay_module

    tables = {"prices": prices.read_prices(), "rates": prices.read_rates(), "limits": costs.Limits(3200)}
    print(
        "| assay | objects | TB | vCPU-h of work | jobs | hours of a job | vCPU-h booked | GET | USD | USD Spot |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, n_objects, size in COHORTS:
        assay = AssayPlan(name, assay_module(name).Options(), column=name)
        study = Study("cohort", "", "", 0, (assay,), SplitPlan("kfold"), ())
        plan = costs.estimate(study, {name: np.full(n_objects, int(size))}, **tables)
        (step,) = [step for step in plan.steps if step.name.startswith("extract")]
        work = step.n_bytes / 1e9 * (tables["rates"][name] + tables["rates"]["s3"]) / 3600
        node, requests = step.nodes[0][0], plan.requests_usd
        print(
            f"| {name} | {n_objects:,} of {size / 1e9:g} GB | {step.n_bytes / 1e12:,.10g} | {work:,.1f} | "
            f"{step.n_jobs} x {node} | {step.longest_hours:.1f} | {step.vcpu_hours:,.0f} | "
            f"{step.n_gets / 1e6:,.0f} M | "
            f"{step.usd + requests:,.0f} | {step.usd_spot + requests:,.0f} |"
        )


def tell(name: str, wall: float, cpu: float, peak_mb: float) -> None:
    """Print one line of the table."""
    print(f"{name:48}  {wall:7.1f} s  {cpu:7.1f} s CPU  {peak_mb:6.0f} MB", flush=True)


def time_steps(config: Path) -> None:
    """Do all that is done before the first job, in this process, and print what each step took."""
    import resource

    from oncoarena import costs, listing, plan, preflight, prices, printed_plan, schema
    from oncoarena.samples import read_samples
    from oncoarena.splits import make_splits
    from oncoarena.study import read_study

    def step(name, function, *arguments, **options):
        wall, cpu = time.perf_counter(), time.process_time()
        result = function(*arguments, **options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        tell(name, time.perf_counter() - wall, time.process_time() - cpu, peak)
        return result

    folders = {"schemas": ROOT / "workflow/schemas", "hypothesis_dirs": [ROOT / "config/hypotheses"]}
    study = step("read the config", read_study, schema.read_yaml(config), where=str(config), **folders)
    samples = step("read and check the sheet", read_samples, study.samples, **study.sheet_needs())
    step("sizes of all objects", listing.sizes, samples["alignments"].tolist())
    n_bytes = step("the same, as the plan takes them", costs.bytes_of_objects, study, samples)
    shards = step("deal shards", plan.deal_shards, n_bytes["alignments"], study.shard_samples, study.shard_gb)
    tables = {"prices": prices.read_prices(), "rates": prices.read_rates(), "n_samples": len(samples)}
    estimated = step("estimate", costs.estimate, study, n_bytes, **tables)
    step("splits, 5 folds", make_splits, samples, study.splits)
    del samples
    step("all checks before the first job", preflight.check_study, study)
    print(f"\n{len(shards)} shards\n\n{printed_plan.plan_text(estimated)}")


def snakemake(config: Path, *arguments: str) -> tuple[str, float, float, float]:
    """Run Snakemake; return what it says, seconds on the wall and of CPU, and the peak memory in MB."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(config), "--directory", str(config.parent), "--cores", "1", *arguments]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(said[-4000:])
    return said, time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--object-gb", type=float, default=1.0, help="length of an object, 10^9 bytes")
    parser.add_argument("--directories", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where the cohort is written; it is removed at the end")
    parser.add_argument("--steps", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--costs", action="store_true", help="print the table of costs and nothing else")
    options = parser.parse_args()
    if options.costs:
        print_costs()
        return
    if options.steps:
        time_steps(options.steps)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        started = time.perf_counter()
        write_cohort(folder, options.samples, int(options.object_gb * 1e9), options.directories)
        megabytes = (folder / "samples.tsv").stat().st_size / 1e6
        print(f"{options.samples:,} samples written in {time.perf_counter() - started:.0f} s", flush=True)
        print(f"the sheet has {megabytes:.0f} MB\n", flush=True)
        config = write_config(folder)
        subprocess.run([sys.executable, __file__, "--steps", str(config)], check=True)
        shards = f"{folder}/results/petabyte/shards/alignments/shards.json"
        tell("snakemake: sheet checked, shards dealt", *snakemake(config, shards, "--quiet", "all")[1:])
        said, *took = snakemake(config, "-n", "--quiet", "rules")
        n_jobs = re.search(r"^total\s+(\d+)", said, re.MULTILINE).group(1)
        tell(f"snakemake -n: the DAG of {n_jobs} jobs", *took)
        table = (folder / "results/petabyte/samples.parquet").stat().st_size / 1e6
        print(f"samples.parquet {table:.1f} MB, shards.json {Path(shards).stat().st_size / 1e3:.1f} kB")


if __name__ == "__main__":
    main()
