"""The section on the quality of the data: pictures of every measure, who stands out, who was excluded."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from oncoarena.quality import DESCRIPTIONS, READ, compare_sex, fences, find_outliers, measures
from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.glossary import DASH, compact, count, measure_title, plural
from oncoarena.reporting.strips import strip_plot
from oncoarena.reporting.tables import QUALITY

ROWS_MOST = 250
"""The most samples listed on the page; all are in the export."""

_GROUPS_MOST = 12
_NAMED_MOST = 4
_COLUMNS_MOST = 14
_WIDTH = 380
_SEE_TABLE = "The numbers are in the table of this section."
_EVERY = "all samples"


def quality_section(
    tables: Mapping[str, pd.DataFrame],
    samples: pd.DataFrame,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Collect what the page shows of the quality of the data.

    Parameters: ``tables``, of which those named ``qc_<assay>`` hold a row a sample (see ``quality``) and
    ``excluded`` lists the objects that were not taken; ``samples``, the sheet; ``notes``, what the extraction of
    an assay had to say. Returns {} where there is nothing to show.
    """
    found = {
        name.removeprefix(QUALITY): table
        for name, table in tables.items()
        if name.startswith(QUALITY) and len(table)
    }
    excluded = tables.get("excluded")
    if not found and (excluded is None or excluded.empty):
        return {}
    assays = [
        _assay(assay, table, samples, excluded, i, (notes or {}).get(assay) or [])
        for i, (assay, table) in enumerate(found.items())
    ]
    return {
        "assays": assays,
        "excluded": excluded_table(excluded) if excluded is not None and len(excluded) else None,
        "n_excluded": 0 if excluded is None else excluded["sample_id"].nunique(),
        "known": excluded is not None,
    }


def _assay(
    assay: str,
    table: pd.DataFrame,
    samples: pd.DataFrame,
    excluded: pd.DataFrame | None,
    number: int,
    notes: Sequence[str],
) -> dict[str, Any]:
    joined = table.merge(samples.drop_duplicates("sample_id")[_shared(samples)], on="sample_id", how="left")
    outliers = find_outliers(table)
    groupings = _groupings(joined)
    constant, drawn = [], []
    for i, name in enumerate(measures(table)):
        values = table[name].to_numpy(dtype=float, na_value=np.nan)
        known = values[np.isfinite(values)]
        if known.min() == known.max():
            constant.append((measure_title(name), f"{compact(known[0])} in all {count(len(known))}"))
            continue
        far = outliers[outliers["measure"] == name]
        drawn.append(
            {
                "measure": name,
                "title": measure_title(name),
                "far": _name_far(far),
                "pictures": _pictures(assay, name, joined, values, groupings, far, f"qc-{number}-{i}"),
            }
        )
    dropped = set() if excluded is None else set(excluded.loc[excluded["assay"] == assay, "sample_id"])
    n_read = len(table) - int(table["sample_id"].isin(dropped).sum())
    return {
        "assay": assay,
        "n_read": plural(n_read, "sample"),
        "n_excluded": len(dropped),
        "drawn": drawn,
        "constant": constant,
        "notes": [str(note) for note in notes],
        "n_far": int(outliers["sample_id"].nunique()),
        "table": sample_table(assay, joined, outliers),
        "sex": sex_table(assay, table, samples),
    }


def _shared(samples: pd.DataFrame) -> list[str]:
    return [name for name in ("sample_id", "label", "site") if name in samples.columns]


def _groupings(joined: pd.DataFrame) -> dict[str, tuple[pd.Series, list[str]]]:
    """By what samples are put into rows: their label, and their site where there are some."""
    found: dict[str, tuple[pd.Series, list[str]]] = {}
    for column in ("label", "site"):
        if column not in joined.columns:
            continue
        groups = joined[column].astype("string").fillna("").replace("", "not given")
        order = sorted(groups.unique())
        if 2 <= len(order) <= _GROUPS_MOST:
            found[column] = (groups, order)
    return found or {"": (pd.Series(_EVERY, index=joined.index), [_EVERY])}


def _pictures(
    assay: str,
    name: str,
    joined: pd.DataFrame,
    values: np.ndarray,
    groupings: Mapping[str, tuple[pd.Series, list[str]]],
    far: pd.DataFrame,
    uid: str,
) -> list[dict[str, Any]]:
    low, high = fences(values)
    pictures = []
    for column, (groups, order) in groupings.items():
        by = f" by {column}" if column else ""
        picture = strip_plot(
            values,
            groups,
            joined["sample_id"],
            order=order,
            low=low,
            high=high,
            axis_label=measure_title(name),
            title=f"{assay}: {measure_title(name)}{by}",
            description=f"A dot a sample, a line at the median of its row. {_name_far(far)} {_SEE_TABLE}",
            uid=f"{uid}-{column or 'all'}",
            width=_WIDTH,
        )
        pictures.append({"by": column, "picture": Markup(picture)})
    return pictures


