"""The claim of neighbours along the genome: order, smoothing, residual network, and what they buy."""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import Ridge

from cohorts import toy_cohort, with_values
from oncoarena.cohort import feature_table
from oncoarena.errors import NotApplicable
from oncoarena.fitting import genome_scales
from oncoarena.fitting.grids import grid_of_features
from oncoarena.fitting.keras_members import Selection
from oncoarena.fitting.residual_tracks import ResidualTracks, activations, residual_network
from oncoarena.fitting.selection import fit_temperature, log_loss, softmax
from oncoarena.fitting.tracks import Track, fit_track, seriate
from oncoarena.fitting.views import fit_joined_view
from oncoarena.hypotheses import genome_neighbours, wide_deep

HEADS = {"penalties": (0.03, 0.003), "deep_units": (3,), "steps": 60, "inner_folds": 3, "inner_repeats": 1}
SMALL = genome_neighbours.Config(
    **HEADS,
    sigmas=(0.0, 3.0),
    kept_scales=9,
    views=("zscore",),
    channels=3,
    dilations=(1, 2),
    windows=4,
    end_to_end_samples=10**6,
)
END_TO_END = replace(
    SMALL, end_to_end_samples=1, end_to_end_epochs=3, end_to_end_batch=8, end_to_end_errors=1e6
)


