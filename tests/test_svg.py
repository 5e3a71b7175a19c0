"""Drawing primitives: thin lines that stay true, round ticks, axes with a width, words that fit."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geometry import distance_to_segment
from oncoarena.reporting import svg


@given(
    st.lists(st.tuples(st.floats(0, 300), st.floats(0, 300)), min_size=2, max_size=40),
    st.floats(0.1, 5),
)
@settings(deadline=None, max_examples=80)
def test_simplify__every_point_stays_within_the_tolerance_of_the_line(points, tolerance):
    points = np.array(points)
    kept = svg.simplify(points, tolerance, 1000)
    assert kept[0] == pytest.approx(points[0])
    assert kept[-1] == pytest.approx(points[-1])
    for point in points:
        nearest = min(distance_to_segment(point, a, b) for a, b in pairwise(kept))
        # Rounding to one decimal moves a point by at most 0.05 along each axis.
        assert nearest <= tolerance + 0.15


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
@example(1.0, 400_001.0, 2)
@settings(deadline=None, max_examples=200)
def test_ticks__are_round_evenly_spaced_and_inside(low, span, n_wanted):
    found = svg.ticks(low, low + span, n_wanted)
    steps = np.diff(found)
    assert 1 <= len(found) <= n_wanted + 1
    assert all(low - 1e-6 * span <= tick <= low + span + 1e-6 * span for tick in found)
    if len(steps):
        assert steps == pytest.approx(steps[0], rel=1e-4)
        lead = steps[0] / 10 ** np.floor(np.log10(steps[0] * (1 + 1e-6)))
        assert min(abs(lead - round_step) for round_step in (1, 2, 5)) < 1e-3


@pytest.mark.parametrize(
    ("values", "bounds"),
    [([], (None, None)), ([0.5], (0.0, 1.0)), ([1.0, 1.0], (0.0, 1.0)), ([np.nan], (0.0, None))],
)
def test_domain__has_a_width_and_keeps_to_its_bounds(values, bounds):
    low, high = svg.domain(values, bounds)
    assert low < high
    assert bounds[0] is None or low >= bounds[0]
    assert bounds[1] is None or high <= bounds[1]


@pytest.mark.parametrize(
    "values", [[0.69, 0.69 + 1e-13], [-3e8, -3e8 - 1e-2], [1e-13, 2e-13], [0.0, 1e-300], [0.69, 0.69 + 2e-9]]
)
def test_domain__values_that_hardly_differ_make_an_axis_with_ticks(values):
    low, high = svg.domain(values)
    assert low <= min(values) < max(values) <= high
    found = svg.ticks(low, high)
    assert len(found) > 1
    assert np.diff(found).min() > 0


def test_shorten__keeps_both_ends_within_the_room():
    name = "Carcinoma of organ 17"
    short = svg.shorten(name, 80, 12)
    assert svg.text_width(short, 12) <= 80
    assert short[0] == "C"
    assert short.endswith("17")
    assert svg.shorten(name, 500, 12) == name
