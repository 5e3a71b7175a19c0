"""The walk over a BAM file counts what an independent loop over pysam counts, whole and in parts."""

import io
import itertools
import os
import struct
import threading

import numpy as np
import pysam
import pytest

from bam_files import (
    END_MARKER,
    REFERENCES,
    TO_LAYOUT,
    as_arrays,
    assert_same,
    bgzf,
    inflate,
    layout,
    named_counts,
    plain_header,
    pysam_counts,
    random_read,
    random_reads,
    sam_header,
    tally,
    write_bam,
)
from oncoarena.errors import BadObject
from oncoarena.kernels import bam_walk, bgzf_stream
from oncoarena.kernels import bgzf as bgzf_module
from oncoarena.kernels.bam_index import Part, parts_from_index, whole_file
from oncoarena.kernels.bam_walk import read_header, walk_bam
from oncoarena.kernels.fragment_tally import FragmentFilters, empty_tally, merge, tally_records


@pytest.fixture(scope="module")
def bam(tmp_path_factory):
    """A file of some blocks and two thousand reads of every kind, with a BAI index."""
    return write_bam(tmp_path_factory.mktemp("bam") / "reads.bam", random_reads(0), index="bai")


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "filters",
    [
        FragmentFilters(),
        FragmentFilters(required_flags=1, excluded_flags=0, min_mapq=0, max_fragment_bp=5000),
        FragmentFilters(min_mapq=60, min_fragment_bp=120, max_fragment_bp=180),
    ],
)
def test_walk_bam__counts_as_pysam_does(tmp_path, seed, filters):
    path = write_bam(tmp_path / "x.bam", random_reads(seed))
    found = tally(path.read_bytes(), filters=filters)
    expected = pysam_counts(path, filters)
    for name, counts in named_counts(found).items():
        assert counts == expected[name], name
    assert min(found.counts["n_fragments"], found.motifs.sum(), found.bases.sum()) > 50
    reference = empty_tally(layout(), filters)
    tally_records(reference, layout(), filters, as_arrays(path), TO_LAYOUT)
    assert_same(found, reference)


def test_walk_bam__every_fate_of_a_fragment_occurs_in_these_files(bam):
    counts = tally(bam.read_bytes(), filters=FragmentFilters(excluded_flags=0)).counts
    assert [name for name, n in counts.items() if n == 0] == []


@pytest.mark.parametrize("sizes", [1, 7, 333, 65_280])
def test_walk_bam__records_may_span_blocks_of_any_size(bam, sizes):
    plain = inflate(bam.read_bytes())
    plain = plain[:40_000] if sizes == 1 else plain
    complete = len(plain_header(REFERENCES, sam_text(plain)))
    while complete + 4 <= len(plain) and complete + 4 + length_at(plain, complete) <= len(plain):
        complete += 4 + length_at(plain, complete)
    plain = plain[:complete]
    assert_same(tally(bgzf(plain, sizes)), tally(bgzf(plain, 50_000)))


def sam_text(plain: bytes) -> bytes:
    return plain[8 : 8 + length_at(plain, 4)]


def length_at(plain: bytes, start: int) -> int:
    return struct.unpack_from("<i", plain, start)[0]


def test_walk_bam__empty_blocks_may_stand_anywhere(bam):
    plain = inflate(bam.read_bytes())
    pieces = [bgzf(plain[start : start + 999], marker=END_MARKER * 2) for start in range(0, len(plain), 999)]
    assert_same(tally(b"".join([END_MARKER, *pieces])), tally(bam.read_bytes()))


def test_walk_bam__small_windows_and_reads_change_nothing(bam, monkeypatch):
    expected = tally(bam.read_bytes())
    for module, name in (
        (bgzf_stream, "WINDOW_BYTES"),
        (bgzf_stream, "READ_BYTES"),
        (bam_walk, "HEADER_READ_BYTES"),
    ):
        monkeypatch.setattr(module, name, 1)
    assert_same(tally(bam.read_bytes()), expected)


