"""Encode and decode times, cold and warm, and peak memory, from 0.4 to 100 megapixels, all codecs in one run.

Every number comes from a process of its own that is kept on one or two cores. *Cold* is the whole process:
interpreter, imports, model, reading the picture, writing the file. *Warm* is the median of repetitions in a
process that has done the work once; where once takes LONG_S, the work of the cold process itself stands for it.
Memory is the largest resident set of the cold process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import speed_cuda, store
from .environment import cores, environment
from .pictures import Sample

STUDY = "speed"
MEGAPIXELS = (0.4, 2, 12, 24, 100)
SHAPES = {0.4: (768, 512), 2: (1728, 1152), 12: (4224, 2816), 24: (6000, 4000), 100: (12240, 8160)}
REPEATS = 5
LIMIT_S = 120.0  # a measurement that is expected to take longer is left out, and says so
LONG_S = 15.0  # work that is not repeated, and when repeating ends: what warms up is nothing beside it
Row = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A codec as it is run: on so many threads, in this arithmetic."""

    codec: str
    label: str
    threads: int = 1
    dtype: str = "float32"


HVCODEC = tuple(
    Variant("hvcodec", f"hvcodec, {name}, {threads} thread{'s' if threads > 1 else ''}", threads, dtype)
    for dtype, name in (("float32", "float32"), ("bfloat16", "bf16"))
    for threads in (1, 2)
)
OTHERS = (Variant("avif-s4", "AVIF speed 4"), Variant("jxl-e7", "JPEG XL"), Variant("webp-m6", "WebP"))


def run(
    samples: Sequence[Sample],
    folder: Path,
    variants: Sequence[Variant],
    sizes: Sequence[float] = MEGAPIXELS,
    tick: Callable[[], None] = lambda: None,
    repeats: int = REPEATS,
    limit_s: float = LIMIT_S,
) -> dict[str, Any]:
    """Measure all variants at all sizes, small pictures first, and write the study."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for megapixels in sizes:
            source = Path(scratch) / f"{megapixels}.ppm"  # reading it costs next to nothing
            mosaic(samples, SHAPES[megapixels]).save(source)
            for variant in variants:
                skipped = too_few_cores(variant) or too_long(rows, variant, megapixels, limit_s)
                measured: Row = {"skipped": skipped} if skipped else measure(variant, source, repeats)
                rows.append({"megapixels": megapixels, **describe(variant), **measured})
                tick()
            source.unlink()
    if any(variant.codec == "hvcodec" for variant in variants):
        rows += speed_cuda.rows(samples)
    document = {"study": STUDY, "environment": environment(), "limit_s": limit_s, "rows": rows}
    store.write(store.study_path(folder, STUDY), document)
    return document


def describe(variant: Variant) -> Row:
    """What tells a row from the others."""
    return {
        "codec": variant.codec,
        "label": variant.label,
        "threads": variant.threads,
        "dtype": variant.dtype,
    }


def mosaic(samples: Sequence[Sample], shape: tuple[int, int]) -> Image.Image:
    """A large picture with the statistics of real ones: the set's pictures side by side, row after row."""
    width, height = shape
    canvas = Image.new("RGB", shape)
    tiles = [sample.load() for sample in samples]
    tile_width, tile_height = (int(np.median([tile.size[axis] for tile in tiles])) for axis in (0, 1))
    index = 0
    for top in range(0, height, tile_height):
        for left in range(0, width, tile_width):
            tile = tiles[index % len(tiles)]
            canvas.paste(tile if tile.width >= tile.height else tile.rotate(90, expand=True), (left, top))
            index += 1
    return canvas


def too_few_cores(variant: Variant) -> str | None:
    """Why a variant cannot be measured: threads that share a core say nothing."""
    return None if variant.threads <= cores() else f"needs {variant.threads} cores, {cores()} may be used"


def too_long(rows: Sequence[Row], variant: Variant, megapixels: float, limit_s: float) -> str | None:
    """Why a measurement is left out: the one before, scaled by the pixels, says that it takes too long."""
    before = [row for row in rows if row["label"] == variant.label]
    if not before:
        return None
    last = before[-1]
    if last.get("skipped"):
        return str(last["skipped"])
    expected = max(last["encode_cold_s"], last["decode_cold_s"]) * megapixels / last["megapixels"]
    return f"would take about {expected:.0f} s" if expected > limit_s else None


def measure(variant: Variant, source: Path, repeats: int) -> Row:
    """Times and memory of one variant on one picture: two cold processes, then two that repeat short work."""
    coded, shown = source.with_suffix(".coded"), source.with_suffix(".shown")
    encode_cold_s, first_encode = start(variant, "encode", source, coded)
    decode_cold_s, first_decode = start(variant, "decode", coded, shown)
    encode_rss_mb, decode_rss_mb = first_encode["peak_mb"], first_decode["peak_mb"]

    def warm_s(first: dict[str, float], work: str, source: Path, target: Path) -> float:
        if first["first_s"] > LONG_S:
            return first["first_s"]
        return start(variant, work, source, target, repeats)[1]["warm_s"]

    return {
        "encode_s": round(warm_s(first_encode, "encode", source, coded), 4),
        "decode_s": round(warm_s(first_decode, "decode", coded, shown), 4),
        "encode_cold_s": round(encode_cold_s, 3),
        "decode_cold_s": round(decode_cold_s, 3),
        "encode_rss_mb": round(encode_rss_mb),
        "decode_rss_mb": round(decode_rss_mb),
        "peak_rss_mb": round(max(encode_rss_mb, decode_rss_mb)),
        "n_bytes": coded.stat().st_size,
    }


def start(variant: Variant, work: str, source: Path, target: Path, repeats: int = 0) -> tuple[float, dict[str, float]]:
    """Run the worker: seconds of the whole process, and what it measured itself.

    Raises RuntimeError with the worker's last words if it fails.
    """
    options = {"threads": variant.threads, "dtype": variant.dtype, "repeats": repeats, "limit": LONG_S}
    words = [sys.executable, "-m", "hvcodec_benchmarks.speed_worker", work, variant.codec, str(source), str(target)]
    words += [f"--{name}={value}" for name, value in options.items()]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(variant.threads))
    begun = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **threads}, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(f"{variant.label} failed to {work}: {' '.join(last)}")
    return seconds, json.loads(done.stdout)
