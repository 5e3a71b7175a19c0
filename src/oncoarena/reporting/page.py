"""Turn sections into a page that is complete in itself: its style and script inside, nothing loaded.

Every text from the data is escaped; the page's policy lets no style apply and no script run but its own,
each named by its hash.
"""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from oncoarena.reporting.series import swatch

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, sections: Mapping[str, Any], *, rules: str = "", script: str = "") -> str:
    """Fill a template of the report's visual language.

    Parameters: ``rules`` are style rules that belong to this page alone; ``script`` is the file name of
    its script, "" for none. Returns the HTML text.
    """
    style = "\n".join([read_template("report.css"), read_template("figure.css"), rules])
    code = read_template(script) if script else ""
    allowed = f"script-src {_hash(code)}; " if code else ""
    return (
        _environment()
        .get_template(template)
        .render(
            **sections,
            style=Markup(style),
            script=Markup(code),
            policy=f"default-src 'none'; style-src {_hash(style)}; {allowed}base-uri 'none'; form-action 'none'",
        )
    )


def read_template(name: str) -> str:
    """Read a style sheet or script of the report."""
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


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


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
