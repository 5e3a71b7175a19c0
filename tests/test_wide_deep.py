"""The claim of the diffuse shift, and the batched heads that it shares with the genome's neighbours."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cohorts import toy_cohort, with_values
from oncoarena.errors import NotApplicable
from oncoarena.fitting import keras_members
from oncoarena.fitting.keras_members import HeadConfig, member_logits, select_members, train_members
from oncoarena.fitting.selection import log_loss, softmax
from oncoarena.hypotheses import wide_deep

SMALL = wide_deep.Config(
    penalties=(0.03, 0.003),
    deep_units=(4,),
    steps=60,
    inner_folds=3,
    inner_repeats=1,
    views=("zscore", "rank"),
)


def _cohort(blocks, labels, classes=("a", "b", "c"), patients=None):
    return toy_cohort(labels, blocks, classes=classes, patients=patients)


def _shifted(n_samples, n_features=40, shift=0.5, seed=0, n_classes=3):
    """Every feature shifts a little with the class."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(1).normal(size=(n_classes, n_features))
    labels = np.arange(n_samples) % n_classes
    return rng.normal(size=(n_samples, n_features)) + shift * directions[labels], labels


def _probabilities(config, train, test, seed=0):
    return wide_deep.fit(config, train, None, seed=seed, device="cpu").predict_proba(test.without_labels())


def _assert_probabilities(probabilities, n_samples, n_classes):
    assert probabilities.shape == (n_samples, n_classes)
    assert probabilities.dtype == np.float64
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)


def test_train_members__wide_head_is_l2_logistic_regression():
    x, labels = _shifted(45, n_features=6)
    x -= x.mean(axis=0)
    x /= np.sqrt((x**2).sum(axis=1).mean())  # unit trace
    train = _cohort({"rna": x}, labels)
    config = HeadConfig(
        penalties=(0.1, 0.01), deep_units=(), label_smoothing=0.0, steps=1500, inner_folds=3, inner_repeats=2
    )

    trained = train_members(x[:, None, :].astype(np.float32), train, config, seed=0)
    logits = member_logits(trained.model, x[:, None, :])[:, 0]  # (n_samples, n_members, n_classes)

    for member, penalty in enumerate(config.penalties):
        exact = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-10, max_iter=10_000).fit(x, labels)
        np.testing.assert_allclose(softmax(logits[:, member]), exact.predict_proba(x), atol=2e-3)
        fold = trained.folds[1]
        out = fold == 2
        exact = LogisticRegression(C=1 / ((~out).sum() * penalty), tol=1e-10, max_iter=10_000)
        exact.fit(x[~out], labels[~out])
        np.testing.assert_allclose(
            softmax(trained.oof_logits[member, 1, out]), exact.predict_proba(x[out]), atol=2e-3
        )


def test_train_members__out_of_fold_logits_do_not_know_the_label_of_their_sample(monkeypatch):
    x, labels = _shifted(30, n_features=5)
    x /= np.sqrt((x**2).sum(axis=1).mean())
    config = HeadConfig(penalties=(0.01,), deep_units=(3,), steps=40)
    fold = np.arange(30) // 10
    # The folds are dealt by label; here they must stay while labels change.
    monkeypatch.setattr(keras_members, "inner_folds", lambda *_: fold[None])

    def oof_logits(labels):
        return train_members(x[:, None, :], _cohort({"rna": x}, labels), config, seed=0).oof_logits[:, 0]

    changed = labels.copy()
    changed[fold == 0] = (labels[fold == 0] + 1) % 3
    before, after = oof_logits(labels), oof_logits(changed)
    np.testing.assert_array_equal(after[:, fold == 0], before[:, fold == 0])
    assert not np.isclose(after[:, fold != 0], before[:, fold != 0]).any()


