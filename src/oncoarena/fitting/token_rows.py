"""Mutations as rows of one embedding table: kind, class, place at several scales, gene and share of reads."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from oncoarena.assays.mutation_tokens import CHANGES, FIELDS, MOTIFS

# A place is its chromosome, and a window of each of these widths (bp) on it: what a narrow one has too few
# mutations to say, a wide one may.
WINDOWS_BP = (10_000_000, 1_000_000)
# A gene altered in fewer training samples is one of the others.
MIN_SAMPLES, MAX_GENES = 3, 2000


@dataclass(frozen=True)
class TokenRows:
    """The rows of one embedding table that a mutation looks up: row 0 is empty, then the levels one after another.

    The levels are kind of change, motif, chromosome, windows, gene (the last for all other genes), share of reads.
    """

    of_motif: np.ndarray
    """(n_motifs, 2) int64: rows of kind and motif."""
    of_bin: np.ndarray
    """(n_bins, 1 + n_windows) int64: rows of chromosome and windows of a bin."""
    genes: np.ndarray
    """(n_genes,) int64, sorted: codes of the genes with a row of their own."""
    first_gene: int

    @property
    def n_rows(self) -> int:
        return self.first_gene + len(self.genes) + 2

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Turn slots (n, n_slots * n_fields) into what each mutation looks up; m is the most that a sample has.

        Returns rows (n, m, n_levels) int64, their weights (n, m, n_levels) float32, filled slots (n, m) bool.
        """
        slots = values.reshape(len(values), -1, len(FIELDS))
        filled = ~np.isnan(slots[:, :, 0])
        n_most = max(1, int(filled.sum(1).max(initial=0)))
        slots, filled = slots[:, :n_most], filled[:, :n_most]
        motif, place, gene, share = np.moveaxis(np.where(filled[..., None], slots, 0), 2, 0)
        gene = gene.astype(np.int64)
        at = np.searchsorted(self.genes, gene)
        known = np.append(self.genes, -1)[at] == gene
        gene_row = self.first_gene + np.where(known, at, len(self.genes))
        rows = [*np.moveaxis(self.of_motif[motif.astype(np.int64)], 2, 0)]
        rows += [*np.moveaxis(self.of_bin[place.astype(np.int64)], 2, 0)]
        rows += [np.where(gene > 0, gene_row, 0), np.full(gene.shape, self.n_rows - 1)]
        ids = np.stack(rows, axis=2)
        weights = np.ones(ids.shape, np.float32)
        # Around one half, that of a clone on one of two alleles of a pure tumour; what is not told says nothing.
        weights[:, :, -1] = np.nan_to_num(2.0 * share - 1.0)
        weights[ids == 0] = 0.0
        return ids, weights, filled

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``from_arrays`` needs."""
        return {name: np.asarray(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """Rebuild from ``to_arrays``."""
        return cls(arrays["of_motif"], arrays["of_bin"], arrays["genes"], int(arrays["first_gene"]))


def token_rows(tokens: np.ndarray, bins: pd.DataFrame) -> TokenRows:
    """Lay out the table for training ``tokens`` (n, n_slots * n_fields) whose bins are ``bins`` (chrom, start)."""
    kind = np.array([_kind(name) for name in MOTIFS])
    n_kinds = kind.max() + 1
    of_motif = np.stack([1 + kind, 1 + n_kinds + np.arange(len(MOTIFS))], axis=1)
    n_rows = int(of_motif.max()) + 1
    chrom = pd.factorize(bins["chrom"])[0]
    levels = [chrom]
    for width in WINDOWS_BP:
        levels.append(pd.factorize(chrom * (1 << 32) + bins["start"].to_numpy() // width)[0])
    of_bin = []
    for level in levels:
        of_bin.append(n_rows + level)
        n_rows += int(level.max(initial=0)) + 1
    n_samples: dict[int, int] = {}
    for sample in tokens.reshape(len(tokens), -1, len(FIELDS))[:, :, FIELDS.index("gene")]:
        for code in np.unique(sample[sample > 0]).astype(np.int64).tolist():
            n_samples[code] = n_samples.get(code, 0) + 1
    common = [code for code, n in n_samples.items() if n >= MIN_SAMPLES]
    genes = sorted(sorted(common, key=lambda code: (-n_samples[code], code))[:MAX_GENES])
    return TokenRows(of_motif, np.stack(of_bin, axis=1), np.array(genes, np.int64), n_rows)


def _kind(motif: str) -> int:
    """Number of a motif's kind: the six changes, insertion, deletion, any other."""
    kinds = (*CHANGES, "ins", "del")
    return next((number for number, kind in enumerate(kinds) if kind.lower() in motif.lower()), len(kinds))


def draw_mutations(tokens: np.ndarray, share: float, n_most: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of each sample's mutations, at most ``n_most``.

    Takes and returns (n, n_slots * n_fields), the slots that are left empty last.
    """
    slots = tokens.reshape(len(tokens), -1, len(FIELDS))
    order = rng.random(slots.shape[:2], dtype=np.float32)
    empty = np.isnan(slots[:, :, 0])
    order[empty] = 2.0
    n_drawn = np.minimum(np.ceil(share * (~empty).sum(1)), n_most).astype(np.int64)
    order = np.argsort(order, axis=1)[:, : max(1, n_drawn.max(initial=0))]
    drawn = np.take_along_axis(slots, order[..., None], axis=1)
    drawn[np.arange(drawn.shape[1]) >= n_drawn[:, None]] = np.nan
    return drawn.reshape(len(tokens), -1)
