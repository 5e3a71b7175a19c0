"""Read the sample sheet: a checked table of who was measured, with what, and what the truth is."""

import io
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from oncoarena import store
from oncoarena.errors import Faults, InputError
from oncoarena.schema import suggestion

REQUIRED = ("sample_id", "patient_id", "label")
RESERVED = ("repeat", "fold", "role", "hypothesis", "digest")
"""Column names that the pipeline's own tables use beside the sheet's."""

MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "null", "None")
"""What counts as a missing value in an optional column."""

ROWS_PER_BATCH = 20_000
"""Rows that are in memory as Python strings at a time; the rest of the sheet is Arrow's."""


def read_samples(
    uri: str, *, columns: Sequence[str] = (), paths: Sequence[str] = (), min_patients: int = 2
) -> pd.DataFrame:
    """Read and check a sample sheet: tab-separated text, one header line, one line a sample.

    Parameters: ``columns`` are further columns that the study uses and that must be there (strata,
    covariates, site, split); ``paths`` are columns of which every cell must be filled (an assay's file);
    ``min_patients`` is the least number of patients that every label needs.
    Returns a row per sample in the sheet's order, all columns str, missing optional cells as "".
    Raises InputError with a line for each problem: file, row (line of the file), column, what to do.
    """
    table, lines = _read_text(uri)
    _check_columns(uri, table, [*REQUIRED, *columns, *paths])
    problems = _empty_cells(uri, table, lines, [*REQUIRED, *paths])
    problems += _duplicates(uri, table, lines)
    problems += _split_column(uri, table, lines)
    if not problems:
        problems = _label_counts(uri, table, min_patients)
    faults = Faults()
    for problem in problems:
        faults.add(problem)
    faults.tell()
    return table


def check_labels(table: pd.DataFrame, min_patients: int, where: str) -> None:
    """Raise InputError unless there are two labels at least, each of ``min_patients`` patients."""
    problems = _label_counts(where, table, min_patients)
    if problems:
        raise InputError("\n".join(problems))


def covariate_table(samples: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Type covariates: a column whose filled cells are all numbers becomes float64 (NaN where empty)."""
    typed = {}
    for column in columns:
        words = samples[column]
        numbers = pd.to_numeric(words.where(words != ""), errors="coerce").astype("float64")
        is_number = bool((numbers.notna() | (words == "")).all()) and bool(numbers.notna().any())
        typed[column] = numbers if is_number else words.astype(str)
    return pd.DataFrame(typed, index=samples.index)


def _read_text(uri: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the sheet's cells and the line of the file that each row stands on."""
    with store.open_input(uri) as stream:
        raw = stream.read()
    _check_text(uri, raw)
    # The text is decoded as it goes, and cells become Arrow's a batch at a time: a sheet may have a million rows.
    with io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8-sig", newline=None) as text:
        filled = (
            (number, line.rstrip("\n"))
            for number, line in enumerate(text, start=1)
            if line.strip() and line[0] != "#"
        )
        first = next(filled, None)
        if first is None:
            raise InputError(f"{uri}: is empty; expected a header line with {', '.join(REQUIRED)}")
        header_line, header = first
        separator = "\t" if "\t" in header or "," not in header else ","
        names = _cells(header, separator)
        lines, batches = [], []
        while batch := list(itertools.islice(filled, ROWS_PER_BATCH)):
            rows = [_row(uri, number, line, separator, len(names)) for number, line in batch]
            lines.append(np.array([number for number, _ in batch]))
            columns = [pa.array(column, pa.large_string()) for column in zip(*rows, strict=True)]
            batches.append(pa.record_batch(columns, [str(i) for i in range(len(names))]))
    if not batches:
        raise InputError(f"{uri}: has a header but no samples; add a line for each sample")
    _check_header(uri, header_line, names)
    table = pa.Table.from_batches(batches).to_pandas(self_destruct=True).set_axis(names, axis=1)
    for name in names:
        if name not in REQUIRED:
            table[name] = table[name].where(~table[name].isin(MISSING_WORDS), "")
    return table, np.concatenate(lines)


def _check_text(uri: str, raw: bytes) -> None:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        row = raw[: error.start].count(b"\n") + 1
        raise InputError(
            f"{uri}: row {row}: byte {error.start} is not UTF-8; save the sheet as UTF-8 text"
        ) from error
    if b"\0" in raw:
        raise InputError(f"{uri}: is not text (it holds zero bytes); export the sheet as tab-separated text")


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip().strip('"').strip() for cell in line.split(separator)]


