"""From objects to a shard's part of each block: each object is read once; a bad one is set aside and told."""

import functools
import hashlib
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from oncoarena import kept, provenance, store
from oncoarena.cohort import FEATURE_COLUMNS, feature_table
from oncoarena.errors import AbsentSamples, Faults, InputError
from oncoarena.object_reading import ObjectReading
from oncoarena.objects import ObjectFacts, object_facts
from oncoarena.pools import Pool, run_serially
from oncoarena.progress import Progress
from oncoarena.study import AssayPlan, assay_module

READ, QUARANTINED = "read", "quarantined"

ADVICE = "What could be read is kept: mend these and run again, or set on_bad_sample: exclude to go on without them."

ROWS_AT_ONCE, BYTES_AT_ONCE = 64, 64 << 20
"""Rows of a block that are read together of what was kept of single objects, at most."""


def read_annotation(uri: str | None) -> pd.DataFrame | None:
    """Read a feature annotation table, tab-separated text; what it says is checked where it is used."""
    if uri is None:
        return None
    with store.open_input(uri) as stream:
        try:
            return pd.read_csv(stream, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except (ValueError, UnicodeDecodeError) as error:
            raise InputError(f"{uri}: cannot be read as tab-separated text ({error})") from error


def extract_shard(
    plan: AssayPlan,
    samples: pd.DataFrame,
    uri: str,
    *,
    pool: Pool = run_serially,
    on_bad_sample: str = "stop",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Read the objects of some samples (or the matrix that holds them) and write their part of each block.

    Parameters: ``samples`` the rows of the sheet that make the shard, in order; ``uri`` where the shard's
    blocks go; ``pool`` runs the work on objects. An object that cannot be read is quarantined: with
    ``on_bad_sample`` "exclude" the shard goes on without its sample, with "stop" all the others are read
    and kept, so that the next attempt reads only what was mended.
    Returns the shard's receipt, which is also written, last, to ``<uri>/receipt.json``.
    Raises InputError with a line for each object that was quarantined, or if none is left.
    """
    annotation, qc_uri = read_annotation(plan.annotation), store.join(uri, "qc.parquet")
    origin = {
        "assay": plan.name,
        "options": asdict(plan.options),
        "code_digest": provenance.code_digest(f"oncoarena.assays.{plan.name}"),
    }
    if plan.matrix is not None:
        matrix = _read_matrix(plan, samples["sample_id"].tolist(), annotation, on_bad_sample)
        ids, blocks, qc, timings, inputs, notes, excluded = matrix
        store.write_table(qc_uri, qc)
        for name, (values, features) in blocks.items():
            _write(plan, uri, name, ids, iter(values), features, origin, inputs)
        names = list(blocks)
    else:
        folder = store.join(uri, "objects")
        outcomes = _read_objects(plan, samples, annotation, folder, origin, pool, progress)
        # Before the shard may stop: what was set aside, and where in its object, is told in full.
        store.write_table(qc_uri, _quality(outcomes))
        excluded = _quarantined(outcomes, on_bad_sample, qc_uri)
        good = {sample_id: item for sample_id, item in outcomes.items() if item["status"] == READ}
        inputs = [{"uri": item["uri"], "digest": item["digest"]} for item in good.values()]
        names, notes = list(plan.blocks()), []
        for name in names:
            _write_kept(plan, uri, name, folder, good, origin, inputs)
        timings = _timings(good)
    store.write_table(store.join(uri, "timings.parquet"), timings)
    receipt = {
        "assay": plan.name,
        "uri": uri,
        "n_samples": len(samples) - len(excluded),
        "blocks": {name: store.join(uri, name, "receipt.json") for name in names},
        "qc": qc_uri,
        "timings": store.join(uri, "timings.parquet"),
        "excluded": excluded,
        "notes": notes,
    }
    store.write_json(store.join(uri, "receipt.json"), receipt)
    if plan.matrix is None:
        store.remove_directory(store.join(uri, "objects"))
    return receipt


def union_of_features(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Features of several tables in the order of first appearance; the first to name one describes it."""
    first = tables[0]
    if all(table is first or table["id"].equals(first["id"]) for table in tables[1:]):
        return first
    joined = pd.concat(tables, ignore_index=True).drop_duplicates("id", keep="first")
    return feature_table(*(joined[name].tolist() for name in FEATURE_COLUMNS))


def column_positions(own: pd.DataFrame, target: pd.DataFrame) -> np.ndarray | None:
    """Where each feature of ``target`` stands in ``own``, -1 where it does not; None where they are the same."""
    if own is target or own["id"].equals(target["id"]):
        return None
    return pd.Index(own["id"]).get_indexer(target["id"])


def put_in_order(row: np.ndarray, positions: np.ndarray | None, absent: float) -> np.ndarray:
    """Return a row's values at ``positions`` (see ``column_positions``), ``absent`` at -1."""
    if positions is None:
        return row
    if not len(row):
        return np.full(len(positions), absent, np.float32)
    return np.where(positions < 0, np.float32(absent), row[positions])


def value_of_absent(plan: AssayPlan, block: str) -> float:
    """What stands for a feature that other samples have and one has not: NaN, unless the assay knows better."""
    return getattr(assay_module(plan.name), "ABSENT", {}).get(block, np.nan)


def _write(plan, uri, name, ids, rows, features, origin, inputs) -> None:
    spec = assay_module(plan.name).BLOCKS[name]
    store.write_block(store.join(uri, name), spec, ids, rows, features, origin, inputs)


def _read_matrix(plan: AssayPlan, ids: list[str], annotation: pd.DataFrame | None, on_bad_sample: str):
    """Read the samples of a matrix; with ``on_bad_sample`` "exclude" those that it does not have are set aside."""
    started = time.perf_counter()
    absent: tuple[str, ...] = ()
    try:
        found, digest, n_bytes = _read_samples(plan, ids, annotation)
    except AbsentSamples as error:
        if on_bad_sample == "stop" or len(error.sample_ids) == len(ids):
            raise
        absent, reason = error.sample_ids, str(error)
        ids = [sample_id for sample_id in ids if sample_id not in set(absent)]
        found, digest, n_bytes = _read_samples(plan, ids, annotation)
    seconds = time.perf_counter() - started
    blocks = {name: (found[name].values, found[name].features) for name in plan.blocks()}
    qc = next(iter(found.values())).qc
    excluded = [{"sample_id": one, "uri": plan.matrix, "reason": reason, "offset": None} for one in absent]
    if excluded:
        qc = pd.concat([qc.assign(status=READ), pd.DataFrame(excluded).assign(status=QUARANTINED)])
        qc["reason"] = qc["reason"].fillna("")
    notes = list(dict.fromkeys(note for block in found.values() for note in block.notes))
    # One object for all samples.
    timings = _timing_table([(plan.matrix.rpartition("/")[2], n_bytes, None, seconds)])
    return ids, blocks, qc, timings, [{"uri": plan.matrix, "digest": digest}], notes, excluded


def _read_samples(plan: AssayPlan, ids: list[str], annotation: pd.DataFrame | None):
    with store.open_object(plan.matrix) as (stream, raw):
        found = assay_module(plan.name).read_matrix(
            stream, plan.matrix, ids, plan.options, annotation=annotation
        )
        return found, raw.finish(), raw.facts.n_bytes


def _read_objects(
    plan: AssayPlan,
    samples: pd.DataFrame,
    annotation: pd.DataFrame | None,
    folder: str,
    origin: dict[str, Any],
    pool: Pool,
    progress: Progress | None,
) -> dict[str, dict[str, Any]]:
    """Read what was not read before; return the summary of every sample in the order of the sheet."""
    outcomes: dict[str, dict[str, Any]] = {}
    keys: dict[str, str] = {}
    facts_of: dict[str, ObjectFacts] = {}
    common = [repr(plan.options), origin["code_digest"], _table_digest(annotation)]
    uris = samples[plan.column].tolist()
    for sample_id, uri, facts in zip(
        samples["sample_id"], uris, store.at_once(object_facts, uris), strict=True
    ):
        outcomes[sample_id] = {"uri": uri}
        if isinstance(facts, Exception):
            outcomes[sample_id] |= _reason(facts)
            continue
        keys[sample_id] = _key([sample_id, uri, facts.n_bytes, facts.version, *common])
        facts_of[sample_id] = facts
    before = kept.kept_before(folder, list(keys.values()))
    todo = []
    for sample_id, key in keys.items():
        if key in before:
            outcomes[sample_id] |= {"status": READ, "key": key, **before[key]}
        else:
            todo.append(sample_id)
    if before:
        print(f"{len(before)} objects were read by an earlier attempt", flush=True)
    readings = [
        ObjectReading(
            plan,
            annotation,
            sample_id,
            outcomes[sample_id]["uri"],
            facts_of[sample_id],
            folder,
            keys[sample_id],
        )
        for sample_id in todo
    ]
    parts = store.at_once(ObjectReading.plan_parts, readings)
    jobs = [reading.job(own) for reading, own in zip(readings, parts, strict=True)]
    sizes = [facts_of[sample_id].n_bytes for sample_id in todo]
    progress = progress or Progress()
    with progress.over(len(todo), sum(sizes)):
        for number, outcome in pool(jobs):
            sample_id = todo[number]
            if isinstance(outcome, BaseException):
                outcomes[sample_id] |= _reason(outcome)
            else:
                outcomes[sample_id] |= {"status": READ, "key": keys[sample_id], **outcome}
            progress.advance(sizes[number])
    return outcomes


def _write_kept(plan, uri, name, folder, good, origin, inputs) -> None:
    """Write one block of the objects that were read, a row at a time."""
    digests = dict.fromkeys(item["features"][name] for item in good.values())
    tables = {digest: kept.kept_features(folder, digest) for digest in digests}
    features = union_of_features(list(tables.values()))
    positions = {digest: column_positions(table, features) for digest, table in tables.items()}
    absent = value_of_absent(plan, name)

    def rows() -> Iterator[np.ndarray]:
        items, read = list(good.values()), functools.partial(kept.kept_values, folder, block=name)
        n_rows = min(ROWS_AT_ONCE, max(1, BYTES_AT_ONCE // (4 * max(1, len(features)))))
        for first in range(0, len(items), n_rows):
            some = items[first : first + n_rows]
            keys = [item["key"] for item in some]
            # Threads hide the latency of a remote store; on a local disk they only wait for each other.
            found = store.at_once(read, keys, some) if store.is_remote(folder) else map(read, keys, some)
            for item, values in zip(some, found, strict=True):
                if isinstance(values, Exception):
                    raise values
                yield put_in_order(values, positions[item["features"][name]], absent)

    _write(plan, uri, name, list(good), rows(), features, origin, inputs)


def _reason(error: BaseException) -> dict[str, Any]:
    """Say why an object was quarantined; what is no InputError goes into the log with its traceback."""
    if isinstance(error, InputError):
        reason = str(error)
    else:
        print("".join(traceback.format_exception(error)), flush=True)
        reason = f"{type(error).__name__}: {error} (not foreseen: the log has the whole story)"
    return {"status": QUARANTINED, "reason": reason, "offset": getattr(error, "offset", None)}


def _quarantined(
    outcomes: dict[str, dict[str, Any]], on_bad_sample: str, qc_uri: str
) -> list[dict[str, Any]]:
    """List what is excluded; raise InputError where the study is to stop, or nothing is left."""
    bad = [
        {"sample_id": sample_id, **{name: item[name] for name in ("uri", "reason", "offset")}}
        for sample_id, item in outcomes.items()
        if item["status"] == QUARANTINED
    ]
    faults = Faults(what="object")
    for item in bad:
        faults.add(f"sample {item['sample_id']}: {item['reason']}")
    try:
        if on_bad_sample == "stop" or len(bad) == len(outcomes):
            faults.tell()
    except InputError as error:
        raise InputError(f"{error}\n{ADVICE}\nAll objects, with reason and byte: {qc_uri}") from None
    return bad


def _quality(outcomes: dict[str, dict[str, Any]]) -> pd.DataFrame:
    names = ("status", "reason", "offset", "uri", "n_bytes")
    rows = [
        {"sample_id": sample_id, **{name: item.get(name) for name in names}, **item.get("qc", {})}
        for sample_id, item in outcomes.items()
    ]
    table = pd.DataFrame(rows)
    table["reason"] = table["reason"].fillna("").astype(str)
    table["offset"] = table["offset"].astype(float)
    return table


def _timings(good: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """One row an object, see ``_timing_table``."""
    return _timing_table(
        [
            (sample_id, item["n_bytes"], item["qc"].get("n_records"), item["seconds"])
            for sample_id, item in good.items()
        ]
    )


def _timing_table(rows: list[tuple[str, int, int | None, float]]) -> pd.DataFrame:
    """Bytes, records where the assay counts them, seconds and MB (10^6 bytes) a second of objects."""
    table = pd.DataFrame(rows, columns=["sample_id", "n_bytes", "n_records", "seconds"])
    table["mb_per_s"] = table["n_bytes"] / 1e6 / table["seconds"].clip(lower=1e-9)
    return table.astype({"n_records": float})


def _table_digest(table: pd.DataFrame | None) -> str:
    return "" if table is None else hashlib.sha256(table.to_csv().encode()).hexdigest()


def _key(content: Sequence[Any]) -> str:
    return store.digest_json(content).removeprefix("sha256:")[:32]
