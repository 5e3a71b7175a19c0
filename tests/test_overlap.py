"""Whether hypotheses fail on the same patients, counted and compared with scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

from finished_studies import make_outcomes, plain_outcomes
from oncoarena.referee.overlap import OVERLAP_COLUMNS, error_overlap


def certain(labels, n_classes=2):
    return np.eye(n_classes)[labels] * 0.8 + 0.1


def test_error_overlap__agrees_with_scikit_learn():
    outcomes = make_outcomes({"one": 1.0, "two": 0.5, "three": 0.0}, n_patients=90)
    table = error_overlap(outcomes, 100, 0)
    assert list(table.columns) == OVERLAP_COLUMNS
    assert list(zip(table["hypothesis_a"], table["hypothesis_b"], strict=True)) == [
        ("one", "two"),
        ("one", "three"),
        ("two", "three"),
    ]
    for row in table.itertuples():
        a, b = (
            outcomes.probabilities[x].argmax(axis=1) != outcomes.truth
            for x in (row.hypothesis_a, row.hypothesis_b)
        )
        assert row.kappa == pytest.approx(cohen_kappa_score(a, b))
        assert row.phi == pytest.approx(matthews_corrcoef(a, b))
        assert (row.both_wrong, row.only_a, row.only_b) == ((a & b).sum(), (a & ~b).sum(), (b & ~a).sum())
        assert row.both_wrong + row.only_a + row.only_b + row.both_right == row.n == 90
        assert row.expected_both_wrong == pytest.approx(a.mean() * b.mean() * 90)
        assert row.kappa_low <= row.kappa <= row.kappa_high


def test_error_overlap__twins_fail_together_and_repeats_are_averaged():
    outcomes = make_outcomes({"one": 0.5}, n_repeats=3)
    twin = plain_outcomes(outcomes.truth, dict.fromkeys(("x", "y"), outcomes.probabilities["one"]))
    (row,) = error_overlap(twin, 50, 0).itertuples()
    assert (row.kappa, row.phi, row.only_a, row.only_b) == pytest.approx((1, 1, 0, 0))
    (row,) = error_overlap(make_outcomes({"one": 0.5, "two": 0.5}, n_repeats=3), 50, 0).itertuples()
    assert row.n == 60


def test_error_overlap__without_errors_there_is_nothing_to_agree_on():
    truth = np.arange(20) % 2
    (row,) = error_overlap(
        plain_outcomes(truth, {"x": certain(truth), "y": certain(truth)}), 50, 0
    ).itertuples()
    assert (row.both_right, row.both_wrong) == (20, 0)
    assert np.isnan([row.kappa, row.phi, row.kappa_low]).all()


def test_error_overlap__intervals_cover_no_agreement():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = np.arange(100) % 2
        said = [np.where(rng.random(100) < 0.3, 1 - truth, truth) for _ in range(2)]
        (row,) = error_overlap(
            plain_outcomes(truth, {"x": certain(said[0]), "y": certain(said[1])}), 200, seed
        ).itertuples()
        covered += row.kappa_low <= 0 <= row.kappa_high
    # 95 % of 200, less three standard deviations.
    assert covered >= 180


def test_error_overlap__one_hypothesis_has_no_pair():
    assert len(error_overlap(make_outcomes({"one": 1.0}), 50, 0)) == 0
