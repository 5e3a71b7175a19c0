"""Thresholds, seeds and learning curves through real Snakemake, and what a change of each trains again."""

import json

import pandas as pd
import pytest

from test_workflow import IDEA, clone, planned, snakemake, study  # noqa: F401

KEYS = {
    "study": "again",
    "hypotheses": ["my_idea", "prior_only"],
    "splits": {"scheme": "kfold", "folds": 2, "repeats": 2, "seed": 0},
    "strata": [],
    "external": [],
    "thresholds": {"inner_folds": 2, "specificity": 0.9},
    "seeds": 3,
    "learning_curve": [0.5, 1.0],
    "prevalence": 0.02,
}


def configure(folder, name="again.yaml", **changes):
    (folder / name).write_text(json.dumps(study(**KEYS | changes)))
    return name


@pytest.fixture(scope="module")
def trained(clone):  # noqa: F811
    done = snakemake(clone, configfile=configure(clone))
    assert done.returncode == 0, done.stdout + done.stderr
    return clone


def table(folder, name):
    return pd.read_parquet(folder / f"results/again/{name}.parquet")


def test_run__every_operating_point_is_told_or_says_what_it_lacks(trained):
    points = table(trained, "operating_points")
    assert points.groupby("hypothesis").size().to_dict() == {"my_idea": 7, "prior_only": 7}
    mine = points.query("hypothesis == 'my_idea' and rule == 'specificity'").set_index("level")
    assert mine.loc[0.9, "n_train_negatives"] == 10
    assert mine.loc[0.9, "sensitivity"] > 0.8
    assert 0 < mine.loc[0.9, "ppv"] <= 1
    assert "needs 99 negative training samples" in mine.loc[0.99, "remark"]


def test_run__out_of_fold_predictions_hold_each_training_sample_of_each_split_once(trained):
    splits = table(trained, "splits").query("role == 'train'")
    again = pd.read_parquet(trained / "results/again/runs/my_idea/0/thresholds/predictions.parquet")
    keys = ["repeat", "fold", "sample_id"]
    pd.testing.assert_frame_equal(
        again[keys].sort_values(keys, ignore_index=True), splits[keys].sort_values(keys, ignore_index=True)
    )


def test_run__seeds_and_shares_are_those_of_the_config_and_of_claims_alone(trained):
    seeds, learning = table(trained, "seeds"), table(trained, "learning")
    assert set(seeds["hypothesis"]) == set(learning["hypothesis"]) == {"my_idea"}
    assert set(seeds["training_seed"]) == {0, 1, 2}
    assert set(learning["fraction"]) == {0.5, 1.0}
    checks = table(trained, "checks").query("code == 'CHK010' and hypothesis == 'my_idea'")
    assert checks["outcome"].tolist() == ["pass"]
    page = (trained / "results/again/report.html").read_text()
    for section in ("operating-points", "seeds", "learning"):
        assert f'<section id="{section}"' in page


def test_run__endpoint_is_sealed_before_any_model_is_trained(trained):
    sealed = json.loads((trained / "results/again/endpoint.json").read_text())
    runs = [json.loads(p.read_text()) for p in (trained / "results/again/runs").rglob("run.json")]
    assert len(runs) == 2 + 4
    assert all(sealed["sealed"] <= run["started"] for run in runs)
    assert "2 inner folds" in sealed["threshold_rule"]
    check = table(trained, "checks").query("code == 'CHK015'").iloc[0]
    assert check["outcome"] == "pass"
    assert "before the first model was trained" in check["detail"]


@pytest.mark.parametrize(
    ("changes", "n_trained"),
    [
        ({"seeds": 4}, 1),
        ({"learning_curve": [0.25, 0.5]}, 1),
        ({"thresholds": {"inner_folds": 3, "specificity": 0.9}}, 2),
        ({"thresholds": {"inner_folds": 3}, "seeds": 4, "primary_metric": "brier"}, 3),
        ({"thresholds": {"inner_folds": 2, "specificity": 0.95}}, 0),
        ({"primary_metric": "brier"}, 0),
        ({"seeds": 1, "learning_curve": []}, 0),
    ],
)
def test_run__a_change_of_one_key_trains_nothing_else_again(trained, changes, n_trained):
    rules, _ = planned(trained, configure(trained, "changed.yaml", **changes))
    assert "train" not in rules
    assert rules.get("train_again", 0) == n_trained
    assert rules["evaluate"] == 1


def test_run__edit_of_a_hypothesis_trains_all_of_its_models_again(trained):
    file = trained / "my_idea.py"
    file.write_text(IDEA + "\n# an edit\n")
    try:
        rules, names = planned(trained, "again.yaml")
    finally:
        file.write_text(IDEA)
    assert names == {"my_idea"}
    assert (rules["train"], rules["train_again"]) == (1, 3)


def test_run__another_endpoint_after_results_exist_is_a_finding(trained):
    name = configure(trained, "other.yaml", primary_metric="brier")
    done = snakemake(trained, configfile=name)
    assert done.returncode == 0, done.stdout + done.stderr
    check = table(trained, "checks").query("code == 'CHK015'").iloc[0]
    assert check["outcome"] == "finding"
    sealed = json.loads((trained / "results/again/endpoint.json").read_text())
    assert [entry["digest"][:15] in check["detail"] for entry in sealed["earlier"]] == [True]
