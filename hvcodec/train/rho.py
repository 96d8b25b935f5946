"""Rate vectors for training: which of the 64 levels each stride group of each picture is trained at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hvcodec.model.config import RHO_LEVELS
from hvcodec.train.draws import generator, to_device

SPREAD = 8.0
"""Standard deviation of the offsets of single groups, in levels (8 levels: a factor of 2.5 in lambda)."""


def lambdas(rho: Tensor) -> Tensor:
    """Weight of the squared error (pixels in 0..1) against one bit per pixel; six levels double it."""
    return torch.exp2(5 + rho / 6)


class Sampler(Protocol):
    """Says at which rate vectors a batch is trained; the answer depends on the step alone."""

    levels: Sequence[int]
    """Those that occur: a network knows no others."""

    def at(self, step: int, batch: int, device: torch.device | str = "cpu", *, rank: int = 0, world: int = 1) -> Tensor:
        """Return (batch, groups) int64 levels of this rank's pictures."""
        ...


class FixedRho:
    """The same level for all groups of all pictures."""

    def __init__(self, groups: int, level: int) -> None:
        if not 0 <= level < RHO_LEVELS:
            raise ValueError(f"rho must lie in 0..{RHO_LEVELS - 1}, not {level}")
        self.groups, self.level = groups, level
        self.levels: Sequence[int] = (level,)

    def at(self, step: int, batch: int, device: torch.device | str = "cpu", *, rank: int = 0, world: int = 1) -> Tensor:
        return torch.full((batch, self.groups), self.level, dtype=torch.int64, device=device)


class RhoSampler:
    """Random levels: a base over all levels; the groups of some pictures spread around it.

    `together` is the share of the others. Levels from `rare_from` on, where pictures are nearly perfect, are
    drawn a third as often as those below.
    """

    def __init__(
        self, groups: int, seed: int, *, together: float = 0.5, spread: float = SPREAD, rare_from: int = RHO_LEVELS
    ) -> None:
        if not 0 <= rare_from <= RHO_LEVELS:
            raise ValueError(f"rare_from must lie in 0..{RHO_LEVELS}, not {rare_from}")
        if not 0 <= together <= 1 or not 0 <= spread <= RHO_LEVELS:
            raise ValueError(f"together must lie in 0..1 and spread in 0..{RHO_LEVELS}, not {together} and {spread}")
        self.groups, self.seed, self.together, self.spread = groups, seed, together, spread
        self.levels: Sequence[int] = range(RHO_LEVELS)
        # Each common level three times, so that a uniform draw from the list is what is wanted.
        self._bases = np.array([level for level in range(RHO_LEVELS) for _ in range(3 if level < rare_from else 1)])

    def at(self, step: int, batch: int, device: torch.device | str = "cpu", *, rank: int = 0, world: int = 1) -> Tensor:
        draws, whole = generator(self.seed, "rho", step), batch * world
        base = self._bases[draws.integers(0, len(self._bases), (whole, 1))]
        apart = draws.random((whole, 1)) >= self.together
        offsets = np.rint(draws.normal(0, self.spread, (whole, self.groups))).astype(np.int64)
        rho = np.clip(base + apart * offsets, 0, RHO_LEVELS - 1)
        return to_device(rho[rank * batch : (rank + 1) * batch], device)


def rho_near_mse(mse: float) -> int:
    """Level whose default model comes out near a squared error; fitted to the run in docs/objectives.md."""
    return _level((0.0226 / mse) ** 1.70)


def rho_near_bpp(bpp: float) -> int:
    """Level whose default model comes out near a rate; fitted to the run in docs/objectives.md."""
    return _level((bpp / 0.0115) ** 1.75)


def _level(lam: float) -> int:
    return int(np.clip(np.rint(6 * (np.log2(lam) - 5)), 0, RHO_LEVELS - 1))
