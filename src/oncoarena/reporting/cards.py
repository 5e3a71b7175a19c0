"""One model card a hypothesis: its claim, data, training, calibration, failures and cost."""

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from oncoarena.reporting.attributions import looked_at
from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.glossary import (
    OUTCOMES,
    count,
    decimals,
    duration,
    interval,
    is_number,
    memory,
    metric,
    typeset,
)
from oncoarena.reporting.series import Series
from oncoarena.reporting.svg import escape

_ITEMS_MOST = 12
"""The most entries shown of a list that a hypothesis reports, e.g. of its features."""

_FAILURES_MOST = 10
_CONFUSIONS_MOST = 3

CALIBRATION = ("calibration_slope", "calibration_intercept", "ece", "brier", "log_loss")
"""Metrics of the evaluation that a card shows under calibration, where they were computed."""


def prose(text: str) -> Markup:
    """Turn a line of a docstring into safe HTML: backticks become code, DOIs become links."""
    safe = escape(text)
    safe = re.sub(r"``?([^`]+)``?", r"<code>\1</code>", safe)
    safe = re.sub(
        r"\b(?:doi:)?(10\.\d{4,9}/[^\s;,)<>&]*[^\s;,.)<>&])", r'<a href="https://doi.org/\1">doi:\1</a>', safe
    )
    return Markup(safe)


def claim_parts(docstring: str) -> list[tuple[str, list[Markup]]]:
    """Split a hypothesis's docstring into titled parts: the claim, what would refute it, its references.

    A paragraph or a line that begins with "Refuted" or "Reference" opens its own part; further
    paragraphs follow under "How". Returns (title, paragraphs) in the order of the docstring.
    """
    parts: list[tuple[str, list[str]]] = []
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:Refuted|References?\b|- ))", docstring.strip()):
        line = " ".join(paragraph.split())
        if not line:
            continue
        if re.match(r"(?:It (?:is|would be) )?refuted\b", line, re.IGNORECASE):
            title = "What would refute it"
        elif re.match(r"References?\b", line):
            title, line = "Reference", re.sub(r"^References?:?\s*", "", line)
        else:
            title = "Claim" if not parts else "How"
            line = re.sub(r"^Claim:\s*", "", line) if not parts else line
        line = line[:1].upper() + line[1:]
        if parts and parts[-1][0] == title:
            parts[-1][1].append(line)
        else:
            parts.append((title, [line]))
    return [(title, [prose(line) for line in lines]) for title, lines in parts]


def plain(value: Any) -> str:
    """Write a config value or a finding in short."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        shown = ", ".join(plain(entry) for entry in value[:_ITEMS_MOST])
        return shown + (f" \N{HORIZONTAL ELLIPSIS} ({len(value)} in all)" if len(value) > _ITEMS_MOST else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(entry)}" for key, entry in list(value.items())[:_ITEMS_MOST])
    return str(value)


def summarise(values: Sequence[Any]) -> str:
    """Put one finding over all splits into a line: as it is, as median and range, or by how often."""
    first = values[0]
    if len(values) == 1 or all(value == first for value in values):
        return plain(first)
    if all(is_number(value) for value in values):
        return (
            f"median {plain(float(statistics.median(values)))} ({plain(min(values))} to {plain(max(values))})"
        )
    if all(isinstance(value, list | tuple) for value in values):
        found = Counter(plain(entry) for value in values for entry in value)
        shown = ", ".join(f"{entry} ({n}/{len(values)})" for entry, n in found.most_common(_ITEMS_MOST))
        return shown + (" \N{HORIZONTAL ELLIPSIS}" if len(found) > _ITEMS_MOST else "")
    found = Counter(plain(value) for value in values)
    return "; ".join(f"{entry} ({n}/{len(values)})" for entry, n in found.most_common(4))


def findings(splits: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Gather what a hypothesis reported about itself, one line a finding, over its splits."""
    gathered: dict[str, list[Any]] = {}
    for split in splits:
        for key, value in (split.get("findings") or {}).items():
            gathered.setdefault(key, []).append(value)
    return [(key.replace("_", " "), summarise(values)) for key, values in gathered.items()]


