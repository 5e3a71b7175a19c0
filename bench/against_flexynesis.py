"""The claims against flexynesis on one cohort and split: wall time of the whole process, and accuracy on the test part.

    python -m venv /tmp/flex; /tmp/flex/bin/pip install flexynesis==1.1.14
    # beside a CPU build of torch, PyPI's torchvision does not load; flexynesis runs without it:
    # /tmp/flex/bin/pip uninstall torchvision
    oncoarena demo srbct resources/srbct
    python bench/against_flexynesis.py OUT srbct --flexynesis /tmp/flex/bin/flexynesis [--rounds 3]
    python bench/against_flexynesis.py OUT diffuse --flexynesis /tmp/flex/bin/flexynesis [PROGRAM ...]

``srbct`` has the authors' split into 63 and 20. Others are worlds of ``oncoarena simulate expression``: 200 patients
to learn from, 400 to predict, 2,000 genes, three classes; every round draws a cohort anew. Both see the same rows.
flexynesis (doi:10.1038/s41467-025-63688-5) trains DirectPred with ``--hpo_iter`` trials, all else by its defaults; a
hypothesis trains by its default config, as a study's job does. Each is a process of its own, from start of the
interpreter to predictions and explanations on disk, with ``--threads`` threads; programs take turns. Figures already in
OUT (one JSON line a run) are kept, so that a stopped run goes on. Printed are medians over rounds; a ratio is
flexynesis' seconds to the program's in the same round; the interval is Wilson's at 95 %. Where other work runs
beside it and each has one thread, CPU seconds tell more than wall seconds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from side_by_side import CLAIMS, append_line, read_lines, training_spec

from oncoarena import store
from oncoarena.cohort import BlockSpec, feature_table
from oncoarena.runs import run_part, write_splits
from oncoarena.simulation.expression import simulate_expression
from oncoarena.simulation.worlds import WORLDS

PEER = "flexynesis"
SPEC = BlockSpec("expression", ("sample", "gene"), "float32", "log2", "expression of a benchmark")
N_TRAIN, N_TEST, N_GENES, N_CLASSES, STRENGTH = 200, 400, 2000, 3, 4.0


def read_srbct() -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Return the demo cohort's sheet, its values (n_samples, n_genes) and its features."""
    folder = Path("resources/srbct")
    samples = pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str)
    table = pd.read_csv(folder / "expression.tsv.gz", sep="\t", index_col=0)
    values = table[samples["sample_id"]].to_numpy(np.float32).T
    return samples, values, feature_table(table.index.tolist())


