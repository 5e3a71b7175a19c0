"""Splits: no patient on both sides, every label in its share, the same splits for all."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.splits import SplitPlan, deal_folds, make_splits, split_id, take_share


def sheet(n_patients=20, samples_per_patient=1, labels=("a", "b"), **columns):
    """A sheet with labels in turn and each patient's samples side by side."""
    rows = [
        {"sample_id": f"s{p}_{k}", "patient_id": f"p{p}", "label": labels[p % len(labels)]}
        for p, k in itertools.product(range(n_patients), range(samples_per_patient))
    ]
    return pd.DataFrame(rows).assign(**columns)


LABELS_AND_PATIENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=12, max_size=80)


@settings(deadline=None, max_examples=60)
@given(
    data=LABELS_AND_PATIENTS,
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_deal_folds__patient_never_in_two_folds(data, n_folds, seed):
    labels, groups = np.array(data).T
    if len(np.unique(groups)) < n_folds:
        with pytest.raises(ValueError, match="patients"):
            deal_folds(labels, groups, n_folds, np.random.default_rng(seed))
        return
    folds = deal_folds(labels, groups, n_folds, np.random.default_rng(seed))
    assert set(folds) == set(range(n_folds))
    for group in np.unique(groups):
        assert len(set(folds[groups == group])) == 1


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 17), min_size=2, max_size=5),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_deal_folds__every_label_is_shared_out_to_within_one_patient(counts, n_folds, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    if len(labels) < n_folds:
        return
    folds = deal_folds(labels, np.arange(len(labels)), n_folds, np.random.default_rng(seed))
    for label in range(len(counts)):
        per_fold = np.bincount(folds[labels == label], minlength=n_folds)
        assert per_fold.max() - per_fold.min() <= 1
    sizes = np.bincount(folds, minlength=n_folds)
    assert sizes.max() - sizes.min() <= 1


def test_deal_folds__another_seed_deals_otherwise():
    labels, groups = np.tile([0, 1], 30), np.arange(60)
    first, again, other = (deal_folds(labels, groups, 5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_make_splits__kfold_tests_every_sample_once_a_repeat():
    samples = sheet(n_patients=23, samples_per_patient=2)
    splits = make_splits(samples, SplitPlan("kfold", folds=4, repeats=3, seed=1))
    tested = splits[splits["role"] == "test"]
    assert (tested.groupby("repeat")["sample_id"].nunique() == len(samples)).all()
    assert not tested.duplicated(["repeat", "sample_id"]).any()
    assert (splits.groupby(["repeat", "fold"]).size() == len(samples)).all()
    first, second = (tested[tested["repeat"] == repeat].set_index("sample_id")["fold"] for repeat in (0, 1))
    assert (first != second.loc[first.index]).any()


def test_make_splits__repeats_are_a_prefix_of_more_repeats():
    samples = sheet()
    few = make_splits(samples, SplitPlan("kfold", folds=4, repeats=2, seed=5))
    many = make_splits(samples, SplitPlan("kfold", folds=4, repeats=5, seed=5))
    pd.testing.assert_frame_equal(few, many[many["repeat"] < 2].reset_index(drop=True))


def test_make_splits__official_takes_the_roles_of_the_sheet():
    samples = sheet(n_patients=9, split=["train", "test", ""] * 3)
    splits = make_splits(samples, SplitPlan("official"))
    roles = splits.set_index("sample_id")["role"]
    assert roles.to_dict() == samples.set_index("sample_id")["split"][lambda s: s != ""].to_dict()


def test_make_splits__leave_one_site_out_tests_each_site_alone():
    samples = sheet(n_patients=12, site=["north", "south", "north", "east", "south", "east"] * 2)
    splits = make_splits(samples, SplitPlan("leave_one_site_out"))
    site_of = samples.set_index("sample_id")["site"]
    for _, split in splits.groupby("fold"):
        tested = set(site_of[split.loc[split["role"] == "test", "sample_id"]])
        trained = set(site_of[split.loc[split["role"] == "train", "sample_id"]])
        assert len(tested) == 1
        assert tested | trained == {"north", "south", "east"}
        assert not tested & trained


def test_make_splits__site_out_refuses_a_patient_of_two_sites():
    samples = sheet(n_patients=6, samples_per_patient=2, site=["north", "south"] * 6)
    with pytest.raises(InputError, match=r"patient 'p0' has samples from several sites.*name one site"):
        make_splits(samples, SplitPlan("leave_one_site_out"))


def test_make_splits__validation_part_is_of_other_patients_than_train_and_test():
    samples = sheet(n_patients=40, samples_per_patient=2)
    splits = make_splits(samples, SplitPlan("kfold", folds=4, validation_fraction=0.25))
    patient_of = samples.set_index("sample_id")["patient_id"]
    for _, split in splits.groupby(["repeat", "fold"]):
        sides = [
            set(patient_of[split.loc[split["role"] == role, "sample_id"]]) for role in split["role"].unique()
        ]
        assert len(sides) == 3
        assert sum(map(len, sides)) == len(set.union(*sides)) == 40
    shares = splits.groupby("role").size() / len(splits)
    assert shares["validation"] == pytest.approx(0.75 * 0.25, abs=0.03)


def reserved(samples, share, folds=4):
    return make_splits(samples, SplitPlan("kfold", folds=folds, validation_fraction=share, seed=3))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25, 0.3, 0.4, 0.45, 0.5])
def test_make_splits__validation_part_is_the_share_that_was_asked_for_of_every_label(share):
    samples = sheet(n_patients=60, samples_per_patient=2, labels=("a", "b", "c"))
    known = reserved(samples, share).merge(samples, on="sample_id")
    for _, split in known[known["role"] != "test"].groupby(["repeat", "fold"]):
        patients = split.drop_duplicates("patient_id")
        held = patients[patients["role"] == "validation"]["label"].value_counts()
        of_label = patients["label"].value_counts()
        for label, n_patients in of_label.items():
            assert 1 <= held[label] <= max(1, np.ceil(share * n_patients))
        # To half a patient, unless each of the three labels had to give one.
        assert held.sum() == 3 or abs(held.sum() - share * len(patients)) <= 0.5


def test_make_splits__small_share_takes_one_patient_of_each_label_that_can_spare_one():
    samples = sheet(n_patients=40)
    samples.loc[samples.index[:2], "label"] = "rare"
    splits = reserved(samples, 0.02, folds=2).merge(samples, on="sample_id")
    for _, split in splits.groupby(["repeat", "fold"]):
        held = split[split["role"] == "validation"]["label"].tolist()
        assert sorted(held) == ["a", "b"]
        assert "rare" in set(split[split["role"] == "train"]["label"])


def test_make_splits__share_that_leaves_no_patient_is_refused_with_the_numbers():
    samples = sheet(n_patients=4)
    with pytest.raises(
        InputError, match=r"fold 0: .*validation_fraction 0.2 .*2 patients of 2 labels"
    ) as caught:
        reserved(samples, 0.2, folds=2)
    assert "\n" not in str(caught.value)


def test_make_splits__reserving_for_validation_changes_nothing_else():
    samples = sheet(n_patients=23, samples_per_patient=2, labels=("a", "b", "c"))
    samples.loc[1, "label"] = "c"
    plain = make_splits(samples, SplitPlan("kfold", folds=4, repeats=2, seed=7))
    # Splits of studies that were run: another digest trains them all again, on other folds.
    assert store.digest_json(plain.to_dict("list")) == (
        "sha256:2411d830e92f9733caceae69f5c6116b920f570b2a3c872efcaa1e1694bca5ac"
    )
    share = make_splits(
        samples, SplitPlan("kfold", folds=4, repeats=2, seed=7, validation_fraction=0.3)
    ).replace({"role": {"validation": "train"}})
    pd.testing.assert_frame_equal(share, plain)


@settings(deadline=None, max_examples=60)
@given(
    data=LABELS_AND_PATIENTS,
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_take_share__whole_patients_and_every_label_is_still_among_those_who_stay(data, share, seed):
    labels, groups = np.array(data).T
    held = take_share(labels, groups, share, np.random.default_rng(seed))
    assert not set(groups[held]) & set(groups[~held])
    assert set(labels[~held]) == set(labels)


TABLE = "repeat\tfold\tsample_id\trole\n"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("", "has no rows"),
        ("0\t0\ts0_0\ttrain\n0\tx\ts1_0\ttest\n", r"row 3: column 'fold': found 'x'"),
        ("0\t0\ts0_0\ttrian\n", r"row 2: column 'role': found 'trian', expected one of train"),
        ("0\t0\tnobody\ttrain\n", r"row 2: column 'sample_id': found 'nobody'"),
        ("0\t0\ts0_0\ttrain\n0\t0\ts0_0\ttrain\n", r"row 3: sample 's0_0' is in its split twice"),
        ("0\t0\ts0_0\ttrain\n0\t0\ts1_0\ttrain\n", "has no test sample"),
        ("0\t0\ts0_0\ttest\n", "has no training sample"),
        ("0\t0\ts0_0\ttrain\n0\t0\ts2_0\ttrain\n0\t0\ts1_0\ttest\n", r"holds only \['a'\]"),
        ("0\t0\ts0_0\ttest\n0\t0\ts1_0\ttrain\n0\t1\ts0_0\ttest\n", "row 4: .*two folds of one repeat"),
        ("0\t0\ts0_0\ttrain\n0\t0\ts1_0\ttrain\n0\t0\ts0_1\ttest\n", r"patient 'p0' is in train and in test"),
    ],
)
def test_make_splits__bad_table_is_one_message_that_names_the_row(tmp_path, rows, complaint):
    path = tmp_path / "splits.tsv"
    path.write_text(TABLE + rows)
    samples = sheet(n_patients=6, samples_per_patient=2)
    with pytest.raises(InputError, match=complaint) as caught:
        make_splits(samples, SplitPlan("table", table=str(path)))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_make_splits__table_is_taken_as_given(tmp_path):
    path = tmp_path / "splits.tsv"
    rows = ["0\t0\ts0_0\ttrain", "0\t0\ts1_0\ttrain", "0\t0\ts2_0\ttest", "0\t0\ts3_0\tvalidation"]
    path.write_text(TABLE + "\n".join(rows) + "\n")
    splits = make_splits(sheet(n_patients=6), SplitPlan("table", table=str(path)))
    assert ["\t".join(map(str, row)) for row in splits.itertuples(index=False)] == rows


def test_split_id__is_a_name_that_sorts():
    assert split_id(0, 3) == "r00f03"
    assert sorted([split_id(10, 0), split_id(2, 11)]) == ["r02f11", "r10f00"]
