"""Whether values go missing in one class more than in another."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MissingByClass:
    """What goes missing by class in each of several quantities."""

    rates: np.ndarray
    """(n_classes, n_quantities) share missing."""
    p_values: np.ndarray
    """(n_quantities,) corrected for their number."""


def missing_by_class(
    missing: np.ndarray, labels: np.ndarray, n_classes: int, n_permutations: int, rng: np.random.Generator
) -> MissingByClass:
    """Test each quantity's missing rate for a tie with the label, by permuting the labels of patients.

    The statistic is the share of variance between classes, for a quantity that is there or not the chi-square
    statistic of its table over n. p values come from the largest of all quantities in each
    permutation, so they are corrected for their number and right with small counts.
    Parameters: ``missing`` (n_patients, n_quantities) share missing in 0 to 1; ``labels`` (n_patients,).
    Source: Westfall and Young 1993, ISBN 978-0-471-55761-6; p: Phipson and Smyth 2010,
    doi:10.2202/1544-6115.1585.
    """
    sizes = np.bincount(labels, minlength=n_classes).astype(np.float64)
    mean = missing.mean(0, dtype=np.float64)
    centred = np.asarray(missing, dtype=np.float32) - mean.astype(np.float32)
    spread = np.maximum((centred**2).sum(0, dtype=np.float64), 1e-12)
    hot = np.eye(n_classes, dtype=np.float32)[labels]  # (n_patients, n_classes)
    share = 1 / np.maximum(sizes, 1)

    def tie(given: np.ndarray) -> np.ndarray:
        return (share[:, None] * (given.T @ centred).astype(np.float64) ** 2).sum(0) / spread

    observed = tie(hot)
    largest = np.array([tie(hot[rng.permutation(len(hot))]).max(initial=0) for _ in range(n_permutations)])
    # The allowance forgives float32 sums taken in another order.
    beaten = (largest[None, :] >= observed[:, None] - 1e-5).sum(1)
    rates = (hot.T.astype(np.float64) @ missing) * share[:, None]
    return MissingByClass(rates, (1 + beaten) / (n_permutations + 1))
