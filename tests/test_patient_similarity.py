"""The closed form of patient_similarity against refits by brute force, and what it must put up with."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from cohorts import grouped_samples, planted_values, toy_cohort
from cuda_process import in_a_process
from oncoarena.errors import NotApplicable
from oncoarena.fitting.kernel_ridge import (
    leave_group_out_log_prior,
    ridge_path,
    sample_weights,
)
from oncoarena.fitting.selection import fit_temperature, inner_folds, log_loss, softmax
from oncoarena.fitting.views import fit_view
from oncoarena.hypotheses.patient_similarity import Config, fit, load
from oncoarena.kernels.gram import gram, median_gamma


def solve_directly(kernel, targets, weights, penalty):
    """Weighted kernel ridge with an intercept, as one linear system: dual coefficients, intercept."""
    n = len(kernel)
    system = np.zeros((n + 1, n + 1))
    system[:n, :n] = kernel + penalty * np.diag(1 / weights)
    system[:n, n] = system[n, :n] = 1.0
    solution = np.linalg.solve(system, np.vstack([targets, np.zeros((1, targets.shape[1]))]))
    return solution[:n], solution[n]


@pytest.fixture
def data():
    return grouped_samples()


@pytest.mark.parametrize("kind", ["linear", "rbf", "arc_cosine"])
@pytest.mark.parametrize("weighting", ["uniform", "balanced"])
@pytest.mark.parametrize("grouped", [False, True])
def test_ridge_path__leave_group_out_equals_refits_without_the_group(data, kind, weighting, grouped):
    x, targets, groups = data
    groups = groups if grouped else np.arange(len(x))
    weights = sample_weights(targets, weighting)
    (kernel,) = gram(x, x, kinds=(kind,), gamma=0.1)
    penalties = (0.05, 2.0)
    for penalty, (_, _, scores) in zip(
        penalties, ridge_path(kernel, targets, weights, groups, penalties), strict=True
    ):
        for group in np.unique(groups):
            out, rest = groups == group, groups != group
            dual, intercept = solve_directly(
                kernel[np.ix_(rest, rest)], targets[rest], weights[rest], penalty
            )
            expected = kernel[np.ix_(out, rest)] @ dual + intercept
            expected -= np.average(targets[rest], axis=0, weights=weights[rest])
            np.testing.assert_allclose(scores[out], expected, atol=1e-9)


@pytest.mark.parametrize("weighting", ["uniform", "balanced"])
@pytest.mark.parametrize("grouped", [False, True])
def test_ridge_path__relations_are_columns_whose_coefficients_the_group_has_not_seen(
    data, weighting, grouped
):
    x, targets, groups = data
    groups = groups if grouped else np.arange(len(x))
    x = x - x.mean(axis=0)
    x = np.hstack([x, np.random.default_rng(7).normal(size=(21, 40))])
    relation = np.linalg.qr(np.column_stack([np.ones(21), x[:, :2]]))[0][:, 1:]
    x -= relation @ (relation.T @ x)
    weights = sample_weights(targets, weighting)
    columns = relation / weights[:, None]  # as many times as a sample counts, as the kernel sees it
    columns -= np.average(columns, axis=0, weights=weights)
    penalty = 0.5
    ((coefficients, constant, scores),) = ridge_path(x @ x.T, targets, weights, groups, (penalty,), relation)
    whole, _ = with_free_columns(x, columns, targets, weights, penalty)
    mean = weights @ x / weights.sum()
    np.testing.assert_allclose(x @ x.T @ coefficients - constant, (x - mean) @ whole, atol=1e-9)
    for group in np.unique(groups):
        out, rest = groups == group, groups != group
        slopes, _ = with_free_columns(x[rest], columns[rest], targets[rest], weights[rest], penalty)
        expected = (x[out] - np.average(x[rest], axis=0, weights=weights[rest])) @ slopes
        np.testing.assert_allclose(scores[out], expected, atol=1e-8)


def with_free_columns(x, columns, targets, weights, penalty):
    """Ridge regression with an intercept and columns without penalty, as one least-squares problem."""
    root = np.sqrt(weights)[:, None]
    design = np.hstack([x, columns, np.ones((len(x), 1))])
    shrink = np.sqrt(penalty) * np.eye(x.shape[1], design.shape[1])
    stacked = np.vstack([root * design, shrink]), np.vstack([root * targets, np.zeros((x.shape[1], 3))])
    found = np.linalg.lstsq(*stacked, rcond=None)[0]
    return found[: x.shape[1]], found[x.shape[1] :]


@pytest.mark.parametrize("weighting", ["uniform", "balanced"])
def test_ridge_path__equals_sklearn_ridge_on_new_samples(data, weighting):
    x, targets, groups = data
    weights = sample_weights(targets, weighting)
    new = np.random.default_rng(6).normal(size=(4, x.shape[1]))
    ((coefficients, constant, _),) = ridge_path(x @ x.T, targets, weights, groups, (0.7,))
    found = new @ x.T @ coefficients - constant + np.average(targets, axis=0, weights=weights)
    expected = Ridge(alpha=0.7).fit(x, targets, sample_weight=weights).predict(new)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_leave_group_out_log_prior__counts_only_other_patients():
    targets = np.eye(3)[[0, 0, 1, 1, 1]]
    found = np.exp(leave_group_out_log_prior(targets, np.array([0, 0, 1, 1, 2])))
    np.testing.assert_allclose(found[0], np.array([0.5, 3.5, 0.5]) / 4.5)
    np.testing.assert_allclose(found[4], np.array([2.5, 2.5, 0.5]) / 5.5)


def test_sample_weights__balanced_gives_each_class_the_same_sum():
    targets = np.eye(4)[[0, 0, 0, 1, 2, 2]]
    np.testing.assert_allclose(targets.T @ sample_weights(targets, "balanced"), [2, 2, 2, 0])
    with pytest.raises(ValueError, match="unknown class weights 'inverse'"):
        sample_weights(targets, "inverse")


def test_median_gamma__is_one_half_over_the_median_squared_distance():
    x = np.array([[0.0], [1.0], [3.0]])
    assert median_gamma(x @ x.T) == pytest.approx(0.5 / 4.0)


def test_median_gamma__many_duplicates_do_not_make_it_infinite():
    x = np.array([[0.0]] * 9 + [[2.0]])
    assert median_gamma(x @ x.T) == pytest.approx(0.5 / 4.0)


def cohort_with_signal(
    n_samples=60, n_features=40, *, strength=2.0, n_classes=3, seed=0, n_informative=10, **given
):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % n_classes
    values = planted_values(labels, n_features, n_informative=n_informative, strength=strength, rng=rng)
    return toy_cohort(labels, {"a": values}, classes=[f"c{i}" for i in range(n_classes)], **given)


def fitted(cohort, config=None, device="cpu"):
    return fit(config or Config(), cohort, None, seed=0, device=device)


def test_fit__one_candidate_is_sklearn_ridge_up_to_temperature():
    train, test = cohort_with_signal(seed=1), cohort_with_signal(9, seed=2).without_labels()
    config = Config(views=("zscore",), kernels=("linear",), penalties=(0.5,), class_weights=("uniform",))
    found = np.log(fitted(train, config).predict_proba(test))
    view = fit_view(train.blocks["a"].values, "zscore")
    x, new = view.transform(train.blocks["a"].values), view.transform(test.blocks["a"].values)
    targets = np.eye(3)[train.labels]
    expected = Ridge(alpha=0.5).fit(x.astype(float), targets).predict(new.astype(float))
    expected -= targets.mean(axis=0)
    # Classes are equally frequent, so log probabilities differ from scores by a factor and a constant a row.
    found -= found.mean(axis=1, keepdims=True)
    expected -= expected.mean(axis=1, keepdims=True)
    factor = (found * expected).sum() / (expected**2).sum()
    assert factor > 0
    np.testing.assert_allclose(found, factor * expected, atol=1e-4 * np.abs(found).max())


def test_fit__finds_a_planted_signal_with_honest_probabilities():
    train, test = cohort_with_signal(90, seed=1), cohort_with_signal(150, seed=2)
    probabilities = fitted(train).predict_proba(test.without_labels())
    assert (probabilities.argmax(axis=1) == test.labels).mean() > 0.9
    confidence = probabilities.max(axis=1).mean()
    assert confidence == pytest.approx((probabilities.argmax(axis=1) == test.labels).mean(), abs=0.08)


def test_fit__without_signal_stays_near_the_class_frequencies():
    train = cohort_with_signal(80, strength=0.0, seed=3)
    test = cohort_with_signal(80, strength=0.0, seed=4)
    loss = log_loss(fitted(train).predict_proba(test.without_labels()), test.labels)
    assert loss < np.log(3) + 0.1


def test_fit__a_small_informative_block_is_not_drowned_by_a_wide_one():
    rng = np.random.default_rng(8)

    def make(n_samples):
        labels = np.arange(n_samples) % 2
        small = planted_values(labels, 6, n_informative=6, strength=1.2, rng=rng)
        return toy_cohort(labels, {"wide": rng.normal(size=(n_samples, 2000)), "small": small}, classes="ab")

    train, test = make(60), make(100)
    predictor = fitted(train)
    assert (predictor.predict_proba(test.without_labels()).argmax(axis=1) == test.labels).mean() > 0.8
    of_wide = sum(entry["weight"] for entry in predictor.chosen if entry["block"] == "wide")
    assert of_wide < 0.01


def test_fit__sum_over_blocks_predicts_what_it_promised():
    # The same block twice: the sum is the kernel of one block, and must give the same predictions.
    once = cohort_with_signal(40, seed=1)
    twice = toy_cohort(
        once.labels, {"a": once.blocks["a"].values, "b": once.blocks["a"].values}, classes=once.classes
    )
    config = Config(views=("zscore",))
    np.testing.assert_allclose(
        fitted(twice, config).predict_proba(twice), fitted(once, config).predict_proba(once), atol=1e-8
    )


def test_fit__sum_over_views_predicts_what_it_promised():
    # Only the sums over views carry weight, so a wrong factor of a view would show.
    train = cohort_with_signal(40, seed=1)
    config = Config(
        views=("zscore", "rank"), kernels=("linear",), class_weights=("uniform",), weight_floor=0.0
    )
    predictor = fitted(train, config)
    assert "+" in {entry["view"] for entry in predictor.chosen}
    x = {
        kind: fit_view(train.blocks["a"].values, kind).transform(train.blocks["a"].values)
        for kind in config.views
    }
    both = np.hstack(list(x.values())).astype(float) / np.sqrt(2)
    offset = leave_group_out_log_prior(np.eye(3)[train.labels], np.arange(40))
    summed, scores = [], []
    for features in (x["zscore"], x["rank"], both):
        features = features.astype(float)
        for penalty in config.penalties:
            model = Ridge(alpha=penalty).fit(features, np.eye(3)[train.labels])
            summed.append(model.predict(features) - np.eye(3)[train.labels].mean(axis=0))
            left = [
                Ridge(alpha=penalty)
                .fit(np.delete(features, i, 0), np.eye(3)[np.delete(train.labels, i)])
                .predict(features[i : i + 1])[0]
                - np.eye(3)[np.delete(train.labels, i)].mean(axis=0)
                for i in range(40)
            ]
            scores.append(np.array(left))
    factors = np.array([fit_temperature(s, train.labels, offset) for s in scores])

    def weights_on(rows, factors):
        """Weights by the log losses of some samples."""
        pairs = zip(factors, scores, strict=True)
        losses = np.array([log_loss(softmax(f * s + offset)[rows], train.labels[rows]) for f, s in pairs])
        weights = np.exp(-0.5 * len(rows) * (losses - losses.min()))
        return weights / weights.sum()

    weights = weights_on(np.arange(40), factors)
    (folds,) = inner_folds(train, 5, 1, seed=0)
    crossed = np.empty((40, 3))
    for fold in range(5):
        seen, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        own = np.array([fit_temperature(s[seen], train.labels[seen], offset[seen]) for s in scores])
        crossed[held_out] = np.tensordot(weights_on(seen, own) * own, np.array(scores)[:, held_out], axes=1)
    final = fit_temperature(crossed, train.labels, offset)
    logits = final * np.tensordot(weights * factors, summed, axes=1)
    logits += np.log(np.bincount(train.labels, minlength=3) + 0.5)
    np.testing.assert_allclose(predictor.predict_proba(train), softmax(logits), atol=1e-5)


def test_fit__counts_of_very_different_totals_are_compared_by_their_shares():
    rng = np.random.default_rng(11)
    composition = rng.dirichlet(np.full(30, 2.0), size=3)

    def make(n_samples):
        labels = np.arange(n_samples) % 3
        totals = 10 ** rng.uniform(2, 5, size=(n_samples, 1))
        shares = 0.85 * composition.mean(axis=0) + 0.15 * composition[labels]
        return toy_cohort(labels, {"a": rng.poisson(shares * totals)}, classes="abc")

    train, test = make(90), make(150)
    with_shares = fitted(train)
    loss = log_loss(with_shares.predict_proba(test.without_labels()), test.labels)
    plain = fitted(train, Config(views=("zscore", "raw")))
    assert loss < log_loss(plain.predict_proba(test.without_labels()), test.labels) - 0.05
    assert sum(entry["weight"] for entry in with_shares.chosen if entry["view"] in ("share", "+")) > 0.5


def test_predictor__save_and_load_in_a_new_process_give_the_same_bits(tmp_path):
    train = cohort_with_signal(30, seed=1)
    predictor = fitted(train)
    predictor.save(tmp_path)
    expected = predictor.predict_proba(train)
    np.testing.assert_array_equal(load(tmp_path).predict_proba(train), expected)
    code = (
        "import sys, numpy as np; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from test_patient_similarity import cohort_with_signal;"
        "from oncoarena.hypotheses.patient_similarity import load;"
        "p = load(Path(sys.argv[1])).predict_proba(cohort_with_signal(30, seed=1));"
        "np.save(sys.argv[1] + '/again.npy', p)"
    )
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code, str(tmp_path), here], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), expected)


def test_fit__twice_gives_the_same_bits():
    train = cohort_with_signal(30, seed=1)
    np.testing.assert_array_equal(fitted(train).predict_proba(train), fitted(train).predict_proba(train))


def test_predict_proba__a_sample_does_not_depend_on_the_others():
    predictor = fitted(cohort_with_signal(40, seed=1))
    test = cohort_with_signal(12, seed=2).without_labels()
    alone = np.vstack([predictor.predict_proba(test.take(np.array([i]))) for i in range(12)])
    # BLAS adds in another order for one row than for twelve.
    np.testing.assert_allclose(alone, predictor.predict_proba(test), rtol=1e-9)


def awkward(case):
    rng = np.random.default_rng(0)
    values = planted_values(np.arange(24) % 3, 12, n_informative=6, strength=2.0, rng=rng)
    labels, patients = np.arange(24) % 3, None
    if case == "missing values, constant and empty features":
        values[rng.random(values.shape) < 0.2] = np.nan
        values[:, 4], values[:, 5] = 3.0, np.nan
    elif case == "nothing varies":
        values[:] = 1.0
    elif case == "one feature":
        values = values[:, :1]
    elif case == "several samples a patient":
        patients = [f"p{i // 2}" for i in range(24)]
    elif case == "two patients":
        patients = [f"p{i % 2}" for i in range(24)]
    elif case == "one patient a class":
        patients = [f"p{i}" for i in labels]
    elif case == "a class of two":
        labels = np.array([0] * 11 + [1] * 11 + [2] * 2)
    elif case == "one class only":
        labels = np.zeros(24, int)
    elif case == "duplicated samples":
        values[1:] = values[0]
        values[20:] = values[20:] + 1.0
    return toy_cohort(labels, {"a": values}, classes="abcd", patients=patients)


@pytest.mark.parametrize(
    "case",
    [
        "missing values, constant and empty features",
        "nothing varies",
        "one feature",
        "several samples a patient",
        "two patients",
        "one patient a class",
        "a class of two",
        "one class only",
        "duplicated samples",
    ],
)
def test_fit__awkward_cohorts_give_valid_probabilities(case, tmp_path):
    cohort = awkward(case)
    predictor = fitted(cohort)
    probabilities = predictor.predict_proba(cohort.without_labels())
    assert probabilities.shape == (24, 4)
    assert probabilities.dtype == np.float64
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    # No sample of class "d": a small probability, not none.
    assert (probabilities[:, 3] > 0).all()
    assert probabilities[:, 3].max() < 0.2
    predictor.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict_proba(cohort), probabilities)


def test_fit__refuses_with_a_reason():
    with pytest.raises(NotApplicable, match="at least 2 patients, found 1"):
        fitted(cohort_with_signal(6, patients=["p"] * 6))
    with pytest.raises(NotApplicable, match="at least one block"):
        fitted(toy_cohort([0, 1], {}, classes="ab"))


def test_predict_proba__refuses_other_features():
    predictor = fitted(cohort_with_signal(20, 10))
    with pytest.raises(NotApplicable, match="needs block a; this cohort has b"):
        predictor.predict_proba(toy_cohort([0], {"b": np.ones((1, 10))}, classes="ab"))
    with pytest.raises(ValueError, match="trained on 10 features, found 9"):
        predictor.predict_proba(toy_cohort([0], {"a": np.ones((1, 9))}, classes="ab"))


def test_fit__simulated_gpu_gives_the_probabilities_of_the_cpu():
    code = """
import numpy as np
from test_patient_similarity import Config, cohort_with_signal, fitted
train, config = cohort_with_signal(9, 5, n_informative=3), Config(views=("zscore",))
on_gpu, on_cpu = fitted(train, config, "cuda"), fitted(train, config, "cpu")
assert on_gpu.device == "cuda"
np.testing.assert_allclose(on_gpu.predict_proba(train), on_cpu.predict_proba(train), atol=1e-4)
"""
    in_a_process(code, simulator=True)
