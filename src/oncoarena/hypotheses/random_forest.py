"""Baseline: thresholds on single features, and their combinations, decide, as in a random forest.

Refuted as the better account where another hypothesis classifies better on the same splits.
Breiman 2001, doi:10.1023/A:1010933404324.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.fitting.selection import spread_to_classes
from oncoarena.fitting.views import JoinedView, fit_joined_view

FRAMEWORK = "sklearn"
BLOCKS = "all"


@dataclass(frozen=True)
class Config:
    """Hyper-parameters: fixed, as is usual for this baseline."""

    n_trees: int = 500
    """Trees of the forest."""
    min_samples_leaf: int = 1
    """Fewest training samples in a leaf."""


@dataclass(frozen=True)
class Forest:
    """Every node of every tree in one row; ``left`` of a leaf is -1."""

    roots: np.ndarray
    """(n_trees,) row of each tree's first node."""
    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    """A sample goes left where its feature, as float32, is at most this."""
    frequencies: np.ndarray
    """(n_nodes, n_present) class frequencies of the training samples in a node."""
    present: np.ndarray
    """(n_present,) codes of the classes with training samples."""
    n_classes: int
    n_samples: int

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Return the mean class frequencies of the leaves (n_samples, n_classes), float64.

        Parameters: ``x`` (n_samples, n_features) float32.
        """
        node = np.tile(self.roots, (len(x), 1))
        sample = np.arange(len(x))[:, None]
        inner = self.left[node] >= 0
        while inner.any():
            goes_left = x[sample, self.feature[node]] <= self.threshold[node]
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
            inner = self.left[node] >= 0
        known = np.zeros((len(x), len(self.present)))
        for tree in range(len(self.roots)):
            known += self.frequencies[node[:, tree]]
        return spread_to_classes(known / len(self.roots), self.present, self.n_classes, self.n_samples)


@dataclass(frozen=True)
class Predictor:
    """A forest on imputed features; trees need no scaling."""

    view: JoinedView
    forest: Forest

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), float64."""
        return self.forest.predict_proba(self.view.transform(cohort))

    def save(self, directory: Path) -> None:
        """Write ``view.npz`` and ``forest.npz``."""
        np.savez(directory / "view.npz", **self.view.to_arrays())
        arrays = {name: np.asarray(getattr(self.forest, name)) for name in Forest.__dataclass_fields__}
        np.savez(directory / "forest.npz", **arrays)


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    with np.load(Path(directory) / "view.npz") as view, np.load(Path(directory) / "forest.npz") as arrays:
        fields = dict(arrays)
        numbers = {name: int(fields.pop(name)) for name in ("n_classes", "n_samples")}
        return Predictor(JoinedView.from_arrays(dict(view)), Forest(**fields, **numbers))


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Grow the forest; each split looks at the square root of the number of features.

    Parameters: ``train``; ``validation`` and ``device`` are not needed; ``seed`` of bootstrap and splits.
    Returns the predictor.
    Raises NotApplicable without a block.
    """
    view = fit_joined_view(train, "raw")
    model = RandomForestClassifier(
        n_estimators=config.n_trees,
        min_samples_leaf=config.min_samples_leaf,
        max_features="sqrt",
        n_jobs=1,
        random_state=seed,
    ).fit(view.transform(train), train.labels)
    trees = [tree.tree_ for tree in model.estimators_]
    roots = np.concatenate([[0], np.cumsum([tree.node_count for tree in trees])[:-1]])
    left, right = (
        np.concatenate(
            [
                np.where(getattr(tree, side) >= 0, getattr(tree, side) + root, -1)
                for tree, root in zip(trees, roots, strict=True)
            ]
        )
        for side in ("children_left", "children_right")
    )
    counts = np.concatenate([tree.value[:, 0, :] for tree in trees])
    forest = Forest(
        roots=roots,
        left=left,
        right=right,
        # A leaf has no feature; any column will do, its outcome is not used.
        feature=np.maximum(np.concatenate([tree.feature for tree in trees]), 0),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        frequencies=counts / counts.sum(axis=1, keepdims=True),
        present=model.classes_.astype(np.int64),
        n_classes=len(train.classes),
        n_samples=len(train),
    )
    return Predictor(view, forest)
