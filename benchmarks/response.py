"""What one step of one group's rho does, and how near the estimated rate is to the real one.

From several all-equal vectors each stride group is moved alone, up and down in small steps. More rho should
give that group more bytes. The estimate is the information content of the symbols under the model's
frequency tables: what an encoder expects before it has coded anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hvcodec import Codec, Picture, container

from . import store
from .environment import environment
from .passes import own_kind, passes_of
from .pictures import Sample, spread

STUDY = "response"
BASES = (12, 24, 36, 48)
OFFSETS = (-9, -6, -3, 0, 3, 6, 9)
PICTURES = 3
Row = dict[str, Any]


def count(samples: Sequence[Sample], n_groups: int) -> int:
    """How many encodes a run makes."""
    return min(PICTURES, len(samples)) * len(BASES) * n_groups * len(OFFSETS)


def run(samples: Sequence[Sample], folder: Path, tick: Callable[[], None] = lambda: None) -> Row:
    """Measure both on a few pictures and write the study."""
    codec = Codec(device="cpu")
    responses: list[Row] = []
    estimates: list[Row] = []
    for sample in spread(samples, PICTURES):
        picture = Picture(np.asarray(sample.load()))
        for base in BASES:
            estimates.append({"picture": sample.name, "rho": base, **estimate(codec, picture, base)})
            for group in range(codec.n_groups):
                bytes_of_group = []
                for offset in OFFSETS:
                    rho = [base] * codec.n_groups
                    rho[group] += offset
                    bytes_of_group.append(group_bytes(codec, picture, rho)[group])
                    tick()
                row = {"picture": sample.name, "rho": base, "group": group, "offsets": OFFSETS}
                responses.append({**row, "bytes": bytes_of_group})
    document = {
        "study": STUDY,
        "environment": environment(),
        "summary": {**monotone(responses), **deviation(estimates)},
        "responses": responses,
        "estimates": estimates,
    }
    store.write(store.study_path(folder, STUDY), document)
    return document


def group_bytes(codec: Codec, picture: Picture, rho: Sequence[int]) -> list[int]:
    """The bytes of each stride group in a real file."""
    chunks = container.unpack(codec.encode(picture, rho).data).chunks
    totals = [0] * codec.n_groups
    for layer, chunk in zip(codec.model.config.layers, chunks, strict=False):
        totals[layer.group] += len(chunk)
    return totals


def estimate(codec: Codec, picture: Picture, level: int) -> Row:
    """Bytes of a real file, and those that its symbols should take."""
    encoded = codec.encode(picture, [level] * codec.n_groups)
    bits = sum(one.bits(own_kind(codec)) for one in passes_of(codec, container.unpack(encoded.data)))
    return {"n_bytes": encoded.n_bytes, "estimated_bytes": round(bits / 8, 1)}


def monotone(responses: Sequence[Row]) -> Row:
    """The share of steps up of one group's rho that gave the group at least as many bytes."""
    steps = [b >= a for row in responses for a, b in pairwise(row["bytes"])]
    return {"steps": len(steps), "monotone_percent": round(100 * sum(steps) / len(steps), 2)}


def deviation(estimates: Sequence[Row]) -> Row:
    """How much larger the files are than estimated: all together, and the worst of them."""
    real, estimated = (sum(row[name] for row in estimates) for name in ("n_bytes", "estimated_bytes"))
    worst = max(row["n_bytes"] / row["estimated_bytes"] - 1 for row in estimates)
    return {
        "real_over_estimated_percent": round(100 * (real / estimated - 1), 3),
        "worst_percent": round(100 * worst, 3),
    }
