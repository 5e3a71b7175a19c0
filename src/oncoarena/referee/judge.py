"""The referee: from predictions and truth to the tables that the report shows."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from oncoarena.cohort import Block
from oncoarena.errors import InputError
from oncoarena.referee.checks import run_checks
from oncoarena.referee.comparison import compare
from oncoarena.referee.curves import confusion_tables, curves
from oncoarena.referee.endpoint import CALL_RULE, endpoint_digest
from oncoarena.referee.evaluation import evaluate, strata_of_rows
from oncoarena.referee.evidence import Evidence
from oncoarena.referee.failures import failure_cases
from oncoarena.referee.operating_points import OPERATING_COLUMNS, choose_thresholds, operating_points
from oncoarena.referee.outcomes import Outcomes, join_outcomes
from oncoarena.referee.overlap import error_overlap
from oncoarena.referee.recalibration import raw_probabilities, recalibration
from oncoarena.referee.replicates import metric_names, resample
from oncoarena.referee.retraining import learning_table, seed_table
from oncoarena.referee.stacking import added_value
from oncoarena.referee.strata_leaders import strata_leaders


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
    blocks: Mapping[str, Block] | None = None,
    prevalence: float | None = None,
    looks: pd.DataFrame | None = None,
    seed_predictions: Mapping[int, pd.DataFrame] | None = None,
    previous_endpoint: str | None = None,
    sealed_endpoint: Mapping[str, str] | None = None,
    rule: str = CALL_RULE,
    training_predictions: pd.DataFrame | None = None,
    no_thresholds: Mapping[str, str] | None = None,
    learning_predictions: Mapping[float, pd.DataFrame] | None = None,
    map: Callable[..., Iterable] = map,
) -> dict[str, pd.DataFrame]:
    """Judge all competitors of a study on the same samples.

    Parameters: ``predictions`` of every run that was trained; ``samples``, the checked sample sheet;
    ``splits``; ``runs``, the records of all runs; ``classes`` in the order of the probability columns;
    ``strata``, the columns of the sheet to look at one value at a time; ``n_bootstrap`` replicates
    and ``n_permutations`` exchanges a pair, with the ``seed`` of both; ``primary``, the metric that the
    checks look at; ``positive``, the class that counts as positive in a study of two (the last if None);
    ``digests`` (sample_id, digest and, of one block each, block) of the features; ``blocks``, the features themselves,
    rows in the order of ``samples`` (a memory map will do: checks read a bounded piece); ``prevalence`` of the
    positive class of two, at which PPV and NPV are stated; ``looks`` (config_digest), a row each
    time the test set was consulted, this time included; ``seed_predictions``, predictions of the same
    splits, or those of some repeats, by models of other seeds, by seed; ``previous_endpoint``, the
    ``endpoint_digest`` under which results of this study were first written; ``sealed_endpoint``, digest and time of
    that written down before training; ``rule``, how calls are made, in words (see ``endpoint``);
    ``training_predictions``, out-of-fold probabilities of the training samples of every split, on which thresholds of
    two classes are chosen, and ``no_thresholds``, why a hypothesis has none; ``learning_predictions``, those of models
    of fewer training patients, by their share;
    ``map`` may be that of a thread pool (the heavy passes release the interpreter's lock).
    Returns the tables evaluation, comparison, checks, curves, confusion, failures, overlap, added_value,
    strata_leaders, recalibration, operating_points, seeds and learning (see the functions that make them).
    Raises InputError if predictions, samples and splits do not belong together, or the primary metric
    is not one of these classes.
    """
    known = metric_names(len(classes))
    if primary not in known:
        raise InputError(
            f"primary metric {primary!r} is not computed for {len(classes)} classes. Use one of {', '.join(known)}."
        )
    if prevalence is not None and (len(classes) != 2 or not 0 < prevalence < 1):
        raise InputError(
            f"prevalence: found {prevalence:g} in a study of {len(classes)} classes. It is the share of the positive "
            "class of two, above 0 and below 1; leave it out otherwise."
        )
    outcomes = join_outcomes(predictions, samples, splits, classes, positive)
    overall = resample(outcomes, n_bootstrap, seed, map)
    grouped = strata_of_rows(outcomes, samples, strata)
    evaluation = evaluate(outcomes, grouped, n_bootstrap, seed, overall, map, prevalence)
    for name, block in (blocks or {}).items():
        if len(block.values) != len(samples):
            raise InputError(
                f"block {name}: {len(block.values)} rows, but the sample sheet has {len(samples)}. "
                "Give one row a sample, in the sheet's order."
            )
    families = {run["hypothesis"]: run["role"] for run in runs}
    train_sizes = splits[splits["role"] == "train"].groupby(["repeat", "fold"]).size().to_dict()
    comparison = compare(outcomes, overall, families, train_sizes, n_permutations, seed, map)
    rivals = [name for name in outcomes.hypotheses if families.get(name, "claim") in ("claim", "external")]

    def join(table: pd.DataFrame) -> Outcomes:
        tried = splits[splits["repeat"].isin(table["repeat"].unique())]
        return join_outcomes(table, samples, tried, classes, positive)

    other_seeds = {number: join(table) for number, table in (seed_predictions or {}).items()}
    evidence = Evidence(
        samples,
        splits,
        runs,
        tuple(classes),
        outcomes,
        evaluation,
        comparison,
        primary,
        digests,
        seed,
        blocks=blocks,
        looks=looks,
        endpoint=endpoint_digest(primary, rule=rule, positive=positive),
        previous_endpoint=previous_endpoint,
        sealed_endpoint=sealed_endpoint,
        seed_outcomes=other_seeds,
    )
    points = pd.DataFrame(columns=OPERATING_COLUMNS)
    if training_predictions is not None:
        thresholds = choose_thresholds(training_predictions, samples, splits, classes, positive)
        reasons = no_thresholds or {}
        points = operating_points(outcomes, thresholds, grouped, reasons, n_bootstrap, seed, prevalence)
    fewer = {share: join(table) for share, table in (learning_predictions or {}).items()}
    return {
        "evaluation": evaluation,
        "comparison": comparison,
        "checks": run_checks(evidence),
        "curves": curves(outcomes),
        "confusion": confusion_tables(outcomes),
        "failures": failure_cases(outcomes),
        "overlap": error_overlap(outcomes, n_bootstrap, seed),
        "added_value": added_value(outcomes, rivals, n_bootstrap, n_permutations, seed, map),
        "strata_leaders": strata_leaders(
            outcomes, grouped, rivals, primary, n_bootstrap, n_permutations, seed, overall, map
        ),
        "recalibration": recalibration(
            outcomes, raw_probabilities(predictions, splits, outcomes), n_bootstrap, seed
        ),
        "operating_points": points,
        "seeds": seed_table(outcomes, other_seeds, primary),
        "learning": learning_table(outcomes, fewer, primary, n_bootstrap, seed, map),
    }
