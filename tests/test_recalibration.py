"""What calibration changed: losses before it and after it, in the referee's table and on the model card."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

import judged
from finished_studies import make_study
from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.outcomes import join_outcomes
from oncoarena.referee.recalibration import raw_probabilities, recalibration
from oncoarena.reporting.report import render_report
from test_cards import words_of


def sharpened(probabilities, power):
    """What an overconfident model says of the same samples."""
    values = probabilities**power
    return values / values.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def study():
    """Two repeats of 60 patients with two samples each; "one" tells what it said before, "two" does not."""
    predictions, samples, splits, runs, classes = make_study(
        {"one": 1.0, "two": 1.0}, n_repeats=2, samples_each=2
    )
    columns = [f"p_{name}" for name in classes]
    raw = sharpened(predictions[columns].to_numpy(), 3.0)
    raw[(predictions["hypothesis"] == "two").to_numpy()] = np.nan
    for column, name in enumerate(classes):
        predictions[f"raw_{name}"] = raw[:, column]
    # Rows come in any order.
    return predictions.sample(frac=1, random_state=0), samples, splits, runs, classes


@pytest.fixture(scope="module")
def table(study):
    predictions, samples, splits, runs, classes = study
    tables = evaluate_study(predictions, samples, splits, runs, classes, n_bootstrap=400, seed=3)
    return tables["recalibration"]


def test_recalibration__losses_are_those_of_scikit_learn_averaged_over_repeats(study, table):
    predictions, samples, _, _, classes = study
    assert table["hypothesis"].unique().tolist() == ["one"]
    mine = predictions.query("hypothesis == 'one'").merge(samples, on="sample_id")
    (row,) = table.query("metric == 'log_loss'").to_dict("records")
    for when, prefix in (("before", "raw"), ("after", "p")):
        columns = [f"{prefix}_{name}" for name in classes]
        losses = [
            log_loss(part["label"], part[columns], labels=list(classes)) for _, part in mine.groupby("repeat")
        ]
        assert row[when] == pytest.approx(np.mean(losses), rel=1e-12)
    truth = np.array(classes) == mine["label"].to_numpy()[:, None]
    (row,) = table.query("metric == 'brier'").to_dict("records")
    squares = ((mine[[f"raw_{name}" for name in classes]] - truth) ** 2).to_numpy().sum(axis=1)
    assert row["before"] == pytest.approx(squares.mean(), rel=1e-12)


def test_recalibration__after_is_what_the_evaluation_says(study, table):
    predictions, samples, splits, runs, classes = study
    evaluation = evaluate_study(predictions, samples, splits, runs, classes, n_bootstrap=50)["evaluation"]
    judged_as = evaluation.query("hypothesis == 'one' and stratum == 'all'").set_index("metric")["estimate"]
    after = table.set_index("metric")["after"]
    assert after["log_loss"] == pytest.approx(judged_as["log_loss"], rel=1e-12)
    assert after["brier"] == pytest.approx(judged_as["brier"], rel=1e-12)


def test_recalibration__overconfidence_undone_is_a_fall_beyond_its_interval(table):
    assert (table["change"] == table["after"] - table["before"]).all()
    assert (table["ci_high"] < 0).all()
    assert ((table["ci_low"] <= table["change"]) & (table["change"] <= table["ci_high"])).all()


def test_recalibration__interval_is_as_wide_as_patients_not_samples_allow(study, table):
    predictions, samples, splits, _, classes = study
    outcomes = join_outcomes(predictions, samples, splits, classes)
    raw = raw_probabilities(predictions, splits, outcomes)["one"]
    rows = np.arange(len(outcomes.truth))
    fall = np.log(raw[rows, outcomes.truth]) - np.log(outcomes.probabilities["one"][rows, outcomes.truth])
    of_patient = np.bincount(outcomes.patients, fall) / np.bincount(outcomes.patients)
    expected = 2 * 1.96 * of_patient.std(ddof=1) / np.sqrt(len(of_patient))
    (row,) = table.query("metric == 'log_loss'").to_dict("records")
    assert row["ci_high"] - row["ci_low"] == pytest.approx(expected, rel=0.25)


def test_recalibration__the_same_before_and_after_changed_nothing(study):
    predictions, samples, splits, _, classes = study
    outcomes = join_outcomes(predictions, samples, splits, classes)
    table = recalibration(outcomes, {"two": outcomes.probabilities["two"]}, 50, 0)
    assert (table[["change", "ci_low", "ci_high"]].to_numpy() == 0).all()


def test_raw_probabilities__of_hypotheses_that_do_not_tell_there_are_none(study):
    predictions, samples, splits, _, classes = study
    without = predictions.drop(columns=[f"raw_{name}" for name in classes])
    assert raw_probabilities(without, splits, join_outcomes(without, samples, splits, classes)) == {}


def test_card__says_what_calibration_changed():
    study = judged.make_study()
    study["tables"]["recalibration"] = pd.DataFrame(
        [("wide_deep", "log_loss", 1.2, 1.05, -0.15, -0.25, -0.05)],
        columns=["hypothesis", "metric", "before", "after", "change", "ci_low", "ci_high"],
    )
    page = judged.Page(render_report(**study))
    words = words_of(page, "wide_deep").replace("\N{MINUS SIGN}", "-")
    assert "Log loss before calibration" in words
    assert "1.200; calibration changed it by -0.150 (-0.250 to -0.050)" in words
    assert "before calibration" not in words_of(page, "sparse_markers")
