"""Finished studies as tables, for tests of the referee: truth, splits and made-up predictions."""

import numpy as np
import pandas as pd

from oncoarena.cohort import Block, BlockSpec, feature_table
from oncoarena.referee.endpoint import endpoint_digest
from oncoarena.referee.outcomes import Outcomes, join_outcomes
from oncoarena.referee.predictions import prediction_table
from oncoarena.splits import deal_folds


def noisy_probabilities(truth, n_classes, strength, rng, decimals=None):
    """Probabilities that lean towards the truth by ``strength`` standard deviations of their noise."""
    logits = rng.normal(size=(len(truth), n_classes))
    logits[np.arange(len(truth)), truth] += strength
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities if decimals is None else np.round(probabilities, decimals)


def run_record(hypothesis, role="claim", **others):
    """The part of a run's record that the referee reads."""
    record = {"hypothesis": hypothesis, "title": hypothesis, "role": role, "framework": "numpy"}
    return record | {"status": "trained", "reason": "", "permuted_labels": False} | others


def make_study(
    strengths, *, n_patients=60, n_classes=3, n_repeats=1, n_folds=3, samples_each=1, seed=0, sheet=None
):
    """Make the tables of a cross-validated study: (predictions, samples, splits, runs, classes).

    ``strengths`` maps hypotheses to how far they see the truth; ``sheet`` adds columns, one value a sample.
    """
    rng = np.random.default_rng(seed)
    classes = tuple("abcdefghijklmnopqrst"[:n_classes])
    patient = np.repeat(np.arange(n_patients), samples_each)
    truth = patient % n_classes
    samples = pd.DataFrame(
        {
            "sample_id": [f"s{i:05d}" for i in range(len(patient))],
            "patient_id": [f"q{i:05d}" for i in patient],
            "label": np.array(classes)[truth],
        }
        | (sheet or {})
    )
    ids = samples["sample_id"].to_numpy()
    splits, predictions = [], []
    for repeat in range(n_repeats):
        folds = deal_folds(truth, patient, n_folds, rng)
        for fold in range(n_folds):
            role = np.where(folds == fold, "test", "train")
            splits.append(pd.DataFrame({"repeat": repeat, "fold": fold, "sample_id": ids, "role": role}))
            for name, strength in strengths.items():
                tested = np.flatnonzero(folds == fold)
                given = noisy_probabilities(truth[tested], n_classes, strength, rng)
                predictions.append(prediction_table(name, repeat, fold, ids[tested], given, classes))
    runs = [run_record(name) for name in strengths]
    return pd.concat(predictions), samples, pd.concat(splits, ignore_index=True), runs, classes


def make_blocks(samples, n_features=40, *, strength=0.5, seed=0, genes=None, values=None):
    """Features in which every class shifts its own tenth of them: {"expression": Block}, rows as ``samples``."""
    rng = np.random.default_rng(seed)
    truth = np.unique(samples["label"], return_inverse=True)[1]
    if values is None:
        values = rng.normal(size=(len(samples), n_features))
        share = max(1, n_features // 10)
        for c in np.unique(truth):
            values[np.ix_(truth == c, np.arange(c * share, (c + 1) * share))] += strength
    spec = BlockSpec("expression", ("sample", "gene"), "float32", "log2 counts", "Made-up expression.")
    features = feature_table([f"f{i}" for i in range(values.shape[1])], gene=genes)
    return {"expression": Block(spec, values.astype(np.float32), features)}


CLEAN_ROLES = {"one": "claim", "two": "claim", "l2": "baseline", "prior_only": "control"} | {
    "covariates_only": "control",
    "permuted_labels": "control",
}


def clean_study(seed, *, n_patients=120, n_classes=3, n_repeats=2, n_features=200):
    """A study without fault, all of its parts: (arguments, options) of ``evaluate_study``.

    Claims are calibrated, alike in every repeat; features have structure, noise and some gaps.
    """
    rng = np.random.default_rng([seed, 1])
    sheet = {"site": rng.choice(["A", "B", "C"], n_patients)}
    sheet["age"] = np.where(rng.random(n_patients) < 0.05, "", rng.integers(30, 80, n_patients).astype(str))
    predictions, samples, splits, _, classes = make_study(
        dict.fromkeys(CLEAN_ROLES, 0.0),
        n_patients=n_patients,
        n_classes=n_classes,
        n_repeats=n_repeats,
        n_folds=5,
        seed=seed,
        sheet=sheet,
    )
    predictions = predictions.reset_index(drop=True)
    columns = [f"p_{name}" for name in classes]
    row = pd.Index(samples["sample_id"]).get_indexer(predictions["sample_id"])
    truth = np.unique(samples["label"], return_inverse=True)[1]
    for name, strength in {"one": 1.6, "two": 1.5, "l2": 1.4}.items():
        seen = rng.normal(size=(n_patients, n_classes)) + strength * np.eye(n_classes)[truth]
        given = np.exp(strength * seen)
        inside = (predictions["hypothesis"] == name).to_numpy()
        predictions.loc[inside, columns] = (given / given.sum(axis=1, keepdims=True))[row[inside]]
    predictions.loc[predictions["hypothesis"] == "prior_only", columns] = 1 / n_classes
    values = rng.normal(size=(n_patients, 5)) @ rng.normal(size=(5, n_features))
    values += rng.normal(size=values.shape) + 0.4 * rng.normal(size=(n_classes, n_features))[truth]
    values[rng.random(values.shape) < 0.03] = np.nan
    shuffled = {"permuted_labels": {"permuted_labels": True}}
    runs = [run_record(name, role, **shuffled.get(name, {})) for name, role in CLEAN_ROLES.items()]
    digests = pd.DataFrame({"sample_id": samples["sample_id"], "digest": samples["sample_id"]})
    options = {
        "blocks": make_blocks(samples, values=values),
        "digests": digests,
        "looks": pd.DataFrame({"config_digest": ["first"]}),
        "seed_predictions": {s: _jittered(predictions, columns, s) for s in (1, 2)},
        "previous_endpoint": endpoint_digest("auroc_macro"),
        "n_bootstrap": 200,
        "n_permutations": 20,
    }
    return (predictions, samples, splits, runs, classes), options


def _jittered(predictions, columns, seed):
    """What a training with another seed would say: nearly the same."""
    p = predictions[columns].to_numpy() * np.exp(
        np.random.default_rng(seed).normal(0, 0.05, (len(predictions), len(columns)))
    )
    return predictions.assign(**dict(zip(columns, (p / p.sum(axis=1, keepdims=True)).T, strict=True)))


def make_outcomes(strengths, **options) -> Outcomes:
    predictions, samples, splits, _, classes = make_study(strengths, **options)
    return join_outcomes(predictions, samples, splits, classes)


def plain_outcomes(truth, probabilities, patients=None) -> Outcomes:
    """Outcomes of one split straight from arrays; ``probabilities`` maps hypotheses to (n, k)."""
    truth = np.asarray(truth)
    n_rows, n_classes = next(iter(probabilities.values())).shape
    patients = np.arange(n_rows) if patients is None else np.asarray(patients)
    return Outcomes(
        classes=tuple("abcdefghijklmnopqrst"[:n_classes]),
        positive=n_classes - 1,
        sample_ids=np.array([f"s{i}" for i in range(n_rows)], dtype=object),
        patients=patients,
        truth=truth,
        repeats=np.zeros(n_rows, dtype=np.int64),
        folds=np.zeros(n_rows, dtype=np.int64),
        probabilities=probabilities,
    )
