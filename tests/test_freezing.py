"""Frozen blocks: which samples and features are in them, where samples do not go together."""

import pandas as pd
import pytest

from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.pools import object_pool
from oncoarena.simulation import simulate
from oncoarena.study import AssayPlan, assay_module
from shards import freeze, write_objects

Options = assay_module("expression").Options
PLAN = AssayPlan("expression", Options(), column="file")
GENES = {"a": 1, "b": 2, "c": 3}


def of(receipt):
    """Values of the only block: a row a sample."""
    block = store.read_json(next(iter(receipt["blocks"].values())))
    ids = store.block_samples(block)["sample_id"]
    opened = store.open_block(block)
    return pd.DataFrame(opened.values, index=ids, columns=opened.features["id"])


@pytest.mark.parametrize("shard_samples", [1, 2, 10])
def test_freeze_blocks__sample_with_other_features_is_set_aside_and_told_why(tmp_path, shard_samples):
    profiles = {
        "s1": {**GENES, "late": 9},
        "s2": GENES,
        "s3": {"a": 1, "c": 3},
        "s4": dict(reversed(GENES.items())),
        "s5": GENES,
    }
    samples = write_objects(tmp_path, profiles)
    with pytest.raises(InputError, match="has no value"):
        freeze(tmp_path / "stop", samples, PLAN, shard_samples)
    receipt, _ = freeze(tmp_path / "exclude", samples, PLAN, shard_samples, on_bad_sample="exclude")
    found = of(receipt)
    assert found.index.tolist() == ["s2", "s4", "s5"]
    assert sorted(found.columns) == ["a", "b", "c"]
    assert (found[["a", "b", "c"]] == [1, 2, 3]).all(axis=None)
    reasons = {item["sample_id"]: item["reason"] for item in receipt["excluded"]}
    assert "has feature 'late', unlike 3 of 5 samples (1 such features)" in reasons["s1"]
    assert "lacks feature 'b', unlike 3 of 5 samples" in reasons["s3"]
    assert all(item["uri"].endswith(f"{item['sample_id']}.tsv") for item in receipt["excluded"])
    quality = store.read_table(receipt["qc"]).set_index("sample_id")
    assert (quality["status"] == "quarantined").to_dict() == {
        "s1": True,
        "s2": False,
        "s3": True,
        "s4": False,
        "s5": False,
    }
    assert quality.loc["s3", "reason"] == reasons["s3"]


def test_freeze_blocks__sample_in_other_terms_than_most_is_set_aside(tmp_path):
    samples = write_objects(tmp_path, dict.fromkeys(("s1", "s2", "s3"), GENES))
    # HTSeq's counts become log2(CPM + 1), a table of no known program stays as it is.
    rows = [f"{gene}\t{value}" for gene, value in GENES.items()]
    ends = ["__no_feature", "__ambiguous", "__too_low_aQual", "__not_aligned", "__alignment_not_unique"]
    (tmp_path / "s1.tsv").write_text("\n".join([*rows, *(f"{end}\t0" for end in ends)]) + "\n")
    with pytest.raises(InputError, match="samples differ in quantity"):
        freeze(tmp_path / "stop", samples, PLAN)
    receipt, _ = freeze(tmp_path / "exclude", samples, PLAN, on_bad_sample="exclude")
    assert of(receipt).index.tolist() == ["s2", "s3"]
    (excluded,) = receipt["excluded"]
    assert excluded["sample_id"] == "s1"
    assert "'values' in 2 of 3 samples" in excluded["reason"]


