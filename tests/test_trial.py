"""A trial: every hypothesis is told of its own faults, and the heading is true of the study's splits."""

import dataclasses
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from oncoarena import cli, trial
from oncoarena.errors import InputError
from oncoarena.specs import HypothesisSpec, Resources, TrainingSpec
from oncoarena.splits import SplitPlan, make_splits
from studies import prepare_study

HALF = """
from dataclasses import dataclass
import numpy as np

FRAMEWORK = "numpy"
BLOCKS = "all"


@dataclass(frozen=True)
class Config:
    pass


class Predictor:
    def predict_proba(self, cohort):
        return np.full((len(cohort), 2), 0.5)


def fit(config, train, validation, *, seed, device):
    return Predictor()
"""
ANSWER = "np.full((len(cohort), 2), 0.5)"


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    study = prepare_study(tmp_path_factory.mktemp("official"), SplitPlan("official"), n_patients=40)
    return trial.training_part(study.splits_receipt, [study.assay_receipt])


@pytest.fixture
def written(tmp_path):
    """Enter a hypothesis with the given source."""

    def write(name, source):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return HypothesisSpec(TrainingSpec(name, str(path), "numpy"), name, "claim", Resources(), "")

    return write


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (ANSWER, "np.full((len(cohort), 3), 1 / 3)", r"faulty.py: ValueError: .*shape \(\d+, 3\), expected"),
        (ANSWER, ANSWER + " * np.nan", r"faulty.py: ValueError: .*not finite"),
        (ANSWER, 'np.full((len(cohort), 2), "x")', r"faulty.py: ValueError: .*no array of numbers"),
        ("return Predictor()", "return deeper()", r"faulty.py, line 20, in fit: NameError: .*'deeper'"),
        ("return Predictor()", "raise SystemExit(3)", r"faulty.py, line 20, in fit: SystemExit: 3"),
        ("return Predictor()", "return np.linalg.inv(1)", r"faulty.py, line 20, in fit: LinAlgError"),
        ("def fit", "def train", r"faulty.py: AttributeError: .*'fit'"),
        ("    pass", "    rate: float", r"faulty.py: TypeError: .*'rate'"),
        ("import numpy as np", "import numpi as np", r"faulty.py, line 3, in <module>: ModuleNotFoundError"),
    ],
)
def test_try__faulty_hypothesis_is_told_in_a_line_and_the_others_go_on(
    part, written, capsys, old, new, complaint
):
    specs = [written("faulty", HALF.replace(old, new)), written("sound", HALF)]
    table = trial.try_hypotheses(specs, part).set_index("hypothesis")
    assert table["log_loss"]["sound"] == pytest.approx(np.log(2))
    assert table["failure"]["sound"] == ""
    assert np.isnan(table["accuracy"]["faulty"])
    with pytest.raises(InputError, match=f"faulty: fold 1 of 5: .*{complaint}") as caught:
        trial.print_trial(table.reset_index(), part)
    assert str(caught.value).splitlines()[0] == "1 of 2 hypotheses failed"
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split()[0] == "sound"
    assert lines[-1].split() == ["faulty", "failed:", "see", "below"]


def test_try__later_fold_is_named(part, written):
    source = HALF.replace(
        "return Predictor()", "assert train.sample_ids[0] == FIRST, 'gone'; return Predictor()"
    ).replace("FIRST", repr(str(part.sample_ids[0])))
    failure = trial.try_hypotheses([written("faulty", source)], part)["failure"][0]
    # The first sample is out of the training part in the one fold that predicts it.
    fold = int(failure.split()[1])
    assert 1 <= fold <= 5
    assert failure.endswith("AssertionError: gone")


def test_try__what_one_hypothesis_does_to_its_tables_no_other_fold_sees(part, written):
    source = HALF.replace(
        "    return Predictor()",
        '    train.blocks["expression"].features.pop("gene")\n    train.covariates.pop("age")\n    return Predictor()',
    )
    table = trial.try_hypotheses([written("meddler", source), written("again", source)], part)
    assert table["failure"].tolist() == ["", ""]


@pytest.mark.parametrize("n_folds", [1, 0, -3, 21])
def test_try__number_of_folds_that_cannot_be_dealt_is_one_line(part, written, n_folds):
    with pytest.raises(InputError, match=f"--folds: found {n_folds}, expected 2 to 20, the number") as caught:
        trial.try_hypotheses([written("sound", HALF)], part, n_folds=n_folds)
    assert "\n" not in str(caught.value)


def test_try__as_many_folds_as_patients_is_leave_one_out(part, written):
    table = trial.try_hypotheses([written("sound", HALF)], part, n_folds=20)
    assert table["failure"][0] == ""


def test_try__command_ends_with_1_after_the_table_where_a_hypothesis_failed(
    part, written, monkeypatch, capsys
):
    specs = [written("faulty", HALF.replace("return Predictor()", "1 / 0")), written("sound", HALF)]
    study = SimpleNamespace(assays=[], results="r", hypotheses=specs, seed=0)
    monkeypatch.setattr(cli, "_study", lambda content, options: study)
    monkeypatch.setattr(cli.schema, "read_yaml", lambda path: {})
    done = SimpleNamespace(returncode=0)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)
    monkeypatch.setattr(trial, "training_part", lambda *arguments: part)
    assert cli.main(["try", "faulty", "--folds", "3"]) == 1
    told = capsys.readouterr()
    assert "sound" in told.out
    assert "ZeroDivisionError: division by zero" in told.err
    assert "Traceback" not in told.out + told.err
    study.hypotheses = specs[1:]
    assert cli.main(["try", "sound"]) == 0


def heading(study):
    cohort = trial.training_part(study.splits_receipt, [study.assay_receipt])
    table = trial.try_hypotheses([], cohort)
    return trial.print_trial(table, cohort).partition("\nhypothesis")[0]


def test_heading__test_set_of_an_official_split_was_not_touched(part):
    assert not part.tested_elsewhere
    assert trial.print_trial(trial.try_hypotheses([], part), part).startswith(
        "20 training samples, 2 classes; the test set was not touched."
    )


def test_heading__of_kfold_says_that_these_are_test_samples_of_other_splits(tmp_path):
    text = heading(prepare_study(tmp_path, SplitPlan("kfold", folds=3)))
    assert "not touched" not in text
    assert "test samples of the study's other splits" in text
    assert "scheme official" in text


@pytest.mark.parametrize(("held", "untouched"), [("s00 s01", True), ("s02 s03", False)])
def test_heading__of_a_table_depends_on_whom_its_splits_test(tmp_path, held, untouched):
    plain = prepare_study(tmp_path / "plain", SplitPlan("official"))
    first = make_splits(plain.samples, SplitPlan("official")).assign(role="train")
    second = first.assign(repeat=1)
    first.loc[first["sample_id"].isin(["s00", "s01"]), "role"] = "test"
    second.loc[second["sample_id"].isin(held.split()), "role"] = "test"
    path = tmp_path / "splits.tsv"
    path.write_text(first.to_csv(sep="\t", index=False) + second.to_csv(sep="\t", index=False, header=False))
    text = heading(prepare_study(tmp_path / "study", SplitPlan("table", table=str(path))))
    assert ("the test set was not touched" in text) is untouched


def test_training_part__parts_taken_of_it_remember_what_it_is(part):
    assert dataclasses.replace(part, tested_elsewhere=True).take(np.arange(3)).tested_elsewhere
