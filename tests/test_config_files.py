"""What Snakemake makes of the config files that it is given, before and after the first job."""

import json

import pandas as pd
import pytest

from clones import copy_clone, run_snakemake

STUDY = {
    "study": "toy",
    "samples": "samples.tsv",
    "assays": {"expression": {"matrix": "m.tsv", "transform": "none"}},
    "splits": {"scheme": "kfold", "folds": 2},
    "hypotheses": ["prior_only"],
    "strata": ["stage"],
}
SPLITS = "results/toy/splits/receipt.json"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = copy_clone(tmp_path_factory.mktemp("clone"))
    ids = [f"s{row}" for row in range(8)]
    sheet = pd.DataFrame({"sample_id": ids, "patient_id": ids, "label": [*"abababab"]})
    sheet = sheet.assign(stage=[*"11223344"], site=[*"xxyyxxyy"])
    sheet.to_csv(folder / "samples.tsv", sep="\t", index=False)
    matrix = pd.DataFrame({name: [1.5, 2.5] for name in ids}, index=["g1", "g2"])
    matrix.to_csv(folder / "m.tsv", sep="\t", index_label="id")
    return folder


def snakemake(folder, *arguments, **changes):
    (folder / "my.yaml").write_text(json.dumps(STUDY | changes))
    return started(folder, *arguments)


def started(folder, *arguments):
    done = run_snakemake(folder, *arguments, configfile="my.yaml", cores=1)
    return done.returncode, done.stdout + done.stderr


def test_snakemake__key_given_twice_is_refused_as_check_does(clone):
    (clone / "my.yaml").write_text(json.dumps(STUDY, indent=1)[:-2] + ',\n "study": "other"\n}\n')
    code, said = started(clone, "-n")
    assert code == 1
    assert "my.yaml: line 20, column 2: key 'study' is given twice; correct the YAML" in said
    assert "Traceback" not in said


def test_snakemake__further_stratum_leaves_splits_and_what_is_trained_on_them_alone(clone):
    code, said = snakemake(clone, SPLITS)
    assert code == 0, said
    assert "Nothing to be done" in snakemake(clone, SPLITS, "-n")[1]
    assert "Nothing to be done" in snakemake(clone, SPLITS, "-n", strata=["stage", "site"], positive="a")[1]
    # What the table holds comes from the sheet: a change of that is seen, and what the sheet lacks is refused.
    code, said = snakemake(clone, SPLITS, "-n", strata=["stage", "grade"])
    assert code == 1
    assert "column 'grade' is missing" in said
    sheet = clone / "samples.tsv"
    sheet.write_text(sheet.read_text().replace("y", "z"))
    assert "check_samples" in snakemake(clone, SPLITS, "-n")[1]
