"""Several finished studies side by side: who leads where, by how much, and what was found in each."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.reporting import figures, sections
from oncoarena.reporting.datatable import sort_rows
from oncoarena.reporting.export import STUDY
from oncoarena.reporting.glossary import (
    ROLES,
    SCHEMES,
    better_end,
    decimals,
    interval,
    metric,
    moment,
    plural,
    role_rank,
    typeset,
)
from oncoarena.reporting.page import render_page
from oncoarena.reporting.series import Series, assign_series

_WIDTH = 380
"""Width (pixels) of a study's picture: two stand in a row."""


@dataclass(frozen=True)
class Finished:
    """A finished study: where it is, what ``export.summary`` says of it, its tables, its report's address."""

    directory: str
    summary: Mapping[str, Any]
    evaluation: pd.DataFrame
    comparison: pd.DataFrame
    checks: pd.DataFrame
    report: str

    @property
    def primary(self) -> str:
        """Its primary metric."""
        return str(self.summary["primary_metric"])

    @property
    def overall(self) -> pd.DataFrame:
        """Rows of its primary metric over all samples."""
        return sections.overall(self.evaluation, self.primary)


def compare(directories: Sequence[str], page: str = "comparison.html") -> str:
    """Read finished studies and lay them side by side on one page.

    Parameters: ``directories``, each ``<results>/<study>`` as a path or URI; those that hold no finished
    study are named on the page as left out; ``page``, where the page will be written: addresses of the
    reports are relative to it. Returns the HTML text.
    Raises InputError if no directory holds a finished study.
    """
    found = [(name, store.exists(store.join(name, "export", STUDY))) for name in directories]
    studies = [read_finished(name, page) for name, finished in found if finished]
    if not studies:
        raise InputError(
            f"found no finished study in {', '.join(directories) or 'no directory'}; expected <results>/<study> "
            f"with export/{STUDY}. Run the study to its end first: snakemake --cores all"
        )
    return render_comparison(studies, left_out=[name for name, finished in found if not finished])


def read_finished(directory: str, page: str = "comparison.html") -> Finished:
    """Read what the comparison shows of one study; ``page`` as for ``compare``.

    Raises InputError if one of its files is not there.
    """
    directory = directory.rstrip("/")
    tables = {
        name: store.read_table(store.join(directory, f"{name}.parquet"))
        for name in ("evaluation", "comparison", "checks")
    }
    summary = store.read_json(store.join(directory, "export", STUDY))
    return Finished(directory, summary, **tables, report=_address(store.join(directory, "report.html"), page))


def _address(target: str, page: str) -> str:
    """Write where a report is, seen from the page; a URI stays as it is."""
    if store.is_remote(target) or store.is_remote(page):
        return target
    path = os.path.relpath(
        target.removeprefix("file://"), os.path.dirname(page.removeprefix("file://")) or "."
    )
    return path.replace(os.sep, "/")


def render_comparison(studies: Sequence[Finished], *, left_out: Sequence[str] = ()) -> str:
    """Render studies side by side as one self-contained page; ``left_out`` names what was not finished.

    Numbers are never averaged over studies: each has its own metric, classes and patients.
    Returns the HTML text.
    """
    series = _series(studies)
    views = [_view(study, series) for study in studies]
    for i, view in enumerate(views):
        view["picture"] = _picture(studies[i], series, i)
    return render_page(
        "comparison.html",
        {
            "views": views,
            "matrix": _matrix(studies, views, series),
            "n_hypotheses": sum(look.role != "reference" for look in series.values()),
            "n_findings": sum(view["n_findings"] for view in views),
            "left_out": list(left_out),
        },
    )


def _series(studies: Sequence[Finished]) -> dict[str, Series]:
    """Assign looks to all hypotheses of all studies; the role and title are those of the first."""
    known: dict[str, tuple[str, str]] = {}
    for study in studies:
        for entry in study.summary["hypotheses"]:
            known.setdefault(entry["hypothesis"], (entry["title"], entry["role"]))
        for name in study.evaluation["hypothesis"].unique():
            known.setdefault(name, ("", "external"))
    return assign_series([(name, *rest) for name, rest in known.items()])


