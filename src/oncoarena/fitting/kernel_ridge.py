"""Kernel ridge in closed form, with exact scores of every group (patient) that was left out.

Exact up to some thousand samples; beyond, the Nystroem approximation (Williams and Seeger 2001, NeurIPS 13): a sample
is described by its similarity to some landmark samples, and the leave-group-out scores are exact for that model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

# Directions below this share of the largest eigenvalue are rounding of float32 input.
RELATIVE_VARIANCE_FLOOR = 1e-9
# A class weighs as if it had this many more samples, so that an empty one keeps a probability.
PRIOR_COUNT = 0.5

Fit = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Landmarks:
    """Samples described by their similarity to m landmark samples."""

    features: np.ndarray
    """(n_samples, r): their inner products approximate the kernel."""
    from_kernel: np.ndarray
    """(m, r): features of a sample x are kernel(x, landmarks) @ from_kernel."""

    def over(self, factor: float) -> "Landmarks":
        """Describe by the kernel divided by ``factor``."""
        root = np.sqrt(factor)
        return Landmarks(self.features / root, self.from_kernel * root)


def describe_by_landmarks(kernel: np.ndarray, rows: np.ndarray) -> Landmarks:
    """Turn similarities to landmarks (n_samples, m) into features; landmark j is sample ``rows[j]``."""
    among = kernel[rows]
    values, vectors = np.linalg.eigh((among + among.T) / 2)
    kept = values > RELATIVE_VARIANCE_FLOOR * max(values[-1], 0.0)
    from_kernel = vectors[:, kept] / np.sqrt(values[kept])
    return Landmarks(kernel @ from_kernel, from_kernel)


def deal_landmarks(labels: np.ndarray, n_landmarks: int, rng: np.random.Generator) -> np.ndarray:
    """Draw landmark samples class by class in turn, so that a rare class has its share.

    Returns (at most n_landmarks,) rising positions.
    """
    shuffled = rng.permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for code in np.unique(labels):
        members = shuffled[labels[shuffled] == code]
        turn[members] = np.arange(len(members))
    return np.sort(shuffled[np.argsort(turn[shuffled], kind="stable")][:n_landmarks])


def ridge_path(
    kernel: np.ndarray | Landmarks,
    targets: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray,
    penalties: tuple[float, ...],
) -> Iterator[Fit]:
    """Solve weighted kernel ridge with a free intercept for each penalty, with leave-group-out scores.

    Minimises the sum of weights x squared residuals + penalty x squared length. One eigenvalue
    decomposition of the weighted, centred kernel serves all penalties. With the hat matrix H in the
    coordinates sqrt(weight) x target, the residuals of a group g that was left out are
    (I - H_gg)^-1 r_g, exactly those of a refit without the group.

    Parameters: ``kernel`` (n, n), or landmarks; ``targets`` (n, k); ``weights`` (n,) positive; ``groups`` (n,)
    group codes from 0; ``penalties`` positive.
    Yields for each penalty: coefficients (n, k), or (m, k) of the landmarks; constant (k,): the fitted target of
    a sample x is kernel(x, train) @ coefficients - constant + weighted mean target; leave-group-out scores
    (n, k), less the weighted mean target that the group did not see.
    """
    total = weights.sum()
    share = weights / total
    root = np.sqrt(weights)
    mean = share @ targets
    response = root[:, None] * (targets - mean)
    decompose = _decompose_landmarks if isinstance(kernel, Landmarks) else _decompose
    values, vectors, coefficients_of = decompose(kernel, share, root)
    rotated = vectors.T @ response

    batches = _groups_by_size(groups)
    group_weight = np.bincount(groups, weights)[groups]
    group_sum = np.zeros((groups.max() + 1, targets.shape[1]))
    np.add.at(group_sum, groups, weights[:, None] * targets)
    unseen_mean = (total * mean - group_sum[groups]) / (total - group_weight)[:, None]

    for penalty in penalties:
        residual = response - vectors @ (rotated * (values / (values + penalty))[:, None])
        left_out = np.empty_like(residual)
        for members in batches:
            # members (groups of one size, size)
            basis = vectors[members]
            hat = (basis * (values / (values + penalty))) @ basis.transpose(0, 2, 1)
            hat += root[members][:, :, None] * root[members][:, None, :] / total
            left_out[members] = np.linalg.solve(np.eye(members.shape[1]) - hat, residual[members])
        scores = targets - left_out / root[:, None] - unseen_mean
        yield *coefficients_of(rotated / (values + penalty)[:, None]), scores


Coefficients = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _decompose(
    kernel: np.ndarray, share: np.ndarray, root: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Coefficients]:
    """Eigenvalues and vectors of the weighted, centred kernel; coefficients from rotated / (values + penalty)."""
    towards_mean = kernel @ share
    centred = kernel - towards_mean[:, None] - towards_mean[None, :] + share @ towards_mean
    values, vectors = np.linalg.eigh(root[:, None] * centred * root)

    def coefficients_of(shrunken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        alpha = root[:, None] * (vectors @ shrunken)
        coefficients = alpha - share[:, None] * alpha.sum(axis=0)
        return coefficients, towards_mean @ coefficients

    return np.maximum(values, 0.0), vectors, coefficients_of


def _decompose_landmarks(
    landmarks: Landmarks, share: np.ndarray, root: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Coefficients]:
    """The same for the kernel that the landmarks imply, without its eigenvalues of 0."""
    towards_mean = share @ landmarks.features
    weighted = root[:, None] * (landmarks.features - towards_mean)
    values, right = np.linalg.eigh(weighted.T @ weighted)
    kept = values > RELATIVE_VARIANCE_FLOOR * max(values[-1], 0.0)
    values, right = values[kept], right[:, kept]

    def coefficients_of(shrunken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_features = right @ (np.sqrt(values)[:, None] * shrunken)
        return landmarks.from_kernel @ of_features, towards_mean @ of_features

    return values, weighted @ (right / np.sqrt(values)), coefficients_of


def _groups_by_size(groups: np.ndarray) -> list[np.ndarray]:
    """Sort the samples of equally large groups into arrays (n_groups, size) of positions."""
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    sizes = sorted({len(group) for group in members})
    return [np.stack([group for group in members if len(group) == size]) for size in sizes]


def sample_weights(targets: np.ndarray, weighting: str) -> np.ndarray:
    """Return the weight of each sample (n,), of mean 1.

    Parameters: ``targets`` (n, n_classes) one-hot; ``weighting`` "uniform" or "balanced".
    Raises ValueError for another weighting.
    """
    if weighting == "uniform":
        return np.ones(len(targets))
    if weighting != "balanced":
        raise ValueError(f'unknown class weights {weighting!r}: expected "uniform" or "balanced"')
    counts = targets.sum(axis=0)
    return len(targets) / (np.count_nonzero(counts) * (targets @ counts))


def leave_group_out_log_prior(targets: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the log class frequencies (n, n_classes) that each sample's own group did not see.

    Parameters: ``targets`` (n, n_classes) one-hot; ``groups`` (n,) group codes from 0.
    """
    per_group = np.zeros((groups.max() + 1, targets.shape[1]))
    np.add.at(per_group, groups, targets)
    counts = targets.sum(axis=0) - per_group[groups] + PRIOR_COUNT
    return np.log(counts / counts.sum(axis=1, keepdims=True))
