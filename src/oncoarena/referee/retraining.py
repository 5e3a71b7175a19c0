"""What training again would change: on fewer patients, and with other seeds."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from oncoarena.referee.comparison import difference_interval
from oncoarena.referee.evaluation import effective_trials, metric_interval, smallest_class
from oncoarena.referee.outcomes import Outcomes
from oncoarena.referee.replicates import resample

LEARNING_COLUMNS = [
    "hypothesis",
    "fraction",
    "metric",
    "estimate",
    "ci_low",
    "ci_high",
    "rest",
    "rest_low",
    "rest_high",
    "n_samples",
    "n_patients",
]

SEED_COLUMNS = ["hypothesis", "training_seed", "metric", "estimate", "changed"]


def shown_metrics(primary: str) -> list[str]:
    """Name the metrics of learning curves and seeds: the primary one, a ranking and the probabilities."""
    return list(dict.fromkeys([primary, "auroc_macro", "log_loss"]))


def same_repeats(outcomes: Outcomes, others: Outcomes) -> Outcomes:
    """Take the rows of the repeats, and the hypotheses, that were trained again."""
    names = [name for name in outcomes.hypotheses if name in others.hypotheses]
    return outcomes.take(np.isin(outcomes.repeats, others.repeats)).only(names)


def learning_table(
    outcomes: Outcomes,
    fewer: Mapping[float, Outcomes],
    primary: str,
    n_bootstrap: int,
    seed: int,
    map: Callable[..., Iterable] = map,
) -> pd.DataFrame:
    """Evaluate models of fewer training patients on the same test samples, and the main ones beside them.

    Parameters: ``fewer`` maps a share of the training patients to what models trained on it say of the test samples,
    of the first repeat alone where there are several.
    Returns a table with the columns of ``LEARNING_COLUMNS``: fraction 1 are the main models on the same repeats;
    rest is their estimate minus that of the fraction, with the paired 95 % interval of the bootstrap over
    patients: what the patients left out brought.
    """
    rows = []
    for fraction, others in sorted(fewer.items()):
        whole = resample(same_repeats(outcomes, others), n_bootstrap, seed, map)
        part = resample(others, n_bootstrap, seed, map)
        trials, smallest = effective_trials(others), smallest_class(others)
        counts = len(np.unique(others.sample_ids)), others.n_patients
        for name in others.hypotheses:
            for metric in shown_metrics(primary):
                value, full = part.estimates[name][metric], whole.estimates[name][metric]
                drawn, drawn_full = part.samples[name][metric], whole.samples[name][metric]
                low, high, _ = metric_interval(metric, value, drawn, trials[metric], smallest)
                rest = difference_interval(metric, full - value, drawn_full - drawn, trials[metric])
                rows.append((name, fraction, metric, value, low, high, full - value, *rest, *counts))
                low, high, _ = metric_interval(metric, full, drawn_full, trials[metric], smallest)
                rows.append((name, 1.0, metric, full, low, high, 0.0, np.nan, np.nan, *counts))
    table = pd.DataFrame(rows, columns=LEARNING_COLUMNS)
    # The main models come with every fraction.
    table = table.drop_duplicates(["hypothesis", "fraction", "metric"])
    return table.sort_values(["hypothesis", "metric", "fraction"], kind="stable", ignore_index=True)


def seed_table(outcomes: Outcomes, others: Mapping[int, Outcomes], primary: str) -> pd.DataFrame:
    """Evaluate models of other seeds on the same splits.

    Returns a table with the columns of ``SEED_COLUMNS``: training_seed 0 are the main models; changed is the share of
    samples whose most probable class is not that of the main model.
    """
    rows = []
    for number, again in sorted(others.items()):
        main = same_repeats(outcomes, again)
        estimates = {0: resample(main, 1, 0).estimates, number: resample(again, 1, 0).estimates}
        for name in again.hypotheses:
            calls = [from_.probabilities[name].argmax(axis=1) for from_ in (main, again)]
            changed = float((calls[0] != calls[1]).mean())
            for metric in shown_metrics(primary):
                rows.append((name, 0, metric, estimates[0][name][metric], 0.0))
                rows.append((name, number, metric, estimates[number][name][metric], changed))
    table = pd.DataFrame(rows, columns=SEED_COLUMNS).drop_duplicates(
        ["hypothesis", "training_seed", "metric"]
    )
    return table.sort_values(["hypothesis", "metric", "training_seed"], kind="stable", ignore_index=True)
