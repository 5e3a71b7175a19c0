"""sparse_markers and its members against scikit-learn, brute force and planted signals."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression

from cohorts import informative_features, planted_values, toy_cohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.selection import log_loss, softmax
from oncoarena.fitting.torch_attention import (
    AttentionGates,
    attention_members,
    left_out_means,
    most_attended,
    own_terms,
    standardise,
)
from oncoarena.fitting.torch_evidence import PRIOR_SAMPLES, make_splits, rank_features
from oncoarena.fitting.torch_gates import (
    LARGE_COHORT,
    gate_designs,
    most_kept,
    principal_coordinates,
    train_heads,
)
from oncoarena.hypotheses import l2_logistic, sparse_markers

# The strength at which ten features of 2,000 separate two classes well and all 2,000 do not.
N_FEATURES, N_INFORMATIVE, STRENGTH = 2000, 10, 1.0
GATES = {"survivors": (8, 64), "smoothing": 0.1, "steps": 40, "rate": 0.2}


def small_cohort(n_samples=30, n_features=12, n_classes=3, samples_per_patient=1, seed=0):
    rng = np.random.default_rng(seed)
    patient = np.arange(n_samples) // samples_per_patient
    labels = patient % n_classes
    values = planted_values(labels, n_features, n_informative=min(n_features, 4), strength=1.5, rng=rng)
    return toy_cohort(labels, {"e": values}, classes="abcdefgh"[:n_classes], patients=patient.astype(str))


def centred(cohort):
    values = cohort.blocks["e"].values
    return torch.from_numpy(values - values.mean(axis=0))


def sparse_cohort(n_samples, strength, seed, n_features=N_FEATURES):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % 2
    values = planted_values(labels, n_features, n_informative=N_INFORMATIVE, strength=strength, rng=rng)
    return toy_cohort(labels, {"e": values}, classes=("healthy", "cancer"))


def fit(train, config=None):
    return sparse_markers.fit(config or sparse_markers.Config(), train, None, seed=3, device="cpu")


@pytest.fixture(scope="module")
def sparse_fit():
    return fit(sparse_cohort(120, STRENGTH, seed=1))


# --- evidence ---


def test_rank_features__order_is_that_of_a_moderated_f_statistic_in_every_split():
    cohort = small_cohort()
    x = centred(cohort)
    splits = make_splits(cohort, 4, 2, seed=1, device="cpu")
    ranked = rank_features(x, splits)
    assert len(ranked.order) == 9
    for split, inside in enumerate(splits.inside.numpy().astype(bool)):
        values, labels = x.numpy()[inside].astype(np.float64), cohort.labels[inside]
        groups = [values[labels == code] for code in range(3)]
        within = sum(((g - g.mean(0)) ** 2).sum(0) for g in groups) / (len(values) - 3)
        between = sum(len(g) * (g.mean(0) - values.mean(0)) ** 2 for g in groups)
        common = np.sort(within)[(len(within) - 1) // 2]  # the lower of the two middle ones
        moderated = (PRIOR_SAMPLES * common + len(values) * within) / (PRIOR_SAMPLES + len(values))
        statistic = between / moderated
        np.testing.assert_array_equal(ranked.order[split].numpy(), np.argsort(-statistic))
        # float32 storage of the evidence
        np.testing.assert_allclose(ranked.evidence[split], statistic / statistic.max(), rtol=1e-5)


def test_rank_features__held_out_samples_do_not_move_the_ranking_of_their_split():
    cohort = small_cohort()
    x = centred(cohort)
    splits = make_splits(cohort, 4, 1, seed=1, device="cpu")
    before = rank_features(x, splits)
    for split in range(1, len(splits.inside)):
        poisoned = x.clone()
        poisoned[splits.inside[split] == 0] = (
            torch.randn(
                int((splits.inside[split] == 0).sum()),
                x.shape[1],
                generator=torch.Generator().manual_seed(split),
            )
            * 100
        )
        after = rank_features(poisoned, splits)
        assert torch.equal(after.order[split], before.order[split])
        assert torch.equal(after.evidence[split], before.evidence[split])


def test_make_splits__every_sample_is_judged_by_a_split_without_its_patient():
    cohort = small_cohort(n_samples=24, samples_per_patient=2)
    splits = make_splits(cohort, 3, 2, seed=5, device="cpu")
    # The "logit" of a sample in a split is whether the split holds its patient.
    holds = (splits.inside @ splits.onehot.new_tensor(cohort.patient_ids[:, None] == cohort.patient_ids)) > 0
    picked = splits.out_of_fold(holds.double()[:, None, :, None])
    assert picked.shape == (1, 48, 1)
    assert picked.sum() == 0


# --- heads ---


@pytest.mark.parametrize("size", [5, 40], ids=["fewer features than samples", "more features than samples"])
@pytest.mark.parametrize("power", [0.0, 2.0])
def test_train_heads__weights_are_those_of_scikit_learn(size, power):
    cohort = small_cohort(n_features=40)
    x = centred(cohort)
    splits = make_splits(cohort, 3, 1, seed=0, device="cpu")
    ranked = rank_features(x, splits)
    scores, variances, lift = principal_coordinates(x, ranked, size, power, splits)
    penalties = torch.tensor([1e-2, 1e-1], dtype=torch.float64)
    weights, intercepts = train_heads(scores, variances, splits, penalties, steps=3000)

    columns = ranked.order[0, :size]
    gate = ranked.evidence[0, columns].double() ** (power / 2)
    gated = ((x[:, columns] - ranked.mean[0, columns]).double() * gate).numpy()
    scale = np.sqrt((gated**2).sum() / len(gated))  # to unit trace
    for number, penalty in enumerate(penalties):
        reference = LogisticRegression(C=1 / (len(x) * float(penalty)), tol=1e-10, max_iter=5000)
        reference.fit(gated / scale, cohort.labels)
        expected = reference.predict_log_proba(gated / scale)
        logits = scores[0] @ weights[0, number] + intercepts[0, number]  # float32
        # The reference stops at its own tolerance of the gradient.
        np.testing.assert_allclose(torch.log_softmax(logits, 1), expected, atol=1e-4)
        lifted = (x[:, columns] - ranked.mean[0, columns]).double() @ lift(x, weights[0, number])
        np.testing.assert_allclose(lifted, scores[0] @ weights[0, number], atol=1e-5)


def test_train_heads__default_steps_are_enough_for_the_log_loss():
    cohort = small_cohort(n_features=200)
    splits = make_splits(cohort, 3, 1, seed=0, device="cpu")
    x = centred(cohort)
    scores, variances, _ = principal_coordinates(x, rank_features(x, splits), 200, 0.0, splits)
    config = sparse_markers.Config()
    penalties = torch.tensor(config.penalties[1:], dtype=torch.float64)

    def objective(steps):
        weights, intercepts = train_heads(scores, variances, splits, penalties, steps)
        logits = torch.log_softmax(scores[0] @ weights[0] + intercepts[0][:, None], -1)
        loss = -(logits * splits.onehot).sum(-1).mean(-1)
        return (loss + penalties / 2 * (weights[0] ** 2).sum((1, 2))).numpy()

    np.testing.assert_allclose(objective(config.head_steps), objective(5000), atol=2e-3)


def test_gate_designs__large_cohorts_keep_no_more_features_than_the_limit():
    kept, powers = sparse_markers.Config.kept, sparse_markers.Config.evidence_powers
    small = gate_designs(most_kept(11, 100), 10_000, kept, powers)
    large = gate_designs(most_kept(6, LARGE_COHORT + 1), 10_000, kept, powers)
    assert max(size for size, _ in small) == 10_000
    assert max(size for size, _ in large) == LARGE_COHORT
    assert gate_designs(most_kept(11, 100), 1, kept, powers) == [(1, 0.0), (1, 1.0), (1, 2.0)]


def test_most_kept__float32_values_of_all_splits_stay_within_half_a_gibibyte():
    for n_samples in (10_000, 100_000, 1_000_000):
        assert 4 * 6 * n_samples * most_kept(6, n_samples) <= 2**29
        assert 4 * 6 * n_samples * most_attended(6, n_samples, (8, 1024)) <= 2**29
    assert most_kept(6, 10**9) == most_attended(6, 10**9, (8, 1024)) == 1
    assert most_attended(11, 500, (8, 1024)) == 1024


# --- attention gates ---


def test_attention_gates__uniform_gates_choose_the_nearest_prototype():
    rng = np.random.default_rng(0)
    prototypes = torch.from_numpy(rng.standard_normal((1, 3, 6)))
    alive = torch.tensor([[True, True, False, True, True, False]])
    z = torch.from_numpy(rng.standard_normal((1, 20, 6)))
    model = AttentionGates(prototypes, alive, 1)
    gates = model.gates().detach()
    np.testing.assert_allclose(gates[0, 0], [0.25, 0.25, 0, 0.25, 0.25, 0])
    assert torch.equal(gates, model.uniform())
    assert float(model.divergence(gates)) == pytest.approx(0.0, abs=1e-12)
    scores = model(z, gates).numpy()[0, 0].T
    kept = alive[0].numpy()
    distance = ((z[0].numpy()[:, None, kept] - prototypes[0].numpy()[None, :, kept]) ** 2).mean(-1)
    own = (z[0].numpy()[:, kept] ** 2).mean(-1, keepdims=True)
    np.testing.assert_allclose(scores, (own - distance) / 2, atol=1e-12)


def test_left_out_means__leave_out_the_whole_patient():
    cohort = small_cohort(n_samples=24, n_features=5, samples_per_patient=2)
    splits = make_splits(cohort, 3, 1, seed=0, device="cpu")
    z = centred(cohort).double().expand(len(splits.inside), -1, -1)
    mean, left = left_out_means(z, splits)
    for split, inside in enumerate(splits.inside.numpy().astype(bool)):
        for i in range(len(cohort)):
            others = inside & (cohort.labels == cohort.labels[i])
            others &= cohort.patient_ids != cohort.patient_ids[i]
            assert left[split, i] == others.sum()
            np.testing.assert_allclose(mean[split, i], z[split].numpy()[others].mean(0), atol=1e-12)


def test_standardise__statistics_are_those_of_the_samples_of_each_split():
    cohort = small_cohort()
    x = centred(cohort)
    splits = make_splits(cohort, 4, 1, seed=1, device="cpu")
    ranked = rank_features(x, splits)
    found = standardise(x, ranked.order[:, :7], ranked.common, splits)
    assert bool((found.evidence.diff(dim=1) <= 0).all())
    for split, inside in enumerate(splits.inside.numpy().astype(bool)):
        assert set(found.columns[split].tolist()) == set(ranked.order[split, :7].tolist())
        values = x[:, found.columns[split]].double().numpy()
        mean, spread = values[inside].mean(0), found.spread[split].numpy()
        np.testing.assert_allclose(found.z[split], (values - mean) / spread, atol=1e-5)  # float32
        for code in range(3):
            own = inside & (cohort.labels == code)
            error = np.sqrt(1 / own.sum() - 1 / inside.sum())
            expected = (values[own].mean(0) - mean) / spread / error
            np.testing.assert_allclose(found.t[split, code], expected, atol=1e-9)


def test_own_terms__are_scores_by_prototypes_that_neither_sample_nor_patient_built():
    cohort = small_cohort(n_samples=24, n_features=5, samples_per_patient=2)
    splits = make_splits(cohort, 3, 1, seed=0, device="cpu")
    z = centred(cohort).double().expand(len(splits.inside), -1, -1)
    threshold = torch.linspace(0.2, 0.8, len(z), dtype=torch.float64)
    found = own_terms(z, threshold, splits, slice(4, 20))
    for split, inside in enumerate(splits.inside.numpy().astype(bool)):
        values = z[split].numpy()
        for row in range(4, 20):
            others = inside & (cohort.labels == cohort.labels[row])
            others &= cohort.patient_ids != cohort.patient_ids[row]
            error = np.sqrt(1 / others.sum() - 1 / inside.sum())
            t = values[others].mean(0) / error
            prototype = np.sign(t) * np.maximum(np.abs(t) - float(threshold[split]), 0) * error
            expected = values[row] * prototype - prototype**2 / 2
            np.testing.assert_allclose(found[split, row - 4], expected, atol=1e-12)


def test_attention_members__refined_gates_predict_better_than_the_closed_form():
    cohort = sparse_cohort(240, STRENGTH, seed=4)
    x = centred(cohort)
    splits = make_splits(cohort, 5, 1, seed=0, device="cpu")
    members = list(attention_members(x, rank_features(x, splits), splits, uniformity=(0.1,), **GATES))
    refined, closed = (log_loss(softmax(member.oof), cohort.labels) for member in members[:2])
    assert [member.kind for member in members[:2]] == ["attention gate", "prototypes"]
    assert refined < closed - 0.01


def test_attention_members__strong_penalty_keeps_the_gates_uniform():
    cohort = sparse_cohort(60, STRENGTH, seed=2)
    x = centred(cohort)
    splits = make_splits(cohort, 3, 1, seed=0, device="cpu")
    ranked = rank_features(x, splits)

    def weights_of(uniformity):
        members = list(attention_members(x, ranked, splits, uniformity=(uniformity,), **GATES))
        refined, closed = (member.linear(x)[1].norm(dim=1) for member in members[2:])
        return refined / closed

    # The gates end within the last, small steps of the schedule around 1 / 64 each.
    assert float((weights_of(1e4) - 1).abs().max()) < 0.05
    assert float(weights_of(0.01).max()) > 1.5


# --- the hypothesis ---


def test_fit__few_informative_features_beat_ridge_on_held_out_samples(sparse_fit):
    test = sparse_cohort(400, STRENGTH, seed=10)
    ridge = l2_logistic.fit(
        l2_logistic.Config(), sparse_cohort(120, STRENGTH, seed=1), None, seed=3, device="cpu"
    )
    sparse, dense = (model.predict_proba(test.without_labels()) for model in (sparse_fit, ridge))
    hits = (sparse.argmax(1) == test.labels) & (dense.argmax(1) != test.labels)
    misses = (sparse.argmax(1) != test.labels) & (dense.argmax(1) == test.labels)
    # McNemar's exact test: as many wins by luck once in ten thousand.
    assert binom.sf(hits.sum() - 1, hits.sum() + misses.sum(), 0.5) < 1e-4
    assert log_loss(sparse, test.labels) < log_loss(dense, test.labels)


def test_fit__findings_name_the_planted_markers(sparse_fit):
    planted = {f"e:e_{j}" for j in informative_features(N_FEATURES, N_INFORMATIVE)}
    leading = {marker["feature"] for marker in sparse_fit.findings["markers"][:N_INFORMATIVE]}
    assert len(planted & leading) >= N_INFORMATIVE - 2
    assert N_INFORMATIVE <= len(sparse_fit.findings["markers"]) <= sparse_markers.N_LISTED
    shares = [marker["weight"] for marker in sparse_fit.findings["markers"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1 + 1e-9


def test_fit__findings_say_which_class_a_marker_is_high_in(sparse_fit):
    # Informative features take turns: the first is raised in class 0, the next in class 1.
    classes = ("healthy", "cancer")
    expected = {
        f"e:e_{j}": classes[turn % 2]
        for turn, j in enumerate(informative_features(N_FEATURES, N_INFORMATIVE))
    }
    for marker in sparse_fit.findings["markers"]:
        assert marker["high_in"] == expected.get(marker["feature"], marker["high_in"])


def test_fit__findings_show_the_claim_standing_where_few_features_decide(sparse_fit):
    losses = sparse_fit.findings["log_loss_by_features"]
    best = min(losses, key=losses.get)
    assert int(best) <= 40
    assert losses[best] < losses[str(N_FEATURES)] - 0.1
    assert json.loads(json.dumps(sparse_fit.findings)) == sparse_fit.findings
    assert sum(member["share"] for member in sparse_fit.findings["members"]) == pytest.approx(1)


def test_fit__without_signal_is_at_chance_and_knows_it():
    test = sparse_cohort(400, 0.0, seed=11, n_features=500)
    probabilities = fit(sparse_cohort(80, 0.0, seed=4, n_features=500)).predict_proba(test.without_labels())
    hits = int((probabilities.argmax(1) == test.labels).sum())
    low, high = binom.interval(1 - 1e-6, len(test), 0.5)
    assert low <= hits <= high
    # A coin's log loss is ln 2; what was chosen from noise may cost a little.
    assert log_loss(probabilities, test.labels) < np.log(2) + 0.1


def test_fit__half_precision_of_the_surroundings_does_not_reach_the_members():
    train = small_cohort()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = fit(train)
    expected = fit(train).predict_proba(train.without_labels())
    np.testing.assert_array_equal(mixed.predict_proba(train.without_labels()), expected)


def test_fit__another_seed_deals_other_folds():
    cohort = small_cohort(n_features=30)
    first = make_splits(cohort, 5, 1, seed=0, device="cpu")
    second = make_splits(cohort, 5, 1, seed=1, device="cpu")
    assert not torch.equal(first.inside, second.inside)


def test_load__findings_come_back(tmp_path):
    model = fit(small_cohort())
    model.save(tmp_path)
    assert sparse_markers.load(tmp_path).findings == model.findings


def test_fit__block_without_features_is_refused():
    with pytest.raises(NotApplicable, match="at least one feature"):
        fit(toy_cohort([0, 1, 0, 1], {"e": np.empty((4, 0))}, classes="ab"))
