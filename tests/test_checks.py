"""Every check fires on its planted fault, is silent on a sound study, and says why where it cannot apply."""

import re

import numpy as np
import pandas as pd
import pytest

from finished_studies import make_study, noisy_probabilities, run_record
from oncoarena.referee.chance import permuted_aurocs
from oncoarena.referee.checks import CHECK_COLUMNS, CHECKS, describe
from oncoarena.referee.judge import evaluate_study


def judge(study, *, strata=(), digests=None, runs=None, primary="auroc_macro"):
    predictions, samples, splits, made, classes = study
    return evaluate_study(
        predictions,
        samples,
        splits,
        made if runs is None else runs,
        classes,
        strata,
        n_bootstrap=200,
        n_permutations=20,
        digests=digests,
        primary=primary,
    )["checks"]


def outcome(checks, code, hypothesis=""):
    chosen = checks[(checks["code"] == code) & (checks["hypothesis"] == hypothesis)]
    assert len(chosen) == 1, checks[checks["code"] == code]
    return chosen.iloc[0]["outcome"], chosen.iloc[0]["detail"]


@pytest.fixture(scope="module")
def sound():
    return make_study({"one": 2.0}, n_patients=60)


@pytest.fixture(scope="module")
def sound_checks(sound):
    return judge(sound)


def with_controls(strength, prior=0.0, covariates=0.0, **options):
    strengths = {"one": strength, "prior_only": prior, "covariates_only": covariates}
    predictions, samples, splits, _, classes = make_study(strengths, **options)
    if prior == 0.0:
        columns = [f"p_{name}" for name in classes]
        predictions.loc[predictions["hypothesis"] == "prior_only", columns] = 1 / len(classes)
    runs = [run_record("one"), run_record("prior_only", "control"), run_record("covariates_only", "control")]
    return predictions, samples, splits, runs, classes


def permuted_study(strength, **options):
    predictions, samples, splits, _, classes = make_study({"shuffled": strength}, **options)
    return predictions, samples, splits, [run_record("shuffled", "control", permuted_labels=True)], classes


def test_run_checks__gives_a_row_for_every_check(sound_checks):
    assert list(sound_checks.columns) == CHECK_COLUMNS
    assert list(sound_checks["code"].unique()) == [describe(check)[0] for check in CHECKS]
    assert set(sound_checks["outcome"]) <= {"pass", "finding", "not_applicable"}
    assert sound_checks["detail"].str.endswith(".").all()


def test_describe__every_check_is_documented():
    for check in CHECKS:
        code, title, text = describe(check)
        assert code.startswith("CHK")
        assert len(code) == 6
        assert title
        assert len(text) > 80, code


# --- CHK001


def test_chk001__fires_on_a_patient_in_training_and_test(sound):
    predictions, samples, splits, runs, classes = sound
    shared = samples.assign(patient_id=samples["patient_id"].where(samples.index > 1, "twin"))
    shared["label"] = samples["label"].where(samples.index > 1, "a")
    both = splits.query("sample_id in ['s00000', 's00001'] and role == 'test'")
    assert both["fold"].nunique() == 2
    found, detail = outcome(judge((predictions, shared, splits, runs, classes)), "CHK001")
    assert found == "finding"
    assert "1 patients" in detail
    assert "twin" in detail


def test_chk001__is_silent_on_grouped_splits():
    found, detail = outcome(judge(make_study({"one": 2.0}, samples_each=3)), "CHK001")
    assert found == "pass"
    assert "3 splits" in detail


# --- CHK002


def digests_of(samples, **equal):
    values = {name: f"d-{name}" for name in samples["sample_id"]} | equal
    return pd.DataFrame({"sample_id": list(values), "digest": list(values.values())})


def test_chk002__fires_on_equal_features_across_a_split(sound):
    test_of = sound[2].query("role == 'test'").set_index("sample_id")["fold"]
    other = test_of.index[test_of != test_of["s00000"]][0]
    found, detail = outcome(
        judge(sound, digests=digests_of(sound[1], **{"s00000": "same", other: "same"})), "CHK002"
    )
    assert found == "finding"
    assert f"s00000 = {other}" in detail


