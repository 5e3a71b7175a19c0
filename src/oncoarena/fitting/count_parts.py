"""Blocks of sets, counts or shares as parts of a kernel model, each with the similarity that is made for it.

Mutated genes are sets: two patients are as alike as the share of their mutated genes that they have in common
(Tanimoto). Mutation spectra and other counts are compared by what they have in common of every feature (min-max).
Unlike inner products, neither gains from features that both lack, nor from the burden of one of the two.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from oncoarena.fitting.describing import sample_totals, unmeasured
from oncoarena.fitting.kernel_attributions import min_max_contributions
from oncoarena.fitting.kernel_parts import Part
from oncoarena.fitting.tiles import tiles
from oncoarena.fitting.views import offers_shares
from oncoarena.kernels.min_max import min_max
from oncoarena.kernels.tanimoto import tanimoto
from oncoarena.mapped import large_array, release

COUNT_KERNELS = {"set": "tanimoto", "count": "min_max", "proportion": "min_max"}
"""What a block can be seen as, and the similarity of its samples."""
# Totals of shares, of percentages, and of parts per million (TPM), and how far off rounding may leave them.
SHARE_TOTALS = (1.0, 100.0, 1e6)
SHARE_TOLERANCE = 0.01


@dataclass(frozen=True)
class CountView:
    """A block seen as sets, as counts or as proportions of a sample's total, fitted on training samples."""

    kind: str
    """One of ``COUNT_KERNELS``."""
    mean: np.ndarray
    """(n_features,) of the training samples, 0 where none has a value."""
    measured: np.ndarray
    """(n_features,) bool: whether any training sample has a value; others are 0 for every sample. A feature that is 0
    in all of them still counts: as a mutation of a training sample that no other shares, it makes one less alike."""

    @property
    def preparation(self) -> str:
        """Name what ``prepare`` does."""
        return self.kind

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """Bring samples into the form that is compared.

        A missing value becomes the training mean of its feature, in a set what most training samples are; a sample
        without any value lies at the training mean, in a set too: then it is partly a member.

        Parameters: ``values`` (n_samples, n_features), NaN where missing; never written to.
        Returns (n_samples, n_features) float32, finite and not negative; a large one is a map of a scratch file.
        """
        filling = (self.mean > 0.5) if self.kind == "set" else self.mean
        out = large_array(values.shape)
        for rows, x in _seen_as(self.kind, values):
            out[rows] = np.where(np.isnan(x), filling, x) * self.measured
            release(out)
        out[unmeasured(values)] = self.mean
        return out

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``from_arrays`` needs, as arrays for an .npz file."""
        return {"kind": np.array(self.kind), "mean": self.mean, "measured": self.measured}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """Rebuild a view from ``to_arrays``."""
        return cls(str(arrays["kind"]), arrays["mean"], arrays["measured"])


def _seen_as(kind: str, values: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Samples as ``kind`` (n, n_features), NaN where missing, by tiles of samples."""
    totals = sample_totals(values) if kind == "proportion" else np.ones(len(values))
    for rows, columns in tiles(values, by_samples=True):
        x = np.asarray(values[rows, columns])
        if kind == "set":
            yield rows, np.where(np.isnan(x), np.nan, x > 0.5)
        else:
            yield rows, np.maximum(x, 0.0) / totals[rows, None]


def fit_count_view(values: np.ndarray, kind: str) -> CountView:
    """Fit a view of training samples (n_samples, n_features), NaN where missing."""
    total, n_found = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for _, x in _seen_as(kind, values):
        total += np.nansum(x, axis=0, dtype=np.float64)
        n_found += np.count_nonzero(~np.isnan(x), axis=0)
    # Of float32, as prepared samples are: one at the mean does not differ from it.
    mean = np.float32(total / np.maximum(n_found, 1)).astype(np.float64)
    return CountView(kind, mean, n_found > 0)


