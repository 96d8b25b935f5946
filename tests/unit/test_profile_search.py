"""The search for profiles, on made-up sources whose best vectors are known, and on some that deceive."""

import math
import random
import zlib
from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import MadeUpPicture

from hvcodec import profile_search
from hvcodec.baseline import Baseline, Outcome
from hvcodec.profile_search import LEASH, SLACK, climb, densified, rising, search, search_levels, usual_vectors
from hvcodec.profiles import RHO_MAX, Profile, calibrate, uniform
from hvcodec.targets import METRICS

RATES = (300, 900, 3000, 1500, 500)
GROWTH, DECAY = 0.07, 0.08


class Source:
    """Independent groups whose rates and errors change exponentially: the best vector has a formula.

    There, a step of each group costs and gains in the same proportion, so it is a constant offset of each
    group plus a level that all share. `roughness` adds what real encodes have.
    """

    def __init__(self, errors, roughness=0.0, seed=0):
        self.errors, self.roughness, self.seed = errors, roughness, seed
        self.asked = []

    def __call__(self, rho):
        self.asked.append(rho)
        draw = random.Random(zlib.crc32(bytes(rho)) ^ self.seed)
        rate, value = self.exact(rho)
        return Outcome(
            rate + 0.0005 * self.roughness * draw.uniform(-1, 1), value + 0.005 * self.roughness * draw.uniform(-1, 1)
        )

    def exact(self, rho):
        rate = sum(r * math.exp(GROWTH * x) for r, x in zip(RATES, rho, strict=True))
        error = sum(e * math.exp(-DECAY * x) for e, x in zip(self.errors, rho, strict=True))
        return math.log(rate), -10 * math.log10(error)

    def best(self, log_rate):
        """The best vector at a rate, and what it gives; neither whole nor bounded."""
        offsets = [
            math.log(DECAY * e / (GROWTH * r)) / (GROWTH + DECAY) for e, r in zip(self.errors, RATES, strict=True)
        ]
        level = (log_rate - self.exact(offsets)[0]) / GROWTH
        rho = [offset + level for offset in offsets]
        return rho, self.exact(rho)[1]


MILD = (5, 40, 100, 60, 10)
STRONG = (100, 200, 100, 20, 4)


def baseline_of(source):
    levels = range(0, 64, 3)
    return Baseline(levels, [source((level,) * 5) for level in levels])


@pytest.mark.parametrize("errors", [MILD, STRONG])
@pytest.mark.parametrize("roughness", [0, 1])
def test_the_best_vectors_are_found(errors, roughness):
    source = Source(errors, roughness)
    baseline = baseline_of(Source(errors))
    found = search(source, 5, points=6)
    compared = 0
    for check in found.checks:
        best, value = source.best(check.tried.outcome.log_bpp)
        if not all(0 <= r <= RHO_MAX for r in best) or not 15 < check.position < 80:
            continue  # on the way to the ends, which are all-equal
        possible = value - source.exact((baseline.level(check.tried.outcome.log_bpp),) * 5)[1]
        missed = value - source.exact(check.tried.rho)[1]
        assert missed < 0.15 * possible + 0.005 * roughness
        assert max(abs(a - b) for a, b in zip(best, check.tried.rho, strict=True)) < 3
        compared += 1
    assert compared >= 5


def test_a_climb_comes_near_the_optimum_from_anywhere():
    source = Source(STRONG)
    baseline = baseline_of(source)
    best, _ = source.best(baseline.log_bpp(30))
    for offsets in ((0,) * 5, (-8, 8, -8, 8, 0), (10, 8, -4, -10, -14)):
        winner = climb(source, baseline, 30, offsets, rounds=3)
        assert max(abs(a - b) for a, b in zip(best, winner.rho, strict=True)) < 3
        assert winner.gain == pytest.approx(1.3, abs=0.5)
        assert winner.outcome.log_bpp == pytest.approx(baseline.log_bpp(30), abs=0.1)


