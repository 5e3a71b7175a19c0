"""Attributions of all splits, pooled by feature and compared between hypotheses."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from oncoarena import store
from oncoarena.cohort import feature_table
from oncoarena.errors import InputError
from oncoarena.referee.attributions import (
    AGREEMENT_COLUMNS,
    FEATURES_MOST,
    POOLED_COLUMNS,
    TOP,
    agreement,
    attribution_tables,
    count_common_top,
    genome_order,
    pool,
    rotated_correlation,
)
from oncoarena.results import join_runs, read_attributions


def bins(n, name="coverage"):
    """A block's feature table: n bins of 1 Mb, dealt to chromosomes 1 and 2, the first two with a gene."""
    chrom = ["chr1" if i < n // 2 else "chr2" for i in range(n)]
    start = [(i % max(n // 2, 1)) * 1_000_000 for i in range(n)]
    end = [at + 1_000_000 for at in start]
    gene = ["TP53", "MYC", *[""] * n][:n]
    return {name: feature_table([f"{name}{i}" for i in range(n)], chrom, start, end, gene)}


def rows(hypothesis, sizes, label="", block="coverage", signs=None, n_repeats=1, names=None):
    """Attributions of the splits of which ``sizes`` (n_folds, n_features) has the mean absolute contributions."""
    tables = []
    for number, values in enumerate(np.asarray(sizes, dtype=float)):
        tables.append(
            pd.DataFrame(
                {
                    "hypothesis": hypothesis,
                    "repeat": number % n_repeats,
                    "fold": number // n_repeats,
                    "label": label,
                    "block": block,
                    "feature": names or [f"{block}{i}" for i in range(len(values))],
                    "mean_abs": values,
                    "correlation": np.nan if signs is None else signs,
                    "n_samples": 10,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def pooled_by_hand(table, n_features):
    """Importance, sd and share of splits among the top ones, with pandas, a feature at a time (values without ties)."""
    table = table.assign(split=table["repeat"].astype(str) + "/" + table["fold"].astype(str))
    wide = table.pivot_table(index="split", columns="feature", values="mean_abs").fillna(0.0)
    shares = wide.div(wide.sum(axis=1), axis=0)
    top = wide.rank(axis=1, ascending=False).le(TOP) & wide.gt(0)
    return pd.DataFrame(
        {
            "importance": shares.mean(),
            "sd": shares.std(),
            "top_share": top.mean(),
            "expected": min(1, TOP / n_features),
        }
    )


def test_pool__equals_pandas_done_by_hand():
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(size=(10, 60))
    table = rows("a", sizes, n_repeats=2)
    # Each split lists only its largest features.
    table = table[table.groupby(["repeat", "fold"])["mean_abs"].rank(ascending=False) <= 30]
    pooled = pool(table, bins(60), {"a": ["coverage"]})
    assert list(pooled.columns) == list(POOLED_COLUMNS)
    expected = pooled_by_hand(table, 60).loc[pooled["feature"]]
    np.testing.assert_allclose(pooled["importance"], expected["importance"], rtol=1e-12)
    np.testing.assert_allclose(pooled["sd"], expected["sd"], rtol=1e-12)
    np.testing.assert_allclose(pooled["top_share"], expected["top_share"], rtol=1e-12)
    assert (pooled["expected_top_share"] == 20 / 60).all()
    assert pooled["rank"].tolist() == list(range(1, len(pooled) + 1))
    assert pooled["importance"].is_monotonic_decreasing
    assert (pooled["n_folds"] == 10).all()


def test_pool__names_gene_and_coordinate_of_each_feature():
    pooled = pool(rows("a", [[4.0, 3.0, 2.0, 1.0]]), bins(4), {"a": ["coverage"]}).set_index("feature")
    found = pooled[["chrom", "start", "end", "gene"]]
    assert found.loc["coverage0"].tolist() == ["chr1", 0, 1_000_000, "TP53"]
    assert found.loc["coverage3"].tolist() == ["chr2", 1_000_000, 2_000_000, ""]
    assert pooled["start"].dtype == np.int64


def test_pool__of_one_split_has_no_spread():
    pooled = pool(rows("a", [[3.0, 1.0]]), bins(2), {"a": ["coverage"]})
    assert pooled["sd"].isna().all()
    assert pooled["importance"].tolist() == [0.75, 0.25]


def test_pool__several_blocks_share_one_total_and_chance_counts_blocks_that_got_nothing():
    features = bins(10) | bins(30, "copies") | bins(60, "motifs")
    table = pd.concat(
        [rows("a", [[6.0] + [0.0] * 9] * 3), rows("a", [[2.0] + [0.0] * 29] * 3, block="copies")]
    )
    pooled = pool(table, features, {"a": ["coverage", "copies", "motifs"]})
    assert pooled["importance"].head(3).tolist() == [0.75, 0.25, 0.0]
    assert pooled["block"].head(2).tolist() == ["coverage", "copies"]
    assert pooled["expected_top_share"].unique().tolist() == [0.2]
    # What is never used is never at the top, however few features are.
    assert pooled["top_share"].tolist() == [1.0, 1.0] + [0.0] * 38


def test_pool__direction_is_the_mean_correlation_and_none_for_all_classes_together():
    signs = np.array([1.0, -1.0, 0.1])
    both = pd.concat(
        [rows("a", [[3.0, 2.0, 1.0]] * 4), rows("a", [[3.0, 2.0, 1.0]] * 4, "cancer", signs=signs)]
    )
    pooled = pool(both, bins(3), {"a": ["coverage"]})
    together, cancer = (pooled[pooled["label"] == label] for label in ("", "cancer"))
    assert together["direction"].isna().all()
    np.testing.assert_allclose(cancer["direction"], signs)


def test_pool__without_correlations_no_direction_is_known():
    table = rows("a", [[3.0, 1.0]], "cancer", signs=np.ones(2)).drop(columns="correlation")
    assert pool(table, bins(2), {"a": ["coverage"]})["direction"].isna().all()


def test_pool__ties_for_the_last_places_share_them():
    sizes = [[5.0] * 10 + [1.0] * 40]
    pooled = pool(rows("a", sizes), bins(50), {"a": ["coverage"]})
    assert pooled["top_share"].head(10).tolist() == [1.0] * 10
    np.testing.assert_allclose(pooled["top_share"].tail(40), 10 / 40)
    assert pooled["rank"].unique().tolist() == [1, 11]


def test_pool__keeps_no_more_features_than_are_needed():
    n = FEATURES_MOST + 500
    sizes = np.stack([np.arange(n, 0, -1), np.arange(n, 0, -1)])
    pooled = pool(rows("a", sizes), bins(n), {"a": ["coverage"]})
    assert len(pooled) == FEATURES_MOST
    assert pooled["feature"].iloc[[0, -1]].tolist() == ["coverage0", f"coverage{FEATURES_MOST - 1}"]


def test_pool__refuses_a_feature_that_its_block_does_not_have():
    with pytest.raises(InputError, match=r"attributions of a: 'coverage3' is no feature .*block coverage"):
        pool(rows("a", [[1.0] * 4]), bins(3), {"a": ["coverage"]})
    with pytest.raises(InputError, match=r"'copies0' is no feature .*block copies"):
        pool(rows("a", [[1.0]], block="copies"), bins(3) | bins(1, "copies"), {"a": ["coverage"]})


sizes_of_splits = st.integers(1, 5).flatmap(
    lambda n_folds: st.integers(1, 30).flatmap(
        lambda n: st.lists(
            st.lists(st.sampled_from([0.0, 1e-9, 0.5, 1.0, 7.0]), min_size=n, max_size=n),
            min_size=n_folds,
            max_size=n_folds,
        )
    )
)


@settings(deadline=None, max_examples=60)
@given(sizes_of_splits, st.randoms())
def test_pool__shares_sum_to_at_most_one_whatever_the_order_of_splits_and_features(sizes, shuffler):
    n = len(sizes[0])
    table = rows("a", sizes)
    pooled = pool(table, bins(n), {"a": ["coverage"]})
    n_alive = sum(any(value > 0 for value in split) for split in sizes)
    assert pooled["importance"].sum() == pytest.approx(n_alive / len(sizes))
    assert (pooled["sd"].fillna(0) >= 0).all()
    # As many places as there are, or as there are features of any size.
    places = [min(TOP, sum(value > 0 for value in split)) for split in sizes]
    assert pooled["top_share"].sum() == pytest.approx(np.mean(places))
    order = list(range(len(table)))
    shuffler.shuffle(order)
    again = pool(table.iloc[order].reset_index(drop=True), bins(n), {"a": ["coverage"]})
    merged = pooled.merge(again, on="feature", suffixes=("", "_again"))
    for column in ("importance", "sd", "top_share", "n_folds", "expected_top_share"):
        np.testing.assert_allclose(merged[column], merged[f"{column}_again"], atol=1e-12)


def test_agreement__equals_scipy():
    rng = np.random.default_rng(3)
    features = bins(80)
    common = rng.lognormal(sigma=1.5, size=80)
    tables = [
        rows(name, common * rng.lognormal(sigma=spread, size=(5, 80)))
        for name, spread in (("a", 0.5), ("b", 0.8), ("c", 3.0))
    ]
    found = attribution_tables(tables, features, {name: ["coverage"] for name in "abc"})
    table = found["attribution_agreement"]
    assert list(table.columns) == list(AGREEMENT_COLUMNS)
    assert table[["first", "second"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    wide = found["attributions"].pivot_table(index="feature", columns="hypothesis", values="importance")
    for row in table.itertuples():
        first, second = wide[row.first], wide[row.second]
        assert row.spearman == pytest.approx(stats.spearmanr(first, second).statistic)
        tops = [set(side.nlargest(TOP).index) for side in (first, second)]
        assert row.overlap == len(tops[0] & tops[1])
        assert row.expected_overlap == TOP * TOP / 80
        # All tables of the same margins, by Fisher's exact test.
        inside = np.array([[row.overlap, TOP - row.overlap], [TOP - row.overlap, 80 - 2 * TOP + row.overlap]])
        assert row.p_value == pytest.approx(stats.fisher_exact(inside, "greater").pvalue)
        assert row.n_features == 80
    assert table["p_holm"].ge(table["p_value"]).all()


def test_agreement__features_that_are_not_listed_rank_last_and_short_lists_are_short():
    features = bins(50)
    listed = pd.concat(
        [
            pool(
                rows("a", [[5.0, 4.0, 3.0]], names=["coverage0", "coverage1", "coverage2"]),
                features,
                {"a": ["coverage"]},
            ),
            pool(rows("b", [[5.0, 4.0]], names=["coverage1", "coverage9"]), features, {"b": ["coverage"]}),
        ]
    )
    row = agreement(listed, features).iloc[0]
    assert (row["overlap"], row["expected_overlap"]) == (1, 3 * 2 / 50)
    assert row["p_value"] == pytest.approx(1 - (47 * 46) / (50 * 49))
    filled = [np.zeros(50), np.zeros(50)]
    filled[0][:3], filled[1][[1, 9]] = [5, 4, 3], [5, 4]
    assert row["spearman"] == pytest.approx(stats.spearmanr(*filled).statistic)


def test_agreement__needs_a_block_that_both_used():
    features = bins(5) | bins(5, "copies")
    tables = [rows("a", [[1.0, 2, 3, 4, 5]]), rows("b", [[1.0, 2, 3, 4, 5]], block="copies")]
    found = attribution_tables(tables, features, {"a": ["coverage"], "b": ["copies"]})
    assert found["attribution_agreement"].empty
    assert len(found["attributions"]) == 10


def test_agreement__of_a_hypothesis_that_ranks_nothing_is_not_known():
    found = attribution_tables(
        [rows("a", [[1.0, 2.0, 3.0]]), rows("b", [[0.0, 0.0, 0.0]]), rows("c", [[2.0, 2.0, 2.0]])],
        bins(3),
        {name: ["coverage"] for name in "abc"},
    )["attribution_agreement"]
    assert found["spearman"].isna().all()
    assert found["p_value"].isna().tolist() == [True, False, True]
    assert found["overlap"].tolist() == [0, 3, 0]


def test_tables__of_nothing_are_empty_with_their_columns():
    empty = rows("a", [[1.0]]).iloc[:0]
    found = attribution_tables([empty], bins(1), {})
    assert list(found["attributions"].columns) == list(POOLED_COLUMNS)
    assert list(found["attribution_agreement"].columns) == list(AGREEMENT_COLUMNS)
    assert not len(found["attributions"]) + len(found["attribution_agreement"])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=25), st.randoms())
def test_rotations__equal_turning_the_vector_by_hand(values, shuffler):
    first = np.array(values, dtype=float)
    second = first.copy()
    shuffler.shuffle(second)
    correlation, p = rotated_correlation(first, second)
    if len(set(values)) == 1:
        assert np.isnan([correlation, p]).all()
        return
    turned = [np.corrcoef(first, np.roll(second, k))[0, 1] for k in range(len(first))]
    assert correlation == pytest.approx(turned[0])
    assert p == pytest.approx(np.mean(np.array(turned) >= turned[0] - 1e-9))


def test_rotations__of_independent_smooth_tracks_keep_their_level():
    """Neighbouring bins are alike: a test that takes them as independent would find agreement nearly always."""
    rng = np.random.default_rng(0)
    kernel = np.exp(-(np.linspace(-3, 3, 61) ** 2))
    n_found = naive = 0
    for _ in range(300):
        tracks = [stats.rankdata(np.convolve(rng.normal(size=560), kernel, "valid")) for _ in range(2)]
        _, p = rotated_correlation(*tracks)
        n_found += p <= 0.05
        naive += stats.spearmanr(*tracks, alternative="greater").pvalue <= 0.05
    assert n_found <= 30
    assert naive >= 75


def test_common_top__by_chance_is_what_shuffling_gives():
    rng = np.random.default_rng(1)
    vector = rng.random(60)
    drawn = [count_common_top(vector, rng.permutation(vector)) for _ in range(2000)]
    overlaps, expected, p_values = map(np.array, zip(*drawn, strict=True))
    assert overlaps.mean() == pytest.approx(expected[0], abs=0.15)
    observed = 10
    mean_at = p_values[overlaps == observed]
    assert mean_at[0] == pytest.approx((overlaps >= observed).mean(), abs=0.03)


def test_genome_order__goes_by_chromosome_number_and_position():
    table = feature_table(
        ["a", "b", "c", "d", "e"],
        ["chr10", "chr2", "", "chr2", "chrUn"],
        [5, 9, -1, 3, 0],
        [6, 10, -1, 4, 1],
    )
    assert table["id"].iloc[genome_order(table)].tolist() == ["d", "b", "a", "c", "e"]


def test_join_runs__knows_how_attributions_were_computed_from_whichever_part_has_some():
    part = {
        "hypothesis": "a",
        "splits": [],
        "seconds": 0.0,
        "started": "",
        "peak_memory_mb": 0,
        "status": "trained",
    }
    about = {"method": "weights", "exact": True}
    for parts in ([None, about], [about, None]):
        (run,) = join_runs([part | {"attribution": told} for told in parts], {"a": {}}, [])
        assert run["attribution"] == about
    assert "attribution" not in join_runs([part, part], {"a": {}}, [])[0]


def test_read__joins_the_parts_of_a_hypothesis_and_passes_over_runs_without_attributions(tmp_path):
    runs = {}
    for name, part in itertools.product(("new", "old"), range(3)):
        uri = str(tmp_path / name / str(part) / "run.json")
        runs[uri] = {"hypothesis": name}
        if name == "new":
            table = rows(name, [[1.0, 2.0]]).assign(fold=part)
            store.write_table(
                uri.replace("run.json", "attributions.parquet"), table.head(0 if part == 2 else 2)
            )
    (table,) = read_attributions(runs, ["new", "old", "trained_elsewhere"])
    assert table["fold"].tolist() == [0, 0, 1, 1]
    assert table["mean_abs"].dtype == np.float64
