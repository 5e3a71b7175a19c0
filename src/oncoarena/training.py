"""Train one hypothesis on one split at a time, in a process that sees that split's training labels alone.

``python -m oncoarena.training JOB.json`` imports the framework once, then forks a child for every model of
the job: one a split, or several where models are trained again (see ``refits``). A child reads its own
split's file, in which test samples have no label; the parent reads none. So no process ever holds a label of
a test sample of its split, although in repeated cross-validation each sample is a training sample of some
other split.
"""

import dataclasses
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oncoarena import compute, explaining, ranks, store
from oncoarena.cohort import Block, Cohort, LabelledCohort
from oncoarena.errors import InputError, NotApplicable
from oncoarena.refits import COLUMN, refit_parts
from oncoarena.samples import covariate_table
from oncoarena.specs import TrainingSpec, load_module, spec_from_dict

SUM_TOLERANCE = 1e-4
"""How far from 1 the probabilities of a sample may sum: float32 softmax over many classes stays within."""


@dataclass(frozen=True)
class Job:
    """What a training process is told: where its splits and blocks are, never what a test label is."""

    spec: TrainingSpec
    fits: list[dict[str, Any]]
    """Of each model: repeat, fold, id, uri of its split's file, seed; see ``refits.plan_fits``."""
    blocks: dict[str, str]
    """Name of a block to the URI of its receipt."""
    classes: tuple[str, ...]
    covariates: tuple[str, ...]
    threads: int
    gpu: int
    """GPUs granted to this process."""
    save_models: bool
    explain: bool
    """Whether hypotheses that can are asked for raw probabilities and attributions too."""
    scratch: str
    output: str
    """Local directory for the folder of each model; its result.json is written last."""


def read_job(path: Path) -> Job:
    """Read a job written by ``write_job``."""
    content = json.loads(path.read_text())
    content["spec"] = spec_from_dict(content["spec"])
    return Job(
        **{**content, "classes": tuple(content["classes"]), "covariates": tuple(content["covariates"])}
    )


def write_job(path: Path, job: Job) -> None:
    """Write a job for a training process."""
    path.write_text(json.dumps(dataclasses.asdict(job)))


def read_cohorts(
    split: pd.DataFrame,
    blocks: Mapping[str, tuple[list[str], Block]],
    classes: tuple[str, ...],
    covariates: tuple[str, ...],
) -> tuple[LabelledCohort, LabelledCohort | None, Cohort]:
    """Assemble the training, validation (or None) and unlabelled test cohort of one split.

    Parameters: ``split`` has sample_id, patient_id, role, label (missing for test samples) and the
    covariates; ``blocks`` maps a name to (sample ids of its rows, block).
    Raises InputError if a block lacks a sample of the split.
    """
    parts: dict[str, Any] = {}
    typed = covariate_table(split, list(covariates))
    for role in ("train", "validation", "test"):
        rows = np.flatnonzero(split["role"].to_numpy() == role)
        chosen = split.iloc[rows]
        taken = {}
        for name, (ids, block) in blocks.items():
            position = pd.Index(ids).get_indexer(chosen["sample_id"])
            if (position < 0).any():
                absent = chosen["sample_id"].iloc[int((position < 0).argmax())]
                raise InputError(f"block {name}: has no row for sample {absent!r}; run extraction again")
            taken[name] = block.take(position)
        common = {
            "sample_ids": chosen["sample_id"].to_numpy(dtype=str),
            "patient_ids": chosen["patient_id"].to_numpy(dtype=str),
            "blocks": taken,
            "covariates": typed.iloc[rows].reset_index(drop=True),
        }
        if role == "test":
            parts[role] = Cohort(**common)
        elif len(rows):
            labels = pd.Index(classes).get_indexer(chosen["label"]).astype(np.int64)
            parts[role] = LabelledCohort(**common, labels=labels, classes=classes)
        else:
            parts[role] = None
    return parts["train"], parts["validation"], parts["test"]


