"""What effort is worth: bytes at equal quality against effort 1, and the time it takes, with real files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from hvcodec import Codec, Picture, metrics
from hvcodec.codec import ITERATIONS

from . import curves, store
from .cache import RowCache, key_of
from .environment import environment
from .fingerprint import digest, fixed_picture
from .pictures import Sample, spread
from .rows import metrics_digest

STUDY = "efforts"
EFFORTS = (1, 3, 5, 7, 9)
QUALITIES = (12, 32, 52, 72)
PICTURES = 4
Row = dict[str, Any]


def count(samples: Sequence[Sample], pictures: int, efforts: Sequence[int]) -> int:
    """How many encodes a run makes."""
    return min(pictures, len(samples)) * len(efforts) * len(QUALITIES)


def run(
    samples: Sequence[Sample],
    folder: Path,
    cache: RowCache,
    tick: Callable[[], None] = lambda: None,
    *,
    pictures: int = PICTURES,
    efforts: Sequence[int] = EFFORTS,
) -> Row:
    """Measure some of the pictures (cached rows are not measured again) and write the study."""
    codec = Codec(device="cpu")
    versions = {effort: version(codec, effort) for effort in efforts}
    rows: list[Row] = []
    for sample in spread(samples, pictures):
        for effort in efforts:
            for quality in QUALITIES:
                key = key_of(sample.digest, STUDY, versions[effort], metrics_digest(), quality)
                row = cache.row(key, measure, codec, sample, effort, quality)
                rows.append({"picture": sample.name, **row})
                tick()
    document = {"study": STUDY, "environment": environment(), "summary": summary(rows), "rows": rows}
    store.write(store.study_path(folder, STUDY), document)
    return document


def version(codec: Codec, effort: int, profile: str | None = None) -> str:
    """The steps of this effort, and what the codec makes of a small fixed picture with them."""
    small = Picture(np.asarray(fixed_picture(64)))
    files = [codec.compress(small, quality=quality, profile=profile, effort=effort).data for quality in (25, 75)]
    return f"{effort} {ITERATIONS[effort]} {digest(b''.join(files))}"


def measure(codec: Codec, sample: Sample, effort: int, quality: float) -> Row:
    """One file: its rate, its quality and the seconds that it took."""
    picture = Picture(np.asarray(sample.load()))
    start = time.perf_counter()
    encoded = codec.compress(picture, quality=quality, effort=effort)
    seconds = time.perf_counter() - start
    shown = codec.decode(encoded.data)
    return {
        "effort": effort,
        "quality": quality,
        "n_bytes": encoded.n_bytes,
        "psnr_db": round(metrics.psnr(picture.pixels, shown.pixels), 4),
        "encode_s": round(seconds, 3),
    }


def summary(rows: Sequence[Row]) -> list[Row]:
    """For each effort the mean over the pictures of their BD-rates against effort 1, and the median time."""
    by_effort = {
        effort: [row for row in rows if row["effort"] == effort] for effort in sorted({row["effort"] for row in rows})
    }
    result = []
    for effort, own in by_effort.items():
        rates = curves.of_pictures(by_effort[1], own, "psnr_db")
        if not rates:
            continue
        times = [row["encode_s"] for row in own]
        result.append(
            {
                "effort": effort,
                "bd_rate_percent": round(fmean(rates), 2),
                "worst_percent": round(max(rates), 2),
                "median_encode_s": round(median(times), 2),
                "pictures": len(rates),
            }
        )
    return result
