"""Sparse linear members in PyTorch: features gated by evidence, all inner folds in one tensor program.

- Attention gates over shrunken prototypes, from nearest shrunken centroids (Tibshirani 2002,
  doi:10.1073/pnas.082099299): class prototypes are soft-thresholded t statistics; a softmax gate weighs the
  features, starts uniform over those that survive the threshold (the closed form) and is refined by
  gradient against a penalty towards uniform.
- Gates from the F statistic with an L2 softmax head: hard (the k features of most evidence) and soft (all
  features, each times a power of its evidence).

Features are ranked, prototypes built and heads trained anew in every split, by its own samples alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oncoarena.data_parallel import from_first, n_processes, shard, total, wrap
from oncoarena.fitting.torch_evidence import TILE_FEATURES, Ranking, Splits, moderate, moments

# Values of a training tensor of the attention gates (1 GiB); a larger cohort gets fewer candidate features.
VALUES_HELD = 2**27
# Samples; above this number a gate keeps no more features than this.
LARGE_COHORT = 1000
# Eigenvalues below this share of the largest are rounding.
RELATIVE_VARIANCE_FLOOR = 1e-9
# Sharpness of an attention gate: how many independent features its weighted mean is worth.
SHARPNESS_GRID = 10.0 ** np.linspace(-1.0, 3.5, 46)


@dataclass(frozen=True)
class Member:
    """One fitted member: a linear function of one view of the features."""

    kind: str
    n_features: int
    settings: dict[str, Any]
    oof: np.ndarray
    """Logits out of fold, (n_repeats * n_samples, n_classes)."""
    linear: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    """Turns the samples (n, p) it was fitted on into features (m,), weights (m, n_classes) and intercepts."""


# --- gates from the F statistic, with an L2 softmax head ---


def most_kept(n_splits: int, n_samples: int) -> int | None:
    """Say how many features a gate keeps at most; None stands for all.

    With more than ``LARGE_COHORT`` samples these are as many as that: a head costs the cube of the samples or of the
    features, whichever are fewer. They are fewer still where the coordinates of all splits would not fit.
    """
    if n_samples <= LARGE_COHORT:
        return None
    return max(1, min(LARGE_COHORT, VALUES_HELD // (n_splits * n_samples)))


def gate_designs(
    most: int | None, n_features: int, kept: tuple[float, ...], powers: tuple[float, ...]
) -> list[tuple[int, float]]:
    """List the gates as (features kept, power of the evidence): the hard ones (power 0), then the soft ones.

    ``kept`` are fractions of the features; no gate keeps more than ``most`` (see ``most_kept``).
    """
    most = n_features if most is None else most
    sizes = sorted({min(most, max(1, round(fraction * n_features))) for fraction in kept})
    return [(size, 0.0) for size in sizes] + [(sizes[-1], power) for power in powers]


def principal_coordinates(
    x: Tensor, ranked: Ranking, size: int, power: float, splits: Splits
) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Rotate the gated features to the principal axes of each split's own samples, at unit trace.

    ``x`` is (n, p) float32; the gate keeps the best ``size`` features (m) times evidence ^ (power / 2). The
    eigenvectors are those of the features or of the samples, whichever are fewer.
    Returns the coordinates of all samples (n_splits, n, r), their variances over the split (n_splits, r), and
    a function from ``x`` again and weights of coordinates (r, n_classes) to weights of features (m, n_classes), for
    split 0.
    """
    n_samples, columns = len(x), ranked.order[:, :size]
    m = columns.shape[1]
    inside, n_inside = splits.inside[..., None], splits.inside.sum(1)

    def gate(split: int, tile: Tensor) -> Tensor:
        return ranked.evidence[split, tile].double() ** (power / 2)

    def gated(x: Tensor, split: int, tile: Tensor) -> Tensor:
        return (x[:, tile] - ranked.mean[split, tile]).double() * gate(split, tile)

    if m <= n_samples:
        values_of = torch.empty(len(columns), n_samples, m, dtype=torch.float64, device=x.device)
        for split, tile in enumerate(columns):
            values_of[split] = gated(x, split, tile)
        pairs = zip(values_of, inside, strict=True)
        moment = torch.stack([(of_split * used).mT @ of_split for of_split, used in pairs])
    else:
        values_of = x.new_zeros(len(columns), n_samples, n_samples, dtype=torch.float64)
        for split, kept in enumerate(columns):
            for tile in kept.split(TILE_FEATURES):
                part = gated(x, split, tile)
                values_of[split] += part @ part.T
        moment = values_of * inside * inside.mT
    trace = torch.diagonal(moment, dim1=1, dim2=2).sum(1) / n_inside
    trace = torch.where(trace > 0, trace, torch.ones_like(trace))
    values, vectors = torch.linalg.eigh(moment / trace[:, None, None])
    alive = values > RELATIVE_VARIANCE_FLOOR * values[:, -1:].clamp(min=1e-30)
    values = values * alive
    if m <= n_samples:
        back = vectors * (alive / trace.sqrt()[:, None])[:, None]
        whole = back[0].clone()

        def lift(x: Tensor, weights: Tensor) -> Tensor:
            return gate(0, columns[0])[:, None] * (whole @ weights)

        for of_split, back_of_split in zip(values_of, back, strict=True):
            of_split[:] = of_split @ back_of_split
        return values_of, values / n_inside[:, None], lift
    inverse = torch.where(alive, values, torch.ones_like(values)).rsqrt() * alive
    back = vectors * inverse[:, None] * inside / trace.sqrt()[:, None, None]

    whole, root = back[0].clone(), trace[0].sqrt()

    def lift_from_samples(x: Tensor, weights: Tensor) -> Tensor:
        dual, tiles = whole @ weights / root, columns[0].split(TILE_FEATURES)
        return torch.cat([gate(0, tile)[:, None] * (gated(x, 0, tile).T @ dual) for tile in tiles])

    return values_of @ back / trace.sqrt()[:, None, None], values / n_inside[:, None], lift_from_samples


