"""Greedy selection in which some members must earn their place: a gain of more than one standard error."""

from dataclasses import dataclass

import numpy as np

from oncoarena.fitting.selection import PROBABILITY_FLOOR, fit_temperature, greedy_selection, softmax

# Standard errors that a gain must exceed. In 90 simulated cohorts where trees and deep heads had nothing to gain, one
# let them in 15 times, which cost 0.002 of log loss on new patients in the mean, and two never. In 89 where they had,
# two kept them out 31 times more, which cost 0.021.
GATE_ERRORS = 1.0


@dataclass(frozen=True)
class GatedSelection:
    """The chosen members, and what the gated ones were worth."""

    shares: np.ndarray
    """(n_members,) of sum 1."""
    gain: float
    """Fall of the out-of-fold log loss where gated members are offered too (nats); 0 if there are none."""
    gain_error: float
    """Standard error of the gain over patients."""


def gain_over_patients(
    without: np.ndarray, beside: np.ndarray, patient_ids: np.ndarray
) -> tuple[float, float]:
    """Return how much lower the log loss is with gated members offered, and its standard error over patients.

    Parameters: ``without`` and ``beside`` (n_rows,) losses without and with them; ``patient_ids`` (n_rows,).
    """
    _, patient = np.unique(patient_ids, return_inverse=True)
    falls = np.bincount(patient, without - beside) / np.bincount(patient)
    return float(falls.mean()), float(falls.std(ddof=1) / np.sqrt(len(falls)))


def is_earned(gain: float, gain_error: float) -> bool:
    """Tell whether a gain is large enough, beside its standard error, for gated members to enter."""
    return gain > GATE_ERRORS * gain_error


def select_gated(
    oof_logits: np.ndarray,
    labels: np.ndarray,
    patient_ids: np.ndarray,
    is_gated: np.ndarray,
    max_members: int,
) -> GatedSelection:
    """Choose members by ``greedy_selection``, first without the gated ones, then among all, and keep the better rule.

    Parameters: ``oof_logits`` (n_members, n_rows, n_classes), each member at its own temperature; ``labels`` and
    ``patient_ids`` (n_rows,), a row for each sample and repeat; ``is_gated`` (n_members,) bool, not all of them.
    """

    def choose(offered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares (n_members,), and the calibrated log loss of each row."""
        shares = np.zeros(len(oof_logits))
        shares[offered] = greedy_selection(oof_logits[offered], labels, max_members)
        logits = np.tensordot(shares, oof_logits, axes=1)
        probabilities = softmax(fit_temperature(logits, labels) * logits)
        truth = probabilities[np.arange(len(labels)), labels]
        return shares, -np.log(np.maximum(truth, PROBABILITY_FLOOR))

    shares, without = choose(np.flatnonzero(~is_gated))
    if not is_gated.any():
        return GatedSelection(shares, 0.0, 0.0)
    offered, beside = choose(np.arange(len(oof_logits)))
    gain, error = gain_over_patients(without, beside, patient_ids)
    return GatedSelection(offered if is_earned(gain, error) else shares, gain, error)
