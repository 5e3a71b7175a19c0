"""The first screen: the question, who leads and by what, from whom it is not separable, what was found."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from oncoarena.reporting import figures, sections
from oncoarena.reporting.glossary import SCHEMES, count, decimals, interval, metric, plural, typeset
from oncoarena.reporting.series import Series


def scheme(study: Mapping[str, Any]) -> str:
    """Name how the study splits its samples."""
    return SCHEMES.get(study["scheme"], str(study["scheme"]))


def question(study: Mapping[str, Any], primary: str, classes: Sequence[str]) -> str:
    """Ask what the study asks, where it does not say so itself."""
    told = (
        f"{', '.join(classes[:-1])} and {classes[-1]}"
        if 2 <= len(classes) <= 6
        else f"{len(classes)} classes"
    )
    dealt = scheme(study)
    return (
        f"Which hypothesis tells {told} apart? "
        f"Primary metric {metric(primary).title}; {dealt[:1].lower() + dealt[1:]}."
    )


def verdict(
    study: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    series: Mapping[str, Series],
    primary: str,
) -> dict[str, Any]:
    """Collect the first screen: who leads, by what interval, from whom not separable, what was found."""
    sentences = [typeset(str(sentence)) for sentence in study.get("verdict") or []]
    found = tables["checks"][tables["checks"]["outcome"] == "finding"]
    facts: dict[str, Any] = {
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
        facts |= {
            "leaders": [series[row.hypothesis] for row in leaders],
            "estimate": decimals(first.estimate),
            "interval": interval(first.ci_low, first.ci_high),
            "n": f"{plural(int(first.n_samples), 'sample')} of {plural(int(first.n_patients), 'patient')}",
            "n_compared": len(pairs),
            "rivals": [look for name, look in series.items() if name in rivals],
        }
    return facts


def flow(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
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