def cost(run: Mapping[str, Any]) -> dict[str, Any]:
    """Add up what a run took: seconds in all, the longest split, the highest memory, the devices."""
    splits = run.get("splits") or []
    seconds = [split["seconds"] for split in splits if is_number(split.get("seconds"))]
    peaks = [split["peak_memory_mb"] for split in splits if is_number(split.get("peak_memory_mb"))]
    return {
        "n_splits": len(splits),
        "seconds": sum(seconds) if seconds else float("nan"),
        "longest": max(seconds, default=float("nan")),
        "memory": max(peaks, default=float("nan")),
        "device": ", ".join(sorted({str(split["device"]) for split in splits if split.get("device")})),
    }


def cost_table(runs: Sequence[Mapping[str, Any]], series: Mapping[str, Series]) -> DataTable:
    """List what each trained hypothesis took."""
    rows = []
    for run in runs:
        spent = cost(run)
        rows.append(
            [
                series[run["hypothesis"]].label,
                str(run.get("framework") or ""),
                spent["device"],
                count(spent["n_splits"]),
                duration(spent["seconds"]),
                duration(spent["longest"]),
                memory(spent["memory"]),
            ]
        )
    headings = ["Hypothesis", "Framework", "Device", "Splits", "Time in all", "Longest split", "Peak memory"]
    return DataTable("What training and prediction took", headings, rows, n_text=3)


def card(
    run: Mapping[str, Any], look: Series, tables: Mapping[str, pd.DataFrame], primary: str
) -> dict[str, Any]:
    """Collect the model card of one hypothesis.

    Parameters: ``tables`` as ``tables.complete`` gives them; ``primary``, the primary metric.
    """
    name = run["hypothesis"]
    rows = tables["evaluation"]
    rows = rows[(rows["hypothesis"] == name) & (rows["stratum"] == "all")]
    scores = {row.metric: (row.estimate, interval(row.ci_low, row.ci_high)) for row in rows.itertuples()}
    spent = cost(run)
    trained = run.get("status") != "not_applicable"
    facts = [("Framework", run.get("framework"))]
    if primary in scores:
        facts.insert(0, (metric(primary).title, _score(*scores[primary])))
    if trained and spent["n_splits"]:
        facts += [
            ("Device", spent["device"]),
            ("Time", duration(spent["seconds"])),
            ("Peak memory", memory(spent["memory"])),
        ]
    return {
        "look": look,
        "id": name,
        "trained": trained,
        "reason": run.get("reason") or "no reason was given",
        "parts": claim_parts(run.get("claim") or ""),
        "facts": [(title, str(value)) for title, value in facts if value not in (None, "")],
        "training": _training(run) if trained else [],
        "config": [(key, plain(value)) for key, value in (run.get("config") or {}).items()],
        "findings": findings(run.get("splits") or []),
        "looked": looked_at(run, look, tables.get("attributions")),
        "calibration": [
            *((metric(key).title, _score(*scores[key])) for key in CALIBRATION if key in scores),
            *_before_calibration(tables.get("recalibration"), name),
        ],
        "calibrated": _calibrated(tables["checks"], name),
        "errors": _errors(tables["confusion"], name),
        "failures": _failures(tables.get("failures"), name),
    }


def _score(estimate: float, span: str) -> str:
    return f"{decimals(estimate)} ({span})" if span else decimals(estimate)


