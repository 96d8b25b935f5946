"""hvcodec bench: a page and measurements of a user's own pictures, made once, in the places that were named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from calling import Hvcodec, names
from hvcodec_benchmarks import codecs, paths, rows, workers
from PIL import Image

from hvcodec import catalog, image
from hvcodec.picture import Picture


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package and a user's cache of our own, to see that nothing is written there."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(paths, "user_cache", lambda: tmp_path / "elsewhere" / "user")
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "elsewhere" / "package")
    monkeypatch.setattr(workers, "MOST", 1)  # in this process, where the tests look


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of the codec of every measurement that is made."""
    made: list[str] = []
    measure = workers.measure

    def counted(codec: codecs.Codec, job: rows.Job) -> rows.Row | rows.Failure:
        made.append(codec.name)
        return measure(codec, job)

    monkeypatch.setattr(workers, "measure", counted)
    return made


def lacks(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a package and what is below it be not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


def test_a_picture_is_measured_once_and_shown(
    photo: Path, hvcodec: Hvcodec, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["bench", "photo.png", "--codecs", "jpeg-420, hvcodec-psnr-e1", "--json"]
    result = hvcodec(*run)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {
        "report": "hvcodec-bench.html",
        "out": "hvcodec-bench",
        "pictures": ["photo"],
        "codecs": ["hvcodec-psnr-e1", "jpeg-420"],
        "unavailable": {},
    }
    assert "Report: hvcodec-bench.html" in result.stderr
    page = Path("hvcodec-bench.html").read_text("utf-8")
    assert "JPEG 4:2:0" in page and "hvcodec psnr, effort 1" in page
    written = names(photo.parent)
    assert {name.partition("/")[0] for name in written} == {"photo.png", "hvcodec-bench.html", "hvcodec-bench"}
    assert {"jpeg-420.json", "hvcodec-psnr-e1.json"} <= {Path(name).name for name in written}

    n_made = len(measured)
    assert n_made > 10
    Path("hvcodec-bench.html").unlink()
    for args in (run, [*run, "--quiet"]):  # the second replaces a page
        again = hvcodec(*args)
        assert (again.exit_code, again.stdout) == (0, result.stdout), again.stderr
    assert again.stderr == ""
    assert len(measured) == n_made
    assert Path("hvcodec-bench.html").read_text("utf-8").count("JPEG 4:2:0") == page.count("JPEG 4:2:0")
    assert names(photo.parent) == written


def test_folders_and_loose_pictures_share_what_was_measured(
    photo: Path, hvcodec: Hvcodec, measured: list[str], picture: Picture
) -> None:
    Path("more").mkdir()
    image.write(Picture(picture.pixels[::-1].copy()), "more/other.png")
    where = ["--out", "kept", "--report", "pages/one.html", "--codec", "jpeg-420", "--codec", "jpeg-444"]
    assert hvcodec("bench", "photo.png", *where).exit_code == 0
    n_each = len(measured)
    assert measured.count("jpeg-420") == measured.count("jpeg-444") == n_each / 2
    result = hvcodec("bench", "more", "photo.png", *where)
    assert result.exit_code == 0, result.stderr
    assert len(measured) == 2 * n_each  # photo.png was known
    assert not Path("hvcodec-bench").exists()
    assert '"pictures":["other","photo"]' in Path("pages/one.html").read_text("utf-8")


def test_a_model_without_profiles_is_measured_at_equal_rates(
    photo: Path, hvcodec: Hvcodec, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bare.safetensors").write_bytes(tiny_model.read_bytes())
    monkeypatch.setenv(catalog.DEFAULT_VARIABLE, "bare.safetensors")
    monkeypatch.setattr("hvcodec_benchmarks.run.QUICK", ("hvcodec-psnr-e1", "jpeg-420"))
    result = hvcodec("bench", "photo.png", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["codecs"] == ["hvcodec-all-equal-e1", "jpeg-420"]
    assert "hvcodec psnr, effort 1: left out, no model has a profile psnr" in result.stderr


def test_what_lacks_is_told(photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch) -> None:
    lacks("pillow_jxl", monkeypatch)
    for chosen in ([], ["--codecs", "jpeg-420,jxl"]):
        result = hvcodec("bench", "photo.png", *chosen)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines()[-1] == (
            "Error: JPEG XL needs pillow_jxl, which is not installed: pip install 'hvcodec[bench]', "
            "or name other codecs with --codecs"
        )
    assert hvcodec("bench", "photo.png", "--codecs", "jpeg-420").exit_code == 0


def test_a_model_that_lacks_is_an_error_of_the_model(
    photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(catalog.DEFAULT_VARIABLE, "nix.safetensors")
    result = hvcodec("bench", "photo.png", "--codecs", "hvcodec,jpeg-420")
    assert result.exit_code == 6
    assert "nix" in result.stderr
    assert hvcodec("bench", "photo.png", "--codecs", "jpeg-420").exit_code == 0


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, "Missing argument 'IMAGES...'"),
        (["nix.png"], 2, "'nix.png' does not exist"),
        (["empty"], 2, "there is no picture in the places named"),
        (["photo.png", "--codecs", "flif"], 2, "no codec is called flif; known: hvcodec-psnr-e1,"),
        (["photo.png", "--codecs", "jpeg-420,"], 2, "a name is empty"),
        (["photo.png", "--codecs", "hvcodec-perceptual-e1"], 2, "none of these codecs can run here"),
        (["photo.png", "photo.png"], 2, "2 of the pictures are called photo.png"),
        (["photo.png", "--out", "photo.png"], 2, "'photo.png' is a file"),
        (["photo.png", "--report", "photo.png"], 2, "photo.png exists and is no page of this command: say --force"),
        (["broken.png", "--codecs", "jpeg-420"], 3, "broken.png: this is no picture"),
        (["cut.png", "--codecs", "jpeg-420"], 3, "cut.png: the PNG file is damaged"),
    ],
)
def test_wrong_use_is_explained(photo: Path, hvcodec: Hvcodec, args: list[str], code: int, said: str) -> None:
    Path("empty").mkdir()
    Path("broken.png").write_bytes(b"not a picture")
    Path("cut.png").write_bytes(photo.read_bytes()[:600])
    result = hvcodec("bench", *args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def test_a_picture_of_one_pixel_is_measured(folder: Path, hvcodec: Hvcodec) -> None:
    Image.new("RGB", (1, 1)).save("1x1.png")
    result = hvcodec("bench", "1x1.png", "--codecs", "jpeg-420")
    assert result.exit_code == 0, result.stderr


def test_another_file_is_replaced_when_asked(photo: Path, hvcodec: Hvcodec) -> None:
    Path("notes.html").write_text("<title>notes</title>", "utf-8")
    run = ["bench", "photo.png", "--codecs", "jpeg-420", "--report", "notes.html"]
    assert hvcodec(*run).exit_code == 2
    assert Path("notes.html").read_text("utf-8") == "<title>notes</title>"
    assert hvcodec(*run, "--force").exit_code == 0
    assert "hvcodec measured" in Path("notes.html").read_text("utf-8")


def test_a_picture_that_one_codec_fails_on_does_not_stop_the_others(
    photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = codecs.PillowCodec.encode

    def fails(codec: codecs.PillowCodec, picture: Image.Image, quality: float) -> bytes:
        if codec.name == "webp-m6":
            raise ValueError("more than 16383 pixels")
        return encode(codec, picture, quality)

    monkeypatch.setattr(codecs.PillowCodec, "encode", fails)
    result = hvcodec("bench", "photo.png", "--codecs", "webp,jpeg-420")
    assert result.exit_code == 0, result.stderr
    assert "WebP failed on photo: ValueError('more than 16383 pixels')" in result.stderr
    assert "JPEG 4:2:0" in Path("hvcodec-bench.html").read_text("utf-8")
