"""The metrics against hand-computed values, other programs' numbers, and an independent BD-rate."""

import math
import os
from pathlib import Path

import bjontegaard
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hvcodec import metrics

SHARED = Path(os.environ.get("HVCODEC_SHARED", Path(__file__).parents[3] / "shared"))


def _triangle(phase):
    return np.abs(phase % 256 - 128)


def made_up_picture(height, width):
    """A picture with slopes, edges and texture, in integer arithmetic, so that it is the same everywhere."""
    y, x = np.mgrid[:height, :width]
    red = 60 + _triangle(2 * x + y) + _triangle(x * y // 8) // 4
    green = 40 + _triangle(x + 3 * y) + _triangle(37 * x + 11 * y) // 5
    blue = 90 + _triangle(x - 2 * y) // 2 + 60 * ((x // 16 + y // 24) % 2)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def posterised(picture):
    return (picture // 16 * 16 + 8).astype(np.uint8)


def shifted(picture):
    """Each sample the mean of itself and its right neighbour."""
    wide = picture.astype(np.uint16)
    return ((wide + np.roll(wide, -1, axis=1)) // 2).astype(np.uint8)


# --- PSNR and bits per pixel --------------------------------------------------------------------------------


def test_psnr_of_one_step_in_one_of_four_samples():
    a = np.zeros((2, 2), np.uint8)
    b = a.copy()
    b[0, 1] = 1
    assert metrics.psnr(a, b) == pytest.approx(10 * math.log10(255**2 / (1 / 4)))


def test_psnr_counts_all_samples_of_all_channels_and_strips():
    a = np.full((130, 5, 3), 100, np.uint8)
    b = a.copy()
    b[0, 0, 0], b[129, 4, 2] = 110, 95
    assert metrics.psnr(a, b) == pytest.approx(10 * math.log10(255**2 * 130 * 5 * 3 / (10**2 + 5**2)))
    assert metrics.psnr(b, a) == metrics.psnr(a, b)


def test_psnr_of_black_against_white_is_zero_at_both_depths():
    for dtype in (np.uint8, np.uint16):
        black = np.zeros((3, 4), dtype)
        assert metrics.psnr(black, ~black) == pytest.approx(0)


def test_psnr_of_equal_pictures_is_infinite():
    a = made_up_picture(20, 30)
    assert metrics.psnr(a, a) == math.inf


def test_bpp():
    assert metrics.bpp(12288, 768, 128) == 1.0


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ms_ssim, metrics.ssimulacra2])
def test_pictures_that_cannot_be_compared_are_refused(metric):
    a = made_up_picture(180, 180)
    for other in (a[:, :-1], a.astype(np.uint16), a[..., 0]):
        with pytest.raises(ValueError, match="cannot compare"):
            metric(a, other)
    with pytest.raises(ValueError, match="uint8 or uint16"):
        metric(a.astype(np.float32), a.astype(np.float32))


# --- MS-SSIM and SSIMULACRA2 --------------------------------------------------------------------------------

# Made with pytorch-msssim 1.0.0 in float64, with the PyPI package ssimulacra2 0.3.0, and with the definition
# in libjxl's tool (recursive Gaussian and all) written out in C++ in double precision. The short sides have
# fewer than six scales.
REFERENCES = [
    # height, width, distortion, MS-SSIM, SSIMULACRA2 like python, like libjxl
    (241, 270, posterised, 0.9878801593, 77.2643, 78.2207),
    (241, 270, shifted, 0.9889072429, 73.0213, 74.0206),
    (384, 256, posterised, 0.9889381278, 78.4905, 78.8777),
    (384, 256, shifted, 0.9871368486, 72.1208, 72.7515),
    (165, 300, posterised, 0.9875655321, 68.7127, 78.6400),
    (165, 300, shifted, 0.9899723930, 64.0460, 73.6503),
    (101, 77, posterised, None, 26.2256, 68.7624),
    (101, 77, shifted, None, 14.6148, 57.7745),
]


@pytest.mark.parametrize(("height", "width", "distort", "ms_ssim", "python", "libjxl"), REFERENCES)
def test_other_programs_agree(height, width, distort, ms_ssim, python, libjxl):
    a = made_up_picture(height, width)
    b = distort(a)
    assert metrics.ssimulacra2(a, b) == pytest.approx(python, abs=1e-3)
    assert metrics.ssimulacra2(a, b, like="libjxl") == pytest.approx(libjxl, abs=1e-3)
    if ms_ssim is not None:
        assert metrics.ms_ssim(a, b) == pytest.approx(ms_ssim, abs=2e-6)


# Made with the same programs.
KODAK_REFERENCES = [
    # number, distortion, MS-SSIM, SSIMULACRA2 like python, like libjxl
    (5, posterised, 0.9919396955, 74.0590, 74.9971),
    (19, shifted, 0.9818535113, 34.5632, 34.7037),
    (20, posterised, 0.9834565276, 59.7904, 59.6262),
]


@pytest.mark.parametrize(("number", "distort", "ms_ssim", "python", "libjxl"), KODAK_REFERENCES)
def test_other_programs_agree_on_photographs(number, distort, ms_ssim, python, libjxl):
    path = SHARED / "kodak" / f"kodim{number:02d}.png"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with Image.open(path) as image:
        a = np.asarray(image.convert("RGB"))
    b = distort(a)
    assert metrics.ms_ssim(a, b) == pytest.approx(ms_ssim, abs=2e-6)
    assert metrics.ssimulacra2(a, b) == pytest.approx(python, abs=1e-3)
    assert metrics.ssimulacra2(a, b, like="libjxl") == pytest.approx(libjxl, abs=1e-3)


def test_equal_pictures_are_perfect():
    a = made_up_picture(170, 200)
    assert metrics.ms_ssim(a, a) == pytest.approx(1)
    assert metrics.ssimulacra2(a, a) == pytest.approx(100)


def test_grey_is_a_colour_with_equal_channels():
    grey = made_up_picture(170, 200)[..., 0]
    worse = posterised(grey)
    grey3, worse3 = (np.repeat(plane[..., None], 3, axis=2) for plane in (grey, worse))
    assert metrics.ssimulacra2(grey, worse) == pytest.approx(metrics.ssimulacra2(grey3, worse3), abs=1e-6)
    assert metrics.ms_ssim(grey, worse) == pytest.approx(metrics.ms_ssim(grey3, worse3), abs=1e-6)


def test_sixteen_bits_agree_with_eight():
    a = made_up_picture(170, 200)
    b = shifted(a)
    a16, b16 = (picture.astype(np.uint16) * 257 for picture in (a, b))
    for metric in (metrics.psnr, metrics.ms_ssim, metrics.ssimulacra2):
        assert metric(a16, b16) == pytest.approx(metric(a, b), abs=1e-5)


def test_inverted_contrast_counts_as_no_similarity():
    a = made_up_picture(170, 200)
    assert metrics.ms_ssim(a, 255 - a) == 0


def test_sides_that_are_too_short_are_refused():
    assert metrics.ms_ssim(*[made_up_picture(161, 161)] * 2) == pytest.approx(1)
    with pytest.raises(ValueError, match="161 pixels"):
        metrics.ms_ssim(*[made_up_picture(160, 300)] * 2)
    assert metrics.ssimulacra2(*[made_up_picture(8, 8)] * 2) == pytest.approx(100)
    with pytest.raises(ValueError, match="8 pixels"):
        metrics.ssimulacra2(*[made_up_picture(300, 7)] * 2)
    with pytest.raises(ValueError, match="grey or three colours"):
        metrics.ssimulacra2(*[np.zeros((20, 20, 4), np.uint8)] * 2)


def test_ms_ssim_in_decibels():
    assert metrics.ms_ssim_db(0.9) == pytest.approx(10)
    assert metrics.ms_ssim_db(0.99) == pytest.approx(20)
    assert metrics.ms_ssim_db(1.0) == math.inf


# --- BD-rate ------------------------------------------------------------------------------------------------

JPEG = ([0.30921, 0.51747, 0.77841, 0.99274, 1.39832, 1.93929], [26.94, 29.51, 31.46, 32.68, 34.54, 36.58])
WEBP = ([0.21742, 0.32644, 0.52602, 0.76866, 1.15431, 1.70006], [28.11, 29.60, 31.71, 33.73, 36.18, 38.65])


def reference_bd_rate(rate_a, quality_a, rate_b, quality_b):
    return bjontegaard.bd_rate(
        rate_a, quality_a, rate_b, quality_b, method="pchip", require_matching_points=False, min_overlap=0
    )


def test_bd_rate_of_a_constant_ratio_is_that_ratio():
    rate, quality = JPEG
    assert metrics.bd_rate(rate, quality, [0.8 * r for r in rate], quality) == pytest.approx(-20)
    assert metrics.bd_rate(rate, quality, [1.5 * r for r in rate], quality) == pytest.approx(50)


def test_bd_rate_of_straight_lines_is_the_mean_over_the_common_qualities():
    # log2 of the rates: q and q - (q - 1) = 1; in common are the qualities 1 to 3, where the mean of the
    # differences 1 - q is -1: half the rate.
    assert metrics.bd_rate([1, 8], [0, 3], [1, 16], [1, 5]) == pytest.approx(-50)


def test_bd_rate_does_not_depend_on_the_order_of_the_points():
    swapped = [values[::-1] for values in WEBP]
    assert metrics.bd_rate(*JPEG, *swapped) == pytest.approx(metrics.bd_rate(*JPEG, *WEBP))


def test_bd_rate_agrees_with_bjontegaard_on_jpeg_and_webp():
    ours = metrics.bd_rate(*JPEG, *WEBP)
    assert ours == pytest.approx(reference_bd_rate(*JPEG, *WEBP), abs=1e-6)
    assert -45 < ours < -35


@st.composite
def curves(draw):
    n_points = draw(st.integers(3, 9))
    steps = st.floats(0.3, 4)
    qualities = 25 + draw(st.floats(0, 2)) + np.cumsum(draw(st.lists(steps, min_size=n_points, max_size=n_points)))
    ratios = draw(st.lists(st.floats(0.8, 3), min_size=n_points, max_size=n_points))
    return 0.1 * np.cumprod(ratios), qualities


@settings(max_examples=200, deadline=None, derandomize=True)
@given(curves(), curves())
def test_bd_rate_agrees_with_bjontegaard_also_where_rates_fall(a, b):
    if max(a[1][0], b[1][0]) + 0.01 > min(a[1][-1], b[1][-1]):
        with pytest.raises(ValueError, match="in common"):
            metrics.bd_rate(*a, *b[:1], b[1] + 100)
        return
    assert metrics.bd_rate(*a, *b) == pytest.approx(reference_bd_rate(*a, *b), abs=0.1, rel=1e-9)


@pytest.mark.parametrize(
    ("rate", "quality", "message"),
    [
        ([1.0], [30.0], "two or more points"),
        ([1.0, 2.0], [30.0], "two or more points"),
        ([0.0, 2.0], [30.0, 31.0], "positive"),
        ([1.0, 2.0], [30.0, math.nan], "finite"),
        ([1.0, 2.0], [30.0, 30.0], "one rate for each quality"),
        ([1.0, 2.0], [40.0, 41.0], "in common"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(rate, quality, message):
    with pytest.raises(ValueError, match=message):
        metrics.bd_rate(*JPEG, rate, quality)
