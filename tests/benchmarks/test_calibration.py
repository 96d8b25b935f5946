"""Our measurements agree with the published ones (the Kodak pictures are beside the project)."""

from __future__ import annotations

import pytest
from hvcodec_benchmarks import anchors, calibration, curves, paths
from hvcodec_benchmarks.pictures import find

KODAK = paths.shared_dir() / "kodak"
RESULTS = paths.PACKAGE / "results" / "kodak"
ANCHORS = {curve.name: curve for curve in anchors.load()}


@pytest.mark.skipif(not KODAK.is_dir(), reason="the Kodak pictures are not here (HVCODEC_SHARED)")
@pytest.mark.parametrize("check", calibration.CHECKS, ids=lambda check: check.curve)
def test_a_point_with_published_settings_lies_on_the_published_curve(check: calibration.Check) -> None:
    bpp, psnr_db = calibration.mean_point(check, find([KODAK]), 50)
    difference = calibration.above(ANCHORS[check.anchor], bpp, psnr_db)
    assert difference is not None
    assert abs(difference) <= calibration.TOLERANCE_DB


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("jpeg-444", "measured/jpeg-444"),
        ("jpeg-420", "measured/jpeg-420"),
        ("webp-m6", "measured/webp-m6"),
        ("jpeg2000", "measured/jpeg2000"),
    ],
)
def test_committed_curves_agree_with_those_measured_elsewhere(ours: str, theirs: str) -> None:
    own = {curve.name: curve for curve in curves.of_set(RESULTS)}
    if ours not in own:
        pytest.skip(f"no results of {ours} are committed")
    rate = curves.bd_rate(ANCHORS[theirs], own[ours], "psnr_db")
    assert rate is not None
    assert abs(rate) < 1
    # The anchors' own points lie on our curve; at the steep low end the interpolation has its own error.
    gaps = [
        abs(quality - at_rate)
        for bpp, quality in zip(*ANCHORS[theirs].points("psnr_db"), strict=True)
        if bpp > 0.3 and (at_rate := curves.quality_at(own[ours], "psnr_db", bpp)) is not None
    ]
    assert gaps
    assert max(gaps) <= calibration.TOLERANCE_DB
