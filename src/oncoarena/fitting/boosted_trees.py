"""Gradient-boosted decision trees, trained by YDF on the features that tell the classes apart best.

Trees ask for order only, so they see a block's values as they are; a missing value counts as the training mean.
Friedman 2001, doi:10.1214/aos/1013203451; Guillame-Bert 2023, doi:10.1145/3580305.3599933 (YDF).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, sqrt
from typing import TYPE_CHECKING, Self

import numpy as np

from oncoarena.attribution import Attribution
from oncoarena.cohort import Block, Cohort, LabelledCohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.attributions import over_mean
from oncoarena.fitting.f_screening import largest, variance_between

if TYPE_CHECKING:
    import ydf

# Samples a batch of predictions.
PREDICTED_SAMPLES = 8192


@dataclass(frozen=True)
class TreeSettings:
    """How one model of boosted trees is trained."""

    n_rounds: int = 100
    """Rounds; each adds one tree a class, of two classes one in all."""
    shrinkage: float = 0.1
    """Share of a tree's leaf values that is added."""
    max_depth: int = 3
    """Questions on the way to a leaf, plus one: as many features as interact, plus one."""
    candidates: float = 1.0
    """Features that a node chooses from, in square roots of their number."""
    subsample: float = 0.8
    """Share of the samples that a round sees."""
    min_leaf: int = 1
    """Fewest training samples in a leaf."""
    n_screened: int = 2000
    """Features offered to the trees, those of the largest F statistic."""


