"""Pictures in and out: files and Pillow images become pictures and back; the only module that imports PIL.

Nothing that Pillow itself raises or prints leaves this module: a picture that cannot be taken is an ImageError
that says what to do. Errors of the file system (FileNotFoundError, PermissionError, a full disk) pass through.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import IO, Any, TypeAlias, cast

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from . import png
from .errors import ImageError
from .extras import MAX_METADATA_BYTES
from .files import write_whole
from .picture import (
    Picture,
    Samples,
    divided_by_alpha,
    from_array,
    to_array,
    turned,
    turned_back,
    with_transparent,
)
from .shared import Shared

__all__ = [
    "MAX_PIXELS",
    "Picture",
    "as_displayed",
    "as_stored",
    "encode",
    "from_array",
    "from_pillow",
    "left_out",
    "read",
    "to_array",
    "to_pillow",
    "write",
]

Path: TypeAlias = "str | os.PathLike[str]"

MAX_PIXELS = 1 << 28

# Formats with a signature: one without would take any bytes for a picture. Not EPS: it starts Ghostscript.
_READABLE = (
    *("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "GIF"),
    *("PPM", "JPEG2000", "ICO", "PSD", "SGI", "QOI"),
)
_STILL = ("MPO", "PSD")  # here what Pillow counts as frames is no animation: the first is the whole picture

_TO_RGB = "convert it to RGB with its colour profile, for example in an image editor, and take that"
_REFUSED_MODES = {
    "CMYK": f"this is a CMYK picture: {_TO_RGB}",
    "YCbCr": f"this is a raw YCbCr picture: {_TO_RGB}",
    "LAB": f"this is a CIE Lab picture: {_TO_RGB}",
    "HSV": f"this is an HSV picture: {_TO_RGB}",
    "F": "this picture has floating point samples: save it as 16-bit PNG and take that",
}
_NOT_UNSIGNED = "this picture has signed or 32-bit samples: save it as 16-bit PNG and take that"
_TOO_LARGE = f"the picture has more than {MAX_PIXELS} pixels: cut it into parts and take those"
_PLAIN_MODES = {"1": "L", "La": "LA", "PA": "RGBA", "RGBX": "RGB", "RGBa": "RGBA"}

_EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION, _EXIF_IFD, _GPS_IFD, _INTEROP_IFD, _XMP = 274, 34665, 34853, 40965, 700
_BITS, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 258, 262, 284, 339
# The TIFF tags that describe the picture (who, when, with which camera), not how its file stores the pixels.
_DESCRIPTIVE = {270, 271, 272, _ORIENTATION, 305, 306, 315, 316, 18246, 33432, _EXIF_IFD, _GPS_IFD}

_WIDE_RAWMODE = re.compile(r"(LA|RGB|RGBX|RGBA|RGBa);16([BLN])")
_GREY_KEY_SCALE = {"L;2": 85, "L;4": 17}  # PNG stores a transparent grey before the scaling to 8 bits

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints Pillow's messages on stderr


# --- files --------------------------------------------------------------------------------------------------


def read(source: Path | bytes | bytearray | memoryview | IO[bytes]) -> Picture:
    """Read a picture from a path, from the bytes of a file, or from an open file, at full precision.

    16-bit PNG, TIFF and PPM files give 16-bit pictures; of the other formats Pillow gives 8 bits. Raises
    ImageError for a picture that is damaged, animated, larger than MAX_PIXELS or of a kind that hvcodec does
    not take, and OSError if the path cannot be opened.
    """
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            return _decode(file if file.seekable() else io.BytesIO(file.read()))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(source))
    if not hasattr(source, "read"):
        raise TypeError(f"a path, the bytes of a file or an open file is needed, not {type(source).__name__}")
    return _decode(io.BytesIO(source.read()))


def write(picture: Picture, target: Path | IO[bytes], format: str | None = None) -> None:
    """Write a picture to a path, whole or not at all, or to an open file.

    `format` is an extension such as "png"; without it the extension of the path decides. Raises ImageError if
    the format cannot hold the picture, ValueError if an open file comes without a format, and OSError if the
    file cannot be written.
    """
    if isinstance(target, (str, os.PathLike)):
        extension = os.path.splitext(target)[1] if format is None else format
        write_whole(target, encode(picture, extension))
    elif format is None:
        raise ValueError("writing to an open file needs a format, such as 'png'")
    else:
        target.write(encode(picture, format))


@dataclass(frozen=True)
class _Format:
    """What a format can hold, and the options that Pillow writes it with."""

    pillow_name: str
    alpha: bool = True
    grey: bool = True
    grey16: bool = False
    metadata: bool = True
    colour: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


_JPEG = _Format("JPEG", alpha=False, options={"quality": 95, "subsampling": 0})
_TIFF = _Format("TIFF", grey16=True)  # uncompressed: libtiff would refuse the directories of EXIF
_PPM = _Format("PPM", alpha=False, grey16=True, metadata=False)
_WRITABLE: Mapping[str, _Format] = {
    "png": _Format("PNG", grey16=True, options={"compress_level": 3}),  # the default takes twice the time
    "jpg": _JPEG,
    "jpeg": _JPEG,
    "webp": _Format("WEBP", grey=False, options={"lossless": True, "exact": True}),
    "tif": _TIFF,
    "tiff": _TIFF,
    "avif": _Format("AVIF", grey=False, options={"quality": 95, "subsampling": "4:4:4"}),
    "bmp": _Format("BMP", alpha=False, metadata=False),
    "ppm": _PPM,
    "pgm": replace(_PPM, colour=False),
    "pnm": _PPM,
}


def encode(picture: Picture, format: str) -> bytes:
    """Encode a picture as the bytes of a file in the format that an extension names ("png", ".jpg", ...).

    PNG holds every picture and all metadata. JPEG and AVIF lose precision, BMP and PPM drop the metadata.
    Raises ImageError for an unknown format and for a picture that the format cannot hold.
    """
    name = format.lower().removeprefix(".")
    if name not in _WRITABLE:
        known = ", ".join(f".{extension}" for extension in _WRITABLE)
        raise ImageError(f"pictures cannot be written as {format!r}: use one of {known}")
    kind = _WRITABLE[name]
    if picture.alpha is not None and not kind.alpha:
        raise ImageError(f"a .{name} file cannot hold transparency: write a .png file")
    if not (picture.is_grey or kind.colour):
        raise ImageError(f"a .{name} file cannot hold colours: write a .png or .ppm file")
    if picture.depth == 16 and kind.pillow_name == "PNG":
        samples = to_array(picture).astype(np.uint16, copy=False)
        return png.encode(samples, icc=picture.icc, exif=picture.exif, xmp=picture.xmp)
    if picture.depth == 16 and not (kind.grey16 and picture.is_grey and picture.alpha is None):
        raise ImageError(f"a .{name} file cannot hold these 16-bit samples: write a .png file")
    out = io.BytesIO()
    with _pillow(f"written as .{name}", "write a .png file"):
        options = _metadata_options(picture, kind) if kind.metadata else {}
        Image.fromarray(to_array(picture)).save(out, kind.pillow_name, **kind.options, **options)
    return out.getvalue()


def left_out(picture: Picture, format: str) -> list[str]:
    """The metadata (icc, exif, xmp) of a picture that a file of this format will lack."""
    kind = _WRITABLE[format.lower().removeprefix(".")]
    takes_exif = kind.pillow_name != "TIFF" or len(_described(picture)) > 0
    carried = {"icc": _takes_profile(picture, kind), "exif": takes_exif, "xmp": True}
    names = [name for name in carried if getattr(picture, name) is not None]
    return [name for name in names if not (kind.metadata and carried[name])]


def _takes_profile(picture: Picture, kind: _Format) -> bool:
    """A grey picture becomes RGB where a format has no grey, and its profile would not be one for that."""
    return kind.grey or not picture.is_grey or picture.icc is None or picture.icc[16:20] != b"GRAY"


def _metadata_options(picture: Picture, kind: _Format) -> dict[str, Any]:
    """The metadata of a picture as options of Pillow's save()."""
    options: dict[str, Any] = {}
    if picture.icc is not None and _takes_profile(picture, kind):
        options["icc_profile"] = picture.icc
    if kind.pillow_name == "TIFF":
        tags = _described(picture)
        if picture.xmp is not None:
            tags[_XMP] = picture.xmp
        return options | {"exif": tags.tobytes()}
    if picture.exif is not None:
        options["exif"] = _EXIF_PREFIX + picture.exif
    if picture.xmp is not None and kind.pillow_name == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", picture.xmp)
    elif picture.xmp is not None:
        options["xmp"] = picture.xmp
    return options


