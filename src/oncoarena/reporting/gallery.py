"""The report's figures as files that open alone: title, legend and colours inside each."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oncoarena.reporting import svg
from oncoarena.reporting.page import read_template
from oncoarena.reporting.series import Series

_PARTS = re.compile(
    r"<svg(?P<attributes>[^>]*)><title[^>]*>(?P<title>.*?)</title><desc[^>]*>(?P<desc>.*?)</desc>(?P<marks>.*)</svg>",
    re.DOTALL,
)
_MARGIN, _HEAD, _LEGEND_ROW = 16.0, 30.0, 20.0
_SEE_TABLE = "The numbers are in the table of this section."


@dataclass(frozen=True)
class Figure:
    """One figure of the page: its name as a file, its SVG, and whom its lines belong to."""

    name: str
    picture: str
    legend: tuple[Series, ...] = ()
    """Hypotheses that only colour and dashes tell; empty where the figure names them itself."""

    @property
    def title(self) -> str:
        """Its title in words."""
        return html.unescape(_PARTS.fullmatch(self.picture)["title"])


def collect(page: Mapping[str, Any]) -> list[Figure]:
    """List the figures of a composed page in its order, each once, at its widest."""
    found: list[Figure] = []
    board = page["leaderboard"]
    if board["main"]:
        found.append(Figure(f"leaderboard-{board['primary']}", board["main"]["wide"]))
    found += [Figure(f"leaderboard-{entry['key']}", entry["picture"]) for entry in board["others"]]
    for entry in page["differences"]["drawn"]:
        found.append(Figure(f"differences-{entry['look'].hypothesis}", entry["wide"]))
    found += [
        Figure(f"operating-{entry['key']}", entry["wide"]) for entry in page["operating"].get("drawn", [])
    ]
    if page["seeds"]:
        found.append(Figure("seeds", page["seeds"]["picture"]["wide"]))
    for section in [*page["curves"], *page["learning"]]:
        legend = tuple(look for look, _ in section["boxes"])
        found += [
            Figure(f"{section['id']}-{panel['label']}", panel["picture"], legend)
            for panel in section["panels"]
        ]
    for entry in page["confusion"]["drawn"]:
        found.append(Figure(f"confusion-{entry['look'].hypothesis}", entry["picture"]))
    found += [Figure(f"stratum-{entry['stratum']}", entry["picture"]) for entry in page["strata"]["drawn"]]
    if page["agreement"]["gains"]:
        found.append(Figure("added-value", page["agreement"]["gains"]["wide"]))
    if page["agreement"]["overlap"]:
        found.append(Figure("overlap", page["agreement"]["overlap"]))
    for entry in page["attributions"].get("tracks", []):
        found.append(Figure(f"genome-{entry['block']}", entry["picture"]["wide"]))
    for entry in page["attributions"].get("agreements", []):
        if entry["picture"]:
            found.append(Figure(f"shared-features-{entry['block']}", entry["picture"]))
    for card in page["cards"]:
        if card["looked"].get("picture"):
            found.append(Figure(f"looked-at-{card['id']}", card["looked"]["picture"]["wide"]))
    if page["flow_figure"]:
        found.append(Figure("flow", page["flow_figure"]["wide"]))
    for assay in page["quality"].get("assays", []):
        for entry in assay["drawn"]:
            for shown in entry["pictures"]:
                name = f"quality-{assay['assay']}-{entry['measure']}"
                found.append(Figure(f"{name}-by-{shown['by']}" if shown["by"] else name, shown["picture"]))
    if page["steps"]:
        found.append(Figure("steps", page["steps"]["picture"]["wide"]))
    for key in ("data", "cost"):
        if page[key]["picture"]:
            found.append(Figure(key, page[key]["picture"]["wide"]))
    return _name_apart(found)


def _name_apart(found: Sequence[Figure]) -> list[Figure]:
    """Turn names into plain file names, no two alike whatever the case."""
    taken: set[str] = set()
    named = []
    for figure in found:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", figure.name).strip("._") or "figure"
        name, n = stem, 1
        while name.lower() in taken:
            n += 1
            name = f"{stem}-{n}"
        taken.add(name.lower())
        named.append(Figure(name, figure.picture, figure.legend))
    return named


def standalone(figure: Figure) -> str:
    """Write a figure as a file of its own: light colours and style embedded, title above, legend below."""
    parts = _PARTS.fullmatch(figure.picture)
    width, height = (float(value) for value in re.search(r'viewBox="0 0 (\S+) (\S+)"', parts[1]).groups())
    class_ = re.search(r'class="([^"]*)"', parts["attributes"])[1]
    legend, columns_width, legend_height = _legend(figure.legend, width)
    title_width = 1.1 * svg.text_width(html.unescape(parts["title"]), 15)
    full = max(width, columns_width, min(title_width, 520.0)) + 2 * _MARGIN
    size = min(15.0, 15.0 * (full - 2 * _MARGIN) / max(title_width, 1.0))
    body = [
        svg.element("style", _style()),
        svg.element("rect", width="100%", height="100%", class_="paper"),
        svg.element("text", parts["title"], x=_MARGIN, y=_MARGIN + 13, font_weight="600", font_size=size),
        svg.element(
            "g", parts["marks"], transform=f"translate({svg.number(_MARGIN)} {svg.number(_MARGIN + _HEAD)})"
        ),
        svg.element(
            "g",
            legend,
            transform=f"translate({svg.number(_MARGIN)} {svg.number(_MARGIN + _HEAD + height + 8)})",
        )
        if legend
        else "",
    ]
    total = _HEAD + height + (legend_height + 8 if legend else 0) + 2 * _MARGIN
    text = svg.element(
        "svg",
        svg.element("title", parts["title"], id="title"),
        svg.element(
            "desc",
            parts["desc"].replace(f" {_SEE_TABLE}", ""),
            id="description",
        ),
        *body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {svg.number(full)} {svg.number(total)}",
        width=full,
        height=total,
        role="img",
        class_=class_,
        aria_labelledby="title description",
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def bare(picture: str) -> tuple[str, str, float]:
    """Write a picture of the page as a file for a document that has its own titles: style embedded, nothing added.

    Returns (SVG text, what it shows in words, width in pixels).
    """
    parts = _PARTS.fullmatch(picture)
    width, height = re.search(r'viewBox="0 0 (\S+) (\S+)"', parts["attributes"]).groups()
    class_ = re.search(r'class="([^"]*)"', parts["attributes"])[1]
    text = _file([svg.element("style", _style()), parts["marks"]], float(width), float(height), class_)
    said = f"{parts['title']}. {parts['desc'].replace(_SEE_TABLE, '').strip()}"
    return text, html.unescape(said), float(width)


def legend(looks: Sequence[Series], width: float) -> tuple[str, float]:
    """Draw the looks of hypotheses as a file of its own. Returns (SVG text, width in pixels)."""
    marks, across, down = _legend(looks, width)
    across = max(across, width)
    return _file([svg.element("style", _style()), marks], across, down + 4, "chart"), across


def _file(body: Sequence[str], width: float, height: float, class_: str) -> str:
    return svg.element(
        "svg",
        *body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {svg.number(width)} {svg.number(height)}",
        width=width,
        height=height,
        class_=class_,
    )


def _legend(looks: Sequence[Series], width: float) -> tuple[str, float, float]:
    """Lay out the hypotheses of a curve panel in columns: (markup, width, height)."""
    if not looks:
        return "", 0.0, 0.0
    column = max(svg.text_width(look.label, 12) for look in looks) + 56
    n_columns = max(1, min(len(looks), int(max(width, 520.0) // column)))
    marks = []
    for i, look in enumerate(looks):
        x, y = i % n_columns * column, i // n_columns * _LEGEND_ROW
        line = svg.line(x + 1, y + 9, x + 29, y + 9, class_="line", stroke_dasharray=look.dash)
        dot = svg.marker(look.marker, x + 15, y + 9, 4, class_=look.marker_class)
        marks.append(svg.element("g", line, dot, class_=look.tone))
        marks.append(svg.text(x + 38, y + 13, look.label, font_size=12))
    return "".join(marks), n_columns * column, -(-len(looks) // n_columns) * _LEGEND_ROW


def _style() -> str:
    """Fill the light palette into the style of the figures: a file has no page to take colours from."""
    palette = dict(re.findall(r"--([\w-]+): ([^;]+);", read_template("report.css").partition("}")[0]))
    rules = re.sub(r"/\*.*?\*/", "", read_template("figure.css")) + "\nsvg .paper { fill: var(--paper); }"
    while "var(" in rules:
        rules = re.sub(r"var\(--([\w-]+)\)", lambda found: palette[found[1]], rules)
    # Scripts and pointers that some of these rules serve are not in a file.
    return "\n".join(
        line for line in rules.strip().split("\n") if ":hover" not in line and ".cross" not in line
    )
