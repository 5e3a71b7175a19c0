"""Blocks of features from the alleles of samples."""

import functools
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa

from oncoarena.assays.gene_features import describe_genes
from oncoarena.assays.mutation_classes import (
    DOUBLET_CLASSES,
    DOUBLET_TABLE,
    INDEL_CLASSES,
    SUBSTITUTION_CLASSES,
    SUBSTITUTION_TABLE,
)
from oncoarena.assays.mutation_tokens import token_block
from oncoarena.assays.reference_fasta import ReferenceFasta, open_fasta
from oncoarena.assays.variant_tally import (
    MISMATCH,
    MISSENSE,
    NO_CONTEXT,
    TRUNCATING,
    Alleles,
    VariantTally,
)
from oncoarena.assays.vcf import chromosome_arrays
from oncoarena.cohort import feature_table
from oncoarena.errors import BadObject, InputError
from oncoarena.genomes import CHROMOSOMES, bins, genome
from oncoarena.kernels.reference_context import DAMAGED, contexts, indel_classes
from oncoarena.kernels.variant_rows import ALT_LENGTH, CHROM, REF_LENGTH, SAMPLE, START

MAX_MISMATCH_RATE = 0.01
# Substitutions this near to a pair make it part of a longer cluster, which is no doublet (see ``doublets``).
CLUSTER_BP = 5
BURDEN = ("all", "snv", "dnv", "indel", "other")
BURDEN_BY_EFFECT = ("missense", "truncating")

Blocks = dict[str, tuple[np.ndarray, pd.DataFrame]]


def make_blocks(
    tally: VariantTally, options: Any, names: tuple[str, ...], source: str, annotation: pd.DataFrame | None
) -> tuple[Blocks, dict[str, np.ndarray]]:
    """Count the alleles of a tally into blocks.

    Parameters: ``names`` of the blocks asked for; ``annotation`` gives places of genes by symbol, or None.
    Returns values (n_samples, n_features) float32 with features by block, and figures (n_samples,) by name.
    Raises BadObject where the alleles are not of the reference.
    """
    alleles = tally.alleles()
    n_samples = tally.n_samples
    pairs = doublets(alleles)
    figures: dict[str, np.ndarray] = {}
    blocks: Blocks = {}
    spectrum, kinds = np.full(len(alleles.pos), -1), np.full(len(alleles.others), -1)
    if "mutation_spectrum" in names:
        around, kinds, n_mismatch = _around(alleles, options, source, n_samples)
        known = (around < 4).all(axis=1)
        before, behind = around[known, 0], around[known, 2]
        spectrum[known] = SUBSTITUTION_TABLE[before, alleles.ref[known], alleles.alt[known], behind]
        blocks["mutation_spectrum"] = _count(alleles.sample, spectrum, n_samples, SUBSTITUTION_CLASSES)
        figures["n_ref_mismatch"] = n_mismatch
        figures["n_no_context"] = _per_sample(alleles.sample[~known], n_samples) - _per_sample(
            alleles.sample[(around == MISMATCH).any(axis=1)], n_samples
        )
        if "doublet_spectrum" in names:
            flanked = pairs[(around[pairs, 0] < 4) & (around[pairs + 1, 2] < 4)]
            kind = DOUBLET_TABLE[
                alleles.ref[flanked], alleles.ref[flanked + 1], alleles.alt[flanked], alleles.alt[flanked + 1]
            ]
            blocks["doublet_spectrum"] = _count(alleles.sample[flanked], kind, n_samples, DOUBLET_CLASSES)
            blocks["indel_spectrum"] = _count(alleles.others[:, SAMPLE], kinds, n_samples, INDEL_CLASSES)
    if "mutation_bins" in names:
        features, first = _bins(options.genome, options.bin_bp, options.chromosomes)
        place = first[alleles.chrom] + alleles.pos // options.bin_bp
        blocks["mutation_bins"] = (_counted(alleles.sample, place, n_samples, len(features)), features)
        if "mutation_tokens" in names:
            # An insertion may stand behind the last base of its chromosome.
            end = chromosome_arrays(options.genome, options.chromosomes)[0] - 1
            chrom, start = alleles.others[:, CHROM], alleles.others[:, START]
            other_place = first[chrom] + np.minimum(start, end[chrom]) // options.bin_bp
            blocks["mutation_tokens"] = token_block(
                alleles, (spectrum, kinds), (place, other_place), n_samples, options.tokens
            )
    figures |= _figures(alleles, tally, pairs)
    if "burden" in names:
        blocks["burden"] = _burden(alleles, figures, options, n_samples)
    if "mutated_genes" in names:
        blocks["mutated_genes"] = _genes(tally.genes, source, annotation)
    return {name: blocks[name] for name in names}, figures


