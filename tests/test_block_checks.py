"""Checks that read the features, the log of looks and other seeds: each fires, is silent, says why it cannot apply."""

import numpy as np
import pandas as pd
import pytest

from finished_studies import make_blocks, make_study, run_record
from oncoarena.errors import InputError
from oncoarena.referee.judge import evaluate_study


def judge(study, **options):
    options = {"n_bootstrap": 100, "n_permutations": 20} | options
    return evaluate_study(*study, **options)["checks"]


def outcome(checks, code, hypothesis=""):
    chosen = checks[(checks["code"] == code) & (checks["hypothesis"] == hypothesis)]
    assert len(chosen) == 1, checks[checks["code"] == code]
    return chosen.iloc[0]["outcome"], chosen.iloc[0]["detail"]


@pytest.fixture(scope="module")
def sound():
    return make_study({"one": 2.0}, n_patients=90)


@pytest.fixture(scope="module")
def sound_checks(sound):
    return judge(sound, blocks=make_blocks(sound[1], 60))


@pytest.fixture(scope="module")
def bare_checks(sound):
    return judge(sound)


def test_evaluate_study__blocks_of_another_length_are_refused(sound):
    with pytest.raises(InputError, match=r"block expression: 89 rows, but the sample sheet has 90"):
        judge(sound, blocks=make_blocks(sound[1].iloc[1:]))


# --- CHK002 by correlation


def other_fold(study):
    test_of = study[2].query("role == 'test'").set_index("sample_id")["fold"][study[1]["sample_id"]]
    return int(np.flatnonzero(test_of.to_numpy() != test_of.iloc[0])[0])


def test_chk002__fires_on_a_library_measured_twice(sound):
    values = make_blocks(sound[1], 200)["expression"].values.copy()
    twin = other_fold(sound)
    values[twin] = values[0] + np.random.default_rng(1).normal(0, 0.1, 200)
    found, detail = outcome(judge(sound, blocks=make_blocks(sound[1], values=values)), "CHK002")
    assert found == "finding"
    assert f"1 pairs are nearly equal across a split: s00000 ~ s{twin:05d} (correlation 0.99" in detail


def test_chk002__fires_where_every_sample_has_a_twin():
    study = make_study({"one": 2.0}, n_patients=60)
    values = make_blocks(study[1], 200)["expression"].values.copy()
    values[30:] = values[:30] + np.random.default_rng(1).normal(0, 0.1, (30, 200))
    found, detail = outcome(judge(study, blocks=make_blocks(study[1], values=values)), "CHK002")
    assert found == "finding"
    assert "and 1" in detail


def test_chk002__is_silent_on_relatives_and_says_what_was_looked_at(sound, sound_checks):
    found, detail = outcome(sound_checks, "CHK002")
    assert (found, detail) == ("pass", "None of 90 samples and 60 features are nearly equal.")
    # One strong direction makes every sample resemble many others: close, but none closer than usual.
    rng = np.random.default_rng(2)
    values = 10 * rng.normal(size=(90, 1)) * rng.normal(size=(1, 200)) + rng.normal(size=(90, 200))
    assert outcome(judge(sound, blocks=make_blocks(sound[1], values=values)), "CHK002")[0] == "pass"


def test_chk002__is_silent_on_two_samples_of_one_patient():
    study = make_study({"one": 2.0}, n_patients=45, samples_each=2)
    values = make_blocks(study[1], 200)["expression"].values.copy()
    values[1::2] = values[::2] + np.random.default_rng(1).normal(0, 0.05, (45, 200))
    assert outcome(judge(study, blocks=make_blocks(study[1], values=values)), "CHK002")[0] == "pass"


def test_chk002__digests_and_values_are_told_together(sound):
    digests = pd.DataFrame({"sample_id": sound[1]["sample_id"], "digest": "same"})
    found, detail = outcome(judge(sound, digests=digests, blocks=make_blocks(sound[1])), "CHK002")
    assert found == "finding"
    assert "equal features across a split" in detail
    assert "nearly" not in detail


# --- CHK006


def site_study(*, tied, shift, n_patients=120, seed=0):
    """Two sites; ``tied`` of class a's patients come from A; site B is shifted in half of the features."""
    rng = np.random.default_rng(seed)
    study = make_study({"one": 2.0}, n_patients=n_patients, n_classes=2, seed=seed)
    is_a = (study[1]["label"] == "a").to_numpy()
    site = np.where(rng.random(n_patients) < np.where(is_a, tied, 1 - tied), "A", "B")
    samples = study[1].assign(site=site)
    values = make_blocks(samples, seed=seed)["expression"].values.copy()
    values[np.ix_(site == "B", np.arange(20, 40))] += shift
    return (study[0], samples, *study[2:]), make_blocks(samples, values=values)


