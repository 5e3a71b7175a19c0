"""The assays read what the simulators write, and find in it what was planted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from oncoarena.assays import alignments, expression, methylation, segments, variants
from oncoarena.extraction import read_annotation
from oncoarena.simulation import cfdna, multiomic


def read_objects(assay, options, sheet: pd.DataFrame, column: str, annotation=None) -> dict[str, np.ndarray]:
    """Read a column of objects: each block's (n_samples, n_features), and the QC of all as "qc"."""
    found: dict[str, list] = {}
    qc = []
    for sample_id, path in zip(sheet["sample_id"], sheet[column], strict=True):
        with Path(path).open("rb") as stream:
            blocks = assay.read_object(stream, path, options, sample_id=sample_id, annotation=annotation)
        for name, block in blocks.items():
            found.setdefault(name, []).append(block.values)
        qc.append({key: value for block in blocks.values() for key, value in block.qc.items()})
    return {**{name: np.stack(rows) for name, rows in found.items()}, "qc": pd.DataFrame(qc)}


def test_alignments__tell_the_tumour_fraction_the_bias_and_the_sex(tmp_path):
    sheet_path = cfdna.simulate_cohort(tmp_path, n_samples=24, n_reads=40_000, strength=5.0, seed=2)
    sheet, truth = (pd.read_csv(path, sep="\t") for path in (sheet_path, tmp_path / "truth.tsv"))
    options = alignments.Options(coverage_bp=1_000_000, ratio_bp=5_000_000)
    blocks = read_objects(alignments, options, sheet, "alignments")
    qc = blocks["qc"]
    ill = sheet["label"] == "cancer"
    ratio = np.nanmean(blocks["fragment_ratio"], axis=1)
    assert spearmanr(ratio[ill], truth.loc[ill, "tumour_fraction"]).statistic > 0.6
    assert roc_auc_score(ill, ratio) > 0.8
    assert spearmanr(qc["gc_slope"], truth["gc_slope"]).statistic > 0.9
    assert (qc["sex_inferred"] == sheet["sex"].map({"F": "XX", "M": "XY"})).all()
    assert ((qc["insert_mode_bp"] - 167).abs() <= 12).all()
    ccca = blocks["end_motif"][:, 0b01010100]
    assert spearmanr(ccca, truth["tumour_fraction"]).statistic < -0.4
    np.testing.assert_allclose(blocks["fragment_length"].sum(axis=1), 1, rtol=1e-4)


def test_alignments__are_the_same_from_bam_and_cram(tmp_path):
    found = []
    for form in ("bam", "cram"):
        sheet = pd.read_csv(
            cfdna.simulate_cohort(tmp_path / form, n_samples=4, n_reads=4_000, format=form, seed=1), sep="\t"
        )
        found.append(read_objects(alignments, alignments.Options(), sheet[:2], "alignments"))
    bam, cram = found
    for name in set(bam) - {"qc"}:
        np.testing.assert_array_equal(bam[name], cram[name])


@pytest.mark.parametrize("form", ["maf", "vcf"])
def test_tumours__are_read_by_all_four_assays(tmp_path, form):
    folder = tmp_path / "cohort"
    arguments = {"n_genes": 200, "n_reads": 50_000, "n_mutations": 200, "calls": 6.0, "seed": 4}
    sheet = pd.read_csv(
        multiomic.simulate_cohort(folder, n_samples=8, n_classes=2, variants=form, **arguments), sep="\t"
    )
    ids = sheet["sample_id"].tolist()
    sex = sheet["sex"].map({"F": "female", "M": "male"})
    annotation = read_annotation(str(folder / "genes.tsv"))
    genes = read_objects(expression, expression.Options(), sheet, "expression", annotation)
    assert genes["expression"].shape == (8, 200)
    assert (genes["qc"]["quantity"] == "log2(TPM + 1)").all()
    calls = read_objects(methylation, methylation.Options(bin_bp=5_000_000), sheet, "methylation")
    assert (calls["qc"]["sex_inferred"] == sex).all()
    assert np.isnan(calls["methylation_bins"]).mean() < 0.06
    with (folder / "segments.seg").open("rb") as stream:
        copies = segments.read_matrix(stream, "segments.seg", ids, segments.Options())
    # Of chrX alone nobody tells a woman from a man whose tumour is compared with his own blood.
    assert copies["copy_ratio"].qc["sex_inferred"].tolist() == sex.replace("female", "").tolist()
    if form == "maf":
        options = variants.Options(context="column", consequences="maf")
        with (folder / "variants.maf.gz").open("rb") as stream:
            found = variants.read_matrix(stream, "variants.maf.gz", ids, options)
        spectrum = found["mutation_spectrum"]
        assert (spectrum.qc["n_ref_mismatch"] == 0).all()
        assert (spectrum.qc["n_no_context"] == 0).all()
        maf = pd.read_csv(folder / "variants.maf.gz", sep="\t", comment="#")
        n_snv = maf[maf["Variant_Type"] == "SNP"]["Tumor_Sample_Barcode"].value_counts()
        assert spectrum.values.sum(axis=1).tolist() == n_snv.reindex(ids).tolist()
    else:
        found = read_objects(variants, variants.Options(), sheet, "variants")
        assert (found["mutation_bins"].sum(axis=1) > 20).all()
        with Path(sheet["variants"][0]).open("rb") as stream:
            options = variants.Options(consequences="ann")
            genes = variants.read_object(stream, "vcf", options, sample_id=ids[0])["mutated_genes"]
        assert set(genes.features["id"]) & set(annotation["gene"])
