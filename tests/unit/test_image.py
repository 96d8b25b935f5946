"""image, picture, png and files: pictures from arrays, Pillow images and files, and back."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade import chunk, expected, png, psd, tiff
from PIL import Image, ImageOps, PngImagePlugin, features

from hvcodec import files, image
from hvcodec.errors import ImageError
from hvcodec.image import Picture, from_array, from_pillow, read, to_array, to_pillow, write

ICC = b"a colour profile, " * 9000  # longer than one marker of JPEG
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a name="\xc3\xa4"/></x:xmpmeta>'


def samples(*shape: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    kind = np.dtype(dtype)
    return np.random.default_rng(seed).integers(0, 256**kind.itemsize, shape).astype(kind)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags.update({0x010F: "Camera", 0x0110: "Model 1", 0x0112: orientation, 0x8298: "Someone"})
    tags[0x8769] = {0x829A: 0.005, 0x9003: "2024:05:06 07:08:09"}
    return tags.tobytes().removeprefix(b"Exif\0\0")


def tags_of(data: bytes | None) -> dict[int, object]:
    """The EXIF tags in some bytes, with those of the photograph's own directory."""
    assert data is not None
    tags = Image.Exif()
    tags.load(data)
    return {k: v for k, v in tags.items() if k != 0x8769} | dict(tags.get_ifd(0x8769))


