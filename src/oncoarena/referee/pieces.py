"""A bounded piece of the blocks: enough rows and features to find a fault, whatever the size of the study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oncoarena.cohort import Block

CHUNK_CELLS = 20_000_000
"""Values read at a time: 160 MB in float64."""


@dataclass(frozen=True)
class Piece:
    """Some features of all blocks side by side, for some rows; NaN marks a missing value."""

    values: np.ndarray
    """(n_rows, n_features) float32."""
    names: list[str]
    """(n_features,) "feature" or "feature (gene)", with the block's name where there are several."""
    n_features_in_all: int


def draw_rows(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Draw at most ``most`` of the given row numbers without replacement, in ascending order."""
    if len(rows) <= most:
        return np.sort(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def first_rows_of_patients(patient_ids: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Keep the first of each patient's rows, in ascending order."""
    rows = np.sort(rows)
    _, first = np.unique(np.asarray(patient_ids, dtype=object)[rows].astype(str), return_index=True)
    return np.sort(rows[first])


def draw_features(blocks: Mapping[str, Block], most: int, seed: int) -> dict[str, np.ndarray]:
    """Choose at most ``most`` features of all blocks, each block with its share: column numbers by block."""
    in_all = sum(block.values.shape[1] for block in blocks.values())
    rng = np.random.default_rng(seed)
    chosen = {}
    for name, block in blocks.items():
        n_features = block.values.shape[1]
        kept = n_features if in_all <= most else max(1, most * n_features // in_all) if n_features else 0
        chosen[name] = np.sort(rng.choice(n_features, kept, replace=False))
    return chosen


def pick(columns: Mapping[str, np.ndarray], which: np.ndarray) -> dict[str, np.ndarray]:
    """Pick features out of a choice by their place in it, counted over all blocks; ``which`` ascends."""
    ends = np.cumsum([len(chosen) for chosen in columns.values()])
    parts = np.split(which, np.searchsorted(which, ends[:-1]))
    starts = ends - [len(chosen) for chosen in columns.values()]
    return {
        name: chosen[part - start]
        for (name, chosen), part, start in zip(columns.items(), parts, starts, strict=True)
    }


def read_piece(blocks: Mapping[str, Block], rows: np.ndarray, columns: Mapping[str, np.ndarray]) -> Piece:
    """Read the given rows and columns of every block, a chunk of rows at a time.

    Parameters: ``rows`` (n_rows,) row numbers; ``columns`` maps a block's name to column numbers.
    """
    widths = [len(columns[name]) for name in blocks]
    values = np.empty((len(rows), sum(widths)), dtype=np.float32)
    names: list[str] = []
    at = 0
    for (name, block), width in zip(blocks.items(), widths, strict=True):
        step = max(1, CHUNK_CELLS // max(block.values.shape[1], 1))
        whole = width == block.values.shape[1]
        for start in range(0, len(rows), step):
            part = block.values[rows[start : start + step]]
            values[start : start + step, at : at + width] = part if whole else part[:, columns[name]]
        prefix = f"{name}: " if len(blocks) > 1 else ""
        table = block.features.iloc[columns[name]]
        names += [
            f"{prefix}{feature}" + (f" ({gene})" if gene and gene != feature else "")
            for feature, gene in zip(table["id"], table["gene"], strict=True)
        ]
        at += width
    return Piece(values, names, sum(block.values.shape[1] for block in blocks.values()))


def standardise(values: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Centre and scale each feature by its mean and standard deviation; missing and constant become 0.

    Parameters: ``values`` (n_rows, n_features); ``reference`` the rows that give mean and deviation (the
    same rows if None). Returns (n_rows, n_features) float32.
    """
    known = values if reference is None else reference
    present = np.isfinite(known)
    n = np.maximum(present.sum(0), 1)
    mean = np.where(present, known, 0).sum(0, dtype=np.float64) / n
    gaps = np.where(present, known - mean, 0)
    scale = np.sqrt((gaps**2).sum(0, dtype=np.float64) / n)
    varied = scale > 1e-6 * np.maximum(np.abs(mean), 1e-30)
    scaled = (values - mean) / np.where(varied, scale, 1.0)
    return np.where(np.isfinite(scaled) & varied, scaled, 0).astype(np.float32)


def extent(n_rows: int, rows_in_all: int, piece: Piece, what: str = "samples") -> str:
    """Word how much was looked at: "200 samples and 500 features", with "of 9,000" where drawn."""
    of_rows = f" of {rows_in_all:,} (drawn by a fixed seed)" if n_rows < rows_in_all else ""
    n_features = piece.values.shape[1]
    of_features = (
        f" of {piece.n_features_in_all:,} (drawn by a fixed seed)"
        if n_features < piece.n_features_in_all
        else ""
    )
    return f"{n_rows:,} {what}{of_rows} and {n_features:,} features{of_features}"
