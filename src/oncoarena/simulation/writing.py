"""Write simulated tables: whole or not at all, and the same table always as the same bytes."""

import gzip
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from oncoarena import store


def write_sheet(path: Path, table: pd.DataFrame) -> None:
    """Write a tab-separated table whole."""
    store.write_text(str(path), table.to_csv(sep="\t", index=False, lineterminator="\n"))


def write_matrix(path: Path, table: pa.Table) -> None:
    """Write a matrix with named rows whole, as Parquet or as tab-separated text, by the path's ending."""
    if path.name.endswith(".parquet"):
        store.write_whole(
            str(path),
            lambda temporary: pyarrow.parquet.write_table(table, temporary, write_page_checksum=True),
        )
    else:
        write_text_table(path, table)


def write_text_table(
    path: Path, table: pa.Table, preface: str = "", header: bool = True, level: int = 6
) -> None:
    """Write tab-separated text whole, gzipped where the path ends in .gz, after the lines of ``preface``."""
    options = pyarrow.csv.WriteOptions(
        delimiter="\t", quoting_style="none", quoting_header="none", include_header=header
    )

    def write(temporary: str) -> None:
        if not path.name.endswith(".gz"):
            with open(temporary, "wb") as raw:
                raw.write(preface.encode())
                pyarrow.csv.write_csv(table, raw, options)
            return
        # No name and no time in the header: the same table gives the same bytes.
        with (
            open(temporary, "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=raw, mtime=0) as packed,
        ):
            packed.write(preface.encode())
            pyarrow.csv.write_csv(table, packed, options)

    store.write_whole(os.fspath(path), write)
