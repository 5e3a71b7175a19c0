# Reads and checks the study; every rule takes what it needs from STUDY. All logic is in src/oncoarena.
import dataclasses
import json
from pathlib import Path

from oncoarena import plan, preflight, provenance, refits
from oncoarena.errors import InputError
from oncoarena.study import read_study

ROOT = Path(workflow.basedir)

try:
    STUDY = read_study(
        config,
        where=" + ".join(map(str, workflow.configfiles)) or "config",
        schemas=ROOT / "workflow/schemas",
        hypothesis_dirs=[Path("config/hypotheses"), ROOT / "config/hypotheses"],
    )
    # Jobs parse this file again; the cohort itself is checked once, before the first of them.
    if workflow.is_main_process:
        preflight.check_study(
            STUDY, plan.made_by_rules(STUDY), Path(".snakemake/oncoarena")
        )
except InputError as error:
    raise WorkflowError(f"the study cannot run as it is:\n{error}") from None

RESULTS = STUDY.results
PARTS = range(STUDY.splits.parts)


wildcard_constraints:
    assay="|".join(item.name for item in STUDY.assays),
    hypothesis="|".join(spec.id for spec in STUDY.hypotheses),
    part=r"\d+",
    purpose="|".join(refits.PURPOSES),
    shard=r"\d+",


def code(*modules):
    """Digest of the code behind a job. An edit re-runs the job and what follows it."""
    return provenance.code_digest(*modules)


def spec_of(wildcards):
    return STUDY.hypothesis(wildcards.hypothesis)


def run_files(name):
    return [
        f"{RESULTS}/runs/{spec.id}/{part}/{name}"
        for spec in STUDY.hypotheses
        for part in PARTS
    ]


def shards_of(assay):
    with checkpoints.plan_shards.get(assay=assay).output[0].open() as planned:
        return json.load(planned)
