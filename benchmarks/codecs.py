"""The codecs that are compared: each turns a picture into the bytes of a file, and back.

A codec is a frozen object with a name, a version and the settings of its curve; `catalogue()` lists all of
them, and those that cannot run here with the reason. Reference codecs run on one thread: curves do not depend
on it, and times become comparable.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol, runtime_checkable

from PIL import Image, features

from .environment import package_version


@runtime_checkable
class Codec(Protocol):
    """What the benchmarks need of a codec; hvcodec and the test doubles have this shape too."""

    @property
    def name(self) -> str:
        """File name of its results, such as `webp-m6`."""

    @property
    def title(self) -> str:
        """What a reader calls it, such as `WebP`."""

    @property
    def suffix(self) -> str:
        """Suffix of its files."""

    @property
    def version(self) -> str:
        """Whatever changes its files or its pictures: cached rows of another version are not used."""

    @property
    def settings(self) -> Sequence[float]:
        """The qualities of its rate-distortion curve, from small files to large ones."""

    @property
    def limits(self) -> tuple[float, float, float]:
        """Lowest quality, highest quality and smallest useful step of the search for a file size."""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a file."""

    def decode(self, data: bytes) -> Image.Image:
        """The picture in a file's bytes, as 8-bit RGB."""

    def describe(self, data: bytes) -> dict[str, Any]:
        """What the bytes tell about themselves beyond their number, such as the bytes of each layer."""


@dataclass(frozen=True)
class Unavailable:
    """A codec that cannot run here; reports list it with the reason."""

    name: str
    title: str
    reason: str


@dataclass(frozen=True)
class PillowCodec:
    """A codec that Pillow or one of its plugins writes and reads."""

    name: str
    title: str
    suffix: str
    version: str
    settings: Sequence[float]
    limits: tuple[float, float, float]
    save: Callable[[Image.Image, IO[bytes], float], None]

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a file."""
        target = io.BytesIO()
        self.save(image, target, quality)
        return target.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        """The picture in a file's bytes, as 8-bit RGB."""
        with Image.open(io.BytesIO(data)) as opened:
            return opened.convert("RGB")

    def describe(self, data: bytes) -> dict[str, Any]:
        """Nothing: these formats are not looked into."""
        return {}


Entry = Codec | Unavailable


def catalogue() -> dict[str, Entry]:
    """Every codec of the benchmarks by name; the first are hvcodec's."""
    from .adapter import hvcodec_entries

    return {entry.name: entry for entry in (*hvcodec_entries(), *reference_codecs())}


def reference_codecs() -> list[Entry]:
    """The codecs that people use."""
    return [*_jpeg(), _jpeg2000(), _webp(), *_avif(), _jpeg_xl(), _heic()]


def _pillow_has(feature: str) -> bool:
    return bool(features.check(feature))


def _version(feature: str, library: str) -> str:
    return f"Pillow {package_version('pillow')} {library} {features.version(feature)}"


def _jpeg() -> list[Entry]:
    found: list[Entry] = []
    for name, subsampling in (("jpeg-444", "4:4:4"), ("jpeg-420", "4:2:0")):
        title = f"JPEG {subsampling}"
        if not _pillow_has("jpg"):
            found.append(Unavailable(name, title, "this Pillow was built without JPEG"))
            continue

        def save(image: Image.Image, file: IO[bytes], quality: float, subsampling: str = subsampling) -> None:
            image.save(file, "JPEG", quality=round(quality), subsampling=subsampling, optimize=True)

        version = _version("libjpeg_turbo", "libjpeg-turbo") + f" optimize {subsampling}"
        settings = (5, 10, 20, 35, 50, 65, 80, 90, 95)
        found.append(PillowCodec(name, title, ".jpg", version, settings, (1, 95, 1), save))
    return found