def saved(img: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    img.save(out, kind, **options)
    return out.getvalue()


# --- arrays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1), (1, 9, 3)])
def test_arrays_come_back(shape: tuple[int, ...], dtype: str) -> None:
    array = samples(*shape, dtype=dtype)
    picture = from_array(array)
    assert (picture.height, picture.width) == shape[:2]
    assert picture.depth == 8 * array.itemsize
    assert picture.is_grey == (len(shape) == 2 or shape[2] < 3)
    assert (picture.alpha is not None) == (len(shape) == 3 and shape[2] in (2, 4))
    back = to_array(picture)
    np.testing.assert_array_equal(back, array.reshape(back.shape))
    assert picture.pixels.flags.c_contiguous
    assert picture.pixels.dtype.isnative


@pytest.mark.parametrize("dtype", ["int16", "int64", "float32", "bool", "uint32"])
def test_arrays_of_another_type_are_a_type_error(dtype: str) -> None:
    with pytest.raises(TypeError, match="uint8 or uint16"):
        from_array(np.zeros((4, 4), dtype))


@pytest.mark.parametrize("shape", [(), (4,), (4, 4, 5), (4, 4, 0), (1, 4, 4, 3), (0, 4), (4, 0, 3)])
def test_arrays_of_another_shape_are_a_value_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        from_array(np.zeros(shape, np.uint8))


def test_a_picture_checks_its_alpha() -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(TypeError, match="alpha"):
        Picture(pixels, np.zeros((4, 5), np.uint16))
    with pytest.raises(ValueError, match="alpha"):
        Picture(pixels, np.zeros((5, 4), np.uint8))
    with pytest.raises(TypeError, match="pixels"):
        Picture(np.zeros((4, 5), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pixels"):
        Picture(np.zeros((4, 5, 4), np.uint8))


# --- sources ----------------------------------------------------------------------------------------------


def test_every_kind_of_source(tmp_path: Path) -> None:
    pixels = samples(6, 8, 3)
    data = saved(Image.fromarray(pixels), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with open(path, "rb") as file:
        sources = [path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file]
        for source in sources:
            np.testing.assert_array_equal(read(source).pixels, pixels)


def test_a_file_is_read_from_where_it_stands() -> None:
    pixels = samples(6, 8, 3)
    file = io.BytesIO(b"something else" + saved(Image.fromarray(pixels), "PNG"))
    file.seek(14)
    np.testing.assert_array_equal(read(file).pixels, pixels)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    pixels = samples(6, 8, 3)
    data = saved(Image.fromarray(pixels), "PNG")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    try:
        np.testing.assert_array_equal(read(pipe).pixels, pixels)
    finally:
        writer.join()


def test_what_the_file_system_says_passes_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


# --- modes ------------------------------------------------------------------------------------------------


def rgba() -> Image.Image:
    return Image.fromarray(samples(9, 11, 4))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
def test_plain_modes_from_files(mode: str) -> None:
    img = rgba().convert(mode)
    picture = read(saved(img, "PNG"))
    np.testing.assert_array_equal(to_array(picture), np.asarray(img.convert("L") if mode == "1" else img))
    assert picture.depth == 8


@pytest.mark.parametrize(("mode", "plain"), [("La", "LA"), ("RGBa", "RGBA"), ("RGBX", "RGB"), ("PA", "RGBA")])
def test_unusual_modes_of_pillow_images(mode: str, plain: str) -> None:
    source = rgba().convert("P").convert("PA") if mode == "PA" else rgba().convert(plain).convert(mode)
    np.testing.assert_array_equal(to_array(from_pillow(source)), np.asarray(source.convert(plain)))


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(0, 250, 10))])
def test_palettes_become_colours(transparency: int | bytes | None) -> None:
    img = rgba().convert("RGB").quantize(25)
    options = {} if transparency is None else {"transparency": transparency}
    array = to_array(read(saved(img, "PNG", **options)))
    np.testing.assert_array_equal(array[..., :3], np.asarray(img.convert("RGB")))
    index = np.asarray(img)
    if transparency is None:
        assert array.shape[2] == 3
    elif isinstance(transparency, int):
        np.testing.assert_array_equal(array[..., 3], np.where(index == transparency, 0, 255))
    else:
        table = np.full(256, 255)
        table[: len(transparency)] = list(transparency)
        np.testing.assert_array_equal(array[..., 3], table[index])


def test_a_gif_with_transparency() -> None:
    img = rgba().convert("RGB").quantize(25)
    array = to_array(read(saved(img, "GIF", transparency=5)))
    assert array.shape[2] == 4
    assert ((array[..., 3] == 0) == (np.asarray(img) == 5)).all()


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_16_bit_grey_pillow_images(mode: str) -> None:
    pixels = samples(9, 11, dtype="uint16")
    img = Image.new(mode, (11, 9))
    if mode == "I":
        img = Image.fromarray(pixels.astype(np.int32))
    else:
        img.frombytes(pixels.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    picture = from_pillow(img)
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, pixels)


@pytest.mark.parametrize("value", [-1, 65536])
def test_32_bit_grey_outside_16_bits_is_refused(value: int) -> None:
    with pytest.raises(ImageError, match="16-bit PNG"):
        from_pillow(Image.new("I", (4, 4), value))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV", "F"])
def test_modes_that_are_not_taken(mode: str) -> None:
    with pytest.raises(ImageError, match="take that"):
        from_pillow(Image.new(mode, (4, 4)))


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF"), ("F", "TIFF")])
def test_files_of_modes_that_are_not_taken(mode: str, kind: str) -> None:
    with pytest.raises(ImageError, match="take that"):
        read(saved(Image.new(mode, (8, 8)), kind))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_animations_and_pages_are_refused(kind: str) -> None:
    frames = [Image.fromarray(samples(16, 16, 3, seed=i)) for i in range(3)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="extract one"):
        read(data)
    with pytest.raises(ImageError, match="extract one"):
        from_pillow(Image.open(io.BytesIO(data)))


def test_a_photograph_with_a_second_picture_behind_it_is_the_first_one() -> None:
    first, second = Image.fromarray(samples(16, 16, 3)), Image.fromarray(samples(8, 8, 3))
    picture = read(saved(first, "MPO", save_all=True, append_images=[second], quality=100))
    assert (picture.width, picture.height) == (16, 16)


def test_photoshop_files() -> None:
    pixels = samples(7, 9, 3)
    np.testing.assert_array_equal(read(psd(pixels)).pixels, pixels)
    with pytest.raises(ImageError, match="CMYK"):
        read(psd(samples(7, 9, 4), color_mode=4))


@pytest.mark.parametrize(("maximum", "shape"), [(100, (5, 6)), (1000, (5, 6)), (100, (5, 6, 3)), (1000, (5, 6, 3))])
def test_netpbm_files_written_as_text(maximum: int, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, maximum + 1, shape)
    text = " # 12\n".join(map(str, values.ravel()))
    data = f"P{2 if len(shape) == 2 else 3}\n6 5\n{maximum}\n{text}\n".encode()
    picture = read(data)
    top = 65535 if maximum > 255 else 255
    assert picture.pixels.dtype == (np.uint16 if maximum > 255 else np.uint8)
    np.testing.assert_allclose(picture.pixels, values * top / maximum, atol=1)
    with pytest.raises(ImageError):
        read(data[: len(data) // 2])


@pytest.mark.parametrize(("maximum", "shape"), [(15, (5, 6)), (1000, (5, 6)), (100, (5, 6, 3)), (65535, (5, 6, 3))])
def test_netpbm_files_are_scaled_to_the_full_range(maximum: int, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, maximum + 1, shape)
    data = b"P%d\n6 5\n%d\n" % (5 if len(shape) == 2 else 6, maximum)
    data += values.astype(">u2" if maximum > 255 else "u1").tobytes()
    picture = read(data)
    top = 65535 if maximum > 255 else 255
    assert picture.pixels.dtype == (np.uint16 if maximum > 255 else np.uint8)
    np.testing.assert_array_equal(picture.pixels, np.floor(values * top / maximum + 0.5))
    with pytest.raises(ImageError, match="early"):
        read(data[:-1])


# --- full precision ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("color", [0, 2, 4, 6])
def test_16_bit_png_at_full_precision(color: int, interlaced: bool) -> None:
    values = samples(13, 17, {0: 1, 2: 3, 4: 2, 6: 4}[color], dtype="uint16")
    data = png(values, 16, color, interlaced=interlaced)
    np.testing.assert_array_equal(to_array(read(data)), expected(values, 16))
    with Image.open(io.BytesIO(data)) as img:  # not loaded: still at full precision
        np.testing.assert_array_equal(to_array(from_pillow(img)), expected(values, 16))
        np.testing.assert_array_equal(  # and Pillow's own view of it is as ever
            np.asarray(img), np.asarray(Image.open(io.BytesIO(data)))
        )


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff_at_full_precision(tmp_path: Path, channels: int, big_endian: bool, deflate: bool) -> None:
    values = samples(13, 17, channels, dtype="uint16")
    data = tiff(values, big_endian=big_endian, deflate=deflate)
    np.testing.assert_array_equal(to_array(read(data)), expected(values, 16))
    path = tmp_path / "a.tif"  # libtiff reads files by another way than bytes
    path.write_bytes(data)
    np.testing.assert_array_equal(to_array(read(path)), expected(values, 16))
    with Image.open(path) as img:
        np.testing.assert_array_equal(to_array(from_pillow(img)), expected(values, 16))


def test_16_bit_tiff_with_premultiplied_alpha() -> None:
    values = samples(13, 17, 4, dtype="uint16").astype(np.int64)
    values[0, :, 3] = 0
    stored = values.copy()
    stored[..., :3] = values[..., :3] * values[..., 3:] // 65535
    picture = read(tiff(stored.astype(np.uint16), t338=1))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, values[..., 3])
    again = picture.pixels.astype(np.int64) * values[..., 3:] / 65535
    np.testing.assert_allclose(again, stored[..., :3], atol=0.51)


def test_tiff_where_white_is_zero() -> None:
    for dtype in ("uint8", "uint16"):
        values = samples(5, 6, 1, dtype=dtype)
        np.testing.assert_array_equal(read(tiff(values, t262=0)).pixels, ~values[..., 0])


def test_12_bit_tiff_fills_16_bits() -> None:
    data = tiff(np.array([[[0xAB], [0xCD], [0xEF]]], np.uint8), t256=2, t258=12)
    assert read(data).pixels.tolist() == [[0xABCA, 0xDEFD]]


def test_tiff_layouts_that_are_not_taken() -> None:
    values = samples(5, 6, 3, dtype="uint16")
    with pytest.raises(ImageError, match="planes"):
        read(tiff(values, t284=2))
    with pytest.raises(ImageError, match="signed"):
        read(tiff(values[..., :1], t339=2))
    with pytest.raises(ImageError, match="signed"):
        read(tiff(values[..., :1].astype(np.uint8), t339=2))
    with pytest.raises(ImageError, match="signed"):
        read(tiff(samples(5, 6, 1, dtype="uint32")))


def test_transparent_colours_of_png_become_alpha() -> None:
    values = samples(9, 9, 3, dtype="uint16")
    values[2:4] = (300, 70, 65000)
    key = chunk(b"tRNS", np.array((300, 70, 65000), ">u2").tobytes())
    picture = read(png(values, 16, 2, before=[key]))
    assert picture.alpha is not None
    assert picture.alpha.dtype == np.uint16
    np.testing.assert_array_equal(picture.alpha == 0, (values == (300, 70, 65000)).all(axis=-1))


# --- metadata ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "channels"),
    [("jpg", 1), ("jpg", 3), *((kind, n) for kind in ("png", "webp", "tif", "avif") for n in (1, 3, 4))],
)
def test_metadata_survive(kind: str, channels: int) -> None:
    array = samples(16, 24, channels)
    plain = from_array(array)
    picture = Picture(plain.pixels, plain.alpha, ICC, exif(6), XMP)
    back = read(image.encode(picture, kind))
    assert (back.width, back.height) == (24, 16)  # the orientation is not applied
    assert back.icc == ICC
    assert back.xmp == XMP
    assert tags_of(back.exif) == tags_of(picture.exif)
    assert tags_of(back.exif)[0x0112] == 6
    if kind not in ("jpg", "avif"):
        same = array if channels > 1 or kind != "webp" else np.repeat(array, 3, axis=2)  # no grey in WebP
        np.testing.assert_array_equal(to_array(back).reshape(same.shape), same)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_metadata_survive_in_16_bit_png(channels: int) -> None:
    plain = from_array(samples(16, 24, channels, dtype="uint16"))
    picture = Picture(plain.pixels, plain.alpha, ICC, exif(6), XMP)
    back = read(image.encode(picture, "png"))
    np.testing.assert_array_equal(to_array(back), to_array(picture))
    assert (back.icc, back.exif, back.xmp) == (ICC, picture.exif, XMP)


def test_large_metadata_of_a_png_are_read() -> None:
    before = PngImagePlugin.MAX_TEXT_CHUNK
    large = Picture(samples(8, 8, 3), icc=bytes(3 << 19), xmp=b" " * (3 << 19))
    for picture in (large, replace(large, pixels=large.pixels.astype(np.uint16))):
        back = read(image.encode(picture, "png"))
        assert (back.icc, back.xmp) == (picture.icc, picture.xmp)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", " " * (3 << 19), zip=True)
    assert read(saved(Image.new("RGB", (4, 4)), "PNG", pnginfo=info)).xmp == large.xmp
    assert before == PngImagePlugin.MAX_TEXT_CHUNK


def test_metadata_behind_the_pixels_of_a_png() -> None:
    for color, depth in ((2, 8), (2, 16), (4, 16)):
        values = samples(5, 5, {2: 3, 4: 2}[color], dtype=f"uint{depth}")
        text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
        picture = read(png(values, depth, color, after=[text, chunk(b"eXIf", exif(3))]))
        assert (picture.exif, picture.xmp) == (exif(3), XMP)


def test_metadata_as_imagemagick_wrote_them_into_png() -> None:
    info = PngImagePlugin.PngInfo()
    for kind, data in {"exif": b"Exif\0\0" + exif(8), "icc": ICC, "xmp": XMP}.items():
        lines = [data.hex()[i : i + 72] for i in range(0, 2 * len(data), 72)]
        info.add_text(f"Raw profile type {kind}", "\n".join(["", kind, f"{len(data):8}", *lines]), zip=True)
    back = read(saved(Image.new("RGB", (4, 4)), "PNG", pnginfo=info))
    assert (back.exif, back.icc, back.xmp) == (exif(8), ICC, XMP)


def test_exif_that_is_none_is_passed_over() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n       8\nzzzz")
    assert read(saved(Image.new("RGB", (4, 4)), "PNG", pnginfo=info)).exif is None


@pytest.mark.parametrize(("kind", "kept"), [("png", True), ("tif", True), ("webp", False), ("avif", False)])
def test_a_grey_profile_needs_a_grey_file(kind: str, kept: bool) -> None:
    profile = bytes(16) + b"GRAY" + bytes(108)
    grey = Picture(samples(16, 24, 1)[..., 0], icc=profile)
    assert read(image.encode(grey, kind)).icc == (profile if kept else None)
    assert read(image.encode(Picture(samples(16, 24, 3), icc=ICC), kind)).icc == ICC


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("deflate", [False, True])
def test_tiff_orientation_stays_metadata(orientation: int, dtype: str, deflate: bool) -> None:
    values = samples(5, 8, 3, dtype=dtype)
    picture = read(tiff(values, t274=orientation, deflate=deflate))
    np.testing.assert_array_equal(picture.pixels, values)
    assert tags_of(picture.exif)[274] == orientation


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_samples_are_turned_as_viewers_turn_them(orientation: int | None) -> None:
    picture = Picture(samples(5, 8, 3), exif=None if orientation is None else exif(orientation))
    shown = np.asarray(ImageOps.exif_transpose(image.to_pillow(picture)))
    np.testing.assert_array_equal(image.as_displayed(picture), shown)
    np.testing.assert_array_equal(image.as_stored(shown, picture), picture.pixels)


def test_empty_metadata_are_none() -> None:
    picture = Picture(samples(5, 8, 3), icc=b"", exif=b"", xmp=b"")
    assert (picture.icc, picture.exif, picture.xmp) == (None, None, None)
    for kind in ("png", "jpg", "webp", "tif", "avif"):
        image.encode(picture, kind)


@pytest.mark.parametrize("tags", [b"II*\0\xff\xff\xff\xff", b"no directory of tags", b"II*\0"])
def test_exif_that_cannot_be_read_is_told_where_it_is_left_out(tags: bytes) -> None:
    picture = Picture(samples(5, 8, 3), exif=tags)
    for kind, lost in {"png": [], "tif": ["exif"]}.items():
        assert image.left_out(picture, kind) == lost
        assert read(image.encode(picture, kind)).exif == (None if lost else tags)
    assert image.left_out(Picture(samples(5, 8, 3), exif=exif(6)), "tif") == []
    assert image.left_out(Picture(samples(5, 8, 3)), "tif") == []


def test_exif_that_cannot_be_read_turns_nothing() -> None:
    picture = Picture(samples(5, 8, 3), exif=b"no directory of tags")
    np.testing.assert_array_equal(image.as_displayed(picture), picture.pixels)


def test_a_plain_file_has_no_metadata() -> None:
    for kind in ("png", "jpg", "webp", "tif", "avif"):
        back = read(image.encode(from_array(samples(8, 8, 3)), kind))
        assert (back.icc, back.exif, back.xmp) == (None, None, None), kind


def test_tags_about_storage_do_not_reach_another_tiff() -> None:
    tags = Image.Exif()
    tags.update({256: 9999, 257: 9999, 258: 16, 262: 6, 277: 1, 271: "Camera"})
    picture = Picture(samples(8, 8, 3), exif=tags.tobytes().removeprefix(b"Exif\0\0"))
    back = read(image.encode(picture, "tiff"))
    np.testing.assert_array_equal(back.pixels, picture.pixels)
    assert tags_of(back.exif) == {271: "Camera"}


# --- Pillow images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "mode"),
    [
        ((5, 6), "uint8", "L"),
        ((5, 6, 2), "uint8", "LA"),
        ((5, 6, 3), "uint8", "RGB"),
        ((5, 6, 4), "uint8", "RGBA"),
        ((5, 6), "uint16", "I;16"),
    ],
)
def test_to_pillow_and_back(shape: tuple[int, ...], dtype: str, mode: str) -> None:
    plain = from_array(samples(*shape, dtype=dtype))
    img = to_pillow(Picture(plain.pixels, plain.alpha, ICC, exif(2), XMP))
    assert img.mode == mode
    back = from_pillow(img)
    np.testing.assert_array_equal(to_array(back), to_array(plain))
    assert (back.icc, back.exif, back.xmp) == (ICC, exif(2), XMP)


