"""Mutated genes and effects on proteins, from MAF columns, ANN and CSQ."""

import io

import numpy as np
import pandas as pd
import pytest

from oncoarena.assays import variants
from oncoarena.errors import InputError
from variant_files import maf_text, vcf_text

ANN = '##INFO=<ID=ANN,Number=.,Type=String,Description="Functional annotations: Allele | Annotation | Gene_Name">'
CSQ = '##INFO=<ID=CSQ,Number=.,Type=String,Description="Format: Allele|Consequence|IMPACT|SYMBOL">'
MAF_ROWS = [
    ("a", "1", 100, "A", "C", "TP53", "Missense_Mutation"),
    ("a", "1", 100, "A", "C", "TP53", "Missense_Mutation"),
    ("a", "1", 200, "A", "C", "KRAS", "Silent"),
    ("b", "1", 300, "AC", "GT", "TP53", "Nonsense_Mutation"),
    ("b", "1", 400, "AC", "A", "APC", "Frame_Shift_Del"),
    ("b", "1", 500, "A", "ACGT", "EGFR", "In_Frame_Ins"),
]


def read(text, consequences, annotation=None, sample_id="s"):
    options = variants.Options(consequences=consequences, callable_mb=1)
    return variants.read_object(
        io.BytesIO(text.encode()), "s", options, sample_id=sample_id, annotation=annotation
    )


def effects(blocks, row=slice(None)):
    burden = blocks["burden"]
    found = dict(zip(burden.features["id"], burden.values.T.tolist(), strict=True))
    return found["per_mb_missense"], found["per_mb_truncating"]


def test_maf__genes_with_an_altered_protein_are_mutated():
    options = variants.Options(consequences="maf", callable_mb=1)
    found = variants.read_matrix(io.BytesIO(maf_text(MAF_ROWS).encode()), "m", ["b", "a"], options)
    genes = found["mutated_genes"]
    assert genes.features["gene"].tolist() == ["APC", "EGFR", "TP53"]
    np.testing.assert_array_equal(genes.values, [[1, 1, 1], [0, 0, 1]])
    assert effects(found) == ([0, 1], [2, 0])


def test_read_object__names_the_genes_of_its_sample_only():
    found = read(maf_text(MAF_ROWS), "maf", sample_id="a")
    assert found["mutated_genes"].features["id"].tolist() == ["TP53"]
    assert found["mutated_genes"].values.tolist() == [1]
    assert variants.ABSENT == {"mutated_genes": 0.0}


def test_annotation__gives_the_places_of_the_genes_that_it_lists():
    table = pd.DataFrame({"id": ["TP53"], "chrom": ["chr17"], "start": ["7661778"], "end": ["7687550"]})
    found = read(maf_text(MAF_ROWS), "maf", table, sample_id="b")["mutated_genes"].features
    assert found["chrom"].tolist() == ["", "", "chr17"]
    none_listed = table.assign(id="BRAF")
    assert read(maf_text(MAF_ROWS), "maf", none_listed, sample_id="a")["mutated_genes"].values.tolist() == [1]


@pytest.mark.parametrize(
    ("kind", "header", "entries"),
    [
        ("ann", ANN, "{0}|{1}|HIGH|{2}|more"),
        ("csq", CSQ, "{0}|{1}|HIGH|{2}|more"),
    ],
)
def test_vcf__worst_effect_of_all_transcripts_of_the_carried_allele_counts(kind, header, entries):
    def info(*parts):
        return f"DP=3;{kind.upper()}=" + ",".join(entries.format(*part) for part in parts)

    deleted = "-" if kind == "csq" else "A"
    rows = [
        (
            "1",
            100,
            "A",
            "C",
            "PASS",
            info(("C", "synonymous_variant", "G1"), ("C", "missense_variant", "G2")),
        ),
        ("1", 200, "A", "C,G", "PASS", info(("C", "stop_gained", "G3"), ("G", "missense_variant", "G4"))),
        ("1", 300, "AC", "A", "PASS", info((deleted, "frameshift_variant&splice_region_variant", "G5"))),
        ("1", 400, "A", "C", "low", info(("C", "stop_gained", "G6"))),
        ("1", 500, "A", "C", "PASS", info(("C", "intron_variant", "G7"))),
        ("1", 600, "A", "C", "PASS", "DP=3"),
    ]
    genotypes = [["0/1"], ["0/2"], ["0/1"], ["0/1"], ["0/1"], ["0/1"]]
    found = read(vcf_text(rows, ["s"], header=header, genotypes=genotypes), kind)
    assert found["mutated_genes"].features["id"].tolist() == ["G2", "G4", "G5"]
    assert effects(found) == (2, 1)


def test_csq__alleles_of_a_row_with_insertion_and_deletion_are_told_apart():
    info = "CSQ=-|frameshift_variant|HIGH|LOST,TT|inframe_insertion|LOW|GAINED"
    rows = [("1", 100, "AT", "A,ATT", "PASS", info)]
    for genotype, gene in (("0/1", "LOST"), ("0/2", "GAINED")):
        found = read(vcf_text(rows, ["s"], header=CSQ, genotypes=[[genotype]]), "csq")
        assert found["mutated_genes"].features["id"].tolist() == [gene]


def test_vcf__without_the_annotation_asked_for_is_refused():
    with pytest.raises(InputError, match=r"no INFO ANN.*SnpEff"):
        read(vcf_text([("1", 100, "A", "C")]), "ann")
    without_symbol = CSQ.replace("|SYMBOL", "")
    with pytest.raises(InputError, match="expected Allele, Consequence, SYMBOL"):
        read(vcf_text([("1", 100, "A", "C")], header=without_symbol), "csq")
    with pytest.raises(InputError, match=r"no column Hugo_Symbol.*consequences: maf"):
        read(maf_text(MAF_ROWS).replace("Hugo_Symbol", "Gene"), "maf")
