"""Expression from matrices: what is harmless is read, what is wrong is named."""

import csv
import gzip
import io
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from expression_tables import (
    GENES,
    SAMPLES,
    VALUES,
    assert_is_the_cohort,
    assert_refused,
    frame,
    parquet,
    read,
    text,
)
from oncoarena.assays import parquet_table, text_chunks
from oncoarena.assays.expression import BLOCKS, Options, read_matrix
from oncoarena.errors import InputError

FORMS = {
    "tsv": text().encode(),
    "csv": text(separator=",").encode(),
    "semicolons": text(separator=";").encode(),
    "gzip": gzip.compress(text().encode(), mtime=0),
    "bgzip, many members": b"".join(
        gzip.compress(line, mtime=0) for line in text().encode().splitlines(keepends=True)
    ),
    "windows line ends": text().replace("\n", "\r\n").encode(),
    "byte order mark": text().encode("utf-8-sig"),
    "no last line end": text().rstrip("\n").encode(),
    "comments before": ("# from the pipeline\n#\n" + text()).encode(),
    "blank lines": ("\n" + text().replace("\n", "\n\n")).encode(),
    "blank rows of a spreadsheet": (text(separator=",") + ",,,\n,,,\n").encode(),
    "header of R": text().replace("id\t", "", 1).encode(),
    "header of pandas": text().replace("id\t", "\t", 1).encode(),
    "quoted names": re.sub(r"([A-Za-z]\w*)", r'"\1"', text()).encode(),
    "everything quoted": frame()
    .to_csv(sep=",", index_label="id", quoting=csv.QUOTE_ALL, float_format=str)
    .encode(),
    "spaces around": text(separator=",").replace(",", " , ").encode(),
    "trailing delimiters": text().replace("\n", "\t\n").encode(),
    "trailing delimiter in the header": text().replace("\n", "\t\n", 1).encode(),
    "samples x genes": text("samples_x_genes").encode(),
    "samples x genes, header of R": text("samples_x_genes", ",").replace("id,", "", 1).encode(),
    "samples x genes, gzip": gzip.compress(text("samples_x_genes").encode(), mtime=0),
    "parquet with an index": parquet(frame()),
    "parquet with an unnamed index, samples x genes": parquet(frame("samples_x_genes")),
    "parquet with a column of ids": parquet(frame().rename_axis("id").reset_index()),
    "parquet with ids in the last column": parquet(
        frame("samples_x_genes").assign(sample=SAMPLES).reset_index(drop=True)
    ),
    "parquet with categories": parquet(frame().rename_axis("id").reset_index().astype({"id": "category"})),
    "parquet with float32": parquet(frame().astype(np.float32)),
    "parquet with row groups": parquet(frame(), row_group_size=1),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_read_matrix__reads_every_harmless_form(content):
    found = read(content)
    assert_is_the_cohort(found)
    assert found.notes == ()
    assert (found.features["chrom"] == "").all()


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_read_matrix__gives_rows_in_the_order_asked_for(content):
    found = read(content, ["S3", "S1"])
    np.testing.assert_array_equal(found.values, VALUES[[2, 0]].astype(np.float32))
    assert list(found.qc["sample_id"]) == ["S3", "S1"]
    assert len(found.notes) == 1
    assert "1 columns or rows" in found.notes[0]


def test_read_matrix__counts_missing_and_zero_values_before_the_transform():
    found = read(text().replace("6.25", "NA").replace("12.5", ""), missing_values="allow", transform="log2p1")
    expected = VALUES.copy()
    expected[1, 1] = expected[2, 3] = np.nan
    np.testing.assert_allclose(found.values, np.log2(expected + 1), rtol=1e-7, equal_nan=True)
    assert found.qc.to_dict("list") == {
        "sample_id": SAMPLES,
        "feature_type": ["gene"] * 3,
        "quantity": ["log2(values + 1)"] * 3,
        "n_features": [4, 4, 4],
        "n_detected": [3, 3, 3],
        "n_missing": [0, 1, 1],
        "missing_rate": [0, 0.25, 0.25],
        "n_zero": [1, 0, 0],
        "total": list(np.nansum(expected, axis=1)),
    }


@pytest.mark.parametrize("token", ["", "NA", "NaN", "nan", "N/A", "null", " NA ", "#N/A"])
def test_read_matrix__takes_usual_tokens_as_missing_only_where_allowed(token):
    content = text().replace("6.25", token)
    assert np.isnan(read(content, missing_values="allow").values[1, 1])
    assert_refused(
        content, "cohort.tsv: line 3, column 'S2' (row 'MYC'): found no value", "missing_values: allow"
    )


def test_read_matrix__missing_values_of_parquet_are_null_or_nan():
    table = frame().astype(object).rename_axis("id").reset_index()
    table.loc[1, "S2"] = None
    table = table.astype(dict.fromkeys(SAMPLES, float))
    buffer = io.BytesIO()
    columns = {
        "id": table["id"],
        **{name: pa.array(table[name], from_pandas=name == "S2") for name in SAMPLES},
    }
    pyarrow.parquet.write_table(pa.table(columns), buffer)
    found = read(buffer.getvalue(), missing_values="allow")
    assert np.argwhere(np.isnan(found.values)).tolist() == [[1, 1]]
    assert_refused(buffer.getvalue(), "row 2, column 'S2' (row 'MYC'): found no value")


@pytest.mark.parametrize("number", ["+1.5", "1.5e0", " 1.5", "15e-1", ".15e1", "1.50"])
def test_read_matrix__reads_usual_spellings_of_a_number(number):
    assert_is_the_cohort(read(text().replace("1.5", number, 1)))


@pytest.mark.parametrize(
    "cell", ["abc", "1,5", "1.5f", "0x10", "1_0", "--1", "1 5", "ten", "<1", "1.5.2", "é", "1\x002"]
)
@pytest.mark.parametrize("orientation", ["genes_x_samples", "samples_x_genes"])
def test_read_matrix__names_the_cell_that_is_no_number(cell, orientation):
    place = "line 3, column 'S2'" if orientation == "genes_x_samples" else "line 3, column 'MYC'"
    assert_refused(
        text(orientation).replace("6.25", cell),
        f"cohort.tsv: {place}: found '{cell[:1]}",
        "expected a number",
    )


def test_read_matrix__explains_a_decimal_comma():
    assert_refused(text(separator=";").replace(".", ","), "line 2, column 'S1': found '1,5'", "Use a point")
    assert_refused(text(separator=",").replace("6.25", '"6,25"'), "line 3, column 'S2': found '6,25'")


@pytest.mark.parametrize("cell", ["inf", "-Inf", "Infinity", "1e999", "1e300", "-1e39"])
@pytest.mark.parametrize("transform", ["none", "log2p1"])
def test_read_matrix__refuses_what_float32_cannot_hold(cell, transform):
    assert_refused(
        text().replace("6.25", cell),
        "line 3, column 'S2' (row 'MYC'): found ",
        "expected a finite number",
        missing_values="allow",
        transform=transform,
    )


def test_read_matrix__refuses_negative_values_for_the_logarithm_only():
    content = text().replace("6.25", "-6.25")
    assert read(content).values[1, 1] == -6.25
    assert_refused(
        content, "line 3, column 'S2' (row 'MYC'): found -6.25", "transform: none", transform="log2p1"
    )


REFUSED = {
    "an empty file": ("", "the file is empty"),
    "blank lines only": ("\n\n \n", "the file is empty"),
    "comments only": ("# a\n# b\n", "2 comment lines (#) and nothing else"),
    "a header only": ("id\tS1\tS2\tS3\n", "a header and no genes"),
    "a header only, samples x genes": ("id\tTP53\tMYC\n", "no row is named by a sample of the sheet"),
    "one field": ("gene\nTP53\nMYC\n", "line 1", "separated by tabs or commas"),
    "spaces for tabs": (text().replace("\t", "  "), "line 1", "separated by tabs or commas"),
    "a short row": (
        text().replace("\t6.25", ""),
        "line 3: 3 fields found, 4 expected from the header (line 1)",
    ),
    "a long row": (text().replace("6.25", "6.25\t1"), "line 3: 5 fields found, 4 expected"),
    "a value under a nameless column": (
        text().replace("\n", "\t\n").replace("0.001\t\n", "0.001\t7\n"),
        "line 3: 5 fields found, 4 expected",
    ),
    "trailing delimiters under a short header": (
        text().replace("\n", "\t\n").replace("\t\n", "\n", 1),
        "line 2",
        "trailing",
    ),
    "a gene twice": (text() + "MYC\t1\t2\t3\n", "gene 'MYC' is there twice, in lines 3 and 6"),
    "a gene twice but for spaces": (
        text() + " MYC \t1\t2\t3\n",
        "gene 'MYC' is there twice, in lines 3 and 6",
    ),
    "a gene twice in the header": (
        text("samples_x_genes").replace("KRAS", "TP53"),
        "gene 'TP53' is there twice, in columns 2 and 4",
    ),
    "a sample twice": (
        text().replace("\n", "\t1\n").replace("\t1\n", "\tS2\n", 1),
        "sample 'S2' is there twice, in columns 3 and 5",
    ),
    "a sample twice in rows": (
        text("samples_x_genes") + "S2\t1\t2\t3\t4\n",
        "sample 'S2' is there twice, in lines 3 and 5",
    ),
    "an id that is missing": (text().replace("MYC", ""), "line 3: the id of the row is empty"),
    "a column without a name": (text().replace("S2", ""), "line 1, field 3: the column name is empty"),
    "latin-1 ids": (
        text().replace("MYC", "Ä").encode("latin-1"),
        "line 3: the id is not UTF-8 text (byte 0xc4)",
    ),
    "a latin-1 header": (text().replace("S2", "Ä").encode("latin-1"), "line 1: the header is not UTF-8"),
    "utf-16": (text().encode("utf-16"), "UTF-16"),
    "an id with a zero byte": (
        text().replace("MYC", "M\0YC"),
        "line 3: the id of the row 'M\\x00YC' has unprintable",
    ),
    "an open quote": (text().replace("MYC", '"MYC'), "line 3: the quotes in this line do not match"),
    "old Mac line ends": (text().replace("\n", "\r"), "carriage return"),
    "an Excel workbook": (b"PK\x03\x04" + bytes(100), "Excel"),
    "a damaged HDF5 file": (b"\x89HDF\r\n\x1a\n" + bytes(100), "cannot be read as AnnData"),
    "a truncated gzip": (gzip.compress(text().encode(), mtime=0)[:-9], "truncated or damaged"),
    "a gzip of wrong checksum": (
        gzip.compress(text().encode(), mtime=0)[:-8] + bytes(8),
        "truncated or damaged",
    ),
    "a gzip with a tail": (gzip.compress(text().encode(), mtime=0) + b"tail", "truncated or damaged"),
    "a truncated Parquet": (parquet(frame())[:-20], "cannot be read as Parquet"),
    "Parquet's magic only": (b"PAR1", "cannot be read as Parquet"),
    "Parquet without ids": (parquet(frame().reset_index(drop=True)), "no column of strings"),
    "Parquet with a text column": (parquet(frame().astype({"S2": str})), "column 'S2' has type", "Convert"),
    "Parquet with a boolean column": (parquet(frame().astype({"S2": bool})), "column 'S2' has type bool"),
    "Parquet with an infinite value": (
        parquet(frame().replace(6.25, np.inf)),
        "row 2, column 'S2'",
        "finite",
    ),
    "Parquet with a gene twice": (
        parquet(frame().set_axis(["TP53", "MYC", "TP53", "EGFR"])),
        "gene 'TP53' is there twice, in rows 1 and 3",
    ),
    "Parquet with a missing id": (parquet(frame().set_axis(["TP53", None, "KRAS", "EGFR"])), "row 2: the id"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_read_matrix__refuses_with_one_line_that_names_file_and_place(case):
    content, *said = case
    assert_refused(content, "cohort.tsv: ", *said)


def test_read_matrix__names_the_sample_that_is_absent():
    for orientation, axis in (("genes_x_samples", "column"), ("samples_x_genes", "row")):
        for content in (text(orientation), parquet(frame(orientation))):
            assert_refused(content, f"no {axis} for 'S9' of the sample sheet", samples=[*SAMPLES, "S9"])
            assert_refused(content, "'X1', 'X2'", "'S1', 'S2'", "'TP53', 'MYC'", samples=["X1", "X2"])


def test_read_matrix__asks_where_both_axes_are_named_by_samples():
    square = pd.DataFrame(np.eye(3), index=SAMPLES, columns=SAMPLES).to_csv(sep="\t", index_label="id")
    assert_refused(square, "Say which axis")
    assert list(read(square, ["S2"], orientation="samples_x_genes").values[0]) == [0, 1, 0]
    assert list(read(square, orientation="genes_x_samples").features["id"]) == SAMPLES


def test_read_matrix__suggests_the_other_orientation_where_a_gene_is_named_like_a_sample():
    content = text("samples_x_genes").replace("KRAS", "S1")
    assert_refused(content, "set orientation: samples_x_genes")
    assert list(read(content, orientation="samples_x_genes").features["id"]) == ["TP53", "MYC", "S1", "EGFR"]


@pytest.mark.parametrize("form", ["text", "parquet"])
def test_read_matrix__ignores_columns_that_are_no_sample_whatever_they_hold(form):
    table = frame().rename_axis("gene_id").reset_index()
    table.insert(1, "gene_name", ["p53, tumour", "c-Myc", 'K"ras', ""])
    table["extra"] = ["x", "1", "", "inf"]
    content = table.to_csv(sep=",", index=False) if form == "text" else parquet(table)
    found = read(content)
    assert_is_the_cohort(found)
    assert "1 columns or rows" in found.notes[0]
    assert found.features["gene"].tolist() == ["p53, tumour", "c-Myc", 'K"ras', ""]
    named = read(content, missing_values="refuse", id_column="gene_id")
    assert_is_the_cohort(named)


@pytest.mark.parametrize("form", ["text", "parquet"])
def test_read_matrix__ignores_rows_that_are_no_sample_whatever_they_hold(form):
    table = frame("samples_x_genes")
    if form == "text":
        lines = table.to_csv(sep="\t", index_label="id").splitlines()
        content = "\n".join([lines[0], "note\tabc\tinf\t\tNA", *lines[1:]])
    else:
        table.loc["note"] = np.nan
        content = parquet(table)
    found = read(content)
    assert_is_the_cohort(found)
    assert "1 columns or rows" in found.notes[0]


def test_read_matrix__takes_ids_from_the_column_that_is_named():
    table = frame().rename_axis("symbol").reset_index()
    table["accession"] = ["E1", "E2", "E3", "E4"]
    for content in (table.to_csv(sep="\t", index=False), parquet(table)):
        assert list(read(content).features["id"]) == GENES
        assert list(read(content, id_column="accession").features["id"]) == ["E1", "E2", "E3", "E4"]
        assert_refused(content, "no column named 'ensembl'", "'symbol'", id_column="ensembl")


def test_read_matrix__is_the_same_for_batches_of_any_size(monkeypatch):
    rng = np.random.default_rng(0)
    ids = [f"sample {number}" for number in range(7)]
    table = pd.DataFrame(rng.normal(size=(200, 7)).round(3), [f"g{row}" for row in range(200)], ids)
    table = table.mask(rng.random(table.shape) < 0.1)
    expected = table.to_numpy(np.float32).T
    monkeypatch.setattr(text_chunks, "CHUNK_BYTES", 37)
    monkeypatch.setattr(parquet_table, "_CELLS_A_BATCH", 20)
    monkeypatch.setattr(parquet_table, "_MIN_ROWS_A_BATCH", 3)
    for oriented in (table, table.T):
        for content in (oriented.to_csv(sep="\t"), oriented.to_csv().encode("utf-8-sig"), parquet(oriented)):
            found = read(content, ids, missing_values="allow")
            np.testing.assert_array_equal(found.values, expected)
            np.testing.assert_allclose(found.qc["total"], np.nansum(table, axis=0))
    assert_refused(
        table.to_csv(sep="\t") + "g5\t" + "\t".join("1234567") + "\n",
        "in lines 7 and 202",
        samples=ids,
        missing_values="allow",
    )


def test_read_matrix__rounds_to_the_nearest_float32():
    found = read("id\tS1\nA\t0.1\nB\t16777217\nC\t1e-40\nD\t3.4028234e38\n", ["S1"])
    np.testing.assert_array_equal(found.values[0], np.array([0.1, 16777217, 1e-40, 3.4028234e38], np.float32))


def test_options__refuse_what_is_not_legal():
    for key, value in [
        ("orientation", "sideways"),
        ("transform", "log"),
        ("missing_values", True),
        ("id_column", 3),
        ("value_column", ""),
    ]:
        with pytest.raises(InputError, match=f"{key}: found {value!r}, expected"):
            Options(**{key: value})


def test_blocks__describe_what_is_read():
    assert set(read_matrix(io.BytesIO(text().encode()), "x", SAMPLES, Options())) == set(BLOCKS)
    assert all(spec.name == name and spec.dims[0] == "sample" for name, spec in BLOCKS.items())