def _jpeg2000() -> Entry:
    name, title = "jpeg2000", "JPEG 2000"
    if not _pillow_has("jpg_2000"):
        return Unavailable(name, title, "this Pillow was built without OpenJPEG")

    def save(image: Image.Image, file: IO[bytes], bpp: float) -> None:
        rate = {"quality_mode": "rates", "quality_layers": [24.0 / bpp]}
        image.save(file, "JPEG2000", irreversible=True, mct=1, no_jp2=True, **rate)

    version = _version("jpg_2000", "OpenJPEG") + " 9/7 ICT rate-targeted codestream"
    settings = (0.1, 0.2, 0.35, 0.6, 1.0, 1.5, 2.2, 3.2)
    return PillowCodec(name, title, ".j2k", version, settings, (0.02, 12.0, 0.001), save)


def _webp() -> Entry:
    name, title = "webp-m6", "WebP"
    if not _pillow_has("webp"):
        return Unavailable(name, title, "this Pillow was built without WebP")

    def save(image: Image.Image, file: IO[bytes], quality: float) -> None:
        image.save(file, "WEBP", quality=quality, method=6)

    settings = (1, 5, 15, 30, 50, 70, 82, 90, 95)
    version = _version("webp", "libwebp") + " method 6"
    return PillowCodec(name, title, ".webp", version, settings, (0, 100, 1), save)


def _avif() -> list[Entry]:
    variants: list[tuple[str, str, dict[str, str], Sequence[float]]] = [
        ("avif-s4", "AVIF", {}, (15, 25, 40, 55, 68, 80)),
        ("avif-s4-psnr", "AVIF, PSNR tune", {"tune": "psnr"}, (12, 22, 35, 48, 62, 76, 88)),
    ]
    if not _pillow_has("avif"):
        reason = "this Pillow was built without AVIF (11.3 or later has it)"
        return [Unavailable(name, title, reason) for name, title, _, _ in variants]
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    found: list[Entry] = []
    for name, title, advanced, settings in variants:

        def save(image: Image.Image, file: IO[bytes], quality: float, advanced: dict[str, str] = advanced) -> None:
            options = {"speed": 4, "subsampling": "4:4:4", "max_threads": 1, "advanced": advanced}
            image.save(file, "AVIF", quality=round(quality), **options)

        version = _version("avif", "libavif") + f" 4:4:4 speed 4 {advanced.get('tune', 'default tune')}"
        found.append(PillowCodec(name, title, ".avif", version, settings, (0, 99, 1), save))
    return found


def _jpeg_xl() -> Entry:
    name, title = "jxl-e7", "JPEG XL"
    try:
        plugin = importlib.import_module("pillow_jxl.JpegXLImagePlugin")
    except ImportError:
        return Unavailable(name, title, "pillow-jxl-plugin is not installed (pip install 'hvcodec[bench]')")
    vars(plugin)["DECODE_THREADS"] = 0  # the plugin's way to say: no worker threads

    def save(image: Image.Image, file: IO[bytes], quality: float) -> None:
        image.save(file, "JXL", quality=quality, effort=7, num_threads=0)

    version = f"pillow-jxl-plugin {package_version('pillow-jxl-plugin')} effort 7"
    # Below quality 19 libjxl codes at half the size: a step down that no user would choose but for the end.
    settings = (1, 20, 35, 55, 70, 80, 87, 92, 95)
    return PillowCodec(name, title, ".jxl", version, settings, (0, 99, 0.25), save)


def _heic() -> Entry:
    name, title = "heic", "HEIC"
    try:
        plugin = importlib.import_module("pillow_heif")
    except ImportError:
        return Unavailable(name, title, "pillow-heif is not installed (pip install 'hvcodec[bench]')")
    plugin.register_heif_opener()
    plugin.options.DECODE_THREADS = 1
    if not plugin.libheif_info()["encoders"]:
        return Unavailable(name, title, "this pillow-heif has no HEVC encoder")

    def save(image: Image.Image, file: IO[bytes], quality: float) -> None:
        tuned = {"preset": "slower", "tune": "psnr"}
        options = {"chroma": 444, "matrix_coefficients": 1, "enc_params": tuned}
        image.save(file, "HEIF", quality=round(quality), **options)

    version = f"pillow-heif {package_version('pillow-heif')} 4:4:4 BT.709 x265 slower, PSNR tune"
    settings = (8, 17, 27, 37, 46, 55, 65)
    return PillowCodec(name, title, ".heic", version, settings, (0, 100, 1), save)
