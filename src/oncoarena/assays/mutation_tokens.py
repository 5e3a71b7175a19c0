"""A sample's mutations one by one, in a fixed number of slots: class, place, altered gene, share of reads.

What counts of classes and counts of places cannot say together is kept here: which class stands at which place
(after MuAt, Sanjaya 2023, doi:10.1186/s13073-023-01204-4). Every slot has the fields of ``FIELDS``:

- ``motif``: place in ``MOTIFS``; NaN in an empty slot, and only there.
- ``bin``: row of the feature table of ``mutation_bins``.
- ``gene``: code of the gene of which the mutation alters the protein (see ``gene_code``), 0 for none.
- ``share``: of the reads, NaN where the file does not tell it.
"""

import functools
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from oncoarena.assays.mutation_classes import INDEL_CLASSES, SUBSTITUTION_CLASSES, SUBSTITUTION_TABLE
from oncoarena.cohort import feature_table
from oncoarena.kernels.reference_context import hash_others
from oncoarena.kernels.variant_rows import (
    ALT_LENGTH,
    CHROM,
    REF_LENGTH,
    SAMPLE,
    START,
)

if TYPE_CHECKING:
    from oncoarena.assays.variant_tally import Alleles

FIELDS = ("motif", "bin", "gene", "share")
CHANGES = ("C>A", "C>G", "C>T", "T>A", "T>C", "T>G")
MOTIFS = (*SUBSTITUTION_CLASSES, *CHANGES, *INDEL_CLASSES, "insertion", "deletion", "other")
"""Substitutions with and without their neighbours, classified indels, and all else that is not classified."""

# Whole numbers up to this are exact in float32.
GENE_CODES = 1 << 24


def gene_code(symbol: str) -> int:
    """Return the code of a gene, 1 to 2^24 - 1, the same in every sample: a CRC-32 of its symbol, cut to 24 bits.

    Of 20,000 genes some 12 pairs share a code.
    """
    return zlib.crc32(symbol.encode()) % (GENE_CODES - 1) + 1


def token_block(
    alleles: "Alleles",
    classes: tuple[np.ndarray, np.ndarray],
    places: tuple[np.ndarray, np.ndarray],
    n_samples: int,
    n_slots: int,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Lay out alleles in slots, in genome order.

    Of a sample with more than ``n_slots`` those with the smallest hash of place and bases are kept: the same ones
    in whatever order they are written, and two samples that share a mutation keep or lose it together, as far as
    both are cut alike (bottom-k sampling; Cohen and Kaplan 2007, doi:10.1145/1281100.1281133).

    Parameters: ``classes`` of substitutions in SUBSTITUTION_CLASSES and of all else in INDEL_CLASSES, -1 where not
    known; ``places`` their bins.
    Returns values (n_samples, n_slots * n_fields) float32 and their features.
    """
    # Here, so that a hypothesis may learn what the fields mean without numba.
    from oncoarena.kernels.variant_rows import POS_BITS

    snv_class, indel_class = classes
    # The change alone is in the order of classes, 16 pairs of neighbours each.
    change = SUBSTITUTION_TABLE[0, alleles.ref, alleles.alt, 0] // 16
    motif = np.where(snv_class >= 0, snv_class, len(SUBSTITUTION_CLASSES) + change)
    n_ref, n_alt = alleles.others[:, REF_LENGTH], alleles.others[:, ALT_LENGTH]
    unclassified = len(MOTIFS) - 3 + np.where(n_ref == 0, 0, np.where(n_alt == 0, 1, 2))
    first_indel = len(SUBSTITUTION_CLASSES) + len(CHANGES)
    other_motif = np.where(indel_class >= 0, first_indel + indel_class, unclassified)

    nameless = alleles.others.copy()
    nameless[:, SAMPLE] = 0  # a mutation has one hash in all samples
    other_keys = np.empty(len(nameless), np.uint64)
    hash_others(nameless, alleles.letters, other_keys)
    snv_keys = ((alleles.chrom << POS_BITS | alleles.pos) << 4) | (alleles.ref << 2) | alleles.alt
    hashes = _mix(np.concatenate([snv_keys.astype(np.uint64), other_keys]))
    sample = np.concatenate([alleles.sample, alleles.others[:, SAMPLE]])
    chrom = np.concatenate([alleles.chrom, alleles.others[:, CHROM]])
    pos = np.concatenate([alleles.pos, alleles.others[:, START]])
    traits = np.concatenate([alleles.traits, alleles.other_traits])
    fields = np.stack(
        [np.concatenate([motif, other_motif]), np.concatenate(places), traits["gene"], traits["share"]],
        axis=1,
    ).astype(np.float32)

    kept = np.lexsort((hashes, sample))
    kept = kept[_rank_within(sample[kept]) < n_slots]
    kept = kept[np.lexsort((hashes[kept], pos[kept], chrom[kept], sample[kept]))]
    values = np.full((n_samples, n_slots, len(FIELDS)), np.nan, np.float32)
    values[sample[kept], _rank_within(sample[kept])] = fields[kept]
    return values.reshape(n_samples, -1), _features(n_slots)


def _mix(keys: np.ndarray) -> np.ndarray:
    """Spread keys (n,) uint64 evenly, each to a number of its own (splitmix64; Steele 2014,
    doi:10.1145/2660193.2660195)."""
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _rank_within(groups: np.ndarray) -> np.ndarray:
    """Number of each element in its group, from 0; ``groups`` (n,) is sorted."""
    return np.arange(len(groups)) - np.searchsorted(groups, groups)


@functools.lru_cache(maxsize=8)
def _features(n_slots: int) -> pd.DataFrame:
    return feature_table([f"{slot}:{name}" for slot in range(n_slots) for name in FIELDS])
