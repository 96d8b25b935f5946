"""Training to a target: whether distortion and rate targets are reached on validation pictures.

    python -m hvcodec_benchmarks targeted --data DIR --minutes 8

Every run goes on from the default model with another objective, and is judged at its end by averaged weights and
the encoder's rounding on pictures never trained on. The targets lie away from what the default model gives at the level
that the network is told, so that a multiplier has to move. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hvcodec.train.config import LOG, TrainConfig

from . import store
from .designs import Recipe, configuration, train_once
from .environment import environment

FILE = "targeted.json"
VALIDATIONS = 12
LEVEL = 32
Row = dict[str, Any]

# At this level the default model gives an error of about 3e-4 for 0.7 bits per pixel on these crops.
RUNS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "distortion": ("distortion_target", {"mse": 2.5e-4, "rho": LEVEL, "speed": 4e-3}),
    "geco": ("geco", {"mse": 2.5e-4, "rho": LEVEL}),
    "rate": ("rate_target", {"bpp": 0.8, "rho": LEVEL, "speed": 3e-2, "damping": 1.0}),
    "rate-per-group": (
        "rate_target",
        {"bpp": [0.012, 0.04, 0.25, 0.25, 0.2], "rho": LEVEL, "speed": 3e-2, "damping": 1.0},
    ),
}

SMALL_CROPS: Recipe = {
    "optimizer": {"name": "adamw", "learning_rate": 4e-4, "ema": 0.99},
    "run": {"batch": 8, "crop": 128},
}
"""Many short steps: the multipliers need hundreds of them, and a step of Muon costs the same for any batch."""


def run(
    target: Path,
    folder: Path,
    names: Sequence[str],
    *,
    minutes: float,
    start: str = "default",
    data: Path | None = None,
    device: str = "cpu",
    tick: Callable[[], None] = lambda: None,
    more: Recipe | None = None,
) -> Row:
    """Train to each target (finished runs are not repeated) and write the table; `more` changes all recipes.

    Rows of runs that are not named stay as they are.
    """
    known = {row["run"]: row for row in store.read(target)["rows"]} if target.is_file() else {}
    for name in names:
        place = folder / name
        config = recipe(name, folder / "cache", minutes, start, more or {})
        train_once(config, place, minutes=minutes, data=data, device=device)
        known[name] = {**judge(name, place), "minutes": minutes, "device": device}
        tick()
        rows = [known[each] for each in RUNS if each in known]
        document = {"environment": environment(), "rows": rows}
        store.write(target, document)
    return document


def recipe(name: str, cache: Path, minutes: float, start: str, more: Recipe) -> TrainConfig:
    """The packaged recipe with the objective of a run, from a finished model, with short steps."""
    objective, params = RUNS[name]
    changes: dict[str, dict[str, Any]] = {section: dict(values) for section, values in SMALL_CROPS.items()}
    changes["run"] |= {"start": start, "validate_seconds": 60 * minutes / VALIDATIONS}
    changes["objective"] = {"name": objective, "params": dict(params)}
    return configuration(changes, cache, more)


def judge(name: str, place: Path) -> Row:
    """What was asked and what the last validation of a finished run measured."""
    log = [json.loads(line) for line in (place / LOG).read_text("utf-8").splitlines()]
    last = max((row for row in log if row["kind"] == "validation"), key=lambda row: row["step"])
    objective, params = RUNS[name]
    if "mse" in params:
        asked, reached = [params["mse"]], [last["mse"]]
    elif isinstance(params["bpp"], list):
        asked, reached = list(params["bpp"]), list(last["rates"])
    else:
        asked, reached = [params["bpp"]], [math.fsum(last["rates"])]
    misses = [100 * (b / a - 1) for a, b in zip(asked, reached, strict=True)]
    return {
        "run": name,
        "objective": objective,
        "steps": last["step"],
        "asked": asked,
        "reached": [float(f"{value:.4g}") for value in reached],
        "miss_percent": [round(miss, 2) for miss in misses],
        "psnr_db": round(last["psnr"], 2),
        "bpp": round(math.fsum(last["rates"]), 4),
    }
