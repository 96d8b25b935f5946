"""Quality and rate metrics: PSNR, MS-SSIM, SSIMULACRA2, bits per pixel, and BD-rate between two curves.

Pictures are uint8 or uint16 arrays, (height, width) or (height, width, channels), in sRGB. Every metric of
two pictures raises ValueError where their shapes or dtypes differ.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hvcodec.similarity import Doubles, Pixels, common_peak, ms_ssim, ssimulacra2, strips

__all__ = ["bd_rate", "bpp", "ms_ssim", "ms_ssim_db", "psnr", "ssimulacra2"]


def bpp(n_bytes: int, width: int, height: int) -> float:
    """Bits per pixel of a file of `n_bytes` for a picture of this size."""
    return 8 * n_bytes / (width * height)


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all samples of two pictures; infinite if they are equal."""
    peak = common_peak(a, b)
    squares = 0.0
    for rows in strips(a.shape[0]):
        difference = a[rows].astype(np.float64) - b[rows]
        squares += float(np.vdot(difference, difference))
    if squares == 0:
        return math.inf
    return 10 * math.log10(peak * peak * a.size / squares)


def ms_ssim_db(value: float) -> float:
    """MS-SSIM on the decibel scale, -10 log10(1 - x), where equal steps look more alike."""
    return math.inf if value >= 1 else -10 * math.log10(1 - value)


def bd_rate(rate_a: npt.ArrayLike, quality_a: npt.ArrayLike, rate_b: npt.ArrayLike, quality_b: npt.ArrayLike) -> float:
    """Bjontegaard delta rate: how many percent more bits curve b needs than the anchor a at equal quality.

    The logarithm of the rate is interpolated over quality by monotone cubics (PCHIP) and averaged over the
    qualities that both curves cover. Raises ValueError where they have none in common, or where a curve has
    fewer than two points, two points of equal quality, or a rate that is not positive.
    """
    curve_a, curve_b = _LogRate(rate_a, quality_a), _LogRate(rate_b, quality_b)
    low, high = max(curve_a.low, curve_b.low), min(curve_a.high, curve_b.high)
    if low >= high:
        raise ValueError(
            f"no quality in common: {curve_a.low:g}..{curve_a.high:g} and {curve_b.low:g}..{curve_b.high:g}"
        )
    mean_log_ratio = (curve_b.integral(low, high) - curve_a.integral(low, high)) / (high - low)
    return 100 * math.expm1(mean_log_ratio)


class _LogRate:
    """The logarithm of a rate as a piecewise cubic of the quality, without overshoot."""

    def __init__(self, rate: npt.ArrayLike, quality: npt.ArrayLike) -> None:
        rates, qualities = np.asarray(rate, dtype=np.float64), np.asarray(quality, dtype=np.float64)
        if rates.ndim != 1 or rates.shape != qualities.shape or rates.size < 2:
            raise ValueError(f"a curve has two or more points, not rates {rates.shape} at {qualities.shape}")
        if not (np.isfinite(rates).all() and np.isfinite(qualities).all() and rates.min() > 0):
            raise ValueError("rates are positive and qualities finite")
        order = np.argsort(qualities)
        self.x, self.y = qualities[order], np.log(rates[order])
        if np.diff(self.x).min() <= 0:
            raise ValueError("a curve has one rate for each quality")
        self.low, self.high = float(self.x[0]), float(self.x[-1])
        self.slopes = monotone_slopes(self.x, self.y)

    def integral(self, low: float, high: float) -> float:
        """Integrate from `low` to `high`, both inside the curve."""
        return self._from_start(high) - self._from_start(low)

    def _from_start(self, x: float) -> float:
        widths = np.diff(self.x)
        t = np.clip((x - self.x[:-1]) / widths, 0, 1)  # how much of each piece lies below x
        # Antiderivatives of the four cubic Hermite polynomials.
        parts = (
            (t - t**3 + t**4 / 2) * self.y[:-1]
            + (t**3 - t**4 / 2) * self.y[1:]
            + (t**2 / 2 - 2 * t**3 / 3 + t**4 / 4) * widths * self.slopes[:-1]
            + (t**4 / 4 - t**3 / 3) * widths * self.slopes[1:]
        )
        return float((widths * parts).sum())


def monotone_slopes(x: Doubles, y: Doubles) -> Doubles:
    """Slopes of the monotone cubic interpolant at its points (Fritsch and Butland 1984)."""
    widths, secants = np.diff(x), np.diff(y) / np.diff(x)
    if len(secants) == 1:
        return np.repeat(secants, 2)
    slopes = np.zeros_like(y)
    rising = secants[:-1] * secants[1:] > 0  # a turning point keeps the slope 0
    before = 2 * widths[1:] + widths[:-1]
    after = widths[1:] + 2 * widths[:-1]
    weighted = before[rising] / secants[:-1][rising] + after[rising] / secants[1:][rising]
    slopes[1:-1][rising] = (before + after)[rising] / weighted
    slopes[0] = _end_slope(widths[0], widths[1], secants[0], secants[1])
    slopes[-1] = _end_slope(widths[-1], widths[-2], secants[-1], secants[-2])
    return slopes


def _end_slope(width: float, next_width: float, secant: float, next_secant: float) -> float:
    """Three-point slope at an end, held back so that the first piece stays monotone."""
    slope = ((2 * width + next_width) * secant - width * next_secant) / (width + next_width)
    if slope * secant <= 0:
        return 0.0
    if secant * next_secant <= 0 and abs(slope) > 3 * abs(secant):
        return 3 * secant
    return slope
