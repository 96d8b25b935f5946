"""The search: targets are met in few encodes, on curves of every kind that a picture could have."""

import gc
import math
import random
import statistics
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import N_PIXELS, MadeUpPicture, MadeUpTrial

from hvcodec.errors import TargetError
from hvcodec.rate import (
    MAX_TRIALS,
    MOST_TRIM,
    Bpp,
    Bytes,
    Guide,
    MsSsim,
    Profile,
    Psnr,
    Ssimulacra2,
    calibrate,
    search,
    uniform,
)


class Counted:
    """A made-up encoder that remembers what it was asked, and refuses to encode anything twice."""

    def __init__(self, trial):
        self.trial = trial
        self.asked = []

    def __call__(self, rho, trim):
        assert (rho, trim) not in self.asked
        self.asked.append((rho, trim))
        return self.trial(rho, trim)

    @property
    def walked(self):
        return [rho[0] for rho, trim in self.asked if trim == 0]


def line_guide(n, rise=0.01):
    """A guide of one group."""
    return Guide(tuple((i,) for i in range(n)), tuple(rise * i for i in range(n)))


def bytes_at(curve, keenness=0.0):
    """An encoder whose trim takes off as many parts of the bytes as `keenness` says."""
    return Counted(lambda rho, trim: MadeUpTrial(max(1, round(curve(rho[0]) * math.exp(-keenness * trim)))))


def psnr_at(curve):
    return Counted(lambda rho, trim: MadeUpTrial(1000, psnr_db=curve(rho[0])))


# --- curves of every kind -----------------------------------------------------------------------------------


def test_a_perfect_expectation_needs_two_encodes():
    encode = bytes_at(lambda i: 3000 * math.exp(0.01 * i))
    result = search(encode, Bytes(20_000), line_guide(300), first_guess=10)
    assert result.within_tolerance
    assert 0.97 * 20_000 <= result.trial.n_bytes <= 20_000
    assert result.trials == len(encode.asked) == 2
    assert (result.rho, result.trim) == encode.asked[-1]


def test_the_window_is_that_of_what_answers_to_the_rate_until_nothing_is_left():
    """Of 21,000 bytes 20,000 are metadata: the smallest file is 3 % below, but the picture can have four times more."""
    curve, given_bytes = (lambda i: 20_000 + 250 * math.exp(0.01 * i)), 20_000
    found = search(bytes_at(curve), Bytes(21_000).beside(given_bytes, N_PIXELS), line_guide(300), first_guess=0)
    assert found.within_tolerance and 20_970 <= found.trial.n_bytes <= 21_000
    # At the upper end what was asked for counts: 98 % of the file, though only 60 % of the rest.
    end = search(bytes_at(curve), Bytes(21_000).beside(given_bytes, N_PIXELS), line_guide(90))
    assert end.within_tolerance and end.trial.n_bytes == round(curve(89))
    with pytest.raises(TargetError, match=r"no setting gives 22000 bytes: .* \(quality 100\)"):
        search(bytes_at(curve), Bytes(22_000).beside(given_bytes, N_PIXELS), line_guide(90))


def test_only_the_nearest_trial_is_kept_meanwhile():
    kept, alive = [], []

    def encode(rho, trim):
        gc.collect()
        alive.append(sum(reference() is not None for reference in kept))
        trial = MadeUpTrial(1000 * 2 ** rho[0])
        kept.append(weakref.ref(trial))
        return trial

    search(encode, Bytes(7000), line_guide(5, rise=0.7))
    assert len(alive) >= 3
    assert max(alive) == 1


def test_a_good_guess_needs_one_encode():
    encode = bytes_at(lambda i: 3000 * math.exp(0.01 * i))
    assert search(encode, Bytes(20_000), line_guide(300), first_guess=188).trials == 1


