"""What a positive and a negative call are worth where the disease is as common as stated."""

import numpy as np
from scipy import sparse

from oncoarena.referee.bootstrap import (
    CONFIDENCE,
    chunks,
    draw_patients,
    exact_interval,
    patient_strata,
    percentile_interval,
)
from oncoarena.referee.metrics import SPECIFICITIES
from oncoarena.referee.outcomes import Outcomes


def predictive_values(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute (PPV, NPV) by Bayes' rule, elementwise; NaN where nobody is called positive, or negative.

    Source: Altman and Bland 1994, doi:10.1136/bmj.309.6947.102.
    """
    sensitivity, specificity = np.asarray(sensitivity, float), np.asarray(specificity, float)
    true = sensitivity * prevalence, specificity * (1 - prevalence)
    called = true[0] + (1 - specificity) * (1 - prevalence), true[1] + (1 - sensitivity) * prevalence
    with np.errstate(invalid="ignore"):
        return tuple(
            np.where(total > 0, part / np.where(total > 0, total, 1), np.nan)
            for part, total in zip(true, called, strict=True)
        )


def prevalence_rows(
    outcomes: Outcomes,
    hypothesis: str,
    prevalence: float,
    sensitivities: dict[float, tuple[float, float, float]],
    n_bootstrap: int,
    seed: int,
) -> dict[str, tuple[float, float, float, str]]:
    """Estimate PPV and NPV of two classes at a prevalence: (estimate, low, high, how) by metric.

    ppv and npv are those of calling the most probable class. Their interval is that of the bootstrap over
    patients, widened to the values at the ends of the exact intervals of sensitivity and specificity, each at
    the root of the coverage (they come from different patients, so both hold together as often as
    stated). ppv_at_... and npv_at_... take the stated specificity as known and the interval of the
    sensitivity there, through which they rise.
    Parameters: ``sensitivities`` gives (estimate, low, high) at each of ``SPECIFICITIES``.
    Source: Mercaldo 2007, doi:10.1002/sim.2677.
    """
    said = f"prevalence {prevalence:g}"
    positive = outcomes.truth == outcomes.positive
    called = outcomes.probabilities[hypothesis].argmax(axis=1) == outcomes.positive
    n_units = outcomes.n_patients
    # Cells: true and false calls of each side; rates of repeats are averaged as everywhere.
    rates = []
    for repeat in np.unique(outcomes.repeats):
        rows = outcomes.repeats == repeat
        cells = 2 * positive[rows] + called[rows]
        table = (np.ones(len(cells)), (cells, outcomes.patients[rows]))
        rates.append(sparse.csr_matrix(table, shape=(4, n_units)))

    def measure(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        by_repeat = []
        for table in rates:
            right_no, wrong_yes, wrong_no, right_yes = table @ weights.astype(np.float64)
            with np.errstate(invalid="ignore", divide="ignore"):
                by_repeat.append((right_yes / (right_yes + wrong_no), right_no / (right_no + wrong_yes)))
        return tuple(np.mean(by_repeat, axis=0))

    whole = measure(np.ones((n_units, 1)))
    strata = patient_strata(outcomes.patients, outcomes.truth, 2)
    rng = np.random.default_rng(seed)
    parts = [measure(draw_patients(strata, size, rng)) for size in chunks(n_bootstrap, n_units)]
    drawn = predictive_values(*(np.concatenate(side) for side in zip(*parts, strict=True)), prevalence)
    trials = [len(np.unique(outcomes.patients[side])) for side in (positive, ~positive)]
    ends = [exact_interval(float(rate[0]), n, CONFIDENCE**0.5) for rate, n in zip(whole, trials, strict=True)]
    corners = [predictive_values(*corner, prevalence) for corner in zip(*ends, strict=True)]
    found = {}
    for k, name in enumerate(("ppv", "npv")):
        estimate = float(predictive_values(*whole, prevalence)[k][0])
        low, high = percentile_interval(drawn[k])
        low, high = np.fmin(low, corners[0][k]), np.fmax(high, corners[1][k])
        if not np.isfinite(estimate):
            low = high = np.nan
        found[name] = estimate, float(low), float(high), f"bootstrap with Clopper-Pearson; {said}"
    for specificity in SPECIFICITIES:
        values = [predictive_values(rate, specificity, prevalence) for rate in sensitivities[specificity]]
        for k, name in enumerate(("ppv", "npv")):
            key = f"{name}_at_{100 * specificity:.0f}_specificity"
            found[key] = *(float(value[k]) for value in values), f"from that of the sensitivity; {said}"
    return found
