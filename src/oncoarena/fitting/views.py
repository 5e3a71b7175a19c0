"""Views of a block: the same features z-scored, raw, ranked or as shares of a sample, all of one total variance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from oncoarena.cohort import Cohort
from oncoarena.errors import NotApplicable

VIEW_KINDS = ("zscore", "raw", "rank", "share")

# Excess kurtosis of the Laplace distribution; the Gaussian has 0.
HEAVY_TAIL_KURTOSIS = 3.0
# A spread below this share of the typical size of a feature is rounding, not variation (float32).
CONSTANT_RELATIVE_SPREAD = 1e-6
# Quartiles of the Gaussian lie this many standard deviations apart.
GAUSSIAN_IQR = 1.349
# Shares are offered where the totals of typical samples (10th to 90th percentile) differ by this factor; below
# it they say what "raw" says.
TOTALS_RATIO = 1.5
# A new value counts as at most this share of the training range beyond that range: a feature that hardly moved in
# training would otherwise outweigh all others together.
BEYOND_RANGE = 0.5
# 64 MiB of float64 a tile: memory stays bounded whatever the number of features.
TILE_VALUES = 2**23


@dataclass(frozen=True)
class View:
    """One way to look at a block, fitted on training samples.

    All vectors are (n_features,) float64 except ``varies`` (bool). A feature that does not vary in
    training, or has no value there, is 0 for every sample.
    """

    kind: str
    median: np.ndarray
    """Replaces a missing value; the centre of the asinh where it applies."""
    tail_scale: np.ndarray
    """Unit of the asinh of a heavy-tailed block (robust standard deviation); 0 where not used."""
    mean: np.ndarray
    """Training mean, after imputation and asinh (rank view: of the scaled ranks)."""
    factor: np.ndarray
    """What a centred feature is multiplied with."""
    varies: np.ndarray
    lowest: np.ndarray
    """Prepared values stop here: half of the training range below the training minimum."""
    highest: np.ndarray
    """As far above the training maximum."""

    @property
    def preparation(self) -> str:
        """Name what ``prepare`` does: views of a block with the same name get the same values from it."""
        return self.kind if self.kind in ("rank", "share") else "plain"

    @property
    def is_heavy_tailed(self) -> bool:
        """Whether the training part called for an asinh."""
        return bool((self.tail_scale > 0).any())

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Centre and scale samples by what the training part gave.

        Parameters: ``values`` (n_samples, n_features), NaN where missing; never written to.
        Returns (n_samples, n_features) float32. Over the training samples every feature has mean 0
        and the mean squared length of a sample is 1 (unit trace of the covariance).
        Raises ValueError if the number of features is not that of the training part.
        """
        n_samples, n_features = values.shape
        if n_features != len(self.median):
            raise ValueError(f"view was fitted on {len(self.median)} features, found {n_features}")
        out = np.empty((n_samples, n_features), dtype=np.float32)
        totals = _totals(values, self.kind)
        for rows, columns in _tiles(self.kind, n_samples, n_features):
            x = _prepare(values[rows, columns], self, columns, totals[rows])
            out[rows, columns] = (x - self.mean[columns]) * self.factor[columns]
        out[_unmeasured(values)] = 0.0
        return out

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """Impute, then asinh, rank or share, but leave centring by ``mean`` and scaling by ``factor`` to come.

        Parameters: ``values`` (n_samples, n_features), NaN where missing; never written to.
        Returns (n_samples, n_features) float32, the same for "raw" and "zscore".
        """
        out = np.empty(values.shape, dtype=np.float32)
        totals = _totals(values, self.kind)
        for rows, columns in _tiles(self.kind, *values.shape):
            out[rows, columns] = _prepare(values[rows, columns], self, columns, totals[rows])
        out[_unmeasured(values)] = self.mean
        return out

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``from_arrays`` needs, as arrays for an .npz file."""
        return {
            "kind": np.array(self.kind),
            "median": self.median,
            "tail_scale": self.tail_scale,
            "mean": self.mean,
            "factor": self.factor,
            "varies": self.varies,
            "lowest": self.lowest,
            "highest": self.highest,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """Rebuild a view from ``to_arrays``."""
        fields = {name: np.asarray(arrays[name]) for name in cls.__dataclass_fields__}
        return cls(**{**fields, "kind": str(fields["kind"])})


def fit_view(values: np.ndarray, kind: str) -> View:
    """Fit one view of a block on training samples; see ``fit_views``."""
    return fit_views(values, (kind,))[kind]


def fit_views(values: np.ndarray, kinds: Sequence[str] = VIEW_KINDS) -> dict[str, View]:
    """Fit several views of a block on training samples.

    Missing values take the feature's training median; a sample without any value is left out here, and lies at the
    training mean later. A block whose typical (median) feature has an
    excess kurtosis above that of the Laplace distribution goes through
    asinh((x - median) / robust standard deviation): near the centre nothing changes, far out it is a
    signed logarithm. "rank" replaces each sample by the ranks of its own features, which needs no
    asinh. "share" replaces each value by the square root of its share of the sample's total (Hellinger; Legendre
    and Gallagher 2001, doi:10.1007/s004420100716), so that samples of very different totals compare; negative
    values count as 0. The whole view is then divided by the square root of its total training variance, so that
    a wide block does not outweigh a narrow one.

    Parameters: ``values`` (n_samples, n_features), NaN where missing; ``kinds`` of ``VIEW_KINDS``.
    Returns the fitted view of each kind.
    Raises ValueError for an unknown kind or no samples.
    """
    unknown = [kind for kind in kinds if kind not in VIEW_KINDS]
    if unknown:
        raise ValueError(f"unknown view {unknown[0]!r}: expected one of {', '.join(VIEW_KINDS)}")
    if len(values) == 0:
        raise ValueError("a view needs at least one training sample")
    n_samples, values = len(values), _measured(values)
    described = _describe(values)
    fitted = {}
    for kind in kinds:
        median, robust_scale, kurtosis, varies = described
        if kind == "share":
            # A feature of one value is dead, although its share moves with the totals of the others.
            median, robust_scale, kurtosis, shares_vary = _describe(values, _totals(values, kind))
            varies = varies & shares_vary
        heavy = bool(varies.any()) and float(np.median(kurtosis[varies])) > HEAVY_TAIL_KURTOSIS
        tail_scale = np.where(varies & (heavy and kind != "rank"), robust_scale, 0.0)
        fitted[kind] = _centre_and_scale(values, kind, median, tail_scale, varies)
        # The total variance is that of all training samples.
        fitted[kind].factor[:] *= np.sqrt(n_samples / len(values))
    return fitted


def offers_shares(values: np.ndarray) -> bool:
    """Tell whether shares of a sample's total say more of a block than its raw values.

    They do where no value is negative and totals differ (sequencing depth, mutation burden): the 90th percentile
    of the totals is at least 1.5 times the 10th.

    Parameters: ``values`` (n_samples, n_features) of the training part, NaN where missing.
    """
    values = _measured(values)
    n_samples, n_features = values.shape
    if n_features < 2 or any((values[tile] < 0).any() for tile in _tiles("share", n_samples, n_features)):
        return False
    low, high = np.quantile(_totals(values, "share"), (0.1, 0.9))
    return bool(high >= TOTALS_RATIO * low)


def offered_kinds(cohort: Cohort, kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the ``kinds`` that say something of their own: "share" only where some block offers it."""
    has_shares = "share" in kinds and any(offers_shares(block.values) for block in cohort.blocks.values())
    return tuple(kind for kind in kinds if kind != "share" or has_shares)


