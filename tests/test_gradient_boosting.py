"""Boosted trees: as TensorFlow reads them, by hand, and where only they see the signal."""

import numpy as np
import pytest
from sklearn.feature_selection import f_classif

from cohorts import planted_values, toy_cohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting import f_screening
from oncoarena.fitting.boosted_trees import TreeSettings, fit_trees, out_of_fold_logits, screen_features
from oncoarena.fitting.selection import log_loss, softmax
from oncoarena.hypotheses import gradient_boosting

SMALL = TreeSettings(n_rounds=20)
QUICK = gradient_boosting.Config(n_rounds=60, max_depths=(2, 3), candidates=(2.0,), n_folds=3)


def noisy_cohort(n_samples=60, n_features=12, *, n_classes=3, seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % n_classes
    values = planted_values(labels, n_features, n_informative=6, strength=1.5, rng=rng)
    values[rng.random(values.shape) < missing] = np.nan
    return toy_cohort(labels, {"a": values}, classes=[f"c{i}" for i in range(n_classes)])


def extreme_cohort(n_samples, seed, n_features=15):
    """One class has the fifth feature very low or very high, the other in between: the means are the same."""
    values = np.random.default_rng(seed).normal(size=(n_samples, n_features))
    return toy_cohort((np.abs(values[:, 4]) > 0.7).astype(int), {"a": values}, classes="ab")


def everyone(cohort):
    return np.arange(len(cohort))


def test_logits__are_those_of_the_saved_model_in_tensorflow(tmp_path):
    import tensorflow as tf

    train, test = noisy_cohort(seed=1, missing=0.1), noisy_cohort(seed=2, missing=0.1)
    trees = fit_trees(train, everyone(train), SMALL, seed=0)
    trees.model.to_tensorflow_saved_model(str(tmp_path / "served"), mode="tf")
    served = tf.saved_model.load(str(tmp_path / "served"))
    found = served({"x": tf.constant(test.blocks["a"].values)}).numpy()
    np.testing.assert_allclose(found, trees.logits(test), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_logits__equal_a_walk_down_every_tree(n_classes):
    train, test = (noisy_cohort(n_classes=n_classes, seed=seed) for seed in (1, 2))
    trees = fit_trees(train, everyone(train), SMALL, seed=0)
    start = trees.model.initial_predictions().astype(np.float64)
    column = {attribute: number for number, attribute in enumerate(trees.model.input_features_col_idxs())}
    expected = np.tile(start, (len(test), 1))
    for number, tree in enumerate(trees.model.get_all_trees()):
        for row, sample in enumerate(test.blocks["a"].values):
            node = tree.root
            while not node.is_leaf:
                is_above = sample[column[node.condition.attribute]] >= node.condition.threshold
                node = node.pos_child if is_above else node.neg_child
            expected[row, number % len(start)] += node.value.value
    if n_classes == 2:
        expected = np.hstack([-expected, expected]) / 2
    np.testing.assert_allclose(trees.logits(test), expected, atol=1e-5)


def test_logits__missing_value_counts_as_the_training_mean():
    train, test = noisy_cohort(seed=1, missing=0.2), noisy_cohort(seed=2)
    trees = fit_trees(train, everyone(train), SMALL, seed=0)
    values = np.array(test.blocks["a"].values)
    values[:, 0] = np.nan
    mean = values.copy()
    mean[:, 0] = np.nanmean(train.blocks["a"].values[:, 0])
    unknown, known = (toy_cohort(test.labels, {"a": v}, classes=test.classes) for v in (values, mean))
    np.testing.assert_array_equal(trees.logits(unknown), trees.logits(known))


def test_logits__class_without_samples_is_as_likely_as_half_a_sample_where_nothing_is_known():
    cohort = toy_cohort([0] * 6 + [2] * 6, {"a": np.ones((12, 2))}, classes="abc")
    probabilities = softmax(fit_trees(cohort, everyone(cohort), SMALL, seed=0).logits(cohort))
    # Half a sample each beside twelve.
    np.testing.assert_allclose(probabilities[:, 1] / probabilities[:, 0], (0.5 / 13.5) * 2.0)


def test_screen_features__orders_as_sklearn_does_with_missing_values_at_the_mean(monkeypatch):
    monkeypatch.setattr(f_screening, "TILE_VALUES", 200)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=40)
    first, second = rng.normal(size=(40, 21)) * 7.0 + 100.0, rng.normal(size=(40, 30))
    first[:, 4] += 7.0 * labels
    first[rng.random(first.shape) < 0.1] = np.nan
    first[:, 9], second[:, 2] = np.nan, 5.0
    cohort = toy_cohort(labels, {"a": first, "b": second}, classes="abc")
    rows = np.arange(40) % 4 != 1
    x = np.hstack([cohort.blocks[name].values for name in "ab"])[rows]
    varying = np.delete(np.arange(51), [9, 23])
    x = x[:, varying]
    imputed = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    order = varying[np.argsort(-f_classif(imputed, labels[rows])[0])]
    for n_kept in (1, 12, 49, 60):
        found = screen_features(cohort, np.flatnonzero(rows), n_kept)
        np.testing.assert_array_equal(found, np.sort(order[:n_kept]))


def test_out_of_fold_logits__do_not_know_the_label_of_their_sample():
    cohort = noisy_cohort(30)
    folds = (np.arange(30) // 10)[None]
    changed = cohort.labels.copy()
    changed[folds[0] == 0] = (changed[folds[0] == 0] + 1) % 3
    relabelled = toy_cohort(changed, {"a": cohort.blocks["a"].values}, classes=cohort.classes)
    before, after = (out_of_fold_logits(c, folds, SMALL, seed=0)[0] for c in (cohort, relabelled))
    np.testing.assert_array_equal(before[:10], after[:10])
    assert (before[10:] != after[10:]).all(axis=1).any()


def test_fit__sees_what_shifts_no_mean():
    train, test = extreme_cohort(150, 1), extreme_cohort(200, 2)
    predictor = gradient_boosting.fit(QUICK, train, None, seed=0, device="cpu")
    assert (predictor.predict_proba(test).argmax(axis=1) == test.labels).mean() > 0.9
    contributions = predictor.attribute(test.without_labels(), 1).contributions["a"]
    assert np.abs(contributions).mean(axis=0).argmax() == 4


def test_fit__temperature_answers_for_noise():
    rng = np.random.default_rng(3)
    train, test = (
        toy_cohort(np.arange(80) % 2, {"a": rng.normal(size=(80, 30))}, classes="ab") for _ in range(2)
    )
    predictor = gradient_boosting.fit(QUICK, train, None, seed=0, device="cpu")
    calibrated, raw = (
        log_loss(p, test.labels) for p in (predictor.predict_proba(test), predictor.predict_raw(test))
    )
    assert calibrated < np.log(2) + 0.02 < raw


def test_fit__seed_decides_what_trees_draw():
    train, test = noisy_cohort(seed=1), noisy_cohort(seed=2)
    first, again, other = (
        gradient_boosting.fit(QUICK, train, None, seed=seed, device="cpu").predict_proba(test)
        for seed in (2**32 - 1, 2**32 - 1, 5)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fit__wide_cohort_is_screened_and_the_signal_found():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    values = rng.normal(size=(60, 3000)).astype(np.float32)
    values[:, 2500] += 4.0 * labels
    train = toy_cohort(labels, {"a": values[:, :1000], "b": values[:, 1000:]}, classes="ab")
    predictor = gradient_boosting.fit(
        gradient_boosting.Config(n_rounds=20, max_depths=(2,), candidates=(1.0,), n_screened=100, n_folds=2),
        train,
        None,
        seed=0,
        device="cpu",
    )
    assert len(predictor.trees.features) == 100
    contributions = predictor.attribute(train.without_labels(), 1).contributions
    assert {name: part.shape for name, part in contributions.items()} == {"a": (60, 1000), "b": (60, 2000)}
    assert np.abs(contributions["b"]).mean(axis=0).argmax() == 1500
    assert np.count_nonzero(np.hstack(list(contributions.values())).any(axis=0)) <= 100


def test_fit__without_a_block_is_refused():
    with pytest.raises(NotApplicable, match="at least one block"):
        gradient_boosting.fit(QUICK, toy_cohort([0, 1, 0, 1], {}, classes="ab"), None, seed=0, device="cpu")
