"""Tables of one sample as programs write them: recognised by content, and the quantity is the one that is told."""

import gzip

import numpy as np
import pandas as pd
import pytest

from expression_tables import assert_refused, parquet
from oncoarena.assays.expression import SAME
from quantification_files import (
    BARE_IDS,
    COUNTS,
    CPM,
    FIRST,
    HTSEQ_NAMES,
    IDS,
    LENGTHS,
    N_ROWS,
    SYMBOLS,
    TPM,
    feature_counts,
    gdc,
    htseq,
    kallisto,
    lines,
    read,
    read_again,
    rsem_genes,
    rsem_isoforms,
    salmon,
    star,
)

PROGRAMS = {
    "GDC STAR counts": (gdc, "TPM", "gene"),
    "STAR ReadsPerGene": (star, "CPM", "gene"),
    "HTSeq counts": (htseq, "CPM", "gene"),
    "salmon": (salmon, "TPM", "gene"),
    "kallisto": (kallisto, "TPM", "gene"),
    "RSEM genes": (rsem_genes, "TPM", "gene"),
    "RSEM isoforms": (rsem_isoforms, "TPM", "transcript"),
    "featureCounts": (feature_counts, "TPM", "gene"),
}
_HEADERS = ("gene_id", "Name", "target_id", "transcript_id", "Geneid")
ROUNDING = {"RSEM genes": 1e-4, "RSEM isoforms": 1e-4}


@pytest.mark.parametrize("program", PROGRAMS)
def test_read_object__recognises_every_program_without_an_option(program):
    write, quantity, feature_type = PROGRAMS[program]
    for content in (write(), gzip.compress(write().encode(), mtime=0), write().replace("\n", "\r\n")):
        found = read(content)
        expected = TPM if quantity == "TPM" else CPM
        tolerance = ROUNDING.get(program, 1e-6)
        np.testing.assert_allclose(found.values, np.log2(expected + 1), rtol=tolerance, atol=1e-6)
        assert found.values.dtype == np.float32
        assert found.qc["layout"] == program
        assert found.qc["feature_type"] == feature_type
        assert found.qc["quantity"].startswith(f"log2({quantity}")
        assert found.qc["n_detected"] == 4
        assert found.qc["library_size"] == pytest.approx(COUNTS.sum())
        ids = BARE_IDS if feature_type == "gene" else ["t0", "t1", "t2", "t3", "t4"]
        assert found.features["id"].tolist() == ids


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("quantity", ["cpm", "counts"])
def test_read_object__gives_counts_of_every_program(program, quantity):
    found = read(PROGRAMS[program][0](), quantity=quantity, transform="none")
    np.testing.assert_allclose(found.values, CPM if quantity == "cpm" else COUNTS, rtol=1e-6)
    assert found.qc["quantity"].partition(" of ")[0] == {"cpm": "CPM", "counts": "counts"}[quantity]


def test_read_object__every_same_key_is_told_of_every_program():
    for write, *_ in PROGRAMS.values():
        assert set(SAME) <= set(read(write()).qc)


def test_read_object__counts_the_share_of_assigned_reads_and_of_mitochondrial_genes():
    for content in (gdc(), star(), htseq()):
        qc = read(content).qc
        assert qc["assigned_share"] == pytest.approx(COUNTS.sum() / (COUNTS.sum() + sum(N_ROWS)))
        assert qc["n_features"] == 5
    assert read(gdc()).qc["mitochondrial_share"] == pytest.approx(COUNTS[3] / COUNTS.sum())
    assert "mitochondrial_share" not in read(star()).qc
    assert "assigned_share" not in read(salmon()).qc


@pytest.mark.parametrize("program", PROGRAMS)
def test_read_object__counts_the_rows_that_it_reads(program):
    content = PROGRAMS[program][0]()
    n_above = sum(line.startswith(("#", *_HEADERS)) for line in content.splitlines())
    n_records = read(content).qc["n_records"]
    assert (n_records, type(n_records)) == (len(content.splitlines()) - n_above, int)


def test_read_object__knows_the_names_that_rsem_appends_to_ids():
    names = [f"{gene}_{symbol}" for gene, symbol in zip(IDS, SYMBOLS, strict=True)]
    content = rsem_genes()
    for gene, name in zip(IDS, names, strict=True):
        content = content.replace(f"\n{gene}\t", f"\n{name}\t")
    found = read(content)
    assert found.features["id"].tolist() == BARE_IDS
    assert found.features["gene"].tolist() == SYMBOLS
    assert found.qc["mitochondrial_share"] == pytest.approx(COUNTS[3] / COUNTS.sum(), abs=1e-4)
    assert read(content, strip_version=False).features["id"].tolist() == names
    place = {"chrom": ["chr17"], "start": [5], "end": [9]}
    annotated = read(content, pd.DataFrame({"id": ["ENSG00000141510.5"], **place})).features
    assert annotated.iloc[0].tolist() == ["ENSG00000141510", "chr17", 5, 9, "TP53"]


