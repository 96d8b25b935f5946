"""The allocation study and the rate-distortion plane, on the double and on numbers made by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from doubles import LayeredDouble
from hvcodec_benchmarks import allocation, rate_distortion_plane, store
from hvcodec_benchmarks.cache import RowCache
from hvcodec_benchmarks.pictures import Sample


def test_coarse_groups_and_fine_groups_share_a_rho_each() -> None:
    assert allocation.allocate(9, 4, 5) == (9, 9, 9, 4, 4)
    assert allocation.allocate(9, 4, 2) == (9, 4)


def test_the_study_holds_grid_diagonal_hull_and_profiles(results: Path) -> None:
    study = store.read_study(results, "allocation")
    assert study is not None
    cells = study["cells"]
    assert len(cells) == 7  # 5 and 60 lie too far apart
    assert [cells[i]["rho"] for i in study["equal"]] == [[rho] * 5 for rho in (5, 30, 60)]
    assert [cells[i]["rho"][-1] for i in study["grid"][1]] == [5, 30, 60]
    assert study["grid"][0][2] is None
    assert study["coarse"] == [64, 32, 16]
    assert study["fine"] == [8, 4]
    for cell in cells:
        assert cell["bpp_coarse"] + cell["bpp_fine"] == pytest.approx(cell["bpp"], rel=0.02)
    assert {profile["codec"] for profile in study["profiles"]} == {
        "hvcodec-psnr-e1",
        "hvcodec-perceptual-e1",
    }


def test_cells_without_a_quality_are_on_no_hull() -> None:
    """Small pictures have no MS-SSIM, exact ones no PSNR."""
    cells = [{"bpp": bpp, "psnr_db": None if bpp == 2 else 30.0 + bpp, "ms_ssim": None} for bpp in (1, 2, 3)]
    assert allocation.hull(cells, "psnr_db") == [0, 2]
    assert allocation.hull(cells, "ms_ssim_db") == []


@pytest.mark.parametrize("metric", ["psnr_db", "ms_ssim_db", "ssimulacra2"])
def test_no_allocation_lies_above_the_hull(results: Path, metric: str) -> None:
    study = store.read_study(results, "allocation")
    assert study is not None
    points = [(cell["bpp"], allocation._quality(cell, metric)) for cell in study["cells"]]
    hull = [points[index] for index in study["hull"][metric]]
    assert hull == sorted(hull)
    assert max(points, key=lambda point: point[1]) in hull
    for (x0, y0), (x1, y1) in pairwise(hull):
        for x, y in points:
            if x0 <= x <= x1:
                assert y <= y0 + (y1 - y0) * (x - x0) / (x1 - x0) + 1e-9


def test_the_study_resumes(samples: list[Sample], tmp_path: Path) -> None:
    codec, cache = LayeredDouble(), tmp_path / "rows.jsonl"
    allocation.run(codec, samples[:1], tmp_path, RowCache(cache), rhos=(10, 40))
    allocation.run(codec, samples[:1], tmp_path, RowCache(cache), rhos=(10, 40))
    assert codec.encodes == 4


def test_nats_of_a_known_row() -> None:
    # A picture of 100 x 10 in 125 bytes at an MSE of 1: 1000 bits, 3000 samples.
    row = {"n_bytes": 125, "bpp": 1.0, "psnr_db": 20 * math.log10(255), "rho": [1]}
    assert rate_distortion_plane.n_pixels(row) == 1000
    assert rate_distortion_plane.rate_nats(row) == pytest.approx(1000 * math.log(2))
    expected = 1500 * math.log(2 * math.pi * math.e)
    assert rate_distortion_plane.distortion_nats(row) == pytest.approx(expected)
    (point,) = rate_distortion_plane.points([row])
    assert point["sum_nats"] == pytest.approx(expected + 1000 * math.log(2), abs=0.1)


def test_the_lower_hull_falls_and_turns_one_way() -> None:
    plane = [(0.0, 10.0), (1.0, 6.0), (2.0, 5.9), (3.0, 2.0), (4.0, 2.5), (5.0, 1.9), (0.5, 9.9)]
    assert rate_distortion_plane.lower_hull(plane) == [0, 1, 3, 5]


def test_there_is_no_plane_without_an_allocation_study(tmp_path: Path) -> None:
    assert rate_distortion_plane.run(tmp_path) is None
