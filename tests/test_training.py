"""Training, audited: no label of a test sample, and no feature of one, reaches a model."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from cohorts import planted_values, toy_cohort
from oncoarena import store
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.errors import InputError
from oncoarena.runs import run_part
from oncoarena.specs import TrainingSpec, load_module
from oncoarena.splits import SplitPlan
from oncoarena.training import check_probabilities, fit_split, permute_labels, read_cohorts
from studies import entered_hypotheses, prepare_study, write_assay

SPECS = {spec.id: spec for spec in entered_hypotheses()}
L2 = SPECS["l2_logistic"].training


def run(study, spec=L2, name="run", **options):
    options = {"part": 0, "n_parts": 1, "study_seed": 3, "threads": 1, "gpu": 0} | options
    record = run_part(
        spec,
        splits_receipt=study.splits_receipt,
        assay_receipts=[study.assay_receipt],
        uri=str(study.folder / name),
        **options,
    )
    return record, store.read_table(str(study.folder / name / "predictions.parquet"))


def test_write_splits__files_of_the_training_processes_hold_no_label_of_a_test_sample(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("kfold", folds=4, repeats=2))
    assert "label" not in study.splits.columns
    truth = study.samples.set_index("sample_id")["label"]
    receipt = store.read_json(study.splits_receipt)
    assert receipt["n_splits"] == 8
    for split in receipt["splits"]:
        table = store.read_table(split["uri"])
        is_test = table["role"] == "test"
        assert table.loc[is_test, "label"].isna().all()
        assert (table.loc[~is_test, "label"] == truth[table.loc[~is_test, "sample_id"]].to_numpy()).all()
        assert is_test.sum() == 6


def test_run_part__trains_to_the_same_predictions_with_every_test_label_gone_from_the_disk(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("official"))
    _, before = run(study, name="before")
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("splits", "blocks"):
        shutil.copytree(tmp_path / name, alone / name)
    held = study.samples[study.samples["split"] == "test"]
    for table in alone.rglob("*.parquet"):
        content = store.read_table(str(table))
        if "label" in content.columns:
            assert content[content["sample_id"].isin(held["sample_id"])]["label"].isna().all()
    text = " ".join(path.read_text() for path in alone.rglob("*.json")).replace(str(tmp_path), str(alone))
    assert json.loads((alone / "splits/receipt.json").read_text())["classes"] == ["cancer", "healthy"]
    assert not any(sample_id in text for sample_id in held["sample_id"])
    moved = dataclasses.replace(
        study,
        splits_receipt=relocate(alone / "splits/receipt.json", tmp_path, alone),
        assay_receipt=relocate(alone / "blocks/expression.json", tmp_path, alone),
        folder=alone,
    )
    relocate(alone / "blocks/expression/receipt.json", tmp_path, alone)
    for name in ("splits", "blocks", "before"):
        shutil.rmtree(tmp_path / name)
    _, after = run(moved, name="after")
    pd.testing.assert_frame_equal(before, after)


def relocate(path, old, new):
    path.write_text(path.read_text().replace(str(old), str(new)))
    return str(path)


def test_run_part__a_process_of_repeated_folds_reads_one_split_file_a_child(tmp_path):
    study = prepare_study(tmp_path / "study", SplitPlan("kfold", folds=4))
    spy = tmp_path / "spy.py"
    spy.write_text(SPY)
    spec = TrainingSpec("spy", str(spy), "numpy", config={"log": str(tmp_path / "seen.txt")})
    record, _ = run(study, spec, name="spy")
    lines = (tmp_path / "seen.txt").read_text().splitlines()
    assert len(lines) == 4
    assert len({line.split()[0] for line in lines}) == 4, "each split has a process of its own"
    assert {line.split()[1] for line in lines} == {"LabelledCohort:NoneType:Cohort"}
    assert all(line.split()[2] == "18" for line in lines), "training labels alone, and no more of them"
    assert record["status"] == "trained"


SPY = """
import os
from dataclasses import dataclass
import numpy as np

