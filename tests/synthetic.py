"""Seeded pictures for tests: texture, edges, flat areas and noise in any size, mode and depth."""

from __future__ import annotations

from typing import Any

import numpy as np

from hvcodec.picture import Picture

Array = np.ndarray[Any, np.dtype[Any]]

MODES = ("L", "RGB", "LA", "RGBA", "L16", "RGB16", "LA16", "RGBA16")


def texture(height: int, width: int, seed: int = 0) -> Array:
    """(height, width, 3) values 0..1: a slope, waves, a disc with a hard edge and a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 64.0
    colors = rng.uniform(0.15, 0.85, (2, 3))
    value = colors[0] + (rng.uniform(-0.2, 0.2, 3) * x[..., None] + rng.uniform(-0.2, 0.2, 3) * y[..., None])
    for frequency in rng.uniform(2, 30, 4):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        wave = np.sin(frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase)
        value = value + wave[..., None] * rng.uniform(-0.08, 0.08, 3)
    middle = rng.uniform(0.2, 0.8, 2) * (height / 64, width / 64)
    disc = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < rng.uniform(0.05, 0.3)
    value = np.where(disc[..., None], 0.5 * value + 0.5 * colors[1], value)
    noise = rng.uniform(-0.02, 0.02, (height, width, 3))
    return np.clip(value + noise, 0, 1)


def picture(
    width: int, height: int, mode: str = "RGB", seed: int = 0, *, values: Array | None = None, **metadata: bytes
) -> Picture:
    """A picture of this size and mode; `values` (0..1) replace the texture."""
    values = texture(height, width, seed) if values is None else values
    dtype: type[np.unsignedinteger[Any]] = np.uint16 if mode.endswith("16") else np.uint8
    samples = np.round(values * np.iinfo(dtype).max).astype(dtype)
    alpha = None
    if "A" in mode:
        ramp = np.add.outer(np.arange(height), np.arange(width)) * 7
        alpha = (ramp * (np.iinfo(dtype).max // 255)).astype(dtype)
    pixels = samples[..., 1] if mode.startswith("L") else samples
    return Picture(np.ascontiguousarray(pixels), alpha, **metadata)
