"""What a study will do before it runs: its shards, the files that jobs read and that rules make."""

from oncoarena import store
from oncoarena.extraction import shards_of
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
)
"""Tables that the evaluation leaves in results/<study>/, each <name>.parquet."""


def simulated_files(study: Study) -> list[str]:
    """Files of a simulated cohort below resources/, made by the rule simulate; none for other studies."""
    if study.simulate is None:
        return []
    return [f"simulated/{study.name}/{name}" for name in ("samples.tsv", "expression.tsv.gz", "genes.tsv")]


def made_by_rules(study: Study) -> list[str]:
    """Files that rules make when they are not there: they need not exist before the first run."""
    return [f"resources/{name}" for name in (*DEMO_FILES, *simulated_files(study))]


def local_inputs(plan: AssayPlan) -> list[str]:
    """Local files that Snakemake tracks as inputs of an assay's extraction.

    Objects named in the sample sheet are not listed: a study may have a million, and the library reads them
    where they are.
    """
    named = [uri for uri in (plan.matrix, plan.annotation) if uri is not None]
    return [uri for uri in named if not store.is_remote(uri)]


def n_shards(study: Study, plan: AssayPlan) -> int:
    """Number of extraction jobs of an assay: one for a matrix, else by the lines of the sample sheet."""
    if plan.matrix is not None or not store.exists(study.samples):
        return 1
    with store.open_input(study.samples) as stream:
        lines = sum(1 for line in stream if line.strip() and not line.startswith(b"#"))
    return shards_of(lines - 1, study.shard_samples)


def shard_receipts(study: Study, assay: str) -> list[str]:
    """Receipts of all shards of an assay."""
    count = n_shards(study, study.assay(assay))
    return [f"{study.results}/shards/{assay}/{shard}/receipt.json" for shard in range(count)]
