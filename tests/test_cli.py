"""The command line: what it prints, and that a user's mistake is no traceback."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from oncoarena import cli, trial
from oncoarena.errors import InputError
from oncoarena.scaffold import new_hypothesis
from oncoarena.splits import SplitPlan
from studies import ROOT, entered_hypotheses, prepare_study


@pytest.fixture
def clone(tmp_path, monkeypatch):
    for name in ("workflow/schemas", "config", "src/oncoarena/hypotheses"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    ids = [f"s{row}" for row in range(8)]
    sheet = pd.DataFrame({"sample_id": ids, "patient_id": ids, "label": ["a", "b"] * 4})
    sheet.to_csv("samples.tsv", sep="\t", index=False)
    pd.DataFrame({name: [1.5, 2.5] for name in ids}, index=["g1", "g2"]).to_csv(
        "m.tsv", sep="\t", index_label="id"
    )
    config = {
        "study": "toy",
        "samples": "samples.tsv",
        "assays": {"expression": {"matrix": "m.tsv"}},
        "splits": {"scheme": "kfold", "folds": 2},
        "hypotheses": ["prior_only"],
    }
    Path("my.yaml").write_text(json.dumps(config))
    return tmp_path


def test_check__says_that_nothing_is_wrong(clone, capsys):
    assert cli.main(["check", "--configfile", "my.yaml"]) == 0
    said = capsys.readouterr().out
    assert said == "my.yaml: nothing wrong was found; run: snakemake --cores all --configfile my.yaml\n"


def test_check__says_what_is_wrong_in_plain_lines(clone, capsys):
    Path("samples.tsv").write_text(Path("samples.tsv").read_text().replace("s3", "s2"))
    assert cli.main(["check", "--configfile", "my.yaml"]) == 1
    error = capsys.readouterr().err
    assert "row 5: column 'sample_id': 's2' stands on row 4 too" in error
    assert "Traceback" not in error


def test_check__missing_config_is_one_line(clone, capsys):
    assert cli.main(["check", "--configfile", "nothing.yaml"]) == 1
    assert capsys.readouterr().err == "oncoarena: nothing.yaml: there is no such file\n"


@pytest.mark.parametrize("command", [["check"], ["plan"], ["leaderboard"], ["try", "l2_logistic"]])
@pytest.mark.parametrize(
    ("content", "found"), [("", "is empty"), ("# none yet\n", "is empty"), ("- study\n", "holds a list")]
)
def test_commands__config_that_is_no_mapping_is_one_line(clone, capsys, command, content, found):
    Path("my.yaml").write_text(content)
    assert cli.main([*command, "--configfile", "my.yaml"]) == 1
    expected = f"oncoarena: my.yaml: {found}, expected a mapping (key: value lines); see config/README.md\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("command", [["check"], ["plan"], ["leaderboard"], ["try", "l2_logistic"]])
def test_commands__outside_a_clone_say_where_to_run(clone, capsys, monkeypatch, command):
    (clone / "elsewhere").mkdir()
    monkeypatch.chdir(clone / "elsewhere")
    assert cli.main([*command, "--configfile", "../my.yaml"]) == 1
    error = capsys.readouterr().err
    assert error.endswith("elsewhere: is not a clone of oncoarena; run this at the top of your clone\n")


def test_new_hypothesis__writes_one_that_works_at_once(clone, capsys):
    assert cli.main(["new-hypothesis", "enhancer_burden"]) == 0
    assert "oncoarena try enhancer_burden" in capsys.readouterr().out
    config = json.loads(Path("my.yaml").read_text()) | {"hypotheses": ["enhancer_burden", "prior_only"]}
    Path("my.yaml").write_text(json.dumps(config))
    # In a clone the package itself is the clone's; here the new file is reached by its path.
    entry = Path("config/hypotheses/enhancer_burden.yaml")
    entry.write_text(
        entry.read_text().replace(
            "oncoarena.hypotheses.enhancer_burden", "src/oncoarena/hypotheses/enhancer_burden.py"
        )
    )
    assert cli.main(["check", "--configfile", "my.yaml"]) == 0


@pytest.mark.parametrize(
    "name",
    [
        "Enhancer",
        "9lives",
        "a-b",
        "../x",
        "wide_deep",
        "_x",
        "\u00e9t\u00e9",
        "a" * 61,
        "class",
        "x\n",
        "",
    ],
)
def test_new_hypothesis__bad_or_taken_name_is_refused(clone, name):
    with pytest.raises(InputError, match="choose another"):
        new_hypothesis(name, clone)


def test_new_hypothesis__outside_a_clone_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a clone"):
        new_hypothesis("idea", tmp_path)


def test_template__learns_a_planted_signal_and_survives_saving(tmp_path, clone):
    module, _ = new_hypothesis("nearest_mean", clone)
    study = prepare_study(tmp_path / "study", SplitPlan("official"), n_patients=60, strength=5.0)
    cohort = trial.training_part(study.splits_receipt, [study.assay_receipt])
    spec = entered_hypotheses()[0]
    spec = type(spec)(
        type(spec.training)("nearest_mean", str(module), "numpy"), "Nearest mean", "claim", spec.resources, ""
    )
    table = trial.try_hypotheses([spec], cohort)
    assert table["accuracy"][0] > 0.8
    loaded = trial.load_module(spec.training)
    predictor = loaded.fit(loaded.Config(), cohort, None, seed=0, device="cpu")
    (tmp_path / "saved").mkdir()
    predictor.save(tmp_path / "saved")
    again = loaded.load(tmp_path / "saved").predict_proba(cohort)
    assert (again == predictor.predict_proba(cohort)).all()


def test_try__uses_training_samples_only_and_tells_refusals(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("official"), n_patients=60, strength=5.0)
    cohort = trial.training_part(study.splits_receipt, [study.assay_receipt])
    held = set(study.samples.loc[study.samples["split"] == "test", "sample_id"])
    assert not held & set(cohort.sample_ids)
    specs = {spec.id: spec for spec in entered_hypotheses()}
    table = trial.try_hypotheses([specs["l2_logistic"], specs["prior_only"]], cohort)
    text = trial.print_trial(table, cohort)
    assert "the test set was not touched" in text
    assert table.set_index("hypothesis")["accuracy"]["l2_logistic"] > 0.8
    assert table.set_index("hypothesis")["accuracy"]["prior_only"] < 0.6


def test_log_to__sends_children_to_the_file_and_a_mistake_to_the_terminal_too(tmp_path):
    code = (
        "import subprocess, sys\n"
        "from oncoarena.errors import InputError\n"
        "from oncoarena.logs import log_to\n"
        "with log_to('deep/job.log'):\n"
        "    print('from python')\n"
        "    subprocess.run([sys.executable, '-c', 'print(\"from a child\")'])\n"
        "    raise InputError('sheet.tsv: row 3: is wrong')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    log = (tmp_path / "deep/job.log").read_text()
    assert done.returncode == 1
    assert done.stderr.strip() == "sheet.tsv: row 3: is wrong"
    assert "Traceback" not in log
    assert {"from python", "from a child", "sheet.tsv: row 3: is wrong"} <= set(log.splitlines())


def test_log_to__unforeseen_error_leaves_its_traceback_in_the_log(tmp_path):
    path = tmp_path / "job.log"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from oncoarena.logs import log_to\nwith log_to({str(path)!r}):\n    1 / 0\n",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero (the whole story:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in path.read_text()