# --- Pillow images ------------------------------------------------------------------------------------------


def from_pillow(img: Image.Image) -> Picture:
    """Make a picture of a Pillow image, with its metadata.

    An image that Pillow has not loaded yet is read at full precision. Raises ImageError for a mode that
    hvcodec does not take, for animations, and when the data behind the image cannot be decoded.
    """
    if not isinstance(img, Image.Image):
        raise TypeError(f"a Pillow image is needed, not {type(img).__name__}")
    with _pillow("read", "it is damaged or its file was closed; open it again"):
        return _picture(img)


def to_pillow(picture: Picture) -> Image.Image:
    """Make a Pillow image (L, LA, RGB, RGBA or I;16) of a picture, with its metadata in `info`.

    Raises ImageError for 16-bit colour or alpha, which Pillow cannot hold.
    """
    if picture.depth == 16 and (not picture.is_grey or picture.alpha is not None):
        raise ImageError("Pillow has no 16-bit colour or alpha: take an array, or write a .png file")
    with _pillow("converted", "take an array"):
        img = Image.fromarray(to_array(picture))
    exif = None if picture.exif is None else _EXIF_PREFIX + picture.exif
    metadata = {"icc_profile": picture.icc, "exif": exif, "xmp": picture.xmp}
    img.info.update({name: data for name, data in metadata.items() if data is not None})
    return img


