"""Objects read from a real S3 server: each byte once, cuts mended, the same features as from disk."""

import fsspec
import numpy as np
import pandas as pd
import pytest

from object_store import CountingProxy, s3_environment, s3_server
from oncoarena import objects, store
from oncoarena.errors import BadObject, InputError
from oncoarena.extraction import extract_shard
from oncoarena.objects import ObjectStream
from oncoarena.simulation import simulate
from oncoarena.study import AssayPlan, assay_module


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("weed")) as port:
        proxy = CountingProxy(port)
        try:
            with s3_environment(proxy.port):
                yield proxy
        finally:
            proxy.close()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, proxy):
    """Two simulated BAM files with their indexes, on disk and in the bucket."""
    folder = tmp_path_factory.mktemp("cohort")
    simulate(folder, {"kind": "cfdna", "n_samples": 8, "n_reads": 150_000, "seed": 3})
    samples = pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str).iloc[:2]
    on_s3 = samples.copy()
    for row, path in enumerate(samples["alignments"]):
        uri = f"s3://genomics/raw/{row}.bam"
        filesystem, remote = fsspec.core.url_to_fs(uri)
        filesystem.put_file(path, remote)
        filesystem.put_file(f"{path}.bai", f"{remote}.bai")
        on_s3.iloc[row, on_s3.columns.get_loc("alignments")] = uri
    return samples, on_s3


ANSWER_BYTES = 4 << 10
"""A part's share of what is no byte of an object, headers of answers and listings: 1.2 to 1.9 kB were measured."""

OF_A_CUT_BYTES = 2 * objects.HEADER_BYTES + objects.OVERLAP_BYTES
"""What is fetched twice where an object is cut: the header again, for which the reader of BAM asks by two requests, and
the block that ends after the cut."""


def test_part_mb__a_part_of_the_default_size_fetches_less_than_a_fiftieth_more():
    part_bytes = assay_module("alignments").Options().part_mb * 1_000_000
    assert part_bytes == 256_000_000
    assert (part_bytes + OF_A_CUT_BYTES + ANSWER_BYTES) / part_bytes < 1.02


def number_of_parts(path, options):
    n_bytes = store.sizes([path])[path]
    if n_bytes <= options.part_mb * 1_000_000:
        return 1
    with open(f"{path}.bai", "rb") as index:
        return len(assay_module("alignments").plan_parts(index, n_bytes, path, options))


def plan_of(**options):
    return AssayPlan("alignments", assay_module("alignments").Options(**options), column="alignments")


def blocks_of(receipt):
    return {
        name: store.open_block(store.read_json(uri)).values.copy() for name, uri in receipt["blocks"].items()
    }


@pytest.mark.parametrize("part_mb", [256, 1])
def test_extract_shard__each_byte_of_an_object_on_s3_is_read_once(tmp_path, proxy, cohort, part_mb):
    samples, on_s3 = cohort
    plan = plan_of(part_mb=part_mb)
    size = sum(store.sizes(on_s3["alignments"]).values())
    n_parts = sum(map(number_of_parts, samples["alignments"], [plan.options] * len(samples)))
    # Only what is longer than a part is cut, by its index.
    indexes = sum(store.sizes([f"{uri}.bai" for uri in on_s3["alignments"]]).values()) if part_mb == 1 else 0
    before = proxy.n_bytes
    remote = extract_shard(plan, on_s3, str(tmp_path / "s3"))
    fetched = proxy.n_bytes - before
    n_cuts = n_parts - len(samples)
    assert size <= fetched <= size + indexes + n_cuts * OF_A_CUT_BYTES + n_parts * ANSWER_BYTES
    local = extract_shard(plan_of(), samples, str(tmp_path / "disk"))
    for name, values in blocks_of(local).items():
        np.testing.assert_array_equal(blocks_of(remote)[name], values)


def test_extract_shard__cut_in_mid_object_is_mended_and_gives_the_same_block(
    tmp_path, proxy, cohort, monkeypatch
):
    monkeypatch.setattr(objects, "FIRST_PAUSE_S", 0.01)
    samples, on_s3 = cohort
    size = min(store.sizes(on_s3["alignments"]).values())
    cuts = proxy.n_cuts
    proxy.cut(size // 2, size // 3, size // 3)
    remote = extract_shard(plan_of(), on_s3, str(tmp_path / "s3"))
    assert proxy.n_cuts == cuts + 3
    local = extract_shard(plan_of(), samples, str(tmp_path / "disk"))
    for name, values in blocks_of(local).items():
        np.testing.assert_array_equal(blocks_of(remote)[name], values)
    digests = [
        store.block_inputs(store.read_json(r["blocks"]["coverage"]))["digest"].tolist()
        for r in (remote, local)
    ]
    assert digests[0] == digests[1]


def test_object_stream__store_that_stops_answering_is_a_bad_object(proxy, cohort, monkeypatch):
    monkeypatch.setattr(objects, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(objects, "ATTEMPTS", 2)
    with ObjectStream("s3://genomics/raw/0.bam") as stream:
        monkeypatch.setattr(stream, "_path", "no-such-bucket/0.bam")
        with pytest.raises(
            BadObject, match=r"s3://genomics/raw/0.bam: (was removed|the bytes from 0 could not)"
        ):
            stream.read(100)


def test_object_facts__absent_object_is_one_clear_line(proxy):
    with pytest.raises(InputError, match=r"s3://genomics/raw/none.bam: there is no such file"):
        objects.object_facts("s3://genomics/raw/none.bam")
