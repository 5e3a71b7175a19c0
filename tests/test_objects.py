"""One object read forward once: ranges, hashes, seeks and what may go wrong on the way."""

import hashlib
import io
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoarena import objects, store
from oncoarena.errors import BadObject, InputError
from oncoarena.objects import ObjectStream

CONTENT = os.urandom(1000)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("objects") / "object.bin"
    path.write_bytes(CONTENT)
    return path


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


@given(
    reads=st.lists(st.tuples(st.none() | st.integers(0, 1100), st.integers(0, 300)), max_size=12),
    chunk_bytes=st.integers(1, 1200),
)
@settings(deadline=None, max_examples=60)
def test_object_stream__reads_and_seeks_as_an_ordinary_file(path, reads, chunk_bytes):
    with ObjectStream(str(path), chunk_bytes=chunk_bytes) as stream, open(path, "rb") as plain:
        buffered = io.BufferedReader(stream, 64)
        for seek, length in reads:
            if seek is not None:
                assert buffered.seek(seek) == plain.seek(seek)
            assert buffered.read(length) == plain.read(length)
        assert stream.finish() == sha256(CONTENT)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 5000])
def test_object_stream__read_forward_each_byte_is_fetched_once_and_hashed(path, chunk_bytes):
    with ObjectStream(str(path), chunk_bytes=chunk_bytes) as stream:
        assert io.BufferedReader(stream, 16).read() == CONTENT
        assert stream.finish() == sha256(CONTENT)
        assert stream.n_fetched == len(CONTENT)


def requests_of(stream, monkeypatch):
    """List the ranges that a stream asks for from now on."""
    asked = []
    read_file = objects._read_file
    monkeypatch.setattr(
        objects,
        "_read_file",
        lambda file, start, stop: asked.append((start, stop)) or read_file(file, start, stop),
    )
    return asked


def test_object_stream__read_forward_every_request_is_a_chunk(path, monkeypatch):
    with ObjectStream(str(path), chunk_bytes=300) as stream:
        asked = requests_of(stream, monkeypatch)
        # As BAM is read: a look at the start, then forward.
        stream.read(4)
        stream.seek(0)
        assert io.BufferedReader(stream, 64).read() == CONTENT
        stream.finish()
        assert asked == [(0, 300), (300, 600), (600, 900), (900, 1000)]


def test_object_stream__after_a_jump_requests_are_short_and_grow_while_reading_goes_on(path, monkeypatch):
    monkeypatch.setattr(objects, "JUMP_BYTES", 20)
    with ObjectStream(str(path), chunk_bytes=100) as stream:
        asked = requests_of(stream, monkeypatch)
        stream.read(1)
        stream.seek(990)
        stream.read(5)
        stream.seek(500)
        assert stream.read(50) == CONTENT[500:550]
        for start in range(550, 730, 10):
            assert stream.read(10) == CONTENT[start : start + 10]
        stream.seek(300)
        assert stream.read(5) == CONTENT[300:305]
    # Those of (0, 100) and of the growing ones that are as long as a chunk are followed by one ahead, which may be
    # cancelled before it begins.
    sure = [(0, 100), (990, 1000), (500, 550), (550, 650), (650, 750), (300, 320)]
    assert [one for one in asked if one in sure] == sure
    assert set(asked) - set(sure) <= {(100, 200), (750, 850)}


def test_object_stream__digest_after_jumps_goes_on_by_whole_chunks(path, monkeypatch):
    monkeypatch.setattr(objects, "JUMP_BYTES", 20)
    with ObjectStream(str(path), chunk_bytes=100) as stream:
        stream.seek(700)
        stream.read(1)
        assert stream.n_fetched == 20
        assert stream.finish() == sha256(CONTENT)
        assert stream.n_fetched == 20 + len(CONTENT)


def test_object_stream__digest_is_of_the_whole_even_where_the_reader_stopped_early(path):
    with ObjectStream(str(path), chunk_bytes=100) as stream:
        stream.read(150)
        assert stream.finish() == sha256(CONTENT)


