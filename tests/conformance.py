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


def fewest_blocks(name: str) -> tuple[str, ...]:
    """Blocks that a hypothesis cannot do without: those it names, else one."""
    return ("expression",) if literal(name, "BLOCKS") == "all" else block_names(name)


def cohort_for(kind: str, name: str) -> LabelledCohort:
    """Training cohorts, each an everyday difficulty; the names of blocks are those the hypothesis asks for."""
    blocks = block_names(name)
    if kind == "untidy":
        return untidy_cohort("train", blocks)
    if kind == "one feature, two classes":
        labels = np.arange(16) % 2
        value = 2.0 * labels[:, None] + np.random.default_rng(5).standard_normal((16, 1))
        classes = ("healthy", "cancer")
        parts = dict.fromkeys(fewest_blocks(name), value)
        return toy_cohort(labels, parts, classes=classes, covariates=ages(16))
    if kind == "classes of five and of two samples":
        labels = np.repeat([0, 1, 2], [6, 5, 2])
        values = np.random.default_rng(6).standard_normal((13, 5)) + labels[:, None]
        return toy_cohort(labels, dict.fromkeys(blocks, values), classes="abc", covariates=ages(13))
    if kind == "one patient a class":
        labels = np.array([0, 0, 0, 1, 1, 1])
        values = np.random.default_rng(7).standard_normal((6, 8)) + labels[:, None]
        patients = ["x", "x", "x", "y", "y", "y"]
        return toy_cohort(
            labels, dict.fromkeys(blocks, values), classes="ab", patients=patients, covariates=ages(6)
        )
    if kind == "nothing varies":
        values = dict.fromkeys(blocks, np.full((12, 4), 3.0))
        return toy_cohort(np.arange(12) % 2, values, classes="ab", covariates=ages(12))
    if kind == RARE:
        return rare_cohort(name, 100, 1)
    rng = np.random.default_rng(9)
    labels = np.arange(24) % 2
    values = rng.standard_normal((24, 6)) + 2.0 * labels[:, None] * (np.arange(6) < 3)
    if kind == "five blocks, constant and duplicated features":
        duplicated = np.hstack([values, values, values[:, :1], values[:, :1], np.full((24, 3), 5.0)])
        if literal(name, "BLOCKS") == "all":
            blocks = ("expression", "coverage", "copies", "methylation", "spectra")
        parts = {block: duplicated[:, number:] for number, block in enumerate(blocks)}
        return toy_cohort(
            labels, parts, classes="ab", covariates=ages(24), coordinates=("copies", "methylation")
        )
    assert kind == "patients without a block"
    missing = values.copy()
    missing[np.arange(24) % 6 < 2] = np.nan
    parts = {block: missing if block == blocks[-1] else values for block in blocks}
    return toy_cohort(labels, parts, classes="ab", covariates=ages(24))


def rare_cohort(name: str, n_common: int, n_rare: int, seed: int = 10) -> LabelledCohort:
    """Two classes of these sizes, three standard deviations apart in each of six features (and in age)."""
    labels = np.repeat([0, 1], [n_common, n_rare])
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((len(labels), 6)) + 3.0 * labels[:, None]
    age = pd.DataFrame({"age": 50.0 + 10.0 * rng.standard_normal(len(labels)) + 30.0 * labels})
    parts = dict.fromkeys(fewest_blocks(name), values)
    return toy_cohort(labels, parts, classes=("common", "rare"), covariates=age)


def ages(n_samples: int) -> pd.DataFrame:
    return pd.DataFrame({"age": np.random.default_rng(8).integers(30, 80, n_samples).astype(float)})


RARE = "one sample of a class, a hundred of the other"
CORNERS = (
    "one feature, two classes",
    "classes of five and of two samples",
    "one patient a class",
    "nothing varies",
    "five blocks, constant and duplicated features",
    "patients without a block",
    RARE,
)

# Where there is nothing to choose by (a class that is one patient cannot be held out) or to learn from, or what a
# model rests on was not measured.
REFUSABLE = ("one patient a class", "nothing varies", "patients without a block")


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


def assert_alone_as_in_batch(rule: str, alone: np.ndarray, batch: np.ndarray) -> None:
    """A sample alone takes other paths through matrix products than one in a batch.

    Frameworks that compute in float32 (2^-24 = 6e-8) sum over some hundred terms and multiply by up to some ten.
    """
    np.testing.assert_allclose(alone, batch, rtol=1e-5, atol=1e-6, err_msg=rule)
