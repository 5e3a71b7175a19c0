"""Choosing inside the training part: inner folds, log loss, greedy selection and temperature."""

import numpy as np

from oncoarena.cohort import LabelledCohort
from oncoarena.errors import NotApplicable
from oncoarena.splits import deal_folds

# Probabilities are held above this in a log loss, so one certain mistake stays finite.
PROBABILITY_FLOOR = 1e-12
# Bounds of the factor on the logits.
TEMPERATURE_BOUNDS = (1e-3, 1e3)
# Newton steps, each at least a halving of the bracket in the logarithm: exact to 1e-10.
TEMPERATURE_STEPS = 60
# Greedy selection starts from the mean of this many best members ...
GREEDY_START = 3
# ... and stops when one more member gains less than this share of a standard error of the log loss.
GREEDY_GAIN = 0.02


def inner_folds(cohort: LabelledCohort, n_folds: int, n_repeats: int, seed: int) -> np.ndarray:
    """Deal the training samples into inner folds, patient by patient, stratified by label.

    With fewer patients than ``n_folds`` there are as many folds as patients. A class with fewer
    patients than folds is missing from some folds, never split within a patient.

    Returns (n_repeats, n_samples) int64 fold numbers, 0 to (folds - 1).
    Raises NotApplicable with fewer than two patients.
    """
    n_patients = len(np.unique(cohort.patient_ids))
    if n_patients < 2:
        raise NotApplicable(f"needs training samples of at least 2 patients, found {n_patients}")
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            deal_folds(cohort.labels, cohort.patient_ids, min(n_folds, n_patients), rng)
            for _ in range(n_repeats)
        ]
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits (..., n_classes) into probabilities (..., n_classes) float64 that sum to 1."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative logarithm of the probability given to the true class (nats).

    Parameters: ``probabilities`` (n_samples, n_classes), ``labels`` (n_samples,) class codes.
    """
    truth = probabilities[np.arange(len(labels)), labels]
    return float(-np.mean(np.log(np.clip(truth, PROBABILITY_FLOOR, 1.0))))


def fit_temperature(logits: np.ndarray, labels: np.ndarray, offset: np.ndarray | None = None) -> float:
    """Fit the factor T that makes softmax(T * logits + offset) a calibrated probability.

    T multiplies (it is the inverse of the temperature of physics). It minimises the log loss against
    targets smoothed by Laplace's rule of succession: the true class has (n + 1) / (n + k), the k - 1
    others share the rest, so n samples without an error do not give certainty. The loss is convex
    in T; the root of its derivative is bracketed in ``TEMPERATURE_BOUNDS`` and found by Newton steps.

    Parameters: ``logits`` (n_samples, n_classes) out-of-fold, ``labels`` (n_samples,) class codes,
    ``offset`` (n_samples, n_classes) or (n_classes,) logits that T leaves alone, e.g. log priors.
    Returns T, at least 0.001 and at most 1000.
    Sources: Guo 2017 (arXiv:1706.04599) for the temperature; Platt 1999 for the smoothed targets.
    """
    return float(fit_temperatures(np.asarray(logits)[None], labels, offset)[0])


def fit_temperatures(logits: np.ndarray, labels: np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
    """Fit the factor of each of many logits (n_members, n_samples, n_classes): see ``fit_temperature``.

    Returns (n_members,) float64.
    """
    logits = np.asarray(logits, dtype=np.float64)
    n_members, n_samples, n_classes = logits.shape
    fixed = np.zeros(n_classes) if offset is None else np.asarray(offset, dtype=np.float64)
    others = 1.0 / (n_samples + n_classes)
    truth = logits[:, np.arange(n_samples), labels]
    # Under the smoothed targets: (n + 1) / (n + k) for the truth, 1 / (n + k) for every other class.
    wanted = np.sum((1.0 - n_classes * others) * truth + others * logits.sum(axis=2), axis=1)
    low, high = (np.full(n_members, bound) for bound in TEMPERATURE_BOUNDS)
    factors = np.ones(n_members)
    searched = np.arange(n_members)  # those whose factor is not found yet
    for _ in range(TEMPERATURE_STEPS):
        own, factor = logits[searched], factors[searched]
        probabilities = softmax(factor[:, None, None] * own + fixed)
        expected = (probabilities * own).sum(axis=2)
        slope = expected.sum(axis=1) - wanted[searched]
        is_high = slope > 0
        high[searched[is_high]], low[searched[~is_high]] = factor[is_high], factor[~is_high]
        bottom, top = low[searched], high[searched]
        curvature = np.sum(probabilities * own**2, axis=(1, 2)) - np.sum(expected**2, axis=1)
        step = factor - np.divide(slope, curvature, out=factor.copy(), where=curvature > 0)
        # A Newton step that leaves the bracket, or crawls along it, gives way to a halving.
        inside = (bottom < step) & (step < top) & (step < 10.0 * factor) & (factor < 10.0 * step)
        following = np.where(inside, step, np.sqrt(bottom * top))
        moves = (top > bottom * (1.0 + 1e-10)) & (np.abs(following - factor) > 1e-11 * factor)
        factors[searched[moves]] = following[moves]
        searched = searched[moves]
        if not len(searched):
            break
    return factors


def greedy_selection(oof_logits: np.ndarray, labels: np.ndarray, max_members: int) -> np.ndarray:
    """Choose members whose mean logits have the lowest out-of-fold log loss.

    Greedy with replacement: starting from the mean of the few best members, the member that lowers
    the loss most is added, again and again. Two guards against fitting the selection to noise: the
    start from several members, and a stop as soon as a gain is a small share of the standard error
    of the loss. Members should be on the scale of logits (fit a temperature to each first). If the
    best single member beats what was found, it is chosen alone.

    Parameters: ``oof_logits`` (n_members, n_samples, n_classes), ``labels`` (n_samples,) class codes,
    ``max_members`` the largest number of draws, at least 1.
    Returns (n_members,) float64 weights, nonnegative, of sum 1.
    Source: Caruana 2004, doi:10.1145/1015330.1015432.
    """
    oof_logits = np.asarray(oof_logits, dtype=np.float64)
    n_members, n_samples, _ = oof_logits.shape
    single = np.array([log_loss(softmax(member), labels) for member in oof_logits])
    order = np.argsort(single, kind="stable")
    counts = np.zeros(n_members)
    counts[order[: min(GREEDY_START, n_members, max_members)]] = 1.0
    total = np.tensordot(counts, oof_logits, axes=1)
    loss = log_loss(softmax(total / counts.sum()), labels)
    while counts.sum() < max_members:
        losses = np.array(
            [log_loss(softmax((total + member) / (counts.sum() + 1)), labels) for member in oof_logits]
        )
        best = int(losses.argmin())
        each = softmax(total / counts.sum())[np.arange(n_samples), labels]
        standard_error = np.log(np.clip(each, PROBABILITY_FLOOR, 1.0)).std() / np.sqrt(n_samples)
        if loss - losses[best] <= GREEDY_GAIN * standard_error:
            break
        counts[best] += 1.0
        total += oof_logits[best]
        loss = losses[best]
    if single[order[0]] < loss:
        counts[:] = 0.0
        counts[order[0]] = 1.0
    return counts / counts.sum()


def spread_to_classes(
    probabilities: np.ndarray, present: np.ndarray, n_classes: int, n_samples: int
) -> np.ndarray:
    """Give classes without a training sample a small probability beside those a model knows.

    Each such class gets what half a sample would weigh: 0.5 / (n_samples + 0.5 n_classes).

    Parameters: ``probabilities`` (m, n_present); ``present`` (n_present,) class codes of its columns;
    ``n_classes`` of the study; ``n_samples`` of the training part.
    Returns (m, n_classes) float64, rows sum to 1.
    """
    unseen = 0.5 / (n_samples + 0.5 * n_classes)
    out = np.full((len(probabilities), n_classes), unseen)
    out[:, present] = probabilities * (1.0 - unseen * (n_classes - len(present)))
    return out / out.sum(axis=1, keepdims=True)