@dataclass(frozen=True)
class BoostedTrees:
    """Trees of the training samples' classes, and the columns that they ask about."""

    block_names: tuple[str, ...]
    features: np.ndarray
    """(n_screened,) columns of the blocks side by side, in rising order."""
    present: np.ndarray
    """(n_present,) codes of the classes with training samples."""
    prior: np.ndarray
    """(n_present,) logarithms of their frequencies: the logits where there is nothing to ask about."""
    n_classes: int
    n_samples: int
    """Training samples."""
    saved: bytes
    """The model in YDF's own format (protocol buffers); empty where there is nothing to ask about."""

    @cached_property
    def model(self) -> "ydf.GradientBoostedTreesModel":
        """The model as YDF holds it."""
        import ydf

        return ydf.deserialize_model(self.saved)

    def logits(self, cohort: Cohort) -> np.ndarray:
        """Return logits (n_samples, n_classes) float64.

        A class without training samples has the mean of the others less a constant, as if half a sample were there.
        """
        out = np.empty((len(cohort), self.n_classes))
        for first in range(0, len(cohort), PREDICTED_SAMPLES):
            rows = slice(first, first + PREDICTED_SAMPLES)
            out[rows] = self._logits(self._columns(cohort, rows))
        return out

    def attribute(self, cohort: Cohort, label: int) -> Attribution:
        """Explain the score of a class by the Shapley values of TreeSHAP.

        A feature is compared with the training samples that pass the same nodes (Lundberg 2020,
        doi:10.1038/s42256-019-0138-9); the baseline is the mean score of the training samples, node by node.
        """
        # YDF does not say what its Shapley values are relative to where rounds see a share of the samples: one more
        # sample, without any value, tells.
        x = np.vstack([self._columns(cohort), np.full((1, len(self.features)), np.nan, dtype=np.float32)])
        shares = np.zeros(x.shape)
        if self.saved:
            found, _ = self.model.predict_shap({"x": x}, num_threads=1)
            # YDF names columns x.0_of_3, x.1_of_3, x.2_of_3.
            for name, values in found.items():
                column = int(name.removeprefix("x.").partition("_")[0])
                shares[:, column] = over_mean(_both_sides(values), label, self.present)
        score = over_mean(self._logits(x), label)
        contributions = {}
        for block, start in _side_by_side(cohort, self.block_names):
            here, columns = self._within(block, start)
            contributions[block.name] = np.zeros(block.values.shape, dtype=np.float32)
            contributions[block.name][:, columns] = shares[:-1, here]
        baseline = np.repeat(score[-1] - shares[-1].sum(), len(cohort))
        return Attribution(score[:-1], baseline, contributions, "TreeSHAP", exact=True)

    def _logits(self, x: np.ndarray) -> np.ndarray:
        if not self.saved:
            known = np.tile(self.prior, (len(x), 1))
        else:
            known = _both_sides(self.model.predict({"x": x}, num_threads=1))
        unseen = np.log((2 * self.n_samples + self.n_classes) / len(self.present))
        out = np.repeat(known.mean(axis=1, keepdims=True) - unseen, self.n_classes, axis=1)
        out[:, self.present] = known
        return out

    def _columns(self, cohort: Cohort, rows: slice = slice(None)) -> np.ndarray:
        """The screened features (n_rows, n_screened) float32, NaN where missing."""
        parts = []
        for block, start in _side_by_side(cohort, self.block_names):
            _, columns = self._within(block, start)
            parts.append(block.values[rows][:, columns])
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _within(self, block: Block, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of the screened features lie in a block, and in which of its columns."""
        here = (self.features >= start) & (self.features < start + block.values.shape[1])
        return here, self.features[here] - start

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``from_arrays`` needs, as arrays for an .npz file."""
        arrays = {name: np.asarray(getattr(self, name)) for name in self.__dataclass_fields__}
        return arrays | {"saved": np.frombuffer(self.saved, dtype=np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """Rebuild the trees from ``to_arrays``; other arrays are left alone."""
        fields = {name: arrays[name] for name in cls.__dataclass_fields__}
        fields["block_names"] = tuple(str(name) for name in fields["block_names"])
        fields |= {name: int(fields[name]) for name in ("n_classes", "n_samples")}
        return cls(**fields | {"saved": fields["saved"].tobytes()})


def fit_trees(train: LabelledCohort, rows: np.ndarray, settings: TreeSettings, seed: int) -> BoostedTrees:
    """Screen the features, then grow trees one after the other against the log loss that is left.

    Parameters: ``rows`` (n_rows,) of ``train`` that are seen, at least one; ``seed`` of the samples and features
    that are drawn. One thread: whatever else runs, the same seed gives the same trees.
    Raises NotApplicable if the cohort has no block.
    """
    import ydf

    names = tuple(train.blocks)
    if not names:
        raise NotApplicable("needs at least one block of features; this cohort has none")
    present, labels, counts = np.unique(train.labels[rows], return_inverse=True, return_counts=True)
    features = screen_features(train, rows, settings.n_screened)
    prior = np.log(counts / counts.sum())
    trees = BoostedTrees(names, features, present, prior, len(train.classes), len(rows), b"")
    if len(present) < 2 or not len(features):
        return trees
    learner = ydf.GradientBoostedTreesLearner(
        label="label",
        num_trees=settings.n_rounds,
        shrinkage=settings.shrinkage,
        max_depth=settings.max_depth,
        num_candidate_attributes=min(len(features), ceil(settings.candidates * sqrt(len(features)))),
        sampling_method="RANDOM",
        subsample=settings.subsample,
        min_examples=settings.min_leaf,
        # Log-odds, not probabilities.
        apply_link_function=False,
        # All training samples are for training.
        validation_ratio=0.0,
        early_stopping="NONE",
        num_threads=1,
        random_seed=seed % 2**31,
    )
    model = learner.train({"x": trees._columns(train)[rows], "label": labels}, verbose=0)
    return replace(trees, saved=model.serialize())


def out_of_fold_logits(
    train: LabelledCohort, folds: np.ndarray, settings: TreeSettings, seed: int
) -> np.ndarray:
    """Return the logits (n_repeats, n_samples, n_classes) that trees of the other folds give each sample.

    Parameters: ``folds`` (n_repeats, n_samples) fold numbers. Features are screened anew inside each fold.
    """
    logits = np.zeros((*folds.shape, len(train.classes)))
    for repeat, of_sample in enumerate(folds):
        for fold in np.unique(of_sample):
            held_out = of_sample == fold
            trees = fit_trees(train, np.flatnonzero(~held_out), settings, seed)
            logits[repeat, held_out] = trees._logits(trees._columns(train)[held_out])
    return logits


def screen_features(train: LabelledCohort, rows: np.ndarray, n_kept: int) -> np.ndarray:
    """Find the features with the largest one-way F statistic, missing values at the mean.

    Parameters: ``rows`` of ``train`` that are seen; ``n_kept`` at least 1.
    Returns (at most n_kept,) columns of the blocks side by side, in rising order; none that does not vary.
    """
    share = np.concatenate(
        [variance_between(block.values, rows, train.labels[rows]) for block in train.blocks.values()]
    )
    kept = largest(share, n_kept)
    return kept[share[kept] >= 0]


def _side_by_side(cohort: Cohort, names: tuple[str, ...]) -> Iterator[tuple[Block, int]]:
    """Give each block, and where its columns start."""
    start = 0
    for name in names:
        if name not in cohort.blocks:
            raise NotApplicable(f"needs block {name}; this cohort has {', '.join(cohort.blocks)}")
        yield cohort.blocks[name], start
        start += cohort.blocks[name].values.shape[1]


def _both_sides(values: np.ndarray) -> np.ndarray:
    """Logits of every class (n_samples, n_classes) float64: of two classes YDF gives the log-odds of the second."""
    values = values.reshape(len(values), -1).astype(np.float64)
    return values if values.shape[1] > 1 else np.hstack([-values / 2, values / 2])
