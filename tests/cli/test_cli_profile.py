"""hvcodec profile: from a folder of pictures to profiles that compress uses, with a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from calling import Hvcodec, names
from hvcodec_benchmarks import paths
from synthetic import picture

from hvcodec import catalog, codec, image
from hvcodec.profiles import RHO_MAX, Profile, single, uniform

MODEL = "small.safetensors"
STORED = Path("small.profiles.json")


@pytest.fixture
def images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures, and a model of our own beside them."""
    monkeypatch.setattr(paths, "cache_dir", lambda: folder / "cache")
    shutil.copy(Path(__file__).parents[1] / "golden" / "models" / "tiny.safetensors", MODEL)
    (folder / "pictures").mkdir()
    for seed in range(2):
        image.write(picture(192, 176, seed=seed), folder / "pictures" / f"{seed}.png")
    return folder / "pictures"


def test_a_profile_is_searched_listed_used_and_measured_again(images: Path, hvcodec: Hvcodec) -> None:
    catalog.store_profile(STORED, Profile("mine", "kept", uniform(5).path))
    how = ["--images", images, "--max-images", 1, "--model", MODEL, "--json"]
    search = ["profile", "search", "--metric", "ssimulacra2", "--points", 1, "--rounds", 1, *how]
    result = hvcodec(*search)
    assert result.exit_code == 0, result.stderr
    fields = json.loads(result.stdout)
    assert (fields["profile"], fields["output"]) == ("perceptual", str(STORED))
    assert "up to about 51 encodes (51 rate vectors, 1 pictures)" in result.stderr
    assert 20 < fields["encodes"] <= 51
    assert [len(check["rho"]) for check in fields["checks"]] == [5, 5, 5]
    assert min(check["gain"] for check in fields["checks"]) > -0.5

    profiles = catalog.load_profiles(Path(MODEL), 5)
    assert list(profiles) == ["equal", "mine", "perceptual"]
    found = profiles["perceptual"]
    assert found.rho(0) == (0,) * 5 and found.rho(100) == (RHO_MAX,) * 5
    for check in fields["checks"]:
        assert list(found.rho(check["quality"])) == check["rho"]
    at = {row.position: row for row in found.measured}
    assert {0, 25, 50, 75, 100} <= set(at)
    for check in fields["checks"]:
        assert min(abs(check["quality"] - position) for position in at) < 1
        if check["quality"] in at:
            assert at[check["quality"]].ssimulacra2.value == pytest.approx(check["value"], abs=1e-5)

    again = hvcodec(*search, "--name", "again")
    assert json.loads(again.stdout) == {**fields, "profile": "again", "encodes": 0}  # all of it was kept
    listed = hvcodec("profiles", "--model", MODEL).stdout
    assert "perceptual (model small): the best SSIMULACRA2 at every rate" in listed and "again (model" in listed
    codec._load.cache_clear()  # models stay loaded within a process, with the profiles they came with
    compressed = hvcodec(
        "compress", images / "0.png", "-o", "0.hvc", "--model", MODEL, "--rate-profile", "again", "--bpp", "0.8"
    )
    assert compressed.exit_code == 0, compressed.stderr

    measured = hvcodec("profile", "calibrate", "mine", "--positions", "100,0", *how)
    assert measured.exit_code == 0, measured.stderr
    assert json.loads(measured.stdout)["positions"] == [0, 100]
    mine = catalog.load_profiles(Path(MODEL), 5)["mine"]
    assert (mine.purpose, mine.path) == ("kept", uniform(5).path)
    assert [row.position for row in mine.measured] == [0, 100]
    assert mine.measured[1].psnr_db.value > mine.measured[0].psnr_db.value + 5
    assert names(images.parent) == sorted(
        ["0.hvc", MODEL, str(STORED), "pictures/0.png", "pictures/1.png", *names_below(images.parent / "cache")]
    )


def names_below(folder: Path) -> list[str]:
    return [f"{folder.name}/{name}" for name in names(folder)]


