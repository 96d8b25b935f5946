"""Rate-distortion curves of one set of pictures, ours and the anchors', and BD-rates between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvcodec import baseline, metrics

from . import store

Row = dict[str, Any]
METRICS = ("psnr_db", "ms_ssim_db", "ssimulacra2")


@dataclass(frozen=True)
class Curve:
    """Mean bits per pixel and mean quality of one codec, at each of its settings."""

    name: str
    title: str
    group: str  # hvcodec, measured, or the anchors' own groups
    source: str
    bpp: Sequence[float]
    quality: dict[str, Sequence[float]]  # by metric; a curve need not have them all

    def points(self, metric: str) -> tuple[Sequence[float], Sequence[float]]:
        """Rates and qualities in one metric, by rising rate; empty if the curve does not have it."""
        if metric not in self.quality:
            return [], []
        pairs = sorted(zip(self.bpp, self.quality[metric], strict=True))
        return [rate for rate, _ in pairs], [quality for _, quality in pairs]


def from_result(document: dict[str, Any]) -> Curve:
    """The mean curve of a codec's result file."""
    rows = document["averages"]
    quality: dict[str, Sequence[float]] = {}
    for metric in ("psnr_db", "ssimulacra2"):
        if all(row[metric] is not None for row in rows):
            quality[metric] = [row[metric] for row in rows]
    if all(row["ms_ssim"] is not None for row in rows):
        quality["ms_ssim_db"] = [ms_ssim_db(row["ms_ssim"]) for row in rows]
    name = document["codec"]
    group = "hvcodec" if name.startswith("hvcodec") else "measured"
    return Curve(name, document["title"], group, document["version"], [row["bpp"] for row in rows], quality)


def ms_ssim_db(similarity: float) -> float:
    """An MS-SSIM of a result file in decibels; it has six digits there, so one may be a little less."""
    return metrics.ms_ssim_db(min(similarity, 1 - 5e-7))


def of_set(folder: Path) -> list[Curve]:
    """The mean curves of everything measured on one set of pictures, hvcodec's first."""
    curves = [from_result(document) for document in store.read_codecs(folder)]
    return sorted((c for c in curves if c.bpp), key=lambda curve: (curve.group != "hvcodec", curve.name))


def bd_rate(anchor: Curve, curve: Curve, metric: str) -> float | None:
    """Percent more bits that `curve` needs than `anchor`; None where the two have no quality in common.

    A codec that gets worse by spending more (it happens at the ends of a quality scale) loses the points
    that another of its points beats in both rate and quality: BD-rate needs a function of the quality.
    """
    rate_a, quality_a = efficient(*anchor.points(metric))
    rate_b, quality_b = efficient(*curve.points(metric))
    if min(len(rate_a), len(rate_b)) < 3:
        return None
    try:
        return metrics.bd_rate(rate_a, quality_a, rate_b, quality_b)
    except ValueError:
        return None


def efficient(rates: Sequence[float], qualities: Sequence[float]) -> tuple[list[float], list[float]]:
    """The points, by rising rate, that are better than every cheaper point."""
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(zip(rates, qualities, strict=True), key=lambda point: (point[0], -point[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((rate, quality))
    return [rate for rate, _ in kept], [quality for _, quality in kept]


def of_pictures(plain: Sequence[Row], refined: Sequence[Row], metric: str) -> list[float]:
    """BD-rates of each picture of `refined` against its own rows in `plain`; without those that have none."""

    def points(rows: Sequence[Row], picture: str) -> tuple[list[float], list[float]]:
        own = [row for row in rows if row["picture"] == picture]
        return [row["n_bytes"] for row in own], [row[metric] for row in own]

    names = dict.fromkeys(row["picture"] for row in refined)
    rates = []
    for name in names:
        with suppress(ValueError):  # no quality in common, or none at all: a model of one level
            rates.append(metrics.bd_rate(*points(plain, name), *points(refined, name)))
    return rates


def bd_table(curves: Iterable[Curve], metric: str) -> dict[str, dict[str, float]]:
    """BD-rates of every curve against every anchor: `table[anchor][curve]` in percent, where defined."""
    known = [curve for curve in curves if metric in curve.quality]
    table: dict[str, dict[str, float]] = {}
    for anchor in known:
        rates = {curve.name: bd_rate(anchor, curve, metric) for curve in known}
        table[anchor.name] = {name: round(rate, 2) for name, rate in rates.items() if rate is not None}
    return table


def quality_at(curve: Curve, metric: str, bpp: float) -> float | None:
    """Quality at a rate, a monotone cubic of the logarithm of the rate through the points; None outside the curve."""
    rates, qualities = efficient(*curve.points(metric))
    if len(rates) < 2 or not rates[0] <= bpp <= rates[-1]:
        return None
    return baseline.Curve([math.log(rate) for rate in rates], qualities)(math.log(bpp))
