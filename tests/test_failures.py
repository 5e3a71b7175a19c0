"""Failure cases: wrong calls, the most confident first, each sample once."""

import numpy as np

from oncoarena.referee.failures import failure_cases
from oncoarena.referee.outcomes import Outcomes


def outcomes(probability_of_b, truth, sample_ids, repeats):
    p = np.array(probability_of_b)
    return Outcomes(
        classes=("a", "b"),
        positive=1,
        sample_ids=np.array(sample_ids),
        patients=np.unique(sample_ids, return_inverse=True)[1],
        truth=np.array(truth),
        repeats=np.array(repeats),
        folds=np.zeros(len(p), np.int64),
        probabilities={"one": np.stack([1 - p, p], axis=1)},
    )


def test_failure_cases__are_ranked_by_the_mean_probability_of_the_wrong_call():
    # s1 is wrong twice (0.9, 0.7), s2 is right on average, s3 is wrong with 0.95 and with 0.85.
    ids = ["s1", "s2", "s3", "s1", "s2", "s3"]
    table = failure_cases(
        outcomes([0.9, 0.6, 0.05, 0.7, 0.1, 0.15], [0, 0, 1, 0, 0, 1], ids, [0, 0, 0, 1, 1, 1])
    )
    assert table["sample_id"].tolist() == ["s3", "s1"]
    assert table["label"].tolist() == ["b", "a"]
    assert table["predicted"].tolist() == ["a", "b"]
    np.testing.assert_allclose(table["probability"], [0.9, 0.8])


def test_failure_cases__lists_no_more_than_asked_and_nothing_where_all_is_right():
    wrong = outcomes([0.9] * 30, [0] * 30, [f"s{row:02d}" for row in range(30)], [0] * 30)
    assert len(failure_cases(wrong, n_most=7)) == 7
    right = outcomes([0.9] * 3, [1] * 3, ["x", "y", "z"], [0] * 3)
    assert failure_cases(right).columns.tolist() == [
        "hypothesis",
        "sample_id",
        "label",
        "predicted",
        "probability",
    ]
    assert len(failure_cases(right)) == 0