def test_what_pillow_cannot_hold() -> None:
    for channels in (2, 3, 4):
        with pytest.raises(ImageError, match="array"):
            to_pillow(from_array(samples(4, 4, channels, dtype="uint16")))


def test_from_pillow_takes_images_only() -> None:
    with pytest.raises(TypeError, match="Pillow image"):
        from_pillow(np.zeros((4, 4), np.uint8))  # type: ignore[arg-type]


def test_an_image_whose_file_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(samples(4, 4, 3)).save(path)
    with Image.open(path) as img:
        pass
    with pytest.raises(ImageError, match="open it again"):
        from_pillow(img)


# --- writing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["png", "PNG", "tif", "tiff", "webp"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_lossless_formats_by_extension(tmp_path: Path, extension: str, channels: int) -> None:
    picture = from_array(samples(9, 7, channels))
    write(picture, tmp_path / f"a.{extension}")
    back = read(tmp_path / f"a.{extension}")
    pixels = picture.pixels if back.pixels.ndim == picture.pixels.ndim else np.dstack([picture.pixels] * 3)
    np.testing.assert_array_equal(back.pixels, pixels)
    if channels != 3:
        np.testing.assert_array_equal(back.alpha, picture.alpha)


@pytest.mark.parametrize(("name", "peak"), [("a.bmp", 0), ("a.ppm", 0), ("a.jpg", 12), ("a.jpeg", 12), ("a.avif", 12)])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_formats_by_extension(tmp_path: Path, name: str, peak: int, channels: int) -> None:
    gradient = np.add.outer(np.arange(40), np.arange(30))[..., None] + np.arange(channels) * 50
    picture = from_array(gradient.astype(np.uint8))
    write(picture, str(tmp_path / name))
    back = read(tmp_path / name)
    pixels = back.pixels if back.is_grey == picture.is_grey else back.pixels[..., 0]
    assert np.abs(pixels.astype(int) - picture.pixels).max() <= peak