def _local(n_samples, strength, seed, n_features=160, coordinates=("bins",)):
    """Two stretches of neighbours shift together, up or down, in class b; all else is noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % 2
    x = rng.normal(size=(n_samples, n_features))
    x[:, 20:40] += strength * labels[:, None]
    x[:, 100:120] -= strength * labels[:, None]
    return toy_cohort(labels, {"bins": x}, classes=("a", "b"), coordinates=coordinates)


def _fit(train, config=SMALL, seed=0):
    return genome_neighbours.fit(config, train, None, seed=seed, device="cpu")


def _assert_probabilities(probabilities, n_samples, n_classes):
    assert probabilities.shape == (n_samples, n_classes)
    assert probabilities.dtype == np.float64
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)


def test_fit_track__sorts_by_chromosome_and_start():
    features = feature_table(list("cadb"), ["chr2", "chr1", "chr2", "chr1"], [5, 9, 1, 0], [6, 10, 2, 1])
    cohort = toy_cohort([0, 1], {"bins": np.eye(2, 4)}, classes=("a", "b"))
    cohort = replace(cohort, blocks={"bins": replace(cohort.blocks["bins"], features=features)})
    track = fit_track(cohort, fit_joined_view(cohort, "zscore"))
    assert track.order.tolist() == [3, 1, 2, 0]
    assert track.bounds.tolist() == [0, 2, 4]
    assert not track.pseudo_order


def test_fit_track__blocks_follow_each_other_and_only_the_unplaced_is_seriated():
    rng = np.random.default_rng(0)
    blocks = {"rna": rng.normal(size=(8, 5)), "bins": rng.normal(size=(8, 6))}
    cohort = toy_cohort(np.arange(8) % 2, blocks, classes=("a", "b"), coordinates=("bins",))
    track = fit_track(cohort, fit_joined_view(cohort, "zscore"))
    assert sorted(track.order[:5]) == list(range(5))
    assert track.order[5:].tolist() == list(range(5, 11))
    assert track.bounds.tolist() == [0, 5, 8, 11]
    assert track.pseudo_order


def test_seriate__recovers_the_order_of_a_smooth_track():
    rng = np.random.default_rng(0)
    smooth = gaussian_filter1d(rng.normal(size=(60, 200)), 6.0, axis=1)
    shuffle = rng.permutation(200)
    true_places = shuffle[seriate(smooth[:, shuffle])]
    steps = np.abs(np.diff(true_places))
    # A random order has steps of 67 on average; two true neighbours are at most a few features apart.
    assert np.median(steps) <= 2
    assert sorted(true_places) == list(range(200))


@pytest.mark.parametrize("x", [np.zeros((5, 4)), np.ones((5, 1)), np.tile(np.arange(5.0)[:, None], 3)])
def test_seriate__features_that_are_all_alike_keep_every_place(x):
    assert sorted(seriate(x.astype(np.float32))) == list(range(x.shape[1]))


def test_fit__order_and_model_see_the_training_part_only():
    train, test = _local(24, 1.0, 0, coordinates=()), _local(12, 1.0, 1, coordinates=())
    first = _fit(train)
    # Seriation belongs to the predictor; predicting other samples leaves it as it was.
    before = first.grids[0].weights.indices.copy()
    expected = first.predict_proba(test)
    first.predict_proba(with_values(test, {"bins": np.flip(test.blocks["bins"].values, axis=1) * 9}))
    np.testing.assert_array_equal(first.grids[0].weights.indices, before)
    np.testing.assert_array_equal(first.predict_proba(test), expected)
    assert first.pseudo_order
    assert first.findings["pseudo_order"] is True


def test_fit__columns_with_coordinates_may_come_in_any_order():
    train, test = _local(30, 1.0, 0), _local(20, 1.0, 1)
    shuffle = np.random.default_rng(2).permutation(160)

    def shuffled(cohort):
        block = cohort.blocks["bins"]
        features = block.features.iloc[shuffle].reset_index(drop=True)
        return replace(
            cohort, blocks={"bins": replace(block, values=block.values[:, shuffle], features=features)}
        )

    expected = _fit(train).predict_proba(test)
    found = _fit(shuffled(train)).predict_proba(shuffled(test))
    # Sums over features are taken in another order.
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_residual_network__is_residual_and_local():
    config = replace(SMALL, dilations=(1, 2), windows=4)
    tracks = ResidualTracks(config, grid_of_features(Track(np.arange(80), np.array([0, 40, 80]), False)))
    network = residual_network(config, tracks, 1, seed=0)
    assert sum(isinstance(layer, keras.layers.Add) for layer in network.layers) == 2
    x = np.random.default_rng(0).normal(size=(1, 80, 1)).astype(np.float32) * np.sqrt(80)
    other = x.copy()
    other[0, 45:] += 1.0  # the second chromosome, but for its first five features
    shape = (len(tracks.windows), 3, config.channels)
    before, after = (
        activations(network, tracks, values, config.channels).reshape(shape) for values in (x, other)
    )
    # Two windows lie on each chromosome; nothing crosses from one chromosome to the other.
    np.testing.assert_array_equal(after[:2], before[:2])
    assert (np.abs(after[2:] - before[2:]).max(axis=(1, 2)) > 1e-3).all()


def test_fit__local_signal_is_found_by_neighbours_and_missed_by_the_wide_model():
    train, test = _local(60, 0.5, 0), _local(200, 0.5, 1)
    predictor = _fit(train)
    local = predictor.predict_proba(test)
    diffuse = wide_deep.fit(
        wide_deep.Config(**HEADS, views=("zscore",)), train, None, seed=0, device="cpu"
    ).predict_proba(test)
    assert log_loss(local, test.labels) < log_loss(diffuse, test.labels) - 0.1
    assert predictor.findings["best_scale"] == "zscore sigma 3"
    assert not predictor.pseudo_order


def test_fit__only_the_scales_that_say_most_of_patients_left_out_get_heads():
    train, test = _local(60, 0.5, 0), _local(200, 0.5, 1)
    config = replace(SMALL, sigmas=(0.0, 1.0, 3.0, 30.0))
    predictor, of_all = _fit(train, replace(config, kept_scales=2)), _fit(train, config)
    findings = predictor.findings
    losses = findings["ridge_log_loss_of_scale"]
    assert losses == of_all.findings["ridge_log_loss_of_scale"]
    assert set(losses) == set(findings["weight_of_scale"]) == set(of_all.findings["oof_log_loss_of_scale"])
    kept = sorted(losses, key=losses.get)[:2]
    assert set(findings["oof_log_loss_of_scale"]) == set(kept)
    assert all(weight == 0 for name, weight in findings["weight_of_scale"].items() if name not in kept)
    assert losses["zscore sigma 3"] < losses["zscore sigma 0"] - 0.05
    gap = log_loss(predictor.predict_proba(test), test.labels) - log_loss(
        of_all.predict_proba(test), test.labels
    )
    assert gap < 0.02


def test_fit__many_samples_are_compared_by_some_of_them(monkeypatch):
    monkeypatch.setattr(genome_scales, "COMPARED_SAMPLES", 40)
    # No scale but that of the random network, so that it is seen of some samples, then of all.
    config = replace(SMALL, sigmas=(0.0,), kept_scales=2)
    train, test = _local(60, 1.0, 0), _local(9, 1.0, 1)
    predictor = _fit(train, config)
    assert set(predictor.findings["oof_log_loss_of_scale"]) == {"zscore sigma 0", "random residual network"}
    _assert_probabilities(predictor.predict_proba(test), 9, 2)


def test_compared_samples__a_rare_class_is_all_there(monkeypatch):
    monkeypatch.setattr(genome_scales, "COMPARED_SAMPLES", 40)
    labels = np.repeat([0, 1], [95, 5])
    train = toy_cohort(labels, {"bins": np.zeros((100, 1))}, classes=("a", "b"))
    rows = genome_scales.compared_samples(train, np.random.default_rng(0))
    assert len(np.unique(rows)) == 40
    assert (labels[rows] == 1).sum() == 5


def test_ridge_log_loss__is_that_of_a_ridge_fitted_without_each_patient():
    rng = np.random.default_rng(0)
    labels = np.arange(18) % 3
    patients = [f"p{i // 2}" for i in range(18)]
    x = (rng.normal(size=(18, 30)) + 0.5 * np.eye(3, 30)[labels]).astype(np.float32)
    train = toy_cohort(labels, {"bins": x}, classes=("a", "b", "c"), patients=patients)
    targets, size = np.eye(3)[labels], np.square(x).sum()
    losses = []
    for penalty in genome_scales.RIDGE_PENALTIES:
        scores = np.empty((18, 3))
        for patient in set(patients):
            own = np.array(patients) == patient
            ridge = Ridge(alpha=penalty * size).fit(x[~own].astype(float), targets[~own])
            scores[own] = ridge.predict(x[own]) - targets[~own].mean(axis=0)
        losses.append(log_loss(softmax(fit_temperature(scores, labels) * scores), labels))
    assert genome_scales.ridge_log_loss(x, train) == pytest.approx(min(losses), abs=1e-5)
    with pytest.raises(NotApplicable, match="2 patients"):
        genome_scales.ridge_log_loss(x[:2], train.take(np.arange(2)))


def test_fit__without_signal_stays_at_chance():
    train, test = _local(60, 0.0, 0), _local(400, 0.0, 1)
    probabilities = _fit(train).predict_proba(test)
    # Three standard errors of the accuracy of a coin over 400 samples.
    assert abs((probabilities.argmax(axis=1) == test.labels).mean() - 0.5) < 0.075


@pytest.mark.parametrize("config", [SMALL, END_TO_END], ids=["frozen", "end_to_end"])
def test_fit__same_seed_gives_identical_predictions(config):
    train, test = _local(24, 1.0, 0), _local(9, 1.0, 1)
    first, second = (_fit(train, config, seed=4) for _ in range(2))
    assert first.findings == second.findings
    np.testing.assert_array_equal(first.predict_proba(test), second.predict_proba(test))


def test_fit__end_to_end_network_is_one_more_member_and_out_of_fold():
    predictor = _fit(_local(24, 1.0, 0), END_TO_END)
    assert "end-to-end residual network" in predictor.findings["weight_of_scale"]
    assert sum(predictor.findings["weight_of_scale"].values()) == pytest.approx(1.0)
    assert "end-to-end residual network" not in _fit(_local(24, 1.0, 0)).findings["weight_of_scale"]


def test_fit__end_to_end_network_that_falls_behind_on_the_first_fold_is_given_up():
    train = _local(24, 1.0, 0)
    # After a single step it knows next to nothing.
    predictor = _fit(train, replace(END_TO_END, end_to_end_errors=1.0, end_to_end_steps=1))
    assert "end_to_end" not in predictor.networks
    assert "end-to-end residual network" not in predictor.findings["oof_log_loss_of_scale"]
    kept = _fit(train, replace(END_TO_END, end_to_end_steps=1))
    losses = kept.findings["oof_log_loss_of_scale"]
    assert losses.pop("end-to-end residual network") > min(losses.values()) + 0.1


def test_predict_proba__does_not_depend_on_the_other_samples():
    predictor, test = _fit(_local(24, 1.0, 0)), _local(9, 1.0, 1)
    together = predictor.predict_proba(test)
    alone = np.concatenate([predictor.predict_proba(test.take(np.array([i]))) for i in range(len(test))])
    # float32 products of one row and of many rows round differently.
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert predictor.predict_proba(test.take(np.arange(0))).shape == (0, 2)


LOAD_AND_PREDICT = """
import sys
from pathlib import Path
import numpy as np
import tensorflow
tensorflow.config.threading.set_intra_op_parallelism_threads(1)
sys.path.insert(0, sys.argv[1])
from test_genome_neighbours import _local, genome_neighbours
np.save(sys.argv[3], genome_neighbours.load(Path(sys.argv[2])).predict_proba(_local(9, 1.0, 1)))
"""


def test_save__new_process_loads_to_identical_predictions(tmp_path, request, monkeypatch):
    def give_every_member_a_share(oof_logits, *_):
        shares = np.full(len(oof_logits), 1.0 / len(oof_logits))
        return Selection(shares, shares, 1.0, np.zeros(len(shares)), 0.0, 0.0, 0.0)

    # So that no network and no scale is left out of the files.
    monkeypatch.setattr(genome_neighbours, "select_members", give_every_member_a_share)
    predictor = _fit(_local(24, 1.0, 0), END_TO_END)
    assert set(predictor.networks) == {"members", "random", "end_to_end"}
    directory = tmp_path / "model"
    directory.mkdir()
    predictor.save(directory)
    out = tmp_path / "probabilities.npy"
    command = [sys.executable, "-c", LOAD_AND_PREDICT, request.path.parent, directory, out]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(out), predictor.predict_proba(_local(9, 1.0, 1)))


def test_fit__several_blocks_with_missing_constant_and_empty_features():
    rng = np.random.default_rng(0)
    rna = rng.normal(size=(24, 12))
    rna[::3, 0], rna[:, 1], rna[:, 2] = np.nan, 7.0, np.nan
    train = toy_cohort(
        np.arange(24) % 3,
        {"rna": rna, "bins": rng.normal(size=(24, 30)), "one": rng.poisson(3, size=(24, 1))},
        classes=("a", "b", "c", "d"),
        patients=[f"p{i // 2}" for i in range(24)],
        coordinates=("bins",),
    )
    test = train.take(np.arange(7))
    test = with_values(test, {"rna": np.where(np.arange(7)[:, None] == 0, np.nan, rna[:7])})
    probabilities = _fit(train).predict_proba(test.without_labels())
    _assert_probabilities(probabilities, 7, 4)
    assert (probabilities[:, 3] < 0.25).all()


def test_fit__features_that_never_vary_still_give_probabilities():
    train = toy_cohort(np.arange(8) % 2, {"rna": np.ones((8, 3))}, classes=("a", "b"))
    _assert_probabilities(_fit(train).predict_proba(train), 8, 2)


# --- several blocks of coordinates ---


def _split_signal(n_samples, seed):
    """Half of a local signal in each of two blocks, at the same places; their bins are of 1 Mb."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % 2
    blocks = {name: rng.normal(size=(n_samples, 160)) for name in ("coverage", "methylation")}
    blocks["coverage"][:, 20:40] += 0.35 * labels[:, None]
    blocks["methylation"][:, 20:40] -= 0.35 * labels[:, None]
    return toy_cohort(labels, blocks, classes=("a", "b"), coordinates=tuple(blocks))


