"""How each hypothesis looks: one colour, one pattern of dashes and one marker in every picture."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from oncoarena.reporting import svg
from oncoarena.reporting.glossary import role_rank

_N_TONES = 7
_GREYS = {"baseline": "tb", "control": "tc", "reference": "tc"}
_DASHES = (None, "8 4", "2 3", "9 3 2 3", "14 4", "5 2 1 2 1 2", "1 4")


@dataclass(frozen=True)
class Series:
    """How one hypothesis is drawn, the same in every picture: key class, tone, dashes and marker."""

    hypothesis: str
    title: str
    """Its title in words; pictures and tables name it by ``label``, so that a name is one name everywhere."""
    role: str
    key: str
    """Class of all its marks, by which the page shows and hides them."""
    tone: str
    """Class that gives the colour: ``t0`` to ``t6``, ``tb`` for baselines, ``tc`` for controls."""
    dash: str | None
    marker: str

    @property
    def label(self) -> str:
        """Its name in pictures and tables: the id; of a reference line the id in plain words."""
        return self.hypothesis.replace("_", " ") if self.role == "reference" else self.hypothesis

    @property
    def naming(self) -> str:
        """Its name with the title, where that says more: for what is shown on hover."""
        return f"{self.label}: {self.title}" if self.title not in ("", self.label) else self.label

    @property
    def anchor(self) -> str:
        """Where its card is on the page: by its id where that can stand in an address."""
        plain = re.fullmatch(r"[\w.-]+", self.hypothesis, re.ASCII)
        return f"hypothesis-{self.hypothesis}" if plain else f"card-{self.key}"

    @property
    def classes(self) -> str:
        """Classes of a group of its marks."""
        return f"{self.key} {self.tone}"

    @property
    def marker_class(self) -> str:
        """Class of its marker: filled for claims and external models, else open."""
        return "open" if self.role in _GREYS else "solid"


def assign_series(hypotheses: Iterable[tuple[str, str, str]]) -> dict[str, Series]:
    """Give each (hypothesis, title, role) its look; claims and external models get the colours.

    Baselines and controls stay grey and are told apart by dashes and markers.
    Returns a dict in reading order of the roles, within a role in the order given.
    """
    ordered = sorted(hypotheses, key=lambda entry: role_rank(entry[2]))
    n_coloured = n_grey = 0
    series: dict[str, Series] = {}
    for i, (hypothesis, title, role) in enumerate(ordered):
        if role in _GREYS:
            n_grey += 1
            tone, nth = _GREYS[role], n_grey
        else:
            tone, nth = f"t{n_coloured % _N_TONES}", n_coloured
            n_coloured += 1
        # A second round of the colours shifts dashes and markers, so no two lines look the same.
        look = nth + nth // _N_TONES
        dash, shape = _DASHES[look % len(_DASHES)], svg.MARKERS[look % len(svg.MARKERS)]
        series[hypothesis] = Series(hypothesis, title, role, f"k{i}", tone, dash, shape)
    return series


def swatch(series: Series) -> str:
    """Draw the sample of line and marker that stands beside a hypothesis's name (hidden from readers)."""
    return svg.element(
        "svg",
        svg.line(1, 7, 29, 7, class_="line", stroke_dasharray=series.dash),
        svg.marker(series.marker, 15, 7, 4, class_=series.marker_class),
        viewBox="0 0 30 14",
        width=30,
        height=14,
        class_=f"swatch {series.tone}",
        aria_hidden="true",
    )
