"""What a positive and a negative call are worth where the disease is as common as stated."""

from collections.abc import Sequence

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
from oncoarena.referee.weighing import weighted_sums


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


def predictive_interval(
    rates: Sequence[float], drawn: Sequence[np.ndarray], trials: Sequence[int], prevalence: float
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Compute PPV and NPV with their 95 % interval: (estimate, low, high) of each.

    The interval is that of the bootstrap, widened to the values at the ends of the exact intervals of both rates,
    each at the root of the coverage: they come from different patients, so both hold together as often as stated.
    Parameters: sensitivity and specificity, in this order, as ``rates``, as bootstrap replicates (n_replicates,) and as
    numbers of patients behind them. Source: Mercaldo 2007, doi:10.1002/sim.2677.
    """
    ends = [exact_interval(rate, n, CONFIDENCE**0.5) for rate, n in zip(rates, trials, strict=True)]
    corners = [predictive_values(*corner, prevalence) for corner in zip(*ends, strict=True)]
    replicates = predictive_values(*drawn, prevalence)
    found = []
    for k, value in enumerate(predictive_values(*rates, prevalence)):
        low, high = percentile_interval(replicates[k])
        low, high = np.fmin(low, corners[0][k]), np.fmax(high, corners[1][k])
        if not np.isfinite(value):
            low = high = np.nan
        found.append((float(value), float(low), float(high)))
    return tuple(found)


def prevalence_rows(
    outcomes: Outcomes,
    hypothesis: str,
    prevalence: float,
    sensitivities: dict[float, tuple[float, float, float]],
    n_bootstrap: int,
    seed: int,
) -> dict[str, tuple[float, float, float, str]]:
    """Estimate PPV and NPV of two classes at a prevalence: (estimate, low, high, how) by metric.

    ppv and npv are those of calling the most probable class (see ``predictive_interval``). ppv_at_... and
    npv_at_... take the stated specificity as known and the interval of the sensitivity there, through which they
    rise: both are read off the test curve. Those at a threshold chosen on training samples are
    in ``operating_points``.
    Parameters: ``sensitivities`` gives (estimate, low, high) at each of ``SPECIFICITIES``.
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
            right_no, wrong_yes, wrong_no, right_yes = weighted_sums(table, weights)
            with np.errstate(invalid="ignore", divide="ignore"):
                by_repeat.append((right_yes / (right_yes + wrong_no), right_no / (right_no + wrong_yes)))
        return tuple(np.mean(by_repeat, axis=0))

    whole = measure(np.ones((n_units, 1)))
    strata = patient_strata(outcomes.patients, outcomes.truth, 2)
    rng = np.random.default_rng(seed)
    parts = [measure(draw_patients(strata, size, rng)) for size in chunks(n_bootstrap, n_units)]
    drawn = [np.concatenate(side) for side in zip(*parts, strict=True)]
    trials = [len(np.unique(outcomes.patients[side])) for side in (positive, ~positive)]
    pair = predictive_interval([float(rate[0]) for rate in whole], drawn, trials, prevalence)
    found = {
        name: (*values, f"bootstrap with Clopper-Pearson; {said}")
        for name, values in zip(("ppv", "npv"), pair, strict=True)
    }
    for specificity in SPECIFICITIES:
        values = [predictive_values(rate, specificity, prevalence) for rate in sensitivities[specificity]]
        for k, name in enumerate(("ppv", "npv")):
            key = f"{name}_at_{100 * specificity:.0f}_specificity"
            found[key] = *(float(value[k]) for value in values), f"from that of the sensitivity; {said}"
    return found
