"""Model cards and the leaderboard for the terminal."""

import numpy as np
import pandas as pd
import pytest

from judged import CLAIM, NASTY, Page, further_tables, make_study
from oncoarena.reporting import cards
from oncoarena.reporting.leaderboard import WIDTH, leaderboard
from oncoarena.reporting.report import render_report


@pytest.fixture(scope="module")
def text() -> str:
    return render_report(**make_study(strata=("site=Lund", "site=Nagoya")))


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def words_of(page: Page, hypothesis: str) -> str:
    card = next(e for e in page.all("article") if e["id"] == f"hypothesis-{hypothesis}")
    return " ".join(card["text"].split())


def test_card__gives_data_training_score_and_cost(page):
    card = words_of(page, "wide_deep")
    assert card.startswith("wide_deep claim Wide and deep The signal is additive")
    for words in (
        "Accuracy 0.950 (0.850 to 0.990) Framework numpy Device cpu Time 12 s Peak memory 1.5 GB",
        "n markers 34 genes FGFR4",
        "Samples trained on, each split60 Samples tested on, each split20 Splits1 Seed7 Digest of its codesha256:ef",
        "Settings penalty0.01",
    ):
        assert words.replace(" ", "") in card.replace(" ", "")
    absent = words_of(page, "covariates_only")
    assert "Not applicable to this cohort: needs a covariate" in absent
    assert "trained on" not in absent


def test_card__summarises_calibration_with_what_the_check_found():
    study = make_study()
    rows = study["tables"]["evaluation"]
    slope = rows.iloc[[0]].assign(metric="calibration_slope", estimate=0.7, ci_low=0.5, ci_high=0.9)
    study["tables"]["evaluation"] = pd.concat([rows, slope], ignore_index=True)
    study["tables"]["checks"].loc[len(study["tables"]["checks"])] = (
        "CHK008", "Miscalibrated", "wide_deep", "finding", "z = -3.8: underconfident."
    )  # fmt: skip
    page = Page(render_report(**study))
    card = words_of(page, "wide_deep")
    assert "Calibration slope0.700 (0.500 to 0.900) Log loss1.050 (0.950 to 1.090)" in card.replace(
        "slope 0", "slope0"
    )
    assert "CHK008 finding: z = \N{MINUS SIGN}3.8: underconfident." in card
    assert "CHK008" not in words_of(page, "sparse_markers")


def test_card__names_the_most_frequent_confusions():
    study = make_study(classes=("a", "b", "c"))
    cells = [("a", "a", 9), ("a", "b", 4), ("b", "a", 1.5), ("c", "a", 2), ("c", "b", 1), ("b", "b", 0)]
    study["tables"]["confusion"] = pd.DataFrame(
        [("wide_deep", *cell) for cell in cells] + [("prior_only", "a", "a", 3)],
        columns=["hypothesis", "label", "predicted", "n_samples"],
    )
    page = Page(render_report(**study))
    told = (
        "8.5 of 17.5 test samples called wrong: a called b (4), c called a (2), b called a (1.5), and others."
    )
    assert told in words_of(page, "wide_deep")
    assert "None of 3 test samples was called wrong." in words_of(page, "prior_only")


def test_card__lists_the_most_confident_failures_first_and_only_where_given(page):
    study = make_study()
    study["tables"]["failures"] = pd.DataFrame(
        [("wide_deep", f"s{i}", "BL", "NB", 0.5 + i / 40) for i in range(14)]
        + [("prior_only", NASTY, "BL", "NB", 0.3)],
        columns=["hypothesis", "sample_id", "label", "predicted", "probability"],
    )
    given = Page(render_report(**study))
    tables = [e for e in given.all("table") if "Wrong with the most confidence" in e["text"]]
    assert len(tables) == 2
    rows = [e["text"].strip() for e in given.all("tr") if any(above is tables[0] for above in e["above"])]
    assert [row.partition("BLNB")[0] for row in rows[1:]] == [f"s{i}" for i in range(13, 3, -1)]
    assert rows[1] == "s13BLNB0.825"
    assert NASTY in tables[1]["text"]
    assert not [e for e in page.all("table") if "Wrong with the most confidence" in e["text"]]


