"""Somatic mutations: mixtures of signatures, driver genes, density along the genome; written as MAF or VCF.

The signatures are made up: shapes that recall known processes (Alexandrov 2020, doi:10.1038/s41586-020-1943-3), from
a few rules, with no number of any catalogue.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from oncoarena import store
from oncoarena.simulation.landscape import Landscape
from oncoarena.simulation.writing import write_text_table

SUBSTITUTIONS = ("C>A", "C>G", "C>T", "T>A", "T>C", "T>G")
N_DRIVERS, N_TRACKS = 12, 8
N_LATENT = 7 + N_DRIVERS + N_TRACKS
"""Dimensions of a profile: burden, log exposures of six signatures, drivers, tracks of density."""

_FLANK_BP = 5
_INDEL_SHARE, _FILTERED_SHARE = 0.05, 0.04
_COMPLEMENT = np.array([3, 2, 1, 0])
_BASES = np.array(["A", "C", "G", "T"])
_EFFECTS = {
    "Missense_Mutation": ("missense_variant", "MODERATE"),
    "Nonsense_Mutation": ("stop_gained", "HIGH"),
    "Frame_Shift_Del": ("frameshift_variant", "HIGH"),
    "Silent": ("synonymous_variant", "LOW"),
    "Intron": ("intron_variant", "MODIFIER"),
    "IGR": ("intergenic_region", "MODIFIER"),
}


@dataclass(frozen=True, eq=False)
class Mutability:
    """What is common to the mutations of a cohort."""

    genes: pd.DataFrame
    """chrom, start, end, gene, in genome order."""
    drivers: np.ndarray
    """(N_DRIVERS,) rows of ``genes``."""
    driver_threshold: np.ndarray
    """(N_DRIVERS,) above which a profile's value means that the gene is mutated."""
    density: np.ndarray
    """(n_bins,) log of mutations in a bin."""
    tracks: np.ndarray
    """(N_TRACKS, n_bins) what a unit of a profile adds to it."""
    exposures: np.ndarray
    """(6,) typical log exposure of each signature."""


def mutation_types() -> pd.DataFrame:
    """Return the 96 types: substitution (of the pyrimidine), five_prime, three_prime, a row each, sorted."""
    rows = [(change, five, three) for change in SUBSTITUTIONS for five in "ACGT" for three in "ACGT"]
    return pd.DataFrame(rows, columns=["substitution", "five_prime", "three_prime"])


@cache
def signatures() -> np.ndarray:
    """Return (6, 96) shares of the types of ``mutation_types`` in each made-up signature."""
    types = mutation_types()
    change, five, three = (types[name].to_numpy() for name in types)
    uneven = np.exp(np.random.default_rng(96).normal(0, 0.5, (6, 96)))
    shapes = [
        np.where((change == "C>T") & (three == "G"), 20.0, 0.4),  # slow decay of methylated CpG
        np.where(np.isin(change, ["C>T", "C>G"]) & (five == "T"), 10.0, 0.2),  # cytidine deaminases
        np.where(change == "C>A", 6.0, 0.6),  # bulky adducts at guanine
        np.where((change == "C>T") & np.isin(five, ["C", "T"]), 8.0, 0.15),  # dimers of pyrimidines
        np.where(np.isin(change, ["T>C", "T>G"]), 4.0, 0.5),  # slips of a polymerase
        np.ones(96),  # everything a little
    ]
    raw = np.stack(shapes) * uneven
    return raw / raw.sum(axis=1, keepdims=True)


def draw_mutability(rng: np.random.Generator, genome: Landscape, genes: pd.DataFrame) -> Mutability:
    """Draw what the cohort's mutations have in common, from genes (chrom, start, end, gene) in genome order."""
    n_bins = len(genome.start)
    smooth = np.hanning(200) / np.sqrt((np.hanning(200) ** 2).sum())
    tracks = np.stack(
        [np.convolve(rng.standard_normal(n_bins), smooth, mode="same") for _ in range(N_TRACKS)]
    )
    return Mutability(
        genes=genes,
        drivers=np.sort(rng.choice(len(genes), N_DRIVERS, replace=False)),
        driver_threshold=rng.uniform(0.4, 1.6, N_DRIVERS),
        density=-0.4 * genome.compartment,
        tracks=0.25 * tracks,
        exposures=rng.normal([1.0, 0, 0, 0, 0, 1.0], 0.3),
    )


