"""The search for a file size, on made-up codecs and a real one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from doubles import reference
from hvcodec_benchmarks.equal_bytes import MAX_ENCODES, encode_to_size, next_quality
from hvcodec_benchmarks.pictures import Sample
from PIL import Image

BLANK = Image.new("RGB", (8, 8))


@dataclass
class MadeUp:
    """A codec whose sizes are a formula."""

    size: Callable[[float], float]
    limits: tuple[float, float, float] = (0.0, 100.0, 0.5)
    tried: list[float] = field(default_factory=list)
    name = title = suffix = version = "made-up"
    settings = (10.0, 90.0)

    def encode(self, image: Image.Image, quality: float) -> bytes:
        self.tried.append(quality)
        return bytes(round(self.size(quality)))

    def decode(self, data: bytes) -> Image.Image:
        return BLANK

    def describe(self, data: bytes) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("target", [3_000, 20_000, 150_000])
def test_sizes_that_grow_exponentially_are_found(target: int) -> None:
    codec = MadeUp(lambda quality: 1000 * math.exp(quality / 18))
    _, data = encode_to_size(codec, BLANK, target)
    assert len(data) == pytest.approx(target, rel=0.02)
    assert len(codec.tried) <= MAX_ENCODES


def test_a_known_curve_gives_the_first_guess() -> None:
    codec = MadeUp(lambda quality: 1000 * math.exp(quality / 18))
    known = {quality: round(codec.size(quality)) for quality in (20, 40, 60)}
    encode_to_size(codec, BLANK, 16_000, known)
    assert len(codec.tried) == 1


@pytest.mark.parametrize(("target", "end"), [(1, 0.0), (10**9, 100.0)])
def test_beyond_the_scale_the_end_of_it_is_taken(target: int, end: float) -> None:
    quality, _ = encode_to_size(MadeUp(lambda quality: 1000 + 100 * quality), BLANK, target)
    assert quality == end


def test_qualities_lie_on_the_codecs_grid() -> None:
    assert next_quality({10: 100, 20: 200}, 141, (0, 100, 1)) == 15
    assert next_quality({}, 141, (0, 100, 1)) == 50


def test_a_real_codec(samples: list[Sample]) -> None:
    _, data = encode_to_size(reference("jpeg-420"), samples[0].load(), 12_000)
    assert len(data) == pytest.approx(12_000, rel=0.05)
