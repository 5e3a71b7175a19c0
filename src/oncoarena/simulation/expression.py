"""A cohort of expression profiles with a signal of stated strength, in a matrix or one table a sample."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from oncoarena.simulation.arguments import check_choice, check_number, check_seed, check_whole
from oncoarena.simulation.people import SITES
from oncoarena.simulation.worlds import WORLDS, draw_prototypes, equidistant
from oncoarena.simulation.writing import write_matrix, write_sheet, write_text_table
from oncoarena.splits import deal_folds

LAYOUTS = ("tsv", "parquet", "per_sample")

SITE_DISTANCE = 4.0
"""Distance between two sites at full confounding, in the unit of ``strength``."""

_CHROMOSOMES = tuple(f"chr{name}" for name in (*range(1, 23), "X"))
# Of hg38 (GCA_000001405.15), rounded down.
_CHROMOSOME_MBP = (
    *(248, 242, 198, 190, 181, 170, 159, 145, 138, 133, 135, 133),
    *(114, 107, 101, 90, 83, 80, 58, 64, 46, 50, 156),
)
_GENES_A_CHROMOSOME = 40
_N_FACTORS = 5
_PATIENT_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class SimulatedExpression:
    """Expression in genome order, who it is of, and the truth that it was drawn from.

    A sample's profile in units of ``scale`` around ``baseline`` is a prototype of its class (drawn evenly,
    per patient) plus its site's shift plus normal noise of covariance I + loadings @ loadings.T.
    """

    values: np.ndarray
    """(n_samples, n_genes) float32, log2 scale, four decimals; NaN where missing."""
    labels: np.ndarray
    """(n_samples,) int64 class codes."""
    patients: np.ndarray
    """(n_samples,) int64 patient numbers."""
    covariates: pd.DataFrame
    """n_samples rows: site, age (years), sex, stage."""
    genes: pd.DataFrame
    """n_genes rows: chrom, start, end (bp, 0-based half-open), sorted."""
    baseline: np.ndarray
    """(n_genes,) log2 scale."""
    scale: np.ndarray
    """(n_genes,) log2 scale."""
    prototypes: np.ndarray
    """(n_classes, n_prototypes, n_genes) in units of ``scale``."""
    loadings: np.ndarray
    """(n_genes, n_factors) in units of ``scale``."""


def cohort_files(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the files that ``simulate_cohort`` writes with these arguments, beside those of single samples."""
    matrix = {"tsv": ("expression.tsv.gz",), "parquet": ("expression.parquet",), "per_sample": ()}
    return ("samples.tsv", *matrix[arguments.get("layout", "tsv")], "genes.tsv")


def check_arguments(
    n_patients: int,
    n_genes: int,
    n_classes: int,
    strength: float,
    world: str,
    samples_per_patient: int,
    missing_rate: float,
    confounding: float,
    seed: int = 0,
    layout: str = "tsv",
) -> None:
    """Raise InputError for an argument of ``simulate_cohort`` that is not legal."""
    check_choice("layout", layout, LAYOUTS)
    check_seed(seed)
    check_choice("world", world, WORLDS)
    check_whole("n_classes", n_classes, 2, 100)
    # Two patients of each class, and room for every class to have genes of its own.
    check_whole("n_patients", n_patients, 2 * n_classes, 1_000_000)
    check_whole("n_genes", n_genes, 2 * n_classes, 1_000_000)
    check_whole("samples_per_patient", samples_per_patient, 1, 1000)
    check_number("strength", strength, 0, 8)
    check_number("missing_rate", missing_rate, 0, 0.99)
    check_number("confounding", confounding, 0, 1)


