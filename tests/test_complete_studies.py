"""The two simulated studies, made small, through real Snakemake: what is planted is found, and nothing else."""

import pandas as pd
import pytest
import yaml

from clones import copy_clone, run_snakemake

SMALL = {
    "cfdna": {"n_samples": 60, "n_reads": 30_000},
    "multiomic": {"n_samples": 90},
}
HYPOTHESES = ["patient_similarity", "l2_logistic"]
METRIC = "auroc_macro"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of what a clone holds."""
    return copy_clone(tmp_path_factory.mktemp("clone"))


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
    done = run_snakemake(clone, target, configfile=config.name)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    table = pd.read_parquet(clone / target)
    return table[(table["metric"] == METRIC) & (table["stratum"] == "all")].set_index("hypothesis")


@pytest.mark.parametrize("name", list(SMALL))
def test_study__planted_signal_is_found_and_none_where_none_is_planted(clone, name):
    found, null = judged(clone, name, 3.0), judged(clone, name, 0.0)
    for hypothesis in HYPOTHESES:
        assert found.loc[hypothesis, "ci_low"] > 0.6
        assert null.loc[hypothesis, "ci_low"] <= 0.5 <= null.loc[hypothesis, "ci_high"]
