"""The endpoint of a study, written down before a model is trained.

``endpoint.json`` says in words what is measured and how, with its digest and the time it was sealed. The log
``endpoints.tsv`` beside it only grows, as ``looks.tsv`` does: Snakemake does not know of it.
"""

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from oncoarena import store
from oncoarena.referee.endpoint import describe_endpoint, endpoint_digest

COLUMNS = ("time", "digest")


def seal_endpoint(uri: str, endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``endpoint.json`` at ``uri`` and, where the endpoint is new, a line of the log beside it.

    Parameters: ``endpoint`` holds the arguments of ``referee.endpoint.describe_endpoint``.
    Returns the content: the parts of the endpoint in words, digest, sealed (time, UTC) and earlier, the times and
    digests of endpoints that were sealed before it.
    """
    folder = uri.rpartition("/")[0]
    log = store.join(folder, "endpoints.tsv")
    digest = endpoint_digest(**endpoint)
    entries = []
    if store.exists(log):
        with store.open_input(log) as stream:
            text = stream.read().decode("utf-8")
        entries = pd.read_csv(io.StringIO(text), sep="\t", dtype=str).to_dict("records")
    if not entries or entries[-1]["digest"] != digest:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entries.append({"time": now, "digest": digest})
        table = pd.DataFrame(entries, columns=list(COLUMNS))
        store.write_text(log, table.to_csv(sep="\t", index=False, lineterminator="\n"))
    content = {
        **describe_endpoint(**endpoint),
        "digest": digest,
        "sealed": entries[-1]["time"],
        "earlier": entries[:-1],
    }
    store.write_json(uri, content)
    return content