def test_extract_shard__sample_that_a_matrix_lacks_is_set_aside_where_bad_ones_are(tmp_path):
    matrix = pd.DataFrame({"s1": [0.5, 1], "s3": [3, 7]}, index=["a", "b"])
    matrix.to_csv(tmp_path / "m.tsv", sep="\t", index_label="id")
    plan = AssayPlan("expression", Options(), matrix=str(tmp_path / "m.tsv"))
    samples = pd.DataFrame({"sample_id": ["s1", "s2", "s3"]})
    with pytest.raises(InputError, match="no column for 's2' of the sample sheet"):
        freeze(tmp_path / "stop", samples, plan)
    receipt, _ = freeze(tmp_path / "exclude", samples, plan, on_bad_sample="exclude")
    assert of(receipt).to_dict("index") == {"s1": {"a": 0.5, "b": 1.0}, "s3": {"a": 3.0, "b": 7.0}}
    (excluded,) = receipt["excluded"]
    assert excluded["sample_id"] == "s2"
    quality = store.read_table(receipt["qc"]).set_index("sample_id")
    assert quality["status"].to_dict() == {"s1": "read", "s3": "read", "s2": "quarantined"}
    (timing,) = store.read_table(receipt["timings"]).to_dict("records")
    assert (timing["sample_id"], timing["n_bytes"]) == ("m.tsv", (tmp_path / "m.tsv").stat().st_size)


def test_extract_shard__where_it_stops_every_bad_object_is_in_the_table_of_quality(tmp_path):
    samples = write_objects(tmp_path, {f"s{number:02d}": GENES for number in range(40)})
    for number in range(30):
        (tmp_path / f"s{number:02d}.tsv").write_text("gene\tvalue\na\tx1\n")
    with pytest.raises(InputError, match=r"and 10 more objects(.|\n)*shards/0/qc\.parquet"):
        freeze(tmp_path, samples, PLAN, 40)
    quality = store.read_table(str(tmp_path / "shards/0/qc.parquet"))
    assert (quality["status"] == "quarantined").sum() == 30
    assert quality["reason"][:30].str.contains("'x1'").all()


@pytest.fixture(scope="module")
def plasma(tmp_path_factory):
    """Simulated samples: four BAM files, and two of them as tables of fragments."""
    folders = {}
    for form in ("bam", "bed"):
        folder = tmp_path_factory.mktemp(form)
        simulate(folder, {"kind": "cfdna", "n_samples": 4, "n_reads": 60_000, "seed": 3, "format": form})
        folders[form] = pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str)
    return folders


def alignments(**options):
    return AssayPlan("alignments", assay_module("alignments").Options(**options), column="alignments")


def test_freeze_blocks__block_without_any_value_is_left_out_with_a_note(tmp_path, plasma):
    receipt, _ = freeze(tmp_path, plasma["bed"], alignments())
    assert "coverage" in receipt["blocks"]
    assert "end_motif" not in receipt["blocks"]
    assert "block end_motif is left out: no sample has a value in it" in receipt["notes"]
    assert not (tmp_path / "blocks/end_motif").exists()


def test_freeze_blocks__files_of_reads_and_of_fragments_do_not_go_together(tmp_path, plasma):
    mixed = pd.concat([plasma["bam"].iloc[:3], plasma["bed"].iloc[3:]])
    with pytest.raises(InputError, match=r"samples differ in content: 'reads' .* 'fragments'"):
        freeze(tmp_path / "stop", mixed, alignments())
    receipt, _ = freeze(tmp_path / "exclude", mixed, alignments(), on_bad_sample="exclude")
    assert [item["sample_id"] for item in receipt["excluded"]] == mixed["sample_id"].tolist()[3:]
    assert "end_motif" in receipt["blocks"]


def test_freeze_blocks__bam_files_give_the_same_bytes_whatever_the_parts_workers_and_shards(tmp_path, plasma):
    digests = []
    with object_pool(2, 2000) as pool:
        ways = [(1, 4, {}), (256, 1, {}), (1, 3, {"pool": pool}), (256, 4, {"pool": pool})]
        for number, (part_mb, shard_samples, options) in enumerate(ways):
            receipt, _ = freeze(
                tmp_path / str(number), plasma["bam"], alignments(part_mb=part_mb), shard_samples, **options
            )
            blocks = [store.read_json(uri) for uri in receipt["blocks"].values()]
            digests.append([[part["digest"] for part in block["parts"]] for block in blocks])
    assert all(digests[0])
    assert all(found == digests[0] for found in digests)
