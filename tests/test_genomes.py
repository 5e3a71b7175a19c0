"""The shipped genomes: sizes, arms and gaps."""

import numpy as np
import pytest

from oncoarena.errors import InputError
from oncoarena.genomes import (
    AUTOSOMES,
    CHROMOSOMES,
    GENOMES,
    bins,
    canonical_chromosome,
    chromosome_names,
    genome,
    matching_genomes,
)


@pytest.mark.parametrize(
    ("name", "sizes", "total"),
    [
        # Sizes as NCBI's assembly reports give them; totals of chr1 to chr22, chrX and chrY.
        ("hg19", {"chr1": 249250621, "chr22": 51304566, "chrX": 155270560, "chrY": 59373566}, 3095677412),
        ("hg38", {"chr1": 248956422, "chr22": 50818468, "chrX": 156040895, "chrY": 57227415}, 3088269832),
        ("t2t", {"chr1": 248387328, "chr22": 51324926, "chrX": 154259566, "chrY": 62460029}, 3117275501),
    ],
)
def test_genome__has_the_sizes_of_the_assembly(name, sizes, total):
    found = genome(name).sizes
    assert tuple(found) == CHROMOSOMES
    assert {chromosome: found[chromosome] for chromosome in sizes} == sizes
    assert sum(found.values()) == total


@pytest.mark.parametrize("name", GENOMES)
def test_genome__arms_cover_every_chromosome_and_meet_inside_the_centromere(name):
    reference = genome(name)
    centromeres = reference.centromeres.set_index("chrom")
    for chromosome, arms in reference.arms.groupby("chrom"):
        (_, p), (_, q) = arms.sort_values("start").iterrows()
        assert (p["arm"], q["arm"], p["id"]) == ("p", "q", f"{chromosome}p")
        assert (p["start"], p["end"], q["end"]) == (0, q["start"], reference.sizes[chromosome])
        assert centromeres.at[chromosome, "start"] < p["end"] < centromeres.at[chromosome, "end"]
    assert len(reference.arms) == 48
    assert len(centromeres) == 24


@pytest.mark.parametrize(("name", "n_bp"), [("hg19", 234_350_281), ("hg38", 150_630_719)])
def test_genome__gaps_hold_nearly_all_unknown_bases_of_the_assembly(name, n_bp):
    # n_bp: the N of the sequences; gaps shorter than 10 kb are not listed.
    gaps = genome(name).gaps
    widths = gaps["end"] - gaps["start"]
    assert widths.min() >= 10_000
    assert 0.997 * n_bp < widths.sum() <= n_bp
    for chromosome, rows in gaps.groupby("chrom"):
        assert (rows["start"].to_numpy()[1:] >= rows["end"].to_numpy()[:-1]).all()
        assert rows["end"].max() <= genome(name).sizes[chromosome]
        # Every gap-free end of an arm is a telomere; hg19's chr17 begins without one.
        assert rows["start"].min() == 0 or (name, chromosome) == ("hg19", "chr17")


def test_genome__t2t_has_no_gaps():
    assert genome("t2t").gaps.empty


def test_genome__what_a_caller_changes_is_its_own():
    arms = genome("hg38").arms
    arms["start"] = -1
    assert genome("hg38").arms["start"].min() == 0
    with pytest.raises(TypeError):
        genome("hg38").sizes["chr1"] = 1


def test_genome__unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"hg37.*expected one of hg19, hg38, t2t"):
        genome("hg37")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("1", "chr1"), ("chr1", "chr1"), ("Chr22", "chr22"), ("X", "chrX"), ("chrY", "chrY"), ("CHRx", "chrX")]
    + [
        (name, None)
        for name in ("", "chr", "chrM", "MT", "23", "01", "chr1_KI270706v1_random", "chrchr1", "chr 1")
    ],
)
def test_canonical_chromosome__knows_names_with_and_without_chr(name, canonical):
    assert canonical_chromosome(name) == canonical


@pytest.mark.parametrize("name", GENOMES)
@pytest.mark.parametrize("bin_bp", [1_000_000, 99_999, 248_956_422])
def test_bins__cover_every_base_once(name, bin_bp):
    reference = genome(name)
    table = bins(reference, bin_bp, "all")
    assert list(dict.fromkeys(table["chrom"])) == list(CHROMOSOMES)
    for chromosome, rows in table.groupby("chrom"):
        starts, ends = rows["start"].to_numpy(), rows["end"].to_numpy()
        np.testing.assert_array_equal(starts, np.arange(len(rows)) * bin_bp)
        np.testing.assert_array_equal(ends[:-1], starts[1:])
        assert ends[-1] == reference.sizes[chromosome]
        assert ends[-1] > starts[-1]


def test_bins__autosomes_are_the_first_of_all():
    table, whole = (bins(genome("hg38"), 10**6, word) for word in ("autosomes", "all"))
    assert set(table["chrom"]) == set(AUTOSOMES)
    assert table.equals(whole.iloc[: len(table)])


def test_bins__absurd_width_or_word_is_refused():
    with pytest.raises(InputError, match="0 bp, expected at least 1"):
        bins(genome("hg38"), 0)
    with pytest.raises(InputError, match="'sex', expected one of autosomes, all"):
        chromosome_names("sex")


def test_matching_genomes__are_told_by_any_chromosome():
    for name in GENOMES:
        sizes = genome(name).sizes
        assert matching_genomes(sizes) == [name]
        assert matching_genomes({"7": sizes["chr7"], "chrM": 16569}) == [name]
    assert matching_genomes({"1": genome("hg19").sizes["chr1"], "2": genome("hg38").sizes["chr2"]}) == []
    assert matching_genomes({"chrM": 16569}) == []
