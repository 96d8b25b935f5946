"""Rate vectors and rate profiles: named paths through the space of per-group rates.

A rate vector holds one integer 0..63 for each stride group, coarse to fine. A profile is a path of such
vectors from the lowest rate to the highest; quality 0..100 walks along it. Where it was measured, it also
tells what each step is expected to do to the bytes and the quality of a picture.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from numbers import Integral
from statistics import fmean
from typing import Any

from .targets import METRICS, Target, Trial

Rho = tuple[int, ...]
RHO_MAX = 63
MOST_MASKING = 2.0
DEFAULT_PROFILE = "psnr"
EQUAL_PROFILE = "equal"
TRAINED_PROFILE = "trained"

# What photographs give at the start, the middle and the end of a path, as a first idea without measurements.
USUAL = {
    "log_bpp": (math.log(0.08), math.log(0.65), math.log(5.0)),
    "psnr_db": (25.0, 34.0, 43.0),
    "ms_ssim_db": (9.0, 18.0, 27.0),
    "ssimulacra2": (-30.0, 60.0, 92.0),
}


def check(rho: Iterable[int], n_groups: int) -> Rho:
    """The rate vector as a tuple, if it has one whole number 0..63 for each group; else ValueError."""
    vector = tuple(rho)
    whole = all(isinstance(value, Integral) and not isinstance(value, bool) for value in vector)  # numpy's too
    if not whole or len(vector) != n_groups or not all(0 <= value <= RHO_MAX for value in vector):
        raise ValueError(f"a rate vector is {n_groups} whole numbers 0..{RHO_MAX}, not {vector}")
    return tuple(map(int, vector))


@dataclass(frozen=True)
class Knot:
    """A corner of the path: the rate vector at a position 0..100; it need not be whole."""

    position: float
    rho: tuple[float, ...]


@dataclass(frozen=True)
class Effect:
    """One metric at one position: its mean over pictures, and what one step of each group adds to it."""

    value: float
    per_step: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """What pictures gave, on average, at one position of a path."""

    position: float
    log_bpp: Effect
    psnr_db: Effect
    ms_ssim_db: Effect
    ssimulacra2: Effect

    def effect(self, metric: str) -> Effect:
        """The effect on a metric by its name."""
        effects = {
            "log_bpp": self.log_bpp,
            "psnr_db": self.psnr_db,
            "ms_ssim_db": self.ms_ssim_db,
            "ssimulacra2": self.ssimulacra2,
        }
        return effects[metric]


@dataclass(frozen=True)
class Guide:
    """Rate vectors in the order of what they are expected to give, with that expectation."""

    ladder: tuple[Rho, ...]
    expected: tuple[float, ...]  # on the scale of the target's metric, never falling

    def __post_init__(self) -> None:
        if not self.ladder or len(self.ladder) != len(self.expected):
            counts = f"{len(self.ladder)} and {len(self.expected)}"
            raise ValueError(f"a guide has as many vectors as expectations, not {counts}")
        if any(a > b for a, b in pairwise(self.expected)):
            raise ValueError("the expectations of a guide must not fall")

    def index(self, value: float, first: int = 0, last: int | None = None) -> int:
        """The rate vector, of those from `first` to `last`, that is expected to come nearest to `value`."""
        last = len(self.expected) - 1 if last is None else last
        above = bisect_left(self.expected, value, first, last + 1)
        if above > last:
            return last
        if above > first and value - self.expected[above - 1] <= self.expected[above] - value:
            return above - 1
        return above


@dataclass(frozen=True)
class Profile:
    """A direction through rate space, with what it is for and what it measured."""

    name: str
    purpose: str
    path: tuple[Knot, ...]
    measured: tuple[Measured, ...] = ()
    masking: float = 0.0  # how much less an error counts in busy surroundings, see Codec.encode

    def __post_init__(self) -> None:
        if not 0 <= self.masking <= MOST_MASKING:
            raise ValueError(f"the masking of {self.name!r} must lie in 0..{MOST_MASKING}, not {self.masking}")
        positions = [knot.position for knot in self.path]
        if len(positions) < 2 or positions[0] != 0 or positions[-1] != 100 or not _rises(positions):
            raise ValueError(f"the path of {self.name!r} must lead from position 0 to 100, not {positions}")
        for before, after in pairwise(self.path):
            if len(before.rho) != len(after.rho) or not before.rho:
                raise ValueError(f"the knots of {self.name!r} have different numbers of groups")
            if any(a > b for a, b in zip(before.rho, after.rho, strict=True)):
                raise ValueError(f"the path of {self.name!r} lowers a group where it should raise it")
        if not all(0 <= value <= RHO_MAX for knot in self.path for value in knot.rho):
            raise ValueError(f"the path of {self.name!r} leaves 0..{RHO_MAX}")
        if not _rises([row.position for row in self.measured]) or len(self.measured) == 1:
            raise ValueError(f"{self.name!r} was measured at fewer than two positions, or they do not rise")
        for effect in (row.effect(metric) for row in self.measured for metric in METRICS):
            if len(effect.per_step) != self.n_groups or not all(map(math.isfinite, (effect.value, *effect.per_step))):
                raise ValueError(f"the measurements of {self.name!r} are not numbers for {self.n_groups} groups")

    @property
    def n_groups(self) -> int:
        return len(self.path[0].rho)

    # --- the path -----------------------------------------------------------------------------------------

    @cached_property
    def _rungs(self) -> tuple[tuple[float, Rho], ...]:
        """Where the path changes its vector, and to which; one group at a time.

        Group g steps up where its value plus a phase becomes whole. The phases spread the steps of groups
        that rise together, coarse groups first, and vanish at whole vectors: those are on the ladder.
        """
        n = self.n_groups
        phases = [(n - g - 0.5) / n for g in range(n)]
        start = [math.floor(value + phase) for value, phase in zip(self.path[0].rho, phases, strict=True)]
        steps = []
        for before, after in pairwise(self.path):
            for g, (low, high) in enumerate(zip(before.rho, after.rho, strict=True)):
                first, last = math.floor(low + phases[g]) + 1, math.floor(high + phases[g])
                for whole in range(first, last + 1):
                    part = (whole - phases[g] - low) / (high - low)
                    steps.append((before.position + part * (after.position - before.position), g))
        rungs = [(0.0, tuple(start))]
        for position, g in sorted(steps):
            start[g] += 1
            rungs.append((position, tuple(start)))
        return tuple(rungs)

    def rho(self, position: float) -> Rho:
        """The rate vector at a position 0..100 (the quality that users give); ValueError beyond."""
        if not 0 <= position <= 100:
            raise ValueError(f"quality goes from 0 to 100, not to {position}")
        # A hair is added so that 100 reaches the last step in spite of rounding.
        last = bisect_right(self._rungs, position + 1e-9, key=lambda rung: rung[0])
        return self._rungs[last - 1][1]

    def ladder(self) -> tuple[Rho, ...]:
        """All rate vectors along the path, from the lowest rate to the highest, one step apart."""
        return tuple(rho for _, rho in self._rungs)

    # --- what to expect of it -----------------------------------------------------------------------------

    def expect(self, metric: str, position: float) -> Effect:
        """The mean of a metric over pictures at a position, and what one step of each group adds to it.

        Where the profile was not measured: what is usual, with most of it in the middle strides.
        """
        if not self.measured:
            return _usual_effect(metric, position, self.n_groups)
        rows = self.measured
        right = min(max(bisect_left([row.position for row in rows], position), 1), len(rows) - 1)
        before, after = rows[right - 1], rows[right]
        part = (position - before.position) / (after.position - before.position)
        low, high = before.effect(metric), after.effect(metric)
        steps = zip(low.per_step, high.per_step, strict=True)
        inside = min(max(part, 0.0), 1.0)  # beyond the rows, values go on straight and steps stay
        return Effect(
            low.value + part * (high.value - low.value),
            tuple(max(0.0, a + inside * (b - a)) for a, b in steps),
        )

    def guide(self, target: Target) -> Guide:
        """The ladder for a search, with what to expect of the target's metric."""
        return _guide(self, target.metric)

    def _effects_on_path(self, metric: str, position: float) -> tuple[float, ...]:
        """Effects of single steps, scaled so that together they rise as the metric does along the path."""
        half = 0.5
        low, high = max(position - half, 0.0), min(position + half, 100.0)
        rise = self.expect(metric, high).value - self.expect(metric, low).value
        effects = self.expect(metric, position).per_step
        moves = [b - a for a, b in zip(self._point(low), self._point(high), strict=True)]
        summed = sum(effect * move for effect, move in zip(effects, moves, strict=True))
        scale = max(rise, 0.0) / summed if summed > 0 else 0.0
        return tuple(effect * scale for effect in effects)

    def _point(self, position: float) -> tuple[float, ...]:
        right = min(max(bisect_left([k.position for k in self.path], position), 1), len(self.path) - 1)
        before, after = self.path[right - 1], self.path[right]
        part = (position - before.position) / (after.position - before.position)
        return tuple(a + part * (b - a) for a, b in zip(before.rho, after.rho, strict=True))

    # --- storage ------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The profile as plain data, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Profile:
        """Build a profile from plain data, as `to_dict` gives it; ValueError if it is not that."""
        try:
            path = tuple(Knot(float(k["position"]), tuple(map(float, k["rho"]))) for k in data["path"])
            rows = tuple(_row_from_dict(row) for row in data["measured"])
            return cls(str(data["name"]), str(data["purpose"]), path, rows, float(data.get("masking", 0.0)))
        except (KeyError, TypeError) as err:
            raise ValueError(f"not a rate profile: {err!r}") from err


