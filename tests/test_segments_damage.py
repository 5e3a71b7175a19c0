"""Damaged and contradictory tables of segments: refused with their rows, never read wrong."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methylation_files import gzipped
from oncoarena.assays import segment_tables, segments
from oncoarena.errors import BadObject, InputError
from segment_files import SIZES, ascat, cns, draw, read, seg

TABLE = draw(8, n_cuts=4)


def refusal(content: str | bytes, sample_id: str = "S1", **options) -> InputError:
    with pytest.raises(InputError, match=r"^s1\.seg: ") as caught:
        read(content, sample_id, **options)
    return caught.value


def with_field(content: str, line: int, field: int, value: str) -> str:
    lines = content.splitlines()
    fields = lines[line - 1].split("\t")
    fields[field - 1] = value
    lines[line - 1] = "\t".join(fields)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (1, "", "line 3: the sample is empty"),
        (2, "", "line 3 .*the chromosome is empty"),
        (3, "x", r"line 3: field 3 \(start\): found 'x', expected a number"),
        (3, "1_0", r"line 3: field 3 \(start\): found '1_0'"),
        (3, "", "line 3 .*no whole number"),
        (3, "1.5", "line 3 .*no whole number"),
        (3, "0", "line 3 .*a start below 1 in coordinates that are 1-based"),
        (4, "1", "line 3 .*the segment is reversed"),
        (4, "inf", "line 3 .*no whole number"),
        (4, "248956423", "line 3 .*beyond the chromosome in hg38: this is another genome"),
        (6, "x", r"line 3: field 6 \(log2\): found 'x', expected a number"),
        (6, "0.1\t2", "line 3: 7 fields found, 6 expected"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [40, 1 << 20])
def test_read_object__a_wrong_row_of_seg_is_told_by_line(monkeypatch, field, value, message, chunk_bytes):
    monkeypatch.setattr(segment_tables, "CHUNK_BYTES", chunk_bytes)
    error = refusal(with_field(seg(TABLE), 3, field, value))
    assert re.search(message, str(error))
    assert isinstance(error, BadObject)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (5, "-1", "major >= minor >= 0"),
        (5, "NA", "major >= minor >= 0"),
        (6, "99", "major >= minor >= 0"),
        (6, "inf", "major >= minor >= 0"),
    ],
)
def test_read_object__wrong_copies_of_ascat_are_told_by_line(field, value, message):
    assert re.search(f"line 3 .*{message}", str(refusal(with_field(ascat(TABLE), 3, field, value))))


def test_read_object__segments_that_overlap_are_named_by_both_lines():
    rows = [("chr1", 0, 1000, 0.1), ("chr2", 0, 1000, 0.1), ("chr1", 999, 2000, 0.2)]
    table = pd.DataFrame(rows, columns=["chrom", "start", "end", "log2"])
    said = str(refusal(cns(table)))
    assert "lines 2 and 4" in said
    assert "on chr1 overlap (0-1000 and 999-2000, 0-based); correct the file" in said
    # Segments that share one position in a 1-based table may be half-open in truth.
    assert "set coordinates: zero_based" in str(refusal(seg(table)))
    assert read(seg(table.assign(start=table["start"] - 1).query("start >= 0")), coordinates="zero_based")
    cohort = seg(table.iloc[:2], "S1") + seg(table.iloc[2:], "S2", header=False)
    assert read(cohort)["copy_ratio"].qc["n_segments"] == 2


def test_read_object__empty_segments_of_half_open_tables_are_refused():
    table = TABLE.assign(end=TABLE["end"].where(TABLE.index != 1, TABLE["start"]))
    assert "line 3 " in str(refusal(cns(table)))
    assert "its end is its start; if its end is part of it" in str(refusal(cns(table)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        (seg(TABLE.iloc[:0]), "a header and no rows"),
        ("# only a comment\n", "a header and no rows"),
        ("chr1\t5\t6\t0.5\n", "the header .* is not that of segments"),
        (cns(TABLE).replace("gene\t", "start\t"), "columns 'start' and 'start' both name the start"),
        (seg(TABLE)[:-1], "the last and has no line end: the file was cut short"),
        (seg(TABLE)[:-9], "the last and has no line end: the file was cut short"),
        (gzipped(seg(TABLE))[:-9], "the gzip stream ends at byte"),
        (seg(TABLE.assign(chrom="chrUn")), "none of the [0-9]+ segments of 'S1' is on a chromosome of hg38"),
        (seg(TABLE).replace("ID\t", "HD\t"), "the header .* is not that of segments"),
        (cns(TABLE).replace("gene", "genf"), "the header .* is not that of segments"),
        (b"PK\x03\x04" + bytes(30), "this is a zip archive or an Excel workbook"),
    ],
)  # fmt: skip
def test_read_object__what_is_no_table_of_segments_is_refused(content, message):
    assert re.search(message, str(refusal(content)))


def test_read_object__alleles_that_are_not_there_are_told():
    assert "no columns of copies of both alleles" in str(refusal(seg(TABLE), alleles=True))
    lost = ascat(TABLE.assign(major=0, minor=0))
    assert "the ploidy of 'S1' cannot be told" in str(refusal(lost))


def test_read__samples_are_found_by_name_or_told():
    cohort = seg(TABLE, "A") + seg(TABLE, "B", header=False)
    assert "2 samples and none named 'S1'; the table has 'A', 'B'" in str(refusal(cohort))
    assert read(seg(TABLE, "aliquot-17"))["copy_ratio"].qc["name_in_file"] == "aliquot-17"
    with pytest.raises(InputError, match="no segment of 'C' of the sample sheet; the table has 'A', 'B'"):
        segments.read_matrix(io.BytesIO(cohort.encode()), "all.seg", ["A", "C"], segments.Options())


@st.composite
def damaged(draw, content: bytes) -> bytes:
    raw = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        raw[draw(st.integers(0, len(raw) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(raw[: draw(st.integers(0, len(raw)) | st.just(len(raw)))])


def in_python(raw: bytes, sample: str) -> float | None:
    """Sum length times log2 of a sample of a SEG in the plainest way; None where it is not plainly one."""
    total = 0.0
    try:
        for line in raw.decode("ascii").replace("\r", "").split("\n")[1:]:
            if line:
                name, chrom, start, end, _, log2 = line.split("\t")
                if name == sample and f"chr{chrom}" in SIZES:
                    total += (int(end) - int(start) + 1) * float(log2)
    except ValueError:
        return None
    return total


@settings(deadline=None, max_examples=250)
@given(damaged(seg(TABLE).encode()))
def test_read_object__damaged_seg_is_read_as_it_stands_or_refused(raw):
    try:
        found, _ = segment_tables.read_sample(io.BytesIO(raw), "s1.seg", "S1", segments.Options())
    except InputError as refused:
        said, found = str(refused), None
    if found is None:
        assert said.startswith("s1.seg: ")
        return
    expected = in_python(raw, found.name)
    if expected is not None and set(found.chrom) <= {"chr1", "chr13", "chr21"} and b'"' not in raw:
        assert ((found.end - found.start) * found.log2).sum() == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        damaged(cns(TABLE).encode()),
        damaged(ascat(TABLE).encode()),
        damaged(gzipped(seg(TABLE))),
        st.binary(max_size=200),
        st.text(alphabet='ID\tchrom,start end"\n\r#12.eX-\0é', max_size=150).map(str.encode),
    )
)
def test_read_object__damaged_tables_are_sound_or_refused(raw):
    for options in ({}, {"alleles": True}):
        try:
            found = read(raw, **options)
        except InputError as refused:
            said, found = str(refused), None
        if found is None:
            assert said.startswith("s1.seg: ")
            continue
        for block in found.values():
            assert not np.isinf(block.values).any()
            assert len(block.values) == len(block.features)
        if "allele_balance" in found:
            balance = found["allele_balance"].values
            assert ((balance >= 0) & (balance <= 0.5) | np.isnan(balance)).all()