def offered_counts(values: np.ndarray) -> tuple[str, ...]:
    """Tell what a block can be seen as by the nature of its values.

    "set": all are 0 or 1. "count": they are whole numbers, or shares of a whole. "proportion": totals of samples
    differ so much that their composition is worth a look of its own (``views.offers_shares``). Nothing where a
    value is negative, or there is but one feature.

    Parameters: ``values`` (n_samples, n_features) of the training part, NaN where missing.
    """
    if values.shape[1] < 2:
        return ()
    are_sets = are_whole = True
    for rows, columns in tiles(values, by_samples=True):
        x = values[rows, columns]
        x = x[~np.isnan(x)]
        if (x < 0).any():
            return ()
        are_whole = are_whole and not np.mod(x, 1.0).any()
        are_sets = are_sets and are_whole and not (x > 1).any()
    if are_sets:
        return ("set",)
    totals = np.delete(sample_totals(values), unmeasured(values))
    are_shares = any((np.abs(totals - whole) <= SHARE_TOLERANCE * whole).all() for whole in SHARE_TOTALS)
    return ("count",) * (are_whole or are_shares) + ("proportion",) * offers_shares(values)


@dataclass(frozen=True)
class CountPart:
    """One block seen in one such way: similarity x coefficient. Its methods are those of ``kernel_parts.Part``."""

    block: str
    view: CountView
    coefficients: dict[str, np.ndarray] = field(default_factory=dict)
    """Its only kernel -> (n_compared, n_classes), or nothing."""

    @property
    def kernel(self) -> str:
        """Name of the similarity."""
        return COUNT_KERNELS[self.view.kind]

    def similarities(self, prepared: np.ndarray, compared: np.ndarray, device: str) -> np.ndarray:
        """Compare samples (n, n_compared); sets without a partial member bit by bit, which gives the same."""
        if self.view.kind == "set" and are_sets(prepared) and are_sets(compared):
            return tanimoto(prepared, compared, device=device)
        return min_max(prepared, compared, device=device)

    def add_coefficients(self, kernel: str, coefficients: np.ndarray) -> None:
        """Add to the coefficients; in a sum with other blocks ``kernel`` is theirs."""
        self.coefficients[self.kernel] = self.coefficients.get(self.kernel, 0.0) + coefficients

    def add_logits(self, logits: np.ndarray, prepared: np.ndarray, compared: np.ndarray, device: str) -> None:
        """Add to ``logits`` (n, n_classes) what the similarities give."""
        logits += self.similarities(prepared, compared, device) @ self.coefficients[self.kernel]

    def contributions(
        self, prepared: np.ndarray, compared: np.ndarray, of_score: dict[str, np.ndarray], device: str
    ) -> np.ndarray:
        """Attribute the sum of similarity x ``of_score`` (n_compared,) to features (n, n_features)."""
        similarities = [
            self.similarities(samples, compared, device) for samples in (prepared, self.view.mean[None])
        ]
        sets = self.view.kind == "set" and are_sets(compared)
        return min_max_contributions(
            prepared, self.view.mean, compared, *similarities, of_score[self.kernel], compared_are_sets=sets
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what ``read_part`` needs but the block's name, for an .npz file."""
        arrays = {f"view.{name}": array for name, array in self.view.to_arrays().items()}
        return arrays | {"count_kernel": self.coefficients[self.kernel]}


def are_sets(prepared: np.ndarray) -> bool:
    """Whether all values are 0 or 1."""
    cut = (prepared[rows] for rows, _ in tiles(prepared, by_samples=True))
    return all(((x == 0) | (x == 1)).all() for x in cut)


def read_part(block: str, arrays: dict[str, np.ndarray]) -> Part | CountPart:
    """Rebuild a part of either kind from its ``to_arrays``."""
    if "count_kernel" not in arrays:
        return Part.from_arrays(block, arrays)
    view = CountView.from_arrays({name: arrays[f"view.{name}"] for name in CountView.__dataclass_fields__})
    part = CountPart(block, view)
    part.add_coefficients(part.kernel, arrays["count_kernel"])
    return part