@pytest.mark.parametrize("slope", [0.5, 0.8, 1.3, 2.0])
@pytest.mark.parametrize("curvature", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize("guess", [0, 60, 250, None])
def test_smooth_curves_of_other_slopes_and_curvatures(slope, curvature, guess):
    def psnr(i):
        return 25 + slope * (0.04 * i + curvature * (i / 300) * (1 - i / 300) * 4)

    target = Psnr(25 + 5.5 * slope)
    result = search(psnr_at(psnr), target, line_guide(300, rise=0.04), first_guess=guess)
    assert result.within_tolerance
    assert target.db <= result.trial.psnr_db <= target.db + 0.1
    assert result.trials <= 6


def test_a_noisy_curve():
    noise = random.Random(5)
    wobble = [noise.uniform(-0.02, 0.02) for _ in range(300)]
    result = search(psnr_at(lambda i: 25 + 0.04 * i + wobble[i]), Psnr(31.2), line_guide(300, rise=0.04))
    assert result.within_tolerance


def test_a_curve_that_falls_in_places():
    def psnr(i):
        return 30 + 0.03 * i + 0.8 * math.sin(i / 9)

    for db in (31.0, 33.3, 35.1, 37.0):
        encode = psnr_at(psnr)
        result = search(encode, Psnr(db), line_guide(300, rise=0.03))
        assert result.trial.psnr_db >= db
        assert len(encode.asked) <= MAX_TRIALS


def test_a_fall_where_the_search_begins_says_nothing_of_the_slope():
    """Believed to be flat, the curve would be left far behind."""
    encode = psnr_at(lambda i: 30 + 0.03 * i - (i > 102))
    result = search(encode, Psnr(33.6), line_guide(300, rise=0.03), first_guess=102)
    assert result.within_tolerance
    assert encode.walked[0] == 102
    assert result.trial.psnr_db < 33.7
    assert result.trials <= 3


def test_a_step_that_is_too_coarse_keeps_the_side_that_matters():
    jump = [10_000] * 150 + [20_000] * 150
    result = search(bytes_at(lambda i: jump[i]), Bytes(15_000), line_guide(300))
    assert (result.trial.n_bytes, result.within_tolerance) == (10_000, False)
    result = search(psnr_at(lambda i: jump[i] / 500), Psnr(30), line_guide(300, rise=0.05))
    assert (result.trial.psnr_db, result.within_tolerance) == (40.0, False)


def test_of_coarse_steps_the_best_that_keeps_to_the_target_is_returned():
    sizes = [1000, 2000, 4000, 8000, 16_000]
    encode = bytes_at(lambda i: sizes[i])
    result = search(encode, Bytes(7000), line_guide(5, rise=0.7))
    assert (result.trial.n_bytes, result.within_tolerance) == (4000, False)
    assert {2, 3} <= set(encode.walked)


@pytest.mark.parametrize("keenness", [0.25, 0.6, 1.5, 4.0])
@pytest.mark.parametrize("n_bytes", range(14_000, 20_001, 500))
def test_trim_meets_what_lies_between_coarse_steps(keenness, n_bytes):
    """A step of the guide changes the size by 7 %, twice the tolerance."""
    encode = bytes_at(lambda i: 10_000 * math.exp(0.07 * i), keenness)
    guide = line_guide(30, rise=0.07)
    result = search(encode, Bytes(n_bytes), guide, first_guess=8)
    assert result.within_tolerance
    assert result.trials <= 6
    assert abs(result.trim) <= MOST_TRIM


@pytest.mark.parametrize("goal", [31 + 0.013 * i for i in range(40)])
def test_trim_meets_a_target_where_a_little_of_it_hardly_tells(goal):
    """A step changes the PSNR by 0.16 dB; the error is smallest without trim, so trim takes off its square."""
    encode = Counted(lambda rho, trim: MadeUpTrial(1000, psnr_db=30 + 0.16 * rho[0] - 4.5 * trim * abs(trim)))
    result = search(encode, Psnr(goal), line_guide(60, rise=0.16), first_guess=12)
    assert result.within_tolerance
    assert result.trials <= MAX_TRIALS


@pytest.mark.parametrize("goal", [31 + 0.013 * i for i in range(40)])
def test_trim_stays_on_the_side_that_is_allowed(goal):
    """Where symbols are the nearest integers, less trim than none makes a larger file of a worse picture."""

    def picture(rho, trim):
        worse = 4.5 * trim**2 if trim > 0 else -3 * trim
        return MadeUpTrial(1000, psnr_db=30 + 0.2 * rho[0] - worse)

    encode = Counted(picture)
    result = search(encode, Psnr(goal), line_guide(60, rise=0.2), first_guess=12, least_trim=0)
    assert result.within_tolerance
    assert all(0 <= trim <= MOST_TRIM for _, trim in encode.asked)


@pytest.mark.parametrize("goal", [40.05 + 0.1 * i for i in range(30)])
def test_trim_is_fine_enough_for_a_picture_that_answers_keenly(goal):
    """A step changes the score by three points, and a hundredth of trim by two."""
    encode = Counted(lambda rho, trim: MadeUpTrial(1000, ssimulacra2=10 + 3 * rho[0] - 200 * trim))
    result = search(encode, Ssimulacra2(goal), line_guide(20, rise=3.0), first_guess=9, least_trim=0)
    assert result.within_tolerance
    assert result.trials <= MAX_TRIALS


def test_a_picture_that_answers_trim_the_wrong_way_does_not_mislead():
    encode = bytes_at(lambda i: 10_000 * math.exp(0.07 * i), keenness=-1.0)
    result = search(encode, Bytes(16_000), line_guide(30, rise=0.07), first_guess=6)
    assert result.trial.n_bytes <= 16_000
    assert result.trials <= MAX_TRIALS


def test_without_trim_only_vectors_are_tried():
    encode = bytes_at(lambda i: 10_000 * math.exp(0.07 * i), keenness=1.0)
    result = search(encode, Bytes(16_000), line_guide(30, rise=0.07), first_guess=6, most_trim=0, least_trim=0)
    assert all(trim == 0 for _, trim in encode.asked)
    assert (result.trial.n_bytes, result.trim) == (round(10_000 * math.exp(0.42)), 0)


def test_the_last_trial_is_safe():
    # Whatever is tried is too large, except at the very start.
    encode = bytes_at(lambda i: 900 if i == 0 else 2_000_000 + i)
    result = search(encode, Bytes(1000), line_guide(300), max_trials=3)
    assert (result.trial.n_bytes, result.trials) == (900, 3)


# --- targets out of reach -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encode", "target", "nearest", "message"),
    [
        (bytes_at(lambda i: 3000 + 10 * i), Bytes(2000), 3000, "2000 bytes: the nearest gives 3000 bytes"),
        (bytes_at(lambda i: 3000 + 10 * i), Bytes(9000), 5990, "9000 bytes: the nearest gives 5990 bytes"),
        (bytes_at(lambda i: 5000), Bytes(9000), 5000, "nearest gives 5000 bytes"),
        (bytes_at(lambda i: 5000), Bpp(0.01), 5000, "0.01 bpp: the nearest gives 0.1017 bpp"),
    ],
)
def test_sizes_out_of_reach(encode, target, nearest, message):
    with pytest.raises(TargetError, match=message) as caught:
        search(encode, target, line_guide(300))
    assert caught.value.nearest.trial.n_bytes == nearest
    assert not caught.value.nearest.within_tolerance
    assert len(encode.asked) == caught.value.nearest.trials <= 5


