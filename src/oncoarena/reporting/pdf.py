"""The report as a PDF: tagged for screen readers (PDF/UA-1), its fonts inside, the same bytes for the same tables."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oncoarena.reporting.flow import left_lines
from oncoarena.reporting.page import read_template
from oncoarena.reporting.paper import BOARD_COLUMNS, PANELS_MOST, Paper, breakable, plain
from oncoarena.reporting.paper_attributions import lay_card, lay_section

STANDARD = "ua-1"
"""ISO 14289-1: every figure has words, every table headings, headings their order."""


def render_pdf(page: Mapping[str, Any]) -> bytes:
    """Set a composed page (see ``report.compose``) in type. Returns the bytes of the PDF."""
    return compile_paper(lay_out(page), str(page["created"]))


def compile_paper(document: tuple[dict[str, Any], Mapping[str, str]], created: str = "") -> bytes:
    """Compile a document of ``lay_out``; its date is that of the study, so that bytes do not change.

    Where a name has letters that the compiler's own fonts lack, fonts of this machine stand in, and the file no
    longer claims to be PDF/UA: that standard forbids a letter that none of them can show.
    """
    # Not needed to look at the page, and 80 MB large.
    import typst

    data, files = document
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        when = datetime.fromtimestamp(0, UTC)
    stamp = int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        Path(folder, "data.json").write_text(json.dumps(data), encoding="utf-8")
        source = Path(folder, "report.typ")
        source.write_text(read_template("report.typ"), encoding="utf-8")

        def build(system_fonts: bool, standards: list[str]) -> bytes:
            fonts = typst.Fonts(include_system_fonts=system_fonts)
            compiler = typst.Compiler(str(source), root=folder, font_paths=fonts)
            return compiler.compile(format="pdf", pdf_standards=standards, timestamp=stamp)

        try:
            # Fonts that come with the compiler: the same pages on every machine.
            return build(False, [STANDARD])
        except typst.TypstError as error:
            if "could not be displayed" not in str(error):
                raise
            return build(True, [])


def lay_out(page: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Arrange a composed page for paper. Returns (what data.json holds, figure files by name)."""
    first = Paper()
    _first_screen(first, page)
    paper = Paper(files=first.files)
    for part in (_leaderboard, _differences, _curves, _operating, _confusion, _strata, _learning, _agreement):
        part(paper, page)
    for part in (lay_section, _checks, _hypotheses, _data, _quality, _cost, _provenance, _checklist):
        part(paper, page)
    data = {
        "title": f"{page['name']}: oncoarena report",
        "name": page["name"],
        "question": plain(page["question"]),
        "made": page["made"],
        "first": first.items,
        "items": paper.items,
    }
    return data, paper.files


def _first_screen(paper: Paper, page: Mapping[str, Any]) -> None:
    told = page["verdict"]
    paper.text(told["lead"], kind="lead")
    for sentence in told["rest"]:
        paper.text(sentence)
    end = "lowest" if told["metric"].higher_is_better is False else "highest"
    leaders = [look.label for look in told["leaders"]]
    best = {"name": f"{told['metric'].title}, {end}", "value": told.get("estimate", "–"), "of": ""}
    best["lines"] = (
        [
            f"95 % interval {told['interval']}" if told["interval"] else "no interval",
            _names(leaders),
            told["n"],
        ]
        if leaders
        else ["Nothing was evaluated."]
    )
    rivals = {
        "name": f"Not separable from {leaders[0] if leaders else 'it'}",
        "value": str(len(told["rivals"])) if told["n_compared"] else "–",
        "of": f"of {told['n_compared']}" if told["n_compared"] else "",
        "lines": [_names([look.label for look in told["rivals"]])] if told["rivals"] else [],
    }
    found = {
        "name": "Findings of the checks",
        "value": str(told["n_findings"]) if told["n_checks"] else "–",
        "of": f"from {told['n_checks']} checks" if told["n_checks"] else "",
        "lines": [_names(told["codes"], 12)] if told["codes"] else [],
    }
    paper.add("facts", facts=[best, rivals, found])
    if page["flow_figure"]:
        paper.figure(page["flow_figure"], "From the sheet to the verdict")
    paper.text(page["estimand"], kind="quiet")
    endpoint = page["endpoint"]
    if endpoint:
        sealed = f"The endpoint was sealed on {page['sealed']}: {endpoint['threshold_rule']}."
        paper.text(sealed, f"Digest {breakable(endpoint['digest'])}.", kind="quiet")


