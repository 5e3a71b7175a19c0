"""What a study will do before it runs: its shards, the files that jobs read and that rules make."""

from collections.abc import Mapping

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
    "operating_points",
    "seeds",
    "learning",
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


def local_inputs(plan: AssayPlan) -> list[str]:
    """Local files that Snakemake tracks as inputs of an assay's extraction.

    Objects named in the sample sheet are not listed: a study may have a million, and the library reads them
    where they are.
    """
    named = [uri for uri in (plan.matrix, plan.annotation, *plan.files().values()) if uri is not None]
    return [uri for uri in named if not store.is_remote(uri)]


def plan_shards(
    plan: AssayPlan, samples: pd.DataFrame, shard_samples: int, shard_gb: float
) -> list[dict[str, int]]:
    """Deal the samples of the sheet to extraction jobs: neighbours, by the bytes of their objects.

    A shard ends with the object that brings it to ``shard_gb`` (10^9 bytes), or at ``shard_samples``. An object
    that is not there counts nothing; the job that reads it says so. Returns first, end (rows) and n_bytes of each.
    """
    if plan.column is None:
        return [{"first": 0, "end": len(samples), "n_bytes": 0}]
    uris = samples[plan.column].tolist()
    n_bytes_of = store.sizes(uris)
    shards, first, n_bytes = [], 0, 0
    for row, uri in enumerate(uris, start=1):
        n_bytes += n_bytes_of[uri] or 0
        if row - first >= shard_samples or n_bytes >= shard_gb * 1e9 or row == len(uris):
            shards.append({"first": first, "end": row, "n_bytes": n_bytes})
            first, n_bytes = row, 0
    return shards


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