def test_train_members__deep_heads_are_held_out_in_the_first_repeat_only():
    x, labels = _shifted(30, n_features=5)
    x /= np.sqrt((x**2).sum(axis=1).mean())
    config = HeadConfig(penalties=(0.01,), deep_units=(3,), steps=10, inner_folds=3, inner_repeats=2)
    trained = train_members(x[:, None, :], _cohort({"rna": x}, labels), config, seed=0)
    wide, deep = trained.oof_logits  # (n_repeats, n_samples, n_classes)
    assert (trained.folds[0] != trained.folds[1]).any()
    assert not np.isclose(wide[0], wide[1]).any()
    np.testing.assert_array_equal(deep[0], deep[1])
    everyone = member_logits(trained.model, x[:, None, :])[:, 0, 1]
    assert not np.isclose(deep[0], everyone).any()


def test_train_members__strong_imbalance_offers_focal_loss():
    x, _ = _shifted(36, n_features=5)
    labels = np.r_[np.zeros(30), np.ones(6)].astype(int)
    config = HeadConfig(penalties=(0.01,), deep_units=(3,), steps=5, inner_folds=3, inner_repeats=1)
    trained = train_members(x[:, None, :], _cohort({"rna": x}, labels, ("a", "b")), config, seed=0)
    assert trained.names == ("wide 0.01", "wide focal 0.01", "deep 3")
    assert trained.is_deep.tolist() == [False, False, True]


def test_fit__one_in_a_hundred_is_offered_focal_loss_and_keeps_its_calibration():
    def imbalanced(n_samples, seed):
        labels = (np.arange(n_samples) % 100 == 0).astype(int)
        shift = np.where(np.arange(8) % 2, 0.7, -0.7)
        x = np.random.default_rng(seed).normal(size=(n_samples, 8)) + labels[:, None] * shift
        return _cohort({"rna": x}, labels, ("common", "rare"))

    train, test = imbalanced(800, 1), imbalanced(20_000, 2)
    config = wide_deep.Config(penalties=(0.01, 0.001), deep_units=(), views=("zscore",), inner_repeats=1)
    with pytest.MonkeyPatch.context() as patch:
        names = []
        patch.setattr(wide_deep, "train_members", lambda *a: _noted(train_members(*a), names))
        rare = _probabilities(config, train, test)[:, 1]
    assert names == ["wide 0.01", "wide 0.001", "wide focal 0.01", "wide focal 0.001"]
    # 8 rare patients in training: their share is known within a factor of two.
    assert 0.005 < rare.mean() < 0.02
    frequent = rare > np.quantile(rare, 0.99)
    assert test.labels[frequent].mean() > 0.15
    assert rare[frequent].mean() == pytest.approx(test.labels[frequent].mean(), rel=0.5)
    prior = np.tile([0.99, 0.01], (len(test), 1))
    assert log_loss(np.stack([1 - rare, rare], axis=1), test.labels) < 0.8 * log_loss(prior, test.labels)


def _noted(trained, names):
    names.extend(trained.names)
    return trained


def test_select_members__deep_member_must_gain_more_than_a_standard_error():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    train = _cohort({"rna": rng.normal(size=(60, 2))}, labels, ("a", "b"))
    truth = np.eye(2)[labels] - 0.5
    wide, lucky, better = (strength * truth + rng.normal(size=(60, 2)) for strength in (1.0, 1.5, 4.0))
    gated = np.array([False, True])

    refused = select_members(np.stack([wide, lucky])[:, None], train, gated, max_members=1)
    assert 0 < refused.gain <= refused.gain_error
    assert refused.weights.tolist() == [1.0, 0.0]
    admitted = select_members(np.stack([wide, better])[:, None], train, gated, max_members=1)
    assert admitted.gain > admitted.gain_error
    assert admitted.weights.tolist() == [0.0, 1.0]


def test_fit__finds_a_diffuse_shift():
    train, test = (_cohort({"rna": _shifted(n, seed=n)[0]}, _shifted(n)[1]) for n in (45, 60))
    probabilities = _probabilities(SMALL, train, test)
    # The nearest true class centre is right for 59 of these 60 samples.
    assert (probabilities.argmax(axis=1) == test.labels).mean() > 0.8