# --- orientation --------------------------------------------------------------------------------------------


def as_displayed(picture: Picture) -> Samples:
    """The pixels of a picture, turned as its EXIF orientation asks viewers to."""
    return turned(picture.pixels, _orientation(picture))


def as_stored(samples: Samples, picture: Picture) -> Samples:
    """Samples that lie as a picture is displayed (a mask for it), turned to lie as its pixels do."""
    return turned_back(samples, _orientation(picture))


def _orientation(picture: Picture) -> object:
    return _described(picture).get(_ORIENTATION)


# --- decoding -----------------------------------------------------------------------------------------------


def _decode(file: IO[bytes]) -> Picture:
    """The picture in a seekable file."""
    with _pillow("read", "it is damaged or incomplete; get it again from its source"):
        is_png = file.read(len(png.SIGNATURE)) == png.SIGNATURE
        header = png.check(file) if is_png else None
        with Image.open(file, formats=_READABLE) as img:
            picture = _picture(img)
        # Rows that the stream does not hold stay zero, so only a last row of zeros needs the second look.
        if header is not None and (header.interlaced or header.has_palette or not picture.pixels[-1].any()):
            png.check_complete(file, header)
        return picture


def _picture(img: Image.Image) -> Picture:
    """The picture in a Pillow image, which may not be loaded yet."""
    if getattr(img, "is_animated", False) and img.format not in _STILL:
        raise ImageError("this is an animation or has several pages: extract one as a PNG file and take that")
    if img.width * img.height > MAX_PIXELS:
        raise ImageError(_TOO_LARGE)
    if img.mode in _REFUSED_MODES:
        raise ImageError(_REFUSED_MODES[img.mode])
    if isinstance(img, TiffImagePlugin.TiffImageFile):
        return _tiff_picture(img)
    rawmode = _rawmode(img)
    picture = from_array(_samples(img))
    key = img.info.get("transparency")
    if key is not None and img.mode in ("1", "L", "RGB", "I", "I;16"):
        if isinstance(key, int) and rawmode in _GREY_KEY_SCALE:
            scale = _GREY_KEY_SCALE[rawmode]
            key = key % (255 // scale + 1) * scale
        picture = with_transparent(picture, key)
    return replace(picture, **_metadata(img))


def _tiff_picture(img: TiffImagePlugin.TiffImageFile) -> Picture:
    """The picture in a TIFF file, whose metadata Pillow changes when it loads the pixels."""
    tags = img.tag_v2
    bits = tags.get(_BITS, (1,))
    if img.mode == "I" or set(tags.get(_SAMPLE_FORMAT, (1,))) != {1}:
        raise ImageError(_NOT_UNSIGNED)
    if tags.get(_PLANAR) == 2 and max(bits) > 8 and img.mode.startswith("RGB"):
        raise ImageError("16-bit TIFF with separate colour planes is not read: save it as PNG and take that")
    if not _has_all_strips(img):
        raise ImageError("the TIFF file is damaged: pixel data is missing; get it again from its source")
    orientation = img.getexif().get(_ORIENTATION)
    metadata = _metadata(img)
    samples = _samples(img)
    if img.mode.startswith("I;16"):
        if bits == (12,):
            samples = samples * np.uint16(16) + samples // np.uint16(256)
        if tags.get(_PHOTOMETRIC) == 0:  # white is zero: Pillow inverts only up to 8 bits
            samples = ~samples
    return replace(from_array(turned_back(samples, orientation)), **metadata)


def _has_all_strips(img: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether an uncompressed TIFF file names strips for all rows: Pillow would leave the others black."""
    if not img.tile or img.tile[0].codec_name == "libtiff":
        return True
    n_planes = len(img.getbands()) if img.tag_v2.get(_PLANAR) == 2 else 1
    extents = [tile.extents for tile in img.tile if tile.extents is not None]
    n_named = sum((right - left) * (bottom - top) for left, top, right, bottom in extents)
    return n_named >= img.width * img.height * n_planes


def _samples(img: Image.Image) -> Samples:
    """The samples of a Pillow image as an array (H, W) or (H, W, 2 | 3 | 4)."""
    if isinstance(img, ImageFile.ImageFile) and img.tile and img.fp is not None:
        if match := _WIDE_RAWMODE.fullmatch(_rawmode(img)):
            return _wide_samples(img, img.fp, *match.groups())
        if img.tile[0].codec_name == "ppm" or _is_plain_and_wide(img):
            return _netpbm_samples(img, img.fp, is_plain=img.tile[0].codec_name != "ppm")
    img.load()
    if img.mode == "I":
        wide = np.asarray(img)
        if img.format not in (None, "PNG", "PPM") or wide.min() < 0 or wide.max() > 65535:
            raise ImageError(_NOT_UNSIGNED)
        return wide.astype(np.uint16)
    if img.mode == "P":
        img = img.convert("RGBA" if img.has_transparency_data else "RGB")
    elif img.mode in _PLAIN_MODES:
        img = img.convert(_PLAIN_MODES[img.mode])
    return np.asarray(img)


def _rawmode(img: Image.Image) -> str:
    """How the file of an image that is not loaded yet stores a pixel, in Pillow's words."""
    tiles = getattr(img, "tile", [])
    args = tiles[0].args if tiles else None
    return str(args[0] if isinstance(args, tuple) and args else args)


def _wide_samples(img: ImageFile.ImageFile, file: IO[bytes], bands: str, order: str) -> Samples:
    """The 16-bit samples of a file for which Pillow has 8-bit images only.

    The raw mode tells Pillow which byte of each sample to keep, so a second decode can keep the other one.
    """
    is_big = order == "B" or (order == "N" and sys.byteorder == "big")
    position = file.tell()
    plain = bands.replace("a", "A")
    low = _decoded_as(file, "RGBA" if bands == "LA" else f"{plain};16{'L' if is_big else 'B'}")
    premultiplied_high = _decoded_as(file, f"{plain};16{order}") if bands == "RGBa" else None
    file.seek(position)
    img.load()  # also finds the metadata behind the pixels
    if bands == "LA":  # two samples of two bytes, taken for one pixel of four
        return low.view(">u2")
    high = np.asarray(img) if premultiplied_high is None else premultiplied_high
    samples: Samples = np.stack((low, high), axis=-1).view("<u2")[..., 0]
    return samples if premultiplied_high is None else divided_by_alpha(samples)


def _decoded_as(file: IO[bytes], rawmode: str) -> Samples:
    """Decode a file as if it stored its pixels in another raw mode."""
    with Image.open(file, formats=_READABLE) as img:
        img.tile = [
            tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
            for tile in img.tile
        ]
        img.load()
        return np.asarray(img)


def _is_plain_and_wide(img: ImageFile.ImageFile) -> bool:
    """Whether this is a colour picture of Netpbm with numbers over 255, written as text."""
    tile = img.tile[0]
    return tile.codec_name == "ppm_plain" and img.mode == "RGB" and cast("tuple[str, int]", tile.args)[1] > 255


def _netpbm_samples(img: ImageFile.ImageFile, file: IO[bytes], *, is_plain: bool) -> Samples:
    """The samples of a PGM or PPM file with an unusual maximum: Pillow keeps 8 bits, slowly."""
    _, maximum = cast("tuple[str, int]", img.tile[0].args)
    stored = np.dtype(">u2" if maximum > 255 else "u1")
    shape = (img.height, img.width, 3) if img.mode == "RGB" else (img.height, img.width)
    count = int(np.prod(shape))
    file.seek(img.tile[0].offset)
    if is_plain:  # numbers and comments
        words = re.sub(rb"#[^\r\n]*", b"", file.read()).split(maxsplit=count)[:count]
        numbers = np.array(words).astype(np.uint16)
    else:
        data = file.read(count * stored.itemsize)
        numbers = np.frombuffer(data[: len(data) // stored.itemsize * stored.itemsize], stored)
    if len(numbers) < count:
        raise EOFError("the pixel data ends early")
    levels = np.arange(256**stored.itemsize, dtype=np.uint32)  # one lookup per sample instead of a division
    scaled = (np.minimum(levels, maximum) * (levels.size - 1) + maximum // 2) // maximum
    table = scaled.astype(stored.newbyteorder("="))
    samples: Samples = table[numbers.reshape(shape)]
    return samples


# --- metadata -----------------------------------------------------------------------------------------------


def _metadata(img: Image.Image) -> dict[str, Any]:
    """The metadata of a Pillow image as the fields of a Picture."""
    exif = None
    if isinstance(img, TiffImagePlugin.TiffImageFile):
        tags = _descriptive(img.getexif())
        exif = tags.tobytes() if len(tags) else None
    else:
        exif = img.info.get("exif") or _raw_profile(img, "exif")
    if isinstance(exif, bytes):
        exif = re.sub(rb"\A(?:Exif\0\0)+", b"", exif)
    found = {
        "icc": img.info.get("icc_profile") or _raw_profile(img, "icc"),
        "exif": exif,
        "xmp": img.info.get("xmp") or _raw_profile(img, "xmp"),
    }
    return {name: data if isinstance(data, bytes) and data else None for name, data in found.items()}


def _raw_profile(img: Image.Image, kind: str) -> bytes | None:
    """Metadata as ImageMagick wrote it into PNG: a text of hexadecimal digits after its name and length."""
    text = img.info.get(f"Raw profile type {kind}")
    if isinstance(text, str):
        with suppress(ValueError):  # not what it says
            return bytes.fromhex("".join(text.split()[2:]))
    return None


def _described(picture: Picture) -> Image.Exif:
    """The tags of its EXIF that describe a picture; none where they cannot be read."""
    if picture.exif is not None:
        with suppress(ImageError), _pillow("read", "it has no tags then"):  # not what it says
            stored = Image.Exif()
            stored.load(_EXIF_PREFIX + picture.exif)
            return _descriptive(stored)
    return Image.Exif()


def _descriptive(source: Image.Exif) -> Image.Exif:
    """The tags that describe the picture and hold for every file that it is written to."""
    tags = Image.Exif()
    for tag in _DESCRIPTIVE.intersection(source):
        tags[tag] = source[tag]
        if tag in (_EXIF_IFD, _GPS_IFD):
            # The interoperability directory is an offset into the source: it leads nowhere in another file.
            tags[tag] = {key: value for key, value in source.get_ifd(tag).items() if key != _INTEROP_IFD}
    return tags


# --- Pillow's manners ---------------------------------------------------------------------------------------


@contextmanager
def _pillow_is_quiet() -> Iterator[None]:
    """Keeps Pillow from warning, and lets it open pictures up to MAX_PIXELS and metadata as large as a file carries."""
    limit, text_limit = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if limit is not None:  # Pillow refuses what is larger than twice its limit
            Image.MAX_IMAGE_PIXELS = max(limit, MAX_PIXELS // 2)
        PngImagePlugin.MAX_TEXT_CHUNK = max(text_limit, MAX_METADATA_BYTES)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = limit, text_limit


_quiet = Shared(_pillow_is_quiet)


@contextmanager
def _pillow(done: str, advice: str) -> Iterator[None]:
    """Let Pillow work in silence, and turn what it raises, nearly anything, into an ImageError."""
    try:
        with _quiet:
            yield
    except ImageError:
        raise
    except UnidentifiedImageError as err:
        known = ", ".join(_READABLE)
        message = f"this is no picture that hvcodec can read: save it as PNG and take that (it reads {known})"
        raise ImageError(message) from err
    except Image.DecompressionBombError as err:
        raise ImageError(_TOO_LARGE) from err
    except MemoryError as err:
        raise ImageError(f"not enough memory: the picture cannot be {done}; cut it into parts") from err
    except Exception as err:
        raise ImageError(f"the picture cannot be {done} ({err or type(err).__name__}): {advice}") from err
