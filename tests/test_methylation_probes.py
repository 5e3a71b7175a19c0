"""Beta values of methylation arrays: the same from every form, wrong values refused by cell."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methylation_files import bedmethyl as write_bedmethyl
from methylation_files import gzipped, sites
from oncoarena.assays import methylation
from oncoarena.errors import InputError

SAMPLES = ["S1", "S2", "S3"]
PROBES = [f"cg{number:08d}" for number in range(40)]


def betas(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.beta(0.5, 0.5, (len(PROBES), 3)).round(6), index=PROBES, columns=SAMPLES)
    return table.mask(rng.random(table.shape) < 0.1)


def options(**keys) -> methylation.Options:
    return methylation.Options(technology="array", **keys)


def read_matrix(raw: bytes, samples=SAMPLES, annotation=None, **keys):
    found = methylation.read_matrix(io.BytesIO(raw), "betas.tsv", samples, options(**keys), annotation)
    assert list(found) == ["methylation_probes"]
    return found["methylation_probes"]


def read_one(raw: bytes | str, annotation=None, **keys):
    raw = raw.encode() if isinstance(raw, str) else raw
    found = methylation.read_object(
        io.BytesIO(raw), "s1.tsv", options(**keys), sample_id="S1", annotation=annotation
    )
    assert list(found) == ["methylation_probes"]
    return found["methylation_probes"]


def parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.rename_axis("probe").to_parquet(buffer)
    return buffer.getvalue()


def test_read_matrix__is_the_table_of_pandas_in_every_form():
    table = betas()
    text = table.to_csv(sep="\t", na_rep="NA")
    expected = table.to_numpy().T.astype(np.float32)
    for raw in (text.encode(), gzipped(text), table.to_csv().encode(), parquet(table)):
        found = read_matrix(raw)
        np.testing.assert_array_equal(found.values, expected)
        assert found.features["id"].tolist() == PROBES
        assert found.notes == ()
    percent = (table * 100).to_csv(sep="\t").encode()
    np.testing.assert_allclose(read_matrix(percent, scale="percent").values, expected, rtol=1e-6)
    turned = read_matrix(text.encode(), samples=["S3", "S1"])
    np.testing.assert_array_equal(turned.values, expected[[2, 0]])
    assert turned.qc["sample_id"].tolist() == ["S3", "S1"]
    assert "1 columns that are no sample of the sheet" in turned.notes[0]


def test_read_object__a_file_of_one_sample_gives_its_row_of_the_matrix():
    table = betas()
    row = read_matrix(table.to_csv(sep="\t").encode())
    one = table[["S1"]]
    described = one.assign(Chromosome="chr1", Start=5)
    versions = {
        "with a header": (one.to_csv(sep="\t"), {}),
        "without a header": (one.to_csv(sep="\t", header=False, na_rep="NA"), {}),
        "without a header, by commas": (one.to_csv(header=False), {}),
        "gzipped, without a header": (gzipped(one.to_csv(sep="\t", header=False, na_rep="NA")), {}),
        "with other columns": (described.to_csv(sep="\t"), {"value_column": "S1"}),
        "Parquet": (parquet(one), {}),
        "line ends of Windows": (one.to_csv(sep="\t", lineterminator="\r\n"), {}),
    }
    for name, (raw, keys) in versions.items():
        found = read_one(raw, **keys)
        np.testing.assert_array_equal(found.values, row.values[0], err_msg=name)
        assert found.features["id"].tolist() == PROBES
        assert found.qc.pop("n_records") == len(PROBES)
        assert found.qc == {key: row.qc[key][0] for key in found.qc}


def test_read_matrix__annotation_places_probes_and_shows_the_second_x():
    table = betas(2)
    annotation = pd.DataFrame(
        {"id": PROBES[:30], "chrom": ["chr1"] * 10 + ["chrX"] * 20, "start": range(30), "end": range(1, 31)}
    )
    found = read_matrix(table.to_csv(sep="\t").encode(), annotation=annotation)
    assert found.features.loc[10, ["chrom", "start", "end"]].tolist() == ["chrX", 10, 11]
    assert found.features.loc[35, ["chrom", "start", "end"]].tolist() == ["", -1, -1]
    of_x = table.iloc[10:30]
    between = ((of_x > 0.3) & (of_x < 0.7)).sum() / of_x.notna().sum()
    np.testing.assert_allclose(found.qc["chrx_intermediate"], between)
    np.testing.assert_allclose(found.qc["missing_rate"], table.isna().mean())
    np.testing.assert_allclose(found.qc["global_beta"], table.mean(), rtol=1e-6)
    assert found.qc["n_probes"].tolist() == [40] * 3


@pytest.mark.parametrize(
    ("cell", "keys", "message"),
    [
        ("55.5", {}, r"line 4, column 'S2' \(probe 'cg00000002'\): found 55.5, .*set scale: percent"),
        ("-0.5", {}, r"line 4, .*if these are M-values, write beta = "),
        ("101", {"scale": "percent"}, "found 101, expected a beta value of 0 to 100"),
        ("inf", {}, "found inf, expected a beta value"),
        ("high", {}, "line 4, column 'S2'"),
    ],
)
def test_read_matrix__a_value_that_is_no_beta_is_refused_by_cell(cell, keys, message):
    lines = betas(1).fillna(0).to_csv(sep="\t").splitlines()
    fields = lines[3].split("\t")
    lines[3] = "\t".join([*fields[:2], cell, fields[3]])
    with pytest.raises(InputError, match=rf"^betas\.tsv: .*{message}"):
        read_matrix(("\n".join(lines) + "\n").encode(), **keys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cg1\t0.5\ncg2\t0.5\ncg1\t0.5\n", "probe 'cg1' is there twice, in lines 1 and 3"),
        ("cg1\t0.5\ncg2\t1.5\n", "line 2, column 'beta' .*found 1.5"),
        ("cg1\t0.5\ncg2\t0.5\t1\n", "line 2: 3 fields found, 2 expected"),
        ("cg1\t0.5\ncg2\t0.2", "the last line, 2, has no line end: the file was cut short"),
        ("probe\tbeta\ncg1\t0.5\ncg2\t0.2", "the last line, 3, has no line end"),
        ("probe\tbeta\n", "a header and no rows"),
        ("probe\ta\tb\ncg1\t0.5\t0.5\n", r"2 columns of numbers; expected one. .*\(value_column\)"),
        ("", "the file is empty"),
    ],
)
def test_read_object__a_wrong_file_of_one_sample_is_refused(content, message):
    with pytest.raises(InputError, match=rf"^s1\.tsv: .*{message}"):
        read_one(content)


def test_read_matrix__samples_must_be_columns_once():
    text = betas().to_csv(sep="\t").encode()
    with pytest.raises(InputError, match="no column for 'S9' of the sample sheet"):
        read_matrix(text, samples=["S1", "S9"])
    with pytest.raises(InputError, match="sample 'S1' is there twice"):
        read_matrix(text.replace(b"S3", b"S1"), samples=["S1"])


def test_read__a_technology_that_does_not_fit_is_told():
    with pytest.raises(InputError, match="set technology: array, or give one bedMethyl"):
        methylation.read_matrix(io.BytesIO(b""), "betas.tsv", SAMPLES, methylation.Options())
    with pytest.raises(InputError):
        read_one(write_bedmethyl(sites(5)))


@st.composite
def damaged(draw, content: bytes) -> bytes:
    raw = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        raw[draw(st.integers(0, len(raw) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(raw[: draw(st.integers(0, len(raw)) | st.just(len(raw)))])


@settings(deadline=None, max_examples=150)
@given(
    damaged(betas()[["S1"]].to_csv(sep="\t", header=False, na_rep="NA").encode())
    | damaged(gzipped(betas()[["S1"]].to_csv(sep="\t", na_rep="NA")))
    | st.binary(max_size=200)
)
def test_read_object__damaged_files_are_sound_or_refused(raw):
    try:
        found = read_one(raw)
    except InputError as refused:
        said, found = str(refused), None
    if found is None:
        assert said.startswith("s1.tsv: ")
    else:
        assert len(found.values) == len(found.features) > 0
        assert ((found.values >= 0) & (found.values <= 1) | np.isnan(found.values)).all()
        assert found.features["id"].is_unique