def _extremes(n_samples, seed):
    """One class has the fifth of 20 features very low or very high: no mean shifts."""
    x = np.random.default_rng(seed).normal(size=(n_samples, 20))
    return _cohort({"rna": x[:, :12], "counts": x[:, 12:]}, (np.abs(x[:, 4]) > 0.7).astype(int), ("a", "b"))


@pytest.fixture(scope="module")
def with_trees():
    """A model in which trees have earned their place, beside wide heads."""
    return wide_deep.fit(replace(SMALL, deep_units=()), _extremes(120, seed=1), None, seed=0, device="cpu")


def test_fit__trees_enter_where_they_gain_more_than_a_standard_error(with_trees):
    test = _extremes(100, seed=2)
    findings = with_trees.findings
    assert findings["deep_gain"] > findings["deep_gain_error"] > 0
    assert findings["weight_of_trees"] > 0.5
    without = _probabilities(replace(SMALL, tree_rounds=0), _extremes(120, seed=1), test)
    right = [(p.argmax(axis=1) == test.labels).mean() for p in (with_trees.predict_proba(test), without)]
    assert right[0] > 0.95 > 0.85 > right[1]


def test_fit__trees_stay_out_of_a_diffuse_shift():
    x, labels = _shifted(60)
    findings = wide_deep.fit(SMALL, _cohort({"rna": x}, labels), None, seed=0, device="cpu").findings
    assert findings["trees_offered"]
    assert findings["weight_of_trees"] == 0


def test_fit__trees_that_would_cost_too_much_are_not_offered():
    config = replace(SMALL, max_tree_work=2 * 120 - 1)
    findings = wide_deep.fit(config, _extremes(120, seed=1), None, seed=0, device="cpu").findings
    assert not findings["trees_offered"]
    assert findings["weight_of_trees"] == 0


def test_attribute__of_trees_sums_to_the_score_and_finds_the_feature_that_decides(with_trees):
    test = _extremes(40, seed=2).without_labels()
    found = with_trees.attribute(test, 1)
    total = sum(part.sum(axis=1, dtype=np.float64) for part in found.contributions.values())
    assert (found.method, found.exact) == ("weights, TreeSHAP", True)
    np.testing.assert_allclose(total, found.score - found.baseline, atol=1e-4)
    assert {name: part.shape for name, part in found.contributions.items()} == {
        "rna": (40, 12),
        "counts": (40, 8),
    }
    sizes = np.abs(np.hstack(list(found.contributions.values()))).mean(axis=0)
    assert sizes.argmax() == 4
    logits = np.log(with_trees.predict_raw(test))
    np.testing.assert_allclose(found.score, logits[:, 1] - logits.mean(axis=1), atol=1e-5)


def test_save__trees_load_to_identical_predictions(with_trees, tmp_path):
    test = _extremes(40, seed=2).without_labels()
    with_trees.save(tmp_path)
    loaded = wide_deep.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(test), with_trees.predict_proba(test))
    np.testing.assert_array_equal(loaded.predict_raw(test), with_trees.predict_raw(test))
    again, first = (p.attribute(test, 1).contributions["rna"] for p in (loaded, with_trees))
    np.testing.assert_array_equal(again, first)


def test_fit__same_seed_gives_identical_predictions():
    train, test = (_cohort({"rna": _shifted(n, seed=n)[0]}, _shifted(n)[1]) for n in (24, 9))
    np.testing.assert_array_equal(
        _probabilities(SMALL, train, test, 3), _probabilities(SMALL, train, test, 3)
    )


def test_predict_proba__does_not_depend_on_the_other_samples():
    train, test = (_cohort({"rna": _shifted(n, seed=n)[0]}, _shifted(n)[1]) for n in (24, 9))
    predictor = wide_deep.fit(SMALL, train, None, seed=0, device="cpu")
    together = predictor.predict_proba(test)
    alone = np.concatenate([predictor.predict_proba(test.take(np.array([i]))) for i in range(len(test))])
    # float32 products of one row and of many rows round differently.
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert predictor.predict_proba(test.take(np.arange(0))).shape == (0, 3)


