"""What context inside a layer saves, and what fitted frequency tables do: information content of real symbols.

The two passes of a layer code the two colours of a checkerboard: over many pictures the same kind of symbols, the
first without and the second with the other's as context. Without context both would cost what the first does.
The model's own tables, fitted to symbols of training pictures, stand against normal and logistic distributions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hvcodec import Codec, Picture, container
from hvcodec.entropy import Tables, TrellisTables

from .environment import environment
from .passes import Kind, own_kind, passes_of
from .pictures import Sample

STUDY = "context"
RHOS = (8, 16, 24, 32, 40, 48)


def measure(samples: Sequence[Sample], tick: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Information content of the symbols of all pictures, by rate, without and with context inside layers."""
    codec, rows = Codec(device="cpu"), []
    parametric = [(Tables.gaussian(), TrellisTables.gaussian()), (Tables.logistic(), TrellisTables.logistic())]
    kinds = [own_kind(codec), *parametric]
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


def _bits(codec: Codec, kinds: Sequence[Kind], pixels: np.ndarray[Any, Any], rho: int) -> np.ndarray[Any, Any]:
    """Information content of the symbols of both passes under some tables, (2, tables)."""
    encoded = codec.encode(Picture(pixels), (rho,) * codec.n_groups)
    totals = np.zeros((2, len(kinds)))
    for one in passes_of(codec, container.unpack(encoded.data)):
        totals[one.colour] += [one.bits(kind) for kind in kinds]
    return totals
