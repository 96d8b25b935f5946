"""Compress and restore what a file carries beside its layers: the alpha plane and ICC, EXIF, XMP metadata.

Everything here is lossless. Inflation is bounded: a few bytes cannot ask for gigabytes.
"""

from __future__ import annotations

import zlib
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvcodec.errors import CorruptError, ImageError, LimitError, UnsupportedError

MAX_METADATA_BYTES = 16 << 20

_NONE, _LEFT, _UP = 0, 1, 2  # what is subtracted from each sample of an alpha plane before it is deflated
# Runs suit hard masks, and are far quicker than a search for matches where noise leaves none to find.
_CHOICES = tuple(product((_NONE, _LEFT, _UP), (zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY)))
_TRIAL_ROWS, _BAND_ROWS = 64, 16  # filter and strategy are chosen on about so many rows, in bands of so many

Plane = NDArray[Any]  # (H, W), uint8 or uint16


def pack_metadata(raw: bytes) -> bytes:
    """Deflate an ICC profile, EXIF block or XMP packet; raise ImageError if it is over 16 MiB."""
    if len(raw) > MAX_METADATA_BYTES:
        raise ImageError(
            f"the picture carries {len(raw)} bytes of metadata in one block, at most {MAX_METADATA_BYTES} "
            "can be kept: strip it first"
        )
    return zlib.compress(raw, 9)


def unpack_metadata(data: bytes) -> bytes:
    """Inflate an ICC profile, EXIF block or XMP packet.

    Raises CorruptError (not one zlib stream) or LimitError (inflates to more than 16 MiB).
    """
    raw = _inflate(data, MAX_METADATA_BYTES, "the metadata")
    if len(raw) > MAX_METADATA_BYTES:
        raise LimitError(
            f"the metadata inflate to more than {MAX_METADATA_BYTES} bytes: no honest picture does that",
            limit=MAX_METADATA_BYTES,
            asked=len(raw),
        )
    return raw


def pack_alpha(plane: Plane) -> bytes:
    """Compress an alpha plane (H, W) of uint8 or uint16 without loss."""
    if plane.dtype not in (np.uint8, np.uint16) or plane.ndim != 2 or plane.size == 0:
        raise ValueError(f"an alpha plane is (H, W) of uint8 or uint16, not {plane.shape} of {plane.dtype}")
    bands = -(-plane.shape[0] // _TRIAL_ROWS)
    in_trial = np.arange(plane.shape[0]) // _BAND_ROWS % bands == 0

    def trial_bytes(choice: tuple[int, int]) -> int:
        name, strategy = choice
        return len(_deflate(_filtered(plane, name)[in_trial], strategy))

    name, strategy = min(_CHOICES, key=trial_bytes)
    return bytes([name]) + _deflate(_filtered(plane, name), strategy)


def unpack_alpha(data: bytes, *, width: int, height: int, depth: int) -> Plane:
    """Restore the alpha plane (height, width) of a picture with `depth` bits per sample.

    Raises CorruptError (not one zlib stream, or not of exactly this size) or UnsupportedError (filter).
    """
    if data and data[0] > _UP:
        feature = f"alpha filter {data[0]}"
        raise UnsupportedError(f"the file has {feature}: update hvcodec to read it", feature=feature)
    expected = width * height * depth // 8
    raw = _inflate(data[1:], expected, "the alpha plane")
    if len(raw) != expected:
        raise CorruptError("the alpha plane does not have the size of the picture: the file is damaged")
    plane = np.frombuffer(raw, np.uint8 if depth == 8 else ">u2").reshape(height, width)
    native = np.uint8 if depth == 8 else np.uint16
    if data[0] == _NONE:
        return plane.astype(native)
    return np.cumsum(plane, axis=1 if data[0] == _LEFT else 0, dtype=native)  # wraps around, as it should


def _filtered(plane: Plane, name: int) -> Plane:
    """Subtract from each sample its left or upper neighbour, modulo 2^depth."""
    if name == _NONE:
        return plane
    out = plane.copy()
    if name == _LEFT:
        out[:, 1:] -= plane[:, :-1]
    else:
        out[1:] -= plane[:-1]
    return out


def _deflate(plane: Plane, strategy: int) -> bytes:
    big_endian = plane.astype(plane.dtype.newbyteorder(">"), copy=False).tobytes()
    stream = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return stream.compress(big_endian) + stream.flush()


def _inflate(data: bytes, limit: int, what: str) -> bytes:
    """Inflate exactly one zlib stream; a result of limit + 1 bytes means that it goes on past the limit."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, limit + 1)
    except zlib.error as err:
        raise CorruptError(f"{what} cannot be inflated: the file is damaged") from err
    if len(raw) <= limit and (not stream.eof or stream.unused_data):
        raise CorruptError(f"{what} is not exactly one zlib stream: the file is damaged")
    return raw
