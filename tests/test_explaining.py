"""From contributions of samples to a table of features; what breaks the contract of an attribution is told."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cohorts import toy_cohort
from oncoarena import explaining, store
from oncoarena.attribution import Attribution
from oncoarena.errors import InputError
from oncoarena.explaining import check_attribution, explain, explained_classes
from oncoarena.runs import run_part
from oncoarena.splits import SplitPlan
from studies import entered_hypotheses, prepare_study
from test_checkpoints import arguments, fragile

CLASSES = ("a", "b", "c")


def cohort_of(n_samples=7, widths=(4, 3)):
    rng = np.random.default_rng(1)
    blocks = {f"block{n}": rng.normal(size=(n_samples, width)) for n, width in enumerate(widths)}
    return toy_cohort(np.arange(n_samples) % 3, blocks, classes=CLASSES).without_labels()


class Linear:
    """Contributions are values times weights; counts the samples that it is asked for at once."""

    def __init__(self, cohort):
        rng = np.random.default_rng(2)
        self.weights = {
            name: rng.normal(size=(block.values.shape[1], 3)) for name, block in cohort.blocks.items()
        }
        self.asked = []

    def attribute(self, cohort, label):
        self.asked.append((label, len(cohort)))
        parts = {
            name: cohort.blocks[name].values * weights[:, label] for name, weights in self.weights.items()
        }
        score = sum(values.sum(axis=1) for values in parts.values()) + 3.0
        return Attribution(score, np.full(len(cohort), 3.0), parts, "weights", exact=True)


def test_explain__means_over_samples_and_classes_are_those_of_plain_averages(monkeypatch):
    monkeypatch.setattr(explaining, "BATCH_ROWS", 3)
    cohort = cohort_of()
    model = Linear(cohort)
    table, about = explain(model.attribute, cohort, [0, 2], CLASSES, "idea")
    assert about == {"method": "weights", "exact": True}
    assert {name: table[name].dtype.kind for name in ("mean_abs", "mean", "n_samples")} == {
        "mean_abs": "f",
        "mean": "f",
        "n_samples": "i",
    }
    assert table["label"].tolist() == [""] * 7 + ["a"] * 7 + ["c"] * 7
    assert (table["n_samples"] == 7).all()
    found = table.set_index(["label", "block", "feature"])
    for name, block in cohort.blocks.items():
        for column, feature in enumerate(block.features["id"]):
            contributions = block.values[:, [column]] * model.weights[name][column]
            for label in (0, 2):
                row = found.loc[(CLASSES[label], name, feature)]
                assert row["mean"] == pytest.approx(contributions[:, label].mean(), rel=1e-5)
                assert row["mean_abs"] == pytest.approx(np.abs(contributions[:, label]).mean(), rel=1e-5)
            row = found.loc[("", name, feature)]
            assert row["mean_abs"] == pytest.approx(np.abs(contributions[:, [0, 2]]).mean(), rel=1e-5)
            assert np.isnan(row["mean"])
    assert table.groupby("label")["mean_abs"].is_monotonic_decreasing.all()
    assert model.asked == [(label, n) for label in (0, 2) for n in (3, 3, 1)]


def test_explain__of_many_samples_some_evenly_spaced_are_asked_about(monkeypatch):
    monkeypatch.setattr(explaining, "MAX_SAMPLES", 3)
    cohort = cohort_of()
    table, _ = explain(Linear(cohort).attribute, cohort, [0, 2], CLASSES, "idea")
    few = cohort.take(np.array([0, 3, 6]))
    expected, _ = explain(Linear(cohort).attribute, few, [0, 2], CLASSES, "idea")
    assert (table["n_samples"] == 3).all()
    pd.testing.assert_frame_equal(table, expected)


def test_explain__correlates_contributions_with_values_where_these_are_known(monkeypatch):
    """A mean of contributions to centred features is 0 whatever the weight: only the correlation has its sign."""
    monkeypatch.setattr(explaining, "BATCH_ROWS", 3)
    values = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32)
    values[:, 0] = 1e4 + values[:, 0]
    values[3:9, 1] = np.nan
    values[:, 2] = 5.0
    cohort = toy_cohort(np.arange(40) % 3, {"block0": values}, classes=CLASSES).without_labels()
    noise = np.random.default_rng(4).normal(size=values.shape).astype(np.float32)

    def attribute(batch, label):
        rows = pd.Index(cohort.sample_ids).get_indexer(batch.sample_ids)
        given = np.nan_to_num(values[rows] - np.nanmean(values, axis=0)) * [1, -1, 1, 1] + noise[rows] * [
            0,
            0,
            1,
            1,
        ]
        given[:, 3] = noise[rows, 3] + values[rows, 3]
        score = given.sum(axis=1)
        return Attribution(
            score, np.zeros(len(rows)), {"block0": given.astype(np.float32)}, "made up", exact=False
        )

    table, _ = explain(attribute, cohort, [1], CLASSES, "idea")
    assert table[table["label"] == ""]["correlation"].isna().all()
    found = table[table["label"] == "b"].set_index("feature")["correlation"]
    ids = cohort.blocks["block0"].features["id"]
    expected = np.corrcoef(values[:, 3], values[:, 3] + noise[:, 3])[0, 1]
    np.testing.assert_allclose(found[ids], [1, -1, 0, expected], atol=2e-3)


def test_explain__batches_shrink_where_blocks_are_wide(monkeypatch):
    monkeypatch.setattr(explaining, "BATCH_VALUES", 15)
    cohort = cohort_of()
    model = Linear(cohort)
    explain(model.attribute, cohort, [1], CLASSES, "idea")
    assert [n for _, n in model.asked] == [2, 2, 2, 1]


def test_explain__only_the_largest_features_are_listed_of_all_blocks_together(monkeypatch):
    monkeypatch.setattr(explaining, "MAX_FEATURES", 5)
    monkeypatch.setattr(explaining, "MAX_FEATURES_OF_CLASS", 2)
    cohort = cohort_of()
    model = Linear(cohort)
    few, _ = explain(model.attribute, cohort, [0, 1, 2], CLASSES, "idea")
    monkeypatch.undo()
    whole, _ = explain(model.attribute, cohort, [0, 1, 2], CLASSES, "idea")
    assert few.groupby("label").size().to_dict() == {"": 5, "a": 2, "b": 2, "c": 2}
    for label, rows in few.groupby("label"):
        largest = whole[whole["label"] == label].nlargest(len(rows), "mean_abs")
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), largest.reset_index(drop=True))
    assert set(few["block"]) == {"block0", "block1"}


@pytest.mark.parametrize(
    ("labels", "n_classes", "expected"),
    [
        ([0, 1, 1], 2, [1]),
        ([0, 2, 2], 3, [0, 2]),
        ([0, 0], 2, []),
        ([1, 1], 3, []),
    ],
)
def test_explained_classes__are_those_with_training_samples_and_of_two_the_second(
    labels, n_classes, expected
):
    assert explained_classes(np.array(labels), n_classes) == expected


BROKEN = {
    "score has shape": lambda found: {"score": found.score[:-1]},
    "baseline has shape": lambda found: {"baseline": np.where(found.baseline == 3, np.nan, 0)},
    "found contributions of the blocks": lambda found: {"contributions": {"other": np.zeros((7, 4))}},
    r"contributions of the blocks \[\], expected": lambda found: {"contributions": {}},
    r"block block1: found shape \(7, 2\), expected \(7, 3\)": lambda found: {
        "contributions": found.contributions | {"block1": found.contributions["block1"][:, :2]}
    },
    "of sample 's4' are not finite": lambda found: {
        "contributions": found.contributions
        | {"block1": np.where(np.arange(7)[:, None] == 4, np.inf, found.contributions["block1"])}
    },
    "is said to be exact, but the contributions of sample 's2' sum to": lambda found: {
        "score": found.score + (np.arange(7) == 2)
    },
}


@pytest.mark.parametrize("complaint", BROKEN)
def test_check_attribution__broken_promise_is_named(complaint):
    cohort = cohort_of()
    found = Linear(cohort).attribute(cohort, 0)
    check_attribution(found, cohort, "a", "idea")
    broken = dataclasses.replace(found, **BROKEN[complaint](found))
    with pytest.raises(ValueError, match=f"^idea: attribute, class 'a': .*{complaint}"):
        check_attribution(broken, cohort, "a", "idea")


def test_check_attribution__what_is_not_said_to_be_exact_need_not_sum():
    cohort = cohort_of()
    found = Linear(cohort).attribute(cohort, 0)
    check_attribution(dataclasses.replace(found, score=found.score + 1, exact=False), cohort, "a", "idea")


# --- in a run


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return prepare_study(tmp_path_factory.mktemp("study"), SplitPlan("kfold", folds=3))


def run(study, name, spec=None, **options):
    uri = str(study.folder / name)
    record = run_part(spec or fragile(study), **arguments(study, uri, **options))
    return (
        record,
        store.read_table(f"{uri}/predictions.parquet"),
        study.folder / name / "attributions.parquet",
    )


KEYS = [
    "hypothesis",
    "repeat",
    "fold",
    "label",
    "block",
    "feature",
    "mean_abs",
    "mean",
    "correlation",
    "n_samples",
]


def test_run_part__attributions_and_raw_probabilities_lie_beside_the_predictions(study):
    record, predictions, path = run(study, "explained")
    assert record["attribution"] == {"method": "weights", "exact": True}
    table = pd.read_parquet(path)
    assert table.columns.tolist() == KEYS
    assert table.groupby(["fold", "label"]).size().to_dict() == {
        (fold, label): 20 for fold in range(3) for label in ("", "healthy")
    }
    assert (table["n_samples"] == 8).all()
    together, healthy = (table[table["label"] == label].reset_index(drop=True) for label in ("", "healthy"))
    pd.testing.assert_frame_equal(together[[*KEYS[4:7]]], healthy[[*KEYS[4:7]]])
    # The temperature of this hypothesis is 2: the raw log-odds are twice the calibrated ones.
    odds = {
        kind: np.log(predictions[f"{kind}_healthy"] / predictions[f"{kind}_cancer"]) for kind in ("p", "raw")
    }
    np.testing.assert_allclose(odds["raw"], 2 * odds["p"], rtol=1e-6, atol=1e-9)


def test_run_part__explaining_changes_no_prediction(study):
    _, explained, _ = run(study, "with")
    record, plain, path = run(study, "without", explain=False)
    columns = ["hypothesis", "repeat", "fold", "sample_id", "p_cancer", "p_healthy"]
    assert plain.columns.tolist() == columns
    pd.testing.assert_frame_equal(explained[columns], plain, check_exact=True)
    assert record["attribution"] is None
    table = pd.read_parquet(path)
    assert (table.columns.tolist(), len(table)) == (KEYS, 0)


def test_run_part__hypothesis_that_offers_neither_leaves_an_empty_table(study):
    spec = {spec.id: spec.training for spec in entered_hypotheses()}["prior_only"]
    record, predictions, path = run(study, "prior", spec)
    table = pd.read_parquet(path)
    assert (table.columns.tolist(), len(table)) == (KEYS, 0)
    assert record["attribution"] is None
    assert not [name for name in predictions.columns if name.startswith("raw_")]


def test_run_part__wrong_attribution_is_told_and_names_the_hypothesis(study):
    spec = fragile(study)
    wrong = dataclasses.replace(spec, config=spec.config | {"error": 0.5})
    with pytest.raises(InputError, match="fragile: attribute, class 'healthy': is said to be exact"):
        run(study, "wrong", wrong)
