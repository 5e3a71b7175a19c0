"""From objects to frozen blocks: each object is read once, its features aligned, the block written once."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from oncoarena import provenance, store
from oncoarena.cohort import FEATURE_COLUMNS, BlockSpec, feature_table
from oncoarena.compute import MapFunction
from oncoarena.errors import InputError
from oncoarena.study import AssayPlan, assay_module

MAX_PROBLEMS = 20


def shards_of(n_samples: int, shard_samples: int) -> int:
    """Number of extraction jobs for one assay whose input is a file a sample."""
    return max(1, -(-n_samples // shard_samples))


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
    plan: AssayPlan, samples: pd.DataFrame, uri: str, map_objects: MapFunction = map
) -> dict[str, Any]:
    """Read the objects of some samples (or the matrix that holds them) and write their part of each block.

    Parameters: ``samples`` the rows of the sheet that make the shard, in order; ``uri`` where the shard's
    blocks go; ``map_objects`` runs one task an object.
    Returns the shard's receipt, which is also written, last, to ``<uri>/receipt.json``.
    Raises InputError with a line for each object that cannot be read.
    """
    ids = samples["sample_id"].tolist()
    annotation = read_annotation(plan.annotation)
    if plan.matrix is not None:
        blocks, qc, inputs, notes = _read_matrix(plan, ids, annotation)
    else:
        uris = samples[plan.column].tolist()
        blocks, qc, inputs = _read_objects(plan, ids, uris, annotation, map_objects)
        notes = []
    origin = {
        "assay": plan.name,
        "options": asdict(plan.options),
        "inputs": inputs,
        "code_digest": provenance.code_digest(f"oncoarena.assays.{plan.name}"),
    }
    specs = assay_module(plan.name).BLOCKS
    for name, (values, features) in blocks.items():
        store.write_block(store.join(uri, name), specs[name], ids, iter(values), features, origin)
    store.write_table(store.join(uri, "qc.parquet"), qc)
    receipt = {
        "assay": plan.name,
        "uri": uri,
        "n_samples": len(ids),
        "blocks": {name: store.join(uri, name, "receipt.json") for name in blocks},
        "qc": store.join(uri, "qc.parquet"),
        "notes": notes,
    }
    store.write_json(store.join(uri, "receipt.json"), receipt)
    return receipt


def freeze_blocks(plan: AssayPlan, shards: Sequence[str], uri: str, receipt_uri: str) -> dict[str, Any]:
    """Join shards into the study's frozen blocks below ``uri``; return and write the assay's receipt.

    The features of a block are the union over its samples in the order of their first appearance, so
    the bytes written depend on the sample sheet and the objects, not on how they were sharded.
    Raises InputError where a sample lacks a feature and the assay's options refuse missing values.
    """
    shard_receipts = [store.read_json(shard) for shard in shards]
    specs: Mapping[str, BlockSpec] = assay_module(plan.name).BLOCKS
    written = {}
    for name in shard_receipts[0]["blocks"]:
        parts = [store.read_json(receipt["blocks"][name]) for receipt in shard_receipts]
        opened = [store.open_block(part) for part in parts]
        features = _union([block.features for block in opened])
        ids = [sample_id for part in parts for sample_id in store.block_samples(part)["sample_id"]]
        rows = (
            row
            for block in opened
            for row in _aligned(block.values, block.features["id"].tolist(), features["id"].tolist())
        )
        origin = {
            **{key: parts[0][key] for key in ("assay", "options", "code_digest")},
            "inputs": [item for part in parts for item in part["inputs"]]
            if plan.matrix is None
            else parts[0]["inputs"],
        }
        if _missing_values(plan) == "refuse":
            rows = _refuse_missing(rows, ids, features["id"].tolist(), plan.name)
        store.write_block(store.join(uri, name), specs[name], ids, rows, features, origin)
        written[name] = store.join(uri, name, "receipt.json")
    qc_uri = store.join(uri, f"{plan.name}.qc.parquet")
    store.write_table(qc_uri, pd.concat([store.read_table(receipt["qc"]) for receipt in shard_receipts]))
    notes = [note for shard in shard_receipts for note in shard["notes"]]
    receipt = {"assay": plan.name, "blocks": written, "qc": qc_uri, "notes": notes}
    store.write_json(receipt_uri, receipt)
    return receipt


def _read_matrix(
    plan: AssayPlan, ids: list[str], annotation: pd.DataFrame | None
) -> tuple[dict[str, tuple[np.ndarray, pd.DataFrame]], pd.DataFrame, list[dict[str, str]], list[str]]:
    with store.open_input(plan.matrix) as stream:
        found = assay_module(plan.name).read_matrix(
            stream, plan.matrix, ids, plan.options, annotation=annotation
        )
    blocks = {name: (block.values, block.features) for name, block in found.items()}
    qc = next(iter(found.values())).qc
    notes = [note for block in found.values() for note in block.notes]
    return blocks, qc, [{"uri": plan.matrix, "digest": store.digest(plan.matrix)}], notes


def _read_objects(
    plan: AssayPlan,
    ids: list[str],
    uris: list[str],
    annotation: pd.DataFrame | None,
    map_objects: MapFunction,
) -> tuple[dict[str, tuple[np.ndarray, pd.DataFrame]], pd.DataFrame, list[dict[str, str]]]:
    read = functools.partial(_read_one, plan, annotation)
    results, problems = [], []
    for sample_id, (blocks, qc, problem) in zip(ids, map_objects(read, uris), strict=True):
        if problem is not None:
            problems.append(f"sample {sample_id}: {problem}")
        results.append((blocks, qc))
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise InputError(
            "\n".join(problems[:MAX_PROBLEMS] + ([f"and {more} more objects"] if more > 0 else []))
        )
    joined = {}
    for name in results[0][0]:
        features = _union([blocks[name][1] for blocks, _ in results])
        target = features["id"].tolist()
        rows = [
            _aligned(blocks[name][0][None], blocks[name][1]["id"].tolist(), target) for blocks, _ in results
        ]
        joined[name] = (np.concatenate(rows), features)
    qc = pd.DataFrame(
        [{"sample_id": sample_id, **row} for sample_id, (_, row) in zip(ids, results, strict=True)]
    )
    return joined, qc, [{"uri": uri, "digest": store.digest(uri)} for uri in uris]


def _read_one(
    plan: AssayPlan, annotation: pd.DataFrame | None, uri: str
) -> tuple[dict[str, tuple[np.ndarray, pd.DataFrame]] | None, dict[str, Any] | None, str | None]:
    """Read one object in a worker: its blocks and QC, or the reason why it cannot be read."""
    try:
        with store.open_input(uri) as stream:
            found = assay_module(plan.name).read_object(stream, uri, plan.options, annotation=annotation)
    except InputError as error:
        return None, None, str(error)
    blocks = {name: (sample.values, sample.features) for name, sample in found.items()}
    qc = {key: value for sample in found.values() for key, value in sample.qc.items()}
    return blocks, qc, None


def _union(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Features of several tables in the order of first appearance; the first to name one describes it."""
    first = tables[0]
    if all(table["id"].equals(first["id"]) for table in tables[1:]):
        return first
    joined = pd.concat(tables, ignore_index=True).drop_duplicates("id", keep="first")
    return feature_table(*(joined[name].tolist() for name in FEATURE_COLUMNS))


def _aligned(values: np.ndarray, own: list[str], target: list[str]) -> np.ndarray:
    """Put columns named ``own`` into the order of ``target``; NaN where a feature was not measured."""
    if own == target:
        return values
    column = {name: number for number, name in enumerate(own)}
    positions = np.array([column.get(name, -1) for name in target])
    aligned = values[:, positions]
    aligned[:, positions < 0] = np.nan
    return aligned


def _missing_values(plan: AssayPlan) -> str:
    return getattr(plan.options, "missing_values", "allow")


def _refuse_missing(rows, ids: list[str], features: list[str], assay: str):
    for sample_id, row in zip(ids, rows, strict=True):
        absent = np.isnan(row)
        if absent.any():
            raise InputError(
                f"sample {sample_id}: {assay}: feature {features[int(absent.argmax())]!r} has no value, other samples "
                f"have it ({int(absent.sum())} such features); complete the file or set missing_values: allow for "
                "the assay"
            )
        yield row
