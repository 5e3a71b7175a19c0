"""Control: nothing in the genome tells; each class has its frequency among the training patients.

Refuted by any hypothesis with a lower log loss; one that does not beat it has learned nothing.
Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.fitting.selection import spread_to_classes

FRAMEWORK = "numpy"
BLOCKS = ()


@dataclass(frozen=True)
class Config:
    """There is nothing to choose."""


@dataclass(frozen=True)
class Predictor:
    """The same probabilities for every sample."""

    frequencies: tuple[float, ...]
    """One a class, of sum 1."""

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return the class frequencies for each sample (n_samples, n_classes), float64."""
        return np.tile(np.array(self.frequencies), (len(cohort), 1))

    def save(self, directory: Path) -> None:
        """Write ``model.json``."""
        (directory / "model.json").write_text(json.dumps(self.frequencies), encoding="utf-8")


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    return Predictor(tuple(json.loads((Path(directory) / "model.json").read_text(encoding="utf-8"))))


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Count the training patients of each class; one with samples of several classes is shared out.

    A class without a patient gets a small probability.
    Returns the predictor.
    """
    _, patient, n_of_patient = np.unique(train.patient_ids, return_inverse=True, return_counts=True)
    counts = np.bincount(train.labels, 1.0 / n_of_patient[patient], minlength=len(train.classes))
    present = np.flatnonzero(counts)
    frequencies = (counts[present] / counts.sum())[None, :]
    spread = spread_to_classes(frequencies, present, len(train.classes), len(n_of_patient))
    return Predictor(tuple(spread[0].tolist()))