@pytest.mark.parametrize("db", [24.0, 38.0])
def test_qualities_out_of_reach(db):
    encode = psnr_at(lambda i: 25 + 0.04 * i)
    with pytest.raises(TargetError, match=f"{db:g} dB PSNR: the nearest gives") as caught:
        search(encode, Psnr(db), line_guide(300, rise=0.04))
    assert caught.value.nearest.trial.psnr_db == pytest.approx(25 if db < 25 else 36.96)


def test_a_picture_that_is_always_perfect_cannot_be_worse():
    encode = psnr_at(lambda i: math.inf)
    with pytest.raises(TargetError, match="the nearest gives inf dB"):
        search(encode, Psnr(40), line_guide(300, rise=0.04))


def test_one_trial_that_does_not_keep_to_the_target_is_not_enough():
    with pytest.raises(TargetError):
        search(bytes_at(lambda i: 3000 + i), Bytes(3100), line_guide(300), first_guess=200, max_trials=1)
    with pytest.raises(ValueError, match="at least one trial"):
        search(bytes_at(lambda i: 3000), Bytes(3100), line_guide(300), max_trials=0)


# --- only what is needed is measured ------------------------------------------------------------------------


class Unmeasured:
    """A trial whose qualities must not be read."""

    n_bytes = 5000
    bpp = 0.1


def test_a_size_measures_no_quality():
    assert search(lambda rho, trim: Unmeasured(), Bytes(5100), line_guide(9)).trial.n_bytes == 5000
    assert search(lambda rho, trim: Unmeasured(), Bpp(0.102), line_guide(9)).within_tolerance


# --- laws ---------------------------------------------------------------------------------------------------


@given(
    curve=st.lists(st.floats(20, 60), min_size=1, max_size=60),
    db=st.floats(15, 65),
    guess=st.integers(-5, 70),
    max_trials=st.integers(1, 9),
)
def test_any_curve_ends_with_the_target_kept_or_an_error(curve, db, guess, max_trials):
    encode = psnr_at(lambda i: curve[i])
    target = Psnr(db)
    guide = line_guide(len(curve), rise=0.05)
    try:
        result = search(encode, target, guide, first_guess=guess, max_trials=max_trials)
    except TargetError as error:
        result = error.nearest
        assert not result.within_tolerance
    else:
        assert result.trial.psnr_db >= db
        assert result.within_tolerance == (result.trial.psnr_db <= db + 0.1)
    assert result.trials == len(encode.asked) <= max_trials
    assert result.trial.psnr_db == curve[result.rho[0]]


