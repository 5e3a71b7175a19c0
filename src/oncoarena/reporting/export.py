"""results/<study>/export/: every table as TSV, every figure as SVG, the page, and what they are (RO-Crate)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from oncoarena import store
from oncoarena.reporting import cards, crate, gallery
from oncoarena.reporting.page import render_page
from oncoarena.reporting.pdf import render_pdf
from oncoarena.reporting.report import compose, page_rules
from oncoarena.reporting.tables import QUALITY, TIMINGS

STUDY = "study.json"
"""What a comparison of several studies needs to know of each; see ``summary``."""

RUN_COLUMNS = [
    "hypothesis",
    "title",
    "role",
    "framework",
    "status",
    "reason",
    "n_splits",
    "seconds",
    "peak_memory_mb",
    "device",
    "code_digest",
]

_TABLES = {
    "evaluation": "Every metric of every hypothesis, over all samples and by stratum, with 95 % intervals",
    "comparison": "Every paired difference with its interval and tests",
    "checks": "What the coded checks found",
    "curves": "Points of ROC, calibration and further curves",
    "confusion": "Counts of true and called classes",
    "overlap": "On which samples pairs of hypotheses are wrong together",
    "added_value": "What each hypothesis adds to the others",
    "strata_leaders": "Which hypothesis leads in each stratum",
    "recalibration": "Losses of what hypotheses said before calibration, and after it",
    "operating_points": "What thresholds chosen on training samples do on the test samples",
    "seeds": "Estimates of models trained with other seeds",
    "learning": "Performance by the share of training patients",
    "attributions": "What each hypothesis looked at: the importance of features over all splits, with gene and place",
    "attribution_agreement": "Whether pairs of hypotheses look at the same features",
    "excluded": "Objects that were not taken, and why",
    "steps": "What each job of the workflow took, as Snakemake measured it",
    "failures": "Test samples that were called wrong with the most confidence",
    "splits": "Which sample plays which role in each split",
    "checklist": "The TRIPOD+AI checklist, filled from the run where it can be",
    "runs": "What ran: role, framework, status, time, memory and digest of the code",
}


def export_study(
    directory: str,
    study: Mapping[str, Any],
    samples: pd.DataFrame,
    splits: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
    tables: Mapping[str, pd.DataFrame],
    *,
    licence: str | None = None,
) -> list[str]:
    """Write a study's results in forms that outlive this software, and describe them.

    Parameters: ``directory``, a path or URI; then as for ``report.render_report``: every table of
    ``tables`` is written; ``licence``, the URL of the licence under which the results are given. The
    sample sheet is not copied: it may hold what must not be handed on.
    Returns the paths below ``directory`` in the order written; the metadata, which vouch for the rest,
    come last.
    """
    page = compose(study, samples, splits, runs, tables)
    published = str(study.get("created") or datetime.now(UTC).isoformat(timespec="minutes"))
    members: list[crate.Member] = []

    def write(path: str, written: str | bytes, name: str, description: str) -> None:
        content = written.encode("utf-8") if isinstance(written, str) else written
        store.write_bytes(store.join(directory, path), content)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        members.append(crate.Member(path, name, description, len(content), digest))

    every = {**tables, "splits": splits, "runs": run_table(runs), "checklist": page["checklist_table"]}
    for name, table in every.items():
        told = _TABLES.get(name, f"The table {name}")
        if name.startswith(QUALITY):
            told = f"What was measured of each sample while {name.removeprefix(QUALITY)} was read"
        if name.startswith(TIMINGS):
            told = f"How fast each object of {name.removeprefix(TIMINGS)} was read"
        write(f"tables/{name}.tsv", as_tsv(table), f"Table {name}", told)
    for figure in gallery.collect(page):
        words = f"Figure of the report: {figure.title}"
        write(f"figures/{figure.name}.svg", gallery.standalone(figure), figure.title, words)
    text = render_page("report.html", page, rules=page_rules(page), script="report.js")
    write("report.html", text, "Report", "The whole report as one page that opens offline")
    write("report.pdf", render_pdf(page), "Report on paper", "The whole report as a tagged PDF (PDF/UA-1)")
    told = json.dumps(summary(study, splits, runs), indent=2, ensure_ascii=False) + "\n"
    write(STUDY, told, "Study", "What was asked, who took part, and the verdict")
    metadata = crate.describe(study, runs, members, published=published, licence=licence)
    text = json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
    store.write_text(store.join(directory, crate.METADATA), text)
    return [*(member.path for member in members), crate.METADATA]


def as_tsv(table: pd.DataFrame) -> str:
    """Write a table with tabs, a header and empty cells for what is missing; numbers lose nothing."""
    return table.to_csv(sep="\t", index=False, lineterminator="\n")


def run_table(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """List what ran, one row a hypothesis: seconds over all splits, peak memory in MB."""
    rows = []
    for run in runs:
        spent = cards.cost(run)
        rows.append(
            {
                "hypothesis": run["hypothesis"],
                "title": run.get("title") or "",
                "role": run.get("role") or "claim",
                "framework": run.get("framework") or "",
                "status": run.get("status") or "trained",
                "reason": run.get("reason") or "",
                "n_splits": spent["n_splits"],
                "seconds": spent["seconds"],
                "peak_memory_mb": spent["memory"],
                "device": spent["device"],
                "code_digest": run.get("code_digest") or "",
            }
        )
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def summary(
    study: Mapping[str, Any], splits: pd.DataFrame, runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Say of a study what its tables do not: its name, endpoint, splits, verdict and competitors."""
    n_splits = len(splits[["repeat", "fold"]].drop_duplicates())
    return {
        "study": str(study["study"]),
        "classes": list(map(str, study["classes"])),
        "primary_metric": str(study["primary_metric"]),
        "scheme": str(study["scheme"]),
        "n_splits": n_splits,
        "created": str(study.get("created") or ""),
        "verdict": list(map(str, study.get("verdict") or [])),
        "flow": [dict(stage) for stage in study.get("flow") or []],
        "hypotheses": [
            {
                "hypothesis": str(run["hypothesis"]),
                "title": str(run.get("title") or ""),
                "role": str(run.get("role") or "claim"),
                "status": str(run.get("status") or "trained"),
                "reason": str(run.get("reason") or ""),
            }
            for run in runs
        ],
    }
