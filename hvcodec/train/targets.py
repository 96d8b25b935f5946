"""Objectives that reach a target for the distortion or the rate by moving a Lagrange multiplier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hvcodec.model.config import lambda_of
from hvcodec.train.objective import Objective, across_ranks
from hvcodec.train.rho import FixedRho, rho_near_bpp, rho_near_mse


class Targeted(Objective):
    """Base of the objectives that reach a target: keeps the relative excess over it.

    Training crops are not validation pictures, and averaged weights are not those being trained. So each
    validation measures the ratio between the two, and training aims at the target divided by that ratio.
    """

    target: Tensor
    average: Tensor
    recent: Tensor
    recent_updates: Tensor
    ratio: Tensor
    updates: Tensor

    def __init__(self, target: Tensor, memory: float, speed: float) -> None:
        super().__init__()
        if not speed > 0:
            raise ValueError("speed must be positive")
        if not bool((target > 0).all()):
            raise ValueError("a target must be positive")
        if not 0 <= memory < 1:
            raise ValueError("memory must lie in 0..1, below 1")
        self.memory, self.speed = memory, speed
        self.register_buffer("target", target.float(), persistent=False)  # the configuration's, also in a resumed run
        self.register_buffer("average", torch.zeros_like(self.target))  # of what is measured, from 0
        self.register_buffer("recent", torch.zeros_like(self.target))  # sum since the last validation
        self.register_buffer("recent_updates", torch.zeros(()))
        self.register_buffer("ratio", torch.ones_like(self.target))  # validation / training
        self.register_buffer("updates", torch.zeros(()))

    def measure(self, distortion: Tensor, rates: Tensor) -> Tensor:
        """Return the quantity that has the target, averaged over the batch."""
        raise NotImplementedError

    def ascend(self, excess: Tensor, mean_excess: Tensor) -> None:
        """Move the multiplier: `excess` of this batch and its moving average, both within -1..1."""
        raise NotImplementedError

    def excess(self, measured: Tensor) -> Tensor:
        """How far a measured quantity is above its target, as a part of the target."""
        return measured * self.ratio / self.target - 1

    @torch.no_grad()
    def update(self, distortion: Tensor, rates: Tensor) -> None:
        measured = across_ranks(self.measure(distortion, rates))
        # A batch that is not finite says nothing; it must not stay in an average for ever.
        usual = torch.where(self.updates > 0, self.running(), self.target / self.ratio)
        measured = torch.where(torch.isfinite(measured), measured, usual)
        self.updates += 1
        self.average.lerp_(measured, 1 - self.memory)
        self.recent += measured
        self.recent_updates += 1
        # Far off, the direction is enough: a first batch at ten times the target must not dominate.
        self.ascend(self.excess(measured).clamp(max=1), self.excess(self.running()).clamp(max=1))

    @torch.no_grad()
    def calibrate(self, distortion: Tensor, rates: Tensor) -> None:
        ratio = across_ranks(self.measure(distortion, rates)) * self.recent_updates / self.recent
        # Before the first step, or for a group without any rate, there is nothing to compare.
        ratio = torch.where(torch.isfinite(ratio) & (ratio > 0), ratio, self.ratio).clamp(0.25, 4)
        self.ratio.copy_((self.ratio * ratio).sqrt())  # half of the way: both sides are noisy
        self.recent.zero_()
        self.recent_updates.zero_()

    def running(self) -> Tensor:
        """Moving average of the measured quantity, corrected for its start at 0."""
        return self.average / (1 - self.memory**self.updates)


class DistortionTarget(Targeted):
    """Minimise (1 - m) R + m D / target, while m ascends on D / target - 1 by Adam with beta1 = 0."""

    SMALLEST, START = 1e-4, 0.9999  # START is also the largest
    multiplier: Tensor
    second_moment: Tensor

    def __init__(
        self,
        groups: int,
        seed: int,
        *,
        mse: float,
        rho: int | None = None,
        speed: float = 1e-3,
        beta2: float = 0.999,
        memory: float = 0.99,
    ) -> None:
        super().__init__(torch.tensor(mse), memory, speed)
        if not 0 <= beta2 < 1:
            raise ValueError("beta2 must lie in 0..1, below 1")
        self.rho = FixedRho(groups, rho_near_mse(mse) if rho is None else rho)
        self.beta2 = beta2
        self.register_buffer("multiplier", torch.tensor(self.START))
        self.register_buffer("second_moment", torch.zeros(()))

    def measure(self, distortion: Tensor, rates: Tensor) -> Tensor:
        return distortion.mean()

    def loss(self, distortion: Tensor, rates: Tensor, rho: Tensor) -> Tensor:
        rate = rates.sum(dim=1).mean()
        return (1 - self.multiplier) * rate + self.multiplier * distortion.mean() * self.ratio / self.target

    def ascend(self, excess: Tensor, mean_excess: Tensor) -> None:
        self.second_moment.lerp_(excess.square(), 1 - self.beta2)
        typical = (self.second_moment / (1 - self.beta2**self.updates)).sqrt() + 1e-8
        self.multiplier.add_(self.speed * excess / typical).clamp_(self.SMALLEST, self.START)

    def report(self) -> dict[str, Tensor]:
        return {"multiplier": self.multiplier.clone(), "excess": self.excess(self.running())}


class Geco(Targeted):
    """Minimise R + m (D / target - 1), where m <- m exp(speed C) and C averages the constraint over steps."""

    multiplier: Tensor

    def __init__(
        self,
        groups: int,
        seed: int,
        *,
        mse: float,
        rho: int | None = None,
        speed: float = 1e-2,
        memory: float = 0.95,
    ) -> None:
        super().__init__(torch.tensor(mse), memory, speed)
        level = rho_near_mse(mse) if rho is None else rho
        self.rho = FixedRho(groups, level)
        # Where the weights of D and R are those of beta_vae at this level.
        self.register_buffer("multiplier", torch.tensor(lambda_of(level) * mse))

    def measure(self, distortion: Tensor, rates: Tensor) -> Tensor:
        return distortion.mean()

    def loss(self, distortion: Tensor, rates: Tensor, rho: Tensor) -> Tensor:
        return rates.sum(dim=1).mean() + self.multiplier * self.excess(distortion.mean())

    def ascend(self, excess: Tensor, mean_excess: Tensor) -> None:
        self.multiplier.mul_(torch.exp(self.speed * mean_excess)).clamp_(1e-6, 1e6)

    def report(self) -> dict[str, Tensor]:
        return {"multiplier": self.multiplier.clone(), "excess": self.excess(self.running())}


class RateTarget(Targeted):
    """Minimise lambda(rho) D + m R, where m rises while the rate is above its target and falls below it.

    `bpp` is one number for the rate in all, or a list with one for each group, each with its own m. The loss
    takes m exp(damping C), C the averaged constraint: networks follow slowly, and m alone would overshoot.
    """

    multiplier: Tensor
    pull: Tensor

    def __init__(
        self,
        groups: int,
        seed: int,
        *,
        bpp: float | Sequence[float],
        rho: int | None = None,
        speed: float = 1e-2,
        memory: float = 0.95,
        damping: float = 0.0,
    ) -> None:
        target = torch.tensor(bpp, dtype=torch.float32)
        if target.shape not in {(), (groups,)}:
            raise ValueError(f"bpp must be one number or {groups}, one for each group")
        super().__init__(target, memory, speed)
        level = rho_near_bpp(float(target.sum())) if rho is None else rho
        self.rho = FixedRho(groups, level)
        if damping < 0:
            raise ValueError("damping must not be negative")
        self.damping, self.lam = damping, lambda_of(level)
        self.register_buffer("multiplier", torch.ones_like(target))
        self.register_buffer("pull", torch.ones_like(target))  # what the loss takes

    def measure(self, distortion: Tensor, rates: Tensor) -> Tensor:
        per_group = rates.mean(dim=0)
        return per_group if self.target.ndim else per_group.sum()

    def loss(self, distortion: Tensor, rates: Tensor, rho: Tensor) -> Tensor:
        return self.lam * distortion.mean() + (self.pull * self.measure(distortion, rates)).sum()

    def ascend(self, excess: Tensor, mean_excess: Tensor) -> None:
        self.multiplier.mul_(torch.exp(self.speed * mean_excess)).clamp_(1e-6, 1e6)
        self.pull.copy_(self.multiplier * torch.exp(self.damping * mean_excess))

    def report(self) -> dict[str, Tensor]:
        return {"multiplier": self.multiplier.clone(), "excess": self.excess(self.running())}
