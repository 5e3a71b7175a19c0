"""What calibration changed: the losses of what hypotheses said before it, beside those that are judged."""

import numpy as np
import pandas as pd
from scipy import sparse

from oncoarena.referee.bootstrap import draw_patients, patient_strata, percentile_interval
from oncoarena.referee.metrics import brier_scores, log_losses
from oncoarena.referee.outcomes import Outcomes
from oncoarena.referee.predictions import expected_rows, raw_columns
from oncoarena.referee.weighing import weight_batches, weighted_sums

RECALIBRATION_COLUMNS = ["hypothesis", "metric", "before", "after", "change", "ci_low", "ci_high"]

LOSSES = {"log_loss": log_losses, "brier": brier_scores}


def raw_probabilities(
    predictions: pd.DataFrame, splits: pd.DataFrame, outcomes: Outcomes
) -> dict[str, np.ndarray]:
    """Return what each hypothesis that tells it said before calibration, rows as in ``outcomes``.

    Parameters: the checked ``predictions`` of a study, and its ``splits``.
    """
    columns = raw_columns(outcomes.classes)
    if not set(columns) <= set(predictions.columns):
        return {}
    keys = pd.MultiIndex.from_frame(expected_rows(splits))
    found = {}
    for name, rows in predictions.dropna(subset=columns).groupby("hypothesis", sort=False):
        order = pd.MultiIndex.from_frame(rows[keys.names]).get_indexer(keys)
        if (order >= 0).all():
            found[str(name)] = rows[columns].to_numpy(np.float64)[order]
    return found


def recalibration(
    outcomes: Outcomes, raw: dict[str, np.ndarray], n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """Compare each hypothesis's loss before calibration with that after it, on the same test samples.

    Parameters: ``raw``, (n_rows, n_classes) probabilities of some hypotheses, rows as in ``outcomes``.
    Returns a table with the columns of ``RECALIBRATION_COLUMNS``: means over repeats; change is after less before,
    so calibration helped where it is negative, with the 95 % interval of the bootstrap over patients.
    """
    repeats, of_row = np.unique(outcomes.repeats, return_inverse=True)
    shape = (len(repeats), outcomes.n_patients)

    def by_patient(values: np.ndarray) -> sparse.csr_matrix:
        """Sums (n_repeats, n_patients) of a value of each row."""
        return sparse.coo_matrix((values, (of_row, outcomes.patients)), shape=shape).tocsr()

    compared = [(name, metric) for name in raw for metric in LOSSES]
    losses = [
        [LOSSES[metric](outcomes.truth, said) for said in (raw[name], outcomes.probabilities[name])]
        for name, metric in compared
    ]
    if not compared:
        return pd.DataFrame(columns=RECALIBRATION_COLUMNS)
    changes = sparse.vstack([by_patient(after - before) for before, after in losses], format="csr")
    sizes = by_patient(np.ones(len(of_row)))
    rng = np.random.default_rng(seed)
    strata = patient_strata(outcomes.patients, outcomes.truth, len(outcomes.classes))
    drawn = []
    for weights in weight_batches(n_bootstrap, outcomes.n_patients, lambda n: draw_patients(strata, n, rng)):
        sums = weighted_sums(changes, weights).reshape(len(compared), len(repeats), -1)
        drawn.append((sums / weighted_sums(sizes, weights)).mean(axis=1))
    replicates = np.concatenate(drawn, axis=1)
    n_rows = np.bincount(of_row)
    rows = []
    for (name, metric), pair, sample in zip(compared, losses, replicates, strict=True):
        before, after = (float((np.bincount(of_row, loss) / n_rows).mean()) for loss in pair)
        low, high = percentile_interval(sample)
        change = after - before
        rows.append((name, metric, before, after, change, min(low, change), max(high, change)))
    return pd.DataFrame(rows, columns=RECALIBRATION_COLUMNS)
