"""Surfaces over the allocation of rate: one model, many rate vectors, coarse layers against fine layers.

The stride groups are split in two (strides of 16 and more are coarse); each half gets one rho, over a grid.
Every cell of the grid is the mean over the same pictures of real files; cells beyond REACH are left out. From
the cells come the line of all-equal rho, the convex hull of the best allocations, and the paths of the shipped
profiles in the plane.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import curves, store
from .cache import RowCache
from .environment import environment
from .pictures import Sample
from .rows import METRICS, Failure, Job, RhoCodec, Row, mean_row
from .workers import Crew, alone, measure_all

STUDY = "allocation"
RHOS = (4, 12, 20, 28, 36, 44, 52, 60)
REACH = 32  # how far the two may lie apart: training shows the networks no more, and beyond it files only get worse
FINEST_COARSE_STRIDE = 16


def run(
    codec: RhoCodec,
    samples: Sequence[Sample],
    folder: Path,
    cache: RowCache,
    tick: Callable[[], None] = lambda: None,
    rhos: Sequence[int] = RHOS,
    crew: Crew = alone,
) -> dict[str, Any]:
    """Measure the grid of allocations (cached rows are not measured again) and write the study."""
    vectors = {pair: allocate(*pair, codec.n_groups) for pair in near(rhos)}
    jobs = [Job(sample, vector) for sample in samples for vector in vectors.values()]
    rows: list[Row] = []
    found = measure_all(codec, jobs, cache, tick, crew)
    for job in jobs:
        if isinstance(row := found[job], Failure):
            raise RuntimeError(f"{codec.title} failed on {job.sample.name}: {row.error}")
        rows.append({"picture": job.sample.name, **row})
    document = {**study(rows, vectors, rhos), "profiles": profiles(folder, samples), "rows": rows}
    document = {"study": STUDY, "codec": codec.name, "version": codec.version, **document}
    store.write(store.study_path(folder, STUDY), document)
    return document


def near(rhos: Sequence[int]) -> list[tuple[int, int]]:
    """The pairs (coarse, fine) that are measured."""
    return [(coarse, fine) for coarse in rhos for fine in rhos if abs(coarse - fine) <= REACH]


def allocate(coarse: int, fine: int, n_groups: int) -> tuple[int, ...]:
    """A rate vector with one rho for the coarse groups (strides 64, 32, 16) and one for the rest."""
    n_coarse = min(3, n_groups - 1)
    return (coarse,) * n_coarse + (fine,) * (n_groups - n_coarse)


def study(
    rows: Sequence[Row],
    vectors: Mapping[tuple[int, int], Sequence[int]],
    rhos: Sequence[int],
) -> dict[str, Any]:
    """Cells, their grid, the all-equal diagonal and the hulls, from the rows of all pictures."""
    cells = [cell_of([row for row in rows if tuple(row["rho"]) == tuple(vector)]) for vector in vectors.values()]
    index = {pair: i for i, pair in enumerate(vectors)}
    strides = sorted(set(rows[0]["layer_strides"]), reverse=True)
    return {
        "environment": environment(),
        "pictures": sorted({row["picture"] for row in rows}),
        "coarse": [stride for stride in strides if stride >= FINEST_COARSE_STRIDE],
        "fine": [stride for stride in strides if stride < FINEST_COARSE_STRIDE],
        "grid": [[index.get((coarse, fine)) for fine in rhos] for coarse in rhos],
        "equal": [i for (coarse, fine), i in index.items() if coarse == fine],
        "hull": {metric: hull(cells, metric) for metric in ("psnr_db", "ms_ssim_db", "ssimulacra2")},
        "cells": cells,
    }


def cell_of(rows: Sequence[Row]) -> Row:
    """Mean of the same allocation (or setting) over pictures, its rate split into coarse and fine layers."""
    mean = mean_row(rows)
    halves = list(zip(mean["layer_bpp"], mean["layer_strides"], strict=True))
    return {
        "rho": rows[0]["rho"],
        "bpp": mean["bpp"],
        "bpp_coarse": round(math.fsum(bpp for bpp, stride in halves if stride >= FINEST_COARSE_STRIDE), 6),
        "bpp_fine": round(math.fsum(bpp for bpp, stride in halves if stride < FINEST_COARSE_STRIDE), 6),
        **{metric: mean[metric] for metric in METRICS},
    }


def hull(cells: Sequence[Row], metric: str) -> list[int]:
    """Indices, by rising rate, of the cells on the upper convex hull of quality over total rate."""
    rated = ((cell["bpp"], _quality(cell, metric), index) for index, cell in enumerate(cells))
    points = sorted((bpp, quality, index) for bpp, quality, index in rated if quality is not None)
    kept: list[tuple[float, float, int]] = []
    for point in points:
        if kept and point[1] <= kept[-1][1]:
            continue
        while len(kept) >= 2 and _below(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    return [index for _, _, index in kept]


def _below(a: tuple[float, float, int], b: tuple[float, float, int], c: tuple[float, float, int]) -> bool:
    """Whether b lies on or under the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def _quality(cell: Row, metric: str) -> float | None:
    """None where pictures are too small for a metric, or exact."""
    value: float | None = cell["ms_ssim" if metric == "ms_ssim_db" else metric]
    return curves.ms_ssim_db(value) if metric == "ms_ssim_db" and value is not None else value


def profiles(folder: Path, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """The paths of the measured hvcodec curves through the plane, over the same pictures."""
    names = {sample.name for sample in samples}
    found = []
    for document in store.read_codecs(folder):
        rows = [row for row in document["rows"] if row["picture"] in names and "layer_bytes" in row]
        by_setting = [[row for row in rows if row["setting"] == setting] for setting in document["settings"]]
        points = [cell_of(same) for same in by_setting if len(same) == len(names)]
        if points:
            found.append({"codec": document["codec"], "title": document["title"], "points": points})
    return found
