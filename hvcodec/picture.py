"""A picture as arrays with its metadata: what the codec takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = "npt.NDArray[np.unsignedinteger[Any]]"


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as arrays to be read, not written: pixels (H, W) or (H, W, 3), alpha (H, W) or None.

    Both are uint8 or both uint16, over the full range of the type. The metadata are the bytes of an ICC
    profile, of EXIF (a TIFF block, without the prefix that JPEG puts before it) and of XMP; empty ones become
    None. Pixels lie as in the file: an EXIF orientation is kept as metadata and not applied. Raises TypeError
    or ValueError for other arrays.
    """

    pixels: Samples
    alpha: Samples | None = None
    icc: bytes | None = field(default=None, repr=False)
    exif: bytes | None = field(default=None, repr=False)
    xmp: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("pixels",) if self.alpha is None else ("pixels", "alpha"):
            if not isinstance(samples := getattr(self, name), np.ndarray):
                raise TypeError(f"{name} must be an array of uint8 or uint16, not {type(samples).__name__}")
        if self.pixels.dtype not in (np.uint8, np.uint16):
            raise TypeError(f"pixels must be uint8 or uint16, not {self.pixels.dtype}")
        if self.pixels.shape[2:] not in ((), (3,)) or self.pixels.ndim < 2 or self.pixels.size == 0:
            raise ValueError(f"pixels must have the shape (H, W) or (H, W, 3), not {self.pixels.shape}")
        if self.alpha is not None and self.alpha.dtype != self.pixels.dtype:
            raise TypeError(f"alpha must be {self.pixels.dtype} like the pixels, not {self.alpha.dtype}")
        if self.alpha is not None and self.alpha.shape != self.pixels.shape[:2]:
            raise ValueError(f"alpha must have the shape {self.pixels.shape[:2]}, not {self.alpha.shape}")
        for name in ("icc", "exif", "xmp"):  # some formats cannot hold an empty one, others would not show it
            object.__setattr__(self, name, getattr(self, name) or None)

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def depth(self) -> int:
        """Bits per sample, 8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def is_grey(self) -> bool:
        return self.pixels.ndim == 2


def from_array(array: Samples) -> Picture:
    """Make a picture of a uint8 or uint16 array: (H, W) or (H, W, 1) grey, 2 grey + alpha, 3 RGB, 4 RGBA.

    Raises TypeError for another dtype and ValueError for another shape.
    """
    array = np.asarray(array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"a picture is an array of uint8 or uint16, not {array.dtype}: convert it first")
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (2,), (3,), (4,)):
        raise ValueError(f"a picture has the shape (H, W) or (H, W, 1 to 4), not {array.shape}")
    if array.ndim == 2:
        return Picture(np.ascontiguousarray(array))
    n_channels = array.shape[2]
    colors = array[..., 0] if n_channels < 3 else array[..., :3]
    alpha = np.ascontiguousarray(array[..., -1]) if n_channels in (2, 4) else None
    return Picture(np.ascontiguousarray(colors), alpha)


def to_array(picture: Picture) -> Samples:
    """The samples of a picture as one array: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4)."""
    if picture.alpha is None:
        return picture.pixels
    return np.dstack((picture.pixels, picture.alpha))


def divided_by_alpha(samples: Samples) -> Samples:
    """Undo a multiplication of 16-bit colours with their alpha."""
    alpha = samples[..., 3:].astype(np.uint32)
    scaled = samples[..., :3].astype(np.uint32) * np.uint32(65535) + alpha // np.uint32(2)
    colors = np.minimum(scaled // np.maximum(alpha, np.uint32(1)), np.uint32(65535)) * (alpha > 0)
    return np.concatenate((colors, alpha), axis=-1).astype(np.uint16)


def with_transparent(picture: Picture, key: int | tuple[int, ...]) -> Picture:
    """The picture with an alpha that is zero where the pixels have the key's colour."""
    matches = picture.pixels == np.asarray(key)
    if matches.ndim == 3:
        matches = matches.all(axis=-1)
    opaque = np.iinfo(picture.pixels.dtype).max
    return replace(picture, alpha=np.where(matches, 0, opaque).astype(picture.pixels.dtype))


def as_rgb8(samples: Samples) -> Samples:
    """Grey or colour samples of 8 or 16 bits as 8-bit RGB (H, W, 3)."""
    if samples.dtype == np.uint16:
        samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(samples[:, :, None], 3, axis=2) if samples.ndim == 2 else samples


def turned(samples: Samples, orientation: object) -> Samples:
    """Turn samples as an EXIF orientation asks for."""
    if orientation in (3, 4, 6, 7):
        samples = samples[::-1]
    if orientation in (2, 3, 7, 8):
        samples = samples[:, ::-1]
    return np.swapaxes(samples, 0, 1) if orientation in (5, 6, 7, 8) else samples


def turned_back(samples: Samples, orientation: object) -> Samples:
    """Undo what `turned` does, as Pillow does it to a TIFF picture."""
    if orientation in (5, 6, 7, 8):
        samples = np.swapaxes(samples, 0, 1)
    if orientation in (2, 3, 7, 8):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 6, 7):
        samples = samples[::-1]
    return samples
