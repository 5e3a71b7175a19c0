"""Everything that can be known to be wrong before the first job, found at once and said in plain lines."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from oncoarena import simulation, store
from oncoarena.errors import Faults, InputError
from oncoarena.external import read_external
from oncoarena.extraction import read_annotation
from oncoarena.listing import Unreachable
from oncoarena.samples import read_samples
from oncoarena.splits import make_splits
from oncoarena.study import AssayPlan, Study, assay_module


def check_study(study: Study, made_by_rules: Collection[str] = (), cache: Path | None = None) -> None:
    """Check sample sheet, splits, inputs and external predictions of a study.

    Parameters: ``made_by_rules`` are files that need not exist yet; what depends on them is checked by
    the job that first reads them. ``cache`` is a local directory that remembers which matrices
    were read without a fault, by size and time of change, so that a large one is read once.
    Raises InputError with a line for each problem that was found.
    """
    faults = Faults()
    if study.simulate is not None:
        faults.collect(simulation.read_request, study.simulate)
    samples = splits = None
    if not _made_later(study.samples, made_by_rules):
        samples = faults.collect(read_samples, study.samples, **study.sheet_needs())
    n_before = len(faults.lines)
    if study.splits.table:
        faults.collect(_expect, study.splits.table, "splits.table")
    if samples is not None and len(faults.lines) == n_before:
        splits = faults.collect(make_splits, samples, study.splits)
    if splits is not None:
        classes = tuple(sorted(samples["label"].unique()))
        for item in study.external:
            faults.collect(read_external, item.id, item.predictions, splits, classes)
    for plan in study.assays:
        faults.collect(_check_input, plan, samples, made_by_rules, cache, study.on_bad_sample)
    for spec in study.hypotheses:
        for key, uri in spec.training.files().items():
            faults.collect(_expect, uri, f"config.{key} of hypothesis {spec.id}")
    faults.tell()


def _expect(uri: str, key: str) -> None:
    """Raise InputError unless a file that the config names under ``key`` is there."""
    try:
        there = store.exists(uri)
    except Exception as error:  # each protocol's library has its own
        raise InputError(f"{key}: {Unreachable(uri, error)}") from error
    if not there:
        raise InputError(f"{uri}: there is no such file; correct {key}")


def _made_later(uri: str, made_by_rules: Collection[str]) -> bool:
    return uri in made_by_rules and not store.exists(uri)


def _check_input(
    plan: AssayPlan,
    samples: pd.DataFrame | None,
    made_by_rules: Collection[str],
    cache: Path | None,
    on_bad_sample: str,
) -> None:
    for option, uri in plan.files().items():
        _expect(uri, f"assays.{plan.name}.{option}")
    annotation = None
    if plan.annotation is not None and not _made_later(plan.annotation, made_by_rules):
        annotation = read_annotation(plan.annotation)
    if plan.column is not None:
        if samples is not None and on_bad_sample == "stop":
            _check_objects(plan, samples)
        return
    if _made_later(plan.matrix, made_by_rules):
        return
    _expect(plan.matrix, f"assays.{plan.name}.matrix")
    if samples is not None and not store.is_remote(plan.matrix):
        _check_matrix(plan, samples["sample_id"].tolist(), annotation, cache)


def _check_objects(plan: AssayPlan, samples: pd.DataFrame) -> None:
    try:
        absent = set(store.missing(samples[plan.column]))
    except Unreachable as error:
        sample_id = samples.loc[samples[plan.column] == error.uri, "sample_id"].iloc[0]
        raise InputError(f"sample {sample_id}: column {plan.column!r}: {error}") from error
    rows = samples[samples[plan.column].isin(absent)]
    if len(rows):
        faults = Faults(what="missing file")
        for sample_id, uri in zip(rows["sample_id"], rows[plan.column], strict=True):
            faults.add(
                f"sample {sample_id}: column {plan.column!r}: {uri}: there is no such file; correct the sample sheet"
            )
        faults.tell()


def _check_matrix(
    plan: AssayPlan, sample_ids: Sequence[str], annotation: pd.DataFrame | None, cache: Path | None
) -> None:
    """Read a local matrix as extraction will, unless it was read before and has not changed since."""
    read = [path for path in (plan.matrix, plan.annotation) if path is not None and os.path.exists(path)]
    facts = [(os.path.abspath(path), os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in read]
    key = store.digest_json([facts, repr(plan.options), list(sample_ids)])
    stamp = cache / f"{key.removeprefix('sha256:')[:32]}.ok" if cache is not None else None
    if stamp is not None and stamp.exists():
        return
    with store.open_input(plan.matrix) as stream:
        assay_module(plan.name).read_matrix(
            stream, plan.matrix, sample_ids, plan.options, annotation=annotation
        )
    if stamp is not None:
        store.write_text(str(stamp), "")
