"""Alpha and metadata: lossless, bounded, and picky about what they inflate."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from hvcodec.errors import CorruptError, FormatError, ImageError, LimitError, UnsupportedError
from hvcodec.extras import (
    MAX_METADATA_BYTES,
    pack_alpha,
    pack_metadata,
    unpack_alpha,
    unpack_metadata,
)


def test_metadata_return_as_they_were() -> None:
    for raw in (b"", b"x", bytes(range(256)) * 300):
        assert unpack_metadata(pack_metadata(raw)) == raw


def test_metadata_are_bounded_both_ways() -> None:
    largest = bytes(MAX_METADATA_BYTES)
    assert unpack_metadata(pack_metadata(largest)) == largest
    with pytest.raises(ImageError, match="strip it"):
        pack_metadata(largest + b"!")
    for bomb in (zlib.compress(largest + b"!"), zlib.compress(bytes(1 << 26))):
        with pytest.raises(LimitError) as info:
            unpack_metadata(bomb)
        assert info.value.limit == MAX_METADATA_BYTES
        assert info.value.asked == MAX_METADATA_BYTES + 1


STREAM = zlib.compress(b"some metadata, some metadata")


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"not zlib at all",
        STREAM[:-1],
        STREAM[:2],
        STREAM + b"!",
        STREAM + STREAM,
        STREAM[:-1] + bytes([STREAM[-1] ^ 1]),
    ],
)
def test_anything_but_one_zlib_stream_is_corrupt(damaged: bytes) -> None:
    with pytest.raises(CorruptError):
        unpack_metadata(damaged)
    with pytest.raises(CorruptError):
        unpack_alpha(b"\0" + damaged, width=7, height=4, depth=8)  # 28 bytes, as in STREAM


def test_dictionaries_are_refused() -> None:
    stream = zlib.compressobj(zdict=b"some metadata")
    with pytest.raises(CorruptError):
        unpack_metadata(stream.compress(b"some metadata") + stream.flush())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("name", "expected"), [("noise", 0), ("rows", 1), ("columns", 2), ("flat", None), ("mask", None)]
)
def test_alpha_returns_as_it_was(name: str, expected: int | None, dtype: type) -> None:
    height, width, peak = 150, 90, np.iinfo(dtype).max
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, peak, (height, width), endpoint=True)
    plane = {
        "noise": noise,
        "rows": noise[:, :1] + 7 * x,  # each row a ramp of its own, wrapping around
        "columns": noise[:1] + 7 * y,
        "flat": np.full((height, width), peak),
        "mask": np.where(np.hypot(y - 70, x - 40) < 35, peak, 0),
    }[name].astype(dtype)
    packed = pack_alpha(plane)
    if expected is not None:
        assert packed[0] == expected
    assert len(packed) <= plane.nbytes * 1.01 + 16
    back = unpack_alpha(packed, width=width, height=height, depth=8 * plane.itemsize)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, plane)


def test_alpha_bytes_are_those_of_the_format() -> None:
    plane = [0x0102, 0x0001, 0xFFFF, 0x0103, 0x0000, 0x0001]
    left = [0x0102, 0xFEFF, 0xFFFE, 0x0103, 0xFEFD, 0x0001]
    up = [0x0102, 0x0001, 0xFFFF, 0x0001, 0xFFFF, 0x0002]
    for name, stored in enumerate((plane, left, up)):
        data = bytes([name]) + zlib.compress(b"".join(value.to_bytes(2, "big") for value in stored))
        back = unpack_alpha(data, width=3, height=2, depth=16)
        assert back.dtype == np.uint16
        assert back.ravel().tolist() == plane


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (64, 2), (65, 2), (1025, 3)])
def test_alpha_of_any_shape(shape: tuple[int, int]) -> None:
    plane = (np.arange(shape[0] * shape[1]) % 251).astype(np.uint8).reshape(shape)
    back = unpack_alpha(pack_alpha(plane), width=shape[1], height=shape[0], depth=8)
    np.testing.assert_array_equal(back, plane)


@pytest.mark.parametrize(("width", "height", "depth"), [(9, 10, 8), (11, 10, 8), (10, 10, 16), (1, 1, 8)])
def test_alpha_of_another_size_is_corrupt(width: int, height: int, depth: int) -> None:
    packed = pack_alpha(np.zeros((10, 10), np.uint8))
    with pytest.raises(CorruptError, match=r"alpha plane"):
        unpack_alpha(packed, width=width, height=height, depth=depth)


def test_alpha_bomb_stops_at_the_size_of_the_picture() -> None:
    bomb = b"\0" + zlib.compress(bytes(1 << 26))
    with pytest.raises(CorruptError, match="size of the picture"):
        unpack_alpha(bomb, width=8, height=8, depth=8)


@pytest.mark.parametrize("name", [3, 255])
def test_later_filters_are_refused_by_name(name: int) -> None:
    with pytest.raises(UnsupportedError) as info:
        unpack_alpha(bytes([name]) + zlib.compress(b"\0"), width=1, height=1, depth=8)
    assert info.value.feature == f"alpha filter {name}"


def test_empty_alpha_is_refused() -> None:
    with pytest.raises(FormatError):
        unpack_alpha(b"", width=1, height=1, depth=8)


@pytest.mark.parametrize(
    "plane", [np.zeros((2, 2)), np.zeros((2, 2), np.int16), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_pack_alpha_takes_planes_only(plane: np.ndarray) -> None:
    with pytest.raises(ValueError, match="alpha plane"):
        pack_alpha(plane)
