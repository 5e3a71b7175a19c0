"""What benchmarks of many hypotheses share: processes of their own, and figures that outlive a stopped run.

Each hypothesis fits in a process of its own, with one thread. A figure is one JSON line; what is in the file already
is not computed again.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from oncoarena import compute, schema
from oncoarena.cohort import LabelledCohort
from oncoarena.specs import TrainingSpec, load_module, read_spec
from oncoarena.training import fit_split

CLAIMS = ("wide_deep", "genome_neighbours", "sparse_markers", "patient_similarity")
BASELINES = (
    "l2_logistic",
    "elastic_net",
    "linear_svm",
    "random_forest",
    "gradient_boosting",
    "shrunken_centroids",
)


def training_spec(hypothesis: str) -> TrainingSpec:
    """Read what decides a hypothesis's result from its YAML."""
    known = schema.read_yaml(Path("workflow/schemas/hypothesis.schema.yaml"))
    return read_spec(Path(f"config/hypotheses/{hypothesis}.yaml"), known).training


def fit(spec: TrainingSpec, train: LabelledCohort, seed: int) -> tuple[Any, float]:
    """Fit a hypothesis as a study's training process does; return its predictor and the seconds of the fit."""
    device = compute.prepare_framework(spec.framework, 1, 0, seed)
    module = load_module(spec)
    started = time.perf_counter()
    predictor = fit_split(spec, module, train, None, seed=seed, device=device)
    return predictor, round(time.perf_counter() - started, 2)


def run_each(work: Callable[[str, Any], None], hypotheses: Sequence[str], options: Any) -> None:
    """Call ``work(hypothesis, options)`` for one hypothesis after the other, each in a process of its own.

    Raises SystemExit where a process fails; it has said why.
    """
    for name in hypotheses:
        # A spawned process starts with this one's environment, before it imports anything.
        os.environ.update(compute.training_environment(training_spec(name).framework, 1, 0))
        process = multiprocessing.get_context("spawn").Process(target=work, args=(name, options))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{name}: its process ended with {process.exitcode}")


def read_lines(out: Path) -> list[dict[str, Any]]:
    """Read the figures so far."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def append_line(out: Path, row: dict[str, Any]) -> None:
    """Keep one figure."""
    with open(out, "a") as lines:
        lines.write(json.dumps(row) + "\n")