def draw_mutations(
    rng: np.random.Generator, genome: Landscape, common: Mutability, profile: np.ndarray, n_mutations: int
) -> pd.DataFrame:
    """Draw the mutations of one sample, in genome order, no two at one place.

    Parameters: ``profile`` (N_LATENT,) in units of noise; ``n_mutations`` is typical.
    Returns chrom, pos (0-based), ref, alt ("-" where a base is lost), context (11 bases of the strand of ref around
    it), gene ("" outside genes), effect (a class of MAF), depth, n_alt, passed.
    """
    log_exposure = common.exposures + 0.7 * profile[1:7]
    weights = np.exp(log_exposure - log_exposure.max())
    spectrum = weights @ signatures() / weights.sum()
    n = max(1, rng.poisson(n_mutations * np.exp(0.5 * profile[0])))
    density = np.exp(common.density + profile[-N_TRACKS:] @ common.tracks) * genome.sequenced
    density *= (genome.end - genome.start) * (genome.chrom < genome.chromosomes.index("chrY"))
    bins = rng.choice(len(density), n, p=density / density.sum())
    chrom, pos = genome.chrom[bins], genome.start[bins] + rng.integers(0, 99_000, n)

    hit = common.drivers[profile[7 : 7 + N_DRIVERS] > common.driver_threshold]
    rows = common.genes.iloc[hit]
    chrom = np.append(chrom, [genome.chromosomes.index(name) for name in rows["chrom"]]).astype(np.int64)
    pos = np.append(pos, rng.integers(rows["start"].to_numpy(), rows["end"].to_numpy())).astype(np.int64)
    is_driver = np.arange(len(pos)) >= n
    # Drivers first, so that they stay where a passenger fell on the same base.
    _, kept = np.unique(np.stack([chrom, pos])[:, ::-1], axis=1, return_index=True)
    kept = len(pos) - 1 - kept
    chrom, pos, is_driver = chrom[kept], pos[kept], is_driver[kept]

    table = _draw_bases(rng, spectrum, len(pos))
    table.insert(0, "chrom", np.array(genome.chromosomes)[chrom])
    table.insert(1, "pos", pos)
    table["gene"] = _gene_at(common.genes, table["chrom"].to_numpy(), pos)
    coding = rng.choice(["Intron", "Silent", "Missense_Mutation"], len(pos), p=[0.94, 0.02, 0.04])
    table["effect"] = np.where(table["gene"] == "", "IGR", coding)
    harm = rng.choice(["Missense_Mutation", "Nonsense_Mutation"], len(pos), p=[0.75, 0.25])
    table["effect"] = np.where(is_driver, harm, table["effect"])
    lost = table["alt"] == "-"
    table.loc[lost & table["effect"].isin(list(_EFFECTS)[:4]), "effect"] = "Frame_Shift_Del"
    table["depth"] = rng.poisson(60, len(pos)) + 10
    table["n_alt"] = rng.binomial(table["depth"] - 3, 0.35) + 3
    table["passed"] = (rng.random(len(pos)) >= _FILTERED_SHARE) | is_driver
    return table


def _draw_bases(rng: np.random.Generator, spectrum: np.ndarray, n: int) -> pd.DataFrame:
    """Draw what is changed into what, and the bases around it, on either strand: ref, alt, context."""
    kind = rng.choice(96, n, p=spectrum / spectrum.sum())
    types = mutation_types()
    code = {base: number for number, base in enumerate("ACGT")}
    around = rng.integers(0, 4, (n, 2 * _FLANK_BP + 1))
    around[:, _FLANK_BP] = types["substitution"].str[0].map(code).to_numpy()[kind]
    around[:, _FLANK_BP - 1] = types["five_prime"].map(code).to_numpy()[kind]
    around[:, _FLANK_BP + 1] = types["three_prime"].map(code).to_numpy()[kind]
    alt = types["substitution"].str[2].map(code).to_numpy()[kind]
    other = rng.random(n) < 0.5  # called on the other strand
    around[other] = _COMPLEMENT[around[other, ::-1]]
    alt = np.where(other, _COMPLEMENT[alt], alt)
    lost = rng.random(n) < _INDEL_SHARE
    return pd.DataFrame(
        {
            "ref": _BASES[around[:, _FLANK_BP]],
            "alt": np.where(lost, "-", _BASES[alt]),
            "context": ["".join(row) for row in _BASES[around]],
        }
    )


