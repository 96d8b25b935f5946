"""hvcodec compress: names, settings, refusals, and what it reports."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calling import Hvcodec, names
from PIL import Image as PilImage

import hvcodec as api
from hvcodec import image, metrics
from hvcodec.codec import Codec
from hvcodec.files import PICTURE_SUFFIXES
from hvcodec.picture import Picture
from hvcodec.rate import Bytes

# --- names --------------------------------------------------------------------------------------------------


def test_the_result_lies_beside_its_picture(photo: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("compress", "photo.png")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr.startswith("photo.png -> photo.hvc: ")
    info = api.inspect(Path("photo.hvc").read_bytes())
    assert info.size == (56, 40)
    assert info.rho == (40, 36, 30, 24, 20)  # quality 50 of the profile of the tiny model


def test_endings_that_are_no_pictures_stay_in_the_name(photo: Path, hvcodec: Hvcodec) -> None:
    for name in ("scan.001", "scan.002"):
        Path(name).write_bytes(photo.read_bytes())
    assert hvcodec("compress", "scan.001", "scan.002").exit_code == 0
    assert names(photo.parent) == ["photo.png", "scan.001", "scan.001.hvc", "scan.002", "scan.002.hvc"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("b.hvc", "b.hvc"),
        ("b", "b"),
        ("new/", "new/photo.hvc"),
        ("old", "old/photo.hvc"),
        ("p/q.hvc", "p/q.hvc"),
    ],
)
def test_output_names_a_file_or_a_folder(photo: Path, hvcodec: Hvcodec, output: str, expected: str) -> None:
    Path("old").mkdir()
    assert hvcodec("compress", "photo.png", "-o", output).exit_code == 0
    assert names(photo.parent) == sorted([expected, "photo.png"])


def test_a_folder_is_searched_and_mirrored(photo: Path, hvcodec: Hvcodec, picture: Picture) -> None:
    for name in ("in/a.png", "in/deep/b.PNG", "in/.hidden.png", "in/.cache/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(photo.read_bytes())
    Path("in/notes.txt").write_text("no picture")
    result = hvcodec("compress", "in", "photo.png", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert names(Path("out")) == ["a.hvc", "deep/b.hvc", "photo.hvc"]
    assert hvcodec("compress", "in").exit_code == 0
    assert Path("in/deep/b.hvc").read_bytes() == Path("out/deep/b.hvc").read_bytes()


def close_to_all(name: str, patch: pytest.MonkeyPatch) -> None:
    """Let nobody read the folders of this name, not even root."""

    def closed(look: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def looking(path: Any) -> Any:
            if Path(path).name == name:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return look(path)

        return looking

    patch.setattr(os, "scandir", closed(os.scandir))
    patch.setattr(os, "listdir", closed(os.listdir))


def test_what_a_folder_cannot_give_is_told(photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("in/a.png", "in/locked/b.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(photo.read_bytes())
    Path("in/gone.png").symlink_to("nowhere.png")
    with monkeypatch.context() as patch:
        close_to_all("locked", patch)
        result = hvcodec("compress", "in", "-o", "out")
    assert result.exit_code == 2
    assert "in/gone.png: No such file or directory" in result.stderr
    assert "in/locked: Permission denied" in result.stderr
    assert names(Path("out")) == ["a.hvc"]


def test_a_folder_that_cannot_be_read_is_told(photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in").mkdir()
    with monkeypatch.context() as patch:
        close_to_all("in", patch)
        results = [hvcodec("compress", "in", *output) for output in ([], ["-o", "out"])]
    assert [(result.exit_code, result.stderr) for result in results] == [(2, "Error: in: Permission denied\n")] * 2


@pytest.mark.parametrize("name", ["loop.png", "x" * 300 + ".png"])
def test_names_that_lead_nowhere_are_wrong_paths(folder: Path, hvcodec: Hvcodec, name: str) -> None:
    Path("loop.png").symlink_to("loop.png")
    for args in ((name, "-o", "x.hvc"), (name,)):
        result = hvcodec("compress", *args)
        assert result.exit_code == 2, result.stderr
        assert "unexpected" not in result.stderr


def test_a_folder_without_pictures_is_told(folder: Path, hvcodec: Hvcodec) -> None:
    Path("empty").mkdir()
    result = hvcodec("compress", "empty")
    assert result.exit_code == 2
    assert "the folder empty holds no pictures" in result.stderr


def test_what_counts_as_a_picture_in_a_folder_can_be_read() -> None:
    from PIL import Image

    Image.init()
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in PICTURE_SUFFIXES} <= {*image._READABLE, "MPO"}
    assert {f".{extension}" for extension in image._WRITABLE} <= PICTURE_SUFFIXES


# --- what is refused ----------------------------------------------------------------------------------------


def test_an_existing_output_is_kept_without_force(photo: Path, hvcodec: Hvcodec) -> None:
    Path("photo.hvc").write_bytes(b"precious")
    result = hvcodec("compress", "photo.png")
    assert result.exit_code == 2
    assert result.stderr == ("Error: photo.png: photo.hvc exists: say --force to replace it, or name another with -o\n")
    assert Path("photo.hvc").read_bytes() == b"precious"
    assert hvcodec("compress", "photo.png", "--force").exit_code == 0
    assert Path("photo.hvc").read_bytes() != b"precious"


@pytest.mark.parametrize("args", [[""], ["photo.png", ""], ["photo.png", "-o", ""]])
def test_an_empty_name_is_wrong_use(photo: Path, hvcodec: Hvcodec, args: list[str]) -> None:
    result = hvcodec("compress", *args)
    assert result.exit_code == 2
    assert "the name of a file is empty" in result.stderr
    assert names(photo.parent) == ["photo.png"]


@pytest.mark.parametrize("command", [["compress", "photo.png"], ["decompress", "photo.hvc"], ["train", "toy"]])
def test_more_threads_than_help_are_refused(photo: Path, hvcodec: Hvcodec, command: list[str]) -> None:
    result = hvcodec(*command, "--threads", "100000")
    assert result.exit_code == 2
    assert "--threads" in result.stderr


@pytest.mark.parametrize("force", [False, True])
def test_what_appears_meanwhile_is_kept_without_force(
    photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    compress = Codec.compress

    def slow(*args: Any, **kwargs: Any) -> Any:
        Path("photo.hvc").write_bytes(b"precious")
        return compress(*args, **kwargs)

    monkeypatch.setattr(Codec, "compress", slow)
    result = hvcodec("compress", "photo.png", *["--force"] * force)
    assert result.exit_code == (0 if force else 2)
    assert ("photo.hvc: File exists" in result.stderr) is not force
    assert (Path("photo.hvc").read_bytes() == b"precious") is not force


def test_a_folder_that_cannot_be_written_to_is_refused_first(
    photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Codec, "compress", lambda *_, **__: pytest.fail("it was compressed"))
    result = hvcodec("compress", "photo.png", "-o", "photo.png/x.hvc")
    assert result.exit_code == 2
    assert "photo.png is no folder that can be written to" in result.stderr
    monkeypatch.setattr(os, "access", lambda *_: False)
    result = hvcodec("compress", "photo.png", "-o", "new/deep/x.hvc")
    assert result.exit_code == 2
    assert f"{photo.parent} is no folder that can be written to" in result.stderr


def test_two_inputs_never_share_an_output(photo: Path, hvcodec: Hvcodec, picture: Picture) -> None:
    image.write(picture, "photo.ppm")
    result = hvcodec("compress", "photo.png", "photo.ppm", "--force", "--quality", "0")
    assert result.exit_code == 2
    assert "photo.ppm: photo.hvc is already the output of photo.png" in result.stderr
    assert names(photo.parent) == ["photo.hvc", "photo.png", "photo.ppm"]


def test_an_input_that_fails_leaves_its_name_to_others(photo: Path, hvcodec: Hvcodec) -> None:
    Path("in").mkdir()
    photo.rename("in/p.png")
    Path("in/p.gif").write_bytes(b"no picture")
    result = hvcodec("compress", "in")
    assert result.exit_code == 3
    assert "already the output" not in result.stderr
    assert names(Path("in")) == ["p.gif", "p.hvc", "p.png"]


def test_the_input_is_never_replaced(photo: Path, hvcodec: Hvcodec) -> None:
    before = photo.read_bytes()
    result = hvcodec("compress", "photo.png", "-o", "photo.png", "--force")
    assert (result.exit_code, photo.read_bytes()) == (2, before)
    assert "the output would replace the input" in result.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["photo.png", "photo.png", "-o", "photo.png"], "several inputs need a folder"),
        (["photo.png", "photo.png", "-o", "-"], "several outputs do not fit into standard output"),
        (["photo.png", "-o", "-", "--json"], "standard output cannot take both"),
        (["-", "-", "-o", "out"], "standard input can be read once only"),
        (["-", "-o", "out/"], "standard input has no name"),
        (["photo.png", "--quality", "50", "--psnr", "30"], "exclude each other"),
        (["photo.png", "--size", "9k", "--bpp", "1"], "exclude each other"),
        (["photo.png", "--rho", "1,2,3,4,5", "--ssimulacra2", "70"], "exclude each other"),
        (["photo.png", "--rho", "1,2,3,4,5", "--rate-profile", "psnr"], "--rate-profile has no say"),
        (["photo.png", "--rho", "1,2,x"], "not a list of whole numbers"),
        (["photo.png", "--rho", "1,2,3"], "a rate vector is 5 whole numbers"),
        (["photo.png", "--rho", "1,2,3,4,64"], "a rate vector is 5 whole numbers 0..63"),
        (["photo.png", "--quality", "101"], "101.0 is not in the range"),
        (["photo.png", "--size", "many"], "'many' is not a file size"),
        (["photo.png", "--bpp", "-1"], "bits per pixel are positive"),
        (["photo.png", "--rate-profile", "nix"], "no rate profile 'nix'; it has: equal, psnr"),
        (["photo.png", "--threads", "0"], "0 is not in the range"),
        ([], "Missing argument"),
    ],
)
def test_wrong_use_is_exit_2_and_writes_nothing(photo: Path, hvcodec: Hvcodec, args: list[str], told: str) -> None:
    result = hvcodec("compress", *args, stdin=b"")
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""
    assert names(photo.parent) == ["photo.png"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_lacks_is_exit_2(photo: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("compress", "photo.png", "--device", "cuda")
    assert result.exit_code == 2
    assert "no CUDA device" in result.stderr


def test_a_missing_model_is_exit_6(photo: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("compress", "photo.png", "--model", "nix")
    assert result.exit_code == 6
    assert "there is no model named nix; installed:" in result.stderr


# --- settings -----------------------------------------------------------------------------------------------


def test_quality_and_profile_choose_the_rates(photo: Path, hvcodec: Hvcodec) -> None:
    assert hvcodec("compress", "photo.png", "--quality", "0", "-o", "low.hvc").exit_code == 0
    assert hvcodec("compress", "photo.png", "--rate-profile", "equal", "--quality", "100", "-o", "e.hvc").exit_code == 0
    assert hvcodec("compress", "photo.png", "--rho", "1,2,3,4,5", "-o", "rho.hvc").exit_code == 0
    rhos = [api.inspect(Path(name).read_bytes()).rho for name in ("low.hvc", "e.hvc", "rho.hvc")]
    assert rhos == [(20, 16, 10, 4, 0), (63,) * 5, (1, 2, 3, 4, 5)]


def test_size_is_kept(photo: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("compress", "photo.png", "--size", "2.5k", "--json")
    assert result.exit_code == 0, result.stderr
    fields = json.loads(result.stdout)
    assert 0.9 * 2500 < fields["n_bytes"] <= 2500
    assert (fields["target"], fields["reached"]) == ("2500 bytes", f"{fields['n_bytes']} bytes")


def test_a_target_that_is_met_loosely_is_told(photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch) -> None:
    for window, met in ((5.0, True), (1e-9, False)):
        monkeypatch.setattr(Bytes, "window", window)  # as on pictures so small that settings lie far apart
        result = hvcodec("compress", "photo.png", "--size", "2501", "--json", "--force")
        assert result.exit_code == 0, result.stderr
        fields = json.loads(result.stdout)
        assert fields["met"] is met
        told = f"\n  {fields['n_bytes']} bytes is the nearest to 2501 bytes that was found\n"
        assert (told in result.stderr) is not met


def test_an_unreachable_target_is_exit_7_and_writes_nothing(photo: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("compress", "photo.png", "--psnr", "90")
    assert result.exit_code == 7
    assert "no setting gives 90 dB PSNR: the nearest gives" in result.stderr
    assert names(photo.parent) == ["photo.png"]


@pytest.mark.parametrize(("asked", "end"), [(["--psnr", "3"], 0), (["--size", "1M"], 100)])
def test_beyond_an_end_of_the_profile_the_end_is_told(
    photo: Path, hvcodec: Hvcodec, asked: list[str], end: int
) -> None:
    result = hvcodec("compress", "photo.png", *asked)
    assert result.exit_code == 7
    assert f", at an end of the profile (quality {end})\n" in result.stderr
    assert names(photo.parent) == ["photo.png"]


def test_digests_are_written_when_asked_for(photo: Path, hvcodec: Hvcodec) -> None:
    assert hvcodec("compress", "photo.png", "--digests").exit_code == 0
    assert api.inspect(Path("photo.hvc").read_bytes()).has_digests


def test_a_model_can_be_named_by_its_path(photo: Path, hvcodec: Hvcodec, tiny_model: Path) -> None:
    assert hvcodec("compress", "photo.png", "--model", tiny_model, "--threads", "1").exit_code == 0
    assert hvcodec("compress", "photo.png", "--model", "tiny", "-o", "b.hvc").exit_code == 0
    assert Path("photo.hvc").read_bytes() == Path("b.hvc").read_bytes()


def test_bfloat16_gives_a_file_that_verifies(photo: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("compress", "photo.png", "--dtype", "bfloat16", "--verify")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.endswith(", verified\n")


# --- what it reports ----------------------------------------------------------------------------------------


def test_json_is_one_object_per_input(photo: Path, hvcodec: Hvcodec, picture: Picture) -> None:
    Path("bad.png").write_bytes(b"no picture")
    result = hvcodec("compress", "photo.png", "bad.png", "--json", "-q", "-o", "out", "--verify")
    assert result.exit_code == 3
    good, bad = map(json.loads, result.stdout.splitlines())
    data = Path("out/photo.hvc").read_bytes()
    shown = api.decompress(data, kind="array")
    assert good.pop("time_s") > 0
    assert good == {
        "input": "photo.png",
        "output": str(Path("out/photo.hvc")),
        "width": 56,
        "height": 40,
        "n_bytes": len(data),
        "bpp": 8 * len(data) / (56 * 40),
        "rho": [40, 36, 30, 24, 20],
        "psnr_db": metrics.psnr(picture.pixels, shown),
        "verified": True,
    }
    assert (bad["input"], bad["error"]) == ("bad.png", "ImageError")
    assert bad["message"] in result.stderr


def test_a_failure_does_not_stop_the_rest_and_the_first_gives_the_code(photo: Path, hvcodec: Hvcodec) -> None:
    Path("bad.png").write_bytes(b"no picture")
    result = hvcodec("compress", "missing.png", "bad.png", "photo.png")
    assert result.exit_code == 2
    missing, bad, good = result.stderr.splitlines()
    assert missing == "Error: missing.png: No such file or directory"
    assert bad.startswith("Error: bad.png: this is no picture that hvcodec can read")
    assert good.startswith("photo.png -> photo.hvc")
    assert hvcodec("compress", "bad.png", "missing.png").exit_code == 3


def test_quiet_and_verbose(photo: Path, hvcodec: Hvcodec) -> None:
    assert hvcodec("compress", "photo.png", "-q").stderr == ""
    told = hvcodec("compress", "photo.png", "-v", "--force").stderr
    model_id = api.inspect(Path("photo.hvc").read_bytes()).model_id
    assert "PSNR" in told and f"model tiny ({model_id})" in told


# --- nothing wrong and nothing half is written --------------------------------------------------------------


def test_verify_refuses_a_file_that_decodes_to_something_else(
    photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Codec.decode

    def off_by_one(self: Codec, data: bytes, **options: Any) -> Picture:
        picture = decode(self, data, **options)
        pixels = picture.pixels.copy()
        pixels[7, 5, 1] ^= 1
        return replace(picture, pixels=pixels)

    monkeypatch.setattr(Codec, "decode", off_by_one)
    result = hvcodec("compress", "photo.png", "--verify")
    assert result.exit_code == 1
    assert "does not decode to what its encoder expects" in result.stderr
    assert names(photo.parent) == ["photo.png"]


def test_verify_compares_alpha_and_metadata(
    folder: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch, picture: Picture
) -> None:
    alpha = np.arange(40 * 56, dtype=np.uint8).reshape(40, 56)
    image.write(replace(picture, alpha=alpha, xmp=b"<x/>"), "full.png")
    assert hvcodec("compress", "full.png", "--verify", "-o", "ok.hvc").exit_code == 0
    decode = Codec.decode
    for changes in ({"alpha": 255 - alpha}, {"alpha": None}, {"xmp": None}):
        monkeypatch.setattr(Codec, "decode", lambda *a, changes=changes, **k: replace(decode(*a, **k), **changes))
        assert hvcodec("compress", "full.png", "--verify").exit_code == 1
    assert names(folder) == ["full.png", "ok.hvc"]


def test_a_full_disk_leaves_nothing_behind(photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(os, "replace", full)
    result = hvcodec("compress", "photo.png")
    assert result.exit_code == 1
    assert result.stderr == "Error: photo.png: photo.hvc: No space left on device\n"
    assert names(photo.parent) == ["photo.png"]


def test_ctrl_c_stops_everything_and_leaves_nothing(
    photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Codec, "compress", interrupt)
    result = hvcodec("compress", "photo.png", "photo.png", "-o", "out")
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"
    assert names(photo.parent) == ["photo.png"]


# --- effort -------------------------------------------------------------------------------------------------


def test_effort_makes_another_file_of_the_same_picture(photo: Path, hvcodec: Hvcodec) -> None:
    sizes = []
    for effort in ("0", "1", "2"):
        result = hvcodec("compress", "photo.png", "-o", f"{effort}.hvc", "--effort", effort, "--verify")
        assert result.exit_code == 0, result.stderr
        sizes.append(Path(f"{effort}.hvc").read_bytes())
    assert len(set(sizes)) == 3
    assert hvcodec("compress", "photo.png", "-o", "3.hvc", "--effort", "1").exit_code == 0
    assert Path("3.hvc").read_bytes() == sizes[1]
    refused = hvcodec("compress", "photo.png", "-o", "4.hvc", "--effort", "10")
    assert refused.exit_code == 2
    assert not Path("4.hvc").exists()


def test_an_interrupted_refinement_keeps_the_best(
    photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress = Codec.compress

    def interrupted(self: Codec, *args: Any, go_on: Any, **kwargs: Any) -> Any:
        def go_on_once(done: float) -> bool:
            if done > 0:
                signal.raise_signal(signal.SIGINT)
            return bool(go_on(done))

        return compress(self, *args, go_on=go_on_once, **kwargs)

    monkeypatch.setattr(Codec, "compress", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have the tests ignore it
    try:
        result = hvcodec("compress", "photo.png", "--effort", "9", "--verify")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 0, result.stderr
    assert "keeping the best so far" in result.stderr
    assert Path("photo.hvc").is_file()


def test_who_ignores_interrupts_goes_on_doing_so(
    photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a job in the background of a script does."""
    compress, found = Codec.compress, []

    def noted(self: Codec, *args: Any, **kwargs: Any) -> Any:
        found.append(signal.getsignal(signal.SIGINT))
        return compress(self, *args, **kwargs)

    monkeypatch.setattr(Codec, "compress", noted)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert hvcodec("compress", "photo.png", "--effort", "2").exit_code == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [signal.SIG_IGN]


