"""MAF: columns, whose row it is, alleles, effects, contexts.

Source: https://docs.gdc.cancer.gov/Data/File_Formats/MAF_Format/
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from oncoarena.assays.consequences import MAF_EFFECTS, NO_EFFECT, Effect
from oncoarena.assays.tables import abbreviated
from oncoarena.assays.variant_chunks import Fields, collect
from oncoarena.assays.variant_tally import MISMATCH, NO_CONTEXT, Room, VariantTally
from oncoarena.assays.variant_text import VariantText
from oncoarena.assays.vcf import chromosome_arrays
from oncoarena.errors import AbsentSamples, BadObject, InputError
from oncoarena.kernels.text_fields import changes
from oncoarena.kernels.variant_fields import BASE
from oncoarena.kernels.variant_rows import ALLELE_BITS, scan_maf

BARCODE = "Tumor_Sample_Barcode"
CONTEXT_COLUMNS = ("CONTEXT", "ref_context", "Ref_Context", "trinucleotide_context", "Trinucleotide_Context")
# How NCBI_Build begins, in small letters: GRCh37-lite is hg19 too.
_BUILDS = {
    "hg19": ("37", "hg19", "grch37", "b37", "hs37"),
    "hg38": ("38", "hg38", "grch38"),
    "t2t": ("t2t", "chm13", "hs1"),
}
_NAMED = 20


class MafColumns:
    """Where the wanted columns are. Raises InputError for a column that is missing or there twice."""

    def __init__(self, text: VariantText, options: Any, source: str):
        names = text.columns
        place = {name: number for number, name in reversed(list(enumerate(names)))}

        def find(*wanted: str, needed: str = "") -> int | None:
            found = next((place[name] for name in wanted if name in place), None)
            if found is None and needed:
                raise InputError(
                    f"{source}: line {text.header_line}: no column {' or '.join(wanted)}; expected it {needed}. The "
                    f"columns are {abbreviated(names, 40)}."
                )
            if found is not None and names.count(names[found]) > 1:
                raise InputError(
                    f"{source}: line {text.header_line}: column {names[found]!r} is there twice. Keep one."
                )
            return found

        always = "in a MAF"
        start = find("Start_Position", "Start_position", needed=always)
        first = [find("Chromosome", needed=always), start, find("Reference_Allele", needed=always)]
        second = find("Tumor_Seq_Allele2", needed=always)
        self.barcode = find(BARCODE, needed=always)
        allele1 = find("Tumor_Seq_Allele1")
        filters, ref_depth, alt_depth = find("FILTER"), find("t_ref_count"), find("t_alt_count")
        self.has_filter = filters is not None
        self.has_depths = ref_depth is not None and alt_depth is not None
        stand_in = first[0]
        self.wanted = [
            *first,
            second if allele1 is None else allele1,
            second,
            filters if self.has_filter else stand_in,
            ref_depth if self.has_depths else stand_in,
            alt_depth if self.has_depths else stand_in,
            self.barcode,
        ]
        self.build = self._add(find("NCBI_Build"))
        self.effect = self.gene = self.context = None
        if options.consequences == "maf":
            self.effect = self._add(find("Variant_Classification", needed="for consequences: maf"))
            self.gene = self._add(find("Hugo_Symbol", needed="for consequences: maf"))
        if options.context_source == "column":
            own = (options.context_column,) if options.context_column else CONTEXT_COLUMNS
            self.context = self._add(find(*own, needed="for context: column"))

    def _add(self, column: int | None) -> int | None:
        if column is None:
            return None
        self.wanted.append(column)
        return len(self.wanted) - 1


class SampleCodes:
    """Numbers of the samples of a MAF by barcode: those asked for, and, if ``others`` is given, one for all others.

    ``seen`` (n_samples,) bool tells which of those asked for have a row; ``others_seen`` some barcodes that were not
    asked for, ``n_other_rows`` their rows.
    """

    def __init__(self, sample_ids: Sequence[str], others: int = -1):
        self._code = {sample_id.encode(): number for number, sample_id in enumerate(sample_ids)}
        self._others = others
        self.seen = np.zeros(len(sample_ids), bool)
        self.others_seen: dict[bytes, None] = {}
        self.n_other_rows = 0

    def read(self, fields: Fields, column: int) -> np.ndarray:
        """Number of the sample of each row (n_rows,) int64, -1 where it was not asked for."""
        changed = np.flatnonzero(changes(fields.text, fields.starts[:, column], fields.ends[:, column]))
        codes = np.empty(len(changed), np.int64)
        for number, row in enumerate(changed.tolist()):
            name = fields.get(row, column)
            code = self._code.get(name, -1)
            if code < 0 and (len(self.others_seen) < _NAMED or name in self.others_seen):
                self.others_seen[name] = None
            codes[number] = code
        lengths = np.diff(np.append(changed, fields.n_rows))
        self.seen[codes[codes >= 0]] = True
        self.n_other_rows += int(lengths[codes < 0].sum())
        return np.repeat(np.where(codes < 0, self._others, codes), lengths)

    def only_sample(self, wanted: str, source: str) -> tuple[int, str]:
        """Return the row of the tally of the one sample of an object, and the sample's name in it ("" without a row).

        The row is 0 for that which is looked for, 1 for the only other one.
        Raises InputError where the object holds several samples, and not the one that is looked for.
        """
        if self.seen[0] or not self.others_seen:
            return 0, wanted if self.seen[0] else ""
        if len(self.others_seen) > 1:
            names = [name.decode(errors="replace") for name in self.others_seen]
            raise InputError(
                f"{source}: no row of sample {wanted!r}; {BARCODE} holds {abbreviated(names, _NAMED)}. Use the same "
                "names in the sheet, set tumour_sample, or read the file as the matrix of the cohort."
            )
        return 1, next(iter(self.others_seen)).decode(errors="replace")

    def notes(self, sample_ids: Sequence[str], may_be_absent: bool, source: str) -> list[str]:
        """Tell of samples without a row and rows without a sample.

        Raises InputError where a sample has no row and may not, or where none has.
        """
        absent = [name for name, seen in zip(sample_ids, self.seen, strict=True) if not seen]
        others = [name.decode(errors="replace") for name in self.others_seen]
        if absent and (not may_be_absent or not self.seen.any()):
            also = f"{BARCODE} also holds {abbreviated(others)}" if others else f"{BARCODE} holds no other"
            raise AbsentSamples(
                f"{source}: no row for {len(absent)} of {len(sample_ids)} samples of the sheet: {abbreviated(absent)}; "
                f"{also}. Use the same names in both; if the samples have no mutation, set absent_sample: empty.",
                absent,
            )
        notes = []
        if absent:
            notes.append(
                f"{source}: {len(absent)} samples without a row are taken to have no mutation: {abbreviated(absent)}."
            )
        if self.n_other_rows:
            notes.append(
                f"{source}: {self.n_other_rows} rows of samples that are not in the sheet were ignored."
            )
        return notes


def read_rows(text: VariantText, codes: SampleCodes, tally: VariantTally, options: Any, source: str) -> None:
    """Read all rows into a tally. Raises InputError, BadObject."""
    columns = MafColumns(text, options, source)
    sizes, used = chromosome_arrays(options.genome, options.chromosomes)
    room = Room()
    for chunk in text.chunks:
        fields = Fields(chunk, columns.wanted, len(text.columns), source, options.genome)
        if columns.build is not None:
            _check_build(fields, columns.build, options.genome, source)
        samples = codes.read(fields, 8)
        arguments = (samples, columns.has_filter, columns.has_depths, options.filters == "all", sizes, used)
        collect(
            fields, scan_maf, arguments, tally, room,
            context_of=_context_reader(fields, columns.context), effect_of=_effect_reader(fields, columns),
        )  # fmt: skip


def _check_build(fields: Fields, column: int, genome_name: str, source: str) -> None:
    changed = changes(fields.text, fields.starts[:, column], fields.ends[:, column])
    for row in np.flatnonzero(changed[: fields.n_rows]).tolist():
        build = fields.get(row, column).decode(errors="replace").strip()
        if build and build != "." and not build.lower().startswith(_BUILDS[genome_name]):
            number, offset = fields.chunk.place(int(fields.starts[row, column]))
            raise BadObject(
                f"{source}: line {number}: NCBI_Build is {build!r}, the study's genome is {genome_name}. Set the "
                "option genome, or give a MAF of this genome",
                offset=offset,
            )


def _effect_reader(fields: Fields, columns: MafColumns) -> Callable[[int, int], Effect] | None:
    if columns.effect is None:
        return None

    def read(row: int, allele: int) -> Effect:
        effect = MAF_EFFECTS.get(fields.get(row, columns.effect))
        if effect is None:
            return NO_EFFECT
        gene = fields.get(row, columns.gene).decode(errors="replace")
        return effect, frozenset([gene] if gene and gene != "Unknown" else [])

    return read


def _context_reader(
    fields: Fields, column: int | None
) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
    if column is None:
        return None

    def read(snvs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        result = np.full(len(snvs), NO_CONTEXT, np.uint8)
        # Of a doublet or a trimmed allele the column does not say which base is its middle.
        place = np.maximum(rows, -1 - rows) >> ALLELE_BITS
        start, end = fields.starts[place, column].astype(np.int64), fields.ends[place, column]
        ref_start, ref_end = fields.starts[place, 2], fields.ends[place, 2]
        usable = (ref_end - ref_start == 1) & ((end - start) % 2 == 1) & (end - start >= 3)
        middle = ((start + end) // 2)[usable]
        before, at, behind = (BASE[fields.text[middle + shift]] for shift in (-1, 0, 1))
        ref = (snvs[usable] >> np.uint64(2)).astype(np.int64) & 3
        codes = np.where((before < 4) & (behind < 4), before * 4 + behind, NO_CONTEXT)
        result[usable] = np.where(at == ref, codes, MISMATCH)
        return result

    return read
