"""What a target reads from a trial, what it accepts, and how people write sizes."""

import math

import pytest
from made_up import N_PIXELS, MadeUpTrial

from hvcodec.targets import METRICS, Bpp, Bytes, MsSsim, Psnr, Ssimulacra2, parse_size

LEAST, MOST = 96_999, 100_000


@pytest.mark.parametrize(
    ("target", "trial", "is_met", "is_kept"),
    [
        (Bytes(1000), MadeUpTrial(1000), True, True),
        (Bytes(1000), MadeUpTrial(970), True, True),
        (Bytes(1000), MadeUpTrial(969), False, True),
        (Bytes(1000), MadeUpTrial(1001), False, False),
        (Bpp(1.0), MadeUpTrial(N_PIXELS // 8), True, True),
        (Bpp(1.0), MadeUpTrial(math.ceil(0.97 * N_PIXELS / 8)), True, True),
        (Bpp(1.0), MadeUpTrial(math.ceil(0.97 * N_PIXELS / 8) - 1), False, True),
        (Bpp(1.0), MadeUpTrial(N_PIXELS // 8 + 1), False, False),
        (Psnr(35), MadeUpTrial(9, psnr_db=35.0), True, True),
        (Psnr(35), MadeUpTrial(9, psnr_db=34.9999), False, False),
        (Psnr(35), MadeUpTrial(9, psnr_db=35.0999), True, True),
        (Psnr(35), MadeUpTrial(9, psnr_db=35.1001), False, True),
        (Psnr(35), MadeUpTrial(9, psnr_db=math.inf), False, True),
        # 20 dB and 20.1 dB: 1 - 10 ** -2.01 = 0.990227...
        (MsSsim(0.99), MadeUpTrial(9, ms_ssim=0.99), True, True),
        (MsSsim(0.99), MadeUpTrial(9, ms_ssim=0.98999), False, False),
        (MsSsim(0.99), MadeUpTrial(9, ms_ssim=0.99022), True, True),
        (MsSsim(0.99), MadeUpTrial(9, ms_ssim=0.99023), False, True),
        (MsSsim(0.99), MadeUpTrial(9, ms_ssim=1.0), False, True),
        (Ssimulacra2(70), MadeUpTrial(9, ssimulacra2=71.0), True, True),
        (Ssimulacra2(70), MadeUpTrial(9, ssimulacra2=71.01), False, True),
        (Ssimulacra2(70), MadeUpTrial(9, ssimulacra2=69.99), False, False),
        (Ssimulacra2(-20), MadeUpTrial(9, ssimulacra2=-19.5), True, True),
    ],
)
def test_tolerances(target, trial, is_met, is_kept):
    value = target.value(trial)
    assert math.isfinite(value)
    assert target.is_met(value) == is_met
    assert target.is_kept(value) == is_kept
    assert (target.distance(value) == 0) == is_met


def test_aims_lie_inside_the_window_and_on_the_scale_of_the_metric():
    trial = MadeUpTrial(50_000, psnr_db=35, ms_ssim=0.99, ssimulacra2=70)
    for target in (Bytes(50_000), Bpp(trial.bpp), Psnr(35), MsSsim(0.99), Ssimulacra2(70)):
        assert target.low < target.aim < target.high
        from_metric = METRICS[target.metric](trial) - target.value(trial)
        assert target.metric_aim(N_PIXELS) - target.aim == pytest.approx(from_metric, abs=1e-12)


def test_what_no_setting_changes_is_left_out_of_a_size():
    trial = MadeUpTrial(50_000)
    for target in (Bytes(53_000), Bpp(53_000 * 8 / N_PIXELS)):
        rest = target.beside(40_000, N_PIXELS)
        assert str(rest) == str(target)
        assert rest.value(trial) - rest.goal == pytest.approx(math.log(10_000 / 13_000))
        assert not rest.is_met(rest.value(trial))
        assert rest.is_kept(rest.value(MadeUpTrial(53_000)))
        assert not rest.is_kept(rest.value(MadeUpTrial(53_001)))
        assert rest.metric_aim(N_PIXELS) == pytest.approx(math.log(13_000 * 0.97**0.5 * 8 / N_PIXELS))
        # Less than nothing is left: no file is small enough, whatever the search computes with.
        beyond = target.beside(53_000, N_PIXELS)
        assert not beyond.is_kept(beyond.value(MadeUpTrial(53_046)))
    assert Psnr(35).beside(40_000, N_PIXELS) == Psnr(35)


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (Bytes, 0),
        (Bytes, -5),
        (Bytes, math.nan),
        (Bytes, math.inf),
        (Bpp, 0.0),
        (Bpp, math.inf),
        (Bpp, math.nan),
        (Psnr, -1.0),
        (Psnr, math.inf),
        (Psnr, math.nan),
        (MsSsim, math.nan),
        (MsSsim, 1.0),
        (MsSsim, 0.0),
        (Ssimulacra2, 100.0),
        (Ssimulacra2, math.nan),
    ],
)
def test_targets_that_make_no_sense_are_refused(make, value):
    with pytest.raises(ValueError, match=r"not"):
        make(value)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("50000", 50_000),
        ("50k", 50_000),
        (" 50 K ", 50_000),
        ("50kB", 50_000),
        ("1.5M", 1_500_000),
        (".5m", 500_000),
        ("2.", 2),
        ("1.001k", 1001),
        ("50KiB", 51_200),
        ("1.5Mi", 1_572_864),
        ("1G", 1_000_000_000),
        ("700b", 700),
    ],
)
def test_sizes_as_people_write_them(text, n_bytes):
    assert parse_size(text) == Bytes(n_bytes)


@pytest.mark.parametrize("text", ["", "k", "-5k", "5x", "5 kk", "1e3", "0", "0.2", "50iB", "1,5M", "٣k"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(ValueError, match=r"size"):
        parse_size(text)
