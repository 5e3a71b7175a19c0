"""Cost of one fit against the number of features: seconds and peak memory of every claim, in processes of their own.

    python bench/cost.py [--samples 500] [--features 10 2000 20000 200000] [HYPOTHESIS ...]

One thread, the configuration of config/hypotheses, two classes that differ a little in every feature. Printed are the
seconds of the fit and of the prediction of 100 new samples, and the peak of the resident memory (VmHWM) of the
process until then. What a framework takes by itself is the peak at the smallest number of features; beyond it is
counted as a multiple of the block (float32, samples x features), which is itself part of it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from side_by_side import CLAIMS, training_spec

from oncoarena import compute
from oncoarena.cohort import Block, BlockSpec, Cohort, LabelledCohort, feature_table
from oncoarena.specs import load_module
from oncoarena.training import fit_split

SPEC = BlockSpec("profile", ("sample", "bin"), "float32", "arbitrary", "planted signal")
N_TEST = 100
CHROMOSOMES = 22


def draw(rng: np.random.Generator, n_samples: int, n_features: int) -> tuple[LabelledCohort, Cohort]:
    """Draw a training and a test part: every feature is shifted by 2 / sqrt(n_features) standard deviations or so."""
    features = bins(n_features)
    shift = rng.standard_normal(n_features, dtype=np.float32) * np.float32(2 / np.sqrt(n_features))

    def part(n: int) -> tuple[dict, np.ndarray]:
        labels = np.arange(n) % 2
        values = rng.standard_normal((n, n_features), dtype=np.float32)
        values[labels == 1] += shift
        ids = np.array([f"s{row}" for row in range(n)])
        return {
            "sample_ids": ids,
            "patient_ids": ids,
            "blocks": {"profile": Block(SPEC, values, features)},
        }, labels

    (train, labels), (test, _) = part(n_samples), part(N_TEST)
    return LabelledCohort(**train, labels=labels, classes=("a", "b")), Cohort(**test)


def bins(n_features: int):
    """Lay out features as neighbouring bins of 10 kb, shared evenly among chromosomes."""
    chromosome = np.arange(n_features) * CHROMOSOMES // n_features
    _, first = np.unique(chromosome, return_index=True)
    start = 10_000 * (np.arange(n_features) - np.repeat(first, np.diff([*first, n_features])))
    names = [f"chr{number + 1}" for number in chromosome]
    return feature_table([f"b{j}" for j in range(n_features)], names, start, start + 10_000)


def peak_mb() -> float:
    """Peak of the resident memory of this process, MB (10^6 bytes)."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024 / 1e6


def fit_alone(hypothesis: str, n_samples: int, n_features: int) -> None:
    """Fit and predict in this process; print the figures as JSON."""
    spec = training_spec(hypothesis)
    device = compute.prepare_framework(spec.framework, 1, 0, 0)
    module = load_module(spec)
    train, test = draw(np.random.default_rng(n_features), n_samples, n_features)
    started = time.perf_counter()
    predictor = fit_split(spec, module, train, None, seed=0, device=device)
    fitted, fit_peak = time.perf_counter(), peak_mb()
    predictor.predict_proba(test)
    figures = {"fit": fitted - started, "predict": time.perf_counter() - fitted}
    print(json.dumps(figures | {"fit_peak": fit_peak, "peak": peak_mb()}))


def in_own_process(script: str, hypothesis: str, *arguments: str) -> dict:
    """Run ``script --alone HYPOTHESIS ...`` as a study runs a training process; return what it printed last."""
    environment = os.environ | compute.training_environment(training_spec(hypothesis).framework, 1, 0)
    command = [sys.executable, script, "--alone", hypothesis, *arguments]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Fit, or run all fits and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("hypotheses", nargs="*", default=CLAIMS)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--features", type=int, nargs="+", default=[10, 2_000, 20_000, 200_000])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        fit_alone(options.hypotheses[0], options.samples, options.features[0])
        return
    print(
        "| claim | features | fit s | predict s | s / s of the row above | peak MB | beyond the first row / block |"
    )
    print("|---|---|---|---|---|---|---|")
    for hypothesis in options.hypotheses:
        before, base = None, None
        for n_features in options.features:
            sizes = f"--samples={options.samples}", f"--features={n_features}"
            found = in_own_process(__file__, hypothesis, *sizes)
            base = base or found["peak"]
            block_mb = 4 * options.samples * n_features / 1e6
            ratio = f"{found['fit'] / before:.1f}" if before else ""
            before = found["fit"]
            print(
                f"| {hypothesis} | {n_features} | {found['fit']:.1f} | {found['predict']:.1f} | {ratio} | "
                f"{found['peak']:.0f} | {(found['peak'] - base) / block_mb:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
