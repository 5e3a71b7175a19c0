"""What a hypothesis is handed: arrays that it cannot write to, tables that are its own."""

import numpy as np
import pandas as pd
import pytest

from cohorts import toy_cohort
from oncoarena import mapped
from oncoarena.cohort import Block, BlockSpec, feature_table

SPEC = BlockSpec("b", ("sample", "feature"), "float32", "1", "Toy values.")


def block_of(values):
    return Block(SPEC, values, feature_table([f"f{j}" for j in range(values.shape[1])]))


def cohort_of_two():
    return toy_cohort(
        [0, 1, 0, 1],
        {"b": np.arange(8.0).reshape(4, 2)},
        classes="xy",
        covariates=pd.DataFrame({"age": [1.0, 2.0, 3.0, 4.0]}),
    )


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True]), np.array([0, 1])])
def test_block__values_cannot_be_written_to_however_rows_are_taken(rows):
    block = block_of(np.zeros((3, 2), np.float32))
    for values in (block.values, block.take(rows).values, block.take(rows).take(np.array([0])).values):
        with pytest.raises(ValueError, match="read-only"):
            values -= 1


@pytest.mark.parametrize("rows", [[0, 1], [2, 0]])
@pytest.mark.parametrize("large", [0, mapped.LARGE_BYTES])
def test_block__rows_of_a_map_stay_a_map_and_cannot_be_written_to(tmp_path, monkeypatch, rows, large):
    monkeypatch.setattr(mapped, "LARGE_BYTES", large)
    monkeypatch.setenv("ONCOARENA_SCRATCH", str(tmp_path))
    values = np.memmap(tmp_path / "values", np.float32, "w+", shape=(3, 2))
    values[:] = np.arange(6).reshape(3, 2)
    block = block_of(values)
    taken = block.take(np.array(rows))
    for array in (block.values, taken.values):
        assert mapped.map_of(array) is not None or (large and rows == [2, 0])
        mapped.release(array)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    np.testing.assert_array_equal(taken.values, np.arange(6).reshape(3, 2)[rows])


def test_block__array_that_it_was_made_of_may_still_be_filled():
    values = np.zeros((3, 2), np.float32)
    block = block_of(values)
    values[1] = 5
    assert block.values[1].tolist() == [5, 5]


@pytest.mark.parametrize("hand_over", [lambda c: c.take(np.arange(len(c))), lambda c: c.copy()])
def test_cohort__changes_in_place_of_a_taken_part_leave_the_whole_as_it_was(hand_over):
    whole = cohort_of_two()
    part = hand_over(whole)
    assert type(part) is type(whole)
    table = part.blocks["b"].features
    table.loc[0, "start"] = 99
    table.insert(0, "rank", 1)
    table.pop("gene")
    table.columns = ["a", "b", "c", "d", "e"]
    part.covariates.loc[:, "age"] = 0.0
    part.covariates["more"] = 1
    part.blocks.pop("b")
    part.labels[:] = 1
    assert whole.labels.tolist() == [0, 1, 0, 1]
    pd.testing.assert_frame_equal(whole.blocks["b"].features, feature_table(["b_0", "b_1"]))
    pd.testing.assert_frame_equal(whole.covariates, pd.DataFrame({"age": [1.0, 2.0, 3.0, 4.0]}))


def test_cohort__copy_shares_what_is_large():
    whole = cohort_of_two()
    assert np.shares_memory(whole.copy().blocks["b"].values, whole.blocks["b"].values)
    assert np.shares_memory(whole.copy().blocks["b"].features["start"], whole.blocks["b"].features["start"])


@pytest.mark.parametrize("name", ["sample_ids", "patient_ids"])
def test_cohort__names_cannot_be_written_to(name):
    for cohort in (cohort_of_two(), cohort_of_two().take(np.array([1, 2]))):
        with pytest.raises(ValueError, match="read-only"):
            getattr(cohort, name)[0] = getattr(cohort, name)[1]
