"""Random training crops from a packed cache of pictures, on the CPU or wholly inside GPU memory.

    plan   which picture, window, orientation      host, numpy, a few numbers for each crop
    cut    window -> crop of the wanted size       host: slices and a resize; GPU: batched tensor operations

The plan of step n depends on the seed and n alone (see `draws`), so the position in the data is one
integer, and the crops of a run do not depend on the device or on the number of ranks.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hvcodec.errors import ConfigError
from hvcodec.train.cache import SUFFIXES, Cache, pack
from hvcodec.train.draws import generator, to_device
from hvcodec.train.shards import shards

__all__ = ["Cache", "Crops", "held_out", "pack", "shards"]

log = logging.getLogger(__name__)

HELD_OUT_SHARE = 0.02
PIXEL_CAP = 2**21
"""A picture counts for at most this many pixels when one is chosen."""


@dataclass(frozen=True)
class Plan:
    """Where the crops of one batch come from; windows are square and lie inside their pictures."""

    picture: NDArray[np.int64]  # (N,) index into the cache
    top: NDArray[np.int64]  # (N,)
    left: NDArray[np.int64]  # (N,)
    window: NDArray[np.int64]  # (N,) side of the square that becomes the crop
    orientation: NDArray[np.int64]  # (N,) 0..7: bit 0 flips rows, bit 1 flips columns, bit 2 transposes
    gain: NDArray[np.float32]  # (N, 3) float32, factor of each colour


class Crops:
    """Batches (N, 3, size, size) of float pixels 0..1 on the device; iterating advances `step`.

    `batch` is the number of crops of this rank; `world` ranks together draw world * batch crops. With
    `validation` the crops come from the held-out pictures, are the same for every seed and are not
    augmented. `jitter` is the share of crops that are reduced, by a factor between `smallest_scale` and 1;
    with `colour` > 0 each colour is scaled by a factor between 1 - colour and 1.
    """

    def __init__(
        self,
        cache: Cache,
        size: int,
        batch: int,
        device: torch.device | str,
        seed: int,
        *,
        validation: bool = False,
        jitter: float = 0.5,
        smallest_scale: float = 0.5,
        colour: float = 0.0,
        held_out_share: float = HELD_OUT_SHARE,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.size, self.batch, self.seed = size, batch, seed
        self.device = torch.device(device)
        self.validation, self.jitter, self.smallest_scale = validation, jitter, smallest_scale
        self.colour, self.rank, self.world = colour, rank, world
        self.step = 0
        self.fingerprint = cache.fingerprint
        self._heights, self._widths = cache.heights, cache.widths
        large_enough = np.minimum(cache.heights, cache.widths) >= size
        self.pictures = np.flatnonzero((held_out(cache.names, held_out_share) == validation) & large_enough)
        if len(self.pictures) == 0:
            kind = "validation" if validation else "training"
            raise ConfigError(
                f"there is no {kind} picture with both sides of at least {size} pixels: some of the {len(cache)} here "
                "are for training and some for validation, and each needs one; add pictures, or make run.crop smaller"
            )
        weights = np.minimum(cache.heights * cache.widths, PIXEL_CAP)[self.pictures]
        self._cumulative = np.cumsum(weights) / weights.sum()
        largest = size if validation or jitter == 0 else math.ceil(size / smallest_scale)
        self._cutter: Cutter
        if self.device.type == "cpu":
            self._cutter = HostCutter(cache, size)
        else:
            self._cutter = DeviceCutter(cache, size, largest, self.device)

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        batch = self.at(self.step)
        self.step += 1
        return batch

    def at(self, step: int) -> Tensor:
        """Return the batch of one step, wherever the iteration stands."""
        return self._cutter.cut(self.plan(step))

    def plan(self, step: int) -> Plan:
        """Return where this rank's crops of one step come from."""
        whole = self.world * self.batch
        mine = slice(self.rank * self.batch, (self.rank + 1) * self.batch)
        if self.validation:
            draws = generator(0, "validation crops", step).random((whole, 8))[mine]
            draws[:, 1:3] = 1.0  # no jitter
            # In turn, however large: the few held-out pictures are worth more if all of them count.
            order = (step * whole + np.arange(whole)[mine]) % len(self.pictures)
            orientation = np.zeros(self.batch, dtype=np.int64)
        else:
            draws = generator(self.seed, "training crops", step).random((whole, 8))[mine]
            order = np.searchsorted(self._cumulative, draws[:, 0], side="right")
            order = np.minimum(order, len(self.pictures) - 1)
            orientation = (draws[:, 5] * 8).astype(np.int64)
        picture = self.pictures[order]
        height, width = self._heights[picture], self._widths[picture]
        largest = np.minimum(np.minimum(height, width), int(self.size / self.smallest_scale))
        reduced = draws[:, 1] < self.jitter
        window = np.where(reduced, self.size + _pick(draws[:, 2], largest - self.size), self.size)
        colour = 0.0 if self.validation else self.colour
        gain = 1 - colour * generator(self.seed, "colour", step).random((whole, 3), dtype=np.float32)[mine]
        return Plan(
            picture=picture,
            top=_pick(draws[:, 3], height - window),
            left=_pick(draws[:, 4], width - window),
            window=window,
            orientation=orientation,
            gain=gain.astype(np.float32),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data, as plain values."""
        return {"step": self.step, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another sampler of this seed stood; warns when its pictures were others."""
        if state["fingerprint"] != self.fingerprint:
            log.warning("the pictures or run.crop are not those of the checkpoint: the crops will differ from its own")
        self.step = int(state["step"])


def held_out(names: tuple[str, ...], share: float = HELD_OUT_SHARE) -> NDArray[np.bool_]:
    """Tell which pictures are kept for validation, (M,) bool, from a hash of their file names.

    Neither the folder nor the suffixes count, so a recoded copy falls on the same side; but where more than two
    folders have files of one name (the frames of clips), the folder counts for these. From a small folder of two
    pictures or more at least one is held out, with its copies.
    """
    plain = [_without_suffixes(name) for name in names]
    places = Counter(path.name for path in set(plain))
    keys = [path.name if places[path.name] <= 2 else str(path) for path in plain]
    digests = [hashlib.sha256(key.encode()).digest() for key in keys]
    hashes = np.array([int.from_bytes(digest[:8], "big") for digest in digests], dtype=np.float64)
    chosen = hashes < share * 2.0**64
    if share > 0 and len(names) > 1 and not chosen.any():
        chosen = hashes == hashes.min()
        if chosen.all():  # copies of one picture, of which some must be trained on
            chosen[1:] = False
    return chosen


def _without_suffixes(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    while path.suffix.lower() in SUFFIXES:  # shards that recode a.jpg hold a.jpg.png
        path = path.with_suffix("")
    return path


class Cutter(Protocol):
    """Turns a plan into float pixels (N, 3, S, S) in channels-last memory."""

    def cut(self, plan: Plan) -> Tensor: ...


class HostCutter:
    """Cuts crops from the memory-mapped cache, one after the other."""

    def __init__(self, cache: Cache, size: int) -> None:
        self._cache, self._size = cache, size

    def cut(self, plan: Plan) -> Tensor:
        crops = np.empty((len(plan.picture), self._size, self._size, 3), dtype=np.uint8)
        for i, crop in enumerate(crops):
            top, left, window = int(plan.top[i]), int(plan.left[i]), int(plan.window[i])
            source = self._cache.picture(int(plan.picture[i]))[top : top + window, left : left + window]
            if window != self._size:
                source = self._reduce(source)
            crop[:] = _orient(source, int(plan.orientation[i]))
        pixels = torch.from_numpy(crops).permute(0, 3, 1, 2)  # (N, 3, S, S), channels last
        return pixels.to(torch.float32).mul_(torch.from_numpy(plan.gain / 255)[:, :, None, None])

    def _reduce(self, source: NDArray[np.uint8]) -> NDArray[np.uint8]:
        pixels = torch.from_numpy(np.array(source)).permute(2, 0, 1)[None]  # (1, 3, w, w)
        size = (self._size, self._size)
        small = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        reduced: NDArray[np.uint8] = small[0].permute(1, 2, 0).numpy()
        return reduced


class DeviceCutter:
    """Cuts a whole batch by tensor operations from a cache that lives on the device.

    Nothing here waits for the device: the plan is uploaded asynchronously, shapes never depend on it.
    """

    def __init__(self, cache: Cache, size: int, largest: int, device: torch.device) -> None:
        self._size, self._largest, self._device = size, largest, device
        self._offsets, self._widths = cache.offsets, cache.widths
        self._planes = torch.empty(3, len(cache.pixels), dtype=torch.uint8, device=device)
        rows = 2**25  # upload in pieces: the rearranged copy stays small
        for start in range(0, len(cache.pixels), rows):
            part = torch.from_numpy(np.array(cache.pixels[start : start + rows]))
            self._planes[:, start : start + rows] = part.to(device).t()

    def cut(self, plan: Plan) -> Tensor:
        start = self._offsets[plan.picture] + plan.top * self._widths[plan.picture] + plan.left
        columns = (start, self._widths[plan.picture], plan.window, plan.orientation)
        numbers = to_device(np.stack(columns, axis=1), self._device)
        start_, width, window, orientation = numbers[:, :, None, None].unbind(1)
        span = torch.arange(self._largest, device=self._device)
        inside = torch.minimum(span, window - 1)  # (N, 1, span); what lies outside gets weight 0
        where = start_ + inside.transpose(1, 2) * width + inside  # (N, span, span)
        pixels = self._planes.index_select(1, where.flatten()).view(3, *where.shape).float()
        if self._largest != self._size:
            weights = reduction(window[:, 0, 0], self._size, self._largest)  # (N, S, span)
            pixels = (weights @ pixels @ weights.mT).round_().clamp_(0, 255)
        pixels = _orient_batch(pixels, orientation)
        gain = to_device(plan.gain.T / 255, self._device)[:, :, None, None]
        return (pixels * gain).transpose(0, 1).contiguous(memory_format=torch.channels_last)


def reduction(window: Tensor, size: int, largest: int) -> Tensor:
    """Antialiased bilinear reduction of `window` samples to `size`, as matrices (N, size, largest)."""
    device = window.device
    ratio = (window.float() / size)[:, None, None]
    centre = ratio * (torch.arange(size, device=device) + 0.5)[:, None]
    sample = torch.arange(largest, device=device) + 0.5
    weights = (1 - (sample - centre).abs() / ratio).clamp_min(0)
    weights = weights * (sample < window[:, None, None])
    return weights / weights.sum(dim=2, keepdim=True)


def _pick(draw: NDArray[np.float64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Map draws in [0, 1) to integers 0..last inclusive."""
    picked: NDArray[np.int64] = np.minimum((draw * (last + 1)).astype(np.int64), last)
    return picked


def _orient(crop: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation & 1:
        crop = crop[::-1]
    if orientation & 2:
        crop = crop[:, ::-1]
    return crop.transpose(1, 0, 2) if orientation & 4 else crop


def _orient_batch(pixels: Tensor, orientation: Tensor) -> Tensor:
    pixels = torch.where((orientation & 1).bool(), pixels.flip(2), pixels)
    pixels = torch.where((orientation & 2).bool(), pixels.flip(3), pixels)
    return torch.where((orientation & 4).bool(), pixels.transpose(2, 3), pixels)
