"""Damaged and unusual tables of expression: whatever the bytes are, a sound cohort or a refusal."""

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expression_tables import SAMPLES, assert_is_the_cohort, frame, parquet, read, read_one, text
from oncoarena.assays import expression, text_chunks, text_table
from oncoarena.errors import InputError

# What a damaged file may do: give a sound cohort (a changed digit is a digit), or be refused.


def reference(raw: bytes) -> np.ndarray | None:
    """Read tab-separated genes x samples in the plainest way; None where it is not plainly a matrix."""
    try:
        rows = [line.split("\t") for line in raw.decode().split("\n") if line]
        order = [rows[0].index(name) for name in SAMPLES]
        return np.array([[np.float32(float(row[index])) for index in order] for row in rows[1:]]).T
    except (UnicodeDecodeError, ValueError, IndexError):
        return None


def assert_sound_or_refused(raw: bytes):
    try:
        found = read(raw, missing_values="allow")
    except InputError as refusal:
        said = str(refusal)
    else:
        said = None
    if said is not None:
        assert said.startswith("cohort.tsv: ")
        return None
    assert found.values.shape == (3, len(found.features))
    assert found.values.dtype == np.float32
    assert not np.isinf(found.values).any()
    assert found.features["id"].is_unique
    return found


@st.composite
def damaged(draw, content: bytes) -> bytes:
    raw = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(raw) - 1))
        raw[position] ^= 1 << draw(st.integers(0, 7))
    return bytes(raw[: draw(st.integers(0, len(raw)) | st.just(len(raw)))])


@settings(deadline=None, max_examples=200)
@given(damaged(text().encode()))
def test_read_matrix__damaged_text_is_read_like_the_reference_or_refused(raw):
    found = assert_sound_or_refused(raw)
    expected = reference(raw)
    if found is not None and expected is not None and not raw.startswith(b"#"):
        np.testing.assert_array_equal(found.values, expected)


@settings(deadline=None, max_examples=200)
@given(damaged(gzip.compress(text().encode(), mtime=0)))
def test_read_matrix__damaged_gzip_is_read_right_or_refused(raw):
    if assert_sound_or_refused(raw) is not None:
        assert_is_the_cohort(read(raw, missing_values="allow"))


@settings(deadline=None, max_examples=200)
@given(damaged(parquet(frame())) | damaged(parquet(frame("samples_x_genes"), compression="none")))
def test_read_matrix__damaged_parquet_gives_a_sound_cohort_or_is_refused(raw):
    assert_sound_or_refused(raw)


@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=300)
    | st.text(alphabet='S12\t,;\n\r"# .eN-A\0é', max_size=80).map(str.encode)
    | st.sampled_from([b"PAR1", b"\x1f\x8b\x08", b"id\tS1\tS2\tS3\n"]).flatmap(
        lambda start: st.binary(max_size=200).map(lambda rest: start + rest)
    )
)
def test_read_matrix__random_bytes_are_refused_or_sound(raw):
    assert_sound_or_refused(raw)
    try:
        found = read_one(raw, missing_values="allow")
    except InputError as refusal:
        said, found = str(refusal), None
    if found is None:
        assert said.startswith("s1.tsv: ")
    else:
        assert len(found.values) == len(found.features) > 0
        assert not np.isinf(found.values).any()


NAMES = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters='#"'),
    min_size=1,
    max_size=6,
)
NUMBERS = st.floats(allow_infinity=False, width=32, allow_subnormal=False)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_read_matrix__what_csv_writes_is_what_is_read(data):
    genes = data.draw(st.lists(NAMES.map(lambda name: f"g{name}"), min_size=1, max_size=6, unique=True))
    values = np.array(
        data.draw(
            st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=len(genes), max_size=len(genes))
        )
    )
    table = pd.DataFrame(values, index=genes, columns=SAMPLES)
    oriented = table if data.draw(st.booleans()) else table.T
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    delimiter = data.draw(st.sampled_from(["\t", ","]))
    content = oriented.to_csv(
        sep=delimiter, quoting=quoting, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"]))
    )
    found = read(content, missing_values="allow")
    assert found.features["id"].tolist() == genes
    np.testing.assert_array_equal(found.values, values.T.astype(np.float32))


# Arrow reads whole chunks of plain narrow tables, all else is read line by line: nobody may see which.


def outcome(reader, raw: bytes, **keys) -> object:
    """All that reading gives, or the refusal."""
    try:
        found = reader(raw, **keys)
    except InputError as refusal:
        return str(refusal)
    qc = found.qc.to_dict("list") if isinstance(found.qc, pd.DataFrame) else found.qc
    return found.values.tobytes(), found.values.shape, found.features.to_dict("list"), qc


