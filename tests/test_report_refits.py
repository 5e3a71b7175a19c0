"""The page of what was trained again: operating points, other seeds, the sealed endpoint."""

import pytest

from judged import Page, further_tables, make_study
from oncoarena.reporting.report import render_report


@pytest.fixture(scope="module")
def page() -> Page:
    study = make_study(strata=("site=Lund", "site=Nagoya"))
    study["tables"] |= further_tables()
    return Page(render_report(**study))


def test_page__operating_points_show_the_named_one_first_and_tell_where_thresholds_came_from(page):
    section = next(e["text"] for e in page.all("section") if e["id"] == "operating-points")
    assert "Named before the run: a specificity of 95\N{NO-BREAK SPACE}%" in section
    first = section.index("Aimed at a specificity of 95\N{NO-BREAK SPACE}%")
    row = "wide_deepspecificity 95\N{NO-BREAK SPACE}%"
    row += "0.500 (0.400 to 0.600)80700.9880.950 (0.920 to 0.970)0.900 to 0.990"
    lines = section.replace("\n", "")
    assert row + "0.900 (0.800 to 0.950)0.700 to 1.0000.300 (0.100 to 0.600)" in lines
    assert (
        first < section.index("Every operating point") < section.index("The same thresholds in each stratum")
    )
    assert "wide_deepspecificity 99\N{NO-BREAK SPACE}%none" in lines
    needed = "needs 99 negative training samples; a training part has 80."
    assert f"A specificity of 99\N{NO-BREAK SPACE}% {needed}" in lines
    assert "site=Lundwide_deep400.950" in lines
    assert "l2_logistic has no thresholds: needs 3 patients of every label" in lines


def test_page__other_seeds_give_range_and_changed_calls(page):
    section = next(e["text"] for e in page.all("section") if e["id"] == "seeds")
    assert "wide_deepAccuracy30.8100.800 to 0.8200.01003.0%" in section.replace("\n", "")


def test_page__endpoint_is_told_with_the_time_it_was_sealed():
    study = make_study()
    study["study"]["endpoint"] = {
        "sealed": "2026-11-20T10:00:00+00:00",
        "threshold_rule": "by a rule",
        "digest": "sha256:12",
    }
    page = Page(render_report(**study))
    told = next(e["text"] for e in page.all("section") if e["id"] == "verdict")
    assert "The endpoint was sealed on 2026-11-20 10:00 UTC: by a rule. Digest sha256:12." in told
    checklist = next(e["text"] for e in page.all("section") if e["id"] == "checklist")
    assert "A probability for each class; by a rule." in checklist


def test_page__a_named_level_that_is_out_of_reach_gives_way_to_the_nearest_one():
    study = make_study()
    study["tables"] |= further_tables()
    study["study"]["specificity"] = 0.99
    page = Page(render_report(**study))
    section = next(e["text"] for e in page.all("section") if e["id"] == "operating-points")
    assert (
        "for which the training parts are too small; shown is the nearest that they can tell, 95" in section
    )
    points = study["tables"]["operating_points"]
    study["tables"]["operating_points"] = points[points["level"] != 0.95]
    page = Page(render_report(**study))
    section = next(e for e in page.all("section") if e["id"] == "operating-points")
    assert "Every operating point" in section["text"]
    assert not [e for e in page.all("svg") if any(above is section for above in e["above"])]
