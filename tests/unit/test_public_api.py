"""The names of `import hvcodec`, how light it is, and what compress, decompress and inspect take and give."""

from __future__ import annotations

import math
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hvcodec
from hvcodec import catalog, container, image
from hvcodec.codec import check_size
from hvcodec.picture import Picture

FUNCTIONS = {"compress", "decompress", "inspect"}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


# --- names --------------------------------------------------------------------------------------------------


def test_all_is_sorted_and_everything_is_there_and_described() -> None:
    assert hvcodec.__all__ == sorted(hvcodec.__all__)
    for name in hvcodec.__all__:
        assert getattr(hvcodec, name).__doc__, name
    assert set(hvcodec.__all__) <= set(dir(hvcodec))
    assert "Codec" in dir(hvcodec)


def test_all_has_every_error_and_every_function() -> None:
    errors = {name for name, value in vars(hvcodec.errors).items() if isinstance(value, type)}
    assert errors | FUNCTIONS <= set(hvcodec.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nix'"):
        _ = hvcodec.nix  # type: ignore[attr-defined]


def test_the_version_is_that_of_the_package() -> None:
    assert hvcodec.__version__ == version("hvcodec")
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", hvcodec.__version__)
    assert Path(hvcodec.__file__).with_name("py.typed").is_file()


@pytest.mark.parametrize("module", ["hvcodec", "hvcodec.info", "hvcodec.container", "hvcodec.rate"])
def test_importing_it_imports_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print({{'torch', 'numpy', 'PIL'}} & set(sys.modules) or 'light')"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "light\n"


# --- compress and decompress --------------------------------------------------------------------------------


def test_every_kind_of_image_gives_the_same_bytes(
    tiny_model: Path, tmp_path: Path, pixels: np.ndarray[Any, Any]
) -> None:
    image.write(Picture(pixels), tmp_path / "a.png")
    sources = [pixels, Picture(pixels), Image.fromarray(pixels), tmp_path / "a.png", str(tmp_path / "a.png")]
    files = {hvcodec.compress(source) for source in sources}
    assert len(files) == 1
    assert hvcodec.inspect(files.pop()).rho == (40, 36, 30, 24, 20)


def test_kinds_of_decompressed_images_agree(tiny_model: Path, pixels: np.ndarray[Any, Any]) -> None:
    data = hvcodec.compress(pixels, quality=20)
    shown, array = hvcodec.decompress(data), hvcodec.decompress(data, kind="array")
    picture = hvcodec.decompress(data, kind="picture")
    assert isinstance(shown, Image.Image)
    assert (shown.mode, shown.size) == ("RGB", (30, 20))
    assert np.array_equal(np.asarray(shown), array)
    assert np.array_equal(picture.pixels, array)


def test_what_the_encoder_expects_is_what_is_decoded(tiny_model: Path, pixels: np.ndarray[Any, Any]) -> None:
    encoded = hvcodec.Codec("tiny").compress(Picture(pixels), quality=70)
    assert encoded.data == hvcodec.compress(pixels, quality=70, model="tiny")
    assert repr(encoded) == f"Encoded(rho={encoded.rho})"
    assert len({encoded, encoded, hvcodec.Codec("tiny").compress(Picture(pixels))}) == 2  # as for a Picture: no twins
    assert np.array_equal(encoded.decoded().pixels, hvcodec.decompress(encoded.data, kind="array"))


@pytest.mark.parametrize(("shape", "mode"), [((20, 30), "L"), ((20, 30, 2), "LA"), ((20, 30, 4), "RGBA")])
def test_grey_and_alpha(tiny_model: Path, shape: tuple[int, ...], mode: str) -> None:
    source = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = hvcodec.compress(source)
    assert hvcodec.decompress(data).mode == mode
    shown = hvcodec.decompress(data, kind="array")
    assert shown.shape == shape
    if len(shape) == 3:
        assert np.array_equal(shown[..., -1], source[..., -1])
        assert set(hvcodec.inspect(data).extras) == {"alpha"}


def test_16_bit_colour_comes_back_as_an_array(tiny_model: Path) -> None:
    source = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), np.uint16)
    data = hvcodec.compress(source)
    assert hvcodec.decompress(data, kind="array").dtype == np.uint16
    assert hvcodec.inspect(data).depth == 16
    with pytest.raises(hvcodec.ImageError, match="take an array"):
        hvcodec.decompress(data)


