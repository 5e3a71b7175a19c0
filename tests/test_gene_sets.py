"""Gene sets from a GMT file: what is read, what is refused, and what they buy sparse_markers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohorts import toy_cohort
from oncoarena.errors import InputError
from oncoarena.fitting.gene_sets import match_gene_sets, read_gene_sets
from oncoarena.fitting.selection import log_loss
from oncoarena.hypotheses import sparse_markers

SMALL = sparse_markers.Config(n_repeats=1, survivors=(8, 64), kept=(0.01, 0.05, 0.2, 1.0), views=("zscore",))


def gmt(tmp_path, text):
    path = tmp_path / "sets.gmt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_read_gene_sets__gives_each_set_its_genes_once(tmp_path):
    text = "\ufeffDNA_REPAIR\thttps://example.org\tBRCA1\tBRCA2\tBRCA1\t\r\n\nTWO\t\t TP53 \tMDM2\n"
    assert read_gene_sets(gmt(tmp_path, text)) == {"DNA_REPAIR": ("BRCA1", "BRCA2"), "TWO": ("TP53", "MDM2")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "A\tof repair\tBRCA1\nB\tof nothing\n",
            "line 2: found 2 columns; expected a name, a description and",
        ),
        ("A BRCA1 BRCA2\n", "line 1: found 1 columns"),
        ("\tof repair\tBRCA1\n", "line 1: the first column is empty"),
        ("A\tx\tBRCA1\nA\tx\tTP53\n", "line 2: set A was there before; give every set one line"),
        ("\n \n", "no line; expected one gene set a line"),
        (b"\x1f\x8b\x08\x00", "is compressed by gzip; .*gunzip"),
        (b"A\tx\t\xff\xfe", "byte 4 is not UTF-8"),
    ],
)
def test_read_gene_sets__other_files_are_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_gene_sets(gmt(tmp_path, text))


def test_read_gene_sets__absent_file_is_named():
    with pytest.raises(InputError, match=r"nowhere/sets.gmt: there is no such file"):
        read_gene_sets("nowhere/sets.gmt")


@given(content=st.binary(max_size=200) | st.text(alphabet="AB\t\n\r ", max_size=200).map(str.encode))
@settings(max_examples=100, deadline=None)
def test_read_gene_sets__any_bytes_are_read_or_refused_in_words(tmp_path_factory, content):
    path = gmt(tmp_path_factory.mktemp("gmt"), content)
    try:
        sets = read_gene_sets(path)
    except InputError as error:
        told = str(error)
    else:
        told = path * all(name and genes and all(genes) for name, genes in sets.items()) * bool(sets)
    assert told.startswith(path)


def test_match_gene_sets__means_are_sums_over_the_root_of_the_size(tmp_path):
    genes = np.array(["TP53", "", "BRCA1", "TP53", "KRAS", "BRCA2"])
    path = gmt(tmp_path, "A\tx\tBRCA1\tBRCA2\tTP53\nB\tx\tKRAS\tNRAS\nC\tx\tTP53\n")
    sets = match_gene_sets(path, genes)
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    # B has one feature only, which is there by itself; a gene of two features is in a set with both.
    assert sets.names.tolist() == ["A", "C"]
    expected = [x[:, [0, 2, 3, 5]].sum(axis=1) / 2, x[:, [0, 3]].sum(axis=1) / np.sqrt(2)]
    np.testing.assert_allclose(sets.means(x), np.stack(expected, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("genes", "known"), [(["TP53", "KRAS"], "such as TP53, KRAS"), (["", ""], "no feature has")]
)
def test_match_gene_sets__sets_of_other_genes_are_refused(tmp_path, genes, known):
    path = gmt(tmp_path, "A\tx\tENSG1\tENSG2\n")
    with pytest.raises(InputError, match=f"1 sets names .* names ENSG1, ENSG2; .*{known}"):
        match_gene_sets(path, np.array(genes))


def cohort_with_a_pathway(n_samples, seed):
    """Forty of 400 genes, far apart, shift together by little: no gene tells much, their set does."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % 2
    values = rng.normal(size=(n_samples, 400))
    values[:, ::10] += 0.35 * labels[:, None]
    cohort = toy_cohort(labels, {"rna": values}, classes="ab")
    block = cohort.blocks["rna"]
    features = block.features.assign(gene=[f"G{j}" for j in range(400)])
    return replace(cohort, blocks={"rna": replace(block, features=features)})


def test_sparse_markers__a_gene_set_that_shifts_together_is_found_and_predicts_better(tmp_path):
    rng = np.random.default_rng(5)
    sets = {"SHIFTED": range(0, 400, 10)}
    sets |= {f"OTHER{i}": rng.choice(400, 40, replace=False) for i in range(30)}
    lines = ["\t".join([name, "toy", *(f"G{j}" for j in of)]) for name, of in sets.items()]
    config = replace(SMALL, gmt=gmt(tmp_path, "\n".join(lines)))
    train, test = cohort_with_a_pathway(60, 0), cohort_with_a_pathway(300, 1)
    plain, informed = (sparse_markers.fit(c, train, None, seed=0, device="cpu") for c in (SMALL, config))
    losses = [log_loss(m.predict_proba(test.without_labels()), test.labels) for m in (plain, informed)]
    assert losses[1] < losses[0] - 0.05
    assert informed.findings["gene_sets"][0]["feature"] == "SHIFTED"
    assert informed.findings["gene_sets"][0]["high_in"] == "b"
    assert "gene_sets" not in plain.findings
    assert informed.findings["log_loss_by_features"] == plain.findings["log_loss_by_features"]
    # Contributions are those of genes, whichever set they came through.
    found = informed.attribute(test.without_labels(), 1)
    np.testing.assert_allclose(
        found.contributions["rna"].sum(axis=1), found.score - found.baseline, atol=1e-4
    )
    assert (
        np.abs(found.contributions["rna"]).mean(axis=0)[::10].sum()
        > 0.3 * np.abs(found.contributions["rna"]).mean(axis=0).sum()
    )
    (tmp_path / "model").mkdir()
    informed.save(tmp_path / "model")
    loaded = sparse_markers.load(tmp_path / "model").predict_proba(test.without_labels())
    np.testing.assert_array_equal(loaded, informed.predict_proba(test.without_labels()))
