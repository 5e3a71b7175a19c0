"""Predictions of all competitors in one form: checked once at the border, trusted afterwards.

A predictions table has the columns hypothesis, repeat, fold, sample_id and one ``p_<class>`` a class,
in the order of the study's classes, and holds every test sample of every split exactly once. Where some
hypothesis tells what it said before calibration, it also has one ``raw_<class>`` a class, NaN for the others;
these say what calibration changed (see ``recalibration``), and nothing is judged by them.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from oncoarena.errors import InputError

KEY = ["repeat", "fold", "sample_id"]
SUM_TOLERANCE = 1e-3
"""How far from 1 the probabilities of a sample may sum; inside it they are scaled to sum to 1."""


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Name the column of each class's probability."""
    return [f"p_{name}" for name in classes]


def raw_columns(classes: Sequence[str]) -> list[str]:
    """Name the column of each class's probability before calibration."""
    return [f"raw_{name}" for name in classes]


def expected_rows(splits: pd.DataFrame) -> pd.DataFrame:
    """List every (repeat, fold, sample_id) that must be predicted: the test parts, sorted."""
    tested = splits.loc[splits["role"] == "test", KEY]
    return tested.sort_values(KEY, ignore_index=True)


def prediction_table(
    hypothesis: str,
    repeat: int,
    fold: int,
    sample_ids: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
) -> pd.DataFrame:
    """Lay out what one hypothesis predicts for the test part of one split.

    Parameters: ``sample_ids`` (n_samples,), ``probabilities`` (n_samples, n_classes).
    Returns a predictions table of n_samples rows.
    Raises ValueError if the shape of the probabilities does not fit.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.shape != (len(sample_ids), len(classes)):
        raise ValueError(
            f"{hypothesis}: probabilities have shape {probabilities.shape}, "
            f"expected ({len(sample_ids)}, {len(classes)}): one row a sample, one column a class"
        )
    keys = pd.DataFrame(
        {"hypothesis": hypothesis, "repeat": repeat, "fold": fold, "sample_id": np.asarray(sample_ids)}
    )
    return pd.concat(
        [keys, pd.DataFrame(probabilities, columns=probability_columns(classes))],
        axis=1,
    )


def collect(tables: Iterable[pd.DataFrame], splits: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Join the tables of several runs into one checked predictions table.

    Returns the rows of every hypothesis, hypotheses in order of appearance, then by split and sample.
    Raises InputError as ``check_predictions`` does.
    """
    tables = list(tables)
    if not tables:
        empty = pd.DataFrame(columns=["hypothesis", *KEY, *probability_columns(classes)])
        return empty.astype(
            {"hypothesis": str, "repeat": np.int64, "fold": np.int64, "sample_id": str}
            | dict.fromkeys(probability_columns(classes), np.float64)
        )
    return check_predictions(pd.concat(tables, ignore_index=True), splits, classes)


def check_predictions(
    table: pd.DataFrame, splits: pd.DataFrame, classes: Sequence[str], source: str = "predictions"
) -> pd.DataFrame:
    """Check that every hypothesis predicts every test sample exactly once, with true probabilities.

    Returns the table sorted by hypothesis (in order of appearance), repeat, fold and sample, its
    columns in the standing order, its probabilities scaled to sum to 1 exactly.
    Raises InputError naming ``source``, row and column of the first problem of each kind.
    """
    columns = probability_columns(classes)
    raw = [name for name in raw_columns(classes) if name in table.columns]
    _require_columns(table, ["hypothesis", *KEY, *columns, *raw], source, exact=True)
    table = table.reset_index(drop=True)
    values = np.hstack([_probabilities(table, columns, source), table[raw].to_numpy(np.float64)])
    expected = expected_rows(splits)
    expected_keys = pd.MultiIndex.from_frame(expected)
    parts = []
    for hypothesis, rows in table.groupby("hypothesis", sort=False):
        keys = pd.MultiIndex.from_frame(rows[KEY])
        _require_keys(keys, expected_keys, rows.index.to_numpy(), f"{source}, hypothesis {hypothesis}")
        order = rows.index.to_numpy()[keys.get_indexer(expected_keys)]
        part = pd.DataFrame(values[order], columns=[*columns, *raw])
        part.insert(0, "hypothesis", hypothesis)
        for position, name in enumerate(KEY):
            part.insert(1 + position, name, expected[name].to_numpy())
        parts.append(part.astype({"hypothesis": str, "sample_id": str}))
    if not parts:
        raise InputError(f"{source}: the table has no rows. Each test sample of each split needs one.")
    return pd.concat(parts, ignore_index=True)


