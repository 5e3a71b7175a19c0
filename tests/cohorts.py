"""Toy cohorts with a planted signal, for tests of what is trained on a cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from oncoarena.cohort import Block, BlockSpec, Cohort, LabelledCohort, feature_table


def toy_block(name: str, values: np.ndarray, *, coordinates: bool = False) -> Block:
    """Wrap (n_samples, n_features) values as a read-only float32 block.

    With ``coordinates`` the features are 1 Mb bins, the first half on chr1, the others on chr2.
    """
    values = np.array(values, dtype=np.float32)
    values.flags.writeable = False
    n_features = values.shape[1]
    ids = [f"{name}_{j}" for j in range(n_features)]
    if coordinates:
        position = np.arange(n_features)
        on_second = position >= (n_features + 1) // 2
        start = (position - on_second * ((n_features + 1) // 2)) * 1_000_000
        chrom = np.where(on_second, "chr2", "chr1")
        features = feature_table(ids, list(chrom), list(start), list(start + 1_000_000))
    else:
        features = feature_table(ids)
    spec = BlockSpec(name, ("sample", "feature"), "float32", "arbitrary", f"Toy values of {name}.")
    return Block(spec, values, features)


def planted_values(
    labels: np.ndarray,
    n_features: int,
    *,
    n_informative: int,
    strength: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw unit-variance noise and shift ``n_informative`` features by class.

    Each informative feature is raised by ``strength`` standard deviations in one class; the classes
    take turns, so feature j belongs to class j modulo the number of classes. They are spread evenly
    over the features. Returns (n_samples, n_features) float64.
    """
    values = rng.standard_normal((len(labels), n_features))
    n_classes = int(labels.max()) + 1
    for turn, feature in enumerate(informative_features(n_features, n_informative)):
        values[:, feature] += strength * (labels == turn % n_classes)
    return values


def informative_features(n_features: int, n_informative: int) -> np.ndarray:
    """Tell which columns ``planted_values`` shifts: (n_informative,) positions, evenly spread."""
    return np.linspace(0, n_features - 1, n_informative).round().astype(np.int64)


def toy_cohort(
    labels: Sequence[int],
    blocks: Mapping[str, np.ndarray],
    *,
    classes: Sequence[str],
    patients: Sequence[str] | None = None,
    covariates: pd.DataFrame | None = None,
    coordinates: Sequence[str] = (),
    prefix: str = "s",
) -> LabelledCohort:
    """Assemble a labelled cohort; without ``patients`` every sample is a patient of its own.

    ``coordinates`` names the blocks whose features get genome coordinates.
    """
    labels = np.array(labels, dtype=np.int64)
    sample_ids = np.array([f"{prefix}{i}" for i in range(len(labels))])
    patient_ids = sample_ids.copy() if patients is None else np.array(patients)
    frame = pd.DataFrame(index=range(len(labels))) if covariates is None else covariates
    made = {name: toy_block(name, values, coordinates=name in coordinates) for name, values in blocks.items()}
    return LabelledCohort(sample_ids, patient_ids, made, frame, labels=labels, classes=tuple(classes))


def with_values(cohort: Cohort, values: Mapping[str, np.ndarray]) -> Cohort:
    """The same cohort with other values (read-only float32) in the named blocks."""
    blocks = dict(cohort.blocks)
    for name, replacement in values.items():
        replacement = np.array(replacement, dtype=np.float32)
        replacement.flags.writeable = False
        blocks[name] = replace(blocks[name], values=replacement)
    return replace(cohort, blocks=blocks)


CONFORMANCE_CLASSES = ("brain", "colon", "lung", "skin")


def untidy_cohort(role: str, block_names: Sequence[str] = ("expression", "coverage")) -> LabelledCohort:
    """Make a cohort with an obvious signal and what real tables bring along.

    ``role`` is "train" (48 samples of 24 patients) or "test" (60 samples of 60 other patients). Three classes
    have samples, the fourth ("skin") has none. In every block (60 features, then 40, then 60 ...) each class
    raises its own contiguous third of the features by 1.5 standard deviations. The first block has no
    coordinates, the others have; they also have missing values, a constant feature and one without any
    value. Age differs by class; one age and one sex are missing.
    """
    rng = np.random.default_rng([len(block_names), 1 if role == "train" else 2])
    n_samples = 48 if role == "train" else 60
    n_patients = 24 if role == "train" else 60
    patient = np.arange(n_samples) % n_patients
    labels = patient % 3
    blocks = {}
    for number, name in enumerate(block_names):
        n_features = 40 if number % 2 else 60
        third = np.arange(n_features) * 3 // n_features
        values = rng.standard_normal((n_samples, n_features)) + 1.5 * (third == labels[:, None])
        # A unit far from 1 and an offset, as measurements have.
        values = values * 5.0 + 100.0
        if number or len(block_names) == 1:
            values[rng.random(values.shape) < 0.05] = np.nan
            values[:, n_features // 2] = 7.0
            values[:, n_features // 3] = np.nan
        blocks[name] = values
    age = 40.0 + 15.0 * labels + 4.0 * rng.standard_normal(n_samples)
    age[3] = np.nan
    sex = rng.choice(["female", "male"], n_samples)
    sex[5] = ""
    return toy_cohort(
        labels,
        blocks,
        classes=CONFORMANCE_CLASSES,
        patients=[f"{role}_patient{p}" for p in patient],
        covariates=pd.DataFrame({"age": age, "sex": pd.Series(sex, dtype=str)}),
        coordinates=block_names[1:] or block_names,
        prefix=f"{role}_",
    )


def grouped_samples():
    """Features (21, 8), one-hot targets of 3 classes, and codes of 9 patients with 1 to 4 samples."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(21, 8))
    labels = rng.integers(0, 3, size=21)
    return x, np.eye(3)[labels], np.repeat(np.arange(9), [1, 1, 2, 2, 2, 3, 3, 3, 4])
