"""Rate vectors, paths through their space, what is expected along them, and how they are stored."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import MadeUpPicture, MadeUpTrial

from hvcodec.profiles import Guide, Knot, Profile, calibrate, check, uniform
from hvcodec.targets import METRICS, Bpp, Bytes, MsSsim, Psnr, Ssimulacra2

BENT = Profile(
    "bent",
    "for tests",
    (Knot(0, (10, 5, 0)), Knot(40, (10, 20.5, 30)), Knot(100, (63, 40, 63))),
)


def steps(a, b):
    return [y - x for x, y in zip(a, b, strict=True)]


# --- rate vectors -------------------------------------------------------------------------------------------


def test_rate_vectors_are_checked():
    assert check([0, 63, 5], 3) == (0, 63, 5)
    for bad in ([0, 64, 5], [-1, 0, 0], [1, 2], [1, 2, 3, 4], [1.0, 2, 3], [True, 2, 3]):
        with pytest.raises(ValueError, match="3 whole numbers"):
            check(bad, 3)


# --- paths --------------------------------------------------------------------------------------------------


def test_the_equal_path_passes_all_equal_vectors_and_changes_one_group_at_a_time():
    ladder = uniform(5).ladder()
    assert len(ladder) == 63 * 5 + 1
    assert (ladder[0], ladder[-1]) == ((0,) * 5, (63,) * 5)
    assert all(sorted(steps(a, b)) == [0, 0, 0, 0, 1] for a, b in pairwise(ladder))
    assert all((r,) * 5 in ladder for r in range(64))


def test_coarse_groups_step_up_first():
    assert uniform(3).ladder()[:4] == ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1))


def test_quality_walks_the_path():
    profile = uniform(5)
    assert profile.rho(0) == (0,) * 5
    assert profile.rho(50) == (32, 32, 32, 31, 31)  # half of 63, coarse groups first
    assert profile.rho(100) == (63,) * 5
    assert BENT.rho(0) == (10, 5, 0)
    assert BENT.rho(100) == (63, 40, 63)
    for quality in (-0.1, 100.1, math.nan):
        with pytest.raises(ValueError, match="from 0 to 100"):
            profile.rho(quality)


def test_every_rung_of_a_bent_path_is_one_step_of_one_group():
    ladder = BENT.ladder()
    assert ladder[0] == (10, 5, 0)
    assert ladder[-1] == (63, 40, 63)
    assert all(sorted(steps(a, b)) == [0, 0, 1] for a, b in pairwise(ladder))
    assert len(ladder) == 1 + 53 + 35 + 63


@st.composite
def paths(draw):
    n_groups = draw(st.integers(1, 8))
    inner = sorted(draw(st.sets(st.integers(5, 995), max_size=4)))  # tenths: a cliff would be no line
    values = st.lists(st.floats(0, 63), min_size=len(inner) + 2, max_size=len(inner) + 2).map(sorted)
    columns = [draw(values) for _ in range(n_groups)]
    knots = zip([0.0, *(tenths / 10 for tenths in inner), 100.0], zip(*columns, strict=True), strict=True)
    return Profile("drawn", "", tuple(Knot(position, rho) for position, rho in knots))


@given(paths(), st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_any_path_is_monotone_and_near_its_line(profile, positions):
    ladder = profile.ladder()
    assert all(sorted(steps(a, b))[-1] == 1 == sum(steps(a, b)) for a, b in pairwise(ladder))
    vectors = [profile.rho(position) for position in sorted(positions)]
    assert all(min(steps(a, b)) >= 0 for a, b in pairwise(vectors))
    assert set(vectors) <= set(ladder)
    for position, vector in zip(sorted(positions), vectors, strict=True):
        assert check(vector, profile.n_groups) == vector
        assert all(abs(r - v) < 1 + 1e-6 for r, v in zip(vector, line_at(profile, position), strict=True))


def line_at(profile, position):
    for before, after in pairwise(profile.path):
        if before.position <= position <= after.position:
            part = (position - before.position) / (after.position - before.position)
            return [a + part * (b - a) for a, b in zip(before.rho, after.rho, strict=True)]
    raise AssertionError(position)


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        ([(0, (0, 0))], "from position 0 to 100"),
        ([(1, (0, 0)), (100, (1, 1))], "from position 0 to 100"),
        ([(0, (0, 0)), (99, (1, 1))], "from position 0 to 100"),
        ([(0, (0, 0)), (50, (1, 1)), (50, (2, 2)), (100, (3, 3))], "from position 0 to 100"),
        ([(0, (0, 0)), (100, (1, 1, 1))], "different numbers"),
        ([(0, ()), (100, ())], "different numbers"),
        ([(0, (0, 5)), (100, (9, 4))], "lowers a group"),
        ([(0, (0, 0)), (100, (64, 1))], "leaves 0..63"),
        ([(0, (-1, 0)), (100, (5, 1))], "leaves 0..63"),
        ([(0, (0, 0)), (100, (math.nan, 1))], "leaves 0..63"),
    ],
)
def test_paths_that_make_no_sense_are_refused(knots, message):
    with pytest.raises(ValueError, match=message):
        Profile("bad", "", tuple(Knot(*knot) for knot in knots))


# --- expectations -------------------------------------------------------------------------------------------


def linear_trial(rho):
    """Each step of the three groups adds 1, 2 and 4 % to the bytes and 0.1, 0 and 0.2 dB."""
    log_bytes = math.log(20_000) + sum(e * r for e, r in zip((0.01, 0.02, 0.04), rho, strict=True))
    return MadeUpTrial(
        n_bytes=round(math.exp(log_bytes)),
        psnr_db=30 + 0.1 * rho[0] + 0.2 * rho[2],
        ms_ssim=1 - 10 ** (-1 - 0.01 * sum(rho)),
        ssimulacra2=10 + sum(rho) / 4,
    )


def measured(profile, positions=(0, 30, 60, 100)):
    rows = calibrate(profile, positions, lambda rho: [linear_trial(rho), linear_trial(rho)])
    return Profile(profile.name, profile.purpose, profile.path, rows)


def test_calibration_finds_the_effects_of_single_steps():
    row = measured(BENT).measured[1]
    assert row.log_bpp.per_step == pytest.approx((0.01, 0.02, 0.04), abs=1e-4)
    assert row.psnr_db.per_step == pytest.approx((0.1, 0, 0.2), abs=1e-6)
    assert row.ms_ssim_db.per_step == pytest.approx((0.1, 0.1, 0.1), abs=1e-6)
    assert row.ssimulacra2.value == 10 + sum(BENT.rho(30)) / 4
    last = measured(BENT).measured[-1]  # at 63 a step can only go down
    assert last.log_bpp.per_step == pytest.approx((0.01, 0.02, 0.04), abs=1e-4)


def test_calibration_averages_over_the_pictures():
    pictures = [MadeUpPicture(seed) for seed in range(5)]
    rows = calibrate(uniform(5), (0, 100), lambda rho: [picture(rho) for picture in pictures])
    scores = [picture((0,) * 5).ssimulacra2 for picture in pictures]
    assert rows[0].ssimulacra2.value == pytest.approx(sum(scores) / 5)


def test_expectations_are_interpolated_between_the_rows():
    profile = measured(BENT, (0, 100))
    ends = [profile.expect("psnr_db", position).value for position in (0, 100)]
    assert profile.expect("psnr_db", 25).value == pytest.approx(ends[0] + (ends[1] - ends[0]) / 4)


@pytest.mark.parametrize("target", [Bytes(40_000), Bpp(0.7), Psnr(33), MsSsim(0.95), Ssimulacra2(20)])
@pytest.mark.parametrize("profile", [measured(BENT), BENT, uniform(5), uniform(1)])
def test_a_guide_holds_the_ladder(profile, target):
    guide = profile.guide(target)
    assert guide.ladder == profile.ladder()
    assert all(check(rho, profile.n_groups) == rho for rho in guide.ladder)


def test_a_guide_expects_what_each_step_of_its_ladder_gives():
    guide = measured(BENT).guide(Bytes(40_000))
    values = [math.log(linear_trial(rho).n_bytes) for rho in guide.ladder]
    errors = [e - v for e, v in zip(guide.expected, values, strict=True)]
    assert max(errors) - min(errors) < 0.02


def test_a_guide_knows_where_to_begin():
    profile = measured(BENT)
    target = Bytes(40_000)
    guide = profile.guide(target)
    index = guide.index(target.metric_aim(768 * 512))
    assert 0.95 * 40_000 < linear_trial(guide.ladder[index]).n_bytes < 1.03 * 40_000


def test_the_nearest_place_of_a_guide():
    guide = Guide(((0,), (1,), (2,), (3,)), (1.0, 2.0, 2.0, 4.0))
    assert [guide.index(value) for value in (-9, 1.4, 1.6, 2.9, 3.1, 99)] == [0, 0, 1, 2, 3, 3]
    assert [guide.index(value, 1, 2) for value in (-9, 99)] == [1, 2]


def test_guides_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="as many"):
        Guide(((0,), (1,)), (1.0,))
    with pytest.raises(ValueError, match="as many"):
        Guide((), ())
    with pytest.raises(ValueError, match="must not fall"):
        Guide(((0,), (1,)), (1.0, 0.9))


def test_usual_expectations_rise_with_every_metric():
    for metric in METRICS:
        values = [uniform(5).expect(metric, position).value for position in range(0, 101, 5)]
        assert values == sorted(values)


# --- storage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [BENT, uniform(5), measured(BENT)])
def test_profiles_survive_json(profile):
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


def broken(change):
    data = json.loads(json.dumps(measured(BENT).to_dict()))
    change(data)
    return data


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        None,
        broken(lambda d: d.pop("name")),
        broken(lambda d: d.update(path=7)),
        broken(lambda d: d["path"][0].pop("rho")),
        broken(lambda d: d["path"][0].update(rho=["a", 1, 2])),
        broken(lambda d: d["path"][1].update(rho=[1, 2])),
        broken(lambda d: d["measured"][0].pop("psnr_db")),
        broken(lambda d: d["measured"][0]["psnr_db"].update(per_step=[1.0])),
        broken(lambda d: d["measured"][1]["ssimulacra2"].update(value=math.nan)),
        broken(lambda d: d["measured"][0].update(position=99)),
        broken(lambda d: d.update(measured=d["measured"][:1])),
    ],
)
def test_damaged_profiles_are_refused(data):
    with pytest.raises(ValueError, match=r"not a rate profile|'bent'|to float"):
        Profile.from_dict(data)
