"""A Keras model trained on two devices is the one that a single device trains; mixed precision stays inside a fit."""

import dataclasses

import numpy as np
import pytest

from cohorts import toy_cohort
from oncoarena import compute, store
from oncoarena.errors import InputError
from oncoarena.runs import run_part
from oncoarena.specs import TrainingSpec
from oncoarena.splits import SplitPlan
from studies import prepare_study

NEIGHBOURS = {
    "steps": 40,
    "inner_folds": 3,
    "inner_repeats": 1,
    "sigmas": [0.0],
    "penalties": [0.1, 0.001],
    "deep_units": [4],
    "batch_size": 17,
    "channels": 4,
    # The trained network stays, however it does.
    "end_to_end_errors": 1e6,
    "dilations": [1, 2],
    "windows": 4,
    "end_to_end_samples": 10,
    "end_to_end_epochs": 4,
    "end_to_end_batch": 5,
}
"""Odd batches, dropout, penalties and clipped gradients: what two devices could get wrong."""

PLAIN = '''
"""A Keras model as its author wrote it, for one device: it knows nothing of any other."""
from dataclasses import dataclass

import keras
import numpy as np

FRAMEWORK = "tensorflow"
BLOCKS = "all"


@dataclass(frozen=True)
class Config:
    batch_size: int = 10


class Predictor:
    def __init__(self, model):
        self.model = model

    def predict_proba(self, cohort):
        return self.model.predict(np.array(cohort.blocks["expression"].values), verbose=0)


def fit(config, train, validation, *, seed, device):
    layer = keras.layers.Dense(2, activation="softmax", kernel_initializer=keras.initializers.GlorotUniform(seed))
    model = keras.Sequential([keras.Input((train.blocks["expression"].values.shape[1],)), layer])
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    model.fit(np.array(train.blocks["expression"].values), train.labels, batch_size=config.batch_size, epochs=5,
              shuffle=False, verbose=0)
    return Predictor(model)
'''


@pytest.fixture
def run(tmp_path):
    """Train on the official split: gives the record of it and the probabilities."""
    study = prepare_study(tmp_path, SplitPlan("official"), n_patients=60)

    def train(spec, name, *, gpu, **options):
        record = run_part(
            spec,
            splits_receipt=study.splits_receipt,
            assay_receipts=[study.assay_receipt],
            part=0,
            n_parts=1,
            study_seed=3,
            threads=2,
            gpu=gpu,
            uri=str(tmp_path / name),
            explain=False,
            **options,
        )
        table = store.read_table(str(tmp_path / name / "predictions.parquet"))
        return record["splits"][0], table.filter(like="p_").to_numpy()

    return train


def test_run_part__network_and_heads_of_two_devices_are_those_of_one(run):
    module = "oncoarena.hypotheses.genome_neighbours"
    spec = TrainingSpec("genome_neighbours", module, "tensorflow", config=NEIGHBOURS)
    one, expected = run(spec, "one", gpu=0)
    two, found = run(spec, "two", gpu=2)
    assert (one["n_devices"], two["n_devices"]) == (1, 2)
    # Sums over the samples of a batch in another order, float32.
    np.testing.assert_allclose(found, expected, atol=1e-4)
    losses = [record["findings"]["oof_log_loss_of_scale"] for record in (one, two)]
    assert "end-to-end residual network" in losses[0]
    # A mask of dropout, penalty or clipped gradient of its own on each device would show in the second digit.
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert one["findings"]["deep_gain"] == pytest.approx(two["findings"]["deep_gain"], abs=1e-4)


def test_run_part__plain_keras_model_is_shared_without_its_author_knowing(run, tmp_path):
    claim = tmp_path / "plain.py"
    claim.write_text(PLAIN)
    spec = TrainingSpec("plain", str(claim), "tensorflow")
    _, expected = run(spec, "one", gpu=0)
    record, found = run(spec, "two", gpu=2)
    assert record["n_devices"] == 2
    assert np.ptp(expected[:, 0]) > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(
        InputError, match=r"On 2 devices model\.fit wants 2, 4, \.\.\. samples in its first batch"
    ):
        run(dataclasses.replace(spec, config={"batch_size": 7}), "odd", gpu=2)


def test_training_scope__mixed_precision_stays_inside_the_fit(tmp_path):
    import keras

    from oncoarena.fitting.keras_members import HeadConfig, member_logits, train_members

    rng = np.random.default_rng(0)
    labels = np.arange(30) % 2
    scores = (rng.normal(size=(30, 1, 4)) + labels[:, None, None]).astype(np.float32) / 3
    cohort = toy_cohort(labels, {"b": scores[:, 0]}, classes="xy")
    config = HeadConfig(steps=40, inner_folds=2, inner_repeats=1, deep_units=(4,), feature_dropout=0.0)
    full = train_members(scores, cohort, config, seed=1)
    before = keras.config.dtype_policy().name
    with compute.training_scope("tensorflow", "cpu", 1, "mixed"):
        mixed = train_members(scores, cohort, config, seed=1)
    assert keras.config.dtype_policy().name == before == "float32"
    off = np.abs(mixed.oof_logits - full.oof_logits).max()
    assert 1e-6 < off < 0.05 * np.abs(full.oof_logits).max()
    # The model that is kept computes in float32: it predicts the same wherever it is loaded.
    logits = member_logits(mixed.model, scores)
    assert logits.dtype == np.float32
    assert {weight.dtype for weight in mixed.model.weights} == {"float32"}
    mixed.model.save(tmp_path / "members.keras")
    again = keras.models.load_model(tmp_path / "members.keras")
    np.testing.assert_array_equal(member_logits(again, scores), logits)
