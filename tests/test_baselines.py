"""Baselines and controls against scikit-learn itself and by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cohorts import planted_values, toy_cohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.logistic import LogisticModel, fit_logistic_path
from oncoarena.hypotheses import covariates_only, elastic_net, l2_logistic, prior_only, random_forest


def cohort_with_signal(n_samples=45, n_features=25, *, n_classes=3, seed=0, **given):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % n_classes
    values = planted_values(labels, n_features, n_informative=9, strength=2.0, rng=rng)
    return toy_cohort(labels, {"a": values}, classes=[f"c{i}" for i in range(n_classes)], **given)


def fitted(module, cohort, **settings):
    return module.fit(module.Config(**settings), cohort, None, seed=3, device="cpu")


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_fit_logistic_path__equals_sklearn_from_a_cold_start(n_classes, l1_ratio):
    rng = np.random.default_rng(n_classes)
    x, labels = rng.normal(size=(60, 5)), rng.integers(0, n_classes, size=60)
    x[:, 0] += labels
    path = fit_logistic_path(
        x, labels, n_classes, (0.05, 0.5), l1_ratio=l1_ratio, tolerance=1e-7, max_iterations=5000
    )
    solver = "saga" if l1_ratio else "lbfgs"
    for model, inverse_penalty in zip(path, (0.05, 0.5), strict=True):
        expected = LogisticRegression(
            C=inverse_penalty, l1_ratio=l1_ratio, solver=solver, tol=1e-7, max_iter=5000, random_state=1
        ).fit(x, labels)
        np.testing.assert_allclose(model.predict_proba(x), expected.predict_proba(x), atol=1e-4)


def test_fit_logistic_path__a_class_without_samples_has_a_small_probability():
    x, labels = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2 * 2
    (model,) = fit_logistic_path(x, labels, 4, (1.0,))
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities[:, [1, 3]], 0.5 / 22.0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    again = LogisticModel.from_arrays(model.to_arrays())
    np.testing.assert_array_equal(again.predict_proba(x), probabilities)


def test_fit_logistic_path__one_class_only_is_certain_but_for_the_unseen():
    (model,) = fit_logistic_path(np.ones((4, 2)), np.full(4, 1), 2, (1.0,))
    np.testing.assert_allclose(model.predict_proba(np.zeros((1, 2))), [[0.1, 0.9]])


def test_fit_logistic_path__without_features_gives_the_class_frequencies():
    (model,) = fit_logistic_path(np.zeros((4, 0)), np.array([0, 1, 1, 1]), 2, (1.0,))
    np.testing.assert_allclose(model.predict_proba(np.zeros((1, 0))), [[0.25, 0.75]])


def test_l2_logistic__on_components_equals_sklearn_on_z_scores():
    train, test = cohort_with_signal(seed=1), cohort_with_signal(seed=2)
    found = fitted(l2_logistic, train, inverse_penalties=(3.0,)).predict_proba(test)
    scaler = StandardScaler().fit(train.blocks["a"].values)
    x, new = (scaler.transform(cohort.blocks["a"].values) / 5.0 for cohort in (train, test))
    expected = LogisticRegression(C=3.0, tol=1e-8, max_iter=5000).fit(x, train.labels).predict_proba(new)
    # Both solvers stop a little before the optimum, in different coordinates.
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_l2_logistic__chooses_a_weak_penalty_for_a_strong_signal_and_a_strong_one_for_none():
    strong = cohort_with_signal(60, seed=1)
    noise = toy_cohort(
        strong.labels, {"a": np.random.default_rng(0).normal(size=(60, 25))}, classes=strong.classes
    )
    sizes = [np.abs(fitted(l2_logistic, c).model.coefficients).sum() for c in (strong, noise)]
    assert sizes[0] > 3 * sizes[1]


def test_elastic_net__leaves_most_noise_out_and_finds_the_signal():
    train, test = cohort_with_signal(90, 200, seed=1), cohort_with_signal(90, 200, seed=2)
    predictor = fitted(elastic_net, train, l1_ratios=(0.8,), path=(3.0,))
    used = (predictor.model.coefficients != 0).any(axis=1)
    assert used.sum() < 60
    assert (predictor.predict_proba(test).argmax(axis=1) == test.labels).mean() > 0.9


def test_random_forest__exported_trees_predict_as_sklearn_does():
    train, test = cohort_with_signal(seed=1), cohort_with_signal(seed=2)
    predictor = fitted(random_forest, train, n_trees=30)
    x, new = predictor.view.transform(train), predictor.view.transform(test)
    expected = RandomForestClassifier(30, random_state=3, n_jobs=1).fit(x, train.labels).predict_proba(new)
    np.testing.assert_allclose(predictor.predict_proba(test), expected, atol=1e-12)


def test_prior_only__counts_patients_not_samples():
    labels, patients = [0, 0, 0, 1, 1, 2], ["p", "p", "p", "q", "r", "r"]
    cohort = toy_cohort(labels, {}, classes="abc", patients=patients)
    found = fitted(prior_only, cohort).predict_proba(cohort)
    np.testing.assert_allclose(found, np.tile([1 / 3, 1.5 / 3, 0.5 / 3], (6, 1)))


def test_prior_only__a_class_without_a_patient_has_a_small_probability():
    cohort = toy_cohort([0, 1, 1], {}, classes="abc")
    found = fitted(prior_only, cohort).predict_proba(cohort)[0]
    assert 0 < found[2] < found[0] < found[1]
    assert found.sum() == pytest.approx(1.0)


@pytest.fixture
def with_covariates():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    age = 50 + 12 * labels + rng.normal(0, 5, size=60)
    age[:4] = np.nan
    sex = np.where(rng.random(60) < 0.5, "F", "M").astype(object)
    sex[5] = ""
    covariates = pd.DataFrame({"age": age, "sex": pd.Series(sex, dtype=str), "empty": np.full(60, np.nan)})
    return toy_cohort(labels, {}, classes="ab", covariates=covariates)


def test_covariates_only__encodes_by_what_training_samples_hold(with_covariates):
    encoding = covariates_only.fit_encoding(with_covariates.covariates)
    assert encoding.categories == {"sex": ("F", "M")}
    age = with_covariates.covariates["age"]
    new = pd.DataFrame({"age": [61.0, np.nan], "sex": ["F", "other"], "empty": [1.0, np.nan]})
    found = encoding.transform(new)
    # Four patients have no number at all: they lie at the mean, and the variance is that of all sixty.
    expected = [(61.0 - age.mean()) / age.std(ddof=0) * np.sqrt(60 / 56), 0.0]
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)
    np.testing.assert_array_equal(found[:, 1:], [[0, 1, 0], [0, 0, 0]])


def test_covariates_only__learns_from_age(with_covariates, tmp_path):
    predictor = fitted(covariates_only, with_covariates)
    probabilities = predictor.predict_proba(with_covariates)
    assert (probabilities.argmax(axis=1) == with_covariates.labels).mean() > 0.75
    predictor.save(tmp_path)
    np.testing.assert_array_equal(
        covariates_only.load(tmp_path).predict_proba(with_covariates), probabilities
    )


def test_covariates_only__refuses_with_a_reason(with_covariates):
    with pytest.raises(NotApplicable, match="needs covariates"):
        fitted(covariates_only, cohort_with_signal())
    predictor = fitted(covariates_only, with_covariates)
    with pytest.raises(NotApplicable, match="needs covariate age, empty, sex"):
        predictor.predict_proba(cohort_with_signal(n_classes=2))


SMALL = {"elastic_net": {"path": (3.0,), "l1_ratios": (0.5,)}, "random_forest": {"n_trees": 20}}


@pytest.mark.parametrize(
    "module", [l2_logistic, elastic_net, random_forest, prior_only], ids=lambda m: m.__name__.split(".")[-1]
)
@pytest.mark.parametrize("patients", [None, [f"p{i // 2}" for i in range(44)]], ids=["single", "paired"])
def test_baselines__loaded_model_gives_the_same_bits_on_awkward_data(module, patients, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.array([0] * 21 + [1] * 21 + [2] * 2)
    values = planted_values(labels, 30, n_informative=9, strength=2.0, rng=rng)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[:, 4], values[:, 5] = 2.0, np.nan
    cohort = toy_cohort(labels, {"a": values, "b": values[:, :3]}, classes="abcd", patients=patients)
    predictor = fitted(module, cohort, **SMALL.get(module.__name__.split(".")[-1], {}))
    probabilities = predictor.predict_proba(cohort.without_labels())
    assert probabilities.shape == (44, 4)
    assert (probabilities[:, 3] > 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    predictor.save(tmp_path)
    np.testing.assert_array_equal(module.load(tmp_path).predict_proba(cohort), probabilities)
