"""The conformance suite: every file in hypotheses/ keeps the contract of a hypothesis.

Nothing is registered: what lies in the folder is tested, with the defaults of its Config. Each failure says
which rule was broken. The rules share a few small fits (see ``conformance.Fitted``);
what is saved is tested in test_hypotheses_saving.py.
"""

import ast
import dataclasses
import inspect
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from cohorts import untidy_cohort, with_values
from conformance import (
    CORNERS,
    FOLDER,
    NAMES,
    RARE,
    REFUSABLE,
    assert_alone_as_in_batch,
    assert_probabilities,
    block_names,
    cohort_for,
    literal,
    probe_for,
    rare_cohort,
)
from oncoarena.errors import NotApplicable
from oncoarena.specs import FRAMEWORKS, read_literals

# What these two must learn, and must not, is tested by tests of their own below.
BLIND_CONTROLS = ("prior_only", "covariates_only")
LEARNERS = [name for name in NAMES if name not in BLIND_CONTROLS]

# The probability that a model without any knowledge passes as one that has learned.
FALSE_PASS = 1e-6

# --- what is read without importing ---


def test_hypotheses__the_folder_holds_the_four_claims_and_the_controls():
    expected = {
        "wide_deep",
        "genome_neighbours",
        "sparse_markers",
        "patient_similarity",
        "prior_only",
        "covariates_only",
        "l2_logistic",
        "elastic_net",
        "linear_svm",
        "random_forest",
        "gradient_boosting",
        "shrunken_centroids",
    }
    assert expected <= set(NAMES), f"missing from {FOLDER}: {sorted(expected - set(NAMES))}"


