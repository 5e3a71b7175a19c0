"""From shards to the study's frozen blocks: features aligned, rows in the sheet's order, written once."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.extraction import (
    QUARANTINED,
    READ,
    column_positions,
    put_in_order,
    union_of_features,
    value_of_absent,
)
from oncoarena.mapped import scratch_directory
from oncoarena.samples import check_labels
from oncoarena.study import AssayPlan, assay_module


def freeze_blocks(
    plan: AssayPlan, shards: Sequence[str], uri: str, receipt_uri: str, on_bad_sample: str = "stop"
) -> dict[str, Any]:
    """Join shards into the study's frozen blocks below ``uri``; return and write the assay's receipt.

    The features of a block are the union over its samples in the order of their first appearance, so
    the bytes written depend on the sample sheet and the objects, not on how they were sharded.
    Some samples do not go with the others: of the figures that the assay says must be the same, or of the features
    where its options refuse missing values, they have others than most samples. With ``on_bad_sample`` "exclude" the
    study goes on without them, with "stop" InputError is raised.
    """
    receipts = [store.read_json(shard) for shard in shards]
    quality = pd.concat([store.read_table(receipt["qc"]) for receipt in receipts], ignore_index=True)
    misfits: dict[str, str] = {}
    if on_bad_sample == "exclude":
        misfits = _of_other_terms(plan, quality)
        misfits |= _of_other_features(plan, receipts, misfits)
        _set_aside(quality, misfits)
    else:
        _check_same(plan, quality)
    written, notes = {}, [note for receipt in receipts for note in receipt["notes"]]
    for name in receipts[0]["blocks"]:
        parts = [receipt["blocks"][name] for receipt in receipts]
        if (block := _freeze_block(plan, name, parts, uri, misfits)) is not None:
            written[name] = block
        else:
            notes.append(f"block {name} is left out: no sample has a value in it")
    if not written:
        raise InputError(
            f"{plan.name}: no sample has a value in any block; see {uri} for the table of quality"
        )
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
        "excluded": [
            *(item for shard in receipts for item in shard["excluded"]),
            *_excluded(quality, misfits),
        ],
        "notes": list(dict.fromkeys(notes)),
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


def _freeze_block(
    plan: AssayPlan, name: str, uris: Sequence[str], uri: str, misfits: Mapping[str, str]
) -> str | None:
    """Write one block and return the URI of its receipt; None where no sample has a value."""
    shards = _Shards.of_block(uris)
    parts, features = shards.receipts, union_of_features(shards.tables)
    ids = [sample_id for samples in shards.samples for sample_id in samples if sample_id not in misfits]
    rows = (row for sample_id, row in _joined(plan, name, shards, features) if sample_id not in misfits)
    if _refuses_missing(plan):
        if misfits:
            # What only they had is no feature any more.
            first = next(rows)
            is_kept = ~np.isnan(first)
            features = features[is_kept].reset_index(drop=True)
            rows = (row[is_kept] for row in itertools.chain([first], rows))
        rows = _refuse_missing(rows, ids, features["id"].tolist(), plan.name)
    has_value = False

    def watched() -> Iterator[np.ndarray]:
        nonlocal has_value
        for row in rows:
            has_value = has_value or not np.isnan(row).all()
            yield row

    origin = {key: parts[0][key] for key in ("assay", "options", "code_digest")}
    # The shards of a matrix have all read the same one.
    read = pd.concat([store.block_inputs(part) for part in (parts if plan.matrix is None else parts[:1])])
    spec = assay_module(plan.name).BLOCKS[name]
    inputs = read.to_dict("records")
    store.write_block(store.join(uri, name), spec, ids, watched(), features, origin, inputs)
    if not has_value and len(features):
        store.remove_directory(store.join(uri, name))
        return None
    return store.join(uri, name, "receipt.json")


@dataclass(frozen=True)
class _Shards:
    """What each shard has of one block: its receipt, its feature table and the ids of its samples."""

    receipts: list[dict[str, Any]]
    tables: list[pd.DataFrame]
    samples: list[list[str]]

    @classmethod
    def of_block(cls, uris: Sequence[str]) -> Self:
        receipts = [store.read_json(uri) for uri in uris]
        return cls(
            receipts,
            [store.read_table(receipt["features"]["uri"]) for receipt in receipts],
            [store.block_samples(receipt)["sample_id"].tolist() for receipt in receipts],
        )


def _joined(
    plan: AssayPlan, name: str, shards: _Shards, features: pd.DataFrame
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the samples of all shards, and the values of each for all ``features``."""
    absent = value_of_absent(plan, name)
    for receipt, table, samples in zip(shards.receipts, shards.tables, shards.samples, strict=True):
        positions = column_positions(table, features)
        values = store.open_block(receipt, scratch_directory()).values
        for sample_id, row in zip(samples, values, strict=True):
            yield sample_id, put_in_order(row, positions, absent)


