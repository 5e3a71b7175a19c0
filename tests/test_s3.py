"""The store against a real S3 server on the loopback address."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from object_store import s3_environment, s3_server
from oncoarena import schema, store
from oncoarena.aws.settings import VARIABLES
from oncoarena.cli import main
from oncoarena.cohort import feature_table
from oncoarena.errors import InputError
from oncoarena.extraction import extract_shard
from oncoarena.freezing import freeze_blocks
from oncoarena.runs import run_part, write_splits
from oncoarena.specs import TrainingSpec
from oncoarena.splits import SplitPlan, make_splits
from oncoarena.study import AssayPlan, assay_module
from studies import ROOT, SPEC


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("weed")) as port:
        yield port


@pytest.fixture(scope="module")
def bucket(port):
    with s3_environment(port):
        yield "s3://genomics"


def test_write_block__round_trip_on_s3(bucket):
    values = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    ids = [f"s{row}" for row in range(300)]
    features = feature_table([f"g{column}" for column in range(7)])
    receipt = store.write_block(f"{bucket}/blocks/toy", SPEC, ids, iter(values), features, {})
    again = store.read_json(f"{bucket}/blocks/toy/receipt.json")
    assert again["digest"] == receipt["digest"]
    np.testing.assert_array_equal(store.open_block(again).values, values)


def test_write_whole__failed_write_leaves_no_object(bucket):
    def fail(path):
        Path(path).write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        store.write_whole(f"{bucket}/half.json", fail)
    assert not store.exists(f"{bucket}/half.json")


def test_open_input__missing_object_is_one_clear_line(bucket):
    with pytest.raises(InputError, match=r"s3://genomics/nothing.tsv: there is no such file"):
        store.read_json(f"{bucket}/nothing.tsv")
    assert store.missing([f"{bucket}/nothing.tsv"]) == [f"{bucket}/nothing.tsv"]


def test_leaderboard__of_a_study_that_ran_on_aws_is_read_from_its_results(
    bucket, tmp_path, monkeypatch, capsys
):
    for name in ("workflow/schemas", "config"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    settings = dict.fromkeys(VARIABLES.values(), "x")
    settings |= {"ONCOARENA_REGION": "eu-central-1", "ONCOARENA_RESULTS": f"{bucket}/arena"}
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    config = schema.read_yaml(Path("config/config.yaml")) | {"hypotheses": ["prior_only"]}
    Path("my.yaml").write_text(json.dumps(config))
    command = ["leaderboard", "--profile", "aws", "--configfile", "my.yaml"]
    assert main(command) == 1
    assert f"{bucket}/arena/srbct: holds no finished study; run: snakemake --profile aws" in (
        capsys.readouterr().err
    )
    row = {
        "hypothesis": "prior_only",
        "metric": "accuracy",
        "stratum": "all",
        "n_samples": 20,
        "n_patients": 20,
    }
    row |= {"estimate": 0.3, "ci_low": 0.12, "ci_high": 0.54}
    store.write_table(f"{bucket}/arena/srbct/evaluation.parquet", pd.DataFrame([row]))
    run = {"hypothesis": "prior_only", "status": "trained", "splits": []}
    store.write_json(f"{bucket}/arena/srbct/runs/prior_only/0/run.json", run)
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "0.300 [0.120, 0.540]" in said
    assert said.endswith(f"Report: {bucket}/arena/srbct/report.html\n")


def test_study__objects_and_results_on_s3_train_as_on_disk(bucket, tmp_path):
    rng = np.random.default_rng(1)
    ids = [f"s{row:02d}" for row in range(20)]
    samples = pd.DataFrame(
        {
            "sample_id": ids,
            "patient_id": ids,
            "label": ["a", "b"] * 10,
            "file": [f"{bucket}/raw/{i}.tsv" for i in ids],
        }
    )
    for row, uri in enumerate(samples["file"]):
        counts = rng.poisson(10 + 10 * (row % 2), 6)
        store.write_text(uri, "gene\tcount\n" + "".join(f"g{g}\t{count}\n" for g, count in enumerate(counts)))
    plan = AssayPlan("expression", assay_module("expression").Options(transform="log2p1"), column="file")
    assert store.missing(samples["file"]) == []
    predictions = {}
    for name, base in (("s3", f"{bucket}/results"), ("disk", str(tmp_path))):
        shards = []
        for shard in range(2):
            extract_shard(plan, samples.iloc[10 * shard : 10 * shard + 10], f"{base}/shards/{shard}")
            shards.append(f"{base}/shards/{shard}/receipt.json")
        freeze_blocks(plan, shards, f"{base}/blocks", f"{base}/blocks/expression.json")
        write_splits(samples, make_splits(samples, SplitPlan("kfold", folds=2)), [], f"{base}/splits")
        run_part(
            TrainingSpec("l2_logistic", "oncoarena.hypotheses.l2_logistic", "sklearn"),
            splits_receipt=f"{base}/splits/receipt.json",
            assay_receipts=[f"{base}/blocks/expression.json"],
            part=0,
            n_parts=1,
            study_seed=0,
            threads=1,
            gpu=0,
            uri=f"{base}/run",
            save_models=True,
        )
        predictions[name] = store.read_table(f"{base}/run/predictions.parquet")
        assert store.exists(f"{base}/run/models/r00f01")
    pd.testing.assert_frame_equal(predictions["s3"], predictions["disk"])
