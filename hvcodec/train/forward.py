"""One pass of a picture through both worlds, with everything that training needs of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hvcodec.model import Model
from hvcodec.model.blocks import straight_through
from hvcodec.model.crossing import weaken
from hvcodec.model.likelihood import logistic_bits
from hvcodec.model.prior import Follower
from hvcodec.model.rounding import round_cheaply
from hvcodec.model.transform import Latent, Steps

Bits = Callable[[Tensor, Tensor], Tensor]
"""Bits of symbols under scale indices: likelihood.logistic_bits, or the same compiled."""


class Pass(NamedTuple):
    """What came out; rates are bits per pixel of each stride group, (N, groups)."""

    reconstruction: Tensor  # (N, 3, H, W), pixels 0..1
    noisy_rates: Tensor  # of latents with uniform noise (if any), gradient to the transform alone
    rates: Tensor  # of the rounded symbols, gradient to the prior alone


def forward(
    model: Model,
    pixels: Tensor,
    rho: Tensor,
    noise: torch.Generator | None = None,
    *,
    caution: float = 0.0,
    bits: Bits = logistic_bits,
) -> Pass:
    """Code pixels 0..1 (N, 3, H, W) at rate vectors (N, groups); the decoder sees rounded symbols.

    `caution` rounds by price, as the encoder does (model/rounding.py); without it the nearest integer is taken.

    The transform's rate is that of noisy latents (smooth where rounding is not), under scales that it cannot
    change; the prior learns from the very symbols it will code. So each world has its own loss, and no
    gradient crosses the wall. A latent's gradient is weighed by how far its symbol follows it (model/crossing.py).
    """
    transform, groups = model.transform, len(model.config.stages)
    rate = rho.float()
    condition = transform.condition(rate)
    e = transform.bottom_up(transform.from_pixels(pixels - 0.5), condition, range(groups - 1, -1, -1))[::-1]
    follower = Follower(model.prior, rate)
    symbols: list[Tensor] = []
    noisy: list[Tensor] = []
    scales: list[Tensor] = []

    def answer(latent: Latent, steps: Steps, h: Tensor) -> Tensor:
        x = latent.scaled(e[latent.group].float() - h, steps)
        fixed, nearest = x.detach(), torch.round(x.detach())

        def choose(t: Tensor, mine: Tensor) -> Tensor:
            return round_cheaply(fixed, t.detach(), steps.worth, caution) if caution else nearest

        k, t = follower.follow(choose, *x.shape[-2:])
        weaken(x, t)
        symbols.append(k)
        noisy.append(x if noise is None else x + _uniform(x, noise))
        scales.append(t)
        return straight_through(x, k)

    h = transform.begin(pixels.shape[0], *e[0].shape[-2:])
    h = transform.top_down(h, condition, range(groups), answer)

    def rates(values: list[Tensor], indices: list[Tensor]) -> Tensor:
        # As rows: the gradient of a sum over a picture is one number, which autograd would lay out as channels first.
        per_layer = [bits(_row(y), _row(t)).sum(dim=1) for y, t in zip(values, indices, strict=True)]
        per_group = [
            sum(bits for bits, layer in zip(per_layer, model.config.layers, strict=True) if layer.group == g)
            for g in range(groups)
        ]
        return torch.stack([torch.as_tensor(b) for b in per_group], dim=1) / (pixels.shape[2] * pixels.shape[3])

    return Pass(transform.to_pixels(h) + 0.5, rates(noisy, [t.detach() for t in scales]), rates(symbols, scales))


def _row(x: Tensor) -> Tensor:
    return x.movedim(1, -1).flatten(1)  # no copy where channels are last


def _uniform(like: Tensor, noise: torch.Generator) -> Tensor:
    return torch.empty_like(like).uniform_(-0.5, 0.5, generator=noise)