def test_fit__blocks_of_coordinates_meet_at_the_same_places():
    train = _split_signal(60, 0)
    predictor = _fit(train)
    assert predictor.tracks.grid.n_channels == 2
    assert len(predictor.tracks.windows) == SMALL.windows
    blocks = ("", "coverage + methylation ", "coverage - methylation ")
    names = {f"zscore {of}sigma {sigma}" for of in blocks for sigma in (0, 3)}
    assert set(predictor.findings["weight_of_scale"]) == names | {"random residual network"}
    assert predictor.findings["common_bin_bp"] == 1_000_000
    assert predictor.findings["best_scale"] == "zscore coverage - methylation sigma 3"
    (joint,) = [
        of
        for of in predictor.findings["chosen_scales"]
        if of["name"] == "zscore coverage - methylation sigma 3"
    ]
    assert joint["sigma"] == 3.0
    assert joint["sigma_bp"] == {"coverage": 3e6, "methylation": 3e6}
    assert joint["blocks"] == ["coverage", "methylation"]
    losses = predictor.findings["oof_log_loss_of_scale"]
    assert losses["zscore coverage - methylation sigma 3"] < losses["zscore sigma 3"]


def test_fit__one_block_of_coordinates_says_how_far_it_smooths_in_bp():
    findings = _fit(_local(60, 0.5, 0)).findings
    (chosen,) = [of for of in findings["chosen_scales"] if of["name"] == "zscore sigma 3"]
    assert chosen["sigma_bp"] == {"bins": 3e6}
    assert not [name for name in findings["weight_of_scale"] if "+" in name]


