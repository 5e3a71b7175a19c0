"""Expression gene by gene: files of one sample, and where an annotation places the genes."""

import gzip

import numpy as np
import pandas as pd
import pytest

from expression_tables import ANNOTATION, assert_refused, parquet, read, read_one, text


def test_read_matrix__places_the_genes_that_the_annotation_lists():
    for annotation in (
        ANNOTATION,
        ANNOTATION.replace("", "-1").astype({"start": int, "end": int}).replace({"chrom": {"-1": None}}),
    ):
        found = read(text(), annotation=annotation)
        assert found.features["chrom"].tolist() == ["chr17", "chr8", "", ""]
        assert found.features["start"].tolist() == [7661778, 127735433, -1, -1]
        assert found.features["end"].tolist() == [7687550, 127742951, -1, -1]
        assert found.features["gene"].tolist() == ["TP53", "MYC", "", "EGFR"]
        assert found.features["start"].dtype == np.int64
        assert "2 of 4 genes have a coordinate" in found.notes[0]
    without_symbols = read(text(), annotation=ANNOTATION.drop(columns="gene"))
    assert without_symbols.features["gene"].tolist() == ["", "", "", ""]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (
            "start",
            "127742951",
            "row 1, id 'MYC' (chr8:127742951-127742951): expected a chrom and 0 <= start < end",
        ),
        ("start", "-5", "row 1, id 'MYC'"),
        ("start", "12.5", "row 1, column 'start': found '12.5', expected a whole number of bp"),
        ("end", "inf", "row 1, column 'end': found 'inf'"),
        ("end", "abc", "row 1, column 'end': found 'abc'"),
        ("chrom", "", "row 1, id 'MYC'"),
        ("id", "TP53", "row 2, id 'TP53' (chr17:7661778-7687550): the id is there twice"),
        ("id", " ", "row 1, id ''"),
    ],
)
def test_read_matrix__refuses_an_annotation_that_is_not_sound(column, value, said):
    annotation = ANNOTATION.copy()
    annotation.loc[0, column] = value
    assert_refused(text(), f"annotation: {said}", annotation=annotation)


def test_read_matrix__refuses_an_annotation_of_other_ids_or_columns():
    assert_refused(
        text(),
        "lists none of its genes",
        "'TP53'",
        "'X.MYC'",
        annotation=ANNOTATION.assign(id="X." + ANNOTATION["id"]),
    )
    assert_refused(text(), "no column start, end", annotation=ANNOTATION[["id", "chrom"]])


PER_SAMPLE = "# quantifier 1.0\ngene_id\tname\ttpm\nTP53\tp53\t1.5\nMYC\tc-myc\t3\nKRAS\t\t0\n"


def test_read_object__takes_the_only_column_of_numbers():
    for content in (PER_SAMPLE, gzip.compress(PER_SAMPLE.encode(), mtime=0), PER_SAMPLE.replace("\t", ",")):
        found = read_one(content, transform="log2p1", annotation=ANNOTATION)
        np.testing.assert_allclose(found.values, np.log2([2.5, 4, 1]), rtol=1e-7)
        assert found.values.dtype == np.float32
        assert found.features["id"].tolist() == ["TP53", "MYC", "KRAS"]
        assert found.features["chrom"].tolist() == ["chr17", "chr8", ""]
        assert found.qc == {
            "layout": "table",
            "feature_type": "gene",
            "quantity": "log2(values + 1)",
            "n_records": 3,
            "n_features": 3,
            "n_detected": 2,
            "n_missing": 0,
            "missing_rate": 0.0,
            "n_zero": 1,
            "total": 4.5,
        }