def test_a_mask_moves_bits(photo: Path, hvcodec: Hvcodec, picture: Picture) -> None:
    mask = np.zeros((40, 56), np.uint8)
    mask[:, :28] = 255
    image.write(Picture(mask), Path("mask.png"))
    image.write(Picture(np.repeat(mask[:, :, None], 3, axis=2)), Path("colours.png"))
    for name, args in {"plain": [], "grey": ["--roi", "mask.png"], "rgb": ["--roi", "colours.png"]}.items():
        result = hvcodec("compress", "photo.png", "-o", f"{name}.hvc", "--verify", *args)
        assert result.exit_code == 0, result.stderr
    plain, grey, rgb = (Path(f"{name}.hvc").read_bytes() for name in ("plain", "grey", "rgb"))
    assert grey == rgb != plain


def test_a_mask_of_another_size_is_refused(photo: Path, hvcodec: Hvcodec) -> None:
    image.write(Picture(np.zeros((40, 50), np.uint8)), Path("mask.png"))
    result = hvcodec("compress", "photo.png", "--roi", "mask.png")
    assert result.exit_code == 2
    assert "the mask is 50 x 40, but the picture 56 x 40" in result.stderr
    assert not Path("photo.hvc").exists()


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_mask_lies_as_the_picture_is_displayed(
    folder: Path, hvcodec: Hvcodec, picture: Picture, orientation: int
) -> None:
    tags = PilImage.Exif()
    tags[0x0112] = orientation
    turned = replace(picture, exif=tags.tobytes().removeprefix(b"Exif\0\0"))
    image.write(turned, Path("photo.png"))
    as_stored = np.zeros((40, 56), np.uint8)
    as_stored[:20, :20] = 255
    image.write(Picture(np.ascontiguousarray(image.as_displayed(Picture(as_stored, exif=turned.exif)))), Path("m.png"))
    assert hvcodec("compress", "photo.png", "--roi", "m.png").exit_code == 0
    assert Path("photo.hvc").read_bytes() == Codec().compress(turned, roi=as_stored).data


def test_a_mask_that_cannot_be_read_is_named_once(photo: Path, hvcodec: Hvcodec) -> None:
    Path("mask.png").write_bytes(b"no picture")
    result = hvcodec("compress", "photo.png", "photo.png", "-o", "out", "--roi", "mask.png")
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: mask.png: this is no picture")
    assert names(photo.parent) == ["mask.png", "photo.png"]
