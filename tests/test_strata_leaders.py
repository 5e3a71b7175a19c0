"""Which claim each stratum favours, and whether its patients can tell."""

import numpy as np
import pytest

from finished_studies import make_study, noisy_probabilities
from oncoarena.referee.evaluation import strata_of_rows
from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.outcomes import join_outcomes
from oncoarena.referee.strata_leaders import LEADER_COLUMNS, strata_leaders


def by_stage(n_patients=240, seed=0):
    """One claim sees early stages, the other late ones."""
    stage = np.repeat(["I", "IV"], n_patients // 2)
    study = make_study({"early": 0.0, "late": 0.0}, n_patients=n_patients, sheet={"stage": stage}, seed=seed)
    predictions, samples = study[0].reset_index(drop=True), study[1].set_index("sample_id")
    rng = np.random.default_rng(seed)
    here = samples.loc[predictions["sample_id"]]
    truth = here["label"].map({"a": 0, "b": 1, "c": 2}).to_numpy()
    sees = (predictions["hypothesis"] == "early").to_numpy() == (here["stage"] == "I").to_numpy()
    p = np.where(
        sees[:, None], noisy_probabilities(truth, 3, 3.0, rng), noisy_probabilities(truth, 3, 0.5, rng)
    )
    predictions[["p_a", "p_b", "p_c"]] = p
    return (predictions, *study[1:])


def leaders(study, strata, **options):
    options = {"n_bootstrap": 200, "n_permutations": 199} | options
    return evaluate_study(*study, strata, **options)["strata_leaders"]


def test_strata_leaders__each_stage_favours_the_claim_that_sees_it():
    study = by_stage()
    table = leaders(study, ["stage"])
    assert list(table.columns) == LEADER_COLUMNS
    assert list(table["stratum"]) == ["all", "stage=I", "stage=IV"]
    found = table.set_index("stratum")
    assert found.loc["stage=I", "leader"] == "early"
    assert found.loc["stage=IV", "leader"] == "late"
    assert found.loc[["stage=I", "stage=IV"], "separable"].all()
    assert not found.loc["all", "separable"]
    assert found.loc["all", "leads_overall"]
    assert found["leads_overall"].sum() == 2


@pytest.mark.parametrize("primary", ["auroc_macro", "log_loss"])
def test_strata_leaders__agree_with_the_evaluation(primary):
    study = by_stage(90)
    tables = evaluate_study(*study, ["stage"], 100, 0, n_permutations=50, primary=primary)
    estimates = (
        tables["evaluation"]
        .query("metric == @primary")
        .pivot_table(index="stratum", columns="hypothesis", values="estimate")
    )
    for row in tables["strata_leaders"].itertuples():
        assert row.estimate == pytest.approx(estimates.loc[row.stratum, row.leader])
        assert row.runner_up_estimate == pytest.approx(estimates.loc[row.stratum, row.runner_up])
        assert row.difference == pytest.approx(row.estimate - row.runner_up_estimate)
        assert row.ci_low <= row.difference <= row.ci_high
        better = row.estimate <= row.runner_up_estimate if primary == "log_loss" else None
        assert better if better is not None else row.estimate >= row.runner_up_estimate
    overall = tables["comparison"].query("metric == @primary").iloc[0]
    first = tables["strata_leaders"].iloc[0]
    assert abs(first["difference"]) == pytest.approx(abs(overall["difference"]))
    assert first["p_value"] == pytest.approx(overall["p_value"])


def test_strata_leaders__a_tiny_stratum_has_none():
    site = np.repeat(["A", "B"], [57, 3])
    table = leaders(make_study({"one": 2.0, "two": 1.0}, sheet={"site": site}), ["site"]).set_index("stratum")
    assert table.loc["site=B", "leader"] == ""
    assert not table.loc["site=B", "separable"]
    assert np.isnan(table.loc["site=B", "p_holm"])
    assert table.loc["site=A", "leader"] == "one"


def test_strata_leaders__one_claim_leads_nobody():
    assert len(leaders(make_study({"one": 2.0}), [])) == 0


def test_strata_leaders__rarely_part_equal_claims():
    n_apart = 0
    for seed in range(30):
        sheet = {"sex": ["f", "m"] * 30, "site": np.repeat(["A", "B", "C"], 20)}
        study = make_study({"one": 1.0, "two": 1.0}, sheet=sheet, seed=seed)
        outcomes = join_outcomes(*study[:3], study[4])
        strata = strata_of_rows(outcomes, study[1], ["sex", "site"])
        table = strata_leaders(outcomes, strata, ["one", "two"], "auroc_macro", 100, 99, seed)
        n_apart += int(table.loc[table["grouping"] != "all", "separable"].any())
    # Holm over five strata: expected 1.5 of 30 at most, standard deviation 1.2.
    assert n_apart <= 5