def permute_labels(cohort: LabelledCohort, rng: np.random.Generator) -> LabelledCohort:
    """Shuffle labels among patients (among samples where a patient has several labels): a negative control."""
    patients, first, patient_of = np.unique(cohort.patient_ids, return_index=True, return_inverse=True)
    label_of_patient = cohort.labels[first]
    if (label_of_patient[patient_of] == cohort.labels).all():
        labels = label_of_patient[rng.permutation(len(patients))][patient_of]
    else:
        labels = rng.permutation(cohort.labels)
    return dataclasses.replace(cohort, labels=labels)


def build_config(module: Any, overrides: Mapping[str, Any]) -> Any:
    """Build a hypothesis's Config from YAML overrides; lists become tuples where the default is a tuple."""
    defaults = {item.name: item.default for item in dataclasses.fields(module.Config)}
    values = {
        name: tuple(value) if isinstance(value, list) and isinstance(defaults[name], tuple) else value
        for name, value in overrides.items()
    }
    return module.Config(**values)


def fit_split(
    spec: TrainingSpec,
    module: Any,
    train: LabelledCohort,
    validation: LabelledCohort | None,
    *,
    seed: int,
    device: str,
    n_devices: int = 1,
) -> Any:
    """Fit a hypothesis on one training part, with the permuted labels and the precision that its spec asks for."""
    if spec.permute_labels:
        rng = np.random.default_rng(compute.spawn_seed(seed, "permutation"))
        train = permute_labels(train, rng)
        validation = permute_labels(validation, rng) if validation is not None else None
    with compute.training_scope(spec.framework, device, n_devices, spec.precision):
        config = build_config(module, spec.config)
        lent = validation.copy() if validation is not None else None
        return module.fit(config, train.copy(), lent, seed=seed, device=device)


def check_probabilities(
    probabilities: np.ndarray, n_samples: int, n_classes: int, spec_id: str, method: str = "predict_proba"
) -> np.ndarray:
    """Return (n_samples, n_classes) float64 rows that sum to 1; raise ValueError naming the broken rule."""
    try:
        probabilities = np.asarray(probabilities, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{spec_id}: {method} returned what is no array of numbers ({error}), expected shape "
            f"{(n_samples, n_classes)}"
        ) from error
    if probabilities.shape != (n_samples, n_classes):
        raise ValueError(
            f"{spec_id}: {method} returned shape {probabilities.shape}, expected {(n_samples, n_classes)}"
        )
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        raise ValueError(f"{spec_id}: {method} returned values that are not finite or are negative")
    total = probabilities.sum(axis=1, keepdims=True)
    if (np.abs(total - 1) > SUM_TOLERANCE).any():
        raise ValueError(f"{spec_id}: {method} returned rows that do not sum to 1 (found {total.min():.6g})")
    return probabilities / total


