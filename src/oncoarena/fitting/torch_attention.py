"""Attention gates over shrunken prototypes in PyTorch, all inner folds side by side.

From nearest shrunken centroids (Tibshirani 2002, doi:10.1073/pnas.082099299): class prototypes are soft-thresholded
t statistics; a softmax gate weighs the features, starts uniform over those that survive the threshold (the closed
form) and is refined by gradient against a penalty towards uniform. Prototypes and gates are made anew in every split,
by its own samples alone; statistics are float64, what is trained on is float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softshrink

from oncoarena.data_parallel import n_processes, shard, total, wrap
from oncoarena.fitting.torch_evidence import Ranking, Splits, moderate, moments
from oncoarena.fitting.torch_gates import VALUES_HELD, Member

# Sharpness of an attention gate: how many independent features its weighted mean is worth.
SHARPNESS_GRID = 10.0 ** np.linspace(-1.0, 3.5, 46)


class AttentionGates(nn.Module):
    """Softmax gates over the features that survive a threshold, one for each split and penalty.

    The score of a class is the gated mean over features of z c - c^2 / 2 (z the standardised value, c the
    prototype): how much nearer the sample is to the prototype than to the centre.
    """

    def __init__(self, prototypes: Tensor, alive: Tensor, n_penalties: int):
        super().__init__()
        # prototypes (n_splits, n_classes, m); alive (n_splits, m)
        self.register_buffer("prototypes", prototypes)
        self.register_buffer("alive", alive[:, None])
        n_splits, _, m = prototypes.shape
        self.scores = nn.Parameter(prototypes.new_zeros(n_splits, n_penalties, m))

    def gates(self) -> Tensor:
        """Weights of the features, of sum 1: (n_splits, n_penalties, m)."""
        return torch.softmax(self.scores.masked_fill(~self.alive, -torch.inf), dim=-1)

    def uniform(self) -> Tensor:
        """The closed form: all that survive weigh the same (n_splits, 1, m)."""
        return self.alive / self.alive.sum(-1, keepdim=True, dtype=self.scores.dtype)

    def divergence(self, gates: Tensor) -> Tensor:
        """Kullback-Leibler divergence from the uniform gate, nats: (n_splits, n_penalties)."""
        return (gates * torch.log(gates.clamp(min=1e-30))).sum(-1) + torch.log(
            self.alive.sum(-1).to(gates.dtype)
        )

    def gated(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the standardised features (n_splits, n_penalties, n_classes, m), and what to subtract."""
        gated = gates[:, :, None] * self.prototypes[:, None]
        return gated, (gated * self.prototypes[:, None]).sum(-1) / 2

    def forward(self, z: Tensor, gates: Tensor) -> Tensor:
        """Score samples ``z`` (n_splits, n, m): (n_splits, n_penalties, n_classes, n)."""
        weights, offset = self.gated(gates)
        # Penalties and classes side by side: one product a split.
        return (weights.flatten(1, 2) @ z.mT).view(*weights.shape[:3], -1) - offset[..., None]


def left_out_means(z: Tensor, splits: Splits) -> tuple[Tensor, Tensor]:
    """Mean of each sample's class without the samples of its patient, and how many those are.

    ``z`` is (n_splits, n, m), centred. Returns (n_splits, n, m), 0 (the centre) where nothing is left,
    and the counts (n_splits, n).
    """
    inside = splits.inside.to(z.dtype)
    counts = splits.counts.to(z.dtype)[:, splits.labels]
    n_groups = int(splits.group.max()) + 1
    used = z * inside[..., None]
    same = z.new_zeros(len(z), n_groups, z.shape[2]).index_add_(1, splits.group, used)
    n_same = z.new_zeros(len(z), n_groups).index_add_(1, splits.group, inside)
    left = counts - n_same[:, splits.group]
    mean = (splits.onehot.T.to(z.dtype) @ used)[:, splits.labels]
    del used
    mean -= same[:, splits.group]
    mean /= left.clamp(min=1)[..., None]
    return mean.masked_fill_(left[..., None] == 0, 0.0), left


