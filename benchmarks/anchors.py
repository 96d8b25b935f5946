"""Curves that others published, and those measured for this project elsewhere, as data with their sources.

`data/anchors-kodak.json` holds the arrays: means over the 24 Kodak pictures. They belong beside our own
curves of that set only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvcodec import metrics

from . import store
from .curves import Curve
from .paths import DATA

TITLES = {
    "published/vtm-18.0": "VVC (VTM 18)",
    "published/vtm-compressai": "VVC (VTM, CompressAI)",
    "published/bpg-444-x265": "BPG 4:4:4",
    "published/av1-444": "AV1 4:4:4",
    "published/hm": "HEVC (HM)",
    "published/jpeg": "JPEG (CompressAI)",
    "published/jpeg2000": "JPEG 2000 (CompressAI)",
    "published/webp": "WebP (CompressAI)",
    "published/qarv": "QARV",
    "published/qres-vae-34m": "QRes-VAE",
    "published/hpcm-large": "HPCM-Large",
    "published/hpcm-base": "HPCM-Base",
    "published/cool-chic-3.4": "Cool-chic 3.4",
    "published/cool-chic-5.0": "Cool-chic 5.0",
    "published/dcae": "DCAE",
    "published/mlic++": "MLIC++",
    "published/lalic": "LALIC",
    "published/ftic": "FTIC",
    "measured/jpeg-444": "JPEG 4:4:4 (anchor)",
    "measured/jpeg-420": "JPEG 4:2:0 (anchor)",
    "measured/jpeg2000": "JPEG 2000 (anchor)",
    "measured/webp-m6": "WebP (anchor)",
    "measured/jxl-e7": "JPEG XL effort 7 (anchor)",
    "measured/jxl-e9": "JPEG XL effort 9 (anchor)",
    "measured/avif-s4-psnr": "AVIF, PSNR tune (anchor)",
    "measured/avif-s4-default": "AVIF (anchor)",
    "measured/heif-x265-444-8b": "HEIC (anchor)",
    "measured/x265-444-10b": "HEVC (x265 4:4:4 10 bit)",
    "measured/vvenc-slow-420-10b": "VVC (VVenC slow 4:2:0)",
    "measured/av1-aom3.6-s4-444-10b": "AV1 (aom 4:4:4 10 bit)",
}
KODAK = [f"kodim{number:02}" for number in range(1, 25)]
METRIC_OF_ARRAY = {"psnr": "psnr_db", "ssimulacra2": "ssimulacra2"}


def load(path: Path = DATA / "anchors-kodak.json") -> list[Curve]:
    """All anchor curves of the Kodak set; names keep their `published/` or `measured/` in front."""
    arrays: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return [_curve(name, entry) for name, entry in arrays.items()]


def _curve(name: str, entry: dict[str, Any]) -> Curve:
    group, _, short = name.partition("/")
    quality: dict[str, Sequence[float]] = {
        metric: entry[array] for array, metric in METRIC_OF_ARRAY.items() if array in entry
    }
    if "msssim" in entry:
        quality["ms_ssim_db"] = [metrics.ms_ssim_db(value) for value in entry["msssim"]]
    title = TITLES.get(name, short)
    return Curve(name, title, "published" if group == "published" else "anchor", entry["source"], entry["bpp"], quality)


def beside(folder: Path) -> list[Curve]:
    """The anchors that belong beside the results in a folder: all for the 24 Kodak pictures, none for others."""
    return load() if any(document["set"] == KODAK for document in store.read_codecs(folder)) else []
