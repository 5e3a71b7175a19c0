"""A job that was cut short goes on with the model after the last finished one, and ends in the same result."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import fsspec
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from object_store import s3_environment, s3_server
from oncoarena import checkpoints, store
from oncoarena.errors import InputError
from oncoarena.refits import Refit
from oncoarena.runs import run_part
from oncoarena.specs import TrainingSpec
from oncoarena.splits import SplitPlan
from studies import prepare_study

FRAGILE = str(Path(__file__).parent / "fragile_hypothesis.py")
PLAN = SplitPlan("kfold", folds=4)
TIMES = ("started", "models", "seconds", "peak_memory_mb")
TIMES_OF_SPLIT = (
    "seconds",
    "cpu_seconds",
    "fit_seconds",
    "predict_seconds",
    "explain_seconds",
    "peak_memory_mb",
)


def arguments(study, uri, **options):
    return {
        "splits_receipt": study.splits_receipt,
        "assay_receipts": [study.assay_receipt],
        "part": 0,
        "n_parts": 1,
        "study_seed": 3,
        "threads": 1,
        "gpu": 0,
        "uri": uri,
    } | options


def fragile(study):
    return TrainingSpec("fragile", FRAGILE, "numpy", config={"folder": str(study.folder)})


IN_A_GROUP = """
import json, sys
from oncoarena.runs import run_part
from oncoarena.specs import spec_from_dict
spec, arguments = json.loads(sys.argv[1])
run_part(spec_from_dict(spec), **arguments)
"""


def reclaim_once_kept(spec, n_kept, **options):
    """Run a part in a process group of its own and kill it when so many models are kept; return how it ended."""
    words = json.dumps([dataclasses.asdict(spec), options])
    command = [sys.executable, "-c", IN_A_GROUP, words]
    filesystem, path = fsspec.core.url_to_fs(store.join(options["uri"], "kept"))
    end = time.monotonic() + 60
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        try:
            kept = []
            while len(kept) < n_kept and process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
                filesystem.invalidate_cache()
                kept = filesystem.glob(f"{path}/*.zip")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert len(kept) == n_kept
    return process.returncode


def trained(study):
    """Which models were trained since the last call: the training samples of each."""
    log = study.folder / "trained.txt"
    lines = log.read_text().splitlines()
    log.unlink()
    return lines


def result(uri):
    """What a run leaves, apart from times and from where it lies."""
    record = store.read_json(store.join(uri, "run.json"))
    record = {key: value for key, value in record.items() if key not in TIMES}
    record["splits"] = [
        {key: value for key, value in split.items() if key not in TIMES_OF_SPLIT}
        for split in record["splits"]
    ]
    names = ["predictions.parquet", "attributions.parquet"]
    names += [f"models/r00f0{fold}/model.npz" for fold in range(4)]
    return record, {name: store.digest(store.join(uri, name)) for name in names}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return prepare_study(tmp_path_factory.mktemp("study"), PLAN)


@pytest.fixture(scope="module")
def undisturbed(study):
    """The result of a run that nothing cut short, and which models it trained."""
    uri = str(study.folder / "undisturbed")
    run_part(fragile(study), **arguments(study, uri, save_models=True))
    assert not Path(uri, "kept").exists()
    return result(uri), trained(study)


def cut_short(study, uri):
    """Reclaim the machine while the second model is trained."""
    (study.folder / "cut.txt").write_text("job 2")
    status = reclaim_once_kept(fragile(study), 1, **arguments(study, uri, save_models=True))
    (study.folder / "cut.txt").unlink()
    assert status == -9
    assert not store.exists(store.join(uri, "run.json"))
    assert not store.exists(store.join(uri, "predictions.parquet"))


def test_run_part__reclaimed_job_goes_on_with_the_next_model_to_the_same_result(study, undisturbed):
    expected, models = undisturbed
    uri = str(study.folder / "reclaimed")
    cut_short(study, uri)
    assert trained(study)[0] == models[0]
    assert len(list(Path(uri, "kept").iterdir())) == 1
    run_part(fragile(study), **arguments(study, uri, save_models=True))
    assert trained(study) == models[1:], "the first model must not be trained again"
    assert result(uri) == expected
    assert not Path(uri, "kept").exists(), "what was kept goes once the run is recorded"


def test_training__whoever_is_told_to_stop_leaves_no_process_behind(study):
    """A scheduler may end the training process alone; the model's own process has to go with it."""
    uri = str(study.folder / "stopped")
    (study.folder / "cut.txt").write_text("job 2")
    words = json.dumps([dataclasses.asdict(fragile(study)), arguments(study, uri)])
    command = [sys.executable, "-c", IN_A_GROUP, words]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 60
            while not list(Path(uri).glob("kept/*.zip")) and time.monotonic() < end:
                time.sleep(0.05)
            (training,) = psutil.Process(process.pid).children()
            (model,) = training.children()
            training.terminate()
            gone, _ = psutil.wait_procs([model], timeout=20)
            assert gone == [model]
            assert process.wait(20) == 1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    (study.folder / "cut.txt").unlink()
    trained(study)