def train_one(job: Job, fit: Mapping[str, Any], member: ranks.Member | None = None) -> dict[str, Any]:
    """Train one model and predict with it; write its predictions and return what happened, JSON-able.

    With ``member`` this process helps another one with its ``fit``, and ends with that one (see ``ranks``).
    """
    framework = job.spec.framework
    n_devices = compute.n_devices(framework, job.threads, job.gpu)
    device = compute.prepare_framework(framework, job.threads, job.gpu, fit["seed"], n_devices)
    module = load_module(job.spec)
    blocks = {}
    for name, receipt_uri in job.blocks.items():
        receipt = store.read_json(receipt_uri)
        ids = store.block_samples(receipt)["sample_id"].tolist()
        blocks[name] = (ids, store.open_block(receipt, Path(job.scratch)))
    table = store.read_table(fit["uri"])
    train, validation, test = read_cohorts(table, blocks, job.classes, job.covariates)
    del blocks  # in memory they would lie there twice
    started = time.perf_counter()
    result = {
        "repeat": fit["repeat"],
        "fold": fit["fold"],
        "seed": fit["seed"],
        "device": device,
        "n_devices": n_devices,
        "config": dataclasses.asdict(build_config(module, job.spec.config)),
    }
    again = {COLUMN[fit["purpose"]]: fit["value"]} if "purpose" in fit else {}
    try:
        train, test = refit_parts(fit, train, test)
        result |= again | {
            "n_train": len(train),
            "n_validation": len(validation) if validation is not None else 0,
            "n_test": len(test),
        }
        with ranks.processes(job, fit, n_devices, device, member):
            predictor = fit_split(
                job.spec, module, train, validation, seed=fit["seed"], device=device, n_devices=n_devices
            )
    except NotApplicable as refusal:
        return {**result, "status": "not_applicable", "reason": str(refusal)}
    fitted = time.perf_counter()
    shape = len(test), len(job.classes)
    # Each method gets a copy of its own: what one does to it in place, the next does not see.
    probabilities = check_probabilities(predictor.predict_proba(test.copy()), *shape, job.spec.id)
    table = pd.DataFrame(again | {"sample_id": test.sample_ids})
    for column, name in enumerate(job.classes):
        table[f"p_{name}"] = probabilities[:, column]
    predicted = time.perf_counter()
    if job.explain and hasattr(predictor, "predict_raw"):
        raw = check_probabilities(predictor.predict_raw(test.copy()), *shape, job.spec.id, "predict_raw")
        for column, name in enumerate(job.classes):
            table[f"raw_{name}"] = raw[:, column]
    folder = Path(job.output, fit["id"])
    folder.mkdir()
    table.to_parquet(folder / "predictions.parquet")
    if job.save_models:
        (folder / "model").mkdir()
        predictor.save(folder / "model")
    saved = time.perf_counter()
    # Last, so that an explanation changes neither what is predicted nor what is saved.
    attributions, attribution = explaining.no_explanation(), None
    labels = explaining.explained_classes(train.labels, len(job.classes))
    if job.explain and hasattr(predictor, "attribute") and labels:
        attributions, attribution = explaining.explain(
            predictor.attribute, test, labels, job.classes, job.spec.id
        )
    attributions.to_parquet(folder / "attributions.parquet")
    return {
        **result,
        "status": "trained",
        "fit_seconds": round(fitted - started, 3),
        "predict_seconds": round(predicted - fitted, 3),
        "explain_seconds": round(time.perf_counter() - saved, 3),
        "attribution": attribution,
        "findings": getattr(predictor, "findings", {}),
    }


def _train_in_child(job: Job, fit: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Fork, train one model in the child, and return its exit status and what the system measured of it."""
    started = time.perf_counter()
    sys.stdout.flush()
    sys.stderr.flush()
    lifeline, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
        status = 1
        try:
            result = train_one(job, fit)
            Path(job.output, f"{fit['id']}.json").write_text(json.dumps(result))
            status = 0
        except InputError as error:
            print(error, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)  # no clean-up of what the parent owns
    os.close(lifeline)
    _, status, usage = os.wait4(child, 0)
    os.close(held)
    return os.waitstatus_to_exitcode(status), {
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_memory_mb": usage.ru_maxrss // 1024,
    }


def _end_with_parent(lifeline: int) -> None:
    """Wait until the parent, which alone holds the other end of a pipe, is gone, however it ended; then end as well."""
    os.read(lifeline, 1)
    os._exit(1)


def main(job_path: str) -> int:
    """Train all models of a job in turn; stop at the first that fails."""
    job = read_job(Path(job_path))
    compute.preload(job.spec.framework)
    for fit in job.fits:
        status, usage = _train_in_child(job, fit)
        if status != 0:
            cause = f"signal {-status}" if status < 0 else "an error, above"
            print(
                f"{job.spec.id}: repeat {fit['repeat']}, fold {fit['fold']} ended with {cause}",
                file=sys.stderr,
            )
            return 1
        result = {**json.loads(Path(job.output, f"{fit['id']}.json").read_text()), **usage}
        # Whole or not at all: whoever waits for it takes the folder as finished.
        store.write_json(str(Path(job.output, fit["id"], "result.json")), result)
        print(
            f"{job.spec.id} {fit['id']}: {result['status']}, {usage['seconds']:.1f} s, "
            f"{usage['peak_memory_mb']} MB, {result['device']}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
