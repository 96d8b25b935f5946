"""A region of interest: what its pixels gain at equal bytes, with real files.

On every picture an ellipse in the middle, a seventh of the area, is marked. The picture is compressed to the same size
with and without the mask, with each profile, and both are compared inside the ellipse: the error of its pixels, and
SSIMULACRA2 of the largest rectangle in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from hvcodec import Bpp, Codec, Encoded, Picture, metrics
from hvcodec.catalog import find_for

from . import store
from .cache import RowCache, key_of
from .efforts import version
from .environment import environment
from .fingerprint import digest, fixed_picture
from .pictures import Sample
from .rows import SSIMULACRA2_SIDE, metrics_digest
from .target_study import search_digest

STUDY = "regions"
PROFILES = ("psnr", "perceptual")
EFFORT = 1
RATES_BPP = (0.3, 0.8)
HALF_AXES = (0.22, 0.22)  # of the ellipse, in parts of width and height
Row = dict[str, Any]
Array = np.ndarray[Any, np.dtype[Any]]


def count(samples: Sequence[Sample]) -> int:
    """How many rows a run makes."""
    return len(samples) * len(PROFILES) * len(RATES_BPP)


def run(samples: Sequence[Sample], folder: Path, cache: RowCache, tick: Callable[[], None] = lambda: None) -> Row:
    """Measure every picture (cached rows are not measured again) and write the study."""
    small = Picture(np.asarray(fixed_picture(64)))
    rows: list[Row] = []
    for profile in PROFILES:
        codec = Codec(find_for(profile), device="cpu")
        masked = codec.compress(small, profile=profile, roi=ellipse(64, 64)).data
        judge = version(codec, EFFORT), digest(masked), metrics_digest(), search_digest()
        for sample in samples:
            for bpp in RATES_BPP:
                key = key_of(sample.digest, STUDY, profile, judge, bpp, HALF_AXES)
                row = cache.row(key, measure, codec, sample, profile, bpp)
                rows.append({"picture": sample.name, **row})
                tick()
    document = {"study": STUDY, "environment": environment(), "summary": summary(rows), "rows": rows}
    store.write(store.study_path(folder, STUDY), document)
    return document


def measure(codec: Codec, sample: Sample, profile: str, bpp: float) -> Row:
    """Quality inside and outside the ellipse, with and without the mask."""
    picture = Picture(np.asarray(sample.load()))
    mask = ellipse(picture.height, picture.width)
    plain = codec.compress(picture, profile=profile, target=Bpp(bpp), effort=EFFORT)
    # The same bytes, and not only the same limit.
    masked = codec.compress(picture, profile=profile, target=Bpp(plain.bpp / 0.985), effort=EFFORT, roi=mask)
    row: Row = {"profile": profile, "effort": EFFORT, "bpp": bpp}
    for name, encoded in (("plain", plain), ("masked", masked)):
        inside, outside = (psnr(picture, encoded, where) for where in (mask > 0, mask == 0))
        middles = [middle(shown.pixels) for shown in (picture, encoded.decoded())]
        is_large = min(middles[0].shape[:2]) >= SSIMULACRA2_SIDE
        row[name] = {
            "n_bytes": encoded.n_bytes,
            "inside_db": round(inside, 3),
            "outside_db": round(outside, 3),
            "inside_ssimulacra2": round(metrics.ssimulacra2(*middles), 3) if is_large else None,
        }
    for unit in ("db", "ssimulacra2"):
        plainly, better = (row[name][f"inside_{unit}"] for name in ("plain", "masked"))
        row[f"gain_{unit}"] = None if plainly is None else round(better - plainly, 3)
    return row


def middle(pixels: Array) -> Array:
    """The largest rectangle inside the ellipse."""
    height, width = pixels.shape[:2]
    sides = [(side / 2, int(half * side / math.sqrt(2))) for side, half in zip((height, width), HALF_AXES, strict=True)]
    (y, half_height), (x, half_width) = sides
    return pixels[int(y) - half_height : int(y) + half_height, int(x) - half_width : int(x) + half_width]


def ellipse(height: int, width: int) -> Array:
    """255 inside, 0 outside."""
    y, x = (np.arange(height) + 0.5) / height - 0.5, (np.arange(width) + 0.5) / width - 0.5
    inside = (x[None, :] / HALF_AXES[0]) ** 2 + (y[:, None] / HALF_AXES[1]) ** 2 <= 1
    return np.where(inside, 255, 0).astype(np.uint8)


def mean_of(gains: Sequence[float | None]) -> float | None:
    """Their mean; pictures may be too small for a score."""
    scored = [gain for gain in gains if gain is not None]
    return round(fmean(scored), 1) if scored else None


def psnr(picture: Picture, encoded: Encoded, where: Array) -> float:
    """PSNR over some of the pixels."""
    difference = picture.pixels[where].astype(np.float64) - encoded.decoded().pixels[where]
    return 10 * math.log10(255**2 / max(float(np.square(difference).mean()), 1e-9))


def summary(rows: Sequence[Row]) -> list[Row]:
    """Means over the pictures, for each profile and rate."""
    result = []
    for profile in PROFILES:
        for bpp in RATES_BPP:
            own = [row for row in rows if (row["profile"], row["bpp"]) == (profile, bpp)]
            gains = [row["gain_db"] for row in own]
            outside = [row["masked"]["outside_db"] - row["plain"]["outside_db"] for row in own]
            sizes = [row["masked"]["n_bytes"] / row["plain"]["n_bytes"] for row in own]
            result.append(
                {
                    "profile": profile,
                    "effort": EFFORT,
                    "bpp": bpp,
                    "mean_gain_db": round(fmean(gains), 2),
                    "least_gain_db": round(min(gains), 2),
                    "mean_gain_ssimulacra2": mean_of([row["gain_ssimulacra2"] for row in own]),
                    "mean_outside_db": round(fmean(outside), 2),
                    "mean_bytes_percent": round(100 * (fmean(sizes) - 1), 2),
                }
            )
    return result
