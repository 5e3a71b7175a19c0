"""Variants: mutation spectra, density along the genome, mutated genes and burden, from VCF, BCF or MAF.

What is counted is an allele that the tumour carries: each allele of a row by itself, in its shortest form, once.
A substitution of two neighbouring bases counts as two substitutions of one base, as in SigProfilerMatrixGenerator,
and two that are neighbours are a doublet if no third is within 5 bp, whether one row wrote them or two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import pandas as pd

from oncoarena import legal
from oncoarena.assays import MatrixFeatures, SampleFeatures
from oncoarena.cohort import BlockSpec
from oncoarena.errors import InputError

if TYPE_CHECKING:
    from oncoarena.assays.variant_tally import VariantTally
    from oncoarena.assays.variant_text import VariantText

_SPECTRA = "doi:10.1038/s41586-020-1943-3; doi:10.1186/s12864-019-6041-2"

BLOCKS = {
    "mutation_spectrum": BlockSpec(
        name="mutation_spectrum",
        dims=("sample", "class"),
        dtype="float32",
        unit="mutations",
        description="Substitutions of one base in 96 classes: pyrimidine changed, to what, and both neighbours.",
        reference=_SPECTRA,
    ),
    "doublet_spectrum": BlockSpec(
        name="doublet_spectrum",
        dims=("sample", "class"),
        dtype="float32",
        unit="mutations",
        description="Substitutions of two neighbouring bases in 78 classes.",
        reference=_SPECTRA,
    ),
    "indel_spectrum": BlockSpec(
        name="indel_spectrum",
        dims=("sample", "class"),
        dtype="float32",
        unit="mutations",
        description="Insertions and deletions in 83 classes of length, repeats and microhomology.",
        reference=_SPECTRA,
    ),
    "mutation_bins": BlockSpec(
        name="mutation_bins",
        dims=("sample", "bin"),
        dtype="float32",
        unit="mutations",
        description="Number of substitutions of one base in each bin of the genome.",
        reference="doi:10.1038/s41467-019-13825-8",
    ),
    "mutated_genes": BlockSpec(
        name="mutated_genes",
        dims=("sample", "gene"),
        dtype="float32",
        unit="1 where mutated, else 0",
        description="Whether a mutation alters the protein of a gene, for all genes mutated in any sample.",
        reference="https://docs.gdc.cancer.gov/Data/File_Formats/MAF_Format/",
    ),
    "mutation_tokens": BlockSpec(
        name="mutation_tokens",
        dims=("sample", "mutation", "field"),
        dtype="float32",
        unit="codes, share of reads",
        description="A sample's mutations as a set: class, bin of mutation_bins, altered gene and share of reads of "
        "each, in genome order; of more than there is room for, those of the smallest hash.",
        reference="doi:10.1186/s13073-023-01204-4",
    ),
    "burden": BlockSpec(
        name="burden",
        dims=("sample", "class"),
        dtype="float32",
        unit="mutations per Mb",
        description="Mutations per callable Mb by class, and by effect on the protein where annotated.",
        reference="doi:10.1186/s13073-017-0424-2",
    ),
}

FILES = ("reference",)

ABSENT = {"mutated_genes": 0.0}
"""What stands, in a sample, for a feature that only other samples name: a gene not mutated in it."""

_LEGAL = {
    "genome": ("hg19", "hg38", "t2t"),
    "chromosomes": ("all", "autosomes"),
    "filters": ("pass", "all"),
    "context": ("auto", "reference", "column", "none"),
    "consequences": ("none", "maf", "ann", "csq"),
    "absent_sample": ("refuse", "empty"),
}
MIN_BIN_BP, MAX_BIN_BP = 1_000, 250_000_000
# More would not fit into a Parquet row with ease: 100,000 mutations are 1.6 MB a sample.
MAX_TOKENS = 100_000


@dataclass(frozen=True)
class Options:
    """How to read variants; raises InputError for a value that is not legal."""

    genome: str = "hg38"
    """hg19 | hg38 | t2t: the genome that the variants were called with."""
    reference: str | None = None
    """Path of its FASTA on a local disk, with <path>.fai beside it (samtools faidx); not compressed."""
    context: str = "auto"
    """What tells the neighbours of a base: reference | column (of a MAF) | none; auto: reference if given."""
    context_column: str | None = None
    """Of a MAF: the column of contexts, the mutated base in its middle; by default CONTEXT or ref_context."""
    chromosomes: str = "all"
    """all (1 to 22, X, Y) | autosomes; variants elsewhere are counted in the QC only."""
    bin_bp: int = 1_000_000
    """Width of a bin of mutation_bins in bp, 1000 or more; the last of a chromosome may be shorter."""
    tokens: int = 0
    """Mutations of a sample that mutation_tokens has room for, one by one; 0: no such block."""
    filters: str = "pass"
    """pass (FILTER is PASS or .) | all."""
    tumour_sample: str | None = None
    """Name of the tumour in every file; by default the sheet's sample_id, else ##tumor_sample, else the only one."""
    consequences: str = "none"
    """What tells altered proteins: maf (Hugo_Symbol and Variant_Classification) | ann (SnpEff) | csq (VEP) | none."""
    callable_mb: float | None = None
    """Mb that the burden is divided by, e.g. of the exome; by default the autosomes, with X for chromosomes: all."""
    absent_sample: str = "refuse"
    """Of a MAF of the cohort: refuse a sample of the sheet that has no row | empty: it has no mutation."""

    def __post_init__(self) -> None:
        for key, words in _LEGAL.items():
            legal.check_choice(key, getattr(self, key), words)
        for key in ("reference", "context_column", "tumour_sample"):
            legal.check_text(key, getattr(self, key), "text; leave it out where there is none")
        legal.check_whole("bin_bp", self.bin_bp, MIN_BIN_BP, MAX_BIN_BP)
        legal.check_whole("tokens", self.tokens, 0, MAX_TOKENS)
        if self.callable_mb is not None:
            legal.check_number("callable_mb", self.callable_mb, 1e-6, 1e6)
        if self.reference is not None and "://" in self.reference:
            raise InputError(
                f"reference: found {self.reference!r}; expected a path on a local disk, since every variant looks into "
                "it. Copy the FASTA and its .fai there."
            )
        if self.context == "reference" and self.reference is None:
            raise InputError("context: reference needs the option reference, the path of a FASTA file.")
        if self.context in ("column", "none") and self.reference is not None:
            raise InputError(
                f"reference: it is not used with context: {self.context}; leave one of both out."
            )
        if self.context_column is not None and self.context != "column":
            raise InputError("context_column: it is not used without context: column.")

    @property
    def context_source(self) -> str:
        """reference | column | none."""
        if self.context == "auto":
            return "none" if self.reference is None else "reference"
        return self.context


