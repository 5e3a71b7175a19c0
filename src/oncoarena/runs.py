"""One hypothesis on some splits: its predictions and run.json, the record of what it saw and cost."""

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from oncoarena import checkpoints, compute, explaining, provenance, store
from oncoarena.errors import InputError
from oncoarena.mapped import scratch_directory
from oncoarena.refits import COLUMN, Refit, plan_fits
from oncoarena.samples import covariate_table
from oncoarena.specs import TrainingSpec
from oncoarena.splits import split_id
from oncoarena.training import Job, write_job


def write_splits(
    samples: pd.DataFrame, splits: pd.DataFrame, covariates: Sequence[str], uri: str
) -> dict[str, Any]:
    """Write one file a split for the training processes and return their receipt, written last.

    A split's file holds sample_id, patient_id, role, covariates and the label of training and validation
    samples; the label of a test sample is not in it. ``splits.parquet``'s table itself has no labels.
    """
    columns = ["sample_id", "patient_id", *covariates]
    known = samples.set_index("sample_id", drop=False)
    listed = []
    for (repeat, fold), split in splits.groupby(["repeat", "fold"]):
        rows = known.loc[split["sample_id"]]
        table = rows[list(dict.fromkeys(columns))].reset_index(drop=True)
        table["role"] = split["role"].to_numpy()
        table["label"] = rows["label"].where(table["role"].to_numpy() != "test", None).to_numpy()
        name = split_id(repeat, fold)
        split_uri = store.join(uri, f"{name}.parquet")
        store.write_table(split_uri, table)
        listed.append({"repeat": int(repeat), "fold": int(fold), "id": name, "uri": split_uri})
    receipt = {
        "classes": sorted(samples["label"].unique().tolist()),
        "covariates": list(covariates),
        "n_splits": len(listed),
        "digest": store.digest_json(
            [splits.to_dict("list"), covariate_table(samples, covariates).to_dict("list")]
        ),
        "splits": listed,
    }
    store.write_json(store.join(uri, "receipt.json"), receipt)
    return receipt


def run_part(
    spec: TrainingSpec,
    *,
    splits_receipt: str,
    assay_receipts: Sequence[str],
    part: int,
    n_parts: int,
    study_seed: int,
    threads: int,
    gpu: int,
    uri: str,
    save_models: bool = False,
    refit: Refit | None = None,
    explain: bool = True,
) -> dict[str, Any]:
    """Train a hypothesis on its share of the splits and write predictions.parquet and run.json below ``uri``.

    Split i belongs to part i modulo ``n_parts``. Training happens in a process of its own, started with
    the thread caps and determinism flags of its framework; see ``training``. With ``refit`` the models are
    not those that compete but those of its purpose (see ``refits``), and the predictions have its column too.
    Models that compete are also asked for raw probabilities and attributions, unless ``explain`` is False; the
    latter go to attributions.parquet (see ``explaining``), which then has no rows.
    Every finished model is kept below ``<uri>/kept`` until run.json is written, so that another attempt after an
    interruption trains only the others, to the same result (see ``checkpoints``).
    Returns the content of run.json. Raises InputError if training failed; its log says why.
    """
    receipt = store.read_json(splits_receipt)
    sets = _block_receipts(spec, assay_receipts, "sets")
    blocks = _block_receipts(spec, assay_receipts, "blocks") | sets
    fits = plan_fits(receipt["splits"], part, n_parts, study_seed, spec.id, refit, len(receipt["classes"]))
    explain = explain and refit is None
    kept = store.join(uri, "kept")
    models = store.join(uri, "models") if save_models else None
    started = datetime.now(UTC).isoformat(timespec="seconds")
    versions = provenance.versions(spec.framework)
    block_digests = {name: store.read_json(block)["digest"] for name, block in blocks.items()}
    file_digests = {key: store.digest(file) for key, file in spec.files().items()}
    with tempfile.TemporaryDirectory(prefix="oncoarena-") as directory:
        job = Job(
            spec=spec,
            fits=fits,
            blocks=blocks,
            classes=tuple(receipt["classes"]),
            covariates=tuple(receipt["covariates"]),
            threads=threads,
            gpu=gpu,
            save_models=save_models,
            explain=explain,
            scratch=str(scratch_directory()),
            output=directory,
        )
        # Where blocks lie and what splits of other parts hold decides nothing.
        places = ("fits", "blocks", "scratch", "output")
        common = {name: value for name, value in dataclasses.asdict(job).items() if name not in places}
        code = provenance.code_digest("oncoarena.training", spec.module)
        keys = checkpoints.model_keys(
            fits,
            {**common, "blocks": block_digests, "files": file_digests, "versions": versions, "code": code},
        )
        before = checkpoints.restore(kept, keys, Path(directory))
        if before:
            print(
                f"{spec.id}: {len(before)} of {len(fits)} models were trained by an earlier attempt",
                flush=True,
            )
        todo = [fit for fit in fits if fit["id"] not in before]
        if todo:
            _train(
                dataclasses.replace(job, fits=todo),
                lambda name: checkpoints.keep(kept, keys[name], Path(directory, name)),
            )
        results = [store.read_json(f"{directory}/{fit['id']}/result.json") for fit in fits]
        refused = [result for result in results if result["status"] == "not_applicable"]
        good = [] if refused else fits
        tables = [_read_table(directory, spec, fit, "predictions") for fit in good]
        attributions = [_read_table(directory, spec, fit, "attributions") for fit in good]
        if models is not None and good:
            store.remove_directory(models)
            for fit in good:
                store.write_directory(store.join(models, fit["id"]), Path(directory, fit["id"], "model"))
    probability_columns = [f"p_{name}" for name in receipt["classes"]]
    own = [COLUMN[refit.purpose]] if refit is not None else []
    empty = pd.DataFrame(columns=["hypothesis", "repeat", "fold", *own, "sample_id", *probability_columns])
    store.write_table(
        store.join(uri, "predictions.parquet"), pd.concat(tables, ignore_index=True) if tables else empty
    )
    if refit is None:
        store.write_table(store.join(uri, "attributions.parquet"), _join_attributions(attributions))
    run = {
        "hypothesis": spec.id,
        "purpose": refit.purpose if refit is not None else "",
        "module": spec.module,
        "framework": spec.framework,
        "blocks": sorted(blocks.keys() - sets.keys()),
        "sets": sorted(sets),
        "permuted_labels": spec.permute_labels,
        "status": "not_applicable" if refused else "trained",
        "reason": refused[0]["reason"] if refused else "",
        "part": part,
        "n_parts": n_parts,
        "seed": study_seed,
        "started": started,
        "config": results[0]["config"] if results else dict(spec.config),
        "threads": threads,
        "gpu": gpu,
        "seconds": round(sum(result["seconds"] for result in results), 3),
        "peak_memory_mb": max((result["peak_memory_mb"] for result in results), default=0),
        "splits": [
            {key: value for key, value in result.items() if key not in ("config", "attribution")}
            for result in results
        ],
        "attribution": _join_methods(results),
        "versions": versions,
        "hardware": provenance.hardware(),
        "digests": {
            "blocks": block_digests,
            "files": file_digests,
            "splits": receipt["digest"],
        },
        "code_digest": provenance.code_digest(spec.module),
        "models": models,
    }
    store.write_json(store.join(uri, "run.json"), run)
    store.remove_directory(kept)
    return run