FRAMEWORK = "numpy"
BLOCKS = "all"


@dataclass(frozen=True)
class Config:
    log: str = ""


class Predictor:
    def __init__(self, log, seen, n_labels):
        self.log, self.seen, self.n_labels = log, seen, n_labels

    def predict_proba(self, cohort):
        assert not hasattr(cohort, "labels")
        with open(self.log, "a") as stream:
            stream.write(f"{os.getpid()} {self.seen}:{type(cohort).__name__} {self.n_labels}\\n")
        return np.full((len(cohort), 2), 0.5)


def fit(config, train, validation, *, seed, device):
    return Predictor(config.log, f"{type(train).__name__}:{type(validation).__name__}", len(train.labels))
"""


@pytest.mark.parametrize("name", sorted(SPECS))
@pytest.mark.parametrize("poison", ["noise", "nan"])
def test_fit__poisoned_test_features_leave_every_model_bit_identical(tmp_path, name, poison, clean_fits):
    study, clean_probe, expected = clean_fits(name)
    held = (study.samples["split"] == "test").to_numpy()
    poisoned = study.values.copy()
    noise = 1e6 * np.random.default_rng(9).standard_cauchy(poisoned[held].shape)
    poisoned[held] = np.nan if poison == "nan" else noise
    receipt = write_assay(tmp_path / "blocks", study.samples, poisoned)
    predictor = fit_first_split(SPECS[name].training, study.splits_receipt, receipt)
    np.testing.assert_array_equal(predictor.predict_proba(clean_probe), expected)


@pytest.fixture(scope="module")
def clean_fits(tmp_path_factory):
    """Fit each hypothesis once on the clean study and remember what it says of a fixed probe."""
    study = prepare_study(tmp_path_factory.mktemp("clean"), SplitPlan("official"))
    rng = np.random.default_rng(5)
    probe = toy_cohort(
        [0, 1] * 5,
        {"expression": rng.normal(size=(10, 20))},
        classes=["cancer", "healthy"],
        covariates=pd.DataFrame({"age": rng.normal(50, 10, 10)}),
    ).without_labels()
    fitted = {}

    def fit_once(name):
        if name not in fitted:
            predictor = fit_first_split(SPECS[name].training, study.splits_receipt, study.assay_receipt)
            fitted[name] = predictor.predict_proba(probe)
        return study, probe, fitted[name]

    return fit_once


def fit_first_split(spec, splits_receipt, assay_receipt):
    receipt = store.read_json(splits_receipt)
    block_receipt = store.read_json(store.read_json(assay_receipt)["blocks"]["expression"])
    ids = store.block_samples(block_receipt)["sample_id"].tolist()
    train, validation, _ = read_cohorts(
        store.read_table(receipt["splits"][0]["uri"]),
        {"expression": (ids, store.open_block(block_receipt))},
        tuple(receipt["classes"]),
        tuple(receipt["covariates"]),
    )
    return fit_split(spec, load_module(spec), train, validation, seed=11, device="cpu")


def test_permuted_labels__sit_at_chance_where_true_labels_are_learned(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("kfold", folds=4, repeats=3), n_patients=80, strength=6.0)
    truth = study.samples.set_index("sample_id")["label"]

    def n_right(spec, name):
        _, table = run(study, spec, name=name)
        guess = np.where(table["p_cancer"] > 0.5, "cancer", "healthy")
        return int((guess == truth[table["sample_id"]].to_numpy()).sum()), len(table)

    learned, n_tests = n_right(L2, "true")
    permuted, _ = n_right(SPECS["permuted_labels"].training, "permuted")
    assert learned > 0.95 * n_tests
    # 12 models of independent permutations; the bound treats a model's 20 predictions as one draw.
    low, high = binom(12, 0.5).interval(0.999)
    assert low / 12 <= permuted / n_tests <= high / 12


def test_permute_labels__moves_whole_patients_and_keeps_the_counts():
    rng = np.random.default_rng(0)
    patients = np.repeat([f"p{row}" for row in range(30)], 3)
    labels = np.repeat(np.arange(30) % 3, 3)
    cohort = toy_cohort(
        labels,
        {"b": planted_values(labels, 4, n_informative=1, strength=1, rng=rng)},
        classes="abc",
        patients=patients,
    )
    permuted = permute_labels(cohort, rng)
    assert (np.bincount(permuted.labels) == np.bincount(labels)).all()
    assert (permuted.labels.reshape(30, 3) == permuted.labels.reshape(30, 3)[:, :1]).all()
    assert (permuted.labels != labels).any()


def test_run_part__same_seed_same_predictions_and_another_seed_is_recorded(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("kfold", folds=3))
    forest = SPECS["random_forest"].training
    _, first = run(study, forest, name="a")
    _, again = run(study, forest, name="b")
    record, other = run(study, forest, name="c", study_seed=4)
    pd.testing.assert_frame_equal(first, again)
    assert (first["p_cancer"] != other["p_cancer"]).any()
    assert record["seed"] == 4


def test_run_part__parts_together_are_the_whole(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("kfold", folds=3, repeats=2))
    _, whole = run(study, name="whole")
    parts = [run(study, name=f"part{part}", part=part, n_parts=4)[1] for part in range(4)]
    keys = ["repeat", "fold", "sample_id"]
    joined = pd.concat(parts).sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(joined, whole.sort_values(keys, ignore_index=True))


def test_run_part__record_says_what_was_seen_and_what_it_cost(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("kfold", folds=3))
    record, _ = run(study, save_models=True)
    assert record == store.read_json(str(tmp_path / "run/run.json"))
    block = store.read_json(store.read_json(study.assay_receipt)["blocks"]["expression"])
    assert record["digests"]["blocks"] == {"expression": block["digest"]}
    assert record["digests"]["splits"] == store.read_json(study.splits_receipt)["digest"]
    assert {"python", "numpy", "scikit-learn"} <= set(record["versions"])
    assert record["peak_memory_mb"] > 10
    assert [split["n_train"] for split in record["splits"]] == [16, 16, 16]
    assert sorted(path.name for path in (tmp_path / "run/models").iterdir()) == ["r00f00", "r00f01", "r00f02"]


def test_run_part__refusal_is_an_outcome_with_its_reason(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("official"))
    receipt = store.read_json(study.splits_receipt)
    receipt["covariates"] = []
    store.write_json(study.splits_receipt, receipt)
    record, table = run(study, SPECS["covariates_only"].training)
    assert record["status"] == "not_applicable"
    assert "covariates" in record["reason"]
    assert table.columns.tolist() == ["hypothesis", "repeat", "fold", "sample_id", "p_cancer", "p_healthy"]
    assert len(table) == 0


def test_run_part__failure_names_the_hypothesis_and_leaves_no_result(tmp_path):
    study = prepare_study(tmp_path / "study", SplitPlan("official"))
    broken = tmp_path / "broken.py"
    broken.write_text(SPY.replace("return Predictor", "raise ArithmeticError('no luck'); return Predictor"))
    with pytest.raises(InputError, match="hypothesis broken failed: ArithmeticError: no luck"):
        run(study, TrainingSpec("broken", str(broken), "numpy"), name="broken")
    assert not (study.folder / "broken/run.json").exists()
    assert not (study.folder / "broken/predictions.parquet").exists()


MEDDLER = """
from oncoarena.attribution import Attribution