def test_card__says_what_it_looked_at_with_gene_place_and_how_often(page):
    study = make_study()
    study["tables"] |= further_tables()
    study["runs"][0]["attribution"] = {"method": "integrated gradients", "exact": False}
    study["runs"][2]["attribution"] = None
    given = Page(render_report(**study))
    card = words_of(given, "wide_deep")
    for words in (
        "Its top 2 of 100 features hold 75 % of its importance; 2 of them are in the top 20 of at least four splits in "
        "five, where chance would put a feature in 20 % of the splits.",
        "Method: integrated gradients; the contributions of a sample need not sum to its score.",
        "In the top 20 of 5 splits (chance 1)",
        "f1MYCchr8:127.00-128.00Mb50 %5.0 %4 of 5",
        "f2\N{EN DASH}\N{EN DASH}25 %5.0 %4 of 5",
        "BLMYCf2",
        "NB\N{EN DASH}\N{EN DASH}",
    ):
        assert words.replace(" ", "") in card.replace(" ", "")
    assert "Class by class" not in words_of(given, "sparse_markers")
    assert "It does not say: its method offers no attributions." in words_of(given, "l2_logistic")
    assert "It was trained before attributions were kept" in words_of(given, "prior_only")
    assert "looked at" not in words_of(given, "covariates_only")
    assert "looked at" not in words_of(page, "wide_deep")


def test_card__of_two_classes_gives_the_direction_beside_each_feature():
    study = make_study(classes=("case", "control"))
    table = further_tables()["attributions"]
    table["label"] = table["label"].replace({"BL": "control"})
    study["tables"]["attributions"] = table[table["label"] != "NB"]
    card = words_of(Page(render_report(**study)), "wide_deep").replace(" ", "")
    assert "high: control50%".replace(" ", "") in card
    assert "low: control25%".replace(" ", "") in card
    assert "Classbyclass" not in card


def test_card__without_directions_tells_of_all_classes_together_alone():
    study = make_study()
    study["tables"]["attributions"] = further_tables()["attributions"].assign(direction=np.nan)
    card = words_of(Page(render_report(**study)), "wide_deep")
    assert "Its top features" in card
    assert "Class by class" not in card


def test_card__where_nothing_was_used_says_so():
    study = make_study()
    study["tables"]["attributions"] = further_tables()["attributions"].assign(importance=0.0)
    assert "No feature moved its scores." in words_of(Page(render_report(**study)), "wide_deep")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([34], "34"),
        ([1.0, 2.0, 4.0], "median 2 (1 to 4)"),
        (["rank", "zscore", "rank"], "rank (2/3); zscore (1/3)"),
        ([["a", "b"], ["b"]], "b (2/2), a (1/2)"),
        ([{"x": 1.5}], "x 1.5"),
        ([None], "none"),
        ([True], "yes"),
    ],
)
def test_summarise__puts_a_finding_over_all_splits_into_a_line(values, expected):
    assert cards.summarise(values) == expected


def test_gather__says_who_differs():
    runs = [
        {"hypothesis": "a", "versions": {"numpy": "1", "torch": "2"}},
        {"hypothesis": "b", "versions": {"numpy": "3"}},
    ]
    assert cards.gather(runs, "versions") == [("numpy", "1 (a); 3 (b)"), ("torch", "2")]


def test_leaderboard__fits_a_terminal_and_sorts_within_roles():
    study = make_study()
    lines = leaderboard(study["tables"]["evaluation"], study["runs"], "log_loss").splitlines()
    assert max(map(len, lines)) <= WIDTH
    body = [line.strip() for line in lines]
    order = [
        "Claims",
        "wide_deep",
        "sparse_markers",
        "Baselines",
        "l2_logistic",
        "Controls",
        "prior_only",
    ]
    places = [next(i for i, line in enumerate(body) if line.startswith(start)) for start in order]
    assert places == sorted(places)
    assert any(line.startswith("wide_deep") and "1.050 [0.950, 1.090]" in line for line in body)
    assert body[-1] == "Not applicable: covariates_only: needs a covariate"


def test_leaderboard__without_results_or_interval_says_so():
    study = make_study()
    evaluation = study["tables"]["evaluation"]
    assert leaderboard(evaluation.iloc[:0], [], "accuracy") == "Nothing was evaluated."
    evaluation[["ci_low", "ci_high"]] = np.nan
    text = leaderboard(evaluation, study["runs"], "accuracy")
    assert "[" not in text
    assert "0.950" in text


def test_claim_parts__names_claim_refutation_and_references():
    parts = cards.claim_parts(CLAIM)
    assert [title for title, _ in parts] == ["Claim", "What would refute it", "Reference"]
    assert parts[0][1] == ["The signal is additive over <code>many</code> features."]
    assert 'href="https://doi.org/10.1145/2988450.2988454"' in parts[2][1][0]
    assert cards.claim_parts("") == []