def _training(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say what a hypothesis was trained on and how: its data, splits, seed and machine."""
    splits = run.get("splits") or []
    lines = [("Blocks", plain(run.get("blocks") or []))]
    for key, title in (
        ("n_train", "Samples trained on, each split"),
        ("n_validation", "Samples kept for early stopping"),
        ("n_test", "Samples tested on, each split"),
    ):
        sizes = [split[key] for split in splits if is_number(split.get(key))]
        if any(sizes):
            low, high = min(sizes), max(sizes)
            lines.append((title, f"{low:,}" if low == high else f"{low:,} to {high:,}"))
    lines += [
        ("Splits", str(len(splits) or "")),
        ("Seed", plain(run["seed"]) if "seed" in run else ""),
        ("Threads", plain(run["threads"]) if "threads" in run else ""),
        ("Labels", "permuted: a control" if run.get("permuted_labels") else ""),
        ("Fitted models", str(run.get("models") or "")),
        ("Digest of its code", str(run.get("code_digest") or "")),
    ]
    return [(title, value) for title, value in lines if value]


def _before_calibration(table: pd.DataFrame | None, name: str) -> list[tuple[str, str]]:
    """Say what the losses of a hypothesis were before it was calibrated, where it tells, and what that changed."""
    if table is None:
        return []
    lines = []
    for row in table[table["hypothesis"] == name].itertuples():
        change = _score(row.change, interval(row.ci_low, row.ci_high))
        before = f"{decimals(row.before)}; calibration changed it by {change}"
        lines.append((f"{metric(row.metric).title} before calibration", before))
    return lines


def _calibrated(checks: pd.DataFrame, name: str) -> str:
    """Say what the check on calibration found of one hypothesis."""
    rows = checks[(checks["code"] == "CHK008") & (checks["hypothesis"] == name)]
    return (
        f"CHK008 {OUTCOMES[rows['outcome'].iloc[0]][1].lower()}: {typeset(rows['detail'].iloc[0])}"
        if len(rows)
        else ""
    )


def _errors(confusion: pd.DataFrame, name: str) -> str:
    """Name the most frequent confusions of one hypothesis; "" where it was not judged."""
    rows = confusion[confusion["hypothesis"] == name]
    if rows.empty:
        return ""
    total = float(rows["n_samples"].sum())
    wrong = rows[(rows["label"].astype(str) != rows["predicted"].astype(str)) & (rows["n_samples"] > 0)]
    if wrong.empty:
        return f"None of {count(total)} test samples was called wrong."
    wrong = wrong.sort_values("n_samples", ascending=False, kind="stable")
    most = [
        f"{row.label} called {row.predicted} ({count(row.n_samples)})"
        for row in wrong.head(_CONFUSIONS_MOST).itertuples()
    ]
    more = ", and others" if len(wrong) > _CONFUSIONS_MOST else ""
    n_wrong = count(float(wrong["n_samples"].sum()))
    return f"{n_wrong} of {count(total)} test samples called wrong: {', '.join(most)}{more}."


def _failures(failures: pd.DataFrame | None, name: str) -> DataTable | None:
    """List the test samples that one hypothesis called wrong with the most confidence."""
    if failures is None:
        return None
    rows = failures[failures["hypothesis"] == name]
    if rows.empty:
        return None
    rows = rows.sort_values("probability", ascending=False, kind="stable").head(_FAILURES_MOST)
    body = [
        [str(row.sample_id), str(row.label), str(row.predicted), decimals(row.probability)]
        for row in rows.itertuples()
    ]
    headings = ["Sample", "True class", "Called", "Probability of the call"]
    return DataTable(f"Wrong with the most confidence: {name}", headings, body, n_text=3)


def flatten(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Turn nested mappings into lines of (dotted name, value)."""
    if isinstance(tree, Mapping):
        return [
            entry
            for key, value in tree.items()
            for entry in flatten(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(tree, list | tuple) and any(isinstance(entry, Mapping) for entry in tree):
        return [(prefix, json.dumps(tree, default=str))]
    return [(prefix, plain(tree))]


def gather(runs: Sequence[Mapping[str, Any]], field: str) -> list[tuple[str, str]]:
    """Merge one mapping of all runs, e.g. their versions; where runs differ, say which has which."""
    values: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for key, value in flatten(run.get(field) or {}):
            values.setdefault(key, {}).setdefault(value, []).append(run["hypothesis"])
    return [
        (
            key,
            next(iter(found))
            if len(found) == 1
            else "; ".join(f"{value} ({', '.join(names)})" for value, names in found.items()),
        )
        for key, found in sorted(values.items())
    ]
