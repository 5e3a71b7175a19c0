"""What features contribute to a sum of similarities, exactly, at the cost of some products of matrices.

On the way from the training mean (0) to a sample x, the mean gradient of each kernel(x, y) by x is
own * x + pair * y with two numbers a pair of samples; x times it sums over the features to the kernel's gain. The
min-max similarity is no inner product: ``min_max_contributions`` shares its gain out another way.
"""

import numpy as np
from scipy.special import erf

from oncoarena.fitting.shared_factors import SharedFactors
from oncoarena.kernels.gram import TILE_VALUES, from_linear, gram, squared_lengths
from oncoarena.kernels.min_max import weighted_gains


def path_gradient(
    linear: np.ndarray, x_squares: np.ndarray, y_squares: np.ndarray, kind: str, gamma: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``own`` and ``pair``, (n, m) float64 both; parameters as in ``kernels.gram.from_linear``.

    "linear" and "cosine" are inner products: a feature has the product of its two values. "arc_cosine" is
    homogeneous of degree 1, so the gradient at x is that of the whole way (Euler). "rbf" is integrated in closed
    form. All are integrated gradients but "cosine" and its square, which do not change on the way once they have left
    0; the square has the cosine times what the cosine has.
    """
    nothing = np.zeros(linear.shape)
    if kind == "linear":
        return nothing, np.ones(linear.shape)
    x_lengths, y_lengths = np.sqrt(x_squares)[:, None], np.sqrt(y_squares)[None, :]
    if kind in ("cosine", "squared_cosine"):
        lengths = x_lengths * y_lengths
        pair = np.divide(1.0, lengths, out=nothing.copy(), where=lengths > 0)
        return nothing, pair if kind == "cosine" else linear * pair**2
    if kind == "arc_cosine":
        cosine = from_linear(linear, x_squares, y_squares, "cosine")
        angle = np.arccos(cosine)
        own = np.divide(y_lengths * np.sin(angle), x_lengths, out=nothing, where=x_lengths > 0)
        return own / np.pi, 1.0 - angle / np.pi
    # exp(-gamma |a x - y|^2) for a from 0 to 1: its integral, and a times it (by parts).
    moved = np.broadcast_to(x_squares[:, None] > 0, linear.shape)
    root = np.sqrt(gamma * x_squares)[:, None]
    nearest = np.divide(linear, x_squares[:, None], out=nothing.copy(), where=moved)
    closest = np.exp(-gamma * np.maximum(y_squares - nearest * linear, 0.0))
    integral = closest * (erf(root * (1.0 - nearest)) + erf(root * nearest)) * np.sqrt(np.pi) / 2.0
    integral = np.divide(integral, root, out=nothing.copy(), where=moved)
    gain = from_linear(linear, x_squares, y_squares, "rbf", gamma) - np.exp(-gamma * y_squares)
    by_place = 2.0 * gamma * linear * integral - gain
    return -np.divide(by_place, x_squares[:, None], out=nothing, where=moved), 2.0 * gamma * integral


def kernel_contributions(
    x: np.ndarray,
    y: np.ndarray,
    coefficients: dict[str, np.ndarray],
    *,
    gamma: float,
    centre: np.ndarray,
    scale: np.ndarray,
    factors: SharedFactors | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """Attribute the sum over kernels and ``y`` of similarity x coefficient to the features of ``x``.

    Parameters: ``x`` (n, p) and ``y`` (m, p), ``gamma``, ``centre``, ``scale`` and ``device`` as in
    ``kernels.gram.gram``; ``coefficients`` kernel -> (m,); ``factors`` of ``y``, taken out of both before they are
    compared.
    Returns (n, p) float32; a row sums to what the kernels give for the sample less what they give for ``centre``.
    """
    (linear,) = gram(x, y, centre=centre, scale=scale, device=device)
    step = max(1, TILE_VALUES // max(len(x) + len(y), 1))
    tiles = [slice(start, start + step) for start in range(0, x.shape[1], step)]

    def standardised(values: np.ndarray, columns: slice) -> np.ndarray:
        return (values[:, columns].astype(np.float64) - centre[columns]) * scale[columns]

    x_squares, y_squares = (squared_lengths(samples, centre=centre, scale=scale) for samples in (x, y))
    compared = linear, x_squares, y_squares
    if factors is not None:
        compared = factors.remove(*compared)
    own, pair = np.zeros(len(x)), np.zeros(linear.shape)
    for kind, of_samples in coefficients.items():
        by_own, by_pair = path_gradient(*compared, kind, gamma)
        own += by_own @ of_samples
        pair += by_pair * of_samples
    out = np.empty(x.shape, dtype=np.float32)
    for columns in tiles:
        x_tile, y_tile = standardised(x, columns), standardised(y, columns)
        gradient = own[:, None] * x_tile + pair @ y_tile
        if factors is not None:
            # The factors' directions are y_tile.T @ projection; x and y lose their amounts along them.
            amounts = own[:, None] * (linear @ factors.projection) + pair @ factors.amounts
            gradient -= amounts @ (y_tile.T @ factors.projection).T
        out[:, columns] = x_tile * gradient
    return out


def min_max_contributions(
    x: np.ndarray,
    start: np.ndarray,
    y: np.ndarray,
    similarities: np.ndarray,
    start_similarities: np.ndarray,
    coefficients: np.ndarray,
    *,
    compared_are_sets: bool = False,
) -> np.ndarray:
    """Attribute the sum over ``y`` of min-max similarity x coefficient to the features of ``x``.

    A similarity is the smaller values over the larger ones, S / L, and both are sums over features. From ``start`` to
    ``x`` it gains (S - S0) x the mean of 1 / L and 1 / L0, and (1 / L - 1 / L0) x the mean of S and S0: the Shapley
    values of the two (doi:10.1515/9781400881970-018), each shared among the features by their part in S - S0 and
    L - L0. An integral along a straight path would have as many kinks as there are features.

    Parameters: ``x`` (n, p) and ``y`` (m, p), ``start`` (p,), not negative; ``similarities`` (n, m) of ``x`` and
    ``start_similarities`` (1, m); ``coefficients`` (m,); ``compared_are_sets`` whether ``y`` is 0 or 1 and the
    others are from 0 to 1: then a product of matrices does it.
    Returns (n, p) float32; a row sums to what the similarities give for the sample less what they give for ``start``.
    """
    of_x, of_start, of_y = (samples.sum(axis=1, dtype=np.float64) for samples in (x, start[None], y))
    # S + L is the total of both samples.
    larger = (of_x[:, None] + of_y) / (1.0 + similarities)
    start_larger = (of_start[:, None] + of_y) / (1.0 + start_similarities)
    smaller_sum = similarities * larger + start_similarities * start_larger
    either_empty = (larger == 0) | (start_larger == 0)
    # Two empty samples are alike by definition: what they lack is what makes them so.
    product = np.where(either_empty, 1.0, 2.0 * larger * start_larger)
    total = larger + start_larger
    by_smaller = np.where(either_empty, 0.0, total / product) * coefficients
    by_larger = (
        np.where(either_empty, 1.0 / np.where(total > 0, total, 1.0), smaller_sum / product) * coefficients
    )
    # The larger value gains what x gains, less what the smaller value gains.
    weights, of_gain = by_smaller + by_larger, by_larger.sum(axis=1, keepdims=True)
    if not compared_are_sets:
        return weighted_gains(x, start, y, weights) - np.float32(of_gain * (x - start))
    out = np.empty(x.shape, dtype=np.float32)
    step = max(1, TILE_VALUES // max(len(x) + len(y), 1))
    for first in range(0, x.shape[1], step):
        columns = slice(first, first + step)
        # The smaller of 0 or 1 and a value up to 1 is their product.
        out[:, columns] = (x[:, columns] - start[columns]) * (weights @ y[:, columns] - of_gain)
    return out
