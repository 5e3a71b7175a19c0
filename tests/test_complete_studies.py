"""The two simulated studies, made small, through real Snakemake: what is planted is found, and nothing else."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from studies import ROOT

PARTS = ("Snakefile", "workflow", "config", "src", "pyproject.toml")
SMALL = {
    "cfdna": {"n_samples": 60, "n_reads": 30_000},
    "multiomic": {"n_samples": 90},
}
HYPOTHESES = ["patient_similarity", "l2_logistic"]
METRIC = "auroc_macro"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of what a clone holds."""
    folder = tmp_path_factory.mktemp("clone")
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def judged(clone, name, strength):
    """Run a study of the clone, smaller and at a strength; return its evaluation, a row a hypothesis."""
    study = yaml.safe_load((clone / f"config/studies/{name}.yaml").read_text())
    study["study"] = f"{name}_{strength}"
    folder = f"resources/simulated/{name}_{strength}"
    text = yaml.safe_dump(study | {"simulate": study["simulate"] | SMALL[name] | {"strength": strength}})
    study = yaml.safe_load(text.replace(f"resources/simulated/{name}/", f"{folder}/"))
    study |= {"hypotheses": HYPOTHESES, "bootstrap": 200}
    study["splits"] |= {"folds": 3}
    config = clone / f"{name}_{strength}.yaml"
    config.write_text(yaml.safe_dump(study))
    target = f"results/{name}_{strength}/evaluation.parquet"
    command = [sys.executable, "-m", "snakemake", target, "--cores", "2", "--configfile", config.name]
    environment = os.environ | {"PYTHONPATH": str(clone / "src"), "XDG_CACHE_HOME": str(clone / ".cache")}
    done = subprocess.run(
        command, cwd=clone, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    table = pd.read_parquet(clone / target)
    return table[(table["metric"] == METRIC) & (table["stratum"] == "all")].set_index("hypothesis")


@pytest.mark.parametrize("name", list(SMALL))
def test_study__planted_signal_is_found_and_none_where_none_is_planted(clone, name):
    found, null = judged(clone, name, 3.0), judged(clone, name, 0.0)
    for hypothesis in HYPOTHESES:
        assert found.loc[hypothesis, "ci_low"] > 0.6
        assert null.loc[hypothesis, "ci_low"] <= 0.5 <= null.loc[hypothesis, "ci_high"]
