"""Every metric against scikit-learn, SciPy or a count by hand, with weights, ties and absent classes."""

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from finished_studies import noisy_probabilities
from oncoarena.referee import metrics
from oncoarena.referee.ranking import auroc_replicates, detection_replicates, rank_rows


def draw_case(seed, n_classes, n_samples=40, decimals=1):
    """A small case with many ties and integer weights, some of them zero."""
    rng = np.random.default_rng(seed)
    truth = np.append(np.arange(n_classes), rng.integers(n_classes, size=n_samples))
    probabilities = noisy_probabilities(truth, n_classes, 1.0, rng, decimals) + 0.05
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    weights = np.append(np.ones(n_classes), rng.integers(4, size=n_samples))
    return truth, probabilities, weights


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_classes", [2, 3, 6])
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics__agree_with_scikit_learn(seed, n_classes, weighted):
    truth, probabilities, weights = draw_case(seed, n_classes)
    weights = weights if weighted else None
    predicted, classes = probabilities.argmax(axis=1), np.arange(n_classes)
    hot = np.eye(n_classes)[truth]
    halved = 2 if n_classes == 2 else 1
    expected = {
        metrics.accuracy: reference.accuracy_score(truth, predicted, sample_weight=weights),
        metrics.balanced_accuracy: reference.balanced_accuracy_score(truth, predicted, sample_weight=weights),
        metrics.macro_f1: reference.f1_score(truth, predicted, average="macro", sample_weight=weights),
        metrics.mcc: reference.matthews_corrcoef(truth, predicted, sample_weight=weights),
        metrics.log_loss: reference.log_loss(truth, probabilities, sample_weight=weights, labels=classes),
        metrics.brier: np.average(((probabilities - hot) ** 2).sum(axis=1), weights=weights) / halved,
        metrics.macro_auroc: np.mean(
            [reference.roc_auc_score(truth == c, probabilities[:, c], sample_weight=weights) for c in classes]
        ),
    }
    for metric, value in expected.items():
        assert metric(truth, probabilities, weights) == pytest.approx(value, abs=1e-9), metric.__name__


def test_brier__of_two_classes_is_the_clinicians():
    truth, probabilities, _ = draw_case(0, 2, decimals=None)
    assert metrics.brier(truth, probabilities) == pytest.approx(
        reference.brier_score_loss(truth, probabilities[:, 1])
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=25))
def test_auroc__is_the_share_of_pairs_in_order(rows):
    positive = np.array([row[0] for row in rows])
    scores = np.array([row[1] for row in rows], dtype=float)
    pairs = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high in scores[positive]
        for low in scores[~positive]
    ]
    if pairs:
        assert metrics.auroc(positive, scores) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(metrics.auroc(positive, scores))


def test_macro_auroc__skips_classes_that_are_absent():
    truth, probabilities, _ = draw_case(3, 4)
    kept = truth != 2
    by_class = [metrics.auroc(truth[kept] == c, probabilities[kept, c]) for c in (0, 1, 3)]
    assert metrics.macro_auroc(truth[kept], probabilities[kept]) == pytest.approx(np.mean(by_class))


def test_balanced_accuracy_and_f1__skip_classes_that_are_absent():
    truth = np.array([0, 0, 1, 1])
    probabilities = np.eye(3)[[0, 2, 1, 1]]
    assert metrics.balanced_accuracy(truth, probabilities) == pytest.approx((0.5 + 1) / 2)
    assert metrics.macro_f1(truth, probabilities) == pytest.approx((2 / 3 + 1) / 2)


def test_metrics__one_class_only_leaves_rankings_undefined():
    truth, probabilities = np.zeros(5, dtype=int), np.full((5, 2), 0.5)
    assert np.isnan(metrics.macro_auroc(truth, probabilities))
    assert np.isnan(metrics.mcc(truth, probabilities))
    assert metrics.accuracy(truth, probabilities) == 1