def uniform(n_groups: int) -> Profile:
    """The profile that gives all groups the same rate; it needs no measurement."""
    ends = (Knot(0.0, (0,) * n_groups), Knot(100.0, (RHO_MAX,) * n_groups))
    return Profile(EQUAL_PROFILE, "the same rate value for every group", ends)


def single(level: int, n_groups: int) -> Profile:
    """The profile of a model that was trained for one level: whatever the quality, it is that."""
    ends = (Knot(0.0, (level,) * n_groups), Knot(100.0, (level,) * n_groups))
    return Profile(TRAINED_PROFILE, "the one level that this model was trained for", ends)


@lru_cache(maxsize=64)
def _guide(profile: Profile, metric: str) -> Guide:
    expected = [profile.expect(metric, 0.0).value]
    for (_, below), (position, above) in pairwise(profile._rungs):
        group = next(g for g, (a, b) in enumerate(zip(below, above, strict=True)) if a != b)
        expected.append(expected[-1] + profile._effects_on_path(metric, position)[group])
    return Guide(profile.ladder(), tuple(expected))


def calibrate(
    profile: Profile, positions: Sequence[float], trials: Callable[[Rho], Sequence[Trial]]
) -> tuple[Measured, ...]:
    """Measure a profile: what pictures give at each position, and what single steps of each group add.

    `trials` encodes the same pictures at a rate vector, in the same order each time; it is called once for
    each position and once more for each group.
    """
    return tuple(_calibrate_at(profile.rho(position), position, trials) for position in positions)


