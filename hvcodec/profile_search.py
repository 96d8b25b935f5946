"""The search for a rate profile: from trials at rate vectors to a smooth path through the best of them.

What counts is the gain of a rate vector (see `baseline`). Everything here works on means over pictures and knows
nothing of where they come from.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from .baseline import Baseline, Measure, Outcome, Tried
from .profiles import RHO_MAX, Effect, Knot, Measured, Profile, Rho
from .targets import METRICS, Trial

ROUNDS = 2
# A group is probed so many steps up and down: large against the roughness of real encodes, small enough to
# be a slope.
PROBE = 3
# The first move of a group whose slope lies far from that of the others, in steps; a second try is half of it.
REACH = 12
TRIES = 2
# How far a group may leave the all-equal vector: two standard deviations of what training shows the networks.
LEASH = 16
# A group that moves less than this part of the whole is not believed to have a slope of its own.
LEAST_SHARE = 0.02
# Losses of less than this part of an all-equal step come from interpolation.
SLACK = 0.01


@dataclass(frozen=True)
class Checked:
    """A position of the finished path, with what was measured there."""

    position: float
    tried: Tried


@dataclass(frozen=True)
class Found:
    """The path of a new profile, and how it fared at its knots and between them."""

    path: tuple[Knot, ...]
    checks: tuple[Checked, ...]


# --- the whole search -----------------------------------------------------------------------------------------


def search(
    measure: Measure,
    n_groups: int,
    *,
    points: int,
    rounds: int = ROUNDS,
    tell: Callable[[Tried], None] = lambda winner: None,
) -> Found:
    """Find a path whose vectors give more than all-equal ones at the same rate, or nearly as much.

    The best vectors are looked for at so many rates between the ends, which stay all-equal. `tell` hears of
    each. Raises ValueError where rates do not rise with the vectors.
    """
    remembered: dict[Rho, Outcome] = {}

    def once(rho: Rho) -> Outcome:
        if rho not in remembered:
            remembered[rho] = measure(rho)
        return remembered[rho]

    levels = search_levels(points)
    all_levels = sorted({0, *levels, *_between(levels), RHO_MAX})
    baseline = Baseline(all_levels, [once((level,) * n_groups) for level in all_levels])
    winners: list[Tried] = []
    offsets: Sequence[int] = (0,) * n_groups
    for level in levels:
        winners.append(climb(once, baseline, level, offsets, rounds=rounds))
        # What helped here should help at the next rate too.
        offsets = [r - round(baseline.level(winners[-1].outcome.log_bpp)) for r in winners[-1].rho]
        tell(winners[-1])
    return _smooth_path(once, baseline, winners)


def search_levels(points: int) -> list[int]:
    """All-equal vectors, evenly spread between the ends, at whose rates the search looks for better ones."""
    if not 1 <= points < RHO_MAX // 3:
        raise ValueError(f"a search looks at 1 to {RHO_MAX // 3 - 1} rates, not at {points}")
    return [round(RHO_MAX * (i + 1) / (points + 1)) for i in range(points)]


def usual_vectors(points: int, n_groups: int, rounds: int = ROUNDS) -> int:
    """How many vectors a search measures if every round finds something and the smooth path needs no repair."""
    baseline = 2 * points + 3
    climbs = points * (1 + rounds * (2 * n_groups + TRIES))
    return baseline + climbs + 2 * points + 1


def _between(levels: Sequence[int]) -> list[int]:
    return [(low + high) // 2 for low, high in pairwise((0, *levels, RHO_MAX))]


# --- one rate -------------------------------------------------------------------------------------------------


def climb(measure: Measure, baseline: Baseline, level: int, offsets: Sequence[int], *, rounds: int = ROUNDS) -> Tried:
    """The best vector found at the rate of an all-equal one, which is kept if nothing gives more.

    `offsets` from the all-equal vector are a first idea. In each round, single groups are probed; then all
    move towards the same gain of the metric per byte, at constant rate. Only what was measured counts.
    """
    rates = range(max(level - LEASH, 0), min(level + LEASH, RHO_MAX) + 1)

    def tried(rho: Rho) -> Tried:
        return baseline.judge(rho, measure(rho))

    def clipped(rho: Sequence[float]) -> Rho:
        return tuple(min(max(round(value), rates[0]), rates[-1]) for value in rho)

    n_groups = len(offsets)
    best = tried((level,) * n_groups)
    best = max(best, tried(clipped([level + offset for offset in offsets])), key=_gain)
    reach = float(REACH)
    for _ in range(rounds):
        center = best
        probes = [
            [tried(_with(center.rho, g, clipped([r + sign * PROBE])[0])) for sign in (-1, 1)]
            for g, r in enumerate(center.rho)
        ]
        best = max([best, *(probe for pair in probes for probe in pair)], key=_gain)
        slopes = [_slopes(g, *pair) for g, pair in enumerate(probes)]
        for _ in range(TRIES):
            missing = baseline.log_bpp(level) - center.outcome.log_bpp
            moved = tried(clipped(_move(center.rho, slopes, reach, missing, rates)))
            best = max(best, moved, key=_gain)
            if moved.gain > center.gain:
                break
            reach /= 2
        if best is center:
            break
    return best


def _gain(tried: Tried) -> float:
    return tried.gain


def _with(rho: Rho, group: int, value: int) -> Rho:
    return (*rho[:group], value, *rho[group + 1 :])


def _slopes(group: int, low: Tried, high: Tried) -> tuple[float, float]:
    """What a step of one group adds to the logarithm of the rate, and to the metric."""
    steps = high.rho[group] - low.rho[group]
    rate = (high.outcome.log_bpp - low.outcome.log_bpp) / steps
    return rate, (high.outcome.value - low.outcome.value) / steps


def _move(rho: Rho, slopes: Sequence[tuple[float, float]], reach: float, missing: float, rates: range) -> list[float]:
    """Where to go so that all groups earn the same per byte, at a rate that is `missing` from here.

    If rate and error of a group change exponentially with its steps, then so does what it earns per byte,
    and the way to go is the logarithm of how much that differs from the mean. Near 1 this is twice the
    relative difference below, which does not explode where a group hardly matters.
    """
    rate, value = (sum(column) for column in zip(*slopes, strict=True))
    price = value / rate if rate > 0 else 0.0
    floor = LEAST_SHARE * sum(abs(v) + abs(price * r) for r, v in slopes)
    moves = [reach * (v - price * r) / (abs(v) + abs(price * r) + floor) if floor else 0.0 for r, v in slopes]

    def shifted(shift: float) -> list[float]:
        return [min(max(start + move + shift, rates[0]), rates[-1]) for start, move in zip(rho, moves, strict=True)]

    def spent(shift: float) -> float:
        ends = zip(rho, shifted(shift), slopes, strict=True)
        return sum(max(r, 0.0) * (end - start) for start, end, (r, _) in ends)

    low, high = -float(RHO_MAX), float(RHO_MAX)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) < missing else (low, middle)
    return shifted(high)


# --- the path -------------------------------------------------------------------------------------------------


def _smooth_path(measure: Measure, baseline: Baseline, winners: Sequence[Tried]) -> Found:
    """A path near the winners that gives no less than all-equal vectors where that can be had.

    Where it gives less, the knots around go half of the way back, and then the whole. Between all-equal vectors
    groups step one after the other, so that a small loss can remain even there.
    """
    kept = _apart(baseline, winners)
    levels = [baseline.level(winner.outcome.log_bpp) for winner in kept]
    offsets = _smoothed([[r - level for r in w.rho] for w, level in zip(kept, levels, strict=True)])
    strengths = [1.0] * len(kept)
    n_groups = len(winners[0].rho)
    while True:
        path = _path(levels, offsets, strengths, n_groups)
        positions = [knot.position for knot in path]
        checks = _checked(measure, baseline, path)
        weaker = {
            i
            for check in checks
            if check.tried.gain < -SLACK * baseline.step(RHO_MAX * check.position / 100)
            for i in _to_blame(check.position, positions, strengths)
        }
        if not weaker:
            return Found(path, checks)
        strengths = [(s - 0.5 if i in weaker else s) for i, s in enumerate(strengths)]


def _checked(measure: Measure, baseline: Baseline, path: tuple[Knot, ...]) -> tuple[Checked, ...]:
    """What the path gives at its inner knots and half-way between all knots."""
    profile = Profile("searched", "", path)
    positions = [knot.position for knot in path]
    places = sorted({*positions[1:-1], *(round((a + b) / 2, 3) for a, b in pairwise(positions))})
    rhos = [profile.rho(place) for place in places]
    return tuple(Checked(place, baseline.judge(rho, measure(rho))) for place, rho in zip(places, rhos, strict=True))


def _apart(baseline: Baseline, winners: Sequence[Tried]) -> list[Tried]:
    """Winners by rising rate, at least a step from the ends and from each other: of two, the better one."""
    kept: list[Tried] = []
    for winner in sorted(winners, key=lambda winner: winner.outcome.log_bpp):
        level = baseline.level(winner.outcome.log_bpp)
        if not 1 <= level <= RHO_MAX - 1:
            continue
        if kept and level - baseline.level(kept[-1].outcome.log_bpp) < 1:
            kept[-1] = max(kept[-1], winner, key=_gain)
        else:
            kept.append(winner)
    return kept


def _smoothed(offsets: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each vector mixed with its neighbours; at an end, with itself in place of the missing one."""
    padded = [*offsets[:1], *offsets, *offsets[-1:]]
    return [
        [(a + 2 * b + c) / 4 for a, b, c in zip(before, here, after, strict=True)]
        for before, here, after in zip(padded, padded[1:], padded[2:], strict=False)
    ]


