"""Linear models for any number of classes with samples, and penalised softmax regression from scikit-learn."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort
from oncoarena.fitting.attributions import explain_linear, over_mean
from oncoarena.fitting.selection import log_loss, softmax, spread_to_classes
from oncoarena.fitting.views import JoinedView


@dataclass(frozen=True)
class LogisticModel:
    """A softmax regression; classes without a training sample get a small probability."""

    coefficients: np.ndarray
    """(n_features, n_present)."""
    intercept: np.ndarray
    """(n_present,)."""
    present: np.ndarray
    """(n_present,) int64 codes of the classes with training samples."""
    n_classes: int
    n_samples: int

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Return (n_samples, n_classes) float64 for ``x`` (n_samples, n_features)."""
        known = softmax(x.astype(np.float64) @ self.coefficients + self.intercept)
        return spread_to_classes(known, self.present, self.n_classes, self.n_samples)

    def of_class(self, label: int) -> tuple[np.ndarray, float]:
        """Return weights (n_features,) and intercept of a class's logit over the mean of the known classes.

        0 for a class without a training sample.
        """
        weights = over_mean(self.coefficients, label, self.present)
        return weights, float(over_mean(self.intercept, label, self.present))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``from_arrays`` needs, as arrays for an .npz file."""
        return {name: np.asarray(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """Rebuild a model from ``to_arrays``."""
        return cls(
            arrays["coefficients"],
            arrays["intercept"],
            arrays["present"],
            int(arrays["n_classes"]),
            int(arrays["n_samples"]),
        )


@dataclass(frozen=True)
class LinearPredictor:
    """Logits that are linear in a joined view of the features."""

    view: JoinedView
    model: LogisticModel

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), float64."""
        return self.model.predict_proba(self.view.transform(cohort))

    def attribute(self, cohort: Cohort, label: int) -> Attribution:
        """Explain the score of a class by the weights of the features."""
        weights, baseline = self.model.of_class(label)
        terms = [(self.view.transform(cohort), weights)]
        return explain_linear(terms, baseline, self.view.block_slices())

    def save(self, directory: Path) -> None:
        """Write ``view.npz`` and ``model.npz``."""
        np.savez(directory / "view.npz", **self.view.to_arrays())
        np.savez(directory / "model.npz", **self.model.to_arrays())

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what ``save`` wrote."""
        with np.load(Path(directory) / "view.npz") as view, np.load(Path(directory) / "model.npz") as model:
            return cls(JoinedView.from_arrays(dict(view)), LogisticModel.from_arrays(dict(model)))


def fit_logistic_path(
    x: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    inverse_penalties: Sequence[float],
    *,
    l1_ratio: float = 0.0,
    tolerance: float = 1e-5,
    max_iterations: int = 2000,
    seed: int = 0,
) -> list[LogisticModel]:
    """Fit softmax regressions from the strongest to the weakest penalty, each starting from the last.

    A fit that has not converged after ``max_iterations`` is used as it stands: it is an early-stopped
    model, and it is chosen only where it predicts best.

    Parameters: ``x`` (n_samples, n_features); ``labels`` (n_samples,) class codes;
    ``inverse_penalties`` scikit-learn's C, in rising order; ``l1_ratio`` 0 (ridge, by L-BFGS) to 1
    (lasso, by SAGA); ``tolerance`` scikit-learn's tol; ``seed`` of SAGA's order of samples.
    Returns one model an inverse penalty.
    """
    present, counts = np.unique(labels, return_counts=True)
    x = np.ascontiguousarray(x, dtype=np.float64)
    if len(present) == 1 or x.shape[1] == 0:
        # Nothing to tell apart, or nothing to tell by: the class frequencies.
        flat = np.zeros((x.shape[1], len(present)))
        model = LogisticModel(flat, np.log(counts / len(labels)), present, n_classes, len(labels))
        return [model] * len(inverse_penalties)
    solver = LogisticRegression(
        l1_ratio=l1_ratio,
        solver="saga" if l1_ratio > 0 else "lbfgs",
        tol=tolerance,
        max_iter=max_iterations,
        warm_start=True,
        random_state=seed,
    )
    models = []
    for inverse_penalty in inverse_penalties:
        solver.C = inverse_penalty
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            solver.fit(x, labels)
        coefficients, intercept = solver.coef_.T.copy(), solver.intercept_.copy()
        if len(present) == 2:
            # One logit for the second class; the first has logit 0.
            coefficients = np.hstack([np.zeros_like(coefficients), coefficients])
            intercept = np.concatenate([[0.0], intercept])
        models.append(LogisticModel(coefficients, intercept, present, n_classes, len(labels)))
    return models


def fit_with_chosen_penalty(
    x: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    inverse_penalties: Sequence[float],
    folds: np.ndarray,
) -> LogisticModel:
    """Choose the penalty by inner out-of-fold log loss and fit with it on all samples.

    Parameters: ``x`` (n_samples, n_features); ``labels`` (n_samples,); ``folds`` (n_repeats, n_samples)
    inner fold numbers, see ``selection.inner_folds``.
    """
    penalties = sorted(inverse_penalties)
    losses = np.zeros(len(penalties))
    for fold_of in folds:
        out_of_fold = np.zeros((len(penalties), len(labels), n_classes))
        for fold in np.unique(fold_of):
            held_out = fold_of == fold
            path = fit_logistic_path(x[~held_out], labels[~held_out], n_classes, penalties)
            for number, model in enumerate(path):
                out_of_fold[number, held_out] = model.predict_proba(x[held_out])
        losses += [log_loss(probabilities, labels) for probabilities in out_of_fold]
    best = int(losses.argmin())
    return fit_logistic_path(x, labels, n_classes, penalties[: best + 1])[-1]
