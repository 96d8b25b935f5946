"""Run the float world over a picture of any size with bounded memory.

Strides 64 to 16 are small and run on the whole picture at once; strides 8 and 4, where the memory is, run in
strips of rows with a halo as wide as their convolutions reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hvcodec.trellis import BAND, NO_GROUPS, NO_PRICES, Groups, Prices

from . import Model
from .config import ALIGN, ModelConfig
from .importance import GRID, PixelRows, at_positions
from .prior import Follower
from .rounding import CAUTION, chooser, coded_row
from .transform import FINE, Answer, Latent, Steps, Transform
from .walk import values_of

STRIP_PIXELS = 3 << 20
"""Pixels that one strip holds (halo not counted), about: some 300 MB of features."""

SYMBOL_MAX = 32767

_COARSE = range(FINE)
_UNIT = 16  # strips are cut at whole positions of the finest coarse stage


class Strip(NamedTuple):
    """A band of the padded picture, in rows of stride 16."""

    read: slice  # with halo
    keep: slice  # the strip's own rows within `read`
    own: slice

    def at(self, rows: slice, stride: int) -> slice:
        """The same rows at another stride."""
        return slice(rows.start * _UNIT // stride, rows.stop * _UNIT // stride)


def cut(config: ModelConfig, rows: int, columns: int, linked: Groups = NO_GROUPS) -> list[Strip]:
    """Strips of a picture of so many rows and columns at stride 16.

    Who chooses symbols in a trellis sees whole bands: what is next to a strip depends on all of its band.
    """
    whole = BAND // _UNIT
    height = max(whole, STRIP_PIXELS // (columns * _UNIT * _UNIT) // whole * whole)
    halo = -(-reach(config) // _UNIT)
    if linked:
        halo = -(-halo // whole) * whole
    strips = []
    for top in range(0, rows, height):
        bottom = min(rows, top + height)
        first, end = max(0, top - halo), min(rows, bottom + halo)
        strips.append(Strip(slice(first, end), slice(top - first, bottom - first), slice(top, bottom)))
    return strips


def reach(config: ModelConfig) -> int:
    """How many pixels away a strip can matter: each 3x3 convolution of the fine stages adds its stride."""
    total = _UNIT  # patches and 2x2 steps do not overlap; rounding up to a whole position
    for stage in config.stages[FINE:]:
        blocks = stage.analysis_blocks + stage.synthesis_blocks + stage.layers * stage.layer_blocks
        total += stage.stride * blocks
    return total + config.stages[FINE - 1].stride * config.stages[FINE - 1].analysis_blocks


Rows = Callable[[int], slice]
"""Rows of a layer's plane, by its stride."""


Nudges = list[np.ndarray]
"""For each rung, coarse to fine: (N, width, rows, columns) float16, added to the features of the analysis."""


class Choice(NamedTuple):
    """How an encoder chooses symbols; the decoder does not care."""

    caution: float = CAUTION  # of the rounding; 0 rounds to what is nearest and, without a trellis, asks no prior
    nudges: Nudges | None = None  # see refine.py
    importance: Tensor | None = None  # weights of the error of each pixel, see importance.py
    prices: Prices = NO_PRICES  # of the groups in the trellis; the same for all pictures

    @property
    def linked(self) -> Groups:
        return frozenset(self.prices)


PLAIN = Choice()


class Analysis(NamedTuple):
    """What an encoder has chosen, and knows of it."""

    symbols: list[np.ndarray]  # of every layer: (N, Z, rows, columns) int16; in the trellis values, in half steps
    indices: list[np.ndarray] | None  # the coder's scale index of each, uint8; None if it was foretold only nearly