def assert_both_paths_agree(raw: bytes, chunk_bytes: int) -> None:
    for reader, keys in [
        (read, {}),
        (read_one, {"value_column": "S2"}),
        (read_one, {"id_column": "S3", "value_column": "S1"}),
    ]:
        for missing in ("allow", "refuse"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(text_chunks, "CHUNK_BYTES", chunk_bytes)
                by_chunks = outcome(reader, raw, missing_values=missing, **keys)
                patch.setattr(text_table, "_NARROW_FIELDS", 0)
                assert outcome(reader, raw, missing_values=missing, **keys) == by_chunks


USUAL = st.integers(0, 10**7).map(str) | st.floats(allow_nan=False, allow_infinity=False, width=32).map(str)
UNUSUAL_CELLS = (
    *("", " ", "NA", " NA ", "nan", "None", "-inf", "1e999", "1e39", "-0", "+4", " 7", "7 ", ".5", "5."),
    *("abc", "1,5", "1;5", "0x10", "1_0", "1 5", "1\x002", "٣", "é", '"3"', '"3', '"3\t4"', "1\r", "\r", "#"),
)
UNUSUAL_IDS = (
    *(
        "",
        " ",
        " C ",
        "NA",
        "null",
        "g 1",
        "é",
        "S1",
        "a,b",
        ",;",
        ";",
        " ; ",
        "#x",
        "'q'",
        '"q"',
        '"q',
        "q\r",
    ),
    *("\ufeff", "\ufeffx", "\u00a0x", "x\u2028y", "x\x85y", "\x1cx", "x\0y", "\udc80", "\U0001f9ec"),
)


@st.composite
def tables(draw) -> bytes:
    """Genes x samples of which any cell, id or line end may be unusual."""
    delimiter = draw(st.sampled_from("\t\t,;"))
    is_odd = st.sampled_from([False] * draw(st.sampled_from([2, 12, 60])) + [True])
    lines = [delimiter.join(["id", *SAMPLES])]
    for number in range(draw(st.integers(0, 12))):
        cells = [draw(st.sampled_from(UNUSUAL_IDS)) if draw(is_odd) else f"g{number}"]
        cells += [draw(st.sampled_from(UNUSUAL_CELLS)) if draw(is_odd) else draw(USUAL) for _ in SAMPLES]
        cells = cells[: draw(st.integers(0, 4))] if draw(is_odd) else cells
        cells += [""] * draw(st.integers(1, 2)) if draw(is_odd) else []
        lines.append(delimiter.join(cells))
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    ends = [draw(st.sampled_from(["\n\n", "\r", "\r\r\n", "\r\n"])) if draw(is_odd) else end for _ in lines]
    ends[-1] = draw(st.sampled_from([ends[-1], "", "\n\n"]))
    content = "".join(line + end for line, end in zip(lines, ends, strict=True))
    return content.encode(errors="surrogateescape")


@settings(deadline=None, max_examples=250)
@given(tables(), st.sampled_from([8 << 20, 8 << 20, 64, 23]))
def test_read__gives_the_same_by_chunks_and_by_lines(raw, chunk_bytes):
    assert_both_paths_agree(raw, chunk_bytes)


@settings(deadline=None, max_examples=150)
@given(damaged(text().encode()), st.sampled_from([8 << 20, 23]))
def test_read__gives_the_same_of_damaged_text_by_chunks_and_by_lines(raw, chunk_bytes):
    assert_both_paths_agree(raw, chunk_bytes)


@pytest.mark.parametrize("unusual_id", UNUSUAL_IDS)
def test_read__gives_the_same_by_chunks_and_by_lines_for_every_unusual_id(unusual_id):
    for cells in ("1\t2\t3", "\t\t", "a\t1\t2"):
        raw = f"id\tS1\tS2\tS3\ng1\t1\t2\tx\n{unusual_id}\t{cells}\ng2\t4\t5\ty\n"
        # The second chunk begins with the unusual id.
        for chunk_bytes in (8 << 20, 23):
            assert_both_paths_agree(raw.encode(errors="surrogateescape"), chunk_bytes)


@pytest.mark.parametrize("unusual_cell", UNUSUAL_CELLS)
def test_read__gives_the_same_by_chunks_and_by_lines_for_every_unusual_cell(unusual_cell):
    assert_both_paths_agree(text().replace("6.25", unusual_cell).encode(), 8 << 20)


def test_read__plain_narrow_tables_are_never_split_into_lines(monkeypatch):
    def refuse(*_):
        raise AssertionError("a plain table was split into lines")

    monkeypatch.setattr(text_table.TextTable, "_read_lines", refuse)
    for separator in "\t,;":
        plain = text(separator=separator)
        for content in (plain, plain.replace("\n", "\r\n"), "# note\n" + plain.replace("MYC", " MYC")):
            assert_is_the_cohort(read(content))
            assert read_one(content, value_column="S2").values.tolist() == [5.0, 6.25, 7.0, 8.0]
    with pytest.raises(AssertionError, match="split into lines"):
        read(text().replace("MYC", '"MYC"'))


def test_read_matrix__header_of_empty_names_is_refused():
    with pytest.raises(InputError, match="line 1: the header names no column"):
        expression.read_matrix(io.BytesIO(b'\t""'), "m.tsv", ["s1"], expression.Options())
