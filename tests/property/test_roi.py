"""Regions of interest: bits move to where the mask is white, and the file stays an ordinary one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import picture

from hvcodec import image
from hvcodec.catalog import PACKAGED
from hvcodec.codec import Codec, Encoded
from hvcodec.picture import Picture
from hvcodec.targets import Bytes

Array = np.ndarray[Any, np.dtype[Any]]


WEIGHTS = PACKAGED / "default.safetensors"
EXAMPLE = Path(__file__).parents[2] / "examples" / "parrots.png"


@pytest.fixture
def shown() -> Picture:
    return picture(160, 128, seed=3)


@pytest.fixture
def mask() -> Array:
    mask = np.zeros((128, 160), np.uint8)
    mask[32:96, 16:80] = 255
    return mask


def error(encoded: Encoded, shown: Picture, where: Array) -> float:
    """Mean squared error of the pixels that are chosen."""
    difference = encoded.decoded().pixels.astype(float) - shown.pixels
    return float(np.square(difference)[where].mean())


@pytest.mark.parametrize(
    ("model", "effort"),
    # From the third on without a mask symbols are the nearest integers.
    [("default", 1), ("default", 3), ("default", 0), ("perceptual", 0), ("perceptual", 1), ("perceptual", 2)],
)
def test_the_region_gains_at_equal_bytes(model: str, effort: int) -> None:
    codec = Codec(PACKAGED / f"{model}.safetensors", device="cpu")  # the tiny model has no quality to give
    shown = Picture(image.read(EXAMPLE).pixels[100:356, 150:406])
    mask = np.zeros((256, 256), np.uint8)
    mask[64:192, 64:160] = 255
    plain = codec.compress(shown, quality=40, effort=effort)
    chosen = codec.compress(shown, target=Bytes(plain.n_bytes), effort=effort, roi=mask)
    assert chosen.n_bytes <= plain.n_bytes
    assert error(chosen, shown, mask > 0) < 10**-0.2 * error(plain, shown, mask > 0)  # 2 dB
    assert error(chosen, shown, mask == 0) > error(plain, shown, mask == 0)
    assert np.array_equal(codec.decode(chosen.data).pixels, chosen.decoded().pixels)


@pytest.mark.parametrize(("model", "effort"), [("default", 0), ("perceptual", 1)])
def test_white_stays_as_it_is_where_symbols_are_the_nearest(model: str, effort: int) -> None:
    codec = Codec(PACKAGED / f"{model}.safetensors", device="cpu")
    shown = Picture(image.read(EXAMPLE).pixels[100:356, 150:406])
    plain = codec.compress(shown, quality=30, effort=effort)
    for value in (0, 100, 255):
        assert (
            codec.compress(shown, quality=30, effort=effort, roi=np.full((256, 256), value, np.uint8)).data
            == plain.data
        )
    mask = np.zeros((256, 256), np.uint8)
    mask[:, :128] = 255
    chosen = codec.compress(shown, quality=30, effort=effort, roi=mask)
    assert chosen.n_bytes < 0.9 * plain.n_bytes
    assert error(chosen, shown, mask > 0) < 10**0.02 * error(plain, shown, mask > 0)  # 0.2 dB


@pytest.mark.parametrize("n_bytes", [12_000, 17_500, 19_800])
def test_what_perfect_white_leaves_goes_to_the_rest(n_bytes: int) -> None:
    """With such a mask quality 100 fills 9,100 bytes, with lighter ones 16,000 and 19,000, without one 20,700."""
    codec = Codec(WEIGHTS, device="cpu")
    shown = Picture(image.read(EXAMPLE).pixels[100:356, 150:406])
    mask = np.zeros((256, 256), np.uint8)
    mask[100:150, 100:150] = 255
    assert codec.compress(shown, quality=100, roi=mask).n_bytes < 10_000
    chosen = codec.compress(shown, target=Bytes(n_bytes), roi=mask)
    assert 0.97 * n_bytes <= chosen.n_bytes <= n_bytes


@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_of_one_colour_changes_little(tiny_codec: Codec, shown: Picture, value: int) -> None:
    plain = tiny_codec.encode(shown, [30] * 5)
    even = tiny_codec.encode(shown, [30] * 5, roi=np.full((128, 160), value, np.uint8))
    assert even.n_bytes == pytest.approx(plain.n_bytes, rel=0.1)


def test_masks_of_a_batch_belong_to_their_pictures(tiny_codec: Codec, shown: Picture, mask: Array) -> None:
    masks = [mask, 255 - mask]
    batch = tiny_codec.encode_batch([shown, shown], [[30] * 5] * 2, rois=masks)
    alone = [tiny_codec.encode(shown, [30] * 5, roi=roi) for roi in masks]
    assert [encoded.data for encoded in batch] == [encoded.data for encoded in alone]


def test_masks_of_either_byte_order_are_taken(tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvcodec.codec.LEAST_SAMPLED", 0)  # the first guess looks at the mask too
    shown = picture(160, 128, seed=3)
    deep = np.random.default_rng(0).integers(0, 1 << 16, (128, 160), np.uint16)
    files = {
        tiny_codec.compress(shown, target=Bytes(2000), profile="equal", roi=deep.astype(order)).data
        for order in (">u2", "<u2")
    }
    assert len(files) == 1


@pytest.mark.parametrize(
    "roi",
    [np.zeros((160, 128), np.uint8), np.zeros((128, 160, 1), np.uint8), np.zeros((128, 160), np.float32)],
)
def test_other_masks_are_refused(tiny_codec: Codec, shown: Picture, roi: Array) -> None:
    with pytest.raises(ValueError, match="one grey value for each pixel"):
        tiny_codec.encode(shown, [30] * 5, roi=roi)
    with pytest.raises(ValueError, match="one grey value for each pixel"):
        tiny_codec.compress(shown, target=Bytes(2000), roi=roi)