def draw(world: str, seed: int) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Draw a simulated cohort; return the same as ``read_srbct``."""
    rng = np.random.default_rng([seed, WORLDS.index(world)])
    size = {"n_patients": N_TRAIN + N_TEST, "n_genes": N_GENES, "n_classes": N_CLASSES}
    drawn = simulate_expression(rng, **size, strength=STRENGTH, world=world)
    ids = [f"s{row:05d}" for row in range(N_TRAIN + N_TEST)]
    split = rng.permutation(np.repeat(["train", "test"], [N_TRAIN, N_TEST]))
    labels = [f"class_{label}" for label in drawn.labels]
    samples = pd.DataFrame({"sample_id": ids, "patient_id": ids, "label": labels, "split": split})
    names = [f"g{row}" for row in range(N_GENES)]
    places = (drawn.genes[name].tolist() for name in ("chrom", "start", "end"))
    return samples, drawn.values, feature_table(names, *places)


def write_cohort(folder: Path, samples: pd.DataFrame, values: np.ndarray, features: pd.DataFrame) -> None:
    """Write a cohort for both: flexynesis' train/ and test/, and a study's receipts of splits and blocks."""
    for split, rows in samples.groupby("split"):
        part = folder / split
        part.mkdir(parents=True)
        rows.set_index("sample_id")[["label"]].to_csv(part / "clin.csv")
        table = pd.DataFrame(values[rows.index].T, index=features["id"], columns=rows["sample_id"].to_numpy())
        table.to_csv(part / "expression.csv")
    splits = samples[["sample_id"]].assign(repeat=0, fold=0, role=samples["split"])
    write_splits(samples, splits, [], str(folder / "splits"))
    block = f"{folder}/expression"
    store.write_block(block, SPEC, samples["sample_id"].tolist(), iter(values), features, {})
    store.write_json(f"{folder}/blocks.json", {"blocks": {"expression": f"{block}/receipt.json"}})


def run(program: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run a program as a whole process; return its seconds and how many of how many test samples it got right."""
    target = folder / f"of_{program}"
    target.mkdir()
    if program == PEER:
        command = [options.flexynesis, "--data_path", str(folder), "--model_class", "DirectPred"]
        command += ["--target_variables", "label", "--data_types", "expression", "--device", "cpu"]
        command += ["--hpo_iter", str(options.hpo_iter), "--outdir", str(target)]
    else:
        job = {"hypothesis": program, "splits_receipt": f"{folder}/splits/receipt.json", "part": 0}
        job |= {"assay_receipts": [f"{folder}/blocks.json"], "n_parts": 1, "study_seed": 1, "gpu": 0}
        job |= {"threads": options.threads, "uri": str(target)}
        command = [sys.executable, __file__, "--job", json.dumps(job)]
    caps = (f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"))
    environment = os.environ | dict.fromkeys(caps, str(options.threads))
    load = os.getloadavg()[0]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        raise SystemExit(f"{program} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    figures = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2), "load": round(load, 1)}
    return figures | score(program, folder, target)


def score(program: str, folder: Path, target: Path) -> dict[str, int]:
    """Count a program's hits on the test part."""
    if program == PEER:
        table = pd.read_csv(target / "job.predicted_labels.csv")
        table = table[table["split"] == "test"].drop_duplicates("sample_id").set_index("sample_id")
        predicted = table["predicted_label"]
    else:
        table = pd.read_parquet(target / "predictions.parquet").set_index("sample_id")
        predicted = table.filter(regex="^p_").idxmax(axis=1).str.removeprefix("p_")
    truth = pd.read_csv(folder / "test" / "clin.csv", index_col="sample_id")["label"]
    hits = truth == predicted.loc[truth.index]
    return {"n_right": int(hits.sum()), "n_test": len(hits)}


def show(rows: list[dict], cohort: str) -> None:
    """Print the table of one cohort as Markdown."""
    from scipy.stats import binomtest  # half a second that a job does not need

    table = pd.DataFrame(rows)
    wide = table.pivot_table(index="round", columns="program", values=["seconds", "cpu_seconds"])
    print(f"\n{cohort}, {len(wide)} rounds, load {table['load'].min():g} to {table['load'].max():g}\n")
    heads = ("program", "wall, s", "ratio", "CPU, s", "ratio", "right of test samples", "accuracy")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for program, runs in table.groupby("program", sort=False):
        cells = []
        for kind in ("seconds", "cpu_seconds"):
            cells.append(f"{runs[kind].median():.1f}")
            compared = (kind, PEER) in wide
            cells.append(f"{(wide[kind, PEER] / wide[kind, program]).median():.1f}" if compared else "")
        # Rounds of a real cohort repeat the same test samples; simulated ones are other patients.
        tested = runs.head(1) if cohort == "srbct" else runs
        n_right, n_test = int(tested["n_right"].sum()), int(tested["n_test"].sum())
        low, high = binomtest(n_right, n_test).proportion_ci(method="wilson")
        accuracy = f"{n_right / n_test:.3f} ({low:.3f} to {high:.3f})"
        print("| " + " | ".join([program, *cells, f"{n_right} of {n_test}", accuracy]) + " |")


def main() -> None:
    """Run what OUT has no figure of, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("cohort", choices=["srbct", *WORLDS])
    parser.add_argument("programs", nargs="*", default=[PEER, *CLAIMS, "l2_logistic"])
    parser.add_argument("--flexynesis", help="its command, in an environment of its own")
    parser.add_argument("--hpo-iter", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if PEER in options.programs and not options.flexynesis:
        parser.error("--flexynesis: expected the path of its command")
    same = {"cohort": options.cohort, "threads": options.threads, "hpo_iter": options.hpo_iter}
    done = [row for row in read_lines(options.out) if row.items() >= same.items()]
    for number in range(options.rounds):
        known = {row["program"] for row in done if row["round"] == number}
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder, "cohort")
            write_cohort(data, *(read_srbct() if options.cohort == "srbct" else draw(options.cohort, number)))
            for program in options.programs:
                if program not in known:
                    row = same | {"round": number, "program": program} | run(program, data, options)
                    append_line(options.out, row)
                    done.append(row)
    show(done, options.cohort)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        job = json.loads(sys.argv[2])
        run_part(training_spec(job.pop("hypothesis")), **job)
    else:
        main()
