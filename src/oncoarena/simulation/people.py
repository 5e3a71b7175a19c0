"""Who a simulated cohort is of: patients, covariates that know nothing of the label, an official split."""

import numpy as np
import pandas as pd

from oncoarena.splits import deal_folds

SITES = ("site_a", "site_b", "site_c")
STAGES = ("I", "II", "III", "IV")


def draw_people(rng: np.random.Generator, labels: np.ndarray, confounding: float) -> pd.DataFrame:
    """Draw site, age (years), sex and stage for each patient, (n_patients,) rows.

    ``confounding`` is the share of patients whose site is decided by their label; all else knows nothing of it.
    """
    n = len(labels)
    site = rng.integers(len(SITES), size=n)
    site = np.where(rng.random(n) < confounding, labels % len(SITES), site)
    return pd.DataFrame(
        {
            "site": np.array(SITES)[site],
            "age": np.clip(rng.normal(62, 11, n).round(), 18, 95).astype(np.int64),
            "sex": rng.choice(["F", "M"], n),
            "stage": rng.choice(STAGES, n),
        }
    )


def sample_sheet(
    rng: np.random.Generator,
    patients: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...],
    people: pd.DataFrame,
) -> pd.DataFrame:
    """Build the sheet: sample_id, patient_id, label, the covariates, split (a quarter of the patients is test).

    Parameters: ``patients`` (n_samples,) numbers of patients; ``labels`` and ``people`` are by patient, and
    ``names`` the names of the labels.
    """
    turn = pd.Series(patients).groupby(patients).cumcount().to_numpy()
    folds = deal_folds(labels[patients], patients, 4, rng)
    return pd.DataFrame(
        {
            "sample_id": [f"P{p + 1:04d}_S{t + 1}" for p, t in zip(patients, turn, strict=True)],
            "patient_id": [f"P{p + 1:04d}" for p in patients],
            "label": np.array(names)[labels[patients]],
            **people.iloc[patients].reset_index(drop=True),
            "split": np.where(folds == 0, "test", "train"),
        }
    )
