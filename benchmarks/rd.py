"""Rate-distortion curves from real files: written, read back, decoded and compared in 8-bit RGB.

The bytes of a row are the size of a file on disk, and its picture was decoded from that file. Averages are
over the pictures at equal setting: the mean of bits per pixel, and the mean of each metric. Times are CPU
time, because curves may be drawn on a busy machine; what a user waits for is measured by `speed`.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hvcodec import metrics

from . import store
from .cache import RowCache, key_of
from .codecs import Codec
from .environment import environment
from .fingerprint import digest, fixed_picture
from .pictures import Sample

METRICS = ("psnr_db", "ms_ssim", "ssimulacra2")
MEANS = ("bpp", *METRICS, "encode_cpu_s", "decode_cpu_s")
MS_SSIM_SIDE, SSIMULACRA2_SIDE = 161, 8  # smaller pictures have no such number
Row = dict[str, Any]
Tick = Callable[[], None]


def compare(original: Image.Image, decoded: Image.Image) -> dict[str, float | None]:
    """The three metrics of a decoded picture; None where one has no finite value for this picture."""
    a, b = np.asarray(original), np.asarray(decoded)
    psnr_db = metrics.psnr(a, b)
    smallest = min(a.shape[:2])
    return {
        "psnr_db": round(psnr_db, 4) if math.isfinite(psnr_db) else None,
        "ms_ssim": round(metrics.ms_ssim(a, b), 6) if smallest >= MS_SSIM_SIDE else None,
        "ssimulacra2": round(metrics.ssimulacra2(a, b), 4) if smallest >= SSIMULACRA2_SIDE else None,
    }


def measure(codec: Codec, image: Image.Image, encode: Callable[[], bytes], folder: Path) -> Row:
    """Write a file, read it back, decode it and compare: a row, without the names of picture and setting."""
    path = folder / f"picture{codec.suffix}"
    start = time.process_time()
    path.write_bytes(encode())
    encoded = time.process_time()
    data = path.read_bytes()
    decoded = codec.decode(data)
    end = time.process_time()
    n_bytes = path.stat().st_size
    return {
        "n_bytes": n_bytes,
        "bpp": round(metrics.bpp(n_bytes, image.width, image.height), 6),
        **compare(image, decoded),
        "encode_cpu_s": round(encoded - start, 4),
        "decode_cpu_s": round(end - encoded, 4),
        **codec.describe(data),
    }


def metrics_digest() -> str:
    """Names the metrics by what they say of one fixed pair: rows that were judged otherwise do not count."""
    original = fixed_picture()
    coarse = original.point([value // 32 * 32 + 16 for value in range(256)] * 3)
    said = compare(original, coarse)
    return digest(repr([f"{value:.3f}" for value in said.values() if value is not None]).encode())


def run(
    codec: Codec, samples: Sequence[Sample], folder: Path, cache: RowCache, tick: Tick = lambda: None
) -> dict[str, Any]:
    """Measure a codec at all its settings on all pictures, write its result file and return its contents.

    Rows that the cache knows are not measured again. A picture that the codec fails on is written down under
    `failures`, and its setting has no average; the run goes on.
    """
    rows: list[Row] = []
    failures: list[Row] = []
    fresh = False
    judge = metrics_digest()
    with tempfile.TemporaryDirectory() as scratch:
        for sample in samples:
            image: Image.Image | None = None
            for setting in codec.settings:
                key = key_of(sample.digest, codec.name, codec.version, setting, judge)
                row = cache.get(key)
                if row is None:
                    fresh = True
                    image = image or sample.load()
                    try:
                        encode = partial(codec.encode, image, setting)
                        row = {"setting": setting, **measure(codec, image, encode, Path(scratch))}
                    except Exception as error:
                        failures.append({"picture": sample.name, "setting": setting, "error": repr(error)})
                        tick()
                        continue
                    cache.put(key, row)
                rows.append({"picture": sample.name, **row})
                tick()
    path = folder / f"{codec.name}.json"
    if not fresh and path.is_file() and (known := store.read(path))["rows"] == rows:
        return known  # keeps the environment that the rows were measured in
    document = _document(codec, samples, rows, failures)
    store.write(path, document)
    return document


def _document(codec: Codec, samples: Sequence[Sample], rows: list[Row], failures: list[Row]) -> dict[str, Any]:
    return {
        "codec": codec.name,
        "title": codec.title,
        "version": codec.version,
        "set": [sample.name for sample in samples],
        "environment": environment(),
        "settings": list(codec.settings),
        "averages": averages(rows, codec.settings, len(samples)),
        "failures": failures,
        "rows": rows,
    }


def averages(rows: Sequence[Row], settings: Sequence[float], n_pictures: int) -> list[Row]:
    """The mean row of every setting that all pictures have; a metric that one of them lacks is None."""
    means: list[Row] = []
    for setting in settings:
        at_setting = [row for row in rows if row["setting"] == setting]
        if len(at_setting) == n_pictures:
            means.append({"setting": setting, **mean_row(at_setting)})
    return means


def mean_row(rows: Sequence[Row]) -> Row:
    """Means over rows of every measured quantity, and of the bits per pixel of each layer."""
    mean: Row = {}
    for name in MEANS:
        values = [row[name] for row in rows]
        mean[name] = None if None in values else round(math.fsum(values) / len(values), 6)
    if all("layer_bytes" in row for row in rows):
        layers = [[row["bpp"] * n / row["n_bytes"] for n in row["layer_bytes"]] for row in rows]
        mean["layer_bpp"] = [round(math.fsum(column) / len(rows), 6) for column in zip(*layers, strict=True)]
        mean["layer_strides"] = rows[0]["layer_strides"]
    return mean
