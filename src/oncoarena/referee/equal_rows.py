"""Samples of two patients that have the very same row in a block."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from oncoarena.cohort import Block

LEAST_CHANGES = 20
"""Changes from a feature to the next from which on a row is one patient's own: ten lone mutations, ten segments."""

LEAST_NUMBERS = 8
"""Different numbers from which on it is too, for blocks of few features: counts of few mutations are 0, 1, 2."""


def tells_patients_apart(values: np.ndarray, is_set: bool = False) -> bool:
    """Judge whether a row holds so much that no second patient has it by nature.

    A row of zeros, a flat genome and a handful of hot spots are found in many patients; what they have in common is
    that the value hardly ever changes along the row. Missing values say nothing of the patient.
    Parameters: ``values`` (n_features,), NaN where missing; ``is_set``, whether they are fields of members of a set:
    those of two hot spots are many different numbers, so that only changes count.
    """
    known = values[np.isfinite(values)]
    if np.count_nonzero(known[1:] != known[:-1]) >= LEAST_CHANGES:
        return True
    return not is_set and len(np.unique(known)) >= LEAST_NUMBERS


def equal_rows(
    digests: pd.DataFrame,
    patients: Mapping[str, str],
    rows: Mapping[str, int],
    blocks: Mapping[str, Block] | None,
) -> tuple[pd.DataFrame, int]:
    """Pair the samples of different patients whose rows in a block are equal and tell patients apart.

    Parameters: ``digests`` (sample_id, block, digest); ``patients`` and ``rows``, the patient and the row in the
    blocks of each sample; ``blocks``, without which, or for digests of block "" with none of which, every row counts.
    Returns the pairs (columns a, b, block; a before b) and how many samples have equal rows too bare to count.
    """
    digests = digests.assign(patient_id=digests["sample_id"].map(patients))
    keys = ["block", "digest"]
    shared = digests[digests.groupby(keys)["patient_id"].transform("nunique") > 1]
    # Equal digests are equal values: the first row of each speaks for all, and bare rows, which may be thousands,
    # are never paired.
    first = shared.drop_duplicates(keys)
    tells = [
        _tells(blocks, name, rows[sample])
        for sample, name in zip(first["sample_id"], first["block"], strict=True)
    ]
    telling = shared.merge(first.loc[tells, keys], on=keys)
    pairs = telling.merge(telling, on=keys, suffixes=("", "_b")).rename(
        columns={"sample_id": "a", "sample_id_b": "b"}
    )
    pairs = pairs[(pairs["a"] < pairs["b"]) & (pairs["patient_id"] != pairs["patient_id_b"])]
    bare = set(shared["sample_id"]) - set(telling["sample_id"])
    return pairs[["a", "b", "block"]].reset_index(drop=True), len(bare)


def _tells(blocks: Mapping[str, Block] | None, name: str, row: int) -> bool:
    """Judge a sample's row in the block of that name; of a digest over all blocks, "", in any of them."""
    if blocks is None:
        return True
    named = [blocks[name]] if name in blocks else list(blocks.values())
    return any(tells_patients_apart(np.asarray(block.values[row]), block.spec.is_set) for block in named)
