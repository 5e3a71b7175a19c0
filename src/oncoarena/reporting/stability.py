"""Other seeds: what of a result is luck of the training."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.figures import NARROW, WIDE, Row, draw_intervals
from oncoarena.reporting.glossary import DASH, axis_bounds, count, decimals, metric
from oncoarena.reporting.series import Series


def seeds_section(table: pd.DataFrame | None, series: Mapping[str, Series], primary: str) -> dict[str, Any]:
    """Draw how far the primary metric moves from seed to seed, and list it for all metrics.

    Parameters: ``table`` with the columns hypothesis, training_seed, metric, estimate and changed; None or empty
    where nothing was trained with other seeds. Returns {} then.
    """
    if table is None or table.empty:
        return {}
    spread = summarise(table)
    main = spread[spread["metric"] == primary]
    drawn = {
        name: Markup(_draw(main, series, primary, uid=f"seeds-{name}", width=width))
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    }
    return {"picture": drawn, "table": seeds_table(spread, series), "metric": metric(primary)}


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Lay the seeds of each hypothesis and metric together: n, mean, low, high, deviation, changed (mean)."""
    rows = []
    for (name, key), part in table.groupby(["hypothesis", "metric"], sort=False):
        values, other = part["estimate"], part.loc[part["training_seed"] != 0, "changed"]
        rows.append(
            (name, key, len(part), values.mean(), values.min(), values.max(), values.std(), other.mean())
        )
    columns = ["hypothesis", "metric", "n", "mean", "low", "high", "deviation", "changed"]
    return pd.DataFrame(rows, columns=columns)


def seeds_table(spread: pd.DataFrame, series: Mapping[str, Series]) -> DataTable:
    """List the spread over seeds."""
    body = [
        [
            series[row.hypothesis].label,
            metric(row.metric).title,
            count(row.n),
            decimals(row.mean),
            f"{decimals(row.low)} to {decimals(row.high)}",
            decimals(row.deviation, 4),
            f"{row.changed:.1%}" if math.isfinite(row.changed) else DASH,
        ]
        for row in spread.itertuples()
    ]
    headings = ["Hypothesis", "Metric", "Seeds", "Mean", "Lowest to highest", "Standard deviation"]
    return DataTable("Spread over seeds", [*headings, "Samples that change class"], body, n_text=2)


def _draw(spread: pd.DataFrame, series: Mapping[str, Series], primary: str, *, uid: str, width: int) -> str:
    rows = []
    for row in sorted(spread.itertuples(), key=lambda row: list(series).index(row.hypothesis)):
        look, value, span = (
            series[row.hypothesis],
            decimals(row.mean),
            f"{decimals(row.low)} to {decimals(row.high)}",
        )
        rows.append(
            Row(
                label=look.label,
                group=look.role,
                low=row.low,
                middle=row.mean,
                high=row.high,
                value=value,
                beside=span,
                beside_short=span,
                reading=f"{look.naming}\n{metric(primary).title} {value} on average of {row.n} seeds\n{span}",
                series=look,
                marker_class=look.marker_class,
            )
        )
    return draw_intervals(
        rows,
        axis_label=f"{metric(primary).title}, mean and range over seeds",
        bounds=axis_bounds(primary),
        domain=None,
        zero_line=False,
        title=f"{metric(primary).title} over seeds",
        description="Dots are means, whiskers the lowest and highest of all seeds, one row a hypothesis. "
        "The numbers are in the table of this section.",
        uid=uid,
        width=width,
    )
