"""Scales: how far and over which blocks features are smoothed along the genome, and what is found of them.

Many ways to look are cheap to compare: the leave-patient-out scores of a ridge classifier are exact from the Gram
matrix of the samples (``kernel_ridge``). Only the best become scales, with components that heads are trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.components import Components, fit_view_components
from oncoarena.fitting.grids import Grid, spacing_bp
from oncoarena.fitting.kernel_ridge import deal_landmarks, ridge_path
from oncoarena.fitting.selection import fit_temperature, log_loss, softmax
from oncoarena.fitting.smoothing import SmoothedView
from oncoarena.fitting.views import JoinedView

# A block of less weight than this, of the largest 1, is not named in a sum.
NAMED_WEIGHT = 0.1
# Training samples that looks are compared on, at most.
COMPARED_SAMPLES = 1024
# Penalties of the ridge classifier, in units of the total variance of all samples.
RIDGE_PENALTIES = (1.0, 0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Look:
    """One way to see the tracks: smoothed so far, or by the residual network."""

    name: str
    view: int
    """Number of the view; -1 for the residual network, which sees all."""
    grid: int
    """Number of the grid: 0 the features in their order, then sums of blocks; -1 for the residual network."""
    sigma: float
    """Smoothing (places of the grid); -1 for the residual network."""


@dataclass(frozen=True)
class Scale(Look):
    """A look with the components that heads are trained on."""

    components: Components
    factor: float
    """What makes the trace of the components 1."""

    @classmethod
    def fit(
        cls,
        look: Look,
        seen: SmoothedView | JoinedView,
        train: Cohort,
        max_components: int,
        rng: np.random.Generator,
    ) -> tuple[Self, np.ndarray]:
        """Fit the leading components of what a look has ``seen``; return the scale and its scores (n_samples, r)."""
        components = fit_view_components(seen, train, max_components, rng)
        scores = components.train_scores
        variance = np.sum(scores**2) / max(len(train), 1)
        factor = float(1.0 / np.sqrt(variance)) if variance > 0 else 0.0
        # Scores of the training part are many and no part of the model.
        components = replace(components, train_scores=scores[:0].copy())
        return cls(**vars(look), components=components, factor=factor), scores * factor

    def feature_weights(self, of_scores: np.ndarray) -> np.ndarray:
        """Turn weights of the scores (n_samples, at least r) into those of what was smoothed (n_samples, n_places)."""
        weights = of_scores[:, : self.components.basis.shape[1]].T * self.factor
        return self.components.feature_weights(weights).T


def compared_samples(train: LabelledCohort, rng: np.random.Generator) -> np.ndarray:
    """Return the positions of the samples that looks are compared on: all, or some that favour no large class."""
    if len(train) <= COMPARED_SAMPLES:
        return np.arange(len(train))
    return deal_landmarks(train.labels, COMPARED_SAMPLES, rng)


def ridge_log_loss(x: np.ndarray, train: LabelledCohort) -> float:
    """Return the leave-patient-out log loss of a ridge classifier, calibrated, at the best of ``RIDGE_PENALTIES``.

    Parameters: ``x`` (n_samples, n_places) float32, what a look sees of the samples of ``train``.
    Raises NotApplicable with fewer than two patients.
    """
    patients, groups = np.unique(train.patient_ids, return_inverse=True)
    if len(patients) < 2:
        raise NotApplicable(f"needs training samples of at least 2 patients, found {len(patients)}")
    gram = (x @ x.T).astype(np.float64)
    size = np.trace(gram) or 1.0
    targets = np.eye(len(train.classes))[train.labels]
    losses = []
    for *_, scores in ridge_path(gram / size, targets, np.ones(len(x)), groups, RIDGE_PENALTIES):
        losses.append(log_loss(softmax(fit_temperature(scores, train.labels) * scores), train.labels))
    return min(losses)


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
