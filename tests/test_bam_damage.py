"""A damaged, cut or absurd BAM file or index is told, never crashes the walk and never gives other counts."""

import io
import random
import struct
import tracemalloc

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bam_files import (
    END_MARKER,
    REFERENCES,
    TO_LAYOUT,
    as_arrays,
    assert_same,
    bgzf,
    inflate,
    layout,
    plain_header,
    random_reads,
    tally,
    write_bam,
)
from oncoarena.errors import BadObject
from oncoarena.kernels import bgzf as bgzf_module
from oncoarena.kernels.bam_index import parts_from_index
from oncoarena.kernels.bam_walk import read_header
from oncoarena.kernels.fragment_tally import FragmentFilters, empty_tally, merge, tally_records

HEADER = plain_header(REFERENCES)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bytes of a file of a few blocks, with those of its BAI and its CSI index."""
    path = write_bam(tmp_path_factory.mktemp("bam") / "small.bam", random_reads(7, (40, 3, 25)))
    content = bgzf(inflate(path.read_bytes()), 1500)
    path.write_bytes(content)
    pysam.index(str(path))
    pysam.index("-c", str(path))
    return content, path.with_suffix(".bam.bai").read_bytes(), path.with_suffix(".bam.csi").read_bytes()


@pytest.mark.parametrize("engine", ["libdeflate", "zlib"])
def test_cut_at_any_byte__is_told(small, engine, monkeypatch):
    if engine == "zlib":
        monkeypatch.setattr(bgzf_module, "_libdeflate", lambda: None)
    content = small[0]
    assert tally(content).counts["n_fragments"] > 10
    for n_bytes in range(len(content)):
        with pytest.raises(BadObject, match=r"cut short|ends inside its header") as error:
            tally(content[:n_bytes])
        assert 0 <= error.value.offset <= n_bytes


@pytest.mark.parametrize("engine", ["libdeflate", "zlib"])
def test_flipped_bit_of_any_byte__is_told_or_changes_nothing(small, engine, monkeypatch):
    if engine == "zlib":
        monkeypatch.setattr(bgzf_module, "_libdeflate", lambda: None)
    content, draw = small[0], random.Random(0)
    expected, offsets = tally(content), []
    n_unnoticed = 0
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << draw.randrange(8)
        try:
            found = tally(bytes(damaged))
        except BadObject as error:
            offsets.append(error.offset)
            continue
        assert_same(found, expected)
        n_unnoticed += 1
    assert 0 <= min(offsets) <= max(offsets) <= len(content)
    # Nothing covers the time, the flags of the compressor and the operating system (6 bytes a block), and the bits that
    # fill up the last compressed byte.
    assert n_unnoticed <= 7 * content.count(b"BC\x02\x00")


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_bytes_changed_before_compression__are_told_or_counted_as_pysam_reads_them(data, tmp_path_factory):
    plain = bytearray(HEADER + b"".join(record(position=position) for position in range(100_000, 100_012)))
    for _ in range(data.draw(st.integers(1, 3))):
        plain[data.draw(st.integers(len(HEADER), len(plain) - 1))] = data.draw(st.integers(0, 255))
    content = bgzf(bytes(plain), 300)
    try:
        found = tally(content)
    except BadObject:
        return
    path = tmp_path_factory.mktemp("damaged") / "x.bam"
    path.write_bytes(content)
    try:
        arrays = as_arrays(path)
    except (OSError, ValueError, KeyError):
        return  # htslib refuses more: it reads the tags, too
    expected = empty_tally(layout(), FragmentFilters())
    tally_records(expected, layout(), FragmentFilters(), arrays, TO_LAYOUT)
    assert_same(found, expected)


def record(
    *,
    n_bytes: int | None = None,
    reference: int = 0,
    position: int = 50_000,
    n_name: int = 2,
    n_cigar: int = 1,
    flag: int = 99,
    n_bases: int = 5,
    next_reference: int = 0,
    next_position: int = 50_100,
) -> bytes:
    """Return a record of five bases whose fields may be absurd."""
    fixed = (
        reference,
        position,
        n_name,
        60,
        4681,
        n_cigar,
        flag,
        n_bases,
        next_reference,
        next_position,
        150,
    )
    body = (
        struct.pack("<iiBBHHHiiii", *fixed)
        + b"r\0"
        + struct.pack("<I", 5 << 4)
        + b"\x12\x48\x10"
        + b"\x20" * 5
    )
    return struct.pack("<i", len(body) if n_bytes is None else n_bytes) + body


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_bytes": 31}, "says that it has 31 bytes"),
        ({"n_bytes": -1}, "says that it has -1 bytes"),
        ({"n_bytes": -(2**31)}, "says that it has -2147483648 bytes"),
        ({"n_bytes": (64 << 20) + 1}, "says that it has 67108865 bytes"),
        ({"n_bytes": 2**31 - 1}, "says that it has 2147483647 bytes"),
        ({"n_bytes": 45}, "has 45 bytes, too few"),
        ({"n_name": 0}, "has 46 bytes, too few"),
        ({"n_name": 255}, "has 46 bytes, too few"),
        ({"n_cigar": 65_535}, "has 46 bytes, too few"),
        ({"n_bases": -1}, "too few for its name, CIGAR and -1 bases"),
        ({"n_bases": 6}, "too few for its name, CIGAR and 6 bases"),
        ({"n_bases": 2**31 - 1}, "too few for its name, CIGAR and 2147483647 bases"),
        ({"reference": 3}, "names the references 3 and 0, but the header has 3"),
        ({"reference": -2}, "names the references -2 and 0"),
        ({"next_reference": 2**31 - 1}, "names the references 0 and 2147483647"),
        ({"position": -2}, "names the positions -2 and 50100"),
        ({"next_position": -(2**31)}, "names the positions 50000 and -2147483648"),
        ({"n_bytes": 60 << 20}, "ends inside a record"),
    ],
)
def test_absurd_record__is_told_with_its_byte_and_number(fields, message):
    before = HEADER + record() * 1300
    content = bgzf(before + record(**fields), 65_000)
    tracemalloc.start()
    with pytest.raises(BadObject, match=message) as error:
        tally(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    assert error.value.offset == len(bgzf(before[:65_000], 65_000, marker=b""))
    assert "record 1301" in str(error.value) or "ends inside" in message


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (b"", "ends inside its header, in its first field"),
        (b"BAM", "ends inside its header, in its first field"),
        (b"CRAM" + HEADER, "no BAM file"),
        (b"BAM\1" + struct.pack("<i", -1), "its text has -1 bytes"),
        (b"BAM\1" + struct.pack("<i", 2**31 - 1), "its text has 2147483647 bytes"),
        (b"BAM\1" + struct.pack("<i", 60 << 20), "ends inside its header, in its text"),
        (b"BAM\1" + struct.pack("<ii", 0, -1), "there are -1 references"),
        (b"BAM\1" + struct.pack("<ii", 0, 2**31 - 1), "there are 2147483647 references"),
        (b"BAM\1" + struct.pack("<ii", 0, 7_000_000), "length of the name of reference 1"),
        (b"BAM\1" + struct.pack("<iii", 0, 1, 0) + bytes(4), "name b''"),
        (b"BAM\1" + struct.pack("<iii", 0, 1, -7), "name of reference 1 has -7 bytes"),
        (b"BAM\1" + struct.pack("<iii", 0, 1, 3) + b"abc" + bytes(4), "name b'abc'"),
        (b"BAM\1" + struct.pack("<iii", 0, 1, 3) + b"\0b\0" + bytes(4), r"name b'\\x00b\\x00'"),
        (b"BAM\1" + struct.pack("<iii", 0, 1, 3) + b"ab\0" + b"\xff" * 4, "the size -1"),
        (b"BAM\1" + struct.pack("<ii", 0, 2) + HEADER[-13:] * 2, "names the reference 'chr2' twice"),
    ],
)
def test_absurd_header__is_told(plain, message):
    with pytest.raises(BadObject, match=message) as error:
        read_header(io.BytesIO(bgzf(plain)), "x.bam")
    assert str(error.value).startswith("x.bam: ")
    assert error.value.offset is not None


def test_wrong_checksum_and_size__are_told_with_the_byte_of_the_block():
    first = bgzf(HEADER, marker=b"")
    content = bgzf(HEADER, marker=b"") + bgzf(record())
    end = len(content) - len(END_MARKER)
    for at, message in ((end - 5, "CRC32"), (end - 4, "compressed data"), (end - 2, "no valid header")):
        damaged = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        with pytest.raises(BadObject, match=f"x.bam: byte {len(first)}: .*{message}") as error:
            tally(damaged)
        assert error.value.offset == len(first)


@pytest.mark.parametrize("extra", [b"XY\x01\x00z", b"BC\x03\x00abc"])
def test_extra_fields__are_passed_over(extra):
    content = bgzf(HEADER + record(), marker=b"")
    size = int.from_bytes(content[16:18], "little") + len(extra)
    longer = content[:10] + bytes([6 + len(extra), 0]) + extra + content[12:16] + size.to_bytes(2, "little")
    assert_same(tally(longer + content[18:] + END_MARKER), tally(content + END_MARKER))
    with pytest.raises(BadObject, match="no valid header"):
        tally(longer[:10] + bytes([5 + len(extra), 0]) + longer[12:] + content[18:] + END_MARKER)


def parts_or_none(content: bytes, index: bytes):
    """Count in parts of about one block; None where the index or a part is refused."""
    try:
        parts = parts_from_index(io.BytesIO(index), len(content), "x.bam", 2000)
        joined = empty_tally(layout(), FragmentFilters())
        for part in parts:
            joined = merge(joined, tally(content, part))
    except BadObject:
        return None
    return joined


@pytest.mark.parametrize("kind", [1, 2])
def test_damaged_index__is_told_or_the_parts_add_up(small, kind):
    content, index = small[0], small[kind]
    expected, draw = tally(content), random.Random(0)
    assert_same(parts_or_none(content, index), expected)
    n_refused = 0
    for at in range(0, len(index), 1 if kind == 2 else 3):
        damaged = bytearray(index)
        damaged[at] ^= 1 << draw.randrange(8)
        for version in (bytes(damaged), index[:at]):
            found = parts_or_none(content, version)
            n_refused += found is None
            if found is not None:
                assert_same(found, expected)
    assert n_refused > 50


def test_index_of_another_file__is_told_or_the_parts_add_up(tmp_path):
    paths = [write_bam(tmp_path / f"{n}.bam", random_reads(n, (n, 0, 0)), "bai") for n in (900, 300)]
    content, other = (path.read_bytes() for path in paths)
    with pytest.raises(BadObject, match="index of another file"):
        parts_from_index(io.BytesIO((tmp_path / "900.bam.bai").read_bytes()), len(other), "x.bam")
    index = (tmp_path / "300.bam.bai").read_bytes()
    found = parts_or_none(content, index)
    assert found is None or np.array_equal(found.counters, tally(content).counters)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"", "neither BAI nor CSI: it begins with b''"),
        (b"BAI\1", "at its byte 4 it says that 4 bytes follow"),
        (b"CSI\1" + bytes(5), "at its byte 4 it says that 12 bytes follow"),
        (b"BAM\1" + bytes(50), r"neither BAI nor CSI: it begins with b'BAM\\x01'"),
        (b"BAI\1" + struct.pack("<i", -5), "-20 bytes follow"),
        (b"BAI\1" + struct.pack("<i", 2**31 - 1), "8589934588 bytes follow"),
        (b"BAI\1" + struct.pack("<iiIi", 1, 1, 0, 2**30), "bytes follow"),
        (b"CSI\1" + struct.pack("<iiii", 14, 99, 0, 0), "its depth is 99"),
        (b"\x1f\x8b\x08\x00", "is damaged"),
    ],
)
def test_absurd_index__is_told(index, message):
    with pytest.raises(BadObject, match=message):
        parts_from_index(io.BytesIO(index), 1000, "x.bam")
