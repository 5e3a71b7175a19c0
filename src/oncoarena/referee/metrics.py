"""What is measured: pure functions on arrays of truth and probabilities, each with its definition.

``truth`` is (n_samples,) int codes of classes, ``probabilities`` (n_samples, n_classes) float,
``weights`` (n_samples,) non-negative or None for ones. A metric that the data cannot define is NaN.
"""

from dataclasses import dataclass

import numpy as np

LOG_LOSS_FLOOR = 1e-7
"""Probabilities of the true class are raised to this before the logarithm: float32 holds no finer step."""

SPECIFICITIES = (0.90, 0.95, 0.98, 0.99)
"""Specificities at which sensitivity is read off in studies of two classes."""

SENSITIVITY_LEVELS = (0.80, 0.90, 0.95)
"""Sensitivities at which specificity is read off in studies of two classes."""

CALIBRATION_BINS = 15
"""Most bins of equal mass for calibration; small sets get one for each 20 samples, two at least."""


@dataclass(frozen=True)
class Metric:
    """How a metric is called, which way is better, and what it means."""

    title: str
    higher_is_better: bool | None
    """None where neither end is best (calibration slope and intercept)."""
    definition: str


METRICS: dict[str, Metric] = {
    "auroc_macro": Metric(
        "AUROC (macro)",
        True,
        "Area under the ROC curve of each class against the rest, ties one half, mean over the classes present.",
    ),
    "accuracy": Metric("Accuracy", True, "Share of samples whose most probable class is the true one."),
    "balanced_accuracy": Metric(
        "Balanced accuracy", True, "Mean over the classes present of the share recognised."
    ),
    "macro_f1": Metric(
        "Macro F1",
        True,
        "Harmonic mean of precision and recall for each class, mean over the classes present.",
    ),
    "mcc": Metric("MCC", True, "Matthews correlation of predicted and true class (Gorodkin's R_K)."),
    "top3_accuracy": Metric(
        "Top-3 accuracy", True, "Share of samples whose true class is among the three most probable."
    ),
    "log_loss": Metric(
        "Log loss",
        False,
        f"Mean of minus the natural logarithm of the true class's probability (floor {LOG_LOSS_FLOOR:g}).",
    ),
    "brier": Metric(
        "Brier score",
        False,
        "Mean squared distance of probabilities from the truth, summed over classes; halved for two classes.",
    ),
    "ece": Metric(
        "Calibration error (ECE)",
        False,
        "Mean gap between top-class probability and accuracy over bins of equal mass; biased upward in small sets.",
    ),
    "auprc": Metric("AUPRC", True, "Average precision of the positive class (two classes only)."),
    **{
        f"sensitivity_at_{100 * s:.0f}_specificity": Metric(
            f"Sensitivity at {100 * s:.0f} % specificity, read off the test curve",
            True,
            f"Highest point of the test ROC curve at a specificity of at least {100 * s:.0f} %: what the ranking "
            "allows, not what a threshold chosen beforehand achieves (for which see the operating points).",
        )
        for s in SPECIFICITIES
    },
    **{
        f"specificity_at_{100 * s:.0f}_sensitivity": Metric(
            f"Specificity at {100 * s:.0f} % sensitivity, read off the test curve",
            True,
            f"Highest specificity of the test ROC curve at a sensitivity of at least {100 * s:.0f} %: what the "
            "ranking allows, as for the sensitivities.",
        )
        for s in SENSITIVITY_LEVELS
    },
    "brier_reliability": Metric(
        "Brier reliability",
        False,
        "Squared gap between mean probability and frequency over bins of equal mass, each class against the rest, "
        "summed over classes; 0 is calibrated, noise alone keeps it above.",
    ),
    "brier_resolution": Metric(
        "Brier resolution",
        True,
        "How far probabilities tell samples apart: reliability plus uncertainty minus the Brier score.",
    ),
    "brier_uncertainty": Metric(
        "Brier uncertainty",
        None,
        "Brier score of always giving the class frequencies; the same for every hypothesis.",
    ),
    **{
        f"{key}{suffix}": Metric(
            f"{title}{where}", True, f"Share of {calls} calls that would be right {how}."
        )
        for key, title, calls in (("ppv", "PPV", "positive"), ("npv", "NPV", "negative"))
        for suffix, where, how in (
            ("", "", "at the stated prevalence, calling the most probable class"),
            *(
                (
                    f"_at_{100 * s:.0f}_specificity",
                    f" at {100 * s:.0f} % specificity, read off the test curve",
                    f"at the stated prevalence, with the sensitivity at {100 * s:.0f} % specificity read off the "
                    "test curve",
                )
                for s in SPECIFICITIES
            ),
        )
    },
    "auroc_delong": Metric(
        "AUROC (DeLong interval)", True, "The same area, interval after DeLong, patients as clusters."
    ),
    "calibration_slope": Metric(
        "Calibration slope",
        None,
        "Slope of the truth on the logit of the predicted probability; 1 is ideal, below 1 overconfident.",
    ),
    "calibration_intercept": Metric(
        "Calibration in the large",
        None,
        "Log odds by which the positive class is commoner than predicted; 0 is ideal.",
    ),
}