@pytest.mark.parametrize("name", ["a.tif", "a.pgm", "a.png"])
def test_16_bit_grey_by_extension(tmp_path: Path, name: str) -> None:
    picture = from_array(samples(9, 7, dtype="uint16"))
    write(picture, tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name).pixels, picture.pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40, 3), (40, 1, 4), (15, 3, 2), (16, 3), (17, 5, 3), (33, 2, 4)])
def test_16_bit_png_of_every_shape(shape: tuple[int, ...]) -> None:
    ramp = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape) * np.uint16(257)
    for array in (samples(*shape, dtype="uint16"), ramp):
        data = image.encode(from_array(array), "png")
        np.testing.assert_array_equal(to_array(read(data)).reshape(shape), array)


@pytest.mark.parametrize("name", ["jpg", "bmp", "ppm"])
def test_formats_without_alpha_say_so(name: str) -> None:
    for channels in (2, 4):
        with pytest.raises(ImageError, match=r"transparency: write a \.png"):
            image.encode(from_array(samples(4, 4, channels)), name)


def test_a_grey_format_refuses_colours() -> None:
    assert image.encode(Picture(samples(4, 4, 1)[..., 0]), "pgm").startswith(b"P5")
    with pytest.raises(ImageError, match=r"a \.pgm file cannot hold colours"):
        image.encode(Picture(samples(4, 4, 3)), "pgm")


