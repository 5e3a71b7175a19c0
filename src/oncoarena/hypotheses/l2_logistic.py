"""Baseline: every feature adds a little, as in ridge logistic regression on z-scores.

Refuted as the better account where another hypothesis classifies better on the same splits.
Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634; le Cessie and van Houwelingen 1992, doi:10.2307/2347628.
"""

from dataclasses import dataclass

import numpy as np

from oncoarena.cohort import LabelledCohort
from oncoarena.fitting.components import fit_components
from oncoarena.fitting.logistic import LinearPredictor, LogisticModel, fit_with_chosen_penalty
from oncoarena.fitting.selection import inner_folds
from oncoarena.fitting.views import fit_joined_view

FRAMEWORK = "sklearn"
BLOCKS = "all"


@dataclass(frozen=True)
class Config:
    """Hyper-parameters."""

    inverse_penalties: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
    """Candidates for scikit-learn's C, rising; features are z-scores over sqrt(number of features)."""
    n_folds: int = 5
    """Inner folds, patients kept together."""
    n_repeats: int = 2
    """Times the inner folds are dealt anew."""


load = LinearPredictor.load


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> LinearPredictor:
    """Choose the penalty by inner out-of-fold log loss, then fit on the whole training part.

    The regression is trained on principal components, which changes nothing for an L2 penalty but
    the time. Parameters: ``train``; ``validation`` and ``device`` are not needed.
    Returns the predictor.
    Raises NotApplicable without a block, or with fewer than two patients.
    """
    view = fit_joined_view(train, "zscore")
    components = fit_components(view.transform(train))
    x, n_classes = components.train_scores, len(train.classes)
    folds = inner_folds(train, config.n_folds, config.n_repeats, seed)
    model = fit_with_chosen_penalty(x, train.labels, n_classes, config.inverse_penalties, folds)
    weights = components.feature_weights(model.coefficients)
    intercept = model.intercept - components.mean.astype(np.float64) @ weights
    return LinearPredictor(view, LogisticModel(weights, intercept, model.present, n_classes, len(train)))
