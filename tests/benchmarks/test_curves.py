"""BD-rates against an independent implementation, and the anchors as data."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hvcodec_benchmarks import anchors, curves, paths, store
from hvcodec_benchmarks.curves import Curve

bjontegaard = pytest.importorskip("bjontegaard", reason="bjontegaard is not installed")

ANCHORS = {curve.name: curve for curve in anchors.load()}
COMPARED = (
    "published/jpeg",
    "published/vtm-18.0",
    "published/bpg-444-x265",
    "published/mbt2018-mean",
    "measured/webp-m6",
    "measured/avif-s4-psnr",
    "measured/jxl-e7",
)


@pytest.mark.parametrize(("anchor", "curve"), list(itertools.permutations(COMPARED, 2)))
def test_bd_rate_agrees_with_the_bjontegaard_package(anchor: str, curve: str) -> None:
    ours = curves.bd_rate(ANCHORS[anchor], ANCHORS[curve], "psnr_db")
    theirs = bjontegaard.bd_rate(
        *ANCHORS[anchor].points("psnr_db"),
        *ANCHORS[curve].points("psnr_db"),
        method="pchip",
        require_matching_points=False,
        min_overlap=0,
    )
    assert ours == pytest.approx(theirs, abs=0.1)


def line(name: str, bpp: list[float], psnr_db: list[float]) -> Curve:
    return Curve(name, name, "measured", "made up", bpp, {"psnr_db": psnr_db})


def test_half_the_rate_is_minus_fifty_percent() -> None:
    anchor = line("a", [0.2, 0.4, 0.8, 1.6], [30, 33, 36, 39])
    better = line("b", [0.1, 0.2, 0.4, 0.8], [30, 33, 36, 39])
    assert curves.bd_rate(anchor, better, "psnr_db") == pytest.approx(-50)
    assert curves.bd_rate(better, anchor, "psnr_db") == pytest.approx(100)
    assert curves.bd_table([anchor, better], "psnr_db") == {
        "a": {"a": 0, "b": -50},
        "b": {"a": 100, "b": 0},
    }


def test_there_is_no_bd_rate_without_a_common_quality_or_metric() -> None:
    low, high = line("a", [0.1, 0.2, 0.3], [20, 21, 22]), line("b", [1, 2, 3], [40, 41, 42])
    assert curves.bd_rate(low, high, "psnr_db") is None
    assert curves.bd_rate(low, high, "ssimulacra2") is None


def test_points_that_cost_more_and_give_less_do_not_count() -> None:
    assert curves.efficient([0.3, 0.1, 0.2, 0.4], [33, 30, 34, 36]) == ([0.1, 0.2, 0.4], [30, 34, 36])


def test_of_two_points_of_one_rate_the_better_one_counts() -> None:
    assert curves.efficient([0.1, 0.2, 0.2], [30, 33, 32]) == ([0.1, 0.2], [30, 33])


def test_quality_at_a_rate_follows_the_logarithm_of_the_rate() -> None:
    curve = line("a", [0.1, 1.0], [30, 40])
    assert curves.quality_at(curve, "psnr_db", 0.1**0.5) == pytest.approx(35)
    assert curves.quality_at(curve, "psnr_db", 2.0) is None


def test_quality_between_the_points_of_a_bent_curve_is_not_that_of_its_chord() -> None:
    rates = [0.1, 0.2, 0.4, 0.8, 1.6]
    curve = line("a", rates, [math.log2(rate / 0.1) ** 1.3 for rate in rates])
    assert curves.quality_at(curve, "psnr_db", 0.4 * 2**0.5) == pytest.approx(2.5**1.3, abs=0.01)


def test_anchors_are_a_copy_with_sources() -> None:
    shared = paths.shared_dir() / "anchors" / "kodak.json"
    copy = paths.DATA / "anchors-kodak.json"
    if shared.is_file():
        assert json.loads(copy.read_text()) == json.loads(shared.read_text())
    assert len(ANCHORS) >= 39
    for curve in ANCHORS.values():
        assert curve.source
        assert len(curve.bpp) == len(curve.quality["psnr_db"]) >= 4
        assert curve.group == ("published" if curve.name.startswith("published/") else "anchor")


def stored(folder: Path, name: str, pictures: Sequence[str], date: str = "2026-11-01T00:00:00+00:00") -> None:
    document = {"codec": name, "set": list(pictures), "environment": {"date": date}}
    store.write(folder / f"{name}.json", document)


def test_anchors_belong_to_the_kodak_pictures_only(tmp_path: Path) -> None:
    assert anchors.beside(tmp_path / "kodak") == []
    stored(tmp_path / "kodak", "jpeg", ["holiday", "kodim01"])
    assert anchors.beside(tmp_path / "kodak") == []
    stored(tmp_path / "other", "jpeg", [f"kodim{number:02}" for number in range(1, 25)])
    assert len(anchors.beside(tmp_path / "other")) == len(ANCHORS)


def test_only_results_of_the_same_pictures_stand_beside_each_other(tmp_path: Path) -> None:
    stored(tmp_path, "jpeg", ["a", "b"], "2026-11-01T00:00:00+00:00")
    stored(tmp_path, "webp", ["c"], "2026-11-02T00:00:00+00:00")
    assert [document["codec"] for document in store.read_codecs(tmp_path)] == ["webp"]
    stored(tmp_path, "jpeg", ["c"], "2026-11-03T00:00:00+00:00")
    assert [document["codec"] for document in store.read_codecs(tmp_path)] == ["jpeg", "webp"]


def test_a_similarity_that_is_one_in_a_file_stays_on_the_page() -> None:
    row = {"bpp": 1.0, "psnr_db": None, "ssimulacra2": 100.0, "ms_ssim": 1.0}
    curve = curves.from_result({"codec": "x", "title": "X", "version": "1", "averages": [row]})
    assert curve.quality == {"ssimulacra2": [100.0], "ms_ssim_db": [pytest.approx(63.01, abs=0.01)]}


def test_pictures_without_a_bd_rate_are_left_out() -> None:
    rows = [{"picture": "a", "n_bytes": n, "psnr_db": 30 + n} for n in (1, 2, 3, 4)]
    flat = [{"picture": "b", "n_bytes": 5, "psnr_db": 30}] * 4
    assert curves.of_pictures([*rows, *flat], [*rows, *flat], "psnr_db") == [pytest.approx(0, abs=1e-9)]
