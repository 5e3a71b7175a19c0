"""What features contribute to a sum of similarities, exactly, at the cost of some products of matrices.

On the way from the training mean (0) to a sample x, the mean gradient of each kernel(x, y) by x is
own * x + pair * y with two numbers a pair of samples; x times it sums over the features to the kernel's gain.
"""

import numpy as np
from scipy.special import erf

from oncoarena.fitting.shared_factors import SharedFactors
from oncoarena.kernels.gram import TILE_VALUES, from_linear, gram


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

    x_squares, y_squares = (
        sum((standardised(values, columns) ** 2).sum(axis=1) for columns in tiles) for values in (x, y)
    )
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
