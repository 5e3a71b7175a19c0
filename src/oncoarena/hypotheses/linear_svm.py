"""Baseline: classes are split by flat borders with a wide margin, as in a linear support vector machine.

Refuted as the better account where another hypothesis classifies better on the same splits.
Cortes and Vapnik 1995, doi:10.1007/BF00994018; Fan 2008 (LIBLINEAR), JMLR 9:1871.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from oncoarena.cohort import LabelledCohort
from oncoarena.fitting.components import fit_components
from oncoarena.fitting.logistic import LinearPredictor, LogisticModel
from oncoarena.fitting.selection import fit_temperature, inner_folds, log_loss, softmax
from oncoarena.fitting.views import fit_joined_view

FRAMEWORK = "sklearn"
BLOCKS = "all"

# LIBLINEAR shrinks the intercept as it does a weight; as the weight of a feature of this value it hardly does.
INTERCEPT_SCALING = 10.0


@dataclass(frozen=True)
class Config:
    """Hyper-parameters."""

    costs: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3)
    """Candidates for C, the cost of a squared violation of the margin; a sample has mean squared length 1."""
    n_folds: int = 5
    """Inner folds, patients kept together."""
    n_repeats: int = 2
    """Times the inner folds are dealt anew."""


load = LinearPredictor.load


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> LinearPredictor:
    """Choose C and a temperature by inner out-of-fold log loss, then fit on the whole training part.

    The margin is found on principal components, which changes nothing but the time; how fast the probability
    falls from the border is the temperature of out-of-fold decision values.
    Parameters: ``train``; ``validation`` and ``device`` are not needed; ``seed`` deals the inner folds.
    Returns the predictor.
    Raises NotApplicable without a block, or with fewer than two patients.
    """
    view = fit_joined_view(train, "zscore")
    components = fit_components(view.transform(train))
    x = components.train_scores
    # Classes without a training sample are not told apart here: LogisticModel gives them their probability.
    present, labels = np.unique(train.labels, return_inverse=True)
    folds = inner_folds(train, config.n_folds, config.n_repeats, seed)
    cost, factor = _choose(x, labels, len(present), config.costs, folds)
    weights, intercept = fit_margins(x, labels, len(present), cost)
    weights = components.feature_weights(factor * weights)
    intercept = factor * intercept - components.mean.astype(np.float64) @ weights
    return LinearPredictor(view, LogisticModel(weights, intercept, present, len(train.classes), len(train)))


def fit_margins(
    x: np.ndarray, labels: np.ndarray, n_classes: int, cost: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a support vector machine with squared hinge loss for each class against the rest.

    Parameters: ``x`` (n_samples, n_features), ``labels`` (n_samples,) class codes, ``cost`` scikit-learn's C.
    Returns weights (n_features, n_classes) and intercepts (n_classes,): x @ weights + intercepts is 1 or more for
    samples of a class beyond its margin, -1 or less for others.
    """
    # Without weights the loss is least at 2 f - 1 for a class of frequency f: also the answer for all or no samples.
    frequencies = np.bincount(labels, minlength=n_classes) / len(labels)
    weights, intercepts = np.zeros((x.shape[1], n_classes)), 2.0 * frequencies - 1.0
    machine = LinearSVC(C=cost, loss="squared_hinge", dual=False, intercept_scaling=INTERCEPT_SCALING)
    for label in range(n_classes):
        if x.shape[1] == 0 or frequencies[label] in (0.0, 1.0):
            continue
        if n_classes == 2 and label == 1:
            weights[:, 1], intercepts[1] = -weights[:, 0], -intercepts[0]
            continue
        with warnings.catch_warnings():
            # Stopped early it is a model like others, and is chosen only where it predicts best.
            warnings.simplefilter("ignore", ConvergenceWarning)
            machine.fit(x, labels == label)
        weights[:, label], intercepts[label] = machine.coef_[0], machine.intercept_[0]
    return weights, intercepts


def _choose(
    x: np.ndarray, labels: np.ndarray, n_classes: int, costs: tuple[float, ...], folds: np.ndarray
) -> tuple[float, float]:
    """Return the cost with the lowest out-of-fold log loss, and the factor on its decision values."""
    costs = sorted(costs)
    decisions = np.zeros((len(costs), *folds.shape, n_classes))
    for repeat, fold_of in enumerate(folds):
        for fold in np.unique(fold_of):
            held_out = fold_of == fold
            for number, cost in enumerate(costs):
                weights, intercepts = fit_margins(x[~held_out], labels[~held_out], n_classes, cost)
                decisions[number, repeat, held_out] = x[held_out] @ weights + intercepts
    decisions = decisions.reshape(len(costs), -1, n_classes)
    truth = np.tile(labels, len(folds))
    factors = [fit_temperature(values, truth) for values in decisions]
    losses = [log_loss(softmax(t * d), truth) for t, d in zip(factors, decisions, strict=True)]
    best = int(np.argmin(losses))
    return costs[best], factors[best]
