"""The quality of the data: what was read of each sample, what was excluded and why, what stands out.

Tables in, tables out. A table of quality holds a row a sample: ``sample_id``, the measures of its assay, and
perhaps ``status`` ("read" or another word), ``reason``, ``offset`` (byte) and ``uri`` of its object.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

READ = "read"
DESCRIPTIONS = ("sample_id", "status", "reason", "offset", "uri")
"""Columns of a table of quality that are no measures."""

EXCLUDED_COLUMNS = ["assay", "sample_id", "uri", "reason", "offset"]

FENCE = 3.0
"""Quartile ranges beyond the quartiles where a value is far out (Tukey 1977, Exploratory Data Analysis)."""

MIN_SAMPLES = 8
"""Fewer values than this say nothing of what is unusual."""

_RARE = 0.02
_SEXES = {"f": "female", "xx": "female", "w": "female", "m": "male", "xy": "male"}


def measures(quality: pd.DataFrame) -> list[str]:
    """Name the columns of numbers, in their order, that hold at least one value."""
    return [
        str(name)
        for name, column in quality.items()
        if name not in DESCRIPTIONS
        and pd.api.types.is_numeric_dtype(column)
        and not pd.api.types.is_bool_dtype(column)
        and np.isfinite(column.to_numpy(dtype=float, na_value=np.nan)).any()
    ]


def spans_powers(values: np.ndarray) -> bool:
    """Tell whether finite values (n,) are all positive and span two powers of ten or more."""
    return bool(len(values) and values.min() > 0 and values.max() / 100 >= values.min())


def fences(values: np.ndarray) -> tuple[float, float]:
    """Return the values between which nothing is far out; minus and plus infinity where that cannot be said.

    Parameters: ``values`` (n,), missing ones as NaN. Where half of the values and more are one number, the others
    are far out if they are rare (at most 2 %). Values that span powers of ten are judged by their logarithms.
    """
    values = values[np.isfinite(values)]
    if len(values) < MIN_SAMPLES:
        return -np.inf, np.inf
    if spans_powers(values):
        low, high = _fences(np.log10(values))
        with np.errstate(over="ignore"):  # a fence beyond the largest float is infinite
            low, high = np.power(10.0, (low, high))
        return float(low), float(high)
    return _fences(values)


def _fences(values: np.ndarray) -> tuple[float, float]:
    lower, middle, upper = np.quantile(values, [0.25, 0.5, 0.75])
    if lower == upper:
        rare = np.mean(values != middle) <= _RARE
        return (float(middle), float(middle)) if rare else (-np.inf, np.inf)
    reach = FENCE * (upper - lower)
    return float(lower - reach), float(upper + reach)


def find_outliers(quality: pd.DataFrame) -> pd.DataFrame:
    """List the values that are far out among all samples of an assay.

    Returns the columns measure, sample_id, value, low, high (the fences), a row a value.
    """
    found = []
    for name in measures(quality):
        values = quality[name].to_numpy(dtype=float, na_value=np.nan)
        low, high = fences(values)
        for i in np.flatnonzero((values < low) | (values > high)):
            found.append((name, quality["sample_id"].iloc[i], values[i], low, high))
    return pd.DataFrame(found, columns=["measure", "sample_id", "value", "low", "high"])


def excluded_samples(
    tables: Mapping[str, pd.DataFrame], listed: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> pd.DataFrame:
    """List the objects that were not taken, by assay.

    Parameters: ``tables`` the table of quality of each assay; ``listed`` what the receipt of an assay says was
    excluded (sample_id, uri, reason, offset). Returns the columns of ``EXCLUDED_COLUMNS``, each sample of an assay
    once; ``offset`` is NaN where none is known.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for assay, table in tables.items():
        if "status" not in table.columns:
            continue
        for row in table[table["status"].fillna(READ) != READ].to_dict("records"):
            rows[assay, row["sample_id"]] = {"assay": assay, **row}
    for assay, items in (listed or {}).items():
        for item in items:
            rows.setdefault((assay, item["sample_id"]), {"assay": assay, **item})
    found = pd.DataFrame(list(rows.values()), columns=None if rows else EXCLUDED_COLUMNS)
    found = found.reindex(columns=EXCLUDED_COLUMNS)
    return found.assign(
        uri=found["uri"].fillna("").astype(str),
        reason=found["reason"].fillna("no reason was given").astype(str),
        offset=pd.to_numeric(found["offset"], errors="coerce"),
    )


