"""Importance along the genome, drawn chromosome by chromosome."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from explained_studies import add_attributions, contributions, genes, genome_bins
from judged import make_study
from oncoarena.genomes import genome
from oncoarena.referee.attributions import POOLED_COLUMNS, attribution_tables
from oncoarena.reporting.attributions import attribution_section
from oncoarena.reporting.genome_track import (
    Chromosome,
    chromosomes_of,
    density,
    describe,
    genome_track,
    named,
    on_chromosomes,
    place,
    track_table,
)
from oncoarena.reporting.report import compose, render_report
from oncoarena.reporting.series import assign_series

SPACE = "{http://www.w3.org/2000/svg}"
LOOKS = list(assign_series([("one", "", "claim"), ("two", "", "claim")]).values())


def placed(*features, hypothesis="one"):
    """Rows of the attributions: (chrom, start, end, importance) each, the first the most important."""
    rows = [
        (hypothesis, "", "bins", f"{chrom}:{start}-{end}", chrom, start, end, "", share, 0.0, np.nan, 5, 0.8, 0.1, i)
        for i, (chrom, start, end, share) in enumerate(features, start=1)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(POOLED_COLUMNS))


def drawn(rows, looks=LOOKS, chromosomes=None, width=800, top=20):
    chromosomes = chromosomes or chromosomes_of(rows, ["hg38"])
    text = genome_track(rows, looks, chromosomes, top=top, title="T", description="D", uid="u", width=width)
    return ET.fromstring(text)


def marks_of(root):
    """Readings of all marks with what they hold."""
    groups = [group for group in root.iter(f"{SPACE}g") if "mark" in group.get("class", "")]
    return {group.find(f"{SPACE}title").text: group for group in groups}


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 999), st.integers(0, 400), st.floats(0, 5)), min_size=1, max_size=30),
)
@example(35, [(0, 0, 1.8265083641037831), (12, 0, 5.0)])
def test_density__keeps_all_importance_where_the_features_are(n_columns, features):
    start, size, importance = map(np.array, zip(*features, strict=True))
    end = np.minimum(start + size, 1000)
    found = density(start, end, importance, 1000, n_columns)
    assert (found * (1000 / n_columns) / 1e6).sum() == pytest.approx(importance.sum(), abs=1e-6)
    # Columns that no feature touches stay empty.
    width = 1000 / n_columns
    edges = np.arange(n_columns + 1) * width
    touched = (start[:, None] <= edges[1:]) & (np.maximum(end, start + 1)[:, None] >= edges[:-1])
    assert np.allclose(found[~touched.any(axis=0)], 0, atol=1e-9 * found.max(initial=1.0))
    assert len(found) == n_columns


def test_density__spreads_a_wide_feature_evenly_and_cuts_it_at_the_borders_of_columns():
    found = density(
        np.array([0, 2_500_000]), np.array([10_000_000, 3_500_000]), np.array([1.0, 0.4]), 10_000_000, 10
    )
    np.testing.assert_allclose(found, [0.1, 0.1, 0.3, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])


def test_chromosomes__have_length_and_centromere_of_the_one_genome_that_is_named():
    rows = placed(("chr10", 0, 1000, 1), ("chr2", 5, 9, 1), ("chrX", 5, 9, 1))
    reference = genome("hg38")
    found = chromosomes_of(rows, ["hg38", "hg38"])
    assert [chromosome.name for chromosome in found] == ["chr2", "chr10", "chrX"]
    assert [chromosome.n_bp for chromosome in found] == [reference.sizes[c.name] for c in found]
    for chromosome in found:
        arms = reference.arms[reference.arms["chrom"] == chromosome.name].set_index("arm")
        assert abs(arms.loc["p", "end"] - chromosome.centromere) < 10_000_000


@pytest.mark.parametrize("genomes", [[], ["hg19", "hg38"], ["mm10"]])
def test_chromosomes__end_with_their_last_feature_where_the_genome_is_not_known(genomes):
    rows = placed(("chr1", 0, 1000, 1), ("chr1", 7, 2500, 1))
    assert chromosomes_of(rows, genomes) == [Chromosome("chr1", 2500)]


def test_chromosomes__of_a_genome_on_which_features_do_not_fit_are_not_taken():
    rows = placed(("chr21", 0, 60_000_000, 1))
    assert chromosomes_of(rows, ["hg38"]) == [Chromosome("chr21", 60_000_000)]


def test_track__puts_importance_where_it_is():
    rows = placed(("chr1", 50_000_000, 60_000_000, 0.7), ("chr3", 10_000_000, 20_000_000, 0.3))
    two = placed(("chr1", 200_000_000, 200_100_000, 0.5), hypothesis="two")
    root = drawn(pd.concat([rows, two]))
    marks = marks_of(root)
    assert "one, chr1\n70 % of its importance\nmost: chr1:50.00-60.00\N{NO-BREAK SPACE}Mb, 70 %" in marks
    assert "two, chr3\nnothing" in marks
    area = marks["one, chr1\n70 % of its importance\nmost: chr1:50.00-60.00\N{NO-BREAK SPACE}Mb, 70 %"]
    path = area.find(f"{SPACE}path").get("d")
    frame = area.find(f"{SPACE}rect")
    left, width = float(frame.get("x")), float(frame.get("width"))
    pixel = width / genome("hg38").sizes["chr1"]
    # Where the path leaves its base line for the first time, and where it is back on it.
    base = float(re.match(r"M\S+ ([\d.]+)", path)[1])
    heights, ends = zip(
        *((float(y), float(x)) for y, x in re.findall(r"V([\d.]+)H([\d.]+)", path)), strict=True
    )
    raised = [i for i, y in enumerate(heights) if y < base]
    assert ends[raised[0] - 1] == pytest.approx(left + 50e6 * pixel, abs=1.5)
    assert ends[raised[-1]] == pytest.approx(left + 60e6 * pixel, abs=1.5)
    assert min(heights) == pytest.approx(base - 42, abs=0.2)


def test_track__marks_top_features_with_all_that_is_known_of_them():
    rows = placed(("chr1", 10, 20, 0.5), ("chr2", 0, 10_000_000, 0.3), ("chr2", 5, 6, 0.2)).assign(
        gene=["TP53", "", ""]
    )
    marks = marks_of(drawn(rows, top=2))
    assert "TP53\nchr1:10\n50 % of the importance of one\nin the top 2 of 4 of 5 splits" in marks
    bins = "chr2:0.00-10.00\N{NO-BREAK SPACE}Mb\n30 % of the importance of one\nin the top 2 of 4 of 5 splits"
    assert bins in marks
    assert len(marks) == 2 * 2 + 2


def test_track__of_no_importance_says_so():
    texts = [text.text for text in drawn(placed(("chr1", 0, 10, 0.0))).iter(f"{SPACE}text")]
    assert texts.count("nowhere here") == 2


@pytest.mark.parametrize("width", [350, 800])
def test_track__names_of_chromosomes_do_not_overlap_and_stay_inside(width):
    bins = genome_bins(5_000_000)
    rows = attribution_tables([contributions("one", bins, [])], bins, {"one": ["coverage"]})["attributions"]
    root = drawn(rows, LOOKS[:1], width=width)
    names = [text for text in root.iter(f"{SPACE}text") if text.get("text-anchor") == "middle"]
    spans = sorted((float(text.get("x")) - 3.4 * len(text.text), 6.8 * len(text.text)) for text in names)
    assert len(spans) >= 12
    assert all(a + across <= b for (a, across), (b, _) in pairwise(spans))
    assert spans[-1][0] + spans[-1][1] <= width + 3


def test_names__say_gene_or_place_once():
    first, second, third = placed(("chr1", 5, 6, 1), ("chr2", 0, 3_000_000, 1), ("chr3", 1, 2, 1)).assign(
        gene=["TP53", "", ""], feature=["ENSG1", "chr2:0-3000000", "probe7"]
    ).itertuples()  # fmt: skip
    assert [named(row) for row in (first, second, third)] == [
        "TP53",
        "chr2:0.00-3.00\N{NO-BREAK SPACE}Mb",
        "probe7",
    ]
    assert describe(first) == "TP53\nENSG1\nchr1:5"
    assert describe(second) == place(second)
    assert describe(third) == "probe7\nchr3:1"


def test_table__gives_the_share_of_each_chromosome():
    rows = placed(("chr1", 0, 10, 0.5), ("chr1", 20, 30, 0.25), ("chr2", 0, 10, 0.05))
    table = track_table(rows, LOOKS, chromosomes_of(rows, []), "By chromosome")
    assert table.headings == ["Chromosome", "one", "two"]
    assert table.rows == [
        ["all of them", "80 %", "0 %"],
        ["chr1", "75 %", "\N{EN DASH}"],
        ["chr2", "5.0 %", "\N{EN DASH}"],
    ]


def test_section__draws_blocks_with_places_alone_and_counts_features_without_one():
    study = add_attributions(
        make_study(), genes(50) | {"motifs": genes(20, "motifs")["motifs"].assign(chrom="", start=-1)}
    )
    section = compose(**study)["attributions"]
    assert [track["block"] for track in section["tracks"]] == ["expression"]
    assert (
        section["tracks"][0]["lost"]
        == "5 features of expression without a place on a chromosome are left out."
    )
    assert {entry["block"] for entry in section["agreements"]} == {"expression", "motifs"}
    assert attribution_section({}, {}) == {}


def test_on_chromosomes__leaves_out_contigs_and_what_has_no_place():
    rows = placed(("chr1", 0, 5, 1), ("chrUn_1", 0, 5, 1), ("", -1, -1, 1), ("chrX", -1, -1, 1))
    assert on_chromosomes(rows)["chrom"].tolist() == ["chr1"]


def test_page__of_thirty_thousand_bins_stays_small_and_whole():
    names = [f"hypothesis_{i}" for i in range(3)]
    study = make_study(
        classes=("cancer", "healthy"), competitors=[(name, name, "claim") for name in names], absent=()
    )
    add_attributions(study, genome_bins(100_000), explained=names, n_folds=2)
    assert len(study["tables"]["attributions"]) > 60_000
    text = render_report(**study)
    assert len(text.encode()) < 300_000
    for picture in re.findall(r"<svg [^>]*xmlns.*?</svg>", text, re.DOTALL):
        ET.fromstring(picture)
