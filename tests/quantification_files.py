"""One sample's quantification as each program writes it, and how it is read, for tests of the assay expression."""

import io

import numpy as np

from oncoarena.assays import SampleFeatures, sample_genes
from oncoarena.assays.expression import Options, read_object

IDS = [
    "ENSG00000141510.16",
    "ENSG00000182378.14",
    "ENSG00000182378.14_PAR_Y",
    "ENSG00000198888.2",
    "ENSG00000000003.9",
]
BARE_IDS = [
    "ENSG00000141510",
    "ENSG00000182378",
    "ENSG00000182378_PAR_Y",
    "ENSG00000198888",
    "ENSG00000000003",
]
SYMBOLS = ["TP53", "PLCXD1", "PLCXD1", "MT-ND1", "TSPAN6"]
COUNTS = np.array([120, 30, 0, 850, 7])
FIRST = np.array([100, 10, 0, 425, 7])
LENGTHS = np.array([2500.0, 1800.0, 1800.0, 956.0, 4535.5])
TPM = COUNTS / LENGTHS / (COUNTS / LENGTHS).sum() * 1e6
CPM = COUNTS / COUNTS.sum() * 1e6
N_ROWS = [50, 20, 30, 3]
"""Reads that are unmapped, multimapping, of no feature, ambiguous."""
STAR_NAMES = ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")
HTSEQ_NAMES = ("__no_feature", "__ambiguous", "__too_low_aQual", "__not_aligned", "__alignment_not_unique")


def lines(*rows: tuple) -> str:
    return "".join("\t".join(str(cell) for cell in row) + "\n" for row in rows)


def gdc(counts=COUNTS, tpm=TPM, ids=IDS) -> str:
    """See https://docs.gdc.cancer.gov/Data/Bioinformatics_Pipelines/Expression_mRNA_Pipeline."""
    kinds = ["unstranded", "stranded_first", "stranded_second", "tpm_unstranded", "fpkm_unstranded"]
    qc = [(name, "", "", n, n, n, "", "", "") for name, n in zip(STAR_NAMES, N_ROWS, strict=True)]
    rows = [
        (gene, name, "protein_coding", n, first, n - first, f"{t:.4f}", f"{t / 2:.4f}", f"{t / 3:.4f}")
        for gene, name, n, first, t in zip(ids, SYMBOLS, counts, FIRST, tpm, strict=True)
    ]
    header = ("gene_id", "gene_name", "gene_type", *kinds, "fpkm_uq_unstranded")
    return "# gene-model: GENCODE v36\n" + lines(header, *qc, *rows)


def star() -> str:
    qc = [(name, n, n, n) for name, n in zip(STAR_NAMES, N_ROWS, strict=True)]
    return lines(*qc, *zip(IDS, COUNTS, FIRST, COUNTS - FIRST, strict=True))


def htseq() -> str:
    return lines(*zip(IDS, COUNTS, strict=True), *zip(HTSEQ_NAMES, [30, 3, 0, 50, 20], strict=True))


def salmon(ids=IDS) -> str:
    rows = zip(ids, [3000] * 5, [f"{n:.3f}" for n in LENGTHS], [f"{t:.6f}" for t in TPM], COUNTS, strict=True)
    return lines(("Name", "Length", "EffectiveLength", "TPM", "NumReads"), *rows)


def kallisto() -> str:
    rows = zip(IDS, [3000] * 5, LENGTHS, COUNTS, [f"{t:.6g}" for t in TPM], strict=True)
    return lines(("target_id", "length", "eff_length", "est_counts", "tpm"), *rows)


def rsem_genes() -> str:
    rows = [
        (gene, f"{gene}_t1,{gene}_t2", 3000, length, f"{n:.2f}", f"{t:.2f}", f"{t / 2:.2f}")
        for gene, length, n, t in zip(IDS, LENGTHS, COUNTS, TPM, strict=True)
    ]
    names = ("gene_id", "transcript_id(s)", "length", "effective_length", "expected_count", "TPM", "FPKM")
    return lines(names, *rows)


def rsem_isoforms() -> str:
    rows = [
        (f"t{row}", gene, 3000, length, f"{n:.2f}", f"{t:.2f}", f"{t / 2:.2f}", "100.00")
        for row, (gene, length, n, t) in enumerate(zip(IDS, LENGTHS, COUNTS, TPM, strict=True))
    ]
    names = (
        "transcript_id",
        "gene_id",
        "length",
        "effective_length",
        "expected_count",
        "TPM",
        "FPKM",
        "IsoPct",
    )
    return lines(names, *rows)


CHR = ["chr17;chr17", "X", "chrX;chrY", "chrM", "GL000192.1"]
START = ["7661779;7668402", "276322", "276322;276322", "3307", "101"]
END = ["7661900;7687550", "303356", "303356;303356", "4262", "5000"]


def feature_counts(bams=("sample.bam",)) -> str:
    rows = [
        (*row, *[count] * len(bams))
        for *row, count in zip(IDS, CHR, START, END, ["+"] * 5, LENGTHS, COUNTS, strict=True)
    ]
    names = ("Geneid", "Chr", "Start", "End", "Strand", "Length", *bams)
    return '# Program:featureCounts v2.0.6; Command:"featureCounts" "-a" "genes.gtf"\n' + lines(names, *rows)


def read(content: str | bytes, annotation=None, **keys) -> SampleFeatures:
    """Read without memory of the table before."""
    sample_genes._last = None
    return read_again(content, annotation, **keys)


def read_again(content: str | bytes, annotation=None, **keys) -> SampleFeatures:
    """Read as the next of a cohort."""
    raw = content.encode() if isinstance(content, str) else content
    found = read_object(io.BytesIO(raw), "s1", Options(**keys), sample_id="s1", annotation=annotation)
    return found["expression"]