def test_chk006__fires_on_a_batch_effect_tied_to_the_label():
    study, blocks = site_study(tied=0.8, shift=1.0)
    found, detail = outcome(judge(study, blocks=blocks), "CHK006")
    assert found == "finding"
    assert "120 patients and 40 features" in detail


@pytest.mark.parametrize(("tied", "shift"), [(0.5, 1.0), (0.8, 0.0), (0.5, 0.0)])
def test_chk006__is_silent_unless_both_come_together(tied, shift):
    study, blocks = site_study(tied=tied, shift=shift)
    assert outcome(judge(study, blocks=blocks), "CHK006")[0] == "pass"


def test_chk006__is_silent_where_the_site_is_known_through_the_label_alone():
    # The features tell the classes apart perfectly, hence the site well; but nothing more.
    study, _ = site_study(tied=0.85, shift=0.0, n_patients=200)
    blocks = make_blocks(study[1], strength=6.0)
    found, detail = outcome(judge(study, blocks=blocks), "CHK006")
    assert found == "pass"
    assert float(detail.split("AUROC ")[1][:5]) > 0.75


def test_chk006__fires_where_every_class_has_its_own_site(sound):
    study = (sound[0], sound[1].assign(site="from " + sound[1]["label"]), *sound[2:])
    found, detail = outcome(judge(study), "CHK006")
    assert found == "finding"
    assert "cannot be told apart" in detail


def test_chk006__does_not_apply_without_sites_or_features(bare_checks):
    assert outcome(bare_checks, "CHK006") == ("not_applicable", "The sample sheet has no column site.")
    study, blocks = site_study(tied=0.5, shift=0.0)
    assert "features were not given" in outcome(judge(study), "CHK006")[1]
    one_site = (study[0], study[1].assign(site="A"), *study[2:])
    assert "Fewer than two sites" in outcome(judge(one_site, blocks=blocks), "CHK006")[1]


# --- CHK010


def other_seeds(strengths, n_seeds, noise):
    """The study's own predictions with noise on the logits, as a training of other seeds would give."""
    study = make_study(strengths, n_patients=90)
    columns = [f"p_{name}" for name in study[4]]
    seeds = {}
    for seed in range(1, n_seeds + 1):
        rng = np.random.default_rng(seed)
        p = study[0][columns].to_numpy() * np.exp(rng.normal(0, noise, (len(study[0]), 3)))
        seeds[seed] = study[0].copy()
        seeds[seed][columns] = p / p.sum(axis=1, keepdims=True)
    return study, seeds


def test_chk010__fires_on_a_result_that_depends_on_the_seed():
    study, seeds = other_seeds({"one": 1.0}, 3, 1.5)
    found, detail = outcome(judge(study, seed_predictions=seeds), "CHK010", "one")
    assert found == "finding"
    assert "over 4 seeds" in detail


def test_chk010__is_silent_on_a_stable_one():
    study, seeds = other_seeds({"one": 2.0}, 2, 0.05)
    assert outcome(judge(study, seed_predictions=seeds), "CHK010", "one")[0] == "pass"


def test_chk010__does_not_apply_with_fewer_than_three_seeds(bare_checks):
    assert outcome(bare_checks, "CHK010") == (
        "not_applicable",
        "No hypothesis was trained with several seeds.",
    )
    study, seeds = other_seeds({"one": 2.0}, 1, 0.05)
    found, detail = outcome(judge(study, seed_predictions=seeds), "CHK010", "one")
    assert found == "not_applicable"
    assert "Predictions of 2 seeds" in detail


# --- CHK011


@pytest.mark.parametrize("direction", [1, -1])
def test_chk011__fires_on_a_leaked_feature_and_names_it(sound, direction):
    values = make_blocks(sound[1], 60)["expression"].values.copy()
    leak = (sound[1]["label"] == "b").to_numpy()
    values[:, 33] = direction * (leak + 0.01 * values[:, 33])
    genes = [f"GENE{i}" for i in range(60)]
    blocks = make_blocks(sound[1], values=values, genes=genes)
    found, detail = outcome(judge(sound, blocks=blocks), "CHK011")
    assert found == "finding"
    assert "A leak, or a marker: look. b: f33 (GENE33) (chosen in 3 of 3 splits) has AUROC 1.000" in detail
    assert "a: " not in detail


