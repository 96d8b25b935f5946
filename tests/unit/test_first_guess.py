"""The first guess for a target looks at a part of the picture, if that is much cheaper than an encode."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import picture

from hvcodec import codec as module
from hvcodec.codec import Codec
from hvcodec.picture import Picture
from hvcodec.targets import Bytes


def sizes_of_first_encodes(
    codec: Codec, shown: Picture, effort: int, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[int, int]]:
    sizes = []
    plain = codec.encode_batch

    def noted(pictures, rhos, **how):  # type: ignore[no-untyped-def]
        sizes.append((pictures[0].width, pictures[0].height))
        return plain(pictures, rhos, **how)

    monkeypatch.setattr(codec, "encode_batch", noted)
    codec.compress(shown, target=Bytes(9000), effort=effort)
    monkeypatch.undo()
    return sizes[:2]


def test_large_pictures_are_looked_at_and_small_ones_coded(tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = picture(640, 512, seed=1), picture(256, 192, seed=1)
    assert sizes_of_first_encodes(tiny_codec, large, 1, monkeypatch) == [(384, 256), (640, 512)]
    assert sizes_of_first_encodes(tiny_codec, large, 0, monkeypatch)[0] == (640, 512)
    assert sizes_of_first_encodes(tiny_codec, small, 1, monkeypatch)[0] == (256, 192)


@pytest.mark.parametrize(
    ("height", "width", "shape"), [(600, 900, (256, 384)), (1, 300_000, (2, 384)), (130, 50, (256, 150))]
)
def test_the_sample_comes_from_all_over_the_picture(height: int, width: int, shape: tuple[int, int]) -> None:
    pixels = np.arange(height * width, dtype=np.uint32).reshape(height, width)
    shown = Picture((pixels * 255 // pixels.size).astype(np.uint8))
    sample = module._sample(shown)
    assert sample.pixels.shape == shape
    assert int(sample.pixels.max()) - int(sample.pixels.min()) > (100 if height > 1 else 150)
