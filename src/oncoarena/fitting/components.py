"""Principal components through the smaller of the two Gram matrices.

A model that is invariant to rotation (ridge, L2 softmax, a dense first layer) loses nothing when it
sees the components, and its training no longer depends on the number of features.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

# Components below this share of the largest variance are rounding of float32 input.
RELATIVE_VARIANCE_FLOOR = 1e-10
# 64 MiB of float64 a tile.
TILE_VALUES = 2**23


@dataclass(frozen=True)
class Components:
    """Principal components of n training samples: r of them, in order of falling variance."""

    mean: np.ndarray
    """(n_features,) float32."""
    basis: np.ndarray
    """(n_features, r) float32, orthonormal columns."""
    train_scores: np.ndarray
    """(n_samples, r) float64: the training samples in the basis, columns of mean 0."""

    def project(self, x: np.ndarray) -> np.ndarray:
        """Return the scores (n_samples, r) float64 of samples ``x`` (n_samples, n_features)."""
        scores = np.zeros((len(x), self.basis.shape[1]))
        for columns in _tiles(len(x) + self.basis.shape[1], self.basis.shape[0]):
            centred = x[:, columns].astype(np.float64) - self.mean[columns]
            scores += centred @ self.basis[columns].astype(np.float64)
        return scores

    def feature_weights(self, w: np.ndarray) -> np.ndarray:
        """Return weights of features (n_features, k) equal to weights of components ``w`` (r, k)."""
        out = np.empty((len(self.basis), w.shape[1]))
        for features in _tiles(sum(w.shape), len(self.basis)):
            out[features] = self.basis[features].astype(np.float64) @ w
        return out

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``from_arrays`` needs, as arrays for an .npz file."""
        return {"mean": self.mean, "basis": self.basis, "train_scores": self.train_scores}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """Rebuild components from ``to_arrays``."""
        return cls(**{name: np.asarray(arrays[name]) for name in cls.__dataclass_fields__})


def fit_components(x: np.ndarray) -> Components:
    """Find all principal components of training samples with a variance above rounding.

    The eigenvectors come from the samples x samples or the features x features matrix, whichever is
    smaller. The sign of a component is such that its largest training score is positive.

    Parameters: ``x`` (n_samples, n_features), finite.
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
        left, singular = _leading(gram)
        basis = np.empty((n_features, len(singular)), dtype=np.float32)
        for columns in tiles:
            centred = x[:, columns].astype(np.float64) - mean[columns]
            basis[columns] = centred.T @ (left / singular)
        scores = left * singular
    else:
        centred = x.astype(np.float64) - mean
        centred -= centred.mean(axis=0)
        right, singular = _leading(centred.T @ centred)
        basis = right.astype(np.float32)
        scores = centred @ right

    if len(singular):
        largest = np.abs(scores).argmax(axis=0)
        sign = np.sign(scores[largest, np.arange(len(singular))])
        scores = scores * sign
        basis *= sign.astype(np.float32)
    return Components(mean, basis, scores)


def _leading(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors and singular values above rounding, largest first."""
    if gram.shape[0] == 0:
        return np.zeros((0, 0)), np.zeros(0)
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    kept = np.flatnonzero(values > RELATIVE_VARIANCE_FLOOR * max(values[-1], 0.0))[::-1]
    kept = kept[values[kept] > 0]
    return vectors[:, kept], np.sqrt(values[kept])


def _tiles(n_rows: int, n_features: int) -> list[slice]:
    step = max(1, TILE_VALUES // max(n_rows, 1))
    return [slice(start, start + step) for start in range(0, n_features, step)]