def test_rate_vector_target_and_profile(tiny_model: Path, pixels: np.ndarray[Any, Any]) -> None:
    assert hvcodec.inspect(hvcodec.compress(pixels, rho=(1, 2, 3, 4, 5))).rho == (1, 2, 3, 4, 5)
    assert hvcodec.compress(pixels, rho=np.full(5, 30)) == hvcodec.compress(pixels, rho=[30] * 5)  # type: ignore[arg-type]
    assert hvcodec.inspect(hvcodec.compress(pixels, profile="equal", quality=0)).rho == (0,) * 5
    assert len(hvcodec.compress(pixels, target=hvcodec.Bytes(1000))) <= 1000
    with pytest.raises(hvcodec.TargetError):
        hvcodec.compress(pixels, target=hvcodec.Psnr(90))


def test_the_coarse_layers_alone_and_a_file_cut_short_agree(tiny_model: Path, pixels: np.ndarray[Any, Any]) -> None:
    data = hvcodec.compress(pixels)
    info = hvcodec.inspect(data)
    cut = data[: info.header_bytes + sum(info.chunk_sizes[:4])]
    with pytest.raises(hvcodec.TruncatedError) as refused:
        hvcodec.decompress(cut)
    assert refused.value.layers_complete == 4
    some = hvcodec.decompress(data, kind="array", max_layers=4)
    assert np.array_equal(hvcodec.decompress(cut, kind="array", partial=True), some)
    assert not np.array_equal(hvcodec.decompress(data, kind="array"), some)


def test_limits_are_kept(tiny_model: Path, pixels: np.ndarray[Any, Any]) -> None:
    with pytest.raises(hvcodec.LimitError) as refused:
        hvcodec.decompress(hvcodec.compress(pixels), max_pixels=599)
    assert (refused.value.limit, refused.value.asked) == (599, 600)


@pytest.mark.parametrize(
    ("width", "height", "max_pixels", "is_taken"),
    [
        (1 << 18, 1, container.MAX_PIXELS, True),
        (1 << 18, 1 << 10, container.MAX_PIXELS, True),
        ((1 << 18) + 1, 1, container.MAX_PIXELS, False),
        (1 << 20, 1, container.MAX_PIXELS, False),
        (1, 1 << 22, container.MAX_PIXELS, True),
        (4096, 100, 409_600, True),  # small limits are for pixels, as long as rows are not much wider than a strip
        (4097, 100, 409_700, False),
    ],
)
def test_a_wide_picture_counts_as_higher_than_it_is(width: int, height: int, max_pixels: int, is_taken: bool) -> None:
    header = container.Header(width, height, False, 8, bytes(6), (0,), (0,))
    with nullcontext() if is_taken else pytest.raises(hvcodec.LimitError, match="costs as much as"):
        check_size(header, max_pixels)


