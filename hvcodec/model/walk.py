"""Run the exact world over a picture, layer by layer: the one walk that encoder and decoder share.

Features are kept as bytes and every step runs in strips of rows, so memory stays bounded for any picture.
Strips change nothing: the arithmetic is exact and each strip sees the rows its convolutions reach.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .config import Layer
from .prior import Prior, PriorLayer, checkerboard, magnitudes, round_index

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
    halves: bool = False,
) -> list[Array]:
    """Symbols (Z, rows, columns) int16 of every layer, coarse to fine; with `halves` their values in half steps.

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
            own = [layer for layer in layers if layer.group == group]
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


class _WithoutCudnn:
    """cuDNN may choose Winograd or FFT, which are not exact; the plain kernels are.

    The setting belongs to the whole process, so threads share it: the first in sets, the last out restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                # Not cudnn.flags(): that also asks for the precision, and fails where it was set in torch's new way.
                self._before, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False
            self._depth += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                torch.backends.cudnn.enabled = self._before


_without_cudnn = _WithoutCudnn()


@contextmanager
def exact_kernels(device: torch.device) -> Iterator[None]:
    """Convolutions that sum integers without rounding, whatever the caller set: no Winograd, no autocast."""
    with _without_cudnn, torch.autocast(device.type, enabled=False):
        yield


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
    result = torch.empty((1, stage.lift.weight.shape[0] // 4, rows, columns), dtype=torch.uint8, device=rho.device)
    for _, _, write in _strips(rows // 2, columns // 2, halo=0):
        fine = slice(2 * write.start, 2 * write.stop)
        part = stage.arrive(_channels_last(coarser[:, :, write]), rho, fine.stop - fine.start, columns)
        result[:, :, fine] = part.to(torch.uint8)
    return result


def _channels_last(x: Tensor) -> Tensor:
    return x.float().contiguous(memory_format=torch.channels_last)


def _layer(
    exact: PriorLayer, layer: Layer, features: Tensor, rho: Tensor, present: bool, exchange: Exchange, halves: bool
) -> Array:
    rows, columns = features.shape[-2:]
    k = np.zeros((layer.channels, rows * columns), np.int16)
    if not present:
        return k.reshape(layer.channels, rows, columns)
    parity = checkerboard(rows, columns, torch.device("cpu")).numpy().reshape(-1)
    for number in (0, 1):
        indices = np.empty((layer.channels, rows, columns), np.uint8)
        for read, keep, write in _strips(rows, columns, halo=1):
            a = _channels_last(features[:, :, read])
            seen = None
            if number == 1:
                known = k.reshape(layer.channels, rows, columns)[:, read]
                seen = magnitudes(values_of(known[None], features.device, halves))
            t = round_index(exact.predict(a, seen, rho, in_trellis=halves))[0, :, keep]
            indices[:, write] = t.to(torch.uint8).cpu().numpy()
        positions = np.flatnonzero(parity == 1 - number)
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
    result = torch.empty((1, width, rows, columns), dtype=torch.uint8, device=features.device)
    for read, keep, write in _strips(rows, columns, halo=1):
        seen = magnitudes(values_of(k[None, :, read], features.device, halves))
        part = exact.absorb(_channels_last(features[:, :, read]), seen, rho)
        result[:, :, write] = part[:, :, keep].to(torch.uint8)
    return result
