"""The last step of a search: a rate vector near the tried ones that should hit the target.

A picture differs from the average in what a step of each group does to it. Each trial near the target
tells something about that; recursive least squares turns what was expected and what was seen into the likely
effects of this picture, and all vectors around the best trial are judged by them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from .profiles import RHO_MAX, Rho

# How far the effects of one picture may be from the mean, in parts of this group's and of the largest effect.
OWN_SPREAD, COMMON_SPREAD = 0.5, 0.25
# How much more a trial errs for each unit that it lies away from the target.
ERROR_PER_DISTANCE = 0.1
# Vectors are judged up to so many single steps away.
MOST_STEPS = 6


def likely_effects(
    center: Rho, seen: Iterable[tuple[Rho, float]], expected: Sequence[float], aim: float, noise: float
) -> tuple[float, list[float]]:
    """The likely value at `center` and effects of single steps there, from trials (vector, value)."""
    mean = [aim, *expected]
    spreads = [OWN_SPREAD * effect + COMMON_SPREAD * max(expected) for effect in expected]
    variances = [(1e3 * noise) ** 2, *(spread**2 for spread in spreads)]
    size = len(mean)
    covariance = [[variances[i] if i == j else 0.0 for j in range(size)] for i in range(size)]
    for rho, value in seen:
        row = [1.0, *(float(r - c) for r, c in zip(rho, center, strict=True))]
        spread = [sum(c * x for c, x in zip(line, row, strict=True)) for line in covariance]
        error = noise + ERROR_PER_DISTANCE * abs(value - aim)
        total = sum(x * s for x, s in zip(row, spread, strict=True)) + error**2
        miss = value - sum(x * m for x, m in zip(row, mean, strict=True))
        mean = [m + s * miss / total for m, s in zip(mean, spread, strict=True)]
        covariance = [
            [c - spread[i] * spread[j] / total for j, c in enumerate(line)] for i, line in enumerate(covariance)
        ]
    return mean[0], mean[1:]


def nearest_vector(
    center: Rho, value: float, effects: Sequence[float], aim: float, grain: float, tried: Collection[Rho]
) -> Rho | None:
    """The untried vector around `center` that should come nearest to the aim.

    Of those that come equally near, counted in `grain`, it is the one that moves least.
    """
    around: list[tuple[float, int, Rho]] = [(value, 0, ())]  # prediction, steps, groups so far
    for old, effect in zip(center, effects, strict=True):
        around = [
            (predicted + (new - old) * effect, steps + abs(new - old), (*rho, new))
            for predicted, steps, rho in around
            for new in range(max(old - MOST_STEPS + steps, 0), min(old + MOST_STEPS - steps, RHO_MAX) + 1)
        ]
    untried = [(int(abs(predicted - aim) / grain), steps, rho) for predicted, steps, rho in around if rho not in tried]
    return min(untried)[2] if untried else None