def most_attended(n_splits: int, n_samples: int, survivors: tuple[int, ...]) -> int:
    """Say among how many features attention gates choose at most: fewer than ``survivors`` where they would not fit."""
    return max(1, min(max(survivors), VALUES_HELD // (n_splits * n_samples)))


@dataclass(frozen=True)
class Standardised:
    """The candidate features of each split, those first whose prototypes lie farthest from the centre."""

    columns: Tensor
    """(n_splits, m) int64: which features."""
    z: Tensor
    """(n_splits, n, m) float32: all samples, in the split's moderated standard deviations from its mean."""
    mean: Tensor
    """(n_splits, m) float64."""
    spread: Tensor
    """(n_splits, m) float64."""
    t: Tensor
    """(n_splits, n_classes, m) float64: t statistics of the classes against the mean of all."""

    @property
    def evidence(self) -> Tensor:
        """Largest t statistic of a feature, falling: (n_splits, m)."""
        return self.t.abs().amax(1)


def standard_error(counts: Tensor, splits: Splits) -> Tensor:
    """Of class means (n_splits, ...) against the mean of all, in standard deviations; a class is part of all."""
    n_inside = splits.inside.sum(1, keepdim=True)
    return (1 / counts.clamp(min=1) - 1 / n_inside).clamp(min=1e-6).sqrt()


def standardise(x: Tensor, columns: Tensor, common: Tensor, splits: Splits) -> Standardised:
    """Standardise features ``columns`` (n_splits, m) of samples ``x`` (n, p) as each split sees them.

    ``common`` (n_splits, 1) are the variances to moderate by.
    """
    z = x.new_empty(len(columns), len(x), columns.shape[1])
    found = []
    for number, alone in enumerate(splits.one_by_one()):
        values = x[:, columns[number]].double()
        mean, class_mean, variance = moments(values, alone)
        spread = moderate(variance, common[[number]], alone).sqrt()
        t = (class_mean - mean[:, None]) / spread[:, None] / standard_error(alone.counts, alone)[..., None]
        order = t.abs().amax(1)[0].sort(descending=True, stable=True).indices
        z[number] = values.sub_(mean).div_(spread)[:, order]
        found.append((columns[number, order], mean[0, order], spread[0, order], t[0, :, order]))
    columns, mean, spread, t = map(torch.stack, zip(*found, strict=True))
    return Standardised(columns, z, mean, spread, t)


def own_terms(z: Tensor, threshold: Tensor, splits: Splits, rows: slice) -> Tensor:
    """What each feature adds to a sample's score of its own class, by a prototype without the sample's patient.

    Otherwise every gate looks right on the samples it was made from.
    Parameters: ``z`` (n_splits, n, m); ``threshold`` (n_splits,); ``rows`` which samples. Returns (n_splits, rows, m).
    """
    terms = z.new_empty(len(z), rows.stop - rows.start, z.shape[2])
    for number, alone in enumerate(splits.one_by_one()):
        own, left = left_out_means(z[[number]], alone)
        error = standard_error(left, alone)[0, rows, None].to(z.dtype)
        own = softshrink(own[0, rows] / error, float(threshold[number])).mul_(error)
        torch.mul(own, z[number, rows] - own / 2, out=terms[number])
    return terms


def attention_members(
    x: Tensor,
    ranked: Ranking,
    splits: Splits,
    *,
    survivors: tuple[int, ...],
    uniformity: tuple[float, ...],
    smoothing: float,
    steps: int,
    rate: float,
) -> Iterator[Member]:
    """Fit attention gates on samples ``x`` (n, p) float32, and keep their closed-form start as a member too.

    ``survivors`` are the numbers of features left by the thresholds of the prototypes; ``uniformity`` the
    penalties for a nat of divergence from the uniform gate; ``smoothing`` the probability mass spread over
    the classes in the targets; ``rate`` the first step (nats) of the gate that moves most.
    """
    m = min(ranked.order.shape[1], most_attended(*splits.inside.shape, survivors))
    standardised = standardise(x, ranked.order[:, :m], ranked.common, splits)
    for size in sorted({min(size, m) for size in survivors}):
        yield from fit_gates(standardised, size, splits, uniformity, smoothing, steps, rate)


def fit_gates(
    standardised: Standardised,
    size: int,
    splits: Splits,
    uniformity: tuple[float, ...],
    smoothing: float,
    steps: int,
    rate: float,
) -> Iterator[Member]:
    """Fit the gates of a threshold that ``size`` features survive, see ``attention_members``."""
    evidence, dtype = standardised.evidence, standardised.z.dtype
    following = torch.cat([evidence, evidence.new_zeros(len(evidence), 1)], dim=1)
    threshold = following[:, size]
    alive = evidence[:, :size] > threshold[:, None]
    # Nothing to choose among (constant or tied features): all take part, with prototypes at the centre.
    alive = alive | ~alive.any(-1, keepdim=True)
    error = standard_error(splits.counts, splits)[..., None]
    t = standardised.t[..., :size]
    prototypes = (t.sign() * (t.abs() - threshold[:, None, None]).clamp(min=0) * error).to(dtype)

    # Each process judges its share of the samples.
    rows = shard(len(splits.onehot))
    z = standardised.z[..., :size]
    own = own_terms(z, threshold, splits, rows)
    is_own = splits.onehot[rows].T.bool()
    targets = ((1 - smoothing) * splits.onehot[rows].T + smoothing / len(is_own)).to(dtype)  # (n_classes, n)
    share = (splits.inside / splits.inside.sum(1, keepdim=True))[:, None, rows].to(dtype)  # (n_splits, 1, n)
    log_prior = splits.log_prior[:, None, :, None].to(dtype)  # (n_splits, 1, n_classes, 1)

    model = AttentionGates(prototypes, alive, len(uniformity))
    score = wrap(model)

    def honest_scores(gates: Tensor) -> Tensor:
        return torch.where(is_own, (gates @ own.mT)[:, :, None], score(z[:, rows], gates))

    def loss(logits: Tensor) -> Tensor:
        log_probability = torch.log_softmax(logits + log_prior, 2)
        return -((log_probability * targets).sum(2) * share).sum(-1)

    with torch.no_grad():
        start = honest_scores(model.uniform())
        grid = torch.from_numpy(SHARPNESS_GRID).to(start)
        losses = total(torch.stack([loss(start * value)[:, 0] for value in grid]))  # (46, n_splits)
        sharpness = grid[losses.argmin(0)][:, None, None, None]
    pull = torch.tensor(uniformity, dtype=dtype, device=z.device)
    for step in range(steps):
        gates = model.gates()
        # Gradients are averaged over processes: the sum over samples counts as often as there are some.
        of_samples = n_processes() * loss(honest_scores(gates) * sharpness)
        model.scores.grad = None
        (of_samples + pull * model.divergence(gates)).sum().backward()
        with torch.no_grad():
            # Divided by the gate this is the natural gradient of a softmax: all features move at one scale.
            natural = torch.where(model.alive, model.scores.grad / gates.clamp(min=1e-12), 0.0)
            largest = natural.abs().amax(-1, keepdim=True).clamp(min=1e-3)
            fallen = rate * (1 + np.cos(np.pi * step / steps)) / 2
            model.scores -= fallen * natural / largest

    with torch.no_grad():
        gates = torch.cat([model.gates(), model.uniform()], dim=1)
        logits = model(z, gates) * sharpness + log_prior
        oof = splits.out_of_fold(logits.mT.double()).cpu().numpy()
        weights, offset = (float(sharpness[0]) * part[0].double() for part in model.gated(gates))
        weights = (weights / standardised.spread[0, :size]).mT  # (n_penalties + 1, m, n_classes)
        intercept = splits.log_prior[0] - offset - standardised.mean[0, :size] @ weights
    some = alive[0]
    columns = standardised.columns[0, :size][some]
    for number, penalty in enumerate((*uniformity, None)):
        parts = columns, weights[number, some], intercept[number]
        kind, settings = ("attention gate", {"uniformity": penalty}) if penalty else ("prototypes", {})
        yield Member(kind, len(columns), settings, oof[number], lambda _, parts=parts: parts)
