"""The referee's tables as the report reads them: their names and the columns that it looks at."""

from collections.abc import Mapping

import pandas as pd

COLUMNS = {
    "evaluation": "hypothesis metric stratum estimate ci_low ci_high n_samples n_patients",
    "comparison": "hypothesis_a hypothesis_b metric difference ci_low ci_high p_value p_holm",
    "checks": "code title hypothesis outcome detail",
    "curves": "hypothesis curve label x y n_samples",
    "confusion": "hypothesis label predicted n_samples",
}

FURTHER = {
    "failures": "hypothesis sample_id label predicted probability",
    "learning": "hypothesis fraction metric estimate ci_low ci_high",
    "strata_leaders": "stratum n_patients leader estimate runner_up difference ci_low ci_high p_holm separable",
    "overlap": "hypothesis_a hypothesis_b both_wrong only_a only_b phi n",
    "added_value": "hypothesis gain ci_low ci_high p_value p_holm",
}
"""Tables that a study may leave out: their sections are then left out as well."""


def complete(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Give every table that is missing or empty its columns; of ``FURTHER`` only what was given is there."""
    wanted = COLUMNS | {name: columns for name, columns in FURTHER.items() if tables.get(name) is not None}
    return {
        name: table if (table := tables.get(name)) is not None and len(table) else _empty(columns)
        for name, columns in wanted.items()
    }


def _empty(columns: str) -> pd.DataFrame:
    return pd.DataFrame(columns=columns.split())
