"""What context inside a layer saves, and what fitted frequency tables do: information content of real symbols.

The two passes of a layer code the two colours of a checkerboard: over many pictures the same kind of symbols, the
first without and the second with the other's as context. Without context both would cost what the first does.
The model's own tables, fitted to symbols of training pictures, stand against normal and logistic distributions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .environment import environment
from .pictures import Sample

if TYPE_CHECKING:
    from hvcodec import Codec
    from hvcodec.entropy import Tables

STUDY = "context"
RHOS = (8, 16, 24, 32, 40, 48)


def measure(samples: Sequence[Sample], tick: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Information content of the symbols of all pictures, by rate, without and with context inside layers."""
    from hvcodec import Codec
    from hvcodec.entropy import Tables

    codec, rows = Codec(device="cpu"), []
    kinds = codec.tables, Tables.gaussian(), Tables.logistic()
    for rho in RHOS:
        total = np.zeros((2, len(kinds)))
        for sample in samples:
            total += _bits(codec, kinds, np.asarray(sample.load()), rho)
            tick()
        first, second = total[:, 0]
        fitted, gaussian, logistic = total.sum(axis=0)
        rows.append(
            {
                "rho": rho,
                "bits_first": float(first),
                "bits_second": float(second),
                "saved_percent": float(100 * (first - second) / (2 * first)),
                "fitted_saves_of_gaussian_percent": float(100 * (1 - fitted / gaussian)),
                "fitted_saves_of_logistic_percent": float(100 * (1 - fitted / logistic)),
            }
        )
    document = {
        "study": STUDY,
        "pictures": len(samples),
        "model_id": codec.model_id.hex(),
        "environment": environment(),
    }
    return {**document, "rows": rows}


def _bits(codec: Codec, kinds: Sequence[Tables], pixels: np.ndarray[Any, Any], rho: int) -> np.ndarray[Any, Any]:
    """Information content of the symbols of both passes under some tables, (2, tables)."""
    from hvcodec import Picture, container
    from hvcodec.model.walk import walk_prior

    encoded = codec.encode(Picture(pixels), (rho,) * codec.n_groups)
    file = container.unpack(encoded.data)
    symbols = codec.decode_symbols(file)
    totals = np.zeros((2, len(kinds)))

    def count(layer: int, indices: np.ndarray[Any, Any], positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        planes = symbols[layer]
        chosen = np.take(planes.reshape(len(planes), -1), positions, axis=1)
        row, column = divmod(int(positions[0]), planes.shape[2])
        totals[(row + column) % 2] += [
            tables.information_bits(chosen.reshape(-1), indices.reshape(-1)) for tables in kinds
        ]
        return chosen

    height, width = pixels.shape[:2]
    walk_prior(codec.model.prior, encoded.rho, height, width, [len(chunk) > 0 for chunk in file.chunks], count)
    return totals