def test_metrics__no_samples_are_undefined_not_an_error():
    truth, probabilities = np.empty(0, dtype=int), np.empty((0, 3))
    for metric in (metrics.accuracy, metrics.macro_auroc, metrics.log_loss, metrics.brier, metrics.macro_f1):
        assert np.isnan(metric(truth, probabilities))


def test_mcc__a_constant_prediction_is_worth_nothing():
    assert metrics.mcc(np.array([0, 1, 2, 1]), np.tile([0.2, 0.7, 0.1], (4, 1))) == 0


def test_log_loss__a_zero_for_the_truth_costs_the_floor():
    assert metrics.log_loss(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(-np.log(1e-7))


@pytest.mark.parametrize("seed", range(5))
def test_top_k_hits__agree_with_scikit_learn_where_nothing_is_tied(seed):
    truth, probabilities, _ = draw_case(seed, 6, decimals=None)
    expected = reference.top_k_accuracy_score(truth, probabilities, k=3, labels=np.arange(6))
    assert metrics.top_k_hits(truth, probabilities, 3).mean() == pytest.approx(expected)


def test_top_k_hits__a_constant_gains_nothing_from_ties():
    assert not metrics.top_k_hits(np.array([0, 3]), np.full((2, 6), 1 / 6), 3).any()


def test_expected_calibration_error__counted_by_hand():
    # Two bins of two: said 0.6, right half the time; said 0.9, always right.
    truth = np.array([0, 1, 0, 0])
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]])
    assert metrics.expected_calibration_error(truth, probabilities) == pytest.approx((0.1 + 0.1) / 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 8), max_size=60), st.integers(2, 10))
def test_equal_mass_bins__equal_values_share_a_bin_and_order_is_kept(values, n_bins):
    values = np.array(values, dtype=float)
    bins = metrics.equal_mass_bins(values, n_bins)
    order = np.argsort(values, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    assert len({(v, b) for v, b in zip(values, bins, strict=True)}) == len(set(values))
    assert len(bins) == 0 or bins.max() < n_bins


def test_equal_mass_bins__distinct_values_are_dealt_evenly():
    values = np.random.default_rng(0).permutation(100).astype(float)
    assert np.bincount(metrics.equal_mass_bins(values, 5)).tolist() == [20] * 5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0, 1, None]))
def test_ranking__replicates_agree_with_the_metric_for_each_weighting(seed, decimals):
    rng = np.random.default_rng(seed)
    n_units = 9
    units = rng.integers(n_units, size=30)
    positive, scores = rng.random(30) < 0.4, rng.normal(size=30)
    scores = scores if decimals is None else np.round(scores, decimals)
    weights = rng.integers(3, size=(n_units, 7), dtype=np.uint8)
    by_row = weights[units].astype(float)
    positives, negatives = by_row[positive].sum(0), by_row[~positive].sum(0)
    ranking = rank_rows(positive, scores, units)
    areas = auroc_replicates(ranking, weights, positives, negatives)
    expected = [metrics.auroc(positive, scores, by_row[:, r]) for r in range(7)]
    np.testing.assert_allclose(areas, expected, rtol=1e-12)

    specificities = np.array([0.5, 0.9])
    precision, reached = detection_replicates(ranking, weights, positives, negatives, specificities)
    for r in range(7):
        if positives[r] == 0 or negatives[r] == 0:
            assert np.isnan([precision[r], *reached[:, r]]).all()
            continue
        used = by_row[:, r] > 0
        given_weights = by_row[used, r]
        assert precision[r] == pytest.approx(
            reference.average_precision_score(positive[used], scores[used], sample_weight=given_weights)
        )
        for k, specificity in enumerate(specificities):
            best = max(
                (by_row[positive & (scores >= cut), r].sum() / positives[r])
                for cut in [np.inf, *scores]
                if by_row[~positive & (scores >= cut), r].sum() <= (1 - specificity) * negatives[r] + 1e-9
            )
            assert reached[k, r] == pytest.approx(best)


def test_metric_texts__every_metric_has_a_title_and_a_definition():
    for name, metric in metrics.METRICS.items():
        assert metric.title, name
        assert metric.definition.endswith("."), name
