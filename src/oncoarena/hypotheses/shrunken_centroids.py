"""Baseline: each class is its mean profile, in the features that differ clearly, as in nearest shrunken centroids.

Refuted as the better account where another hypothesis classifies better on the same splits.
Tibshirani 2002, doi:10.1073/pnas.082099299; Tibshirani 2003, doi:10.1214/ss/1056397488.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.fitting.logistic import LinearPredictor, LogisticModel
from oncoarena.fitting.selection import fit_temperature, inner_folds, log_loss, softmax
from oncoarena.fitting.views import JoinedView, fit_joined_view

FRAMEWORK = "numpy"
BLOCKS = "all"


@dataclass(frozen=True)
class Config:
    """Hyper-parameters."""

    n_thresholds: int = 30
    """Candidates, evenly from 0 (all features) to the one at which no feature is left."""
    n_folds: int = 5
    """Inner folds, patients kept together."""
    n_repeats: int = 2
    """Times the inner folds are dealt anew."""


@dataclass(frozen=True)
class Centroids:
    """Class means in units of the noise, before they are shrunken."""

    mean: np.ndarray
    """(n_features,) of all samples, float64."""
    scale: np.ndarray
    """(n_features,) standard deviation within classes plus its median over features."""
    offsets: np.ndarray
    """(n_classes, n_features) class mean less overall mean, over ``scale``; 0 for a class without samples."""
    errors: np.ndarray
    """(n_classes,) standard error of an offset in units of the standard deviation; 0 where it has no error."""
    log_priors: np.ndarray
    """(n_classes,) logarithm of the class frequency; half a sample where there is none."""

    @property
    def largest_threshold(self) -> float:
        """The threshold at which no feature is left."""
        known = self.errors > 0
        return float(
            (np.abs(self.offsets[known]).max(axis=1, initial=0.0) / self.errors[known]).max(initial=0.0)
        )

    def shrunken(self, threshold: float) -> np.ndarray:
        """Return the offsets (n_classes, n_features) moved to 0 by ``threshold`` standard errors."""
        less = np.abs(self.offsets) - threshold * self.errors[:, None]
        return np.sign(self.offsets) * np.maximum(less, 0.0)

    def linear(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (n_features, n_classes) and intercepts (n_classes,) of the discriminant scores.

        Half the squared distance to a centroid is linear but for a term that all classes share.
        """
        shrunken = self.shrunken(threshold)
        weights = (shrunken / self.scale).T
        return weights, -0.5 * (shrunken**2).sum(axis=1) - self.mean @ weights


@dataclass(frozen=True)
class Predictor(LinearPredictor):
    """The nearest centroid on imputed features, with probabilities from the distances.

    Logits of the model are the discriminant scores; its intercept holds the logarithm of the class frequencies.
    """

    factor: float
    """What calibration multiplies the distances with."""
    log_priors: np.ndarray
    """(n_present,)."""

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), float64."""
        model = self.model
        intercept = self.factor * (model.intercept - self.log_priors) + self.log_priors
        weights = self.factor * model.coefficients
        calibrated = LogisticModel(weights, intercept, model.present, model.n_classes, model.n_samples)
        return calibrated.predict_proba(self.view.transform(cohort))

    def predict_raw(self, cohort: Cohort) -> np.ndarray:
        """Return the probabilities of the publication, which takes features for independent."""
        return super().predict_proba(cohort)

    def save(self, directory: Path) -> None:
        """Write ``view.npz`` and ``model.npz``."""
        np.savez(directory / "view.npz", **self.view.to_arrays())
        calibration = {"factor": np.array(self.factor), "log_priors": self.log_priors}
        np.savez(directory / "model.npz", **calibration, **self.model.to_arrays())


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    with np.load(Path(directory) / "view.npz") as view, np.load(Path(directory) / "model.npz") as model:
        arrays = dict(model)
        return Predictor(
            JoinedView.from_arrays(dict(view)),
            LogisticModel.from_arrays(arrays),
            float(arrays["factor"]),
            arrays["log_priors"],
        )


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Choose the threshold and a temperature by inner out-of-fold log loss, then fit on the training part.

    Parameters: ``train``; ``validation`` and ``device`` are not needed; ``seed`` deals the inner folds.
    Returns the predictor.
    Raises NotApplicable without a block, or with fewer than two patients.
    """
    view = fit_joined_view(train, "raw")
    x = view.transform(train)
    # Classes without a training sample are not told apart here: LogisticModel gives them their probability.
    present, labels = np.unique(train.labels, return_inverse=True)
    centroids = fit_centroids(x, labels, len(present))
    thresholds = np.linspace(0.0, centroids.largest_threshold, config.n_thresholds)
    folds = inner_folds(train, config.n_folds, config.n_repeats, seed)
    threshold, factor = _choose(x, labels, len(present), thresholds, folds)
    weights, intercepts = centroids.linear(threshold)
    priors = centroids.log_priors
    model = LogisticModel(weights, intercepts + priors, present, len(train.classes), len(train))
    return Predictor(view, model, factor, priors)


