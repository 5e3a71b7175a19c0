"""Principal components through the smaller of the two Gram matrices.

A model that is invariant to rotation (ridge, L2 softmax, a dense first layer) loses nothing when it
sees the components, and its training no longer depends on the number of features.
Where samples and features are both many, the directions are those of landmark samples (the Nystroem approximation:
Williams and Seeger 2001, NeurIPS 13) and the variances those of all.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from oncoarena.cohort import Cohort
from oncoarena.fitting.tiles import MANY_SAMPLES
from oncoarena.fitting.views import JoinedView
from oncoarena.mapped import large_array, release

# Components below this share of the largest variance are rounding of float32 input.
RELATIVE_VARIANCE_FLOOR = 1e-10
# 64 MiB of float64 a tile.
TILE_VALUES = 2**23
# Side of a Gram matrix at most: its eigenvectors take the cube of it, some 20 s.
EXACT_SIDE = 4096
# Samples that stand for all where both sides are longer than that.
N_LANDMARKS = 2048


@dataclass(frozen=True)
class Components:
    """Principal components of n training samples: r of them, in order of falling variance."""

    mean: np.ndarray
    """(n_features,) float32."""
    basis: np.ndarray
    """(n_features, r) float32, orthonormal columns; a large one is a memory map of a scratch file."""
    train_scores: np.ndarray
    """(n_samples, r): the training samples in the basis, columns of mean 0; float32 of very many, else float64."""

    def project(self, x: np.ndarray) -> np.ndarray:
        """Return the scores (n_samples, r) float64 of samples ``x`` (n_samples, n_features)."""
        scores = np.zeros((len(x), self.basis.shape[1]))
        for columns in _tiles(len(x) + self.basis.shape[1], self.basis.shape[0]):
            centred = x[:, columns].astype(np.float64) - self.mean[columns]
            scores += centred @ self.basis[columns].astype(np.float64)
            release(self.basis)
        return scores

    def feature_weights(self, w: np.ndarray) -> np.ndarray:
        """Return weights of features (n_features, k) equal to weights of components ``w`` (r, k)."""
        out = np.empty((len(self.basis), w.shape[1]))
        for features in _tiles(sum(w.shape), len(self.basis)):
            out[features] = self.basis[features].astype(np.float64) @ w
            release(self.basis)
        return out

    def save(self, path: Path) -> None:
        """Write an .npz file of ``to_arrays``."""
        np.savez(path, **self.to_arrays())
        release(self.basis)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``from_arrays`` needs, as arrays for an .npz file."""
        return {"mean": self.mean, "basis": self.basis, "train_scores": self.train_scores}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """Rebuild components from ``to_arrays``."""
        return cls(**{name: np.asarray(arrays[name]) for name in cls.__dataclass_fields__})


def fit_components(x: np.ndarray, max_components: int | None = None) -> Components:
    """Fit the principal components of training samples.

    The sign of a component is such that its largest training score is positive.

    Parameters: ``x`` (n_samples, n_features), finite; ``max_components`` how many to keep, those of largest
    variance; None keeps all.
    Returns the components; r is at most min(n_samples - 1, n_features), and may be 0.
    """
    n_samples, n_features = x.shape
    mean = np.zeros(n_features, dtype=np.float32)
    tiles = _tiles(n_samples, n_features)
    for columns in tiles:
        mean[columns] = x[:, columns].mean(axis=0, dtype=np.float64)

    if n_samples <= n_features:
        gram = np.zeros((n_samples, n_samples))
        for columns in tiles:
            centred = x[:, columns].astype(np.float64) - mean[columns]
            gram += centred @ centred.T
        # What float32 rounding of the means left.
        gram -= gram.mean(axis=0)
        gram -= gram.mean(axis=1, keepdims=True)
        left, singular = _leading(gram, max_components)
        scores = left * singular
        sign = _signs(scores)
        basis = large_array((n_features, len(singular)))
        for columns in tiles:
            centred = x[:, columns].astype(np.float64) - mean[columns]
            basis[columns] = (centred.T @ (left / singular)) * sign
            release(basis)
    else:
        centred = x.astype(np.float64) - mean
        centred -= centred.mean(axis=0)
        right, singular = _leading(centred.T @ centred, max_components)
        scores = centred @ right
        sign = _signs(scores)
        basis = (right * sign).astype(np.float32)
    return Components(mean, basis, scores * sign)