def test_walk_bam__without_libdeflate_zlib_gives_the_same(bam, monkeypatch):
    expected = tally(bam.read_bytes())
    assert bgzf_module.Inflater().engine == "libdeflate"
    monkeypatch.setattr(bgzf_module, "_libdeflate", lambda: None)
    assert bgzf_module.Inflater().engine == "zlib"
    assert_same(tally(bam.read_bytes()), expected)


@pytest.mark.parametrize("index", ["bai", "csi"])
@pytest.mark.parametrize("part_bytes", [1, 5_000, 30_000, 70_000, 1 << 28])
def test_parts_from_index__parts_add_up_to_the_whole(tmp_path, index, part_bytes):
    path = write_bam(tmp_path / "x.bam", random_reads(4), index=index)
    content = path.read_bytes()
    with open(f"{path}.{index}", "rb") as stream:
        parts = parts_from_index(stream, len(content), "x.bam", part_bytes)
    assert len(parts) > 1 or part_bytes > len(content) / 2
    tallies = [tally(content, part) for part in parts]
    joined = tallies[0]
    for part in tallies[1:]:
        joined = merge(joined, part)
    assert_same(joined, tally(content))
    assert tallies[-1].counts["n_unplaced"] == 12
    assert all(part.counts["n_records"] > 0 for part in tallies[1:])
    for first, second in itertools.pairwise(parts):
        assert (first.end_byte, first.end_in_block) == (second.first_byte, second.first_in_block)
    assert (parts[0].first_byte, parts[-1].end_byte) == (0, len(content))
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]


class Counting(io.BytesIO):
    """A stream that notes what was read of it, and which seeks only if it may."""

    n_read, may_seek = 0, True

    def readinto(self, buffer):
        n = super().readinto(buffer)
        self.n_read += n
        return n

    def seekable(self):
        return self.may_seek

    def seek(self, *arguments):
        assert self.may_seek
        return super().seek(*arguments)


def test_walk_bam__a_whole_file_is_read_once_and_forward(bam):
    stream = Counting(bam.read_bytes())
    stream.may_seek = False
    header = read_header(stream, "x.bam")
    found = walk_bam(stream, "x.bam", header, layout(), TO_LAYOUT, FragmentFilters())
    assert stream.n_read == len(bam.read_bytes())
    assert_same(found, tally(bam.read_bytes()))


