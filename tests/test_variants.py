"""Variants of one sample and of cohorts: what is counted, for whom, and from which format."""

import gzip
import io

import numpy as np
import pysam
import pytest

from oncoarena.assays import variants
from oncoarena.errors import BadObject, InputError
from oncoarena.genomes import CHROMOSOMES, bins, genome
from variant_files import SIZES, maf_text, random_mutations, vcf_text, write_genome

BARE = variants.Options()
SNV, OTHER_SNV = ("chr1", 1_500_000, "A", "C"), ("chr2", 10, "G", "A")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_genome(tmp_path_factory.mktemp("genome"))


def read(text, options=BARE, sample_id="s", source="s.vcf"):
    data = text.encode() if isinstance(text, str) else text
    return variants.read_object(io.BytesIO(data), source, options, sample_id=sample_id)


def read_cohort(text, sample_ids, options=BARE):
    return variants.read_matrix(io.BytesIO(text.encode()), "cohort", sample_ids, options)


def qc(text, options=BARE, sample_id="s"):
    return read(text, options, sample_id)["burden"].qc


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name].values, second[name].values)


def as_bcf(text, folder):
    plain, packed = folder / "s.vcf", folder / "s.bcf"
    plain.write_text(text)
    with (
        pysam.VariantFile(str(plain)) as source,
        pysam.VariantFile(str(packed), "wb", header=source.header) as to,
    ):
        for record in source:
            to.write(record)
    return packed.read_bytes()


def test_formats__vcf_gzip_bgzf_and_bcf_of_the_same_variants_are_the_same(small, tmp_path):
    text = vcf_text(random_mutations(small, 800, 7), ["s"])
    options = variants.Options(reference=str(small.path))
    expected = read(text, options)
    (tmp_path / "a.vcf").write_text(text)
    pysam.tabix_compress(str(tmp_path / "a.vcf"), str(tmp_path / "a.vcf.gz"))
    for data in (
        gzip.compress(text.encode(), mtime=0),
        (tmp_path / "a.vcf.gz").read_bytes(),
        as_bcf(text, tmp_path),
    ):
        found = read(data, options)
        same(found, expected)
        assert found["burden"].qc == pytest.approx(expected["burden"].qc)


