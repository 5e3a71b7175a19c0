"""Which features speak for a class: F statistics in PyTorch, for all inner folds side by side."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from oncoarena.cohort import LabelledCohort
from oncoarena.data_parallel import from_first
from oncoarena.fitting.selection import inner_folds

# Features a step where a pass over all features is cut into tiles: bounds the memory.
TILE_FEATURES = 1024
# Prior weight of the common variance in a feature's variance, in samples (as in moderated t statistics).
PRIOR_SAMPLES = 4.0


@dataclass(frozen=True)
class Splits:
    """The training subsets that are fitted side by side: the whole training part, then each inner fold's."""

    inside: Tensor
    """(n_splits, n_samples) float64: 1 where a sample is fitted on."""
    onehot: Tensor
    """(n_samples, n_classes) float64."""
    labels: Tensor
    """(n_samples,) int64."""
    group: Tensor
    """(n_samples,) int64: one code for each patient and class."""
    folds: np.ndarray
    """(n_repeats, n_samples): inner fold numbers."""

    @property
    def counts(self) -> Tensor:
        """Samples of each class: (n_splits, n_classes)."""
        return self.inside @ self.onehot

    @property
    def log_prior(self) -> Tensor:
        """Log frequency of each class, half a sample added to each: (n_splits, n_classes)."""
        counts = self.counts + 0.5
        return torch.log(counts / counts.sum(1, keepdim=True))

    def one_by_one(self) -> Iterator[Self]:
        """Give each split alone: what is done with many samples x features is done for one of them at a time."""
        return (replace(self, inside=inside[None]) for inside in self.inside)

    def out_of_fold(self, logits: Tensor) -> Tensor:
        """Pick for each sample and repeat the split that did not see it.

        Takes (n_splits, n_members, n_samples, n_classes), returns (n_members, n_repeats * n_samples,
        n_classes).
        """
        n_folds = int(self.folds.max()) + 1
        rows = torch.arange(logits.shape[2], device=logits.device)
        picked = []
        for repeat, folds in enumerate(self.folds):
            split = torch.from_numpy(1 + repeat * n_folds + folds).to(logits.device)
            picked.append(logits[split, :, rows].transpose(0, 1))
        return torch.cat(picked, dim=1)


def make_splits(train: LabelledCohort, n_folds: int, n_repeats: int, seed: int, device: str) -> Splits:
    """Deal inner folds (whole patients, stratified) and lay out the training subsets as masks."""
    folds = inner_folds(train, n_folds, n_repeats, seed)
    inside = [np.ones(len(train))]
    inside += [np.asarray(f != k, dtype=np.float64) for f in folds for k in range(folds.max() + 1)]
    labels = torch.from_numpy(np.array(train.labels, dtype=np.int64)).to(device)
    onehot = torch.nn.functional.one_hot(labels, len(train.classes)).double()
    patients = np.unique(train.patient_ids, return_inverse=True)[1]
    group = np.unique(patients * len(train.classes) + train.labels, return_inverse=True)[1]
    return Splits(
        torch.from_numpy(np.stack(inside)).to(device),
        onehot,
        labels,
        torch.from_numpy(group.astype(np.int64)).to(device),
        folds,
    )


def moments(x: Tensor, splits: Splits) -> tuple[Tensor, Tensor, Tensor]:
    """Compute mean, class means and pooled within-class variance for each split.

    ``x`` is (n, p), the same for all splits, or (n_splits, n, p). Returns (n_splits, p),
    (n_splits, n_classes, p) and (n_splits, p); the mean of an absent class is the mean of all.
    """
    return from_sums(*class_sums(x, splits), splits)


