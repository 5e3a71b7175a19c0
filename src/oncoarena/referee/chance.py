"""What a model trained on permuted labels may reach by luck."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from oncoarena.referee.metrics import macro_auroc


def permuted_aurocs(
    samples: pd.DataFrame, splits: pd.DataFrame, classes: Sequence[str], n_draws: int, seed: int
) -> np.ndarray:
    """Simulate the macro AUROC of the worst-case reader of permuted training labels.

    Labels are permuted over the patients of each training part. The reader sees the true classes
    perfectly and gives each test sample of a class that class's mix of permuted labels, so what the
    permutation has in common with the truth by luck is passed on in full. Pooling over folds and the
    mean over repeats are those of the evaluation.
    Parameters: ``samples`` (sample_id, patient_id, label), ``splits`` of the study.
    Returns (n_draws,) float64.
    """
    rng = np.random.default_rng(seed)
    n_classes = len(classes)
    table = splits.merge(samples[["sample_id", "patient_id", "label"]], on="sample_id")
    codes = pd.Index(classes).get_indexer(table["label"].astype(str))
    _, patients = np.unique(table["patient_id"].astype(str).to_numpy(dtype=object), return_inverse=True)
    trained, tested = (table["role"] == "train").to_numpy(), (table["role"] == "test").to_numpy()
    plans: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]] = {}
    for (repeat, _), rows in table.groupby(["repeat", "fold"]).indices.items():
        train = rows[trained[rows]]
        _, first, patient = np.unique(patients[train], return_index=True, return_inverse=True)
        n_test = np.bincount(codes[rows[tested[rows]]], minlength=n_classes).astype(np.float64)
        plans.setdefault(repeat, []).append((codes[train], codes[train][first], patient, n_test))
    # Test samples of one class in one fold are alike to the reader: rank (fold, class) pairs by weight.
    draws = np.empty(n_draws)
    for draw in range(n_draws):
        areas = []
        for folds in plans.values():
            mixes, weights = [], []
            for truth, label_of_patient, patient, n_test in folds:
                permuted = rng.permutation(label_of_patient)[patient]
                counts = np.bincount(truth * n_classes + permuted, minlength=n_classes**2)
                counts = counts.reshape(n_classes, n_classes)
                mixes.append(counts / np.maximum(counts.sum(1, keepdims=True), 1))
                weights.append(n_test)
            pairs = np.tile(np.arange(n_classes), len(folds))
            areas.append(macro_auroc(pairs, np.concatenate(mixes), np.concatenate(weights)))
        draws[draw] = np.mean(areas)
    return draws
