"""Set attention: against a loop over samples, on a signal that no count can see, and silent where there is none."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, softmax
from sklearn.metrics import roc_auc_score

from cohorts import toy_cohort
from mutation_sets import CELLS, set_cohort
from oncoarena import data_parallel
from oncoarena.assays.mutation_tokens import CHANGES, FIELDS, MOTIFS
from oncoarena.cohort import feature_table
from oncoarena.errors import NotApplicable
from oncoarena.fitting import torch_sets
from oncoarena.fitting.gated_selection import select_gated
from oncoarena.fitting.selection import greedy_selection, log_loss
from oncoarena.fitting.token_rows import MIN_SAMPLES, draw_mutations, token_rows
from oncoarena.fitting.torch_evidence import make_splits
from oncoarena.hypotheses import sparse_markers
from test_hypotheses_explained import assert_alone_as_in_batch

# Half the usual members and steps: what is tested here is the set beside them.
CONFIG = sparse_markers.Config(
    views=("zscore",),
    n_repeats=1,
    kept=(0.01, 0.1, 1.0),
    survivors=(8, 64),
    head_steps=60,
    gate_steps=15,
    set_steps=(60, 120),
)
BINS = feature_table(
    [f"b{number}" for number in range(30)],
    ["chr1"] * 20 + ["chr2"] * 10,
    [number * 1_000_000 for number in [*range(20), *range(10)]],
    [(number + 1) * 1_000_000 for number in [*range(20), *range(10)]],
)


def random_tokens(n_samples, n_slots, seed, n_genes=3):
    """Slots of samples of very different numbers of mutations, the first of none."""
    rng = np.random.default_rng(seed)
    slots = np.stack(
        [
            rng.integers(0, len(MOTIFS), (n_samples, n_slots)),
            rng.integers(0, len(BINS), (n_samples, n_slots)),
            rng.integers(0, n_genes + 1, (n_samples, n_slots)) * 1000,
            np.where(rng.random((n_samples, n_slots)) < 0.2, np.nan, rng.random((n_samples, n_slots))),
        ],
        axis=2,
    ).astype(np.float32)
    n_filled = rng.integers(0, n_slots + 1, n_samples)
    n_filled[0] = 0
    slots[np.arange(n_slots) >= n_filled[:, None]] = np.nan
    return slots.reshape(n_samples, -1)


def small_reader(tokens, n_copies=2, n_classes=3, width=4, seed=0):
    rows = token_rows(tokens, BINS)
    model = torch_sets.SetAttention(rows.n_rows, n_copies, n_classes, width)
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: torch.randn(value.shape, generator=generator) for name, value in model.state_dict().items()
    }
    return torch_sets.reader(rows, state)


def with_sets(tokens, labels=None):
    labels = np.arange(len(tokens)) % 2 if labels is None else labels
    blocks = {"mutation_tokens": tokens, "mutation_bins": np.ones((len(tokens), len(BINS)))}
    return toy_cohort(labels, blocks, classes="ab")


def loop_over_samples(reader, tokens):
    """Logits of one sample after the other, written as the papers have them."""
    rows, state = reader.rows, {name: v.double().numpy() for name, v in reader.model.state_dict().items()}
    n_copies, width, n_classes = state["head"].shape
    logits = np.zeros((len(tokens), n_classes))
    for number, sample in enumerate(tokens.reshape(len(tokens), -1, len(FIELDS)).astype(float)):
        for copy in range(n_copies):
            table = state["table"][:, copy * width : (copy + 1) * width]
            hidden = []
            for motif, place, gene, share in sample[~np.isnan(sample[:, 0])]:
                name = MOTIFS[int(motif)]
                kinds = [*CHANGES, "ns", "el"]  # Ins, insertion; Del, deletion
                kind = next((k for k, word in enumerate(kinds) if word in name), 8)
                chrom = int(place) >= 20
                window = int(place) // 10 if not chrom else 2
                levels = [1 + kind, 10 + motif, 198 + chrom, 200 + window, 203 + place]
                levels += [233 + list(rows.genes).index(gene)] if gene > 0 else []
                summed = sum(table[int(level)] for level in levels)
                summed = summed + (0 if np.isnan(share) else 2 * share - 1) * table[-1] + state["shift"][copy]
                hidden.append(summed * (1 + erf(summed / np.sqrt(2))) / 2)
            logits[number] += state["intercept"][copy]
            if hidden:
                hidden = np.array(hidden)
                signal, gate = np.split(hidden @ state["gate"][copy], 2, axis=1)
                scores = (np.tanh(signal) / (1 + np.exp(-gate))) @ state["attention"][copy]
                logits[number] += softmax(scores) @ hidden @ state["head"][copy] - state["centre"][copy]
    return logits


def test_logits__are_those_of_a_loop_over_samples_of_any_number_of_mutations():
    tokens = random_tokens(12, 9, seed=1)
    reader = small_reader(tokens)
    # float32 against float64
    np.testing.assert_allclose(reader.logits(with_sets(tokens)), loop_over_samples(reader, tokens), atol=2e-5)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), n_slots=st.integers(1, 12))
def test_logits__do_not_depend_on_the_order_of_mutations_or_on_other_samples(seed, n_slots):
    tokens = random_tokens(4, n_slots, seed)
    reader = small_reader(tokens)
    expected = reader.logits(with_sets(tokens))
    slots = tokens.reshape(4, n_slots, -1).copy()
    rng = np.random.default_rng(seed)
    for sample in slots:
        filled = ~np.isnan(sample[:, 0])
        sample[filled] = rng.permutation(sample[filled])
    np.testing.assert_allclose(reader.logits(with_sets(slots.reshape(4, -1))), expected, atol=2e-5)
    alone = np.concatenate([reader.logits(with_sets(tokens[row : row + 1], [0])) for row in range(4)])
    np.testing.assert_allclose(alone, expected, atol=2e-5)


def test_by_bin__contributions_of_mutations_sum_to_the_logits():
    tokens = random_tokens(10, 8, seed=2)
    reader = small_reader(tokens)
    over_classes = np.array([0.6, -0.3, -0.3])
    booked = reader.by_bin(tokens, over_classes, len(BINS))
    intercept = reader.model.intercept.double().sum(0).numpy() @ over_classes
    logits = reader.logits(with_sets(tokens)) @ over_classes
    np.testing.assert_allclose(booked.sum(axis=1) + intercept, logits, atol=2e-5)
    slots = tokens.reshape(10, 8, -1)
    for row, sample in enumerate(slots):
        assert set(np.flatnonzero(booked[row])) <= set(sample[~np.isnan(sample[:, 1]), 1].astype(int))
    names, over_mean = reader.by_motif_and_bin(tokens, BINS)
    assert len(set(names)) == len(names)
    np.testing.assert_allclose(
        (over_mean @ over_classes).sum(), booked.sum() / len(tokens), atol=2e-5
    )  # classes' weights sum to 0


def test_token_rows__genes_of_few_samples_share_a_row_and_unseen_ones_too():
    slots = np.full((6, 2, len(FIELDS)), np.nan, np.float32)
    slots[:, 0] = [0, 0, 77, 0.5]
    slots[: MIN_SAMPLES - 1, 1] = [1, 1, 55, 0.5]
    rows = token_rows(slots.reshape(6, -1), BINS)
    assert rows.genes.tolist() == [77]
    new = np.array([[0, 0, 77, 0.5, 0, 0, 55, 0.5, 0, 0, 99, 0.5, 0, 0, 0, 0.5]], np.float32)
    ids, weights, _ = rows.encode(new)
    of_gene = ids[0, :, -2]
    assert of_gene[0] != of_gene[1] == of_gene[2] != of_gene[3] == 0
    assert weights[0, 3, -2] == 0


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), share=st.floats(0.1, 1.0), n_most=st.integers(1, 20))
def test_draw_mutations__gives_a_share_of_each_sample_without_repeats(seed, share, n_most):
    tokens = random_tokens(5, 12, seed)
    drawn = draw_mutations(tokens, share, n_most, np.random.default_rng(seed)).reshape(5, -1, len(FIELDS))
    for sample, some in zip(tokens.reshape(5, 12, -1), drawn, strict=True):
        filled, kept = ~np.isnan(sample[:, 0]), ~np.isnan(some[:, 0])
        assert kept.sum() == min(np.ceil(share * filled.sum()), n_most)
        assert (np.diff(kept.astype(int)) <= 0).all(), "empty slots are last"
        before = [row.tobytes() for row in sample[filled]]
        assert all(before.count(row.tobytes()) for row in some[kept])


# --- the claim ---


@pytest.fixture(scope="module")
def planted():
    return set_cohort(100, seed=1), set_cohort(60, seed=2)


@pytest.fixture(scope="module")
def fitted(planted):
    return sparse_markers.fit(CONFIG, planted[0], None, seed=5, device="cpu")


def without_sets(cohort):
    return replace(cohort, blocks={name: b for name, b in cohort.blocks.items() if name != "mutation_tokens"})


def auroc(predictor, cohort):
    return roc_auc_score(cohort.labels, predictor.predict_proba(cohort.without_labels())[:, 1])


def test_fit__finds_the_classes_at_their_places_which_no_count_can_see(planted, fitted):
    train, test = planted
    assert auroc(fitted, test) > 0.95
    assert {member["kind"] for member in fitted.findings["members"]} == {"set attention"}
    leading = {marker["feature"] for marker in fitted.findings["mutations"][:4]}
    assert len(leading & CELLS) >= 2
    assert fitted.findings["set_attention"]["gain"] > fitted.findings["set_attention"]["gain_error"]
    counts = sparse_markers.fit(CONFIG, without_sets(train), None, seed=5, device="cpu")
    # Of a ranking by chance the AUROC has a standard deviation of 0.075 here.
    assert auroc(counts, without_sets(test)) < 0.8
    assert log_loss(counts.predict_proba(test), test.labels) > 0.6


def test_attribute__is_exact_and_leads_to_the_places(planted, fitted):
    _, test = planted
    found = fitted.attribute(test, 1)
    total = sum(values.sum(axis=1, dtype=np.float64) for values in found.contributions.values())
    np.testing.assert_allclose(found.score - found.baseline, total, atol=1e-4)
    raw = np.log(fitted.predict_raw(test))
    np.testing.assert_allclose(found.score, raw[:, 1] - raw.mean(axis=1), atol=1e-4)
    size = np.abs(found.contributions["mutation_bins"]).mean(axis=0)
    strongest = test.blocks["mutation_bins"].features["id"].to_numpy()[np.argsort(-size)[:2]]
    assert set(strongest) <= {name.split(" at ")[1] for name in CELLS}
    assert "mutation_tokens" not in found.contributions
    alone = fitted.attribute(test.take(np.array([7])), 1)
    for name, values in found.contributions.items():
        assert_alone_as_in_batch("alone as in batch", alone.contributions[name], values[7:8])


def test_save__set_attention_is_a_state_dict_that_predicts_the_same(planted, fitted, tmp_path):
    fitted.save(tmp_path)
    state = torch.load(tmp_path / "mutations.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    again = sparse_markers.load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(planted[1]), fitted.predict_proba(planted[1]))


def test_predict__sample_without_a_mutation_lies_at_the_training_mean(planted, fitted):
    test = planted[1].take(np.arange(3))
    block = test.blocks["mutation_tokens"]
    empty = replace(block, values=np.full_like(block.values, np.nan))
    bare = replace(test, blocks=dict(test.blocks) | {"mutation_tokens": empty})
    intercept = fitted.mutations.model.intercept.double().sum(0).numpy()
    np.testing.assert_allclose(fitted.mutations.logits(bare), np.tile(intercept, (3, 1)), atol=1e-6)
    # Predictions of a training set of two equal classes are even on average, and so is that of nothing.
    assert np.abs(intercept - intercept.mean()).max() < 2.0
    with pytest.raises(NotApplicable, match="mutation_tokens"):
        fitted.predict_proba(without_sets(test))


def test_fit__set_attention_stays_out_where_labels_mean_nothing():
    train = set_cohort(60, seed=3, n_mutations=60, n_planted=0)
    fitted = sparse_markers.fit(CONFIG, train, None, seed=5, device="cpu")
    assert fitted.mutations is None
    assert "mutations" not in fitted.findings
    assert not any(member["kind"] == "set attention" for member in fitted.findings["members"])


def test_fit__mutations_without_their_bins_are_refused():
    tokens = random_tokens(12, 4, seed=5)
    cohort = toy_cohort(np.arange(12) % 2, {"mutation_tokens": tokens, "e": np.ones((12, 2))}, classes="ab")
    with pytest.raises(NotApplicable, match="mutation_bins"):
        sparse_markers.fit(CONFIG, cohort, None, seed=5, device="cpu")


def test_set_members__same_seed_same_bytes_and_another_seed_other_ones():
    tokens = random_tokens(40, 10, seed=6)
    splits = make_splits(with_sets(tokens), 5, 2, seed=0, device="cpu")
    options = {"width": 4, "steps": (3, 6), "rate": 0.02, "decay": 1.0}

    def train(seed):
        rows = token_rows(tokens, BINS)
        return list(torch_sets.set_members(tokens, rows, splits, **options, seed=seed))

    first, second, other = train(1), train(1), train(2)
    assert len(first) == 2
    for one, two in zip(first, second, strict=True):
        assert one.oof.shape == (80, 2)
        np.testing.assert_array_equal(one.oof, two.oof)
        assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)
    assert not np.array_equal(first[0].oof, other[0].oof)


def train_as(rank, n_processes, folder, results):
    """Train as one of several processes, each with the same data and seed."""
    torch.set_num_threads(1)
    data_parallel.join(rank, n_processes, "cpu", Path(folder))
    results.put((rank, [member.oof for member in small_members()]))
    data_parallel.leave()


def small_members():
    tokens = random_tokens(50, 10, seed=8)
    splits = make_splits(with_sets(tokens), 5, 1, seed=0, device="cpu")
    options = {"width": 4, "steps": (5, 20), "rate": 0.02, "decay": 1.0, "seed": 1}
    return list(torch_sets.set_members(tokens, token_rows(tokens, BINS), splits, **options))


def test_set_members__two_processes_train_what_one_does(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=train_as, args=(rank, 2, str(tmp_path), results)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    for alone, first, second in zip(small_members(), found[0], found[1], strict=True):
        np.testing.assert_array_equal(first, second)
        # float32: the gradient is summed in two parts
        np.testing.assert_allclose(first, alone.oof, atol=1e-5)


def test_set_members__mixed_precision_keeps_float32_weights_and_says_nearly_the_same():
    plain = small_members()[-1]
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        mixed = small_members()[-1]
    assert {value.dtype for value in mixed.state.values()} == {torch.float32}
    assert 0 < np.abs(mixed.oof - plain.oof).max() < 0.02 * np.abs(plain.oof).max()


def test_set_members__out_of_fold_logits_do_not_depend_on_the_sample_itself():
    tokens = random_tokens(30, 6, seed=7)
    cohort = with_sets(tokens)
    splits = make_splits(cohort, 5, 1, seed=0, device="cpu")
    options = {"width": 4, "steps": (5,), "rate": 0.02, "decay": 1.0, "seed": 3}
    (before,) = torch_sets.set_members(tokens, token_rows(tokens, BINS), splits, **options)
    held = splits.folds[0] == 0
    # Other labels of the samples of a fold change nothing for these: no copy that judges them has seen them.
    labels = torch.where(torch.from_numpy(held), 1 - splits.labels, splits.labels)
    onehot = torch.nn.functional.one_hot(labels, 2).double()
    (after,) = torch_sets.set_members(
        tokens, token_rows(tokens, BINS), replace(splits, labels=labels, onehot=onehot), **options
    )
    np.testing.assert_allclose(after.oof[held], before.oof[held], atol=1e-6)
    assert np.abs(after.oof[~held] - before.oof[~held]).max() > 1e-3


# --- members that have to earn their place ---


def test_select_gated__offers_a_gated_member_only_for_a_gain_beyond_its_error():
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(80) % 2, 2)
    patients = np.tile(np.arange(80).astype(str), 2)
    truth = 2.0 * np.eye(2)[labels] - 1.0
    plain = 0.5 * truth + rng.standard_normal((160, 2))
    useless, useful = rng.standard_normal((160, 2)), 1.5 * truth + rng.standard_normal((160, 2))
    gated = np.array([False, True])
    out = select_gated(np.stack([plain, useless]), labels, patients, gated, 6)
    assert out.shares.tolist() == [1.0, 0.0]
    assert out.gain <= out.gain_error
    taken = select_gated(np.stack([plain, useful]), labels, patients, gated, 6)
    assert taken.shares[1] > 0.5
    assert taken.gain > taken.gain_error > 0


def test_select_gated__without_gated_members_is_greedy_selection():
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 3
    oof = np.eye(3)[labels] * rng.random((5, 60, 1)) + rng.standard_normal((5, 60, 3))
    found = select_gated(oof, labels, np.arange(60).astype(str), np.zeros(5, bool), 8)
    np.testing.assert_array_equal(found.shares, greedy_selection(oof, labels, 8))
    assert (found.gain, found.gain_error) == (0.0, 0.0)
