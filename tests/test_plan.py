"""Shards and jobs of a study: every sample once, and few jobs however large the cohort."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoarena import plan
from oncoarena.samples import read_samples
from oncoarena.splits import SplitPlan, make_splits
from oncoarena.study import AssayPlan, Study, assay_module
from studies import entered_hypotheses


def column_assay(name):
    return AssayPlan(name, assay_module(name).Options(), column=name)


def study(*assays, **keys):
    return Study(
        name="toy",
        samples="samples.tsv",
        results="results/toy",
        seed=0,
        assays=assays,
        splits=SplitPlan("kfold", folds=5, repeats=10),
        hypotheses=tuple(entered_hypotheses()),
        **keys,
    )


def deal_one_by_one(n_bytes, shard_samples, shard_gb):
    """The rule in its simplest words: a shard ends with the object that brings it to either limit."""
    shards, first, held = [], 0, 0
    for row, more in enumerate(n_bytes, start=1):
        held += more
        if row - first >= shard_samples or held >= shard_gb * 1e9 or row == len(n_bytes):
            shards.append({"first": first, "end": row, "n_bytes": held})
            first, held = row, 0
    return shards


objects = st.lists(st.integers(0, 10**10), max_size=60)


@settings(deadline=None, max_examples=150)
@given(objects, st.integers(1, 20), st.floats(0.001, 50))
def test_deal_shards__same_as_one_object_after_the_other(n_bytes, shard_samples, shard_gb):
    dealt = plan.deal_shards(n_bytes, shard_samples, shard_gb, most_shards=1000)
    assert dealt == deal_one_by_one(n_bytes, shard_samples, shard_gb)


@settings(deadline=None, max_examples=150)
@given(objects, st.integers(1, 20), st.floats(0.001, 50), st.integers(1, 10))
def test_deal_shards__every_sample_once_in_at_most_so_many_shards(n_bytes, shard_samples, shard_gb, most):
    dealt = plan.deal_shards(n_bytes, shard_samples, shard_gb, most)
    assert len(dealt) <= most
    rows = [row for shard in dealt for row in range(shard["first"], shard["end"])]
    assert rows == list(range(len(n_bytes)))
    assert [shard["n_bytes"] for shard in dealt] == [
        sum(n_bytes[shard["first"] : shard["end"]]) for shard in dealt
    ]


def test_deal_shards__a_petabyte_of_a_million_objects_is_a_hundred_jobs():
    started = time.perf_counter()
    dealt = plan.deal_shards(np.full(1_000_000, 10**9), 500, 200.0)
    assert time.perf_counter() - started < 10  # 0.3 s on a calm core
    assert len(dealt) == 100
    assert {shard["end"] - shard["first"] for shard in dealt} == {10_000}


def test_deal_shards__small_cohorts_keep_their_limits():
    dealt = plan.deal_shards([10**9] * 1200, 500, 200.0)
    assert [shard["end"] - shard["first"] for shard in dealt] == [200] * 6


@pytest.mark.parametrize(
    "names",
    [("alignments",), ("alignments", "variants"), ("alignments", "variants", "methylation", "segments")],
)
def test_jobs__at_most_two_hundred_whatever_the_cohort(names):
    everything = study(
        *(column_assay(name) for name in names), seeds=3, learning_curve=(0.25, 0.5, 1.0), shard_samples=500
    )
    n_bytes = np.random.default_rng(0).integers(10**8, 10**10, 1_000_000)
    most = plan.most_shards(everything)
    dealt = plan.deal_shards(n_bytes, everything.shard_samples, everything.shard_gb, most)
    measured = plan.benchmarks(everything, dict.fromkeys(names, len(dealt)))
    # Beside what is measured: plan_shards of each assay, seal_endpoint, report and all.
    assert len(measured) + len(names) + 3 <= 200


def test_most_shards__a_matrix_takes_none_of_them():
    matrix = AssayPlan("expression", assay_module("expression").Options(), matrix="m.tsv")
    assert plan.most_shards(study(matrix)) == plan.MOST_SHARDS
    assert plan.most_shards(study(matrix, column_assay("variants"))) == plan.MOST_SHARDS
    assert (
        plan.most_shards(study(column_assay("alignments"), column_assay("variants"))) == plan.MOST_SHARDS // 2
    )


def test_sheet_of_a_hundred_thousand__is_checked_split_and_dealt_in_seconds(tmp_path):
    n_samples = 100_000
    lines = ["sample_id\tpatient_id\tlabel\tage\talignments"]
    for row in range(n_samples):
        label = "cancer" if row // 2 % 2 else "healthy"
        lines.append(f"s{row}\tp{row // 2}\t{label}\t{row % 90}\t{tmp_path}/s{row}.bam")
    (tmp_path / "samples.tsv").write_text("\n".join(lines))
    started = time.perf_counter()
    samples = read_samples(
        str(tmp_path / "samples.tsv"), columns=["age"], paths=["alignments"], min_patients=5
    )
    splits = make_splits(samples, SplitPlan("kfold", folds=5))
    shards = plan.plan_shards(column_assay("alignments"), samples, 500, 200.0)
    assert time.perf_counter() - started < 60  # 4 s on two calm cores
    assert len(samples) == n_samples
    assert len(splits) == 5 * n_samples
    assert len(shards) == 100
    assert shards[-1]["end"] == n_samples
    assert {shard["n_bytes"] for shard in shards} == {0}  # no such file: the job that reads it says so
