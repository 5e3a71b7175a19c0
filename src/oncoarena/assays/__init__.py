"""What was measured: one module an assay; each reads an object once and yields every block it offers.

A module in this folder is an assay under its own name if it has:

``BLOCKS: dict[str, BlockSpec]``
    Every block the assay offers from its one pass, by name.
``Options``
    A frozen dataclass: the assay's config keys, each with a default. ``Options(**keys)`` raises
    InputError for a value that is not legal.
``read_object(stream, source, options, annotation=None) -> dict[str, SampleFeatures]``
    One object of one sample, read in one pass: the features of every block.
``read_matrix(stream, source, sample_ids, options, annotation=None) -> dict[str, MatrixFeatures]``
    Only where the input may be one matrix of the whole cohort. Rows come in the order of ``sample_ids``.

``stream`` is a seekable binary file object, local or remote; ``source`` is its name in messages.
``annotation`` is a table of known features (id, chrom, start, end, gene) or None.
All these are pure: they open no path, keep no state and look at no label. Features of different objects
may come in different order, and are aligned by id by the caller.
What is wrong with an object is an InputError that names ``source``, the place and the remedy.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class SampleFeatures:
    """One block of one sample.

    ``values`` is (n_features,) float32, NaN where missing; ``features`` has n_features rows (see
    ``cohort.feature_table``); ``qc`` holds figures of quality by name.
    """

    values: np.ndarray
    features: pd.DataFrame
    qc: dict[str, float | int | str]


@dataclass(frozen=True, eq=False)
class MatrixFeatures:
    """One block of several samples.

    ``values`` is (n_samples, n_features) float32, NaN where missing, rows in the order asked for;
    ``features`` has n_features rows; ``qc`` has n_samples rows, ``sample_id`` first; ``notes`` are
    sentences about the object that a reader of the report should know.
    """

    values: np.ndarray
    features: pd.DataFrame
    qc: pd.DataFrame
    notes: tuple[str, ...] = ()
