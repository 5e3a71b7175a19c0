"""Candidates of a multi-kernel model: every way to see the blocks x kernel x penalty, each fitted in closed form."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from oncoarena.cohort import LabelledCohort
from oncoarena.fitting.count_parts import COUNT_KERNELS, CountPart, CountView, fit_count_view, offered_counts
from oncoarena.fitting.kernel_parts import Part
from oncoarena.fitting.kernel_ridge import (
    Landmarks,
    RowKernel,
    describe_by_landmarks,
    ridge_path,
    sample_weights,
    spread,
)
from oncoarena.fitting.shared_factors import fit_shared_factors
from oncoarena.fitting.tiles import row_tiles
from oncoarena.fitting.views import View, fit_views, offers_shares
from oncoarena.kernels.gram import from_linear, gram, median_gamma, squared_lengths
from oncoarena.mapped import large_array, release, take_rows

Source = tuple[str, str, bool]
"""Block, view, and whether its shared factors are taken out."""
Sums = dict[tuple[str, bool], "KernelSum"]
"""Kernel, and whether shared factors are taken out -> its sum over blocks."""

# A kernel whose samples are closer together than this share of their squared length says nothing.
CONSTANT_KERNEL = 1e-12
# Weights that differ by less than this are one: classes of nearly one size are not fitted twice.
SAME_WEIGHT = 0.01


@dataclass(frozen=True)
class Grid:
    """What is tried; see ``patient_similarity.Config``."""

    views: Sequence[str]
    kernels: Sequence[str]
    count_kernels: Sequence[str]
    penalties: tuple[float, ...]
    class_weights: Sequence[str]


@dataclass(frozen=True)
class Candidate:
    """One kernel x penalty x class weighting, fitted in closed form."""

    name: dict
    sources: dict[Source, float]
    """What the kernel of each part was multiplied with before the sum."""
    coefficients: np.ndarray
    """(n_compared, n_classes)."""
    constant: np.ndarray
    """(n_classes,) what the coefficients give to the mean training sample."""
    scores: np.ndarray
    """(n_train, n_classes) leave-patient-out scores, as differences from the class frequencies."""


@dataclass(frozen=True)
class KernelSum:
    """A sum of kernels of unit trace, and what each source was multiplied with."""

    kernel: np.ndarray | RowKernel
    factors: dict[Source, float]

    def mean(self, compared: np.ndarray | None) -> tuple[dict[Source, float], np.ndarray | Landmarks]:
        """Return the factors and the kernel of the mean, described by landmarks where there are any."""
        n_summed = len(self.factors)
        kernel = self.kernel / n_summed
        factors = {source: factor / n_summed for source, factor in self.factors.items()}
        return factors, kernel if compared is None else describe_by_landmarks(kernel, compared)


def add_to(
    sums: Sums, key: tuple[str, bool], kernel: np.ndarray | RowKernel, source: Source, factor: float
) -> None:
    """Add one more kernel to the sum of that key."""
    so_far = sums.get(key)
    if so_far is None:
        sums[key] = KernelSum(kernel, {source: factor})
    else:
        sums[key] = KernelSum(so_far.kernel + kernel, so_far.factors | {source: factor})


class CandidateFits:
    """Fits the candidates view by view, so that few kernels are in memory at a time."""

    def __init__(
        self,
        grid: Grid,
        train: LabelledCohort,
        targets: np.ndarray,
        groups: np.ndarray,
        compared: np.ndarray | None,
        device: str,
    ):
        """``compared`` are the rows of the landmarks; None compares all samples with all."""
        self.grid, self.train, self.targets, self.groups = grid, train, targets, groups
        self.compared, self.device = compared, device
        self.parts: dict[Source, Part | CountPart] = {}
        """What was seen, without coefficients."""
        self.relations: dict[tuple[Source, str], np.ndarray | None] = {}
        """Source without its shared factors, kernel -> see ``SharedFactors.relations``."""
        self.sets: set[str] = set()
        """Blocks of 0 and 1."""
        self.prepared: dict[tuple[str, str], np.ndarray] = {}
        """(block, preparation of the view) -> the samples compared with, as ``View.prepare`` gives them."""

    def __iter__(self) -> Iterator[Candidate]:
        views, count_views = {}, {}
        for name, block in self.train.blocks.items():
            has_shares = "share" in self.grid.views and offers_shares(block.values)
            views[name] = fit_views(block.values, [k for k in self.grid.views if k != "share" or has_shares])
            offered = offered_counts(block.values)
            asked = [kind for kind in offered if COUNT_KERNELS[kind] in self.grid.count_kernels]
            count_views[name] = [fit_count_view(block.values, kind) for kind in asked]
            if "set" in offered:
                self.sets.add(name)
        # Blocks of measurements enter sums with the kernels of the counts by their first view.
        beside_counts = [name for name in views if any(count_views.values()) and not count_views[name]]
        over_all: Sums = {}
        own: Sums = {}
        for view_kind in self.grid.views:
            over_blocks: Sums = {}
            for name, of_kinds in views.items():
                view = of_kinds.get(view_kind)
                if view is not None and view.factor.any():
                    is_beside = name in beside_counts and view_kind == self.grid.views[0]
                    yield from self._of_view(name, view, over_blocks, over_all, *([own] * is_beside))
            yield from self._of_sums(over_blocks, view_kind)
        yield from self._of_sums(over_all, "+")
        yield from self._of_counts(count_views, own)
        yield from self._of_sums(own, "own")

    def _of_counts(self, count_views: dict[str, list[CountView]], own: Sums) -> Iterator[Candidate]:
        """Candidates of sets, counts and shares; the last of a block enters the sums of the other blocks in ``own``."""
        for block, views in count_views.items():
            for view in views:
                part, source = CountPart(block, view), (block, view.kind, False)
                compared = self._prepare_compared(block, view)
                scaled = self._scaled(self._count_kernel(part, compared))
                if scaled is None:
                    continue
                self.parts[source] = part
                name = {"block": block, "view": view.kind, "kernel": part.kernel, "less_factors": False}
                factor, kernel, described = scaled
                yield from self._fits(name, {source: factor}, described)
                if view is views[-1]:
                    for key in tuple(own) or ((self.grid.kernels[0], False),):
                        add_to(own, key, kernel, source, factor)

    def _prepare_compared(self, block: str, view: View | CountView) -> np.ndarray:
        """The samples compared with, prepared: all training samples, or the landmarks."""
        key = block, view.preparation
        if key not in self.prepared:
            values = self.train.blocks[block].values
            self.prepared[key] = view.prepare(
                values if self.compared is None else take_rows(values, self.compared)
            )
        return self.prepared[key]

    def _tiles(self, block: str, view: View | CountView) -> Iterator[tuple[slice, np.ndarray]]:
        """All training samples, prepared, some neighbours after the other."""
        values = self.train.blocks[block].values
        for rows in row_tiles(*values.shape):
            yield rows, view.prepare(np.array(values[rows]))
            release(values)

    def _scaled(
        self, kernel: np.ndarray | RowKernel
    ) -> tuple[float, np.ndarray | RowKernel, np.ndarray | Landmarks] | None:
        """Scale a kernel (n, n_compared) to unit trace after centring, so that penalties mean the same.

        Returns what it was multiplied with, the kernel, and the same as the fits need it; None for one that says
        nothing.
        """
        described = kernel if self.compared is None else describe_by_landmarks(kernel, self.compared)
        length, variance = spread(described)
        if variance <= CONSTANT_KERNEL * length:
            return None
        kernel = kernel / variance
        if self.compared is None:
            return 1.0 / variance, kernel, kernel
        described.divide(variance)
        return 1.0 / variance, kernel, described

    def _of_view(self, block: str, view: View, *sums: Sums) -> Iterator[Candidate]:
        """Candidates of one view of a block, and the same without the factors that its samples share."""
        compared = self._prepare_compared(block, view)
        plain = Part(block, view, 1.0, None, {})
        (linear,) = gram(compared, compared, device=self.device, **plain.scaling)
        squares = np.diag(linear)
        among = linear, squares, squares
        of_all = among if self.compared is None else self._with_landmarks(plain, compared, squares)
        shared = None
        # The factors of sparse sets are single samples of many members, and fit the sample that is left out.
        if block not in self.sets:
            shared = fit_shared_factors(linear, int(np.count_nonzero(view.factor)))
        for factors in (None,) if shared is None else (None, shared):
            source = block, view.kind, factors is not None
            # Sums of what is left are over all blocks: one without factors enters them as it is.
            enters = (False, True) if shared is None else (source[2],)
            less = among if factors is None else factors.remove(*among)
            part = replace(plain, factors=factors, gamma=median_gamma(less[0]), coefficients={})
            self.parts[source] = part
            for kind in self.grid.kernels:
                scaled = self._scaled(self._kernel(less if self.compared is None else of_all, part, kind))
                if scaled is None:
                    continue
                factor, kernel, described = scaled
                if factors is not None:
                    self.relations[source, kind] = factors.relations(kind, less[1], part.gamma)
                name = {"block": block, "view": view.kind, "kernel": kind, "less_factors": source[2]}
                yield from self._fits(name, {source: factor}, described)
                for total in sums:
                    for is_less in enters:
                        add_to(total, (kind, is_less), kernel, source, factor)

    def _with_landmarks(
        self, plain: Part, landmarks: np.ndarray, squares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inner products (n, m) of all training samples with the landmarks, and the squared lengths of both."""
        n_samples = len(self.train)
        linear, own_squares = large_array((n_samples, len(landmarks)), np.float64), np.empty(n_samples)
        for rows, x in self._tiles(plain.block, plain.view):
            (linear[rows],) = gram(x, landmarks, device=self.device, **plain.scaling)
            own_squares[rows] = squared_lengths(x, **plain.scaling)
            release(linear)
        return linear, own_squares, squares

    def _kernel(
        self, products: tuple[np.ndarray, np.ndarray, np.ndarray], part: Part, kind: str
    ) -> np.ndarray | RowKernel:
        """One kernel of all training samples: with each other, or some rows at a time with the landmarks."""
        if self.compared is None:
            return from_linear(*products, kind, part.gamma)
        linear, squares, of_landmarks = products

        def rows_of(rows: np.ndarray | slice) -> np.ndarray:
            some = (np.array(linear[rows]), squares[rows], of_landmarks)
            release(linear)
            return from_linear(
                *(some if part.factors is None else part.factors.remove(*some)), kind, part.gamma
            )

        return RowKernel(len(linear), rows_of)

    def _count_kernel(self, part: CountPart, compared: np.ndarray) -> np.ndarray | RowKernel:
        """The similarity of sets, counts or shares, as ``_kernel``."""
        if self.compared is None:
            return part.similarities(compared, compared, self.device)
        kernel = large_array((len(self.train), len(compared)), np.float64)
        for rows, x in self._tiles(part.block, part.view):
            kernel[rows] = part.similarities(x, compared, self.device)
            release(kernel)
        return RowKernel(len(kernel), lambda rows: np.array(kernel[rows]))

    def _of_sums(self, sums: Sums, view: str) -> Iterator[Candidate]:
        """Candidates of sums over blocks, or over blocks and views, that are none of those before."""
        for (kind, is_less), summed in sums.items():
            n_views = len({source[1] for source in summed.factors})
            has_factors = any(source[2] for source in summed.factors)
            if n_views < 2 if view == "+" else len(summed.factors) < 2:
                continue
            if has_factors == is_less:
                name = {"block": "+", "view": view, "kernel": kind, "less_factors": is_less}
                yield from self._fits(name, *summed.mean(self.compared))

    def _fits(
        self, name: dict, sources: dict[Source, float], kernel: np.ndarray | Landmarks
    ) -> Iterator[Candidate]:
        for weighting in self.grid.class_weights:
            weights = sample_weights(self.targets, weighting)
            if (
                weighting == "balanced"
                and "uniform" in self.grid.class_weights
                and np.ptp(weights) < SAME_WEIGHT
            ):
                # Classes of one size: the same fit as "uniform".
                continue
            relations = self._relations(sources, name["kernel"])
            fits = ridge_path(kernel, self.targets, weights, self.groups, self.grid.penalties, relations)
            for penalty, fitted in zip(self.grid.penalties, fits, strict=True):
                described = {**name, "penalty": penalty, "class_weights": weighting}
                yield Candidate(described, sources, *fitted)

    def _relations(self, sources: Iterable[Source], kind: str) -> np.ndarray | None:
        """Sums of training samples (n_train, q) that are 0 where shared factors are taken out; None without any."""
        found = [self.relations.get((source, kind)) for source in sources]
        found = [relations for relations in found if relations is not None]
        if not found:
            return None
        relations = np.hstack(found)
        if self.compared is None:
            return relations
        of_all = np.zeros((len(self.train), relations.shape[1]))
        of_all[self.compared] = relations
        return of_all
