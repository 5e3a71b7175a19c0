"""Checks of what each hypothesis is worth: against the controls, in its probabilities, over seeds."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from scipy.stats import norm

from oncoarena.referee.calibration import overconfidence
from oncoarena.referee.evidence import Evidence, Finding, interval_text
from oncoarena.referee.metrics import METRICS
from oncoarena.referee.outcomes import Outcomes
from oncoarena.referee.replicates import resample
from oncoarena.referee.retraining import same_repeats

LEAST_SEEDS = 3

CLASS_CHANGES = 0.1
"""Share of samples that may change class from one seed to the next."""


def no_better_than_prior(evidence: Evidence) -> Iterator[Finding]:
    """CHK003 A hypothesis is no better than guessing from class frequencies.

    Compares the primary metric with the control prior_only: a finding where the paired interval of the
    difference holds zero or less, or, for AUROC, where the hypothesis's own interval reaches 0.5 (pooled
    over folds, the control's AUROC lies a little under 0.5, which would flatter the difference).
    """
    yield from _against_control(evidence, "prior_only")


def no_better_than_covariates(evidence: Evidence) -> Iterator[Finding]:
    """CHK004 A hypothesis is no better than the covariates alone.

    If age, sex or site predict the label as well as the genome does, the model may have learned them
    (confounding). Compares the primary metric with the control covariates_only: a finding where the
    paired interval of the difference holds zero or less.
    """
    yield from _against_control(evidence, "covariates_only")


def miscalibrated(evidence: Evidence) -> Iterator[Finding]:
    """CHK008 A hypothesis's probabilities do not mean what they say.

    Tests whether the probability given to the true class is what the probabilities themselves promise
    (Spiegelhalter's z over patients). A finding where |z| exceeds what luck gives 1 study in 100 (2.58 for one
    hypothesis, more for several: Bonferroni's bound) and the expected calibration error is above 0.05:
    smaller gaps rarely change a decision. Source: Spiegelhalter 1986, doi:10.1002/sim.4780050506.
    """
    outcomes = evidence.outcomes
    critical = norm.isf(0.005 / max(len(evidence.competing()), 1))
    for name in evidence.competing():
        gap, z = overconfidence(
            outcomes.truth, outcomes.probabilities[name], outcomes.patients, outcomes.n_patients
        )
        error = evidence.row(name, "ece")["estimate"]
        if not np.isfinite(z):
            yield name, "not_applicable", "Every probability is 0 or 1 and right: there is no gap to test."
            continue
        direction = "overconfident" if gap > 0 else "underconfident"
        detail = f"Calibration error {error:.3f}; z = {z:.1f}"
        if abs(z) > critical and error > 0.05:
            yield name, "finding", f"{detail}: {direction} by {abs(gap):.3f} on average."
        else:
            yield name, "pass", f"{detail}."


def unstable_over_seeds(evidence: Evidence) -> Iterator[Finding]:
    """CHK010 A hypothesis's result depends on the seed.

    A model trained again with another seed on the same samples should say the same. Needs the predictions of at least
    three seeds. A finding where the standard deviation of the primary metric over seeds exceeds half
    the standard error over patients (then the seed widens the true error by more than a tenth), or where
    two seeds name a different class for more than 1 sample in 10. Remedy: average several seeds.
    Source: Bouthillier 2021, arXiv:2103.03098.
    """
    if not evidence.seed_outcomes:
        yield "", "not_applicable", "No hypothesis was trained with several seeds."
        return
    metric, title = evidence.primary, METRICS[evidence.primary].title
    for name in evidence.competing():
        runs = [evidence.outcomes, *(o for o in evidence.seed_outcomes.values() if name in o.hypotheses)]
        if len(runs) < LEAST_SEEDS:
            yield (
                name,
                "not_applicable",
                f"Predictions of {len(runs)} seeds; at least {LEAST_SEEDS} are needed.",
            )
            continue
        # Other seeds may have been tried on the splits of the first repeat alone.
        runs[0] = same_repeats(runs[0], runs[1])
        values = np.array([_estimate(outcomes, name, metric) for outcomes in runs])
        classes = np.stack([outcomes.probabilities[name].argmax(axis=1) for outcomes in runs])
        changed = float(np.mean([(a != b).mean() for a, b in combinations(classes, 2)]))
        row = evidence.row(name, metric)
        error = (row["ci_high"] - row["ci_low"]) / (2 * norm.ppf(0.975))
        spread = float(values.std(ddof=1))
        detail = (
            f"{title} over {len(runs)} seeds: {values.min():.3f} to {values.max():.3f}, standard deviation "
            f"{spread:.3f} (standard error over patients {error:.3f}); {changed:.1%} of samples change class."
        )
        yield name, "finding" if spread > error / 2 or changed > CLASS_CHANGES else "pass", detail


def _estimate(outcomes: Outcomes, hypothesis: str, metric: str) -> float:
    return resample(outcomes.only([hypothesis]), 1, 0).estimates[hypothesis][metric]


def _against_control(evidence: Evidence, control: str) -> Iterator[Finding]:
    run = evidence.run_of.get(control)
    if control not in evidence.outcomes.hypotheses:
        reason = run.get("reason") if run else None
        yield (
            "",
            "not_applicable",
            f"{control} did not run" + (f": {reason}." if reason else " in this study."),
        )
        return
    metric = evidence.primary
    title = METRICS[metric].title
    for name in evidence.competing():
        gap, low, high = evidence.gap(name, control, metric)
        if not np.isfinite(low):
            yield name, "not_applicable", f"The difference in {title} has no interval."
            continue
        detail = f"{title} {_gap_text(control, gap, low, high)}."
        at_chance = control == "prior_only" and metric == "auroc_macro"
        row = evidence.row(name, metric)
        if at_chance and row["ci_low"] <= 0.5:
            yield name, "finding", f"{title} {interval_text(row)} reaches chance, 0.5. {detail}"
        else:
            yield name, "finding" if low <= 0 else "pass", detail


def _gap_text(control: str, gap: float, low: float, high: float) -> str:
    """Word a difference, and its interval, in the direction in which it points."""
    if gap < 0:
        return f"worse than {control} by {-gap:.3f} (95 % interval {-high:.3f} to {-low:.3f})"
    return f"better than {control} by {gap:.3f} (95 % interval {low:.3f} to {high:.3f})"
