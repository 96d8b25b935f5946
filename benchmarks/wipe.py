"""Pictures for the wipe comparison: every codec at equal bytes, as the browser can show them.

JPEG, WebP and AVIF files of moderate size are embedded as they are. What a browser cannot show (hvcodec,
JPEG XL, …) is decoded and embedded as a WebP of high quality, and large pictures as a crop of their middle.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from hvcodec import files, metrics

from . import paths
from .cache import RowCache, key_of
from .codecs import Codec
from .equal_bytes import encode_to_size
from .pictures import Sample, spread
from .rows import compare, metrics_digest

TARGETS_BPP = (0.2, 0.5)
MAX_PICTURES = 24
MAX_PIXELS, MAX_SIDE = 600_000, 4096  # larger pictures are shown as crops
CROP = (960, 640)
MIME = {".jpg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif"}
PAGE_BYTES = 10_400_000  # of files, before base64 makes four bytes of three
QUALITIES = (93, 90, 86, 82, 76, 68, 55)


@dataclass(frozen=True)
class Shown:
    """One picture as one codec shows it: a file for the browser, or pixels that have to become one."""

    facts: dict[str, Any]
    key: str  # of the pixels
    pixels: Callable[[], Image.Image]  # decoded only if the page does not hold them yet
    native: tuple[str, bytes] | None = None  # MIME type and file

    def file(self, quality: int) -> tuple[str, bytes]:
        """MIME type and bytes for the page."""
        if self.native is not None:
            return self.native
        path = _store() / f"{self.key}-{quality}.webp"
        if not path.is_file():
            target = io.BytesIO()
            self.pixels().save(target, "WEBP", quality=quality, method=4)
            files.write_whole(path, target.getvalue())
        return "image/webp", path.read_bytes()


def collect(
    samples: Sequence[Sample], codecs: Sequence[Codec], folder: Path, tick: Callable[[], None]
) -> list[dict[str, Any]]:
    """Everything the page needs for the wipe: per picture its size, a thumbnail and what each codec shows.

    `folder` holds the rate-distortion results, whose rows give the search for equal bytes its first guess.
    """
    _store().mkdir(parents=True, exist_ok=True)
    gallery: list[tuple[dict[str, Any], list[Shown]]] = []
    for sample in spread(samples, MAX_PICTURES):
        image = sample.load()
        shown = [_original(sample)]
        for codec in codecs:
            shown += _at_equal_bytes(codec, sample, image, _known_sizes(folder, codec, sample))
            tick()
        gallery.append((_picture(sample, image), [_cropped(one, image.size) for one in shown]))
    quality = _quality_that_fits([one for _, shown in gallery for one in shown])
    return [{**picture, "shown": [_embedded(one, quality) for one in shown]} for picture, shown in gallery]


def _store() -> Path:
    """Where files and what browsers show of them are kept, so that a second page takes seconds."""
    return paths.cache_dir() / "wipe"


def _known_sizes(folder: Path, codec: Codec, sample: Sample) -> dict[float, int]:
    from . import store

    path = folder / f"{codec.name}.json"
    rows = store.read(path)["rows"] if path.is_file() else []
    return {row["setting"]: row["n_bytes"] for row in rows if row["picture"] == sample.name}


def _at_equal_bytes(codec: Codec, sample: Sample, image: Image.Image, known: dict[float, int]) -> list[Shown]:
    """The codec's picture at each target rate."""
    rows = RowCache(_store() / f"{codec.name}.jsonl")
    shown: list[Shown] = []
    for target_bpp in TARGETS_BPP:
        target = max(1, round(target_bpp * image.width * image.height / 8))
        key = key_of(sample.digest, codec.name, codec.version, target, metrics_digest())
        path = _store() / f"{key}{codec.suffix}"
        facts = rows.get(key) if path.is_file() else None
        if facts is None:
            quality, data = encode_to_size(codec, image, target, known)
            path.write_bytes(data)
            bpp = metrics.bpp(len(data), image.width, image.height)
            facts = {"setting": quality, "n_bytes": len(data), "bpp": round(bpp, 4)}
            facts |= compare(image, codec.decode(data))
            rows.put(key, facts)
        data = path.read_bytes()
        native = (MIME[codec.suffix], data) if codec.suffix in MIME else None
        named = {"codec": codec.name, "title": codec.title, "target_bpp": target_bpp, **facts}
        shown.append(Shown(named, key, partial(codec.decode, data), native))
    return shown


def _original(sample: Sample) -> Shown:
    named = {"codec": "original", "title": "Original", "target_bpp": None}
    return Shown(named, sample.digest, sample.load)


def _cropped(one: Shown, size: tuple[int, int]) -> Shown:
    """The middle of a large picture; a moderate one whole."""
    if _is_moderate(*size):
        return replace(one, pixels=cache(one.pixels))
    box = _crop_box(*size)
    return replace(one, key=key_of(one.key, box), pixels=cache(lambda: one.pixels().crop(box)), native=None)


def _is_moderate(width: int, height: int) -> bool:
    return width * height <= MAX_PIXELS and max(width, height) <= MAX_SIDE


def _crop_box(width: int, height: int) -> tuple[int, int, int, int]:
    across, down = CROP if width >= height else CROP[::-1]
    across, down = min(across, width), min(down, height)
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _picture(sample: Sample, image: Image.Image) -> dict[str, Any]:
    whole = _is_moderate(*image.size)
    box = (0, 0, *image.size) if whole else _crop_box(*image.size)
    small = image.crop(box)
    small.thumbnail((120, 120))
    target = io.BytesIO()
    small.save(target, "WEBP", quality=70, method=4)
    return {
        "name": sample.name,
        "width": box[2] - box[0],
        "height": box[3] - box[1],
        "cropped": not whole,
        "thumbnail": _data_uri("image/webp", target.getvalue()),
    }


def _quality_that_fits(shown: Sequence[Shown]) -> int:
    """The highest WebP quality at which all pictures together stay within the page's weight."""
    fixed = sum(len(one.native[1]) for one in shown if one.native)
    drawn = [one for one in shown if one.native is None]
    step = max(1, len(drawn) // 40)
    for quality in QUALITIES:
        # A sample of them tells the total: each try would otherwise encode hundreds of pictures.
        trial = sum(len(one.file(quality)[1]) for one in drawn[::step]) * len(drawn) / len(drawn[::step])
        if fixed + trial <= PAGE_BYTES:
            return quality
    return QUALITIES[-1]


def _embedded(one: Shown, quality: int) -> dict[str, Any]:
    mime, data = one.file(quality)
    return {**one.facts, "native": one.native is not None, "src": _data_uri(mime, data)}


def _data_uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
