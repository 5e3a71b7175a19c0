"""What may be wrong with a study: coded checks, each a function whose docstring is its documentation.

A check looks at the finished tables and answers with findings: "pass", "finding" (read the detail) or
"not_applicable" (with the reason). A finding is advice, not a verdict: it says where to look.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import norm

from oncoarena.referee.calibration import overconfidence
from oncoarena.referee.chance import permuted_aurocs
from oncoarena.referee.evaluation import evaluate, strata_of_rows
from oncoarena.referee.metrics import METRICS
from oncoarena.referee.outcomes import Outcomes

CHECK_COLUMNS = ["code", "title", "hypothesis", "outcome", "detail"]
COMPETING = ("claim", "external", "baseline")
"""Roles that claim to have learned something; controls are what they are measured against."""

SMALL_STRATUM = 20
"""Patients below which a stratum's numbers are too wide to read anything into."""


@dataclass(frozen=True)
class Evidence:
    """All that a check may look at: the study's tables and the referee's results."""

    samples: pd.DataFrame
    splits: pd.DataFrame
    runs: list[dict]
    classes: tuple[str, ...]
    outcomes: Outcomes
    evaluation: pd.DataFrame
    comparison: pd.DataFrame
    primary: str = "auroc_macro"
    digests: pd.DataFrame | None = None
    """Columns sample_id and digest: a digest of each sample's features, where the blocks give one."""
    seed: int = 0
    run_of: dict[str, dict] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "run_of", {run["hypothesis"]: run for run in self.runs})

    def competing(self) -> list[str]:
        """Hypotheses that claim to have learned something, of those that were judged."""
        return [
            name
            for name in self.outcomes.hypotheses
            if self.run_of.get(name, {}).get("role", "claim") in COMPETING
            and not self.run_of.get(name, {}).get("permuted_labels", False)
        ]

    def row(self, hypothesis: str, metric: str) -> pd.Series:
        """The overall evaluation of one hypothesis in one metric."""
        table = self.evaluation
        chosen = (table["hypothesis"] == hypothesis) & (table["metric"] == metric)
        return table[chosen & (table["stratum"] == "all")].iloc[0]

    def gap(self, a: str, b: str, metric: str) -> tuple[float, float, float]:
        """How much better a is than b: (difference, low, high), positive where a is better."""
        table = self.comparison[self.comparison["metric"] == metric]
        for first, second, sign in ((a, b, 1), (b, a, -1)):
            found = table[(table["hypothesis_a"] == first) & (table["hypothesis_b"] == second)]
            if len(found):
                sign = sign if METRICS[metric].higher_is_better else -sign
                row = found.iloc[0]
                low, high = sorted((sign * row["ci_low"], sign * row["ci_high"]))
                return sign * row["difference"], low, high
        raise KeyError(f"no comparison of {a} and {b} in {metric}")


Finding = tuple[str, str, str]
"""(hypothesis or "" for the study, outcome, detail)."""


def patient_on_both_sides(evidence: Evidence) -> Iterator[Finding]:
    """CHK001 A patient is on both sides of a split.

    Samples of one patient resemble each other, so a model that has seen one of them in training can
    recognise the other in the test. Looks for patients with a training or validation sample and a test
    sample in the same split. Remedy: split by patient.
    """
    table = _with_patients(evidence)
    tested = table[table["role"] == "test"][["repeat", "fold", "patient_id"]].drop_duplicates()
    seen = table[table["role"] != "test"][["repeat", "fold", "patient_id"]].drop_duplicates()
    both = tested.merge(seen, on=["repeat", "fold", "patient_id"])
    if len(both):
        names = sorted(both["patient_id"].unique())
        yield "", "finding", f"{len(names)} patients are in training and test of one split: {_some(names)}."
    else:
        n_splits = len(table[["repeat", "fold"]].drop_duplicates())
        yield "", "pass", f"No patient is on both sides of any of {n_splits} splits."


