"""Baseline: a moderate number of correlated features decide, as in elastic-net logistic regression.

Refuted as the better account where another hypothesis classifies better on the same splits.
Zou and Hastie 2005, doi:10.1111/j.1467-9868.2005.00503.x; Friedman 2010, doi:10.18637/jss.v033.i01.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.fitting.attributions import explain_linear
from oncoarena.fitting.f_screening import largest, variance_between
from oncoarena.fitting.logistic import LogisticModel, fit_logistic_path
from oncoarena.fitting.selection import inner_folds, log_loss
from oncoarena.fitting.views import JoinedView, fit_joined_view

FRAMEWORK = "sklearn"
BLOCKS = "all"


@dataclass(frozen=True)
class Config:
    """Hyper-parameters."""

    l1_ratios: tuple[float, ...] = (0.05, 0.2, 0.5, 0.8)
    """Candidates for the share of the absolute (L1) penalty."""
    path: tuple[float, ...] = (2.0, 6.0, 20.0, 60.0)
    """Candidates for the inverse penalty, in multiples of the one at which the first feature enters."""
    n_screened: tuple[int, ...] = (300, 2000)
    """Candidates for the number of features that enter, those with the largest F statistic."""
    n_folds: int = 5
    """Inner folds, patients kept together; features are screened anew inside each."""
    tolerance: float = 1e-2
    """Largest relative change of a coefficient at which SAGA stops: early, as log loss is flat there."""
    max_iterations: int = 1000
    """Passes of SAGA over the samples, at most."""


@dataclass(frozen=True)
class Predictor:
    """A sparse softmax regression on the joined z-scores."""

    view: JoinedView
    features: np.ndarray
    """(n_screened,) columns of the view that were offered to the regression."""
    model: LogisticModel

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), float64."""
        return self.model.predict_proba(unit_variance(self.view, cohort)[:, self.features])

    def attribute(self, cohort: Cohort, label: int) -> Attribution:
        """Explain the score of a class by the weights of the features."""
        weights = np.zeros(len(self.view.feature_names))
        weights[self.features], baseline = self.model.of_class(label)
        terms = [(unit_variance(self.view, cohort), weights)]
        return explain_linear(terms, baseline, self.view.block_slices())

    def save(self, directory: Path) -> None:
        """Write ``view.npz`` and ``model.npz``."""
        np.savez(directory / "view.npz", **self.view.to_arrays())
        np.savez(directory / "model.npz", features=self.features, **self.model.to_arrays())


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    with np.load(Path(directory) / "view.npz") as view, np.load(Path(directory) / "model.npz") as model:
        arrays = dict(model)
        return Predictor(
            JoinedView.from_arrays(dict(view)), arrays["features"], LogisticModel.from_arrays(arrays)
        )


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Choose penalty and share of L1 by inner out-of-fold log loss, then fit on the training part.

    Parameters: ``train``; ``validation`` and ``device`` are not needed; ``seed`` deals the inner folds.
    Returns the predictor.
    Raises NotApplicable without a block, or with fewer than two patients.
    """
    view = fit_joined_view(train, "zscore")
    x, labels, n_classes = unit_variance(view, train), train.labels, len(train.classes)
    (folds,) = inner_folds(train, config.n_folds, 1, seed)
    path = sorted(config.path)
    # Asking for more features than there are gives all of them: try that once.
    sizes = sorted({min(size, x.shape[1]) for size in config.n_screened})
    out_of_fold = np.zeros((len(sizes), len(config.l1_ratios), len(path), len(train), n_classes))
    for fold in np.unique(folds):
        held_out = folds == fold
        share = variance_between(x, np.flatnonzero(~held_out), labels[~held_out])
        for i, size in enumerate(sizes):
            features = largest(share, size)
            inner, outer = x[~held_out][:, features], x[held_out][:, features]
            for j, l1_ratio in enumerate(config.l1_ratios):
                models = _fit_path(config, inner, labels[~held_out], n_classes, l1_ratio, path, seed)
                for step, model in enumerate(models):
                    out_of_fold[i, j, step, held_out] = model.predict_proba(outer)
    losses = np.array([log_loss(p, labels) for p in out_of_fold.reshape(-1, len(train), n_classes)])
    i, j, step = np.unravel_index(losses.argmin(), out_of_fold.shape[:3])
    features = largest(variance_between(x, np.arange(len(x)), labels), sizes[i])
    models = _fit_path(config, x[:, features], labels, n_classes, config.l1_ratios[j], path[: step + 1], seed)
    return Predictor(view, features, models[-1])


def unit_variance(view: JoinedView, cohort: Cohort) -> np.ndarray:
    """Return the features (n_samples, n_features) float32 at a mean training variance of 1.

    The share of L1 means what it does elsewhere only at this scale; blocks keep equal total variance.
    """
    n_varying = sum(np.count_nonzero(block.factor) for block in view.views)
    return view.transform(cohort) * np.float32(np.sqrt(n_varying))


def _fit_path(
    config: Config,
    x: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    l1_ratio: float,
    path: list[float],
    seed: int,
) -> list[LogisticModel]:
    # The inverse penalty at which the first coefficient leaves zero (Friedman 2010): the largest
    # gradient of the log likelihood of the class frequencies.
    targets = np.eye(n_classes)[labels]
    gradient = np.abs(x.astype(np.float64).T @ (targets - targets.mean(axis=0))).max(initial=0.0)
    first = 1.0 / (max(l1_ratio, 1e-2) * gradient) if gradient > 0 else 1.0
    return fit_logistic_path(
        x,
        labels,
        n_classes,
        [first * step for step in path],
        l1_ratio=l1_ratio,
        tolerance=config.tolerance,
        max_iterations=config.max_iterations,
        seed=seed,
    )