def offered(options: Options) -> tuple[str, ...]:
    """Name the blocks that these options yield, the same for every object."""
    spectra = {
        "reference": ("mutation_spectrum", "doublet_spectrum", "indel_spectrum"),
        "column": ("mutation_spectrum",),
        "none": (),
    }
    genes = () if options.consequences == "none" else ("mutated_genes",)
    tokens = ("mutation_tokens",) if options.tokens else ()
    return (*spectra[options.context_source], "mutation_bins", *tokens, *genes, "burden")


def read_object(
    stream: BinaryIO,
    source: str,
    options: Options,
    *,
    sample_id: str,
    annotation: pd.DataFrame | None = None,
) -> dict[str, SampleFeatures]:
    """Read the variants of one sample from its own VCF, BCF or MAF.

    Parameters: ``sample_id`` names the tumour where the object holds several samples and ``tumour_sample`` does not;
    ``annotation`` gives the places of mutated genes, its ids being symbols.
    Returns the blocks of ``offered(options)``.
    Raises InputError, BadObject.
    """
    from oncoarena.assays import maf, vcf
    from oncoarena.assays.variant_tally import VariantTally
    from oncoarena.assays.variant_text import read_variants

    text = read_variants(stream, source)
    _check_kind(text, options, source)
    if text.kind == "vcf":
        names = vcf.sample_names(text, source)
        tumour = vcf.choose_tumour(text, names, options.tumour_sample, sample_id, source)
        tally = VariantTally(1, options.tokens > 0)
        vcf.read_rows(text, [] if tumour is None else [tumour], tally, options, source)
        row, name_in_file = 0, "" if tumour is None else names[tumour]
    else:
        # Row 0 is for the sample that is looked for, row 1 for any other.
        tally = VariantTally(2, options.tokens > 0)
        codes = maf.SampleCodes([options.tumour_sample or sample_id], others=1)
        maf.read_rows(text, codes, tally, options, source)
        row, name_in_file = codes.only_sample(options.tumour_sample or sample_id, source)
    blocks, figures = _blocks(tally.only(row), options, source, annotation)
    # A sample alone is taken under any name: here it is seen that the file is another's.
    qc = {"name_in_file": name_in_file, "n_records": tally.n_records}
    qc |= {name: column[0].item() for name, column in figures.items()}
    return {name: SampleFeatures(values[0], features, qc) for name, (values, features) in blocks.items()}


