"""What stands out among samples, who was excluded and why, and the flow from the sheet to the test sets."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oncoarena.benchmarks import read_benchmarks
from oncoarena.quality import (
    compare_sex,
    excluded_samples,
    fences,
    find_outliers,
    measures,
    sample_flow,
    shorten_reason,
)


def test_fences__are_three_quartile_ranges_beyond_the_quartiles():
    values = np.arange(101.0)
    assert fences(np.append(values, np.nan)) == pytest.approx((25 - 3 * 50, 75 + 3 * 50))


def test_fences__values_over_powers_of_ten_are_judged_by_their_logarithms():
    values = 10.0 ** np.linspace(0, 4, 101)
    low, high = fences(values)
    assert np.log10([low, high]) == pytest.approx([1 - 6, 3 + 6])


def test_fences__of_few_values_or_of_a_common_number_say_only_what_they_can():
    assert fences(np.array([1.0, 2, 3, 400])) == (-np.inf, np.inf)
    mostly = np.zeros(100)
    mostly[:2] = 7
    assert fences(mostly) == (0, 0)
    mostly[:20] = 7
    assert fences(mostly) == (-np.inf, np.inf)


@given(arrays(float, st.integers(0, 40), elements=st.floats(-1e6, 1e6) | st.just(np.nan)))
@example(np.array([1.0, *[2.2e-309] * 7]))
@example(np.array([1.0, 1.0, 1.0, *[2.2e-309] * 5]))
def test_fences__hold_the_middle_half_of_any_values(values):
    low, high = fences(values)
    known = values[np.isfinite(values)]
    assert not np.isnan([low, high]).any()
    if len(known):
        assert (
            np.mean((known >= low * (1 - 1e-9 * np.sign(low))) & (known <= high * (1 + 1e-9 * np.sign(high))))
            >= 0.5
        )


def quality_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(10)],
            "n_records": [100.0, 101, 102, 103, 104, 105, 106, 107, 108, 900],
            "sorted": True,
            "empty": np.nan,
            "offset": 1.0,
            "sex_inferred": ["female", "male", "XX", "XY", None, "female", "male", "male", "male", "unknown"],
        }
    )


def test_measures__are_the_columns_of_numbers_that_hold_any():
    assert measures(quality_table()) == ["n_records"]


def test_find_outliers__names_the_sample_and_its_value():
    found = find_outliers(quality_table())
    assert found[["measure", "sample_id", "value"]].to_numpy().tolist() == [["n_records", "s9", 900.0]]


def test_compare_sex__agrees_differs_or_does_not_say():
    samples = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(10)],
            "sex": ["F", "F", "f", "M", "M", "", "male", "m", "Female", "m"],
        }
    )
    compared = compare_sex(quality_table(), samples)
    told = [True, False, True, True, None, None, True, True, False, None]
    assert compared["agrees"].tolist() == told
    assert compare_sex(quality_table(), samples[["sample_id"]]) is None
    assert compare_sex(quality_table().drop(columns="sex_inferred"), samples) is None


def test_excluded_samples__come_from_the_table_and_from_the_receipt_each_once():
    table = pd.DataFrame(
        {
            "sample_id": ["a", "b", "c"],
            "status": ["read", "quarantined", None],
            "reason": ["", "x/b.bam: ends early", ""],
            "offset": [np.nan, 17, np.nan],
            "uri": ["x/a.bam", "x/b.bam", "x/c.bam"],
        }
    )
    listed = [
        {"sample_id": "b", "uri": "x/b.bam", "reason": "told twice", "offset": 17},
        {"sample_id": "d", "uri": "x/d.bam", "reason": "there is no such file", "offset": None},
    ]
    found = excluded_samples(
        {"alignments": table, "expression": table[["sample_id"]]}, {"alignments": listed}
    )
    assert found["sample_id"].tolist() == ["b", "d"]
    assert found["reason"].tolist() == ["x/b.bam: ends early", "there is no such file"]
    assert found["offset"].fillna(-1).tolist() == [17, -1]
    none = excluded_samples({"expression": table[["sample_id"]]})
    assert none.empty
    assert list(none.columns) == ["assay", "sample_id", "uri", "reason", "offset"]


@pytest.mark.parametrize(
    ("reason", "uri", "short"),
    [
        (
            "s3://b/x.bam: ends at byte 512 in a block; copy it again",
            "s3://b/x.bam",
            "ends at byte … in a block",
        ),
        ("s3://b/y.bam: ends at byte 7 in a block; copy it again", "", "ends at byte … in a block"),
        ("row 3, column 17: 'abc' is not a number", "", "row …, column …: 'abc' is not a number"),
        ("x.bam is aligned to hg19", "data/x.bam", "… is aligned to hg19"),
        ("", "x", ""),
    ],
)
def test_shorten_reason__leaves_what_samples_may_share(reason, uri, short):
    assert shorten_reason(reason, uri) == short


def test_sample_flow__counts_each_stage_and_says_who_left_and_why():
    samples = pd.DataFrame(
        {"sample_id": list("abcdefgh"), "patient_id": list("ppqrstuv"), "label": ["x", "y"] * 4}
    )
    splits = pd.DataFrame(
        {
            "repeat": 0,
            "fold": 0,
            "sample_id": list("abcde"),
            "role": ["train", "train", "train", "test", "test"],
        }
    )
    excluded = pd.DataFrame(
        {
            "assay": ["alignments", "alignments", "expression"],
            "sample_id": ["g", "h", "h"],
            "uri": ["g.bam", "h.bam", "h.tsv"],
            "reason": ["g.bam: ends at byte 5", "h.bam: ends at byte 99", "h.tsv: is empty"],
        }
    )
    flow = sample_flow(samples, splits, excluded)
    assert [(s["stage"], s["n_samples"], s["n_patients"]) for s in flow] == [
        ("listed in the sheet", 8, 7),
        ("read and measured", 6, 5),
        ("in at least one split", 5, 4),
        ("tested", 2, 2),
    ]
    assert [s["left"] for s in flow] == [
        [],
        [{"reason": "ends at byte …", "n_samples": 2}],
        [{"reason": "in no split", "n_samples": 1}],
        [{"reason": "trained on, never tested", "n_samples": 3}],
    ]
    for before, after in pairwise(flow):
        assert before["n_samples"] - after["n_samples"] == sum(item["n_samples"] for item in after["left"])
    assert [s["stage"] for s in sample_flow(samples, splits)] == [
        "listed in the sheet",
        "in at least one split",
        "tested",
    ]


def test_read_benchmarks__reads_steps_jobs_and_what_was_not_measured(tmp_path):
    head = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    rows = {
        "benchmarks/evaluate.tsv": "5.14\t0:00:05\t317.62\t1\t1\t1\t57.22\t0.11\t50\t2.81\n",
        "benchmarks/train/a.0.tsv": "0.1\t0:00:00\t-\t-\t-\t-\tNA\t-\t0.00\t0.00\n",
    }
    for name, row in rows.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(head + row)
    table = read_benchmarks([str(tmp_path / name) for name in rows])
    assert table[["step", "job"]].to_numpy().tolist() == [["evaluate", ""], ["train", "a.0"]]
    assert table.iloc[0, 2:].tolist() == [5.14, 2.81, 317.62, 57.22, 0.11]
    assert table["peak_memory_mb"].isna().tolist() == [False, True]
    assert read_benchmarks([]).empty