def test_save__loads_to_identical_predictions(tmp_path):
    train, test = (_cohort({"rna": _shifted(n, seed=n)[0]}, _shifted(n)[1]) for n in (24, 9))
    predictor = wide_deep.fit(SMALL, train, None, seed=0, device="cpu")
    predictor.save(tmp_path)
    loaded = wide_deep.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(test), predictor.predict_proba(test))
    assert loaded.findings == predictor.findings
    assert not list(tmp_path.glob("*.pkl"))


def test_fit__several_blocks_with_missing_constant_and_empty_features():
    x, labels = _shifted(30)
    x[::3, 0], x[:, 1], x[:, 2] = np.nan, 7.0, np.nan
    counts = np.random.default_rng(2).poisson(3, size=(30, 1))
    train = _cohort({"rna": x, "counts": counts}, labels, patients=[f"p{i // 2}" for i in range(30)])
    test = train.take(np.arange(7))
    test = with_values(test, {"rna": np.where(np.arange(7)[:, None] == 0, np.nan, test.blocks["rna"].values)})
    _assert_probabilities(_probabilities(SMALL, train, test), 7, 3)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 0, 0, 0, 2, 2, 2, 2], ("a", "b", "c")),  # a class without samples
        ([0, 1, 1, 1, 1, 1, 1, 1], ("a", "b")),  # a single sample of a class
        ([0, 0, 0, 0, 0, 0, 0, 0], ("a", "b")),  # one class
    ],
)
def test_fit__few_samples_still_give_probabilities(labels, classes):
    train = _cohort({"rna": _shifted(8)[0]}, labels, classes)
    probabilities = _probabilities(SMALL, train, train)
    _assert_probabilities(probabilities, 8, len(classes))
    absent = [code for code in range(len(classes)) if code not in labels]
    assert (probabilities[:, absent] < 0.5).all()


def test_fit__features_that_never_vary_give_the_class_frequencies():
    labels = np.r_[np.zeros(12), np.ones(6)].astype(int)
    train = _cohort({"rna": np.ones((18, 3))}, labels, ("a", "b"))
    probabilities = _probabilities(SMALL, train, train)
    _assert_probabilities(probabilities, 18, 2)
    np.testing.assert_allclose(probabilities[:, 0], 2 / 3, atol=0.1)


def test_fit__one_patient_is_refused():
    train = _cohort({"rna": _shifted(4)[0]}, [0, 1, 0, 1], ("a", "b"), patients=["p"] * 4)
    with pytest.raises(NotApplicable, match="2 patients"):
        wide_deep.fit(SMALL, train, None, seed=0, device="cpu")


def test_fit__view_with_and_without_its_shared_factors_is_kept_once(tmp_path):
    x, labels = _shifted(60, n_features=80, shift=0.6)
    rng = np.random.default_rng(2)
    x = x + 3.0 * rng.normal(size=(60, 1)) * rng.choice([-1, 1], size=80)  # one factor moves every feature
    train = _cohort({"rna": x}, labels)
    config = replace(SMALL, views=("zscore",), deep_units=(), tree_rounds=0)

    predictor = wide_deep.fit(config, train, None, seed=0, device="cpu")
    predictor.save(tmp_path)

    assert all(share > 0 for share in predictor.findings["weight_of_view"].values())
    assert (len(predictor.views), len(predictor.components)) == (1, 2)
    assert len(list(tmp_path.glob("view*.npz"))) == 1
    probabilities = predictor.predict_proba(train.without_labels())
    np.testing.assert_array_equal(
        wide_deep.load(tmp_path).predict_proba(train.without_labels()), probabilities
    )
    explained = predictor.attribute(train.without_labels(), 1)
    logits = np.log(predictor.predict_raw(train.without_labels()))
    np.testing.assert_allclose(explained.score, logits[:, 1] - logits.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(
        explained.baseline + explained.contributions["rna"].sum(axis=1), explained.score, atol=1e-4
    )
