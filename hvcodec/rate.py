"""Rate control: the search for the rate vector with which a picture meets a target in a few encodes.

Pure functions: they know nothing of pictures or networks. Rate vectors and profiles are in `profiles`,
targets in `targets`; their names are also here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .errors import TargetError
from .nearby import likely_effects, nearest_vector
from .profiles import (
    DEFAULT_PROFILE,
    EQUAL_PROFILE,
    RHO_MAX,
    Effect,
    Guide,
    Knot,
    Measured,
    Profile,
    Rho,
    calibrate,
    check,
    uniform,
)
from .targets import Bpp, Bytes, MsSsim, Psnr, Ssimulacra2, Target, Trial, parse_size

__all__ = [
    "DEFAULT_PROFILE",
    "EQUAL_PROFILE",
    "MAX_TRIALS",
    "RHO_MAX",
    "Bpp",
    "Bytes",
    "Effect",
    "Guide",
    "Knot",
    "Measured",
    "MsSsim",
    "Profile",
    "Psnr",
    "Result",
    "Rho",
    "Ssimulacra2",
    "Target",
    "Trial",
    "calibrate",
    "check",
    "parse_size",
    "search",
    "uniform",
]

MAX_TRIALS = 7
# From this trial on the curve is too strange for interpolation, and the bracket is halved.
BISECT_FROM = 5
# An extrapolation does not believe that a picture's curve is this much flatter or steeper than expected.
FLATTEST, STEEPEST = 0.4, 2.5
# So many windows away from the target, single steps of groups matter more than the course of the guide.
NEARBY_WINDOWS = 2.0
# In parts of the window: how far a trial may lie from any smooth law, and what makes no difference to us.
NOISE, GRAIN = 0.1, 0.125

TrialT = TypeVar("TrialT", bound=Trial)


@dataclass(frozen=True)
class Result(Generic[TrialT]):
    """The outcome of a search: the rate vector, what it gave, and the number of encodes that it took."""

    rho: Rho
    trial: TrialT
    trials: int
    within_tolerance: bool


def search(
    trial: Callable[[Rho], TrialT],
    target: Target,
    guide: Guide,
    *,
    first_guess: int | None = None,
    max_trials: int = MAX_TRIALS,
) -> Result[TrialT]:
    """Find a rate vector with which a picture meets the target, in at most `max_trials` encodes.

    `trial` encodes the picture; `first_guess` is where in the guide to begin (default: the middle). The side
    of the target that matters is always kept; where no tried vector also stays within the tolerance, the
    best one is returned and says so. Raises TargetError, with the nearest Result, where even the end of the
    guide does not bring the picture to the target.
    """
    if max_trials < 1:
        raise ValueError(f"a search needs at least one trial, not {max_trials}")
    course: _Course[TrialT] = _Course(target, guide)
    index = len(guide.ladder) // 2 if first_guess is None else first_guess
    place: int | Rho | None = min(max(index, 0), len(guide.ladder) - 1)
    for left in reversed(range(max_trials)):
        rho = guide.ladder[place] if isinstance(place, int) else place
        if rho is None:
            break
        course.note(rho, place if isinstance(place, int) else None, trial(rho))
        if course.is_met:
            break
        # The last trial must not end without anything that keeps to the target.
        place = course.safe_end() if left == 1 and not course.any_kept else course.following()
    return course.result()


@dataclass
class _Attempt(Generic[TrialT]):
    """A trial; `weight` is what its distance from the target counts for in the next interpolation."""

    rho: Rho
    index: int  # in the guide; -1 beside it
    expected: float
    value: float
    trial: TrialT
    weight: float = 1.0


@dataclass
class _Course(Generic[TrialT]):
    """What is known during a search, and where it goes from here.

    In the guide's expectation as the coordinate, the curve of a picture is nearly a straight line of slope 1:
    the first step away from the guess shifts it, later ones interpolate (regula falsi, Illinois variant).
    Near the target, vectors beside the guide are tried too.
    """

    target: Target
    guide: Guide
    attempts: list[_Attempt[TrialT]] = field(default_factory=list)
    below: _Attempt[TrialT] | None = None
    above: _Attempt[TrialT] | None = None

    @property
    def last(self) -> int:
        return len(self.guide.ladder) - 1

    # --- what is known ------------------------------------------------------------------------------------

    def note(self, rho: Rho, index: int | None, trial: TrialT) -> None:
        """Add a trial; one on the guide narrows the bracket."""
        value = self.target.value(trial)
        if index is None:
            self.attempts.append(_Attempt(rho, -1, math.nan, value, trial))
            return
        before = self.attempts[-1] if self.attempts else None
        attempt = _Attempt(rho, index, self.guide.expected[index], value, trial)
        self.attempts.append(attempt)
        # The end of the bracket that stays twice counts half, or it might never move.
        if value < self.target.aim:
            if self.above and before is self.below:
                self.above.weight /= 2
            self.below = attempt
        else:
            if self.below and before is self.above:
                self.below.weight /= 2
            self.above = attempt

    @property
    def is_met(self) -> bool:
        return self.target.is_met(self.attempts[-1].value)

    @property
    def any_kept(self) -> bool:
        return any(self.target.is_kept(attempt.value) for attempt in self.attempts)

    def result(self) -> Result[TrialT]:
        """The best trial that keeps to the target; TargetError where there is none, or no end reaches it."""
        kept = [attempt for attempt in self.attempts if self.target.is_kept(attempt.value)]
        nearest = min(kept or self.attempts, key=lambda attempt: self.target.distance(attempt.value))
        result = Result(nearest.rho, nearest.trial, len(self.attempts), self.target.is_met(nearest.value))
        if result.within_tolerance or (kept and not self._at_end()):
            return result
        raise TargetError(
            f"no setting gives {self.target}: the nearest gives {self.target.report(nearest.trial)}",
            nearest=result,
        )

    def _at_end(self) -> bool:
        """Whether an end of the guide was tried and still lies on the near side of the target."""
        if self.above is None:
            return self.below is not None and self.below.index == self.last
        return self.below is None and self.above.index == 0

    # --- where to go --------------------------------------------------------------------------------------

    def safe_end(self) -> int | None:
        """The end of the guide that keeps to the target if anything does."""
        end = 0 if self.target.is_limit else self.last
        return None if any(attempt.index == end for attempt in self.attempts) else end

    def following(self) -> int | Rho | None:
        """The place in the guide, or the vector beside it, to try next; None where none could be better."""
        if not (self.below and self.above):
            return None if self._at_end() else self._beyond(self.attempts[-1])
        nearest = min(self.attempts, key=lambda attempt: self.target.distance(attempt.value))
        window = self.target.window
        exhausted = self.above.index - self.below.index <= 1
        if exhausted or self.target.distance(nearest.value) <= NEARBY_WINDOWS * window:
            nearby = self._nearby(nearest, self.guide.effects[self.below.index], window)
            if nearby or exhausted:
                return nearby
        return self._between(self.below, self.above)

    def _beyond(self, here: _Attempt[TrialT]) -> int:
        """Extrapolate, further each time, towards the side on which nothing was tried."""
        slope, growth = 1.0, 1.0
        if len(self.attempts) > 1:
            before = self.attempts[-2]
            run = here.expected - before.expected
            slope = (here.value - before.value) / run if run else 1.0
            slope = min(max(slope, FLATTEST), STEEPEST)
            growth = 2.0 ** (len(self.attempts) - 2)
        wanted = here.expected + growth * (self.target.aim - here.value) / slope
        if self.above is None:
            return self.guide.index(wanted, here.index + 1, self.last)
        return self.guide.index(wanted, 0, here.index - 1)

    def _between(self, below: _Attempt[TrialT], above: _Attempt[TrialT]) -> int:
        """Interpolate inside the bracket."""
        if len(self.attempts) >= BISECT_FROM:
            return (below.index + above.index) // 2
        left = (self.target.aim - below.value) * below.weight
        right = (above.value - self.target.aim) * above.weight
        wanted = below.expected + (above.expected - below.expected) * left / (left + right)
        return self.guide.index(wanted, below.index + 1, above.index - 1)

    def _nearby(self, nearest: _Attempt[TrialT], expected: tuple[float, ...], window: float) -> Rho | None:
        """A vector around the best trial, by what the trials tell about the effects of single groups."""
        if not any(expected):
            return None
        seen = [(attempt.rho, attempt.value) for attempt in self.attempts]
        value, effects = likely_effects(nearest.rho, seen, expected, self.target.aim, NOISE * window)
        tried = {attempt.rho for attempt in self.attempts}
        return nearest_vector(nearest.rho, value, effects, self.target.aim, GRAIN * window, tried)
