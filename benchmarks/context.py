"""What context inside a layer saves: the bits of the second pass against those of the first.

The two passes of a layer code the two colours of a checkerboard: over many pictures the same kind of symbols, the
first without and the second with the other's as context. Without context both would cost what the first does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from .environment import environment
from .pictures import Sample

STUDY = "context"
RHOS = (8, 16, 24, 32, 40, 48)


def measure(samples: Sequence[Sample], tick: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Information content of the symbols of all pictures, by rate, without and with context inside layers."""
    rows = []
    for rho in RHOS:
        first, second = 0.0, 0.0
        for sample in samples:
            without, within = _bits(np.asarray(Image.open(sample.path).convert("RGB")), rho)
            first, second = first + without, second + within
            tick()
        saved = 100 * (first - second) / (2 * first)
        rows.append({"rho": rho, "bits_first": first, "bits_second": second, "saved_percent": saved})
    return {"study": STUDY, "pictures": len(samples), "environment": environment(), "rows": rows}


def _bits(pixels: np.ndarray[Any, Any], rho: int) -> tuple[float, float]:
    """Information content of the symbols of both passes, all layers together."""
    from hvcodec import Codec, Picture, container
    from hvcodec.model.walk import walk_prior

    codec = Codec(device="cpu")
    encoded = codec.encode(Picture(pixels), (rho,) * codec.n_groups)
    file = container.unpack(encoded.data)
    symbols = codec.decode_symbols(file)
    totals = [0.0, 0.0]

    def count(layer: int, indices: np.ndarray[Any, Any], positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        planes = symbols[layer]
        chosen = np.take(planes.reshape(len(planes), -1), positions, axis=1)
        row, column = divmod(int(positions[0]), planes.shape[2])
        totals[(row + column) % 2] += codec.tables.information_bits(chosen.reshape(-1), indices.reshape(-1))
        return chosen

    height, width = pixels.shape[:2]
    walk_prior(codec.model.prior, encoded.rho, height, width, [len(chunk) > 0 for chunk in file.chunks], count)
    return totals[0], totals[1]
