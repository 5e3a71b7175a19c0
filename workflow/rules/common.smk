# Reads and checks the study; every rule takes what it needs from STUDY. All logic is in src/oncoarena.
import dataclasses
import functools
import os
import sys
import types
from pathlib import Path

from oncoarena import (
    plan,
    preflight,
    provenance,
    reach,
    refits,
    resources,
    schema,
    store,
)
from oncoarena.aws import checks, settings
from oncoarena.errors import InputError
from oncoarena.logs import failed_logs
from oncoarena.printed_plan import print_plan
from oncoarena.study import read_study

ROOT = Path(workflow.basedir)
CONFIGFILES = " ".join(map(os.path.relpath, workflow.configfiles))

try:
    # Snakemake's own reader takes the second of two equal keys and says nothing.
    if workflow.is_main_process:
        for configfile_path in workflow.configfiles:
            schema.read_mapping(Path(configfile_path))
    # `--profile aws` has put the settings into the environment.
    AWS = settings.read_settings() if settings.active() else None
    if AWS is not None:
        config["results"] = reach.remote_results(config, AWS.results)
    entered = read_study(
        config,
        where=CONFIGFILES or "config",
        schemas=ROOT / "workflow/schemas",
        hypothesis_dirs=[Path("config/hypotheses"), ROOT / "config/hypotheses"],
    )
    STUDY = reach.made_in_reach(entered)
    # Jobs parse this file again; the cohort itself is checked once, before the first of them.
    if workflow.is_main_process:
        if AWS is not None:
            reach.refuse_out_of_reach(entered)
            checks.check_aws(
                AWS,
                entered,
                root=ROOT,
                configfiles=list(map(Path, workflow.configfiles)),
            )
        preflight.check_study(
            STUDY,
            [reach.place(STUDY, name) for name in plan.made_by_rules(STUDY)],
            Path(".snakemake/oncoarena"),
        )
        # Snakemake says only later whether this is a dry run.
        if AWS is not None and {"-n", "-np", "--dry-run", "--dryrun"} & set(sys.argv):
            print_plan(STUDY, sys.stdout)
except InputError as error:
    raise WorkflowError(f"the study cannot run as it is:\n{error}") from None

RESULTS = STUDY.results
PARTS = range(STUDY.splits.parts)
COMMAND = f"snakemake {'--cores all' if AWS is None else '--profile aws'} --configfile {CONFIGFILES}"


wildcard_constraints:
    assay="|".join(item.name for item in STUDY.assays),
    hypothesis="|".join(spec.id for spec in STUDY.hypotheses),
    part=r"\d+",
    purpose="|".join(refits.PURPOSES),
    shard=r"\d+",


if AWS is not None:
    # What jobs on AWS Batch are told of this process's environment; keys and passwords stay here.
    os.environ.update(reach.environment(AWS))
    workflow.register_envvars(*reach.environment(AWS))


def given(uri):
    """An input. The job itself reads s3:// objects: nothing is copied to its node first."""
    return storage(uri, retrieve=False) if uri.startswith("s3://") else local(uri)


def result(name):
    """A result, which the job itself reads or writes."""
    return given(store.join(RESULTS, name))


def record(name):
    """A log or a benchmark: Snakemake stores it on S3 when the job has ended, well or badly."""
    uri = store.join(RESULTS, name)
    return storage(uri) if store.is_remote(uri) else local(uri)


def made(name):
    """A file of a cohort that a rule makes on this machine."""
    uri = reach.place(STUDY, name)
    return storage(uri) if store.is_remote(uri) else local(uri)


def code(*modules):
    """Digest of the code behind a job. An edit re-runs the job and what follows it."""
    return provenance.code_digest(*modules)


def asks(need):
    """The resources of a rule; its threads are Snakemake's own directive."""
    return resources.directives(need, AWS)


def spec_of(wildcards):
    return STUDY.hypothesis(wildcards.hypothesis)


def run_files(name):
    return [
        result(f"runs/{spec.id}/{part}/{name}")
        for spec in STUDY.hypotheses
        for part in PARTS
    ]


@functools.cache
def planned_shards(assay):
    return store.read_json(f"{RESULTS}/shards/{assay}/shards.json")


def shards_of(assay):
    checkpoints.plan_shards.get(assay=assay)
    return planned_shards(assay)


def extraction(wildcards, input):
    shard = planned_shards(wildcards.assay)[int(wildcards.shard)]
    return resources.extraction_need(STUDY.assay(wildcards.assay), shard, input.size_mb)


def training(wildcards, input):
    return resources.training_need(spec_of(wildcards))