def _names(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _leaderboard(paper: Paper, page: Mapping[str, Any]) -> None:
    board = page["leaderboard"]
    paper.heading(1, "Leaderboard")
    if not board["table"]:
        paper.text("Nothing was evaluated.")
        return
    paper.figure(board["main"], f"{board['metric'].title}, the primary metric: estimates and 95 % intervals")
    paper.figures([(entry["title"], entry["picture"], "") for entry in board["others"]], 2)
    metrics = board["table"]["metrics"][:BOARD_COLUMNS]
    rows: list[list[str]] = []
    for title, what, entries in board["table"]["groups"]:
        rows.append([f"{title}: {what}" if what else title])
        for name, cells in entries:
            shown = [f"{estimate}\n{span}" if span else estimate for estimate, span in cells[:BOARD_COLUMNS]]
            rows.append([name, *shown])
    headings = ["Hypothesis", *(f"{title}, {end}" if end else title for title, end in metrics)]
    paper.rows("Estimate and 95 % interval of the first metrics", headings, rows, 1)
    if board["titles"]:
        paper.heading(2, "Who is who")
        paper.pairs([(look.label, look.title) for look in board["titles"]])
    for look, reason in board["absent"]:
        paper.text(f"{look.label} is not applicable to this cohort: {reason}")


def _differences(paper: Paper, page: Mapping[str, Any]) -> None:
    section = page["differences"]
    paper.heading(1, "Paired differences")
    if not section["table"]:
        paper.text("No pair was compared: a comparison needs two hypotheses.")
        return
    paper.text(
        "Two hypotheses are compared on the same samples. A filled marker is a separable difference (the interval "
        f"leaves out zero and the Holm-adjusted p is below {section['alpha']}); an open one means that these data "
        "cannot tell the two apart, not that they are equal.",
        kind="guide",
    )
    for entry in section["drawn"]:
        leads = ", which leads," if entry["leads"] else ""
        title = f"{entry['look'].label}{leads} against the others: {section['metric'].title}"
        paper.figure(entry["wide"], title)
    paper.table(section["table"])
    paper.text(section["method"], kind="quiet")


def _curves(paper: Paper, page: Mapping[str, Any]) -> None:
    _panels(paper, page["curves"])


def _learning(paper: Paper, page: Mapping[str, Any]) -> None:
    _panels(paper, page["learning"])
    if page["seeds"]:
        paper.heading(1, "Other seeds")
        paper.text("The same hypotheses trained again on the same samples with other seeds.", kind="guide")
        paper.figure(page["seeds"]["picture"], f"{page['seeds']['metric'].title}: mean and range over seeds")
        paper.table(page["seeds"]["table"])


def _operating(paper: Paper, page: Mapping[str, Any]) -> None:
    section = page["operating"]
    if not section:
        return
    paper.heading(1, "Operating points")
    paper.text(section["method"], kind="guide")
    for entry in section["drawn"]:
        paper.figure(entry["wide"], entry["title"])
    paper.table(section["first"])
    paper.table(section["strata"])
    for look, remark in section["absent"]:
        paper.text(f"{look.label}: {remark}")


def _panels(paper: Paper, found: Sequence[Mapping[str, Any]]) -> None:
    for section in found:
        paper.heading(1, section["curve"].title)
        # On paper nobody moves a pointer.
        paper.text(section["curve"].guide.partition(" Move over")[0], kind="guide")
        panels = section["panels"][:PANELS_MOST]
        paper.figures(
            [(panel["label"], panel["picture"], "") for panel in panels], 2 if len(panels) < 3 else 3
        )
        if len(section["panels"]) > len(panels):
            paper.text(
                f"{len(panels)} of {len(section['panels'])} panels; all are on the page.", kind="quiet"
            )
        paper.legend([look for look, _ in section["boxes"]])


def _confusion(paper: Paper, page: Mapping[str, Any]) -> None:
    section = page["confusion"]
    if not section["drawn"]:
        return
    paper.heading(1, "Confusion matrices")
    paper.text("True classes down, called classes across, counts of samples.", kind="guide")
    drawn = [(entry["look"].label, entry["picture"], "") for entry in section["drawn"]]
    paper.figures(drawn, {"small": 3, "medium": 2}.get(section["size"], 1))


def _strata(paper: Paper, page: Mapping[str, Any]) -> None:
    section = page["strata"]
    if not section["drawn"]:
        return
    paper.heading(1, "Strata")
    paper.figures([(entry["stratum"], entry["picture"], entry["n"]) for entry in section["drawn"]], 2)
    paper.table(section["leaders"])


def _agreement(paper: Paper, page: Mapping[str, Any]) -> None:
    section = page["agreement"]
    if not section["gain_table"] and not section["overlap_table"]:
        return
    paper.heading(1, "Agreement")
    paper.figure(section["gains"])
    paper.table(section["gain_table"])
    paper.figure(section["overlap"], "Errors that two hypotheses share")


def _checks(paper: Paper, page: Mapping[str, Any]) -> None:
    paper.heading(1, "Checks")
    if not page["checks"]:
        paper.text("No check was run.")
    for check in page["checks"]:
        lines = [f"{entry['who']} {entry['detail']}".strip() for entry in check["findings"]]
        others = check["others"]
        one = [f"{others[0]['who']} {others[0]['detail']}".strip()] if len(others) == 1 else [check["tally"]]
        paper.add(
            "outcome",
            code=check["code"],
            title=check["title"],
            word=check["word"],
            finding=check["outcome"] == "finding",
            lines=lines,
            quiet=[*(one if others else []), *([check["meaning"]] if lines and check["meaning"] else [])],
        )


def _hypotheses(paper: Paper, page: Mapping[str, Any]) -> None:
    paper.heading(1, "Hypotheses")
    for card in page["cards"]:
        paper.heading(2, card["id"])
        paper.text(f"{card['look'].role.capitalize()}. {card['look'].title}", kind="guide")
        if not card["trained"]:
            paper.text(f"Not applicable to this cohort: {card['reason']}")
        for title, paragraphs in card["parts"]:
            if title != "Claim":
                paper.heading(3, title)
            for paragraph in paragraphs:
                paper.text(paragraph)
        paper.pairs(card["facts"])
        if card["findings"]:
            paper.heading(3, "What it found")
            paper.pairs(card["findings"])
        lay_card(paper, card["looked"])
        if card["calibration"]:
            paper.heading(3, "Calibration")
            paper.pairs(card["calibration"])
        paper.text(card["calibrated"], kind="quiet")
        if card["errors"]:
            paper.heading(3, "Failure cases")
            paper.text(card["errors"])
            paper.table(card["failures"])
        for title, pairs in (("Data and training", card["training"]), ("Settings", card["config"])):
            if pairs:
                paper.heading(3, title)
                paper.pairs(pairs)


def _data(paper: Paper, page: Mapping[str, Any]) -> None:
    section = page["data"]
    paper.heading(1, "Data and splits")
    paper.text(f"{page['scheme']}. Every hypothesis got the same splits.", kind="guide")
    for stage in page["flow_stages"]:
        left = left_lines(stage, 50)
        if left:
            paper.text(f"Left before {stage['stage']}: " + "; ".join(f"{why}: {n}" for why, n in left) + ".")
    paper.figure(section["picture"])
    paper.table(section["table"])
    for table in section["by_column"]:
        paper.table(table)


def _quality(paper: Paper, page: Mapping[str, Any]) -> None:
    section = page["quality"]
    if not section:
        return
    paper.heading(1, "Data quality")
    paper.text(
        "A dot is a sample, the upright line the median of its row; a diamond is far out: more than three quartile "
        "ranges beyond the quartiles of all samples.",
        kind="guide",
    )
    if section["excluded"]:
        paper.table(section["excluded"])
    elif section["known"]:
        paper.text("No object was excluded.")
    for assay in section["assays"]:
        paper.heading(2, f"{assay['assay'].capitalize()}: {assay['n_read']} read")
        for note in assay["notes"]:
            paper.text(note, kind="quiet")
        if assay["sex"]:
            paper.text(assay["sex"]["told"])
            paper.table(assay["sex"]["table"])
        paper.pairs([(name, f"{value}, the same in every sample") for name, value in assay["constant"]])
        drawn = [
            (
                f"{entry['title']} by {shown['by']}" if shown["by"] else entry["title"],
                shown["picture"],
                entry["far"],
            )
            for entry in assay["drawn"]
            for shown in entry["pictures"][:1]
        ]
        paper.figures(drawn[: 2 * PANELS_MOST], 2)


def _cost(paper: Paper, page: Mapping[str, Any]) -> None:
    paper.heading(1, "Compute cost")
    steps, cost = page["steps"], page["cost"]
    if steps:
        paper.text(f"{steps['total']}, as Snakemake measured its jobs.", kind="guide")
        paper.figure(steps["picture"], "Time of each step, all of its jobs")
        paper.table(steps["table"])
        paper.table(steps["reading"])
    if cost["table"]:
        paper.figure(cost["picture"], "Time of each hypothesis, all of its splits")
        paper.table(cost["table"])
    elif not steps:
        paper.text("Nothing was trained in this study.")


def _provenance(paper: Paper, page: Mapping[str, Any]) -> None:
    section = page["provenance"]
    paper.heading(1, "Provenance")
    if section["command"]:
        paper.heading(2, "To make this report again")
        paper.add("code", text=section["command"])
    for title, lines in section["groups"]:
        paper.heading(2, title)
        paper.pairs(lines)
    paper.heading(2, "Config")
    paper.add("code", text=section["config"])


def _checklist(paper: Paper, page: Mapping[str, Any]) -> None:
    section = page["checklist"]
    paper.heading(1, "Reporting checklist")
    n = section["n"]
    paper.text(
        f"TRIPOD+AI (doi:{section['source']}), each item in our own short words. The run filled {n['filled']} of "
        f"{section['n_items']} items and began {n['begun']}; {n['authors']} it cannot know: they are to be completed "
        "by the authors.",
        kind="guide",
    )
    rows: list[list[str]] = []
    for part in section["parts"]:
        rows.append([part["title"]])
        for entry in part["entries"]:
            answer = plain(entry["answer"])
            told = (
                f"{answer} ({entry['word']})"
                if answer and entry["status"] != "filled"
                else answer or entry["word"]
            )
            rows.append([entry["item"], f"{entry['topic']}. {entry['asks']}", told])
    paper.rows("The checklist, item by item", ["Item", "What it asks", "Answer"], rows, 3)