def class_sums(x: Tensor, splits: Splits, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Add up features ``x`` float64 of the samples ``rows``, and their squares, for each split.

    Returns (n_splits, n_classes, p) and (n_splits, p); what tiles of samples give adds up.
    """
    inside = splits.inside[:, None, rows]
    member = inside * splits.onehot[rows].T  # (n_splits, n_classes, n)
    return member @ x, (inside @ (x * x))[:, 0]


def from_sums(sums: Tensor, squares: Tensor, splits: Splits) -> tuple[Tensor, Tensor, Tensor]:
    """Turn ``class_sums`` of all samples into ``moments``."""
    counts = splits.counts
    n_inside = splits.inside.sum(1, keepdim=True)
    mean = sums.sum(1) / n_inside
    class_mean = sums / counts.clamp(min=1)[..., None]
    within = squares - (counts[..., None] * class_mean**2).sum(1)
    freedom = n_inside - (counts > 0).sum(1, keepdim=True)
    # Where every class has one sample there is no spread within: all of the spread stands in.
    total = (squares - n_inside * mean**2) / n_inside
    variance = torch.where(freedom > 0, within / freedom.clamp(min=1), total).clamp(min=0)
    class_mean = torch.where(counts[..., None] > 0, class_mean, mean[:, None])
    return mean, class_mean, variance


def moderate(variance: Tensor, common: Tensor, splits: Splits) -> Tensor:
    """Shrink feature variances (n_splits, p) towards the common one (n_splits, 1), never to 0."""
    n_inside = splits.inside.sum(1, keepdim=True)
    shrunken = (PRIOR_SAMPLES * common + n_inside * variance) / (PRIOR_SAMPLES + n_inside)
    return torch.where(shrunken > 0, shrunken, torch.ones_like(shrunken))


@dataclass(frozen=True)
class Ranking:
    """The evidence for each feature of one view, as each split sees it by its own samples alone."""

    order: Tensor
    """(n_splits, p) int64: features, best first."""
    mean: Tensor
    """(n_splits, p) float32."""
    evidence: Tensor
    """(n_splits, p) float32: moderated F statistics over the largest one of the split."""
    common: Tensor
    """(n_splits, 1) float64: median within-class variance of the features that vary."""

    @cached_property
    def first(self) -> Self:
        """A copy of what split 0 sees, for members that outlive the ranking of all splits."""
        return type(self)(*(part[:1].clone() for part in (self.order, self.mean, self.evidence, self.common)))


def rank_features(x: Tensor, splits: Splits) -> Ranking:
    """Rank the features of ``x`` (n, p) float32 by moderated F statistic."""
    tiles = x.split(TILE_FEATURES, dim=1)
    return rank_by_moments((moments(tile.double(), splits) for tile in tiles), x.shape[1], splits)


def rank_by_moments(
    tiles: Iterable[tuple[Tensor, Tensor, Tensor]], n_features: int, splits: Splits
) -> Ranking:
    """Rank features by moderated F statistic, given their ``moments``, some neighbouring features after the other."""
    n_splits, device = len(splits.inside), splits.inside.device
    means, between, variances = (torch.empty(n_splits, n_features, device=device) for _ in range(3))
    first = 0
    for mean, class_mean, within in tiles:
        tile = slice(first, first + mean.shape[1])
        means[:, tile], variances[:, tile] = mean, within
        between[:, tile] = (splits.counts[..., None] * (class_mean - mean[:, None]) ** 2).sum(1)
        first = tile.stop
    order = torch.empty(n_splits, n_features, dtype=torch.int64, device=device)
    evidence, common = between, torch.empty(n_splits, 1, dtype=torch.float64, device=device)
    # Split by split: a sort needs several arrays of the size of what it sorts.
    for split, alone in enumerate(splits.one_by_one()):
        variance = variances[[split]].double()
        varying = torch.where(variance > 0, variance, torch.nan)
        common[split] = varying.nanmedian().nan_to_num(0.0)
        # The degrees of freedom between classes are the same for all features.
        statistic = (between[[split]] / moderate(variance, common[[split]], alone))[0]
        order[split] = torch.sort(statistic, descending=True, stable=True).indices
        evidence[split] = statistic / statistic.max().clamp(min=1e-30)
    # What processes share later rests on one ranking, to the last bit.
    return Ranking(*map(from_first, (order, means, evidence, common)))
