"""Targets that a compressed picture can be asked to meet: size, bits per pixel, PSNR, MS-SSIM, SSIMULACRA2.

A target reads one number from a trial and has a window for it. One side of the window is kept at any price (a
size is not exceeded, a quality is reached); the other says how much may be given away.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import ClassVar, Protocol

# How much may be given away: an unused part of a size or rate (as a logarithm), decibels, points.
UNUSED = -math.log(0.97)
DECIBELS_ABOVE = 0.1
POINTS_ABOVE = 1.0

# Metrics are clipped where a picture is (almost) perfect, so that the search can compute with them.
LARGEST_DB = 150.0
NO_RATE = 1e-9  # bits per pixel, where a picture's other parts leave nothing for it


class Trial(Protocol):
    """What one encode of the picture cost and gave; qualities are measured only when they are read."""

    @property
    def n_bytes(self) -> int: ...
    @property
    def bpp(self) -> float: ...
    @property
    def psnr_db(self) -> float: ...
    @property
    def ms_ssim(self) -> float: ...
    @property
    def ssimulacra2(self) -> float: ...


def _decibels(similarity: float) -> float:
    return min(-10 * math.log10(max(1 - similarity, 1e-15)), LARGEST_DB)


# The numbers of a trial, on scales where they grow about evenly with the rate; always finite.
METRICS: dict[str, Callable[[Trial], float]] = {
    "log_bpp": lambda trial: math.log(trial.bpp),
    "psnr_db": lambda trial: min(trial.psnr_db, LARGEST_DB),
    "ms_ssim_db": lambda trial: _decibels(trial.ms_ssim),
    "ssimulacra2": lambda trial: trial.ssimulacra2,
}


class Target(ABC):
    """What the search aims at: a number of the trial that lies between `low` and `high`."""

    metric: ClassVar[str]  # a key of METRICS
    window: ClassVar[float]  # from `low` to `high`
    per_trim: ClassVar[float]  # what a unit of the encoder's trim takes off, roughly
    is_limit: ClassVar[bool] = False  # True: `high` is kept at any price; False: `low` is

    @property
    @abstractmethod
    def goal(self) -> float:
        """What was asked for, on the scale of the metric: the side of the window that is kept."""

    @property
    def low(self) -> float:
        return self.goal - self.window if self.is_limit else self.goal

    @property
    def high(self) -> float:
        return self.goal if self.is_limit else self.goal + self.window

    @abstractmethod
    def report(self, trial: Trial) -> str:
        """The number that this target is about, for people."""

    def value(self, trial: Trial) -> float:
        """The number of this trial that is compared with `low` and `high`."""
        return METRICS[self.metric](trial)

    @property
    def aim(self) -> float:
        """The middle of the window, where a prediction may err most."""
        return (self.low + self.high) / 2

    def metric_aim(self, n_pixels: int) -> float:
        """The value of the metric to aim at in a picture of this many pixels."""
        return self.aim

    def beside(self, n_bytes: int, n_pixels: int) -> Target:
        """The same for a picture of so many pixels whose file holds so many bytes that no setting changes."""
        return self

    @property
    def plain(self) -> Target:
        """The same without regard to what no setting changes: what was asked for."""
        return self

    def is_kept(self, value: float) -> bool:
        """Whether the side of the window that matters is respected."""
        return value <= self.high if self.is_limit else value >= self.low

    def is_met(self, value: float) -> bool:
        return self.low <= value <= self.high

    def distance(self, value: float) -> float:
        """How far outside the window a value lies; 0 inside."""
        return max(self.low - value, value - self.high, 0.0)


@dataclass(frozen=True)
class Bytes(Target):
    """A file of at most this many bytes, of which at least 97 % are used."""

    n_bytes: int
    _given: int = field(default=0, repr=False)  # bytes that no setting changes: only the others answer to the rate

    metric = "log_bpp"
    window = UNUSED
    per_trim = 0.6
    is_limit = True

    def __post_init__(self) -> None:
        if not 1 <= self.n_bytes < math.inf:
            raise ValueError(f"a file size is at least one byte, not {self.n_bytes}")

    def beside(self, n_bytes: int, n_pixels: int) -> Bytes:
        return replace(self, _given=n_bytes)

    @property
    def plain(self) -> Bytes:
        return replace(self, _given=0)

    @property
    def goal(self) -> float:
        return math.log(max(self.n_bytes - self._given, 1))

    def value(self, trial: Trial) -> float:
        return math.log(trial.n_bytes - self._given)

    def metric_aim(self, n_pixels: int) -> float:
        return self.aim - math.log(n_pixels / 8)

    def report(self, trial: Trial) -> str:
        return f"{trial.n_bytes} bytes"

    def __str__(self) -> str:
        return f"{self.n_bytes} bytes"


@dataclass(frozen=True)
class Bpp(Target):
    """At most this many bits per pixel, of which at least 97 % are used."""

    bpp: float
    _given: float = field(default=0.0, repr=False)  # what no setting changes

    metric = "log_bpp"
    window = UNUSED
    per_trim = 0.6
    is_limit = True

    def __post_init__(self) -> None:
        if not 0 < self.bpp < math.inf:
            raise ValueError(f"bits per pixel are positive, not {self.bpp}")

    def beside(self, n_bytes: int, n_pixels: int) -> Bpp:
        return replace(self, _given=8 * n_bytes / n_pixels)

    @property
    def plain(self) -> Bpp:
        return replace(self, _given=0.0)

    @property
    def goal(self) -> float:
        return math.log(max(self.bpp - self._given, NO_RATE))

    def value(self, trial: Trial) -> float:
        return math.log(trial.bpp - self._given)

    def report(self, trial: Trial) -> str:
        return f"{trial.bpp:.4f} bpp"

    def __str__(self) -> str:
        return f"{self.bpp:g} bpp"


@dataclass(frozen=True)
class Psnr(Target):
    """At least this PSNR, and at most 0.1 dB more."""

    db: float

    metric = "psnr_db"
    window = DECIBELS_ABOVE
    per_trim = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.db < LARGEST_DB:
            raise ValueError(f"a PSNR to aim at lies between 0 and {LARGEST_DB:g} dB, not at {self.db}")

    @property
    def goal(self) -> float:
        return self.db

    def report(self, trial: Trial) -> str:
        return f"{trial.psnr_db:.2f} dB"

    def __str__(self) -> str:
        return f"{self.db:g} dB PSNR"


@dataclass(frozen=True)
class MsSsim(Target):
    """At least this MS-SSIM, and at most 0.1 dB more on the scale -10 log10(1 - x)."""

    similarity: float

    metric = "ms_ssim_db"
    window = DECIBELS_ABOVE
    per_trim = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.similarity < 1:
            raise ValueError(f"an MS-SSIM to aim at lies between 0 and 1, not at {self.similarity}")

    @property
    def goal(self) -> float:
        return _decibels(self.similarity)

    def report(self, trial: Trial) -> str:
        return f"{trial.ms_ssim:.5f}"

    def __str__(self) -> str:
        return f"MS-SSIM {self.similarity:g}"


@dataclass(frozen=True)
class Ssimulacra2(Target):
    """At least this SSIMULACRA2 score, and at most one point more."""

    score: float

    metric = "ssimulacra2"
    window = POINTS_ABOVE
    per_trim = 30.0

    def __post_init__(self) -> None:
        if not -math.inf < self.score < 100:
            raise ValueError(f"a SSIMULACRA2 score to aim at lies under 100, not at {self.score}")

    @property
    def goal(self) -> float:
        return self.score

    def report(self, trial: Trial) -> str:
        return f"{trial.ssimulacra2:.2f}"

    def __str__(self) -> str:
        return f"SSIMULACRA2 {self.score:g}"


_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([kmg])(i?))?b?", re.ASCII | re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3}


def parse_size(text: str) -> Bytes:
    """A file size as people write it: 50000, 50k, 1.5M (powers of 1000), 50KiB (powers of 1024)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a file size; write 50000, 50k, 1.5M or 50KiB")
    number, prefix, binary = match.groups()
    base = 1024 if binary else 1000
    return Bytes(int(Decimal(number) * base ** (_POWERS[prefix.lower()] if prefix else 0)))