def simulate_cohort(
    directory: Path,
    *,
    n_patients: int = 200,
    n_genes: int = 1000,
    n_classes: int = 2,
    strength: float = 3.0,
    world: str = "local",
    samples_per_patient: int = 1,
    missing_rate: float = 0.0,
    confounding: float = 0.0,
    seed: int = 0,
    layout: str = "tsv",
) -> Path:
    """Write a simulated cohort: samples.tsv, genes.tsv and the expression; same arguments, same bytes.

    Parameters: see ``simulate_expression``; ``layout`` is ``tsv`` (expression.tsv.gz, genes x samples),
    ``parquet`` (expression.parquet, genes x samples) or ``per_sample`` (expression/<sample>.tsv, the path of
    each in the sheet's column ``expression``). Genes are listed in an order that says nothing about where they
    lie; genes.tsv does. About a quarter of the patients of each class is in the ``split`` test.
    Returns the path of samples.tsv, written last. Raises InputError for an argument that is not legal.
    """
    drawn = {
        "n_patients": n_patients,
        "n_genes": n_genes,
        "n_classes": n_classes,
        "strength": strength,
        "world": world,
        "samples_per_patient": samples_per_patient,
        "missing_rate": missing_rate,
        "confounding": confounding,
    }
    check_arguments(**drawn, seed=seed, layout=layout)
    rng = np.random.default_rng(seed)
    simulated = simulate_expression(rng, **drawn)
    order = rng.permutation(n_genes)
    ids = [f"gene_{number:05d}" for number in range(1, n_genes + 1)]
    samples = _sample_sheet(simulated, rng)
    values = simulated.values[:, order]

    directory = Path(directory)
    if layout == "per_sample":
        paths = [directory / "expression" / f"{sample_id}.tsv" for sample_id in samples["sample_id"]]
        for path, row in zip(paths, values, strict=True):
            write_text_table(path, pa.table({"gene_id": ids, "expression": _nullable(row)}))
        samples["expression"] = [path.as_posix() for path in paths]
    else:
        columns = dict(zip(samples["sample_id"], map(_nullable, values), strict=True))
        matrix = directory / ("expression.tsv.gz" if layout == "tsv" else "expression.parquet")
        write_matrix(matrix, pa.table({"gene_id": ids, **columns}))
    genes = simulated.genes.iloc[order].reset_index(drop=True)
    genes.insert(0, "id", ids)
    genes["gene"] = [f"SIM{number}" for number in range(1, n_genes + 1)]
    write_sheet(directory / "genes.tsv", genes)
    write_sheet(directory / "samples.tsv", samples)
    return directory / "samples.tsv"