def duplicates_across_splits(evidence: Evidence) -> Iterator[Finding]:
    """CHK002 The same features are on both sides of a split under two sample names.

    A duplicated library, or one sample listed twice under two patients, leaks like CHK001 but no
    identifier shows it. Looks for samples with equal digests of their features, one in training or
    validation and one in the test of the same split. Remedy: remove one, or give both the same patient.
    """
    if evidence.digests is None:
        yield "", "not_applicable", "No digests of the samples' features were given."
        return
    table = evidence.splits.merge(evidence.digests[["sample_id", "digest"]], on="sample_id")
    keys = ["repeat", "fold", "digest"]
    tested = table[table["role"] == "test"][[*keys, "sample_id"]]
    seen = table[table["role"] != "test"][[*keys, "sample_id"]]
    both = tested.merge(seen, on=keys, suffixes=("", "_seen"))
    both = both[both["sample_id"] != both["sample_id_seen"]]
    if len(both):
        names = both[["sample_id", "sample_id_seen"]].itertuples(index=False)
        pairs = sorted({" = ".join(sorted(pair)) for pair in names})
        yield (
            "",
            "finding",
            f"{len(pairs)} pairs of samples have equal features across a split: {_some(pairs)}.",
        )
    else:
        yield "", "pass", f"No two of {table['sample_id'].nunique()} samples are equal across a split."


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


def permuted_labels_above_chance(evidence: Evidence) -> Iterator[Finding]:
    """CHK005 A model trained on permuted labels does better than chance.

    It has nothing to learn; if it does well, labels of the test part leak into training. Chance for
    the macro AUROC is 0.5, give or take two kinds of luck. One is which patients were tested: the standard
    error of the bootstrap. The other is the permutation, which may agree with the truth by accident, and
    where classes are well separated a model passes that on to every test sample: its spread is simulated by
    400 permutations of the training labels, read by the worst case, a model that sees the true classes
    perfectly. A finding where the estimate is above 0.5 by more than 2.58 times both together (about 1 in
    200 by luck). Where that margin reaches 0.45 (few splits, few classes) the control cannot show
    anything; more repeats help.
    """
    permuted = [
        name for name in evidence.outcomes.hypotheses if evidence.run_of.get(name, {}).get("permuted_labels")
    ]
    if not permuted:
        yield "", "not_applicable", "No run was trained on permuted labels."
        return
    draws = permuted_aurocs(evidence.samples, evidence.splits, evidence.classes, 400, evidence.seed)
    for name in permuted:
        row = evidence.row(name, "auroc_macro")
        if not np.isfinite(row["ci_low"]):
            yield name, "not_applicable", "The macro AUROC of the test samples is not defined."
            continue
        error = (row["ci_high"] - row["ci_low"]) / (2 * norm.ppf(0.975))
        margin = 2.58 * float(np.hypot(error, draws.std()))
        found = f"Macro AUROC {_interval(row)}; chance is 0.5, and up to {0.5 + margin:.3f} by luck."
        if margin >= 0.45:
            yield name, "not_applicable", f"{found} So few splits cannot show more; add repeats."
        else:
            yield name, "finding" if row["estimate"] > 0.5 + margin else "pass", found