def _view(study: Finished, series: Mapping[str, Series]) -> dict[str, Any]:
    """Say of one study who leads, by what, from whom not separable, and what was found."""
    summary, checks = study.summary, study.checks
    found = checks[checks["outcome"] == "finding"]
    leaders = sections.find_leaders(study.evaluation, series, study.primary)
    pairs = figures.differences_with(
        study.comparison[study.comparison["metric"] == study.primary],
        leaders[0].hypothesis if leaders else "",
    )
    rivals = [row.hypothesis_b for row in pairs.itertuples() if not figures.is_separable(row)]
    scheme = SCHEMES.get(summary["scheme"], str(summary["scheme"]))
    view = {
        "name": str(summary["study"]),
        "directory": study.directory,
        "report": study.report,
        "metric": metric(study.primary),
        "better": better_end(study.primary),
        "n_classes": len(summary["classes"]),
        "scheme": scheme,
        "splits": plural(int(summary["n_splits"]), "split"),
        "made": moment(str(summary["created"])),
        "verdict": [typeset(sentence) for sentence in summary["verdict"]],
        "leaders": [series[row.hypothesis] for row in leaders],
        "rivals": [look for name, look in series.items() if name in rivals],
        "n_compared": len(pairs),
        "n_checks": checks["code"].nunique(),
        "n_findings": len(found),
        "codes": list(dict.fromkeys(found["code"])),
        "estimate": "",
    }
    if leaders:
        first = leaders[0]
        view |= {
            "estimate": decimals(first.estimate),
            "interval": interval(first.ci_low, first.ci_high),
            "n": f"{plural(int(first.n_samples), 'sample')} of {plural(int(first.n_patients), 'patient')}",
        }
    return view


def _picture(study: Finished, series: Mapping[str, Series], i: int) -> Markup | None:
    rows = study.overall
    if rows.empty:
        return None
    title = metric(study.primary).title
    return Markup(
        figures.interval_plot(
            sort_rows(rows, series, study.primary),
            series,
            metric_key=study.primary,
            title=f"{title} in {study.summary['study']}",
            description="Dots are estimates, whiskers 95 % intervals. The numbers are in the table of this page.",
            uid=f"study-{i}",
            width=_WIDTH,
        )
    )


def _matrix(
    studies: Sequence[Finished], views: Sequence[Mapping[str, Any]], series: Mapping[str, Series]
) -> list[dict[str, Any]]:
    """Arrange hypotheses by studies, grouped by role: the primary metric of each study and its standing."""
    columns = [_column(study, view) for study, view in zip(studies, views, strict=True)]
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, look in series.items():
        cells = [column.get(name, _cell("", "", "did not take part")) for column in columns]
        standings = [cell["standing"] for cell in cells]
        row = {
            "look": look,
            "cells": cells,
            "n_leads": standings.count("leads"),
            "n_level": standings.count("not separable from the leader"),
            "n_judged": sum(bool(cell["estimate"]) for cell in cells),
        }
        groups.setdefault(look.role, []).append(row)
    return [
        {"title": ROLES.get(role, (role, ""))[0], "what": ROLES.get(role, (role, ""))[1], "rows": rows}
        for role, rows in sorted(groups.items(), key=lambda item: role_rank(item[0]))
    ]


def _column(study: Finished, view: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Give each hypothesis of one study its cell."""
    leaders = {look.hypothesis for look in view["leaders"]}
    rivals = {look.hypothesis for look in view["rivals"]}
    cells = {
        entry["hypothesis"]: _cell("", "", f"not applicable: {entry['reason'] or 'no reason was given'}")
        for entry in study.summary["hypotheses"]
        if entry["status"] == "not_applicable"
    }
    for row in study.overall.itertuples():
        standing = "behind"
        if row.hypothesis in leaders:
            standing = "leads"
        elif row.hypothesis in rivals:
            standing = "not separable from the leader"
        cells[row.hypothesis] = _cell(decimals(row.estimate), interval(row.ci_low, row.ci_high), standing)
    return cells


def _cell(estimate: str, span: str, standing: str) -> dict[str, str]:
    return {"estimate": estimate, "interval": span, "standing": standing}
