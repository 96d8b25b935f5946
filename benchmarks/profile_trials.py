"""Real encodes for the search and the measurement of rate profiles: crops of pictures, each coded once.

A trial is one picture at one rate vector. Its numbers are kept on disk, so that a search that was stopped
goes on where it was, and searches for several metrics share what they have in common.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from hvcodec import image, metrics
from hvcodec.baseline import Outcome
from hvcodec.errors import TruncatedError
from hvcodec.picture import Picture
from hvcodec.targets import LARGEST_DB, METRICS

from . import paths
from .cache import RowCache, key_of
from .fingerprint import digest, fixed_picture
from .pictures import find, spread
from .rows import MS_SSIM_SIDE, metrics_digest

if TYPE_CHECKING:
    from hvcodec import Codec, Encoded

# The beginnings of a file that a preview is judged by.
PREFIXES = (0.10, 0.25, 0.50)


@dataclass(frozen=True)
class Numbers:
    """What one encode of a picture cost and gave, without the picture."""

    n_bytes: int
    bpp: float
    psnr_db: float
    ms_ssim: float
    ssimulacra2: float
    preview_db: float | None = None  # None where nobody asked


SEARCHED: dict[str, Callable[[Numbers], float]] = {
    "psnr": METRICS["psnr_db"],
    "ms-ssim": METRICS["ms_ssim_db"],
    "ssimulacra2": METRICS["ssimulacra2"],
    "preview": lambda trial: math.nan if trial.preview_db is None else trial.preview_db,
}
"""What a profile can be searched for, by the name that users give."""


def load_crops(place: Path, side: int, most: int) -> list[Picture]:
    """The middles of at most so many pictures, evenly spread over a folder; 8-bit RGB, up to side x side.

    Raises ValueError where there is no picture, or one is too small for the metrics, ImageError for one that
    cannot be read.
    """
    crops = []
    for sample in spread(find([place]), most):
        pixels = np.asarray(sample.load())
        top, left = (max(length - side, 0) // 2 for length in pixels.shape[:2])
        crop = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        if min(crop.shape[:2]) < MS_SSIM_SIDE:
            raise ValueError(f"{sample.name}: the metrics need {MS_SSIM_SIDE} pixels on each side, of picture and crop")
        crops.append(image.from_array(crop))
    return crops


def preview_db(codec: Codec, encoded: Encoded, picture: Picture) -> float:
    """The mean PSNR of what the first 10 %, 25 % and 50 % of a file's bytes show.

    A beginning without the whole header counts as a file without any layer.
    """
    shown = [_beginning(codec, encoded.data, math.floor(part * len(encoded.data))) for part in PREFIXES]
    return fmean(min(metrics.psnr(picture.pixels, seen.pixels), LARGEST_DB) for seen in shown)


def _beginning(codec: Codec, data: bytes, n_bytes: int) -> Picture:
    try:
        return codec.decode(data[:n_bytes], partial=True)
    except TruncatedError:
        return codec.decode(data, max_layers=0)


class Trials:
    """Encodes the same pictures at any rate vector, each once, and with the masking of a profile.

    `workers` pictures are coded at the same time; `tick` is called after each trial that was not known, and
    `encodes` counts them.
    """

    def __init__(
        self,
        codec: Codec,
        pictures: Sequence[Picture],
        cache: RowCache,
        *,
        masking: float = 0.0,
        with_previews: bool = False,
        workers: int = 1,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.codec, self.pictures, self.cache = codec, pictures, cache
        self.masking, self.with_previews, self.workers, self.tick = masking, with_previews, workers, tick
        self.encodes = 0
        self._digests = [digest(repr(p.pixels.shape).encode() + p.pixels.tobytes()) for p in pictures]
        self._context = (_version(codec), metrics_digest(), *([masking] if masking else []))

    def __call__(self, rho: Sequence[int]) -> list[Numbers]:
        """What every picture gave at a rate vector, in their order."""
        keys = [key_of(picture, *self._context, list(rho)) for picture in self._digests]
        missing = [i for i, key in enumerate(keys) if not self._knows(key)]
        for i, numbers in zip(missing, self._map(rho, missing), strict=True):
            self.cache.put(keys[i], asdict(numbers))
            self.encodes += 1
            self.tick()
        return [Numbers(**self._row(key)) for key in keys]

    def outcome(self, metric: str, rho: Sequence[int]) -> Outcome:
        """Means over the pictures of the logarithm of the rate, and of a metric of SEARCHED."""
        trials = self(rho)
        log_bpp, of = METRICS["log_bpp"], SEARCHED[metric]
        return Outcome(fmean(map(log_bpp, trials)), fmean(map(of, trials)))

    def _knows(self, key: str) -> bool:
        row = self.cache.get(key)
        return row is not None and not (self.with_previews and row["preview_db"] is None)

    def _row(self, key: str) -> dict[str, Any]:
        row = self.cache.get(key)
        assert row is not None
        return row

    def _map(self, rho: Sequence[int], indices: Sequence[int]) -> Iterable[Numbers]:
        if min(self.workers, len(indices)) < 2:
            yield from (self._measure(rho, self.pictures[i]) for i in indices)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(lambda i: self._measure(rho, self.pictures[i]), indices)

    def _measure(self, rho: Sequence[int], picture: Picture) -> Numbers:
        encoded = self.codec.encode(picture, rho, masking=self.masking)
        preview = preview_db(self.codec, encoded, picture) if self.with_previews else None
        return Numbers(encoded.n_bytes, encoded.bpp, encoded.psnr_db, encoded.ms_ssim, encoded.ssimulacra2, preview)


def open_cache(codec: Codec) -> RowCache:
    """Where the trials of a model are kept."""
    return RowCache(paths.cache_dir() / "profiles" / f"{codec.model_id.hex()}.jsonl")


def _version(codec: Codec) -> str:
    """Names the codec by what it makes of a small fixed picture."""
    encoded = codec.encode(image.from_array(np.asarray(fixed_picture(64))), (32,) * codec.n_groups)
    described = json.dumps([codec.model_id.hex(), codec.dtype, codec.device.type]).encode()
    return digest(described + encoded.data + encoded.decoded().pixels.tobytes())
