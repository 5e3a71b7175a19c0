"""How hypotheses are told apart in pictures and named on the page."""

from oncoarena.reporting import figures
from oncoarena.reporting.series import assign_series, swatch
from test_figures import NS, WORDS, by_class, evaluation, parse, texts


def test_assign_series__no_two_are_told_apart_by_colour_alone():
    roles = ["claim"] * 12 + ["baseline"] * 6 + ["external"] * 3 + ["control"] * 6 + ["reference"]
    series = assign_series([(f"h{i}", f"H {i}", role) for i, role in enumerate(roles)])
    assert len(series) == len(roles)
    assert len({(s.dash, s.marker, s.marker_class) for s in series.values()}) == len(roles)
    assert len({s.key for s in series.values()}) == len(roles)
    assert (
        parse(swatch(series["h0"]).replace("<svg", f'<svg xmlns="{NS[1:-1]}"')).get("aria-hidden") == "true"
    )


def test_assign_series__labels_are_ids_and_titles_are_read_on_hover():
    series = assign_series(
        [("deep", "A deep net", "claim"), ("bare", "", "claim"), ("treat_all", "", "reference")]
    )
    assert [look.label for look in series.values()] == ["deep", "bare", "treat all"]
    assert [look.naming for look in series.values()] == ["deep: A deep net", "bare", "treat all"]
    root = parse(
        figures.interval_plot(evaluation([("deep", 0.5, 0.4, 0.6)]), series, metric_key="accuracy", **WORDS)
    )
    assert "deep" in texts(root)
    assert by_class(root, "mark")[0].find(f"{NS}title").text.startswith("deep: A deep net\n")


def test_assign_series__anchor_is_the_id_where_an_address_can_hold_it():
    series = assign_series([("wide_deep", "", "claim"), ("a paper's <model>", "", "external")])
    assert [look.anchor for look in series.values()] == ["hypothesis-wide_deep", "card-k1"]