def test_previews_go_to_a_file_of_ones_own(images: Path, hvcodec: Hvcodec) -> None:
    how = ["--images", images / "0.png", "--crop", 161, "--model", MODEL, "--out", "new.json", "--quiet"]
    result = hvcodec("profile", "search", "--metric", "preview", "--points", 1, "--rounds", 1, *how)
    assert (result.exit_code, result.output) == (0, ""), result.output
    assert not STORED.exists()
    assert hvcodec("profile", "calibrate", "preview", "--positions", "20,40", *how).exit_code == 0
    assert hvcodec("profile", "calibrate", "equal", "--positions", "0,50", *how).exit_code == 0
    stored = {profile.name: profile for profile in catalog.read_profiles(Path("new.json"))}
    assert list(stored) == ["preview", "equal"]
    assert [row.position for row in stored["preview"].measured] == [20, 40]
    assert stored["equal"].path == uniform(5).path
    assert [row.position for row in stored["equal"].measured] == [0, 50]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["search", "--images", "pictures"], "Missing option '--metric'"),
        (["search", "--metric", "psnr"], "Missing option '--images'"),
        (["search", "--metric", "psnr", "--images", "nix"], "'nix' does not exist"),
        (["search", "--metric", "psnr", "--images", "empty"], "there is no picture"),
        (["search", "--metric", "psnr", "--images", "pictures", "--crop", "160"], "161 pixels"),
        (["search", "--metric", "psnr", "--images", "pictures", "--points", "21"], "--points"),
        (["search", "--metric", "psnr", "--images", "pictures", "--masking", "nan"], "'nan' is not a number"),
        (
            ["search", "--metric", "psnr", "--images", "pictures", "--out", "nix/f.json"],
            "no folder that can be written",
        ),
        (["calibrate", "equal", "--images", "pictures", "--out", "nix/f.json"], "no folder that can be written to"),
        (["calibrate", "nix", "--images", "pictures"], "no rate profile 'nix'; there are: equal, psnr"),
        (["calibrate", "equal", "--images", "pictures", "--positions", "50"], "two or more numbers"),
        (["calibrate", "equal", "--images", "pictures", "--positions", "0,101"], "two or more numbers"),
        (["calibrate", "equal", "--images", "pictures", "--positions", "0;1"], "two or more numbers"),
    ],
)
def test_wrong_use_is_explained(images: Path, hvcodec: Hvcodec, args: list[str], said: str) -> None:
    Path("empty").mkdir()
    result = hvcodec("profile", *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not Path("cache").exists()


def test_profiles_of_another_model_are_its_fault(images: Path, hvcodec: Hvcodec) -> None:
    other = Profile("other", "", uniform(4).path)
    for stored in (STORED, Path("out.json")):
        catalog.store_profile(stored, other)
    compress = ["compress", images / "0.png", "-o", "a.hvc", "--model", MODEL, "--rate-profile", "other"]
    search = ["profile", "search", "--metric", "psnr", "--images", images, "--model", MODEL, "--out", "out.json"]
    codec._load.cache_clear()
    for command in (compress, search):
        result = hvcodec(*command)
        assert result.exit_code == 6
        assert "belongs to another model" in result.stderr


def test_a_model_of_one_level_has_nothing_to_search(images: Path, hvcodec: Hvcodec) -> None:
    catalog.store_profile(STORED, single(20, 5))
    result = hvcodec("profile", "search", "--metric", "psnr", "--images", images, "--model", MODEL)
    assert result.exit_code == 2
    assert "this model was trained for one level" in result.stderr


def test_a_damaged_file_of_profiles_is_told_before_anything_is_encoded(images: Path, hvcodec: Hvcodec) -> None:
    Path("other.json").write_text("[{]")
    result = hvcodec("profile", "search", "--metric", "psnr", "--images", images, "--out", "other.json")
    assert result.exit_code == 6
    assert "other.json is damaged" in result.stderr
    assert Path("other.json").read_text() == "[{]"
    assert not Path("cache").exists()


@pytest.mark.parametrize("args", [["search", "--metric", "psnr"], ["calibrate", "equal"]])
def test_a_picture_that_cannot_be_read_is_exit_3(images: Path, hvcodec: Hvcodec, args: list[str]) -> None:
    (images / "0.png").write_bytes(b"no picture")
    result = hvcodec("profile", *args, "--images", images, "--model", MODEL)
    assert result.exit_code == 3
    assert f"{images / '0.png'}: this is no picture that hvcodec can read" in result.stderr


@pytest.mark.parametrize("name", ["", "equal", "trained"])
def test_names_that_are_taken_are_refused(images: Path, hvcodec: Hvcodec, name: str) -> None:
    result = hvcodec("profile", "search", "--metric", "psnr", "--name", name, "--images", images, "--model", MODEL)
    assert result.exit_code == 2
    assert f"{name!r} cannot be the name of a profile" in result.stderr
    assert not STORED.exists()
