"""Read the sample sheet: a checked table of who was measured, with what, and what the truth is."""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from oncoarena import listing, store
from oncoarena.errors import Faults, InputError
from oncoarena.schema import suggestion

REQUIRED = ("sample_id", "patient_id", "label")
RESERVED = ("repeat", "fold", "role", "hypothesis", "digest")
"""Column names that the pipeline's own tables use beside the sheet's."""

MISSING_WORDS = ("", "na", "n/a", "nan", "null")
"""What counts as a missing value in an optional column, in capitals or not; and ``None``, as programs write it: the
stage "none" of who is healthy is a category."""

# Every spelling is listed: to fold the case of a million cells costs more than to look them up.
SPELLINGS = [
    "None",
    *sorted(
        "".join(letters)
        for word in MISSING_WORDS
        for letters in itertools.product(*({letter, letter.upper()} for letter in word))
    ),
]

FEW_VALUES = 10
"""A column of numbers with no more different ones may be codes (stages, batches) rather than measurements."""

ROWS_PER_BATCH = 20_000
"""Rows that are in memory as Python strings at a time; the rest of the sheet is Arrow's."""


def read_samples(
    uri: str,
    *,
    columns: Sequence[str] = (),
    typed: Sequence[str] = (),
    paths: Sequence[str] = (),
    min_patients: int = 2,
    positive: str | None = None,
    prevalence: float | None = None,
) -> pd.DataFrame:
    """Read and check a sample sheet: tab-separated text, one header line, one line a sample.

    Parameters: ``columns`` are further columns that the study uses and that must be there (strata,
    covariates, site, split); ``typed`` those among them that are read as numbers where all their cells are;
    ``paths`` are columns that name a file of its own for every sample (an assay's);
    ``min_patients`` is the least number of patients that every label needs; ``positive`` must be a label, and
    ``prevalence`` asks for two. None of these changes the table: they decide what is refused.
    Returns a row per sample in the sheet's order, all columns str, missing optional cells as "".
    Raises InputError with a line for each problem: file, row (line of the file), column, what to do.
    """
    table, lines = _read_text(uri)
    _check_columns(uri, table, [*REQUIRED, *columns, *typed, *paths])
    problems = _empty_cells(uri, table, lines, [*REQUIRED, *paths])
    problems += _duplicates(uri, table, lines)
    problems += _shared_files(uri, table, lines, paths)
    problems += _split_column(uri, table, lines)
    problems += _words_among_numbers(uri, table, lines, typed)
    if not problems:
        problems = _label_counts(uri, table, min_patients)
        problems += _label_choices(uri, table, positive, prevalence)
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
    raw = _read_bytes(uri)
    _check_text(uri, raw)
    # The text is decoded as it goes, and cells become Arrow's a batch at a time: a sheet may have a million rows.
    with _decoded(raw) as text:
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
        names = _cells(uri, header_line, header, separator)
        _check_layout(uri, raw, header_line, header, names)
        _check_header(uri, header_line, names)
        lines, batches = [], []
        while batch := list(itertools.islice(filled, ROWS_PER_BATCH)):
            rows = [_row(uri, number, line, separator, len(names)) for number, line in batch]
            lines.append(np.array([number for number, _ in batch]))
            columns = [pa.array(column, pa.large_string()) for column in zip(*rows, strict=True)]
            batches.append(pa.record_batch(columns, [str(i) for i in range(len(names))]))
    if not batches:
        raise InputError(f"{uri}: has a header but no samples; add a line for each sample")
    table = pa.Table.from_batches(batches).to_pandas(self_destruct=True).set_axis(names, axis=1)
    for name in names:
        if name not in REQUIRED:
            table[name] = table[name].where(~table[name].isin(SPELLINGS), "")
    return table, np.concatenate(lines)


def _read_bytes(uri: str) -> bytes:
    try:
        with store.open_input(uri) as stream:
            return stream.read()
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, PermissionError) and store.is_remote(uri):
            raise  # who reads from S3 knows better what to do
        raise listing.Unreachable(uri, error) from error


