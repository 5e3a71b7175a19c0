"""Made-up attributions of judged studies: named genes, or bins along the genome, pooled as the referee does."""

import numpy as np
import pandas as pd

from oncoarena.cohort import feature_table
from oncoarena.genomes import bins, genome
from oncoarena.referee.attributions import attribution_tables

GENES = ("TP53", "MYC", "EGFR", "ERBB2", "KRAS", "CDKN2A", "RB1", "PTEN", "MDM2", "CCND1")
EXPLAINED = ("wide_deep", "sparse_markers", "l2_logistic", "prior_only")
"""The hypotheses of ``judged.COMPETITORS`` that are made to explain themselves."""


def genome_bins(n_bp, name="coverage"):
    """The bins of hg38's autosomes, features of one block: {name: feature table}."""
    table = bins(genome("hg38"), n_bp)
    chrom, start, end = (table[column].tolist() for column in ("chrom", "start", "end"))
    ids = [f"{c}:{a}-{b}" for c, a, b in zip(chrom, start, end, strict=True)]
    return {name: feature_table(ids, chrom, start, end)}


def genes(n, name="expression"):
    """Genes of known symbol, the first of them well known, every tenth without a place: {name: feature table}."""
    rng = np.random.default_rng(5)
    symbols = [*GENES, *(f"GENE{i}" for i in range(n))][:n]
    chrom = [f"chr{1 + i}" for i in rng.integers(0, 22, n)]
    start = rng.integers(1_000_000, 40_000_000, n)
    lost = np.arange(n) % 10 == 9
    chrom = ["" if gone else name for gone, name in zip(lost, chrom, strict=True)]
    start = np.where(lost, -1, start)
    ids = [f"ENSG{i:011d}" for i in range(n)]
    return {
        name: feature_table(ids, chrom, start.tolist(), np.where(lost, -1, start + 9000).tolist(), symbols)
    }


def contributions(hypothesis, features, labels, *, n_folds=5, seed=0, common=1.0, n_used=None):
    """What a hypothesis says of itself in every split: regions that all hypotheses see, and noise of its own."""
    rng = np.random.default_rng([seed, *hypothesis.encode()])
    tables = []
    for block, table in features.items():
        n = len(table)
        shared = np.random.default_rng(7)
        seen = np.exp(
            common
            * 6
            * np.exp(-(((np.arange(n)[:, None] - shared.integers(0, n, 6)) / (n / 400)) ** 2)).sum(1)
        )
        signs = shared.choice([-0.9, -0.1, 0.1, 0.9], (n, len(labels)))
        for fold in range(n_folds):
            size = seen * rng.lognormal(0, 0.6, n)
            if n_used:
                size[np.argsort(size)[:-n_used]] = 0.0
            for i, label in enumerate(["", *labels]):
                most = np.argsort(-size, kind="stable")[: 100 if label else 20_000]
                tables.append(
                    pd.DataFrame(
                        {
                            "hypothesis": hypothesis,
                            "repeat": 0,
                            "fold": fold,
                            "label": label,
                            "block": block,
                            "feature": table["id"].to_numpy()[most],
                            "mean_abs": size[most],
                            "correlation": signs[most, i - 1] if label else np.nan,
                            "n_samples": 16,
                        }
                    )
                )
    return pd.concat(tables, ignore_index=True)


def add_attributions(study, features, *, explained=EXPLAINED, n_folds=5):
    """Make hypotheses of a study (see ``judged.make_study``) say what they looked at; the others do not say."""
    classes = study["study"]["classes"]
    labels = classes[1:] if len(classes) == 2 else classes
    kinds = {"sparse_markers": {"n_used": 12}, "prior_only": {"common": 0.0}}
    tables = [
        contributions(name, features, labels, n_folds=n_folds, **kinds.get(name, {})) for name in explained
    ]
    blocks = {name: list(features) for name in explained}
    study["tables"] |= attribution_tables(tables, features, blocks)
    for run in study["runs"]:
        told = {"method": "weights", "exact": True} if run["hypothesis"] in explained else None
        run["attribution"] = told
    study["study"]["config"] = {"assays": {"alignments": {"genome": "hg38", "coverage_bp": 100_000}}}
    return study
