"""CRAM read by ranges from its index: the same counts as read whole, and no others."""

import gzip

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_files import assert_same_blocks, fragments, header, read, records_of
from oncoarena.assays.alignments import (
    Options,
    finish_object,
    index_suffixes,
    merge_parts,
    plan_parts,
    read_part,
)
from oncoarena.assays.cram_ranges import END_MARKERS, parts_from_crai
from oncoarena.errors import BadObject

WIDE = {"coverage_bp": 5_000_000, "ratio_bp": 20_000_000}


@pytest.fixture(scope="module", params=["3.0", "2.1"])
def cram(request, tmp_path_factory):
    """A CRAM file of many containers with its index."""
    path = tmp_path_factory.mktemp("cram") / "s1.cram"
    top = header()
    options = [b"no_ref=1", b"seqs_per_slice=300", f"version={request.param}".encode()]
    with pysam.AlignmentFile(str(path), "wc", header=top, format_options=options) as file:
        for record in records_of(fragments(2500, seed=1), top, seed=2):
            file.write(record)
    pysam.index(str(path))
    return path


def parts_of(path, part_bytes):
    content = gzip.decompress(path.with_suffix(".cram.crai").read_bytes())
    return parts_from_crai(content, path.stat().st_size, "s1", part_bytes)


def tally_of(path, part, options):
    with path.open("rb") as stream:
        return read_part(stream, "s1", options, part, sample_id="s1")


@pytest.mark.parametrize("part_bytes", [1, 20_000, 60_000, 10**9])
def test_parts_from_crai__joined_are_the_whole(cram, part_bytes):
    options = Options(**WIDE)
    parts = parts_of(cram, part_bytes)
    assert (len(parts) > 1) == (part_bytes < 10**9)
    assert [part.end_byte for part in parts[:-1]] == [part.first_byte for part in parts[1:]]
    assert (parts[0].first_byte, parts[-1].end_byte, parts[-1].is_last) == (0, cram.stat().st_size, True)
    joined = tally_of(cram, parts[0], options)
    for part in parts[1:]:
        joined = merge_parts(joined, tally_of(cram, part, options))
    whole = read(cram.read_bytes(), **WIDE)
    blocks = finish_object(joined, "s1", options, sample_id="s1")
    assert_same_blocks(whole, blocks)
    assert whole["coverage"].qc == blocks["coverage"].qc


def test_plan_parts__index_of_cram_is_used(cram):
    with cram.with_suffix(".cram.crai").open("rb") as index:
        parts = plan_parts(index, cram.stat().st_size, "s1", Options(part_mb=1))
    assert len(parts) == 1
    assert index_suffixes("s3://raw/s1.CRAM") == (".crai",)
    assert index_suffixes("s1.bam") == (".bai", ".csi")


def test_read_part__range_of_a_file_that_was_cut_is_refused(cram, tmp_path):
    parts = parts_of(cram, 20_000)
    cut = tmp_path / "cut.cram"
    cut.write_bytes(cram.read_bytes()[:-20])
    with pytest.raises(BadObject, match="cut short"):
        tally_of(cut, parts[-1], Options(**WIDE))


def test_read_part__index_of_cram_beside_a_bam_is_refused(cram, tmp_path):
    top = header()
    with pysam.AlignmentFile(str(tmp_path / "s1.bam"), "wb", header=top) as file:
        for record in records_of(fragments(50, seed=1), top, seed=2):
            file.write(record)
    with pytest.raises(BadObject, match="has an index as of a CRAM file, but is a BAM"):
        tally_of(tmp_path / "s1.bam", parts_of(cram, 20_000)[1], Options(**WIDE))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0\t1\t2\t3\t4\t5\n0\t1\t2\n", "is damaged"),
        (b"0\t1\t2\t3\t4\t5\nx\n", "is damaged"),
        (b"0\t1\t2\t0\t4\t5\n", "is damaged"),
        (b"0\t1\t2\t99999999999999999999\t4\t5\n", "is damaged"),
        (b"0\t1\t2\t1000\t4\t5\n", "names byte 1000, but the file has 1000: it is the index of another file"),
    ],
)
def test_parts_from_crai__index_that_does_not_fit_is_refused(content, message):
    with pytest.raises(BadObject, match=message):
        parts_from_crai(content, 1000, "s1", 100)


@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_parts_from_crai__damaged_index_gives_gapless_parts_or_is_refused(flips):
    rows = [f"{i // 5}\t{i * 100}\t90\t{500 + 700 * i}\t30\t600\n" for i in range(40)]
    content = bytearray("".join(rows).encode())
    for at, byte in flips:
        content[at % len(content)] = byte
    try:
        parts = parts_from_crai(bytes(content), 40_000, "s1", 3_000)
    except BadObject:
        return
    assert [part.end_byte for part in parts] == [*(part.first_byte for part in parts[1:]), 40_000]
    assert parts[0].first_byte == 0
    assert all(part.first_byte < part.end_byte for part in parts)


def test_end_markers__are_what_htslib_writes(cram):
    assert cram.read_bytes().endswith(END_MARKERS[cram.read_bytes()[4]])
