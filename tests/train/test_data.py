"""Packing, shards and crops, on a folder of small synthetic pictures."""

from __future__ import annotations

import json
import logging
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hvcodec.errors import ConfigError
from hvcodec.train.cache import _remove_abandoned, decode, find_pictures
from hvcodec.train.data import Cache, Crops, DeviceCutter, HostCutter, held_out, pack, shards

SIZE = 32


def smooth(height: int, width: int, seed: int) -> np.ndarray:
    """A picture of waves: smooth enough that two resizing filters agree, and different everywhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = []
    for _ in range(3):
        fy, fx, phase = rng.uniform(0.02, 0.3), rng.uniform(0.02, 0.3), rng.uniform(0, 6)
        planes.append(127.5 + 120 * np.sin(fy * y + fx * x + phase))
    return np.stack(planes, axis=2).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    for i in range(12):
        name = f"more/p{i:02d}.png" if i % 3 == 0 else f"p{i:02d}.png"
        Image.fromarray(smooth(40 + 5 * i, 90 - 4 * i, i)).save(pictures / name)
    return pictures


@pytest.fixture
def cache(folder: Path, tmp_path: Path) -> Cache:
    return Cache.open(pack(folder, tmp_path / "cache", min_side=SIZE))


def test_the_cache_holds_every_pixel_of_every_picture(folder: Path, cache: Cache) -> None:
    assert len(cache) == 12
    assert list(cache.names) == sorted(cache.names)
    for i, name in enumerate(cache.names):
        np.testing.assert_array_equal(cache.picture(i), np.asarray(Image.open(folder / name)))


def test_packing_again_writes_nothing_unless_the_folder_changed(folder: Path, tmp_path: Path) -> None:
    path = pack(folder, tmp_path / "cache", min_side=SIZE)
    before = Cache.open(path)
    written = (path / "index.json").stat().st_mtime_ns
    pack(folder, tmp_path / "cache", min_side=SIZE)
    assert (path / "index.json").stat().st_mtime_ns == written

    Image.fromarray(smooth(50, 50, 99)).save(folder / "new.png")
    pack(folder, tmp_path / "cache", min_side=SIZE)
    after = Cache.open(path)
    assert len(after) == len(before) + 1
    assert after.fingerprint != before.fingerprint
    assert len(list(path.glob("pixels-*"))) == 1


def test_packing_removes_what_killed_processes_left_and_not_what_is_being_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache"
    left = path / "pixels-0123456789abcdef.1.tmp"
    seen = set()

    def decode_while_another_begins(data: bytes) -> np.ndarray:
        _remove_abandoned(path)
        seen.update(path.glob("pixels-*.tmp"))
        return decode(data)

    monkeypatch.setattr("hvcodec.train.cache.decode", decode_while_another_begins)
    for _ in ("while it packs", "when all is packed already"):
        path.mkdir(exist_ok=True)
        left.write_bytes(b"half of it")
        pack(folder, path, min_side=SIZE)
        assert {file.suffix for file in path.iterdir()} == {".json", ".bin"}
    assert len(seen) == 1
    assert left not in seen


def test_what_is_unreadable_or_small_is_skipped_and_counted(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "torn.png").write_bytes((folder / "p01.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("not a picture")
    Image.fromarray(smooth(SIZE - 1, 80, 5)).save(folder / "narrow.png")
    with caplog.at_level(logging.WARNING):
        cache = Cache.open(pack(folder, tmp_path / "cache", min_side=SIZE))
    assert len(cache) == 12
    assert "packed 12 pictures" in caplog.text
    assert "  1 (torn.png): the PNG file is damaged: it ends early" in caplog.text
    assert f"  1 (narrow.png): a side is below {SIZE} pixels" in caplog.text
    assert "notes.txt" not in caplog.text


def test_every_picture_that_is_left_out_is_counted_with_its_reason(
    folder: Path, cache: Cache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "x.tga").write_bytes(b"not opened")
    assert Cache.open(pack(folder, tmp_path / "cache2", min_side=SIZE)).fingerprint == cache.fingerprint
    for name in ("one.jpg", "two.jpg"):
        Image.new("CMYK", (SIZE, SIZE)).save(folder / name)
    Image.new("F", (SIZE, SIZE)).save(folder / "deep.tif")
    frames = [Image.fromarray(smooth(SIZE, SIZE, i)) for i in range(2)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "whole.jpg", quality=95)
    for name, n_bytes in (("cut1.jpg", 700), ("cut2.jpg", 800)):
        (folder / name).write_bytes((tmp_path / "whole.jpg").read_bytes()[:n_bytes])
    expected = (
        "1 (x.tga): hvcodec does not read this format: save it as PNG",
        "2 (one.jpg, two.jpg): this is a CMYK picture: convert it to RGB",
        "1 (deep.tif): this picture has floating point samples",
        "1 (moving.gif): this is an animation",
        "2 (cut1.jpg, cut2.jpg): the picture cannot be read: it is damaged",
    )
    for left_out_by in (
        lambda: pack(folder, tmp_path / "cache2", min_side=SIZE),
        lambda: shards(folder, tmp_path / "shards", codec="png"),
    ):
        caplog.clear()
        left_out_by()
        assert len(caplog.records) == 1
        assert [line for line in expected if line not in caplog.text] == []
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".tga":
            path.unlink()
    (folder / "more").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"no pictures in(?s:.*)1 \(x.tga\): hvcodec does not read this format"):
        pack(folder, tmp_path / "cache2")


@pytest.mark.skipif(os.name != "posix", reason="no pipes and links for everybody here")
def test_what_is_no_file_is_left_out_and_counted(
    folder: Path, cache: Cache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("nowhere.png")
    (folder / "p01.png").rename(tmp_path / "p01.png")
    (folder / "p01.png").symlink_to(tmp_path / "p01.png")
    (folder / "album.png").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "more pictures").symlink_to(tmp_path / "elsewhere")
    packed = Cache.open(pack(folder, tmp_path / "cache2", min_side=SIZE))
    shards(folder, tmp_path / "shards")
    assert packed.fingerprint == cache.fingerprint
    assert Cache.open(pack(tmp_path / "shards", tmp_path / "cache3", min_side=SIZE)).fingerprint == cache.fingerprint
    assert [record.name for record in caplog.records] == ["hvcodec.train.cache", "hvcodec.train.shards"]
    assert caplog.text.count("2 (link.png, pipe.png): it is a link to what is not there, or no regular file") == 2
    assert caplog.text.count("1 (more pictures): it is a link to a folder") == 2
    os.mkfifo(folder / "x.shard.zip")
    with pytest.raises(ConfigError, match="not a whole shard"):
        pack(folder, tmp_path / "cache2")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names are text")
def test_a_name_that_is_no_text_is_left_out(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.rename(folder / "p01.png", os.fsencode(folder) + b"/caf\xe9.png")
    with caplog.at_level(logging.WARNING):
        assert len(Cache.open(pack(folder, tmp_path / "cache", min_side=SIZE))) == 11
    assert "1 (caf\\udce9.png): its name is not UTF-8: rename it" in caplog.text
    assert shards(folder, tmp_path / "out", codec="png")


def test_hidden_folders_and_the_plots_of_runs_are_passed_over(folder: Path, tmp_path: Path) -> None:
    before = pack(folder, tmp_path / "cache", min_side=SIZE)
    fingerprint = Cache.open(before).fingerprint
    for place in (".thumbnails", "runs/first"):
        (folder / place).mkdir(parents=True)
        Image.fromarray(smooth(64, 64, 5)).save(folder / place / "loss.png")
    (folder / "runs/first/log.jsonl").write_text("")
    (folder / "log.jsonl").write_text("")  # a run right beside the pictures hides no other PNG
    assert Cache.open(pack(folder, tmp_path / "cache", min_side=SIZE)).fingerprint == fingerprint


def test_pictures_of_every_format_that_the_codec_takes_are_packed(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    names = ["a.gif", "b.jfif", "c.pgm", "d.JPE", "e.qoi", "f.ico", "g.j2k"]
    for i, name in enumerate(names):
        Image.fromarray(smooth(SIZE, SIZE, i)).convert("L").convert("RGB").save(tmp_path / "p" / name)
    shards(tmp_path / "p", tmp_path / "shards")
    for folder in ("p", "shards"):
        assert list(Cache.open(pack(tmp_path / folder, tmp_path / "cache", min_side=SIZE)).names) == sorted(names)


def test_a_folder_without_a_usable_picture_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"12 \(more/p00.png, .*, \.\.\.\): a side is below 500 pixels"):
        pack(folder, tmp_path / "cache", min_side=500)
    assert not list((tmp_path / "cache").iterdir())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no pictures in"):
        pack(tmp_path / "empty", tmp_path / "cache")
    with pytest.raises(ConfigError, match="does not exist"):
        pack(tmp_path / "nowhere", tmp_path / "cache")


def test_grey_deep_and_transparent_pictures_become_eight_bit_rgb(tmp_path: Path) -> None:
    grey = smooth(20, 30, 1)[:, :, 0]
    for name, image in {
        "grey": Image.fromarray(grey),
        "deep": Image.fromarray(grey.astype(np.uint16) * 257),
        "alpha": Image.fromarray(np.dstack([grey, grey, grey, grey])),
    }.items():
        image.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(decode((tmp_path / f"{name}.png").read_bytes()), np.dstack([grey] * 3))


def test_a_damaged_cache_is_refused(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a readable cache"):
        Cache.open(tmp_path)
    path = tmp_path / "cache"
    pixels = next(path.glob("pixels-*"))
    os.truncate(pixels, pixels.stat().st_size - 1)
    with pytest.raises(ConfigError, match="not a readable cache"):
        Cache.open(path)


@pytest.mark.parametrize("codec", ["original", "png", "webp"])
def test_shards_keep_the_pictures_and_their_limit(folder: Path, cache: Cache, tmp_path: Path, codec: str) -> None:
    (folder / "MANIFEST.tsv").write_text("file\tlicence\n")
    limit = 16_000
    paths = shards(folder, tmp_path / "shards", max_bytes=limit, codec=codec)
    assert len(paths) > 1
    assert all(path.stat().st_size <= limit for path in paths)
    with zipfile.ZipFile(paths[0]) as shard:
        assert shard.read("MANIFEST.tsv") == b"file\tlicence\n"
        assert json.loads(shard.read("shard.json"))["codec"] == codec
    back = Cache.open(pack(tmp_path / "shards", tmp_path / "cache2", min_side=SIZE))
    np.testing.assert_array_equal(back.pixels, cache.pixels)
    assert [name.rsplit(".")[0] for name in back.names] == [name.rsplit(".")[0] for name in cache.names]
    if codec == "original":
        assert back.fingerprint == cache.fingerprint


def test_every_manifest_travels_from_folders_and_from_shards(folder: Path, tmp_path: Path) -> None:
    for place, line in (("", "p01.png\tCC0"), ("more", "p00.png\tCC BY")):
        (folder / place / "MANIFEST.tsv").write_text(f"file\tlicence\n{line}\n")
    parcels = tmp_path / "parcels"
    shards(folder, parcels / "one", max_bytes=30_000)
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(smooth(50, 50, 99)).save(other / "new.png")
    (other / "MANIFEST.tsv").write_text("file\tlicence\nnew.png\tCC0\n")
    shards(other, parcels / "two")
    for path in shards(parcels, tmp_path / "together", max_bytes=30_000):
        assert path.stat().st_size <= 30_000
        with zipfile.ZipFile(path) as shard:
            assert shard.read("MANIFEST.tsv") == b"file\tlicence\np01.png\tCC0\nnew.png\tCC0\n"
            assert shard.read("more/MANIFEST.tsv") == b"file\tlicence\np00.png\tCC BY\n"
    damaged = parcels / "two" / "pictures-0000.shard.zip"
    damaged.write_bytes(damaged.read_bytes().replace(b"new.png\tCC0", b"new.png\tCC1"))
    with pytest.raises(ConfigError, match=r"pictures-0000\.shard\.zip is not a whole shard: .*; fetch it again"):
        shards(parcels, tmp_path / "none")


@pytest.mark.parametrize(
    ("codec", "renamed"), [("png", "a.jpg.png.png"), ("webp", "a.jpg.webp"), ("jpeg", "a.jpg.jpeg")]
)
def test_recoded_pictures_keep_names_of_their_own(tmp_path: Path, codec: str, renamed: str) -> None:
    (tmp_path / "p").mkdir()
    names = ("a.PNG", "a.jpg", "a.jpg.png", "a.webp", "b.png")
    for i, name in enumerate(names):
        Image.fromarray(smooth(SIZE + i, SIZE, i)).save(tmp_path / "p" / name)
    paths = shards(tmp_path / "p", tmp_path / "shards", codec=codec)
    with zipfile.ZipFile(paths[0]) as shard:
        assert renamed in shard.namelist()
    originals = Cache.open(pack(tmp_path / "p", tmp_path / "cache", min_side=SIZE))
    recoded = Cache.open(pack(tmp_path / "shards", tmp_path / "cache2", min_side=SIZE))
    assert sorted(recoded.heights) == sorted(originals.heights) == [SIZE + i for i in range(len(names))]
    sides = dict(zip(originals.heights, held_out(originals.names, 0.5), strict=True))
    assert sides == dict(zip(recoded.heights, held_out(recoded.names, 0.5), strict=True))


def test_each_shard_can_be_read_alone(folder: Path, cache: Cache, tmp_path: Path) -> None:
    paths = shards(folder, tmp_path / "shards", max_bytes=30_000)
    counts = []
    for i, path in enumerate(paths):
        alone = tmp_path / f"alone{i}"
        alone.mkdir()
        path.rename(alone / path.name)
        counts.append(len(Cache.open(pack(alone, tmp_path / f"cache-{i}", min_side=SIZE))))
    assert sum(counts) == len(cache)
    assert min(counts) > 0


def test_shards_replace_others_only_by_force_and_then_all_of_them(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    before = {path: path.read_bytes() for path in shards(folder, out, max_bytes=16_000)}
    (folder / "p01.png").unlink()
    with pytest.raises(FileExistsError, match="holds shards already; say --force"):
        shards(folder, out)
    with pytest.raises(ConfigError, match="fits into no shard"):
        shards(folder, out, max_bytes=5_000, force=True)
    assert {path: path.read_bytes() for path in out.iterdir()} == before

    (out / ".pictures-7.tmp").write_text("of a process that was killed")
    paths = shards(folder, out, force=True)
    assert list(out.iterdir()) == paths
    assert len(paths) < len(before)
    assert "p01.png" not in Cache.open(pack(out, tmp_path / "cache", min_side=SIZE)).names


def test_shards_do_not_become_a_part_of_their_own_folder(folder: Path) -> None:
    for out in (folder, folder / "parcel"):
        with pytest.raises(ConfigError, match="name another folder"):
            shards(folder, out, force=True)
    assert not (folder / "parcel").exists()


def test_a_picture_that_is_there_twice_counts_once(folder: Path, cache: Cache, tmp_path: Path) -> None:
    shards(folder, tmp_path / "one")
    shards(folder, tmp_path / "two", max_bytes=30_000)
    (tmp_path / "one").rename(folder / "one")
    (tmp_path / "two").rename(folder / "two")
    assert Cache.open(pack(folder, tmp_path / "cache2", min_side=SIZE)).fingerprint == cache.fingerprint


def test_two_pictures_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    parcel = shards(folder, tmp_path / "data" / "a")[0]
    Image.fromarray(smooth(50, 50, 99)).save(folder / "p01.png")
    other = shards(folder, tmp_path / "data" / "b")[0]
    with pytest.raises(ConfigError, match=f"called p01.png, one of {parcel} and one of {other}: keep one"):
        pack(tmp_path / "data", tmp_path / "cache")
    other.unlink()
    picture = (folder / "p01.png").rename(tmp_path / "data" / "p01.png")
    with pytest.raises(ConfigError, match=f"called p01.png, one of {parcel} and one of {picture}"):
        pack(tmp_path / "data", tmp_path / "cache")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_pictures_of_one_name_in_one_shard_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "old.shard.zip", "w") as shard:
        shard.writestr("a.png", b"one")
        shard.writestr("a.png", b"two")
    with pytest.raises(ConfigError, match="two different pictures are called"):
        pack(tmp_path, tmp_path / "cache")


def test_shards_say_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fits into no shard"):
        shards(folder, tmp_path / "shards", max_bytes=1_000)
    with pytest.raises(ConfigError, match="unknown shard codec 'gif'"):
        shards(folder, tmp_path / "shards", codec="gif")
    torn = tmp_path / "torn"
    torn.mkdir()
    whole = shards(folder, tmp_path / "shards", codec="jpeg")[0].read_bytes()
    (torn / "x.shard.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="not a whole shard"):
        pack(torn, tmp_path / "cache", min_side=SIZE)


def test_held_out_pictures_never_reach_training(cache: Cache) -> None:
    train = Crops(cache, SIZE, 4, "cpu", 1, held_out_share=0.3)
    check = Crops(cache, SIZE, 4, "cpu", 1, held_out_share=0.3, validation=True)
    seen = {int(p) for step in range(100) for p in train.plan(step).picture}
    kept = {int(p) for step in range(20) for p in check.plan(step).picture}
    assert seen | kept == set(range(len(cache)))
    assert not seen & kept


def test_holding_out_depends_on_the_file_name_alone() -> None:
    names = tuple(f"a/{i}.avif" for i in range(5000))
    moved = tuple(f"b/c/{i}.png" for i in range(5000))
    chosen = held_out(names)
    np.testing.assert_array_equal(chosen, held_out(moved))
    assert 0.014 < chosen.mean() < 0.026
    assert held_out(("one.png", "two.png")).sum() == 1
    assert held_out(("one.png",)).sum() == 0


def test_copies_of_a_picture_are_held_out_together_from_a_small_folder_too() -> None:
    names = ("one.jpg", "two.jpg", "b/one.webp", "b/two.webp")
    chosen = held_out(names)
    assert chosen.sum() == 2
    np.testing.assert_array_equal(chosen[:2], chosen[2:])
    assert list(held_out(("one.jpg", "one.jpg.png", "one.webp"))) == [True, False, False]


def test_files_of_one_name_in_many_folders_are_held_out_each_on_its_own() -> None:
    clips = tuple(f"{clip:05}/im{frame}.png" for clip in range(800) for frame in range(1, 8))
    chosen = held_out(clips)
    assert 0.014 < chosen.mean() < 0.026
    assert len({name[-5] for name, held in zip(clips, chosen, strict=True) if held}) == 7
    recoded = tuple(f"{name}.webp" for name in clips)
    np.testing.assert_array_equal(held_out(clips + recoded), np.concatenate([chosen, chosen]))
    originals, copies = (tuple(f"{folder}/{i}.png" for i in range(2000)) for folder in ("originals", "copies"))
    np.testing.assert_array_equal(held_out(originals + copies)[:2000], held_out(originals + copies)[2000:])


def test_a_shard_is_opened_once_for_all_its_pictures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = shards(folder, tmp_path / "shards")
    members = list(find_pictures(tmp_path / "shards")[0].values())
    opened = []
    plain = zipfile.ZipFile
    monkeypatch.setattr(zipfile, "ZipFile", lambda *args: opened.append(args) or plain(*args))
    first = [member.read() for member in members]
    assert [member.read() for member in members] == first
    assert opened == [(path,)]
    (path,) = shards(folder, tmp_path / "shards", force=True, codec="webp")  # another file, maybe of the same name
    again = list(find_pictures(tmp_path / "shards")[0].values())
    assert all(np.array_equal(decode(a.read()), decode(b)) for a, b in zip(again, first, strict=True))


def test_every_crop_is_an_oriented_window_of_its_picture(cache: Cache) -> None:
    crops = Crops(cache, SIZE, 8, "cpu", 3, jitter=0)
    seen = set()
    for step in range(12):
        plan, batch = crops.plan(step), crops.at(step)
        assert batch.shape == (8, 3, SIZE, SIZE)
        assert batch.dtype == torch.float32
        for i in range(8):
            top, left = plan.top[i], plan.left[i]
            window = cache.picture(plan.picture[i])[top : top + SIZE, left : left + SIZE]
            code = int(plan.orientation[i])
            seen.add(code)
            window = np.flip(window, axis=[axis for axis in (0, 1) if code >> axis & 1])
            window = np.swapaxes(window, 0, 1) if code & 4 else window
            np.testing.assert_array_equal((batch[i] * 255).round().permute(1, 2, 0).numpy(), window)
    assert seen == set(range(8))


def test_reduced_windows_lie_inside_and_have_the_promised_scales(cache: Cache) -> None:
    crops = Crops(cache, SIZE, 200, "cpu", 3, jitter=0.5, smallest_scale=0.5)
    plan = crops.plan(0)
    assert min(plan.top.min(), plan.left.min()) >= 0
    assert (plan.top + plan.window <= cache.heights[plan.picture]).all()
    assert (plan.left + plan.window <= cache.widths[plan.picture]).all()
    assert plan.window.min() == SIZE
    assert 2 * SIZE - 8 < plan.window.max() <= 2 * SIZE
    assert 0.35 < (plan.window == SIZE).mean() < 0.65


def test_the_device_cutter_gives_the_crops_of_the_host_cutter(cache: Cache) -> None:
    crops = Crops(cache, SIZE, 32, "cpu", 5, jitter=0.7, colour=0.1)
    host, device = HostCutter(cache, SIZE), DeviceCutter(cache, SIZE, 2 * SIZE, torch.device("cpu"))
    for step in range(4):
        plan = crops.plan(step)
        assert (plan.window > SIZE).any()
        one, other = host.cut(plan), device.cut(plan)
        assert other.is_contiguous(memory_format=torch.channels_last)
        # Reduced pixels are rounded to 8 bits, by the host also between the two directions.
        assert (one - other).abs().max() <= 1.01 / 255
        assert (one - other).abs().mean() < 0.15 / 255


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_crops_on_a_gpu_are_those_of_the_host_and_wait_for_nothing(cache: Cache) -> None:
    host = Crops(cache, SIZE, 32, "cpu", 5, jitter=0.7, colour=0.1)
    device = Crops(cache, SIZE, 32, "cuda", 5, jitter=0.7, colour=0.1)
    next(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = device.at(3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (batch.cpu() - host.at(3)).abs().max() <= 1.01 / 255


def test_colour_jitter_only_darkens_and_spares_validation(cache: Cache) -> None:
    plain, coloured = (Crops(cache, SIZE, 16, "cpu", 5, jitter=0, colour=c) for c in (0.0, 0.2))
    ratio = coloured.at(0).mean(dim=(2, 3)) / plain.at(0).mean(dim=(2, 3))
    assert ratio.max() <= 1.0 + 1e-6
    assert 0.8 - 1e-6 <= ratio.min() < 0.85
    check = Crops(cache, SIZE, 16, "cpu", 5, validation=True, colour=0.2)
    assert (check.plan(0).gain == 1).all()


def test_a_resumed_sampler_continues_the_same_sequence(cache: Cache, tmp_path: Path) -> None:
    crops = Crops(cache, SIZE, 4, "cpu", 11, colour=0.05)
    for _ in range(3):
        next(crops)
    state = json.loads(json.dumps(crops.state_dict()))
    expected = [next(crops) for _ in range(3)]
    resumed, edited = (Crops(cache, SIZE, 4, "cpu", seed, colour=0.05) for seed in (11, 12))
    for sampler in (resumed, edited):
        sampler.load_state_dict({"seed": 11, **state})  # as older checkpoints have it
    for batch in expected:
        assert torch.equal(next(resumed), batch)
        assert not torch.equal(next(edited), batch)


def test_resuming_on_other_pictures_warns(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    crops = Crops(cache, SIZE, 4, "cpu", 11)
    with caplog.at_level(logging.WARNING):
        crops.load_state_dict(crops.state_dict())
        assert not caplog.text
        crops.load_state_dict({**crops.state_dict(), "fingerprint": "other"})
    assert "the pictures or run.crop are not those of the checkpoint: the crops will differ" in caplog.text


@pytest.mark.parametrize("validation", [False, True])
def test_ranks_share_out_the_batch_of_one_process(cache: Cache, validation: bool) -> None:
    def crops(batch: int, rank: int = 0, world: int = 1) -> torch.Tensor:
        options = {"validation": validation, "colour": 0.1, "rank": rank, "world": world}
        return Crops(cache, SIZE, batch, "cpu", 2, **options).at(5)

    assert torch.equal(torch.cat([crops(2, rank, 3) for rank in range(3)]), crops(6))


def test_validation_crops_do_not_depend_on_the_seed_and_training_crops_do(cache: Cache) -> None:
    one, other = (Crops(cache, SIZE, 4, "cpu", seed, validation=True) for seed in (1, 2))
    assert torch.equal(one.at(7), other.at(7))
    assert not torch.equal(one.at(7), one.at(8))
    one, other = (Crops(cache, SIZE, 4, "cpu", seed) for seed in (1, 2))
    assert not torch.equal(one.at(7), other.at(7))


def test_large_pictures_are_chosen_more_often(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    Image.fromarray(smooth(40, 40, 0)).save(folder / "small.png")
    Image.fromarray(smooth(80, 80, 1)).save(folder / "large.png")
    cache = Cache.open(pack(folder, tmp_path / "c", min_side=SIZE))
    crops = Crops(cache, SIZE, 500, "cpu", 1, held_out_share=0)
    assert 0.15 < (crops.plan(0).picture == 1).mean() < 0.25  # 1600 of 8000 pixels


def test_crops_larger_than_every_picture_are_refused(cache: Cache) -> None:
    with pytest.raises(ConfigError, match="no training picture with both sides of at least 500"):
        Crops(cache, 500, 4, "cpu", 1)