def _block_receipts(spec: TrainingSpec, assay_receipts: Sequence[str], kind: str) -> dict[str, str]:
    """Map the names of the "blocks" of features, or of the "sets", that a hypothesis sees to their receipts."""
    offered: Mapping[str, str] = {
        name: block for uri in assay_receipts for name, block in store.read_json(uri).get(kind, {}).items()
    }
    return {name: uri for name, uri in offered.items() if spec.sees(name, kind == "sets")}


def _train(job: Job, finished: Callable[[str], None]) -> None:
    """Run a training process to its end; call ``finished`` with the id of each model as its result is there."""
    path = Path(job.output, "job.json")
    write_job(path, job)
    environment = os.environ | compute.training_environment(job.spec.framework, job.threads, job.gpu)
    command = [sys.executable, "-m", "oncoarena.training", str(path)]
    waiting = [fit["id"] for fit in job.fits]
    lines = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            # Lines are passed on as they come, so that a log can be followed while it trains.
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
                # The process prints a line after each result.
                while waiting and Path(job.output, waiting[0], "result.json").exists():
                    finished(waiting.pop(0))
        except BaseException:
            process.terminate()
            raise
    status = process.returncode
    if status != 0:
        cause = [line.strip() for line in lines if line.strip()][-2:]
        raise InputError(
            f"hypothesis {job.spec.id} failed: {' | '.join(cause) or 'no output'}; its log has the whole story"
        )


def _read_table(directory: str, spec: TrainingSpec, fit: Mapping[str, Any], name: str) -> pd.DataFrame:
    table = pd.read_parquet(Path(directory, fit["id"], f"{name}.parquet"))
    table.insert(0, "fold", fit["fold"])
    table.insert(0, "repeat", fit["repeat"])
    table.insert(0, "hypothesis", spec.id)
    return table


def _join_attributions(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the attributions of a part's splits; where there are none, its columns alone."""
    if tables:
        return pd.concat(tables, ignore_index=True)
    none = explaining.no_explanation()
    keys = {"hypothesis": str, "repeat": "int64", "fold": "int64"}
    return pd.DataFrame(columns=[*keys, *none.columns]).astype(keys | dict(none.dtypes))


def _join_methods(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Say how a hypothesis explained itself, if it did: the first split's method, exact where all were."""
    found = [result["attribution"] for result in results if result.get("attribution")]
    return {"method": found[0]["method"], "exact": all(item["exact"] for item in found)} if found else None
