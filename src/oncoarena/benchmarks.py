"""Read what Snakemake measured of each job of a study."""

from collections.abc import Sequence

import pandas as pd

from oncoarena import store

COLUMNS = {
    "s": "seconds",
    "cpu_time": "cpu_seconds",
    "max_rss": "peak_memory_mb",
    "io_in": "read_mb",
    "io_out": "written_mb",
}
"""Columns of a benchmark file (seconds and MB) and what they are called here."""


def read_benchmarks(uris: Sequence[str]) -> pd.DataFrame:
    """Read benchmark files into one table, a row a job.

    Parameters: ``uris`` end in ``benchmarks/<step>.tsv`` or ``benchmarks/<step>/<job>.tsv``.
    Returns the columns step, job and those named in ``COLUMNS``; NaN where a job ended before it was measured.
    Source: https://snakemake.readthedocs.io/en/stable/snakefiles/rules.html#benchmark-rules
    """
    rows = []
    for uri in uris:
        step, _, job = uri.rpartition("benchmarks/")[2].removesuffix(".tsv").partition("/")
        with store.open_input(uri) as stream:
            measured = pd.read_csv(stream, sep="\t", dtype=str)
        for line in measured.reindex(columns=list(COLUMNS)).rename(columns=COLUMNS).to_dict("records"):
            rows.append({"step": step, "job": job, **line})
    table = pd.DataFrame(rows, columns=["step", "job", *COLUMNS.values()])
    numbers = table[list(COLUMNS.values())].apply(pd.to_numeric, errors="coerce")
    return table.assign(**{name: numbers[name].astype(float) for name in numbers})
