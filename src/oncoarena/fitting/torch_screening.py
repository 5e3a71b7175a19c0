"""Which features of a view are worth having in memory: all for few samples, those of most evidence for very many."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oncoarena.cohort import LabelledCohort
from oncoarena.fitting.tiles import MANY_SAMPLES
from oncoarena.fitting.torch_evidence import (
    TILE_FEATURES,
    Ranking,
    Splits,
    class_sums,
    from_sums,
    rank_by_moments,
    rank_features,
)
from oncoarena.fitting.views import JoinedView
from oncoarena.mapped import LARGE_BYTES


@dataclass
class Screened:
    """The features of one view of the training samples that gates may look at, and the evidence for each."""

    ranked: Ranking | None
    """``order`` holds positions in ``features``; None once members are fitted."""
    n_features: int
    """Of the whole view."""
    spread: Tensor
    """(n_features,) float64: standard deviation of each feature of the view over all training samples."""
    features: Tensor | None
    """(m,) int64: which features of the view those in memory are; None stands for all."""
    view: JoinedView
    train: LabelledCohort
    held: Tensor | None

    def x(self) -> Tensor:
        """Return the samples (n, m) float32; a large view of all features is made anew by each call."""
        return _whole(self.view, self.train, self.spread.device) if self.held is None else self.held

    def let_go(self) -> None:
        """Forget what only fitting needs, and a large view of all features, which ``x`` makes again."""
        self.ranked = None
        if self.features is None and self.held.nbytes > LARGE_BYTES:
            self.held = None

    def in_view(self, columns: Tensor) -> Tensor:
        """Turn positions in memory into those of the view."""
        return columns if self.features is None else self.features[columns]


def screen(view: JoinedView, train: LabelledCohort, splits: Splits, n_most: int) -> Screened:
    """Rank the features of a view and bring into memory what gates of at most ``n_most`` features can ask for.

    Up to ``tiles.MANY_SAMPLES`` samples these are all features. Of more, two passes over the samples leave the
    ``n_most`` best of every split.
    """
    device = splits.inside.device
    n_features = view.n_features
    if len(train) <= MANY_SAMPLES:
        x = _whole(view, train, device)
        spread = torch.cat([tile.std(dim=0, correction=0) for tile in x.split(TILE_FEATURES, dim=1)]).double()
        return Screened(rank_features(x, splits), n_features, spread, None, view, train, x)
    n_splits, n_classes = splits.counts.shape
    sums = torch.zeros(n_splits, n_classes, n_features, dtype=torch.float64, device=device)
    squares = torch.zeros(n_splits, n_features, dtype=torch.float64, device=device)
    for rows, tile in view.tiles(train):
        of_tile = class_sums(torch.from_numpy(tile).to(device).double(), splits, rows)
        sums += of_tile[0]
        squares += of_tile[1]
    parts = zip(sums.split(TILE_FEATURES, dim=2), squares.split(TILE_FEATURES, dim=1), strict=True)
    ranked = rank_by_moments((from_sums(*part, splits) for part in parts), n_features, splits)
    spread = (squares[0] / len(train) - (sums[0].sum(0) / len(train)) ** 2).clamp(min=0).sqrt()

    best = ranked.order[:, :n_most]
    features, order = torch.unique(best, return_inverse=True)
    x = torch.empty(len(train), len(features), device=device)
    for rows, tile in view.tiles(train):
        x[rows] = torch.from_numpy(tile).to(device)[:, features]
    ranked = replace(
        ranked, order=order, mean=ranked.mean[:, features], evidence=ranked.evidence[:, features]
    )
    return Screened(ranked, n_features, spread, features, view, train, x)


def _whole(view: JoinedView, train: LabelledCohort, device: torch.device) -> Tensor:
    return torch.from_numpy(view.transform(train)).to(device)