def test_where_equal_rates_are_best_they_are_kept():
    source = Source(RATES)
    winners = []
    found = search(source, 5, points=6, tell=winners.append)
    assert [winner.rho for winner in winners] == [(level,) * 5 for level in search_levels(6)]
    assert found.path[0].rho == (0,) * 5 and found.path[-1].rho == (RHO_MAX,) * 5
    for knot in found.path:
        assert knot.rho == pytest.approx((knot.position * RHO_MAX / 100,) * 5, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_roughness_is_not_taken_for_a_gain_that_costs(seed):
    """Real differences of 0.01 dB cannot be told from the roughness, but 0.05 dB can."""
    source = Source(RATES, roughness=1, seed=seed)
    exact = baseline_of(Source(RATES))
    for check in search(source, 5, points=4).checks:
        rate, value = source.exact(check.tried.rho)
        assert exact.gain(Outcome(rate, value)) > -0.05


@pytest.mark.parametrize("errors", [MILD, STRONG, RATES, (0, 0, 1, 0, 0), (1, 1000, 1, 1000, 1)])
def test_a_path_rises_from_end_to_end_and_never_measures_worse_than_equal_rates(errors):
    source = Source(errors, roughness=1)
    found = search(source, 5, points=5)
    profile = Profile("found", "for tests", found.path)  # checks that every group rises
    assert profile.rho(0) == (0,) * 5 and profile.rho(100) == (RHO_MAX,) * 5
    for check in found.checks:
        assert check.tried.gain > -0.02 or max(check.tried.rho) - min(check.tried.rho) <= 1
        assert check.tried.rho == profile.rho(check.position)


def test_a_group_that_gains_nothing_is_starved_as_far_as_the_leash():
    source = Source((30, 100, 300, 150, 0))
    winner = climb(source, baseline_of(source), 40, (0,) * 5, rounds=4)
    assert winner.rho[4] == 40 - LEASH
    assert winner.gain > 0.2


def test_every_vector_is_measured_once_and_no_more_than_was_said():
    for errors in (MILD, STRONG, RATES):
        for points, rounds in ((2, 1), (6, 2)):
            source = Source(errors)
            search(source, 5, points=points, rounds=rounds)
            assert len(source.asked) == len(set(source.asked)) <= usual_vectors(points, 5, rounds)


def test_a_climb_ends_when_a_round_finds_nothing():
    source = Source(RATES)
    baseline = baseline_of(source)
    source.asked.clear()
    climb(source, baseline, 30, (0,) * 5, rounds=4)
    assert len(set(source.asked)) <= 1 + 2 * 5 + 2


def test_the_path_rises_where_winners_do_not():
    def measure(rho):
        return Outcome(sum(rho) / 20, sum(rho) / 10 + 0.1 * (max(rho) - min(rho)))  # the farther apart, the better

    baseline = Baseline((0, 63), [measure((level,) * 3) for level in (0, 63)])
    winners = [baseline.judge(rho, measure(rho)) for rho in ((32, 8, 20), (12, 42, 27), (40, 40, 40))]
    found = profile_search._smooth_path(measure, baseline, winners)
    assert len(found.path) == 5
    for before, after in pairwise(found.path):
        assert all(a <= b for a, b in zip(before.rho, after.rho, strict=True))
    assert min(check.tried.gain for check in found.checks) > 0.1


def test_offsets_are_mixed_with_those_of_their_neighbours():
    assert profile_search._smoothed([[4.0, 0], [0, 4], [8, 0]]) == [[3, 1], [3, 2], [6, 1]]
    assert profile_search._smoothed([[4.0, 1]]) == [[4, 1]]


def test_knots_retreat_where_the_smooth_path_is_worse():
    """Each winner is good alone, and what lies between two of them is bad."""
    winners = {9: (9, 14), 18: (23, 18), 27: (27, 32), 36: (41, 36), 45: (45, 50), 54: (59, 54)}

    def measure(rho):
        rate, apart = sum(rho) / 20, abs(rho[0] - rho[1])
        return Outcome(rate, 6 * rate + (0.5 if rho in winners.values() else -0.05 * apart))

    levels = sorted({0, *winners, RHO_MAX})
    baseline = Baseline(levels, [measure((level,) * 2) for level in levels])
    tried = [baseline.judge(rho, measure(rho)) for rho in winners.values()]
    assert min(winner.gain for winner in tried) > 0.4
    found = profile_search._smooth_path(measure, baseline, tried)
    for check in found.checks:
        spread = max(check.tried.rho) - min(check.tried.rho)
        assert check.tried.gain >= -SLACK * baseline.step(30) or spread <= 1


def test_winners_of_the_same_rate_give_one_knot():
    source = Source(MILD)
    baseline = baseline_of(source)
    tried = [baseline.judge(rho, source(rho)) for rho in ((20,) * 5, (17, 22, 20, 21, 18), (40,) * 5, (63,) * 5)]
    kept = profile_search._apart(baseline, tried)
    assert [winner.rho for winner in kept] == [(17, 22, 20, 21, 18), (40,) * 5]


def test_without_any_winner_the_path_is_the_equal_one():
    source = Source(MILD)
    baseline = baseline_of(source)
    found = profile_search._smooth_path(source, baseline, [baseline.judge((63,) * 5, source((63,) * 5))])
    assert found.path == uniform(5).path


def test_a_metric_that_only_one_group_serves():
    def measure(rho):
        return Outcome(math.log(sum(math.exp(0.05 * r) for r in rho)), 0.3 * rho[1])

    winner = climb(measure, Baseline((0, 30, 63), [measure((v,) * 3) for v in (0, 30, 63)]), 30, (0,) * 3)
    assert winner.rho[1] > 40 and max(winner.rho[0], winner.rho[2]) < 26


def test_pictures_that_differ_are_served_on_average():
    pictures = [MadeUpPicture(seed) for seed in range(6)]

    def measured_by(metric):
        def measure(rho):
            trials = [picture(rho) for picture in pictures]
            return Outcome(*(fmean(map(METRICS[name], trials)) for name in ("log_bpp", metric)))

        return measure

    found = {metric: search(measured_by(metric), 5, points=4) for metric in ("psnr_db", "ssimulacra2")}
    for metric, least in (("psnr_db", 0.1), ("ssimulacra2", 0.5)):
        gains = [check.tried.gain for check in found[metric].checks]
        assert fmean(gains) > least and min(gains) > -0.05


def test_rates_that_do_not_rise_are_refused():
    with pytest.raises(ValueError, match="does not rise"):
        search(lambda rho: Outcome(-float(sum(rho)), 1.0), 2, points=2)


def test_points_lie_between_the_ends():
    assert search_levels(6) == [9, 18, 27, 36, 45, 54]
    assert search_levels(1) == [32]
    for points in (0, 21):
        with pytest.raises(ValueError, match="1 to 20 rates"):
            search_levels(points)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 2, 3], [1, 2, 3]), ([3, 1], [2, 2]), ([1, 5, 3, 4], [1, 4, 4, 4]), ([4, 3, 2, 9], [3, 3, 3, 9])],
)
def test_what_falls_is_replaced_by_its_mean(values, expected):
    assert rising(values) == expected


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=12))
def test_rising_values_never_fall_and_keep_their_mean(values):
    result = rising(values)
    assert all(a <= b + 1e-9 for a, b in pairwise(result))
    assert fmean(result) == pytest.approx(fmean(values), abs=1e-9)
    assert min(values) <= result[0] and result[-1] <= max(values)


def test_values_are_measured_between_the_rows_and_steps_interpolated():
    profile, picture = uniform(5), MadeUpPicture(3)

    def trials(rho):
        return [picture(rho)]

    rows = calibrate(profile, (0, 50, 100), trials)
    profile = Profile(profile.name, profile.purpose, profile.path, rows)
    dense = densified(profile, (25.0, 25.9, 50.0, 75.0), trials)
    assert [row.position for row in dense] == [0, 25, 50, 75, 100]
    assert dense[0] == rows[0] and dense[2] == rows[1]
    assert dense[1].psnr_db.value == picture(profile.rho(25)).psnr_db
    assert dense[1].log_bpp.per_step == pytest.approx(
        [max(0, (a + b) / 2) for a, b in zip(rows[0].log_bpp.per_step, rows[1].log_bpp.per_step, strict=True)]
    )
