"""Classes of mutations, against a slow and plain reading of their definition."""

import io
from collections import Counter

import numpy as np
import pytest

from oncoarena.assays import mutation_classes, variants
from oncoarena.assays.mutation_classes import reverse_complement
from variant_files import SIZES, random_mutations, vcf_text, write_genome


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_genome(tmp_path_factory.mktemp("genome"))


def read(rows, small):
    options = variants.Options(reference=str(small.path))
    text = vcf_text(rows, ["s"]).encode()
    return variants.read_object(io.BytesIO(text), "s.vcf", options, sample_id="s")


def counts(block):
    found = dict(zip(block.features["id"], block.values.tolist(), strict=True))
    return {name: count for name, count in found.items() if count}


def single_substitutions(rows):
    """Substitutions of one base, doublets split, each once."""
    found = set()
    for chrom, pos, ref, alt in rows:
        if len(ref) == len(alt):
            found.update((chrom, pos - 1 + k, ref[k], alt[k]) for k in range(len(ref)))
    return found


def substitution_class(small, chrom, pos, ref, alt):
    before, behind = small.base(chrom, pos - 1), small.base(chrom, pos + 1)
    if ref in "AG":
        before, ref, alt, behind = (reverse_complement(base) for base in (behind, ref, alt, before))
    return f"{before}[{ref}>{alt}]{behind}"


def indel_class(small, chrom, start, ref, alt):
    """Class by definition: repeats of the unit on both sides, else the longest homology of a deletion.

    ``start`` is 0-based, ``ref`` and ``alt`` without the base before them.
    """
    unit, kind = (ref, "Del") if ref else (alt, "Ins")
    size = len(unit)
    n_left = n_right = 0
    while small.bases(chrom, start - (n_left + 1) * size, start - n_left * size) == unit:
        n_left += 1
    behind = start + len(ref)
    while small.bases(chrom, behind + n_right * size, behind + (n_right + 1) * size) == unit:
        n_right += 1
    n_repeats = n_left + n_right
    if size == 1:
        return f"1:{kind}:{unit if unit in 'CT' else reverse_complement(unit)}:{min(n_repeats, 5)}"
    homology = 0
    for k in range(1, size):
        if (
            small.bases(chrom, behind, behind + k) == unit[:k]
            or small.bases(chrom, start - k, start) == unit[-k:]
        ):
            homology = k
    if kind == "Del" and n_repeats == 0 and homology:
        return f"{min(size, 5)}:Del:M:{min(homology, 5)}"
    return f"{min(size, 5)}:{kind}:R:{min(n_repeats, 5)}"


def test_classes__are_the_96_78_and_83_of_cosmic():
    sizes = [
        len(set(names))
        for names in (
            mutation_classes.SUBSTITUTION_CLASSES,
            mutation_classes.DOUBLET_CLASSES,
            mutation_classes.INDEL_CLASSES,
        )
    ]
    assert sizes == [96, 78, 83]
    assert mutation_classes.SUBSTITUTION_CLASSES[0] == "A[C>A]A"
    assert mutation_classes.DOUBLET_CLASSES[:2] == ("AC>CA", "AC>CG")
    assert mutation_classes.INDEL_CLASSES[-1] == "5:Del:M:5"


def test_doublet_table__a_doublet_and_its_other_strand_are_one_class():
    table = mutation_classes.DOUBLET_TABLE
    first, second, new_first, new_second = np.nonzero(table >= 0)
    assert len(first) == 9 * 16
    other = table[3 - second, 3 - first, 3 - new_second, 3 - new_first]
    assert (other == table[first, second, new_first, new_second]).all()


@pytest.mark.parametrize("seed", [1, 2])
def test_mutation_spectrum__equals_a_count_by_definition(small, seed):
    rows = random_mutations(small, 1500, seed)
    expected = Counter(substitution_class(small, *snv) for snv in single_substitutions(rows))
    block = read(rows, small)["mutation_spectrum"]
    assert counts(block) == expected
    assert block.qc["n_no_context"] == block.qc["n_ref_mismatch"] == 0


def test_doublet_spectrum__pairs_with_a_third_within_5_bp_are_none(small):
    rows = random_mutations(small, 2500, 3)
    snvs = single_substitutions(rows)
    # Two alleles at one place leave open which one belongs to the pair.
    places = Counter((chrom, pos) for chrom, pos, _, _ in snvs)
    twice = {place for place, n in places.items() if n > 1}
    rows = [
        row
        for row in rows
        if len(row[2]) != len(row[3])
        or not any((row[0], row[1] - 1 + k) in twice for k in range(len(row[2])))
    ]
    snvs = {(chrom, pos): (ref, alt) for chrom, pos, ref, alt in single_substitutions(rows)}
    expected = Counter()
    for (chrom, pos), (ref, alt) in snvs.items():
        if (chrom, pos + 1) not in snvs:
            continue
        if any((chrom, pos + k) in snvs for k in (-5, -4, -3, -2, -1, 2, 3, 4, 5, 6)):
            continue
        next_ref, next_alt = snvs[chrom, pos + 1]
        name = f"{ref}{next_ref}>{alt}{next_alt}"
        other = f"{reverse_complement(ref + next_ref)}>{reverse_complement(alt + next_alt)}"
        expected[name if name in mutation_classes.DOUBLET_CLASSES else other] += 1
    assert sum(expected.values()) > 200
    assert counts(read(rows, small)["doublet_spectrum"]) == expected


def test_indel_spectrum__equals_a_count_by_definition(small):
    rows = [row for row in random_mutations(small, 3000, 4) if len(row[2]) != len(row[3])]
    expected = Counter(indel_class(small, chrom, pos, ref[1:], alt[1:]) for chrom, pos, ref, alt in rows)
    assert len(expected) > 60
    assert counts(read(rows, small)["indel_spectrum"]) == expected


def test_contexts__at_the_ends_of_a_chromosome_and_beside_n_are_not_known(small):
    size = SIZES["chr21"]
    inner = len(small.ends["chr21"][0])
    rows = []
    for pos in (0, inner - 1, size - inner, size - 1):
        ref = small.base("chr21", pos)
        rows.append(("chr21", pos + 1, ref, "C" if ref != "C" else "T"))
    blocks = read(rows, small)
    assert blocks["mutation_spectrum"].values.sum() == 0
    assert blocks["mutation_spectrum"].qc["n_no_context"] == 4
    assert blocks["mutation_bins"].values.sum() == 4


def test_indels__at_the_ends_of_a_chromosome_are_classified(small):
    size = SIZES["chr21"]
    last = small.base("chr21", size - 1)
    rows = [
        ("chr21", 1, small.bases("chr21", 0, 4), small.base("chr21", 0)),
        ("chr21", size - 2, small.bases("chr21", size - 3, size), small.base("chr21", size - 3)),
        ("chr21", size, last, last + "ACGTACG"),
    ]
    assert read(rows, small)["indel_spectrum"].values.sum() == 3
