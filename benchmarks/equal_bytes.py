"""Find the quality at which a codec's file of a picture has a given size, with few encodes.

The size of a file grows about exponentially with the quality, so the search interpolates the logarithm of
the bytes between the nearest known qualities, and never leaves the bracket that it has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from PIL import Image

from .codecs import Codec

TOLERANCE = 0.01
MAX_ENCODES = 6


def encode_to_size(
    codec: Codec, image: Image.Image, target_bytes: int, known: Mapping[float, int] | None = None
) -> tuple[float, bytes]:
    """The quality and the file that come nearest to a size (within 1 % stops the search).

    `known` are sizes of this picture's files at some qualities: a curve that was measured before gives the
    search its first guess. The nearest file may still be far off where the codec's scale ends.
    """
    sizes = dict(known or {})
    files: dict[float, bytes] = {}
    for _ in range(MAX_ENCODES):
        quality = next_quality(sizes, target_bytes, codec.limits)
        if quality in files:
            break
        files[quality] = codec.encode(image, quality)
        sizes[quality] = len(files[quality])
        if abs(sizes[quality] / target_bytes - 1) <= TOLERANCE:
            break
    best = min(files, key=lambda quality: abs(math.log(len(files[quality]) / target_bytes)))
    return best, files[best]


def next_quality(sizes: Mapping[float, int], target: int, limits: tuple[float, float, float]) -> float:
    """The most promising quality to try next, on the codec's grid of steps."""
    lowest, highest, step = limits
    below = max((quality for quality, size in sizes.items() if size <= target), default=None)
    above = min((quality for quality, size in sizes.items() if size > target), default=None)
    if below is None and above is None:
        guess = (lowest + highest) / 2
    elif below is None:
        guess = lowest
    elif above is None:
        guess = highest
    else:
        share = math.log(target / sizes[below]) / math.log(sizes[above] / sizes[below])
        guess = below + share * (above - below)
    return min(max(lowest + round((guess - lowest) / step) * step, lowest), highest)
