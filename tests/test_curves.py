"""Curves and confusion tables: small, finite, and what a count by hand gives."""

import numpy as np
import pytest

from finished_studies import make_outcomes
from oncoarena.referee import metrics
from oncoarena.referee.curves import MAX_POINTS, confusion_tables, curves, simplify
from oncoarena.referee.replicates import resample

# --- curves and confusion


@pytest.mark.parametrize("n_repeats", [1, 3])
def test_curves__the_area_under_the_roc_curve_is_the_auroc(n_repeats):
    outcomes = make_outcomes({"one": 1.0}, n_patients=300, n_repeats=n_repeats)
    table = curves(outcomes)
    macro = table.query("curve == 'roc' and label == 'macro'")
    expected = resample(outcomes, 1, 0).estimates["one"]["auroc_macro"]
    assert np.trapezoid(macro["y"], macro["x"]) == pytest.approx(expected, abs=0.01)
    first = table.query("curve == 'roc' and label == 'a'")
    by_repeat = [
        metrics.auroc(outcomes.truth[rows] == 0, outcomes.probabilities["one"][rows, 0])
        for rows in (outcomes.repeats == r for r in range(n_repeats))
    ]
    assert np.trapezoid(first["y"], first["x"]) == pytest.approx(np.mean(by_repeat), abs=0.01)


def test_curves__stay_small_and_finite():
    table = curves(make_outcomes({"one": 0.3, "two": 0.1}, n_patients=3000, n_classes=2))
    assert table.groupby(["hypothesis", "curve", "label"]).size().max() <= MAX_POINTS + 1
    assert np.isfinite(table[["x", "y", "n_samples"]]).all(axis=None)
    assert set(table["curve"]) == {"roc", "calibration", "risk_coverage", "precision_recall", "decision"}


def test_curves__calibration_bins_hold_every_sample_once():
    outcomes = make_outcomes({"one": 1.0}, n_patients=90, n_repeats=2)
    table = curves(outcomes).query("curve == 'calibration'")
    assert table.groupby("label")["n_samples"].sum().tolist() == pytest.approx([90.0] * 4)
    whole = table.query("label == 'top'")
    assert np.average(whole["y"], weights=whole["n_samples"]) == pytest.approx(
        resample(outcomes, 1, 0).estimates["one"]["accuracy"]
    )


def test_curves__the_last_point_of_risk_coverage_is_the_accuracy():
    outcomes = make_outcomes({"one": 1.0}, n_repeats=2)
    last = curves(outcomes).query("curve == 'risk_coverage'").iloc[-1]
    assert last["x"] == 1
    assert last["y"] == pytest.approx(resample(outcomes, 1, 0).estimates["one"]["accuracy"])


def test_curves__net_benefit_counted_by_hand():
    outcomes = make_outcomes({"one": 1.0}, n_classes=2)
    table = curves(outcomes).query("curve == 'decision'").set_index(["hypothesis", "x"])
    positive, p = outcomes.truth == 1, outcomes.probabilities["one"][:, 1]
    for threshold in (0.2, 0.5):
        odds = threshold / (1 - threshold)
        acted = p >= threshold
        expected = (acted & positive).mean() - odds * (acted & ~positive).mean()
        near = table.loc["one"].iloc[np.abs(table.loc["one"].index - threshold).argmin()]
        assert near["y"] == pytest.approx(expected)
        everyone = table.loc["treat all"].iloc[np.abs(table.loc["treat all"].index - threshold).argmin()]
        assert everyone["y"] == pytest.approx(positive.mean() - odds * (~positive).mean())


def test_simplify__keeps_ends_and_drops_what_lies_on_a_line():
    x, y = simplify(np.array([0, 1, 2, 2, 3.0]), np.array([0, 1, 2, 3, 3.0]))
    assert x.tolist() == [0, 2, 2, 3]
    assert y.tolist() == [0, 2, 3, 3]
    steps = np.random.default_rng(0).random(5000).cumsum(), np.random.default_rng(1).random(5000).cumsum()
    thin = simplify(*steps)
    assert len(thin[0]) <= MAX_POINTS
    assert (thin[0][0], thin[0][-1]) == (steps[0][0], steps[0][-1])


def test_confusion_tables__count_each_sample_once_a_repeat():
    outcomes = make_outcomes({"one": 1.0}, n_patients=30, n_repeats=4)
    table = confusion_tables(outcomes)
    assert list(table.columns) == ["hypothesis", "label", "predicted", "n_samples"]
    assert len(table) == 9
    assert table.groupby("label")["n_samples"].sum().tolist() == pytest.approx([10.0] * 3)
    right = table[table["label"] == table["predicted"]]["n_samples"].sum() / 30
    assert right == pytest.approx(resample(outcomes, 1, 0).estimates["one"]["accuracy"])
