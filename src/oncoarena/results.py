"""results/<study>/: what the referee reads, and the tables and the page that it leaves there."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from oncoarena import store
from oncoarena.cohort import Block
from oncoarena.external import read_external
from oncoarena.looks import record_look
from oncoarena.plan import TABLES
from oncoarena.provenance import hardware, versions
from oncoarena.referee.comparison import separability
from oncoarena.referee.endpoint import endpoint_digest
from oncoarena.referee.evaluation import ESTIMAND
from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.predictions import collect
from oncoarena.reporting.export import export_study
from oncoarena.reporting.leaderboard import leaderboard
from oncoarena.reporting.report import render_report


def evaluate(
    *,
    samples_uri: str,
    splits_uri: str,
    prediction_uris: Sequence[str],
    run_uris: Sequence[str],
    assay_receipts: Sequence[str],
    results: str,
    competitors: Mapping[str, Mapping[str, str]],
    external: Sequence[Mapping[str, str]],
    strata: Sequence[str],
    primary_metric: str,
    positive: str | None,
    prevalence: float | None,
    bootstrap: int,
    seed: int,
    threads: int = 1,
) -> None:
    """Join predictions and truth, judge every competitor, and write the tables of ``plan.TABLES``.

    The look at the test samples is added to the study's log (see ``looks``).

    Parameters: URIs of what the earlier steps wrote; ``competitors`` maps the id of each hypothesis to its
    title, role and claim; ``external`` lists models trained elsewhere (id, title, predictions).
    The result does not depend on ``threads``.
    Raises InputError if an external table does not fit the study's splits.
    """
    samples, splits = store.read_table(samples_uri), store.read_table(splits_uri)
    classes = tuple(sorted(samples["label"].unique()))
    runs = join_runs([store.read_json(uri) for uri in run_uris], competitors, external)
    tables = [table for table in map(store.read_table, prediction_uris) if len(table)]
    tables += [read_external(item["id"], item["predictions"], splits, classes) for item in external]
    predictions = collect(tables, splits, classes)
    store.write_table(store.join(results, "predictions.parquet"), predictions)
    log = record_look(results, runs, endpoint_digest(primary_metric, positive=positive))
    with ThreadPoolExecutor(threads) as pool:
        judged = evaluate_study(
            predictions,
            samples,
            splits,
            runs,
            classes,
            strata,
            bootstrap,
            seed,
            primary=primary_metric,
            positive=positive,
            prevalence=prevalence,
            digests=_sample_digests(assay_receipts),
            blocks=_blocks(assay_receipts, samples["sample_id"]),
            looks=log,
            previous_endpoint=log["endpoint"].iloc[0],
            map=pool.map,
        )
    for name in TABLES:
        store.write_table(store.join(results, f"{name}.parquet"), judged[name])


def join_runs(
    parts: Sequence[Mapping[str, Any]],
    competitors: Mapping[str, Mapping[str, str]],
    external: Sequence[Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Join the run records of each hypothesis's parts into one, with its title, role and claim."""
    joined: dict[str, dict[str, Any]] = {}
    for part in parts:
        name = part["hypothesis"]
        if name not in joined:
            joined[name] = {**part, **competitors[name]}
            continue
        run = joined[name]
        run["splits"] = [*run["splits"], *part["splits"]]
        run["seconds"] = round(run["seconds"] + part["seconds"], 3)
        run["peak_memory_mb"] = max(run["peak_memory_mb"], part["peak_memory_mb"])
        if part["status"] == "not_applicable":
            run["status"], run["reason"] = part["status"], part["reason"]
    for run in joined.values():
        run["splits"] = sorted(run["splits"], key=lambda split: (split["repeat"], split["fold"]))
    for item in external:
        joined[item["id"]] = {
            "hypothesis": item["id"],
            "title": item["title"],
            "role": "external",
            "framework": "trained elsewhere",
            "status": "trained",
            "reason": "",
            "permuted_labels": False,
            "claim": f"Predictions read from {item['predictions']}.",
            "splits": [],
        }
    return list(joined.values())


def write_report(
    *,
    run_uris: Sequence[str],
    results: str,
    config: Mapping[str, Any],
    command: str,
    competitors: Mapping[str, Mapping[str, str]],
    external: Sequence[Mapping[str, str]],
    primary_metric: str,
    **_: Any,
) -> None:
    """Render report.html from the tables below ``results``, and export/ beside it, its metadata last."""
    samples = store.read_table(store.join(results, "samples.parquet"))
    splits = store.read_table(store.join(results, "splits.parquet"))
    runs = join_runs([store.read_json(uri) for uri in run_uris], competitors, external)
    tables = {name: store.read_table(store.join(results, f"{name}.parquet")) for name in TABLES}
    claims = [run["hypothesis"] for run in runs if run["role"] == "claim" and run["status"] == "trained"]
    study = {
        "study": config["study"],
        "classes": sorted(samples["label"].unique().tolist()),
        "primary_metric": primary_metric,
        "scheme": config["splits"]["scheme"],
        "estimand": ESTIMAND,
        "verdict": [separability(tables["evaluation"], tables["comparison"], claims, primary_metric)],
        "flow": sample_flow(samples, splits),
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="minutes"),
        "config": dict(config),
        "provenance": {"versions": versions(), "hardware": hardware()},
    }
    store.write_text(store.join(results, "report.html"), render_report(study, samples, splits, runs, tables))
    export_study(store.join(results, "export"), study, samples, splits, runs, tables)


def read_leaderboard(results: str, referee: Mapping[str, Any]) -> str:
    """Lay out a finished study's leaderboard for the terminal."""
    evaluation = store.read_table(store.join(results, "evaluation.parquet"))
    parts = [
        store.read_json(store.join(results, "runs", name, "0", "run.json")) for name in referee["competitors"]
    ]
    runs = join_runs(parts, referee["competitors"], referee["external"])
    return leaderboard(evaluation, runs, referee["primary_metric"])


def sample_flow(samples: pd.DataFrame, splits: pd.DataFrame) -> list[dict[str, Any]]:
    """Count samples and patients from the sheet to the test sets."""
    stages = [
        ("listed in the sheet", samples["sample_id"]),
        ("in at least one split", splits["sample_id"]),
        ("tested", splits.loc[splits["role"] == "test", "sample_id"]),
    ]
    patient_of = samples.set_index("sample_id")["patient_id"]
    return [
        {
            "stage": stage,
            "n_samples": int(ids.nunique()),
            "n_patients": int(patient_of[ids.unique()].nunique()),
        }
        for stage, ids in stages
    ]


def _blocks(assay_receipts: Sequence[str], sample_ids: pd.Series) -> dict[str, Block]:
    """Open every block, its rows in the order of the sample sheet."""
    opened = {}
    for uri in assay_receipts:
        for name, block_uri in store.read_json(uri)["blocks"].items():
            receipt = store.read_json(block_uri)
            rows = pd.Index(store.block_samples(receipt)["sample_id"]).get_indexer(sample_ids)
            block = store.open_block(receipt, store.scratch_directory())
            in_order = (rows == range(len(rows))).all()
            opened[name] = block if in_order else block.take(rows)
    return opened


def _sample_digests(assay_receipts: Sequence[str]) -> pd.DataFrame:
    """One digest a sample over all its blocks: equal digests mean equal features."""
    tables = []
    for uri in assay_receipts:
        for block_uri in store.read_json(uri)["blocks"].values():
            tables.append(store.block_samples(store.read_json(block_uri)))
    joined = pd.concat(tables).groupby("sample_id", sort=False)["digest"].agg("-".join)
    return joined.reset_index()