def shorten_reason(reason: str, uri: str = "") -> str:
    """Cut a reason down to what samples may share: without its object, numbers and advice.

    E.g. "s3://b/x.bam: ends at byte 512 inside a block; copy the file again" becomes "ends at byte … inside a block".
    """
    first = reason.strip().split("\n")[0]
    for name in filter(None, (uri, uri.rpartition("/")[2])):
        first = first.replace(f"{name}: ", "").replace(name, "\N{HORIZONTAL ELLIPSIS}")
    first = re.sub(r"^\S*[/\\]\S*: ", "", first).partition(";")[0]
    return re.sub(r"\b\d[\d,._]*\b", "\N{HORIZONTAL ELLIPSIS}", first).strip(" .:")


def compare_sex(quality: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame | None:
    """Compare the sex that the data show with that of the sheet; None where either has no such column.

    Returns the columns sample_id, sheet, inferred, agrees (True, False, or None where one of them does not say).
    """
    if "sex_inferred" not in quality.columns or "sex" not in samples.columns:
        return None
    told = samples.set_index("sample_id")["sex"].reindex(quality["sample_id"]).map(_sex).to_numpy()
    inferred = quality["sex_inferred"].map(_sex).to_numpy()
    agrees = [a == b if a and b else None for a, b in zip(told, inferred, strict=True)]
    return pd.DataFrame(
        {
            "sample_id": quality["sample_id"].to_numpy(),
            "sheet": told,
            "inferred": inferred,
            "agrees": pd.Series(agrees, dtype=object).to_numpy(),
        }
    )


def _sex(value: object) -> str:
    """Write a sex as female or male, "" where it is neither or not told."""
    text = str(value).strip().lower()
    return _SEXES.get(text, _SEXES.get(text[:1], "") if text in ("female", "male", "woman", "man") else "")


def sample_flow(
    samples: pd.DataFrame,
    splits: pd.DataFrame,
    excluded: pd.DataFrame | None = None,
) -> list[dict[str, Any]]:
    """Count samples and patients from the sheet to the test sets, and say at each step who left and why.

    Parameters: ``excluded`` as of ``excluded_samples``; None where it is not known what was read.
    Returns a dict a stage: stage, n_samples, n_patients, left (reason, n_samples) since the stage before.
    """
    listed = pd.Index(samples["sample_id"].unique())
    stages: list[tuple[str, pd.Index, list[tuple[str, int]]]] = [("listed in the sheet", listed, [])]
    if excluded is not None:
        lost = excluded[excluded["sample_id"].isin(listed)].drop_duplicates("sample_id")
        reasons = pd.Series(
            [shorten_reason(row.reason, row.uri) for row in lost.itertuples()], dtype=str
        ).value_counts()
        why = [(str(reason), int(n)) for reason, n in reasons.items()]
        stages.append(("read and measured", listed.difference(lost["sample_id"], sort=False), why))
    for stage, ids, why in (
        ("in at least one split", splits["sample_id"], "in no split"),
        ("tested", splits.loc[splits["role"] == "test", "sample_id"], "trained on, never tested"),
    ):
        before = stages[-1][1]
        kept = before.intersection(pd.Index(ids.unique()), sort=False)
        n_left = len(before) - len(kept)
        stages.append((stage, kept, [(why, n_left)] if n_left else []))
    patient_of = samples.drop_duplicates("sample_id").set_index("sample_id")["patient_id"]
    return [
        {
            "stage": stage,
            "n_samples": len(ids),
            "n_patients": int(patient_of[ids].nunique()),
            "left": [{"reason": reason, "n_samples": n} for reason, n in why],
        }
        for stage, ids, why in stages
    ]
