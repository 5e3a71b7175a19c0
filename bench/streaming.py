"""Training on a block that is larger than the memory: 100,000 samples x 20,000 features, 8 GB of float32.

    python bench/streaming.py FOLDER [--samples 100000] [--features 20000] [--keep] [HYPOTHESIS ...]
    python bench/streaming.py FOLDER [--samples 100000] [--features 20000] --write

The block is written by ``store.write_block``, sample by sample, and decoded by ``store.open_block`` to a memory map
below FOLDER, which needs twice the size of the block and is removed in the end (--keep leaves the block for a next
call; once --write has written it, several calls with --keep may use it at the same time). Each claim trains in a
process of its own, with one thread, on all samples but every 50th, which it then predicts; it takes its training rows
from the map as a split of a cross-validation does. Iterations are cut short (``SHORTENED``). Printed are the peak of
the resident memory (VmHWM, maps included), seconds, and MB of the training part a second of the fit.
"""

import argparse
import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
from cost import SPEC, bins, in_own_process, peak_mb
from side_by_side import CLAIMS, training_spec

from oncoarena import compute, store
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.specs import load_module
from oncoarena.training import fit_split

SHORTENED = {
    "genome_neighbours": {"end_to_end_steps": 100},
    "sparse_markers": {"head_steps": 20, "gate_steps": 5},
}
"""Fewer passes of what iterates over all samples."""
TEST_EVERY = 50
CLASSES = ("a", "b", "c")


def write(folder: Path, n_samples: int, n_features: int) -> None:
    """Write a block of three classes that differ in every hundredth feature, and decode it to a map."""
    rng = np.random.default_rng(0)
    shift = np.zeros((len(CLASSES), n_features), np.float32)
    shift[:, ::100] = rng.normal(0.0, 0.3, size=shift[:, ::100].shape)

    def rows():
        for row in range(n_samples):
            yield rng.standard_normal(n_features, dtype=np.float32) + shift[row % len(CLASSES)]

    started = time.perf_counter()
    ids = [f"s{row}" for row in range(n_samples)]
    receipt = store.write_block(str(folder / "block"), SPEC, ids, rows(), bins(n_features), {})
    written = time.perf_counter()
    store.open_block(receipt, folder, share_of_memory=0.0)
    for part in receipt["parts"]:
        Path(part["uri"]).unlink()
    seconds = f"written in {written - started:.0f} s, decoded in {time.perf_counter() - written:.0f} s"
    print(f"block: {seconds}, peak {peak_mb():.0f} MB\n", flush=True)


def fit_alone(hypothesis: str, folder: Path) -> None:
    """Fit and predict in this process; print the figures as JSON."""
    spec = training_spec(hypothesis)
    spec = dataclasses.replace(spec, config={**spec.config, **SHORTENED.get(hypothesis, {})})
    device = compute.prepare_framework(spec.framework, 1, 0, 0)
    module = load_module(spec)
    receipt = store.read_json(str(folder / "block/receipt.json"))
    block = store.open_block(receipt, folder, share_of_memory=0.0)
    ids = store.block_samples(receipt)["sample_id"].to_numpy(dtype=str)
    labels = np.arange(len(ids)) % len(CLASSES)
    before, started = peak_mb(), time.perf_counter()
    rows = np.flatnonzero(np.arange(len(ids)) % TEST_EVERY != 0)
    part = {"sample_ids": ids[rows], "patient_ids": ids[rows], "blocks": {SPEC.name: block.take(rows)}}
    train = LabelledCohort(**part, labels=labels[rows], classes=CLASSES)
    taken = time.perf_counter()
    predictor = fit_split(spec, module, train, None, seed=0, device=device)
    fitted, fit_peak = time.perf_counter(), peak_mb()
    held = np.arange(0, len(ids), TEST_EVERY)
    test = Cohort(ids[held], ids[held], {SPEC.name: block.take(held)})
    right = predictor.predict_proba(test).argmax(axis=1) == labels[held]
    figures = {"before": before, "take": taken - started, "fit": fitted - taken, "fit_peak": fit_peak}
    figures |= {"predict": time.perf_counter() - fitted, "peak": peak_mb(), "accuracy": right.mean()}
    print(json.dumps(figures | {"mb": train.blocks[SPEC.name].values.nbytes / 1e6}))


def main() -> None:
    """Write the block, run all fits and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("hypotheses", nargs="*", default=CLAIMS)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=20_000)
    parser.add_argument("--keep", action="store_true", help="leave the block")
    parser.add_argument("--write", action="store_true", help="write the block, leave it and train nothing")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args()
    if options.alone:
        # bench/streaming.py --alone HYPOTHESIS FOLDER
        fit_alone(str(options.folder), Path(options.hypotheses[0]))
        return
    folder = options.folder / f"{options.samples}x{options.features}"
    # Rows that are taken out lie beside the block.
    os.environ["ONCOARENA_SCRATCH"] = str(folder)
    try:
        if not (folder / "block/receipt.json").exists():
            write(folder, options.samples, options.features)
        if options.write:
            return
        print("| claim | before MB | rows out s | fit s | MB/s | peak MB | predict s | accuracy |")
        print("|---|---|---|---|---|---|---|---|")
        for hypothesis in options.hypotheses:
            found = in_own_process(__file__, hypothesis, str(folder))
            print(
                f"| {hypothesis} | {found['before']:.0f} | {found['take']:.0f} | {found['fit']:.0f} | "
                f"{found['mb'] / found['fit']:.0f} | {found['peak']:.0f} | {found['predict']:.1f} | "
                f"{found['accuracy']:.3f} |",
                flush=True,
            )
    finally:
        if not (options.keep or options.write):
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