def test_wrong_arguments_are_told(tiny_model: Path, pixels: np.ndarray[Any, Any]) -> None:
    data, codec = hvcodec.compress(pixels), hvcodec.Codec("tiny")
    calls: list[tuple[type[Exception], str, Any]] = [
        (TypeError, "path .*, a Pillow image, an array or a Picture, not int", lambda: hvcodec.compress(3)),  # type: ignore[arg-type]
        (TypeError, "Picture, not bytes: hvcodec.image.read", lambda: hvcodec.compress(b"")),  # type: ignore[arg-type]
        (TypeError, "Picture, not list", lambda: hvcodec.compress([[1]])),  # type: ignore[arg-type]
        (TypeError, "a Pillow image is needed, not ndarray", lambda: image.from_pillow(pixels)),  # type: ignore[arg-type]
        (TypeError, "uint8 or uint16", lambda: hvcodec.compress(pixels / 255)),
        (ValueError, "quality goes from 0 to 100", lambda: hvcodec.compress(pixels, quality=101)),
        (ValueError, "no rate profile 'nix'", lambda: hvcodec.compress(pixels, profile="nix")),
        (ValueError, "rate vector", lambda: hvcodec.compress(pixels, rho=(1, 2))),
        (ValueError, "effort must be", lambda: hvcodec.compress(pixels, effort=1.0)),  # type: ignore[arg-type]
        (ValueError, "masking must", lambda: codec.encode(Picture(pixels), (1,) * 5, masking=math.nan)),
        (ValueError, "masking must", lambda: codec.encode(Picture(pixels), (1,) * 5, trim=math.inf)),
        (ValueError, "max_layers must", lambda: codec.decode(data, max_layers=1.5)),  # type: ignore[arg-type]
        (TypeError, "bytes of a .hvc file are needed, not str", lambda: hvcodec.inspect("a.hvc")),  # type: ignore[arg-type]
        (ValueError, "rate vector", lambda: hvcodec.compress(pixels, rho=np.full(5, 30.0))),  # type: ignore[arg-type]
        (TypeError, "a target is Bytes, .* not int", lambda: hvcodec.compress(pixels, target=9)),  # type: ignore[arg-type]
        (TypeError, "mask is .* not Image", lambda: hvcodec.compress(pixels, roi=Image.new("L", (30, 20)))),  # type: ignore[arg-type]
        (TypeError, "mask is .* not str", lambda: hvcodec.compress(pixels, roi="mask.png")),  # type: ignore[arg-type]
        (TypeError, "mask is .* not list", lambda: hvcodec.compress(pixels, roi=[[0]])),  # type: ignore[arg-type]
        (TypeError, "Picture, not ndarray", lambda: codec.compress(pixels)),  # type: ignore[arg-type]
        (TypeError, "Picture, not str", lambda: codec.compress("a.png", target=hvcodec.Bpp(1))),  # type: ignore[arg-type]
        (TypeError, "Picture, not str", lambda: codec.encode("a.png", (1,) * 5)),  # type: ignore[arg-type]
        (TypeError, "pixels must be an array", lambda: Picture([[1]])),  # type: ignore[arg-type]
        (TypeError, "alpha must be an array", lambda: Picture(pixels, [[1]])),  # type: ignore[arg-type]
        (TypeError, "open file is needed, not NoneType", lambda: image.read(None)),  # type: ignore[arg-type]
        (FileNotFoundError, "nix.png", lambda: hvcodec.compress("nix.png")),
        (hvcodec.ModelError, "no model named nix", lambda: hvcodec.compress(pixels, model="nix")),
        (TypeError, "bytes of a .hvc file", lambda: hvcodec.decompress("a.hvc")),  # type: ignore[call-overload]
        (ValueError, "kind must be", lambda: hvcodec.decompress(data, kind="x")),  # type: ignore[call-overload]
        (ValueError, "device must be", lambda: hvcodec.decompress(data, device="x")),  # type: ignore[call-overload]
        (ValueError, "max_layers", lambda: hvcodec.decompress(data, max_layers=-1)),
        (hvcodec.NotHVCError, "not an hvcodec file", lambda: hvcodec.decompress(b"nix")),
    ]
    for kind, told, call in calls:
        with pytest.raises(kind, match=told):
            call()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_another_default_dtype_of_torch_is_refused(
    tiny_model: Path, pixels: np.ndarray[Any, Any], dtype: torch.dtype
) -> None:
    codec = hvcodec.Codec("tiny")
    encoded = codec.compress(Picture(pixels))
    calls: list[Callable[[], object]] = [
        lambda: hvcodec.Codec("tiny"),
        lambda: hvcodec.compress(pixels),
        lambda: codec.compress(Picture(pixels), target=hvcodec.Bytes(1000)),
    ]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        for call in calls:
            with pytest.raises(ValueError, match=f"not {dtype}: call torch.set_default_dtype"):
                call()
    finally:
        torch.set_default_dtype(before)
    assert hvcodec.compress(pixels) == encoded.data


def test_what_no_file_can_hold_is_refused_before_the_work(
    tiny_model: Path, pixels: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hvcodec.Codec, "_analyze", lambda *_: pytest.fail("it was analysed"))
    with pytest.raises(hvcodec.ImageError, match="metadata"):
        hvcodec.compress(Picture(pixels, xmp=bytes((16 << 20) + 1)))
    monkeypatch.setattr("hvcodec.container.MAX_SIDE", 29)
    with pytest.raises(hvcodec.ImageError, match="longer than 29"):
        hvcodec.compress(pixels)


