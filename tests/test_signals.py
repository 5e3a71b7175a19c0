"""What the checks read off the features, each against scikit-learn, SciPy or a plain loop."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from finished_studies import make_blocks
from oncoarena.referee import pieces
from oncoarena.referee.missing_values import missing_by_class
from oncoarena.referee.near_duplicates import near_duplicates
from oncoarena.referee.pieces import (
    draw_features,
    draw_rows,
    first_rows_of_patients,
    pick,
    read_piece,
    standardise,
)
from oncoarena.referee.single_features import choose_feature, feature_aurocs, medians
from oncoarena.referee.site_signal import association_p, cramers_v, site_signal
from oncoarena.splits import deal_folds


def gappy(rng, shape, rate=0.2):
    values = rng.normal(size=shape).round(1).astype(np.float32)
    values[rng.random(shape) < rate] = np.nan
    return values


# --- pieces


def two_blocks(n_samples=30):
    samples = pd.DataFrame({"label": ["a", "b"] * (n_samples // 2)})
    first = make_blocks(samples, 12, genes=["TP53", "f1", *[""] * 10])["expression"]
    return {"x": first, "y": make_blocks(samples, 8, seed=1)["expression"]}


def test_read_piece__gives_the_asked_cells_whatever_the_chunk(monkeypatch):
    blocks, rows = two_blocks(), np.array([2, 3, 11, 29])
    columns = {"x": np.array([0, 1, 7]), "y": np.arange(8)}
    whole = read_piece(blocks, rows, columns)
    expected = np.hstack([blocks["x"].values[rows][:, columns["x"]], blocks["y"].values[rows]])
    np.testing.assert_array_equal(whole.values, expected)
    assert whole.names[:3] == ["x: f0 (TP53)", "x: f1", "x: f7"]
    assert whole.n_features_in_all == 20
    monkeypatch.setattr(pieces, "CHUNK_CELLS", 1)
    np.testing.assert_array_equal(read_piece(blocks, rows, columns).values, whole.values)


def test_draw_features__every_block_has_its_share_and_the_seed_decides():
    columns = draw_features(two_blocks(), 10, 3)
    assert {name: len(set(chosen)) for name, chosen in columns.items()} == {"x": 6, "y": 4}
    again = draw_features(two_blocks(), 10, 3)
    assert all((columns[name] == again[name]).all() for name in columns)
    assert [len(chosen) for chosen in draw_features(two_blocks(), 20, 3).values()] == [12, 8]


def test_pick__counts_over_all_blocks():
    columns = {"x": np.array([5, 6, 9]), "y": np.array([0, 4])}
    picked = pick(columns, np.array([1, 2, 4]))
    assert {name: list(chosen) for name, chosen in picked.items()} == {"x": [6, 9], "y": [4]}


def test_draw_rows__are_distinct_ascending_and_all_where_few():
    assert list(draw_rows(np.array([9, 2, 4]), 3, 0)) == [2, 4, 9]
    drawn = draw_rows(np.arange(100), 10, 0)
    assert len(set(drawn)) == 10
    assert (np.diff(drawn) > 0).all()


def test_first_rows_of_patients__one_a_patient():
    assert list(first_rows_of_patients(["p", "q", "p", "r", "q"], np.array([4, 3, 2, 1, 0]))) == [0, 1, 3]
    assert list(first_rows_of_patients(["p", "q", "p"], np.array([2, 1]))) == [1, 2]


def test_standardise__agrees_with_scikit_learn_and_fills_with_the_mean():
    values = gappy(np.random.default_rng(0), (40, 6))
    values[:, 3], values[:, 4] = 7.0, np.nan
    train = np.arange(40) < 25
    with np.errstate(all="ignore"):
        scaler = StandardScaler().fit(np.delete(values[train], 4, axis=1))
    expected = np.nan_to_num(scaler.transform(np.delete(values, 4, axis=1)))
    found = standardise(values, values[train])
    np.testing.assert_allclose(np.delete(found, 4, axis=1), expected, atol=1e-5)
    assert not found[:, 4].any()


# --- near duplicates


def plain_near_pairs(values, least):
    r = np.corrcoef(np.nan_to_num((values - np.nanmean(values, 0)) / np.nanstd(values, 0)))
    return {(int(a), int(b)) for a, b in np.argwhere(np.triu(r, 1) >= least)}


def test_near_duplicates__finds_the_planted_pairs_with_their_correlation():
    rng = np.random.default_rng(0)
    values = gappy(rng, (60, 300), 0.05)
    for a, b in ((3, 40), (3, 41), (7, 50)):
        values[b] = values[a] + rng.normal(0, 0.15, 300)
    found = near_duplicates(values, np.arange(60))
    assert {(a, b) for a, b, _ in found} == {(3, 40), (3, 41), (7, 50), (40, 41)}
    assert {(a, b) for a, b, _ in found} == plain_near_pairs(values, 0.95)


def test_near_duplicates__of_one_patient_do_not_count():
    values = np.random.default_rng(0).normal(size=(30, 100))
    values[1] = values[0]
    assert near_duplicates(values, np.arange(30)) == [(0, 1, pytest.approx(1, abs=1e-5))]
    assert near_duplicates(values, np.append(0, np.arange(29))) == []


def test_near_duplicates__rarely_alarm_in_few_dimensions():
    # In three dimensions correlations of 0.99 between strangers are common.
    n_alarms = 0
    for seed in range(100):
        values = np.random.default_rng(seed).normal(size=(80, 3 + seed % 5))
        n_alarms += bool(near_duplicates(values, np.arange(80)))
    assert n_alarms <= 1


def test_near_duplicates__too_few_samples_have_none():
    assert near_duplicates(np.ones((5, 3)), np.arange(5)) == []


# --- site


def test_cramers_v__agrees_with_scipy_but_for_the_published_correction():
    rng = np.random.default_rng(0)
    a = rng.integers(4, size=200_000)
    b = np.where(rng.random(200_000) < 0.3, a % 3, rng.integers(3, size=200_000))
    assert cramers_v(a, b) == pytest.approx(association(pd.crosstab(a, b), method="cramer"), abs=1e-3)
    assert cramers_v(a, a) == pytest.approx(1, abs=1e-3)
    independent = [cramers_v(rng.integers(4, size=60), rng.integers(4, size=60)) for _ in range(50)]
    assert np.median(independent) < 0.1
    assert np.isnan(cramers_v(a, np.zeros_like(a)))


def test_association_p__agrees_with_the_chi_square_test():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        a = rng.integers(3, size=300)
        b = np.where(rng.random(300) < 0.1, a, rng.integers(3, size=300))
        expected = chi2_contingency(pd.crosstab(a, b), correction=False).pvalue
        # Three standard errors of 2,000 permutations.
        tolerance = 3 * np.sqrt(max(expected, 1e-3) / 2000) + 1e-3
        assert association_p(a, b, 2000, rng) == pytest.approx(expected, abs=tolerance)


def test_site_signal__agrees_with_scikit_learns_kernel_ridge():
    rng = np.random.default_rng(0)
    labels, sites = rng.integers(2, size=80), rng.integers(3, size=80)
    values = rng.normal(size=(80, 30))
    values[:, :6] += 0.7 * sites[:, None]
    found = site_signal(values, sites, labels, 0 + 19, np.random.default_rng(1))
    same = np.random.default_rng(1)
    for _ in range(19):
        for group in (0, 1):
            same.permutation(np.flatnonzero(labels == group))
    folds = deal_folds(labels, np.arange(80), 5, same)
    scores = np.empty((80, 3))
    for fold in range(5):
        train = folds != fold
        x = StandardScaler().fit(values[train]).transform(values)
        y = np.eye(3)[sites[train]]
        ridge = KernelRidge(alpha=(x[train] ** 2).sum() / train.sum()).fit(x[train], y - y.mean(0))
        scores[~train] = ridge.predict(x[~train]) + y.mean(0)
    expected = np.mean([roc_auc_score(sites == s, scores[:, s]) for s in range(3)])
    assert found.auroc == pytest.approx(expected, abs=1e-4)
    assert found.p_value == 1 / 20


def test_site_signal__p_values_are_honest_where_the_label_explains_the_site():
    p_values = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = rng.integers(2, size=60)
        sites = np.where(rng.random(60) < 0.8, labels, 1 - labels)
        values = rng.normal(size=(60, 20)) + 2.0 * labels[:, None]
        p_values.append(site_signal(values, sites, labels, 39, rng).p_value)
    # Expected 6 of 60, standard deviation 2.3.
    assert sum(p <= 0.1 for p in p_values) <= 13
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.15)


# --- single features


def test_feature_aurocs__agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    values, truth = gappy(rng, (50, 7)), rng.integers(3, size=50)
    values[:, 6] = np.nan
    found = feature_aurocs(values, truth[:, None] == np.arange(4), step=3)
    assert np.isnan(found[3]).all()
    for j in range(7):
        median = np.nanmedian(values[:, j]) if j < 6 else 0
        filled = np.where(np.isnan(values[:, j]), median, values[:, j])
        for c in range(3):
            assert found[c, j] == pytest.approx(roc_auc_score(truth == c, filled))


def test_medians__agree_with_numpy():
    values = gappy(np.random.default_rng(0), (21, 9), 0.4)
    np.testing.assert_allclose(medians(values), np.nanmedian(values, axis=0), rtol=1e-6)
    np.testing.assert_allclose(medians(values[:, :3] * np.nan), 0)


def test_choose_feature__takes_the_best_either_way_round():
    rng = np.random.default_rng(0)
    positive = np.arange(60) % 2 == 0
    values = rng.normal(size=(60, 5))
    values[:, 3] -= 5 * positive
    values[0, 3] = np.nan
    feature = choose_feature(values, positive, np.array([10, 11, 12, 13, 14]))
    assert (feature.column, feature.falls) == (13, True)
    assert feature.median == pytest.approx(np.nanmedian(values[:, 3]))
    assert roc_auc_score(positive, feature.score(values[:, 3])) > 0.9


# --- missing values


def test_missing_by_class__agrees_with_a_plain_loop():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=45)
    missing = (rng.random((45, 4)) < 0.2).astype(float)
    missing[:, 0] = labels == 1
    found = missing_by_class(missing, labels, 3, 99, np.random.default_rng(5))

    def ties(given):
        # For what is there or not: chi-square over n.
        return np.array(
            [
                chi2_contingency(pd.crosstab(missing[:, j], given), correction=False).statistic
                for j in range(4)
            ]
        )

    observed, same = ties(labels), np.random.default_rng(5)
    largest = np.array([ties(labels[same.permutation(45)]).max() for _ in range(99)])
    expected = (1 + (largest[None, :] >= observed[:, None] - 1e-4).sum(1)) / 100
    np.testing.assert_allclose(found.p_values, expected)
    assert found.p_values[0] == 0.01
    for c in range(3):
        np.testing.assert_allclose(found.rates[c], missing[labels == c].mean(0))


def test_missing_by_class__counts_for_the_number_of_quantities():
    n_alarms = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        missing = (rng.random((40, 200)) < 0.1).astype(float)
        n_alarms += missing_by_class(missing, rng.integers(2, size=40), 2, 99, rng).p_values.min() <= 0.05
    # Expected 5 of 100, standard deviation 2.2.
    assert n_alarms <= 12