def test_read_object__reads_parquet_and_the_columns_that_are_named():
    table = pd.DataFrame({"gene": ["A", "B"], "acc": ["E1", "E2"], "count": [3, 4], "tpm": [0.5, 1.5]})
    for content in (parquet(table), table.to_csv(index=False)):
        found = read_one(content, id_column="acc", value_column="tpm")
        assert found.features["id"].tolist() == ["E1", "E2"]
        assert found.values.tolist() == [0.5, 1.5]
        assert_refused(content, "2 columns of numbers ('count', 'tpm')", "value_column", read=read_one)
        assert_refused(content, "no columns named 'TPM'", "'tpm'", read=read_one, value_column="TPM")
        assert_refused(content, "no columns named 'acc'", read=read_one, value_column="acc", id_column="acc")


def test_read_object__refuses_with_one_line_that_names_file_and_place():
    assert_refused("", "s1.tsv: the file is empty", read=read_one)
    assert_refused("gene\tcount\ttpm\n", "no columns of numbers", read=read_one)
    assert_refused("gene\tcount\ttpm\n", "a header and no rows", read=read_one, value_column="tpm")
    assert_refused("TP53\t1.5\nMYC\t2\n", "named '1.5', a number: the header is missing", read=read_one)
    assert_refused("#gene\ttpm\nTP53\t1.5\nMYC\t2\n", "begins with '#'", read=read_one)
    assert_refused("gene\ttpm\nA\t1\nA\t2\n", "gene 'A' is there twice, in lines 2 and 3", read=read_one)
    assert_refused(
        "gene\ttpm\nA\t1\nB\tx\n", "line 3, column 'tpm': found 'x'", read=read_one, value_column="tpm"
    )
    assert_refused("gene\ttpm\nA\t1\nB\n", "line 3: 1 fields found, 2 expected", read=read_one)
    assert_refused("gene\ttpm\nA\t1\nB\t\n", "line 3, column 'tpm' (row 'B'): found no value", read=read_one)
    late = "gene\ttpm\n" + "".join(f"g{row}\t1\n" for row in range(3000)) + "last\tabc\n"
    assert_refused(late, "line 3002, column 'tpm': found 'abc'", read=read_one)


def test_read_object__accepts_a_number_as_the_name_of_the_value_column_if_it_is_given():
    found = read_one("gene\t101\nA\t1\n", value_column="101")
    assert found.values.tolist() == [1.0]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "a header and no rows"),
        ("A\tx\nB\t2\n", "line 2, column 'tpm': found 'x', expected a number"),
        ("A\t1\nB\t1,5\n", "line 3, column 'tpm': found '1,5', expected a number"),
        ("A\tNA\n", "line 2, column 'tpm' (row 'A'): found no value"),
    ],
)
def test_read_object__only_column_is_the_column_of_values_whatever_it_holds(rows, said):
    assert_refused(f"gene\ttpm\n{rows}", said, read=read_one)


def test_read_object__only_column_may_be_without_any_value_where_that_is_allowed():
    for content in ("gene\ttpm\nA\tNA\nB\t\n", parquet(pd.DataFrame({"tpm": [np.nan] * 2}, ["A", "B"]))):
        found = read_one(content, missing_values="allow")
        assert np.isnan(found.values).tolist() == [True, True]
        assert (found.qc["n_missing"], found.qc["missing_rate"]) == (2, 1.0)
        assert (found.qc["n_detected"], found.qc["total"]) == (0, 0.0)


def test_read_object__only_column_of_strings_in_parquet_is_refused_by_its_type():
    content = parquet(pd.DataFrame({"tpm": ["1", "2"]}, ["A", "B"]))
    assert_refused(content, "column 'tpm' has type", "Convert the column", read=read_one)


def test_read_object__symbols_that_say_nothing_are_none_and_unprintable_ones_are_refused():
    rows = ["gene\tgene_name\tvalue", "G1\tTP53\t1", "G2\t---\t2", "G3\tna\t3", "G4\t MYC \t4"]
    found = read_one("\n".join(rows) + "\n")
    assert found.features["gene"].tolist() == ["TP53", "", "", "MYC"]
    rows[2] = "G2\tA\x01B\t2"
    assert_refused("\n".join(rows) + "\n", "s1.tsv: the gene symbol 'A\\x01B' has unprintable", read=read_one)
