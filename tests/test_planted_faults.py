"""One fault planted into a clean study: its check finds it, and no other check speaks up."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from finished_studies import clean_study, noisy_probabilities
from oncoarena.referee.checks import CHECKS, describe
from oncoarena.referee.endpoint import endpoint_digest
from oncoarena.referee.judge import evaluate_study


class Study:
    """A clean study, its parts by name, to be spoilt and judged."""

    def __init__(self, seed=0, **options):
        (self.predictions, self.samples, self.splits, self.runs, self.classes), self.options = clean_study(
            seed, **options
        )
        self.truth = np.unique(self.samples["label"], return_inverse=True)[1]
        self.strata = []
        self.rng = np.random.default_rng(seed)

    @property
    def values(self):
        return self.options["blocks"]["expression"].values

    def set_values(self, values):
        block = self.options["blocks"]["expression"]
        self.options["blocks"] = {"expression": dataclasses.replace(block, values=values.astype(np.float32))}

    def say(self, hypothesis, probabilities):
        """Let a hypothesis say (n_samples, n_classes) in every repeat, and with every seed."""
        for table in (self.predictions, *self.options["seed_predictions"].values()):
            inside = (table["hypothesis"] == hypothesis).to_numpy()
            rows = pd.Index(self.samples["sample_id"]).get_indexer(table.loc[inside, "sample_id"])
            table.loc[inside, [f"p_{name}" for name in self.classes]] = probabilities[rows]

    def said(self, hypothesis):
        table = self.predictions.query("hypothesis == @hypothesis and repeat == 0").set_index("sample_id")
        return table.loc[self.samples["sample_id"], [f"p_{name}" for name in self.classes]].to_numpy()

    def findings(self):
        tables = evaluate_study(
            self.predictions,
            self.samples,
            self.splits,
            self.runs,
            self.classes,
            self.strata,
            **self.options,
        )
        found = tables["checks"].query("outcome == 'finding'")
        return {(code, name) for code, name in zip(found["code"], found["hypothesis"], strict=True)}

    def other_fold(self):
        """A sample that is tested in another fold of the first repeat than sample 0."""
        tested = self.splits.query("repeat == 0 and role == 'test'").set_index("sample_id")["fold"]
        fold = tested[self.samples["sample_id"]].to_numpy()
        return int(np.flatnonzero(fold != fold[0])[0])


def shared_patient(study):
    patients = study.samples["patient_id"].to_numpy(dtype=object).copy()
    patients[study.other_fold()] = patients[0]
    study.samples = study.samples.assign(patient_id=patients)
    return {("CHK001", "")}


def equal_digests(study):
    study.options["digests"].loc[[0, study.other_fold()], "digest"] = "same"
    return {("CHK002", "")}


def noisy_copy(study):
    values = study.values.copy()
    twin = study.other_fold()
    values[twin] = values[0] + study.rng.normal(0, 0.2, values.shape[1])
    study.set_values(values)
    return {("CHK002", "")}


def guessing_claim(study):
    # Calibrated guesses: nearly the class frequencies, with no bearing on the truth.
    study.say("two", noisy_probabilities(study.truth, 3, 0.0, study.rng) * 0.05 + 0.95 / 3)
    return {("CHK003", "two"), ("CHK004", "two")}


def telling_covariates(study):
    study.say("covariates_only", study.said("one"))
    return {("CHK004", "one"), ("CHK004", "two"), ("CHK004", "l2")}


def leaking_control(study):
    study.say("permuted_labels", study.said("one"))
    return {("CHK005", "permuted_labels")}


def batch_effect(study):
    tied = np.array(["A", "B", "C"])[
        np.where(study.rng.random(120) < 0.6, study.truth, study.rng.integers(3, size=120))
    ]
    study.samples = study.samples.assign(site=tied)
    shift = np.random.default_rng(1).normal(0, 1, (3, study.values.shape[1]))
    study.set_values(study.values + shift[np.unique(tied, return_inverse=True)[1]])
    return {("CHK006", "")}


def sure_claim(study):
    sharp = study.said("two") ** 3
    study.say("two", sharp / sharp.sum(axis=1, keepdims=True))
    return {("CHK008", "two")}


def small_stratum(study):
    study.samples = study.samples.assign(stage=np.where(np.arange(120) < 9, "IV", "I"))
    study.strata = ["stage"]
    return {("CHK009", "")}


def fickle_claim(study):
    columns = [f"p_{name}" for name in study.classes]
    for seed, table in study.options["seed_predictions"].items():
        inside = table["hypothesis"] == "two"
        p = table.loc[inside, columns] * np.exp(np.random.default_rng(seed).normal(0, 2, (inside.sum(), 3)))
        table.loc[inside, columns] = p.div(p.sum(axis=1), axis=0)
    return {("CHK010", "two")}


def leaked_feature(study):
    values = study.values.copy()
    values[:, 50] = (study.truth == 1) + study.rng.normal(0, 0.01, 120)
    study.set_values(values)
    return {("CHK011", "")}


def many_looks(study):
    study.options["looks"] = pd.DataFrame({"config_digest": ["first", "second"]})
    return {("CHK012", "")}


def untrained_class(study):
    label = study.splits["sample_id"].map(study.samples.set_index("sample_id")["label"])
    gone = (study.splits["fold"] == 0) & (study.splits["role"] == "train") & (label == "b")
    study.splits = study.splits[~gone].reset_index(drop=True)
    return {("CHK013", "")}


def telling_gaps(study):
    values = study.values.copy()
    values[(study.truth == 2) & (study.rng.random(120) < 0.5), 50] = np.nan
    study.set_values(values)
    return {("CHK014", "")}


def moved_goal(study):
    study.options["previous_endpoint"] = endpoint_digest("accuracy")
    return {("CHK015", "")}


FAULTS = (
    shared_patient,
    equal_digests,
    noisy_copy,
    guessing_claim,
    telling_covariates,
    leaking_control,
    batch_effect,
    sure_claim,
    small_stratum,
    fickle_claim,
    leaked_feature,
    many_looks,
    untrained_class,
    telling_gaps,
    moved_goal,
)


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_checks__find_the_planted_fault_and_nothing_else(plant):
    study = Study()
    expected = plant(study)
    assert study.findings() == expected


def test_checks__every_check_that_applies_has_its_planted_fault():
    planted = {code for plant in FAULTS for code, _ in plant(Study())}
    # A falling site needs splits by site: see the tests of CHK007.
    assert {describe(check)[0] for check in CHECKS} - planted == {"CHK007"}


def test_checks__say_nothing_about_clean_studies():
    findings = []
    for seed in range(8):
        findings += sorted(Study(seed, n_classes=2 + seed % 2, n_patients=80 + 40 * (seed % 2)).findings())
    # Each probabilistic check errs in at most 1 study of 100 (calibration: a hypothesis of 100, three a study).
    assert len(findings) <= 1, findings
