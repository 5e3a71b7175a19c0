"""VCF and BCF: header, choice of the tumour's column, rows.

Source: The Variant Call Format Specification, VCFv4.3, https://samtools.github.io/hts-specs/VCFv4.3.pdf
"""

import functools
import re
from typing import Any

import numpy as np

from oncoarena.assays.consequences import Effect, info_reader
from oncoarena.assays.tables import abbreviated
from oncoarena.assays.variant_chunks import Fields, collect
from oncoarena.assays.variant_tally import Room, VariantTally
from oncoarena.assays.variant_text import VariantText
from oncoarena.errors import BadObject, InputError
from oncoarena.genomes import CHROMOSOMES, canonical_chromosome, genome, matching_genomes
from oncoarena.kernels.variant_rows import scan_vcf

FIXED = ["CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
_CHROM, _POS, _REF, _ALT, _FILTER, _INFO, _FORMAT = 0, 1, 3, 4, 6, 7, 8
_CONTIG = re.compile(
    rb"##contig=<ID=((?:chr)?(?:[0-9]{1,2}|[XY])),(?:[^\n>]*,)?length=([0-9]{1,12})[,>]", re.IGNORECASE
)
_TUMOUR = re.compile(rb"^##tumor_sample=([^\r\n]+)", re.MULTILINE)
# A million columns of samples are no file of this world.
MAX_COLUMNS = 1 << 20


def sample_names(text: VariantText, source: str) -> list[str]:
    """Check the line of columns; return the samples, none for a file of sites only. Raises BadObject."""
    columns = text.columns
    if columns[:8] != FIXED or (len(columns) > 8 and columns[8] != "FORMAT") or len(columns) == 9:
        raise BadObject(
            f"{source}: line {text.header_line}: the columns are {abbreviated(columns)}; expected "
            f"#{', '.join(FIXED)}, then nothing or FORMAT and samples, separated by tabs. Write the file again"
        )
    names = columns[9:]
    if len(names) > MAX_COLUMNS or len(set(names)) < len(names) or not all(names):
        raise BadObject(
            f"{source}: line {text.header_line}: names of samples must be unique and not empty, {MAX_COLUMNS} at most; "
            f"found {abbreviated(names)}"
        )
    return names


def choose_tumour(
    text: VariantText, names: list[str], wanted: str | None, sample_id: str, source: str
) -> int | None:
    """Return the place of the tumour among the samples, None in a file of sites only.

    It is the option tumour_sample; else the sheet's sample id; else what ##tumor_sample says (Mutect2); else the only
    sample. Raises InputError where none of them decides.
    """
    if not names:
        return None
    if wanted is not None:
        if wanted not in names:
            raise InputError(
                f"{source}: no sample is named {wanted!r} (tumour_sample); the samples are {abbreviated(names, 20)}. "
                "Correct the option, or leave it out."
            )
        return names.index(wanted)
    announced = [found.decode(errors="replace").strip() for found in _TUMOUR.findall(text.header)]
    for name in (sample_id, *(announced if len(announced) == 1 else [])):
        if name in names:
            return names.index(name)
    if len(names) == 1:
        return 0
    raise InputError(
        f"{source}: which sample is the tumour? The samples are {abbreviated(names, 20)}, none is {sample_id!r} and "
        "the header has no ##tumor_sample. Rename it, or set tumour_sample if it is called the same in every file."
    )


def places_of(names: list[str], sample_ids: list[str], source: str) -> list[int]:
    """Return the place of each sample of the sheet among those of a file. Raises InputError where one is not there."""
    place = {name: number for number, name in enumerate(names)}
    absent = [sample_id for sample_id in sample_ids if sample_id not in place]
    if absent:
        raise InputError(
            f"{source}: no column for {abbreviated(absent)} of the sample sheet; the samples of the file are "
            f"{abbreviated(names) if names else 'not there (sites only)'}. Use the same names in both."
        )
    return [place[sample_id] for sample_id in sample_ids]


@functools.lru_cache(maxsize=64)
def _wrong_contig(
    contigs: tuple[tuple[bytes, bytes], ...], genome_name: str
) -> tuple[str, int, list[str]] | None:
    """First chromosome that has another length than in the genome, the length, the genomes that have all lengths."""
    sizes = {name.decode(): int(length) for name, length in contigs}
    expected = genome(genome_name).sizes
    for name, size in sizes.items():
        chromosome = canonical_chromosome(name)
        if chromosome is not None and expected[chromosome] != size:
            return name, size, matching_genomes(sizes)
    return None


def check_contigs(header: bytes, genome_name: str, source: str) -> None:
    """Refuse a header whose chromosomes are not those of the genome; BadObject."""
    wrong = _wrong_contig(tuple(_CONTIG.findall(header)), genome_name)
    if wrong is not None:
        name, size, others = wrong
        raise BadObject(
            f"{source}: the header says that {name} has {size} bp, in {genome_name} it has "
            f"{genome(genome_name).sizes[canonical_chromosome(name)]}"
            f"{'; these are the sizes of ' + ' or '.join(others) if others else ''}. Set the genome of the study, or "
            "call the variants again"
        )


def read_rows(text: VariantText, places: list[int], tally: VariantTally, options: Any, source: str) -> None:
    """Read all rows into a tally, a sample of it for each place among the file's samples (none: sites only).

    Raises BadObject.
    """
    check_contigs(text.header, options.genome, source)
    columns = [_CHROM, _POS, _REF, _ALT, _FILTER, _INFO]
    columns += [_FORMAT, *(9 + place for place in places)] if places else []
    reader = None
    if options.consequences in ("ann", "csq"):
        reader = info_reader(options.consequences, text.header, source)
    sizes, used = chromosome_arrays(options.genome, options.chromosomes)
    arguments = (len(places), np.arange(7, 7 + len(places)), options.filters == "all", sizes, used)
    room = Room()
    for chunk in text.chunks:
        fields = Fields(chunk, columns, len(text.columns), source, options.genome)

        def effect_of(row: int, allele: int, fields: Fields = fields) -> Effect:
            return reader(fields.get(row, 5), fields.get(row, 2), fields.get(row, 3), allele)

        collect(fields, scan_vcf, arguments, tally, room, effect_of=None if reader is None else effect_of)


@functools.lru_cache(maxsize=8)
def chromosome_arrays(genome_name: str, chromosomes: str) -> tuple[np.ndarray, np.ndarray]:
    """Sizes (24,) in bp of chromosomes 1 to 22, X, Y, and whether each counts (24,) bool."""
    sizes = genome(genome_name).sizes
    used = np.ones(len(CHROMOSOMES), bool)
    used[22:] = chromosomes == "all"
    return np.array([sizes[name] for name in CHROMOSOMES], np.int64), used