def test_chk002__is_silent_on_distinct_features_and_on_copies_on_one_side(sound):
    assert outcome(judge(sound, digests=digests_of(sound[1])), "CHK002")[0] == "pass"
    test_of = sound[2].query("role == 'test'").set_index("sample_id")["fold"]
    other = next(name for name in test_of.index if test_of[name] == test_of["s00000"] and name != "s00000")
    copies = digests_of(sound[1], **{"s00000": "same", other: "same"})
    assert outcome(judge(sound, digests=copies), "CHK002")[0] == "pass"


def test_chk002__does_not_apply_without_digests(sound_checks):
    assert outcome(sound_checks, "CHK002") == (
        "not_applicable",
        "No digests of the samples' features were given.",
    )


# --- CHK003, CHK004


@pytest.mark.parametrize("primary", ["auroc_macro", "log_loss", "accuracy"])
def test_chk003__is_silent_on_a_model_that_sees_the_truth(primary):
    assert outcome(judge(with_controls(2.0), primary=primary), "CHK003", "one")[0] == "pass"


@pytest.mark.parametrize("primary", ["auroc_macro", "log_loss", "accuracy"])
def test_chk003__fires_on_a_model_that_guesses(primary):
    found, detail = outcome(judge(with_controls(0.0), primary=primary), "CHK003", "one")
    assert found == "finding"
    assert "prior_only" in detail


def test_chk003__a_control_under_one_half_does_not_flatter():
    # Pooled over folds the control's area falls below 0.5; better than that alone is not good enough.
    study = with_controls(0.0, prior=-2.0)
    found, detail = outcome(judge(study), "CHK003", "one")
    assert found == "finding"
    assert "reaches chance" in detail


def test_chk004__fires_where_covariates_do_as_well():
    found, detail = outcome(judge(with_controls(1.0, covariates=2.0)), "CHK004", "one")
    assert found == "finding"
    assert "covariates_only" in detail


def test_chk004__is_silent_where_the_genome_adds_to_them():
    assert outcome(judge(with_controls(2.5, covariates=0.3)), "CHK004", "one")[0] == "pass"


def test_chk003_and_chk004__do_not_apply_where_the_control_did_not_run(sound):
    runs = [run_record("one"), run_record("covariates_only", "control", reason="no covariate columns")]
    checks = judge(sound, runs=runs)
    assert outcome(checks, "CHK003") == ("not_applicable", "prior_only did not run in this study.")
    assert outcome(checks, "CHK004") == (
        "not_applicable",
        "covariates_only did not run: no covariate columns.",
    )


def test_chk004__says_in_which_direction_the_difference_points():
    worse = outcome(judge(with_controls(1.0, covariates=2.0)), "CHK004", "one")[1]
    words = re.fullmatch(
        r"AUROC \(macro\) worse than covariates_only by (.*) \(95 % interval (.*) to (.*)\)\.", worse
    )
    gap, low, high = map(float, words.groups())
    assert 0 < low < gap < high
    better = outcome(judge(with_controls(2.5, covariates=0.3)), "CHK004", "one")[1]
    assert better.startswith("AUROC (macro) better than covariates_only by 0.")


# --- CHK005


def test_chk005__fires_on_a_control_that_knows_too_much():
    found, detail = outcome(judge(permuted_study(3.0, n_repeats=3)), "CHK005", "shuffled")
    assert found == "finding"
    assert "chance is 0.5" in detail


def test_chk005__is_silent_on_a_control_at_chance():
    assert outcome(judge(permuted_study(0.0, n_repeats=3)), "CHK005", "shuffled")[0] == "pass"


def test_chk005__luck_ends_at_a_perfect_area():
    found, detail = outcome(judge(permuted_study(0.0, n_patients=9)), "CHK005", "shuffled")
    assert found == "not_applicable"
    assert "and up to 1.000 by luck" in detail