@pytest.fixture
def bucket(tmp_path):
    with s3_server(tmp_path) as port, s3_environment(port):
        yield "s3://genomics"


def test_run_part__reclaimed_job_on_s3_goes_on_to_the_same_result(study, undisturbed, bucket):
    expected, models = undisturbed
    uri = f"{bucket}/study/runs/fragile/0"
    cut_short(study, uri)
    assert trained(study)[0] == models[0]
    run_part(fragile(study), **arguments(study, uri, save_models=True))
    assert trained(study) == models[1:]
    assert result(uri) == expected
    filesystem, path = fsspec.core.url_to_fs(f"{uri}/kept")
    filesystem.invalidate_cache()
    assert [name for name in filesystem.find(path) if name.endswith(".zip")] == []


def test_run_part__model_that_ran_out_of_memory_leaves_the_finished_ones(study, undisturbed):
    expected, models = undisturbed
    uri = str(study.folder / "starved")
    (study.folder / "cut.txt").write_text("model 3")
    with pytest.raises(InputError, match="fold 2 ended with signal 9"):
        run_part(fragile(study), **arguments(study, uri, save_models=True))
    (study.folder / "cut.txt").unlink()
    assert trained(study) == models[:3]
    run_part(fragile(study), **arguments(study, uri, save_models=True))
    assert trained(study) == models[2:]
    assert result(uri) == expected


def test_run_part__what_was_kept_of_another_seed_or_a_damaged_file_is_not_taken(study, undisturbed):
    expected, models = undisturbed
    uri = str(study.folder / "changed")
    cut_short(study, uri)
    trained(study)
    (archive,) = Path(uri, "kept").iterdir()
    shutil.copytree(Path(uri, "kept"), study.folder / "seed/kept")
    run_part(fragile(study), **arguments(study, str(study.folder / "seed"), study_seed=4))
    assert trained(study) == models
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    run_part(fragile(study), **arguments(study, uri, save_models=True))
    assert trained(study) == models
    assert result(uri) == expected


def test_run_part__refit_goes_on_with_the_next_model_too(study):
    uri, refit = str(study.folder / "refit"), Refit("seeds", (1, 2))
    (study.folder / "cut.txt").write_text("model 8")
    with pytest.raises(InputError, match="signal 9"):
        run_part(fragile(study), **arguments(study, uri, refit=refit))
    (study.folder / "cut.txt").unlink()
    assert len(trained(study)) == 8
    record = run_part(fragile(study), **arguments(study, uri, refit=refit))
    assert len(trained(study)) == 1
    assert [split["training_seed"] for split in record["splits"]] == [1, 2] * 4
    assert record["attribution"] is None
    assert not Path(uri, "attributions.parquet").exists(), "only models that compete are explained"


def test_model_keys__change_with_what_decides_a_model_and_with_nothing_else(study, tmp_path):
    (split,) = store.read_json(study.splits_receipt)["splits"][:1]
    common = {"spec": {"id": "one"}, "threads": 1, "blocks": {"expression": "sha256:0"}}

    def key(changes=(), **changed):
        return checkpoints.model_keys([split | {"seed": 1} | changed], common | dict(changes))[split["id"]]

    first = key()
    moved = str(tmp_path / "moved.parquet")
    shutil.copy(split["uri"], moved)
    assert key(uri=moved) == first
    table = store.read_table(moved)
    train = (table["role"] == "train").to_numpy().nonzero()[0]
    table.loc[train[:2], "label"] = table.loc[train[:2][::-1], "label"].to_numpy()
    store.write_table(moved, table)
    others = [
        key(uri=moved),
        key(seed=2),
        key({"threads": 2}),
        key({"spec": {"id": "two"}}),
        key({"blocks": {"expression": "sha256:1"}}),
    ]
    assert len({first, *others}) == 6


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_restore__damaged_archive_is_whole_or_not_there(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kept")
    model = folder / "model"
    (model / "sub").mkdir(parents=True)
    (model / "result.json").write_text('{"status": "trained"}')
    (model / "sub/weights").write_bytes(bytes(range(100)))
    checkpoints.keep(str(folder), "key", model)
    content = bytearray((folder / "key.zip").read_bytes())
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "key.zip").write_bytes(content)
    output = folder / "output"
    output.mkdir()
    if checkpoints.restore(str(folder), {"model": "key"}, output):
        found = {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}
        assert found == {
            Path("model/result.json"): b'{"status": "trained"}',
            Path("model/sub/weights"): bytes(range(100)),
        }
    else:
        assert not list(output.iterdir())


def test_keep__archive_holds_empty_folders_too(tmp_path):
    (tmp_path / "made/model").mkdir(parents=True)
    checkpoints.keep(str(tmp_path), "key", tmp_path / "made")
    assert zipfile.is_zipfile(tmp_path / "key.zip")
    (tmp_path / "output").mkdir()
    assert checkpoints.restore(str(tmp_path), {"one": "key", "two": "nothing"}, tmp_path / "output") == {
        "one"
    }
    assert (tmp_path / "output/one/model").is_dir()
