"""Simulated tumours measured four ways: files read by pandas hold the signal where it was planted, and only there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from oncoarena import simulation
from oncoarena.errors import InputError
from oncoarena.samples import read_samples
from oncoarena.simulation.landscape import landscape
from oncoarena.simulation.multiomic import cohort_files, simulate_cohort

SMALL = {"n_genes": 200, "n_reads": 50_000, "n_mutations": 300, "calls": 6.0}
STAR_HEADER = [
    *("gene_id", "gene_name", "gene_type", "unstranded", "stranded_first", "stranded_second"),
    *("tpm_unstranded", "fpkm_unstranded", "fpkm_uq_unstranded"),
]
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def star_counts(path: str) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", comment="#")


def bedmethyl(path: str) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", header=None)


def maf_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "variants.maf.gz", sep="\t", comment="#")


def pyrimidine_class(context: str, ref: str, alt: str) -> str:
    """Name one of the 96 classes, A[C>T]G, from the bases around a substitution."""
    middle = len(context) // 2
    three = context[middle - 1 : middle + 2]
    assert three[1] == ref
    if ref in "AG":
        three, ref, alt = (
            three.translate(COMPLEMENT)[::-1],
            ref.translate(COMPLEMENT),
            alt.translate(COMPLEMENT),
        )
    return f"{three[0]}[{ref}>{alt}]{three[2]}"


def features_of(folder: Path, sheet: pd.DataFrame) -> dict[str, np.ndarray]:
    """Make one table of features, (n_samples, n_features), for each assay, in the plainest way."""
    ids = sheet["sample_id"].tolist()
    expression = [star_counts(path)["tpm_unstranded"].dropna() for path in sheet["expression"]]
    betas = []
    for path in sheet["methylation"]:
        table = bedmethyl(path)
        region = table[0] + ":" + (table[1] // 5_000_000).astype(str)
        sums = table.groupby(region)[[9, 11]].sum()
        betas.append(sums[11] / sums[9])
    segments = pd.read_csv(folder / "segments.seg", sep="\t")
    segments["arm"] = segments["chrom"] + ":" + (segments["loc.start"] > 45_000_000).astype(str)
    long = segments[segments["loc.end"] - segments["loc.start"] > 10_000_000]
    maf = maf_of(folder)
    snv = maf[maf["Variant_Type"] == "SNP"]
    rows = zip(snv["CONTEXT"], snv["Reference_Allele"], snv["Tumor_Seq_Allele2"], strict=True)
    classes = pd.crosstab(snv["Tumor_Sample_Barcode"], [pyrimidine_class(*row) for row in rows])
    hit = maf[
        maf["Variant_Classification"].isin(["Missense_Mutation", "Nonsense_Mutation", "Frame_Shift_Del"])
    ]
    genes = pd.crosstab(hit["Tumor_Sample_Barcode"], hit["Hugo_Symbol"]).clip(upper=1)
    spectra = np.log(classes.reindex(ids, fill_value=0) + 1)
    return {
        "expression": np.log2(np.array(expression) + 1),
        "methylation": pd.DataFrame(betas).fillna(0.5).to_numpy(),
        "segments": long.pivot_table(index="ID", columns="arm", values="seg.mean")
        .loc[ids]
        .fillna(0)
        .to_numpy(),
        "variants": np.hstack([spectra, genes.loc[:, genes.sum() > 5].reindex(ids, fill_value=0)]),
    }


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("all")
    simulate_cohort(folder, n_samples=70, n_classes=2, strength=6.0, world="diffuse", seed=1, **SMALL)
    return folder, read_samples(str(folder / "samples.tsv"))


def found_auroc(values: np.ndarray, labels: pd.Series) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    scores = cross_val_predict(model, values, labels, cv=5, method="decision_function")
    return float(roc_auc_score(labels == "class_2", scores))


def test_signal__is_found_in_every_assay(cohort):
    folder, sheet = cohort
    found = {assay: found_auroc(x, sheet["label"]) for assay, x in features_of(folder, sheet).items()}
    assert min(found.values()) > 0.8, found


def test_signal__is_found_only_in_the_assay_that_carries_it(tmp_path):
    where = "segments"
    arguments = {"n_samples": 60, "n_classes": 2, "strength": 6.0, "world": "diffuse", "seed": 3, **SMALL}
    sheet = read_samples(str(simulate_cohort(tmp_path, signal_in=where, **arguments)))
    found = {assay: found_auroc(x, sheet["label"]) for assay, x in features_of(tmp_path, sheet).items()}
    assert found.pop(where) > 0.85
    # Standard error of an AUROC of 30 against 30 at chance: 0.075.
    assert max(abs(auroc - 0.5) for auroc in found.values()) < 3 * 0.075, found


def test_strength_0__changes_no_label_and_no_covariate_and_leaves_nothing_to_find(tmp_path, cohort):
    simulate_cohort(tmp_path, n_samples=70, n_classes=2, strength=0.0, world="diffuse", seed=1, **SMALL)
    sheet = read_samples(str(tmp_path / "samples.tsv"))
    same = ["sample_id", "label", "site", "age", "sex", "stage", "split"]
    pd.testing.assert_frame_equal(sheet[same], cohort[1][same])
    assert sheet["simulation"][0] != cohort[1]["simulation"][0]
    found = {assay: found_auroc(x, sheet["label"]) for assay, x in features_of(tmp_path, sheet).items()}
    assert max(abs(auroc - 0.5) for auroc in found.values()) < 3 * 0.07, found


def test_expression__is_what_the_gdc_writes(cohort):
    folder, sheet = cohort
    genes = pd.read_csv(folder / "genes.tsv", sep="\t")
    for path in sheet["expression"][:5]:
        assert Path(path).read_text().splitlines()[1].split("\t") == STAR_HEADER
        table = star_counts(path)
        assert table["gene_id"][:4].tolist() == ["N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous"]
        assert (table["unstranded"][:4] > 0).all()
        rows = table[4:]
        assert (rows["gene_id"].str.partition(".")[0].isin(genes["id"])).all()
        assert len(rows) == len(genes)
        assert (rows["stranded_first"] + rows["stranded_second"] == rows["unstranded"]).all()
        assert rows["tpm_unstranded"].sum() == pytest.approx(1e6, rel=1e-5)
        detected = rows[rows["unstranded"] > 50]
        # TPM and FPKM differ by a factor of the sample.
        factor = detected["tpm_unstranded"] / detected["fpkm_unstranded"]
        assert factor.std() < 1e-3 * factor.mean()
        assert 0.3 * 50_000 < rows["unstranded"].sum() < 3 * 50_000
    assert genes["chrom"].nunique() >= 20
    for _, rows in genes.groupby("chrom"):
        assert rows["start"].is_monotonic_increasing


def test_methylation__rows_are_sorted_and_agree_with_themselves(cohort):
    _, sheet = cohort
    table = bedmethyl(sheet["methylation"][0])
    assert table.shape[1] == 18
    assert (table[2] == table[1] + 1).all()
    assert (table[3] == "m").all()
    assert (table[9] == table[11] + table[12] + table[13]).all()
    np.testing.assert_allclose(table[10], 100 * table[11] / table[9], atol=0.0051)
    for row in range(8):
        calls = bedmethyl(sheet["methylation"][row]).groupby(0)[9].mean()
        # A site without a call is left out: of mean m, the others have m / (1 - exp(-m)).
        assert calls["chr1"] == pytest.approx(6, rel=0.1)
        assert calls["chrX"] == pytest.approx(
            6 if sheet["sex"][row] == "F" else 3 / (1 - np.exp(-3)), rel=0.15
        )
        assert ("chrY" in calls) == (sheet["sex"][row] == "M")
    for _, rows in table.groupby(0):
        assert (rows[1].diff().dropna() > 1).all()
    order = [landscape().chromosomes.index(name) for name in table[0].unique()]
    assert order == sorted(order)


def test_segments__tile_the_arms_and_tell_sex(cohort):
    folder, sheet = cohort
    table = pd.read_csv(folder / "segments.seg", sep="\t")
    assert list(table.columns) == ["ID", "chrom", "loc.start", "loc.end", "num.mark", "seg.mean"]
    sizes = dict(zip(landscape().chromosomes, landscape().sizes.tolist(), strict=True))
    assert (table["loc.end"] <= table["chrom"].map(sizes)).all()
    assert (table["loc.start"] >= 1).all()
    for _, rows in table.groupby(["ID", "chrom"]):
        assert (rows["loc.start"].to_numpy()[1:] > rows["loc.end"].to_numpy()[:-1]).all()
        assert (rows["loc.end"] >= rows["loc.start"]).all()
    on_x = table[table["chrom"] == "chrX"].groupby("ID")["seg.mean"].mean()
    sex = sheet.set_index("sample_id")["sex"]
    assert on_x[sex[sex == "M"].index].max() < -0.85
    assert on_x[sex[sex == "F"].index].min() > -0.15
    # About a third of the arms are changed; what is lost from a tumour of any purity is below 0.
    long = table[(table["loc.end"] - table["loc.start"] > 20_000_000) & (table["chrom"] != "chrX")]
    assert 0.2 < (long["seg.mean"].abs() > 0.2).mean() < 0.7


def test_cohort__same_arguments_same_bytes_whatever_the_order_of_samples(tmp_path):
    def all_bytes(**changes) -> dict[str, bytes]:
        folder = tmp_path / "cohort"
        simulate_cohort(folder, **{"n_samples": 6, "variants": "vcf", "seed": 1, **SMALL, **changes})
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    first = all_bytes()
    assert len([name for name in first if name.endswith(".vcf.gz")]) == 6
    assert {name for name in first if "/" not in name} == set(cohort_files({"variants": "vcf"}))
    backwards = lambda function, items: [function(item) for item in reversed(items)][::-1]  # noqa: E731
    assert all_bytes(map_samples=backwards) == first
    other = all_bytes(seed=2)
    assert all(other[name] != first[name] for name in first)


def test_cohort__reads_of_one_assay_do_not_depend_on_the_others(tmp_path):
    found = []
    for n_mutations in (10, 500):
        folder = tmp_path / str(n_mutations)
        simulate_cohort(folder, n_samples=6, seed=1, **{**SMALL, "n_mutations": n_mutations})
        paths = [*sorted((folder / "expression").iterdir()), *sorted((folder / "methylation").iterdir())]
        found.append([path.read_bytes() for path in [*paths, folder / "segments.seg"]])
    assert found[0] == found[1]


def test_confounding__sites_differ_in_expression(tmp_path):
    arguments = {"n_samples": 60, "n_classes": 2, "strength": 0.0, "seed": 5, **SMALL}
    sheet = read_samples(str(simulate_cohort(tmp_path, confounding=1.0, **arguments)), columns=["site"])
    assert len(sheet[["label", "site"]].drop_duplicates()) == 2
    assert found_auroc(features_of(tmp_path, sheet)["expression"], sheet["label"]) > 0.8


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_samples", 5),
        ("n_classes", 1),
        ("strength", 8.5),
        ("signal_in", "proteins"),
        ("world", "flat"),
        ("confounding", -0.1),
        ("n_genes", 10),
        ("n_reads", 10.5),
        ("n_mutations", 0),
        ("calls", "many"),
        ("variants", "bcf"),
        ("seed", None),
    ],
)
def test_simulate__refuses_what_is_not_legal(tmp_path, key, value):
    with pytest.raises(InputError, match=f"simulate: {key}: found {value!r}, expected"):
        simulate_cohort(tmp_path, **{key: value})
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=f"simulate: {key}: found"):
        simulation.read_request({"kind": "multiomic", key: value})
