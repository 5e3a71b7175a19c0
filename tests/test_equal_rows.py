"""Equal rows of two patients in one block are a finding (CHK002), but not those that patients share by nature."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from finished_studies import make_blocks, make_study
from oncoarena.referee.equal_rows import tells_patients_apart
from test_block_checks import judge, other_fold, outcome


@pytest.fixture(scope="module")
def sound():
    return make_study({"one": 2.0}, n_patients=90)


def digests_of(blocks, samples):
    """The digest of each sample's row in each block."""
    return pd.concat(
        pd.DataFrame(
            {
                "sample_id": samples["sample_id"],
                "block": name,
                "digest": [hashlib.sha256(row.tobytes()).hexdigest() for row in block.values],
            }
        )
        for name, block in blocks.items()
    )


def two_assays(study, mutations):
    """Blocks of expression, which no two samples share, and of mutations."""
    mutated = make_blocks(study[1], values=np.asarray(mutations, dtype=np.float32))["expression"]
    return {**make_blocks(study[1], 60), "mutations": mutated}


def lone_mutations(n_samples, n_mutated, n_genes=400):
    """Every sample has its own genes mutated, no two of them neighbours: (n_samples, n_genes) of 0 and 1."""
    rng = np.random.default_rng(0)
    table = np.zeros((n_samples, n_genes))
    for row in table:
        row[2 * rng.choice(n_genes // 2, n_mutated, replace=False)] = 1
    return table


def test_chk002__fires_on_one_file_of_one_assay_used_for_two_patients(sound):
    mutations = lone_mutations(90, 30)
    twin = other_fold(sound)
    mutations[twin] = mutations[0]
    blocks = two_assays(sound, mutations)
    found, detail = outcome(judge(sound, digests=digests_of(blocks, sound[1]), blocks=blocks), "CHK002")
    assert found == "finding"
    assert (
        f"1 pairs of samples have equal features across a split: s00000 = s{twin:05d} (mutations)" in detail
    )


def test_chk002__names_every_block_that_two_samples_share(sound):
    twin = other_fold(sound)
    blocks = two_assays(sound, lone_mutations(90, 30))
    blocks = {
        name: block.take(np.where(np.arange(90) == twin, 0, np.arange(90))) for name, block in blocks.items()
    }
    detail = outcome(judge(sound, digests=digests_of(blocks, sound[1]), blocks=blocks), "CHK002")[1]
    assert f"s00000 = s{twin:05d} (expression, mutations)" in detail


@pytest.mark.parametrize("n_mutated", [0, 3, 9])
def test_chk002__is_silent_on_rows_that_patients_share_by_nature(sound, n_mutated):
    blocks = two_assays(sound, np.repeat(lone_mutations(1, n_mutated), 90, axis=0))
    found, detail = outcome(judge(sound, digests=digests_of(blocks, sound[1]), blocks=blocks), "CHK002")
    assert found == "pass"
    assert (
        "No two of 90 samples in 2 blocks (90 share rows too bare to tell patients apart) are equal" in detail
    )


def test_chk002__is_silent_on_equal_rows_of_one_patient():
    study = make_study({"one": 2.0}, n_patients=45, samples_each=2)
    # Split by sample, so that the patient is on both sides: that is what CHK001 says.
    splits = study[2].assign(
        role=np.where(study[2]["sample_id"].str[-1].astype(int) % 2 == 0, "test", "train")
    )
    splits = splits[splits["fold"] == 0]
    predictions = splits[splits["role"] == "test"][["repeat", "fold", "sample_id"]].assign(
        p_a=0.2, p_b=0.3, p_c=0.5
    )
    predictions.insert(0, "hypothesis", "one")
    blocks = two_assays(study, np.repeat(lone_mutations(45, 30), 2, axis=0))
    checks = judge(
        (predictions, study[1], splits, *study[3:]), digests=digests_of(blocks, study[1]), blocks=blocks
    )
    assert outcome(checks, "CHK001")[0] == "finding"
    assert "equal features" not in outcome(checks, "CHK002")[1]


FLAT = np.repeat([0.0, 1.0, 0.0], 300)


@pytest.mark.parametrize(
    ("row", "is_set", "telling"),
    [
        (np.zeros(500), False, False),
        (np.full(500, np.nan), False, False),
        (np.empty(0), False, False),
        (FLAT, False, False),
        (np.where(np.arange(900) % 20 == 7, np.nan, FLAT), False, False),
        (lone_mutations(1, 9)[0], False, False),
        (lone_mutations(1, 10)[0], False, True),
        (np.arange(8) / 7, False, True),
        (np.arange(7) / 7, False, False),
        (np.r_[np.arange(12.0), np.full(400, np.nan)], True, False),
        (np.r_[np.arange(24.0), np.full(400, np.nan)], True, True),
    ],
)
def test_tells_patients_apart__wants_more_than_gaps_zeros_and_a_few_events(row, is_set, telling):
    assert tells_patients_apart(row, is_set) == telling