def analyze(model: Model, pixels: PixelRows, rho: Tensor, height: int, width: int, choice: Choice = PLAIN) -> Analysis:
    """Choose the symbols of pictures padded to height x width."""
    transform, config, n = model.transform, model.config, rho.shape[0]
    groups = len(config.stages)
    symbols = [np.zeros((n, *layer.shape(height, width)), np.int16) for layer in config.layers]
    indices = [np.zeros(0, np.uint8)] * len(symbols)
    condition = transform.condition(rho, choice.linked)
    strips = cut(config, height // _UNIT, width // _UNIT, choice.linked)

    fine: list[list[Tensor]] = []  # kept only when there is one strip: recomputing is cheaper than storing
    e = torch.empty((n, config.stages[FINE - 1].width, height // _UNIT, width // _UNIT), device=rho.device)
    for strip in strips:
        x = pixels(strip.read.start * _UNIT, strip.read.stop * _UNIT)
        up = transform.bottom_up(transform.from_pixels(x), condition, range(groups - 1, FINE - 2, -1))
        e[:, :, strip.own] = up[-1][:, :, strip.keep].float()
        if len(strips) == 1:
            fine.append(up[:-1])
    knows_indices = bool(choice.prices) and len(strips) == 1  # then its prior is exact, and sees the whole picture
    features = [e, *transform.bottom_up(e, condition, range(FINE - 2, -1, -1))][::-1]

    def coding(source: list[Tensor], follower: Follower, read: Rows, own: Rows, keep: Rows) -> Answer:
        importance = None if choice.importance is None else choice.importance[:, :, read(GRID)]

        def answer(latent: Latent, steps: Steps, h: Tensor) -> Tensor | None:
            stride = config.stages[latent.group].stride
            e = source[latent.group].float()
            if choice.nudges is not None:
                e = e + torch.from_numpy(choice.nudges[latent.group][:, :, read(stride)]).to(e)
            prices = choice.prices.get(latent.group)
            unit = 1 if prices is None else 2
            # What is no number is no symbol either.
            x = latent.scaled(e - h, steps).nan_to_num(0.0).clamp(-(SYMBOL_MAX // unit), SYMBOL_MAX // unit)
            worth, may_drop = steps.worth * at_positions(importance, x), importance is not None
            if choice.caution == 0 and not choice.prices:
                v = torch.round(x)
            else:
                first_row = read(stride).start or 0
                choose = chooser(x, worth, choice.caution, prices, stride, first_row=first_row, may_drop=may_drop)
                above = symbols[latent.index][:, :, read(stride)][:, :, : keep(stride).start or 0]

                def chosen(t: Tensor, mine: Tensor) -> Tensor:  # but what the strip above has chosen already
                    v = choose(t, mine)
                    v[:, :, : above.shape[2]] = values_of(above, v.device, prices is not None)
                    return v

                v, t = follower.follow(chosen, *x.shape[-2:])
                if knows_indices:
                    indices[latent.index] = coded_row(t).to(torch.uint8).cpu().numpy()
            part = (v * unit)[:, :, keep(stride)].to(torch.int16)
            symbols[latent.index][:, :, own(stride)] = part.cpu().numpy()
            return v if latent.index < len(symbols) - 1 else None  # no symbol depends on the blocks after the last

        return answer

    h = transform.begin(n, height // ALIGN, width // ALIGN)
    follower = Follower(model.prior, rho, choice.linked)
    h = transform.top_down(h, condition, _COARSE, coding(features, follower, _all_rows, _all_rows, _all_rows))
    for strip in strips:
        if fine:
            up = fine.pop()
        else:
            x = pixels(strip.read.start * _UNIT, strip.read.stop * _UNIT)
            up = transform.bottom_up(transform.from_pixels(x), condition, range(groups - 1, FINE - 1, -1))
        source = [*features, *up[::-1]]
        read, own, keep = (partial(strip.at, rows) for rows in (strip.read, strip.own, strip.keep))
        answer = coding(source, follower.within(strip.read), read, own, keep)
        transform.top_down(h[:, :, strip.read], condition, range(FINE, groups), answer)
    return Analysis(symbols, indices if knows_indices else None)


def _all_rows(stride: int) -> slice:
    return slice(None)


def synthesize(
    transform: Transform,
    symbols: Sequence[np.ndarray],
    rho: Tensor,
    height: int,
    width: int,
    linked: Groups = NO_GROUPS,
) -> Iterator[tuple[slice, Tensor]]:
    """Pixels of padded pictures, strip by strip: (rows, (N, 3, rows, width)).

    Symbols of `linked` groups are values in half steps.
    """
    config, n = transform.config, rho.shape[0]
    groups = len(config.stages)
    condition = transform.condition(rho, linked)

    def giving(rows_of: Rows) -> Answer:
        def answer(latent: Latent, steps: Steps, h: Tensor) -> Tensor:
            k = symbols[latent.index][:, :, rows_of(config.stages[latent.group].stride)]
            return values_of(k, rho.device, latent.group in linked)

        return answer

    h = transform.begin(n, height // ALIGN, width // ALIGN)
    h = transform.top_down(h, condition, _COARSE, giving(_all_rows))
    for strip in cut(config, height // _UNIT, width // _UNIT):
        answer = giving(partial(strip.at, strip.read))
        fine = transform.top_down(h[:, :, strip.read], condition, range(FINE, groups), answer)
        rows = strip.at(strip.own, 1)
        yield rows, transform.to_pixels(fine)[:, :, strip.at(strip.keep, 1)].float()
