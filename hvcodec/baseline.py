"""The gain of a rate vector: how much more it gives than all-equal vectors at the same number of bytes.

All numbers are means over pictures. The metric of all-equal vectors is a smooth curve over the logarithm of
their rate, measured at some of them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .metrics import monotone_slopes
from .profiles import RHO_MAX, Rho


@dataclass(frozen=True)
class Outcome:
    """What pictures cost and gave at a rate vector, on average."""

    log_bpp: float
    value: float  # of the metric, higher is better


Measure = Callable[[Rho], Outcome]


@dataclass(frozen=True)
class Tried:
    """A rate vector, its outcome, and its gain over all-equal vectors; -inf where these have no such rate."""

    rho: Rho
    outcome: Outcome
    gain: float


class Curve:
    """A function through points, piecewise cubic and without overshoot (PCHIP); `x` must rise."""

    def __init__(self, x: Sequence[float], y: Sequence[float]) -> None:
        if len(x) < 2 or len(x) != len(y) or any(a >= b for a, b in pairwise(x)):
            raise ValueError("a curve has two or more points, and they rise")
        self.x, self.y = list(x), list(y)
        self.slopes = [float(slope) for slope in monotone_slopes(np.asarray(x, float), np.asarray(y, float))]

    def covers(self, x: float) -> bool:
        """Whether x lies between the first and the last point."""
        return self.x[0] <= x <= self.x[-1]

    def __call__(self, x: float) -> float:
        """The value at x; the nearest end's beyond the points."""
        x = min(max(x, self.x[0]), self.x[-1])
        i = min(max(bisect_right(self.x, x) - 1, 0), len(self.x) - 2)
        width = self.x[i + 1] - self.x[i]
        t = (x - self.x[i]) / width
        left = (1 + 2 * t) * (1 - t) ** 2 * self.y[i] + t * (1 - t) ** 2 * width * self.slopes[i]
        right = t * t * (3 - 2 * t) * self.y[i + 1] - t * t * (1 - t) * width * self.slopes[i + 1]
        return left + right


class Baseline:
    """All-equal vectors from the lowest rate to the highest: what every other vector is judged against."""

    def __init__(self, levels: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        rising: list[tuple[int, Outcome]] = []
        for level, outcome in zip(levels, outcomes, strict=True):
            if not rising or outcome.log_bpp > rising[-1][1].log_bpp:
                rising.append((level, outcome))
        if len(rising) < len(levels) / 2 or len(rising) < 2:
            raise ValueError("the rate of all-equal vectors does not rise with them: is the model trained?")
        rates = [outcome.log_bpp for _, outcome in rising]
        self._values = Curve(rates, [outcome.value for _, outcome in rising])
        self._levels = Curve(rates, [float(level) for level, _ in rising])
        self._rates = Curve([float(level) for level, _ in rising], rates)

    def gain(self, outcome: Outcome) -> float:
        """How much better this is than all-equal vectors at the same rate."""
        if not self._values.covers(outcome.log_bpp):
            return -math.inf
        return outcome.value - self._values(outcome.log_bpp)

    def judge(self, rho: Rho, outcome: Outcome) -> Tried:
        """A vector with its outcome and gain."""
        return Tried(rho, outcome, self.gain(outcome))

    def level(self, log_bpp: float) -> float:
        """The all-equal vector with this rate; it need not be whole."""
        return self._levels(log_bpp)

    def log_bpp(self, level: float) -> float:
        """The rate of an all-equal vector."""
        return self._rates(level)

    def step(self, level: float) -> float:
        """What one step of all groups adds to the metric."""
        low, high = max(level - 1, 0.0), min(level + 1, RHO_MAX)
        return (self._values(self.log_bpp(high)) - self._values(self.log_bpp(low))) / (high - low)
