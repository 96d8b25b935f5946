"""Rate and distortion in nats per picture: the information-theoretic view of the allocation study.

The rate is the file, in nats. The distortion is the negative log-likelihood of the picture's 8-bit samples
under a Gaussian around the decoded ones whose scale is the best for that picture: n/2 · ln(2πe·MSE) for n
samples. Their sum bounds the negative log-evidence from above; the slope along the hull is the β that the
point was bought at. Nothing is encoded here: the rows of the allocation study hold all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import store
from .environment import environment

STUDY = "plane"
PEAK = 255
N_CHANNELS = 3
Row = dict[str, Any]


def run(folder: Path) -> dict[str, Any] | None:
    """Write the study from the rows of the allocation study; None if that was never made."""
    source = store.read_study(folder, "allocation")
    if source is None:
        return None
    rows = points(source["rows"])
    document = {
        "study": STUDY,
        "codec": source["codec"],
        "version": source["version"],
        "environment": environment(),
        "hull": lower_hull([(row["rate_nats"], row["distortion_nats"]) for row in rows]),
        "rows": rows,
    }
    store.write(store.study_path(folder, STUDY), document)
    return document


def points(rows: Sequence[Row]) -> list[Row]:
    """One point for each rate vector: means over the pictures of rate, distortion and their sum."""
    vectors = dict.fromkeys(tuple(row["rho"]) for row in rows)
    return [_point(vector, [row for row in rows if tuple(row["rho"]) == vector]) for vector in vectors]


def _point(rho: Sequence[int], rows: Sequence[Row]) -> Row:
    rates = [rate_nats(row) for row in rows]
    distortions = [distortion_nats(row) for row in rows]
    samples = [N_CHANNELS * n_pixels(row) for row in rows]
    bits_per_dim = [(r + d) / math.log(2) / n for r, d, n in zip(rates, distortions, samples, strict=True)]
    rate, distortion = math.fsum(rates) / len(rows), math.fsum(distortions) / len(rows)
    return {
        "rho": list(rho),
        "rate_nats": round(rate, 1),
        "distortion_nats": round(distortion, 1),
        "sum_nats": round(rate + distortion, 1),
        "bits_per_dim": round(math.fsum(bits_per_dim) / len(rows), 4),
    }


def n_pixels(row: Row) -> int:
    """The size of the picture, which a row holds as the ratio of its bytes to its bits per pixel."""
    return round(float(8 * row["n_bytes"] / row["bpp"]))


def rate_nats(row: Row) -> float:
    """The size of the file in nats."""
    return 8 * float(row["n_bytes"]) * math.log(2)


def distortion_nats(row: Row) -> float:
    """Negative log-likelihood of the samples under the best isotropic Gaussian around the decoded ones."""
    mse = PEAK**2 / 10 ** (row["psnr_db"] / 10)
    return N_CHANNELS * n_pixels(row) / 2 * math.log(2 * math.pi * math.e * mse)


def lower_hull(plane: Sequence[tuple[float, float]]) -> list[int]:
    """Indices, by rising rate, of the points on the falling part of the lower convex hull."""
    kept: list[int] = []
    for index in sorted(range(len(plane)), key=lambda i: plane[i]):
        if kept and plane[index][1] >= plane[kept[-1]][1]:
            continue
        while len(kept) >= 2 and _above(plane[kept[-2]], plane[kept[-1]], plane[index]):
            kept.pop()
        kept.append(index)
    return kept


def _above(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])
