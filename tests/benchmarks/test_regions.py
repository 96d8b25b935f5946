"""Regions, efforts and the sheet: gains are compared on equal terms, and the sheet shows where profiles differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hvcodec_benchmarks import efforts, regions, sheet, store, tables
from hvcodec_benchmarks.cache import RowCache
from hvcodec_benchmarks.pictures import Sample
from PIL import Image
from synthetic import picture

from hvcodec.codec import Codec


def samples(folder: Path) -> list[Sample]:
    Image.fromarray(picture(192, 128, seed=11).pixels).save(folder / "a.png")
    return [Sample("a", folder / "a.png")]


def test_regions_are_measured_at_equal_bytes(
    tmp_path: Path, tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "Codec", lambda model, device: tiny_codec)
    monkeypatch.setattr(regions, "PROFILES", ("equal",))
    monkeypatch.setattr(regions, "RATES_BPP", (1.0,))
    cache = RowCache(tmp_path / "rows.jsonl")
    study = regions.run(samples(tmp_path), tmp_path / "results", cache)
    row = study["rows"][0]
    assert row["masked"]["n_bytes"] == pytest.approx(row["plain"]["n_bytes"], rel=0.05)
    assert row["gain_db"] == pytest.approx(row["masked"]["inside_db"] - row["plain"]["inside_db"])
    assert row["masked"]["outside_db"] < row["plain"]["outside_db"]
    assert store.read_study(tmp_path / "results", "regions") == study
    monkeypatch.setattr(regions, "measure", None)  # cached rows are not measured again
    assert regions.run(samples(tmp_path), tmp_path / "results", RowCache(tmp_path / "rows.jsonl"))["rows"] == [row]
    table = tables.regions(tmp_path / "results")
    assert table is not None and "| `equal` | 1 |" in table


def test_efforts_are_compared_at_equal_quality(
    tmp_path: Path, tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efforts, "Codec", lambda device: tiny_codec)
    cache = RowCache(tmp_path / "rows.jsonl")
    study = efforts.run(samples(tmp_path), tmp_path / "results", cache, efforts=(1, 4))
    plain, more = study["summary"]
    assert (plain["effort"], plain["bd_rate_percent"]) == (1, 0)
    assert more["effort"] == 4 and more["bd_rate_percent"] < 0
    assert more["median_encode_s"] > plain["median_encode_s"]
    assert efforts.count(samples(tmp_path), 4, (1, 4)) == len(study["rows"]) == 8
    table = tables.efforts(tmp_path / "results")
    assert table is not None and "| 1 | +0.0 % |" in table


def test_the_ellipse_is_in_the_middle() -> None:
    mask = regions.ellipse(200, 300)
    assert (mask == mask[::-1]).all() and (mask == mask[:, ::-1]).all()
    assert mask[100, 150] == 255 and mask[0, 0] == 0
    assert (regions.middle(mask) == 255).all() and regions.middle(mask).shape == (62, 92)
    assert (mask > 0).mean() == pytest.approx(np.pi * 0.22**2, rel=0.02)


def test_the_window_is_where_pictures_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "WINDOW", (20, 10))
    a = np.zeros((60, 80, 3), np.uint8)
    b = a.copy()
    b[40:50, 30:50] = 7
    assert sheet.window(a, b) == (30, 40, 50, 50)
    assert sheet.window(a[:5, :5], b[:5, :5]) == (0, 0, 5, 5)


def test_the_sheet_shows_every_picture(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "PROFILES", ("psnr", "equal"))
    sheet.draw(samples(tmp_path), 1.0, tmp_path / "sheet.webp")
    with Image.open(tmp_path / "sheet.webp") as drawn:
        assert drawn.width > 3 * sheet.WINDOW[0] and drawn.height > sheet.WINDOW[1]
