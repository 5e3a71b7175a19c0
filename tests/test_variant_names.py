"""Whose variants they are by the file's own names, and how many rows were read."""

import io

import pytest

from oncoarena.assays import variants
from oncoarena.errors import InputError
from variant_files import maf_text, vcf_text

ROWS = [("chr1", 1_500_000, "A", "C"), ("chr2", 10, "G", "A"), ("chrX", 5_000_000, "A", "C")]


def qc(text: str, sample_id: str = "s", **keys) -> dict:
    options = variants.Options(**keys)
    stream = io.BytesIO(text.encode())
    found = variants.read_object(stream, "s.vcf", options, sample_id=sample_id)
    return found["burden"].qc


def cohort(text: str, sample_ids: list[str], **keys):
    return variants.read_matrix(io.BytesIO(text.encode()), "all", sample_ids, variants.Options(**keys))


@pytest.mark.parametrize(
    ("text", "keys", "name"),
    [
        (vcf_text(ROWS, ["s"]), {}, "s"),
        (vcf_text(ROWS, ["other"]), {}, "other"),
        (vcf_text(ROWS, ["n", "s"]), {}, "s"),
        (vcf_text(ROWS, ["n", "t"]), {"tumour_sample": "t"}, "t"),
        (vcf_text(ROWS, ["n", "t"], header="##tumor_sample=t"), {}, "t"),
        (vcf_text(ROWS), {}, ""),
        (maf_text([("s", *row) for row in ROWS]), {}, "s"),
        (maf_text([("other", *row) for row in ROWS]), {}, "other"),
        (maf_text([("other", *row) for row in ROWS]), {"tumour_sample": "other"}, "other"),
        (maf_text([]), {}, ""),
    ],
)
def test_read_object__name_in_file_is_the_one_that_was_taken(text, keys, name):
    assert qc(text, **keys)["name_in_file"] == name


def test_read_matrix__name_in_file_is_the_sample_s_where_it_has_rows():
    text = maf_text([("a", *ROWS[0])])
    found = cohort(text, ["b", "a"], absent_sample="empty")["burden"].qc
    assert found["name_in_file"].tolist() == ["", "a"]
    assert cohort(vcf_text(ROWS, ["a", "b"]), ["b", "a"])["burden"].qc["name_in_file"].tolist() == ["b", "a"]


def test_read_object__n_records_are_the_rows_of_the_object():
    assert qc(vcf_text(ROWS, ["n", "s"]))["n_records"] == 3
    assert qc(vcf_text([]))["n_records"] == 0
    several = maf_text([(name, *row) for name in ("s", "t") for row in ROWS])
    assert qc(several)["n_records"] == 6
    assert qc(maf_text([("other", *row) for row in ROWS]))["n_records"] == 3
    assert type(qc(several)["n_records"]) is int


def test_maf__chromosomes_23_and_24_are_x_and_y():
    rows = [("s", name, pos, "A", "C") for name in ("X", "Y") for pos in (5_000_000, 6_000_000)]
    named = cohort(maf_text(rows), ["s"])
    for x, y in (("23", "24"), ("chr23", "chr24")):
        numbered = [(s, {"X": x, "Y": y}[chrom], *rest) for s, chrom, *rest in rows]
        found = cohort(maf_text(numbered), ["s"])
        assert found["burden"].qc.equals(named["burden"].qc)
        assert (found["mutation_bins"].values == named["mutation_bins"].values).all()
        assert found["burden"].qc["n_outside"].tolist() == [0]
        assert qc(maf_text(numbered), chromosomes="autosomes")["n_outside"] == 4
    assert qc(vcf_text([("23", 5, "A", "C")]))["n_outside"] == 1


def test_maf__positions_as_r_writes_them_are_those_positions():
    text = maf_text([("s", "chr1", 100_000_000, "A", "C"), ("s", "chr1", 12_300_000, "A", "C")])
    written = text.replace("100000000", "1e+08").replace("12300000", "1.23e+07")
    assert written.count("e+0") == 4
    for block, found in cohort(written, ["s"]).items():
        assert (found.values == cohort(text, ["s"])[block].values).all()
    with pytest.raises(InputError, match="the position is no whole number"):
        qc(text.replace("12300000", "1.23456e+04"))


@pytest.mark.parametrize(
    ("genotype", "n_snv"), [("/0/1", 1), ("|0|1", 1), ("|1", 1), ("/0|0", 0), ("/./1", 1)]
)
def test_vcf__a_separator_ahead_of_the_genotype_tells_its_phase(genotype, n_snv):
    assert qc(vcf_text([ROWS[0]], ["s"], genotypes=[[f"{genotype}:3,4"]]))["n_snv"] == n_snv


def test_read_matrix__maf_of_no_row_says_that_there_is_no_other_sample():
    with pytest.raises(InputError, match=r"no row for 1 of 1 .*Tumor_Sample_Barcode holds no other\. Use"):
        cohort(maf_text([]), ["a"])
    with pytest.raises(InputError, match=r"Tumor_Sample_Barcode also holds 'b'\. Use"):
        cohort(maf_text([("b", *ROWS[0])]), ["a"])
