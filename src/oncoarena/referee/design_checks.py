"""Checks of the study's design: strata, classes, what was decided before the results were seen."""

from collections.abc import Iterator

from oncoarena.referee.evidence import Evidence, Finding, some

SMALL_STRATUM = 20
"""Patients below which a stratum's numbers are too wide to read anything into."""


def stratum_too_small(evidence: Evidence) -> Iterator[Finding]:
    """CHK009 A stratum is too small to say anything.

    Lists strata of fewer than 20 patients: their estimates move by ten points with one patient more.
    """
    table = evidence.evaluation
    strata = table.loc[table["stratum"] != "all", ["stratum", "n_patients"]].drop_duplicates()
    if not len(strata):
        yield "", "not_applicable", "The study names no strata."
        return
    small = strata[strata["n_patients"] < SMALL_STRATUM]
    if len(small):
        names = [f"{name} ({n})" for name, n in zip(small["stratum"], small["n_patients"], strict=True)]
        yield "", "finding", f"Fewer than {SMALL_STRATUM} patients in {some(names)}: read nothing into them."
    else:
        yield "", "pass", f"Each of {len(strata)} strata has at least {SMALL_STRATUM} patients."


def class_missing_in_training(evidence: Evidence) -> Iterator[Finding]:
    """CHK013 A class is missing from a training part.

    A model cannot learn what it never sees; its test samples count as errors that no method could avoid.
    Remedy: fewer folds, or leave the class out of the study.
    """
    table = evidence.splits.merge(evidence.samples[["sample_id", "label"]], on="sample_id")
    trained = table[table["role"] == "train"]
    missing = []
    for (repeat, fold), _ in table.groupby(["repeat", "fold"]):
        here = trained[(trained["repeat"] == repeat) & (trained["fold"] == fold)]["label"].astype(str)
        absent = set(evidence.classes) - set(here)
        missing += [f"{name} (repeat {repeat}, fold {fold})" for name in sorted(absent)]
    if missing:
        yield "", "finding", f"No training sample of {some(missing)}."
    else:
        yield "", "pass", f"Every training part holds all {len(evidence.classes)} classes."


def endpoint_changed(evidence: Evidence) -> Iterator[Finding]:
    """CHK015 The endpoint was changed after results existed.

    Whoever has seen the results can choose the metric, the aggregation or the threshold that shows them best. Compares
    the digest of the primary endpoint with that which was sealed before training, and with that under which results of
    this study were first written.
    Remedy: report the endpoint that was named first, and the new one as exploratory.
    Source: TRIPOD+AI, Collins 2024, doi:10.1136/bmj-2023-078378.
    """
    before, now, sealed = evidence.previous_endpoint, evidence.endpoint, evidence.sealed_endpoint
    if sealed is not None and sealed["digest"] != now:
        yield "", "finding", f"Sealed was another endpoint ({sealed['digest'][:15]}); this one is {now[:15]}."
    elif before is None:
        yield "", "not_applicable", "No earlier results of this study were given."
    elif before != now:
        yield "", "finding", f"Results exist under another endpoint ({before[:15]}); this one is {now[:15]}."
    else:
        when = f", sealed {_before_training(evidence, sealed['sealed'])}" if sealed is not None else ""
        yield (
            "",
            "pass",
            f"The endpoint is the one under which results were first written ({now[:15]}){when}.",
        )


def _before_training(evidence: Evidence, sealed: str) -> str:
    started = [run["started"] for run in evidence.runs if run.get("started")]
    order = "before the first" if all(sealed <= moment for moment in started) else "after the first"
    return f"at {sealed}, {order} model was trained"