def external_predictions(
    table: pd.DataFrame,
    hypothesis: str,
    splits: pd.DataFrame,
    classes: Sequence[str],
    source: str,
) -> pd.DataFrame:
    """Enter the predictions of a model trained elsewhere as a competitor on the study's own splits.

    Parameters: ``table`` has sample_id and one ``p_<class>`` column a class; with columns repeat and
    fold it must hold each test sample of each split once, without them its one row for a sample
    stands for each time this sample is tested (rows of samples that are never tested are not used).
    ``source`` is the file's name, for messages; lines are counted with the header as line 1.
    Returns a predictions table.
    Raises InputError naming file, line, column and what to do.
    """
    columns = probability_columns(classes)
    _require_columns(table, ["sample_id", *columns], source, exact=False)
    by_split = [name for name in ("repeat", "fold") if name in table.columns]
    if len(by_split) == 1:
        raise InputError(
            f"{source}: found column {by_split[0]} without its partner. Give both repeat and fold "
            "(one row for each test sample of each split), or neither (one row a sample)."
        )
    table = table.reset_index(drop=True)
    values = _probabilities(table, columns, source)
    checked = pd.DataFrame(values, columns=columns)
    checked.insert(0, "sample_id", _text(table["sample_id"]))
    known = pd.Index(splits["sample_id"].unique())
    unknown = np.flatnonzero(~checked["sample_id"].isin(known))
    if len(unknown):
        raise InputError(
            f"{source}, line {unknown[0] + 2}, column sample_id: {checked['sample_id'][unknown[0]]!r} "
            f"is not a sample of this study ({len(unknown)} such rows). Use the sample_id of the sample sheet."
        )
    expected = expected_rows(splits)
    if by_split:
        for name in by_split:
            checked[name] = _integers(table[name], name, source)
        checked.insert(0, "hypothesis", hypothesis)
        checked = checked[["hypothesis", *KEY, *columns]]
        return check_predictions(checked, splits, classes, source)
    repeated = np.flatnonzero(checked["sample_id"].duplicated())
    if len(repeated):
        raise InputError(
            f"{source}, line {repeated[0] + 2}, column sample_id: {checked['sample_id'][repeated[0]]!r} "
            "is there twice. Without the columns repeat and fold each sample has exactly one row."
        )
    positions = pd.Index(checked["sample_id"]).get_indexer(pd.Index(expected["sample_id"]))
    missing = np.flatnonzero(positions < 0)
    if len(missing):
        names = expected["sample_id"].iloc[missing].unique()
        raise InputError(
            f"{source}: {len(names)} test samples have no row, the first is {names[0]!r}. "
            "Add a row for every sample that is tested: a competitor is judged on all of them."
        )
    rows = pd.DataFrame(checked[columns].to_numpy()[positions], columns=columns)
    rows.insert(0, "hypothesis", hypothesis)
    for position, name in enumerate(KEY):
        rows.insert(1 + position, name, expected[name].to_numpy())
    return rows.astype({"hypothesis": str, "sample_id": str})


def _text(values: pd.Series) -> pd.Series:
    return values.astype(str).str.strip()


def _require_columns(table: pd.DataFrame, wanted: list[str], source: str, *, exact: bool) -> None:
    missing = [name for name in wanted if name not in table.columns]
    stray = [name for name in table.columns if name not in wanted]
    # An unknown p_ column is a class that this study does not have: dropping it would hide a mistake.
    stray = stray if exact else [name for name in stray if str(name).startswith("p_")]
    if missing or stray:
        found = f"missing column {', '.join(missing)}" if missing else ""
        found += "; " if missing and stray else ""
        found += f"unexpected column {', '.join(map(str, stray))}" if stray else ""
        raise InputError(f"{source}: {found}. Expected the columns {', '.join(wanted)}.")


def _probabilities(table: pd.DataFrame, columns: list[str], source: str) -> np.ndarray:
    """Read the probability columns as numbers that make sense: (n_rows, n_classes) float64."""
    values = np.empty((len(table), len(columns)))
    for position, name in enumerate(columns):
        numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.flatnonzero(~np.isfinite(numbers) | (numbers < 0))
        if len(bad):
            raise InputError(
                f"{source}, line {bad[0] + 2}, column {name}: found {table[name].iloc[bad[0]]!r}, "
                f"expected a number from 0 to 1 ({len(bad)} such cells). Give a probability for every class."
            )
        values[:, position] = numbers
    sums = values.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if len(off):
        raise InputError(
            f"{source}, line {off[0] + 2}: the probabilities sum to {sums[off[0]]:.6g}, expected 1 "
            f"within {SUM_TOLERANCE:g} ({len(off)} such rows). Scale each row over the classes "
            f"{', '.join(name.removeprefix('p_') for name in columns)} to sum to 1."
        )
    return values / sums[:, None]


def _integers(values: pd.Series, name: str, source: str) -> np.ndarray:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(numbers) | (numbers != np.round(numbers)))
    if len(bad):
        raise InputError(
            f"{source}, line {bad[0] + 2}, column {name}: found {values.iloc[bad[0]]!r}, expected a whole "
            "number as in the study's splits table."
        )
    return numbers.astype(np.int64)


def _require_keys(keys: pd.MultiIndex, expected: pd.MultiIndex, row_numbers: np.ndarray, source: str) -> None:
    repeated = np.flatnonzero(keys.duplicated())
    if len(repeated):
        raise InputError(
            f"{source}, line {row_numbers[repeated[0]] + 2}: {_named(keys[repeated[0]])} is there twice. "
            "Keep one row for each test sample of each split."
        )
    stray = np.flatnonzero(expected.get_indexer(keys) < 0)
    if len(stray):
        raise InputError(
            f"{source}, line {row_numbers[stray[0]] + 2}: {_named(keys[stray[0]])} is not a test sample of "
            f"that split ({len(stray)} such rows). Only test samples are judged; remove the row."
        )
    missing = np.flatnonzero(keys.get_indexer(expected) < 0)
    if len(missing):
        raise InputError(
            f"{source}: no row for {_named(expected[missing[0]])} ({len(missing)} missing rows of "
            f"{len(expected)}). Every test sample of every split needs a prediction."
        )


def _named(key: tuple[int, int, str]) -> str:
    return f"repeat {key[0]}, fold {key[1]}, sample {key[2]!r}"