def _unmeasured(values: np.ndarray) -> np.ndarray:
    """Positions of the samples without any value."""
    candidates = np.flatnonzero(np.isnan(values[:, 0])) if values.shape[1] else ()
    return np.array([row for row in candidates if np.isnan(values[row]).all()], dtype=np.int64)


def _measured(values: np.ndarray) -> np.ndarray:
    """The samples with a value; all of them where none has any."""
    empty = _unmeasured(values)
    return values if len(empty) in (0, len(values)) else np.delete(values, empty, axis=0)


def _totals(values: np.ndarray, kind: str) -> np.ndarray:
    """What the values of each sample are divided by (n_samples,) float64: 1 but for shares."""
    totals = np.ones(len(values))
    if kind == "share":
        for rows, columns in _tiles("share", *values.shape):
            found = np.nansum(np.maximum(values[rows, columns], 0), axis=1, dtype=np.float64)
            totals[rows] = np.where(found > 0, found, 1.0)
    return totals


def _root_shares(values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Square roots of shares (n_samples, n_features) float64; NaN stays NaN."""
    return np.sqrt(np.maximum(values, 0) / totals[:, None])


def _centre_and_scale(
    values: np.ndarray, kind: str, median: np.ndarray, tail_scale: np.ndarray, varies: np.ndarray
) -> View:
    n_samples, n_features = values.shape
    unlimited = np.full(n_features, np.inf)
    view = View(
        kind, median, tail_scale, np.zeros(n_features), np.zeros(n_features), varies, -unlimited, unlimited
    )
    # Sums are taken from near the centre, so that the difference of squares keeps its digits.
    shift = np.zeros(n_features) if kind == "rank" or view.is_heavy_tailed else median
    total, total_squares = np.zeros(n_features), np.zeros(n_features)
    totals = _totals(values, kind)
    low, high = unlimited.copy(), -unlimited
    for rows, columns in _tiles(kind, n_samples, n_features):
        x = _prepare(values[rows, columns], view, columns, totals[rows])
        low[columns] = np.minimum(low[columns], x.min(axis=0))
        high[columns] = np.maximum(high[columns], x.max(axis=0))
        x -= shift[columns]
        total[columns] += x.sum(axis=0)
        total_squares[columns] += np.einsum("ij,ij->j", x, x)
    # Of float32, so that a prepared sample at the mean is exactly 0 once it is centred.
    view.mean[:] = np.float32(shift + total / n_samples)
    view.lowest[:] = low - BEYOND_RANGE * (high - low)
    view.highest[:] = high + BEYOND_RANGE * (high - low)
    variance = np.maximum(total_squares / n_samples - (total / n_samples) ** 2, 0.0)
    variance[~varies] = 0.0
    # Ranks of a feature may stand still although its values move.
    variance[variance < CONSTANT_RELATIVE_SPREAD**2 * np.maximum(view.mean**2, 1e-300)] = 0.0
    moves = variance > 0
    if kind == "zscore":
        view.factor[moves] = 1.0 / np.sqrt(variance[moves] * moves.sum())
    elif moves.any():
        view.factor[moves] = 1.0 / np.sqrt(variance.sum())
    return view


@dataclass(frozen=True)
class JoinedView:
    """Views of several blocks side by side, each with the same share of a total variance of 1."""

    block_names: tuple[str, ...]
    views: tuple[View, ...]
    feature_names: np.ndarray
    """(sum of n_features,) str: "block:feature id"."""

    def transform(self, cohort: Cohort) -> np.ndarray:
        """Return (n_samples, sum of n_features) float32, blocks in the order of ``block_names``.

        Raises NotApplicable if the cohort lacks a block.
        """
        _require_blocks(cohort, self.block_names)
        n_moving = sum(bool(view.factor.any()) for view in self.views)
        share = np.float32(1.0 / np.sqrt(max(n_moving, 1)))
        out = np.empty((len(cohort), len(self.feature_names)), dtype=np.float32)
        start = 0
        for name, view in zip(self.block_names, self.views, strict=True):
            stop = start + len(view.median)
            np.multiply(view.transform(cohort.blocks[name].values), share, out=out[:, start:stop])
            start = stop
        return out

    def block_slices(self) -> dict[str, slice]:
        """Return the columns of each block."""
        slices, start = {}, 0
        for name, view in zip(self.block_names, self.views, strict=True):
            slices[name] = slice(start, start + len(view.median))
            start += len(view.median)
        return slices

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``from_arrays`` needs, as arrays for an .npz file."""
        arrays = {"block_names": np.array(self.block_names), "feature_names": self.feature_names}
        for number, view in enumerate(self.views):
            arrays |= {f"view{number}.{name}": array for name, array in view.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """Rebuild a joined view from ``to_arrays``."""
        block_names = tuple(str(name) for name in arrays["block_names"])
        views = []
        for number in range(len(block_names)):
            prefix = f"view{number}."
            views.append(
                View.from_arrays({k.removeprefix(prefix): arrays[k] for k in arrays if k.startswith(prefix)})
            )
        return cls(block_names, tuple(views), np.asarray(arrays["feature_names"]))


def fit_joined_view(cohort: Cohort, kind: str, blocks: Sequence[str] | None = None) -> JoinedView:
    """Fit one view of each block on training samples and set them side by side.

    A block that offers no shares is z-scored beside the shares of the others.

    Parameters: ``cohort`` the training part; ``kind`` one of ``VIEW_KINDS``; ``blocks`` names in the
    order wanted, None for all blocks of the cohort.
    Returns the fitted joined view.
    Raises NotApplicable if a block is not there or there is no block at all.
    """
    names = tuple(cohort.blocks) if blocks is None else tuple(blocks)
    _require_blocks(cohort, names)
    if not names:
        raise NotApplicable("needs at least one block of features; this cohort has none")
    views = []
    for name in names:
        values = cohort.blocks[name].values
        views.append(fit_view(values, "zscore" if kind == "share" and not offers_shares(values) else kind))
    feature_names = np.array(
        [f"{name}:{feature}" for name in names for feature in cohort.blocks[name].features["id"]], dtype=str
    )
    return JoinedView(names, tuple(views), feature_names)


def _require_blocks(cohort: Cohort, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in cohort.blocks]
    if missing:
        raise NotApplicable(f"needs block {', '.join(missing)}; this cohort has {', '.join(cohort.blocks)}")


def _tiles(kind: str, n_samples: int, n_features: int) -> list[tuple[slice, slice]]:
    """Cut a matrix into tiles of bounded size: whole samples for ranks and shares, else whole features."""
    if kind in ("rank", "share"):
        step = max(1, TILE_VALUES // max(n_features, 1))
        return [(slice(i, i + step), slice(0, n_features)) for i in range(0, n_samples, step)]
    step = max(1, TILE_VALUES // max(n_samples, 1))
    return [(slice(0, n_samples), slice(j, j + step)) for j in range(0, n_features, step)]


def _prepare(values: np.ndarray, view: View, columns: slice, totals: np.ndarray) -> np.ndarray:
    """Impute, asinh, rank or share, then keep to the range: (n, p) float64, a fresh array."""
    median = view.median[columns]
    x = np.array(values, dtype=np.float64)
    if view.kind == "share":
        x = _root_shares(x, totals)
    missing = np.isnan(x)
    if missing.any():
        x = np.where(missing, median, x)
    if view.kind == "rank":
        ranks = np.zeros_like(x)
        n_varying = int(view.varies.sum())
        if n_varying > 1:
            # From 0 (the sample's lowest feature) to 1.
            for row, sample in zip(ranks, x, strict=True):
                row[view.varies] = _mean_ranks(sample[view.varies]) / (n_varying - 1.0)
        x = ranks
    scale = view.tail_scale[columns]
    if (scale > 0).any():
        used = scale > 0
        x -= median
        x[:, used] = np.arcsinh(x[:, used] / scale[used]) * scale[used]
    return np.clip(x, view.lowest[columns], view.highest[columns], out=x)


def _mean_ranks(sample: np.ndarray) -> np.ndarray:
    """Rank the values of one sample from 0; ties share their mean rank."""
    order = np.argsort(sample)
    ordered = sample[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    n_tied = np.diff(first, append=len(sample))
    ranks = np.empty(len(sample))
    ranks[order] = np.repeat(first + (n_tied - 1) / 2.0, n_tied)
    return ranks


def _describe(
    values: np.ndarray, totals: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Median, robust standard deviation, excess kurtosis and "varies" of each feature, by tiles.

    With ``totals`` (n_samples,) they are those of the square roots of shares.
    """
    n_samples, n_features = values.shape
    median, scale, kurtosis = np.zeros(n_features), np.zeros(n_features), np.zeros(n_features)
    varies = np.zeros(n_features, dtype=bool)
    for _, columns in _tiles("raw", n_samples, n_features):
        # One feature a row: a sort along a row reads memory in order, and puts NaN last.
        x = np.array(values[:, columns], dtype=np.float64)
        x = x if totals is None else _root_shares(x, totals)
        x = np.sort(np.ascontiguousarray(x.T), axis=1)
        n_found = n_samples - np.isnan(x).sum(axis=1)
        median[columns] = _quantile(x, n_found, 0.5)
        if (n_found < n_samples).any():
            x = np.sort(np.where(np.isnan(x), median[columns, None], x), axis=1)
        size = np.maximum(np.abs(x[:, 0]), np.abs(x[:, -1]))
        # Half of the values are equal (sparse counts): the mean distance from the median still moves.
        spread = np.abs(x - median[columns, None]).mean(axis=1)
        everyone = np.full(len(x), n_samples)
        robust = (_quantile(x, everyone, 0.75) - _quantile(x, everyone, 0.25)) / GAUSSIAN_IQR
        scale[columns] = np.where(robust > 1e-3 * spread, robust, spread)
        x -= x.mean(axis=1, keepdims=True)
        np.square(x, out=x)
        second, fourth = x.mean(axis=1), np.einsum("ij,ij->i", x, x) / n_samples
        moves = np.sqrt(second) > CONSTANT_RELATIVE_SPREAD * size
        varies[columns] = moves
        kurtosis[columns] = np.divide(fourth, second**2, out=np.full_like(second, 3.0), where=moves) - 3.0
    return median, scale, kurtosis, varies


def _quantile(rows: np.ndarray, n_found: np.ndarray, quantile: float) -> np.ndarray:
    """Quantile of the first ``n_found`` values of each sorted row, by linear interpolation; 0 of none."""
    position = quantile * np.maximum(n_found - 1, 0)
    below = np.floor(position).astype(np.int64)
    row, share = np.arange(len(rows)), position - below
    above = np.minimum(below + 1, np.maximum(n_found - 1, 0))
    found = rows[row, below] * (1.0 - share) + rows[row, above] * share
    return np.where(n_found > 0, found, 0.0)
