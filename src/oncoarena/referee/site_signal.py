"""Whether features know the site, beyond what they know through the label."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from oncoarena.referee.pieces import standardise
from oncoarena.splits import deal_folds


@dataclass(frozen=True)
class SiteSignal:
    """How well the site is predicted, and what the label alone lets one expect."""

    auroc: float
    expected: float
    """Mean over permutations of the site within classes."""
    p_value: float


def cramers_v(a: np.ndarray, b: np.ndarray) -> float:
    """Measure how closely two groupings are tied, 0 to 1, corrected for bias; NaN where one is constant.

    Parameters: ``a`` and ``b`` (n,) codes.
    Source: Bergsma 2013, doi:10.1016/j.jkss.2012.10.002.
    """
    table = pd.crosstab(a, b).to_numpy(dtype=np.float64)
    n, (n_rows, n_columns) = table.sum(), table.shape
    if n < 2 or min(n_rows, n_columns) < 2:
        return np.nan
    expected = np.outer(table.sum(1), table.sum(0)) / n
    phi = ((table - expected) ** 2 / expected).sum() / n
    phi = max(0.0, phi - (n_rows - 1) * (n_columns - 1) / (n - 1))
    rows = n_rows - (n_rows - 1) ** 2 / (n - 1)
    columns = n_columns - (n_columns - 1) ** 2 / (n - 1)
    return float(np.sqrt(phi / max(min(rows, columns) - 1, 1e-12)))


def association_p(a: np.ndarray, b: np.ndarray, n_permutations: int, rng: np.random.Generator) -> float:
    """Test whether two groupings are tied, by permuting one: p of the chi-square statistic.

    Source: p value as Phipson and Smyth 2010, doi:10.2202/1544-6115.1585.
    """
    n_b = int(b.max()) + 1
    size = (int(a.max()) + 1) * n_b
    sums = np.bincount(a), np.bincount(b)
    weight = 1 / np.maximum(np.outer(*sums), 1).ravel()

    def statistic(given: np.ndarray) -> float:
        # With margins fixed the chi-square statistic rises with this sum alone.
        return float((np.bincount(a * n_b + given, minlength=size) ** 2 * weight).sum())

    observed = statistic(b)
    drawn = [statistic(rng.permutation(b)) for _ in range(n_permutations)]
    return (1 + sum(value >= observed - 1e-12 for value in drawn)) / (n_permutations + 1)


def site_signal(
    values: np.ndarray, sites: np.ndarray, labels: np.ndarray, n_permutations: int, rng: np.random.Generator
) -> SiteSignal:
    """Predict the site of each patient from the features of others.

    Kernel ridge regression on all components of the training part, penalty the mean eigenvalue, in
    five folds stratified by label; standardisation inside. The null permutes sites within classes, so a site that
    is known only because it sends one kind of tumour gives no small p value.
    Parameters: ``values`` (n_patients, n_features), one row a patient; ``sites`` and ``labels``
    (n_patients,) codes from 0.
    Source: permutation within strata, Winkler 2015, doi:10.1016/j.neuroimage.2015.05.092.
    """
    n_sites = int(sites.max()) + 1
    drawn = np.stack([sites, *(_permute_within(sites, labels, rng) for _ in range(n_permutations))], axis=1)
    truth = drawn[:, :, None] == np.arange(n_sites)  # (n_patients, 1 + n_permutations, n_sites)
    flat = truth.reshape(len(sites), -1).astype(np.float64)
    scores = np.empty_like(flat)
    folds = deal_folds(labels, np.arange(len(labels)), min(5, len(labels)), rng)
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        x = standardise(values, values[train]).astype(np.float64)
        gram = x @ x[train].T
        kernel = gram[train]
        penalty = max(np.trace(kernel) / len(kernel), 1e-12)
        hat = np.linalg.solve(kernel + penalty * np.eye(len(kernel)), gram[test].T).T
        mean = flat[train].mean(0)
        scores[test] = hat @ (flat[train] - mean) + mean
    positive = flat.sum(0)
    ranks = (rankdata(scores, axis=0) * flat).sum(0)
    areas = (ranks - positive * (positive + 1) / 2) / (positive * (len(sites) - positive))
    by_draw = areas.reshape(-1, n_sites).mean(1)
    null = by_draw[1:]
    p_value = (1 + int((null >= by_draw[0] - 1e-12).sum())) / (n_permutations + 1)
    return SiteSignal(float(by_draw[0]), float(null.mean()), p_value)


def _permute_within(values: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    permuted = values.copy()
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        permuted[members] = values[rng.permutation(members)]
    return permuted