def test_mutation_bins__equal_a_loop_over_pysam_records(small, tmp_path):
    rows = random_mutations(small, 800, 8)
    text = vcf_text(
        rows, ["n", "t"], genotypes=[["0/0", "0/1"] if k % 3 else ["0/1", "0/0"] for k in range(len(rows))]
    )
    (tmp_path / "two.vcf").write_text(text)
    table = bins(genome("hg38"), 1_000_000, "all")
    place = {
        (chrom, start): number
        for number, (chrom, start) in enumerate(zip(table["chrom"], table["start"], strict=True))
    }
    for name in ("n", "t"):
        seen = set()
        for record in pysam.VariantFile(str(tmp_path / "two.vcf")):
            if 1 in record.samples[name]["GT"] and len(record.ref) == len(record.alts[0]):
                for k in range(len(record.ref)):
                    seen.add((record.chrom, record.pos - 1 + k, record.alts[0][k]))
        expected = np.zeros(len(table))
        for chrom, pos, _ in seen:
            expected[place[chrom, pos // 1_000_000 * 1_000_000]] += 1
        found = read(text, sample_id=name)["mutation_bins"]
        np.testing.assert_array_equal(found.values, expected)
        assert found.features["id"][1] == "chr1:1000000-2000000"


def test_maf__of_the_same_mutations_gives_the_blocks_of_the_vcf(small):
    rows = random_mutations(small, 800, 9)
    options = variants.Options(reference=str(small.path))
    same(read(maf_text([("s", *row) for row in rows]), options), read(vcf_text(rows, ["s"]), options))


def test_maf__column_of_contexts_gives_the_spectrum_of_the_reference(small):
    rows = [("s", *row) for row in random_mutations(small, 800, 10) if len(row[2]) == 1 == len(row[3])]
    text = maf_text(rows, context=lambda chrom, pos: small.bases(chrom, pos - 5, pos + 6))
    found = read(text, variants.Options(context="column"))
    expected = read(text, variants.Options(reference=str(small.path)))
    np.testing.assert_array_equal(found["mutation_spectrum"].values, expected["mutation_spectrum"].values)
    assert found["mutation_spectrum"].values.sum() == len(rows)


def test_read_matrix__rows_are_those_of_each_sample_alone_in_the_order_asked_for(small):
    options = variants.Options(reference=str(small.path))
    rows = random_mutations(small, 600, 11)
    rng = np.random.default_rng(0)
    genotypes = [[str(rng.choice(["0/0", "0/1", "1|1", "./.", "."])) for _ in range(3)] for _ in rows]
    text = vcf_text(rows, ["a", "b", "c"], genotypes=genotypes)
    mutations = [(name, *row) for row, calls in zip(rows, genotypes, strict=True)
                 for name, call in zip("abc", calls, strict=True) if "1" in call]  # fmt: skip
    for whole in (text, maf_text(mutations)):
        found = read_cohort(whole, ["c", "a"], options)
        for row, name in enumerate(["c", "a"]):
            alone = read(text, options, sample_id=name)
            for block in alone:
                np.testing.assert_array_equal(found[block].values[row], alone[block].values)
        assert found["burden"].qc["sample_id"].tolist() == ["c", "a"]
        assert "ignored" in " ".join(found["burden"].notes)


def test_read_matrix__maf_without_a_row_of_a_sample_is_refused_unless_it_may_be_empty():
    text = maf_text([("a", *SNV)])
    with pytest.raises(InputError, match=r"no row for 1 of 2 samples.*'b'.*absent_sample"):
        read_cohort(text, ["a", "b"])
    found = read_cohort(text, ["b", "a"], variants.Options(absent_sample="empty"))
    assert found["mutation_bins"].values.sum(axis=1).tolist() == [0, 1]
    assert "taken to have no mutation" in found["burden"].notes[0]
    with pytest.raises(InputError, match="no row for 1 of 1 samples"):
        read_cohort(text, ["other"], variants.Options(absent_sample="empty"))


def test_read_matrix__sample_without_a_column_is_refused():
    with pytest.raises(InputError, match=r"no column for 'b'.*the samples of the file are 'a'"):
        read_cohort(vcf_text([SNV], ["a"]), ["a", "b"])
    with pytest.raises(InputError, match="sites only"):
        read_cohort(vcf_text([SNV]), ["a"])


@pytest.mark.parametrize(
    ("options", "sample_id", "header", "expected"),
    [
        (variants.Options(tumour_sample="t"), "n", "##tumor_sample=n", 1),
        (BARE, "t", "##tumor_sample=n", 1),
        (BARE, "s", "##tumor_sample=t", 1),
        (BARE, "n", "##tumor_sample=t", 2),
    ],
)
def test_tumour__option_then_sheet_then_header_choose_the_sample(options, sample_id, header, expected):
    genotypes = [["1/1", "0/1"], ["0/1", "0/0"]]
    text = vcf_text([SNV, OTHER_SNV], ["n", "t"], header=header, genotypes=genotypes)
    assert qc(text, options, sample_id)["n_snv"] == expected


def test_tumour__unclear_choice_is_refused_and_the_only_sample_is_taken():
    two = vcf_text([SNV], ["NORMAL", "TUMOR"])
    with pytest.raises(InputError, match=r"which sample is the tumour.*'NORMAL', 'TUMOR'.*tumour_sample"):
        read(two)
    with pytest.raises(InputError, match=r"no sample is named 'x'.*'NORMAL', 'TUMOR'"):
        read(two, variants.Options(tumour_sample="x"))
    assert qc(vcf_text([SNV], ["TUMOR"]))["n_snv"] == 1
    several = maf_text([("a", *SNV), ("b", *OTHER_SNV)])
    assert qc(several, sample_id="b")["n_snv"] == 1
    assert qc(maf_text([("a", *SNV)]), sample_id="s")["n_snv"] == 1
    with pytest.raises(InputError, match=r"no row of sample 's'.*'a', 'b'"):
        read(several)


@pytest.mark.parametrize(
    ("genotype", "expected"),
    [("0/1", "C"), ("1|2", "CG"), ("2", "G"), ("0/0", ""), ("./.", ""), (".", ""), ("./2", "G"), ("0", "")],
)
def test_genotype__every_allele_is_counted_if_the_sample_carries_it(genotype, expected):
    text = vcf_text([("1", 100, "A", "C,G")], ["s"], genotypes=[[genotype]])
    figures = qc(text)
    assert figures["n_snv"] == len(expected)
    assert figures["n_not_carried"] == 2 - len(expected)
    assert qc(vcf_text([("1", 100, "A", "C,G")]))["n_snv"] == 2


def test_filter__only_pass_and_dot_are_counted_by_default():
    rows = [
        (*SNV, "PASS"),
        (*OTHER_SNV, "low"),
        ("chr3", 5, "A", "T", "."),
        ("chr3", 9, "A", "T", "PASS;low"),
    ]
    text = vcf_text(rows)
    assert (qc(text)["n_snv"], qc(text)["n_filtered"]) == (2, 2)
    assert qc(text, variants.Options(filters="all"))["n_snv"] == 4


def test_alleles__are_counted_once_in_their_shortest_form():
    rows = [
        ("chr1", 100, "A", "C"),
        ("1", 100, "a", "c"),
        ("chr1", 100, "AT", "CT"),
        ("chr1", 99, "GA", "GC"),
        ("chr1", 200, "ATT", "AT,A"),
        ("chr1", 200, "AT", "A"),
        ("chr1", 300, "C", "<DEL>"),
        ("chr1", 301, "C", "C[chr2:5["),
        ("chr1", 302, "C", "*"),
        ("chr1", 303, "N", "A"),
        ("chr1", 304, "ACG", "TGC"),
        ("chrM", 10, "A", "C"),
        ("GL000220.1", 10, "A", "C"),
    ]
    figures = qc(vcf_text(rows))
    expected = {"n_variants": 4, "n_snv": 1, "n_indel": 2, "n_duplicates": 4, "n_unusable": 4, "n_outside": 2}
    assert {name: figures[name] for name in expected} == expected


def test_qc__transitions_and_shares_of_reads():
    rows = [("1", 1, "A", "G"), ("1", 50, "C", "T"), ("1", 90, "C", "A")]
    text = vcf_text(rows, ["s"], genotypes=[["0/1:30,10"], ["0/1:10,10"], ["0/1:.,."]])
    assert qc(text)["ti_tv"] == 2
    assert qc(text)["mean_vaf"] == pytest.approx(0.375)
    assert np.isnan(qc(vcf_text([SNV]))["mean_vaf"])


def test_burden__is_per_callable_mb_by_class():
    rows = [("1", 10, "AC", "GT"), ("1", 90, "A", "G"), ("1", 200, "AC", "A"), ("1", 300, "ACG", "TGC")]
    block = read(vcf_text(rows), variants.Options(callable_mb=2))["burden"]
    found = dict(zip(block.features["id"], block.values.tolist(), strict=True))
    expected = {"all": 2, "snv": 0.5, "dnv": 0.5, "indel": 0.5, "other": 0.5}
    assert found == {f"per_mb_{name}": value for name, value in expected.items()}
    size = sum(SIZES[name] for name in CHROMOSOMES[:22]) / 1e6
    autosomes = read(vcf_text(rows), variants.Options(chromosomes="autosomes"))["burden"]
    assert autosomes.values[0] == pytest.approx(4 / size)


def test_chromosomes__autosomes_leaves_out_x_and_y():
    text = vcf_text([SNV, ("chrX", 5_000_000, "A", "C"), ("Y", 5_000_000, "A", "C")])
    found = read(text, variants.Options(chromosomes="autosomes"))
    assert found["burden"].qc["n_outside"] == 2
    assert len(found["mutation_bins"].values) == len(bins(genome("hg38"), 1_000_000))


def test_empty__file_without_a_row_has_no_mutation():
    for text in (vcf_text([], ["s"]), maf_text([])):
        found = read(text)
        assert not any(block.values.any() for block in found.values())


def test_options__illegal_values_and_pairs_are_refused():
    for keys, part in [
        ({"genome": "hg17"}, "expected one of hg19"),
        ({"bin_bp": 10}, "expected a whole number from 1000 to"),
        ({"bin_bp": 1e6}, "whole number"),
        ({"callable_mb": 0}, "expected a number from"),
        ({"callable_mb": float("nan")}, "expected a number from"),
        ({"context": "reference"}, "needs the option reference"),
        ({"reference": "s3://bucket/a.fa"}, "local disk"),
        ({"reference": ""}, "expected text"),
        ({"reference": "a.fa", "context": "column"}, "leave one of both out"),
        ({"context_column": "CONTEXT"}, "without context: column"),
    ]:
        with pytest.raises(InputError, match=part):
            variants.Options(**keys)


def test_offered__names_the_blocks_that_come(small):
    text = maf_text([("s", *SNV)], context=lambda chrom, pos: "CCCAGGG")
    for options in (BARE, variants.Options(context="column"), variants.Options(consequences="maf")):
        assert tuple(read(text, options)) == variants.offered(options)
        assert tuple(read_cohort(text, ["s"], options)) == variants.offered(options)
    options = variants.Options(reference=str(small.path))
    assert tuple(read(vcf_text([]), options)) == variants.offered(options)
    assert set(variants.offered(options)) < set(variants.BLOCKS)


def test_format__options_that_it_cannot_serve_are_refused():
    for text, keys in [
        (vcf_text([SNV]), {"consequences": "maf"}),
        (vcf_text([SNV]), {"context": "column"}),
        (maf_text([("s", *SNV)]), {"consequences": "ann"}),
    ]:
        with pytest.raises(InputError, match=r"it is a (VCF|MAF)"):
            read(text, variants.Options(**keys))


def test_reference__variants_of_another_genome_are_refused_with_the_first_place(small):
    rows = []
    for pos in range(1000, 3000, 10):
        ref = small.base("chr21", pos)
        wrong = "C" if ref != "C" else "G"
        rows.append(
            (
                "chr21",
                pos + 1,
                wrong if pos in (1500, 2000, 2500) else ref,
                "A" if wrong != "A" and ref != "A" else "T",
            )
        )
    options = variants.Options(reference=str(small.path))
    with pytest.raises(BadObject, match=r"3 of 200 variants.*chr21:1501"):
        read(vcf_text(rows), options)
    few = [row for row in rows if row[1] not in (1501, 2001)]
    block = read(vcf_text(few), options)["mutation_spectrum"]
    assert block.qc["n_ref_mismatch"] == 1
    assert block.values.sum() == len(few) - 1


def test_reference__chromosome_that_it_has_not_is_named(small):
    with pytest.raises(InputError, match=r"variants on chr1, which is not in the reference"):
        read(vcf_text([SNV]), variants.Options(reference=str(small.path)))


def test_reference__missing_cut_foreign_or_changed_fasta_is_refused(small, tmp_path):
    text = vcf_text([("chr21", 1000, small.base("chr21", 999), "N")])
    path = tmp_path / "a.fa"

    def complaint(part):
        with pytest.raises(InputError, match=part):
            read(text, variants.Options(reference=str(path)))

    complaint("there is no file")
    path.write_bytes(b">chr21\nACGT\n")
    complaint("samtools faidx")
    index = tmp_path / "a.fa.fai"
    index.write_text(f"chr21\t{SIZES['chr21']}\t7\t60\t61\n")
    complaint("cut short or changed")
    index.write_text("chr21\t4\t7\t4\t5\n")
    complaint(r"chr21 has 4 bp, in hg38 it has 46709983")
    index.write_text("chr21\tfour\n")
    complaint("line 1")
    index.write_text("chrUn\t4\t7\t4\t5\n")
    complaint("names no chromosome")
    path.write_bytes(b"\x1f\x8b")
    complaint("compressed")


def test_genome__header_of_another_one_is_refused():
    text = vcf_text([SNV]).replace(f"length={SIZES['chr1']}", f"length={genome('hg19').sizes['chr1']}")
    with pytest.raises(BadObject, match=r"chr1 has 249250621 bp, in hg38 it has 248956422"):
        read(text)
    with pytest.raises(BadObject, match="NCBI_Build is 'GRCh38'"):
        read(maf_text([("s", *SNV)]), variants.Options(genome="hg19"))
    with pytest.raises(BadObject, match=r"line \d+: the position is not within its chromosome of hg38"):
        read(vcf_text([("chr21", 46_709_984, "A", "C")]))
