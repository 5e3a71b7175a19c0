"""Matrices in GCT and AnnData, and counts of a whole cohort scaled to a million."""

import gzip
import io
import subprocess
import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from anndata.io import write_elem
from hypothesis import given, settings
from hypothesis import strategies as st

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
from oncoarena.assays import h5ad, h5ad_reader
from oncoarena.errors import InputError


def gct(version: str = "1.2", symbols=("p53", "na", "K-Ras oncogene", "")) -> str:
    if version == "1.2":
        table = frame().rename_axis("Name").reset_index()
        table.insert(1, "Description", symbols)
        return "#1.2\n4\t3\n" + table.to_csv(sep="\t", index=False)
    table = frame().rename_axis("id").reset_index()
    table.insert(1, "pr_gene_symbol", symbols)
    table.insert(2, "chip", ["A", "B", "A", "B"])
    header, rows = table.to_csv(sep="\t", index=False).split("\n", 1)
    return f"#1.3\n4\t3\t2\t2\n{header}\ncell\tna\tna\tMCF7\tPC3\tA375\ndose\tna\tna\t1\t2\t3\n{rows}"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_read_matrix__reads_gct(version):
    for content in (
        gct(version),
        gzip.compress(gct(version).encode(), mtime=0),
        gct(version).replace("\n", "\r\n"),
    ):
        found = read(content)
        assert_is_the_cohort(found)
        assert found.features["gene"].tolist() == ["p53", "", "K-Ras oncogene", ""]
    assert_is_the_cohort(read(gct(version), orientation="genes_x_samples"))


@pytest.mark.parametrize("option", [None, "Name", "NAME"])
def test_read_matrix__reads_gct_with_the_numbers_of_rows_before_the_names(option):
    start, header, *rows = gct().split("\n", 3)[1:3] + gct().split("\n", 3)[3].splitlines()
    names = header.replace("Name", option or "Name")
    numbered = "".join(f"{number}\t{row}\n" for number, row in enumerate(rows))
    content = f"#1.2\n{start}\nid\t{names}\n{numbered}"
    found = read(content, id_column=option)
    assert_is_the_cohort(found)
    assert found.features["gene"].tolist() == ["p53", "", "K-Ras oncogene", ""]
    some = read(content.replace("\n", "\r\n"), ["S3"])
    np.testing.assert_array_equal(some.values, VALUES[2:].astype(np.float32))
    assert_refused(content.replace("6.25", "x"), "line 5, column 'S2'", "found 'x'")
    assert_refused(content.replace("id\t", "number\t", 1), "line 3: 6 columns found, 5 expected")


GCT_REFUSED = {
    "a row less": (gct()[: gct().rindex("EGFR")], "3 rows found; line 2 says 4"),
    "a row more": (gct() + "BRCA1\t\t1\t2\t3\n", "5 rows found; line 2 says 4"),
    "a cut last cell": (gct()[:-2], "4 rows found, the last without a line end"),
    "a column less": (gct().replace("\tS3\n", "\n"), "line 3: 4 columns found, 5 expected from line 2"),
    "counts that are none": (gct().replace("4\t3", "four\t3"), "line 2: found 'four\\t3', expected 2 counts"),
    "the counts of 1.3": (
        gct("1.3").replace("#1.3", "#1.2"),
        "line 2: found '4\\t3\\t2\\t2', expected 2 counts",
    ),
    "absurd counts": (gct("1.3").replace("4\t3\t2\t2", "4\t3\t2\t99999999"), "rows of metadata"),
    "the version only": ("#1.2\n", "the file ends above the rows"),
    "no rows": ("#1.2\n0\t3\nName\tDescription\tS1\tS2\tS3\n", "a header and no genes"),
    "a short row": (gct().replace("\t6.25", ""), "line 5: 4 fields found, 5 expected"),
    "metadata cut off": (gct("1.3")[: gct("1.3").index("dose")], "the file ends above the rows"),
}