def test_object_stream__ranges_are_hashed_apart_from_the_header_and_the_overlap(path, monkeypatch):
    monkeypatch.setattr(objects, "HEADER_BYTES", 20)
    monkeypatch.setattr(objects, "OVERLAP_BYTES", 10)
    with ObjectStream(str(path), first=400, end=700, chunk_bytes=64) as stream:
        assert stream.read(30)[:20] == CONTENT[:20]
        stream.seek(400)
        assert io.BufferedReader(stream).read() == CONTENT[400:710]
        assert stream.finish() == sha256(CONTENT[400:700])


def test_object_stream__streams_read_in_turn_do_not_share_what_they_read(tmp_path):
    # The buffers of one are used again by the others, and by those that come later.
    contents = [os.urandom(100_000 + 7 * number) for number in range(6)]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    for some in ((0, 1, 2), (3, 4, 5), (2, 3, 0)):
        streams = [ObjectStream(str(tmp_path / str(number)), chunk_bytes=4096) for number in some]
        found = [b"" for _ in some]
        for step in range(60):
            for place, stream in enumerate(streams):
                found[place] += stream.read(1 + 701 * (step + place) % 3001)
        for place, (stream, number) in enumerate(zip(streams, some, strict=True)):
            found[place] += stream.read()
            assert found[place] == contents[number]
            assert stream.finish() == sha256(contents[number])
            stream.close()


def test_object_stream__closed_before_what_it_asked_for_has_come_lets_others_read(tmp_path):
    (tmp_path / "long").write_bytes(CONTENT * 50)
    for _ in range(20):
        with ObjectStream(str(tmp_path / "long"), chunk_bytes=1000) as stream:
            assert stream.read(10) == CONTENT[:10]
    with ObjectStream(str(tmp_path / "long"), chunk_bytes=1000) as stream:
        assert io.BufferedReader(stream).read() == CONTENT * 50


def test_open_ahead__object_is_fetched_before_it_is_asked_for_and_once(path):
    with store.open_object(str(path), opened=objects.open_ahead(str(path))) as (stream, raw):
        end = time.monotonic() + 10
        while not raw.n_fetched and time.monotonic() < end:
            time.sleep(0.001)
        assert raw.n_fetched == len(CONTENT)
        assert stream.read() == CONTENT
        assert raw.finish() == sha256(CONTENT)
        assert raw.n_fetched == len(CONTENT)


def test_open_ahead__object_that_is_replaced_before_its_turn_is_refused(tmp_path):
    path = tmp_path / "growing.bin"
    path.write_bytes(CONTENT)
    opened = objects.open_ahead(str(path))
    path.write_bytes(CONTENT + b"more")
    with store.open_object(str(path), opened=opened) as (stream, raw):
        stream.read()
        with pytest.raises(BadObject, match="was changed while it was read"):
            raw.finish()


def test_object_stream__object_replaced_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "growing.bin"
    path.write_bytes(b"x" * 100)
    with store.open_object(str(path)) as (stream, raw):
        stream.read(10)
        path.write_bytes(b"y" * 101)
        with pytest.raises(BadObject, match="was changed while it was read"):
            raw.finish()


def test_object_stream__object_cut_short_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "shrinking.bin"
    path.write_bytes(b"x" * 100)
    with ObjectStream(str(path), chunk_bytes=10) as stream:
        stream.read(10)
        os.truncate(path, 15)
        with pytest.raises(BadObject, match="bytes came where 10 were asked for"):
            io.BufferedReader(stream, 16).read()


def test_object_stream__what_is_no_object_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        ObjectStream(str(tmp_path / "none"))
    with pytest.raises(InputError, match="is a directory"):
        ObjectStream(str(tmp_path))


def test_object_stream__position_before_the_start_is_refused(path):
    with ObjectStream(str(path)) as stream, pytest.raises(OSError, match="before the start"):
        stream.seek(-1)


def test_object_stream__empty_object_is_empty(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    with ObjectStream(str(tmp_path / "empty")) as stream:
        assert stream.read() == b""
        assert stream.finish() == sha256(b"")
