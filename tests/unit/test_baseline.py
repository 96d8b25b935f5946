"""The curve of all-equal vectors, and what a vector gains over it."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcodec.baseline import Baseline, Curve, Outcome

LEVELS = (0, 20, 40, 63)
OUTCOMES = [Outcome(log_bpp, value) for log_bpp, value in ((-2.0, 25.0), (-1.0, 29.0), (0.0, 34.0), (1.5, 43.0))]


def test_a_curve_goes_through_its_points_and_is_straight_where_they_are():
    curve = Curve([0, 1, 3, 4], [1, 3, 7, 9])
    assert [curve(x) for x in (0, 0.25, 1, 2, 3, 3.5, 4)] == pytest.approx([1, 1.5, 3, 5, 7, 8, 9])
    assert (curve(-1), curve(5)) == (1, 9)  # held at its ends
    assert curve.covers(0) and curve.covers(4) and not curve.covers(4.1)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=8), st.lists(st.integers(0, 50), min_size=8, max_size=8))
def test_a_curve_rises_where_its_points_rise(widths, rises):
    xs = [sum(widths[:i]) / 10 for i in range(len(widths) + 1)]
    ys = [sum(rises[:i]) / 10 for i in range(len(xs))]
    curve = Curve(xs, ys)
    places = [xs[0] + (xs[-1] - xs[0]) * i / 200 for i in range(201)]
    values = [curve(x) for x in places]
    assert all(b >= a - 1e-9 for a, b in pairwise(values))
    assert [curve(x) for x in xs] == pytest.approx(ys)


def test_a_curve_is_smooth_between_its_points():
    coarse = Curve([x / 4 for x in range(9)], [math.exp(x / 4) for x in range(9)])
    assert coarse(0.9) == pytest.approx(math.exp(0.9), rel=0.002)


@pytest.mark.parametrize("xs", [[1], [0, 0], [0, 2, 1]])
def test_a_curve_needs_points_that_rise(xs):
    with pytest.raises(ValueError, match="they rise"):
        Curve(xs, [0.0] * len(xs))


def test_all_equal_vectors_gain_nothing_and_better_ones_do():
    baseline = Baseline(LEVELS, OUTCOMES)
    assert [baseline.gain(outcome) for outcome in OUTCOMES] == pytest.approx([0] * 4)
    assert baseline.gain(Outcome(-1.0, 29.5)) == pytest.approx(0.5)
    between = baseline.judge((30, 30), Outcome(-0.5, 31.0))
    assert between.rho == (30, 30) and -1.0 < between.gain < 0
    assert baseline.gain(Outcome(-2.1, 99.0)) == baseline.gain(Outcome(1.6, 99.0)) == -math.inf


def test_rates_and_levels_are_each_others_inverse():
    baseline = Baseline(LEVELS, OUTCOMES)
    assert baseline.log_bpp(40) == pytest.approx(0.0)
    assert baseline.level(-1.0) == pytest.approx(20)
    assert baseline.level(baseline.log_bpp(51.0)) == pytest.approx(51.0, abs=0.5)
    assert 0.15 < baseline.step(10) < baseline.step(55) < 0.45


def test_levels_whose_rate_does_not_rise_are_left_out():
    falling = [OUTCOMES[0], OUTCOMES[2], OUTCOMES[1], OUTCOMES[3]]
    baseline = Baseline(LEVELS, falling)
    assert baseline.level(0.0) == pytest.approx(20)
    assert baseline.gain(OUTCOMES[1]) < 0
    with pytest.raises(ValueError, match="does not rise"):
        Baseline(LEVELS, OUTCOMES[::-1])
