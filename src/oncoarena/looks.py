"""The log of looks at the test samples: when, with which configuration, for which endpoint.

It lies beside the results as ``looks.tsv`` and only grows. Snakemake does not know of it, so that no
re-run removes what an earlier look was.
"""

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from oncoarena import store

COLUMNS = ("time", "config_digest", "endpoint", "hypotheses")


def configuration_digest(runs: Sequence[Mapping[str, Any]]) -> str:
    """Digest what decides predictions: code, settings, seed, splits and blocks of every trained hypothesis."""
    decisive = ("hypothesis", "code_digest", "config", "seed", "digests")
    return store.digest_json([{key: run.get(key) for key in decisive} for run in runs])


def looks_with(results: str, runs: Sequence[Mapping[str, Any]], endpoint: str) -> pd.DataFrame:
    """Read the log, this look added but not written: oldest look first (columns ``COLUMNS``)."""
    uri = store.join(results, "looks.tsv")
    earlier = []
    if store.exists(uri):
        with store.open_input(uri) as stream:
            text = stream.read().decode("utf-8")
        earlier.append(pd.read_csv(io.StringIO(text), sep="\t", dtype=str, keep_default_na=False))
    names = ",".join(str(run["hypothesis"]) for run in runs)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    look = pd.DataFrame([(now, configuration_digest(runs), endpoint, names)], columns=list(COLUMNS))
    return pd.concat([*earlier, look], ignore_index=True)


def record_look(results: str, runs: Sequence[Mapping[str, Any]], endpoint: str) -> pd.DataFrame:
    """Add a line to the log and return the whole log, as ``looks_with`` does.

    To be called when the samples are judged and before anything of it can be read: a judgement that fails shows
    nothing, so it is no look, and no result is without its look.
    """
    log = looks_with(results, runs, endpoint)
    store.write_text(store.join(results, "looks.tsv"), log.to_csv(sep="\t", index=False, lineterminator="\n"))
    return log
