"""Predictions of models trained elsewhere, read as competitors on the study's own splits."""

from collections.abc import Sequence

import pandas as pd

from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.referee.predictions import external_predictions


def read_external(hypothesis: str, uri: str, splits: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Read the predictions of a model trained elsewhere (TSV or Parquet) as a competitor's table.

    Raises InputError naming file, line, column and what to do.
    """
    with store.open_input(uri) as stream:
        is_parquet = stream.read(4) == b"PAR1"
        stream.seek(0)
        try:
            table = pd.read_parquet(stream) if is_parquet else pd.read_csv(stream, sep="\t", dtype=str)
        except (ValueError, OSError) as error:
            raise InputError(
                f"{uri}: cannot be read as a predictions table, tab-separated or Parquet ({error})"
            ) from error
    return external_predictions(table, hypothesis, splits, classes, uri)
