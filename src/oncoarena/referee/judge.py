"""The referee: from predictions and truth to the tables that the report shows."""

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from oncoarena.errors import InputError
from oncoarena.referee.checks import Evidence, run_checks
from oncoarena.referee.comparison import compare
from oncoarena.referee.curves import confusion_tables, curves
from oncoarena.referee.evaluation import evaluate, strata_of_rows
from oncoarena.referee.outcomes import join_outcomes
from oncoarena.referee.replicates import metric_names, resample


def evaluate_study(
    predictions: pd.DataFrame,
    samples: pd.DataFrame,
    splits: pd.DataFrame,
    runs: list[dict],
    classes: Sequence[str],
    strata: Sequence[str] = (),
    n_bootstrap: int = 1000,
    seed: int = 0,
    *,
    primary: str = "auroc_macro",
    n_permutations: int = 1000,
    positive: str | None = None,
    digests: pd.DataFrame | None = None,
    map: Callable[..., Iterable] = map,
) -> dict[str, pd.DataFrame]:
    """Judge all competitors of a study on the same samples.

    Parameters: ``predictions`` of every run that was trained; ``samples``, the checked sample sheet;
    ``splits``; ``runs``, the records of all runs; ``classes`` in the order of the probability columns;
    ``strata``, the columns of the sheet to look at one value at a time; ``n_bootstrap`` replicates
    and ``n_permutations`` exchanges a pair, with the ``seed`` of both; ``primary``, the metric that the
    checks look at; ``positive``, the class that counts as positive in a study of two (the last if None);
    ``digests`` (sample_id, digest) of the features;
    ``map`` may be that of a thread pool (the heavy passes release the interpreter's lock).
    Returns the tables evaluation, comparison, checks, curves and confusion (see the functions that
    make them).
    Raises InputError if predictions, samples and splits do not belong together, or the primary metric
    is not one of these classes.
    """
    known = metric_names(len(classes))
    if primary not in known:
        raise InputError(
            f"primary metric {primary!r} is not computed for {len(classes)} classes. Use one of {', '.join(known)}."
        )
    outcomes = join_outcomes(predictions, samples, splits, classes, positive)
    overall = resample(outcomes, n_bootstrap, seed, map)
    evaluation = evaluate(
        outcomes, strata_of_rows(outcomes, samples, strata), n_bootstrap, seed, overall, map
    )
    families = {run["hypothesis"]: run["role"] for run in runs}
    train_sizes = splits[splits["role"] == "train"].groupby(["repeat", "fold"]).size().to_dict()
    comparison = compare(outcomes, overall, families, train_sizes, n_permutations, seed, map)
    evidence = Evidence(
        samples, splits, runs, tuple(classes), outcomes, evaluation, comparison, primary, digests, seed
    )
    return {
        "evaluation": evaluation,
        "comparison": comparison,
        "checks": run_checks(evidence),
        "curves": curves(outcomes),
        "confusion": confusion_tables(outcomes),
    }
