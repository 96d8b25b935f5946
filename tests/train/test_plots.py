"""Plots of a run from its log."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from hvcodec.errors import ConfigError
from hvcodec.train.journal import Journal
from hvcodec.train.plots import _draw_distortion, _draw_loss, _draw_rates, plot, read_log, running_mean


def rows(count: int) -> list[dict[str, object]]:
    made: list[dict[str, object]] = [{"kind": "start", "config": {}}]
    for step in range(count):
        values = {"loss": 2 + 1 / (step + 1), "rates": [0.01, 0.1, 0.5], "mse": 1e-3}
        made.append({"kind": "train", "step": step, **values})
        if step % 10 == 0:
            made.append({"kind": "validation", "step": step, **values})
    return made


def write(path: Path, made: list[dict[str, object]], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in made) + tail)
    return path


def test_three_pictures_are_drawn(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", rows(50), tail='{"kind": "train", "st')
    paths = plot(log, tmp_path / "plots")
    assert [path.name for path in paths] == ["loss.png", "rates.png", "distortion.png"]
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape == (500, 800, 3)
        inner = pixels[60:420, 100:780].reshape(-1, 3).astype(int)
        coloured = (inner.max(axis=1) - inner.min(axis=1) > 60).mean()
        assert coloured > 0.001  # at least a line is there


def test_every_level_of_a_validation_has_a_line_of_its_own(tmp_path: Path) -> None:
    made = rows(30)
    for row in [row for row in made if row["kind"] == "validation"]:
        made.append(row | {"level": 40, "loss": 50.0, "mse": 1e-5})
    figures = {name: Figure().subplots() for name in ("loss", "distortion", "rates")}
    train = [row for row in made if row["kind"] == "train"]
    validation = [row for row in made if row["kind"] == "validation"]
    _draw_loss(figures["loss"], train, validation)
    _draw_distortion(figures["distortion"], train, validation)
    for axes in (figures["loss"], figures["distortion"]):
        labels = [line.get_label() for line in axes.get_lines()]
        assert labels == ["training", "validation, level 0", "validation, level 40"]
        assert [len(line.get_xdata()) for line in axes.get_lines()] == [30, 3, 3]
    _draw_rates(figures["rates"], train, validation)
    assert [line.get_linestyle() for line in figures["rates"].get_lines()] == ["-", "None"] * 3


def test_the_validation_of_one_level_is_drawn_as_the_objective_measures_it(tmp_path: Path) -> None:
    validation = [row for row in rows(30) if row["kind"] == "validation"]
    for objectives, drawn in (([7.0, 8.0, math.nan], [7.0, 8.0, math.nan]), ([7.0, 8.0], [7.0, 8.0, 2 + 1 / 21])):
        axes = Figure().subplots()
        measured = [{"objective": value, "level": 20} for value in objectives] + [{"level": 20}]
        _draw_loss(axes, [], [row | more for row, more in zip(validation, measured, strict=False)])
        np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), drawn)


def test_a_log_with_a_non_finite_step_or_missing_keys_is_drawn(tmp_path: Path) -> None:
    made = rows(5)
    made.append({"kind": "train", "step": 5, "loss": math.nan, "mse": 0.0})
    made.append({"kind": "train", "step": 6})
    made.append({"kind": "train", "step": 7, "loss": None, "mse": None, "rates": [None, 0.1, 0.5]})
    made.append({"kind": "validation", "step": 7, "loss": None, "mse": None, "rates": [None, 0.1, 0.5]})
    assert len(plot(write(tmp_path / "log.jsonl", made), tmp_path)) == 3


def test_what_is_not_finite_stands_in_a_log_as_null_and_is_read_as_nan(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.jsonl", mute=False)
    journal.path.write_text('{"step": 1, "kind": "train", "loss": NaN}\n')  # as older runs wrote it
    journal.rewind(1)
    rates = torch.tensor([[math.inf, 0.5]])
    journal.write("train", 2, 0.5, {"loss": torch.tensor(math.nan), "rates": rates, "speed": math.nan, "id": "1f"})
    lines = journal.path.read_text().splitlines()
    old, new = (json.loads(line, parse_constant=pytest.fail) for line in lines)
    assert old == {"step": 1, "kind": "train", "loss": None}
    plain = {"loss": None, "rates": [[None, 0.5]], "speed": None, "id": "1f"}
    assert new == {"step": 2, "seconds": 0.5, "kind": "train", **plain}
    row = read_log(journal.path)[1]
    assert math.isnan(row["loss"])
    assert math.isnan(row["rates"][0][0])
    assert row["rates"][0][1] == 0.5


def test_a_log_without_steps_or_with_damage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no training steps yet"):
        plot(write(tmp_path / "log.jsonl", [{"kind": "start"}]), tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        plot(tmp_path / "nowhere.jsonl", tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"step": 1}\n{"st\n{"step": 2}\n')
    with pytest.raises(ConfigError, match=r"line 2 of .* is not JSON"):
        read_log(tmp_path / "bad.jsonl")


def test_the_running_mean_covers_the_last_values_and_skips_what_is_not_finite() -> None:
    values = [1.0, 3.0, math.nan, 5.0, math.inf]
    np.testing.assert_allclose(running_mean(values, 2), [1, 2, 3, 5, 5])
    np.testing.assert_allclose(running_mean([math.nan, 2.0], 1), [math.nan, 2])
    assert len(running_mean([], 3)) == 0
