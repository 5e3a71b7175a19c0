"""From objects to frozen blocks: aligned by feature, in the sheet's order, whatever the shards."""

import numpy as np
import pandas as pd
import pytest

from oncoarena import kept, store
from oncoarena.errors import InputError
from oncoarena.extraction import extract_shard
from oncoarena.freezing import admitted_samples
from oncoarena.plan import plan_shards
from oncoarena.pools import object_pool, run_serially
from oncoarena.study import AssayPlan, assay_from_dict, assay_module
from shards import freeze, write_objects

Options = assay_module("expression").Options


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
    with object_pool(2, 2000) as pool:
        _, together = freeze(tmp_path / "together", samples, plan, pool=pool)
    assert alone["digest"] == together["digest"]


def test_extract_shard__every_bad_object_is_named_with_its_sample(tmp_path):
    samples = write_objects(tmp_path, PROFILES)
    (tmp_path / "s1.tsv").write_text("gene\tvalue\na\tx1\n")
    (tmp_path / "s3.tsv").unlink()
    plan = AssayPlan("expression", Options(), column="file")
    with pytest.raises(InputError) as caught:
        extract_shard(plan, samples, str(tmp_path / "shard"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "sample s1" in lines[0]
    assert "'x1'" in lines[0]
    assert "sample s3" in lines[1]
    assert "there is no such file" in lines[1]
    assert "on_bad_sample: exclude" in lines[2]
    assert lines[3].endswith("shard/qc.parquet")
    assert not (tmp_path / "shard/receipt.json").exists()


def test_extract_shard__excluded_sample_is_told_with_its_reason_and_the_others_are_as_without_it(tmp_path):
    samples = write_objects(tmp_path, PROFILES)
    (tmp_path / "s2.tsv").write_text("gene\tvalue\na\tx1\n")
    plan = AssayPlan("expression", Options(missing_values="allow"), column="file")
    receipt, block = freeze(tmp_path / "with", samples, plan, 3, on_bad_sample="exclude")
    _, without = freeze(tmp_path / "without", samples.iloc[[0, 2]], plan, 3)
    assert block["digest"] == without["digest"]
    (excluded,) = receipt["excluded"]
    assert excluded["sample_id"] == "s2"
    assert "'x1'" in excluded["reason"]
    quality = store.read_table(receipt["qc"]).set_index("sample_id")
    assert quality["status"].to_dict() == {"s1": "read", "s2": "quarantined", "s3": "read"}
    sheet = pd.DataFrame(
        {"sample_id": ["s1", "s2", "s3"], "patient_id": ["p1", "p2", "p3"], "label": list("aba")}
    )
    uri = str(tmp_path / "with/blocks/expression.json")
    with pytest.raises(InputError, match="without 1 excluded samples: column 'label': only one label"):
        admitted_samples(sheet, [uri])
    sheet["label"] = list("abc")
    assert admitted_samples(sheet, [uri])["sample_id"].tolist() == ["s1", "s3"]


def test_extract_shard__all_objects_bad_is_an_error_even_where_bad_ones_are_excluded(tmp_path):
    samples = write_objects(tmp_path, {"s1": {"a": "x"}})
    plan = AssayPlan("expression", Options(), column="file")
    with pytest.raises(InputError, match="sample s1"):
        extract_shard(plan, samples, str(tmp_path / "shard"), on_bad_sample="exclude")


def test_extract_shard__next_attempt_reads_only_what_was_not_read(tmp_path, capsys):
    samples = write_objects(tmp_path, PROFILES)
    good = (tmp_path / "s2.tsv").read_text()
    (tmp_path / "s2.tsv").write_text("gene\tvalue\na\tx1\n")
    plan = AssayPlan("expression", Options(missing_values="allow"), column="file")
    _, undisturbed = freeze(tmp_path / "undisturbed", write_objects(tmp_path / "s", PROFILES), plan, 3)
    with pytest.raises(InputError, match="sample s2"):
        freeze(tmp_path / "again", samples, plan, 3)
    (tmp_path / "s2.tsv").write_text(good)
    capsys.readouterr()
    _, mended = freeze(tmp_path / "again", samples, plan, 3)
    said = capsys.readouterr().out
    assert "2 objects were read by an earlier attempt" in said
    assert "1 of 1 objects" in said
    assert mended["digest"] == undisturbed["digest"]
    assert not (tmp_path / "again/shards/0/objects").exists()


def test_extract_shard__empty_object_of_a_client_that_died_while_it_wrote_is_not_believed(tmp_path, capsys):
    samples = write_objects(tmp_path, PROFILES)
    (tmp_path / "s3.tsv").write_text("gene\tvalue\na\tx1\n")
    plan = AssayPlan("expression", Options(missing_values="allow"), column="file")
    with pytest.raises(InputError, match="sample s3"):
        freeze(tmp_path, samples, plan, 3)
    for path in (tmp_path / "shards/0/objects").iterdir():
        path.write_bytes(b"")
    kept._last.clear()  # as in a new process
    write_objects(tmp_path, PROFILES)
    capsys.readouterr()
    _, receipt = freeze(tmp_path, samples, plan, 3)
    assert "3 of 3 objects" in capsys.readouterr().out
    assert receipt["shape"][0] == 3


def test_extract_shard__object_that_changed_is_read_again(tmp_path):
    samples = write_objects(tmp_path, PROFILES)
    (tmp_path / "s3.tsv").write_text("gene\tvalue\na\tx1\n")
    plan = AssayPlan("expression", Options(missing_values="allow"), column="file")
    with pytest.raises(InputError, match="sample s3"):
        freeze(tmp_path, samples, plan, 3)
    write_objects(tmp_path, {**PROFILES, "s1": {"a": 100, "b": 2, "c": 3}})
    _, receipt = freeze(tmp_path, samples, plan, 3)
    assert store.open_block(receipt).values[0, 0] == 100


def test_extract_shard__object_that_is_replaced_before_its_turn_is_not_taken_for_the_one_that_was_there(
    tmp_path,
):
    samples = write_objects(tmp_path, PROFILES)
    plan = AssayPlan("expression", Options(missing_values="allow"), column="file")

    def replace_and_read(jobs):
        write_objects(tmp_path, {"s2": {"a": 1000, "b": 2, "c": 3}})
        return run_serially(jobs)

    with pytest.raises(InputError, match=r"s2\.tsv: was changed while it was read") as caught:
        extract_shard(plan, samples, str(tmp_path / "shard"), pool=replace_and_read)
    assert "s1" not in str(caught.value)
    assert "s3" not in str(caught.value)


def test_extract_shard__error_that_nobody_foresaw_is_quarantined_with_its_traceback(
    tmp_path, capfd, monkeypatch
):
    samples = write_objects(tmp_path, PROFILES)
    module = assay_module("expression")
    read = module.read_object

    def read_or_fail(stream, source, *arguments, **options):
        if source.endswith("s2.tsv"):
            raise ZeroDivisionError("what a library may raise")
        return read(stream, source, *arguments, **options)

    monkeypatch.setattr(module, "read_object", read_or_fail)
    plan = AssayPlan("expression", Options(missing_values="allow"), column="file")
    receipt, _ = freeze(tmp_path, samples, plan, 3, on_bad_sample="exclude")
    assert "ZeroDivisionError: what a library may raise" in receipt["excluded"][0]["reason"]
    assert "Traceback" in capfd.readouterr().out


def test_freeze_blocks__samples_measured_in_different_terms_are_refused(tmp_path):
    salmon = "Name\tLength\tEffectiveLength\tTPM\tNumReads\nt1\t100\t90.0\t10.0\t5.0\n"
    htseq = "t1\t10\n__no_feature\t1\n__ambiguous\t0\n__too_low_aQual\t0\n__not_aligned\t0\n__alignment_not_unique\t0\n"
    rows = []
    for name, text in (("s1", salmon), ("s2", htseq)):
        (tmp_path / f"{name}.tsv").write_text(text)
        rows.append((name, str(tmp_path / f"{name}.tsv")))
    samples = pd.DataFrame(rows, columns=["sample_id", "file"])
    plan = AssayPlan("expression", Options(missing_values="allow"), column="file")
    with pytest.raises(InputError, match=r"samples differ in quantity: .* in sample s1, .* in sample s2"):
        freeze(tmp_path, samples, plan)


def test_plan_shards__a_shard_ends_by_bytes_or_by_count(tmp_path):
    rows = []
    for number, n_bytes in enumerate([400, 700, 10, 10, 10, 10, 2000, 1]):
        (tmp_path / f"{number}").write_bytes(b"x" * n_bytes)
        rows.append((f"s{number}", str(tmp_path / f"{number}")))
    samples = pd.DataFrame(rows, columns=["sample_id", "file"])
    plan = AssayPlan("expression", Options(), column="file")
    shards = plan_shards(plan, samples, 3, 1e-6)
    assert [(shard["first"], shard["end"], shard["n_bytes"]) for shard in shards] == [
        (0, 2, 1100),
        (2, 5, 30),
        (5, 7, 2010),
        (7, 8, 1),
    ]


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
    assert store.block_inputs(block_receipt)["digest"].iloc[0].startswith("sha256:")


def test_assay_from_dict__survives_the_way_to_a_job():
    from dataclasses import asdict

    plan = AssayPlan("expression", Options(transform="log2p1"), matrix="m.tsv")
    assert assay_from_dict(asdict(plan)) == plan
