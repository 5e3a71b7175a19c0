"""A PyTorch model trained by two processes is the one that a single process trains, and no process is left behind."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoarena import compute, data_parallel, schema, store
from oncoarena.errors import InputError
from oncoarena.runs import run_part
from oncoarena.specs import TrainingSpec, load_module, read_spec
from oncoarena.splits import SplitPlan
from oncoarena.training import fit_split, read_cohorts
from studies import ROOT, prepare_study

CLAIM = '''
"""A small network trained by batches of 7 samples, which two processes cannot share evenly."""
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from oncoarena import data_parallel
from oncoarena.errors import NotApplicable

FRAMEWORK = "torch"
BLOCKS = "all"


@dataclass(frozen=True)
class Config:
    shares: bool = True
    accident: str = ""
    notes: str = ""


class Predictor:
    def __init__(self, model, findings):
        self.model, self.findings = model, findings

    def predict_proba(self, cohort):
        x = torch.from_numpy(np.array(cohort.blocks["expression"].values))
        with torch.no_grad():
            return torch.softmax(self.model(x).double(), 1).numpy()


def fit(config, train, validation, *, seed, device):
    number = data_parallel.rank()
    if config.notes:
        Path(config.notes, str(number)).write_text(str(os.getpid()))
    if config.accident == "not for this cohort":
        raise NotApplicable("needs another cohort")
    torch.manual_seed(seed)
    x, y = torch.from_numpy(np.array(train.blocks["expression"].values)), torch.from_numpy(train.labels)
    model = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    shared = data_parallel.wrap(model) if config.shares else model
    n = data_parallel.n_processes() if config.shares else 1
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    rng = np.random.default_rng(seed)
    for step in range(30):
        if step == 3 and config.accident == "the second is killed" and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 3 and config.accident == "the second fails" and number == 1:
            raise ArithmeticError("no luck")
        if step == 3 and config.accident == "the first is killed" and number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        batch = rng.permutation(len(y))[:7]
        rows = data_parallel.shard(batch) if config.shares else batch
        logits = shared(x[rows])
        loss = torch.nn.functional.cross_entropy(logits, y[rows], reduction="sum") * n / len(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    findings = {"model": type(shared).__name__, "rows": len(rows), "logits": str(logits.dtype)}
    return Predictor(model, {**findings, "weights": str(model[0].weight.dtype)})
'''


@dataclass
class Trainings:
    """One study with the claim above, trained by the runner or, for comparison, in this process."""

    folder: Path

    def __post_init__(self):
        self.study = prepare_study(self.folder, SplitPlan("official"), n_patients=36)
        self.claim = self.folder / "pair.py"
        self.claim.write_text(CLAIM)

    def pair(self, precision="float32", **config):
        return TrainingSpec("pair", str(self.claim), "torch", config=config, precision=precision)

    def run(self, name, spec):
        """Train by the runner, which is granted two GPUs: record and probabilities."""
        record = run_part(
            spec,
            splits_receipt=self.study.splits_receipt,
            assay_receipts=[self.study.assay_receipt],
            part=0,
            n_parts=1,
            study_seed=3,
            threads=2,
            gpu=2,
            uri=str(self.folder / name),
            explain=False,
        )
        table = store.read_table(str(self.folder / name / "predictions.parquet"))
        return record, table.filter(like="p_").to_numpy()

    def here(self, spec):
        """Train in this process alone: findings and probabilities."""
        splits, assay = store.read_json(self.study.splits_receipt), store.read_json(self.study.assay_receipt)
        block = store.read_json(assay["blocks"]["expression"])
        train, _, test = read_cohorts(
            store.read_table(splits["splits"][0]["uri"]),
            {"expression": (store.block_samples(block)["sample_id"].tolist(), store.open_block(block))},
            tuple(splits["classes"]),
            (),
        )
        seed = compute.spawn_seed(3, spec.id, 0, 0)
        predictor = fit_split(spec, load_module(spec), train, None, seed=seed, device="cpu")
        return predictor.findings, predictor.predict_proba(test)


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    return Trainings(tmp_path_factory.mktemp("study"))


def test_run_part__two_processes_train_what_one_trains(trainings, capfd):
    findings, expected = trainings.here(trainings.pair())
    assert (findings["model"], findings["rows"]) == ("Sequential", 7)
    record, found = trainings.run("two", trainings.pair())
    split = record["splits"][0]
    assert split["n_devices"] == 2
    assert (split["findings"]["model"], split["findings"]["rows"]) == ("DistributedDataParallel", 3)
    assert np.ptp(expected[:, 0]) > 0.5
    # Gradients of shares are added in another order: 30 steps of Adam in float32.
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "shared no work" not in capfd.readouterr().out
    _, again = trainings.run("again", trainings.pair())
    np.testing.assert_array_equal(again, found)


def test_run_part__claim_that_shares_nothing_is_right_and_told_so(trainings, capfd):
    _, expected = trainings.here(trainings.pair())
    _, found = trainings.run("alone", trainings.pair(shares=False))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert "pair: fit shared no work among its 2 processes" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("accident", "told"),
    [
        ("the second is killed", "2 processes that train together, number 1 ended with SIGKILL"),
        ("the second fails", r"number 1 ended with exit status 1 \(ArithmeticError: no luck\)"),
        ("the first is killed", "repeat 0, fold 0 ended with signal 9"),
    ],
)
def test_run_part__process_that_ends_early_ends_the_others_and_is_named(trainings, tmp_path, accident, told):
    with pytest.raises(InputError, match=told):
        trainings.run("broken", trainings.pair(accident=accident, notes=str(tmp_path)))
    notes = [tmp_path / number for number in "01"]
    deadline = time.monotonic() + 20
    while any(is_running(int(path.read_text())) for path in notes):
        assert time.monotonic() < deadline, "a process has outlived the training"
        time.sleep(0.1)


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_run_part__refusal_of_all_processes_is_an_outcome(trainings):
    record, _ = trainings.run("refused", trainings.pair(accident="not for this cohort"))
    assert (record["status"], record["reason"]) == ("not_applicable", "needs another cohort")


def test_run_part__sparse_markers_of_two_processes_are_those_of_one(trainings):
    config = {"kept": [0.1, 1.0], "head_steps": 40, "gate_steps": 10, "survivors": [4, 16]}
    spec = TrainingSpec("sparse_markers", "oncoarena.hypotheses.sparse_markers", "torch", config=config)
    findings, expected = trainings.here(spec)
    record, found = trainings.run("sparse", spec)
    np.testing.assert_allclose(found, expected, atol=1e-6)  # float32 sums in another order
    members = record["splits"][0]["findings"]["members"]
    assert [member["kind"] for member in members] == [member["kind"] for member in findings["members"]]


def test_training_scope__mixed_precision_multiplies_in_bfloat16_and_keeps_float32_weights(trainings):
    findings, expected = trainings.here(trainings.pair())
    assert findings["logits"] == "torch.float32"
    findings, mixed = trainings.here(trainings.pair(precision="mixed"))
    assert (findings["logits"], findings["weights"]) == ("torch.bfloat16", "torch.float32")
    # Far more where weights were cast once and not after every step.
    assert 0 < np.abs(mixed - expected).max() < 0.05


@settings(deadline=None, max_examples=60)
@given(n_rows=st.integers(0, 50), n_processes=st.integers(1, 9))
def test_shard__shares_of_all_processes_are_the_batch_in_order(n_rows, n_processes):
    batch = np.random.default_rng(n_rows).permutation(n_rows)
    shares, slices = [], []
    for number in range(n_processes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(data_parallel, "_group", data_parallel._Group(number, n_processes))
            shares.append(data_parallel.shard(batch))
            slices.append(batch[data_parallel.shard(n_rows)])
    np.testing.assert_array_equal(np.concatenate(shares), batch)
    np.testing.assert_array_equal(np.concatenate(slices), batch)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_n_devices__are_never_more_than_were_asked_for_or_have_a_thread():
    assert compute.n_devices("torch", threads=8, gpu=0) == 1
    assert compute.n_devices("torch", threads=8, gpu=1) == 1
    assert compute.n_devices("sklearn", threads=8, gpu=4) == 1
    code = "from oncoarena import compute; print([compute.n_devices('torch', t, 4) for t in (1, 2, 8)])"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    assert run_python(code, environment) == "[1, 2, 4]"


def run_python(code, environment):
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("framework", ["torch", "sklearn"])
def test_read_spec__precision_is_part_of_what_decides_the_result(tmp_path, framework):
    known = schema.read_yaml(ROOT / "workflow/schemas/hypothesis.schema.yaml")
    (tmp_path / "claim.py").write_text(CLAIM.replace('"torch"', f'"{framework}"'))
    entry = tmp_path / "claim.yaml"
    text = f"title: a claim\nmodule: {tmp_path / 'claim.py'}\nresources: {{gpu: 2, precision: PRECISION}}\n"
    entry.write_text(text.replace("PRECISION", "float32"))
    assert read_spec(entry, known).training.precision == "float32"
    entry.write_text(text.replace("PRECISION", "mixed"))
    if framework == "torch":
        spec = read_spec(entry, known)
        assert (spec.training.precision, spec.resources.gpu) == ("mixed", 2)
    else:
        with pytest.raises(InputError, match=r"mixed is for tensorflow and torch; claim\.py uses sklearn"):
            read_spec(entry, known)
    entry.write_text(text.replace("PRECISION", "float16"))
    with pytest.raises(InputError, match="precision"):
        read_spec(entry, known)
