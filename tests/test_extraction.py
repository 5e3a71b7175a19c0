"""From objects to frozen blocks: aligned by feature, in the sheet's order, whatever the shards."""

import numpy as np
import pandas as pd
import pytest

from oncoarena import store
from oncoarena.compute import object_map
from oncoarena.errors import InputError
from oncoarena.extraction import extract_shard, freeze_blocks, shards_of
from oncoarena.study import AssayPlan, assay_from_dict, assay_module

Options = assay_module("expression").Options


def write_objects(folder, profiles):
    """One file a sample; ``profiles`` maps a sample to its {gene: value} in the order of the file."""
    rows = []
    for name, genes in profiles.items():
        path = folder / f"{name}.tsv"
        path.write_text("gene\tvalue\n" + "".join(f"{gene}\t{value}\n" for gene, value in genes.items()))
        rows.append((name, str(path)))
    return pd.DataFrame(rows, columns=["sample_id", "file"])


def freeze(folder, samples, plan, shard_samples=2, map_objects=map):
    shards = []
    for number in range(shards_of(len(samples), shard_samples)):
        rows = samples.iloc[number * shard_samples : (number + 1) * shard_samples]
        extract_shard(plan, rows, str(folder / f"shards/{number}"), map_objects)
        shards.append(str(folder / f"shards/{number}/receipt.json"))
    receipt = freeze_blocks(plan, shards, str(folder / "blocks"), str(folder / "blocks/expression.json"))
    return receipt, store.read_json(receipt["blocks"]["expression"])


PROFILES = {
    "s1": {"a": 1, "b": 2, "c": 3},
    "s2": {"c": 6, "a": 4, "b": 5},
    "s3": {"a": 7, "d": 9, "b": 8},
}


def test_freeze_blocks__features_are_aligned_by_id_and_absent_ones_are_missing(tmp_path):
    samples = write_objects(tmp_path, PROFILES)
    plan = AssayPlan("expression", Options(missing_values="allow"), column="file")
    _, receipt = freeze(tmp_path, samples, plan)
    block = store.open_block(receipt)
    table = pd.DataFrame(block.values, index=samples["sample_id"], columns=block.features["id"])
    pd.testing.assert_frame_equal(
        table, pd.DataFrame(PROFILES).T[["a", "b", "c", "d"]].astype("float32"), check_names=False
    )


def test_freeze_blocks__absent_feature_is_refused_where_missing_values_are(tmp_path):
    samples = write_objects(tmp_path, PROFILES)
    plan = AssayPlan("expression", Options(), column="file")
    with pytest.raises(
        InputError, match=r"sample s1: expression: feature 'd' has no value.*missing_values: allow"
    ):
        freeze(tmp_path, samples, plan)


@pytest.mark.parametrize("shard_samples", [1, 2, 3, 7])
def test_freeze_blocks__same_bytes_whatever_the_shards(tmp_path, shard_samples):
    rng = np.random.default_rng(0)
    genes = [f"g{number}" for number in range(30)]
    profiles = {f"s{row}": {g: rng.integers(0, 99) for g in rng.permutation(genes)[:25]} for row in range(7)}
    samples = write_objects(tmp_path, profiles)
    plan = AssayPlan("expression", Options(missing_values="allow"), column="file")
    _, whole = freeze(tmp_path / "whole", samples, plan, shard_samples=100)
    _, sharded = freeze(tmp_path / "sharded", samples, plan, shard_samples=shard_samples)
    assert whole["digest"] == sharded["digest"]
    assert whole["features"]["digest"] == sharded["features"]["digest"]
    assert [part["digest"] for part in whole["parts"]] == [part["digest"] for part in sharded["parts"]]


def test_extract_shard__several_workers_give_what_one_gives(tmp_path):
    samples = write_objects(tmp_path, PROFILES)
    plan = AssayPlan("expression", Options(missing_values="allow"), column="file")
    _, alone = freeze(tmp_path / "alone", samples, plan)
    with object_map(2, 2000) as map_objects:
        _, together = freeze(tmp_path / "together", samples, plan, map_objects=map_objects)
    assert alone["digest"] == together["digest"]


def test_extract_shard__every_bad_object_is_named_with_its_sample(tmp_path):
    samples = write_objects(tmp_path, PROFILES)
    (tmp_path / "s1.tsv").write_text("gene\tvalue\na\tx1\n")
    (tmp_path / "s3.tsv").unlink()
    plan = AssayPlan("expression", Options(), column="file")
    with pytest.raises(InputError) as caught:
        extract_shard(plan, samples, str(tmp_path / "shard"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "sample s1" in lines[0]
    assert "'x1'" in lines[0]
    assert "sample s3" in lines[1]
    assert "there is no such file" in lines[1]
    assert not (tmp_path / "shard/receipt.json").exists()


def test_extract_shard__matrix_with_annotation_and_extra_samples(tmp_path):
    matrix = pd.DataFrame({"x": [0, 1], "s2": [3, 7], "s1": [1, 15]}, index=["a", "b"])
    matrix.to_csv(tmp_path / "m.tsv", sep="\t", index_label="id")
    genes = "id\tchrom\tstart\tend\tgene\nb\tchr2\t100\t200\tTP53\na\tchr1\t5\t10\t\n"
    (tmp_path / "genes.tsv").write_text(genes)
    plan = AssayPlan(
        "expression",
        Options(transform="log2p1"),
        matrix=str(tmp_path / "m.tsv"),
        annotation=str(tmp_path / "genes.tsv"),
    )
    samples = pd.DataFrame({"sample_id": ["s1", "s2"]})
    receipt, block_receipt = freeze(tmp_path, samples, plan)
    block = store.open_block(block_receipt)
    np.testing.assert_array_equal(block.values, np.log2(1 + np.array([[1, 15], [3, 7]], dtype=np.float32)))
    assert block.features["gene"].tolist() == ["", "TP53"]
    assert block.has_coordinates
    assert any("1 columns or rows" in note for note in receipt["notes"])
    assert block_receipt["inputs"][0]["digest"].startswith("sha256:")


def test_assay_from_dict__survives_the_way_to_a_job():
    from dataclasses import asdict

    plan = AssayPlan("expression", Options(transform="log2p1"), matrix="m.tsv")
    assert assay_from_dict(asdict(plan)) == plan
