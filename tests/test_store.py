"""The store: what is written appears whole, what is read is what was written."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oncoarena import store
from oncoarena.cohort import BlockSpec, feature_table
from oncoarena.errors import InputError

SPEC = BlockSpec("expression", ("sample", "gene"), "float32", "log2", "toy values", "none")


def write(uri, values, ids=None):
    ids = ids or [f"s{row}" for row in range(len(values))]
    features = feature_table([f"g{column}" for column in range(values.shape[1])])
    return store.write_block(str(uri), SPEC, ids, iter(values), features, {})


@pytest.fixture
def values():
    values = np.random.default_rng(0).normal(size=(700, 9)).astype(np.float32)
    values[3, 4] = np.nan
    return values


def test_open_block__returns_what_was_written(tmp_path, values, monkeypatch):
    monkeypatch.setattr(store, "ROWS_PER_PART", 300)
    receipt = write(tmp_path / "block", values)
    block = store.open_block(json.loads((tmp_path / "block/receipt.json").read_text()))
    np.testing.assert_array_equal(block.values, values)
    assert block.spec == SPEC
    assert block.features["id"].tolist() == [f"g{column}" for column in range(9)]
    assert [part["n_samples"] for part in receipt["parts"]] == [300, 300, 100]
    assert not block.values.flags.writeable


def test_open_block__large_block_is_a_memory_map_of_the_same_values(tmp_path, values):
    receipt = write(tmp_path / "block", values)
    block = store.open_block(receipt, tmp_path / "scratch", share_of_memory=0.0)
    assert isinstance(block.values, np.memmap)
    np.testing.assert_array_equal(block.values, values)
    assert [path.suffix for path in (tmp_path / "scratch").iterdir()] == [".npy"]


def test_write_block__other_readers_can_read_the_parts(tmp_path, values):
    receipt = write(tmp_path / "block", values)
    table = pq.read_table(receipt["parts"][0]["uri"]).to_pandas()
    np.testing.assert_array_equal(np.stack(table["values"]), values)


def test_write_block__row_groups_of_wide_rows_are_short(tmp_path, values, monkeypatch):
    monkeypatch.setattr(store, "BYTES_PER_GROUP", 100 * 9 * 4)
    receipt = write(tmp_path / "block", values)
    (part,) = receipt["parts"]
    assert pq.ParquetFile(part["uri"]).num_row_groups == 7
    np.testing.assert_array_equal(store.open_block(receipt).values, values)


def test_write_block__receipt_holds_the_digest_of_each_part(tmp_path, values, monkeypatch):
    monkeypatch.setattr(store, "ROWS_PER_PART", 300)
    for part in write(tmp_path / "block", values)["parts"]:
        assert part["digest"] == store.digest(part["uri"])


def test_write_block__same_values_give_the_same_bytes(tmp_path, values):
    first, second = write(tmp_path / "a", values), write(tmp_path / "b", values)
    assert first["digest"] == second["digest"]
    assert [p["digest"] for p in first["parts"]] == [p["digest"] for p in second["parts"]]
    changed = values.copy()
    changed[0, 0] += 1
    assert write(tmp_path / "c", changed)["digest"] != first["digest"]


def test_block_samples__equal_digests_mean_equal_features(tmp_path, values):
    values[5] = values[2]
    table = store.block_samples(write(tmp_path / "block", values))
    digests = table.set_index("sample_id")["digest"]
    assert digests["s5"] == digests["s2"]
    assert digests.nunique() == len(values) - 1


def test_open_block__truncated_part_is_refused_with_its_name(tmp_path, values):
    receipt = write(tmp_path / "block", values)
    part = tmp_path / "block/part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"part-00000.parquet: cannot be read.*delete the block's directory"):
        store.open_block(receipt)


def test_open_block__missing_part_is_refused(tmp_path, values, monkeypatch):
    monkeypatch.setattr(store, "ROWS_PER_PART", 300)
    receipt = write(tmp_path / "block", values)
    receipt["parts"].pop()
    with pytest.raises(InputError, match="its parts hold 600 samples, the receipt says 700"):
        store.open_block(receipt)


def test_write_whole__interrupted_write_leaves_the_old_file_and_no_rest(tmp_path):
    target = tmp_path / "table.json"
    store.write_json(str(target), {"old": 1})

    def fail(path):
        with open(path, "w") as stream:
            stream.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_whole(str(target), fail)
    assert store.read_json(str(target)) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_write_table__reads_back_with_the_same_types(tmp_path):
    table = pd.DataFrame({"name": ["a", "b"], "n": [1, 2], "x": [0.5, np.nan]})
    store.write_table(str(tmp_path / "t.parquet"), table)
    pd.testing.assert_frame_equal(store.read_table(str(tmp_path / "t.parquet")), table)


def test_missing__names_what_is_not_there(tmp_path):
    (tmp_path / "here").touch()
    asked = [str(tmp_path / "here"), str(tmp_path / "gone"), str(tmp_path / "no/dir")]
    assert store.missing(asked) == asked[1:]


def test_write_directory__replaces_what_was_there(tmp_path):
    source, target = tmp_path / "source", tmp_path / "deep/target"
    (source / "r00f00").mkdir(parents=True)
    (source / "r00f00/model.npz").write_bytes(b"new")
    target.mkdir(parents=True)
    (target / "old").touch()
    store.write_directory(str(target), source)
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*")) == [
        "r00f00",
        "r00f00/model.npz",
    ]


def test_open_input__nothing_there_is_one_clear_line(tmp_path):
    with (
        pytest.raises(InputError, match=r"nothing.tsv: there is no such file"),
        store.open_input(str(tmp_path / "nothing.tsv")),
    ):
        pass


def test_open_block__flipped_bits_are_refused_or_change_no_value(tmp_path, values, monkeypatch):
    monkeypatch.setattr(store, "BYTES_PER_GROUP", 20 * 9 * 4)
    values = values[:60]
    receipt = write(tmp_path / "block", values)
    part = tmp_path / "block/part-00000.parquet"
    sound = part.read_bytes()
    n_refused = 0
    for place in np.random.default_rng(1).choice(8 * len(sound), 600, replace=False):
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        part.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(store.open_block(receipt).values, values, err_msg=f"bit {place}")
        except InputError as error:
            n_refused += "delete the block's directory and run again" in str(error)
    # Three quarters of so small a part are values and what is needed to read them; the rest is ids.
    assert n_refused > 300


def test_open_block__part_whose_values_are_of_another_type_is_refused(tmp_path, values):
    # No checksum covers the footer; one flipped bit of it makes floats Booleans.
    receipt = write(tmp_path / "block", values)
    uri = receipt["parts"][0]["uri"]
    others = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(values.size, np.int32)), 9)
    pq.write_table(pa.table({"sample_id": [f"s{row}" for row in range(len(values))], "values": others}), uri)
    with pytest.raises(InputError, match=r"part-00000.parquet: cannot be read .*its values are .*int32"):
        store.open_block(receipt)


@pytest.mark.parametrize("scheme", ["", "memory:/"])
def test_write_block__interrupted_over_an_older_block_leaves_no_receipt(
    tmp_path, values, monkeypatch, scheme
):
    uri = f"{scheme}{tmp_path}/block"
    receipt_uri = store.join(uri, "receipt.json")
    write(uri, values)
    assert store.exists(receipt_uri)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(store, "write_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(uri, values + 1)
    assert not store.exists(receipt_uri)
    receipt = write(uri, values + 1)
    assert store.read_json(receipt_uri)["digest"] == receipt["digest"]
    np.testing.assert_array_equal(store.open_block(receipt).values, values + 1)
