"""Mutations one by one: what is in the slots, which are kept, and that nobody takes them for features."""

import io
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import pytest

from mutation_sets import background
from oncoarena import store
from oncoarena.assays import variants
from oncoarena.assays.mutation_tokens import FIELDS, MOTIFS, gene_code
from oncoarena.errors import InputError
from oncoarena.extraction import extract_shard
from oncoarena.freezing import freeze_blocks
from oncoarena.genomes import bins, genome
from oncoarena.runs import run_part, write_splits
from oncoarena.simulation import mutations
from oncoarena.simulation.landscape import landscape
from oncoarena.specs import TrainingSpec, read_literals
from oncoarena.splits import SplitPlan, make_splits
from oncoarena.study import AssayPlan
from test_simulated_multiomic import pyrimidine_class
from test_study import read as read_config
from variant_files import SIZES, random_mutations, vcf_text, write_genome

PLACES = {
    (row.chrom, row.start // 1_000_000): number
    for number, row in enumerate(bins(genome("hg38"), 1_000_000, "all").itertuples())
}


def read(text, options, sample_id="s"):
    return variants.read_object(io.BytesIO(text.encode()), "s.vcf", options, sample_id=sample_id)


def tokens(block):
    """Filled slots (n, n_fields) of one sample; they come first."""
    slots = block.values.reshape(-1, len(FIELDS))
    n = int((~np.isnan(slots[:, 0])).sum())
    assert np.isnan(slots[n:]).all()
    return slots[:n]


def in_order(rows):
    rows = np.asarray(rows, np.float32)
    return rows[np.lexsort(rows.T)]


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(1)
    profile = np.zeros(mutations.N_LATENT)
    profile[7 : 7 + mutations.N_DRIVERS] = 3.0
    return mutations.draw_mutations(rng, landscape(), background(), profile, 400)


def maf_of(table, sample_id="s"):
    columns = mutations.maf_table(sample_id, table).to_pydict()
    rows = zip(*([str(value) for value in column] for column in columns.values()), strict=True)
    return "\n".join("\t".join(row) for row in [tuple(columns), *rows]) + "\n"


def expected_tokens(table):
    """Class, bin, gene and share of the simulated mutations that passed, one row after the other."""
    rows = []
    for row in table[table["passed"]].itertuples():
        motif = "deletion" if row.alt == "-" else pyrimidine_class(row.context[4:7], row.ref, row.alt)
        altered = row.effect in ("Missense_Mutation", "Nonsense_Mutation", "Frame_Shift_Del") and row.gene
        rows.append(
            (
                MOTIFS.index(motif),
                PLACES[row.chrom, row.pos // 1_000_000],
                gene_code(row.gene) if altered else 0,
                row.n_alt / row.depth,
            )
        )
    return rows


def test_tokens__are_class_bin_gene_and_share_of_every_mutation(drawn):
    options = variants.Options(context="column", consequences="maf", tokens=1000)
    found = tokens(read(maf_of(drawn), options)["mutation_tokens"])
    expected = expected_tokens(drawn)
    assert sum(row[2] > 0 for row in expected) > 5
    # float32 of a share
    np.testing.assert_allclose(in_order(found), in_order(expected), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 1], np.sort(found[:, 1]), err_msg="in genome order")


def test_tokens__of_vcf_and_maf_are_the_same(drawn, tmp_path):
    path = tmp_path / "s.vcf.gz"
    mutations.write_vcf(path, landscape(), "s", drawn)
    of_vcf = variants.read_object(
        io.BytesIO(path.read_bytes()), "s", variants.Options(consequences="ann", tokens=1000), sample_id="s"
    )
    of_maf = read(maf_of(drawn), variants.Options(consequences="maf", tokens=1000))
    np.testing.assert_array_equal(of_vcf["mutation_tokens"].values, of_maf["mutation_tokens"].values)
    with pysam.VariantFile(str(path)) as file:
        n = sum(list(record.filter) == ["PASS"] for record in file)
    assert len(tokens(of_maf["mutation_tokens"])) == n


def test_tokens__add_up_to_the_counts_of_the_other_blocks(tmp_path):
    small = write_genome(tmp_path)
    text = vcf_text(random_mutations(small, 600, 3), ["s"])
    found = read(text, variants.Options(reference=str(small.path), tokens=2000))
    motif, place, gene, share = tokens(found["mutation_tokens"]).T
    substitutions = motif < 102
    np.testing.assert_array_equal(
        np.bincount(motif.astype(int), minlength=len(MOTIFS))[:96], found["mutation_spectrum"].values
    )
    np.testing.assert_array_equal(
        np.bincount(motif.astype(int), minlength=len(MOTIFS))[102:185], found["indel_spectrum"].values
    )
    np.testing.assert_array_equal(
        np.bincount(place[substitutions].astype(int), minlength=len(found["mutation_bins"].values)),
        found["mutation_bins"].values,
    )
    assert (gene == 0).all()
    assert set(share.tolist()) == {0.25}


def test_tokens__more_than_there_is_room_for_are_sampled_whatever_their_order():
    rng = np.random.default_rng(4)
    rows = [("chr5", int(pos), "A", "C") for pos in rng.choice(90_000_000, 300, replace=False) + 1]
    whole = tokens(read(vcf_text(rows, ["s"]), variants.Options(tokens=500))["mutation_tokens"])
    options = variants.Options(tokens=40)
    first = read(vcf_text(sorted(rows), ["s"]), options)["mutation_tokens"]
    shuffled = random.Random(1).sample(rows, len(rows))
    np.testing.assert_array_equal(
        first.values, read(vcf_text(shuffled, ["s"]), options)["mutation_tokens"].values
    )
    assert len(tokens(first)) == 40
    assert len(whole) == 300
    # An even sample: the mean of 40 uniform places is within 4 standard errors of the middle.
    assert abs(tokens(first)[:, 1].mean() - whole[:, 1].mean()) < 4 * whole[:, 1].std() / np.sqrt(40)
    # Fewer slots keep a part of what more slots keep.
    fewer = tokens(read(vcf_text(rows, ["s"]), variants.Options(tokens=10))["mutation_tokens"])
    assert {tuple(row) for row in fewer} <= {tuple(row) for row in tokens(first)}


def test_tokens__of_a_cohort_are_those_of_each_sample_alone(drawn):
    parts = [drawn.iloc[:150], drawn.iloc[100:]]
    text = maf_of(parts[0], "b") + "".join(maf_of(parts[1], "a").splitlines(keepends=True)[1:])
    options = variants.Options(context="column", consequences="maf", tokens=120)
    together = variants.read_matrix(io.BytesIO(text.encode()), "c", ["a", "b"], options)["mutation_tokens"]
    for row, (name, part) in enumerate(zip("ab", parts[::-1], strict=True)):
        alone = read(maf_of(part, name), options, name)["mutation_tokens"]
        np.testing.assert_array_equal(together.values[row], alone.values)
        # One object of several samples gives that of the one looked for.
        of_object = read(text, options, name)["mutation_tokens"]
        np.testing.assert_array_equal(together.values[row], of_object.values)


def test_tokens__insertion_behind_the_last_base_lies_in_the_last_bin():
    size = SIZES["chr1"]
    found = tokens(
        read(vcf_text([("chr1", size, "A", "AC")], ["s"]), variants.Options(tokens=3))["mutation_tokens"]
    )
    assert found[:, :3].tolist() == [[MOTIFS.index("insertion"), PLACES["chr1", size // 1_000_000], 0]]


def test_options__no_tokens_unless_asked_for_and_no_negative_number():
    assert "mutation_tokens" not in read(vcf_text([], ["s"]), variants.Options())
    with pytest.raises(InputError, match="tokens"):
        variants.Options(tokens=-1)


# --- a set is no block of features ---

SPY = """
from dataclasses import dataclass
import numpy as np

FRAMEWORK = "numpy"
BLOCKS = "all"
SETS = {sets}


@dataclass(frozen=True)
class Config:
    pass


class Predictor:
    def __init__(self, train):
        self.n, self.findings = len(train.classes), {{"saw": sorted(train.blocks)}}

    def predict_proba(self, cohort):
        assert sorted(cohort.blocks) == self.findings["saw"]
        return np.full((len(cohort), self.n), 1 / self.n)


def fit(config, train, validation, *, seed, device):
    return Predictor(train)
"""


@pytest.mark.parametrize(
    ("sets", "blocks", "expected"),
    [
        ((), None, ["burden", "mutation_bins"]),
        (("mutation_tokens",), None, ["burden", "mutation_bins", "mutation_tokens"]),
        (("mutation_tokens",), ("burden",), ["burden"]),
        (("absent",), None, ["burden", "mutation_bins"]),
    ],
)
def test_run_part__only_a_hypothesis_that_names_the_set_sees_it(drawn, tmp_path, sets, blocks, expected):
    names = [f"s{number}" for number in range(8)]
    path = tmp_path / "cohort.maf"
    texts = [maf_of(drawn.iloc[number : number + 20], name) for number, name in enumerate(names)]
    path.write_text(texts[0] + "".join("".join(t.splitlines(keepends=True)[1:]) for t in texts[1:]))
    samples = pd.DataFrame({"sample_id": names, "patient_id": names, "label": ["a", "b"] * 4})
    plan = AssayPlan("variants", variants.Options(tokens=30), matrix=str(path))
    extract_shard(plan, samples, str(tmp_path / "shard"))
    uri = str(tmp_path / "variants.json")
    receipt = freeze_blocks(plan, [str(tmp_path / "shard/receipt.json")], str(tmp_path / "blocks"), uri)
    assert list(receipt["sets"]) == ["mutation_tokens"]
    assert "mutation_tokens" not in receipt["blocks"]
    assert store.open_block(store.read_json(receipt["sets"]["mutation_tokens"])).spec.is_set

    write_splits(samples, make_splits(samples, SplitPlan("kfold", folds=2)), [], str(tmp_path / "splits"))
    spy = tmp_path / "spy.py"
    spy.write_text(SPY.format(sets=repr(sets)))
    assert read_literals(spy).sets == sets
    run = run_part(
        TrainingSpec("spy", str(spy), "numpy", blocks=blocks, sets=sets),
        splits_receipt=str(tmp_path / "splits/receipt.json"),
        assay_receipts=[uri],
        part=0,
        n_parts=1,
        study_seed=0,
        threads=1,
        gpu=0,
        uri=str(tmp_path / "run"),
    )
    assert all(split["findings"]["saw"] == expected for split in run["splits"])
    assert sorted([*run["blocks"], *run["sets"]]) == expected
    assert "mutation_tokens" not in run["blocks"]


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        ("l2_logistic", "hypothesis idea cannot read block 'mutation_tokens', a set of mutations"),
        ("sparse_markers", None),
    ],
)
def test_read_study__set_is_refused_to_a_hypothesis_that_reads_features(
    tmp_path, monkeypatch, module, complaint
):
    monkeypatch.chdir(tmp_path)
    Path("config/hypotheses").mkdir(parents=True)
    Path("config/hypotheses/idea.yaml").write_text(
        f"title: x\nmodule: oncoarena.hypotheses.{module}\nblocks: [mutation_bins, mutation_tokens]\n"
    )
    changes = {"assays": {"variants": {"column": "expression", "tokens": 30}}, "hypotheses": ["idea"]}
    if complaint is None:
        (spec,) = read_config(**changes).hypotheses
        assert spec.training.sets == ("mutation_tokens",)
        assert spec.training.sees("mutation_tokens", is_set=True)
    else:
        with pytest.raises(InputError, match=complaint):
            read_config(**changes)


def test_read_literals__sets_that_are_no_names_are_refused(tmp_path):
    path = tmp_path / "idea.py"
    path.write_text(
        'FRAMEWORK = "numpy"\nBLOCKS = "all"\nSETS = "mutation_tokens"\n\n\nclass Config:\n    pass\n'
    )
    with pytest.raises(InputError, match="SETS is 'mutation_tokens'; expected a tuple"):
        read_literals(path)
