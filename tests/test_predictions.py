"""Predictions are complete, belong to their split and are probabilities, or the user is told where not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finished_studies import make_study
from oncoarena.errors import InputError
from oncoarena.referee.predictions import check_predictions, collect, external_predictions, prediction_table


@pytest.fixture
def study():
    return make_study({"one": 1.0, "two": 0.5}, n_repeats=2)


@pytest.fixture
def vendor(study):
    """A vendor's table: one row a sample, as read from a TSV (text)."""
    _, samples, splits, _, classes = study
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(3), size=len(samples)).round(6)
    table = pd.DataFrame(shares, columns=[f"p_{c}" for c in classes]).astype(str)
    table.insert(0, "sample_id", samples["sample_id"])
    return table, splits, classes


def test_prediction_table__wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected \(2, 2\)"):
        prediction_table("one", 0, 0, np.array(["x", "y"]), np.full((2, 3), 1 / 3), ("a", "b"))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_collect__order_of_rows_does_not_matter(seed):
    predictions, _, splits, _, classes = make_study({"one": 1.0, "two": 0.5}, n_patients=12, n_repeats=2)
    parts = [part for _, part in predictions.groupby(["hypothesis", "fold"])]
    straight = collect(parts, splits, classes)
    shuffled = [part.sample(frac=1, random_state=seed % 2**31) for part in parts]
    pd.testing.assert_frame_equal(straight, collect(shuffled, splits, classes))
    assert list(straight.columns) == ["hypothesis", "repeat", "fold", "sample_id", "p_a", "p_b", "p_c"]
    assert len(straight) == 2 * 2 * 12


def test_collect__nothing_gives_an_empty_table(study):
    _, _, splits, _, classes = study
    table = collect([], splits, classes)
    assert len(table) == 0
    assert list(table.columns) == ["hypothesis", "repeat", "fold", "sample_id", "p_a", "p_b", "p_c"]


def test_collect__probabilities_before_calibration_stay_beside_the_calibrated_ones(study):
    predictions, _, splits, _, classes = study
    raw = {f"raw_{name}": predictions[f"p_{name}"] ** 2 for name in classes}
    one, two = (predictions["hypothesis"] == name for name in ("one", "two"))
    offered = predictions.assign(**raw)[one].sample(frac=1, random_state=0)
    table = collect([offered, predictions[two]], splits, classes)
    pd.testing.assert_frame_equal(
        table.drop(columns=list(raw)), collect([predictions], splits, classes), check_exact=True
    )
    mine = table["hypothesis"] == "one"
    for name in raw:
        np.testing.assert_allclose(table[name][mine], table[name.replace("raw_", "p_")][mine] ** 2)
        assert table[name][~mine].isna().all()


def test_check_predictions__small_deviations_of_the_sum_are_scaled_away(study):
    predictions, _, splits, _, classes = study
    columns = ["p_a", "p_b", "p_c"]
    predictions = predictions.reset_index(drop=True)
    predictions[columns] *= 1.0009
    checked = check_predictions(predictions, splits, classes)
    np.testing.assert_allclose(checked[columns].sum(axis=1), 1, rtol=0, atol=1e-12)


def spoil(table, column, value, row=4):
    table = table.reset_index(drop=True)
    table[column] = table[column].astype(object)
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="p_b"), "missing column p_b"),
        (lambda t: t.assign(score=1), "unexpected column score"),
        (lambda t: spoil(t, "p_b", np.nan), "line 6, column p_b: found nan, expected a number from 0 to 1"),
        (lambda t: spoil(t, "p_b", np.inf), "line 6, column p_b: found inf"),
        (lambda t: spoil(t, "p_c", -0.1), "line 6, column p_c: found -0.1"),
        (lambda t: spoil(t, "p_a", 1.5), "line 6: the probabilities sum to"),
        (
            lambda t: spoil(t, "sample_id", "s99999"),
            "line 6: repeat 0, fold 0, sample 's99999' is not a test",
        ),
        (lambda t: t.iloc[1:], "hypothesis one: no row for repeat 0, fold 0, sample"),
        (lambda t: pd.concat([t, t.iloc[[0]]]), "is there twice"),
        (lambda t: t.iloc[:0], "the table has no rows"),
    ],
)
def test_check_predictions__says_what_is_wrong_and_where(study, change, message):
    predictions, _, splits, _, classes = study
    with pytest.raises(InputError) as error:
        check_predictions(change(predictions), splits, classes)
    assert message in str(error.value)


def test_check_predictions__a_training_sample_is_no_test_sample(study):
    predictions, _, splits, _, classes = study
    predictions = predictions.reset_index(drop=True)
    trained = splits.query("repeat == 0 and fold == 0 and role == 'train'")["sample_id"].iloc[0]
    predictions.loc[0, "sample_id"] = trained
    with pytest.raises(InputError, match="is not a test sample of that split"):
        check_predictions(predictions, splits, classes)


def test_external_predictions__one_row_a_sample_serves_every_test_of_it(vendor):
    table, splits, classes = vendor
    entered = external_predictions(table, "vendor", splits, classes, "vendor.tsv")
    collected = collect([entered], splits, classes)
    assert len(collected) == 2 * len(table)
    merged = collected.merge(table, on="sample_id", suffixes=("", "_given"))
    for name in ("p_a", "p_b", "p_c"):
        np.testing.assert_allclose(merged[name], merged[f"{name}_given"].astype(float), atol=1e-5)


def test_external_predictions__a_table_by_split_is_taken_as_it_is(study):
    predictions, _, splits, _, classes = study
    one = predictions[predictions["hypothesis"] == "one"].drop(columns="hypothesis").astype(str)
    entered = external_predictions(one, "paper", splits, classes, "paper.tsv")
    expected = collect([predictions.query("hypothesis == 'one'")], splits, classes)
    pd.testing.assert_frame_equal(entered.drop(columns="hypothesis"), expected.drop(columns="hypothesis"))
    assert set(entered["hypothesis"]) == {"paper"}


def test_external_predictions__samples_that_are_never_tested_are_left_out(vendor):
    table, splits, classes = vendor
    official = splits.query("repeat == 0 and fold == 0")
    entered = external_predictions(table, "vendor", official, classes, "vendor.tsv")
    assert set(entered["sample_id"]) == set(official.query("role == 'test'")["sample_id"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="sample_id"), "vendor.tsv: missing column sample_id"),
        (lambda t: t.assign(p_d="0"), "unexpected column p_d"),
        (lambda t: spoil(t, "p_a", "0,5"), "vendor.tsv, line 6, column p_a: found '0,5'"),
        (lambda t: spoil(t, "sample_id", "ghost"), "line 6, column sample_id: 'ghost' is not a sample"),
        (lambda t: pd.concat([t, t.iloc[[2]]]), "line 62, column sample_id: 's00002' is there twice"),
        (lambda t: t.iloc[1:], "1 test samples have no row, the first is 's00000'"),
        (lambda t: t.assign(fold="0"), "found column fold without its partner"),
        (
            lambda t: t.assign(fold="0", repeat="x"),
            "line 2, column repeat: found 'x', expected a whole number",
        ),
    ],
)
def test_external_predictions__says_what_is_wrong_and_where(vendor, change, message):
    table, splits, classes = vendor
    with pytest.raises(InputError) as error:
        external_predictions(change(table), "vendor", splits, classes, "vendor.tsv")
    assert message in str(error.value)
