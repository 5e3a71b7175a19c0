"""results/<study>/: what the referee reads, and the tables and the page that it leaves there."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from oncoarena import store
from oncoarena.benchmarks import read_benchmarks
from oncoarena.cohort import Block
from oncoarena.external import read_external
from oncoarena.freezing import admitted_samples
from oncoarena.looks import looks_with, record_look
from oncoarena.mapped import scratch_directory
from oncoarena.plan import TABLES
from oncoarena.provenance import hardware, versions
from oncoarena.quality import excluded_samples, sample_flow
from oncoarena.referee.attributions import attribution_tables
from oncoarena.referee.comparison import separability
from oncoarena.referee.endpoint import endpoint_digest
from oncoarena.referee.evaluation import ESTIMAND
from oncoarena.referee.judge import evaluate_study
from oncoarena.referee.predictions import collect
from oncoarena.refits import COLUMN, PURPOSES, Thresholds
from oncoarena.reporting.export import export_study
from oncoarena.reporting.leaderboard import leaderboard
from oncoarena.reporting.pdf import render_pdf
from oncoarena.reporting.report import compose, render_report
from oncoarena.reporting.tables import QUALITY, TIMINGS


def evaluate(
    *,
    samples_uri: str,
    splits_uri: str,
    endpoint_uri: str,
    prediction_uris: Sequence[str],
    run_uris: Sequence[str],
    refit_uris: Sequence[str],
    assay_receipts: Sequence[str],
    results: str,
    competitors: Mapping[str, Mapping[str, str]],
    external: Sequence[Mapping[str, str]],
    strata: Sequence[str],
    primary_metric: str,
    positive: str | None,
    prevalence: float | None,
    thresholds: Mapping[str, Any],
    bootstrap: int,
    seed: int,
    threads: int = 1,
) -> None:
    """Join predictions and truth, judge every competitor, and write the tables of ``plan.TABLES``.

    The look at the test samples is added to the study's log (see ``looks``) once all is judged, before the first
    table is written.

    Parameters: URIs of what the earlier steps wrote, ``refit_uris`` the run.json of models trained beside the main ones
    (their predictions lie beside them); ``thresholds`` as of ``refits.Thresholds``; ``competitors`` maps the id of
    each hypothesis to its title, role and claim; ``external`` lists models trained elsewhere (id, title, predictions).
    The result does not depend on ``threads``.
    Raises InputError if an external table does not fit the study's splits.
    """
    samples = admitted_samples(store.read_table(samples_uri), assay_receipts)
    splits = store.read_table(splits_uri)
    classes = tuple(sorted(samples["label"].unique()))
    parts = [store.read_json(uri) for uri in run_uris]
    runs = join_runs(parts, competitors, external)
    tables = [table for table in map(store.read_table, prediction_uris) if len(table)]
    tables += [read_external(item["id"], item["predictions"], splits, classes) for item in external]
    predictions = collect(tables, splits, classes)
    names = predictions["hypothesis"].unique()
    again = {purpose: read_refits(refit_uris, purpose, names) for purpose in PURPOSES}
    training, no_thresholds = again["thresholds"]
    no_thresholds |= {item["id"]: "trained elsewhere, nothing said of training samples" for item in external}
    rule = Thresholds(**thresholds).rule()
    blocks = _blocks(assay_receipts, samples["sample_id"])
    endpoint = endpoint_digest(primary_metric, rule=rule, positive=positive)
    log = looks_with(results, runs, endpoint)
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
            digests=_row_digests(assay_receipts),
            blocks=blocks,
            looks=log,
            previous_endpoint=log["endpoint"].iloc[0],
            sealed_endpoint=store.read_json(endpoint_uri),
            rule=rule,
            training_predictions=training.drop(columns="inner_fold") if len(training) else None,
            no_thresholds=no_thresholds,
            seed_predictions=by_value(again["seeds"][0], "training_seed"),
            learning_predictions=by_value(again["learning"][0], "fraction"),
            map=pool.map,
        )
    judged |= attribution_tables(
        read_attributions(dict(zip(run_uris, parts, strict=True)), names),
        {name: block.features for name, block in blocks.items()},
        {run["hypothesis"]: run["blocks"] for run in parts},
    )
    # Where judging fails nobody has seen anything; whoever stops it between the two lines below has a look too many.
    record_look(results, runs, endpoint)
    store.write_table(store.join(results, "predictions.parquet"), predictions)
    for name in TABLES:
        store.write_table(store.join(results, f"{name}.parquet"), judged[name])


def read_attributions(
    runs: Mapping[str, Mapping[str, Any]], hypotheses: Collection[str]
) -> Iterator[pd.DataFrame]:
    """Read what each of the hypotheses that were judged says of its features, all parts, one hypothesis at a time.

    Parameters: ``runs`` maps the URI of each run.json to its content. A part that was trained before attributions
    were kept has none beside it.
    """
    for name in hypotheses:
        uris = [uri.removesuffix("run.json") for uri, run in runs.items() if run["hypothesis"] == name]
        tables = [
            store.read_table(f"{uri}attributions.parquet")
            for uri in uris
            if store.exists(f"{uri}attributions.parquet")
        ]
        # A part of no splits leaves an empty table, whose types concatenating would spread.
        tables = [table for table in tables if len(table)]
        if tables:
            yield pd.concat(tables, ignore_index=True)


def read_refits(
    uris: Sequence[str], purpose: str, hypotheses: Collection[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read the predictions of models that were trained for a purpose beside the main ones (see ``refits``).

    Parameters: ``uris`` of run.json files, of any purpose; ``hypotheses`` that were judged.
    Returns the predictions of the hypotheses that were trained so in all parts, and why the others were not.
    """
    tables, reasons = [], {}
    for uri in uris:
        run = store.read_json(uri)
        if run["purpose"] != purpose or run["hypothesis"] not in hypotheses:
            continue
        if run["status"] == "not_applicable":
            reasons[run["hypothesis"]] = run["reason"]
        tables.append(store.read_table(uri.removesuffix("run.json") + "predictions.parquet"))
    tables = [table for table in tables if len(table) and table["hypothesis"].iloc[0] not in reasons]
    columns = ["hypothesis", COLUMN[purpose]]
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)), reasons


