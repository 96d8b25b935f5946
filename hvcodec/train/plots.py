"""Pictures of a training run: loss, rate of each group and distortion over time, from its log.

The log has one JSON object on each line. Read here are `step`, `loss`, `rates` (bits per pixel of each group,
coarse to fine), `mse` (pixels in 0..1) and `kind`: "train" (also if it is absent) or "validation", which may
have a `level` and an `objective`. Other keys and lines of another kind are left alone, and so is a last line
that a killed run did not finish.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hvcodec.errors import ConfigError

from .config import DRAWINGS

Row = dict[str, Any]

WINDOW_SHARE = 0.02
"""Training values are drawn as a running mean over this part of the run."""


def plot(log: Path, out_dir: Path) -> list[Path]:
    """Draw loss.png, rates.png and distortion.png from a JSONL log; raises ConfigError if it has no steps."""
    rows = read_log(log)
    train = [row for row in rows if row.get("kind", "train") == "train"]
    validation = [row for row in rows if row.get("kind") == "validation"]
    if not train and not validation:
        raise ConfigError(f"{log} holds no training steps yet")
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in zip(DRAWINGS, (_draw_loss, _draw_rates, _draw_distortion), strict=True):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        draw(axes, train, validation)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        paths.append(out_dir / f"{name}.png")
        figure.savefig(paths[-1], dpi=100)
    return paths


def read_log(path: Path) -> list[Row]:
    """Read a JSONL log, with NaN for null; a torn last line is dropped, any other damage is a ConfigError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as err:
        raise ConfigError(f"the log {path} cannot be read: {err.strerror}") from err
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as err:
            if number == len(lines):
                break
            raise ConfigError(f"line {number} of {path} is not JSON: {err}") from err
        if isinstance(row, dict):
            rows.append({name: _with_nan(value) for name, value in row.items()})
    return rows


def _with_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def running_mean(values: Sequence[float], width: int) -> NDArray[np.float64]:
    """Mean of each value and up to `width` - 1 before it; what is not finite counts for nothing."""
    numbers = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(numbers)
    sums, counts = (np.cumsum(np.concatenate([[0.0], x])) for x in (np.where(finite, numbers, 0), finite))
    ends = np.arange(1, len(numbers) + 1)
    starts = np.maximum(ends - width, 0)
    n = counts[ends] - counts[starts]
    return np.where(n > 0, (sums[ends] - sums[starts]) / np.maximum(n, 1), np.nan)


def _draw_loss(axes: Axes, train: list[Row], validation: list[Row]) -> None:
    _line(axes, _points(train, "loss"), "training", color="C0", smooth=True)
    lines = _by_level(validation)
    for i, (label, rows) in enumerate(lines):
        if len(lines) == 1:  # training logs the objective's own loss, and at its level that is comparable
            rows = [{**row, "loss": row["objective"]} if "objective" in row else row for row in rows]
        _line(axes, _points(rows, "loss"), label, color=f"C{i + 1}", marker="o")
    if len(lines) > 1:
        axes.set_yscale("log")  # losses of different levels
    axes.set_ylabel("loss")


def _draw_rates(axes: Axes, train: list[Row], validation: list[Row]) -> None:
    groups = max((len(row.get("rates", ())) for row in [*train, *validation]), default=0)
    for group in range(groups):
        for rows, label, marker in ((train, f"group {group}", ""), (validation, "", "o")):
            points = [(r["step"], r["rates"][group]) for r in rows if len(r.get("rates", ())) > group]
            _line(axes, points, label, color=f"C{group}", marker=marker, smooth=not marker, joined=not marker)
    axes.set_yscale("log")
    axes.set_ylabel("bits per pixel (dots: validation, at each level)")


def _draw_distortion(axes: Axes, train: list[Row], validation: list[Row]) -> None:
    for i, (label, rows) in enumerate([("training", train), *_by_level(validation)]):
        points = [(step, -10 * math.log10(mse)) for step, mse in _points(rows, "mse") if mse > 0]
        _line(axes, points, label, color=f"C{i}", marker="o" if i else "", smooth=i == 0)
    axes.set_ylabel("PSNR of the mean squared error, dB")


def _by_level(validation: list[Row]) -> list[tuple[str, list[Row]]]:
    """Validation rows of each level with a label; what was measured at different levels is not comparable."""
    levels = sorted({row.get("level", 0) for row in validation})
    if len(levels) < 2:
        return [("validation", validation)]
    return [(f"validation, level {n}", [r for r in validation if r.get("level", 0) == n]) for n in levels]


def _points(rows: Iterable[Row], key: str) -> list[tuple[float, float]]:
    return [(row["step"], row[key]) for row in rows if key in row and "step" in row]


def _line(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    label: str,
    *,
    marker: str = "",
    color: str | None = None,
    smooth: bool = False,
    joined: bool = True,
) -> None:
    if not points:
        return
    steps, values = (list(column) for column in zip(*points, strict=True))
    drawn = running_mean(values, max(1, round(WINDOW_SHARE * len(values)))) if smooth else values
    style = "-" if joined else "none"
    axes.plot(steps, drawn, label=label or None, marker=marker, linestyle=style, color=color, markersize=4)
