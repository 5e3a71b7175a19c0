"""What may be wrong with a study: coded checks, each a function whose docstring is its documentation.

A check looks at the finished tables and answers with findings: "pass", "finding" (read the detail) or
"not_applicable" (with the reason). A finding is advice, not a verdict: it says where to look.
"""

import inspect
from collections.abc import Callable, Iterator

import pandas as pd

from oncoarena.referee.confounding_checks import (
    missing_values_related_to_label,
    site_in_the_features,
    site_performance_falls,
)
from oncoarena.referee.design_checks import class_missing_in_training, endpoint_changed, stratum_too_small
from oncoarena.referee.evidence import Evidence, Finding
from oncoarena.referee.leak_checks import (
    consulted_more_than_once,
    duplicates_across_splits,
    one_feature_does_it_all,
    patient_on_both_sides,
    permuted_labels_above_chance,
)
from oncoarena.referee.skill_checks import (
    miscalibrated,
    no_better_than_covariates,
    no_better_than_prior,
    unstable_over_seeds,
)

CHECK_COLUMNS = ["code", "title", "hypothesis", "outcome", "detail"]

CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    patient_on_both_sides,
    duplicates_across_splits,
    no_better_than_prior,
    no_better_than_covariates,
    permuted_labels_above_chance,
    site_in_the_features,
    site_performance_falls,
    miscalibrated,
    stratum_too_small,
    unstable_over_seeds,
    one_feature_does_it_all,
    consulted_more_than_once,
    class_missing_in_training,
    missing_values_related_to_label,
    endpoint_changed,
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
