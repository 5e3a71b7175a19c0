"""Results on S3: where jobs on other machines find what rules make, and what they could not read."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from oncoarena import plan, store
from oncoarena.aws.settings import ACTIVE, VARIABLES, AwsSettings
from oncoarena.errors import InputError
from oncoarena.specs import TrainingSpec
from oncoarena.study import AssayPlan, Study


def environment(aws: AwsSettings) -> dict[str, str]:
    """Return the variables with which a job on AWS Batch finds the same settings again; none of them is secret."""
    values = {key: getattr(aws, key) for key in ("region", "results")}
    for outer in ("queues", "job_definitions"):
        values |= {f"{outer}.{key}": value for key, value in getattr(aws, outer).items()}
    return {variable: values[key] for key, variable in VARIABLES.items()} | {ACTIVE: "1"}


def remote_results(config: Mapping[str, Any], prefix: str) -> str:
    """Return where results go when jobs share no disk: the config's own URI, else ``prefix``."""
    own = config.get("results", "")
    return own if store.is_remote(own) else prefix


def place(study: Study, name: str) -> str:
    """Return where a file that rules make, named below the clone, is: beside remote results, else in the clone."""
    base = store.parent(study.results)
    return store.join(base, name) if store.is_remote(base) else name


def made_in_reach(study: Study) -> Study:
    """Let a study read the cohorts that rules make (see ``plan.made_by_rules``) from where jobs find them."""
    moved = {name: place(study, name) for name in plan.made_by_rules(study)}

    def put(uri: str | None) -> str | None:
        return moved.get(uri, uri)

    assays = tuple(
        replace(item, matrix=put(item.matrix), annotation=put(item.annotation)) for item in study.assays
    )
    return replace(study, samples=put(study.samples), assays=assays)


def refuse_out_of_reach(study: Study) -> None:
    """Raise InputError for a simulated cohort with a file a sample: only the machine that makes them has them."""
    columns = [item.column for item in study.assays if item.column is not None]
    if study.simulate is not None and columns:
        raise InputError(
            f"simulate: the files of single samples (column {columns[0]}) lie on the machine that makes them, where "
            "jobs on other machines do not see them; make the cohort here (oncoarena simulate), copy it to s3:// and "
            "name its sheet under samples, or run this study with --cores"
        )


def tracked(reader: AssayPlan | TrainingSpec) -> list[str]:
    """List the files that Snakemake can watch, local ones and those on S3, of what one reads for a whole cohort.

    That is an assay's matrix, annotation and reference, or what the config of a hypothesis names.
    """
    named = [*reader.files().values()]
    if isinstance(reader, AssayPlan):
        named += [reader.matrix, reader.annotation]
    return [uri for uri in named if uri is not None and (uri.startswith("s3://") or not store.is_remote(uri))]
