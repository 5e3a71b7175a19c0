"""Render a study's tables as one self-contained page that opens offline, with scripts off as well.

The report computes nothing: it sorts, counts and draws what the tables hold.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from oncoarena.reporting import agreement, cards, checklist, flow, learning, sections, stability, verdict
from oncoarena.reporting.attributions import attribution_section
from oncoarena.reporting.glossary import moment, typeset
from oncoarena.reporting.operating_points import operating_section
from oncoarena.reporting.page import render_page
from oncoarena.reporting.quality_section import quality_section
from oncoarena.reporting.series import Series, assign_series
from oncoarena.reporting.steps import steps_section
from oncoarena.reporting.tables import complete


def render_report(
    study: Mapping[str, Any],
    samples: pd.DataFrame,
    splits: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
    tables: Mapping[str, pd.DataFrame],
) -> str:
    """Render the page; parameters as of ``compose``. Returns the HTML text."""
    page = compose(study, samples, splits, runs, tables)
    return render_page("report.html", page, rules=page_rules(page), script="report.js")


def compose(
    study: Mapping[str, Any],
    samples: pd.DataFrame,
    splits: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
    tables: Mapping[str, pd.DataFrame],
) -> dict[str, Any]:
    """Collect what the page shows, section by section.

    Parameters: ``study``, what the study is and what its verdict says (study, classes, primary_metric,
    scheme; optional question, estimand, endpoint, specificity, positive, prevalence, verdict, flow, notes,
    command, config, provenance, created);
    ``samples``, the sheet (sample_id, patient_id, label, ...); ``splits`` (repeat, fold, sample_id,
    role); ``runs``, one run.json a hypothesis; ``tables`` evaluation, comparison, checks, curves and
    confusion, of which any may be missing or empty, and those of ``tables.FURTHER``, whose sections appear
    where they are given.
    """
    tables = complete(tables)
    evaluation, comparison = tables["evaluation"], tables["comparison"]
    series = _series(runs, tables)
    primary, classes = str(study["primary_metric"]), list(map(str, study["classes"]))
    filled = checklist.checklist(study, samples, splits, runs, tables)
    return {
        "name": str(study["study"]),
        "question": study.get("question") or verdict.question(study, primary, classes),
        "endpoint": study.get("endpoint") or {},
        "sealed": moment(str((study.get("endpoint") or {}).get("sealed", ""))),
        "estimand": typeset(str(study.get("estimand") or "")),
        "scheme": verdict.scheme(study),
        "created": str(study.get("created") or ""),
        "made": moment(str(study.get("created") or "")),
        "verdict": verdict.verdict(study, tables, series, primary),
        "flow": verdict.flow(study.get("flow") or []),
        "series": series,
        "leaderboard": sections.leaderboard(evaluation, series, primary, runs),
        "differences": sections.differences(comparison, evaluation, series, primary),
        "curves": sections.curve_sections(tables["curves"], series, classes),
        "operating": operating_section(
            tables.get("operating_points"),
            series,
            float(study.get("specificity") or 0.95),
            str(study.get("positive") or classes[-1]),
            study.get("prevalence"),
        ),
        "learning": learning.learning_section(tables.get("learning"), series, primary),
        "seeds": stability.seeds_section(tables.get("seeds"), series, primary),
        "agreement": agreement.agreement(tables.get("overlap"), tables.get("added_value"), series),
        "attributions": attribution_section(tables, series, study.get("config")),
        "confusion": sections.confusion(tables["confusion"], series, classes),
        "strata": sections.strata(evaluation, series, primary, tables.get("strata_leaders")),
        "checks": sections.checks(tables["checks"], series),
        "cards": [
            cards.card(run, series[run["hypothesis"]], tables, primary)
            for run in sections.by_series(runs, series)
        ],
        "data": sections.data(classes, samples, splits),
        "flow_stages": study.get("flow") or [],
        "flow_figure": flow.flow_section(study.get("flow") or []),
        "quality": quality_section(tables, samples, study.get("notes")),
        "cost": sections.cost(runs, series),
        "steps": steps_section(tables.get("steps"), tables),
        "provenance": sections.provenance(study, runs),
        "checklist": checklist.view(filled),
        "checklist_table": filled,
    }


def _series(runs: Sequence[Mapping[str, Any]], tables: Mapping[str, pd.DataFrame]) -> dict[str, Series]:
    """Assign looks to all that ran, to others that were evaluated, and to reference lines of curves."""
    known = {run["hypothesis"]: (run.get("title") or "", run.get("role") or "claim") for run in runs}
    for role, table in (("external", "evaluation"), ("reference", "curves")):
        for name in tables[table]["hypothesis"].unique():
            known.setdefault(name, ("", role))
    return assign_series([(name, *rest) for name, rest in known.items()])


def page_rules(page: Mapping[str, Any]) -> str:
    """Write the style rules by which check boxes hide hypotheses and a menu picks a class, scriptless."""
    hide = [
        f'section:has(input[value="{look.key}"]:not(:checked)) .curve.{look.key}{{display:none}}'
        for look in page["series"].values()
    ]
    keys = dict.fromkeys(
        panel["key"] for section in [*page["curves"], *page["learning"]] for panel in section["panels"]
    )
    pick = [f'section:has(option[value="{key}"]:checked) .panel:not(.{key}){{display:none}}' for key in keys]
    return "\n".join([*hide, *pick])