def _path(
    levels: Sequence[float], offsets: Sequence[Sequence[float]], strengths: Sequence[float], n_groups: int
) -> tuple[Knot, ...]:
    """Knots at these levels, as far from all-equal as `strengths` allow; every group rises."""
    rows = [(0.0,) * n_groups]
    rows += [
        tuple(min(max(level + strength * offset, 0.0), float(RHO_MAX)) for offset in row)
        for level, row, strength in zip(levels, offsets, strengths, strict=True)
    ]
    rows.append((float(RHO_MAX),) * n_groups)
    columns = [rising(column) for column in zip(*rows, strict=True)]
    positions = [0.0, *(100 * level / RHO_MAX for level in levels), 100.0]
    return tuple(
        Knot(round(position, 3), tuple(round(value, 2) for value in row))
        for position, row in zip(positions, zip(*columns, strict=True), strict=True)
    )


def rising(values: Sequence[float]) -> list[float]:
    """The nearest values that never fall, by least squares: what falls is replaced by its mean."""
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([value])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return [fmean(block) for block in blocks for _ in block]


def _to_blame(position: float, positions: Sequence[float], strengths: Sequence[float]) -> list[int]:
    """Which inner knots, counted from 0, should weaken for what is wrong at a position of the path."""
    right = bisect_left(positions, position)
    here = [right] if positions[right] == position else []
    for near in (here, [right - 1, right, right + len(here)]):
        found = [i - 1 for i in near if 0 < i < len(positions) - 1 and strengths[i - 1] > 0]
        if found:
            return found
    return []


# --- what the path gives --------------------------------------------------------------------------------------


def densified(
    profile: Profile, positions: Sequence[float], trials: Callable[[Rho], Sequence[Trial]]
) -> tuple[Measured, ...]:
    """The measurements of a profile, with more values between them; effects of steps are interpolated there.

    Positions less than 1 from one that is known are left out: the slope between them would be mere roughness.
    """
    rows = {row.position: row for row in profile.measured}
    for position in positions:
        if all(abs(position - known) >= 1 for known in rows):
            here = trials(profile.rho(position))
            effects = {
                metric: Effect(fmean(of(trial) for trial in here), profile.expect(metric, position).per_step)
                for metric, of in METRICS.items()
            }
            rows[position] = Measured(position, **effects)
    return tuple(rows[position] for position in sorted(rows))