def train_heads(
    scores: Tensor, variances: Tensor, splits: Splits, penalties: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Train L2 softmax heads for all splits and penalties at once by accelerated gradient.

    ``scores`` (n_splits, n, r) are principal coordinates, so the bound of Boehning (1992,
    doi:10.1007/BF00048682) on the curvature, 1/2 of ``variances`` (n_splits, r), is diagonal and every
    coordinate has its own safe step; Nesterov's momentum does the rest.
    Returns weights (n_splits, n_penalties, r, n_classes) and intercepts (n_splits, n_penalties, n_classes).
    """
    # Each process sums the gradient over its share of the samples, in the coordinates of the first.
    rows = shard(len(splits.onehot))
    scores, variances = from_first(scores)[:, rows], from_first(variances)
    n_splits, n_samples, rank = scores.shape
    n_penalties, n_classes = len(penalties), splits.onehot.shape[1]
    share = (splits.inside / splits.inside.sum(1, keepdim=True))[:, rows]  # (n_splits, n)
    onehot = splits.onehot[rows, None]
    step = 1.0 / (variances[:, :, None, None] / 2 + penalties[:, None])  # (n_splits, r, n_penalties, 1)
    # Penalties and classes side by side: one product a split, however many penalties there are.
    weights = scores.new_zeros(n_splits, rank, n_penalties, n_classes)
    intercept = splits.log_prior[:, None].repeat(1, n_penalties, 1)
    looked_w, looked_b, momentum = weights, intercept, 1.0
    for _ in range(steps):
        logits = (scores @ looked_w.flatten(2)).view(n_splits, n_samples, n_penalties, n_classes)
        probabilities = torch.softmax(logits + looked_b[:, None], -1)
        residual = (probabilities - onehot) * share[:, :, None, None]
        gradient = total(scores.mT @ residual.flatten(2)).view_as(looked_w) + penalties[:, None] * looked_w
        new_w = looked_w - step * gradient
        new_b = looked_b - 2.0 * total(residual.sum(1))
        following = (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5) / 2.0
        carried = (momentum - 1.0) / following
        looked_w = new_w + carried * (new_w - weights)
        looked_b = new_b + carried * (new_b - intercept)
        weights, intercept, momentum = new_w, new_b, following
    return weights.transpose(1, 2), intercept


def gate_members(
    x: Tensor,
    ranked: Ranking,
    splits: Splits,
    n_features: int,
    *,
    kept: tuple[float, ...],
    evidence_powers: tuple[float, ...],
    penalties: tuple[float, ...],
    steps: int,
) -> Iterator[Member]:
    """Fit a head for every gate from the F statistic and every penalty on samples ``x`` (n, p) float32.

    ``n_features`` are those of the view, of which ``x`` may hold the best; ``kept`` are the fractions of them that
    hard gates keep; ``evidence_powers`` makes the soft gates;
    ``penalties`` are lambda of mean cross-entropy + lambda / 2 x sum of squared weights.
    """
    strengths = torch.tensor(penalties, dtype=torch.float64, device=x.device)
    for size, power in gate_designs(most_kept(*splits.inside.shape), n_features, kept, evidence_powers):
        scores, variances, lift = principal_coordinates(x, ranked, size, power, splits)
        weights, intercepts = train_heads(scores, variances, splits, strengths, steps)
        logits = torch.stack([scores @ of_penalty for of_penalty in weights.unbind(1)], dim=1)
        oof = splits.out_of_fold(logits + intercepts[:, :, None]).cpu().numpy()
        columns = ranked.order[0, :size]
        centre = ranked.mean[0, columns].double()
        kind, settings = ("soft gate", {"power": power}) if power else ("top-k gate", {})
        for number, penalty in enumerate(penalties):

            def linear(
                x, w=weights[0, number], b=intercepts[0, number], at=columns, centre=centre, lift=lift
            ):
                of_features = lift(x, w)
                return at, of_features, b - centre @ of_features

            yield Member(kind, size, {**settings, "penalty": penalty}, oof[number], linear)


# --- attention gates over shrunken prototypes ---


class AttentionGates(nn.Module):
    """Softmax gates over the features that survive each threshold, one for each split, threshold and penalty.

    The score of a class is the gated mean over features of z c - c^2 / 2 (z the standardised value, c the
    prototype): how much nearer the sample is to the prototype than to the centre.
    """

    def __init__(self, prototypes: Tensor, alive: Tensor, n_penalties: int):
        super().__init__()
        # prototypes (n_splits, n_levels, n_classes, m); alive (n_splits, n_levels, m)
        self.register_buffer("prototypes", prototypes)
        self.register_buffer("alive", alive[:, :, None])
        n_splits, n_levels, _, m = prototypes.shape
        self.scores = nn.Parameter(prototypes.new_zeros(n_splits, n_levels, n_penalties, m))

    def gates(self) -> Tensor:
        """Weights of the features, of sum 1: (n_splits, n_levels, n_penalties, m)."""
        return torch.softmax(self.scores.masked_fill(~self.alive, -torch.inf), dim=-1)

    def divergence(self, gates: Tensor) -> Tensor:
        """Kullback-Leibler divergence from the uniform gate, nats: (n_splits, n_levels, n_penalties)."""
        return (gates * torch.log(gates.clamp(min=1e-30))).sum(-1) + torch.log(
            self.alive.sum(-1).to(gates.dtype)
        )

    def forward(self, z: Tensor, gates: Tensor) -> Tensor:
        """Score samples ``z`` (n_splits, n, m): (n_splits, n_levels, n_penalties, n, n_classes)."""
        gated = gates[:, :, :, None] * self.prototypes[:, :, None]  # (s, l, q, k, m)
        offset = (gated * self.prototypes[:, :, None]).sum(-1) / 2
        flat = gated.reshape(len(z), -1, z.shape[-1])  # all (l, q, k) side by side: one product a split
        scores = (z @ flat.mT).reshape(len(z), z.shape[1], *gated.shape[1:4]).movedim(1, 3)
        return scores - offset[:, :, :, None]


def shrink(t: Tensor, threshold: Tensor) -> Tensor:
    """Soft-threshold: pull towards 0 by the threshold, and stop there."""
    return torch.sign(t) * (t.abs() - threshold).clamp(min=0)


def left_out_means(z: Tensor, splits: Splits) -> tuple[Tensor, Tensor]:
    """Mean of each sample's class without the samples of its patient, and how many those are.

    ``z`` is (n_splits, n, m), centred. Returns (n_splits, n, m), 0 (the centre) where nothing is left,
    and the counts (n_splits, n).
    """
    inside = splits.inside[..., None]
    sums = torch.einsum("snk,snm->skm", inside * splits.onehot, z)[:, splits.labels]
    counts = splits.counts[:, splits.labels]
    n_groups = int(splits.group.max()) + 1
    same = torch.zeros(len(z), n_groups, z.shape[2], dtype=z.dtype, device=z.device)
    same.index_add_(1, splits.group, z * inside)
    n_same = torch.zeros(len(z), n_groups, dtype=z.dtype, device=z.device)
    n_same.index_add_(1, splits.group, splits.inside)
    left = counts - n_same[:, splits.group]
    mean = (sums - same[:, splits.group]) / left.clamp(min=1)[..., None]
    return torch.where(left[..., None] > 0, mean, torch.zeros_like(mean)), left


def most_attended(n_splits: int, n_samples: int, survivors: tuple[int, ...]) -> int:
    """Say among how many features attention gates choose at most: fewer than ``survivors`` where they would not fit."""
    room = VALUES_HELD // (n_splits * n_samples * len(survivors))
    return max(1, min(max(survivors), room))


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
    n_splits, n_samples = splits.inside.shape
    m = min(ranked.order.shape[1], most_attended(n_splits, n_samples, survivors))
    columns = ranked.order[:, :m]
    z = torch.stack([x[:, chosen] for chosen in columns]).double()  # (n_splits, n, m)
    mean, class_mean, variance = moments(z, splits)
    spread = moderate(variance, ranked.common, splits).sqrt()
    z = (z - mean[:, None]) / spread[:, None]

    n_inside = splits.inside.sum(1, keepdim=True)

    def standard_error(counts: Tensor) -> Tensor:
        """Of a class mean against the centre, in units of the spread; the class itself is in the centre."""
        return (1 / counts.clamp(min=1) - 1 / n_inside).clamp(min=1e-6).sqrt()

    error = standard_error(splits.counts)[..., None]  # (n_splits, n_classes, 1)
    t = (class_mean - mean[:, None]) / spread[:, None] / error
    evidence = t.abs().amax(1)  # (n_splits, m)
    falling = evidence.sort(dim=1, descending=True).values
    sizes = sorted({min(size, m) for size in survivors})
    following = torch.cat([falling, falling.new_zeros(n_splits, 1)], dim=1)
    threshold = torch.stack([following[:, size] for size in sizes], dim=1)  # (n_splits, n_levels)
    alive = evidence[:, None] > threshold[..., None]  # (n_splits, n_levels, m)
    # Nothing to choose among (constant or tied features): all take part, with prototypes at the centre.
    alive = alive | ~alive.any(-1, keepdim=True)
    prototypes = shrink(t[:, None], threshold[:, :, None, None]) * error[:, None]

    # A sample is judged by prototypes that neither it nor its patient helped to build; otherwise every gate
    # looks right on the samples it was made from.
    # Each process judges its share of the samples.
    rows = shard(n_samples)
    own_mean, left = (of_samples[:, rows] for of_samples in left_out_means(z, splits))
    own_error = standard_error(left)[..., None]
    # The largest array here: level by level, so that there are not several of it.
    own_terms = z.new_empty(n_splits, len(sizes), *own_mean.shape[1:])  # (n_splits, n_levels, n, m)
    own_t = own_mean / own_error
    for level, limit in enumerate(threshold.unbind(1)):
        own = shrink(own_t, limit[:, None, None]) * own_error
        own_terms[:, level] = z[:, rows] * own - own**2 / 2
    is_own = splits.onehot[rows].bool()
    n_classes = splits.onehot.shape[1]
    targets = (1 - smoothing) * splits.onehot[rows] + smoothing / n_classes
    share = (splits.inside / n_inside)[:, None, None, rows]  # (n_splits, 1, 1, n)
    log_prior = splits.log_prior[:, None, None, None]

    n_refined = len(uniformity)
    model = AttentionGates(prototypes, alive, n_refined + 1).to(x.device)
    score = wrap(model)

    def honest_scores(gates: Tensor) -> Tensor:
        judged = torch.einsum("slqm,slnm->slqn", gates, own_terms)
        return torch.where(is_own, judged[..., None], score(z[:, rows], gates))

    def loss(logits: Tensor) -> Tensor:
        log_probability = torch.log_softmax(logits + log_prior, -1)
        return -((log_probability * targets).sum(-1) * share).sum(-1)

    with torch.no_grad():
        start = honest_scores(model.gates()[:, :, :1])
        grid = torch.from_numpy(SHARPNESS_GRID).to(x.device)
        losses = total(
            torch.stack([loss(start * value)[..., 0] for value in grid])
        )  # (46, n_splits, n_levels)
        sharpness = grid[losses.argmin(0)][:, :, None, None, None]
    pull = torch.tensor((*uniformity, 0.0), dtype=torch.float64, device=x.device)
    refined = torch.ones(n_refined + 1, 1, dtype=torch.float64, device=x.device)
    refined[-1] = 0.0  # the last gate stays at the closed form
    for step in range(steps):
        gates = model.gates()
        # Gradients are averaged over processes: the sum over samples counts as often as there are some.
        of_samples = n_processes() * loss(honest_scores(gates) * sharpness)
        model.scores.grad = None
        (of_samples + pull * model.divergence(gates)).sum().backward()
        with torch.no_grad():
            gradient = model.scores.grad
            # Divided by the gate this is the natural gradient of a softmax: all features move at one scale.
            natural = torch.where(model.alive, gradient / gates.clamp(min=1e-12), 0.0)
            largest = natural.abs().amax(-1, keepdim=True).clamp(min=1e-3)
            fallen = rate * (1 + np.cos(np.pi * step / steps)) / 2
            model.scores -= fallen * refined * natural / largest

    with torch.no_grad():
        gates = model.gates()
        logits = model(z, gates) * sharpness + log_prior
        oof = splits.out_of_fold(logits.flatten(1, 2)).cpu().numpy()
        gated = gates[0, :, :, None] * model.prototypes[0, :, None] * sharpness[0]  # (l, q, k, m)
        intercept = log_prior[0, 0] - (gated * model.prototypes[0, :, None]).sum(-1) / 2
        weights = (gated / spread[0]).transpose(2, 3)  # (l, q, m, k)
        intercept = intercept - mean[0] @ weights
    for level in range(len(sizes)):
        some = alive[0, level]
        for number, penalty in enumerate((*uniformity, None)):
            parts = columns[0, some], weights[level, number, some], intercept[level, number]
            kind, settings = ("attention gate", {"uniformity": penalty}) if penalty else ("prototypes", {})
            at = level * (n_refined + 1) + number
            yield Member(kind, int(some.sum()), settings, oof[at], lambda _, parts=parts: parts)