def confusion(
    truth: np.ndarray, predicted: np.ndarray, n_classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Count samples by true class (row) and predicted class (column): (n_classes, n_classes) float64."""
    cells = np.bincount(truth * n_classes + predicted, weights=weights, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes).astype(np.float64)


def accuracy_of(table: np.ndarray) -> np.ndarray:
    """Compute accuracy from a confusion table (n_classes, n_classes, ...); returns (...)."""
    return _divide(np.einsum("ii...->...", table), table.sum((0, 1)))


def balanced_accuracy_of(table: np.ndarray) -> np.ndarray:
    """Compute balanced accuracy from a confusion table (n_classes, n_classes, ...); returns (...)."""
    return mean_defined(_divide(np.einsum("ii...->i...", table), table.sum(1)))


def macro_f1_of(table: np.ndarray) -> np.ndarray:
    """Compute macro F1 from a confusion table; classes absent from the truth do not count."""
    actual, claimed = table.sum(1), table.sum(0)
    f1 = _divide(2 * np.einsum("ii...->i...", table), actual + claimed)
    return mean_defined(np.where(actual > 0, f1, np.nan))


def mcc_of(table: np.ndarray) -> np.ndarray:
    """Compute the multi-class Matthews correlation (R_K) from a confusion table.

    NaN where the truth holds one class only, 0 where one class only is predicted.
    Source: Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006.
    """
    actual, claimed, total = table.sum(1), table.sum(0), table.sum((0, 1))
    both = np.einsum("ii...->...", table) * total - (actual * claimed).sum(0)
    spread_actual = total**2 - (actual**2).sum(0)
    spread_claimed = total**2 - (claimed**2).sum(0)
    correlation = np.where(
        spread_claimed > 0, _divide(both, np.sqrt(spread_actual * np.maximum(spread_claimed, 0))), 0.0
    )
    return np.where(spread_actual > 0, correlation, np.nan)


def accuracy(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the share of samples whose most probable class (the first, where tied) is the true one."""
    return float(accuracy_of(_table(truth, probabilities, weights)))


def balanced_accuracy(
    truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Compute the mean recall over the classes that are present in the truth."""
    return float(balanced_accuracy_of(_table(truth, probabilities, weights)))


def macro_f1(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the mean F1 over the classes that are present in the truth."""
    return float(macro_f1_of(_table(truth, probabilities, weights)))


def mcc(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the multi-class Matthews correlation of the most probable class and the truth."""
    return float(mcc_of(_table(truth, probabilities, weights)))


def auroc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the probability that a positive sample outranks a negative one, ties counted one half.

    Parameters: ``positive`` (n_samples,) bool, ``scores`` (n_samples,). NaN if either side is empty.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    _, level = np.unique(scores, return_inverse=True)
    n_levels = int(level.max(initial=-1)) + 1
    hits = np.bincount(level, weights * positive, n_levels)
    others = np.bincount(level, weights * ~positive, n_levels)
    pairs = (hits * (np.cumsum(others) - 0.5 * others)).sum()
    return float(_divide(pairs, hits.sum() * others.sum()))


def macro_auroc(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the one-vs-rest AUROC averaged over classes; classes absent from the truth are skipped."""
    n_classes = probabilities.shape[1]
    # Two classes mirror each other: one is enough, and rounding cannot part the two.
    chosen = range(n_classes) if n_classes > 2 else [n_classes - 1]
    return float(mean_defined(np.array([auroc(truth == c, probabilities[:, c], weights) for c in chosen])))


def log_losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Compute each sample's log loss, natural logarithm, floor ``LOG_LOSS_FLOOR``: (n_samples,)."""
    return -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], LOG_LOSS_FLOOR))


def log_loss(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the mean log loss."""
    return _mean(log_losses(truth, probabilities), weights)


def brier_scores(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Compute each sample's Brier score, summed over classes (halved for two classes): (n_samples,).

    Source: Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
    """
    true = probabilities[np.arange(len(truth)), truth]
    whole = np.einsum("ij,ij->i", probabilities, probabilities) - 2 * true + 1
    return whole / 2 if probabilities.shape[1] == 2 else whole


def brier(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the mean Brier score."""
    return _mean(brier_scores(truth, probabilities), weights)


def top_k_hits(truth: np.ndarray, probabilities: np.ndarray, k: int) -> np.ndarray:
    """Say for each sample whether fewer than k other classes are at least as probable as the true one."""
    true = probabilities[np.arange(len(truth)), truth]
    # The true class counts itself once, hence <= k; a tie is no hit unless it fits, so constants gain nothing.
    return (probabilities >= true[:, None]).sum(1) <= k


def equal_mass_bins(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Deal values into bins of about equal size, equal values into the same bin: (n_values,) codes."""
    if len(values) == 0:
        return np.empty(0, np.int64)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, n_bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="left")


def calibration_bin_count(n_samples: int) -> int:
    """Choose the number of calibration bins: one for each 20 samples, 2 to ``CALIBRATION_BINS``."""
    return int(np.clip(n_samples // 20, 2, CALIBRATION_BINS))


def calibration_gaps(truth: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute each sample's bin of top-class probability, and probability minus hit: two (n_samples,)."""
    top = probabilities.max(axis=1)
    gaps = top - (probabilities.argmax(axis=1) == truth)
    return equal_mass_bins(top, calibration_bin_count(len(truth))), gaps


def expected_calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Compute the mean absolute gap of confidence and accuracy over bins of equal mass.

    Source: Nguyen and O'Connor 2015, doi:10.18653/v1/D15-1182 (adaptive bins).
    """
    weights = np.ones(len(truth)) if weights is None else weights
    bins, gaps = calibration_gaps(truth, probabilities)
    return float(_divide(np.abs(np.bincount(bins, gaps * weights)).sum(), weights.sum()))


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Average over the first axis what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    return _divide(np.where(defined, values, 0.0).sum(0), defined.sum(0))


def _table(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    return confusion(truth, probabilities.argmax(axis=1), probabilities.shape[1], weights)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    weights = np.ones(len(values)) if weights is None else weights
    return float(_divide((values * weights).sum(), weights.sum()))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    denominator = np.asarray(denominator, dtype=np.float64)
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1.0), np.nan)