@pytest.mark.parametrize("wanted", ["joint", "all"])
def test_attribute__joint_scales_sum_to_the_score_in_features_of_each_block(wanted, monkeypatch, tmp_path):
    def share(oof_logits, *_):
        # Two wide heads a scale, then a deep one; scales 2 to 5 are sums; the last member is end-to-end.
        numbers = np.arange(len(oof_logits))
        chosen = (
            (numbers // 3 > 1) & (numbers // 3 < 6) & (numbers % 3 < 2) if wanted == "joint" else numbers >= 0
        )
        shares = chosen / chosen.sum()
        return Selection(shares, shares, 1.0, np.zeros(len(shares)), 0.0, 0.0, 0.0)

    monkeypatch.setattr(genome_neighbours, "select_members", share)
    config = SMALL if wanted == "joint" else END_TO_END
    predictor = _fit(_split_signal(30, 0), config)
    test = _split_signal(7, 1).without_labels()
    found = predictor.attribute(test, 1)
    assert found.exact == (wanted == "joint")
    assert {name: part.shape for name, part in found.contributions.items()} == {
        "coverage": (7, 160),
        "methylation": (7, 160),
    }
    gain = found.score - found.baseline
    total = sum(part.sum(axis=1, dtype=np.float64) for part in found.contributions.values())
    np.testing.assert_allclose(total, gain, atol=(1e-4 if found.exact else 1e-2) * np.ptp(gain))
    predictor.save(tmp_path)
    loaded = genome_neighbours.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(test), predictor.predict_proba(test))
    again = loaded.attribute(test, 1).contributions
    for name, part in found.contributions.items():
        np.testing.assert_array_equal(again[name], part)
