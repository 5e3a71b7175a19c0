"""Sparse linear members in PyTorch: gates from the F statistic with an L2 softmax head, all inner folds side by side.

Hard gates keep the k features of most evidence; soft ones keep all, each times a power of its evidence. Features are
ranked and heads trained anew in every split, by its own samples alone. Sums over features or samples of a split are
float64, what is trained on is float32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oncoarena.data_parallel import from_first, shard, total
from oncoarena.fitting.torch_evidence import TILE_FEATURES, Ranking, Splits

# Values of a training tensor (512 MiB); a larger cohort gets fewer candidate features.
VALUES_HELD = 2**27
# Samples; above this number a gate keeps no more features than this.
LARGE_COHORT = 1000
# Eigenvalues below this share of the largest are rounding of float32, and far below any penalty.
RELATIVE_VARIANCE_FLOOR = 1e-6


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
    Returns the coordinates of all samples (n_splits, n, r) float32, their variances over the split (n_splits, r), and
    a function from ``x`` again and weights of coordinates (r, n_classes) to weights of features (m, n_classes)
    float64, for split 0.
    """
    n_samples, columns = len(x), ranked.order[:, :size]
    n_splits, m = columns.shape
    by_features = m <= n_samples
    scores = x.new_empty(n_splits, n_samples, min(m, n_samples))
    variances = scores.new_empty(n_splits, scores.shape[2])

    def gate(ranked: Ranking, split: int, tile: Tensor) -> Tensor:
        return ranked.evidence[split, tile] ** (power / 2)

    def gated(x: Tensor, ranked: Ranking, split: int, tile: Tensor) -> Tensor:
        return (x[:, tile] - ranked.mean[split, tile]).mul_(gate(ranked, split, tile))

    for split in reversed(range(n_splits)):  # the first one's axes are used later
        used = splits.inside[split, :, None]
        if by_features:
            values_of = gated(x, ranked, split, columns[split]).double()
            moment = (values_of * used).T @ values_of
        else:
            values_of = torch.zeros(n_samples, n_samples, dtype=torch.float64, device=x.device)
            for tile in columns[split].split(TILE_FEATURES):
                part = gated(x, ranked, split, tile)
                values_of += part @ part.T
            moment = values_of * used * used.T
        trace = torch.trace(moment) / used.sum()
        root = torch.where(trace > 0, trace, 1.0).sqrt()
        values, vectors = torch.linalg.eigh(moment / root**2)
        alive = values > RELATIVE_VARIANCE_FLOOR * values[-1].clamp(min=1e-30)
        variances[split] = values * alive / used.sum()
        if by_features:
            back = vectors * alive / root
            scores[split] = values_of @ back
        else:
            inverse = torch.where(alive, values, 1.0).rsqrt() * alive
            back = vectors * inverse * used / root**2
            scores[split] = values_of @ back
    back, first = back.float(), ranked.first
    kept = first.order[0, :size]

    def lift(x: Tensor, weights: Tensor) -> Tensor:
        inner = (back @ weights).double()
        if by_features:
            return gate(first, 0, kept)[:, None] * inner
        tiles = kept.split(TILE_FEATURES)
        return torch.cat(
            [gate(first, 0, tile)[:, None] * (gated(x, first, 0, tile).double().T @ inner) for tile in tiles]
        )

    return scores, variances, lift


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
    penalties = penalties.to(scores.dtype)[:, None]
    share = splits.inside / splits.inside.sum(1, keepdim=True)
    share = share[:, None, None, rows].to(scores.dtype)  # (n_splits, 1, 1, n)
    onehot = splits.onehot[rows].T[:, None].to(scores.dtype)  # (n_classes, 1, n)
    step = 1.0 / (variances[:, None, None] / 2 + penalties)  # (n_splits, 1, n_penalties, r)
    kept = 1.0 - step * penalties
    # Classes and penalties side by side: one product a split, however many there are. Samples lie last, so that a
    # softmax over the classes runs along them.
    shape = len(scores), len(onehot), len(penalties)
    weights = scores.new_zeros(*shape, scores.shape[2])
    intercept = splits.log_prior.to(scores.dtype)[:, :, None, None].repeat(1, 1, len(penalties), 1)
    looked_w, looked_b, momentum = weights, intercept, 1.0
    for _ in range(steps):
        logits = torch.baddbmm(looked_b.flatten(1, 2), looked_w.flatten(1, 2), scores.mT)
        residual = torch.softmax(logits.view(*shape, -1), 1).sub_(onehot).mul_(share)
        gradient = total(residual.flatten(1, 2) @ scores).view_as(weights)
        new_w = (looked_w * kept).addcmul_(gradient, step, value=-1.0)
        new_b = looked_b - 2.0 * total(residual.sum(-1, keepdim=True))
        following = (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5) / 2.0
        beyond = 1.0 + (momentum - 1.0) / following
        looked_w = torch.lerp(weights, new_w, beyond)
        looked_b = torch.lerp(intercept, new_b, beyond)
        weights, intercept, momentum = new_w, new_b, following
    return weights.permute(0, 2, 3, 1), intercept[..., 0].transpose(1, 2)


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
        oof = splits.out_of_fold((logits + intercepts[:, :, None]).double()).cpu().numpy()
        columns = ranked.first.order[0, :size]
        centre = ranked.mean[0, columns].double()
        kind, settings = ("soft gate", {"power": power}) if power else ("top-k gate", {})
        for number, penalty in enumerate(penalties):

            def linear(
                x, w=weights[0, number], b=intercepts[0, number], at=columns, centre=centre, lift=lift
            ):
                of_features = lift(x, w)
                return at, of_features, b - centre @ of_features

            yield Member(kind, size, {**settings, "penalty": penalty}, oof[number], linear)
