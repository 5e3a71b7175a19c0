"""Files that the config of a hypothesis names, a GMT file of gene sets among them: looked for, watched, digested."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import yaml

from oncoarena import plan, reach, schema, store
from oncoarena.aws.sources import data_uris
from oncoarena.errors import InputError
from oncoarena.preflight import check_study
from oncoarena.runs import run_part
from oncoarena.specs import TrainingSpec, read_literals, spec_from_dict
from oncoarena.splits import SplitPlan
from oncoarena.study import read_study
from studies import ROOT, prepare_study

READER = '''"""The answer is in a file. Refuted by any sample. Reference: none."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

FRAMEWORK = "numpy"
BLOCKS = "all"
FILES = {files}


@dataclass(frozen=True)
class Config:
    answer: str = ""
    other: int = 0


class Predictor:
    def __init__(self, p):
        self.p = p

    def predict_proba(self, cohort):
        return np.tile([1 - self.p, self.p], (len(cohort), 1))


def fit(config, train, validation, *, seed, device):
    stop = Path(config.answer).with_suffix(".stop")
    if stop.exists() and len(stop.read_text()) > 0:
        raise ValueError("stopped")
    if stop.exists():
        stop.write_text("at the next model")
    return Predictor(float(Path(config.answer).read_text()))
'''


@pytest.fixture
def reader(tmp_path):
    """The source of a hypothesis that reads a file."""
    module = tmp_path / "reader.py"
    module.write_text(READER.format(files='("answer",)'))
    return module


def demo_study(**config):
    """The demo study with one hypothesis of its own config, entered in the working directory."""
    folder = Path("config/hypotheses")
    folder.mkdir(parents=True)
    entry = {"title": "Markers", "module": "oncoarena.hypotheses.sparse_markers", "config": config}
    (folder / "markers.yaml").write_text(yaml.safe_dump(entry))
    return read_study(
        schema.read_yaml(ROOT / "config/config.yaml") | {"hypotheses": ["markers"]},
        where="config",
        schemas=ROOT / "workflow/schemas",
        hypothesis_dirs=[folder, ROOT / "config/hypotheses"],
    )


def check(study):
    check_study(study, plan.made_by_rules(study))


def test_check_study__absent_gene_sets_are_told_before_the_first_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = demo_study(gmt="hallmark.gmt")
    told = "hallmark.gmt: there is no such file; correct config.gmt of hypothesis markers"
    with pytest.raises(InputError, match=told):
        check(study)
    Path("hallmark.gmt").write_text("SET\tna\tA\tB\n")
    check(study)


def test_data_uris__gene_sets_on_this_machine_are_among_the_data_that_jobs_on_aws_lack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ("hypothesis markers: config.gmt", "hallmark.gmt") in data_uris(
        demo_study(gmt="hallmark.gmt"), None
    )


@pytest.mark.parametrize(
    ("gmt", "watched"),
    [("sets.gmt", ["sets.gmt"]), ("s3://b/sets.gmt", ["s3://b/sets.gmt"]), ("https://h/s.gmt", []), ("", [])],
)
def test_tracked__gene_sets_that_snakemake_can_watch(tmp_path, monkeypatch, gmt, watched):
    monkeypatch.chdir(tmp_path)
    (spec,) = demo_study(gmt=gmt).hypotheses
    assert reach.tracked(spec.training) == watched


def test_read_study__what_is_no_path_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="config: gmt is 5; expected the path or URI of a file"):
        demo_study(gmt=5)


@pytest.mark.parametrize("files", ['"answer"', '("answr",)', "(1,)", "None"])
def test_read_literals__files_that_are_no_keys_of_the_config(reader, files):
    reader.write_text(READER.format(files=files))
    with pytest.raises(InputError, match="expected a tuple of keys of its Config that name a file"):
        read_literals(reader)


def test_spec_from_dict__rebuilds_what_snakemake_passes_on():
    spec = TrainingSpec("a", "b.py", "numpy", ("x",), ("y",), {"answer": "z.txt"}, ("answer",))
    assert spec_from_dict(json.loads(json.dumps(dataclasses.asdict(spec)))) == spec
    assert spec.files() == {"answer": "z.txt"}


@pytest.fixture
def train(reader, tmp_path):
    """Train the reader on two folds with what its file says; return run.json's content and all predictions."""
    study = prepare_study(tmp_path / "study", SplitPlan("kfold", folds=2))
    answer = tmp_path / "answer.txt"
    config = {"answer": str(answer)}
    spec = TrainingSpec("reader", str(reader), "numpy", config=config, file_keys=("answer",))

    def run(content):
        answer.write_text(content)
        record = run_part(
            spec,
            splits_receipt=study.splits_receipt,
            assay_receipts=[study.assay_receipt],
            part=0,
            n_parts=1,
            study_seed=1,
            threads=1,
            gpu=0,
            uri=str(tmp_path / "run"),
        )
        return record, store.read_table(str(tmp_path / "run/predictions.parquet"))["p_healthy"]

    return run


def test_run_part__digest_of_the_file_is_in_the_record(train):
    record, predicted = train("0.75")
    assert record["digests"]["files"] == {"answer": f"sha256:{hashlib.sha256(b'0.75').hexdigest()}"}
    assert (predicted == 0.75).all()


def test_run_part__model_kept_from_another_content_of_the_file_is_not_taken(train, tmp_path):
    stop = tmp_path / "answer.stop"
    stop.write_text("")
    with pytest.raises(InputError, match="stopped"):
        train("0.75")
    assert len(list((tmp_path / "run/kept").iterdir())) == 1
    stop.unlink()
    _, predicted = train("0.5")
    assert (predicted == 0.5).all()
