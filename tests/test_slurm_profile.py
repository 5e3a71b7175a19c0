"""`snakemake --profile slurm` against commands that stand in for a cluster's: they run each job here, at once."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest

from studies import ROOT
from test_workflow import clone, snakemake, study  # noqa: F401

SBATCH = """#!/bin/sh
# sbatch ... --wrap="command": keep the options, run the command, tell the number of the job.
number=$(($(ls "$SLURM_STAND_IN" | wc -l) + 1))
folder="$SLURM_STAND_IN/$number"
mkdir "$folder"
printf '%s\\n' "$@" > "$folder/arguments"
for argument; do command=${argument#--wrap=}; done
if SLURM_JOB_ID=$number sh -c "$command" > "$folder/out" 2>&1
then echo "$number|COMPLETED" > "$folder/state"
else echo "$number|FAILED" > "$folder/state"
fi
echo "$number"
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
"""
COMMANDS = {
    "sbatch": SBATCH,
    "srun": SRUN,
    "sacct": '#!/bin/sh\\ncat "$SLURM_STAND_IN"/*/state\\n'.replace("\\n", "\n"),
    "squeue": "#!/bin/sh\n",
    "scancel": "#!/bin/sh\n",
    "scontrol": "#!/bin/sh\necho 'MinJobAge = 300 sec'\n",
    "sinfo": "#!/bin/sh\nprintf 'PARTITION\\nmain*\\n'\n",
    "sacctmgr": "#!/bin/sh\necho our_group\n",
}


@pytest.fixture(scope="module")
def trained(clone):  # noqa: F811
    """A study whose blocks were made here, and whose splits and model by the cluster; the options of its jobs."""
    shutil.copytree(ROOT / "slurm", clone / "slurm")
    commands, jobs = clone / "commands", clone / "slurm_jobs"
    for folder in (commands, jobs):
        folder.mkdir()
    for name, text in COMMANDS.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    content = study(hypotheses=["patient_similarity"], external=[], splits={"scheme": "kfold", "folds": 2})
    (clone / "slurm.yaml").write_text(json.dumps(content))
    done = snakemake(clone, "results/tiny/blocks/expression.json", configfile="slurm.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    environment = os.environ | {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": str(clone / "src"),
        "SLURM_STAND_IN": str(jobs),
        "ONCOARENA_SLURM_GPU_PARTITION": "a100",
        "ONCOARENA_SLURM_ACCOUNT": "our_group",
    }
    target = "results/tiny/runs/patient_similarity/0/run.json"
    arguments = [target, "--profile", "slurm", "--configfile", "slurm.yaml"]
    waits = ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, *waits],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return clone, {options_of(folder)["--comment"]: options_of(folder) for folder in jobs.iterdir()}


def options_of(folder):
    """The options of one job, by name."""
    words = shlex.split(
        " ".join(map(shlex.quote, (folder / "arguments").read_text().split("--wrap=")[0].split()))
    )
    pairs = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("-"):
            name, _, value = word.partition("=")
            pairs[name] = value or following
    return pairs


def test_profile_slurm__model_is_trained_on_the_cluster(trained):
    folder, jobs = trained
    record = json.loads((folder / "results/tiny/runs/patient_similarity/0/run.json").read_text())
    assert record["status"] == "trained"
    assert len(jobs) == 2


def test_profile_slurm__training_asks_for_the_gpu_partition_and_splitting_for_none(trained):
    _, jobs = trained
    train = next(options for comment, options in jobs.items() if comment.startswith("rule_train"))
    split = jobs["rule_split"]
    wanted = {
        "-p": "a100",
        "-A": "our_group",
        "--gpus": "1",
        "--mem": "4000",
        "-t": "240",
        "--cpus-per-task": "1",
    }
    assert {name: train.get(name) for name in wanted} == wanted
    # The cluster's own default.
    assert (split["-p"], split["--mem"], split["-t"]) == ("main", "2000", "60")
    assert "--gpus" not in split or split["--gpus"] == "0"
