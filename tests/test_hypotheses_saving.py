"""The conformance suite, continued: what a hypothesis saves is data only, and says the same when loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from conformance import NAMES, block_names, literal, probe_for
from oncoarena import compute
from oncoarena.specs import FRAMEWORKS

LOAD_AND_PREDICT = """
import importlib, json, sys, traceback
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from cohorts import untidy_cohort
from oncoarena import compute

compute.prepare_framework(sys.argv[2], threads=1, gpu=0, seed=0)
errors = {}
for name, directory, output, blocks in json.loads(sys.argv[3]):
    try:
        module = importlib.import_module(f"oncoarena.hypotheses.{name}")
        probe = untidy_cohort("test", tuple(blocks)).without_labels()
        predictor = module.load(Path(directory))
        said = {"probabilities": predictor.predict_proba(probe)}
        if hasattr(predictor, "predict_raw"):
            said["raw"] = predictor.predict_raw(probe)
        if hasattr(predictor, "attribute"):
            found = predictor.attribute(probe, 1)
            said |= {"score": found.score, "baseline": found.baseline, **found.contributions}
        np.savez(output, **said)
    except Exception:
        errors[name] = traceback.format_exc()
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def reloaded(fitted, tmp_path_factory) -> dict[str, tuple[Path, str | dict[str, np.ndarray]]]:
    """Save every hypothesis; load, predict and explain in a new process, one for each framework.

    Returns for each name the directory, and what the new process said or its traceback.
    """
    root = tmp_path_factory.mktemp("saved")
    results: dict[str, tuple[Path, str | dict[str, np.ndarray]]] = {}
    for framework in FRAMEWORKS:
        jobs = []
        for name in NAMES:
            if literal(name, "FRAMEWORK") == framework:
                directory, output = root / name, root / f"{name}.npz"
                directory.mkdir()
                try:
                    fitted.fit(name).save(directory)
                except Exception as error:
                    results[name] = (directory, f"save failed: {error!r}")
                    continue
                jobs.append((name, str(directory), str(output), block_names(name)))
        if not jobs:
            continue
        done = subprocess.run(
            [sys.executable, "-c", LOAD_AND_PREDICT, str(Path(__file__).parent), framework, json.dumps(jobs)],
            env={**os.environ, **compute.training_environment(framework, threads=1, gpu=0)},
            capture_output=True,
            text=True,
        )
        lines = done.stdout.splitlines()
        errors = json.loads(lines[-1]) if done.returncode == 0 and lines else {}
        for name, directory, output, _ in jobs:
            missing = errors.get(name, done.stderr)
            found = dict(np.load(output)) if Path(output).is_file() else missing
            results[name] = (Path(directory), found)
    return results


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__saved_model_says_the_same_in_a_new_process(name, fitted, reloaded):
    _, loaded = reloaded[name]
    assert isinstance(loaded, dict), f"{name}: save, then load in a new process, failed:\n{loaded}"
    probe, predictor = probe_for(name), fitted.fit(name)
    expected = {"probabilities": fitted.predict(name, probe)}
    with threadpool_limits(1):
        if hasattr(predictor, "predict_raw"):
            expected["raw"] = predictor.predict_raw(probe)
        if hasattr(predictor, "attribute"):
            found = predictor.attribute(probe, 1)
            expected |= {"score": found.score, "baseline": found.baseline, **found.contributions}
    assert set(loaded) == set(expected), f"{name}: a loaded model must offer what the fitted one does"
    for key, values in expected.items():
        assert np.array_equal(loaded[key], values), (
            f"{name}: {key}: a model loaded in a new process must say bit-identically the same; it differs by "
            f"{np.abs(loaded[key] - values).max()}"
        )


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__saved_files_hold_no_code(name, reloaded):
    directory, _ = reloaded[name]
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files, f"{name}: save wrote nothing"
    for path in files:
        rule = f"{name}: {path.name}: a saved model must hold data only, never pickled objects"
        if path.suffix in (".npz", ".npy"):
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[key].dtype != object for key in arrays.files), rule
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".pt":
            import torch

            torch.load(path, weights_only=True)
        else:
            # Keras refuses code in these unless it is told that code is safe.
            assert path.suffix in (".keras", ".h5"), (
                f"{rule}; {path.suffix} is not .npz, .json, .pt or .keras"
            )