@given(
    values=st.lists(st.integers(100, 10**6), min_size=1, max_size=60).map(sorted),
    n_bytes=st.integers(50, 2 * 10**6),
)
def test_a_rising_size_is_reached_whenever_some_step_does(values, n_bytes):
    encode = bytes_at(lambda i: values[i])
    reachable = [v for v in values if 0.97 * n_bytes <= v <= n_bytes]
    # With as many trials as there are places, nothing that fits may be overlooked.
    guide = line_guide(len(values), rise=0.1)
    try:
        result = search(encode, Bytes(n_bytes), guide, max_trials=len(values) + 1, most_trim=0, least_trim=0)
    except TargetError:
        assert not reachable
    else:
        assert result.within_tolerance == bool(reachable)
        assert result.trial.n_bytes == max(v for v in encoded(values, encode) if v <= n_bytes)


def encoded(values, encode):
    return [values[i] for i in encode.walked]


# --- many pictures ------------------------------------------------------------------------------------------

CALIBRATION = [MadeUpPicture(10_000 + i) for i in range(24)]
PLAIN = uniform(5)
MEASURED = Profile(
    "equal",
    "measured",
    PLAIN.path,
    calibrate(PLAIN, range(0, 101, 10), lambda rho: [picture(rho) for picture in CALIBRATION]),
)
TARGETS = {
    "bytes": lambda trial: Bytes(trial.n_bytes),
    "bpp": lambda trial: Bpp(trial.bpp),
    "psnr": lambda trial: Psnr(trial.psnr_db),
    "ms-ssim": lambda trial: MsSsim(trial.ms_ssim),
    "ssimulacra2": lambda trial: Ssimulacra2(trial.ssimulacra2),
}


def outcomes(profile, kind, n_pictures):
    """Results of searches for what each picture has somewhere on the path."""
    guides = []
    for seed in range(n_pictures):
        picture = MadeUpPicture(seed)
        somewhere = profile.rho(random.Random(seed).uniform(3, 97))
        target = TARGETS[kind](picture(somewhere))
        guide = profile.guide(target)
        guides.append(search(Counted(picture), target, guide, first_guess=guide.index(target.metric_aim(N_PIXELS))))
    return guides


@pytest.mark.parametrize("kind", TARGETS)
def test_measured_profiles_meet_all_targets_in_few_encodes(kind):
    results = outcomes(MEASURED, kind, 500)
    assert all(result.within_tolerance for result in results)
    assert statistics.median(result.trials for result in results) <= 3
    assert max(result.trials for result in results) <= MAX_TRIALS


@pytest.mark.parametrize("kind", TARGETS)
def test_profiles_that_were_not_measured_meet_nearly_all_targets(kind):
    results = outcomes(PLAIN, kind, 150)
    assert statistics.mean(result.within_tolerance for result in results) >= 0.97
    assert statistics.median(result.trials for result in results) <= 4
    assert max(result.trials for result in results) <= MAX_TRIALS


def test_log_linear_curves_with_offset_curvature_and_noise():
    """One group with 316 places, whose expectation is a straight line; 500 pictures."""
    guide = line_guide(316, rise=4 / 315)
    results = []
    for seed in range(500):
        draw = random.Random(seed)
        offset, bend, slope = draw.gauss(0, 0.4), draw.uniform(-0.5, 0.5), draw.uniform(0.8, 1.25)

        def curve(i, seed=seed, offset=offset, bend=bend, slope=slope):
            x = i / 315
            noise = 0.003 * random.Random(1000 * seed + i).uniform(-1, 1)
            return 8000 * math.exp(offset + slope * 4 * x + bend * 4 * x * (1 - x) + noise)

        n_bytes = round(curve(draw.randint(10, 300)) * 1.01)
        guess = guide.index(math.log(n_bytes / 8000) + draw.gauss(0, 0.1))
        results.append(search(bytes_at(curve), Bytes(n_bytes), guide, first_guess=guess))
    assert all(result.within_tolerance for result in results)
    assert statistics.median(result.trials for result in results) <= 4
    assert max(result.trials for result in results) <= MAX_TRIALS