def fit_centroids(x: np.ndarray, labels: np.ndarray, n_classes: int) -> Centroids:
    """Compute the mean of each class and the noise within classes.

    Parameters: ``x`` (n_samples, n_features), finite; ``labels`` (n_samples,) class codes.
    The standard error of a class mean less the overall mean, of which it is a part, is sqrt(1 / n_class - 1 / n)
    standard deviations (Tibshirani 2003, equation 4). Source: Tibshirani 2002, equations 1 to 3.
    """
    n_samples, n_features = x.shape
    counts = np.bincount(labels, minlength=n_classes)
    mean = x.mean(axis=0, dtype=np.float64)
    offsets, squares = np.zeros((n_classes, n_features)), np.zeros(n_features)
    for label in np.flatnonzero(counts):
        members = x[labels == label]
        centre = members.mean(axis=0, dtype=np.float64)
        members = members - centre.astype(x.dtype)
        squares += np.einsum("ij,ij->j", members, members, dtype=np.float64)
        offsets[label] = centre - mean
    deviation = np.sqrt(squares / max(n_samples - np.count_nonzero(counts), 1))
    # Constant features say nothing of the noise. Where no class has two different samples any scale will do.
    varying = deviation[deviation > 0]
    scale = deviation + (np.median(varying) if len(varying) else 1.0)
    sizes = np.maximum(counts, 0.5)
    errors = np.where(counts > 0, np.sqrt(np.maximum(1.0 / sizes - 1.0 / n_samples, 0.0)), 0.0)
    return Centroids(mean, scale, offsets / scale, errors, np.log(sizes / n_samples))


def _choose(
    x: np.ndarray, labels: np.ndarray, n_classes: int, thresholds: np.ndarray, folds: np.ndarray
) -> tuple[float, float]:
    """Return the threshold with the lowest out-of-fold log loss, and the factor on its distances."""
    scores = np.zeros((len(thresholds), *folds.shape, n_classes))
    log_priors = np.zeros((*folds.shape, n_classes))
    for repeat, fold_of in enumerate(folds):
        for fold in np.unique(fold_of):
            held_out = fold_of == fold
            centroids = fit_centroids(x[~held_out], labels[~held_out], n_classes)
            log_priors[repeat, held_out] = centroids.log_priors
            outer = x[held_out].astype(np.float64)
            for number, threshold in enumerate(thresholds):
                weights, intercepts = centroids.linear(threshold)
                scores[number, repeat, held_out] = outer @ weights + intercepts
    scores = scores.reshape(len(thresholds), -1, n_classes)
    truth, offset = np.tile(labels, len(folds)), log_priors.reshape(-1, n_classes)
    factors = [fit_temperature(values, truth, offset) for values in scores]
    losses = [log_loss(softmax(t * s + offset), truth) for t, s in zip(factors, scores, strict=True)]
    # Of equals the last, which uses the fewest features.
    best = len(losses) - 1 - int(np.argmin(losses[::-1]))
    return float(thresholds[best]), factors[best]
