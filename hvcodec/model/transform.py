"""The float world: pixels to symbols and back, on a ladder of estimates.

    pixels ─stem─► e4 ─down─► e8 ─down─► e16 ─down─► e32 ─down─► e64
                   │          │          │           │           │     q = W (e - h)      analysis only
    pixels ◄─head─ h4 ◄──up── h8 ◄──up── h16 ◄──up── h32 ◄──up── h64   h = h + V (g k)    both

`h` lives in the space of `e` and is its estimate from what has been coded so far. A latent layer codes the
remaining difference in a basis: symbol k = round(W (e - h) / g) (how: rounding.py), with a step g for each
channel that follows the rate vector. Blocks between the layers improve the estimate. Nothing here need be
exact: the entropy coder never sees a float (see prior.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvcodec.trellis import NO_GROUPS, WIDER, Groups

from .blocks import Block, Modules
from .config import INDEX_PER_OCTAVE, RHO_LEVELS, ModelConfig, Stage

Answer = Callable[["Latent", "Steps", Tensor], Tensor | None]
"""Gives the symbols of a latent layer: (layer, its steps, the estimate h) -> k.

None, for the last layer, ends the walk: an analysis wants no picture.
"""

PATCH = 4
FINE = 3
"""Stages from this one on (strides 8 and 4) run in strips; coarser ones on the whole picture."""


class Steps(NamedTuple):
    """How a layer quantises at one rate vector; each (N, Z, 1, 1)."""

    gain: Tensor  # step size
    inward: Tensor  # how far reconstruction leans towards zero, in steps
    worth: Tensor  # what an error of one step costs, in bits: lambda g^2 / 3


class Condition(NamedTuple):
    """What the rate vectors of the pictures set, all over the ladder."""

    embedding: Tensor  # (N, rho_width), for the blocks
    steps: tuple[Steps, ...]  # of the latent layers, coarse to fine


class Latent(nn.Module):
    """One latent layer: the basis of its symbols and their steps."""

    def __init__(self, index: int, group: int, width: int, channels: int, rho_width: int) -> None:
        super().__init__()
        self.index, self.group = index, group
        self.analysis = nn.Parameter(torch.empty(channels, width, 1, 1))
        self.synthesis = nn.Parameter(torch.empty(width, channels, 1, 1))
        nn.init.orthogonal_(self.analysis)
        self.synthesis.data.copy_(self.analysis.data.transpose(0, 1))
        self.steps_bias = nn.Parameter(torch.zeros(2, channels))
        self.steps_rho = nn.Linear(rho_width, 2 * channels, bias=False)
        nn.init.zeros_(self.steps_rho.weight)
        self.steps_bias.data[1] = -2.4  # inward: 0.04 to begin with

    def steps(self, rho: Tensor, embedding: Tensor, octaves: float = 0.0) -> Steps:
        """Step sizes at this rate; high-rate theory (step^2 = 26 / lambda) plus what was learned."""
        learned = self.steps_rho(embedding).view(len(rho), 2, -1) + self.steps_bias
        log_lambda = math.log(2.0) * (5 + rho[:, self.group, None] / 6)
        gain = torch.exp(0.5 * (math.log(26.0) - log_lambda) + learned[:, 0] + math.log(2.0) * octaves)
        inward = 0.5 * torch.sigmoid(learned[:, 1])
        worth = torch.exp(log_lambda) * gain.detach().square() / 3  # three samples to a pixel
        return Steps(*(t[:, :, None, None] for t in (gain, inward, worth)))

    def gain_rows(self) -> tuple[tuple[Tensor, int], ...]:
        """Where the step sizes come from: parameters, and how many of their first rows; the others make `inward`."""
        return (self.steps_bias, 1), (self.steps_rho.weight, self.steps_bias.shape[1])

    def freeze_gains(self) -> None:
        """Let training leave the step sizes as they are; the reconstruction points go on learning."""
        for parameter, rows in self.gain_rows():
            mask = torch.ones_like(parameter)
            mask[:rows] = 0
            parameter.register_hook(mask.mul)  # type: ignore[no-untyped-call]

    def scaled(self, residual: Tensor, steps: Steps) -> Tensor:
        """The residual e - h in this layer's basis, in steps: what rounding makes symbols of."""
        with full_precision(residual):
            return F.conv2d(residual, self.analysis) / steps.gain

    def basis(self, steps: Steps) -> Tensor:
        """What `scaled` multiplies a residual by, (N, channels, width)."""
        return self.analysis.flatten(1) / steps.gain[..., 0]

    def merge(self, h: Tensor, v: Tensor, steps: Steps) -> Tensor:
        """Add what the values of the symbols say to the estimate; half values lie where they should already."""
        whole = torch.where(v == torch.round(v), torch.sign(v), 0.0)
        z = steps.gain * (v - steps.inward * whole)
        return h + F.conv2d(z, self.synthesis)


