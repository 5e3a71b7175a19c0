"""Try a hypothesis on the training part of a study's first split: an answer within minutes.

A study with one test set (an official split, say) keeps it untouched. Where every sample is tested in its turn, as in
k-fold, the training part of one split is made of test samples of others, and the trial says so.
"""

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from oncoarena import compute, provenance, store
from oncoarena.cohort import LabelledCohort
from oncoarena.errors import InputError, NotApplicable
from oncoarena.referee.metrics import accuracy, log_loss
from oncoarena.specs import HypothesisSpec, TrainingSpec, load_module
from oncoarena.splits import deal_folds
from oncoarena.training import check_probabilities, fit_split, read_cohorts


@dataclass(frozen=True)
class TrainingPart(LabelledCohort):
    """The training part of a study's first split."""

    tested_elsewhere: bool = False
    """Whether a sample of it is a test sample of another split."""


def training_part(splits_receipt: str, assay_receipts: Sequence[str]) -> TrainingPart:
    """Read the training part of a study's first split, validation samples included.

    Of the other splits only the names of their test samples are looked at.
    """
    receipt = store.read_json(splits_receipt)
    first, *others = receipt["splits"]
    split = store.read_table(first["uri"])
    split = split[split["role"] != "test"].assign(role="train").reset_index(drop=True)
    blocks = {}
    for uri in assay_receipts:
        receipts = store.read_json(uri)
        for name, block_uri in (receipts["blocks"] | receipts.get("sets", {})).items():
            block = store.read_json(block_uri)
            blocks[name] = (store.block_samples(block)["sample_id"].tolist(), store.open_block(block))
    classes, covariates = tuple(receipt["classes"]), tuple(receipt["covariates"])
    train, _, _ = read_cohorts(split, blocks, classes, covariates)
    # Of k-fold the second split already tells, so the many of a repeated one are not all read.
    tested_elsewhere = any(_tests_one_of(store.read_table(other["uri"]), split) for other in others)
    return TrainingPart(**vars(train), tested_elsewhere=tested_elsewhere)


def _tests_one_of(split: pd.DataFrame, part: pd.DataFrame) -> bool:
    return bool(split.loc[split["role"] == "test", "sample_id"].isin(part["sample_id"]).any())


def try_hypotheses(
    specs: Sequence[HypothesisSpec], cohort: LabelledCohort, *, n_folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Cross-validate hypotheses inside a training part, all on the same patient-grouped folds.

    A hypothesis that fails is left at its first failure; the others are tried all the same.
    Returns a row a hypothesis: hypothesis, accuracy, log_loss (both on the pooled out-of-fold predictions),
    seconds, remark ("" or why the hypothesis does not apply) and failure ("" or the fold, the place and the message).
    Raises InputError unless there are 2 folds at least, and a patient for each.
    """
    n_patients = len(np.unique(cohort.patient_ids))
    if not 2 <= n_folds <= n_patients:
        raise InputError(
            f"--folds: found {n_folds}, expected 2 to {n_patients}, the number of patients of the training part"
        )
    rng = np.random.default_rng(seed)
    fold_of = deal_folds(cohort.labels, cohort.patient_ids, n_folds, rng)
    rows = []
    for spec in specs:
        started = time.perf_counter()
        probabilities = np.full((len(cohort), len(cohort.classes)), np.nan)
        scores, remark, failure = (np.nan, np.nan), "", ""
        fold = 0
        try:
            for fold in range(n_folds):
                held = fold_of == fold
                probabilities[held] = _fit_and_predict(
                    spec, cohort, held, compute.spawn_seed(seed, spec.id, fold)
                )
            scores = (accuracy(cohort.labels, probabilities), log_loss(cohort.labels, probabilities))
        except NotApplicable as refusal:
            remark = str(refusal)
        except (Exception, SystemExit) as error:
            # Whatever a hypothesis does wrong is told of that one; only Ctrl-C ends them all.
            failure = f"fold {fold + 1} of {n_folds}: {_describe(error, spec.training)}"
        rows.append((spec.id, *map(float, scores), time.perf_counter() - started, remark, failure))
    return pd.DataFrame(rows, columns=["hypothesis", "accuracy", "log_loss", "seconds", "remark", "failure"])


def _fit_and_predict(spec: HypothesisSpec, cohort: LabelledCohort, held: np.ndarray, seed: int) -> np.ndarray:
    training, resources = spec.training, spec.resources
    device = compute.prepare_framework(training.framework, resources.threads, resources.gpu, seed)
    seen = {name: block for name, block in cohort.blocks.items() if training.sees(name, block.spec.is_set)}
    part = LabelledCohort(
        cohort.sample_ids, cohort.patient_ids, seen, cohort.covariates, cohort.labels, cohort.classes
    )
    predictor = fit_split(training, load_module(training), part.take(~held), None, seed=seed, device=device)
    probabilities = predictor.predict_proba(part.take(held).without_labels())
    return check_probabilities(probabilities, int(held.sum()), len(cohort.classes), spec.id)


def _describe(error: BaseException, spec: TrainingSpec) -> str:
    """Say where in its own file a hypothesis failed, as far as it got there, and how."""
    file = provenance.module_file(spec.module)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    # Without a frame of its own the file broke the contract: no fit, a Config that cannot be built, wrong shapes.
    place = f"{file}, line {own[-1].lineno}, in {own[-1].name}" if own else str(file)
    return f"{place}: {type(error).__name__}: {error}"


def print_trial(table: pd.DataFrame, cohort: LabelledCohort) -> str:
    """Lay out a trial for the terminal.

    Where a hypothesis failed the layout is printed here, and InputError is raised with the failures: so a command ends
    as one that failed, after it has shown what the others did.
    """
    lines = [_heading(cohort), f"{'hypothesis':<24}{'accuracy':>10}{'log loss':>10}{'seconds':>9}"]
    for row in table.sort_values("log_loss", kind="stable").itertuples():
        figures = f"{row.accuracy:>10.3f}{row.log_loss:>10.3f}{row.seconds:>9.1f}"
        if row.failure:
            figures = "  failed: see below"
        elif row.remark:
            figures = f"  not applicable: {row.remark}"
        lines.append(f"{row.hypothesis:<24}{figures}")
    text = "\n".join(lines)
    failed = table[table["failure"] != ""]
    if len(failed):
        print(text, flush=True)
        told = [f"{row.hypothesis}: {row.failure}" for row in failed.itertuples()]
        raise InputError("\n".join([f"{len(failed)} of {len(table)} hypotheses failed", *told]))
    return text


def _heading(cohort: LabelledCohort) -> str:
    size = f"{len(cohort)} training samples, {len(cohort.classes)} classes"
    if not getattr(cohort, "tested_elsewhere", False):
        return f"{size}; the test set was not touched."
    return (
        f"{size}; they are test samples of the study's other splits.\n"
        "Whoever chooses by this table has looked at test samples. For a test set that stays untouched, hold one out:\n"
        "splits with scheme official, or a table of splits with one test set."
    )
