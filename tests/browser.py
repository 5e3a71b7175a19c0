"""A real browser for the tests of the report: the one on PATH, offline, always ended."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_browser() -> str | None:
    """Name the first browser on PATH; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def opened(path: Path, **context) -> Iterator[tuple[Page, list[str], list[str]]]:
    """Open a page from its file: (page, what the console and errors said, addresses that were asked for).

    Parameters: ``context`` as of playwright's ``new_context``: viewport, color_scheme, java_script_enabled, ...
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(QUIET))
        try:
            page = browser.new_context(**{"viewport": {"width": 1300, "height": 900}} | context).new_page()
            said: list[str] = []
            asked: list[str] = []
            page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(path.as_uri())
            yield page, said, asked
        finally:
            browser.close()
