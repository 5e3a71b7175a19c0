"""Finished studies as tables, for tests of the referee: truth, splits and made-up predictions."""

import numpy as np
import pandas as pd

from oncoarena.referee.outcomes import Outcomes, join_outcomes
from oncoarena.referee.predictions import prediction_table
from oncoarena.splits import deal_folds


def noisy_probabilities(truth, n_classes, strength, rng, decimals=None):
    """Probabilities that lean towards the truth by ``strength`` standard deviations of their noise."""
    logits = rng.normal(size=(len(truth), n_classes))
    logits[np.arange(len(truth)), truth] += strength
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities if decimals is None else np.round(probabilities, decimals)


def run_record(hypothesis, role="claim", **others):
    """The part of a run's record that the referee reads."""
    record = {"hypothesis": hypothesis, "title": hypothesis, "role": role, "framework": "numpy"}
    return record | {"status": "trained", "reason": "", "permuted_labels": False} | others


def make_study(
    strengths, *, n_patients=60, n_classes=3, n_repeats=1, n_folds=3, samples_each=1, seed=0, sheet=None
):
    """Make the tables of a cross-validated study: (predictions, samples, splits, runs, classes).

    ``strengths`` maps hypotheses to how far they see the truth; ``sheet`` adds columns, one value a sample.
    """
    rng = np.random.default_rng(seed)
    classes = tuple("abcdefghijklmnopqrst"[:n_classes])
    patient = np.repeat(np.arange(n_patients), samples_each)
    truth = patient % n_classes
    samples = pd.DataFrame(
        {
            "sample_id": [f"s{i:05d}" for i in range(len(patient))],
            "patient_id": [f"q{i:05d}" for i in patient],
            "label": np.array(classes)[truth],
        }
        | (sheet or {})
    )
    ids = samples["sample_id"].to_numpy()
    splits, predictions = [], []
    for repeat in range(n_repeats):
        folds = deal_folds(truth, patient, n_folds, rng)
        for fold in range(n_folds):
            role = np.where(folds == fold, "test", "train")
            splits.append(pd.DataFrame({"repeat": repeat, "fold": fold, "sample_id": ids, "role": role}))
            for name, strength in strengths.items():
                tested = np.flatnonzero(folds == fold)
                given = noisy_probabilities(truth[tested], n_classes, strength, rng)
                predictions.append(prediction_table(name, repeat, fold, ids[tested], given, classes))
    runs = [run_record(name) for name in strengths]
    return pd.concat(predictions), samples, pd.concat(splits, ignore_index=True), runs, classes


def make_outcomes(strengths, **options) -> Outcomes:
    predictions, samples, splits, _, classes = make_study(strengths, **options)
    return join_outcomes(predictions, samples, splits, classes)


def plain_outcomes(truth, probabilities, patients=None) -> Outcomes:
    """Outcomes of one split straight from arrays; ``probabilities`` maps hypotheses to (n, k)."""
    truth = np.asarray(truth)
    n_rows, n_classes = next(iter(probabilities.values())).shape
    patients = np.arange(n_rows) if patients is None else np.asarray(patients)
    return Outcomes(
        classes=tuple("abcdefghijklmnopqrst"[:n_classes]),
        positive=n_classes - 1,
        sample_ids=np.array([f"s{i}" for i in range(n_rows)], dtype=object),
        patients=patients,
        truth=truth,
        repeats=np.zeros(n_rows, dtype=np.int64),
        folds=np.zeros(n_rows, dtype=np.int64),
        probabilities=probabilities,
    )
