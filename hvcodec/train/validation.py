"""Validation: averaged weights on crops of pictures never trained on, rounded as the encoder will round them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from hvcodec.model import Model

from .forward import forward
from .objective import Objective, across_ranks, squared_error
from .rho import lambdas

LEVELS = (8, 24, 40, 54)
"""Levels at which a model for all rates is validated."""


class Measured(NamedTuple):
    """What coding the crops of this rank at one level gave."""

    distortion: Tensor  # (N,) squared error of the 8-bit picture, pixels 0..1
    rates: Tensor  # (N, groups) bits per pixel
    objective: Tensor  # what the objective minimises, in the mean

    def row(self, level: int) -> dict[str, float | Tensor]:
        """Means over the crops of all ranks, for the log."""
        mse, rates = across_ranks(self.distortion.mean()), across_ranks(self.rates.mean(dim=0))
        loss = rates.sum() + lambdas(torch.tensor(float(level))) * mse
        own = across_ranks(self.objective)
        return {
            "level": level,
            "loss": loss,
            "mse": mse,
            "rates": rates,
            "psnr": -10 * torch.log10(mse),
            "objective": own,
        }


def levels_of(objective: Objective) -> tuple[int, ...]:
    """The levels to validate at: the one that is trained, or some of all."""
    known = tuple(objective.rho.levels)
    return known if len(known) == 1 else LEVELS


@torch.no_grad()
def measure(model: Model, objective: Objective, batches: Iterable[Tensor], level: int, *, bf16: bool) -> Measured:
    """Code batches of crops (N, 3, H, W), pixels 0..1, at one level for all groups."""
    distortion, rates, own = [], [], []
    device = next(model.parameters()).device
    for crops in batches:
        pixels = crops.to(device)
        rho = torch.full((len(pixels), len(model.config.stages)), level, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out = forward(model, pixels, rho, caution=objective.caution)
            own.append(objective.loss(objective.distortion(pixels, out.reconstruction), out.rates, rho))
        shown = (out.reconstruction.clamp(0, 1) * 255).round() / 255
        distortion.append(squared_error(pixels, shown))
        rates.append(out.rates)
    return Measured(torch.cat(distortion), torch.cat(rates), torch.stack(own).mean())
