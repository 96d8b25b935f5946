"""Refine the features of one picture: what the analysis network, trained for all pictures, left undone for this one.

The features e of the analysis are what the ladder codes. A nudge is added to them and improved by gradient descent
on the true objective, WEIGHT D + sum_g R_g / lambda_g with the distortion that the model was trained for, through the
very rounding that the encoder uses. Symbols are always those of the ordinary closed loop, so a nudge can make a file
better or worse but never wrong, and the decoder knows nothing of it.

The descent goes from coarse to fine, an equal part of the steps for each stride group. Its nudges and those of finer
groups move; coarser ones stay as they are. The picture is divided into cells, as large as a position of the group: each
keeps its own best nudges and its own step, because what helps here may hurt there.

Gradients come back through the basis of the latents, which looks at some directions of the features far more strongly
than at others. Steps follow them with that undone (_evened).

Two gradients are not the plain ones. Rounding passes on only a part of its gradient, the less the surer the prior is of
a zero. And the rate of a symbol is flat almost everywhere, so its slope is the difference between the two integers
around its latent (SURROGATES).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hvcodec.trellis import NO_PRICES, Groups, Prices

from . import Model, crossing
from .blocks import straight_through
from .config import SCALE_COUNT, lambda_of
from .importance import GRID, PixelRows, at_positions, weighed
from .perceptual import SQUARE, error_map
from .prior import Follower
from .rounding import CAUTION, bits_of_one_more, chooser, row_of
from .strips import Nudges
from .transform import Condition, Latent, Steps, full_precision

STEP, STEP_FOR_THE_EYE = 0.05, 0.045
"""First step of the descent at LEVEL, where 1 would remove an error of the picture at once if the ladder were linear
and the distortion were the squared error. Those that follow the eye are steeper in smooth surroundings."""

LEVEL, GROWTH = 30, 1 / 4
"""Steps grow with this power of lambda; they are the first ones at LEVEL of rho."""

FAINT = 0.1
"""Directions that the latents see with less than this part of the mean power are not brought up to the others."""

WEIGHT = 1.7
"""How much more an error counts in the descent than lambda says. Along the model's curve it takes up to 1.6 times the
bits that lambda promises to remove an error, and what a nudge does far from its cell goes unnoticed."""

SURROGATES = ((0.25, 1.6), (0.25, 1.2), (1.0, 1.6), (0.25, 2.2), (0.5, 1.3), (0.12, 2.0))
"""What stands for the gradients that rounding hides: (response, weight of the rate). The first for FIRST steps, then
the others in turn for EACH: where one is stuck, another often sees a way out.

