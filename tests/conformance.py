"""What the conformance suite shares: the hypotheses found, cohorts to try them on, and one fit of each."""

import ast
import importlib
import os
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import oncoarena.hypotheses
from cohorts import toy_cohort, untidy_cohort
from oncoarena import compute
from oncoarena.cohort import Cohort, LabelledCohort

FOLDER = Path(oncoarena.hypotheses.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))

SUM_TOLERANCE = 1e-6


def literal(name: str, variable: str) -> object:
    """Read a literal from a hypothesis's source without importing it; None where there is none."""
    for node in ast.parse((FOLDER / f"{name}.py").read_text()).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", None) for t in node.targets] == [variable]:
            try:
                return ast.literal_eval(node.value)
            except ValueError:
                return None
    return None


def block_names(name: str) -> tuple[str, ...]:
    """Blocks that a hypothesis is tested with: those it names, else two."""
    wanted = literal(name, "BLOCKS")
    return wanted if isinstance(wanted, tuple) else ("expression", "coverage")


def cohort_for(kind: str, name: str) -> LabelledCohort:
    """Training cohorts, each an everyday difficulty; the names of blocks are those the hypothesis asks for."""
    blocks = block_names(name)
    if kind == "untidy":
        return untidy_cohort("train", blocks)
    if kind == "one feature, two classes":
        labels = np.arange(16) % 2
        value = 2.0 * labels[:, None] + np.random.default_rng(5).standard_normal((16, 1))
        classes = ("healthy", "cancer")
        return toy_cohort(labels, dict.fromkeys(blocks, value), classes=classes, covariates=ages(16))
    if kind == "class of two samples":
        labels = np.repeat([0, 1, 2], [6, 6, 2])
        values = np.random.default_rng(6).standard_normal((14, 5)) + labels[:, None]
        return toy_cohort(labels, dict.fromkeys(blocks, values), classes="abc", covariates=ages(14))
    if kind == "one patient a class":
        labels = np.array([0, 0, 0, 1, 1, 1])
        values = np.random.default_rng(7).standard_normal((6, 8)) + labels[:, None]
        patients = ["x", "x", "x", "y", "y", "y"]
        return toy_cohort(
            labels, dict.fromkeys(blocks, values), classes="ab", patients=patients, covariates=ages(6)
        )
    assert kind == "nothing varies"
    return toy_cohort(
        np.arange(12) % 2, dict.fromkeys(blocks, np.full((12, 4), 3.0)), classes="ab", covariates=ages(12)
    )


def ages(n_samples: int) -> pd.DataFrame:
    return pd.DataFrame({"age": np.random.default_rng(8).integers(30, 80, n_samples).astype(float)})


CORNERS = ("one feature, two classes", "class of two samples", "one patient a class", "nothing varies")

# Where there is nothing to choose by (a class that is one patient cannot be held out) or to learn from.
REFUSABLE = ("one patient a class", "nothing varies")


class Fitted:
    """Fits each hypothesis at most once for each cohort; the rules share what was fitted."""

    def __init__(self) -> None:
        self.predictors: dict[tuple[str, str, int], object] = {}

    def module(self, name: str):
        framework = literal(name, "FRAMEWORK")
        with warnings.catch_warnings():
            # What a framework says while it is imported is not about the hypothesis.
            warnings.simplefilter("ignore")
            os.environ.update(compute.training_environment(framework, threads=1, gpu=0))
            compute.prepare_framework(framework, threads=1, gpu=0, seed=0)
        return importlib.import_module(f"oncoarena.hypotheses.{name}")

    def fit(self, name: str, kind: str = "untidy", copy: int = 0):
        key = (name, kind, copy)
        if key not in self.predictors:
            module = self.module(name)
            train = cohort_for(kind, name)
            before = {block: values.values.tobytes() for block, values in train.blocks.items()}
            with threadpool_limits(1):
                self.predictors[key] = module.fit(module.Config(), train, None, seed=11, device="cpu")
            assert before == {block: values.values.tobytes() for block, values in train.blocks.items()}
        return self.predictors[key]

    def predict(self, name: str, cohort: Cohort, kind: str = "untidy", copy: int = 0) -> np.ndarray:
        predictor = self.fit(name, kind, copy)
        with threadpool_limits(1):
            return predictor.predict_proba(cohort)


@cache
def shared_fits() -> Fitted:
    """What was fitted so far, for all test files."""
    return Fitted()


def probe_for(name: str) -> Cohort:
    return untidy_cohort("test", block_names(name)).without_labels()


def assert_probabilities(name: str, probabilities: np.ndarray, n_samples: int, n_classes: int) -> None:
    rule = f"{name}: predict_proba must return"
    assert isinstance(probabilities, np.ndarray), f"{rule} a NumPy array, not {type(probabilities)}"
    assert probabilities.dtype == np.float64, f"{rule} float64, not {probabilities.dtype}"
    assert probabilities.shape == (n_samples, n_classes), (
        f"{rule} (n_samples, n_classes) = {(n_samples, n_classes)} with a column for every class of the study, "
        f"also one without training samples; got {probabilities.shape}"
    )
    assert np.isfinite(probabilities).all(), f"{rule} finite values"
    assert (probabilities >= 0).all(), f"{rule} values of at least 0; the least is {probabilities.min()}"
    off = np.abs(probabilities.sum(axis=1) - 1).max()
    assert off <= SUM_TOLERANCE, f"{rule} rows that sum to 1; one is off by {off}"
