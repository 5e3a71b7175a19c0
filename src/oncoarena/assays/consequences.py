"""What variants do to genes, from the annotation beside them: MAF columns, ANN of SnpEff, CSQ of VEP."""

import re
from collections.abc import Callable

from oncoarena.assays.variant_tally import ALTERING, MISSENSE, SILENT, TRUNCATING
from oncoarena.errors import InputError

MAF_EFFECTS = {
    b"Frame_Shift_Del": TRUNCATING,
    b"Frame_Shift_Ins": TRUNCATING,
    b"Nonsense_Mutation": TRUNCATING,
    b"Splice_Site": TRUNCATING,
    b"Missense_Mutation": MISSENSE,
    b"In_Frame_Del": ALTERING,
    b"In_Frame_Ins": ALTERING,
    b"Nonstop_Mutation": ALTERING,
    b"Translation_Start_Site": ALTERING,
}
"""Variant_Classification of MAF that alters a protein (https://docs.gdc.cancer.gov/Data/File_Formats/MAF_Format/)."""

TERM_EFFECTS = {
    b"transcript_ablation": TRUNCATING,
    b"splice_acceptor_variant": TRUNCATING,
    b"splice_donor_variant": TRUNCATING,
    b"stop_gained": TRUNCATING,
    b"frameshift_variant": TRUNCATING,
    b"missense_variant": MISSENSE,
    b"stop_lost": ALTERING,
    b"start_lost": ALTERING,
    b"initiator_codon_variant": ALTERING,
    b"inframe_insertion": ALTERING,
    b"inframe_deletion": ALTERING,
    b"conservative_inframe_insertion": ALTERING,
    b"conservative_inframe_deletion": ALTERING,
    b"disruptive_inframe_insertion": ALTERING,
    b"disruptive_inframe_deletion": ALTERING,
    b"protein_altering_variant": ALTERING,
}
"""Terms of the Sequence Ontology that alter a protein (http://www.sequenceontology.org)."""

Effect = tuple[int, frozenset[str]]
NO_EFFECT: Effect = (SILENT, frozenset())
_CSQ_FORMAT = re.compile(rb"##INFO=<ID=CSQ,[^\n]*Format: ?([^\">\n]+)")


def info_reader(kind: str, header: bytes, source: str) -> Callable[[bytes, bytes, bytes, int], Effect]:
    """Return a function that reads an allele's effect from INFO: (info, ref, alts, number of the allele from 1).

    Parameters: ``kind`` "ann" | "csq"; ``header`` of the VCF. The effect is the worst over transcripts, and the genes
    are those of which a protein is altered.
    Raises InputError where the header does not announce the annotation.
    Source: https://pcingola.github.io/SnpEff/snpeff/inputoutput/ and https://www.ensembl.org/info/docs/tools/vep/
    """
    key = kind.upper().encode()
    if b"##INFO=<ID=%b," % key not in header:
        raise InputError(
            f"{source}: the header has no INFO {kind.upper()}; expected a VCF annotated by "
            f"{'SnpEff' if kind == 'ann' else 'VEP'} (consequences: {kind}). Annotate it, or set consequences: none."
        )
    names = [b"Allele", b"Annotation", b"Annotation_Impact", b"Gene_Name"]
    if kind == "csq":
        found = _CSQ_FORMAT.search(header)
        names = [] if found is None else found.group(1).strip().split(b"|")
    wanted = (
        b"Allele",
        b"Consequence" if kind == "csq" else b"Annotation",
        b"SYMBOL" if kind == "csq" else b"Gene_Name",
    )
    if not set(wanted) <= set(names):
        raise InputError(
            f"{source}: INFO {kind.upper()} has the fields {b'|'.join(names).decode(errors='replace')!r}; expected "
            f"{', '.join(name.decode() for name in wanted)} among them. Run VEP with --symbol."
        )
    allele_at, term_at, gene_at = (names.index(name) for name in wanted)
    prefix = key + b"="

    def read(info: bytes, ref: bytes, alts: bytes, allele: int) -> Effect:
        entries = next((item[len(prefix) :] for item in info.split(b";") if item.startswith(prefix)), None)
        if entries is None:
            return NO_EFFECT
        all_alts = alts.split(b",")
        names = None if len(all_alts) == 1 else _names_of(ref, all_alts, allele)
        worst, genes = SILENT, set()
        for entry in entries.split(b","):
            fields = entry.split(b"|")
            if len(fields) <= max(allele_at, term_at, gene_at) or (names and fields[allele_at] not in names):
                continue
            effect = max(TERM_EFFECTS.get(term, SILENT) for term in fields[term_at].split(b"&"))
            worst = max(worst, effect)
            if effect > SILENT and fields[gene_at]:
                genes.add(fields[gene_at].decode(errors="replace"))
        return worst, frozenset(genes)

    return read


def _names_of(ref: bytes, alts: list[bytes], allele: int) -> tuple[bytes, ...]:
    """An allele as SnpEff names it (as in ALT) and as VEP does, which drops a first base that all alleles share."""
    own = alts[allele - 1]
    if any(len(name) != len(ref) for name in alts) and all(name[:1] == ref[:1] for name in alts):
        return own, own[1:] or b"-"
    return (own,)
