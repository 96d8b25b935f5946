"""Compress and decompress pictures in one call; a Codec does the same for many pictures with one model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

import numpy as np

from . import catalog, container, image, rate
from .codec import DEFAULT_EFFORT, Codec, Device, Dtype, check_size
from .errors import ModelError
from .picture import Picture, Samples

if TYPE_CHECKING:
    from PIL.Image import Image

    AnyImage: TypeAlias = "Image | Samples | Picture | str | os.PathLike[str]"


def compress(
    image: AnyImage,
    *,
    profile: str | None = None,
    quality: float = 50.0,
    target: rate.Target | None = None,
    rho: Sequence[int] | None = None,
    effort: int = DEFAULT_EFFORT,
    roi: Samples | None = None,
    digests: bool = False,
    model: str | Path | None = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> bytes:
    """Compress a picture: a Pillow image, an array, a Picture, or the path of a picture file.

    Arrays are uint8 or uint16, (H, W) or (H, W, 1 to 4). What to spend is told by one of `quality` (0 to 100
    along the rate profile), `target` (`Bytes(50_000)`, `Psnr(38)`, ... along the profile) and `rho` (the rate
    vector itself); `rho` is looked at first, then `target`. The profile is "psnr" unless said otherwise. Without a
    `model` it is the one that the profile belongs to. `effort` (0 to 9) buys smaller files with time; decoding takes no
    longer. `roi` is a mask, a grey array of the picture's size: the whiter a pixel, the more its error counts.
    With `digests` the decoder notices a machine that computes differently.

    Raises ImageError for a picture that cannot be taken, TargetError if no setting reaches the target,
    ModelError for a model that is missing or damaged, OSError for a path that cannot be read, and ValueError
    or TypeError for arguments that make no sense.
    """
    picture = to_picture(image)  # before the weights: it is cheap to refuse
    codec = Codec(catalog.find_for(profile) if model is None else model, device, dtype)
    encoded = codec.compress(
        picture, quality=quality, profile=profile, target=target, rho=rho, effort=effort, roi=roi, digests=digests
    )
    return encoded.data


@overload
def decompress(
    data: bytes,
    *,
    kind: Literal["pillow"] = "pillow",
    max_layers: int | None = None,
    partial: bool = False,
    max_pixels: int = container.MAX_PIXELS,
    model: str | Path | None = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> Image: ...
@overload
def decompress(
    data: bytes,
    *,
    kind: Literal["array"],
    max_layers: int | None = None,
    partial: bool = False,
    max_pixels: int = container.MAX_PIXELS,
    model: str | Path | None = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> Samples: ...
@overload
def decompress(
    data: bytes,
    *,
    kind: Literal["picture"],
    max_layers: int | None = None,
    partial: bool = False,
    max_pixels: int = container.MAX_PIXELS,
    model: str | Path | None = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> Picture: ...
def decompress(
    data: bytes,
    *,
    kind: Literal["pillow", "array", "picture"] = "pillow",
    max_layers: int | None = None,
    partial: bool = False,
    max_pixels: int = container.MAX_PIXELS,
    model: str | Path | None = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> Image | Samples | Picture:
    """Decompress the bytes of a .hvc file with the model that it names.

    `kind` chooses what comes back: a Pillow image with the metadata in its `info`, an array (H, W) or
    (H, W, 2 to 4), or a Picture, which holds everything. Pillow has no 16-bit colour: take an array there.
    `max_layers` stops after so many layers, `partial` accepts a file that was cut short, `max_pixels` limits
    what is accepted, and `model` is the file of a model that is not installed.

    Raises FormatError (its subclasses tell apart what is wrong with the bytes), DesyncError, ModelError,
    ImageError for 16-bit colour as a Pillow image, and ValueError or TypeError for other arguments.
    """
    if kind not in ("pillow", "array", "picture"):
        raise ValueError(f"kind must be pillow, array or picture, not {kind!r}")
    codec = codec_for(data, model, device, dtype, partial=partial, max_pixels=max_pixels)
    picture = codec.decode(data, max_layers=max_layers, partial=partial, max_pixels=max_pixels)
    if kind == "picture":
        return picture
    return image.to_array(picture) if kind == "array" else image.to_pillow(picture)


def codec_for(
    data: bytes,
    model: str | Path | None = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    *,
    partial: bool = False,
    max_pixels: int = container.MAX_PIXELS,
) -> Codec:
    """The codec that decodes a file: with the model that its header names, or with the one given."""
    header = container.read_header(data)  # before the weights: a foreign file is refused at once
    if model is None:
        try:
            model = catalog.find_by_id(header.model_id)
        except ModelError:
            file = container.unpack(data, partial=partial, max_pixels=max_pixels)  # what is wrong with it comes first
            check_size(file.header, max_pixels)
            raise
    return Codec(model, device, dtype)


def to_picture(source: AnyImage) -> Picture:
    """Make a Picture of whatever compress() takes."""
    if isinstance(source, Picture):
        return source
    if isinstance(source, np.ndarray):
        return image.from_array(source)
    if isinstance(source, (str, os.PathLike)):
        return image.read(source)
    try:
        return image.from_pillow(source)
    except TypeError:
        raise TypeError(
            f"a picture is the path of a file, a Pillow image, an array or a Picture, not {type(source).__name__}: "
            "hvcodec.image.read makes one of bytes and open files"
        ) from None