@pytest.mark.parametrize("case", GCT_REFUSED.values(), ids=GCT_REFUSED)
def test_read_matrix__refuses_gct_that_is_not_as_its_second_line_says(case):
    content, said = case
    assert_refused(content, "cohort.tsv: ", said)


SPARSE = np.array([[1.5, 0.0, 0.0, 4.0], [0.0, 6.25, 0.0, 8.0], [9.0, 0.0, 0.0, 0.0]])
FORMS = {"dense": np.asarray, "csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix}


def ann(x, obs=SAMPLES, names=GENES, var: dict | None = None, **keywords) -> bytes:
    """Write AnnData by its own encoders, element by element: it cannot write tables of pandas 3 yet."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_elem(file, "X", x, dataset_kwargs=keywords)
        for key, ids, columns in (("obs", obs, {}), ("var", names, var or {})):
            group = file.create_group(key)
            group.attrs.update(
                {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"}
            )
            group.attrs["column-order"] = np.array(list(columns), dtype=h5py.string_dtype())
            for name, column in {"_index": np.array(ids, dtype=object), **columns}.items():
                write_elem(group, name, column)
    return buffer.getvalue()


def test_ann__is_what_anndata_reads(tmp_path):
    path = tmp_path / "cohort.h5ad"
    path.write_bytes(ann(scipy.sparse.csr_matrix(SPARSE)))
    table = anndata.read_h5ad(path)
    assert (list(table.obs_names), list(table.var_names)) == (SAMPLES, GENES)
    np.testing.assert_array_equal(table.X.toarray(), SPARSE)


@pytest.mark.parametrize(
    ("form", "dtype", "compression"),
    [
        ("dense", np.float32, "gzip"),
        ("dense", np.int32, None),
        ("csr", np.float64, None),
        ("csc", np.int32, "gzip"),
    ],
)
def test_read_matrix__reads_anndata_dense_and_sparse(form, dtype, compression):
    expected = SPARSE.astype(dtype)
    content = ann(FORMS[form](expected), compression=compression)
    found = read(content)
    np.testing.assert_array_equal(found.values, expected.astype(np.float32))
    assert found.features["id"].tolist() == GENES
    assert found.qc["n_zero"].tolist() == list((expected == 0).sum(axis=1))
    some = read(content, ["S3", "S1"])
    np.testing.assert_array_equal(some.values, expected[[2, 0]].astype(np.float32))
    assert "1 columns or rows" in some.notes[0]


@pytest.mark.parametrize("form", FORMS)
def test_blocks__are_the_same_of_any_size(form, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.poisson(0.4, (23, 4)).astype(np.float32)
    ids = [f"s{row}" for row in range(23)]
    content = ann(FORMS[form](x), obs=ids)
    for rows in (np.arange(23), np.array([0, 5, 6, 22]), np.array([7])):
        for n_cells in (1, 9, 30, 10**6):
            monkeypatch.setattr(h5ad_reader, "CELLS_A_BLOCK", n_cells)
            found = np.full((23, 4), np.nan)
            with h5py.File(io.BytesIO(content), "r") as file:
                matrix = h5ad_reader.Matrix(file)
                for part, values in matrix.blocks(rows):
                    found[np.ix_(rows, range(4)[part]) if matrix.kind == "csc" else part] = values
            np.testing.assert_array_equal(found[rows], x[rows])
            assert np.isnan(np.delete(found, rows, axis=0)).all()


def test_read_matrix__anndata_knows_symbols_and_places():
    var = {
        "chromosome": np.array(["17", "chr8", "", "GL1"], dtype=object),
        "start": np.array([7661778, 127735433, 5, 9]),
        "end": np.array([7687550.0, 127742951.0, np.nan, 3.0]),
    }

    def add_symbols(file: h5py.File) -> None:
        group = file.create_group("var/gene_name")
        group.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
        write_elem(group, "categories", np.array(["p53", "c-Myc", "EGFR"], dtype=object))
        write_elem(group, "codes", np.array([0, 1, -1, 2], dtype=np.int8))

    features = read(change(ann(VALUES, var=var), add_symbols)).features
    assert features["gene"].tolist() == ["p53", "c-Myc", "", "EGFR"]
    assert features["chrom"].tolist() == ["chr17", "chr8", "", ""]
    assert features["start"].tolist() == [7661778, 127735433, -1, -1]
    assert features["end"].tolist() == [7687550, 127742951, -1, -1]


def test_read_matrix__anndata_with_genes_as_observations_is_read_if_that_is_said():
    content = ann(VALUES.T, GENES, SAMPLES)
    assert_refused(content, "no row is named by a sample of the sheet")
    assert_is_the_cohort(read(content, orientation="genes_x_samples"))


def change(content: bytes, edit) -> bytes:
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        edit(file)
    return buffer.getvalue()


def replace(file, name, value) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = value
    file[name].attrs.update(attributes)


DAMAGE = {
    "no X": (lambda f: f.pop("X"), "there is no X"),
    "an index outside": (lambda f: replace(f, "X/indices", np.array([0, 3, 1, 9, 0])), "point outside"),
    "a negative index": (lambda f: replace(f, "X/indices", np.array([0, 3, 1, -1, 0])), "point outside"),
    "a cell twice": (lambda f: replace(f, "X/indices", np.array([0, 0, 1, 3, 0])), "holds a cell twice"),
    "indptr that falls": (lambda f: replace(f, "X/indptr", np.array([0, 4, 2, 5])), "does not rise"),
    "indptr that ends early": (lambda f: replace(f, "X/indptr", np.array([0, 2, 4, 4])), "does not rise"),
    "data too short": (lambda f: replace(f, "X/data", np.ones(3)), "do not fit together"),
    "another shape": (lambda f: f["X"].attrs.__setitem__("shape", [3, 5]), "obs and var say (3, 4)"),
    "an unknown encoding": (lambda f: f["X"].attrs.__setitem__("encoding-type", "coo"), "encoded as 'coo'"),
    "text for numbers": (lambda f: replace(f, "X/data", np.array([b"a"] * 5)), "expected numbers"),
    "an older form": (lambda f: replace(f, "obs", np.zeros(3)), "before version 0.7"),
}


@pytest.mark.parametrize("case", DAMAGE.values(), ids=DAMAGE)
def test_matrix__refuses_anndata_that_contradicts_itself(case):
    edit, said = case
    content = change(ann(scipy.sparse.csr_matrix(SPARSE)), edit)
    with pytest.raises(h5ad_reader.Damaged) as refusal, h5py.File(io.BytesIO(content), "r") as file:
        list(h5ad_reader.Matrix(file).blocks(np.arange(3)))
    assert said in str(refusal.value)


def test_read_matrix__refuses_anndata_with_the_reason():
    content = ann(scipy.sparse.csr_matrix(SPARSE))
    for edit, said in (
        (lambda f: f.pop("X"), "cannot be read as AnnData (.h5ad)"),
        (lambda f: f.pop("obs"), "cannot be read as AnnData"),
        (lambda f: f["var/_index"].__setitem__(1, "TP53"), "gene 'TP53' is there twice"),
        (lambda f: f["X/data"].__setitem__(1, np.inf), "observation 1, column 'EGFR'"),
    ):
        assert_refused(change(content, edit), "cohort.tsv: ", said)
    assert_refused(content[:-200], "cannot be read as AnnData")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import time; time.sleep(60)", "for 0.2 seconds"),
        ("import os; os.abort()", "library ended while reading"),
    ],
)
def test_read_matrix__survives_a_reader_that_hangs_or_crashes(program, said, monkeypatch):
    start = subprocess.Popen

    def start_program(command, **keywords):
        return start([sys.executable, "-c", program], **keywords)

    monkeypatch.setattr(h5ad, "SILENCE_SECONDS", 0.2 if "sleep" in program else 60.0)
    monkeypatch.setattr(h5ad.subprocess, "Popen", start_program)
    assert_refused(ann(SPARSE), said)


@pytest.fixture(scope="module")
def sound() -> dict[str, bytes]:
    return {form: ann(make(SPARSE)) for form, make in FORMS.items()}


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(sorted(FORMS)), st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)))
)
def test_read_matrix__damaged_anndata_gives_a_sound_cohort_or_is_refused(sound, form, share, flips):
    raw = bytearray(sound[form])
    for place, bit in flips[:3]:
        raw[int(place * (len(raw) - 1))] ^= 1 << bit
    raw = bytes(raw[: int(share * len(raw))]) if not flips else bytes(raw)
    try:
        with pytest.MonkeyPatch.context() as patch:
            # HDF5 follows some damaged lists for ever.
            patch.setattr(h5ad, "SILENCE_SECONDS", 8.0)
            found = read(raw, missing_values="allow")
    except InputError as error:
        refusal, found = str(error), None
    if found is None:
        assert refusal.startswith("cohort.tsv: ")
    else:
        assert found.values.shape == (3, len(found.features))
        assert found.features["id"].is_unique
        assert not np.isinf(found.values).any()


COUNTS = np.array([[120, 0, 30, 850], [5, 5, 0, 0], [1, 2, 3, 4]])


def counts_as(form: str) -> str | bytes:
    table = pd.DataFrame(COUNTS, SAMPLES, GENES)
    if form == "parquet":
        return parquet(table)
    oriented = table.T if form == "genes_x_samples" else table
    return oriented.to_csv(sep="\t", index_label="id")


@pytest.mark.parametrize("form", ["genes_x_samples", "samples_x_genes", "parquet"])
def test_read_matrix__scales_counts_to_a_million(form):
    cpm = COUNTS / COUNTS.sum(axis=1, keepdims=True) * 1e6
    found = read(counts_as(form), quantity="cpm")
    np.testing.assert_allclose(found.values, np.log2(cpm + 1), rtol=1e-6)
    assert found.qc["quantity"].unique().tolist() == ["log2(CPM + 1)"]
    assert found.qc["library_size"].tolist() == [1000, 10, 10]
    linear = read(counts_as(form), ["S3"], quantity="cpm", transform="none")
    np.testing.assert_allclose(linear.values, cpm[2:], rtol=1e-6)
    raw = read(counts_as(form), quantity="counts")
    np.testing.assert_allclose(raw.values, np.log2(COUNTS + 1), rtol=1e-6)


def test_read_matrix__refuses_counts_that_cannot_be_scaled():
    nothing = counts_as("genes_x_samples").replace("5", "0")
    assert_refused(nothing, "sample 'S2' has no counts above 0", quantity="cpm")
    assert_refused(text().replace("6.25", "-1"), "(row 'MYC'): found -1", "0 or more", quantity="counts")


@pytest.mark.parametrize("orientation", ["genes_x_samples", "samples_x_genes"])
def test_read_matrix__leaves_out_counts_of_reads_of_no_gene(orientation):
    table = pd.DataFrame(COUNTS, SAMPLES, GENES).assign(N_unmapped=900, __no_feature=70)
    content = (table.T if orientation == "genes_x_samples" else table).to_csv(sep="\t", index_label="id")
    found = read(content, quantity="cpm")
    np.testing.assert_array_equal(found.values, read(counts_as(orientation), quantity="cpm").values)
    assert found.features["id"].tolist() == GENES
    assert "2 rows or columns that count reads of no gene" in found.notes[0]


def test_read_matrix__removes_versions_in_both_directions():
    table = frame().set_axis(["ENSG00000141510.16", "ENSG00000136997.21", "ENSG00000133703", "EGFR"])
    bare = ["ENSG00000141510", "ENSG00000136997", "ENSG00000133703", "EGFR"]
    annotation = pd.DataFrame(
        {"id": ["ENSG00000141510.1", "ENSG00000133703.7"], "chrom": "chr1", "start": 1, "end": 2}
    )
    for oriented in (table, table.T):
        content = oriented.to_csv(sep="\t", index_label="id")
        found = read(content, annotation=annotation)
        assert found.features["id"].tolist() == bare
        assert found.features["chrom"].tolist() == ["chr1", "", "chr1", ""]
        assert read(content, strip_version=False).features["id"].tolist() == list(table.index)
