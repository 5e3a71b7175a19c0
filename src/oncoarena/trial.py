"""Try a hypothesis on a study's training part: an answer within minutes that leaves the test set alone."""

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

from oncoarena import compute, store
from oncoarena.cohort import LabelledCohort
from oncoarena.errors import NotApplicable
from oncoarena.referee.metrics import accuracy, log_loss
from oncoarena.specs import HypothesisSpec, load_module
from oncoarena.splits import deal_folds
from oncoarena.training import check_probabilities, fit_split, read_cohorts


def training_part(splits_receipt: str, assay_receipts: Sequence[str]) -> LabelledCohort:
    """Read the training part of a study's first split, validation samples included, and nothing else."""
    receipt = store.read_json(splits_receipt)
    split = store.read_table(receipt["splits"][0]["uri"])
    split = split[split["role"] != "test"].assign(role="train").reset_index(drop=True)
    blocks = {}
    for uri in assay_receipts:
        receipts = store.read_json(uri)
        for name, block_uri in (receipts["blocks"] | receipts.get("sets", {})).items():
            block = store.read_json(block_uri)
            blocks[name] = (store.block_samples(block)["sample_id"].tolist(), store.open_block(block))
    classes, covariates = tuple(receipt["classes"]), tuple(receipt["covariates"])
    train, _, _ = read_cohorts(split, blocks, classes, covariates)
    return train


def try_hypotheses(
    specs: Sequence[HypothesisSpec], cohort: LabelledCohort, *, n_folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Cross-validate hypotheses inside a training part, all on the same patient-grouped folds.

    Returns a row a hypothesis: hypothesis, accuracy, log_loss (both on the pooled out-of-fold predictions),
    seconds and remark ("" or why the hypothesis does not apply).
    """
    rng = np.random.default_rng(seed)
    fold_of = deal_folds(cohort.labels, cohort.patient_ids, n_folds, rng)
    rows = []
    for spec in specs:
        started = time.perf_counter()
        probabilities = np.full((len(cohort), len(cohort.classes)), np.nan)
        remark = ""
        try:
            for fold in range(n_folds):
                held = fold_of == fold
                probabilities[held] = _fit_and_predict(
                    spec, cohort, held, compute.spawn_seed(seed, spec.id, fold)
                )
            scores = (accuracy(cohort.labels, probabilities), log_loss(cohort.labels, probabilities))
        except NotApplicable as refusal:
            remark, scores = str(refusal), (np.nan, np.nan)
        rows.append((spec.id, *map(float, scores), time.perf_counter() - started, remark))
    return pd.DataFrame(rows, columns=["hypothesis", "accuracy", "log_loss", "seconds", "remark"])


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


def print_trial(table: pd.DataFrame, cohort: LabelledCohort) -> str:
    """Lay out a trial for the terminal."""
    lines = [
        f"{len(cohort)} training samples, {len(cohort.classes)} classes; the test set was not touched.",
        f"{'hypothesis':<24}{'accuracy':>10}{'log loss':>10}{'seconds':>9}",
    ]
    for row in table.sort_values("log_loss").itertuples():
        figures = (
            f"{row.accuracy:>10.3f}{row.log_loss:>10.3f}{row.seconds:>9.1f}"
            if not row.remark
            else f"  not applicable: {row.remark}"
        )
        lines.append(f"{row.hypothesis:<24}{figures}")
    return "\n".join(lines)