@pytest.mark.parametrize(
    ("name", "bare", "symbol"),
    [
        ("ENSG00000000003.14_TSPAN6", "ENSG00000000003", "TSPAN6"),
        ("ENSG00000000003_TSPAN6", "ENSG00000000003", "TSPAN6"),
        ("ENSG00000276626.1_5S_rRNA", "ENSG00000276626", "5S_rRNA"),
        ("ENSG00000182378.14_PAR_Y_PLCXD1", "ENSG00000182378_PAR_Y", "PLCXD1"),
        ("ENST00000373020.8_TSPAN6-201", "ENST00000373020", "TSPAN6"),
        ("ENSMUSG00000059552.13_H2-K1", "ENSMUSG00000059552", "H2-K1"),
        ("ENSG00000223972.5_2", "ENSG00000223972", ""),
        ("ENSG00000223972_2", "ENSG00000223972_2", ""),
        ("MY_GENE.1", "MY_GENE.1", ""),
    ],
)
def test_read_object__separates_id_version_and_name(name, bare, symbol):
    others = [f"ENSG0000099999{row}" for row in range(4)]
    features = read(salmon([name, *(f"{other}.{row}" for row, other in enumerate(others))])).features
    assert features.iloc[0][["id", "gene"]].tolist() == [bare, symbol]
    assert features["id"].tolist()[1:] == others


def test_read_object__takes_the_symbols_of_the_file():
    assert read(gdc()).features["gene"].tolist() == SYMBOLS
    assert read(star()).features["gene"].tolist() == [""] * 5


def test_read_object__takes_the_column_that_is_asked_for():
    for content in (gdc(), star()):
        found = read(content, value_column="stranded_first")
        np.testing.assert_allclose(found.values, np.log2(FIRST / FIRST.sum() * 1e6 + 1), rtol=1e-6)
        assert found.qc["quantity"] == "log2(CPM of stranded_first + 1)"
        assert found.qc["library_size"] == FIRST.sum()
    tpm = read(gdc(), value_column="tpm_unstranded")
    np.testing.assert_array_equal(tpm.values, read(gdc()).values)
    assert tpm.qc == read(gdc()).qc
    fpkm = read(gdc(), value_column="fpkm_unstranded", transform="log2p1")
    np.testing.assert_allclose(fpkm.values, np.log2(TPM / 2 + 1), rtol=1e-5)
    assert fpkm.qc["quantity"] == "log2(values of fpkm_unstranded + 1)"
    assert_refused(
        gdc(), "quantity cpm needs counts", read=read, value_column="tpm_unstranded", quantity="cpm"
    )
    assert_refused(star(), "quantity tpm needs a column of TPM", "quantity: cpm", read=read, quantity="tpm")
    assert_refused(gdc(), "needs a column of TPM", read=read, value_column="stranded_second", quantity="tpm")


def test_read_object__transform_none_leaves_tpm_as_they_are():
    found = read(salmon(), transform="none")
    np.testing.assert_allclose(found.values, TPM, rtol=1e-6)
    assert found.qc["quantity"] == "TPM"
    assert found.qc["total"] == pytest.approx(1e6)


def test_read_object__knows_transcripts_from_genes():
    transcripts = [f"ENST0000000000{row}.{row}" for row in range(5)]
    found = read(salmon(transcripts))
    assert found.qc["feature_type"] == "transcript"
    assert found.features["id"].tolist() == [f"ENST0000000000{row}" for row in range(5)]
    named = [
        f"{name}|{gene}|OTT|OTT|n-1|{s}|900|" for name, gene, s in zip(transcripts, IDS, SYMBOLS, strict=True)
    ]
    gencode = read(salmon(named))
    assert gencode.features["id"].tolist() == [f"ENST0000000000{row}" for row in range(5)]
    assert gencode.features["gene"].tolist() == SYMBOLS
    assert gencode.qc["mitochondrial_share"] == pytest.approx(COUNTS[3] / COUNTS.sum())


def test_read_object__places_genes_by_their_exons():
    features = read(feature_counts()).features
    assert features["chrom"].tolist() == ["chr17", "chrX", "", "chrM", "GL000192.1"]
    assert features["start"].tolist() == [7661778, 276321, -1, 3306, 100]
    assert features["end"].tolist() == [7687550, 303356, -1, 4262, 5000]
    annotation = pd.DataFrame(
        {"id": ["ENSG00000141510.5"], "chrom": ["chr1"], "start": [5], "end": [9], "gene": ["P53"]}
    )
    placed = read(feature_counts(), annotation).features
    assert placed.iloc[0].tolist() == ["ENSG00000141510", "chr1", 5, 9, "P53"]
    pd.testing.assert_frame_equal(placed[1:], features[1:])