def simulate_expression(
    rng: np.random.Generator,
    *,
    n_patients: int,
    n_genes: int,
    n_classes: int = 2,
    strength: float,
    world: str,
    samples_per_patient: int = 1,
    missing_rate: float = 0.0,
    confounding: float = 0.0,
) -> SimulatedExpression:
    """Draw a cohort whose classes differ by a stated strength in a stated way.

    ``strength`` is the d' of an oracle that knows the truth: telling any one class from any other by one
    sample's complete profile, its AUROC is Phi(strength / sqrt(2)); for classes that are single normal clouds it
    is the Mahalanobis distance of their means. So worlds are matched: at 0 labels have nothing to do with anything,
    at 3 the oracle's AUROC is 0.983, in every world. What can be learned from n samples is less.

    ``world`` is where the signal lives:
    ``diffuse``  every gene shifts a little;
    ``local``    a few runs of neighbours on a chromosome shift together;
    ``sparse``   a handful of genes shift a lot;
    ``cluster``  each class is a mixture of three prototypes around a common mean, so that no gene and no weighted
                 sum of genes tells the classes apart by its mean, but similar profiles share a class.

    Parameters: ``samples_per_patient`` samples share half of the noise and all of the rest; ``missing_rate``
    is the share of values that are missing, at random; age, sex, stage and site have nothing to do with
    the label, but ``confounding`` (0 to 1) is the share of patients whose site is decided by their label, and
    scales a shift of each site's profiles, ``SITE_DISTANCE`` apart at 1.
    Raises InputError for an argument that is not legal.
    """
    check_arguments(
        n_patients, n_genes, n_classes, strength, world, samples_per_patient, missing_rate, confounding
    )
    genes = _place_genes(rng, n_genes)
    baseline = rng.uniform(6, 12, n_genes)
    scale = rng.uniform(0.5, 1.0, n_genes)
    loadings = rng.normal(0, 0.4, (n_genes, min(_N_FACTORS, n_genes)))
    prototypes = draw_prototypes(rng, world, float(strength), n_classes, genes["chrom"].to_numpy(), loadings)

    labels = rng.permutation(np.arange(n_patients) % n_classes)
    site = rng.integers(len(SITES), size=n_patients)
    site = np.where(rng.random(n_patients) < confounding, labels % len(SITES), site)
    covariates = pd.DataFrame(
        {
            "site": np.array(SITES)[site],
            "age": np.clip(rng.normal(60, 12, n_patients).round(), 18, 95).astype(np.int64),
            "sex": rng.choice(["F", "M"], n_patients),
            "stage": rng.choice(["I", "II", "III", "IV"], n_patients),
        }
    )
    site_shifts = equidistant(rng.normal(size=(n_genes, len(SITES))), loadings)
    centres = prototypes[labels, rng.integers(prototypes.shape[1], size=n_patients)]
    centres += confounding * SITE_DISTANCE / np.sqrt(2) * site_shifts.T[site]

    patients = np.repeat(np.arange(n_patients), samples_per_patient)
    shared = _draw_noise(rng, n_patients, loadings)[patients]
    own = _draw_noise(rng, len(patients), loadings)
    noise = np.sqrt(_PATIENT_SHARE) * shared + np.sqrt(1 - _PATIENT_SHARE) * own
    values = np.round(baseline + scale * (centres[patients] + noise), 4).astype(np.float32)
    values[rng.random(values.shape) < missing_rate] = np.nan
    return SimulatedExpression(
        values,
        labels[patients],
        patients,
        covariates.iloc[patients].reset_index(drop=True),
        genes,
        baseline,
        scale,
        prototypes,
        loadings,
    )


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values, from_pandas=True)


def _sample_sheet(simulated: SimulatedExpression, rng: np.random.Generator) -> pd.DataFrame:
    patients = simulated.patients
    patient_ids = [f"P{number + 1:04d}" for number in patients]
    of_patient = pd.Series(patients).groupby(patients).cumcount()
    folds = deal_folds(simulated.labels, patients, 4, rng)
    return pd.DataFrame(
        {
            "sample_id": [
                f"{patient}_S{turn + 1}" for patient, turn in zip(patient_ids, of_patient, strict=True)
            ],
            "patient_id": patient_ids,
            "label": [f"class_{label + 1}" for label in simulated.labels],
            **simulated.covariates,
            "split": np.where(folds == 0, "test", "train"),
        }
    )


def _place_genes(rng: np.random.Generator, n_genes: int) -> pd.DataFrame:
    """Place genes evenly at random on the first chromosomes, as many as they fill."""
    n_chromosomes = int(np.clip(n_genes // _GENES_A_CHROMOSOME, 1, len(_CHROMOSOME_MBP)))
    sizes = np.array(_CHROMOSOME_MBP[:n_chromosomes]) * 1e6
    where = np.sort(rng.uniform(0, sizes.sum(), n_genes))
    edges = np.concatenate([[0], np.cumsum(sizes)])
    chromosome = np.searchsorted(edges, where, side="right") - 1
    start = (where - edges[chromosome]).astype(np.int64)
    length = rng.integers(1_000, 50_000, n_genes)
    end = np.minimum(start + length, sizes[chromosome].astype(np.int64) + 1)
    return pd.DataFrame({"chrom": np.array(_CHROMOSOMES)[chromosome], "start": start, "end": end})


def _draw_noise(rng: np.random.Generator, n_rows: int, loadings: np.ndarray) -> np.ndarray:
    """Draw (n_rows, n_genes) of covariance I + loadings @ loadings.T: each gene's own, and shared programmes."""
    n_genes, n_factors = loadings.shape
    return rng.standard_normal((n_rows, n_genes)) + rng.standard_normal((n_rows, n_factors)) @ loadings.T
