"""Render a study's tables as one self-contained page that opens offline, with scripts off as well.

The report computes nothing: it sorts, counts and draws what the tables hold. Every text from the data
is escaped; the page's policy lets nothing be loaded and no script run but its own, named by its hash.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from oncoarena.reporting import cards, figures, sections
from oncoarena.reporting.glossary import SCHEMES, count, decimals, interval, metric, plural
from oncoarena.reporting.series import Series, assign_series, swatch

_TEMPLATES = Path(__file__).parent / "templates"
_TABLES = {
    "evaluation": "hypothesis metric stratum estimate ci_low ci_high n_samples n_patients",
    "comparison": "hypothesis_a hypothesis_b metric difference ci_low ci_high p_value p_holm",
    "checks": "code title hypothesis outcome detail",
    "curves": "hypothesis curve label x y n_samples",
    "confusion": "hypothesis label predicted n_samples",
}


def render_report(
    study: Mapping[str, Any],
    samples: pd.DataFrame,
    splits: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
    tables: Mapping[str, pd.DataFrame],
) -> str:
    """Render the page.

    Parameters: ``study``, what the study is and what its verdict says (study, classes, primary_metric,
    scheme; optional question, estimand, verdict, flow, command, config, provenance, created);
    ``samples``, the sheet (sample_id, patient_id, label, ...); ``splits`` (repeat, fold, sample_id,
    role); ``runs``, one run.json a hypothesis; ``tables`` evaluation, comparison, checks, curves and
    confusion, of which any may be missing or empty.
    Returns the HTML text.
    """
    tables = {name: _table(tables.get(name), columns.split()) for name, columns in _TABLES.items()}
    evaluation, comparison = tables["evaluation"], tables["comparison"]
    series = _series(runs, tables)
    primary, classes = str(study["primary_metric"]), list(map(str, study["classes"]))
    curves = sections.curve_sections(tables["curves"], series, classes)
    style = "\n".join([_read("report.css"), _toggle_rules(series, curves)])
    script = _read("report.js")
    return (
        _environment()
        .get_template("report.html")
        .render(
            name=str(study["study"]),
            question=study.get("question") or _question(study, primary, classes),
            estimand=study.get("estimand") or "",
            scheme=_scheme(study),
            created=study.get("created") or "",
            verdict=_verdict(study, tables, series, primary),
            flow=_flow(study.get("flow") or []),
            labels={name: look.label for name, look in series.items()},
            leaderboard=sections.leaderboard(evaluation, series, primary, runs),
            differences=sections.differences(comparison, evaluation, series, primary),
            curves=curves,
            confusion=sections.confusion(tables["confusion"], series, classes),
            strata=sections.strata(evaluation, series, primary),
            checks=sections.checks(tables["checks"], series),
            cards=[cards.card(run, series[run["hypothesis"]]) for run in sections.by_series(runs, series)],
            data=sections.data(classes, samples, splits),
            cost=sections.cost(runs, series),
            provenance=sections.provenance(study, runs),
            style=Markup(style),
            script=Markup(script),
            policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
            "base-uri 'none'; form-action 'none'",
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["swatch"] = lambda look: Markup(swatch(look))
    return environment


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _table(table: pd.DataFrame | None, columns: Sequence[str]) -> pd.DataFrame:
    """Give a missing table its columns."""
    return pd.DataFrame(columns=list(columns)) if table is None or table.empty else table


def _series(runs: Sequence[Mapping[str, Any]], tables: Mapping[str, pd.DataFrame]) -> dict[str, Series]:
    """Assign looks to all that ran, to others that were evaluated, and to reference lines of curves."""
    known = {run["hypothesis"]: (run.get("title") or "", run.get("role") or "claim") for run in runs}
    for role, table in (("external", "evaluation"), ("reference", "curves")):
        for name in tables[table]["hypothesis"].unique():
            known.setdefault(name, (name[:1].upper() + name[1:], role))
    return assign_series([(name, *rest) for name, rest in known.items()])


def _toggle_rules(series: Mapping[str, Series], curves: Sequence[Mapping[str, Any]]) -> str:
    """Write the style rules by which check boxes hide hypotheses and a menu picks a class, scriptless."""
    hide = [
        f'section:has(input[value="{look.key}"]:not(:checked)) .curve.{look.key}{{display:none}}'
        for look in series.values()
    ]
    keys = dict.fromkeys(panel["key"] for section in curves for panel in section["panels"])
    pick = [f'section:has(option[value="{key}"]:checked) .panel:not(.{key}){{display:none}}' for key in keys]
    return "\n".join([*hide, *pick])


def _scheme(study: Mapping[str, Any]) -> str:
    return SCHEMES.get(study["scheme"], str(study["scheme"]))


def _question(study: Mapping[str, Any], primary: str, classes: Sequence[str]) -> str:
    """Ask what the study asks, where it does not say so itself."""
    told = (
        f"{', '.join(classes[:-1])} and {classes[-1]}"
        if 2 <= len(classes) <= 6
        else f"{len(classes)} classes"
    )
    scheme = _scheme(study)
    return (
        f"Which hypothesis tells {told} apart? "
        f"Primary metric {metric(primary).title}; {scheme[:1].lower() + scheme[1:]}."
    )


def _verdict(
    study: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    series: Mapping[str, Series],
    primary: str,
) -> dict[str, Any]:
    """Collect the first screen: who leads, by what interval, from whom not separable, what was found."""
    sentences = [str(sentence) for sentence in study.get("verdict") or []]
    found = tables["checks"][tables["checks"]["outcome"] == "finding"]
    verdict: dict[str, Any] = {
        "lead": sentences[0] if sentences else "",
        "rest": sentences[1:],
        "metric": metric(primary),
        "leaders": [],
        "rivals": [],
        "n_compared": 0,
        "n_checks": tables["checks"]["code"].nunique(),
        "n_findings": len(found),
        "codes": list(dict.fromkeys(found["code"])),
    }
    leaders = sections.find_leaders(tables["evaluation"], series, primary)
    if leaders:
        first = leaders[0]
        pairs = figures.differences_with(
            tables["comparison"][tables["comparison"]["metric"] == primary], first.hypothesis
        )
        rivals = {row.hypothesis_b for row in pairs.itertuples() if not figures.is_separable(row)}
        verdict |= {
            "leaders": [series[row.hypothesis] for row in leaders],
            "estimate": decimals(first.estimate),
            "interval": interval(first.ci_low, first.ci_high),
            "n": f"{plural(int(first.n_samples), 'sample')} of {plural(int(first.n_patients), 'patient')}",
            "n_compared": len(pairs),
            "rivals": [look for name, look in series.items() if name in rivals],
        }
    return verdict


def _flow(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Write the flow of samples; a stage may carry a note, such as who was excluded and why."""
    return [
        {
            "stage": str(stage["stage"]),
            "n_samples": count(stage["n_samples"]),
            "patients": plural(int(stage["n_patients"]), "patient"),
            "note": str(stage.get("note") or ""),
        }
        for stage in stages
    ]
