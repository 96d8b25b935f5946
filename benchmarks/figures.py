"""The figures of the documentation, made from result files; None where the results do not exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.tri import Triangulation

from . import anchors, curves, store

STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "svg.hashsalt": "hvcodec",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8e4dc",
    "axes.edgecolor": "#8d897f",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
}
SHOWN_ANCHORS = {
    "psnr_db": ("published/vtm-18.0", "published/qarv", "published/bmshj2018-hyperprior-vbr"),
    "ms_ssim_db": ("measured/vvenc-slow-420-10b", "published/bmshj2018-hyperprior-msssim"),
    "ssimulacra2": ("measured/vvenc-slow-420-10b", "measured/avif-s4-default"),
}
# A figure can hold only so many.
HIDDEN = ("hvcodec-preview-e1", "hvcodec-preview-e5", "hvcodec-psnr-e7", "hvcodec-all-equal-e1")
SHOWN_OWN = ("avif-s4-psnr", "jxl-e7", "webp-m6", "jpeg-420", "jpeg2000", "heic")
LEAST_BPP = 0.01
AXIS_TITLES = {"psnr_db": "PSNR, dB", "ms_ssim_db": "MS-SSIM, dB", "ssimulacra2": "SSIMULACRA2"}
WARM = ("#b23a1e", "#d08a1d", "#96284f", "#c96a4a", "#7a5a1e", "#e0553a", "#5c2a1a")
COOL = ("#2f6fb5", "#2a8c6e", "#7a5ea8", "#6f9a2c", "#3a4f8f", "#2b98a8", "#8a8a8a", "#555555", "#b0aca3")


def close(figure: Figure) -> None:
    """Let go of a figure."""
    pyplot.close(figure)


def rate_distortion(metric: str) -> Callable[[Path], Figure | None]:
    """The drawing of the curves in one metric."""

    def draw(results: Path) -> Figure | None:
        own = curves.of_set(results)
        chosen = [c for c in own if (c.group == "hvcodec" and c.name not in HIDDEN) or c.name in SHOWN_OWN]
        chosen += [c for c in anchors.beside(results) if c.name in SHOWN_ANCHORS[metric]]
        chosen = [curve for curve in chosen if metric in curve.quality]
        if not chosen:
            return None
        figure, axes = pyplot.subplots(figsize=(7.2, 4.6))
        warm, cool = iter(WARM * 9), iter(COOL * 9)
        for curve in chosen:
            ours = curve.group == "hvcodec"
            style = "-" if curve.group in ("hvcodec", "measured") else "--"
            axes.plot(
                *curve.points(metric),
                style,
                color=next(warm if ours else cool),
                label=curve.title,
                linewidth=2.2 if ours else 1.4,
                marker=".",
                markersize=6 if ours else 4,
                zorder=3 if ours else 2,
            )
        _rate_axis(axes)
        axes.set_ylabel(AXIS_TITLES[metric])
        axes.legend(fontsize=8)
        return figure

    return draw


def layers(results: Path) -> Figure | None:
    """Shares of the layers in the file over the rate, coarse to fine, of the default profile."""
    path = results / "hvcodec-psnr-e1.json"
    if not path.is_file():
        return None
    rows = sorted(store.read(path)["averages"], key=lambda row: row["bpp"])
    bpp = [row["bpp"] for row in rows]
    shares = np.array([np.array(row["layer_bpp"]) / sum(row["layer_bpp"]) for row in rows]).T
    figure, axes = pyplot.subplots(figsize=(7.2, 3.4))
    colours = pyplot.get_cmap("viridis")(np.linspace(0.05, 0.95, len(shares)))
    labels = [f"layer {n + 1}, stride {stride}" for n, stride in enumerate(rows[0]["layer_strides"])]
    axes.stackplot(bpp, shares, colors=colours, labels=labels)
    _rate_axis(axes)
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of the layers' bytes")
    axes.legend(*_reversed(axes), fontsize=7.5, bbox_to_anchor=(1.01, 1), loc="upper left")
    return figure


def _reversed(axes: Axes) -> tuple[list[Any], list[Any]]:
    handles, labels = axes.get_legend_handles_labels()
    return handles[::-1], labels[::-1]


def rho_response(results: Path) -> Figure | None:
    """What rho does when all groups share it: bytes of each layer, and the quality."""
    path = results / "hvcodec-all-equal-e1.json"
    if not path.is_file():
        return None
    rows = store.read(path)["averages"]
    rhos = [row["setting"] for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.2, 3.6))
    layer_bpp = np.array([row["layer_bpp"] for row in rows]).T
    colours = pyplot.get_cmap("viridis")(np.linspace(0.05, 0.9, len(layer_bpp)))
    for index, (values, stride) in enumerate(zip(layer_bpp, rows[0]["layer_strides"], strict=True)):
        left.semilogy(rhos, np.maximum(values, 1e-5), color=colours[index], label=f"{index + 1} (stride {stride})")
    left.set_xlabel("ρ of all groups")
    left.set_ylabel("bits per pixel of the layer")
    left.legend(fontsize=7, ncols=2)
    right.plot(rhos, [row["psnr_db"] for row in rows], color=WARM[0], label="PSNR, dB")
    other = right.twinx()
    other.grid(visible=False)
    other.plot(rhos, [row["ssimulacra2"] for row in rows], "--", color=COOL[0], label="SSIMULACRA2")
    right.set_xlabel("ρ of all groups")
    right.set_ylabel("PSNR, dB")
    other.set_ylabel("SSIMULACRA2")
    figure.tight_layout()
    return figure


def allocation(results: Path) -> Figure | None:
    """PSNR and SSIMULACRA2 over the rates of coarse and fine layers, with hull, equal rho and profiles."""
    study = store.read_study(results, "allocation")
    if study is None:
        return None
    figure, both = pyplot.subplots(1, 2, figsize=(10.4, 4.6))
    for axes, metric in zip(both, ("psnr_db", "ssimulacra2"), strict=True):
        if all(cell[metric] is not None for cell in study["cells"]):  # exact pictures have no PSNR
            _surface(axes, study, metric)
    figure.tight_layout()
    handles, labels = both[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0.0))
    return figure


def _surface(axes: Axes, study: dict[str, Any], metric: str) -> None:
    cells = study["cells"]
    # Layers can be empty, and a logarithmic axis has no zero; less than this is of no use to anybody.
    coarse, fine = (np.maximum([cell[name] for cell in cells], LEAST_BPP) for name in ("bpp_coarse", "bpp_fine"))
    quality = np.array([cell[metric] for cell in cells])
    surface = Triangulation(coarse, fine, _triangles(study["grid"]))
    filled = axes.tricontourf(surface, quality, levels=14, cmap="viridis")
    axes.figure.colorbar(filled, ax=axes, label=AXIS_TITLES[metric])
    ends = np.geomspace(coarse.min(), coarse.max(), 200)
    for total in (0.1, 0.2, 0.4, 0.8, 1.6):
        inside = (total - ends >= fine.min()) & (total - ends <= fine.max())
        axes.plot(ends[inside], total - ends[inside], ":", color="black", linewidth=0.8)
    paths = [
        ("best allocations", study["hull"][metric], "black", "o"),
        ("all ρ equal", study["equal"], "#8d897f", "--"),
    ]
    for label, indices, colour, style in paths:
        axes.plot(coarse[indices], fine[indices], style, color=colour, linewidth=2, markersize=5, label=label)
    plain = [profile for profile in study["profiles"] if profile["codec"].endswith("-e1")]
    for profile, colour in zip(plain, WARM * 9, strict=False):
        x, y = (
            np.maximum([point[name] for point in profile["points"]], LEAST_BPP) for name in ("bpp_coarse", "bpp_fine")
        )
        axes.plot(x, y, ".-", color=colour, label=profile["title"])
    axes.set(xscale="log", yscale="log", facecolor="#f2f0ea")
    _plain_numbers(axes)
    axes.set_xlabel(f"bits per pixel, strides {', '.join(map(str, study['coarse']))}")
    axes.set_ylabel(f"bits per pixel, strides {', '.join(map(str, study['fine']))}")


def _triangles(grid: Sequence[Sequence[int | None]]) -> list[tuple[int, int, int]]:
    """Two for every four neighbours of the grid; some cells were left out."""
    triangles = []
    for row, below in pairwise(grid):
        for (a, b), (d, c) in zip(pairwise(row), pairwise(below), strict=True):
            triangles += [corners for corners in ((a, b, c), (a, c, d)) if None not in corners]
    return triangles


def plane(results: Path) -> Figure | None:
    """Rate against distortion in nats per picture, all allocations and their hull, and the sum."""
    study = store.read_study(results, "plane")
    if study is None:
        return None
    rows, hull = study["rows"], [study["rows"][index] for index in study["hull"]]
    figure, axes = pyplot.subplots(figsize=(7.2, 3.8))
    knats = 1000
    axes.plot(*_nats(rows, "distortion_nats", knats), ".", color="#b0aca3", label="allocations")
    axes.plot(*_nats(hull, "distortion_nats", knats), ".-", color=WARM[0], label="convex hull")
    axes.plot(*_nats(hull, "sum_nats", knats), "--", color="black", label="rate + distortion on the hull")
    axes.set_xlabel("rate, thousand nats per picture")
    axes.set_ylabel("distortion, thousand nats per picture")
    axes.legend()
    return figure


def _nats(rows: Sequence[dict[str, Any]], name: str, unit: float) -> tuple[list[float], list[float]]:
    return [row["rate_nats"] / unit for row in rows], [row[name] / unit for row in rows]


def speed(results: Path) -> Figure | None:
    """Warm encode and decode times over the size of the picture."""
    study = store.read_study(results, "speed")
    if study is None:
        return None
    figure, both = pyplot.subplots(1, 2, figsize=(9.2, 3.6), sharey=True)
    for axes, name in zip(both, ("encode_s", "decode_s"), strict=True):
        warm, cool = iter(WARM), iter(COOL)
        for label in dict.fromkeys(row["label"] for row in study["rows"]):
            rows = [row for row in study["rows"] if row["label"] == label and row.get(name)]
            colour = next(warm if label.startswith("hvcodec") else cool)
            x, y = [row["megapixels"] for row in rows], [row[name] for row in rows]
            axes.loglog(x, y, ".-", color=colour, label=label)
        _plain_numbers(axes)
        axes.set_title(name.removesuffix("_s"))
        axes.set_xlabel("megapixels")
    both[0].set_ylabel("seconds")
    both[0].legend(fontsize=7)
    figure.tight_layout()
    return figure


def _plain_numbers(axes: Axes) -> None:
    """Decades and halves as 0.05 or 2, not as powers of ten."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_locator(NullLocator())


def _rate_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 4]
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in ticks if low <= tick <= high], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("bits per pixel")


FIGURES: dict[str, Callable[[Path], Figure | None]] = {
    "rd-psnr": rate_distortion("psnr_db"),
    "rd-ms-ssim": rate_distortion("ms_ssim_db"),
    "rd-ssimulacra2": rate_distortion("ssimulacra2"),
    "layers": layers,
    "rho-response": rho_response,
    "allocation": allocation,
    "rate-distortion-plane": plane,
    "speed": speed,
}
