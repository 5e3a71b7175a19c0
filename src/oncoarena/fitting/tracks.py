"""Features in a row: by genome coordinate where there is one, else by correlation in the training part."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from oncoarena.cohort import Cohort
from oncoarena.fitting.components import fit_components
from oncoarena.fitting.tiles import MANY_SAMPLES
from oncoarena.fitting.views import JoinedView

# A feature is placed by its training correlations, in this many leading components.
SERIATION_COMPONENTS = 64


@dataclass(frozen=True)
class Track:
    """The order of the features of all blocks, and where one chromosome ends and the next begins."""

    order: np.ndarray
    """(n_features,) int64: positions of the joined features along the track."""
    bounds: np.ndarray
    """(n_chromosomes + 1,) int64: chromosome c is order[bounds[c]:bounds[c + 1]]."""
    pseudo_order: bool
    """Whether a block had no coordinates and was ordered by correlation."""


def mirrored_places(bounds: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Mirror each chromosome at its ends, so that nothing looks from one into the next.

    Parameters: ``bounds`` (n_chromosomes + 1,) as those of a track; ``radius`` how many places are added at each end.
    Returns the places (n_padded,) and which of them are no mirror (n_padded,) bool.
    """
    places, is_own = [], []
    for start, stop in pairwise(bounds):
        places.append(np.pad(np.arange(start, stop), radius, mode="symmetric"))
        is_own.append(np.pad(np.ones(stop - start, dtype=bool), radius))
    return np.concatenate(places), np.concatenate(is_own)


def fit_track(cohort: Cohort, view: JoinedView) -> Track:
    """Order the features of each block by coordinate, or else by their correlations in the training part.

    Parameters: ``cohort`` the training samples, ``view`` one that was fitted on them; of very many samples
    correlations are those of evenly spaced ones.
    """
    order, lengths, pseudo_order = [], [], False
    for name, columns in view.block_slices().items():
        block = cohort.blocks[name]
        if block.has_coordinates:
            table = block.features
            # The id decides between features of the same place, so columns may come in any order.
            placed = np.lexsort([table[key].to_numpy() for key in ("id", "end", "start", "chrom")])
            _, first = np.unique(table["chrom"].to_numpy()[placed], return_index=True)
            lengths.extend(np.diff([*first, len(placed)]))
        else:
            spaced = np.linspace(0, len(cohort) - 1, min(len(cohort), MANY_SAMPLES)).round().astype(np.int64)
            placed, pseudo_order = seriate(view.transform(cohort.take(spaced))[:, columns]), True
            lengths.append(len(placed))
        order.append(columns.start + placed)
    return Track(np.concatenate(order), np.concatenate([[0], np.cumsum(lengths)]), pseudo_order)


def seriate(x: np.ndarray) -> np.ndarray:
    """Order features so that correlated ones are neighbours.

    The features are bisected along their principal direction again and again; of two halves, the one
    closer to what is already placed comes first. Time grows as n_features x log(n_features).

    Parameters: ``x`` (n_samples, n_features) of training samples.
    Returns (n_features,) int64 positions.
    Source: principal direction divisive partitioning, doi:10.1023/A:1009740529316.
    """
    components = fit_components(x, SERIATION_COMPONENTS)
    # Inner products of these rows are the correlations of the features.
    rows = components.basis * np.linalg.norm(components.train_scores, axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    placed: list[np.ndarray] = []
    end = np.zeros(rows.shape[1])  # mean direction of what was placed last
    waiting = [np.arange(len(rows))]
    while waiting:
        of = waiting.pop()
        centred = rows[of] - rows[of].mean(axis=0)
        side = centred @ _principal_direction(centred) > 0
        if not side.any():  # a single feature, or features that are all alike
            placed.append(of)
            end = (end + rows[of[-1]]) / 2
            continue
        halves = sorted((of[side], of[~side]), key=lambda half: rows[half].mean(axis=0) @ end)
        waiting.extend(halves)
    return np.concatenate(placed)


def _principal_direction(centred: np.ndarray, n_iterations: int = 15) -> np.ndarray:
    """Find the direction (r,) of largest variance by power iteration; zero if there is no variance."""
    length = np.einsum("fr,fr->f", centred, centred)
    if length.size == 0 or length.max() <= 1e-10:
        return np.zeros(centred.shape[1])
    direction = centred[length.argmax()]
    for _ in range(n_iterations):
        direction = centred.T @ (centred @ direction)
        direction = direction / np.linalg.norm(direction)
    return direction