def test_a_codec_travels_to_another_process_without_its_weights(tiny_model: Path, pixels: np.ndarray[Any, Any]) -> None:
    codec = hvcodec.Codec("tiny")
    data = pickle.dumps(codec)
    assert len(data) < 1000
    assert pickle.loads(data).compress(Picture(pixels)).data == codec.compress(Picture(pixels)).data
    with pytest.raises(hvcodec.TargetError) as caught:
        codec.compress(Picture(pixels), target=hvcodec.Psnr(90))
    there = pickle.dumps(caught.value)
    assert len(there) < 100_000
    assert pickle.loads(there).nearest.trial.data == caught.value.nearest.trial.data  # type: ignore[attr-defined]


def test_a_file_finds_its_model_by_its_id(
    tiny_model: Path, pixels: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = hvcodec.compress(pixels)
    monkeypatch.setenv(catalog.SEARCH_PATH_VARIABLE, "")
    monkeypatch.delenv(catalog.DEFAULT_VARIABLE)
    with pytest.raises(hvcodec.ModelError) as refused:
        hvcodec.decompress(data)
    # What is wrong with the file itself comes first (docs/format.md, 8).
    with pytest.raises(hvcodec.TruncatedError):
        hvcodec.decompress(data[:-1])
    with pytest.raises(hvcodec.ModelError):
        hvcodec.decompress(data[:-1], partial=True)
    with pytest.raises(hvcodec.LimitError):
        hvcodec.decompress(data, max_pixels=10)
    thin = hvcodec.Codec(tiny_model).encode(hvcodec.Picture(np.zeros((1, 200), np.uint8)), [0] * 5)
    with pytest.raises(hvcodec.LimitError, match="200 x 1 costs as much as 16384 pixels"):
        hvcodec.decompress(thin.data, max_pixels=200)
    assert refused.value.needed == hvcodec.inspect(data).model_id
    assert hvcodec.decompress(data, model=tiny_model).size == (30, 20)
    monkeypatch.setenv(catalog.DEFAULT_VARIABLE, str(tiny_model))
    assert hvcodec.decompress(data).size == (30, 20)
    assert hvcodec.compress(pixels) == data


# --- inspect ------------------------------------------------------------------------------------------------


def test_inspect_accounts_for_every_byte(tiny_model: Path, pixels: np.ndarray[Any, Any]) -> None:
    data = hvcodec.compress(Picture(pixels, xmp=b"<x/>"), digests=True)
    info = hvcodec.inspect(data)
    assert (info.size, info.depth, info.is_grey, info.has_digests) == ((30, 20), 8, False, True)
    assert (info.model, info.n_bytes, info.n_bytes_present) == ("tiny", len(data), len(data))
    assert info.header_bytes + sum(info.chunk_sizes) + sum(info.extras.values()) + 4 == len(data)
    assert info.bpp == 8 * len(data) / 600
    assert [layer.stride for layer in info.layers] == [64, 32, 16, 16, 8, 4]
    assert [layer.bpp for layer in info.layers] == [8 * size / 600 for size in info.chunk_sizes]
    assert list(info.extras) == ["xmp"]
    assert info.to_dict()["layers"][5]["n_bytes"] == info.chunk_sizes[5]


def test_inspect_needs_the_header_only(tiny_model: Path, pixels: np.ndarray[Any, Any]) -> None:
    data = hvcodec.compress(pixels)
    whole = hvcodec.inspect(data)
    ends = np.cumsum([whole.header_bytes, *whole.chunk_sizes])
    for count, end in enumerate(ends):
        info = hvcodec.inspect(data[:end])
        assert (info.layers_present, info.n_bytes, info.n_bytes_present) == (count, len(data), end)
        if count and whole.chunk_sizes[count - 1]:
            assert hvcodec.inspect(data[: end - 1]).layers_present == count - 1
    with pytest.raises(hvcodec.TruncatedError) as refused:
        hvcodec.inspect(data[: whole.header_bytes - 1])
    assert refused.value.layers_complete is None


def test_inspect_without_the_model_knows_no_strides(
    tiny_model: Path, pixels: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = hvcodec.compress(pixels)
    monkeypatch.setenv(catalog.SEARCH_PATH_VARIABLE, "")
    info = hvcodec.inspect(data)
    assert (info.model, {layer.stride for layer in info.layers}) == (None, {None})
