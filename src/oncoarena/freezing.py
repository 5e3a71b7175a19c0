"""From shards to the study's frozen blocks: features aligned, rows in the sheet's order, written once."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.extraction import READ, column_positions, put_in_order, union_of_features, value_of_absent
from oncoarena.mapped import scratch_directory
from oncoarena.samples import check_labels
from oncoarena.study import AssayPlan, assay_module


def freeze_blocks(plan: AssayPlan, shards: Sequence[str], uri: str, receipt_uri: str) -> dict[str, Any]:
    """Join shards into the study's frozen blocks below ``uri``; return and write the assay's receipt.

    The features of a block are the union over its samples in the order of their first appearance, so
    the bytes written depend on the sample sheet and the objects, not on how they were sharded.
    Raises InputError where a sample lacks a feature and the assay's options refuse missing values, or where
    samples differ in what the assay says must be the same.
    """
    receipts = [store.read_json(shard) for shard in shards]
    quality = pd.concat([store.read_table(receipt["qc"]) for receipt in receipts], ignore_index=True)
    _check_same(plan, quality)
    written = {}
    for name in receipts[0]["blocks"]:
        written[name] = _freeze_block(plan, name, [receipt["blocks"][name] for receipt in receipts], uri)
    tables = {"qc": quality}
    tables["timings"] = pd.concat(
        [store.read_table(receipt["timings"]) for receipt in receipts], ignore_index=True
    )
    for name, table in tables.items():
        store.write_table(store.join(uri, f"{plan.name}.{name}.parquet"), table)
    specs = assay_module(plan.name).BLOCKS
    receipt = {
        "assay": plan.name,
        "blocks": {name: block for name, block in written.items() if not specs[name].is_set},
        # Apart, so that nothing takes their slots for features.
        "sets": {name: block for name, block in written.items() if specs[name].is_set},
        **{name: store.join(uri, f"{plan.name}.{name}.parquet") for name in tables},
        "excluded": [item for shard in receipts for item in shard["excluded"]],
        "notes": list(dict.fromkeys(note for shard in receipts for note in shard["notes"])),
    }
    store.write_json(receipt_uri, receipt)
    return receipt


def admitted_samples(
    samples: pd.DataFrame, assay_receipts: Sequence[str], min_patients: int = 1
) -> pd.DataFrame:
    """Leave out the samples of which an assay's object was excluded: all hypotheses see the same cohort.

    Raises InputError where too few patients of a label are left.
    """
    excluded = {item["sample_id"] for uri in assay_receipts for item in store.read_json(uri)["excluded"]}
    if not excluded:
        return samples
    left = samples[~samples["sample_id"].isin(excluded)].reset_index(drop=True)
    check_labels(left, min_patients, f"sample sheet, without {len(excluded)} excluded samples")
    return left


def _freeze_block(plan: AssayPlan, name: str, uris: Sequence[str], uri: str) -> str:
    parts = [store.read_json(part) for part in uris]
    tables = [store.read_table(part["features"]["uri"]) for part in parts]
    features = union_of_features(tables)
    ids = [sample_id for part in parts for sample_id in store.block_samples(part)["sample_id"]]
    absent = value_of_absent(plan, name)

    def joined() -> Iterator[np.ndarray]:
        for part, table in zip(parts, tables, strict=True):
            positions = column_positions(table, features)
            values = store.open_block(part, scratch_directory()).values
            for row in values:
                yield put_in_order(row, positions, absent)

    rows = joined()
    if getattr(plan.options, "missing_values", "allow") == "refuse":
        rows = _refuse_missing(rows, ids, features["id"].tolist(), plan.name)
    origin = {key: parts[0][key] for key in ("assay", "options", "code_digest")}
    # The shards of a matrix have all read the same one.
    read = pd.concat([store.block_inputs(part) for part in (parts if plan.matrix is None else parts[:1])])
    spec = assay_module(plan.name).BLOCKS[name]
    store.write_block(store.join(uri, name), spec, ids, rows, features, origin, read.to_dict("records"))
    return store.join(uri, name, "receipt.json")


def _refuse_missing(
    rows: Iterator[np.ndarray], ids: list[str], features: list[str], assay: str
) -> Iterator[np.ndarray]:
    for sample_id, row in zip(ids, rows, strict=True):
        absent = np.isnan(row)
        if absent.any():
            raise InputError(
                f"sample {sample_id}: {assay}: feature {features[int(absent.argmax())]!r} has no value, other samples "
                f"have it ({int(absent.sum())} such features); complete the file or set missing_values: allow for "
                "the assay"
            )
        yield row


def _check_same(plan: AssayPlan, quality: pd.DataFrame) -> None:
    """Refuse samples that were not measured in the same terms, e.g. TPM of some and counts of others."""
    for name in getattr(assay_module(plan.name), "SAME", ()):
        if name not in quality.columns:
            continue
        read = quality[quality["status"] == READ] if "status" in quality.columns else quality
        values = read[name].astype(str)
        other = values.index[values != values.iloc[0]]
        if len(other):
            first, second = read["sample_id"].iloc[0], read["sample_id"][other[0]]
            raise InputError(
                f"{plan.name}: samples differ in {name}: {values.iloc[0]!r} in sample {first}, {values[other[0]]!r} in "
                f"sample {second} ({len(other)} samples differ from the first); use files of one kind, or set an "
                "option of the assay that makes them so"
            )
