"""The conformance suite, continued: a hypothesis that says why says it of each sample, of its own features, truly.

Both methods are optional: ``attribute(cohort, label)``, see ``oncoarena.attribution``, and ``predict_raw(cohort)``.
"""

import ast

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from cohorts import CONFORMANCE_CLASSES, with_values
from conformance import (
    FOLDER,
    NAMES,
    assert_alone_as_in_batch,
    assert_probabilities,
    cohort_for,
    literal,
    probe_for,
)
from oncoarena.attribution import Attribution
from oncoarena.explaining import check_attribution

# Classes with training samples.
SEEN = (0, 1, 2)


def defined_methods(tree: ast.Module) -> set[str]:
    """Names of the methods of all classes of a module."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {item.name for node in classes for item in node.body if isinstance(item, ast.FunctionDef)}


def offering(method: str) -> list[str]:
    """Hypotheses whose predictor has a method, its own or one of ``LinearPredictor``, found without importing them."""
    shared = defined_methods(ast.parse((FOLDER.parent / "fitting/logistic.py").read_text()))
    names = []
    for name in NAMES:
        source = (FOLDER / f"{name}.py").read_text()
        methods = defined_methods(ast.parse(source)) | (shared if "LinearPredictor" in source else set())
        names += [name] if method in methods else []
    return names


EXPLAINED, RAW = offering("attribute"), offering("predict_raw")


def attribute(fitted, name, cohort, label, **options):
    predictor = fitted.fit(name, **options)
    with threadpool_limits(1):
        return predictor.attribute(cohort, label)


def raw(fitted, name, cohort):
    predictor = fitted.fit(name)
    with threadpool_limits(1):
        return predictor.predict_raw(cohort)


def arrays(found):
    """The numbers of an attribution, each with its name."""
    return {"score": found.score, "baseline": found.baseline} | dict(found.contributions)


def test_hypotheses__the_four_claims_say_why():
    claims = {"wide_deep", "genome_neighbours", "sparse_markers", "patient_similarity"}
    assert claims <= set(EXPLAINED)
    assert claims <= set(RAW)


@pytest.mark.parametrize("name", EXPLAINED)
@pytest.mark.parametrize("label", SEEN)
def test_attribute__contributions_have_the_shape_of_the_blocks_and_sum_to_the_score(name, label, fitted):
    probe = probe_for(name)
    found = attribute(fitted, name, probe, label)
    assert isinstance(found, Attribution), f"{name}: attribute must return an Attribution, not {type(found)}"
    check_attribution(found, probe, CONFORMANCE_CLASSES[label], name)
    assert found.method.strip(), f"{name}: an attribution must say how it was computed"
    wanted = set(probe.blocks) if literal(name, "BLOCKS") == "all" else set(literal(name, "BLOCKS"))
    assert set(found.contributions) == wanted, (
        f"{name}: every block that it sees must have contributions, zeros where it is not used"
    )


@pytest.mark.parametrize("name", EXPLAINED)
def test_attribute__values_missing_at_prediction_are_coped_with(name, fitted):
    probe = probe_for(name)
    holes = {key: np.array(block.values) for key, block in probe.blocks.items()}
    for values in holes.values():
        values[0] = np.nan
        values[1:, ::3] = np.nan
    probe = with_values(probe, holes)
    check_attribution(attribute(fitted, name, probe, 1), probe, "colon", name)


@pytest.mark.parametrize("name", EXPLAINED)
def test_attribute__says_the_same_when_asked_twice(name, fitted):
    probe = probe_for(name)
    first, again = (arrays(attribute(fitted, name, probe, 1)) for _ in range(2))
    for key, values in first.items():
        assert np.array_equal(values, again[key]), f"{name}: {key}: asked twice, it must say the same"


@pytest.mark.parametrize("name", EXPLAINED)
def test_attribute__sample_alone_gets_what_it_gets_in_a_batch(name, fitted):
    probe, rows = probe_for(name), (0, 7, 31)
    batch = arrays(attribute(fitted, name, probe, 2))
    alone = [arrays(attribute(fitted, name, probe.take(np.array([row])), 2)) for row in rows]
    for key, values in batch.items():
        rule = f"{name}: {key} of a sample must not depend on which others are there"
        assert_alone_as_in_batch(rule, np.concatenate([part[key] for part in alone]), values[list(rows)])


@pytest.mark.parametrize("name", EXPLAINED)
def test_attribute__asking_changes_no_prediction(name, fitted):
    probe = probe_for(name)
    before = fitted.predict(name, probe)
    attribute(fitted, name, probe, 0)
    assert np.array_equal(fitted.predict(name, probe), before), (
        f"{name}: attribute must leave the model as it is"
    )


@pytest.mark.parametrize("name", EXPLAINED)
def test_attribute__of_two_classes_one_mirrors_the_other(name, fitted):
    kind = "one feature, two classes"
    probe = cohort_for(kind, name).without_labels()
    first, second = (arrays(attribute(fitted, name, probe, label, kind=kind)) for label in (0, 1))
    for key, values in first.items():
        np.testing.assert_allclose(
            values,
            -second[key],
            rtol=1e-4,
            atol=1e-5,
            err_msg=f"{name}: {key}: what speaks for one of two classes",
        )


@pytest.mark.parametrize("name", sorted(set(EXPLAINED) & set(RAW)))
def test_attribute__scores_of_two_classes_differ_by_their_log_odds_before_calibration(name, fitted):
    probe = probe_for(name)
    scores = [attribute(fitted, name, probe, label).score for label in SEEN]
    said = np.log(raw(fitted, name, probe))
    for first, second in ((0, 1), (1, 2)):
        np.testing.assert_allclose(
            scores[first] - scores[second],
            said[:, first] - said[:, second],
            rtol=1e-3,
            atol=1e-3,
            err_msg=f"{name}: the score of a class must be its logit less the mean logit, as predict_raw has it",
        )


@pytest.mark.parametrize("name", RAW)
def test_predict_raw__gives_valid_probabilities_of_each_sample_alone(name, fitted):
    probe = probe_for(name)
    found = raw(fitted, name, probe)
    assert_probabilities(name, found, len(probe), 4)
    alone = np.concatenate([raw(fitted, name, probe.take(np.array([row]))) for row in (0, 7, 31)])
    assert_alone_as_in_batch(f"{name}: predict_raw must look at each sample alone", alone, found[[0, 7, 31]])


@pytest.mark.parametrize("name", RAW)
def test_predict_raw__calibration_leaves_the_most_probable_class(name, fitted):
    probe = probe_for(name)
    calibrated, before = fitted.predict(name, probe), raw(fitted, name, probe)
    # Classes are equally frequent here, so whatever one temperature does, it does to all alike.
    assert (calibrated.argmax(axis=1) == before.argmax(axis=1)).all(), (
        f"{name}: calibration must not change which class is the most probable"
    )
