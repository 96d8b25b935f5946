"""Run the exact world over a picture, layer by layer: the one walk that encoder and decoder share.

An analysis in which symbols hang together asks the same prior for the same numbers (prior.Follower); where it saw
the whole picture, the encoder goes by these.

Features are kept as bytes and every step runs in strips of rows, so memory stays bounded for any picture.
Strips change nothing: the arithmetic is exact and each strip sees the rows its convolutions reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
"""Positions (rows x columns) that one strip holds, about."""


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
    """(rows to read, rows of those to keep, rows to write), an even number of rows each (checkerboard)."""
    height = max(2, STRIP_POSITIONS // columns // 2 * 2)
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
    for number, positions in enumerate(passes(rows, columns)):
        indices = np.empty((layer.channels, rows, columns), np.uint8)
        for read, keep, write in _strips(rows, columns, halo=1):
            a = _channels_last(features[:, :, read])
            seen = None
            if number == 1:
                known = k.reshape(layer.channels, rows, columns)[:, read]
                seen = magnitudes(values_of(known[None], features.device, halves))
            t = round_index(exact.predict(a, seen, rho, is_linked=halves))[0, :, keep]
            indices[:, write] = t.to(torch.uint8).cpu().numpy()
        if len(positions):
            chosen = np.take(indices.reshape(layer.channels, -1), positions, axis=1)
            k[:, positions] = exchange(layer.index, chosen, positions)
    return k.reshape(layer.channels, rows, columns)


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
