"""Check our measurements against the published curves of JPEG and WebP, made the way those were made.

The published curves (CompressAI) are Pillow's defaults: JPEG 4:2:0 with the standard Huffman tables, WebP
with method 4. The curves of the report give both codecs what their users can have for nothing, optimised
tables and method 6, so they lie above the published ones; with the published settings the two agree.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hvcodec import metrics

from . import anchors, curves, store
from .environment import environment
from .pictures import Sample

STUDY = "calibration"
TOLERANCE_DB = 0.15


@dataclass(frozen=True)
class Check:
    """One published curve and the Pillow options that reproduce it."""

    anchor: str
    curve: str  # the curve of the report that it explains
    form: str
    options: dict[str, Any]
    qualities: Sequence[int]
    why: str


CHECKS = (
    Check(
        "published/jpeg",
        "jpeg-420",
        "JPEG",
        {"subsampling": "4:2:0"},
        (10, 20, 35, 50, 65, 80, 90, 95),
        "published: standard Huffman tables; ours: optimised ones, fewer bytes for the same pixels",
    ),
    Check(
        "published/webp",
        "webp-m6",
        "WEBP",
        {"method": 4},
        (5, 15, 30, 50, 70, 82, 90, 95),
        "published: method 4; ours: method 6, which searches longer",
    ),
)


def run(samples: Sequence[Sample], folder: Path) -> dict[str, Any]:
    """Encode all pictures at the published settings and write how far our curves are from the published."""
    published = {curve.name: curve for curve in anchors.load()}
    ours = {curve.name: curve for curve in curves.of_set(folder)}
    rows: list[dict[str, Any]] = []
    for check in CHECKS:
        for quality in check.qualities:
            bpp, psnr_db = mean_point(check, samples, quality)
            rows.append(
                {
                    "anchor": check.anchor,
                    "options": {"quality": quality, **check.options},
                    "bpp": round(bpp, 5),
                    "psnr_db": round(psnr_db, 4),
                    "difference_db": above(published[check.anchor], bpp, psnr_db),
                    "report_curve": check.curve,
                    "report_difference_db": gap(published[check.anchor], ours.get(check.curve), bpp),
                    "why": check.why,
                }
            )
    document = {"study": STUDY, "environment": environment(), "tolerance_db": TOLERANCE_DB, "rows": rows}
    store.write(store.study_path(folder, STUDY), document)
    return document


def is_current(document: dict[str, Any]) -> bool:
    """Whether a study was made with the libraries that are installed now."""
    return bool(document["environment"]["libraries"] == environment()["libraries"])


def mean_point(check: Check, samples: Sequence[Sample], quality: int) -> tuple[float, float]:
    """Mean bits per pixel and mean PSNR over the pictures, at one quality with the published options."""
    points = [_point(sample.load(), check, quality) for sample in samples]
    bpp, psnr_db = np.mean(points, axis=0)
    return float(bpp), float(psnr_db)


def _point(image: Image.Image, check: Check, quality: int) -> tuple[float, float]:
    target = io.BytesIO()
    image.save(target, check.form, quality=quality, **check.options)
    with Image.open(target) as decoded:
        psnr_db = metrics.psnr(np.asarray(image), np.asarray(decoded.convert("RGB")))
    return metrics.bpp(len(target.getvalue()), image.width, image.height), psnr_db


def above(anchor: curves.Curve, bpp: float, psnr_db: float) -> float | None:
    """By how many dB a point lies above a curve at its rate; None beyond the curve's ends."""
    at_rate = curves.quality_at(anchor, "psnr_db", bpp)
    return None if at_rate is None else round(psnr_db - at_rate, 4)


def gap(anchor: curves.Curve, curve: curves.Curve | None, bpp: float) -> float | None:
    """By how many dB one curve lies above another at a rate that both have."""
    quality = curves.quality_at(curve, "psnr_db", bpp) if curve else None
    return None if quality is None else above(anchor, bpp, quality)
