"""Rate control: the search for the rate vector and the trim with which a picture meets a target in a few encodes.

Pure functions: they know nothing of pictures or networks. Rate vectors and profiles are in `profiles`,
targets in `targets`; their names are also here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from .errors import TargetError
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
    "MOST_TRIM",
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
# So near to the target, in windows, the encoder's own trim is better than another rate vector.
NEAR_WINDOWS = 1.5
# How far trim goes to either side where it may, and the smallest change of it that makes a difference.
MOST_TRIM, FINEST_TRIM = 0.15, 0.001
# Pictures answer to trim by so much less or more than they usually do. A little trim may hardly tell (where symbols are
# the nearest integers the error has a minimum), so only all of it shows whether they answer by less still.
DULLEST, KEENEST = 0.3, 8.0
# Interpolation keeps away from the ends of its bracket by this part of it.
MARGIN = 0.1

TrialT = TypeVar("TrialT", bound=Trial)


@dataclass(frozen=True)
class Result(Generic[TrialT]):
    """The outcome of a search: the rate vector and trim, what they gave, and the number of encodes that it took."""

    rho: Rho
    trim: float
    trial: TrialT
    trials: int
    within_tolerance: bool


def search(
    trial: Callable[[Rho, float], TrialT],
    target: Target,
    guide: Guide,
    *,
    first_guess: int | None = None,
    max_trials: int = MAX_TRIALS,
    most_trim: float = MOST_TRIM,
    least_trim: float = -MOST_TRIM,
) -> Result[TrialT]:
    """Find a rate vector, and a trim, with which a picture meets the target, in at most `max_trials` encodes.

    `trial` encodes the picture at a rate vector. One step of a group can be larger than the window of a target, so
    the encoder has a finer control: the larger `trim` (least_trim to most_trim, zero among them), the fewer bits it
    spends at the same vector. `first_guess` is where in the guide to begin (default: the middle). The side of the
    target that matters is always kept; where nothing that was tried also stays within the tolerance, the best is
    returned and says so. Raises TargetError, with the nearest Result, where even the end of the guide does not bring
    the picture to the target.
    """
    if max_trials < 1:
        raise ValueError(f"a search needs at least one trial, not {max_trials}")
    course: _Course[TrialT] = _Course(target, guide, most_trim, least_trim)
    index = len(guide.ladder) // 2 if first_guess is None else first_guess
    place: _Place | None = _Place(min(max(index, 0), len(guide.ladder) - 1))
    for left in reversed(range(max_trials)):
        if place is None:
            break
        course.note(place, trial(guide.ladder[place.rung], place.trim))
        if course.is_met:
            break
        # The last trial must not end without anything that keeps to the target.
        place = course.safe_end() if left == 1 and not course.any_kept else course.following()
    return course.result()


class _Place(NamedTuple):
    """Where a trial is made: a rate vector of the guide, and the trim."""

    rung: int
    trim: float = 0.0


@dataclass
class _Attempt(Generic[TrialT]):
    """A trial; `weight` is what its distance from the target counts for in the next interpolation.

    Only the one that is the nearest so far keeps what it gave, which may be large.
    """

    place: _Place
    expected: float
    value: float
    trial: TrialT | None
    weight: float = 1.0

    @property
    def rung(self) -> int:
        return self.place.rung

    @property
    def trim(self) -> float:
        return self.place.trim


@dataclass
class _Course(Generic[TrialT]):
    """What is known during a search, and where it goes from here.

    In the guide's expectation as the coordinate, the curve of a picture is nearly a straight line of slope 1:
    the first step away from the guess shifts it, later ones interpolate (regula falsi, Illinois variant).
    Near the target the vector stays, and trim does the rest.
    """

    target: Target
    guide: Guide
    most_trim: float
    least_trim: float
    attempts: list[_Attempt[TrialT]] = field(default_factory=list)
    walked: list[_Attempt[TrialT]] = field(default_factory=list)  # those without trim
    below: _Attempt[TrialT] | None = None
    above: _Attempt[TrialT] | None = None
    dull: float | None = None  # what a unit of trim takes off, where that is much less than usual

    @property
    def last(self) -> int:
        return len(self.guide.ladder) - 1

    # --- what is known ------------------------------------------------------------------------------------

    def note(self, place: _Place, trial: TrialT) -> None:
        """Add a trial; one without trim narrows the bracket."""
        attempt = _Attempt(place, self.guide.expected[place.rung], self.target.value(trial), trial)
        self.attempts.append(attempt)
        for other in self.attempts:
            if other is not self.nearest:
                other.trial = None
        if place.trim != 0:
            effect = self._effect_of_trim(attempt)
            if effect <= 0:
                self.most_trim = self.least_trim = 0.0  # in vain here: walk on
            elif place.trim in (self.least_trim, self.most_trim) and effect < DULLEST * self.target.per_trim:
                self.dull = effect
            return
        before = self.walked[-1] if self.walked else None
        self.walked.append(attempt)
        # The end of the bracket that stays twice counts half, or it might never move.
        if attempt.value < self.target.aim:
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

    @property
    def nearest(self) -> _Attempt[TrialT]:
        """The nearest to the target of those that keep to it, or of all where none does."""
        kept = [attempt for attempt in self.attempts if self.target.is_kept(attempt.value)]
        return min(kept or self.attempts, key=self._distance)

    def result(self) -> Result[TrialT]:
        """The best trial that keeps to the target; TargetError where there is none, or no end reaches it."""
        nearest = self.nearest
        assert nearest.trial is not None
        # The search is stricter where much of a file is given; nobody asked for that.
        rho, asked = self.guide.ladder[nearest.rung], self.target.plain
        is_met = asked.is_met(asked.value(nearest.trial))
        result = Result(rho, nearest.trim, nearest.trial, len(self.attempts), is_met)
        if is_met or (self.any_kept and not self._at_end()):
            return result
        ends = {0: 0, self.last: 100}
        where = f", at an end of the profile (quality {ends[nearest.rung]})" if nearest.rung in ends else ""
        raise TargetError(
            f"no setting gives {self.target}: the nearest gives {self.target.report(nearest.trial)}{where}",
            nearest=result,
        )

    def _at_end(self) -> bool:
        """Whether an end of the guide was tried and still lies on the near side of the target."""
        if self.above is None:
            return self.below is not None and self.below.rung == self.last
        return self.below is None and self.above.rung == 0

    # --- where to go --------------------------------------------------------------------------------------

    def safe_end(self) -> _Place | None:
        """The end of the guide that keeps to the target if anything does."""
        end = _Place(0 if self.target.is_limit else self.last)
        return None if any(attempt.place == end for attempt in self.attempts) else end

    def following(self) -> _Place | None:
        """What to try next; None where nothing could be better."""
        exhausted = self._at_end()
        if self.below and self.above:
            exhausted = self.above.rung - self.below.rung <= 1
        for attempt in sorted(self.walked, key=self._distance):
            is_near = self._distance(attempt) <= NEAR_WINDOWS * self.target.window
            is_hopeless = self.dull is not None and self.dull * self.most_trim < self._distance(attempt)
            trim = self._trim(attempt.rung) if (is_near or exhausted) and not is_hopeless else None
            if trim is not None:
                return _Place(attempt.rung, trim)
        if exhausted:
            return None
        return _Place(self._between(self.below, self.above) if self.below and self.above else self._beyond())

    def _distance(self, attempt: _Attempt[TrialT]) -> float:
        return self.target.distance(attempt.value)

    def _beyond(self) -> int:
        """Extrapolate, further each time, towards the side on which nothing was tried."""
        here, slope, growth = self.walked[-1], 1.0, 1.0
        if len(self.walked) > 1:
            before = self.walked[-2]
            run, rise = here.expected - before.expected, here.value - before.value
            if run * rise > 0:  # a curve that falls from one step to the next is not flat
                slope = min(max(rise / run, FLATTEST), STEEPEST)
            growth = 2.0 ** (len(self.walked) - 2)
        wanted = here.expected + growth * (self.target.aim - here.value) / slope
        if self.above is None:
            return self.guide.index(wanted, here.rung + 1, self.last)
        return self.guide.index(wanted, 0, here.rung - 1)

    def _between(self, below: _Attempt[TrialT], above: _Attempt[TrialT]) -> int:
        """Interpolate inside the bracket."""
        if len(self.walked) >= BISECT_FROM:
            return (below.rung + above.rung) // 2
        left = (self.target.aim - below.value) * below.weight
        right = (above.value - self.target.aim) * above.weight
        wanted = below.expected + (above.expected - below.expected) * left / (left + right)
        return self.guide.index(wanted, below.rung + 1, above.rung - 1)

    def _effect_of_trim(self, attempt: _Attempt[TrialT]) -> float:
        """What a unit of trim took off, by this attempt and the one without trim."""
        plain = next(a for a in self.walked if a.rung == attempt.rung)
        return (plain.value - attempt.value) / attempt.trim

    def _trim(self, rung: int) -> float | None:
        """The trim that should bring a rate vector to the target; None where no other is worth a trial."""
        if self.least_trim == self.most_trim:
            return None
        own = sorted((a for a in self.attempts if a.rung == rung), key=lambda attempt: attempt.trim)
        more = [a for a in own if a.value > self.target.aim]
        less = [a for a in own if a.value <= self.target.aim]
        if more and less:
            left, right = more[-1], less[0]
            part = (left.value - self.target.aim) / (left.value - right.value)
            part = min(max(part, MARGIN), 1 - MARGIN)
            trim = left.trim + part * (right.trim - left.trim)
            gap = min(trim - left.trim, right.trim - trim)  # negative if the picture answers the wrong way
        else:
            edge = own[-1] if more else own[0]
            effect = self.dull or self.target.per_trim
            if edge.trim != 0:
                effect = min(self._effect_of_trim(edge), KEENEST * self.target.per_trim)
            trim = edge.trim + (edge.value - self.target.aim) / effect
            trim = min(max(trim, self.least_trim), self.most_trim)
            gap = abs(trim - edge.trim)
        return trim if gap >= FINEST_TRIM else None
