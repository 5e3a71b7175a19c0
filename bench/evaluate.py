"""Time and memory of judging and rendering a large study: made-up predictions, the real referee and page.

    python bench/evaluate.py [--samples 100000] [--claims 4] [--classes 20] [--threads 2] [--profile]

Every sample is a patient and is tested once, in one of five folds; predictions are noisy softmaxes of different
strength. Numba's compilation is not counted: a small study of the same kind is judged first. Printed are seconds of
each step and the peak memory of the process; --profile prints instead where one thread spends its time.
"""

import argparse
import cProfile
import pstats
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.predictions import prediction_table
from oncoarena.reporting.report import render_report

N_FOLDS = 5


def make_study(n_samples: int, n_claims: int, n_classes: int, seed: int = 0) -> tuple:
    """Draw a study: (predictions, samples, splits, runs, classes), the arguments of ``evaluate_study``."""
    rng = np.random.default_rng(seed)
    classes = tuple(f"type{c:02d}" for c in range(n_classes))
    truth = rng.integers(n_classes, size=n_samples)
    ids = np.array([f"s{i:07d}" for i in range(n_samples)])
    samples = pd.DataFrame({"sample_id": ids, "patient_id": ids, "label": np.array(classes)[truth]})
    fold_of = rng.permutation(n_samples) % N_FOLDS
    splits = pd.concat(
        pd.DataFrame(
            {"repeat": 0, "fold": f, "sample_id": ids, "role": np.where(fold_of == f, "test", "train")}
        )
        for f in range(N_FOLDS)
    )
    tables, runs = [], []
    for claim in range(n_claims):
        logits = rng.normal(size=(n_samples, n_classes))
        logits[np.arange(n_samples), truth] += 1.5 + 0.1 * claim
        p = np.exp(logits)
        p /= p.sum(axis=1, keepdims=True)
        for fold in range(N_FOLDS):
            rows = fold_of == fold
            tables.append(prediction_table(f"claim{claim}", 0, fold, ids[rows], p[rows], classes))
        record = {
            "hypothesis": f"claim{claim}",
            "title": f"Claim {claim}",
            "role": "claim",
            "status": "trained",
        }
        runs.append(record | {"framework": "numpy", "reason": "", "permuted_labels": False, "splits": []})
    return pd.concat(tables, ignore_index=True), samples, splits.reset_index(drop=True), runs, classes


def judge(study: tuple, threads: int) -> dict[str, pd.DataFrame]:
    """Judge a study as the rule ``evaluate`` does, 1,000 resamples."""
    with ThreadPoolExecutor(threads) as pool:
        return evaluate_study(*study, map=pool.map)


def render(study: tuple, tables: dict[str, pd.DataFrame]) -> str:
    """Render the page as the rule ``report`` does."""
    _, samples, splits, runs, classes = study
    told = {"study": "large", "classes": classes, "primary_metric": "auroc_macro", "scheme": "kfold"}
    return render_report(told, samples, splits, runs, tables)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--claims", type=int, default=4)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    judge(make_study(200, 2, options.classes), options.threads)
    study = make_study(options.samples, options.claims, options.classes)
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(evaluate_study, *study)
        pstats.Stats(profile, stream=sys.stdout).sort_stats("cumulative").print_stats(45)
        return
    cpu = time.process_time()
    started = time.perf_counter()
    tables = judge(study, options.threads)
    judged = time.perf_counter()
    page = render(study, tables)
    rendered = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{options.samples:,} samples, {options.claims} claims, {options.classes} classes, {options.threads} threads"
    )
    print(
        f"judged {judged - started:.1f} s, rendered {rendered - judged:.1f} s, in all {rendered - started:.1f} s"
    )
    print(f"CPU {time.process_time() - cpu:.1f} s, peak memory {peak:,.0f} MB, page {len(page) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
