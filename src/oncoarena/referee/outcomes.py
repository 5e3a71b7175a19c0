"""Predictions joined with the truth: the only place where the two meet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from oncoarena.errors import InputError
from oncoarena.referee.predictions import check_predictions, expected_rows, probability_columns


@dataclass(frozen=True)
class Outcomes:
    """Every test appearance of every sample, with what each hypothesis said; rows sorted by split.

    ``sample_ids``, ``patients``, ``truth``, ``repeats`` and ``folds`` are (n_rows,), where patients
    are codes 0 to n_patients - 1 and truth is codes into ``classes``; ``probabilities`` holds
    (n_rows, n_classes) float64 for each hypothesis. ``positive`` is the code of the class that counts
    as positive in a study of two classes.
    """

    classes: tuple[str, ...]
    positive: int
    sample_ids: np.ndarray
    patients: np.ndarray
    truth: np.ndarray
    repeats: np.ndarray
    folds: np.ndarray
    probabilities: dict[str, np.ndarray]

    @property
    def hypotheses(self) -> tuple[str, ...]:
        return tuple(self.probabilities)

    @property
    def n_patients(self) -> int:
        return int(self.patients.max(initial=-1)) + 1

    @property
    def n_repeats(self) -> int:
        return len(np.unique(self.repeats))

    def take(self, rows: np.ndarray) -> Self:
        """The rows of a boolean mask, patients numbered anew."""
        _, patients = np.unique(self.patients[rows], return_inverse=True)
        return replace(
            self,
            sample_ids=self.sample_ids[rows],
            patients=patients,
            truth=self.truth[rows],
            repeats=self.repeats[rows],
            folds=self.folds[rows],
            probabilities={name: values[rows] for name, values in self.probabilities.items()},
        )

    def only(self, hypotheses: Sequence[str]) -> Self:
        """The same rows with the given hypotheses alone."""
        return replace(self, probabilities={name: self.probabilities[name] for name in hypotheses})


def join_outcomes(
    predictions: pd.DataFrame,
    samples: pd.DataFrame,
    splits: pd.DataFrame,
    classes: Sequence[str],
    positive: str | None = None,
) -> Outcomes:
    """Join a predictions table with the labels and patients of the samples.

    Parameters: the tables of the study; ``positive`` names the positive class of two (the last
    if None).
    Raises InputError if a prediction, a label or a sample does not fit the study.
    """
    classes = tuple(classes)
    if positive is not None and positive not in classes:
        raise InputError(f"positive class {positive!r} is not a class of this study: {', '.join(classes)}")
    table = check_predictions(predictions, splits, classes)
    rows = expected_rows(splits)
    sample_ids = rows["sample_id"].to_numpy(dtype=object)
    positions = pd.Index(samples["sample_id"].astype(str)).get_indexer(pd.Index(sample_ids))
    if (positions < 0).any():
        unknown = sample_ids[positions < 0][0]
        raise InputError(f"splits: sample {unknown!r} is not in the sample sheet. Use its sample_id values.")
    labels = samples["label"].astype(str).to_numpy(dtype=object)[positions]
    truth = pd.Index(classes).get_indexer(pd.Index(labels))
    if (truth < 0).any():
        label = labels[truth < 0][0]
        raise InputError(f"samples: label {label!r} is not a class of this study: {', '.join(classes)}")
    patients = samples["patient_id"].astype(str).to_numpy(dtype=object)[positions]
    _, patient_codes = np.unique(patients, return_inverse=True)
    columns = probability_columns(classes)
    return Outcomes(
        classes=classes,
        positive=len(classes) - 1 if positive is None else classes.index(positive),
        sample_ids=sample_ids,
        patients=patient_codes,
        truth=truth.astype(np.int64),
        repeats=rows["repeat"].to_numpy(),
        folds=rows["fold"].to_numpy(),
        probabilities={
            str(name): part[columns].to_numpy(dtype=np.float64)
            for name, part in table.groupby("hypothesis", sort=False)
        },
    )
