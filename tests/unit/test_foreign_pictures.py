"""Foreign pictures: every valid PNG is read exactly; damaged files of any format are refused, never worse."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from handmade import CHANNELS, DEPTHS, SIGNATURE, chunk, expected, header, png, psd, tiff
from PIL import Image, PngImagePlugin

from hvcodec.errors import ImageError
from hvcodec.image import Picture, read, to_array

KINDS = [(color, depth) for color, depths in DEPTHS.items() for depth in depths]


def values(height: int, width: int, color: int, depth: int) -> np.ndarray:
    rng = np.random.default_rng([height, width, color, depth])
    noise = rng.integers(0, 1 << depth, (height, width, CHANNELS[color]))
    # Some neighbours are equal, so that the filters meet ties.
    return np.where(rng.random(noise.shape) < 0.3, np.roll(noise, 1, axis=1), noise)


def palette(depth: int) -> np.ndarray:
    return np.random.default_rng(depth).integers(0, 256, (1 << depth, 3)).astype(np.uint8)


def palette_chunk(depth: int) -> bytes:
    return chunk(b"PLTE", palette(depth).tobytes())


def check_png(height: int, width: int, color: int, depth: int, **options: object) -> None:
    samples = values(height, width, color, depth)
    before = [*options.pop("before", ()), *([palette_chunk(depth)] if color == 3 else [])]
    data = png(samples, depth, color, before=before, **options)
    array = to_array(read(data))
    wanted = expected(samples, depth, palette(depth) if color == 3 else None)
    assert array.dtype == wanted.dtype
    np.testing.assert_array_equal(array, wanted)


# --- valid PNG --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "depth"), KINDS)
def test_every_kind_and_filter(color: int, depth: int, interlaced: bool) -> None:
    for filters in ((0,), (1,), (2,), (3,), (4,), (4, 3, 2, 1, 0)):
        check_png(11, 13, color, depth, interlaced=interlaced, filters=filters)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "depth"), [(0, 1), (0, 16), (2, 8), (3, 2), (3, 4), (4, 16), (6, 8)])
def test_sizes_from_1_to_40(color: int, depth: int, interlaced: bool) -> None:
    for size in range(1, 41):
        check_png(size, size, color, depth, interlaced=interlaced)
        check_png(size, 41 - size, color, depth, interlaced=interlaced)


@pytest.mark.parametrize(("color", "depth"), KINDS)
def test_pixel_data_in_many_and_empty_chunks(color: int, depth: int) -> None:
    for n_idat in (1, 2, 7, 60):
        for empty_idats in (False, True):
            check_png(12, 9, color, depth, n_idat=n_idat, empty_idats=empty_idats)


@pytest.mark.parametrize(("color", "depth"), KINDS)
def test_ancillary_chunks(color: int, depth: int) -> None:
    text = b"Comment\0" + bytes(range(32, 127))
    before = [
        chunk(b"gAMA", struct.pack(">I", 35000)),
        chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        chunk(b"sBIT", bytes([min(depth, 8)] * (3 if color == 3 else CHANNELS[color]))),
        chunk(b"pHYs", struct.pack(">IIB", 1, 4, 0)),
        chunk(b"tIME", struct.pack(">HBBBBB", 2000, 1, 1, 12, 34, 56)),
        chunk(b"tEXt", text),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1000))),
        chunk(b"iTXt", "Titel\0\0\0de\0Überschrift\0ein Würfel".encode()),
        chunk(b"vpAg", bytes(9)),
    ]
    check_png(6, 7, color, depth, before=before, after=[chunk(b"tEXt", text), chunk(b"prVt")])


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "depth"), [kind for kind in KINDS if kind[0] in (0, 2)])
def test_transparent_colours(color: int, depth: int, interlaced: bool) -> None:
    samples = values(9, 14, color, depth)
    key = samples[4, 7]
    data = png(samples, depth, color, interlaced=interlaced, before=[chunk(b"tRNS", key.astype(">u2").tobytes())])
    picture = read(data)
    np.testing.assert_array_equal(picture.pixels, expected(samples, depth))
    opaque = 65535 if depth == 16 else 255
    np.testing.assert_array_equal(picture.alpha, np.where((samples == key).all(axis=-1), 0, opaque))


@pytest.mark.parametrize("depth", DEPTHS[3])
def test_transparent_palettes(depth: int) -> None:
    samples = values(9, 14, 3, depth)
    for alphas in (bytes([0]), bytes([255, 0]), bytes(range(1 << depth))):
        picture = read(png(samples, depth, 3, before=[palette_chunk(depth), chunk(b"tRNS", alphas)]))
        table = np.full(256, 255)
        table[: len(alphas)] = list(alphas)
        np.testing.assert_array_equal(picture.pixels, palette(depth)[samples[..., 0]])
        np.testing.assert_array_equal(picture.alpha, table[samples[..., 0]])


def test_a_black_picture_is_not_taken_for_a_short_one() -> None:
    for color, depth in KINDS:
        before = [palette_chunk(depth)] if color == 3 else []
        for interlaced in (False, True):
            samples = np.zeros((5, 6, CHANNELS[color]), int)
            read(png(samples, depth, color, interlaced=interlaced, before=before))


def test_bytes_behind_the_end_are_left_alone() -> None:
    samples = values(5, 6, 2, 8)
    np.testing.assert_array_equal(read(png(samples, 8, 2) + b"more").pixels, samples)


# --- damaged PNG ------------------------------------------------------------------------------------------


def test_every_truncation_and_every_flipped_bit_of_a_png_is_refused() -> None:
    data = png(values(4, 5, 3, 4), 4, 3, before=[palette_chunk(4)], after=[chunk(b"tEXt", b"a\0b")])
    for end in range(len(data)):
        with pytest.raises(ImageError):
            read(data[:end])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ImageError):
            read(bytes(damaged))


def ihdr(*fields: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))


IDAT = chunk(b"IDAT", zlib.compress(bytes(100)))
IEND = chunk(b"IEND")
BROKEN = {
    "signature behind a converter of line ends": b"\x89PNG\n\x1a\n" + ihdr(4, 4, 8, 0, 0, 0, 0) + IDAT + IEND,
    "carriage returns added": SIGNATURE.replace(b"\n", b"\r\n") + ihdr(4, 4, 8, 0, 0, 0, 0) + IDAT + IEND,
    "signature without its high bit": b"\x09" + SIGNATURE[1:] + ihdr(4, 4, 8, 0, 0, 0, 0) + IDAT + IEND,
    "bit depth 0": SIGNATURE + ihdr(4, 4, 0, 2, 0, 0, 0) + IDAT + IEND,
    "bit depth 3": SIGNATURE + ihdr(4, 4, 3, 2, 0, 0, 0) + IDAT + IEND,
    "bit depth 99": SIGNATURE + ihdr(4, 4, 99, 2, 0, 0, 0) + IDAT + IEND,
    "colour with 4 bits": SIGNATURE + ihdr(4, 4, 4, 2, 0, 0, 0) + IDAT + IEND,
    "colour type 1": SIGNATURE + ihdr(4, 4, 8, 1, 0, 0, 0) + IDAT + IEND,
    "colour type 9": SIGNATURE + ihdr(4, 4, 8, 9, 0, 0, 0) + IDAT + IEND,
    "unknown compression": SIGNATURE + ihdr(4, 4, 8, 0, 1, 0, 0) + IDAT + IEND,
    "unknown filters": SIGNATURE + ihdr(4, 4, 8, 0, 0, 1, 0) + IDAT + IEND,
    "unknown interlacing": SIGNATURE + ihdr(4, 4, 8, 0, 0, 0, 2) + IDAT + IEND,
    "no width": SIGNATURE + ihdr(0, 4, 8, 0, 0, 0, 0) + IDAT + IEND,
    "no height": SIGNATURE + ihdr(4, 0, 8, 0, 0, 0, 0) + IDAT + IEND,
    "more pixels than anybody has": SIGNATURE + ihdr(1 << 30, 1 << 30, 8, 0, 0, 0, 0) + IDAT + IEND,
    "a short header": SIGNATURE + chunk(b"IHDR", bytes(12)) + IDAT + IEND,
    "no header": SIGNATURE + IDAT + IEND,
    "no pixel data": SIGNATURE + ihdr(4, 4, 8, 0, 0, 0, 0) + IEND,
    "empty pixel data": SIGNATURE + ihdr(4, 4, 8, 0, 0, 0, 0) + chunk(b"IDAT") + IEND,
    "no end": SIGNATURE + ihdr(4, 4, 8, 0, 0, 0, 0) + IDAT,
    "no palette": SIGNATURE + ihdr(4, 4, 8, 3, 0, 0, 0) + IDAT + IEND,
    "half a palette entry": SIGNATURE + ihdr(4, 4, 8, 3, 0, 0, 0) + chunk(b"PLTE", bytes(4)) + IDAT + IEND,
    "an unknown essential chunk": SIGNATURE + ihdr(4, 4, 8, 0, 0, 0, 0) + chunk(b"NEED") + IDAT + IEND,
    "a chunk type with a digit": SIGNATURE + ihdr(4, 4, 8, 0, 0, 0, 0) + chunk(b"a1Bc") + IDAT + IEND,
    "a wrong checksum": SIGNATURE + ihdr(4, 4, 8, 0, 0, 0, 0) + IDAT[:-1] + b"\0" + IEND,
    "filter 5": SIGNATURE + ihdr(4, 4, 8, 0, 0, 0, 0) + chunk(b"IDAT", zlib.compress(b"\5" * 20)) + IEND,
    "no deflate stream": SIGNATURE + ihdr(4, 4, 8, 0, 0, 0, 0) + chunk(b"IDAT", bytes(range(60))) + IEND,
}


@pytest.mark.parametrize("name", BROKEN)
def test_png_that_breaks_a_rule_is_refused(name: str) -> None:
    with pytest.raises(ImageError):
        read(BROKEN[name])


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "depth"), KINDS)
def test_missing_rows_are_noticed(color: int, depth: int, interlaced: bool) -> None:
    samples = values(8, 8, color, depth)
    before = [palette_chunk(depth)] if color == 3 else []
    for size in ((8, 9), (8, 16), (8, 100)):
        data = png(samples, depth, color, interlaced=interlaced, before=before)
        data = data.replace(header(8, 8, depth, color, int(interlaced)), header(*size, depth, color, int(interlaced)))
        with pytest.raises(ImageError):
            read(data)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_missing_strips_of_tiff_are_noticed(dtype: str) -> None:
    samples = values(8, 8, 2, 8).astype(dtype)
    for rows in (9, 16, 4000):
        with pytest.raises(ImageError, match=r"missing|truncated"):
            read(tiff(samples, t257=rows))


def test_a_bomb_of_text_is_refused() -> None:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 26)))
    with pytest.raises(ImageError):
        read(png(values(4, 4, 2, 8), 8, 2, before=[text]))


# --- damage in every format -------------------------------------------------------------------------------


def photo(mode: str = "RGB") -> Image.Image:
    ramp = np.add.outer(np.arange(31) * 3, np.arange(45) * 2)[..., None] + np.arange(4) * 40
    noise = np.random.default_rng(0).integers(0, 30, ramp.shape)
    return Image.fromarray(((ramp + noise) % 256).astype(np.uint8)).convert(mode)


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    photo(mode).save(out, kind, **options)
    return out.getvalue()


def tagged_png() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "<x/>", zip=True)
    tags = Image.Exif()
    tags[0x0112] = 6
    return saved("PNG", pnginfo=info, exif=tags, icc_profile=bytes(range(200)))


FILES = {
    "png": lambda: saved("PNG"),
    "png-palette": lambda: saved("PNG", "P"),
    "png-16": lambda: png(values(20, 20, 6, 16), 16, 6, interlaced=True),
    "png-metadata": tagged_png,
    "apng": lambda: saved("PNG", save_all=True, append_images=[photo().rotate(180)]),
    "jpeg": lambda: saved("JPEG", exif=b"Exif\0\0" + bytes(range(60)), icc_profile=bytes(300)),
    "jpeg-progressive": lambda: saved("JPEG", "L", progressive=True),
    "mpo": lambda: saved("MPO", save_all=True, append_images=[photo().rotate(180)]),
    "gif": lambda: saved("GIF", "P"),
    "gif-animated": lambda: saved("GIF", "P", save_all=True, append_images=[photo().rotate(180)]),
    "webp": lambda: saved("WEBP", "RGBA", icc_profile=bytes(300), xmp=b"<x/>"),
    "webp-lossless": lambda: saved("WEBP", lossless=True),
    "bmp": lambda: saved("BMP"),
    "bmp-palette": lambda: saved("BMP", "P"),
    "tiff": lambda: saved("TIFF"),
    "tiff-deflate": lambda: saved("TIFF", compression="tiff_adobe_deflate"),
    "tiff-lzw": lambda: saved("TIFF", "RGBA", compression="tiff_lzw"),
    "tiff-jpeg": lambda: saved("TIFF", compression="jpeg"),
    "tiff-fax": lambda: saved("TIFF", "1", compression="group4"),
    "tiff-16": lambda: tiff(values(10, 10, 2, 16).astype(np.uint16), t274=6),
    "tiff-16-deflate": lambda: tiff(values(10, 10, 6, 16).astype(np.uint16), deflate=True, big_endian=True),
    "avif": lambda: saved("AVIF", speed=10),
    "ppm": lambda: saved("PPM"),
    "ppm-16": lambda: b"P6 5 6 1000\n" + bytes(180),
    "ppm-text": lambda: b"P3\n# text\n3 3\n255\n" + b"12 250 3\n" * 9,
    "jp2": lambda: saved("JPEG2000"),
    "ico": lambda: saved("ICO", "RGBA"),
    "ico-bmp": lambda: saved("ICO", "RGBA", bitmap_format="bmp"),
    "psd": lambda: psd(values(12, 12, 2, 8)),
    "sgi": lambda: saved("SGI"),
}


def assert_picture_or_image_error(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        assert isinstance(read(data), Picture)


@pytest.mark.parametrize("kind", FILES)
def test_damage_gives_a_picture_or_an_image_error(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = FILES[kind]()
    for end in range(0, len(data), 37):
        assert_picture_or_image_error(data[:end])
    rng = np.random.default_rng(len(data))
    # The beginning holds the structure: each of its bytes changes; of the rest, some.
    places = [*range(min(len(data), 160)), *rng.integers(0, len(data), 60)]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= int(rng.integers(1, 256))
        assert_picture_or_image_error(bytes(damaged))
    for place in rng.integers(0, len(data), 20):
        assert_picture_or_image_error(data[:place] + data[place + 3 :])
        assert_picture_or_image_error(data[:place] + rng.bytes(5) + data[place:])
    assert capsys.readouterr() == ("", "")  # libtiff itself does write to the standard error of the process


@pytest.mark.parametrize("kind", sorted(set(FILES) - {"apng", "gif-animated"}))
def test_the_undamaged_files_are_read(kind: str) -> None:
    assert read(FILES[kind]()).width > 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"just some text\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"%PDF-1.7\n",
        bytes(1000),
        b"\xff" * 1000,
        bytes(range(256)) * 8,
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="save it as PNG"):
        read(data)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="save it as PNG"):
        read(path)
    assert list(tmp_path.iterdir()) == [path]
