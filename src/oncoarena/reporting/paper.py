"""What the report says on paper: the sections of the page as a list of plain items and figure files.

Nothing is computed or worded anew: headings, sentences, tables and figures are those of the page, in its order.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from oncoarena.reporting import gallery
from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.series import Series

ROWS_MOST = 60
"""The most rows of a table on paper; the page and the export have them all."""

PANELS_MOST = 12
"""The most panels of one section."""

BOARD_COLUMNS = 6
_COLUMNS_MOST = 9
_LONG_WORD = 18


@dataclass
class Paper:
    """Items of the document in order, and the figure files that they name."""

    items: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, **content: Any) -> None:
        """Add an item."""
        self.items.append({"kind": kind, **content})

    def heading(self, level: int, text: str) -> None:
        """Begin a section (1), a part of it (2) or a part of that (3)."""
        self.add("heading", level=level, text=plain(text))

    def text(self, *sentences: object, kind: str = "text") -> None:
        """Add a paragraph, unless there is nothing to say."""
        told = " ".join(plain(sentence) for sentence in sentences if sentence)
        if told:
            self.add(kind, text=told)

    def pairs(self, pairs: Sequence[tuple[object, object]]) -> None:
        """Add names with their values."""
        if pairs:
            self.add(
                "pairs", pairs=[[breakable(plain(name)), breakable(plain(value))] for name, value in pairs]
            )

    def figure(self, picture: Any, caption: str = "") -> None:
        """Add a picture that spans the text; of two widths the wide one."""
        if picture:
            drawn = picture["wide"] if isinstance(picture, Mapping) else picture
            self.add("figure", caption=plain(caption), **self._file(drawn))

    def figures(self, pictures: Sequence[tuple[str, Any, str]], n_columns: int) -> None:
        """Add small pictures side by side: (title, picture, words below)."""
        if pictures:
            most = (170.0 - 5.0 * (n_columns - 1)) / n_columns
            drawn = [
                {"title": plain(title), "below": plain(below), "most": most, **self._file(picture)}
                for title, picture, below in pictures
            ]
            self.add("figures", figures=drawn, n_columns=n_columns)

    def legend(self, looks: Sequence[Series]) -> None:
        """Add what each colour and line stands for."""
        if looks:
            text, width = gallery.legend(looks, 780.0)
            names = ", ".join(look.label for look in looks)
            self.add("figure", caption="", file=self._keep(text), alt=f"Legend: {names}", width=width)

    def table(self, table: DataTable | None) -> None:
        """Add a table; of a long one its first rows, of a wide one its first columns, and say so."""
        if table is None or not table.rows:
            return
        headings = list(table.headings)[:_COLUMNS_MOST]
        left_out = []
        if len(table.rows) > ROWS_MOST:
            left_out.append(f"the first {ROWS_MOST} of {len(table.rows)} rows")
        if len(table.headings) > len(headings):
            left_out.append(f"{len(headings)} of {len(table.headings)} columns")
        note = f" ({' and '.join(left_out)}; the others are in the page and the export)" if left_out else ""
        rows = [[breakable(plain(cell)) for cell in row[: len(headings)]] for row in table.rows[:ROWS_MOST]]
        self.rows(plain(table.caption) + note, headings, rows, table.n_text)

    def rows(self, caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]], n_text: int) -> None:
        """Add a table as it is; a row of one cell is a heading among the rows."""
        longest = [
            max((len(row[i]) for row in rows if len(row) > 1), default=0) for i in range(len(headings))
        ]
        self.add(
            "table",
            caption=caption,
            headings=[breakable(plain(heading)) for heading in headings],
            rows=rows,
            n_text=n_text,
            columns=["words" if n > 34 else "fit" for n in longest],
            size=8.5 if len(headings) <= 7 else 7.5,
        )

    def _file(self, picture: str) -> dict[str, Any]:
        text, said, width = gallery.bare(str(picture))
        return {"file": self._keep(text), "alt": said, "width": width}

    def _keep(self, text: str) -> str:
        name = f"figure-{len(self.files):03d}.svg"
        self.files[name] = text
        return name


def plain(text: object) -> str:
    """Write text without markup."""
    return str(Markup(text).striptags()) if isinstance(text, Markup) else str(text)


def breakable(text: str) -> str:
    """Let long words such as digests and paths break at the end of a line."""

    def divide(found: re.Match) -> str:
        word = re.sub(r"([/_.:,=-])(?=\w)", "\\1\N{ZERO WIDTH SPACE}", found[0])
        return re.sub(r"(\w{16})(?=\w{6})", "\\1\N{ZERO WIDTH SPACE}", word)

    return re.sub(rf"\S{{{_LONG_WORD},}}", divide, text)
