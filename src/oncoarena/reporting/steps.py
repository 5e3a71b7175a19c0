"""What every step of the workflow took, as Snakemake measured it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.figures import NARROW, WIDE, bar_plot
from oncoarena.reporting.glossary import DASH, compact, count, duration, memory, plural
from oncoarena.reporting.tables import TIMINGS

ORDER = ("check_samples", "split", "extract", "freeze", "train", "train_again", "evaluate", "report")
"""Steps in the order in which a study goes through them; others come last."""

JOBS_MOST = 60
"""The most jobs listed one by one: the longest ones."""

_WORDS = {
    "check_samples": "Check the sample sheet",
    "split": "Deal the splits",
    "extract": "Read the objects (extract)",
    "freeze": "Join the blocks (freeze)",
    "train": "Train and predict",
    "train_again": "Train again: thresholds, seeds, learning curves",
    "evaluate": "Evaluate",
}


def steps_section(
    steps: pd.DataFrame | None, tables: Mapping[str, pd.DataFrame] | None = None
) -> dict[str, Any]:
    """Draw and list the cost of each step.

    Parameters: ``steps`` with the columns step, job, seconds (by the clock), cpu_seconds, peak_memory_mb, read_mb
    and written_mb, a row a job, NaN where not measured; ``tables``, of which those named ``timings_<assay>`` say how
    fast objects were read. Returns {} where no step was measured.
    """
    if steps is None or steps.empty:
        return {}
    order = [*ORDER, *sorted(set(steps["step"]) - set(ORDER))]
    summed = steps.groupby("step").agg(
        n_jobs=("job", "size"),
        seconds=("seconds", "sum"),
        longest=("seconds", "max"),
        cpu_seconds=("cpu_seconds", lambda values: values.sum(min_count=1)),
        peak_memory_mb=("peak_memory_mb", "max"),
        read_mb=("read_mb", lambda values: values.sum(min_count=1)),
        written_mb=("written_mb", lambda values: values.sum(min_count=1)),
    )
    summed = summed.loc[[step for step in order if step in summed.index]]
    rows = [
        (_WORDS.get(step, step), row.seconds, f"{duration(row.seconds)} in {plural(int(row.n_jobs), 'job')}")
        for step, row in zip(summed.index, summed.itertuples(), strict=True)
    ]
    return {
        "total": f"{plural(len(steps), 'job')}, {duration(summed['seconds'].sum())} of job time and "
        f"{duration(summed['cpu_seconds'].sum())} of processor time in all",
        "picture": {
            name: Markup(
                bar_plot(
                    rows,
                    title="Time of each step",
                    description="One bar a step: seconds by the clock, summed over its jobs. "
                    "The numbers are in the table of this section.",
                    uid=f"steps-{name}",
                    width=width,
                )
            )
            for name, width in (("wide", WIDE), ("narrow", NARROW))
        },
        "table": _step_table(summed),
        "jobs": _job_table(steps),
        "reading": reading_table(tables or {}),
    }


def reading_table(tables: Mapping[str, pd.DataFrame]) -> DataTable | None:
    """Sum up by assay how fast objects were read; None where none was read object by object."""
    body = []
    for name, table in tables.items():
        if not name.startswith(TIMINGS) or table.empty:
            continue
        slowest = table.loc[table["mb_per_s"].idxmin()]
        body.append(
            [
                name.removeprefix(TIMINGS),
                count(len(table)),
                memory(table["n_bytes"].sum() / 1e6),
                compact(table["n_records"].sum(min_count=1)),
                duration(table["seconds"].sum()),
                f"{compact(table['mb_per_s'].median())} MB/s",
                f"{compact(slowest['mb_per_s'])} MB/s ({slowest['sample_id']})",
            ]
        )
    headings = ["Assay", "Objects", "Size", "Records", "Time of reading", "Median speed", "Slowest"]
    return DataTable("How fast objects were read", headings, body) if body else None


def _step_table(summed: pd.DataFrame) -> DataTable:
    body = [
        [
            _WORDS.get(step, step),
            count(row.n_jobs),
            duration(row.seconds),
            duration(row.longest),
            duration(row.cpu_seconds),
            memory(row.peak_memory_mb),
            memory(row.read_mb),
            memory(row.written_mb),
        ]
        for step, row in zip(summed.index, summed.itertuples(), strict=True)
    ]
    headings = ["Step", "Jobs", "Job time", "Longest job", "Processor time", "Peak memory", "Read", "Written"]
    return DataTable("What each step took", headings, body)


def _job_table(steps: pd.DataFrame) -> DataTable:
    longest = steps.sort_values("seconds", ascending=False, kind="stable").head(JOBS_MOST)
    body = [
        [
            str(row.step),
            str(row.job) or DASH,
            duration(row.seconds),
            duration(row.cpu_seconds),
            memory(row.peak_memory_mb),
            memory(row.read_mb),
            memory(row.written_mb),
        ]
        for row in longest.itertuples()
    ]
    headings = ["Step", "Job", "Time", "Processor time", "Peak memory", "Read", "Written"]
    caption = "Every job, the longest first"
    if len(steps) > JOBS_MOST:
        caption = (
            f"The {JOBS_MOST} longest of {count(len(steps))} jobs; all are in tables/steps.tsv of the export"
        )
    return DataTable(caption, headings, body, n_text=2)