class Predictor:
    def look(self, cohort):
        block = cohort.blocks["expression"]
        seen = block.features.columns.tolist(), list(cohort.blocks), cohort.covariates.columns.tolist()
        assert seen == (["id", "chrom", "start", "end", "gene"], ["expression"], ["age"]), seen
        assert block.features["start"][0] == -1
        block.features.loc[0, "start"] = 7
        block.features.pop("gene")
        cohort.covariates.pop("age")
        cohort.blocks.pop("expression")
        return block

    def predict_proba(self, cohort):
        self.look(cohort)
        return np.full((len(cohort), 2), 0.5)

    predict_raw = predict_proba

    def attribute(self, cohort, label):
        shape = self.look(cohort).values.shape
        zeros = np.zeros(shape[0])
        return Attribution(zeros, zeros, {"expression": np.zeros(shape, np.float32)}, "none", exact=True)


def fit(config, train, validation, *, seed, device):
    predictor = Predictor()
    predictor.look(train)
    if validation is not None:
        predictor.look(validation)
    return predictor
"""


def test_run_part__what_a_method_changes_in_its_tables_no_other_method_sees(tmp_path):
    study = prepare_study(
        tmp_path / "study", SplitPlan("kfold", folds=2, validation_fraction=0.25), n_patients=24
    )
    meddler = tmp_path / "meddler.py"
    meddler.write_text(SPY.partition("class Predictor")[0] + MEDDLER)
    record, table = run(study, TrainingSpec("meddler", str(meddler), "numpy"), name="meddler")
    assert record["status"] == "trained"
    assert {"p_cancer", "raw_cancer"} <= set(table.columns)
    attributions = store.read_table(str(study.folder / "meddler/attributions.parquet"))
    assert attributions["feature"].str.startswith("g").all()
    assert len(attributions) > 0


@pytest.mark.parametrize("line", ["block.values[...] -= 1", 'cohort.sample_ids[:] = "x"'])
def test_run_part__method_that_writes_to_what_was_measured_is_stopped(tmp_path, line):
    study = prepare_study(tmp_path / "study", SplitPlan("official"))
    writer = tmp_path / "writer.py"
    spoilt = f'block = cohort.blocks["expression"]\n        {line}\n        return np.full('
    writer.write_text(SPY.replace("return np.full(", spoilt).replace('self.log, "a"', 'os.devnull, "a"'))
    with pytest.raises(InputError, match=r"hypothesis writer failed: .*read-only"):
        run(study, TrainingSpec("writer", str(writer), "numpy"), name="writer")


def test_read_cohorts__test_part_has_no_labels_and_rows_are_matched_by_sample():
    labels = [0, 1, 0, 1]
    whole = toy_cohort(labels, {"b": np.arange(8.0).reshape(4, 2)}, classes="xy")
    split = pd.DataFrame(
        {
            "sample_id": ["s3", "s0", "s2"],
            "patient_id": ["s3", "s0", "s2"],
            "role": ["train", "test", "validation"],
            "label": ["y", None, "x"],
        }
    )
    train, validation, test = read_cohorts(
        split, {"b": (whole.sample_ids.tolist(), whole.blocks["b"])}, ("x", "y"), ()
    )
    assert isinstance(train, LabelledCohort)
    assert type(test) is Cohort
    assert (train.labels.tolist(), validation.labels.tolist()) == ([1], [0])
    np.testing.assert_array_equal(train.blocks["b"].values, [[6, 7]])
    np.testing.assert_array_equal(test.blocks["b"].values, [[0, 1]])


@pytest.mark.parametrize(
    ("probabilities", "complaint"),
    [
        (np.full((3, 2), 0.5), "shape"),
        (np.array([[np.nan, 1.0], [0.5, 0.5]]), "not finite"),
        (np.array([[-0.1, 1.1], [0.5, 0.5]]), "negative"),
        (np.array([[0.5, 0.6], [0.5, 0.5]]), "sum to 1"),
        (np.array([["a", "b"], ["a", "b"]]), "idea: predict_proba returned what is no array of numbers"),
        ([[0.5, 0.5], [1.0]], "no array of numbers"),
        ([None, {}], "no array of numbers"),
    ],
)
def test_check_probabilities__broken_promise_is_named(probabilities, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_probabilities(probabilities, 2, 2, "idea")


def test_run_part__a_part_beyond_the_last_split_has_nothing_to_do(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("official"))
    record, table = run(study, part=3, n_parts=4, save_models=True)
    assert record["splits"] == []
    assert len(table) == 0