def site_performance_falls(evidence: Evidence) -> Iterator[Finding]:
    """CHK007 Performance falls on a held-out site.

    A model that has learned a laboratory's habits fails in the next one. Applies where a split's test
    part holds a site that its training part does not. A finding where a site's interval of accuracy lies
    under the estimate over all sites.
    """
    if "site" not in evidence.samples.columns:
        yield "", "not_applicable", "The sample sheet has no column site."
        return
    table = evidence.splits.merge(evidence.samples[["sample_id", "site"]], on="sample_id")
    keys = ["repeat", "fold", "site"]
    tested = table[table["role"] == "test"][keys].drop_duplicates()
    seen = table[table["role"] != "test"][keys].drop_duplicates().assign(seen=True)
    held_out = tested.merge(seen, on=keys, how="left")
    held_out = held_out.loc[held_out["seen"].isna(), "site"].astype(str).unique()
    if not len(held_out):
        yield "", "not_applicable", "Every site tested is also in training; no site was held out."
        return
    outcomes = evidence.outcomes.only(evidence.competing())
    names = strata_of_rows(outcomes, evidence.samples, ["site"])
    by_site = evaluate(outcomes, names, 400, evidence.seed).query("metric == 'accuracy'")
    for hypothesis in outcomes.hypotheses:
        rows = by_site[by_site["hypothesis"] == hypothesis].set_index("stratum")
        whole = rows.loc["all", "estimate"]
        low = [
            f"{site} ({_interval(rows.loc[f'site={site}'])})"
            for site in sorted(held_out)
            if rows.loc[f"site={site}", "ci_high"] < whole
        ]
        if low:
            yield hypothesis, "finding", f"Accuracy falls from {whole:.3f} overall at {_some(low)}."
        else:
            yield (
                hypothesis,
                "pass",
                f"Accuracy at {len(held_out)} held-out sites agrees with {whole:.3f} overall.",
            )


def miscalibrated(evidence: Evidence) -> Iterator[Finding]:
    """CHK008 A hypothesis's probabilities do not mean what they say.

    Tests whether the probability given to the true class is what the probabilities themselves promise
    (Spiegelhalter's z over patients). A finding where |z| exceeds 2.58 (1 in 100 by luck) and the
    expected calibration error is above 0.05: smaller gaps rarely change a decision.
    """
    outcomes = evidence.outcomes
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
        if abs(z) > 2.58 and error > 0.05:
            yield name, "finding", f"{detail}: {direction} by {abs(gap):.3f} on average."
        else:
            yield name, "pass", f"{detail}."


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
        yield "", "finding", f"Fewer than {SMALL_STRATUM} patients in {_some(names)}: read nothing into them."
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
        yield "", "finding", f"No training sample of {_some(missing)}."
    else:
        yield "", "pass", f"Every training part holds all {len(evidence.classes)} classes."


CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    patient_on_both_sides,
    duplicates_across_splits,
    no_better_than_prior,
    no_better_than_covariates,
    permuted_labels_above_chance,
    site_performance_falls,
    miscalibrated,
    stratum_too_small,
    class_missing_in_training,
)


def describe(check: Callable[[Evidence], Iterator[Finding]]) -> tuple[str, str, str]:
    """Read a check's documentation: (code, title, text)."""
    first, _, text = inspect.getdoc(check).partition("\n")
    code, _, title = first.partition(" ")
    return code, title.rstrip("."), text.strip()


def run_checks(evidence: Evidence) -> pd.DataFrame:
    """Run every check: a table with the columns of ``CHECK_COLUMNS``, one row a finding."""
    rows = []
    for check in CHECKS:
        code, title, _ = describe(check)
        rows += [(code, title, *finding) for finding in check(evidence)]
    return pd.DataFrame(rows, columns=CHECK_COLUMNS)


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
        detail = f"{title} better than {control} by {gap:.3f} (95 % interval {low:.3f} to {high:.3f})."
        at_chance = control == "prior_only" and metric == "auroc_macro"
        row = evidence.row(name, metric)
        if at_chance and row["ci_low"] <= 0.5:
            yield name, "finding", f"{title} {_interval(row)} reaches chance, 0.5. {detail}"
        else:
            yield name, "finding" if low <= 0 else "pass", detail


def _with_patients(evidence: Evidence) -> pd.DataFrame:
    return evidence.splits.merge(evidence.samples[["sample_id", "patient_id", "label"]], on="sample_id")


def _some(names: Sequence[str], limit: int = 5) -> str:
    """Name the first few and count the rest."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + rest


def _interval(row: pd.Series) -> str:
    return f"{row['estimate']:.3f}, 95 % interval {row['ci_low']:.3f} to {row['ci_high']:.3f}"
