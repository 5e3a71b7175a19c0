"""Control: age, sex, site and the other covariates tell as much as the genome does.

Refuted by any hypothesis that classifies better; one that does not may have learned the covariates.
Soneson 2014 on batches confounded with class, doi:10.1371/journal.pone.0100335.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.logistic import LogisticModel, fit_with_chosen_penalty
from oncoarena.fitting.selection import inner_folds
from oncoarena.fitting.views import View, fit_view

FRAMEWORK = "sklearn"
BLOCKS = ()


@dataclass(frozen=True)
class Config:
    """Hyper-parameters."""

    inverse_penalties: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)
    """Candidates for scikit-learn's C, rising."""
    n_folds: int = 5
    """Inner folds, patients kept together."""
    n_repeats: int = 2
    """Times the inner folds are dealt anew."""


@dataclass(frozen=True)
class Encoding:
    """How covariates become numbers: z-scored numeric columns, then one column a training category."""

    numeric: tuple[str, ...]
    view: View
    categories: dict[str, tuple[str, ...]]

    def transform(self, covariates: pd.DataFrame) -> np.ndarray:
        """Return (n_samples, n_columns) float64; a category not seen in training is 0 in all columns.

        Raises NotApplicable if a covariate of the training part is missing.
        """
        absent = [name for name in (*self.numeric, *self.categories) if name not in covariates]
        if absent:
            raise NotApplicable(f"needs covariate {', '.join(absent)}, which these samples do not have")
        numbers = covariates.loc[:, list(self.numeric)].to_numpy(dtype=np.float64)
        # Back to unit variance a column, the scale of a category's 0 and 1.
        columns = [self.view.transform(numbers) * np.sqrt(max(np.count_nonzero(self.view.factor), 1))]
        for name, categories in self.categories.items():
            found = covariates[name].astype(str).to_numpy()
            columns.append(found[:, None] == np.array(categories)[None, :])
        return np.hstack(columns).astype(np.float64)


def fit_encoding(covariates: pd.DataFrame) -> Encoding:
    """Learn medians, means, scales and categories from the covariates of the training samples.

    "" (missing) is no category.
    """
    is_number = [pd.api.types.is_numeric_dtype(covariates[name]) for name in covariates]
    numeric = tuple(name for name, number in zip(covariates, is_number, strict=True) if number)
    view = fit_view(covariates.loc[:, list(numeric)].to_numpy(dtype=np.float64), "zscore")
    categories = {
        name: tuple(sorted(set(covariates[name].astype(str)) - {""}))
        for name in covariates
        if name not in numeric
    }
    return Encoding(numeric, view, categories)


@dataclass(frozen=True)
class Predictor:
    """A softmax regression on encoded covariates."""

    encoding: Encoding
    model: LogisticModel

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), float64."""
        return self.model.predict_proba(self.encoding.transform(cohort.covariates))

    def save(self, directory: Path) -> None:
        """Write ``encoding.json``, ``view.npz`` and ``model.npz``."""
        described = {"numeric": self.encoding.numeric, "categories": self.encoding.categories}
        (directory / "encoding.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        np.savez(directory / "view.npz", **self.encoding.view.to_arrays())
        np.savez(directory / "model.npz", **self.model.to_arrays())


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    directory = Path(directory)
    described = json.loads((directory / "encoding.json").read_text(encoding="utf-8"))
    categories = {name: tuple(values) for name, values in described["categories"].items()}
    with np.load(directory / "view.npz") as view, np.load(directory / "model.npz") as model:
        encoding = Encoding(tuple(described["numeric"]), View.from_arrays(dict(view)), categories)
        return Predictor(encoding, LogisticModel.from_arrays(dict(model)))


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Choose the penalty by inner out-of-fold log loss, then fit on the whole training part.

    Parameters: ``train``; ``validation`` and ``device`` are not needed; ``seed`` deals the inner folds.
    Returns the predictor.
    Raises NotApplicable without covariates, or with fewer than two patients.
    """
    if not len(train.covariates.columns):
        raise NotApplicable("needs covariates (further columns of the sample sheet); this cohort has none")
    encoding = fit_encoding(train.covariates)
    x, n_classes = encoding.transform(train.covariates), len(train.classes)
    folds = inner_folds(train, config.n_folds, config.n_repeats, seed)
    model = fit_with_chosen_penalty(x, train.labels, n_classes, config.inverse_penalties, folds)
    return Predictor(encoding, model)