def _name_far(far: pd.DataFrame) -> str:
    """Name the samples of one measure that are far out."""
    if far.empty:
        return "Nothing is far out."
    first = far.iloc[(far["value"] - (far["low"] + far["high"]) / 2).abs().argsort()[::-1]][:_NAMED_MOST]
    named = ", ".join(f"{row.sample_id} ({compact(row.value)})" for row in first.itertuples())
    more = f" and {count(len(far) - len(first))} more" if len(far) > len(first) else ""
    return f"Far out: {named}{more}."


def sample_table(assay: str, joined: pd.DataFrame, outliers: pd.DataFrame) -> DataTable:
    """List the samples of an assay with their measures: excluded ones first, then those far out."""
    far = outliers.groupby("sample_id")["measure"].agg(lambda names: ", ".join(map(measure_title, names)))
    standing = joined["sample_id"].map(far).fillna("")
    if "status" in joined.columns:
        status = joined["status"].fillna(READ).astype(str)
        standing = standing.where(status == READ, status)
        rank = np.where(status != READ, 0, np.where(standing != "", 1, 2))
    else:
        rank = np.where(standing != "", 1, 2)
    shown = joined.assign(_standing=standing).iloc[np.argsort(rank, kind="stable")[:ROWS_MOST]]
    words = [name for name in ("label", "site") if name in joined.columns]
    numbers = measures(joined)
    texts = [
        name
        for name in joined.columns
        if name not in (*DESCRIPTIONS, *words, *numbers) and joined[name].notna().any()
    ]
    columns = [*texts, *numbers][:_COLUMNS_MOST]
    texts = [name for name in columns if name in texts]
    body = [
        [
            str(row["sample_id"]),
            *(_word(row[name]) for name in words),
            row["_standing"] or DASH,
            *(_word(row[name]) for name in texts),
            *(compact(row[name]) for name in columns if name not in texts),
        ]
        for row in shown.to_dict("records")
    ]
    headings = ["Sample", *(name.capitalize() for name in words), "Far out in", *map(measure_title, columns)]
    caption = f"Quality of {assay}, sample by sample"
    if len(joined) > len(shown):
        caption += (
            f": {count(len(shown))} of {count(len(joined))}, those that stand out first; all are in "
            f"tables/{QUALITY}{assay}.tsv of the export"
        )
    return DataTable(caption, headings, body, n_text=2 + len(words) + len(texts))


def excluded_table(excluded: pd.DataFrame) -> DataTable:
    """List the objects that were not taken, with place and reason."""
    body = [
        [
            str(row.sample_id),
            str(row.assay),
            row.reason.removeprefix(f"{row.uri}: "),
            str(row.uri) or DASH,
            count(row.offset) if np.isfinite(row.offset) else DASH,
        ]
        for row in excluded.head(ROWS_MOST).itertuples()
    ]
    caption = "Objects that were not taken"
    if len(excluded) > ROWS_MOST:
        caption += f": {ROWS_MOST} of {count(len(excluded))}; all are in tables/excluded.tsv of the export"
    return DataTable(caption, ["Sample", "Assay", "Reason", "Object", "At byte"], body, n_text=4)


def sex_table(assay: str, table: pd.DataFrame, samples: pd.DataFrame) -> dict[str, Any] | None:
    """Say whether the sex of the sheet is that of the data, and list the samples where it is not."""
    compared = compare_sex(table, samples)
    if compared is None:
        return None
    agrees = compared["agrees"]
    differ = compared[agrees.eq(False)]
    n_same, n_untold = int(agrees.eq(True).sum()), int(agrees.isna().sum())
    body = [[row.sample_id, row.sheet, row.inferred] for row in differ.itertuples()]
    listed = DataTable(
        f"Sex of the sheet against that of {assay}",
        ["Sample", "In the sheet", "In the data"],
        body[:ROWS_MOST],
        n_text=3,
    )
    told = f"The sex in the sheet is that of the data in {plural(n_same, 'sample')} and another in {count(len(differ))}"
    told += f"; in {count(n_untold)} one of the two does not say." if n_untold else "."
    return {"told": told, "n_differ": len(differ), "table": listed if len(differ) else None}


def _word(value: object) -> str:
    return DASH if pd.isna(value) or value == "" else str(value)