def read_matrix(
    stream: BinaryIO,
    source: str,
    sample_ids: Sequence[str],
    options: Options,
    annotation: pd.DataFrame | None = None,
) -> dict[str, MatrixFeatures]:
    """Read the variants of the given samples from a VCF or BCF of several samples, or a MAF of the cohort.

    Parameters: ``sample_ids`` (n_samples,) unique, as the header or Tumor_Sample_Barcode names them; ``annotation``
    as in ``read_object``. Samples that are not asked for are ignored, and told of in a note.
    Returns the blocks of ``offered(options)``, rows in the order of ``sample_ids``.
    Raises InputError, also for a sample that is not there (see ``absent_sample``), BadObject.
    """
    from oncoarena.assays import maf, vcf
    from oncoarena.assays.variant_tally import VariantTally
    from oncoarena.assays.variant_text import read_variants

    sample_ids = [str(sample_id) for sample_id in sample_ids]
    if options.tumour_sample is not None:
        raise InputError("tumour_sample: it has no meaning where one file holds the cohort; remove it.")
    text = read_variants(stream, source)
    _check_kind(text, options, source)
    tally = VariantTally(len(sample_ids), options.tokens > 0)
    notes = []
    names_in_file = sample_ids
    if text.kind == "vcf":
        names = vcf.sample_names(text, source)
        vcf.read_rows(text, vcf.places_of(names, sample_ids, source), tally, options, source)
        n_extra = len(names) - len(sample_ids)
        if n_extra:
            notes.append(f"{source}: {n_extra} samples that are not in the sheet were ignored.")
    else:
        codes = maf.SampleCodes(sample_ids)
        maf.read_rows(text, codes, tally, options, source)
        notes += codes.notes(sample_ids, options.absent_sample == "empty", source)
        names_in_file = [
            name if seen else "" for name, seen in zip(sample_ids, codes.seen.tolist(), strict=True)
        ]
    blocks, figures = _blocks(tally, options, source, annotation)
    told = {"sample_id": sample_ids, "name_in_file": names_in_file}
    qc = pd.DataFrame({**{key: pd.Series(names, dtype=str) for key, names in told.items()}, **figures})
    return {
        name: MatrixFeatures(values, features, qc, tuple(notes) if name == "burden" else ())
        for name, (values, features) in blocks.items()
    }


def _blocks(tally: "VariantTally", options: Options, source: str, annotation: pd.DataFrame | None):
    from oncoarena.assays.variant_blocks import make_blocks

    return make_blocks(tally, options, offered(options), source, annotation)


def _check_kind(text: "VariantText", options: Options, source: str) -> None:
    """Refuse options that the format cannot serve."""
    if text.kind == "vcf" and options.consequences == "maf":
        raise InputError(f"{source}: it is a VCF; consequences: maf needs a MAF. Set ann, csq or none.")
    if text.kind == "vcf" and options.context_source == "column":
        raise InputError(f"{source}: it is a VCF; context: column needs a MAF. Give the reference instead.")
    if text.kind == "maf" and options.consequences in ("ann", "csq"):
        raise InputError(
            f"{source}: it is a MAF; consequences: {options.consequences} needs a VCF. Set maf or none."
        )
