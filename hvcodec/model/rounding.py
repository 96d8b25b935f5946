"""Round latents to symbols with an eye on what each symbol costs.

The nearest integer is not the best one: the next smaller magnitude often saves more bits than its error
costs. With J = R + lambda D, a value x between f and f + 1 steps is worth rounding up where

    lambda g^2 / 3 ((x - f)^2 - (f + 1 - x)^2)  >  bits(f + 1) - bits(f).

The prior's scale index tells the bits. Only the encoder rounds, so this is no part of the format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hvcodec import trellis
from hvcodec.trellis import Array

from .config import SCALE_COUNT
from .likelihood import inverse_scales, logistic_bits

CAUTION = 0.3
"""How much of the saving is believed: what a layer leaves out, later layers and blocks partly make good.

For models that are trained for the squared error. Where others count, its price misleads, and nearest is best.
"""

HIGHEST_THRESHOLD = 0.95
_MAGNITUDES = 16  # beyond these the cost of one more hardly changes


def usual_caution(distortion: Mapping[str, float]) -> float:
    """The caution for a model that was trained for this distortion (shares as in perceptual.error_map)."""
    return 0.0 if distortion else CAUTION


def round_cheaply(x: Tensor, t: Tensor, worth: Tensor, caution: float = CAUTION, *, may_drop: bool = False) -> Tensor:
    """Symbols of latents x (in steps) under scale indices t; `worth` as in transform.Steps.

    With `may_drop` large values become zero too where that is worth it: a matter of pixels that hardly count.
    """
    magnitude = x.abs()
    low = magnitude.floor()
    threshold = (0.5 + (caution / 2) * bits_of_one_more(x, t) / worth).clamp(max=HIGHEST_THRESHOLD)
    k = low + (magnitude - low > threshold)
    if may_drop:
        row = row_of(t)
        saved_bits = _extra_bits(x.device).cumsum(dim=1)[row, (k.long() - 1).clamp(0, _MAGNITUDES - 1)]
        lost = worth * (magnitude.square() - (magnitude - k).square())
        k = torch.where(caution * saved_bits > lost, 0, k)
    return torch.sign(x) * k


def bits_of_one_more(x: Tensor, t: Tensor) -> Tensor:
    """What the larger of the two magnitudes around |x| costs more than the smaller, under scale indices t."""
    # Clamped as integers: what is not finite (training skips such steps) must still point into the table.
    column = x.abs().long().clamp(0, _MAGNITUDES - 1)
    return _extra_bits(x.device)[row_of(t), column]


def row_of(t: Tensor) -> Tensor:
    """The row of tables over the scale indices that belongs to each of these."""
    return t.round().long().clamp(0, SCALE_COUNT - 1)


@lru_cache(maxsize=4)
def _extra_bits(device: torch.device) -> Tensor:
    """bits(f + 1) - bits(f) of logistic distributions: (scale index, f)."""
    inverse = inverse_scales()
    f = torch.arange(_MAGNITUDES + 1, dtype=torch.float64)[None, :]
    # The mass of the bin around f, up to factors that all f share.
    log_mass = -torch.nn.functional.softplus(-(f + 0.5) * inverse) - torch.nn.functional.softplus((f - 0.5) * inverse)
    return (-log_mass.diff(dim=1) / math.log(2)).float().to(device)


def coded_row(t: Tensor) -> Tensor:
    """The scale indices that the coder will use: on them depends what belongs to a trellis."""
    return torch.floor(t + 0.5).long().clamp(0, SCALE_COUNT - 1)


TRELLIS_CAUTION = 5 / 3
"""Caution in a trellis against that of scalar symbols: what it saves is not made good as easily."""

MOST_CAUTION = 1e6
"""In a trellis, where costs are summed: more would only leave less of the errors, and at last of the numbers."""


class Alone:
    """Chooses the values of a layer, each on its own, as a Follower asks for them, and knows what they cost."""

    def __init__(self, x: Tensor, worth: Tensor, caution: float, *, may_drop: bool = False) -> None:
        self._x, self._worth, self._caution, self._may_drop = x, worth, caution, may_drop

    def __call__(self, t: Tensor, mine: Tensor) -> Tensor:
        return self._round(self._x, t, self._worth)

    def _round(self, x: Tensor, t: Tensor, worth: Tensor) -> Tensor:
        return round_cheaply(x, t, worth, self._caution, may_drop=self._may_drop)

    def bits(self, v: Tensor, t: Tensor) -> Tensor:
        """What the values that were chosen cost under their scale indices."""
        return logistic_bits(v, t)


class Linked(Alone):
    """Chooses values in the trellis, at prices of entropy.TrellisTables.

    `first_row` says where the plane lies in the picture: lanes belong to bands of rows.
    """

    def __init__(
        self, x: Tensor, worth: Tensor, caution: float, prices: Array, stride: int, *, first_row: int = 0,
        may_drop: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(x, worth, caution, may_drop=may_drop)
        self._prices, self._stride, self._first_row = prices, stride, first_row
        self._is_odd = torch.zeros(x.shape, dtype=torch.bool, device=x.device)

    def __call__(self, t: Tensor, mine: Tensor) -> Tensor:
        """Values at the positions that are `mine`, and zeros elsewhere."""
        positions = np.flatnonzero(mine.cpu().numpy())
        place = torch.from_numpy(positions).to(t.device)
        x, t = (planes.flatten(2).index_select(2, place).cpu() for planes in (self._x, t))
        worth = self._worth.flatten(2)
        worth = (worth if worth.shape[2] == 1 else worth.index_select(2, place)).cpu().expand_as(x)
        values = torch.zeros(self._x.shape, device=place.device)
        for n, planes in enumerate(zip(x, t, worth, strict=True)):
            for result, found in zip((values, self._is_odd), self._choose(*planes, positions), strict=True):
                result[n].flatten(1)[:, place] = torch.from_numpy(found).to(place.device)
        return values

    def _choose(self, x: Tensor, t: Tensor, worth: Tensor, positions: Array) -> tuple[Array, Array]:
        """Values at these positions of a picture's plane, and which are on the odd grid: (channels, positions)."""
        rows = coded_row(t).to(torch.uint8).numpy()
        linked = trellis.Pass.of_plane(rows, positions, self._x.shape[-1], self._stride, self._first_row)
        values, is_odd = np.zeros(rows.size, np.float32), np.zeros(rows.size, bool)
        scalar, places = linked.scalar, linked.places
        own = (planes.reshape(-1).index_select(0, torch.from_numpy(scalar)) for planes in (x, t, worth))
        values[scalar] = self._round(*own).numpy()
        latents, weights = (planes.numpy().reshape(-1).take(places) for planes in (x, worth))
        caution = max(-MOST_CAUTION, min(TRELLIS_CAUTION * self._caution, MOST_CAUTION))
        prices = self._prices * np.float32(caution)
        k, odd = trellis.search(latents, weights, prices, rows.reshape(-1).take(places), linked.lanes)
        values[places], is_odd[places] = k - 0.5 * np.sign(k) * odd, odd
        return values.reshape(rows.shape), is_odd.reshape(rows.shape)

    def bits(self, v: Tensor, t: Tensor) -> Tensor:
        row, k = coded_row(t), v.abs().ceil().long().clamp(0, self._prices.shape[2] - 1)
        priced = torch.from_numpy(self._prices).to(v)[self._is_odd.long(), row, k]
        return torch.where(row < trellis.FIRST, logistic_bits(v, t), priced)


def chooser(
    x: Tensor, worth: Tensor, caution: float, prices: Array | None, stride: int, *, first_row: int = 0,
    may_drop: bool = False,
) -> Alone:  # fmt: skip
    """What chooses the values of a layer: in the trellis where they have prices there."""
    if prices is None:
        return Alone(x, worth, caution, may_drop=may_drop)
    return Linked(x, worth, caution, prices, stride, first_row=first_row, may_drop=may_drop)