def doublets(alleles: Alleles) -> np.ndarray:
    """Places (n_pairs,) of the first of two substitutions at neighbouring positions of a sample.

    Pairs with another substitution within 5 bp are clusters, not doublets: the rule of SigProfilerMatrixGenerator.
    """
    group = (alleles.sample << 5) | alleles.chrom
    gap = np.where(np.diff(group) == 0, np.diff(alleles.pos), 0)
    near = np.concatenate([[False], (gap > 0) & (gap <= CLUSTER_BP), [False]])
    return np.flatnonzero((gap == 1) & ~near[:-2] & ~near[2:]) if len(gap) else np.empty(0, np.int64)


def _around(
    alleles: Alleles, options: Any, source: str, n_samples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bases around substitutions, classes of indels, count of mismatches by sample.

    Returns codes (n_snvs, 3) of the bases before, at and behind: 0 to 3, NO_CONTEXT, or MISMATCH where the base at
    the place is not the reference's; (n_others,) classes, -1 for none; (n_samples,) counts.
    """
    if options.context_source == "column":
        around = np.full((len(alleles.pos), 3), NO_CONTEXT, np.uint8)
        told = alleles.context < 16
        around[told, 0], around[told, 2] = alleles.context[told] // 4, alleles.context[told] % 4
        around[told, 1] = alleles.ref[told]
        around[alleles.context == MISMATCH] = MISMATCH
        n_checked = int((alleles.context != NO_CONTEXT).sum())
        kinds = np.full(len(alleles.others), -1)
    else:
        fasta = open_fasta(options.reference, options.genome)
        _refuse_absent(fasta, alleles, source)
        around = np.empty((len(alleles.pos), 3), np.uint8)
        contexts(fasta.text, fasta.index, alleles.chrom, alleles.pos, around)
        kinds = np.empty(len(alleles.others), np.int64)
        indel_classes(fasta.text, fasta.index, alleles.others, alleles.letters, kinds)
        if (around == DAMAGED).any() or (kinds == -3).any():
            raise InputError(
                f"reference: {fasta.path} has no bases where its index says so: the index is of another file. Run "
                f"`samtools faidx {fasta.path}`."
            )
        wrong = (around[:, 1] < 4) & (around[:, 1] != alleles.ref)
        around[around >= 4] = NO_CONTEXT
        around[wrong] = MISMATCH
        n_checked = len(around) + len(kinds)
    wrong = around[:, 1] == MISMATCH
    n_mismatch = int(wrong.sum() + (kinds == -2).sum())
    if n_mismatch > MAX_MISMATCH_RATE * n_checked:
        _refuse_reference(alleles, wrong, kinds, n_mismatch, n_checked, options, source)
    by_sample = _per_sample(alleles.sample[wrong], n_samples) + _per_sample(
        alleles.others[kinds == -2, SAMPLE], n_samples
    )
    return around, kinds, by_sample


def _refuse_absent(fasta: ReferenceFasta, alleles: Alleles, source: str) -> None:
    there = np.unique(np.concatenate([alleles.chrom, alleles.others[:, CHROM]]))
    absent = there[fasta.index[there, 0] == 0]
    if len(absent):
        raise InputError(
            f"{source}: it has variants on {CHROMOSOMES[absent[0]]}, which is not in the reference {fasta.path}. Give "
            "the FASTA of the whole genome, or set chromosomes: autosomes if only X and Y are missing."
        )


def _refuse_reference(
    alleles: Alleles, wrong: np.ndarray, kinds: np.ndarray, n_wrong: int, n: int, options: Any, source: str
) -> NoReturn:
    if wrong.any():
        first = int(np.argmax(wrong))
        chrom, pos = alleles.chrom[first], alleles.pos[first]
    else:
        entry = alleles.others[int(np.argmax(kinds == -2))]
        chrom, pos = entry[CHROM], entry[START]
    raise BadObject(
        f"{source}: the reference base of {n_wrong} of {n} variants is not the one in "
        f"{options.reference or 'the column of contexts'}, first at {CHROMOSOMES[chrom]}:{pos + 1} (1-based): the "
        "variants are of another genome, or damaged. Give the reference that they were called with"
    )


def _per_sample(samples: np.ndarray, n_samples: int) -> np.ndarray:
    return np.bincount(samples, minlength=n_samples)


def _counted(samples: np.ndarray, classes: np.ndarray, n_samples: int, n_classes: int) -> np.ndarray:
    """Count (n_samples, n_classes) float32; a class below 0 is not counted."""
    counted = classes >= 0
    cells = samples[counted] * n_classes + classes[counted]
    return (
        np.bincount(cells, minlength=n_samples * n_classes).astype(np.float32).reshape(n_samples, n_classes)
    )


def _count(
    samples: np.ndarray, classes: np.ndarray, n_samples: int, names: tuple[str, ...]
) -> tuple[np.ndarray, pd.DataFrame]:
    return _counted(samples, classes, n_samples, len(names)), _named(names)


@functools.cache
def _named(names: tuple[str, ...]) -> pd.DataFrame:
    return feature_table(list(names))


@functools.lru_cache(maxsize=8)
def _bins(genome_name: str, bin_bp: int, chromosomes: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Features of the bins, and the number (24,) of each chromosome's first."""
    table = bins(genome(genome_name), bin_bp, chromosomes)
    chrom, start, end = (table[name].tolist() for name in ("chrom", "start", "end"))
    ids = [f"{name}:{first}-{last}" for name, first, last in zip(chrom, start, end, strict=True)]
    number = {name: place for place, name in reversed(list(enumerate(chrom)))}
    first = np.array([number.get(name, -1) for name in CHROMOSOMES], np.int64)
    return feature_table(ids, chrom, start, end), first


def _figures(alleles: Alleles, tally: VariantTally, pairs: np.ndarray) -> dict[str, np.ndarray]:
    n_samples = tally.n_samples
    n_snv = _per_sample(alleles.sample, n_samples)
    is_indel = (alleles.others[:, REF_LENGTH] == 0) | (alleles.others[:, ALT_LENGTH] == 0)
    is_transition = (alleles.ref ^ alleles.alt) == 2
    n_transitions = _per_sample(alleles.sample[is_transition], n_samples)
    n_transversions = n_snv - n_transitions
    ratio = np.divide(
        n_transitions, n_transversions, out=np.full(n_samples, np.nan), where=n_transversions > 0
    )
    n_others = _per_sample(alleles.others[:, SAMPLE], n_samples)
    return {
        "n_variants": n_snv + n_others,
        "n_snv": n_snv,
        "n_doublets": _per_sample(alleles.sample[pairs], n_samples),
        "n_indel": _per_sample(alleles.others[is_indel, SAMPLE], n_samples),
        "ti_tv": ratio,
        "mean_vaf": tally.mean_share(),
        "n_duplicates": alleles.n_duplicates,
        **tally.unused(),
    }


def _burden(
    alleles: Alleles, figures: dict[str, np.ndarray], options: Any, n_samples: int
) -> tuple[np.ndarray, pd.DataFrame]:
    n_dnv, n_indel = figures["n_doublets"], figures["n_indel"]
    n_other = figures["n_variants"] - figures["n_snv"] - n_indel
    n_alone = figures["n_snv"] - 2 * n_dnv
    counts = [n_alone + n_dnv + n_indel + n_other, n_alone, n_dnv, n_indel, n_other]
    names = BURDEN
    if options.consequences != "none":
        names += BURDEN_BY_EFFECT
        for effect in (MISSENSE, TRUNCATING):
            counts.append(
                _per_sample(alleles.sample[alleles.effect == effect], n_samples)
                + _per_sample(alleles.others[alleles.other_effect == effect, SAMPLE], n_samples)
            )
    values = np.stack(counts, axis=1) / callable_mb(options)
    return values.astype(np.float32), _named(tuple(f"per_mb_{name}" for name in names))


def callable_mb(options: Any) -> float:
    """Size that the burden is divided by, in Mb: the option, else the autosomes, with X where it counts."""
    if options.callable_mb is not None:
        return options.callable_mb
    return _genome_mb(options.genome, options.chromosomes)


@functools.lru_cache(maxsize=8)
def _genome_mb(genome_name: str, chromosomes: str) -> float:
    names = CHROMOSOMES[:22] if chromosomes == "autosomes" else CHROMOSOMES[:23]
    sizes = genome(genome_name).sizes
    return sum(sizes[name] for name in names) / 1e6


def _genes(
    genes: list[set[str]], source: str, annotation: pd.DataFrame | None
) -> tuple[np.ndarray, pd.DataFrame]:
    names = sorted(set().union(*genes))
    place = {name: number for number, name in enumerate(names)}
    values = np.zeros((len(genes), len(names)), np.float32)
    for row, mutated in enumerate(genes):
        values[row, [place[name] for name in mutated]] = 1
    # The annotation lists more genes than one sample has mutated, so that none of them may be in it.
    listed = annotation is not None and "id" in annotation and not set(names).isdisjoint(annotation["id"])
    ids = pa.array(names, pa.string())
    features = describe_genes(
        ids, source, strip_version=False, annotation=annotation if listed else None, symbols=ids
    )
    return values, features
