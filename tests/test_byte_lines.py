"""Lines of text objects: what is whole without an end of its last line, and what was cut."""

import gzip
import io
from itertools import pairwise

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methylation_files import bismark, sites
from methylation_files import read as read_methylation
from oncoarena.assays.byte_lines import line_chunks
from oncoarena.errors import BadObject
from segment_files import draw, seg
from segment_files import read as read_segments

TEXT = "".join(f"chr1\t{number}\t{'x' * (number % 50)}\n" for number in range(200)).encode()
UNENDED = TEXT[:-1]


def lines_of(raw: bytes, chunk_bytes: int = 1 << 20, **keys) -> bytes:
    chunks = list(line_chunks(io.BytesIO(raw), "s1", chunk_bytes, **keys))
    assert all(chunk.text.endswith(b"\n") for chunk in chunks)
    for before, after in pairwise(chunks):
        assert after.number == before.number + before.text.count(b"\n")
    return b"".join(chunk.text for chunk in chunks)


def bgzf(raw: bytes, path) -> bytes:
    with pysam.BGZFile(str(path), "wb") as file:
        file.write(raw)
    return path.read_bytes()


@pytest.mark.parametrize("chunk_bytes", [50, 1 << 20])
def test_line_chunks__last_line_of_whole_gzip_needs_no_end(tmp_path, chunk_bytes):
    for raw in (gzip.compress(UNENDED), gzip.compress(UNENDED) + bytes(64), bgzf(UNENDED, tmp_path / "a.gz")):
        assert lines_of(raw, chunk_bytes) == TEXT
    assert lines_of(gzip.compress(b"one")) == b"one\n"


def test_line_chunks__last_line_of_plain_text_needs_its_end_unless_a_person_wrote_it():
    with pytest.raises(BadObject, match="line 200 is the last and has no line end") as refusal:
        lines_of(UNENDED)
    assert refusal.value.offset == len(UNENDED)
    assert lines_of(UNENDED, may_lack_end=True) == lines_of(TEXT, may_lack_end=True) == TEXT
    assert lines_of(UNENDED, 50, may_lack_end=True) == TEXT


def test_line_chunks__several_members_may_have_been_cut_between_two():
    members = [gzip.compress(TEXT[at : at + 1000]) for at in range(0, len(TEXT), 1000)]
    assert lines_of(b"".join(members)) == TEXT
    with pytest.raises(BadObject, match="has no line end"):
        lines_of(b"".join(members[:2]))


def test_line_chunks__bgzf_without_its_end_block_stays_refused(tmp_path):
    with pytest.raises(BadObject, match="without its end: the file was cut short"):
        lines_of(bgzf(UNENDED, tmp_path / "a.gz")[:-28])


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(gzip.compress(UNENDED, mtime=0)) - 1))
def test_line_chunks__gzip_that_was_cut_anywhere_is_refused(end):
    with pytest.raises(BadObject):
        lines_of(gzip.compress(UNENDED, mtime=0)[:end])


def test_read_object__gzip_without_a_last_line_end_gives_the_blocks_of_the_whole_file():
    for content, read in ((seg(draw(1)), read_segments), (bismark(sites(20)), read_methylation)):
        found = read(gzip.compress(content[:-1].encode()))
        for name, block in read(content).items():
            assert found[name].values.tobytes() == block.values.tobytes()
            assert found[name].qc == block.qc