The response is how far a symbol is believed to follow its latent; less where the prior is sure of a zero (_follows). If
it followed fully, later layers would make good for nothing whatever a nudge takes from earlier ones, and no nudge of a
coarse layer would seem to matter. Bits count for more than themselves, because small symbols also make their
neighbours cheaper.
"""

DOUBT = 1.5
"""Symbols that move with their latents by less than 1 / DOUBT^2 on the average are believed to follow by less."""

FIRST, EACH = 24, 12

PATIENCE = 5
"""After so many steps without a new lowest cost a cell goes on from its best nudges with a smaller step."""

SHRINK = 0.7

STUCK, AGAIN = 0.2, 0.6
"""A cell whose step has shrunk to less than this part of the first one goes on with that part of it."""

AT_ONCE, MOVING = 5, 0.5
"""All cells move in the first steps of a group's part: few steps leave no time to rest. Then so many of them, chosen at
random for each step: what one does is not put down to its neighbours."""

TILE, HALO = 768, 64
"""Pixels of a side that are refined at once, and how many around them are refined with them and then left."""

GoOn = Callable[[float], bool]
"""Told how much is done (0..1), says whether to go on; what was found so far is kept."""


class _Tile(NamedTuple):
    """One side of a tile, in pixels."""

    read: slice  # with halo
    own: slice

    def place(self, stride: int) -> tuple[slice, slice]:
        """Its own positions at a stride: in the picture, and within what is read."""
        own = slice(self.own.start // stride, self.own.stop // stride)
        shift = self.read.start // stride
        return own, slice(own.start - shift, own.stop - shift)


def _tiles(side: int) -> list[_Tile]:
    tiles = []
    for first in range(0, side, TILE):
        own = slice(first, min(side, first + TILE))
        tiles.append(_Tile(slice(max(0, own.start - HALO), min(side, own.stop + HALO)), own))
    return tiles


def _on_grid(side: slice) -> slice:
    return slice(side.start // GRID, side.stop // GRID)


class Task(NamedTuple):
    """For whom pictures are refined, and what is to be made small."""

    model: Model
    rho: Tensor  # (N, groups)
    caution: float = CAUTION  # of the rounding
    importance: Tensor | None = None  # weights of the error of each pixel, see importance.py
    roi: Tensor | None = None  # those of a mask alone
    distortion: Mapping[str, float] = MappingProxyType({})  # shares, see perceptual.error_map
    prices: Prices = NO_PRICES  # see strips.Choice

    @property
    def linked(self) -> Groups:
        return frozenset(self.prices)

    def within(self, rows: slice, columns: slice) -> Task:
        """The same for a tile."""

        def part(weights: Tensor | None) -> Tensor | None:
            return None if weights is None else weights[:, :, _on_grid(rows), _on_grid(columns)]

        return self._replace(importance=part(self.importance), roi=part(self.roi))

    def error(self, pixels: Tensor, shown: Tensor) -> Tensor:
        """The error of squares of pixels -0.5..0.5, summed over the pixels of each: (N, 1, rows, columns)."""
        if not self.distortion:
            return weighed((shown - pixels).square(), self.importance) / 3
        # Masking stands for what these distortions know better.
        squares = SQUARE**2 * error_map(pixels + 0.5, shown + 0.5, self.distortion)
        return squares * at_positions(self.roi, squares)


def refine(
    task: Task, pixels: PixelRows, height: int, width: int, iterations: int, go_on: GoOn = lambda done: True
) -> Nudges:
    """Nudges for pictures padded to height x width; `pixels` as in strips.analyze."""
    stages = task.model.config.stages
    n = task.rho.shape[0]
    nudges = [np.zeros((n, s.width, height // s.stride, width // s.stride), np.float16) for s in stages]
    places = [(down, across) for down in _tiles(height) for across in _tiles(width)]
    for number, (down, across) in enumerate(places):
        crop = pixels(down.read.start, down.read.stop)[..., across.read]
        descent = _Descent(task.within(down.read, across.read), crop, iterations)
        is_wanted = True
        for i in range(iterations + 1):
            is_wanted = go_on((number + i / (iterations + 1)) / len(places))
            if not is_wanted:
                break
            descent.step()
        for stage, nudge, part in zip(stages, nudges, descent.finish(), strict=True):
            (rows, keep_rows), (columns, keep_columns) = down.place(stage.stride), across.place(stage.stride)
            nudge[:, :, rows, columns] = part[:, :, keep_rows, keep_columns].half().cpu().numpy()
        if not is_wanted:
            break
    else:
        go_on(1.0)
    return nudges


class _Descent:
    """The nudges of one tile, and the best that they have been in each cell of each picture."""

    def __init__(self, task: Task, pixels: Tensor, iterations: int) -> None:
        self.task, self.pixels, rho = task, pixels, task.rho
        transform, groups = task.model.transform, len(task.model.config.stages)
        with torch.no_grad():
            self.condition = transform.condition(rho, task.linked)
            up = transform.bottom_up(transform.from_pixels(pixels), self.condition, range(groups - 1, -1, -1))
            self.features = [e.float() for e in reversed(up)]
            self.evened = [_evened(transform.rung(g).latents, self.condition) for g in range(groups)]
        self.chosen = [torch.zeros_like(e) for e in self.features]
        self.cost = torch.full((len(pixels),), math.inf, device=pixels.device)
        self.random = torch.Generator().manual_seed(0)  # the same file each time
        self.iterations, self.steps = iterations, 0
        self._begin(0)

    def _begin(self, group: int) -> None:
        """Go on from the best with the cells of a stride group."""
        self.group, self.nudges, self.best = group, self.chosen, self.chosen
        self.begun = self.steps
        stride = self.task.model.config.stages[group].stride
        cells = (len(self.pixels), 1, self.pixels.shape[-2] // stride, self.pixels.shape[-1] // stride)
        self.lowest = torch.full(cells, math.inf, device=self.pixels.device)  # cost of a cell and its surroundings
        self.first_size = self._first_size(group)
        self.size = self.first_size.expand_as(self.lowest)
        self.in_vain = torch.zeros_like(self.lowest)  # moves since the lowest cost
        self.moves = torch.ones_like(self.lowest, dtype=torch.bool)
        self.coarse = _Loop(self.task, self.pixels, self.features, self.condition, self.lowest)
        with torch.no_grad():
            self.coarse.climb(self.nudges, range(group))

    def _first_size(self, group: int) -> Tensor:
        """Of the steps of a group's part, for each picture."""
        step = STEP_FOR_THE_EYE if self.task.distortion else STEP
        sizes = [step * (lambda_of(level) / lambda_of(LEVEL)) ** GROWTH for level in self.task.rho[:, group].tolist()]
        return torch.tensor(sizes, device=self.pixels.device)[:, None, None, None]

    def step(self) -> None:
        """Judge the nudges as they are, and move them."""
        group = self.steps * len(self.nudges) // (self.iterations + 1)
        if group != self.group:
            self.finish()
            self._begin(group)
        response, rate_weight = self._surrogate()
        self.steps += 1
        leaves = [nudge.detach() for nudge in self.nudges]
        moving = [leaf.requires_grad_() for leaf in leaves[self.group :]]
        loop = self._loop(leaves, response)
        gradients = torch.autograd.grad(loop.distortion + rate_weight * loop.slopes, moving)
        self._remember(self.nudges, loop.cost)
        # What a cell sends around changes its neighbours, so it answers for them too.
        around = F.avg_pool2d(F.pad(loop.cost, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        is_better = around < self.lowest
        self.lowest = torch.where(is_better, around, self.lowest)
        self.best = self._where(is_better, self.nudges, self.best)
        # Rounding makes the cost a rough thing: a step that helped at first is too large near a minimum.
        self.in_vain = torch.where(is_better, 0.0, self.in_vain + self.moves)
        is_lost = self.in_vain >= PATIENCE
        self.in_vain = torch.where(is_lost, 0.0, self.in_vain)
        self.size = torch.where(is_lost, self.size * SHRINK, self.size)
        # The squared error of three samples to a pixel has curvature 2/3 in an orthonormal ladder.
        step = 1.5 / response * self.size
        coarser, finer = self.nudges[: self.group], self.nudges[self.group :]
        moved = [
            nudge - _spread(step, nudge) * (evened @ gradient.flatten(2)).view_as(nudge)
            for nudge, gradient, evened in zip(finer, gradients, self.evened[self.group :], strict=True)
        ]
        chance = torch.rand(self.lowest.shape[1:], generator=self.random).to(self.lowest)
        share = 1.0 if group == 0 or self.steps - self.begun <= AT_ONCE else MOVING
        self.moves = (chance < share) & ~is_lost
        self.nudges = self._where(self.moves, [*coarser, *moved], self.best)
        is_stuck = self.size < STUCK * self.first_size
        self.size = torch.where(is_stuck, AGAIN * self.first_size, self.size)

    def _surrogate(self) -> tuple[float, float]:
        first, *others = SURROGATES
        return first if self.steps < FIRST else others[(self.steps - FIRST) // EACH % len(others)]

    def finish(self) -> list[Tensor]:
        """The best nudges: those of each cell together, or the best of all steps if cells do not add up."""
        with torch.no_grad():
            self._remember(self.best, self._loop(self.best).cost)
        return self.chosen

    def _remember(self, nudges: list[Tensor], cost: Tensor) -> None:
        total = cost.sum(dim=(1, 2, 3))
        is_better = total < self.cost
        self.cost = torch.where(is_better, total, self.cost)
        chosen = is_better[:, None, None, None]
        self.chosen = [torch.where(chosen, x, y) for x, y in zip(nudges, self.chosen, strict=True)]

    def _where(self, chosen: Tensor, a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
        """The nudges in a in those cells that are chosen, those in b elsewhere and of groups that do not move."""
        first = self.group
        picked = [torch.where(_spread(chosen.float(), x) > 0, x, y) for x, y in zip(a[first:], b[first:], strict=True)]
        return [*b[:first], *picked]

    def _loop(self, nudges: list[Tensor], response: float = 1.0) -> _Loop:
        loop = self.coarse.copy()
        loop.climb(nudges, range(self.group, len(nudges)), response)
        loop.finish()
        return loop


def _evened(latents: Iterable[Latent], condition: Condition) -> Tensor:
    """What turns gradients of a group's features into steps, (N, width, width): the same length on the average, but
    with every direction that its latents see at one strength.

    Latents are B (e - h) with B = W / g, so a gradient is B^T times that of the latents. What multiplies it is
    (B^T B)^(-1/2), which leaves an orthonormal basis of B.
    """
    with full_precision(condition.embedding):
        basis = torch.cat([x.basis(condition.steps[x.index]) for x in latents], dim=1)
        power, directions = torch.linalg.eigh(basis.mT @ basis)
        power = power.clamp(min=0)
        gain = 1 / (power + FAINT * power.mean(dim=1, keepdim=True)).sqrt()
        gain = gain * (power.sum(dim=1, keepdim=True) / (power * gain.square()).sum(dim=1, keepdim=True)).sqrt()
        evened: Tensor = (directions * gain[:, None]) @ directions.mT
    return evened


def _spread(cells: Tensor, like: Tensor) -> Tensor:
    """A number of each cell, at all positions of a plane."""
    return F.interpolate(cells, size=like.shape[-2:], mode="nearest")


class _Loop:
    """One closed loop over all layers: the error of the decoder's picture, what the symbols cost, and its slope."""

    def __init__(self, task: Task, pixels: Tensor, features: list[Tensor], condition: Condition, cells: Tensor) -> None:
        self._task, self._pixels, self._features, self._condition = task, pixels, features, condition
        rho = task.rho
        prices = [[1 / (WEIGHT * lambda_of(level)) for level in row] for row in rho.tolist()]
        self._price = torch.tensor(prices, device=rho.device)  # of a bit, in squared error
        self._follower = Follower(task.model.prior, rho, task.linked)
        self._h = task.model.transform.begin(len(rho), *features[0].shape[-2:])
        self.cost = torch.zeros_like(cells)  # of each cell
        self.slopes = rho.new_zeros(())  # a number whose gradient is that of what the symbols cost

    def copy(self) -> _Loop:
        """A loop that goes on from here: what coarse groups give is the same for many steps."""
        other = copy(self)
        other._follower, other.cost = self._follower.within(slice(None)), self.cost.clone()
        return other

    def climb(self, nudges: list[Tensor], groups: range, response: float = 1.0) -> None:
        """Code the layers of these groups, with nudged features."""
        importance, caution = self._task.importance, self._task.caution
        stages = self._task.model.config.stages

        def answer(latent: Latent, steps: Steps, h: Tensor) -> Tensor:
            x = latent.scaled(self._features[latent.group] + nudges[latent.group] - h, steps)
            fixed = x.detach()
            worth, may_drop = steps.worth * at_positions(importance, fixed), importance is not None
            price = self._price[:, latent.group, None, None, None]
            with torch.no_grad():
                prices = self._task.prices.get(latent.group)
                choose = chooser(fixed, worth, caution, prices, stages[latent.group].stride, may_drop=may_drop)
                v, t = self._follower.follow(choose, *fixed.shape[-2:])
                slope = price * torch.sign(fixed) * bits_of_one_more(fixed, t)
                self.cost += _in_cells(price * choose.bits(v, t).sum(dim=1, keepdim=True), self.cost)
            follows = response * _follows(t) * x
            self.slopes = self.slopes + (follows * slope).sum()
            return straight_through(follows, v)

        transform = self._task.model.transform
        self._h = transform.top_down(self._h, self._condition, groups, answer)

    def finish(self) -> None:
        """Show the picture, and add its error to the cost."""
        error = self._task.error(self._pixels, self._task.model.transform.to_pixels(self._h))
        self.distortion = error.sum()
        self.cost += _in_cells(error.detach(), self.cost)


def _follows(t: Tensor) -> Tensor:
    """Which part of the response is left to symbols of these scale indices."""
    return _parts(t.device)[row_of(t)]


@lru_cache(maxsize=4)
def _parts(device: torch.device) -> Tensor:
    """For each scale index."""
    indices = torch.arange(SCALE_COUNT, device=device).float()
    return (DOUBT * crossing.slope(indices).sqrt()).clamp(max=1)


def _in_cells(plane: Tensor, cells: Tensor) -> Tensor:
    """Sums of a plane (N, 1, rows, columns) over the positions of each cell; cells share a larger position evenly."""
    means = F.interpolate(plane, size=cells.shape[-2:], mode="area")
    return means * (plane[0].numel() / cells[0].numel())
