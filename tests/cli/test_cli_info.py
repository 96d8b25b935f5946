"""hvcodec info, models and profiles: what is shown, for people and for programs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from calling import Hvcodec

import hvcodec as api
from hvcodec import catalog, image
from hvcodec.picture import Picture
from hvcodec.profiles import Effect, Measured, uniform


def test_info_accounts_for_every_byte(packed: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("info", "photo.hvc")
    assert result.exit_code == 0
    head, table = result.stdout.split("\n\n")
    n_bytes = packed.stat().st_size
    assert f"size    56 x 40, 8-bit RGB\nmodel   tiny ({api.inspect(packed.read_bytes()).model_id})" in head
    assert "rho     40,36,30,24,20" in head
    assert f"{n_bytes:,} bytes, {8 * n_bytes / 2240:.4f} bpp, with digests" in head
    rows = [line.split() for line in table.splitlines()[1:]]
    assert [row[:3] for row in rows[:2]] == [["layer", "0", "64"], ["layer", "1", "32"]]
    assert sum(int(row[-3].replace(",", "")) for row in rows) == n_bytes - 4  # the checksum at the end


def test_info_json_is_what_inspect_says(packed: Path, hvcodec: Hvcodec) -> None:
    fields = json.loads(hvcodec("info", "photo.hvc", "--json").stdout)
    info = api.inspect(packed.read_bytes())
    assert fields == {"input": "photo.hvc", **json.loads(json.dumps(info.to_dict()))}
    assert [layer["stride"] for layer in fields["layers"]] == [64, 32, 16, 16, 8, 4]


def test_info_reads_standard_input_and_beginnings_of_files(packed: Path, hvcodec: Hvcodec) -> None:
    info = api.inspect(packed.read_bytes())
    start = packed.read_bytes()[: info.header_bytes + info.chunk_sizes[0] + 1]
    result = hvcodec("info", "-", stdin=start)
    assert result.exit_code == 0
    assert f"cut     {len(start)} bytes are here: 1 of 6 layers are whole" in result.stdout


def test_info_shows_extras(folder: Path, hvcodec: Hvcodec, picture: Picture) -> None:
    image.write(Picture(picture.pixels, xmp=b"<x/>"), "a.png")
    assert hvcodec("compress", "a.png").exit_code == 0
    assert "\nxmp " in hvcodec("info", "a.hvc").stdout


def test_info_works_without_the_model(packed: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(catalog.SEARCH_PATH_VARIABLE, "")
    result = hvcodec("info", "photo.hvc")
    assert result.exit_code == 0
    assert "model   not installed (" in result.stdout


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [(None, 2, "a.hvc: No such file or directory"), (b"\x89PNG", 4, "not an hvcodec file")],
)
def test_info_of_something_else(folder: Path, hvcodec: Hvcodec, content: bytes | None, code: int, told: str) -> None:
    if content is not None:
        Path("a.hvc").write_bytes(content)
    result = hvcodec("info", "a.hvc")
    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr


def test_plot_is_a_picture_and_is_not_replaced(packed: Path, hvcodec: Hvcodec) -> None:
    pytest.importorskip("matplotlib")
    assert hvcodec("info", "photo.hvc", "--plot", "plot.png").exit_code == 0
    assert image.read("plot.png").width > 300
    again = hvcodec("info", "photo.hvc", "--plot", "plot.png")
    assert again.exit_code == 2
    assert "plot.png exists" in again.stderr
    assert hvcodec("info", "photo.hvc", "--plot", "plot.svg").exit_code == 0
    packed.rename("a$^$b.hvc")
    assert hvcodec("info", "a$^$b.hvc", "--plot", "odd.PNG").exit_code == 0
    packed.with_name("a$^$b.hvc").rename(packed)
    unnamed = os.fsdecode(b"b\xff.hvc")
    shutil.copy(packed, unnamed)
    assert hvcodec("info", unnamed, "--plot", "unnamed.png").exit_code == 0
    assert "a plot cannot be written as '.xyz'" in hvcodec("info", "photo.hvc", "--plot", "plot.xyz").stderr


def test_plot_says_what_to_install(packed: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = hvcodec("info", "photo.hvc", "--plot", "plot.png")
    assert result.exit_code == 2
    assert "pip install 'hvcodec[bench]'" in result.stderr


# --- models and profiles ------------------------------------------------------------------------------------


def test_models_are_listed(tiny_model: Path, hvcodec: Hvcodec) -> None:
    entry = catalog.read_entry(tiny_model)
    assert f"{entry.id.hex()}  {tiny_model.stat().st_size:>12,} bytes  equal, psnr" in hvcodec("models").stdout
    listed = [json.loads(line) for line in hvcodec("models", "--json").stdout.splitlines()]
    assert {
        "name": "tiny",
        "id": entry.id.hex(),
        "profiles": ["equal", "psnr"],
        "strides": [64, 32, 16, 16, 8, 4],
        "n_bytes": tiny_model.stat().st_size,
        "path": str(tiny_model),
    } in listed


def test_profiles_say_what_they_are_for(tiny_model: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("profiles", "--model", "tiny")
    assert result.exit_code == 0
    assert "equal (model tiny): the same rate value for every group" in result.stdout
    assert "psnr (model tiny): a made-up path for tests" in result.stdout
    assert "50  40,36,30,24,20" in result.stdout
    listed = [json.loads(line) for line in hvcodec("profiles", "--json").stdout.splitlines()]
    names = [(fields["model"], fields["name"]) for fields in listed]
    assert {("default", "psnr"), ("tiny", "equal"), ("tiny", "psnr")} <= set(names)


def test_profiles_show_what_they_measured(folder: Path, hvcodec: Hvcodec, tiny_model: Path) -> None:
    flat = Effect(0.0, (0.1,) * 5)
    rows = [Measured(p, flat, Effect(30.25 + p, (0.1,) * 5), flat, flat).__dict__ for p in (0.0, 100.0)]
    profile = uniform(5).to_dict() | {"name": "seen", "measured": rows}
    Path("other.safetensors").write_bytes(tiny_model.read_bytes())
    Path("other.profiles.json").write_text(json.dumps([profile], default=lambda effect: effect.__dict__))
    result = hvcodec("profiles", "--model", "other.safetensors")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-2].split() == [
        "100",
        "63,63,63,63,63",
        "1.000",
        "130.250",
        "0.000",
        "0.000",
    ]


def test_damaged_profiles_are_told_and_passed_over(folder: Path, hvcodec: Hvcodec, tiny_model: Path) -> None:
    shutil.copy(tiny_model, folder / "other.safetensors")
    (folder / "other.profiles.json").write_text('[{"x": 1}]')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(catalog.SEARCH_PATH_VARIABLE, os.pathsep.join([str(folder), str(tiny_model.parent)]))
        for command in ("models", "profiles"):
            result = hvcodec(command)
            assert result.exit_code == 0
            assert "passed over" in result.stderr
            assert "other.profiles.json is damaged" in result.stderr
            assert "psnr" in result.stdout
        assert hvcodec("profiles", "--model", "other").exit_code == 6


def test_files_that_are_no_models_are_told_and_passed_over(
    tiny_model: Path, folder: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.safetensors").write_bytes(b"junk")
    monkeypatch.setenv(catalog.SEARCH_PATH_VARIABLE, os.pathsep.join((str(folder), str(tiny_model.parent))))
    result = hvcodec("models", "--json")
    assert result.exit_code == 0
    assert "tiny" in [json.loads(line)["name"] for line in result.stdout.splitlines()]
    junk = folder / "a.safetensors"
    assert result.stderr.startswith(f"passed over {junk}: a.safetensors is not an hvcodec model")
    assert hvcodec("profiles").exit_code == 0
    assert hvcodec("profiles", "--model", junk).exit_code == 6
