"""The report in a real browser: it loads nothing, draws everything and answers to keyboard, theme, width and paper."""

import re
from itertools import pairwise

import pytest

from browser import find_browser, opened
from full_study import make_full_study
from oncoarena.reporting.report import render_report

pytestmark = pytest.mark.browser

CONTRAST = """
() => {
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let n = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("svg, script, .skip")) continue;
    const colours = [parse(getComputedStyle(node).color), behind(node)];
    const [one, other] = colours.map(luminance).sort((a, b) => b - a);
    n += 1;
    if ((one + 0.05) / (other + 0.05) < 4.5)
      bad.push(`${node.tagName}.${node.className}: ${walker.currentNode.data.trim()}`);
  }
  return { n, bad };
}
"""
"""Contrast of every visible text against what is behind it, as WCAG 2.2 computes it."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    assert find_browser(), (
        "no browser on PATH: install Debian's package chromium, or run: pytest -m 'not browser'"
    )
    path = tmp_path_factory.mktemp("browser") / "report.html"
    path.write_text(render_report(**make_full_study()), encoding="utf-8")
    return path


def test_browser__opens_the_report_without_an_error_and_asks_for_nothing_else(report):
    with opened(report) as (page, said, asked):
        page.locator("footer").scroll_into_view_if_needed()
        for summary in page.locator("details:not([open]) > summary").all():
            if summary.is_visible():
                summary.click()
        page.mouse.move(600, 400)
        page.wait_for_timeout(100)
        assert page.title() == "srbct: oncoarena report"
    assert said == []
    assert asked == [report.as_uri()]


def test_browser__policy_blocks_what_a_name_might_smuggle_in(report, tmp_path):
    forged = tmp_path / "forged.html"
    smuggled = "<img src='https://example.invalid/x.png'><script>document.title = 'taken'</script>"
    forged.write_text(
        report.read_text(encoding="utf-8").replace("<footer>", smuggled + "<footer>"), encoding="utf-8"
    )
    with opened(forged) as (page, said, _):
        assert page.title() == "srbct: oncoarena report"
        assert page.locator("img").evaluate("image => image.naturalWidth") == 0
    assert any("Content Security Policy" in line for line in said)


@pytest.mark.parametrize("width", [1300, 390])
def test_browser__draws_every_figure_and_no_text_leaves_its_picture(report, width):
    with opened(report, viewport={"width": width, "height": 900}) as (page, _, _):
        page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        boxes = page.evaluate(
            """() => [...document.querySelectorAll('svg[role=img]')].filter(chart => chart.checkVisibility())
              .map(chart => {
                const box = chart.getBoundingClientRect(), marks = [...chart.querySelectorAll('text')];
                const out = marks.filter(mark => {
                  const at = mark.getBoundingClientRect(), sides = [box.left - at.left, at.right - box.right];
                  return at.width && Math.max(...sides, at.bottom - box.bottom) > 3;
                });
                const name = chart.getAttribute('aria-label');
                return [name, box.width, box.height, chart.children.length, out.map(mark => mark.textContent)];
              })"""
        )
    assert len(boxes) > 30
    for name, across, down, n_marks, outside in boxes:
        assert across > 100, name
        assert down > 40, name
        assert n_marks > 1, name
        assert outside == [], name


def test_browser__first_tab_reaches_the_skip_link_which_leads_to_the_verdict(report):
    with opened(report) as (page, _, _):
        page.keyboard.press("Tab")
        skip = page.locator(":focus")
        assert skip.inner_text() == "Skip to the verdict"
        assert skip.evaluate("link => link.getBoundingClientRect().top") >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "verdict"


def test_browser__tab_reaches_all_that_can_be_used_in_reading_order_with_focus_to_be_seen(report):
    with opened(report) as (page, _, _):
        reached = []
        for _ in range(400):
            page.keyboard.press("Tab")
            found = page.evaluate(
                """() => {
                  const at = document.activeElement, style = getComputedStyle(at);
                  if (at === document.body) return null;
                  const box = at.getBoundingClientRect();
                  return [at.tagName, at.value || at.textContent.trim().slice(0, 30), box.top + scrollY,
                          parseFloat(style.outlineWidth) >= 2 && style.outlineStyle !== 'none', !!at.closest('main')];
                }"""
            )
            if found is None:
                break
            reached.append(found)
        usable = page.evaluate(
            """() => [...document.querySelectorAll('a[href], summary, input, select, [tabindex="0"]')]
                 .filter(it => it.checkVisibility()).length"""
        )
    assert len(reached) == usable
    assert {"A", "SUMMARY", "INPUT", "SELECT", "DIV"} <= {tag for tag, *_ in reached}
    assert all(seen for *_, seen, _ in reached), [entry for entry in reached if not entry[3]]
    tops = [top for _, _, top, _, inside in reached if inside]
    assert all(after >= before - 60 for before, after in pairwise(tops))


def test_browser__space_hides_a_claim_in_all_sections_and_enter_opens_a_fold(report):
    with opened(report) as (page, said, _):
        box = page.locator("#roc .keys input").first
        key = box.get_attribute("value")
        curves = page.locator(f"#roc .curve.{key}, #calibration .curve.{key}")
        shown = [curve.is_visible() for curve in curves.all()]
        assert all(shown)
        assert len(shown) == 8
        box.focus()
        page.keyboard.press("Space")
        assert not any(curve.is_visible() for curve in curves.all())
        assert page.locator("#roc .curve.k1").first.is_visible()
        page.keyboard.press("Space")
        assert all(curve.is_visible() for curve in curves.all())
        fold = page.locator("#roc details").last
        fold.locator("summary").focus()
        page.keyboard.press("Enter")
        assert fold.locator("table").is_visible()
    assert said == []


def test_browser__menu_leaves_one_panel_and_hover_reads_the_curves(report):
    with opened(report) as (page, _, _):
        page.locator("#roc select").select_option(label="NB")
        panels = page.locator("#roc .panel")
        assert [panel.is_visible() for panel in panels.all()] == [False, False, True, False]
        chart = page.locator("#roc .panel svg >> visible=true").first
        chart.hover()
        assert re.match(
            r"False-positive rate 0\.\d\d\n(\d\.\d\d +\w+\n?){3}$", page.locator(".tip").inner_text()
        )


def test_browser__table_of_samples_can_be_searched(report):
    with opened(report) as (page, _, _):
        fold = page.locator("#quality details.search")
        fold.locator("summary").click()
        field = fold.get_by_label("Find in this table")
        field.fill("lund GC slope")
        rows = fold.locator("tbody tr >> visible=true")
        assert [row.inner_text().split("\t")[0] for row in rows.all()] == ["s7"]
        assert fold.locator("[role=status]").inner_text() == "1 of 80 rows"
        field.fill("")
        assert rows.count() == 80


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser__every_text_has_a_contrast_of_4_5(report, scheme):
    with opened(report, color_scheme=scheme) as (page, _, _):
        page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        measured = page.evaluate(CONTRAST)
        paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 200) == (scheme == "dark")
    assert measured["n"] > 500
    assert measured["bad"] == []


@pytest.mark.parametrize("width", [390, 768, 1300])
def test_browser__page_never_scrolls_sideways(report, width):
    with opened(report, viewport={"width": width, "height": 844}) as (page, _, _):
        page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_browser__without_scripts_all_is_there_and_boxes_still_work(report):
    with opened(report, java_script_enabled=False) as (page, _, _):
        assert page.locator("#leaderboard table").first.is_visible()
        box = page.locator("#roc .keys input").first
        box.uncheck()
        assert not page.locator(f"#roc .curve.{box.get_attribute('value')}").first.is_visible()


def test_browser__prints_in_light_colours_without_controls_and_with_the_whole_checklist(report):
    with opened(report, color_scheme="dark") as (page, _, _):
        page.emulate_media(media="print", color_scheme="dark")
        assert (
            page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            == "rgb(255, 255, 255)"
        )
        for hidden in ("nav", ".skip", ".pick"):
            assert not page.locator(hidden).first.is_visible()
        assert page.locator("#checklist .items li").last.is_visible()
        printed = page.pdf(format="A4")
    pages = len(re.findall(rb"/Type\s*/Page\b", printed))
    assert 5 <= pages <= 40