def _refuses_missing(plan: AssayPlan) -> bool:
    return getattr(plan.options, "missing_values", "allow") == "refuse"


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
    for name, read in _figures_of_terms(plan, quality):
        values = read[name].astype(str)
        other = values.index[values != values.iloc[0]]
        if len(other):
            first, second = read["sample_id"].iloc[0], read["sample_id"][other[0]]
            raise InputError(
                f"{plan.name}: samples differ in {name}: {values.iloc[0]!r} in sample {first}, {values[other[0]]!r} in "
                f"sample {second} ({len(other)} samples differ from the first); use files of one kind, or set an "
                "option of the assay that makes them so"
            )


def _figures_of_terms(plan: AssayPlan, quality: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the figures of quality that must be the same, and the rows of the samples that were read."""
    for name in getattr(assay_module(plan.name), "SAME", ()):
        if name in quality.columns:
            yield name, quality[quality["status"] == READ] if "status" in quality.columns else quality


def _of_other_terms(plan: AssayPlan, quality: pd.DataFrame) -> dict[str, str]:
    """Find the samples that were measured in other terms than most; return why each is set aside."""
    misfits: dict[str, str] = {}
    for name, read in _figures_of_terms(plan, quality):
        values = read[name].astype(str)
        usual, n_usual = Counter(values).most_common(1)[0]
        for sample_id, value in zip(read["sample_id"], values, strict=True):
            if value != usual:
                misfits[sample_id] = (
                    f"{plan.name}: {name} is {value!r}, {usual!r} in {n_usual} of {len(values)} samples; use files of "
                    "one kind, or set an option of the assay that makes them so"
                )
    return misfits


def _of_other_features(
    plan: AssayPlan, receipts: Sequence[Mapping[str, Any]], misfits: Mapping[str, str]
) -> dict[str, str]:
    """Find the samples with other features than most, where none may be missing; return why each is set aside."""
    found: dict[str, str] = {}
    if not _refuses_missing(plan):
        return found
    for name in receipts[0]["blocks"]:
        shards = _Shards.of_block([receipt["blocks"][name] for receipt in receipts])
        features = union_of_features(shards.tables)
        patterns: dict[str, str] = {}
        absent_of: dict[str, np.ndarray] = {}
        for sample_id, row in _joined(plan, name, shards, features):
            if sample_id not in misfits:
                absent = np.isnan(row)
                patterns[sample_id] = hashlib.sha256(absent).hexdigest()
                absent_of.setdefault(patterns[sample_id], np.packbits(absent))
        if len(absent_of) < 2:
            continue
        usual, n_usual = Counter(patterns.values()).most_common(1)[0]
        for sample_id, pattern in patterns.items():
            if pattern != usual:
                own, of_most = (np.unpackbits(absent_of[p], count=len(features)) for p in (pattern, usual))
                other = np.flatnonzero(own != of_most)
                verb, feature = "lacks" if own[other[0]] else "has", features["id"].iloc[other[0]]
                found[sample_id] = (
                    f"{plan.name}: {verb} feature {feature!r}, unlike {n_usual} of {len(patterns)} samples "
                    f"({len(other)} such features); complete the file or set missing_values: allow "
                    "for the assay"
                )
    return found


def _set_aside(quality: pd.DataFrame, misfits: Mapping[str, str]) -> None:
    """Mark samples as quarantined in the table of quality."""
    for sample_id, reason in misfits.items():
        quality.loc[quality["sample_id"] == sample_id, ["status", "reason"]] = (QUARANTINED, reason)


def _excluded(quality: pd.DataFrame, misfits: Mapping[str, str]) -> list[dict[str, Any]]:
    uris = quality.set_index("sample_id")["uri"] if misfits else {}
    return [
        {"sample_id": sample_id, "uri": uris[sample_id], "reason": reason, "offset": None}
        for sample_id, reason in misfits.items()
    ]
