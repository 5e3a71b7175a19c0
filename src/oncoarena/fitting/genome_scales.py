"""Scales: how far and over which blocks features are smoothed along the genome, and what is found of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oncoarena.cohort import Cohort
from oncoarena.fitting.components import Components
from oncoarena.fitting.grids import Grid, spacing_bp

# A block of less weight than this, of the largest 1, is not named in a sum.
NAMED_WEIGHT = 0.1


@dataclass(frozen=True)
class Scale:
    """One way to see the tracks that heads are trained on: smoothed so far, or by the residual network."""

    name: str
    view: int
    """Number of the view; -1 for the residual network, which sees all."""
    grid: int
    """Number of the grid: 0 the features in their order, then sums of blocks; -1 for the residual network."""
    sigma: float
    """Smoothing (places of the grid); -1 for the residual network."""
    components: Components
    factor: float
    """What makes the trace of the components 1."""

    def feature_weights(self, of_scores: np.ndarray) -> np.ndarray:
        """Turn weights of the scores (n_samples, at least r) into those of what was smoothed (n_samples, n_places)."""
        weights = of_scores[:, : self.components.basis.shape[1]].T * self.factor
        return self.components.feature_weights(weights).T


def name_sum(names: Sequence[str], weights: np.ndarray) -> str:
    """Name a sum of blocks by those of weight, e.g. "coverage - methylation".

    Parameters: ``names`` of the blocks; ``weights`` (n_blocks,), of which the largest is positive.
    """
    named = [i for i in range(len(names)) if abs(weights[i]) >= NAMED_WEIGHT * np.abs(weights).max()]
    words = "".join(f" {'-' if weights[i] < 0 else '+'} {names[i]}" for i in named)
    return words.removeprefix(" + ").strip()


def describe_scale(
    scale: Scale, share: float, cohort: Cohort, names: Sequence[str], grid: Grid | None
) -> dict[str, Any]:
    """Say what a scale looks at: its blocks, and how far it smooths, in places and in bp where those are known.

    Parameters: ``share`` the weight it was given; ``names`` of its blocks; ``grid`` its own, None for the network.
    """
    found = {"name": scale.name, "weight": share, "blocks": list(names)}
    if grid is None:
        return found
    blocks = {name: cohort.blocks[name] for name in names if cohort.blocks[name].has_coordinates}
    apart_bp = {name: float(grid.bin_bp or spacing_bp(block.features)) for name, block in blocks.items()}
    sigma_bp = {name: scale.sigma * bp for name, bp in apart_bp.items()}
    return found | {"sigma": scale.sigma, "sigma_bp": sigma_bp}
