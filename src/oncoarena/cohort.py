"""What a hypothesis sees: blocks of features by sample, with labels for the training part only."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np
import pandas as pd

from oncoarena.mapped import take_rows


@dataclass(frozen=True)
class BlockSpec:
    """The meaning of one named array of features."""

    name: str
    dims: tuple[str, ...]
    """Names of the axes, e.g. ``("sample", "gene")``; of a set ``("sample", "mutation", "field")``."""
    dtype: str
    unit: str
    description: str
    reference: str = ""
    """DOI or format specification of the quantity."""

    @property
    def is_set(self) -> bool:
        """Whether a sample's values are members of a set in slots of several fields, rather than features.

        Only a hypothesis that names the block in its SETS sees it.
        """
        return len(self.dims) > 2


@dataclass(frozen=True)
class Block:
    """Features of one kind for n samples.

    ``values`` is (n_samples, n_features); NaN marks a missing value, where the study allows any.
    ``features`` has n_features rows and the columns of ``FEATURE_COLUMNS``: ``id`` is unique,
    ``chrom`` is "" and ``start`` and ``end`` are -1 where no coordinate is known (0-based, half-open),
    ``gene`` is "" where no symbol is known.

    ``values`` cannot be written to: what one hypothesis, or one method of it, changed in place the next would take
    for measured. The array that a block was made of may still be filled by whoever holds it.
    """

    spec: BlockSpec
    values: np.ndarray
    features: pd.DataFrame

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _read_only(self.values))

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def has_coordinates(self) -> bool:
        """Whether every feature has a chromosome and a start."""
        return bool(len(self.features)) and bool(
            (self.features["chrom"] != "").all() and (self.features["start"] >= 0).all()
        )

    def take(self, rows: np.ndarray) -> "Block":
        """The same features for the given rows (integer positions or a boolean mask).

        Rows of a large memory map stay in a map (see ``mapped.take_rows``).
        """
        return Block(self.spec, take_rows(self.values, rows), _own(self.features))

    def copy(self) -> "Block":
        """The same block with a feature table of its own; the values, which nobody can change, are shared."""
        return Block(self.spec, self.values, _own(self.features))


def _read_only(values: np.ndarray) -> np.ndarray:
    """Return a view that cannot be written to; the array itself stays as it is."""
    view = values.view()
    view.flags.writeable = False
    return view


def _own(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that can be changed in place without changing the other."""
    # pandas 3 copies a column when it is first written to: 0.02 ms for a million features, a deep copy takes 6.
    return table.copy(deep=False)


FEATURE_COLUMNS = ("id", "chrom", "start", "end", "gene")


def feature_table(
    ids: list[str],
    chrom: list[str] | None = None,
    start: list[int] | None = None,
    end: list[int] | None = None,
    gene: list[str] | None = None,
) -> pd.DataFrame:
    """Build a feature table; what is not given is marked as unknown (see ``Block``)."""
    index = range(len(ids))

    def text(values: list[str] | None) -> pd.Series:
        # A scalar fills a column some hundred times faster than a list of the same empty string.
        return pd.Series("" if values is None else list(values), index=index, dtype=str)

    def positions(values: list[int] | None) -> np.ndarray:
        return np.full(len(ids), -1, np.int64) if values is None else np.asarray(values, dtype=np.int64)

    return pd.DataFrame(
        {
            "id": text(ids),
            "chrom": text(chrom),
            "start": positions(start),
            "end": positions(end),
            "gene": text(gene),
        }
    )


@dataclass(frozen=True)
class Cohort:
    """Samples without labels.

    ``sample_ids`` and ``patient_ids`` are (n_samples,) arrays of str; every block has n_samples rows
    in the same order; ``covariates`` has n_samples rows, numeric columns as float64 (NaN where
    missing), all others as str ("" where missing); None stands for no columns. Names and values cannot be
    written to; labels and tables can, in a copy of one's own.
    """

    sample_ids: np.ndarray
    patient_ids: np.ndarray
    blocks: Mapping[str, Block]
    covariates: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        if self.covariates is None:
            object.__setattr__(self, "covariates", pd.DataFrame(index=range(len(self.sample_ids))))
        for name in ("sample_ids", "patient_ids"):
            object.__setattr__(self, name, _read_only(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.sample_ids)

    def take(self, rows: np.ndarray) -> Self:
        """The given rows (integer positions or a boolean mask), as the same kind of cohort."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        taken = {
            "sample_ids": self.sample_ids[rows],
            "patient_ids": self.patient_ids[rows],
            "blocks": {name: block.take(rows) for name, block in self.blocks.items()},
            "covariates": self.covariates.iloc[rows].reset_index(drop=True),
        }
        others = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in taken}
        if "labels" in others:
            others["labels"] = others["labels"][rows]
        return type(self)(**taken, **others)

    def copy(self) -> Self:
        """The same samples to hand to a hypothesis that may change labels and tables in place; values are shared."""
        own = {"blocks": {name: block.copy() for name, block in self.blocks.items()}}
        if isinstance(self, LabelledCohort):
            # Not read-only, as torch.from_numpy warns of such an array.
            own["labels"] = np.array(self.labels)
        return replace(self, **own, covariates=_own(self.covariates))


@dataclass(frozen=True)
class LabelledCohort(Cohort):
    """Samples with labels: the training (or validation) part of one split.

    ``labels`` is (n_samples,) int64, codes into ``classes``. ``classes`` lists every class of the
    study, so a class may have no sample here.
    """

    labels: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    classes: tuple[str, ...] = ()

    def without_labels(self) -> Cohort:
        """The same samples as a hypothesis would see them at prediction."""
        return Cohort(self.sample_ids, self.patient_ids, self.blocks, self.covariates)
