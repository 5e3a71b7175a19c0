"""The page: complete in itself, safe, readable without scripts, and true to its tables."""

import base64
import hashlib
import html
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from judged import COMPETITORS, NASTY, Page, further_tables, make_study
from oncoarena.reporting import report
from oncoarena.reporting.glossary import moment
from oncoarena.reporting.report import render_report


@pytest.fixture(scope="module")
def text() -> str:
    return render_report(**make_study(strata=("site=Lund", "site=Nagoya")))


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_page__loads_nothing_from_anywhere(text, page):
    for element in page.elements:
        assert element["tag"] not in {"link", "iframe", "object", "embed", "img", "base", "form"}
        assert not {"src", "srcset", "xlink:href", "action"} & set(element)
        address = element.get("href", "#")
        # A DOI is a link to follow, not something that is loaded.
        assert address.startswith("#") or (
            element["tag"] == "a" and address.startswith("https://doi.org/10.")
        )
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|eval\(|new Function", text)


def test_page__policy_names_the_hashes_of_its_own_script_and_style_and_nothing_more(text, page):
    policy = next(e["content"] for e in page.all("meta") if e.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for tag in ("script", "style"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    for element in page.elements:
        assert not [key for key in element if key == "style" or key.startswith("on")]


def test_page__is_small(text):
    assert len(text.encode()) < 300_000


def test_page__has_one_h1_and_no_heading_skips_a_level(page):
    levels = [int(element["tag"][1]) for element in page.elements if re.fullmatch(r"h[1-6]", element["tag"])]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_page__has_language_landmarks_and_a_skip_link_that_comes_first(page):
    assert page.all("html")[0]["lang"] == "en"
    for tag in ("header", "nav", "main", "footer"):
        assert len(page.all(tag)) == 1
    first = page.all("a")[0]
    assert first["class"] == "skip"
    assert first["href"] == "#verdict"


def test_page__ids_are_unique_and_every_reference_resolves(page):
    ids = [element["id"] for element in page.elements if "id" in element]
    assert len(set(ids)) == len(ids)
    for element in page.elements:
        for key in ("aria-labelledby", "aria-describedby", "for"):
            assert set(element.get(key, "").split()) <= set(ids)
        if element.get("href", "").startswith("#"):
            assert element["href"][1:] in ids


def test_page__sections_come_in_their_order(page):
    found = [e["id"] for e in page.all("section")]
    expected = ["verdict", "leaderboard", "differences", "roc", "calibration", "confusion", "strata"]
    assert found == [*expected, "checks", "hypotheses", "data", "cost", "provenance", "checklist"]


def test_page__every_chart_is_a_titled_svg_in_a_figure_with_a_caption_and_a_table(text, page):
    charts = [e for e in page.all("svg") if e.get("role") == "img"]
    assert len(charts) > 10
    for chart in charts:
        figure = [above for above in chart["above"] if above["tag"] == "figure"]
        assert len(figure) == 1
        inside = {e["tag"] for e in page.elements if any(above is figure[0] for above in e["above"])}
        assert {"figcaption", "table", "details"} <= inside
    drawn = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    for picture in drawn:
        # Only charts stand alone as files; swatches take their namespace from the page.
        root = ET.fromstring(picture if "xmlns" in picture else picture.replace("<svg", '<svg xmlns="s"', 1))
        if root.get("role") == "img":
            assert [child.tag.split("}")[1] for child in root[:2]] == ["title", "desc"]
            assert all(child.text for child in root[:2])
        else:
            assert root.get("aria-hidden") == "true"


def test_page__tables_have_captions_and_scoped_headings_and_scroll_in_their_own_container(page):
    for table in page.all("table"):
        assert any(above.get("class") == "scroll" and above["tabindex"] == "0" for above in table["above"])
        inside = [e for e in page.elements if any(above is table for above in e["above"])]
        assert sum(e["tag"] == "caption" for e in inside) == 1
        assert all(e.get("scope") for e in inside if e["tag"] == "th")


def test_page__first_screen_says_who_leads_by_how_much_and_from_whom_it_is_not_separable(page):
    verdict = " ".join(next(e["text"] for e in page.all("section") if e["id"] == "verdict").split())
    assert (
        "Which hypothesis tells BL, EWS, NB and RMS apart? Primary metric Accuracy; official split."
        in verdict
    )
    assert "Wide and deep leads. It is better than every control." in verdict
    assert "0.950 95 % interval 0.850 to 0.990 wide_deep 20 samples of 20 patients" in verdict
    assert "Not separable from wide_deep 1 of 3 sparse_markers Findings" in verdict
    assert "1 from 3 checks CHK003" in verdict
    assert "80 listed in the sheet 80 patients" in verdict


def test_page__names_every_hypothesis_by_its_id_and_gives_its_title_once_beside_it(text, page):
    for name, title, _ in COMPETITORS:
        told = [e["text"].strip() for e in page.all("div") if title in e["text"] and name in e["text"]]
        assert f"{name}{title}" in told
    # The title is nowhere a label: only the verdict that the study itself gives may say it.
    labels = [e["text"] for tag in ("label", "summary", "h3", "td", "th", "text") for e in page.all(tag)]
    assert not [label for label in labels for _, title, _ in COMPETITORS if title in label]


def test_page__says_when_it_was_made_and_writes_minus_signs(page):
    study = make_study()
    study["study"]["verdict"] = ["Ahead by 0.1 (95 % interval -0.05 to 0.25), cross-validated, p-1."]
    text = render_report(**study)
    assert "interval \N{MINUS SIGN}0.05 to 0.25), cross-validated, p-1." in text
    assert page.all("time")[0]["text"] == "2026-11-20 14:03 UTC"
    del study["study"]["created"]
    assert not Page(render_report(**study)).all("time")


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("2026-11-20", "2026-11-20"),
        ("2026-11-20T14:03", "2026-11-20 14:03"),
        ("2026-11-20T14:03:59+02:00", "2026-11-20 12:03 UTC"),
        ("yesterday", "yesterday"),
    ],
)
def test_moment__is_written_in_utc(given, written):
    assert moment(given) == written


def test_page__numbers_of_the_leaderboard_are_those_of_the_table(page):
    study = make_study()
    board = next(e for e in page.all("table") if e.get("class") == "board")
    for row in study["tables"]["evaluation"].itertuples():
        assert f"{row.estimate:.3f}{row.ci_low:.3f} to {row.ci_high:.3f}" in board["text"]


def test_page__metrics_beyond_the_board_stand_in_a_table_of_their_own():
    study = make_study()
    rows = study["tables"]["evaluation"]
    accuracy = rows[rows["metric"] == "accuracy"]
    more = [accuracy.assign(metric=f"metric_{i:02d}", estimate=i / 100 + 0.001) for i in range(12)]
    study["tables"]["evaluation"] = pd.concat([rows, *more], ignore_index=True)
    page = Page(render_report(**study))
    board = next(e["text"] for e in page.all("table") if e.get("class") == "board")
    further = next(e["text"] for e in page.all("table") if "Further metrics" in e["text"])
    for i in range(12):
        assert (f"Metric {i:02d}" in board) == (i < 7)
        assert (f"Metric {i:02d}{i / 100 + 0.001:.3f}" in further) == (i >= 7)


def test_page__a_hypothesis_that_is_not_applicable_is_named_with_its_reason(page):
    board = next(e["text"] for e in page.all("section") if e["id"] == "leaderboard")
    assert "covariates_only is not applicable to this cohort: needs a covariate" in board
    assert "covariates_only" not in next(e["text"] for e in page.all("table") if e.get("class") == "board")


def test_page__check_boxes_and_menus_have_rules_in_the_style_and_work_without_scripts(text, page):
    style = page.all("style")[0]["text"]
    boxes = [e for e in page.all("input") if e["type"] == "checkbox"]
    assert {box["value"] for box in boxes} == {"k0", "k1", "k2", "k3"}
    for box in boxes:
        assert f'section:has(input[value="{box["value"]}"]:not(:checked)) .curve.{box["value"]}' in style
        assert ("checked" in box) == (box["value"] != "k3")
    for option in page.all("option"):
        if option["value"] != "every":
            assert f'option[value="{option["value"]}"]:checked) .panel:not(.{option["value"]})' in style
            assert f'class="panel {option["value"]}"' in text


def test_page__everything_from_the_data_is_escaped():
    study = make_study(
        classes=(NASTY, "A&B"), competitors=[("wide_deep", NASTY[:24], "claim"), (NASTY, NASTY, "baseline")]
    )
    for key in ("study", "estimand", "command", "created", "primary_metric", "scheme"):
        study["study"][key] = NASTY
    study["study"] |= {
        "verdict": [NASTY, NASTY],
        "config": {NASTY: NASTY},
        "provenance": {NASTY: {NASTY: NASTY}},
    }
    study["study"]["flow"] = [{"stage": NASTY, "n_samples": 1, "n_patients": 1, "note": NASTY}]
    study["tables"]["checks"][["title", "detail"]] = NASTY
    study["samples"]["site"] = [NASTY, "other"] * (len(study["samples"]) // 2)
    for run in study["runs"]:
        run |= {"claim": NASTY, "reason": NASTY, "framework": NASTY, "config": {NASTY: NASTY}}
        run |= {"versions": {NASTY: NASTY}, "digests": {NASTY: NASTY}, "code_digest": NASTY}
        run["splits"][0] |= {"findings": {NASTY: NASTY}, "device": NASTY}
    text = render_report(**study)
    page = Page(text)
    assert len(page.all("script")) == 1
    assert not page.all("b")
    assert "alert('x')" not in text
    assert text.count(html.escape(NASTY).replace("&#x27;", "&#39;")) + text.count(html.escape(NASTY)) > 30
    for picture in re.findall(r"<svg [^>]*xmlns.*?</svg>", text, re.DOTALL):
        ET.fromstring(picture)


def test_page__of_nothing_but_a_sheet_renders():
    study = make_study()
    text = render_report(study["study"], study["samples"], study["splits"], [], {})
    for sentence in (
        "Nothing was evaluated.",
        "No check was run.",
        "No pair was compared",
        "Nothing was trained",
    ):
        assert sentence in text
    Page(text)


def test_page__with_least_of_keys_renders():
    study = make_study()
    keys = ("study", "classes", "primary_metric", "scheme")
    study["study"] = {key: study["study"][key] for key in keys}
    study["runs"] = [{"hypothesis": run["hypothesis"], "role": run["role"]} for run in study["runs"]]
    Page(render_report(**study))


def test_page__one_hypothesis_two_classes_and_no_interval_render():
    study = make_study(classes=("case", "control"), competitors=COMPETITORS[:1])
    study["tables"]["evaluation"][["ci_low", "ci_high"]] = np.nan
    page = Page(render_report(**study))
    assert "no interval" in next(e["text"] for e in page.all("section") if e["id"] == "verdict")


def test_page__estimates_that_are_missing_lead_nothing():
    study = make_study()
    study["tables"]["evaluation"]["estimate"] = np.nan
    assert "Nothing was evaluated." in render_report(**study)


def test_page__a_control_never_leads_and_ties_are_all_named():
    study = make_study()
    evaluation = study["tables"]["evaluation"]
    evaluation["estimate"] = evaluation["hypothesis"].map(
        {"prior_only": 1.0, "wide_deep": 0.8, "sparse_markers": 0.8, "l2_logistic": 0.7}
    )
    page = Page(render_report(**study))
    facts = " ".join(next(e["text"] for e in page.all("dl") if e["class"] == "key-facts").split())
    assert "Accuracy, highest 0.800" in facts
    assert "wide_deep sparse_markers 20 samples" in facts


def test_page__a_loss_is_led_by_the_lowest():
    study = make_study()
    study["study"]["primary_metric"] = "log_loss"
    page = Page(render_report(**study))
    facts = " ".join(next(e["text"] for e in page.all("dl") if e["class"] == "key-facts").split())
    assert "Log loss, lowest 1.050" in facts


def test_page__of_twenty_classes_and_fourteen_hypotheses_stays_below_two_megabytes():
    roles = ["claim"] * 4 + ["baseline"] * 4 + ["external"] * 2 + ["control"] * 4
    study = make_study(
        classes=tuple(f"Carcinoma of organ {i}" for i in range(20)),
        competitors=[(f"hypothesis_{i}", f"Hypothesis {i}", role) for i, role in enumerate(roles)],
        n_test=100,
    )
    assert len(render_report(**study).encode()) < 2_000_000


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_style__text_has_a_contrast_of_4_5_and_marks_one_of_3(scheme):
    """Contrast as WCAG 2.2 defines it."""
    style = Path(report.__file__).with_name("templates").joinpath("report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    block = dict(zip(["light", "dark", "print"], blocks, strict=True))[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", block))
    against = [colours["paper"], colours["wash"]]

    def contrast(name: str) -> float:
        pairs = [sorted((_luminance(colours[name]), _luminance(other))) for other in against]
        return min((high + 0.05) / (low + 0.05) for low, high in pairs)

    for name in ("ink", "soft", "accent"):
        assert contrast(name) >= 4.5, name
    for name in [f"t{i}" for i in range(7)] + ["tb", "tc", "wrong", "right"]:
        assert contrast(name) >= 3, name


@pytest.fixture(scope="module")
def full() -> tuple[str, Page]:
    """The page of a study with every table there is."""
    study = make_study(strata=("site=Lund", "site=Nagoya"))
    study["tables"] |= further_tables()
    text = render_report(**study)
    return text, Page(text)


def test_page__shows_further_tables_where_they_are_given_and_no_trace_where_they_are_not(full, page):
    sections = [e["id"] for e in full[1].all("section")]
    assert sections[sections.index("strata") :][:3] == ["strata", "learning", "seeds"]
    assert sections[sections.index("seeds") + 1 :][:3] == ["agreement", "attributions", "checks"]
    assert sections[sections.index("operating-points") + 1] == "confusion"
    further = {"operating-points", "learning", "seeds", "agreement", "attributions"}
    assert not further & {e["id"] for e in page.all("section")}
    for absent in ("favours", "adds to all others", "Wrong with the most confidence"):
        assert absent in full[0]
        assert absent not in " ".join(e["text"] for e in page.all("main"))
    study = make_study()
    study["tables"] |= {name: table.iloc[:0] for name, table in further_tables().items()}
    assert not further & {e["id"] for e in Page(render_report(**study)).all("section")}


def test_page__with_all_tables_keeps_ids_unique_charts_titled_and_boxes_at_work(full):
    text, page = full
    ids = [element["id"] for element in page.elements if "id" in element]
    assert len(set(ids)) == len(ids)
    for picture in re.findall(r"<svg [^>]*xmlns.*?</svg>", text, re.DOTALL):
        root = ET.fromstring(picture)
        assert set(root.get("aria-labelledby").split()) <= set(ids)
    style = page.all("style")[0]["text"]
    for option in page.all("option"):
        assert option["value"] == "every" or f'option[value="{option["value"]}"]:checked)' in style


def test_page__learning_curves_put_the_primary_metric_first_with_numbers_behind(full):
    section = next(e for e in full[1].all("section") if e["id"] == "learning")
    heads = [e["text"].strip() for e in full[1].all("h3") if any(above is section for above in e["above"])]
    assert heads == ["Accuracy", "Log loss"]
    assert "Accuracywide_deep0.825 (0.775 to 0.875)0.850 (0.800 to 0.900)0.900" in "".join(
        section["text"].split("\n")
    )


def test_page__strata_say_whom_they_favour_and_where_they_cannot(full):
    section = next(e["text"] for e in full[1].all("section") if e["id"] == "strata")
    assert "site=Lundsparse_markerswide_deepno130.900+0.050" in section
    assert "site=Nagoyatoo few to say" in section


def test_page__agreement_gives_gains_and_shared_errors_in_numbers(full):
    section = next(e["text"] for e in full[1].all("section") if e["id"] == "agreement")
    assert "wide_deep+0.1200.040 to 0.2100.0020.004" in section
    assert "wide_deepsparse_markers213200.55" in section
    assert "wide_deepprior_only30920\N{EN DASH}" in section


def test_page__says_in_words_and_numbers_whether_claims_look_at_the_same_features(full):
    section = next(e for e in full[1].all("section") if e["id"] == "attributions")
    words = " ".join(section["text"].split())
    assert "need not be what causes cancer" in words
    assert (
        "Of their top 20 features in expression, wide_deep and sparse_markers share 9, more than the 4 of chance. "
        "The control prior_only shares 3 with wide_deep."
    ) in words
    assert "wide_deepsparse_markers940.0040.0080.620.010" in section["text"].replace("\n", "")
    study = make_study()
    study["tables"] |= further_tables()
    study["tables"]["attribution_agreement"].loc[1, "overlap"] = 0
    assert "the 4 of chance. No control shares any with a claim." in render_report(**study)
    inside = [e for e in full[1].all("figure") if any(above is section for above in e["above"])]
    assert len(inside) == 2