def fit_view_components(
    view: JoinedView, cohort: Cohort, max_components: int, rng: np.random.Generator
) -> Components:
    """Fit the leading principal components of a view of its own training part, whatever the number of samples.

    Up to ``tiles.MANY_SAMPLES`` samples, and ``EXACT_SIDE`` of them or of features, as ``fit_components``. Beyond,
    the samples pass by in tiles: of few features the components are exact; of many they are those of
    ``N_LANDMARKS`` samples drawn by ``rng``, turned so that they are uncorrelated over all samples.
    """
    n_samples, n_features = len(cohort), view.n_features
    if n_samples <= MANY_SAMPLES and min(n_samples, n_features) <= EXACT_SIDE:
        return fit_components(view.transform(cohort), max_components)
    # A view is centred on its training part, so the mean of its features is 0.
    mean = np.zeros(n_features, dtype=np.float32)
    if n_features <= EXACT_SIDE:
        moment = np.zeros((n_features, n_features))
        for _, x in view.tiles(cohort):
            x = x.astype(np.float64)
            moment += x.T @ x
        basis = _leading(moment, max_components)[0]
    else:
        landmarks = np.sort(rng.choice(n_samples, N_LANDMARKS, replace=False))
        basis = fit_components(view.transform(cohort.take(landmarks)), max_components).basis
    basis = np.asarray(basis, np.float32)
    scores = np.empty((n_samples, basis.shape[1]), dtype=np.float32)
    for rows, x in view.tiles(cohort):
        np.matmul(x, basis, out=scores[rows])
        release(basis)
    step = max(1, TILE_VALUES // max(basis.shape[1], 1))
    parts = [slice(first, first + step) for first in range(0, n_samples, step)]
    turn, _ = _leading(sum(scores[rows].astype(np.float64).T @ scores[rows] for rows in parts))
    largest = np.zeros((2, turn.shape[1]))
    for rows in parts:
        turned = scores[rows].astype(np.float64) @ turn
        scores[rows, : turn.shape[1]] = turned
        largest = np.maximum(largest, [turned.max(axis=0), -turned.min(axis=0)])
    sign = np.where(largest[0] >= largest[1], 1.0, -1.0)
    scores = scores[:, : turn.shape[1]]
    scores *= sign.astype(np.float32)
    turned_basis = large_array((n_features, turn.shape[1]))
    for features in _tiles(sum(turn.shape), n_features):
        turned_basis[features] = basis[features].astype(np.float64) @ (turn * sign)
        release(basis)
        release(turned_basis)
    return Components(mean, turned_basis, scores)


def _signs(scores: np.ndarray) -> np.ndarray:
    """Signs (r,) that make the largest score of each component positive."""
    return np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])])


def _leading(gram: np.ndarray, n_most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors and singular values above rounding, largest first, ``n_most`` of them at most."""
    if gram.shape[0] == 0:
        return np.zeros((0, 0)), np.zeros(0)
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    kept = np.flatnonzero(values > RELATIVE_VARIANCE_FLOOR * max(values[-1], 0.0))[::-1]
    kept = kept[values[kept] > 0][:n_most]
    return vectors[:, kept], np.sqrt(values[kept])


def _tiles(n_rows: int, n_features: int) -> list[slice]:
    step = max(1, TILE_VALUES // max(n_rows, 1))
    return [slice(start, start + step) for start in range(0, n_features, step)]