def _decoded(raw: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8-sig", newline=None)


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


def _cells(uri: str, number: int, line: str, separator: str) -> list[str]:
    """Take a line apart; a quoted cell may hold the separator, and "" for a quotation mark (RFC 4180)."""
    if '"' not in line:
        return [cell.strip() for cell in line.split(separator)]
    reader = csv.reader([line, ""], delimiter=separator, skipinitialspace=True)
    try:
        cells = next(reader)
    except csv.Error as error:
        raise InputError(
            f"{uri}: row {number}: cannot be taken apart ({error}); correct its quotes"
        ) from error
    if reader.line_num > 1:
        raise InputError(
            f"{uri}: row {number}: a quotation mark opens a cell and none closes it on this line; add or remove one "
            "(a cell cannot hold a line break)"
        )
    return [cell.strip() for cell in cells]


def _row(uri: str, number: int, line: str, separator: str, n_cells: int) -> list[str]:
    row = _cells(uri, number, line, separator)
    if len(row) > n_cells and not any(row[n_cells:]) and '"' not in line:
        return row[:n_cells]  # trailing separators, as spreadsheets write them
    if len(row) != n_cells:
        rule = (
            "tabs" if separator == "\t" else 'commas, and one that holds a comma stands in "quotation marks"'
        )
        raise InputError(
            f"{uri}: row {number}: has {len(row)} cells, the header has {n_cells}; cells are separated by {rule}"
        )
    return row


def _check_layout(uri: str, raw: bytes, line: int, header: str, names: Sequence[str]) -> None:
    """Say what to change where the header is there, but not as a header of this sheet."""
    known = REQUIRED[0]
    if known in names:
        return
    if known in [cell.strip(' "') for cell in header.split(";")]:
        raise InputError(
            f"{uri}: row {line}: cells are separated by semicolons, expected tabs or commas; save the sheet as "
            "tab-separated text"
        )
    with _decoded(raw) as text:
        for number, skipped in enumerate(itertools.islice(text, line - 1), start=1):
            if skipped[0] == "#" and known in skipped[1:].replace(",", "\t").replace('"', " ").split():
                raise InputError(
                    f"{uri}: row {number}: begins with # and was skipped as a comment, but looks like the header; "
                    "remove the #"
                )


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
        for row in table.index[table[name].isin(SPELLINGS)]:
            found = f"found {table[name][row]!r}" if table[name][row] else "is empty"
            problems.append(f"{uri}: row {lines[row]}: column {name!r}: {found}; every sample needs one")
    return problems


def _repeated(cells: pd.Series) -> Iterator[tuple[int, int]]:
    """Yield each row whose cell stands further up too, and the first row that has it."""
    again = cells.index[cells.duplicated()]
    firsts = cells[cells.isin(cells[again])].drop_duplicates()
    first_row = dict(zip(firsts, firsts.index, strict=True))
    yield from ((row, first_row[cells[row]]) for row in again)


def _duplicates(uri: str, table: pd.DataFrame, lines: np.ndarray) -> list[str]:
    ids = table["sample_id"]
    return [
        f"{uri}: row {lines[row]}: column 'sample_id': {ids[row]!r} stands on row {lines[first]} too; "
        "every sample needs its own id"
        for row, first in _repeated(ids)
    ]


def _shared_files(uri: str, table: pd.DataFrame, lines: np.ndarray, paths: Sequence[str]) -> list[str]:
    """Complain about a file of two samples: one of them would be judged, or trained on, by the other's data."""
    ids = table["sample_id"]
    return [
        f"{uri}: row {lines[row]}: column {name!r}: {table[name][row]!r} of sample {ids[row]} stands on row "
        f"{lines[first]} (sample {ids[first]}) too; every sample needs its own file: correct one path or remove a row"
        for name in dict.fromkeys(paths)
        for row, first in _repeated(table.loc[table[name] != "", name])
    ]


def _words_among_numbers(
    uri: str, table: pd.DataFrame, lines: np.ndarray, columns: Sequence[str]
) -> list[str]:
    """Complain about the few words that would turn a column of numbers into as many categories, and infinity."""
    problems = []
    for name in dict.fromkeys(columns):
        words = table[name]
        filled = words != ""
        numbers = pd.to_numeric(words.where(filled), errors="coerce").astype("float64")
        finite = pd.Series(np.isfinite(numbers), words.index)
        odd, n_numbers = filled & ~finite, int(finite.sum())
        # Codes such as 1, 2, 3, 4S have few values: they are categories, and stay so.
        measured = numbers[finite].nunique() > min(FEW_VALUES, n_numbers / 2) and n_numbers > odd.sum()
        if measured or not (filled & numbers.isna()).any():
            problems += [
                f"{uri}: row {lines[row]}: column {name!r}: found {words[row]!r}, expected a finite number as in "
                f"{n_numbers} other rows; correct it, or leave it empty where it is missing (if these are categories "
                "and no numbers, write all of them as words)"
                for row in table.index[odd]
            ]
    return problems


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


def _label_choices(
    uri: str, table: pd.DataFrame, positive: str | None, prevalence: float | None
) -> list[str]:
    """Complain about what the config says of labels and the sheet does not bear out."""
    problems, labels = [], sorted(table["label"].unique())
    if positive is not None and positive not in labels:
        problems.append(
            f"positive: found {positive!r}, expected a label of {uri}{suggestion(positive, labels)}; correct the config"
        )
    if prevalence is not None and len(labels) != 2:
        problems.append(
            f"prevalence: found {prevalence:g} in a study of {len(labels)} labels ({', '.join(labels)}), see {uri}; "
            "it is the share of the positive one of two: remove it from the config"
        )
    return problems
