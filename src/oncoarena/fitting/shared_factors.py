"""Shared factors: the few directions along which most of the variation of a cohort lies, and samples without them.

Batches, cell composition or burden move thousands of features together. Distances between samples then mostly tell
how far these few amounts differ; what is left when they are taken out often says more about the class.
"""

from dataclasses import dataclass

import numpy as np

from oncoarena.fitting.components import Components

# A factor explains at least twice what the largest component of noise alone would.
ABOVE_NOISE = 2.0
# At most a quarter of the components can be factors.
LARGEST_SHARE = 4
# Amounts of a factor have at most this fourth moment (Gaussian 3, a batch of a tenth of the samples 8): one that is
# a single outlying sample is shared by none, and without it that sample's own left-out score would flatter.
HEAVIEST_AMOUNTS = 20.0
# Largest exponent that undoes what the Gaussian kernel makes of a sample's length.
FAR_OUT = 3.0
# A residual below this share of the sample's squared length is rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class SharedFactors:
    """The factors of some training samples, by which any sample's amounts follow from its inner products with them."""

    projection: np.ndarray
    """(n_compared, r): inner products of a sample with the samples compared, times this, are its amounts."""
    amounts: np.ndarray
    """(n_compared, r) of the samples compared."""

    def remove(
        self, linear: np.ndarray, x_squares: np.ndarray, y_squares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Turn inner products and squared lengths into those of the samples without their factors.

        Parameters: ``linear`` (n, n_compared), ``x_squares`` (n,), ``y_squares`` (n_compared,) of centred samples.
        Returns the three in the same shapes.
        """
        amounts = linear @ self.projection
        left = linear - amounts @ self.amounts.T
        return left, _less(x_squares, amounts), _less(y_squares, self.amounts)

    def relations(self, kind: str, squares: np.ndarray, gamma: float) -> np.ndarray | None:
        """Return weights (n_compared, r) with which the samples compared, less their factors, sum to 0 in a kernel.

        The amounts of a factor times what is left of the samples sum to 0; what a kernel makes of each sample's length
        is undone first. So to first order in the inner products, exactly for "linear" and "cosine". None for a kernel
        that takes a sample for its mirror image, where no such sum is 0.

        Parameters: ``kind`` and ``gamma`` of ``kernels.gram``; ``squares`` (n_compared,) squared lengths of the rest.
        """
        if kind == "squared_cosine":
            return None
        if kind == "cosine":
            return self.amounts * np.sqrt(squares)[:, None]
        if kind == "rbf":
            # Of a sample far out no more is made than of one a few times as long as others.
            exponents = gamma * (squares - np.median(squares))
            return self.amounts * np.exp(np.clip(exponents, -FAR_OUT, FAR_OUT))[:, None]
        return self.amounts


def _less(squares: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    left = squares - np.einsum("ij,ij->i", amounts, amounts)
    return np.where(left > ROUNDING * squares, left, 0.0)


def _are_shared(amounts: np.ndarray) -> bool:
    """Tell whether many samples have a part in every factor (n_samples, r)."""
    squares = np.square(amounts, dtype=np.float64)
    fourth = (squares**2).mean(axis=0) / squares.mean(axis=0) ** 2
    return bool((fourth <= HEAVIEST_AMOUNTS).all())


def count_factors(variances: np.ndarray, n_samples: int, n_features: int, total: float | None = None) -> int:
    """Count the factors: where the variance of components, in falling order, falls by the largest ratio.

    They must also stand out of what noise alone gives: the last of them has at least twice the upper edge of the
    Marchenko-Pastur law at the variance of the rest.

    Parameters: ``variances`` (r,) of the principal components of ``n_samples`` with ``n_features``; ``total`` variance
    where these are the leading components only.
    Returns 0 where nothing stands out.
    Sources: eigenvalue ratio, Ahn and Horenstein 2013, doi:10.3982/ECTA8968; edge, Marchenko and Pastur 1967,
    doi:10.1070/SM1967v001n04ABEH001994.
    """
    variances = np.sort(variances)[::-1]
    variances = variances[variances > ROUNDING * variances[:1].sum()]
    n_ratios = len(variances) // LARGEST_SHARE
    if n_ratios == 0:
        return 0
    n_factors = 1 + int(np.argmax(variances[:n_ratios] / variances[1 : n_ratios + 1]))
    noise = ((variances.sum() if total is None else total) - variances[:n_factors].sum()) / n_features
    edge = noise * (1.0 + np.sqrt(n_features / n_samples)) ** 2
    return n_factors if variances[n_factors - 1] >= ABOVE_NOISE * edge else 0


def fit_shared_factors(linear: np.ndarray, n_features: int) -> SharedFactors | None:
    """Find the shared factors of samples by their inner products; None where there are none.

    Parameters: ``linear`` (n, n) inner products of centred samples; ``n_features`` that vary.
    """
    values, vectors = np.linalg.eigh((linear + linear.T) / 2)
    n_factors = count_factors(np.maximum(values, 0.0) / len(linear), len(linear), n_features)
    if n_factors == 0 or not _are_shared(vectors[:, -n_factors:]):
        return None
    root = np.sqrt(values[-n_factors:])
    return SharedFactors(vectors[:, -n_factors:] / root, vectors[:, -n_factors:] * root)


def without_factors(components: Components, n_features: int) -> Components | None:
    """Leave out the components that are shared factors; None where there are none.

    Parameters: ``components`` of a view of unit trace, the leading ones at least; ``n_features`` that vary.
    """
    scores = components.train_scores
    variances = np.einsum("ij,ij->j", scores, scores, dtype=np.float64) / max(len(scores), 1)
    n_factors = count_factors(variances, len(scores), n_features, total=1.0)
    if n_factors == 0 or not _are_shared(scores[:, :n_factors]):
        return None
    return Components(components.mean, components.basis[:, n_factors:], scores[:, n_factors:])