def test_hypotheses__importing_the_package_imports_no_framework():
    script = (
        "import sys, oncoarena.hypotheses; "
        "print(*{'tensorflow', 'keras', 'torch', 'sklearn', 'numba'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [], f"importing oncoarena.hypotheses must be cheap; it loads {done.stdout}"


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__docstring_states_the_claim_and_what_would_refute_it(name):
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""
    first = docstring.split("\n\n")[0].strip()
    assert len(first.split()) >= 5, f"{name}: the docstring must open with the claim in one sentence"
    assert first.endswith("."), f"{name}: the claim must be a sentence, ended by a full stop: {first!r}"
    assert "refuted" in docstring.lower(), (
        f'{name}: the docstring must say what would refute it ("Refuted ...")'
    )


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__docstring_cites_a_source(name):
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""
    assert "10." in docstring, f"{name}: the docstring must name its source by DOI"


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__framework_and_blocks_are_legal_literals(name):
    framework, blocks = literal(name, "FRAMEWORK"), literal(name, "BLOCKS")
    assert framework in FRAMEWORKS, (
        f"{name}: FRAMEWORK must be a literal, one of {FRAMEWORKS}; got {framework!r}"
    )
    legal = blocks == "all" or (
        isinstance(blocks, tuple) and all(isinstance(block, str) and block for block in blocks)
    )
    assert legal, f'{name}: BLOCKS must be the literal "all" or a tuple of names; got {blocks!r}'


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__keys_of_config_have_a_comment(name):
    lines = (FOLDER / f"{name}.py").read_text().splitlines()
    tree = ast.parse("\n".join(lines))
    configs = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config"]
    assert len(configs) == 1, f"{name}: must define exactly one class Config"
    body = configs[0].body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            documented = isinstance(following, ast.Expr) and isinstance(
                getattr(following.value, "value", None), str
            )
            commented = "#" in lines[node.end_lineno - 1] or lines[node.lineno - 2].strip().startswith("#")
            assert documented or commented, (
                f"{name}: Config.{node.target.id} must have a one-line comment: meaning and unit"
            )


# --- what is imported ---


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__config_is_a_frozen_dataclass_with_defaults(name, fitted):
    config = fitted.module(name).Config
    assert dataclasses.is_dataclass(config), f"{name}: Config must be a dataclass"
    assert config.__dataclass_params__.frozen, f"{name}: Config must be frozen"
    for item in dataclasses.fields(config):
        assert item.default is not dataclasses.MISSING, (
            f"{name}: Config.{item.name} must have a plain default"
        )
    assert config() == config(), f"{name}: two default Configs must be equal"


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__planning_sees_every_key_of_config_without_importing_it(name, fitted):
    keys = {item.name for item in dataclasses.fields(fitted.module(name).Config)}
    seen = set(read_literals(FOLDER / f"{name}.py").config_fields)
    assert seen == keys, (
        f"{name}: a study can override only keys that are read from the source of class Config (written there, or "
        f"in a base class that is imported by its name); not seen: {sorted(keys - seen)}"
    )


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__fit_and_load_have_the_agreed_signatures(name, fitted):
    module = fitted.module(name)
    parameters = inspect.signature(module.fit).parameters
    assert list(parameters) == ["config", "train", "validation", "seed", "device"], (
        f"{name}: the signature must be fit(config, train, validation, *, seed, device)"
    )
    for keyword in ("seed", "device"):
        assert parameters[keyword].kind is inspect.Parameter.KEYWORD_ONLY, (
            f"{name}: {keyword} is keyword-only"
        )
    assert list(inspect.signature(module.load).parameters) == ["directory"], (
        f"{name}: the signature must be load(directory)"
    )


# --- what is fitted ---


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__untidy_cohort_gives_valid_probabilities(name, fitted):
    probe = probe_for(name)
    assert_probabilities(name, fitted.predict(name, probe), len(probe), 4)


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__class_without_training_samples_is_given_little(name, fitted):
    absent = fitted.predict(name, probe_for(name))[:, 3]
    assert absent.mean() < 0.05, (
        f"{name}: a class without a training sample must get a small probability, the mean is {absent.mean():.3f}"
    )
    assert absent.min() > 0, (
        f"{name}: a class without a training sample must not get 0: its log loss is infinite"
    )


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__same_seed_gives_identical_predictions(name, fitted):
    first, second = (fitted.predict(name, probe_for(name), copy=copy) for copy in (0, 1))
    assert np.array_equal(first, second), (
        f"{name}: the same seed must give bit-identical predictions; they differ by {np.abs(first - second).max()}"
    )


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__sample_alone_gets_what_it_gets_in_a_batch(name, fitted):
    probe = probe_for(name)
    batch = fitted.predict(name, probe)
    backwards = fitted.predict(name, probe.take(np.arange(len(probe))[::-1]))[::-1]
    alone = np.concatenate([fitted.predict(name, probe.take(np.array([i]))) for i in (0, 7, 31)])
    rule = f"{name}: the prediction for a sample must not depend on"
    assert_alone_as_in_batch(f"{rule} the order of samples", backwards, batch)
    assert_alone_as_in_batch(f"{rule} which others are there", alone, batch[[0, 7, 31]])


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__names_of_samples_and_patients_decide_nothing(name, fitted):
    probe = probe_for(name)
    renamed = dataclasses.replace(
        probe,
        sample_ids=np.array([f"z{i}" for i in range(len(probe))]),
        # The names of training patients: a model must not recognise them.
        patient_ids=np.array([f"train_patient{i % 24}" for i in range(len(probe))]),
    )
    assert np.array_equal(fitted.predict(name, renamed), fitted.predict(name, probe)), (
        f"{name}: the prediction must not depend on the names of samples or patients"
    )


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__values_first_missing_at_prediction_are_coped_with(name, fitted):
    probe = probe_for(name)
    holes = {}
    for block_name, block in probe.blocks.items():
        values = np.array(block.values)
        values[0] = np.nan
        values[1:, ::3] = np.nan
        holes[block_name] = values
    probe = with_values(probe, holes)
    assert_probabilities(name, fitted.predict(name, probe), len(probe), 4)


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis__wild_values_at_prediction_are_coped_with(name, fitted):
    probe = probe_for(name)
    probe = with_values(probe, {key: block.values * np.float32(1e4) for key, block in probe.blocks.items()})
    assert_probabilities(name, fitted.predict(name, probe), len(probe), 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", CORNERS)
def test_hypothesis__corner_cohort_is_served_or_refused_with_a_reason(name, kind, fitted):
    train = cohort_for(kind, name)
    probabilities, refusal = None, None
    try:
        probabilities = fitted.predict(name, train.without_labels(), kind)
    except NotApplicable as error:
        refusal = str(error)
    if refusal is None:
        assert_probabilities(name, probabilities, len(train), len(train.classes))
    else:
        assert kind in REFUSABLE, f"{name}: must serve a cohort with {kind}; it says {refusal!r}"
        assert len(refusal.split()) >= 4, f"{name}: a refusal must state its reason, got {refusal!r}"


@pytest.mark.parametrize("name", LEARNERS)
def test_hypothesis__class_of_one_sample_among_a_hundred_is_still_told_apart(name, fitted):
    probe = rare_cohort(name, 100, 100, seed=11)
    rare = fitted.predict(name, probe.without_labels(), RARE)[:, 1]
    area = roc_auc_score(probe.labels, rare)
    assert area > 0.95, (
        f"{name}: where classes are 7.3 standard deviations apart, one sample must do; the AUROC is {area}"
    )


def least_hits(n_samples: int, chance: float) -> int:
    """Hits that a guess reaches with a probability of at most ``FALSE_PASS``."""
    return int(binom.isf(FALSE_PASS, n_samples, chance)) + 1


def assert_learned(name: str, probabilities: np.ndarray) -> None:
    labels = untidy_cohort("test", block_names(name)).labels
    hits = int((probabilities.argmax(axis=1) == labels).sum())
    # Knowing the class frequencies is worth 1/3: the three classes are equally frequent.
    bar = least_hits(len(labels), 1 / 3)
    assert hits >= bar, (
        f"{name}: must learn an obvious signal: {hits} of {len(labels)} held-out samples are right, expected "
        f"{bar}, which a guess reaches once in a million times"
    )


@pytest.mark.parametrize("name", LEARNERS)
def test_hypothesis__obvious_signal_in_the_features_is_learned(name, fitted):
    assert_learned(name, fitted.predict(name, probe_for(name)))


@pytest.mark.parametrize("name", LEARNERS)
def test_hypothesis__classes_are_in_the_order_of_the_cohort(name, fitted):
    train = cohort_for("untidy", name)
    probabilities = fitted.predict(name, train.without_labels())
    for code in range(3):
        mean = probabilities[train.labels == code].mean(axis=0)
        assert mean.argmax() == code, (
            f"{name}: columns must be in the order of train.classes; training samples of class {code} get {mean}"
        )


@pytest.mark.parametrize("name", BLIND_CONTROLS)
def test_blind_control__features_decide_nothing(name, fitted):
    probe = probe_for(name)
    shuffled = with_values(probe, {key: block.values[::-1] for key, block in probe.blocks.items()})
    assert np.array_equal(fitted.predict(name, shuffled), fitted.predict(name, probe)), (
        f"{name}: must not look at the features"
    )


def test_prior_only__every_sample_gets_the_class_frequencies_of_training(fitted):
    probabilities = fitted.predict("prior_only", probe_for("prior_only"))
    assert (probabilities == probabilities[0]).all()
    # Smoothing towards a class without samples may take a few percent.
    np.testing.assert_allclose(probabilities[0], [1 / 3, 1 / 3, 1 / 3, 0.0], atol=0.05)


def test_covariates_only__obvious_signal_in_the_covariates_is_learned(fitted):
    assert_learned("covariates_only", fitted.predict("covariates_only", probe_for("covariates_only")))
