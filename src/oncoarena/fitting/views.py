"""Views of a block: the same features z-scored, raw, ranked or as shares of a sample, all of one total variance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from oncoarena.cohort import Cohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.describing import (
    CONSTANT_RELATIVE_SPREAD,
    describe,
    mean_ranks,
    moves_at_all,
    root_shares,
    sample_totals,
    unmeasured,
)
from oncoarena.fitting.tiles import CACHED_VALUES, row_tiles, spaced_samples, tiles
from oncoarena.mapped import large_array, release, take_rows

VIEW_KINDS = ("zscore", "raw", "rank", "share")

# Excess kurtosis of the Laplace distribution; the Gaussian has 0.
HEAVY_TAIL_KURTOSIS = 3.0
# Shares are offered where the totals of typical samples (10th to 90th percentile) differ by this factor; below
# it they say what "raw" says.
TOTALS_RATIO = 1.5
# A new value counts as at most this share of the training range beyond that range: a feature that hardly moved in
# training would otherwise outweigh all others together.
BEYOND_RANGE = 0.5


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
        for rows, columns in _tiles(values, self.kind, CACHED_VALUES):
            x = _prepare(values[rows, columns], self, columns, totals[rows])
            x -= self.mean[columns]
            x *= self.factor[columns]
            out[rows, columns] = x
        out[unmeasured(values)] = 0.0
        return out

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """Impute, then asinh, rank or share, but leave centring by ``mean`` and scaling by ``factor`` to come.

        Parameters: ``values`` (n_samples, n_features), NaN where missing; never written to.
        Returns (n_samples, n_features) float32, the same for "raw" and "zscore"; if large, a map of a scratch file.
        """
        out = large_array(values.shape)
        totals = _totals(values, self.kind)
        for rows, columns in _tiles(values, self.kind, CACHED_VALUES):
            out[rows, columns] = _prepare(values[rows, columns], self, columns, totals[rows])
            release(out)
        out[unmeasured(values)] = self.mean
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
    a wide block does not outweigh a narrow one. Of very many samples (``tiles.MANY_SAMPLES``) medians, tails and the
    spread of ranks are those of evenly spaced ones; means, spreads and ranges are those of all.

    Parameters: ``values`` (n_samples, n_features), NaN where missing, may be a memory map; ``kinds`` of ``VIEW_KINDS``.
    Returns the fitted view of each kind; raises ValueError for an unknown kind or no samples.
    """
    unknown = [kind for kind in kinds if kind not in VIEW_KINDS]
    if unknown:
        raise ValueError(f"unknown view {unknown[0]!r}: expected one of {', '.join(VIEW_KINDS)}")
    if len(values) == 0:
        raise ValueError("a view needs at least one training sample")
    n_samples, values = len(values), _measured(values)
    some = spaced_samples(values)
    described = describe(some)
    # A feature may move in a few of very many samples only.
    moves_elsewhere = moves_at_all(values) & ~described[3] if len(some) < len(values) else False
    spreads: dict[str, _Spread] = {}
    fitted = {}
    for kind in kinds:
        median, robust_scale, kurtosis, varies = described
        if kind == "share":
            # A feature of one value is dead, although its share moves with the totals of the others.
            median, robust_scale, kurtosis, shares_vary = describe(some, _totals(some, kind))
            varies = varies & shares_vary
        heavy = bool(varies.any()) and float(np.median(kurtosis[varies])) > HEAVY_TAIL_KURTOSIS
        varies = varies | moves_elsewhere
        tail_scale = np.where(varies & (heavy and kind != "rank"), robust_scale, 0.0)
        view = _unscaled(kind, median, tail_scale, varies)
        if view.preparation not in spreads:
            # A sort of every sample is dear; a rank has no rare values that only all samples would show.
            spreads[view.preparation] = _measure(some if kind == "rank" else values, view)
        fitted[kind] = _centre_and_scale(view, spreads[view.preparation])
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
    if values.shape[1] < 2 or any((values[tile] < 0).any() for tile in tiles(values, by_samples=True)):
        return False
    low, high = np.quantile(_totals(values, "share"), (0.1, 0.9))
    return bool(high >= TOTALS_RATIO * low)


