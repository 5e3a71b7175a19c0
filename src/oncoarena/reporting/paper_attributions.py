"""What hypotheses looked at, on paper: the same words, tables and figures as on the page."""

from collections.abc import Mapping
from typing import Any

from oncoarena.reporting.paper import Paper


def lay_section(paper: Paper, page: Mapping[str, Any]) -> None:
    """Lay out all hypotheses side by side (see ``attributions.attribution_section``)."""
    section = page["attributions"]
    if not section:
        return
    paper.heading(1, "Where they look")
    paper.text(section["caution"], kind="guide")
    for entry in section["tracks"]:
        paper.figure(entry["picture"], f"Along the genome: {entry['block']}")
        paper.text(entry["lost"], kind="quiet")
    for entry in section["agreements"]:
        paper.text(entry["told"])
        paper.table(entry["table"])
    paper.pairs(section["words"])


def lay_card(paper: Paper, looked: Mapping[str, Any]) -> None:
    """Lay out one hypothesis's top features (see ``attributions.looked_at``)."""
    if not looked:
        return
    paper.heading(3, "What it looked at")
    if looked["why"]:
        paper.text(looked["why"], kind="quiet")
        return
    paper.text(*looked["told"])
    paper.table(looked["table"])
    paper.table(looked["classes"])
    paper.pairs([(f"Share of {block}", share) for block, share in looked["blocks"]])
