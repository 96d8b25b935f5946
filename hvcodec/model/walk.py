"""Run the exact world over a picture, layer by layer: the one walk that encoder and decoder share.

An analysis in which symbols hang together asks the same prior for the same numbers (prior.Follower); where it saw
the whole picture, the encoder goes by these.

Features are kept as bytes and every step runs in strips of rows, or on some of a pass' positions, so memory stays
bounded for any picture. Strips change nothing: the arithmetic is exact and each sees all that its convolutions reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvcodec.trellis import NO_GROUPS, Groups

from .config import Layer
from .prior import Prior, PriorLayer, checkerboard, exact_kernels, magnitudes, round_index

Array = np.ndarray[Any, np.dtype[Any]]
Exchange = Callable[[int, Array, Array], Array]
"""(layer, scale indices (Z, n) of a pass, the n positions it covers) -> symbols (Z, n) of that pass."""
Finished = Callable[[int, Array], None]
"""(layer, its symbols (Z, rows, columns)), when the layer is complete."""

STRIP_POSITIONS = 1 << 17
"""Positions that one strip holds, about."""


@torch.inference_mode()
def walk_prior(
    prior: Prior,
    rho: Sequence[int],
    height: int,
    width: int,
    present: Sequence[bool],
    exchange: Exchange,
    finished: Finished = lambda layer, symbols: None,
    *,
    linked: Groups = NO_GROUPS,
) -> list[Array]:
    """Symbols (Z, rows, columns) int16 of every layer, coarse to fine; of `linked` groups their values in half steps.

    `exchange` is called once for each pass of each layer that is `present`; the others are all zero. The
    encoder's exchange looks the symbols up, the decoder's reads them from the chunk. `finished` is called
    with the symbols of each layer before the next layer begins.
    """
    device = next(prior.parameters()).device
    rate = torch.tensor([list(rho)], device=device)
    layers = prior.config.layers
    last = max((layer.index for layer in layers if present[layer.index]), default=-1)
    symbols: list[Array] = []
    features: Tensor | None = None
    with exact_kernels(device):
        for group, stage_config in enumerate(prior.config.stages):
            own, halves = [layer for layer in layers if layer.group == group], group in linked
            _, rows, columns = own[0].shape(height, width)
            if own[0].index <= last:
                features = _arrive(prior, group, features, rate, rows, columns)
            for layer, exact in zip(own, prior.stage(group).layers, strict=True):
                if layer.index > last or features is None:
                    k = np.zeros(layer.shape(height, width), np.int16)
                else:
                    k = _layer(exact, layer, features, rate, present[layer.index], exchange, halves)
                symbols.append(k)
                finished(layer.index, k)
                if layer.index < last and features is not None:
                    features = _absorb(exact, features, k, rate, stage_config.prior_width, halves)
    return symbols


def retrace(layers: Sequence[Layer], indices: Sequence[Array], present: Sequence[bool], exchange: Exchange) -> None:
    """The exchanges of a walk that an analysis has made already: it knows all scale indices (Z, rows, columns).

    They are those of the symbols that it chose. An exchange that returns others needs a walk.
    """
    for layer in layers:
        own = indices[layer.index]
        for positions in passes(*own.shape[1:]):
            if present[layer.index] and len(positions):
                exchange(layer.index, np.take(own.reshape(len(own), -1), positions, axis=1), positions)


def passes(rows: int, columns: int) -> list[Array]:
    """The positions of a plane that come first, and the others."""
    is_first = checkerboard(rows, columns, torch.device("cpu")).numpy().reshape(-1) == 1
    return [np.flatnonzero(is_first), np.flatnonzero(~is_first)]


def _strips(rows: int, columns: int, halo: int) -> list[tuple[slice, slice, slice]]:
    """(rows to read, rows of those to keep, rows to write)."""
    height = max(1, STRIP_POSITIONS // columns)
    strips = []
    for top in range(0, rows, height):
        bottom = min(rows, top + height)
        first, end = max(0, top - halo), min(rows, bottom + halo)
        strips.append((slice(first, end), slice(top - first, bottom - first), slice(top, bottom)))
    return strips


def _arrive(prior: Prior, group: int, coarser: Tensor | None, rho: Tensor, rows: int, columns: int) -> Tensor:
    stage = prior.stage(group)
    if stage.lift is None or coarser is None:
        return stage.arrive(None, rho, rows, columns).to(torch.uint8)
    result = _empty(stage.lift.weight.shape[0] // 4, rows, columns, rho.device)
    for _, _, write in _strips(rows // 2, columns // 2, halo=0):
        fine = slice(2 * write.start, 2 * write.stop)
        part = stage.arrive(_channels_last(coarser[:, :, write]), rho, fine.stop - fine.start, columns)
        result[:, :, fine] = part.to(torch.uint8)
    return result


def _empty(channels: int, rows: int, columns: int, device: torch.device) -> Tensor:
    shape = (1, channels, rows, columns)
    return torch.empty(shape, dtype=torch.uint8, device=device, memory_format=torch.channels_last)


def _channels_last(x: Tensor) -> Tensor:
    return x.float().contiguous(memory_format=torch.channels_last)


def _layer(
    exact: PriorLayer, layer: Layer, features: Tensor, rho: Tensor, present: bool, exchange: Exchange, halves: bool
) -> Array:
    rows, columns = features.shape[-2:]
    k = np.zeros((layer.channels, rows * columns), np.int16)
    if not present:
        return k.reshape(layer.channels, rows, columns)
    by_position = features.permute(0, 2, 3, 1).reshape(rows * columns, -1)
    around = _Around(layer.channels, rows, columns, features.device)
    for is_second, positions in enumerate(passes(rows, columns)):
        indices = np.empty((layer.channels, len(positions)), np.uint8)
        for part in _parts(len(positions)):
            own = torch.from_numpy(positions[part]).to(features.device)
            a = _as_row(by_position.index_select(0, own))
            beside = around.of(own) if is_second else None
            t = round_index(exact.predict(a, rho, beside=beside, is_linked=halves))
            indices[:, part] = t[0, :, 0].to(torch.uint8).cpu().numpy()
        if len(positions):
            chosen = exchange(layer.index, indices, positions)
            k[:, positions] = chosen
            if not is_second:
                around.learn(positions, chosen, halves)
    return k.reshape(layer.channels, rows, columns)


class _Around:
    """The magnitudes of a plane's first pass as its second sees them: those of the four neighbours of a position."""

    def __init__(self, channels: int, rows: int, columns: int, device: torch.device) -> None:
        self._columns, self._width = columns, columns + 2  # a margin of zeros around the plane
        self._plane = torch.zeros(((rows + 2) * self._width, 2 * channels), dtype=torch.uint8, device=device)

    def learn(self, positions: Array, symbols: Array, halves: bool) -> None:
        """The symbols (Z, n) at these positions, or their values in half steps."""
        device = self._plane.device
        for part in _parts(len(positions)):
            seen = magnitudes(values_of(symbols[None, :, part], device, halves)).to(torch.uint8)
            self._plane.index_copy_(0, self._places(torch.from_numpy(positions[part]).to(device)), seen[0].t())

    def of(self, positions: Tensor) -> Tensor:
        """What is beside these positions, for ExactConv.of_neighbours."""
        steps = torch.tensor([-self._width, -1, 1, self._width], device=positions.device)
        places = self._places(positions)[:, None] + steps
        return _as_row(self._plane.index_select(0, places.flatten()).view(len(positions), -1))

    def _places(self, positions: Tensor) -> Tensor:
        row = torch.div(positions, self._columns, rounding_mode="floor")
        return positions + 2 * row + self._width + 1


def _parts(positions: int) -> Iterator[slice]:
    """So many positions, a strip's worth at a time."""
    return (slice(begin, begin + STRIP_POSITIONS) for begin in range(0, positions, STRIP_POSITIONS))


def _as_row(by_position: Tensor) -> Tensor:
    """Bytes (positions, channels) as a picture of one row, (1, channels, 1, positions), channels last."""
    return by_position.float()[None, None].permute(0, 3, 1, 2)


def values_of(symbols: Array, device: torch.device, halves: bool) -> Tensor:
    """Symbols, or values in half steps, as values in steps on a device."""
    values = torch.from_numpy(np.ascontiguousarray(symbols)).to(device).float()
    return values * 0.5 if halves else values


def _absorb(exact: PriorLayer, features: Tensor, k: Array, rho: Tensor, width: int, halves: bool) -> Tensor:
    rows, columns = features.shape[-2:]
    result = _empty(width, rows, columns, features.device)
    for read, keep, write in _strips(rows, columns, halo=1):
        seen = magnitudes(values_of(k[None, :, read], features.device, halves))
        part = exact.absorb(_channels_last(features[:, :, read]), seen, rho)
        result[:, :, write] = part[:, :, keep].to(torch.uint8)
    return result