def test_chk011__finds_it_behind_missing_values_and_in_a_second_block(sound):
    blocks = make_blocks(sound[1], 60)
    rng = np.random.default_rng(0)
    leak = (sound[1]["label"] == "b").to_numpy().astype(float) + rng.normal(0, 0.01, 90)
    leak[rng.random(90) < 0.1] = np.nan
    other = make_blocks(sound[1], values=np.column_stack([rng.normal(size=90), leak]))["expression"]
    found, detail = outcome(judge(sound, blocks={**blocks, "depth": other}), "CHK011")
    assert found == "finding"
    assert "depth: f1" in detail


def test_chk011__is_silent_where_it_takes_many_features(sound_checks):
    found, detail = outcome(sound_checks, "CHK011")
    assert found == "pass"
    assert "the best is for" in detail


def test_chk011__two_classes_have_one_answer():
    study = make_study({"one": 3.0}, n_classes=2)
    values = make_blocks(study[1])["expression"].values.copy()
    values[:, 5] = study[1]["label"] == "b"
    found, detail = outcome(judge(study, blocks=make_blocks(study[1], values=values)), "CHK011")
    assert found == "finding"
    assert detail.count("AUROC") == 1


def test_chk011__does_not_apply_without_features_or_rivals(bare_checks, sound):
    assert outcome(bare_checks, "CHK011") == ("not_applicable", "The features were not given.")
    control = (*sound[:3], [run_record("one", "control")], sound[4])
    found, detail = outcome(judge(control, blocks=make_blocks(sound[1])), "CHK011")
    assert found == "not_applicable"
    assert "No hypothesis" in detail


# --- CHK012


def looks(*digests):
    return pd.DataFrame({"config_digest": list(digests)})


def test_chk012__fires_on_a_second_configuration(sound):
    found, detail = outcome(judge(sound, looks=looks("one", "two", "two")), "CHK012")
    assert found == "finding"
    assert "3 times with 2 configurations" in detail


def test_chk012__is_silent_on_one_configuration(sound):
    expected = "The test set was consulted once, with one configuration."
    assert outcome(judge(sound, looks=looks("one")), "CHK012") == ("pass", expected)
    assert outcome(judge(sound, looks=looks("one", "one")), "CHK012")[0] == "pass"


def test_chk012__does_not_apply_without_a_log(bare_checks, sound):
    assert outcome(bare_checks, "CHK012") == (
        "not_applicable",
        "No log of looks at the test set was given.",
    )
    assert outcome(judge(sound, looks=looks()), "CHK012")[0] == "not_applicable"


# --- CHK014


def with_gaps(study, rates, seed=0):
    """Features of which number 7 is missing at a rate by class, all others at 5 %."""
    rng = np.random.default_rng(seed)
    values = make_blocks(study[1])["expression"].values.copy()
    values[rng.random(values.shape) < 0.05] = np.nan
    rate = study[1]["label"].map(rates).to_numpy(dtype=float)
    values[:, 7] = np.where(rng.random(len(rate)) < rate, np.nan, rng.normal(size=len(rate)))
    return make_blocks(study[1], values=values)


def test_chk014__fires_on_a_feature_missing_in_one_class(sound):
    blocks = with_gaps(sound, {"a": 0.7, "b": 0.05, "c": 0.05})
    found, detail = outcome(judge(sound, blocks=blocks), "CHK014")
    assert found == "finding"
    assert "f7 (a " in detail
    assert detail.count("(a ") == 1


def test_chk014__fires_on_a_column_of_the_sheet(sound):
    age = np.where(sound[1]["label"] == "c", "", "61")
    study = (sound[0], sound[1].assign(age=age), *sound[2:])
    found, detail = outcome(judge(study), "CHK014")
    assert found == "finding"
    assert "column age (c 100%, a 0%)" in detail


def test_chk014__is_silent_where_values_go_missing_at_random(sound):
    found, detail = outcome(judge(sound, blocks=with_gaps(sound, {"a": 0.2, "b": 0.2, "c": 0.2})), "CHK014")
    assert found == "pass"
    assert "least p" in detail


def test_chk014__does_not_apply_where_nothing_is_missing(sound_checks):
    found, detail = outcome(sound_checks, "CHK014")
    assert found == "not_applicable"
    assert "90 patients and 60 features" in detail
