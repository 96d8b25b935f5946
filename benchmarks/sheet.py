"""A sheet to look at: crops of pictures as the profiles show them, at equal bytes.

Of every picture the window is shown in which the two profiles differ most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from hvcodec import Bpp, Bytes, Codec, Picture, catalog

from .pictures import Sample, spread

PROFILES = ("psnr", "perceptual")
PICTURES, WINDOW, MARGIN, CAPTION = 6, (256, 192), 6, 16
Array = np.ndarray[Any, np.dtype[Any]]


def draw(samples: Sequence[Sample], bpp: float, target: Path, tick: Callable[[], None] = lambda: None) -> None:
    """Write the sheet: a row for each picture, the original and then each profile."""
    codecs = {name: Codec(catalog.find_for(name), device="cpu") for name in PROFILES}
    chosen = spread(samples, PICTURES)
    width, height = WINDOW
    across, down = width + MARGIN, height + CAPTION + MARGIN
    sheet = Image.new("RGB", (across * (1 + len(PROFILES)) + MARGIN, down * len(chosen) + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for row, sample in enumerate(chosen):
        original = np.asarray(sample.load())
        first = codecs[PROFILES[0]].compress(Picture(original), target=Bpp(bpp), profile=PROFILES[0])
        coded = [first] + [
            codecs[name].compress(Picture(original), target=Bytes(first.n_bytes), profile=name) for name in PROFILES[1:]
        ]
        shown = [encoded.decoded().pixels for encoded in coded]
        box = window(shown[0], shown[1])
        captions = [f"{sample.name}: original"] + [
            f"{name}: {encoded.bpp:.3f} bpp, SSIMULACRA2 {encoded.ssimulacra2:.1f}"
            for name, encoded in zip(PROFILES, coded, strict=True)
        ]
        for column, (pixels, caption) in enumerate(zip([original, *shown], captions, strict=True)):
            left, top = MARGIN + column * across, MARGIN + row * down
            pen.text((left, top), caption, fill="black")
            sheet.paste(Image.fromarray(pixels).crop(box), (left, top + CAPTION))
        tick()
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, quality=92, method=6)


def window(a: Array, b: Array) -> tuple[int, int, int, int]:
    """Where two pictures differ most: left, upper, right, lower."""
    width, height = min(WINDOW[0], a.shape[1]), min(WINDOW[1], a.shape[0])
    difference = np.abs(a.astype(np.int32) - b).sum(axis=2)
    sums = np.pad(difference.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    totals = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(totals.argmax()), totals.shape)
    return int(left), int(top), int(left) + width, int(top) + height
