"""Real encodes for profiles: the crops, the numbers, and that nothing is encoded twice."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hvcodec_benchmarks import profile_trials
from hvcodec_benchmarks.cache import RowCache
from hvcodec_benchmarks.profile_trials import Numbers, Trials, load_crops, preview_db
from synthetic import picture

from hvcodec import Codec, Picture, image, metrics

RHO = (30, 32, 34, 36, 38)


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [picture(176, 192, seed=1), picture(192, 176, seed=2)]


class Counting:
    """A codec that counts what it is asked for."""

    def __init__(self, codec: Codec) -> None:
        self.codec, self.asked = codec, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.codec, name)

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        return self.codec.encode(*args, **kwargs)


def test_the_numbers_are_those_of_the_files(tiny_codec: Codec, pictures: list[Picture], tmp_path: Path) -> None:
    trials = Trials(tiny_codec, pictures, RowCache(tmp_path / "rows"))(RHO)
    for numbers, original in zip(trials, pictures, strict=True):
        data = tiny_codec.encode(original, RHO).data
        shown = tiny_codec.decode(data)
        assert numbers.n_bytes == len(data)
        assert numbers.bpp == pytest.approx(8 * len(data) / (original.width * original.height))
        assert numbers.psnr_db == pytest.approx(metrics.psnr(original.pixels, shown.pixels))
        assert numbers.ms_ssim == pytest.approx(metrics.ms_ssim(original.pixels, shown.pixels))
        assert numbers.ssimulacra2 == pytest.approx(metrics.ssimulacra2(original.pixels, shown.pixels))
        assert numbers.preview_db is None


def test_nothing_is_encoded_twice(tiny_codec: Codec, pictures: list[Picture], tmp_path: Path) -> None:
    codec, ticks = Counting(tiny_codec), []
    trials = Trials(codec, pictures, RowCache(tmp_path / "rows"), tick=lambda: ticks.append(1))  # type: ignore[arg-type]
    at_start = codec.asked  # to know the codec by what it does
    first = trials(RHO)
    assert trials(RHO) == first
    assert codec.asked - at_start == len(ticks) == trials.encodes == len(pictures)
    trials((31, *RHO[1:]))
    assert trials.encodes == 2 * len(pictures)

    later = Trials(codec, [pictures[1], picture(176, 176)], RowCache(tmp_path / "rows"))  # type: ignore[arg-type]
    assert later(RHO)[0] == first[1]
    assert later.encodes == 1  # only the new picture


def test_several_workers_give_the_same(tiny_codec: Codec, pictures: list[Picture], tmp_path: Path) -> None:
    one = Trials(tiny_codec, pictures, RowCache(tmp_path / "one"))
    two = Trials(tiny_codec, pictures, RowCache(tmp_path / "two"), workers=2)
    assert one(RHO) == two(RHO)
    assert two.encodes == 2


def test_previews_are_measured_when_they_are_asked_for(
    tiny_codec: Codec, pictures: list[Picture], tmp_path: Path
) -> None:
    cache = RowCache(tmp_path / "rows")
    plain = Trials(tiny_codec, pictures, cache)(RHO)
    trials = Trials(tiny_codec, pictures, cache, with_previews=True)
    with_previews = trials(RHO)
    assert trials.encodes == 2
    assert [replace(numbers, preview_db=None) for numbers in with_previews] == plain
    for numbers, original in zip(with_previews, pictures, strict=True):
        data = tiny_codec.encode(original, RHO).data
        shown = [tiny_codec.decode(data[: int(part * len(data))], partial=True) for part in (0.1, 0.25, 0.5)]
        expected = fmean(metrics.psnr(original.pixels, seen.pixels) for seen in shown)
        assert numbers.preview_db == pytest.approx(expected)
        assert expected < numbers.psnr_db
    assert Trials(tiny_codec, pictures, cache)(RHO) == with_previews  # and are kept


def test_a_beginning_without_the_header_counts_as_a_file_without_layers(tiny_codec: Codec) -> None:
    original = picture(64, 64)
    encoded = tiny_codec.encode(original, (0,) * 5)
    assert encoded.n_bytes // 10 < 40
    nothing = metrics.psnr(original.pixels, tiny_codec.decode(encoded.data, max_layers=0).pixels)
    assert nothing <= preview_db(tiny_codec, encoded, original) < encoded.psnr_db


def test_means_are_taken_of_what_grows_evenly(
    tiny_codec: Codec, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trials = Trials(tiny_codec, pictures, RowCache(tmp_path / "rows"))
    made_up = [Numbers(100, 0.5, 30.0, 0.9, 50.0, 20.0), Numbers(200, 2.0, math.inf, 0.99, 60.0, 22.0)]
    monkeypatch.setattr(Trials, "__call__", lambda self, rho: made_up)
    assert trials.outcome("psnr", RHO).log_bpp == pytest.approx(0)
    assert trials.outcome("psnr", RHO).value == pytest.approx((30 + 150) / 2)
    assert trials.outcome("ms-ssim", RHO).value == pytest.approx(15)
    assert trials.outcome("ssimulacra2", RHO).value == pytest.approx(55)
    assert trials.outcome("preview", RHO).value == pytest.approx(21)


def test_crops_are_the_middles_of_pictures_all_over_the_folder(tmp_path: Path) -> None:
    stored = []
    for i in range(5):
        stored.append(picture(200 + 2 * i, 170, "L" if i == 2 else "RGB", seed=i))
        image.write(stored[-1], tmp_path / f"{i}.png")
    crops = load_crops(tmp_path, 180, 3)
    assert [crop.pixels.shape for crop in crops] == [(170, 180, 3)] * 3
    for crop, i in zip(crops, (0, 1, 3), strict=True):
        assert np.array_equal(crop.pixels, stored[i].pixels[:, 10 + i : 190 + i])
    assert len(load_crops(tmp_path, 512, 99)) == 5


def test_pictures_that_cannot_be_judged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no picture"):
        load_crops(tmp_path, 512, 8)
    image.write(picture(300, 160), tmp_path / "flat.png")
    with pytest.raises(ValueError, match="flat: the metrics need 161 pixels"):
        load_crops(tmp_path, 512, 8)


def test_the_rows_of_a_model_have_a_file_of_their_own(tiny_codec: Codec, cache_folder: Path) -> None:
    assert profile_trials.open_cache(tiny_codec).path == (
        cache_folder / "profiles" / f"{tiny_codec.model_id.hex()}.jsonl"
    )