def test_chk005__does_not_apply_without_such_a_run_or_where_luck_explains_all(sound_checks):
    assert outcome(sound_checks, "CHK005")[0] == "not_applicable"
    predictions, samples, splits, runs, classes = permuted_study(3.0, n_classes=2)
    one_split = splits[splits["fold"] == 0]
    study = predictions[predictions["fold"] == 0], samples, one_split, runs, classes
    found, detail = outcome(judge(study), "CHK005", "shuffled")
    assert found == "not_applicable"
    assert "add repeats" in detail


def test_permuted_aurocs__agree_with_a_model_that_learns_permuted_labels():
    # The worst-case reader, made literally: score each test sample by its class's permuted training labels.
    _, samples, splits, _, classes = make_study({"one": 0.0}, n_patients=40, n_classes=2, n_folds=2)
    simulated = permuted_aurocs(samples, splits, classes, 400, 0)
    rng = np.random.default_rng(9)
    labels = (samples["label"] == "b").to_numpy()
    test_of = splits.query("role == 'test'").set_index("sample_id")["fold"][samples["sample_id"]].to_numpy()
    literal = []
    for _ in range(400):
        scores = np.empty(len(labels))
        for fold in (0, 1):
            trained = test_of != fold
            permuted = rng.permutation(labels[trained])
            shares = np.array([permuted[labels[trained] == side].mean() for side in (False, True)])
            scores[test_of == fold] = shares[labels[test_of == fold].astype(int)]
        gaps = np.sign(scores[labels][:, None] - scores[~labels])
        literal.append((gaps.mean() + 1) / 2)
    assert simulated.mean() == pytest.approx(np.mean(literal), abs=0.07)
    assert simulated.std() == pytest.approx(np.std(literal), rel=0.15)


# --- CHK007


def site_study(strength_at_c, scheme="leave_one_site_out"):
    rng = np.random.default_rng(0)
    site = np.repeat(["A", "B", "C"], 40)
    truth = np.arange(120) % 3
    classes = ("a", "b", "c")
    ids = np.array([f"s{i:03d}" for i in range(120)])
    samples = pd.DataFrame(
        {"sample_id": ids, "patient_id": ids, "label": np.array(classes)[truth], "site": site}
    )
    fold = pd.factorize(site)[0] if scheme == "leave_one_site_out" else np.arange(120) // 2 % 3
    splits = pd.concat(
        pd.DataFrame({"repeat": 0, "fold": f, "sample_id": ids, "role": np.where(fold == f, "test", "train")})
        for f in range(3)
    )
    p = noisy_probabilities(truth, 3, 3.0, rng)
    p[site == "C"] = noisy_probabilities(truth[site == "C"], 3, strength_at_c, rng)
    predictions = pd.DataFrame(p, columns=["p_a", "p_b", "p_c"])
    for position, (name, values) in enumerate(
        {"hypothesis": "one", "repeat": 0, "fold": fold, "sample_id": ids}.items()
    ):
        predictions.insert(position, name, values)
    return predictions, samples, splits, [run_record("one")], classes


def test_chk007__fires_where_a_site_is_read_worse():
    found, detail = outcome(judge(site_study(0.0)), "CHK007", "one")
    assert found == "finding"
    assert "C (" in detail
    assert "A (" not in detail


def test_chk007__is_silent_where_sites_are_read_alike():
    assert outcome(judge(site_study(3.0)), "CHK007", "one")[0] == "pass"


def test_chk007__does_not_apply_without_sites_or_held_out_ones(sound_checks):
    assert outcome(sound_checks, "CHK007") == ("not_applicable", "The sample sheet has no column site.")
    found, detail = outcome(judge(site_study(0.0, "kfold")), "CHK007")
    assert found == "not_applicable"
    assert "no site was held out" in detail


def test_chk007__a_patient_without_a_site_is_of_no_site():
    predictions, samples, splits, runs, classes = site_study(0.0)
    site = samples["site"].where(samples.index != 3, "")
    # In training everywhere but in the fold that tests it, as a cross-validation would have it.
    found, detail = outcome(
        judge((predictions, samples.assign(site=site), splits, runs, classes)), "CHK007", "one"
    )
    assert found == "finding"
    assert "C (" in detail