@pytest.mark.parametrize("name", ["jpg", "bmp", "ppm", "tif", "webp", "avif"])
def test_formats_without_16_bits_say_so(name: str) -> None:
    with pytest.raises(ImageError, match=r"16-bit samples: write a \.png"):
        image.encode(from_array(samples(4, 4, 3, dtype="uint16")), name)


@pytest.mark.parametrize("name", ["a.gif", "a", "a.xyz", "a.eps"])
def test_unknown_formats_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match=r"use one of \.png"):
        write(from_array(samples(4, 4, 3)), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_too_large_for_the_format_is_an_image_error() -> None:
    with pytest.raises(ImageError, match=r"write a \.png"):
        image.encode(from_array(np.zeros((1, 16384, 3), np.uint8)), "webp")
    with pytest.raises(ImageError, match=r"write a \.png"):
        image.encode(Picture(np.zeros((4, 4), np.uint8), xmp=bytes(70000)), "jpg")


def test_writing_to_an_open_file() -> None:
    picture = from_array(samples(4, 4, 3))
    out = io.BytesIO()
    write(picture, out, "png")
    np.testing.assert_array_equal(read(out.getvalue()).pixels, picture.pixels)
    with pytest.raises(ValueError, match="format"):
        write(picture, io.BytesIO())


def test_a_format_beats_the_extension(tmp_path: Path) -> None:
    write(from_array(samples(4, 4, 3)), tmp_path / "a.jpg", "png")
    assert (tmp_path / "a.jpg").read_bytes().startswith(b"\x89PNG")


def test_the_umask_decides_the_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(from_array(samples(4, 4, 3)), tmp_path / "a.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write(from_array(samples(4, 4, 3)), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_the_file_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write(from_array(samples(4, 4, 3)), tmp_path / "none" / "a.png")
    with pytest.raises(IsADirectoryError):
        write(from_array(samples(4, 4, 3)), tmp_path, "png")


def test_links_stay_links_and_devices_stay_devices(tmp_path: Path) -> None:
    picture = from_array(samples(4, 4, 3))
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("real.png")
    write(picture, tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    np.testing.assert_array_equal(read(tmp_path / "real.png").pixels, picture.pixels)
    write(picture, os.devnull, "png")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("has_links", [True, False])
def test_without_replace_an_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    if not has_links:
        monkeypatch.setattr(files.os, "link", no_links)
    path = tmp_path / "a"
    files.write_whole(path, b"first", replace=False)
    with pytest.raises(FileExistsError) as caught:
        files.write_whole(path, b"second", replace=False)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="no names for open files here")
def test_an_open_pipe_is_written_by_its_name() -> None:
    reading, writing = os.pipe()
    files.write_whole(f"/dev/fd/{writing}", b"through")
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b"through"


# --- Pillow's manners -------------------------------------------------------------------------------------


def test_warnings_of_pillow_do_not_leak(capfd: pytest.CaptureFixture[str]) -> None:
    odd = tiff(samples(5, 6, 3), t271=7)  # a text tag that holds a number
    torn = tiff(samples(5, 6, 3)).replace(b"\x11\x01\x04\x00", b"\xff\xff\x04\x00")  # no offset of the strip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in (odd, torn):
            for source in (data, data[:60], data[:-3]):
                _outcome(lambda source=source: read(source))
    assert capfd.readouterr() == ("", "")


def _outcome(act: Callable[[], Picture]) -> Picture | ImageError:
    try:
        return act()
    except ImageError as err:
        return err


def test_the_limit_is_ours_and_pillows_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.new("L", (64, 64)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow alone would refuse the picture
    filters = list(warnings.filters)
    assert read(data).width == 64
    with pytest.raises(ImageError):
        read(data[:50])
    assert Image.MAX_IMAGE_PIXELS == 100
    assert list(warnings.filters) == filters


@pytest.mark.parametrize("unlimited", [False, True])
def test_pictures_above_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch, unlimited: bool) -> None:
    if unlimited:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="cut it into parts"):
        read(b"P5 16385 16384 255\n")
    with pytest.raises(ImageError, match=r"damaged|not enough"):
        read(b"P5 16384 16384 255\n")


def test_the_largest_sizes_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(ImageError, match="cut it into parts"):
        read(tiff(samples(4, 4, 3), t256=65535, t257=65535))


def test_threads_read_side_by_side() -> None:
    wide = samples(40, 30, 3, dtype="uint16")
    data = image.encode(from_array(wide), "png")
    failures: list[object] = []

    def work() -> None:
        for _ in range(20):
            if not np.array_equal(read(data).pixels, wide):
                failures.append("pixels differ")
            _outcome(lambda: read(data[:200]))

    before = (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_avif_is_there() -> None:
    assert features.check("avif"), "this Pillow was built without AVIF; hvcodec needs Pillow 11.3 or newer"
