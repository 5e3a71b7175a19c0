"""Where a hypothesis fails: the test samples that it calls wrong with the most confidence."""

import numpy as np
import pandas as pd

from oncoarena.referee.outcomes import Outcomes

COLUMNS = ["hypothesis", "sample_id", "label", "predicted", "probability"]
MOST = 20
"""Samples listed of one hypothesis."""


def failure_cases(outcomes: Outcomes, n_most: int = MOST) -> pd.DataFrame:
    """List the wrong calls of each hypothesis, the most confident first.

    A sample's probabilities are averaged over its test appearances, so each sample is listed at most once.
    Returns the columns of ``COLUMNS``: true label, called label, probability of the call.
    """
    sample_ids, code = _codes(outcomes)
    rows = []
    for name, probabilities in outcomes.probabilities.items():
        columns = list(outcomes.classes)
        mean = pd.DataFrame(probabilities, columns=columns).groupby(code).mean().to_numpy()
        truth = pd.Series(outcomes.truth).groupby(code).first().to_numpy()
        called, confidence = mean.argmax(axis=1), mean.max(axis=1)
        wrong = [sample for sample in (-confidence).argsort(kind="stable") if called[sample] != truth[sample]]
        rows += [
            (
                name,
                sample_ids[sample],
                columns[truth[sample]],
                columns[called[sample]],
                float(confidence[sample]),
            )
            for sample in wrong[:n_most]
        ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _codes(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Name the distinct samples (n_samples,) and number the rows by them (n_rows,)."""
    code, sample_ids = pd.factorize(outcomes.sample_ids, sort=True)
    return sample_ids, code
