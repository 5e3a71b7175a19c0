"""Learning curves and seeds: the same test samples, the same definitions, paired."""

import numpy as np
import pandas as pd
import pytest

from finished_studies import make_study
from oncoarena.referee.evaluation import evaluate
from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.outcomes import join_outcomes
from oncoarena.referee.retraining import learning_table, seed_table
from test_block_checks import outcome


def first_repeat(study, strengths, seed=1):
    """Other predictions of the first repeat of a study, as models trained again would give."""
    predictions, _, splits, _, classes = make_study(strengths, n_patients=90, n_repeats=2, seed=0)
    rng = np.random.default_rng(seed)
    columns = [f"p_{name}" for name in classes]
    table = predictions[predictions["repeat"] == 0].copy()
    p = table[columns].to_numpy() * np.exp(rng.normal(0, 0.5, (len(table), len(columns))))
    table[columns] = p / p.sum(axis=1, keepdims=True)
    pd.testing.assert_frame_equal(splits, study[2])
    return table


@pytest.fixture(scope="module")
def study():
    return make_study({"one": 1.5, "two": 1.0}, n_patients=90, n_repeats=2)


def joined(study, table):
    _, samples, splits, _, classes = study
    return join_outcomes(table, samples, splits[splits["repeat"].isin(table["repeat"])], classes)


def test_learning_table__each_share_is_evaluated_as_a_study_of_its_own(study):
    quarter, half = (
        first_repeat(study, {"one": 1.5, "two": 1.0}, 1),
        first_repeat(study, {"one": 1.5, "two": 1.0}, 2),
    )
    main = joined(study, study[0])
    found = learning_table(main, {0.25: joined(study, quarter), 0.5: joined(study, half)}, "accuracy", 100, 0)
    assert found.groupby(["hypothesis", "metric"]).size().unique().tolist() == [3]
    alone = study[0][study[0]["repeat"] == 0]
    for share, table in ((0.25, quarter), (0.5, half), (1.0, alone)):
        expected = evaluate(joined(study, table), pd.DataFrame(), 100, 0).set_index(["hypothesis", "metric"])
        for row in found[found["fraction"] == share].itertuples():
            numbers = expected.loc[(row.hypothesis, row.metric), ["estimate", "ci_low", "ci_high"]]
            assert [row.estimate, row.ci_low, row.ci_high] == pytest.approx(numbers.tolist(), nan_ok=True)
    whole = found[found["fraction"] == 1].set_index(["hypothesis", "metric"])["estimate"]
    for row in found[found["fraction"] < 1].itertuples():
        assert row.rest == pytest.approx(whole[row.hypothesis, row.metric] - row.estimate)
        assert row.rest_low <= row.rest <= row.rest_high


def test_learning_table__same_predictions_at_every_share_have_nothing_left_to_bring(study):
    alone = joined(study, study[0][study[0]["repeat"] == 0])
    found = learning_table(joined(study, study[0]), {0.5: alone}, "auroc_macro", 60, 0)
    assert (found["rest"] == 0).all()
    assert set(found["metric"]) == {"auroc_macro", "log_loss"}


def test_seed_table__counts_changed_calls_and_knows_the_main_model(study):
    again = first_repeat(study, {"one": 1.5, "two": 1.0})
    one = again[again["hypothesis"] == "one"]
    found = seed_table(joined(study, study[0]), {1: joined(study, again), 2: joined(study, one)}, "accuracy")
    assert found.groupby(["hypothesis", "metric"]).size().to_dict() == {
        (name, metric): n
        for name, n in (("one", 3), ("two", 2))
        for metric in ("accuracy", "auroc_macro", "log_loss")
    }
    columns = [f"p_{name}" for name in study[4]]
    truth = study[1].set_index("sample_id")["label"]
    main = study[0].query("hypothesis == 'one' and repeat == 0").set_index(["fold", "sample_id"])
    calls = one.set_index(["fold", "sample_id"])[columns].idxmax(axis=1)
    before = main[columns].idxmax(axis=1)[calls.index]
    row = found.query("hypothesis == 'one' and training_seed == 1 and metric == 'accuracy'").iloc[0]
    assert row["changed"] == pytest.approx((calls != before).mean())
    right = calls.str.removeprefix("p_").to_numpy() == truth[calls.index.get_level_values(1)].to_numpy()
    assert row["estimate"] == pytest.approx(right.mean())


def test_chk010__compares_seeds_on_the_repeat_that_was_trained_again(study):
    seeds = {n: first_repeat(study, {"one": 1.5, "two": 1.0}, n) for n in (1, 2)}
    tables = evaluate_study(*study, n_bootstrap=50, n_permutations=20, seed_predictions=seeds)
    found, detail = outcome(tables["checks"], "CHK010", "one")
    # Noise of half a logit names another class for more than one sample in ten.
    assert found == "finding"
    assert "over 3 seeds" in detail
    estimates = tables["seeds"].query("hypothesis == 'one' and metric == 'auroc_macro'")["estimate"]
    assert f"{estimates.min():.3f} to {estimates.max():.3f}" in detail
