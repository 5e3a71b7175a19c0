"""Statistics with a closed-form standard error over patients: DeLong's area, recalibration, calibration tests.

Each gives an estimate and one influence value a patient (the patient's share of the estimate's error),
so that repeats can be averaged before the variance is taken and patients stay the unit.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from oncoarena.referee.bootstrap import CONFIDENCE
from oncoarena.referee.metrics import LOG_LOSS_FLOOR


@dataclass(frozen=True)
class Influence:
    """An estimate with the influence of each patient on it; ``values`` is (n_patients,), mean near 0."""

    estimate: float
    values: np.ndarray

    @property
    def standard_error(self) -> float:
        """Square root of the summed squares, with the small-sample factor n / (n - 1)."""
        n_patients = len(self.values)
        if not np.isfinite(self.estimate) or n_patients < 2:
            return np.nan
        return float(np.sqrt((self.values**2).sum() * n_patients / (n_patients - 1)))

    def interval(self) -> tuple[float, float]:
        """Compute the normal interval at the nominal coverage."""
        reach = norm.ppf((1 + CONFIDENCE) / 2) * self.standard_error
        return self.estimate - reach, self.estimate + reach

    def p_value(self, null: float = 0.0) -> float:
        """Compute the two-sided p value of the estimate being ``null``."""
        error = self.standard_error
        distance = abs(self.estimate - null)
        if not np.isfinite(error):
            return np.nan
        if error == 0:
            return 1.0 if distance == 0 else 0.0
        return float(2 * norm.sf(distance / error))


def mean_influence(parts: list[Influence]) -> Influence:
    """Average estimates of several repeats on the same patients."""
    return Influence(
        float(np.mean([part.estimate for part in parts])), np.mean([part.values for part in parts], axis=0)
    )


def difference(a: Influence, b: Influence) -> Influence:
    """Subtract two estimates made on the same patients."""
    return Influence(a.estimate - b.estimate, a.values - b.values)


def delong(positive: np.ndarray, scores: np.ndarray, patients: np.ndarray, n_patients: int) -> Influence:
    """Compute the AUROC with DeLong's variance, patients as clusters.

    Parameters: ``positive`` (n_rows,) bool, ``scores`` (n_rows,), ``patients`` (n_rows,) codes.
    With one row a patient this is DeLong's interval up to the factor of the sample size.
    Source: DeLong 1988, doi:10.2307/2531595; clusters: Obuchowski 1997, doi:10.2307/2533958;
    midranks: Sun and Xu 2014, doi:10.1109/LSP.2014.2337313.
    """
    hits, others = int(positive.sum()), int((~positive).sum())
    if not hits or not others:
        return Influence(np.nan, np.zeros(n_patients))
    ranks = rankdata(scores)
    placement = np.empty(len(scores))
    placement[positive] = (ranks[positive] - rankdata(scores[positive])) / others
    placement[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / hits
    area = float(placement[positive].mean())
    share = (placement - area) / np.where(positive, hits, others)
    return Influence(area, np.bincount(patients, share, n_patients))


def recalibration(
    positive: np.ndarray, probability: np.ndarray, patients: np.ndarray, n_patients: int
) -> tuple[Influence, Influence]:
    """Fit the truth on the logit of the predicted probability: calibration slope, and in the large.

    The slope comes with a free intercept; calibration in the large is the intercept at slope 1.
    Returns (slope, intercept); NaN where the classes are separated or a side is empty.
    Source: Cox 1958, doi:10.1093/biomet/45.3-4.562; Van Calster 2019, doi:10.1186/s12916-019-1466-7.
    """
    undefined = Influence(np.nan, np.zeros(n_patients))
    if positive.all() or not positive.any():
        return undefined, undefined
    x = logit(np.clip(probability, LOG_LOSS_FLOOR, 1 - LOG_LOSS_FLOOR))
    y = positive.astype(np.float64)
    intercept = _logistic(np.ones((len(x), 1)), x, y, patients, n_patients)[0]
    if np.ptp(x) == 0:
        return undefined, intercept
    slope = _logistic(np.column_stack([np.ones_like(x), x]), np.zeros_like(x), y, patients, n_patients)[1]
    return slope, intercept


def _logistic(
    design: np.ndarray, offset: np.ndarray, y: np.ndarray, patients: np.ndarray, n_patients: int
) -> list[Influence]:
    """Fit a logistic regression by Newton's method; influences from the patient-clustered sandwich."""
    n_terms = design.shape[1]
    undefined = [Influence(np.nan, np.zeros(n_patients))] * n_terms
    coefficients = np.zeros(n_terms)
    for _ in range(50):
        fitted = expit(design @ coefficients + offset)
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        if np.linalg.cond(information) > 1e12:
            return undefined
        score = design.T @ (y - fitted)
        step = np.linalg.solve(information, score)
        # A long step may overshoot where the curve is flat; shorten it rather than diverge.
        coefficients = coefficients + step / max(1.0, np.abs(step).max() / 2)
        if np.abs(step).max() < 1e-10:
            break
    else:
        return undefined
    shares = np.linalg.solve(information, (design * (y - fitted)[:, None]).T)  # (n_terms, n_rows)
    return [
        Influence(float(value), np.bincount(patients, share, n_patients))
        for value, share in zip(coefficients, shares, strict=True)
    ]


def overconfidence(
    truth: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, n_patients: int
) -> tuple[float, float]:
    """Test whether the probability of the true class is what the probabilities themselves promise.

    A calibrated forecast expects to give the true class the probability sum(p^2); giving less is
    overconfidence. Spiegelhalter's test, carried to several classes: the variance is what the probabilities
    promise too, times the factor by which rows of one patient (samples, repeats) vary together.
    Returns (mean promised minus mean given, z); z is NaN where every probability is 0 or 1 or all
    forecasts are alike.
    Source: Spiegelhalter 1986, doi:10.1002/sim.4780050506.
    """
    squares = np.einsum("ij,ij->i", probabilities, probabilities)
    gaps = squares - probabilities[np.arange(len(truth)), truth]
    together = (np.bincount(patients, gaps, n_patients) ** 2).sum()
    promised = (np.einsum("ij,ij,ij->i", *[probabilities] * 3) - squares**2).sum()
    # Certain forecasts promise no variance; where they err, what is seen has to do.
    seen = (gaps**2).sum()
    variance = promised * together / seen if seen > 0 and promised > 1e-12 * len(gaps) else together
    return float(gaps.mean()), float(gaps.sum() / np.sqrt(variance)) if variance > 0 else np.nan
