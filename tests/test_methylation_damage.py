"""Damaged, unsorted and foreign files of methylation calls: refused with their place, never read wrong."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methylation_files import SIZES, bedmethyl, bismark, encode, gzipped, read, sites
from oncoarena.assays import methylation_calls
from oncoarena.errors import BadObject, InputError
from oncoarena.kernels import methylation_rows

TABLE = sites(20)
PLAIN = bedmethyl(TABLE)
COVERAGE = bismark(TABLE)


def with_field(content: str, line: int, field: int, value: str) -> str:
    """Change one field, both counted from 1."""
    lines = content.splitlines()
    fields = lines[line - 1].split("\t")
    fields[field - 1] = value
    lines[line - 1] = "\t".join(fields)
    return "\n".join(lines) + "\n"


def refusal(content: str | bytes, **options) -> BadObject:
    with pytest.raises(BadObject) as caught:
        read(content, **options)
    assert str(caught.value).startswith("s1.bed: ")
    return caught.value


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (1, "", "field 1, the chromosome, is empty"),
        (2, "-5", "field 2 is not a whole number"),
        (2, "1e3", "field 2 is not a whole number"),
        (3, "9999999999999999", "field 3 is not a whole number"),
        (3, "1", "the end is not beyond the start"),
        (6, "*", r"field 6 is not a strand"),
        (10, "77", "N_valid_cov .* is not N_mod"),
        (11, "x", "field 11 is not a percentage"),
        (11, "1e999", "field 11 is not a percentage"),
        (11, "0.01", "the percentage .* is not that of the counts"),
        (11, "nan", "the percentage .* is not that of the counts"),
        (12, "-1", "field 12 is not a whole number"),
        (13, "", "field 13 is not a whole number"),
        (14, "1.0", "field 14 is not a whole number"),
        (18, "0\t0", "19 fields found, 18 expected"),
        (18, "0 ", "19 fields found, 18 expected"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20])
def test_read_object__a_wrong_field_is_told_by_line_and_byte(monkeypatch, field, value, message, chunk_bytes):
    monkeypatch.setattr(methylation_calls, "CHUNK_BYTES", chunk_bytes)
    line = 1 + TABLE.index[(TABLE["meth"] > 2) & (TABLE["start"] > 10)][3]
    content = with_field(PLAIN, line, field, value)
    error = refusal(content)
    assert re.search(message, str(error))
    assert f"line {line} (" in str(error)
    assert error.offset == sum(len(text) + 1 for text in content.split("\n")[: line - 1])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (2, "0", "expected 1-based coordinates"),
        (3, "1", "expected 1-based coordinates"),
        (4, "12.3", "the percentage"),
        (5, "-1", "field 5 is not a whole number"),
        (6, "x", "field 6 is not a whole number"),
        (6, "1\t2", "7 fields found, 6 expected"),
    ],
)
def test_read_object__a_wrong_field_of_bismark_is_told_by_line(field, value, message):
    line = 1 + TABLE.index[(TABLE["meth"] > 2) & (TABLE["start"] > 10)][3]
    assert re.search(f"line {line} .*{message}", str(refusal(with_field(COVERAGE, line, field, value))))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (2, "x", "field 2 is not a whole number"),
        (3, "1", "the end is not beyond the start"),
        (6, "*", "field 6 is not a strand"),
        (10, "-1", "field 10 is not a whole number"),
        (10, "1.5", "field 10 is not a whole number"),
        (11, "101", "field 11 is not a percentage"),
        (11, "-1", "field 11 is not a percentage"),
        (11, "x", "field 11 is not a percentage"),
        (11, "nan", "field 11 is not a percentage"),
        (11, "50\t1", "12 fields found, 11 expected .bedMethyl of ENCODE"),
    ],
)
def test_read_object__a_wrong_field_of_encode_is_told_by_line(field, value, message):
    line = 1 + TABLE.index[(TABLE["meth"] > 2) & (TABLE["start"] > 10)][3]
    assert re.search(f"line {line} .*{message}", str(refusal(with_field(encode(TABLE), line, field, value))))


def test_read_object__percentages_may_be_rounded_or_cut_to_any_digit():
    row = "chr1\t5\t6\tm\t7\t+\t5\t6\t0\t7\t{}\t1\t6\t0\t0\t0\t0\t0\n"
    for percent in ("14", "15", "14.3", "14.2", "14.29", "14.28", "14.2857142857142857142", "1.43e1"):
        assert read(row.format(percent))["methylation_bins"].values[0] == np.float32(1 / 7)
    for percent in ("12", "14.5", "14.31", "0.14", "1.4e+02"):
        assert "is not that of the counts" in str(refusal(row.format(percent)))
    none = "chr1\t5\t6\tm\t0\t+\t5\t6\t0\t0\t{}\t0\t0\t0\t0\t0\t0\t0\n"
    for percent in ("0.00", "NaN", "nan"):
        assert np.isnan(read(none.format(percent))["methylation_bins"].values).all()


def test_read_object__what_may_be_two_coordinates_is_not_guessed():
    for content in (bismark(TABLE, shift=0, span=1), bismark(TABLE, span=1)):
        assert "set coordinates: zero_based or one_based" in str(refusal(content))
    assert "set coordinates: one_based" in str(refusal(COVERAGE, coordinates="zero_based"))


@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20])
def test_read_object__unsorted_rows_are_refused_by_line(monkeypatch, chunk_bytes):
    monkeypatch.setattr(methylation_calls, "CHUNK_BYTES", chunk_bytes)
    lines = PLAIN.splitlines(keepends=True)
    swapped = "".join([*lines[:5], lines[6], lines[5], *lines[7:]])
    assert re.search("line 7 .*larger start; sort the file", str(refusal(swapped)))
    back = PLAIN + lines[3]
    assert re.search(f"line {len(lines) + 1} .*chr1 was there before", str(refusal(back)))


@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20])
def test_read_object__a_site_that_is_there_twice_is_refused(monkeypatch, chunk_bytes):
    monkeypatch.setattr(methylation_calls, "CHUNK_BYTES", chunk_bytes)

    def rows(strands: str, code: str = "m") -> str:
        one = "chr1\t7\t8\t{}\t1\t{}\t7\t8\t0\t1\t0.00\t0\t1\t0\t0\t0\t0\t0\n"
        return "".join(one.format(code, strand) for strand in strands)

    assert read(rows("+-."))["methylation_calls"].values[0] == 3
    for strands, line in (("++", 2), ("+-+", 3), ("+-.+", 4), ("..", 2)):
        assert f"line {line} (" in str(refusal(rows(strands)))
    assert "name one, e.g. mod_code: m,CG,0" in str(refusal(rows("+", "m,CG,0") + rows("+", "m,CHH,0")))
    both = rows("+", "m,CG,0") + rows("+", "m,CHH,0")
    assert read(both, mod_code="m,CG,0")["methylation_calls"].values[0] == 1
    twice = COVERAGE.splitlines(keepends=True)
    assert "line 3 (" in str(refusal("".join([*twice[:2], twice[1], *twice[2:]])))


def test_read_object__another_genome_is_seen_in_a_position_beyond_the_chromosome():
    end = SIZES["chr21"]
    row = "chr21\t{}\t{}\t0\t0\t4\n"
    assert read(row.format(end, end))["methylation_calls"].values.sum() == 4
    error = refusal(COVERAGE + row.format(end + 1, end + 1))
    assert f"chr21 of hg38 has {end} bp: this is another genome" in str(error)
    assert f"line {len(TABLE) + 1} (" in str(error)
    assert "none of its 2 sites is on a chromosome" in str(
        refusal("NC_1\t1\t1\t0\t0\t4\nNC_2\t1\t1\t0\t0\t4\n")
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("#chrom\n", "a header and no rows"),
        ("cg0001\t0.5\n", "set technology: array"),
        ("chr1\t5\t6\t5mC\t1\t+\t5\t6\t0\t1\t0\n", "write it with modkit pileup"),
        ("chr1\t5\t+\t1\t2\tCG\tCGA\n", "give its coverage file"),
        ("chr1\n", "1 fields; expected the 18 of bedMethyl"),
        (PLAIN[:-1], "the last and has no line end"),
        (PLAIN[:-40], "the last and has no line end"),
        (gzipped(PLAIN)[:-1], "the gzip stream ends at byte"),
        (gzipped(PLAIN, 3)[:300], "the gzip stream ends at byte"),
        (gzipped(PLAIN)[:-8] + bytes(8), "the gzip stream is damaged"),
        (gzipped(PLAIN) + b"tail", "the gzip stream is damaged"),
        (b"\x1f\x8b", "the gzip stream ends at byte 2"),
    ],
)
def test_read_object__what_is_no_whole_file_of_calls_is_refused(content, message):
    assert message in str(refusal(content))


@pytest.mark.parametrize("start", [b"PAR1", b"PK\x03\x04", b"\x89HDF\r\n", b"\x28\xb5\x2f\xfd"])
def test_read_object__foreign_formats_are_named(start):
    with pytest.raises(InputError, match=r"^s1\.bed: this is .*Export it as text"):
        read(start + bytes(50))


def bgzf(content: str) -> bytes:
    """Compress text as bgzip does: blocks that tell their size, an empty one at the end."""
    import zlib

    blocks = []
    raw = content.encode()
    for at in [*range(0, len(raw), 500), len(raw)]:
        piece = raw[at : at + 500] if at < len(raw) else b""
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = deflate.compress(piece) + deflate.flush()
        head = bytes.fromhex("1f8b08040000000000ff060042430200") + (len(body) + 25).to_bytes(2, "little")
        blocks.append(
            head + body + zlib.crc32(piece).to_bytes(4, "little") + len(piece).to_bytes(4, "little")
        )
    return b"".join(blocks)


def test_read_object__bgzf_without_its_end_is_cut_short():
    whole = bgzf(PLAIN)
    expected = read(PLAIN)["methylation_bins"].values
    np.testing.assert_array_equal(read(whole)["methylation_bins"].values, expected)
    lines = PLAIN.splitlines(keepends=True)
    # Cut at the end of a block that happens to end a line: only the missing end block tells.
    cut = bgzf("".join(lines[:9]))[:-28]
    assert f"ends at byte {len(cut)} without its end" in str(refusal(cut))


@st.composite
def damaged(draw, content: bytes) -> bytes:
    raw = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        raw[draw(st.integers(0, len(raw) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(raw[: draw(st.integers(0, len(raw)) | st.just(len(raw)))])


def assert_sound_or_refused(raw: bytes, **options) -> dict | None:
    try:
        found = read(raw, **options)
    except InputError as refused:
        said = str(refused)
    else:
        said = None
    if said is not None:
        assert said.startswith("s1.bed: ")
        return None
    beta, calls = (block.values for block in found.values())
    assert (calls >= 0).all()
    assert ((beta >= 0) & (beta <= 1)).sum() == (calls > 0).sum() == (~np.isnan(beta)).sum()
    return found


def plain_count(raw: bytes) -> tuple[int, int] | None:
    """Sum methylated calls and calls of a bedMethyl in the plainest way; None where it is not plainly one."""
    meth = calls = 0
    try:
        for line in raw.decode("ascii").split("\n")[:-1]:
            fields = line.rstrip("\r").replace(" ", "\t").split("\t")
            if line and not line.startswith("#") and re.fullmatch(r"m(,.*)?", fields[3], re.DOTALL):
                meth += int(fields[11])
                calls += sum(map(int, fields[11:14]))
    except (ValueError, IndexError):
        return None
    return meth, calls


@settings(deadline=None, max_examples=300)
@given(damaged(PLAIN.encode()))
def test_read_object__damaged_text_is_read_as_it_stands_or_refused(raw):
    found = assert_sound_or_refused(raw)
    expected = plain_count(raw)
    if found is not None and expected is not None:
        qc = found["methylation_bins"].qc
        if qc["n_sites_elsewhere"] == 0:
            assert qc["n_calls"] == expected[1]
            assert qc["global_beta"] == pytest.approx(expected[0] / expected[1])


@settings(deadline=None, max_examples=150)
@given(damaged(gzipped(PLAIN, 3)) | damaged(bgzf(PLAIN)))
def test_read_object__damaged_gzip_is_read_right_or_refused(raw):
    found = assert_sound_or_refused(raw)
    if found is not None and len(raw) > 500:
        qc = found["methylation_bins"].qc
        whole = read(PLAIN)["methylation_bins"].qc
        # gzip members are whole files: only a cut right between two of them, at a line's end, cannot be seen.
        assert qc == whole or len(raw) < len(gzipped(PLAIN, 3))


@settings(deadline=None, max_examples=150)
@given(
    damaged(COVERAGE.encode())
    | damaged(encode(TABLE).encode())
    | st.binary(max_size=300)
    | st.text(alphabet="chr1 \t\n\r0.#m+-,\0é", max_size=120).map(str.encode)
)
def test_read_object__damaged_coverage_and_random_bytes_are_sound_or_refused(raw):
    for coordinates in ("auto", "zero_based"):
        assert_sound_or_refused(raw, coordinates=coordinates)


@settings(deadline=None, max_examples=200)
@given(st.floats(0, 100, allow_subnormal=False) | st.integers(0, 100))
def test_scan_rows__decimals_are_those_of_python(value):
    for text in (repr(value), f"{value:.2f}", f"{value:e}"):
        row = f"chr1\t1\t1\t{text}\t0\t0\n".encode()
        (found,) = methylation_rows.scan_rows(row, methylation_rows.BISMARK, b"m")
        if "e-" in text and int(text.split("e-")[1]) > 300:
            assert found.status == methylation_rows.WRONG_PERCENT
            continue
        assert found.percent[0] == pytest.approx(float(text), rel=1e-13, abs=1e-12)
