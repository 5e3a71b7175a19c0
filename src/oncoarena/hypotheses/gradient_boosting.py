"""Baseline: thresholds on features decide, one correcting the other, as in gradient-boosted trees.

Refuted as the better account where another hypothesis classifies better on the same splits.
Friedman 2001, doi:10.1214/aos/1013203451; trained by YDF, the decision forests of the TensorFlow family:
Guillame-Bert 2023, doi:10.1145/3580305.3599933.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.fitting.boosted_trees import BoostedTrees, TreeSettings, fit_trees, out_of_fold_logits
from oncoarena.fitting.selection import fit_temperature, inner_folds, log_loss, softmax, spread_to_classes

# YDF comes with that extra; its training itself needs no TensorFlow.
FRAMEWORK = "tensorflow"
BLOCKS = "all"


@dataclass(frozen=True)
class Config:
    """Hyper-parameters; of the candidates, the pair with the lowest inner out-of-fold log loss is taken."""

    max_depths: tuple[int, ...] = (2, 4)
    """Candidates for the depth of a tree: 2 is one question, 4 up to three that hang on one another."""
    candidates: tuple[float, ...] = (1.0, 5.0)
    """Candidates for the number of features that a node chooses from, in square roots of all."""
    n_rounds: int = 200
    """Rounds of boosting; each adds one tree a class, of two classes one in all."""
    shrinkage: float = 0.05
    """Share of a tree's leaf values that is added."""
    subsample: float = 0.8
    """Share of the samples that a round sees."""
    min_leaf: int = 1
    """Fewest training samples in a leaf."""
    n_screened: int = 2000
    """Features offered, those with the largest F statistic in the samples trained on; bounds the time of a fit."""
    n_folds: int = 5
    """Inner folds, patients kept together; features are screened anew inside each."""


@dataclass(frozen=True)
class Predictor:
    """Trees, and the temperature that their out-of-fold logits call for."""

    trees: BoostedTrees
    temperature: float

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), float64."""
        return self._probabilities(self.temperature * self.trees.logits(cohort))

    def predict_raw(self, cohort: Cohort) -> np.ndarray:
        """Return the probabilities before the temperature (n_samples, n_classes), float64."""
        return self._probabilities(self.trees.logits(cohort))

    def attribute(self, cohort: Cohort, label: int) -> Attribution:
        """Explain the score of a class by TreeSHAP."""
        return self.trees.attribute(cohort, label)

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        # The temperature is no judge of classes without training samples.
        present, n_samples = self.trees.present, self.trees.n_samples
        return spread_to_classes(softmax(logits[:, present]), present, self.trees.n_classes, n_samples)

    def save(self, directory: Path) -> None:
        """Write ``model.npz``, with the trees in YDF's own format.

        A SavedModel says the same (tested), but holds a graph beside the trees and needs YDF's operator, built for
        one release of TensorFlow, to be read.
        """
        np.savez(directory / "model.npz", temperature=self.temperature, **self.trees.to_arrays())


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    with np.load(Path(directory) / "model.npz") as arrays:
        return Predictor(BoostedTrees.from_arrays(dict(arrays)), float(arrays["temperature"]))


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Choose depth and width of choice by inner out-of-fold log loss, then grow trees on the training part.

    Parameters: ``train``; ``validation`` and ``device`` are not needed: the rounds are fixed, and trees this small
    grow on one thread of the processor; ``seed`` of the inner folds and of what trees draw.
    Returns the predictor.
    Raises NotApplicable without a block, or with fewer than two patients.
    """
    folds = inner_folds(train, config.n_folds, 1, seed)
    settings = [
        TreeSettings(
            config.n_rounds,
            config.shrinkage,
            depth,
            width,
            config.subsample,
            config.min_leaf,
            config.n_screened,
        )
        for depth, width in product(config.max_depths, config.candidates)
    ]
    logits = np.concatenate([out_of_fold_logits(train, folds, setting, seed) for setting in settings])
    best = int(np.argmin([log_loss(softmax(of_setting), train.labels) for of_setting in logits]))
    trees = fit_trees(train, np.arange(len(train)), settings[best], seed)
    return Predictor(trees, fit_temperature(logits[best], train.labels))
