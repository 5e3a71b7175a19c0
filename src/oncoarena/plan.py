"""What a study will do before it runs: its shards, the files that jobs read and that rules make."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from oncoarena import simulation, store
from oncoarena.study import AssayPlan, Study

DEMO_FILES = (
    "srbct/samples.tsv",
    "srbct/expression.tsv.gz",
    "nci60/samples.tsv",
    "nci60/expression.parquet",
)
"""Files of the demo cohorts below resources/, made by the fetch rules."""

MOST_SHARDS = 100
"""Extraction jobs of a study, at most: Snakemake asks the store for each job's files, so jobs are few and large."""

TABLES = (
    "evaluation",
    "comparison",
    "checks",
    "curves",
    "confusion",
    "failures",
    "overlap",
    "added_value",
    "strata_leaders",
    "recalibration",
    "operating_points",
    "seeds",
    "learning",
    "attributions",
    "attribution_agreement",
)
"""Tables that the evaluation leaves in results/<study>/, each <name>.parquet."""


def simulated_files(study: Study) -> list[str]:
    """Files of a simulated cohort below resources/, made by the rule simulate, the sheet first.

    Files of single samples are not listed. None for other studies.
    """
    names = () if study.simulate is None else simulation.cohort_files(study.simulate)
    return [f"simulated/{study.name}/{name}" for name in names]


def made_by_rules(study: Study) -> list[str]:
    """Files that rules make when they are not there: they need not exist before the first run."""
    return [f"resources/{name}" for name in (*DEMO_FILES, *simulated_files(study))]


def most_shards(study: Study) -> int:
    """Return how many extraction jobs an assay may have: ``MOST_SHARDS`` shared among those read object by object."""
    return max(1, MOST_SHARDS // max(1, sum(plan.column is not None for plan in study.assays)))


def plan_shards(
    plan: AssayPlan,
    samples: pd.DataFrame,
    shard_samples: int,
    shard_gb: float,
    most_shards: int = MOST_SHARDS,
) -> list[dict[str, int]]:
    """Deal the samples of the sheet to extraction jobs: neighbours, by the bytes of their objects.

    A shard ends with the object that brings it to ``shard_gb`` (10^9 bytes), or at ``shard_samples``. Where that
    makes more than ``most_shards``, both limits grow alike until it does not. An object that is not there counts
    nothing; the job that reads it says so. Returns first, end (rows) and n_bytes of each.
    """
    if plan.column is None:
        return [{"first": 0, "end": len(samples), "n_bytes": 0}]
    uris = samples[plan.column].tolist()
    n_bytes_of = store.sizes(uris)
    return deal_shards([n_bytes_of[uri] or 0 for uri in uris], shard_samples, shard_gb, most_shards)


def deal_shards(
    n_bytes: Sequence[int], shard_samples: int, shard_gb: float, most_shards: int = MOST_SHARDS
) -> list[dict[str, int]]:
    """Deal objects of ``n_bytes`` (n_samples,) to shards, as ``plan_shards`` says; the work goes with the shards."""
    n_samples = len(n_bytes)
    before = np.concatenate([[0], np.cumsum(np.asarray(n_bytes, dtype=np.int64))])
    factor = 1.0
    while True:
        most_samples, most_bytes = math.ceil(shard_samples * factor), math.ceil(shard_gb * 1e9 * factor)
        ends, first = [], 0
        while first < n_samples:
            reached = int(before.searchsorted(before[first] + most_bytes))  # whole numbers: no copy is made
            first = min(max(reached, first + 1), first + most_samples, n_samples)
            ends.append(first)
        if len(ends) <= most_shards:
            break
        factor *= len(ends) / most_shards
    firsts = [0, *ends][: len(ends)]
    return [
        {"first": first, "end": end, "n_bytes": int(before[end] - before[first])}
        for first, end in zip(firsts, ends, strict=True)
    ]


def benchmarks(study: Study, n_shards: Mapping[str, int]) -> list[str]:
    """Names, below benchmarks/, of what Snakemake measures of every job before the report."""
    extracted = [f"extract/{plan.name}.{i}" for plan in study.assays for i in range(n_shards[plan.name])]
    frozen = [f"freeze/{plan.name}" for plan in study.assays]
    trained = [f"train/{spec.id}.{part}" for spec in study.hypotheses for part in range(study.splits.parts)]
    again = [f"train_again/{name.replace('/', '.')}" for name in refit_runs(study)]
    return ["check_samples", "split", *extracted, *frozen, *trained, *again, "evaluate"]


def refit_runs(study: Study) -> list[str]:
    """Names, below runs/, of what hypotheses train beside the models that compete: hypothesis/part/purpose."""
    return [
        f"{spec.id}/{part}/{refit.purpose}"
        for spec in study.hypotheses
        for refit in study.refits_of(spec)
        for part in range(study.splits.parts)
    ]