def _calibrate_at(rho: Rho, position: float, trials: Callable[[Rho], Sequence[Trial]]) -> Measured:
    here = _means(trials(rho))
    per_step: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for group, value in enumerate(rho):
        step = 1 if value < RHO_MAX else -1
        there = _means(trials(_stepped(rho, {group: step})))
        for metric in METRICS:
            per_step[metric].append((there[metric] - here[metric]) / step)
    effects = {metric: Effect(here[metric], tuple(per_step[metric])) for metric in METRICS}
    return Measured(position, **effects)


def _means(trials: Sequence[Trial]) -> dict[str, float]:
    return {metric: fmean(of(trial) for trial in trials) for metric, of in METRICS.items()}


def _stepped(rho: Rho, steps: Mapping[int, int]) -> Rho:
    return tuple(value + steps.get(group, 0) for group, value in enumerate(rho))


def _usual_effect(metric: str, position: float, n_groups: int) -> Effect:
    low, middle, high = USUAL[metric]
    rise = (middle - low if position < 50 else high - middle) / 50
    # Each stride away from the middle counts for a quarter of its neighbour.
    weights = [4.0 ** -abs(g - (n_groups - 1) / 2) for g in range(n_groups)]
    per_step = rise * 100 / RHO_MAX / sum(weights)
    return Effect(middle + rise * (position - 50), tuple(weight * per_step for weight in weights))


def _row_from_dict(row: Mapping[str, Any]) -> Measured:
    effects = {
        metric: Effect(float(row[metric]["value"]), tuple(map(float, row[metric]["per_step"]))) for metric in METRICS
    }
    return Measured(float(row["position"]), **effects)


def _rises(values: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(values))