class Rung(nn.Module):
    """One stride of the ladder."""

    def __init__(self, config: ModelConfig, group: int, first_layer: int) -> None:
        super().__init__()
        stage = config.stages[group]
        self.analysis = _blocks(stage, stage.analysis_blocks, config.rho_width)
        self.synthesis = _blocks(stage, stage.synthesis_blocks, config.rho_width)
        self.latents: Modules[Latent] = Modules(
            Latent(first_layer + i, group, stage.width, stage.channels, config.rho_width) for i in range(stage.layers)
        )
        self.after: Modules[Modules[Block]] = Modules(
            _blocks(stage, stage.layer_blocks, config.rho_width) for _ in range(stage.layers)
        )
        if group > 0:
            coarser = config.stages[group - 1].width
            self.down = nn.Parameter(torch.empty(coarser, stage.width, 2, 2))
            nn.init.orthogonal_(self.down)
            self.up = nn.Parameter(self.down.detach().clone())

    def climb(self, h: Tensor, condition: Condition, answer: Answer) -> Tensor:
        """From the estimate as it arrives at this stride to the estimate with all its layers."""
        for block in self.synthesis:
            h = block(h, condition.embedding)
        for latent, blocks in zip(self.latents, self.after, strict=True):
            steps = condition.steps[latent.index]
            k = answer(latent, steps, h)
            if k is None:
                break
            with full_precision(h):
                h = latent.merge(h, k, steps)
            for block in blocks:
                h = block(h, condition.embedding)
        return h


def _blocks(stage: Stage, count: int, rho_width: int) -> Modules[Block]:
    return Modules(Block(stage.width, stage.groups, rho_width) for _ in range(count))


def full_precision(x: Tensor) -> torch.autocast:
    """The ladder itself (bases, sums) stays in float32: a step is far below bfloat16's grid at DC."""
    return torch.autocast(x.device.type, enabled=False)


class Transform(nn.Module):
    """The ladder: strides 64 to 4 (rungs 0 to 4), stem and head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        finest = config.stages[-1].width
        self.stem = nn.Parameter(torch.zeros(finest, 3, PATCH, PATCH))
        self.stem.data[: 3 * PATCH * PATCH] = torch.eye(3 * PATCH * PATCH).view(-1, 3, PATCH, PATCH)
        self.head = nn.Parameter(self.stem.detach().clone())
        self.start = nn.Parameter(torch.zeros(config.stages[0].width))
        first = [sum(s.layers for s in config.stages[:g]) for g in range(len(config.stages))]
        self.rungs: Modules[Rung] = Modules(Rung(config, g, first[g]) for g in range(len(config.stages)))
        self.embed_rho = nn.Sequential(
            nn.Linear(len(config.stages), config.rho_width),
            nn.SiLU(),
            nn.Linear(config.rho_width, config.rho_width),
        )

    def rung(self, group: int) -> Rung:
        return self.rungs.at(group)

    def latents(self) -> Iterator[Latent]:
        """All latent layers, coarse to fine."""
        for rung in self.rungs:
            yield from rung.latents

    def condition(self, rho: Tensor, linked: Groups = NO_GROUPS) -> Condition:
        """What the rate values (N, groups) set."""
        with full_precision(rho):
            embedding = self.embed_rho(rho / (RHO_LEVELS - 1) * 2 - 1)
            steps = (
                latent.steps(rho, embedding, WIDER / INDEX_PER_OCTAVE if latent.group in linked else 0.0)
                for latent in self.latents()
            )
            return Condition(embedding, tuple(steps))

    # --- the walk ---------------------------------------------------------------------------------------

    def bottom_up(self, e: Tensor, condition: Condition, groups: range) -> list[Tensor]:
        """Features of the given rungs, fine to coarse; `e` comes from the stem or the next finer rung."""
        features = []
        for group in groups:
            rung = self.rung(group)
            if group + 1 < len(self.rungs):
                with full_precision(e):
                    e = F.conv2d(e.float(), self.rung(group + 1).down, stride=2)
            for block in rung.analysis:
                e = block(e, condition.embedding)
            features.append(e)
        return features

    def top_down(self, h: Tensor, condition: Condition, groups: range, answer: Answer) -> Tensor:
        """Walk the given rungs, coarse to fine; `answer` gives the symbols of each layer."""
        for group in groups:
            rung = self.rung(group)
            if group > 0:
                with full_precision(h):
                    h = F.conv_transpose2d(h, rung.up, stride=2)
            h = rung.climb(h, condition, answer)
        return h

    def from_pixels(self, pixels: Tensor) -> Tensor:
        with full_precision(pixels):
            return F.conv2d(pixels, self.stem, stride=PATCH)

    def to_pixels(self, h: Tensor) -> Tensor:
        with full_precision(h):
            return F.conv_transpose2d(h, self.head, stride=PATCH)

    def begin(self, n: int, rows: int, columns: int) -> Tensor:
        """The estimate before any symbol: a learned constant."""
        return self.start[None, :, None, None].expand(n, -1, rows, columns)
