"""What the tests of the trainer share: made-up pictures, short runs of the tiny model, and their logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic import picture

from hvcodec import image
from hvcodec.train import loop
from hvcodec.train.config import TrainConfig, parse
from hvcodec.train.plots import read_log

Row = dict[str, Any]


def write_pictures(folder: Path, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image.write(picture(96, 80, seed=i), folder / f"{i}.png")
    return folder


def configuration(pictures: Path, **sections: Row) -> TrainConfig:
    """Twelve steps of the tiny model, logged one by one, if the sections do not say otherwise."""
    table: dict[str, Row] = {
        "model": {"name": "tiny"},
        "data": {"folder": str(pictures)},
        "optimizer": {"learning_rate": 2e-3},
        "schedule": {"steps": 12, "warmup_steps": 2},
        "run": {"batch": 2, "crop": 64, "bf16": False, "log_steps": 1, "validation_crops": 8},
    }
    for name, section in sections.items():
        table[name] = {**table.get(name, {}), **section}
    return parse(table)


def shorten() -> None:
    """Leave out most of what comes before and after the steps, in a process of its own."""
    loop.LADDER_CROPS = loop.TABLE_CROPS = 8
    loop.plots.plot = lambda log, out_dir: []


def rows(folder: Path, kind: str) -> list[Row]:
    """Lines of a run's log without what depends on the clock."""
    told = ("seconds", "crops_per_s")
    found = [row for row in read_log(folder / "log.jsonl") if row["kind"] == kind]
    return [{key: value for key, value in row.items() if key not in told} for row in found]


class Ticks:
    """A clock that shows the number of training steps: a second is a step."""

    def __init__(self, before_step: Callable[[int], None] = lambda step: None) -> None:
        self.now = 0.0
        self.before_step = before_step

    def install(self, patch: pytest.MonkeyPatch) -> None:
        train_step = loop.Trainer._train_step

        def counted(trainer: loop.Trainer, rate_factor: float) -> Row:
            self.before_step(trainer.step)
            self.now += 1
            return train_step(trainer, rate_factor)

        patch.setattr(loop.Trainer, "_train_step", counted)
        patch.setattr(loop, "clock", lambda: self.now)