def test_read_object__refuses_exons_that_do_not_fit():
    for old, new in (
        ("7661779;7668402", "7661779"),
        ("7661900;7687550", "7661900;x"),
        ("3307", "5000"),
        ("101", "0"),
    ):
        assert_refused(feature_counts().replace(old, new), "Chr, Start and End", read=read)


def test_read_object__asks_which_alignment_is_the_sample():
    content = feature_counts(("a.bam", "b.bam"))
    assert_refused(content, "2 columns of counts", "value_column", read=read)
    np.testing.assert_array_equal(read(content, value_column="b.bam").values, read(feature_counts()).values)


def test_read_object__keeps_versions_where_asked_and_refuses_two_of_one_gene():
    assert read(gdc(), strip_version=False).features["id"].tolist() == IDS
    twice = gdc().replace("ENSG00000000003.9", "ENSG00000141510.3")
    assert_refused(twice, "'ENSG00000141510.16' and 'ENSG00000141510.3' are both", "strip_version", read=read)
    assert read(twice, strip_version=False).features["id"].tolist()[-1] == "ENSG00000141510.3"


def test_read_object__reads_a_known_layout_in_parquet():
    table = pd.DataFrame(
        {"Name": IDS, "Length": [3000] * 5, "EffectiveLength": LENGTHS, "TPM": TPM, "NumReads": COUNTS}
    )
    found = read(parquet(table))
    assert found.qc == {**read(salmon()).qc, "total": found.qc["total"]}
    np.testing.assert_allclose(found.values, read(salmon()).values, rtol=1e-6)


def test_read_object__leaves_out_rows_that_are_no_genes_in_any_table():
    for names in (HTSEQ_NAMES, ("N_unmapped",)):
        content = lines(("gene", "count"), *zip(IDS, COUNTS, strict=True), *((name, 9) for name in names))
        found = read(content, quantity="cpm")
        np.testing.assert_allclose(found.values, np.log2(CPM + 1), rtol=1e-6)
        assert found.qc["assigned_share"] == pytest.approx(COUNTS.sum() / (COUNTS.sum() + 9 * len(names)))


REFUSED = {
    "a negative count": (gdc().replace("\t120\t", "\t-120\t"), "line 7, column 'unstranded'", "found -120"),
    "a count that is no number": (
        gdc().replace("\t120\t", "\tabc\t"),
        "line 7, column 'unstranded': found 'abc'",
    ),
    "a missing TPM": (salmon().replace(f"{TPM[1]:.6f}", "NaN"), "line 3, column 'TPM'", "found no value"),
    "a cut row": (gdc()[:-30], "line 11", "fields found, 9 expected"),
    "a cut last cell": (gdc()[:-3], "line 11: the last line has no end"),
    "a cut header": (gdc()[:60], "no columns of numbers"),
    "two header lines": (salmon() + salmon(), "line 7, column 'TPM': found 'TPM'"),
    "a gene twice": (
        star() + "ENSG00000141510.16\t1\t1\t0\n",
        "'ENSG00000141510.16' is there twice, in lines 5 and 10",
    ),
    "all counts zero": (
        htseq()
        .replace("\t120\n", "\t0\n")
        .replace("\t30\n", "\t0\n")
        .replace("\t850\n", "\t0\n")
        .replace("\t7\n", "\t0\n"),
        "every value is 0",
    ),
    "HTSeq without its end": (lines(*zip(IDS, COUNTS, strict=True)), "the header is missing", "__no_feature"),
    "HTSeq with half its end": (htseq()[: htseq().index("__not_aligned")], "cut short"),
    "reads of a featureCounts gene of no length": (feature_counts().replace("2500.0", "0"), "more than 0 bp"),
    "QC rows only": (star()[: star().index("ENSG")], "no row is a gene"),
    "a negative count of unmapped reads": (
        gdc().replace("N_unmapped\t\t\t50", "N_unmapped\t\t\t-50"),
        "'N_unmapped': found -50",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_read_object__refuses_with_the_place(case):
    content, *said = case
    assert_refused(content, "s1: ", *said, read=read)


def test_read_object__a_cohort_is_read_as_each_of_its_files_alone():
    rng = np.random.default_rng(0)
    for _ in range(5):
        counts = rng.poisson([0.5, 30, 0.2, 900, 8]) + np.array([0, 0, 0, 1, 0])
        content = gdc(counts, rng.gamma(0.3, 1e5, 5) * (counts > 0))
        again, alone = read_again(content), read(content)
        np.testing.assert_array_equal(again.values, alone.values)
        pd.testing.assert_frame_equal(again.features, alone.features)
        assert again.qc == alone.qc
