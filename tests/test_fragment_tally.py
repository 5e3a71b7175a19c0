"""Fragments are counted as a plain loop counts them; tallies of neighbouring parts add up."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bam_files import assert_same
from oncoarena.errors import BadObject, InputError
from oncoarena.kernels.bin_layout import lay_out_bins
from oncoarena.kernels.fragment_tally import (
    CLIPPED_END,
    SUMMED,
    UNREAD_END,
    FragmentFilters,
    RecordArrays,
    empty_tally,
    merge,
    motif_code,
    motif_names,
    place_of,
    tally_ends,
    tally_fragments,
    tally_records,
)

SIZES = {"chr1": 1000, "chr2": 95}
FILTERS = FragmentFilters(max_fragment_bp=300)
intervals = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 60)), max_size=12)
fragments = st.lists(
    st.tuples(st.sampled_from([-1, 0, 0, 1]), st.integers(-5, 1000), st.integers(-2, 320)), max_size=30
)


@settings(deadline=None, max_examples=150)
@given(excluded=intervals, found=fragments)
def test_tally_fragments__counts_as_a_plain_loop(excluded, found):
    excluded = [(start, start + length) for start, length in excluded]
    layout = lay_out_bins(SIZES, coverage_bp=100, ratio_bp=300, excluded={"chr1": excluded})
    tally = empty_tally(layout, FILTERS)
    chromosome, start, n_bp = np.array(found, dtype=np.int64).reshape(-1, 3).T
    gc_bases, bases = np.arange(len(found)), np.arange(len(found)) * 2
    kept = tally_fragments(
        tally, layout, FILTERS, chromosome, start, start + n_bp, gc_bases=gc_bases, bases=bases
    )

    expected = empty_tally(layout, FILTERS)
    counts = dict.fromkeys(expected.counts, 0)
    for row, (c, left, length) in enumerate(found):
        right = left + length
        if c < 0:
            fate = "n_other_chromosome"
        elif not 1 <= length <= 300:
            fate = "n_other_length"
        elif left < 0 or right > (1000, 95)[c]:
            fate = "n_beyond_chromosome"
        elif c == 0 and any(a < right and left < b for a, b in excluded if a < b):
            fate = "n_excluded_region"
        else:
            fate = "n_fragments"
            expected.coverage[(0, 10)[c] + (left + right) // 2 // 100] += 1
            expected.gc_bases[(0, 10)[c] + (left + right) // 2 // 100] += row
            expected.bases[(0, 10)[c] + (left + right) // 2 // 100] += 2 * row
            expected.short[(0, 4)[c] + (left + right) // 2 // 300] += 100 <= length <= 150
            expected.long[(0, 4)[c] + (left + right) // 2 // 300] += 151 <= length <= 220
            expected.lengths[length] += 1
        counts[fate] += 1
        assert kept[row] == (fate == "n_fragments")
    expected.counters[:] = list(counts.values())
    assert_same(tally, expected)


def test_lay_out_bins__last_bin_of_a_chromosome_may_be_short():
    layout = lay_out_bins({"chr1": 250, "chr2": 100, "chrM": 1}, coverage_bp=100, ratio_bp=1000)
    assert layout.coverage_offsets.tolist() == [0, 3, 4, 5]
    assert layout.ratio_offsets.tolist() == [0, 1, 2, 3]
    assert (layout.n_coverage_bins, layout.n_ratio_bins) == (5, 3)


def test_lay_out_bins__excluded_intervals_are_sorted_and_merged():
    excluded = {"chr2": [(50, 60), (5, 10), (10, 12), (7, 8), (90, 90)], "chr9": [(0, 5)]}
    layout = lay_out_bins(SIZES, excluded=excluded)
    assert layout.excluded_start.tolist() == [5, 50]
    assert layout.excluded_end.tolist() == [12, 60]
    assert layout.excluded_offsets.tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coverage_bp": 0}, "coverage_bp is 0"),
        ({"ratio_bp": -5}, "ratio_bp is -5"),
        ({"excluded": {"chr1": [(9, 3)]}}, "chr1:9-3"),
        ({"excluded": {"chr1": [(-1, 3)]}}, "chr1:-1-3"),
    ],
)
def test_lay_out_bins__refuses_nonsense(arguments, message):
    with pytest.raises(InputError, match=message):
        lay_out_bins(SIZES, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"required_flags": 1 << 16}, "required_flags is 65536"),
        ({"excluded_flags": -1}, "excluded_flags is -1"),
        ({"required_flags": 1027}, "both name 1024"),
        ({"min_mapq": 256}, "min_mapq is 256"),
        ({"min_fragment_bp": 0}, "min_fragment_bp is 0"),
        ({"min_fragment_bp": 9, "max_fragment_bp": 8}, "max_fragment_bp 8"),
        ({"max_fragment_bp": 10**9}, "max_fragment_bp 1000000000"),
    ],
)
def test_fragment_filters__refuse_nonsense(arguments, message):
    with pytest.raises(InputError, match=message):
        FragmentFilters(**arguments)


def test_motif_code__follows_the_names():
    assert [motif_code(name) for name in motif_names()] == list(range(256))
    assert motif_names()[:2] == ("AAAA", "AAAC")
    assert motif_code("acgt") == motif_code("ACGT")
    assert {motif_code(bases) for bases in ("", "ACG", "ACGN", "ACGTA", "AC=T")} == {UNREAD_END}


def test_tally_ends__clipped_and_unread_ends_are_no_motifs():
    tally = empty_tally(lay_out_bins(SIZES), FILTERS)
    tally_ends(tally, np.array([3, CLIPPED_END, 3, UNREAD_END, CLIPPED_END, 255]))
    assert {code: int(n) for code, n in enumerate(tally.motifs) if n} == {3: 2, 255: 1}
    assert (tally.counts["n_ends"], tally.counts["n_clipped_ends"], tally.counts["n_unread_ends"]) == (
        3,
        2,
        1,
    )


def records(*places: tuple[int, int]) -> RecordArrays:
    n = len(places)
    reference, position = np.array(places, dtype=np.int64).reshape(-1, 2).T
    zero = np.zeros(n, dtype=np.int64)
    return RecordArrays(
        zero + 99, zero + 60, reference, position, reference, position + 50, zero + 100, zero, zero, zero
    )


def tally_of(*places: tuple[int, int]):
    layout = lay_out_bins(SIZES)
    tally = empty_tally(layout, FILTERS)
    tally_records(tally, layout, FILTERS, records(*places), np.array([0, 1]))
    return tally


def test_merge__adds_up_and_keeps_both_ends():
    parts = [tally_of((0, 5), (0, 80)), tally_of((0, 80), (1, 0)), tally_of(), tally_of((-1, -1))]
    whole = tally_of((0, 5), (0, 80), (0, 80), (1, 0), (-1, -1))
    joined = parts[0]
    for part in parts[1:]:
        joined = merge(joined, part)
    assert_same(joined, whole)
    assert_same(merge(parts[0], merge(parts[1], merge(parts[2], parts[3]))), whole)
    assert joined.first_place == place_of(0, 5)
    assert joined.last_place == place_of(-1, -1)
    assert_same(merge(tally_of(), parts[0]), parts[0])


@pytest.mark.parametrize(
    ("first", "second"), [([(0, 7)], [(0, 6)]), ([(1, 0)], [(0, 900)]), ([(-1, -1)], [(1, 94)])]
)
def test_merge__refuses_parts_that_are_not_in_order(first, second):
    with pytest.raises(BadObject, match="not sorted"):
        merge(tally_of(*first), tally_of(*second))


def test_tally_records__refuses_records_that_are_not_in_order():
    with pytest.raises(BadObject, match="record 3 comes before"):
        tally_of((0, 5), (1, 3), (0, 900))
    layout = lay_out_bins(SIZES)
    tally = tally_of((1, 5))
    with pytest.raises(BadObject, match="record 2 comes before"):
        tally_records(tally, layout, FILTERS, records((1, 4)), np.array([0, 1]))


def test_place_of__orders_as_a_sorted_file():
    places = [(0, -1), (0, 0), (0, 2**31 - 1), (1, 0), (2**30, 5), (-1, -1)]
    codes = [place_of(*place) for place in places]
    assert all(first < second for first, second in itertools.pairwise(codes))


def test_layout_and_tally__travel_between_processes():
    layout, tally = pickle.loads(pickle.dumps((lay_out_bins(SIZES), tally_of((0, 5)))))
    assert layout.chromosomes == ("chr1", "chr2")
    assert tally.counts["n_fragments"] == 1
    assert all(getattr(tally, name).dtype == np.int64 for name in SUMMED)
