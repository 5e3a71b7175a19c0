"""What was measured: one module an assay; each reads an object once and yields every block it offers.

A module in this folder is an assay under its own name if it has:

``BLOCKS: dict[str, BlockSpec]``
    Every block the assay offers from its one pass, by name.
``Options``
    A frozen dataclass: the assay's config keys, each with a default. ``Options(**keys)`` raises
    InputError for a value that is not legal. ``FILES``, where there is one, names those that hold a path.
``read_object(stream, source, options, *, sample_id, annotation=None) -> dict[str, SampleFeatures]``
    One object of one sample, read in one pass: the features of every block.
``read_matrix(stream, source, sample_ids, options, annotation=None) -> dict[str, MatrixFeatures]``
    Only where the input may be one matrix of the whole cohort. Rows come in the order of ``sample_ids``.

An assay of objects so large that several workers should share one also has:

``index_suffixes(uri) -> tuple[str, ...]``
    What the names of the object's indexes add to its own, e.g. ``(".bai", ".csi")``.
``plan_parts(index, n_bytes, source, options) -> list[Part]``
    Ranges of the object (``first_byte``, ``end_byte``) that can be read on their own; one without an index.
``read_part(stream, source, options, part, *, sample_id, annotation=None) -> Tally``
    One range: what is counted in it.
``merge_parts(first, second) -> Tally``
    Two neighbours, in order, joined.
``finish_object(tally, source, options, *, sample_id, annotation=None) -> dict[str, SampleFeatures]``
    The features of every block from the tally of the whole object.

``stream`` is a binary file object, local or remote, read forward once (a format may seek at the price of
reading bytes again); ``source`` is its name in messages. ``annotation`` is a table of known features (id,
chrom, start, end, gene) or None. All these are pure: they open no path but those of ``FILES``, keep no
state and look at no label. Features of different objects may come in different order, and are aligned by
id by the caller. What is wrong with an object is an InputError that names ``source``, the place and the
remedy (BadObject where a byte offset is known).
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
