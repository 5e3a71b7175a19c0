"""Cohorts of mutations, through a MAF, of which class and place say something together and nothing apart."""

import io
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa

from oncoarena.assays import variants
from oncoarena.cohort import Block, LabelledCohort
from oncoarena.simulation import mutations
from oncoarena.simulation.counts import draw_transcriptome
from oncoarena.simulation.landscape import landscape

# Class of a mutation: ref, alt, context; place: chromosome, first base of its 1 Mb.
MOTIFS = (("C", "T", "TTTTACGTTTT"), ("T", "G", "AAAACTTAAAA"))
PLACES = (("chr3", 100_000_000), ("chr11", 60_000_000))
# What the two classes have, as named in the findings.
CELLS = {
    f"{motif} at {chrom}:{start}-{start + 1_000_000}"
    for motif in ("A[C>T]G", "C[T>G]T")
    for chrom, start in PLACES
}
OPTIONS = variants.Options(context="column", consequences="maf", tokens=256)


@cache
def background() -> mutations.Mutability:
    """What is common to the mutations of all cohorts here."""
    rng = np.random.default_rng(0)
    genes = draw_transcriptome(rng, landscape(), 300).genes
    return mutations.draw_mutability(rng, landscape(), genes)


def draw_sample(label: int, n_mutations: int, n_planted: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw the mutations of a sample, see ``simulation.mutations.draw_mutations``.

    Both classes have ``n_planted`` mutations of each of ``MOTIFS`` and in each of ``PLACES``: class 1 the first
    motif at the first place and the second at the second, class 0 crosswise.
    """
    table = mutations.draw_mutations(
        rng, landscape(), background(), np.zeros(mutations.N_LATENT), n_mutations
    )
    rows = []
    for number, (ref, alt, context) in enumerate(MOTIFS):
        chrom, start = PLACES[number if label else 1 - number]
        for pos in rng.integers(start, start + 1_000_000, n_planted).tolist():
            rows.append((chrom, pos, ref, alt, context, "", "IGR", 60, 20, True))
    return pd.concat([table, pd.DataFrame(rows, columns=table.columns)], ignore_index=True)


def set_cohort(n_samples: int, seed: int, *, n_mutations: int = 100, n_planted: int = 4) -> LabelledCohort:
    """Draw two classes, write them as one MAF and read its blocks; with ``n_planted`` 0 labels mean nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % 2
    ids = [f"s{seed}_{number}" for number in range(n_samples)]
    tables = [
        mutations.maf_table(name, draw_sample(label, n_mutations, n_planted, rng))
        for name, label in zip(ids, labels, strict=True)
    ]
    columns = pa.concat_tables(tables).to_pydict()
    rows = zip(*([str(value) for value in column] for column in columns.values()), strict=True)
    text = "\n".join("\t".join(row) for row in [tuple(columns), *rows]) + "\n"
    found = variants.read_matrix(io.BytesIO(text.encode()), "cohort.maf", ids, OPTIONS)
    # Which genes a sample has mutated depends on chance alone, and on which cohort it is in.
    blocks = {
        name: Block(variants.BLOCKS[name], block.values, block.features)
        for name, block in found.items()
        if name != "mutated_genes"
    }
    names = np.array(ids)
    return LabelledCohort(names, names, blocks, None, labels, ("crosswise", "straight"))