def _row(uri: str, number: int, line: str, separator: str, n_cells: int) -> list[str]:
    row = _cells(line, separator)
    if len(row) > n_cells and not any(row[n_cells:]):
        return row[:n_cells]  # trailing separators, as spreadsheets write them
    if len(row) != n_cells:
        raise InputError(
            f"{uri}: row {number}: has {len(row)} cells, the header has {n_cells}; cells are separated by "
            f"{'tabs' if separator == chr(9) else 'commas'}"
        )
    return row


def _check_header(uri: str, line: int, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{uri}: row {line}: column {twice[0]!r} is there twice; rename or remove one")
    if "" in names:
        raise InputError(f"{uri}: row {line}: column {names.index('') + 1} has no name; name or remove it")


def _check_columns(uri: str, table: pd.DataFrame, needed: Sequence[str]) -> None:
    for name in needed:
        if name not in table.columns:
            raise InputError(
                f"{uri}: column {name!r} is missing{suggestion(name, table.columns)}; add it or correct the config"
            )
    clash = [name for name in RESERVED if name in table.columns]
    if clash:
        raise InputError(f"{uri}: column {clash[0]!r} has a name that oncoarena's own tables use; rename it")


def _empty_cells(uri: str, table: pd.DataFrame, lines: np.ndarray, columns: Sequence[str]) -> list[str]:
    problems = []
    for name in dict.fromkeys(columns):
        for row in table.index[table[name].isin(MISSING_WORDS)]:
            found = f"found {table[name][row]!r}" if table[name][row] else "is empty"
            problems.append(f"{uri}: row {lines[row]}: column {name!r}: {found}; every sample needs one")
    return problems


def _duplicates(uri: str, table: pd.DataFrame, lines: np.ndarray) -> list[str]:
    ids = table["sample_id"]
    again = ids.index[ids.duplicated()]
    firsts = ids[ids.isin(ids[again])].drop_duplicates()
    first_row = dict(zip(firsts, firsts.index, strict=True))
    return [
        f"{uri}: row {lines[row]}: column 'sample_id': {ids[row]!r} stands on row {lines[first_row[ids[row]]]} too; "
        "every sample needs its own id"
        for row in again
    ]


def _split_column(uri: str, table: pd.DataFrame, lines: np.ndarray) -> list[str]:
    if "split" not in table.columns:
        return []
    problems = []
    for row in table.index[~table["split"].isin(["train", "test", ""])]:
        problems.append(
            f"{uri}: row {lines[row]}: column 'split': found {table['split'][row]!r}, expected train or test"
        )
    roles = table[table["split"] != ""].groupby("patient_id", sort=False)["split"].nunique()
    for patient_id in roles.index[roles > 1]:
        rows = table.index[table["patient_id"] == patient_id]
        places = ", ".join(f"{lines[row]} ({table['split'][row]})" for row in rows)
        problems.append(
            f"{uri}: column 'split': patient {patient_id!r} is in train and in test (rows {places}); "
            "put all samples of a patient on one side"
        )
    return problems


def _label_counts(uri: str, table: pd.DataFrame, min_patients: int) -> list[str]:
    patients = table.groupby("label")["patient_id"].nunique()
    if len(patients) < 2:
        return [
            f"{uri}: column 'label': only one label ({patients.index[0]!r}) was found; a study needs at least two"
        ]
    return [
        f"{uri}: column 'label': {label!r} has {count} patient{'s' if count > 1 else ''}, the study's splits need "
        f"at least {min_patients}; add samples, merge or remove the label, or use fewer folds"
        for label, count in patients.items()
        if count < min_patients
    ]