def test_chk007__sites_may_be_many_numbers():
    predictions, samples, splits, runs, classes = site_study(0.0)
    fold = np.arange(120) // 15
    parts = [
        splits.query("fold == 0").assign(fold=f, role=np.where(fold == f, "test", "train")) for f in range(8)
    ]
    predictions["fold"] = fold
    for site in ((fold + 1).astype(str), fold + 1, np.where(fold == 0, np.nan, fold + 1.0)):
        study = (predictions, samples.assign(site=site), pd.concat(parts), runs, classes)
        found, detail = outcome(judge(study), "CHK007", "one")
        assert found == "finding"
        assert "7 (0." in detail
        assert "2 (0." not in detail


# --- CHK008


def calibrated_study(power, sure=False, n_patients=600):
    rng = np.random.default_rng(5)
    logits = 1.5 * rng.normal(size=(n_patients, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(3, p=row) for row in p])
    p = p**power / (p**power).sum(axis=1, keepdims=True)
    p = np.eye(3)[truth] if sure else p
    ids = np.array([f"s{i:04d}" for i in range(n_patients)])
    classes = ("a", "b", "c")
    samples = pd.DataFrame({"sample_id": ids, "patient_id": ids, "label": np.array(classes)[truth]})
    splits = pd.DataFrame({"repeat": 0, "fold": 0, "sample_id": ids, "role": "test"})
    predictions = pd.DataFrame({"hypothesis": "one", "repeat": 0, "fold": 0, "sample_id": ids})
    return (
        predictions.assign(p_a=p[:, 0], p_b=p[:, 1], p_c=p[:, 2]),
        samples,
        splits,
        [run_record("one")],
        classes,
    )


@pytest.mark.parametrize(("power", "direction"), [(2.5, "overconfident"), (0.3, "underconfident")])
def test_chk008__fires_on_probabilities_that_promise_too_much_or_little(power, direction):
    found, detail = outcome(judge(calibrated_study(power)), "CHK008", "one")
    assert found == "finding"
    assert direction in detail


def test_chk008__is_silent_on_calibrated_probabilities():
    assert outcome(judge(calibrated_study(1.0)), "CHK008", "one")[0] == "pass"


def test_chk008__does_not_apply_to_certainties_that_are_right():
    assert outcome(judge(calibrated_study(1.0, sure=True)), "CHK008", "one")[0] == "not_applicable"


# --- CHK009


def test_chk009__fires_on_a_small_stratum_only():
    site = np.repeat(["A", "B"], [50, 10])
    study = make_study({"one": 2.0}, sheet={"site": site, "sex": ["f", "m"] * 30})
    found, detail = outcome(judge(study, strata=["site", "sex"]), "CHK009")
    assert found == "finding"
    assert "site=B (10)" in detail
    assert "sex" not in detail
    assert outcome(judge(study, strata=["sex"]), "CHK009")[0] == "pass"


def test_chk009__does_not_apply_without_strata(sound_checks):
    assert outcome(sound_checks, "CHK009") == ("not_applicable", "The study names no strata.")


# --- CHK013


def test_chk013__fires_where_training_lacks_a_class(sound):
    predictions, samples, splits, runs, classes = sound
    label = samples.set_index("sample_id")["label"]
    gone = (splits["fold"] == 1) & (splits["role"] == "train") & (splits["sample_id"].map(label) == "b")
    found, detail = outcome(judge((predictions, samples, splits[~gone], runs, classes)), "CHK013")
    assert found == "finding"
    assert detail == "No training sample of b (repeat 0, fold 1)."


def test_chk013__is_silent_where_all_classes_are_there(sound_checks):
    assert outcome(sound_checks, "CHK013")[0] == "pass"


# --- all together


def test_checks__rarely_cry_wolf_on_clean_studies():
    findings = []
    for seed in range(20):
        checks = judge(with_controls(2.0, seed=seed, n_patients=60))
        findings += checks.loc[checks["outcome"] == "finding", "code"].tolist()
    # CHK008 is about the made-up model's own calibration, which is not planted here.
    assert [code for code in findings if code != "CHK008"] == []
