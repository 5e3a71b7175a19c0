"""Sizes of many objects from listings, on disk and on a real S3 server."""

import fsspec
import pytest

from object_store import s3_environment, s3_server
from oncoarena import listing


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("weed")) as port, s3_environment(port):
        filesystem = fsspec.filesystem("s3")
        for number in range(40):
            filesystem.pipe(f"genomics/raw/s{number:02d}.bam", b"x" * number)
            filesystem.pipe(f"genomics/raw/s{number:02d}.bam.bai", b"i")
            filesystem.pipe(f"genomics/raw/s20/deep{number}", b"deep")
        filesystem.pipe("genomics/raw/é and + %20.bam", b"odd")
        filesystem.pipe("genomics/top", b"top")
        yield "s3://genomics"


@pytest.fixture
def requests(monkeypatch):
    """Pages of three keys, and the requests that were made."""
    import s3fs

    made = []
    true_call = s3fs.S3FileSystem.call_s3

    def call(filesystem, method, **options):
        made.append(options)
        return true_call(filesystem, method, **options, MaxKeys=3)

    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", call)
    return made


def test_sizes__local_files_directories_and_what_is_not_there(tmp_path, monkeypatch):
    (tmp_path / "a.bam").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "a.bam")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    monkeypatch.chdir(tmp_path)
    uris = [f"{tmp_path}/a.bam", f"{tmp_path}/link", f"{tmp_path}/nowhere", f"{tmp_path}/no", "a.bam"]
    odd = [f"{tmp_path}/a.bam/below", f"{tmp_path}/none/x", f"file://{tmp_path}/a.bam", "x" * 300, "/no-such"]
    expected = dict.fromkeys(uris + odd) | dict.fromkeys([uris[0], uris[1], uris[4], odd[2]], 5)
    assert listing.sizes(uris + odd) == expected
    assert listing.sizes([]) == {}


def test_sizes__pages_of_a_prefix_give_every_object_and_no_other(bucket, requests):
    there = {f"{bucket}/raw/s{number:02d}.bam": number for number in range(40)}
    there |= {f"{bucket}/raw/é and + %20.bam": 3, f"{bucket}/top": 3}
    absent = [f"{bucket}/raw/s{number:02d}" for number in range(40)] + [
        f"{bucket}/none/a",
        f"{bucket}/raw/zz",
    ]
    assert listing.sizes([*absent, *reversed(there)]) == there | dict.fromkeys(absent)
    assert all(options["Prefix"] in ("raw/", "none/", "") for options in requests)


def test_sizes__never_more_requests_than_wanted_objects(bucket, requests):
    wanted = [f"{bucket}/raw/s05.bam", f"{bucket}/raw/s30.bam", f"{bucket}/raw/s31.bam.bai"]
    assert listing.sizes(wanted) == dict(zip(wanted, [5, 30, 1], strict=True))
    assert len(requests) <= 3


def test_sizes__ranges_listed_together_miss_nothing_between_them(bucket, requests, monkeypatch):
    monkeypatch.setattr(listing, "FEWEST_EACH", 4)
    wanted = {f"{bucket}/raw/s{number:02d}.bam": number for number in range(40)}
    assert listing.sizes(wanted) == wanted


def test_sizes__walks_on_where_unwanted_neighbours_fill_whole_pages(bucket, requests):
    assert listing.sizes([f"{bucket}/raw/s9", f"{bucket}/raw/s20/deep9"]) == {
        f"{bucket}/raw/s9": None,
        f"{bucket}/raw/s20/deep9": 4,
    }


def test_sizes__a_bucket_that_is_not_there_has_no_objects(bucket):
    assert listing.sizes(["s3://no-such-bucket/a"]) == {"s3://no-such-bucket/a": None}