def by_value(table: pd.DataFrame, column: str) -> dict[Any, pd.DataFrame]:
    """Cut a table at the values of a column, which is dropped."""
    return {value: part.drop(columns=column) for value, part in table.groupby(column)}


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
        run["started"] = min(run["started"], part["started"])
        run["peak_memory_mb"] = max(run["peak_memory_mb"], part["peak_memory_mb"])
        # A part without splits has trained nothing that could explain itself.
        if part.get("attribution"):
            run["attribution"] = part["attribution"]
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
    endpoint_uri: str,
    assay_uris: Sequence[str],
    benchmark_uris: Sequence[str],
    results: str,
    config: Mapping[str, Any],
    command: str,
    competitors: Mapping[str, Mapping[str, str]],
    external: Sequence[Mapping[str, str]],
    primary_metric: str,
    positive: str | None,
    prevalence: float | None,
    thresholds: Mapping[str, Any],
    **_: Any,
) -> None:
    """Render report.html and report.pdf from the tables below ``results``, and export/, its metadata last.

    Parameters: URIs of what the earlier steps wrote; ``benchmark_uris``, of what Snakemake measured of them.
    """
    samples = store.read_table(store.join(results, "samples.parquet"))
    splits = store.read_table(store.join(results, "splits.parquet"))
    runs = join_runs([store.read_json(uri) for uri in run_uris], competitors, external)
    tables = {name: store.read_table(store.join(results, f"{name}.parquet")) for name in TABLES}
    receipts = [store.read_json(uri) for uri in assay_uris]
    quality = {receipt["assay"]: store.read_table(receipt["qc"]) for receipt in receipts}
    tables |= {f"{QUALITY}{assay}": table for assay, table in quality.items()}
    tables |= {f"{TIMINGS}{receipt['assay']}": store.read_table(receipt["timings"]) for receipt in receipts}
    tables["excluded"] = excluded_samples(
        quality, {receipt["assay"]: receipt["excluded"] for receipt in receipts}
    )
    tables["steps"] = read_benchmarks(benchmark_uris)
    claims = [run["hypothesis"] for run in runs if run["role"] == "claim" and run["status"] == "trained"]
    study = {
        "study": config["study"],
        "classes": sorted(samples["label"].unique().tolist()),
        "primary_metric": primary_metric,
        "scheme": config["splits"]["scheme"],
        "estimand": ESTIMAND,
        "endpoint": store.read_json(endpoint_uri),
        "specificity": thresholds["specificity"],
        "positive": positive,
        "prevalence": prevalence,
        "verdict": [separability(tables["evaluation"], tables["comparison"], claims, primary_metric)],
        "flow": sample_flow(samples, splits, tables["excluded"]),
        "notes": {receipt["assay"]: receipt["notes"] for receipt in receipts},
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="minutes"),
        "config": dict(config),
        "provenance": {"versions": versions(), "hardware": hardware()},
    }
    store.write_text(store.join(results, "report.html"), render_report(study, samples, splits, runs, tables))
    page = compose(study, samples, splits, runs, tables)
    store.write_bytes(store.join(results, "report.pdf"), render_pdf(page))
    export_study(store.join(results, "export"), study, samples, splits, runs, tables)


def read_leaderboard(results: str, referee: Mapping[str, Any]) -> str:
    """Lay out a finished study's leaderboard for the terminal."""
    evaluation = store.read_table(store.join(results, "evaluation.parquet"))
    parts = [
        store.read_json(store.join(results, "runs", name, "0", "run.json")) for name in referee["competitors"]
    ]
    runs = join_runs(parts, referee["competitors"], referee["external"])
    return leaderboard(evaluation, runs, referee["primary_metric"])


def _blocks(assay_receipts: Sequence[str], sample_ids: pd.Series) -> dict[str, Block]:
    """Open every block, its rows in the order of the sample sheet."""
    opened = {}
    for uri in assay_receipts:
        for name, block_uri in store.read_json(uri)["blocks"].items():
            receipt = store.read_json(block_uri)
            rows = pd.Index(store.block_samples(receipt)["sample_id"]).get_indexer(sample_ids)
            block = store.open_block(receipt, scratch_directory())
            in_order = (rows == range(len(rows))).all()
            opened[name] = block if in_order else block.take(rows)
    return opened


def _row_digests(assay_receipts: Sequence[str]) -> pd.DataFrame:
    """List the digest of each sample's row in each block: columns sample_id, block and digest."""
    tables = []
    for uri in assay_receipts:
        for name, block_uri in store.read_json(uri)["blocks"].items():
            tables.append(store.block_samples(store.read_json(block_uri)).assign(block=name))
    return pd.concat(tables, ignore_index=True)