def _gene_at(genes: pd.DataFrame, chrom: np.ndarray, pos: np.ndarray) -> np.ndarray:
    """Name the gene at each place, "" where there is none; of genes that overlap, the one that begins last."""
    found = np.full(len(pos), "", dtype=object)
    for name, rows in genes.groupby("chrom", sort=False):
        here = np.flatnonzero(chrom == name)
        last = np.searchsorted(rows["start"].to_numpy(), pos[here], side="right") - 1
        inside = (last >= 0) & (pos[here] < rows["end"].to_numpy()[last])
        found[here[inside]] = rows["gene"].to_numpy()[last[inside]]
    return found


def maf_table(sample_id: str, table: pd.DataFrame) -> pa.Table:
    """Lay out one sample's mutations as the GDC's MAF does (1-based, closed), those that passed the filters.

    Source: https://docs.gdc.cancer.gov/Data/File_Formats/MAF_Format/.
    """
    table = table[table["passed"]]
    n = len(table)
    kind = np.where(table["alt"] == "-", "DEL", "SNP")
    return pa.table(
        {
            "Hugo_Symbol": table["gene"].where(table["gene"] != "", "Unknown").astype(str),
            "NCBI_Build": ["GRCh38"] * n,
            "Chromosome": table["chrom"],
            "Start_Position": table["pos"] + 1,
            "End_Position": table["pos"] + 1,
            "Strand": ["+"] * n,
            "Variant_Classification": table["effect"],
            "Variant_Type": kind,
            "Reference_Allele": table["ref"],
            "Tumor_Seq_Allele1": table["ref"],
            "Tumor_Seq_Allele2": table["alt"],
            "Tumor_Sample_Barcode": [sample_id] * n,
            "t_depth": table["depth"],
            "t_ref_count": table["depth"] - table["n_alt"],
            "t_alt_count": table["n_alt"],
            "CONTEXT": table["context"],
            "FILTER": ["PASS"] * n,
        }
    ).replace_schema_metadata(None)


def write_maf(path: Path, tables: list[pa.Table]) -> None:
    """Write the mutations of a cohort as one MAF."""
    write_text_table(path, pa.concat_tables(tables), "#version gdc-2.0\n")


def write_vcf(path: Path, genome: Landscape, sample_id: str, table: pd.DataFrame) -> None:
    """Write one sample's mutations as VCF 4.2, bgzipped, with effects in ANN and the trinucleotide in INFO.

    Sources: https://samtools.github.io/hts-specs/VCFv4.2.pdf; https://pcingola.github.io/SnpEff/ (ANN).
    """
    from oncoarena.simulation import bam

    head = ["##fileformat=VCFv4.2", '##FILTER=<ID=PASS,Description="All filters passed">']
    head += ['##FILTER=<ID=weak_evidence,Description="Too few reads">']
    sizes = zip(genome.chromosomes, genome.sizes, strict=True)
    head += [f"##contig=<ID={name},length={size}>" for name, size in sizes]
    head += [
        '##INFO=<ID=CONTEXT,Number=1,Type=String,Description="Bases around the first base of REF that is changed">',
        "##INFO=<ID=ANN,Number=.,Type=String,Description=\"Functional annotations: 'Allele | Annotation | "
        "Annotation_Impact | Gene_Name | Gene_ID | Feature_Type | Feature_ID | Transcript_BioType | Rank | HGVS.c | "
        "HGVS.p | cDNA.pos / cDNA.length | CDS.pos / CDS.length | AA.pos / AA.length | Distance | "
        "ERRORS / WARNINGS / INFO' \">",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Reads of each allele">',
        '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Reads">',
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample_id}",
    ]
    lines = []
    for row in table.itertuples():
        pos, ref, alt = row.pos + 1, row.ref, row.alt
        if alt == "-":  # a lost base is written with the one before it
            alt = row.context[_FLANK_BP - 1]
            pos, ref = pos - 1, alt + ref
        effect, impact = _EFFECTS[row.effect]
        info = f"CONTEXT={row.context[_FLANK_BP - 1 : _FLANK_BP + 2]}"
        info += f";ANN={alt}|{effect}|{impact}|{row.gene}|{row.gene}|||||||||||"
        reads = f"0/1:{row.depth - row.n_alt},{row.n_alt}:{row.depth}"
        mark = "PASS" if row.passed else "weak_evidence"
        lines.append(f"{row.chrom}\t{pos}\t.\t{ref}\t{alt}\t.\t{mark}\t{info}\tGT:AD:DP\t{reads}")
    content = ("\n".join(head + lines) + "\n").encode()

    def write(temporary: str) -> None:
        with open(temporary, "wb") as stream:
            bam.write_bgzf(stream, content, level=6)
            stream.write(bam.BGZF_END)

    store.write_whole(str(path), write)
