"""Simulated cohorts: the stated strength is there, where the world says, in files that are read back."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from oncoarena.assays.expression import Options, read_matrix, read_object
from oncoarena.errors import InputError
from oncoarena.extraction import read_annotation
from oncoarena.samples import read_samples
from oncoarena.simulation.expression import (
    SimulatedExpression,
    cohort_files,
    simulate_cohort,
    simulate_expression,
)
from oncoarena.simulation.people import SITES
from oncoarena.simulation.worlds import WORLDS


def simulate(world: str, strength: float, *, n_patients=6000, n_genes=30, seed=0, **arguments):
    return simulate_expression(
        np.random.default_rng(seed),
        n_patients=n_patients,
        n_genes=n_genes,
        strength=strength,
        world=world,
        **arguments,
    )


def standardised(simulated: SimulatedExpression) -> np.ndarray:
    return (simulated.values - simulated.baseline) / simulated.scale


def oracle_evidence(simulated: SimulatedExpression) -> np.ndarray:
    """Log likelihood of each class for each sample, from the truth alone, (n_samples, n_classes)."""
    profiles = standardised(simulated)
    covariance = np.eye(profiles.shape[1]) + simulated.loadings @ simulated.loadings.T
    return np.stack(
        [
            np.logaddexp.reduce(
                [multivariate_normal.logpdf(profiles, centre, covariance) for centre in centres]
            )
            for centres in simulated.prototypes
        ],
        axis=1,
    )


def pairwise_aurocs(labels: np.ndarray, evidence: np.ndarray) -> list[float]:
    n_classes = evidence.shape[1]
    aurocs = []
    for first in range(n_classes):
        for second in range(first):
            rows = (labels == first) | (labels == second)
            aurocs.append(
                roc_auc_score(labels[rows] == first, (evidence[:, first] - evidence[:, second])[rows])
            )
    return aurocs


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("strength", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("world", WORLDS)
def test_simulate_expression__oracle_has_the_stated_auroc_in_every_world(world, strength, n_classes):
    simulated = simulate(world, strength, n_classes=n_classes)
    found = pairwise_aurocs(simulated.labels, oracle_evidence(simulated))
    # 2,000 or more samples of each class: the standard error of an AUROC is at most 0.009.
    np.testing.assert_allclose(found, norm.cdf(strength / np.sqrt(2)), atol=0.03 if strength < 3 else 0.006)


@pytest.mark.parametrize("world", ["diffuse", "local", "sparse"])
def test_simulate_expression__every_pair_of_classes_is_equally_far_apart(world):
    simulated = simulate(world, 2.5, n_classes=5, n_patients=10, n_genes=200)
    inverse = np.linalg.inv(np.eye(200) + simulated.loadings @ simulated.loadings.T)
    means = simulated.prototypes[:, 0]
    for first in range(5):
        for second in range(first):
            gap = means[first] - means[second]
            assert np.sqrt(gap @ inverse @ gap) == pytest.approx(2.5, rel=1e-9)


def test_simulate_expression__at_strength_0_values_know_nothing_of_labels():
    for world in WORLDS:
        simulated = simulate(world, 0.0, n_patients=300)
        assert not simulated.prototypes.any()
        model = LogisticRegression(C=0.01)
        scores = cross_val_predict(
            model, standardised(simulated), simulated.labels, cv=5, method="decision_function"
        )
        assert abs(roc_auc_score(simulated.labels, scores) - 0.5) < 3 * 0.0333  # three standard errors


def test_simulate_expression__noise_has_the_stated_covariance_and_is_half_shared_by_a_patient():
    simulated = simulate("diffuse", 0.0, samples_per_patient=2, n_genes=6)
    profiles = standardised(simulated)
    covariance = np.eye(6) + simulated.loadings @ simulated.loadings.T
    np.testing.assert_allclose(np.cov(profiles, rowvar=False), covariance, atol=0.12)
    first, second = profiles[0::2], profiles[1::2]
    np.testing.assert_allclose(first.T @ second / len(first), covariance / 2, atol=0.12)
    assert (simulated.patients[0::2] == simulated.patients[1::2]).all()
    assert (simulated.labels[0::2] == simulated.labels[1::2]).all()


def test_simulate_expression__signal_lies_where_the_world_says():
    shifted = {}
    for world in WORLDS:
        simulated = simulate(world, 3.0, n_patients=10, n_genes=1000)
        shifted[world] = np.abs(simulated.prototypes).max(axis=(0, 1)) > 1e-12
        assert np.isfinite(simulated.prototypes).all()
    assert shifted["diffuse"].all()
    assert shifted["cluster"].all()
    assert 0 < shifted["sparse"].sum() <= 6
    assert 100 <= shifted["local"].sum() <= 200
    simulated = simulate("local", 3.0, n_patients=10, n_genes=1000)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], shifted["local"], [0]])))
    runs = edges.reshape(-1, 2)
    assert len(runs) <= 6
    assert (runs[:, 1] - runs[:, 0] >= 25).all()
    for start, end in runs:
        # Runs lie within chromosomes; two that touch may lie on two.
        for first in range(start, end, 25):
            assert len(set(simulated.genes["chrom"][first : first + 25])) == 1
            run = simulated.prototypes[:, 0, first : first + 25]
            np.testing.assert_allclose(run, np.repeat(run[:, :1], 25, axis=1))


def test_simulate_expression__clusters_share_their_mean_and_are_invisible_to_a_linear_rule():
    simulated = simulate("cluster", 4.0, n_patients=4000)
    np.testing.assert_allclose(simulated.prototypes.mean(axis=1), 0, atol=1e-9)
    evidence = oracle_evidence(simulated)
    assert roc_auc_score(simulated.labels, evidence[:, 1] - evidence[:, 0]) > 0.99
    profiles = standardised(simulated)
    scores = cross_val_predict(
        LogisticRegression(), profiles, simulated.labels, cv=4, method="decision_function"
    )
    assert abs(roc_auc_score(simulated.labels, scores) - 0.5) < 0.05


def test_simulate_expression__genes_lie_in_order_within_their_chromosomes():
    for n_genes in (4, 100, 5000):
        genes = simulate("diffuse", 1.0, n_patients=4, n_genes=n_genes).genes
        assert len(genes) == n_genes
        assert (genes["start"] >= 0).all()
        assert (genes["start"] < genes["end"]).all()
        for _, members in genes.groupby("chrom"):
            assert members["start"].is_monotonic_increasing
            assert (np.diff(members.index) == 1).all()
    assert genes["chrom"].nunique() == 23
    assert genes.loc[genes["chrom"] == "chr21", "end"].max() <= 46_709_983  # hg38


def test_simulate_expression__covariates_know_the_label_only_through_confounding():
    def site_accuracy(confounding: float) -> float:
        simulated = simulate("diffuse", 1.0, n_patients=3000, n_classes=3, confounding=confounding)
        sites = np.array(SITES)[simulated.labels]
        return float((simulated.covariates["site"] == sites).mean())

    assert site_accuracy(0.0) == pytest.approx(1 / 3, abs=0.03)
    assert site_accuracy(0.5) == pytest.approx(2 / 3, abs=0.03)
    assert site_accuracy(1.0) == 1.0
    simulated = simulate("diffuse", 3.0, n_patients=4000)
    for column in ("age", "sex", "stage"):
        codes = pd.factorize(simulated.covariates[column], sort=True)[0]
        assert abs(np.corrcoef(codes, simulated.labels)[0, 1]) < 0.05


def test_simulate_expression__sites_differ_only_where_confounding_is_asked_for():
    def largest_site_effect(confounding: float) -> float:
        simulated = simulate("diffuse", 0.0, confounding=confounding)
        profiles = pd.DataFrame(standardised(simulated)).groupby(simulated.covariates["site"]).mean()
        return float(np.ptp(profiles.to_numpy(), axis=0).max())

    assert largest_site_effect(0.0) < 0.2
    assert largest_site_effect(0.5) > 0.3


def test_simulate_expression__loses_the_stated_share_of_values():
    assert not np.isnan(simulate("sparse", 1.0).values).any()
    assert np.isnan(simulate("sparse", 1.0, missing_rate=0.2).values).mean() == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize("world", WORLDS)
def test_simulate_expression__serves_the_smallest_cohort(world):
    simulated = simulate(world, 2.0, n_patients=6, n_genes=6, n_classes=3)
    assert simulated.values.shape == (6, 6)
    assert np.isfinite(simulated.values).all()
    assert np.bincount(simulated.labels).tolist() == [2, 2, 2]


def read_values(folder: Path, sheet: pd.DataFrame) -> np.ndarray:
    options = Options(missing_values="allow")
    if "expression" not in sheet.columns:
        (matrix,) = folder.glob("expression.*")
        with matrix.open("rb") as stream:
            return read_matrix(stream, "matrix", list(sheet["sample_id"]), options)["expression"].values
    rows = []
    for sample_id, path in zip(sheet["sample_id"], sheet["expression"], strict=True):
        with Path(path).open("rb") as stream:
            rows.append(read_object(stream, path, options, sample_id=sample_id)["expression"].values)
    return np.stack(rows)


def test_simulate_cohort__every_layout_is_read_back_as_the_same_cohort(tmp_path):
    arguments = {"n_patients": 12, "n_genes": 80, "samples_per_patient": 2, "missing_rate": 0.1, "seed": 5}
    found = {}
    for layout in ("tsv", "parquet", "per_sample"):
        samples = simulate_cohort(tmp_path / layout, layout=layout, **arguments)
        sheet = read_samples(str(samples))
        found[layout] = read_values(samples.parent, sheet)
        assert ("expression" in sheet.columns) == (layout == "per_sample")
        beside = {path.name for path in samples.parent.iterdir() if path.is_file()}
        assert beside == set(cohort_files({"layout": layout}))
    assert found["tsv"].shape == (24, 80)
    assert 0.05 < np.isnan(found["tsv"]).mean() < 0.15
    np.testing.assert_array_equal(found["tsv"], found["parquet"])
    np.testing.assert_array_equal(found["tsv"], found["per_sample"])


def test_simulate_cohort__files_hold_what_was_drawn_with_genes_in_another_order(tmp_path):
    samples = simulate_cohort(tmp_path, n_patients=20, n_genes=90, seed=3, world="diffuse", strength=2)
    sheet = read_samples(str(samples), columns=["site", "age", "sex", "stage", "split"])
    annotation = read_annotation(str(tmp_path / "genes.tsv"))
    with (tmp_path / "expression.tsv.gz").open("rb") as stream:
        block = read_matrix(stream, "matrix", list(sheet["sample_id"]), Options(), annotation)["expression"]
    drawn = simulate_expression(
        np.random.default_rng(3), n_patients=20, n_genes=90, world="diffuse", strength=2
    )
    order = block.features.sort_values(["chrom", "start"]).index.to_numpy()
    assert (np.diff(order) < 0).any()
    genes = block.features.loc[order, ["chrom", "start", "end"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(genes, drawn.genes.sort_values(["chrom", "start"], ignore_index=True))
    by_genome = drawn.genes.sort_values(["chrom", "start"]).index.to_numpy()
    np.testing.assert_array_equal(block.values[:, order], drawn.values[:, by_genome])
    assert sheet["label"].tolist() == [f"class_{label + 1}" for label in drawn.labels]
    assert sheet["site"].tolist() == drawn.covariates["site"].tolist()


def test_simulate_cohort__official_split_keeps_patients_together_and_labels_even(tmp_path):
    samples = simulate_cohort(tmp_path, n_patients=40, n_genes=10, n_classes=2, samples_per_patient=3)
    sheet = pd.read_csv(samples, sep="\t")
    assert sheet["sample_id"].is_unique
    assert len(sheet[["patient_id", "split", "label", "age", "site"]].drop_duplicates()) == 40
    counts = sheet.groupby(["label", "split"])["patient_id"].nunique()
    assert counts.to_dict() == {
        ("class_1", "test"): 5,
        ("class_1", "train"): 15,
        ("class_2", "test"): 5,
        ("class_2", "train"): 15,
    }


def test_simulate_cohort__same_arguments_same_bytes(tmp_path):
    def all_bytes(seed: int, layout: str) -> dict[str, bytes]:
        folder = tmp_path / "cohort"
        simulate_cohort(folder, n_patients=8, n_genes=20, seed=seed, layout=layout)
        names = [
            *cohort_files({"layout": layout}),
            *(["expression/P0001_S1.tsv"] if layout == "per_sample" else []),
        ]
        return {name: (folder / name).read_bytes() for name in names}

    for layout in ("tsv", "parquet", "per_sample"):
        first = all_bytes(1, layout)
        assert first == all_bytes(1, layout)
        other = all_bytes(2, layout)
        assert all(first[name] != other[name] for name in first)
    assert gzip.decompress(all_bytes(1, "tsv")["expression.tsv.gz"]).startswith(b"gene_id\tP0001_S1\t")
    assert not list((tmp_path / "cohort").glob(".*"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_patients", 3),
        ("n_patients", "many"),
        ("n_patients", 10.0),
        ("n_genes", 3),
        ("n_classes", 1),
        ("n_classes", True),
        ("strength", -1),
        ("strength", float("nan")),
        ("strength", 9),
        ("strength", "3"),
        ("world", "flat"),
        ("samples_per_patient", 0),
        ("missing_rate", 1.0),
        ("confounding", 1.5),
        ("seed", -1),
        ("seed", None),
        ("layout", "xlsx"),
    ],
)
def test_simulate_cohort__refuses_what_is_not_legal(tmp_path, key, value):
    with pytest.raises(InputError, match=f"simulate: {key}: found {value!r}, expected"):
        simulate_cohort(tmp_path, **{key: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["oncoarena.simulation.expression", "oncoarena.assays.expression"])
def test_import__planning_waits_for_no_scipy_and_no_framework(module):
    script = (
        f"import sys, {module}; "
        "print(*{'scipy', 'sklearn', 'numba', 'dask', 'tensorflow', 'keras', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
