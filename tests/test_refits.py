"""Training again: inner folds and shares of patients hold what they promise, and no test sample has a say."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohorts import toy_cohort
from oncoarena import store
from oncoarena.errors import NotApplicable
from oncoarena.refits import Refit, Thresholds, inner_folds, nested_share, plan_fits, refit_parts, refits
from oncoarena.runs import run_part
from oncoarena.splits import SplitPlan
from studies import entered_hypotheses, prepare_study, write_assay

SPECS = {spec.id: spec.training for spec in entered_hypotheses()}
INNER = Refit("thresholds", (0, 1, 2))
SPLITS = [{"repeat": r, "fold": f, "id": f"r0{r}f0{f}", "uri": "x"} for r in (0, 1) for f in (0, 1, 2)]


def cohort_of(labels, patients):
    values = np.zeros((len(labels), 1))
    return toy_cohort(labels, {"b": values}, classes=["x", "y"], patients=[f"p{p}" for p in patients])


def run(study, refit, name, spec=SPECS["l2_logistic"], **options):
    options = {"part": 0, "n_parts": 1, "study_seed": 3, "threads": 1, "gpu": 0} | options
    record = run_part(
        spec,
        splits_receipt=study.splits_receipt,
        assay_receipts=[study.assay_receipt],
        uri=str(study.folder / name),
        refit=refit,
        **options,
    )
    return record, store.read_table(str(study.folder / name / "predictions.parquet"))


# --- what is planned


def test_refits__controls_need_thresholds_alone_and_keys_that_are_off_need_nothing():
    everything = Thresholds(3), 3, (0.25, 1.0, 0.5)
    assert [item.purpose for item in refits(*everything, "control")] == ["thresholds"]
    claim = {item.purpose: item.values for item in refits(*everything, "claim")}
    assert claim == {"thresholds": (0, 1, 2), "seeds": (1, 2), "learning": (0.25, 0.5)}
    assert refits(Thresholds(0), 1, (1.0,), "claim") == []


def test_plan_fits__main_models_keep_their_seeds_and_refits_share_their_draws_over_hypotheses():
    main = plan_fits(SPLITS, 0, 1, 7, "one", None, 2)
    assert [fit["id"] for fit in main] == [split["id"] for split in SPLITS]
    learning = plan_fits(SPLITS, 0, 1, 7, "one", Refit("learning", (0.25, 0.5)), 2)
    assert {(fit["repeat"], fit["fold"]): fit["seed"] for fit in learning} == {
        (fit["repeat"], fit["fold"]): fit["seed"] for fit in main if fit["repeat"] == 0
    }
    again = plan_fits(SPLITS, 0, 1, 7, "one", Refit("seeds", (1, 2)), 2)
    inner = plan_fits(SPLITS, 0, 1, 7, "one", INNER, 2)
    seeds = [fit["seed"] for fit in [*main, *again, *inner]]
    assert len(set(seeds)) == len(seeds) == 6 + 6 + 18
    assert len({fit["id"] for fit in [*main, *again, *inner, *learning]}) == 6 + 6 + 18 + 6
    others = plan_fits(SPLITS, 0, 1, 7, "two", INNER, 2)
    assert [fit["draw_seed"] for fit in others] == [fit["draw_seed"] for fit in inner]
    assert len({fit["draw_seed"] for fit in inner}) == 6
    assert {fit["seed"] for fit in others}.isdisjoint(seeds)


def test_plan_fits__more_seeds_shares_or_parts_leave_all_others_as_they_were():
    few, many = (plan_fits(SPLITS, 0, 1, 7, "one", Refit("seeds", tuple(range(1, n))), 2) for n in (2, 4))
    known = {fit["id"]: fit["seed"] for fit in many}
    assert all(known[fit["id"]] == fit["seed"] for fit in few)
    parts = [fit for part in range(4) for fit in plan_fits(SPLITS, part, 4, 7, "one", INNER, 2)]
    whole = plan_fits(SPLITS, 0, 1, 7, "one", INNER, 2)
    assert sorted(parts, key=lambda fit: fit["id"]) == sorted(whole, key=lambda fit: fit["id"])


def test_plan_fits__more_than_two_classes_have_no_thresholds_and_the_first_repeat_need_not_be_zero():
    assert plan_fits(SPLITS, 0, 1, 7, "one", INNER, 3) == []
    later = [split | {"repeat": split["repeat"] + 5} for split in SPLITS]
    assert {fit["repeat"] for fit in plan_fits(later, 0, 1, 7, "one", Refit("seeds", (1,)), 3)} == {5}


# --- who is dealt where


def test_inner_folds__deal_whole_patients_and_every_label_to_each_fold():
    patients = np.repeat(np.arange(20), 2)
    cohort = cohort_of(np.repeat(np.arange(20) % 2, 2), patients)
    folds = inner_folds(cohort, 4, 0)
    for patient in range(20):
        assert len(set(folds[patients == patient])) == 1
    for fold in range(4):
        assert set(cohort.labels[folds == fold]) == {0, 1}


def test_inner_folds__too_few_patients_of_a_label_are_told_and_not_dealt():
    cohort = cohort_of([0, 0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5, 5])
    with pytest.raises(NotApplicable, match="a training part has 2 of 'y'"):
        inner_folds(cohort, 3, 0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=2, max_size=40),
    st.lists(st.floats(0.01, 1.0), min_size=2, max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_nested_share__is_nested_whole_patients_and_each_labels_share(rows, shares, seed):
    patients, labels = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    cohort = cohort_of(labels, patients)
    chosen = [nested_share(cohort, share, seed) for share in sorted(shares)]
    for smaller, larger in pairwise(chosen):
        assert not (smaller & ~larger).any()
    sets = {p: frozenset(labels[patients == p].tolist()) for p in set(patients.tolist())}
    for share, mask in zip(sorted(shares), chosen, strict=True):
        taken = set(patients[mask].tolist())
        assert taken.isdisjoint(patients[~mask].tolist())
        for kind in set(sets.values()):
            n = sum(sets[p] == kind for p in sets)
            expected = max(1, int(share * n + 0.5))
            assert sum(sets[p] == kind for p in taken) == expected


def test_nested_share__another_seed_chooses_others_and_the_whole_is_everybody():
    cohort = cohort_of(np.arange(60) % 2, np.arange(60))
    assert nested_share(cohort, 1.0, 0).all()
    assert (nested_share(cohort, 0.5, 0) != nested_share(cohort, 0.5, 1)).any()


def test_refit_parts__thresholds_predict_training_samples_by_models_that_never_saw_them():
    train, test = cohort_of(np.arange(12) % 2, np.arange(12)), cohort_of([0], [99]).without_labels()
    fits = plan_fits(SPLITS[:1], 0, 1, 7, "one", INNER, 2)
    parts = [refit_parts(fit, train, test) for fit in fits]
    assert sorted(name for _, held in parts for name in held.sample_ids) == sorted(train.sample_ids)
    for seen, held in parts:
        assert set(seen.sample_ids).isdisjoint(held.sample_ids)
        assert not hasattr(held, "labels")
    for purpose in ("seeds", "learning"):
        fit = plan_fits(SPLITS[:1], 0, 1, 7, "one", Refit(purpose, (1,)), 2)[0] | {"value": 0.5}
        assert refit_parts(fit, train, test)[1] is test


# --- through the training process


def test_run_part__thresholds_hold_each_training_sample_of_each_split_once(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("kfold", folds=3, repeats=2))
    record, table = run(study, INNER, "inner")
    keys = ["repeat", "fold", "sample_id"]
    expected = study.splits.loc[study.splits["role"] == "train", keys]
    pd.testing.assert_frame_equal(
        table[keys].sort_values(keys, ignore_index=True), expected.sort_values(keys, ignore_index=True)
    )
    assert record["purpose"] == "thresholds"
    assert all(fit["n_train"] + fit["n_test"] == 16 for fit in record["splits"])
    _, main = run(study, None, "main")
    assert main.columns.tolist() == ["hypothesis", *keys, "p_cancer", "p_healthy"]


@pytest.mark.parametrize("name", ["l2_logistic", "random_forest", "permuted_labels"])
def test_run_part__poisoned_test_features_leave_what_decides_thresholds_bit_identical(tmp_path, name):
    study = prepare_study(tmp_path, SplitPlan("official"))
    _, before = run(study, INNER, "before", SPECS[name])
    held = (study.samples["split"] == "test").to_numpy()
    study.values[held] = 1e6
    study.assay_receipt = write_assay(tmp_path / "poisoned", study.samples, study.values)
    _, after = run(study, INNER, "after", SPECS[name])
    pd.testing.assert_frame_equal(before, after)


def test_run_part__the_whole_share_of_a_learning_curve_would_be_the_main_model(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("kfold", folds=3, repeats=2))
    forest = SPECS["random_forest"]
    record, table = run(study, Refit("learning", (0.5, 1.0)), "learning", forest)
    _, main = run(study, None, "main", forest)
    whole = table[table["fraction"] == 1].drop(columns="fraction").reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, main[main["repeat"] == 0].reset_index(drop=True))
    assert {(fit["fraction"], fit["n_train"]) for fit in record["splits"]} == {(0.5, 8), (1.0, 16)}
    half = table[table["fraction"] == 0.5]
    assert (half["p_cancer"].to_numpy() != whole["p_cancer"].to_numpy()).any()


def test_run_part__another_seed_changes_what_draws_and_leaves_what_does_not(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("kfold", folds=3))
    for name, same in (("random_forest", False), ("prior_only", True)):
        _, main = run(study, None, f"{name}-main", SPECS[name])
        _, table = run(study, Refit("seeds", (1, 2)), f"{name}-seeds", SPECS[name])
        assert table.groupby("training_seed").size().tolist() == [24, 24]
        first = table[table["training_seed"] == 1]["p_cancer"].to_numpy()
        assert (first == main["p_cancer"].to_numpy()).all() == same


def test_run_part__a_label_of_too_few_patients_is_a_reason_and_no_failure(tmp_path):
    study = prepare_study(tmp_path, SplitPlan("official"), n_patients=8)
    record, table = run(study, INNER, "few")
    assert record["status"] == "not_applicable"
    assert "3 inner folds need 3 patients of every label" in record["reason"]
    assert len(table) == 0
    assert "inner_fold" in table.columns