def offered_kinds(cohort: Cohort, kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the ``kinds`` that say something of their own: "share" only where some block offers it."""
    has_shares = "share" in kinds and any(offers_shares(block.values) for block in cohort.blocks.values())
    return tuple(kind for kind in kinds if kind != "share" or has_shares)


def _measured(values: np.ndarray) -> np.ndarray:
    """The samples with a value; all of them where none has any."""
    empty = unmeasured(values)
    if len(empty) in (0, len(values)):
        return values
    return take_rows(values, np.delete(np.arange(len(values)), empty))


def _totals(values: np.ndarray, kind: str) -> np.ndarray:
    """What the values of each sample are divided by (n_samples,) float64: 1 but for shares."""
    return sample_totals(values) if kind == "share" else np.ones(len(values))


def _unscaled(kind: str, median: np.ndarray, tail_scale: np.ndarray, varies: np.ndarray) -> View:
    """A view that prepares values without limits; mean and factor are 0."""
    zeros, unlimited = np.zeros(len(median)), np.full(len(median), np.inf)
    return View(kind, median, tail_scale, zeros, zeros.copy(), varies, -unlimited, unlimited)


@dataclass(frozen=True)
class _Spread:
    """Of each feature (n_features,), prepared."""

    mean: np.ndarray
    variance: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _measure(values: np.ndarray, view: View) -> _Spread:
    n_samples, n_features = values.shape
    # Sums are taken from near the centre, so that the difference of squares keeps its digits.
    shift = np.zeros(n_features) if view.kind == "rank" or view.is_heavy_tailed else view.median
    total, total_squares = np.zeros(n_features), np.zeros(n_features)
    totals = _totals(values, view.kind)
    low = np.full(n_features, np.inf)
    high = -low
    for rows, columns in _tiles(values, view.kind, 8 * CACHED_VALUES):
        x = _prepare(values[rows, columns], view, columns, totals[rows])
        low[columns] = np.minimum(low[columns], x.min(axis=0))
        high[columns] = np.maximum(high[columns], x.max(axis=0))
        x -= shift[columns]
        total[columns] += x.sum(axis=0)
        total_squares[columns] += np.einsum("ij,ij->j", x, x)
    variance = np.maximum(total_squares / n_samples - (total / n_samples) ** 2, 0.0)
    return _Spread(shift + total / n_samples, variance, low, high)


def _centre_and_scale(unscaled: View, spread: _Spread) -> View:
    # Of float32, so that a prepared sample at the mean is exactly 0 once it is centred.
    mean = np.float32(spread.mean).astype(np.float64)
    beyond = BEYOND_RANGE * (spread.high - spread.low)
    variance = np.where(unscaled.varies, spread.variance, 0.0)
    # Ranks of a feature may stand still although its values move.
    variance[variance < CONSTANT_RELATIVE_SPREAD**2 * np.maximum(mean**2, 1e-300)] = 0.0
    moves, factor = variance > 0, np.zeros(len(mean))
    if unscaled.kind == "zscore":
        factor[moves] = 1.0 / np.sqrt(variance[moves] * moves.sum())
    elif moves.any():
        factor[moves] = 1.0 / np.sqrt(variance.sum())
    lowest, highest = spread.low - beyond, spread.high + beyond
    return replace(unscaled, mean=mean, factor=factor, lowest=lowest, highest=highest)


@dataclass(frozen=True)
class JoinedView:
    """Views of several blocks side by side, each with the same share of a total variance of 1."""

    block_names: tuple[str, ...]
    views: tuple[View, ...]
    feature_names: np.ndarray
    """(sum of n_features,) str: "block:feature id"."""

    @property
    def n_features(self) -> int:
        return len(self.feature_names)

    def transform(self, cohort: Cohort) -> np.ndarray:
        """Return (n_samples, n_features) float32, blocks in the order of ``block_names``.

        Raises NotApplicable if the cohort lacks a block.
        """
        _require_blocks(cohort, self.block_names)
        return self._transform_rows(cohort, slice(0, len(cohort)))

    def tiles(self, cohort: Cohort) -> Iterator[tuple[slice, np.ndarray]]:
        """Transform a cohort of any size, some neighbouring samples after the other.

        Yields rows and (n_rows, n_features) float32, of bounded size; no samples give one tile without any.
        Raises NotApplicable if the cohort lacks a block.
        """
        _require_blocks(cohort, self.block_names)
        for rows in row_tiles(len(cohort), self.n_features):
            yield rows, self._transform_rows(cohort, rows)
            for name in self.block_names:
                release(cohort.blocks[name].values)

    def _transform_rows(self, cohort: Cohort, rows: slice) -> np.ndarray:
        n_moving = sum(bool(view.factor.any()) for view in self.views)
        share = np.float32(1.0 / np.sqrt(max(n_moving, 1)))
        parts = [
            view.transform(cohort.blocks[name].values[rows])
            for name, view in zip(self.block_names, self.views, strict=True)
        ]
        for part in parts:
            np.multiply(part, share, out=part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

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
    """Fit one view of each block on training samples and set them side by side; see ``fit_joined_views``."""
    return fit_joined_views(cohort, (kind,), blocks)[0]


def fit_joined_views(
    cohort: Cohort, kinds: Sequence[str], blocks: Sequence[str] | None = None
) -> list[JoinedView]:
    """Fit several views of each block on training samples and set those of a kind side by side.

    A block that offers no shares is z-scored beside the shares of the others.

    Parameters: ``cohort`` the training part; ``kinds`` of ``VIEW_KINDS``; ``blocks`` names in the
    order wanted, None for all blocks of the cohort.
    Returns the fitted joined view of each kind; raises NotApplicable without a block, or if one is not there.
    """
    names = tuple(cohort.blocks) if blocks is None else tuple(blocks)
    _require_blocks(cohort, names)
    if not names:
        raise NotApplicable("needs at least one block of features; this cohort has none")
    views: dict[str, list[View]] = {kind: [] for kind in kinds}
    for name in names:
        values = cohort.blocks[name].values
        has_shares = "share" not in kinds or offers_shares(values)
        used = {kind: "zscore" if kind == "share" and not has_shares else kind for kind in kinds}
        fitted = fit_views(values, tuple(dict.fromkeys(used.values())))
        for kind in kinds:
            views[kind].append(fitted[used[kind]])
    feature_names = np.array(
        [f"{name}:{feature}" for name in names for feature in cohort.blocks[name].features["id"]], dtype=str
    )
    return [JoinedView(names, tuple(views[kind]), feature_names) for kind in kinds]


def _require_blocks(cohort: Cohort, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in cohort.blocks]
    if missing:
        raise NotApplicable(f"needs block {', '.join(missing)}; this cohort has {', '.join(cohort.blocks)}")


def _tiles(values: np.ndarray, kind: str, n_values: int) -> Iterator[tuple[slice, slice]]:
    """Tiles of whole samples for ranks and shares, else of whole features as long as there are few samples."""
    return tiles(values, kind in ("rank", "share"), n_values)


def _prepare(values: np.ndarray, view: View, columns: slice, totals: np.ndarray) -> np.ndarray:
    """Impute, asinh, rank or share, then keep to the range: (n, p) float64, a fresh array."""
    median = view.median[columns]
    x = np.array(values, dtype=np.float64)
    if view.kind == "share":
        x = root_shares(x, totals)
    missing = np.isnan(x)
    if missing.any():
        x = np.where(missing, median, x)
    if view.kind == "rank":
        ranks = np.zeros_like(x)
        n_varying = int(view.varies.sum())
        if n_varying > 1:
            # From 0 (the sample's lowest feature) to 1.
            for row, sample in zip(ranks, x, strict=True):
                row[view.varies] = mean_ranks(sample[view.varies]) / (n_varying - 1.0)
        x = ranks
    scale = view.tail_scale[columns]
    if (scale > 0).any():
        used = scale > 0
        x -= median
        x[:, used] = np.arcsinh(x[:, used] / scale[used]) * scale[used]
    return np.clip(x, view.lowest[columns], view.highest[columns], out=x)
