"""Kernel ridge in closed form, with exact scores of every group (patient) that was left out.

Exact up to some thousand samples; beyond, the Nystroem approximation (Williams and Seeger 2001, NeurIPS 13): a sample
is described by its similarity to some landmark samples, and the leave-group-out scores are exact for that model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from oncoarena.fitting.tiles import row_tiles
from oncoarena.mapped import large_array, release, take_rows

# Directions below this share of the largest eigenvalue are rounding of float32 input.
RELATIVE_VARIANCE_FLOOR = 1e-9
# Relations that differ by less than this share of their length are one: a block's views share most of a factor.
SAME_RELATION = 0.3
# Columns for relations, at most one for so many samples.
MOST_RELATIONS = 4
# A class weighs as if it had this many more samples, so that an empty one keeps a probability.
PRIOR_COUNT = 0.5

Fit = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class RowKernel:
    """Similarities of many samples to the landmarks, computed for some samples at a time and never all at once."""

    n_samples: int
    rows: Callable[[np.ndarray | slice], np.ndarray]
    """Positions of samples -> (their number, m) float64, a fresh array."""

    def __add__(self, other: "RowKernel") -> "RowKernel":
        return RowKernel(self.n_samples, lambda rows: self.rows(rows) + other.rows(rows))

    def __truediv__(self, divisor: float) -> "RowKernel":
        return RowKernel(self.n_samples, lambda rows: self.rows(rows) / divisor)


@dataclass(frozen=True)
class Landmarks:
    """Samples described by their similarity to m landmark samples."""

    features: np.ndarray
    """(n_samples, r): their inner products approximate the kernel; of very many samples a map of a scratch file."""
    from_kernel: np.ndarray
    """(m, r): features of a sample x are kernel(x, landmarks) @ from_kernel."""

    def divide(self, divisor: float) -> None:
        """Describe, in place, the kernel divided by ``divisor``."""
        root = np.sqrt(divisor)
        np.multiply(self.from_kernel, root, out=self.from_kernel)
        for rows in row_tiles(*self.features.shape):
            self.features[rows] /= root
            release(self.features)


def describe_by_landmarks(kernel: np.ndarray | RowKernel, landmarks: np.ndarray) -> Landmarks:
    """Turn similarities to landmarks (n_samples, m) into features; landmark j is sample ``landmarks[j]``."""
    rows_of = kernel.rows if isinstance(kernel, RowKernel) else kernel.__getitem__
    n_samples = kernel.n_samples if isinstance(kernel, RowKernel) else len(kernel)
    among = rows_of(landmarks)
    values, vectors = np.linalg.eigh((among + among.T) / 2)
    kept = values > RELATIVE_VARIANCE_FLOOR * max(values[-1], 0.0)
    from_kernel = vectors[:, kept] / np.sqrt(values[kept])
    features = large_array((n_samples, from_kernel.shape[1]), np.float64)
    for rows in row_tiles(n_samples, len(landmarks)):
        np.matmul(rows_of(rows), from_kernel, out=features[rows])
        release(features)
    return Landmarks(features, from_kernel)


def spread(kernel: np.ndarray | Landmarks) -> tuple[float, float]:
    """Return the mean squared length of the samples in the space of the kernel: from 0, and from their mean."""
    if not isinstance(kernel, Landmarks):
        length = float(np.trace(kernel) / len(kernel))
        return length, length - float(kernel.mean())
    squares, total = 0.0, np.zeros(kernel.features.shape[1])
    for rows in row_tiles(*kernel.features.shape):
        x = np.array(kernel.features[rows])
        squares += np.vdot(x, x)
        total += x.sum(axis=0)
        release(kernel.features)
    n_samples = len(kernel.features)
    return squares / n_samples, squares / n_samples - float(np.square(total / n_samples).sum())


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
    relations: np.ndarray | None = None,
) -> Iterator[Fit]:
    """Solve weighted kernel ridge with a free intercept for each penalty, with leave-group-out scores.

    Minimises the sum of weights x squared residuals + penalty x squared length. One eigenvalue
    decomposition of the weighted, centred kernel serves all penalties. With the hat matrix H in the
    coordinates sqrt(weight) x target, the residuals of a group g that was left out are
    (I - H_gg)^-1 r_g, exactly those of a refit without the group.

    ``relations`` (n, q) are sums of samples that the kernel makes 0, as the amounts of a factor that was taken out of
    them do. By such a sum the samples that are left tell where the one that was left out lies: where the labels happen
    to sum to 0 too (a batch with as many of each class as any other) they would also tell its label, however the
    features look. So the relations are columns without penalty beside the kernel, with coefficients that each group
    that is left out has not seen; what these columns give is in no score.

    Parameters: ``kernel`` (n, n), or landmarks; ``targets`` (n, k); ``weights`` (n,) positive; ``groups`` (n,)
    group codes from 0; ``penalties`` positive; ``relations`` see above.
    Yields for each penalty: coefficients (n, k), or (m, k) of the landmarks; constant (k,): the fitted target of
    a sample x is kernel(x, train) @ coefficients - constant + weighted mean target; leave-group-out scores
    (n, k), less the weighted mean target that the group did not see.
    """
    total = weights.sum()
    root = np.sqrt(weights)
    mean = weights @ targets / total
    response = root[:, None] * (targets - mean)
    free = _free_columns(relations, root)
    decompose = _decompose_landmarks if isinstance(kernel, Landmarks) else _decompose
    of_free = free.T @ response
    path = decompose(kernel, weights / total, root, response - free @ of_free, free)
    shrinkages = np.array([path.values / (path.values + penalty) for penalty in penalties])

    group_weight = np.bincount(groups, weights)[groups]
    group_sum = np.zeros((groups.max() + 1, targets.shape[1]))
    np.add.at(group_sum, groups, weights[:, None] * targets)
    unseen_mean = (total * mean - group_sum[groups]) / (total - group_weight)[:, None]
    # The same of the free columns, whose weighted mean over all samples is 0.
    free_sum = np.zeros((groups.max() + 1, free.shape[1]))
    np.add.at(free_sum, groups, root[:, None] * free)
    free_place = free / root[:, None] + free_sum[groups] / (total - group_weight)[:, None]

    scores = np.empty((len(penalties), *targets.shape))
    for members in _batches(groups, len(path.values)):
        # members (groups of one size, size)
        basis = path.vectors_of(members.ravel())
        fitted = basis @ (shrinkages[:, None] * path.rotated.T).reshape(-1, len(path.values)).T
        residuals = response[members] - np.moveaxis(fitted.reshape(*members.shape, len(penalties), -1), 2, 0)
        residuals -= free[members] @ of_free
        unpenalised = np.concatenate([root[members][:, :, None] / np.sqrt(total), free[members]], axis=2)
        left_out = _left_out(basis.reshape(*members.shape, -1), shrinkages, unpenalised, residuals)
        unseen_free = of_free - free[members].transpose(0, 2, 1) @ left_out  # (n_penalties, n_groups, q, k)
        scores[:, members] = targets[members] - left_out / root[members][:, :, None] - unseen_mean[members]
        scores[:, members] -= free_place[members] @ unseen_free
    for penalty, of_penalty in zip(penalties, scores, strict=True):
        yield *path.coefficients_of(path.rotated / (path.values + penalty)[:, None]), of_penalty.copy()


def _free_columns(relations: np.ndarray | None, root: np.ndarray) -> np.ndarray:
    """Orthonormal columns (n, q) that span the relations among the samples times ``root``, and none of ``root``."""
    if relations is None:
        return np.zeros((len(root), 0))
    columns = relations / np.linalg.norm(relations, axis=0) / root[:, None]
    columns -= root[:, None] * (root @ columns) / (root @ root)
    vectors, lengths, _ = np.linalg.svd(columns, full_matrices=False)
    n_kept = min(int((lengths > SAME_RELATION).sum()), len(root) // MOST_RELATIONS)
    return vectors[:, :n_kept]


def _left_out(
    basis: np.ndarray, shrinkages: np.ndarray, unpenalised: np.ndarray, residuals: np.ndarray
) -> np.ndarray:
    """Residuals (n_penalties, n_groups, size, k) of groups of one size once they are left out.

    Parameters: ``basis`` (n_groups, size, r); ``shrinkages`` (n_penalties, r); ``unpenalised`` (n_groups, size, q).
    """
    own = unpenalised @ unpenalised.transpose(0, 2, 1)
    if basis.shape[1] == 1:
        hats = shrinkages @ np.square(basis[:, 0]).T
        return residuals / (1.0 - hats[:, :, None, None] - own)
    across, one = basis.transpose(0, 2, 1), np.eye(basis.shape[1])
    hats = ((basis * shrinkage) @ across + own for shrinkage in shrinkages)
    return np.stack([np.linalg.solve(one - hat, of) for hat, of in zip(hats, residuals, strict=True)])


@dataclass(frozen=True)
class _Decomposed:
    """The weighted, centred kernel by its eigenvalues."""

    values: np.ndarray
    """(r,) not negative."""
    vectors_of: Callable[[np.ndarray], np.ndarray]
    """Positions of samples -> their rows of the eigenvectors, (n, r)."""
    rotated: np.ndarray
    """(r, k): eigenvectors.T @ response."""
    coefficients_of: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    """rotated / (values + penalty) -> coefficients and constant."""


def _decompose(
    kernel: np.ndarray, share: np.ndarray, root: np.ndarray, response: np.ndarray, free: np.ndarray
) -> _Decomposed:
    towards_mean = kernel @ share
    centred = kernel - towards_mean[:, None] - towards_mean[None, :] + share @ towards_mean
    weighted = root[:, None] * centred * root
    if free.shape[1]:
        weighted -= free @ (free.T @ weighted)
        weighted -= (weighted @ free) @ free.T
    values, vectors = np.linalg.eigh(weighted)

    def coefficients_of(shrunken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        alpha = root[:, None] * (vectors @ shrunken)
        coefficients = alpha - share[:, None] * alpha.sum(axis=0)
        return coefficients, towards_mean @ coefficients

    return _Decomposed(np.maximum(values, 0.0), vectors.__getitem__, vectors.T @ response, coefficients_of)


def _decompose_landmarks(
    landmarks: Landmarks, share: np.ndarray, root: np.ndarray, response: np.ndarray, free: np.ndarray
) -> _Decomposed:
    """The same for the kernel that the landmarks imply, without its eigenvalues of 0."""
    features = landmarks.features
    n_samples, n_features = features.shape
    towards_mean = np.zeros(n_features)
    for rows in row_tiles(n_samples, n_features):
        towards_mean += share[rows] @ features[rows]
        release(features)
    # The mean has no part in the free columns, as they have none in it.
    along_free = np.zeros((free.shape[1], n_features))
    for rows in row_tiles(n_samples, n_features) if free.shape[1] else ():
        along_free += (free[rows] * root[rows, None]).T @ features[rows]
        release(features)

    def weighted(rows: np.ndarray | slice) -> np.ndarray:
        x = (features[rows] if isinstance(rows, slice) else take_rows(features, rows)) - towards_mean
        release(features)
        x *= root[rows, None]
        x -= free[rows] @ along_free
        return x

    moment, along = np.zeros((n_features, n_features)), np.zeros((n_features, response.shape[1]))
    for rows in row_tiles(n_samples, n_features):
        x = weighted(rows)
        moment += x.T @ x
        along += x.T @ response[rows]
    values, right = np.linalg.eigh(moment)
    kept = values > RELATIVE_VARIANCE_FLOOR * max(values[-1], 0.0)
    values, right = values[kept], right[:, kept]
    to_vectors = right / np.sqrt(values)

    def coefficients_of(shrunken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_features = right @ (np.sqrt(values)[:, None] * shrunken)
        return landmarks.from_kernel @ of_features, towards_mean @ of_features

    return _Decomposed(
        values, lambda rows: weighted(rows) @ to_vectors, to_vectors.T @ along, coefficients_of
    )


def _batches(groups: np.ndarray, n_values: int) -> Iterator[np.ndarray]:
    """Sort the samples of equally large groups into arrays (n_groups, size) of positions, of bounded size."""
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    for size in sorted({len(group) for group in members}):
        of_size = np.stack([group for group in members if len(group) == size])
        # In the order of the samples, which are read from a file where there are very many.
        of_size = of_size[np.argsort(of_size[:, 0])]
        for some in row_tiles(len(of_size), size * n_values):
            yield of_size[some]


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
