"""The referee's tables as the report reads them: their names and the columns that it looks at."""

from collections.abc import Mapping

import pandas as pd

from oncoarena.referee.attributions import AGREEMENT_COLUMNS, POOLED_COLUMNS
from oncoarena.referee.operating_points import OPERATING_COLUMNS
from oncoarena.referee.recalibration import RECALIBRATION_COLUMNS

COLUMNS = {
    "evaluation": "hypothesis metric stratum estimate ci_low ci_high n_samples n_patients",
    "comparison": "hypothesis_a hypothesis_b metric difference ci_low ci_high p_value p_holm",
    "checks": "code title hypothesis outcome detail",
    "curves": "hypothesis curve label x y n_samples",
    "confusion": "hypothesis label predicted n_samples",
}

FURTHER = {
    "failures": "hypothesis sample_id label predicted probability",
    "recalibration": " ".join(RECALIBRATION_COLUMNS),
    "operating_points": " ".join(OPERATING_COLUMNS),
    "seeds": "hypothesis training_seed metric estimate changed",
    "learning": "hypothesis fraction metric estimate ci_low ci_high",
    "strata_leaders": "stratum n_patients leader estimate runner_up difference ci_low ci_high p_holm separable",
    "overlap": "hypothesis_a hypothesis_b both_wrong only_a only_b phi n",
    "added_value": "hypothesis gain ci_low ci_high p_value p_holm",
    "attributions": " ".join(POOLED_COLUMNS),
    "attribution_agreement": " ".join(AGREEMENT_COLUMNS),
    "excluded": "assay sample_id uri reason offset",
    "steps": "step job seconds cpu_seconds peak_memory_mb read_mb written_mb",
}
"""Tables that a study may leave out: their sections are then left out as well."""

QUALITY = "qc_"
"""Tables of this beginning hold the quality of one assay, a row a sample; their columns are the assay's."""

TIMINGS = "timings_"
"""Tables of this beginning say how fast the objects of one assay were read, a row an object: sample_id, n_bytes,
n_records (NaN where the assay counts none), seconds and mb_per_s."""


def complete(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Give every table that is missing or empty its columns; of ``FURTHER`` only what was given is there."""
    wanted = COLUMNS | {name: columns for name, columns in FURTHER.items() if tables.get(name) is not None}
    of_assays = {
        name: table
        for name, table in tables.items()
        if name.startswith((QUALITY, TIMINGS)) and table is not None
    }
    return of_assays | {
        name: table if (table := tables.get(name)) is not None and len(table) else _empty(columns)
        for name, columns in wanted.items()
    }


def _empty(columns: str) -> pd.DataFrame:
    return pd.DataFrame(columns=columns.split())