def test_walk_bam__a_part_reads_its_own_bytes_and_one_block_more(bam):
    content = bam.read_bytes()
    stream = Counting(content)
    header = read_header(stream, "x.bam")
    with open(f"{bam}.bai", "rb") as index:
        parts = parts_from_index(index, len(content), "x.bam", len(content) // 4)
    for part in parts:
        stream.n_read = 0
        walk_bam(stream, "x.bam", header, layout(), TO_LAYOUT, FragmentFilters(), part)
        assert stream.n_read <= part.end_byte - part.first_byte + 65_536


def test_walk_bam__reads_a_pipe(bam):
    reading, writing = os.pipe()

    def feed():
        with open(writing, "wb") as pipe:
            pipe.write(bam.read_bytes())

    feeder = threading.Thread(target=feed)
    feeder.start()
    with open(reading, "rb") as stream:
        header = read_header(stream, "pipe")
        found = walk_bam(stream, "pipe", header, layout(), TO_LAYOUT, FragmentFilters())
    feeder.join()
    assert_same(found, tally(bam.read_bytes()))


def test_walk_bam__one_header_serves_several_streams(bam):
    with open(bam, "rb") as stream:
        header = read_header(stream, "x.bam")
    for _ in range(2):
        with open(bam, "rb") as stream:
            found = walk_bam(stream, "x.bam", header, layout(), TO_LAYOUT, FragmentFilters(), whole_file(1))
        assert_same(found, tally(bam.read_bytes()))


def test_walk_bam__very_long_records_and_cigars(tmp_path):
    rng, header = np.random.default_rng(0), sam_header()
    reads = [random_read(rng, header, 0, position) for position in range(30_000, 30_500)]
    long = random_read(rng, header, 0, 30_250)
    long.flag, long.mapping_quality, long.template_length = 99, 60, 170
    long.next_reference_id, long.next_reference_start = 0, 30_300
    long.query_sequence = "ACGT" * 300_001
    long.cigarstring = "1M1I" * 70_000 + "1060004M"
    many = [long, *reads[250:]]
    path = write_bam(tmp_path / "x.bam", [*reads[:250], *many])
    found, expected = tally(path.read_bytes()), pysam_counts(path, FragmentFilters())
    assert {name: counts for name, counts in named_counts(found).items() if counts != expected[name]} == {}
    assert found.bases.sum() > 1_200_000


def test_read_header__gives_names_sizes_and_text(bam):
    with open(bam, "rb") as stream, pysam.AlignmentFile(str(bam)) as file:
        header = read_header(stream, "x.bam")
        assert header.text == file.text
        assert header.lengths == dict(zip(file.references, file.lengths, strict=True)) == REFERENCES


def test_read_header__a_header_of_many_blocks():
    references = {f"contig_{number}": number for number in range(30_000)}
    text = bytes(np.random.default_rng(0).integers(32, 127, 700_000, dtype=np.uint8))
    content = bgzf(plain_header(references, text))
    stream = io.BytesIO(content)
    header = read_header(stream, "x.bam")
    assert (header.lengths, header.text) == (references, text.decode())
    to_layout = np.full(len(references), -1)
    found = walk_bam(stream, "x.bam", header, layout(), to_layout, FragmentFilters())
    assert found.counters.tolist() == [0] * len(found.counters)
    assert found.first_place == -1


def test_walk_bam__only_reads_without_a_place():
    read = struct.pack("<iiBBHHHiiii", -1, -1, 2, 0, 4680, 0, 77, 0, -1, -1, 0) + b"u\0"
    content = bgzf(plain_header({}) + (struct.pack("<i", len(read)) + read) * 3)
    stream = io.BytesIO(content)
    found = walk_bam(stream, "x", read_header(stream, "x"), layout(), np.empty(0), FragmentFilters())
    assert {name: n for name, n in found.counts.items() if n} == {"n_records": 3, "n_unplaced": 3}


def test_walk_bam__refuses_a_file_that_is_not_sorted(tmp_path):
    reads = random_reads(5, (40, 0, 40))
    first, second = ([read for read in reads if read.reference_id == number] for number in (0, 2))
    message = rf"record {len(second) + 1} is at chr1:\d+, behind one at chr2:\d+; sort"
    with pytest.raises(BadObject, match=message) as error:
        tally(write_bam(tmp_path / "x.bam", [*second, *first]).read_bytes())
    assert error.value.offset == 0
    with pytest.raises(BadObject, match="behind one at unplaced"):
        tally(write_bam(tmp_path / "y.bam", [*reads[-1:], *first]).read_bytes())


def test_walk_bam__refuses_a_map_of_references_that_does_not_fit(bam):
    with open(bam, "rb") as stream:
        header = read_header(stream, "x.bam")
        with pytest.raises(ValueError, match="2 entries for the 3 references"):
            walk_bam(stream, "x.bam", header, layout(), TO_LAYOUT[:2], FragmentFilters())
        with pytest.raises(ValueError, match="beyond the 2 chromosomes"):
            walk_bam(stream, "x.bam", header, layout(), np.array([0, 1, 2]), FragmentFilters())


@pytest.mark.parametrize("in_block", [1, 17, 60_000])
def test_walk_bam__refuses_parts_that_do_not_end_at_a_record(bam, in_block):
    content = bam.read_bytes()
    with open(f"{bam}.bai", "rb") as index:
        cut = parts_from_index(index, len(content), "x.bam", len(content) // 2)[0]
    for part in (
        Part(0, cut.end_byte, end_in_block=(cut.end_in_block + in_block) % 65_536),
        Part(0, cut.end_byte + in_block, end_in_block=3),
        Part(cut.end_byte, len(content), first_in_block=cut.end_in_block + in_block, is_last=True),
    ):
        with pytest.raises(BadObject, match="index"):
            tally(content, part)
