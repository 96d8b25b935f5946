"""hvcodec decompress: names, formats, parts of files, and files that are not right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from calling import Hvcodec, names

import hvcodec as api
from hvcodec import image
from hvcodec.catalog import SEARCH_PATH_VARIABLE
from hvcodec.picture import Picture


def test_there_and_back(packed: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("decompress", "photo.hvc")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("photo.hvc -> photo.png: 56 x 40, ")
    shown = api.decompress(packed.read_bytes(), kind="array")
    assert np.array_equal(image.read("photo.png").pixels, shown)


@pytest.mark.parametrize(
    ("args", "name", "signature"),
    [
        (["-o", "b.jpg"], "b.jpg", b"\xff\xd8\xff"),
        (["-o", "b.tif"], "b.tif", b"II*\0"),
        (["--format", "webp"], "photo.webp", b"RIFF"),
        (["--format", ".PPM"], "photo.PPM", b"P6"),
        (["-o", "b.png", "--format", "bmp"], "b.png", b"BM"),
        (["-o", "b"], "b", b"\x89PNG"),
        (["-o", "new/"], "new/photo.png", b"\x89PNG"),
    ],
)
def test_the_format_follows_the_name_unless_it_is_given(
    packed: Path, hvcodec: Hvcodec, args: list[str], name: str, signature: bytes
) -> None:
    result = hvcodec("decompress", "photo.hvc", *args)
    assert result.exit_code == 0, result.stderr
    assert Path(name).read_bytes().startswith(signature)


def test_a_folder_of_files_is_mirrored(packed: Path, hvcodec: Hvcodec) -> None:
    Path("in/deep").mkdir(parents=True)
    packed.rename("in/deep/a.hvc")
    assert hvcodec("decompress", "in", "-o", "out", "--format", "bmp").exit_code == 0
    assert names(Path("out")) == ["deep/a.bmp"]


@pytest.mark.parametrize("args", [["--format", "xyz"], ["-o", "b.xyz"]])
def test_an_unknown_format_is_told_before_anything_is_decoded(packed: Path, hvcodec: Hvcodec, args: list[str]) -> None:
    packed.write_bytes(b"not even a file of hvcodec")
    result = hvcodec("decompress", "photo.hvc", *args)
    assert result.exit_code == 3
    assert "pictures cannot be written as" in result.stderr


@pytest.mark.parametrize("wanted", ["a/b", ".", "", "../png"])
def test_a_format_that_is_no_ending_is_wrong_use(packed: Path, hvcodec: Hvcodec, wanted: str) -> None:
    result = hvcodec("decompress", "photo.hvc", "--format", wanted)
    assert result.exit_code == 2
    assert "is not the ending of a file name" in result.stderr


def test_an_existing_picture_is_kept_without_force(packed: Path, hvcodec: Hvcodec) -> None:
    Path("photo.png").write_bytes(b"precious")
    result = hvcodec("decompress", "photo.hvc")
    assert result.exit_code == 2
    assert Path("photo.png").read_bytes() == b"precious"
    assert hvcodec("decompress", "photo.hvc", "--force").exit_code == 0
    assert image.read("photo.png").width == 56


def test_some_layers_give_a_coarser_picture(packed: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("decompress", "photo.hvc", "--max-layers", "3", "--json")
    assert result.exit_code == 0
    assert (json.loads(result.stdout)["layers"], json.loads(result.stdout)["n_layers"]) == (3, 6)
    assert "3 of 6 layers" in result.stderr
    expected = api.decompress(packed.read_bytes(), kind="array", max_layers=3)
    assert np.array_equal(image.read("photo.png").pixels, expected)


def test_a_file_cut_short_is_refused_unless_partial(packed: Path, hvcodec: Hvcodec) -> None:
    whole = packed.read_bytes()
    info = api.inspect(whole)
    packed.write_bytes(whole[: info.header_bytes + sum(info.chunk_sizes[:4]) + 1])
    refused = hvcodec("decompress", "photo.hvc")
    assert refused.exit_code == 4
    assert "after 4 of 6 layers" in refused.stderr
    assert names(packed.parent) == ["original.png", "photo.hvc"]
    shown = hvcodec("decompress", "photo.hvc", "--partial")
    assert shown.exit_code == 0
    assert "4 of 6 layers" in shown.stderr
    assert np.array_equal(image.read("photo.png").pixels, api.decompress(whole, kind="array", max_layers=4))


def test_what_a_cut_file_has_lost_is_told(folder: Path, hvcodec: Hvcodec, picture: Picture) -> None:
    source = Picture(picture.pixels, picture.pixels[..., 0].copy(), icc=b"profile", xmp=b"<x/>")
    data = api.compress(source)
    info = api.inspect(data)
    assert info.extras_missing == ()
    ends = np.cumsum([info.header_bytes + sum(info.chunk_sizes), *info.extras.values()])
    for n_whole, lost in enumerate((["alpha", "icc", "xmp"], ["icc", "xmp"], ["xmp"], [])):
        cut = data[: ends[n_whole]]
        Path("cut.hvc").write_bytes(cut)
        result = hvcodec("decompress", "cut.hvc", "--partial", "--json", "--force")
        fields = json.loads(result.stdout)
        assert (fields["extras_missing"], fields["bpp"]) == (lost, 8 * len(cut) / 2240)
        assert f"{fields['bpp']:.3f} bpp" in result.stderr
        assert result.stderr.endswith(f" s, without {', '.join(lost)}\n" if lost else " s\n")
        shown = api.decompress(cut, kind="picture", partial=True)
        assert [shown.alpha is None, shown.icc is None, shown.xmp is None] == [
            name in lost for name in ("alpha", "icc", "xmp")
        ]


@pytest.mark.parametrize(
    ("kind", "lost"),
    [("png", []), ("PPM", ["icc", "exif"]), ("bmp", ["icc", "exif"]), ("webp", ["icc"]), ("tif", ["exif"])],
)
def test_what_a_format_cannot_hold_is_told(
    folder: Path, hvcodec: Hvcodec, picture: Picture, kind: str, lost: list[str]
) -> None:
    profile, tags = bytes(16) + b"GRAY" + bytes(108), b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    Path("a.hvc").write_bytes(api.compress(Picture(picture.pixels[..., 0].copy(), icc=profile, exif=tags)))
    result = hvcodec("decompress", "a.hvc", "-o", f"a.{kind}", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["left_out"] == lost
    assert result.stderr.endswith(f" s, without {', '.join(lost)}\n" if lost else " s\n")


def test_json_fields(packed: Path, hvcodec: Hvcodec) -> None:
    fields = json.loads(hvcodec("decompress", "photo.hvc", "--json", "-q").stdout)
    info = api.inspect(packed.read_bytes())
    assert fields.pop("time_s") > 0
    assert fields == {
        "input": "photo.hvc",
        "output": "photo.png",
        "width": 56,
        "height": 40,
        "n_bytes": info.n_bytes,
        "bpp": info.bpp,
        "rho": list(info.rho),
        "model_id": info.model_id,
        "layers": 6,
        "n_layers": 6,
        "extras_missing": [],
        "left_out": [],
    }


def test_verbose_names_the_model(packed: Path, hvcodec: Hvcodec) -> None:
    assert f"model tiny ({api.inspect(packed.read_bytes()).model_id})" in hvcodec("decompress", packed, "-v").stderr


@pytest.mark.parametrize(
    ("damage", "code", "told"),
    [
        (lambda data: b"GIF89a" + data, 4, "this is not an hvcodec file"),
        (lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], 4, "the payload is damaged"),
        (lambda data: data[:4] + b"\x09" + data[5:], 4, "update hvcodec"),
        (lambda data: data[:9], 4, "the file ends inside its header"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    packed: Path, hvcodec: Hvcodec, damage: object, code: int, told: str
) -> None:
    assert callable(damage)
    packed.write_bytes(damage(packed.read_bytes()))
    result = hvcodec("decompress", "photo.hvc")
    assert (result.exit_code, told in result.stderr) == (code, True), result.stderr
    assert names(packed.parent) == ["original.png", "photo.hvc"]


def test_a_picture_over_the_limit_is_refused(packed: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("decompress", "photo.hvc", "--max-pixels", "1000")
    assert result.exit_code == 4
    assert "2240 pixels, more than the limit of 1000" in result.stderr


def test_a_missing_model_is_exit_6_and_can_be_named(
    packed: Path, hvcodec: Hvcodec, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SEARCH_PATH_VARIABLE, "")
    result = hvcodec("decompress", "photo.hvc")
    assert result.exit_code == 6
    assert f"this file needs model {api.inspect(packed.read_bytes()).model_id}; installed:" in result.stderr
    assert hvcodec("decompress", "photo.hvc", "--model", tiny_model).exit_code == 0


def test_a_format_that_cannot_hold_the_picture_is_exit_3(folder: Path, hvcodec: Hvcodec, picture: Picture) -> None:
    image.write(Picture(picture.pixels, alpha=picture.pixels[..., 0].copy()), "see-through.png")
    assert hvcodec("compress", "see-through.png", "-o", "a.hvc").exit_code == 0
    result = hvcodec("decompress", "a.hvc", "-o", "a.jpg")
    assert result.exit_code == 3
    assert "cannot hold transparency" in result.stderr
    assert names(folder) == ["a.hvc", "see-through.png"]
