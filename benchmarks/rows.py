"""One row: a real file of one picture, written, read back, decoded and compared in 8-bit RGB; and means of rows.

The bytes of a row are the size of a file on disk, and its picture was decoded from that file. Times are CPU
time, because curves may be drawn on a busy machine; what a user waits for is measured by `speed`.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from hvcodec import metrics

from .codecs import Codec
from .fingerprint import digest, fixed_picture
from .pictures import Sample

METRICS = ("psnr_db", "ms_ssim", "ssimulacra2")
MEANS = ("bpp", *METRICS, "encode_cpu_s", "decode_cpu_s")
MS_SSIM_SIDE, SSIMULACRA2_SIDE = 161, 8  # smaller pictures have no such number
Row = dict[str, Any]


@runtime_checkable
class RhoCodec(Codec, Protocol):
    """A codec that takes a rate vector: hvcodec, or a test double."""

    @property
    def n_groups(self) -> int:
        """How many values a rate vector has."""

    def encode_rho(self, image: Image.Image, rho: Sequence[int]) -> bytes:
        """The bytes of a file with this rate vector."""


class Job(NamedTuple):
    """What a row is measured of: a picture, and the quality or the rate vector that it is coded at."""

    sample: Sample
    setting: float | tuple[int, ...]


class Failure(NamedTuple):
    """What a codec said when it failed on a picture."""

    error: str


def measure(codec: Codec, job: Job) -> Row | Failure:
    """A row, without the names of picture and setting, or why there is none."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return measure_in(Path(scratch), codec, job)
    except Exception as error:
        return Failure(repr(error))


def measure_in(folder: Path, codec: Codec, job: Job) -> Row:
    """Write a file into the folder, read it back, decode it and compare."""
    path = folder / f"picture{codec.suffix}"
    image = job.sample.load()
    start = time.process_time()
    path.write_bytes(_encode(codec, image, job.setting))
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


def _encode(codec: Codec, image: Image.Image, setting: float | tuple[int, ...]) -> bytes:
    if not isinstance(setting, tuple):
        return codec.encode(image, setting)
    if not isinstance(codec, RhoCodec):
        raise TypeError(f"{codec.name} takes no rate vector")
    return codec.encode_rho(image, setting)


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


@cache
def metrics_digest() -> str:
    """Names the metrics by what they say of one fixed pair: rows that were judged otherwise do not count."""
    original = fixed_picture()
    coarse = original.point([value // 32 * 32 + 16 for value in range(256)] * 3)
    said = compare(original, coarse)
    return digest(repr([f"{value:.3f}" for value in said.values() if value is not None]).encode())


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
