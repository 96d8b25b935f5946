"""Designs at equal time: structures and ways to train them, each from its own linear start on the same pictures.

    python -m hvcodec_benchmarks designs --data DIR --minutes 20

Every design is a recipe that differs from the packaged one in a few keys. It is trained for the same wall-clock
time by the trainer itself, and judged by R + lambda D at three rates on pictures never trained on, with averaged
weights and the encoder's rounding, and by the milliseconds that its model takes to decode. A run that was stopped
goes on where it was. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hvcodec import Codec, ConfigError, Picture
from hvcodec.model.config import ModelConfig, Stage, default_config, tiny_config
from hvcodec.train import checkpoint
from hvcodec.train.config import LOG, TrainConfig, find, load, parse
from hvcodec.train.loop import train

from . import store
from .environment import environment
from .fingerprint import fixed_picture

FILE = "designs.json"
LEVELS = (8, 24, 40)
DECODES = 5
ROUNDING = "encoder"  # of the symbols in validation; in a table that says nothing, to the nearest integer
Row = dict[str, Any]
Recipe = Mapping[str, Mapping[str, Any]]


def _stages(change: Callable[[Stage], Stage]) -> Recipe:
    """A recipe for the structure that was compared, with every stage changed."""
    return _model(ModelConfig(tuple(change(stage) for stage in _COMPARED)))


# The default structure when designs were compared, which gave it eight channels more at stride 8.
_COMPARED = [replace(stage, channels={8: 16}.get(stage.stride, stage.channels)) for stage in default_config().stages]


def _model(config: ModelConfig) -> Recipe:
    return {"model": asdict(config)}


def _scaled(width: int, factor: float) -> int:
    return max(48, round(width * factor / 32) * 32)


MUON: Recipe = {
    "optimizer": {"name": "muon", "muon_ratio": 2.0},
    "run": {"batch": 8},
    **_stages(lambda stage: stage),
}

DESIGNS: dict[str, tuple[str, Recipe]] = {
    "default": ("dense 3x3 blocks, Muon, batch 8", MUON),
    "grouped": (
        "3x3 convolutions in four groups",
        {**MUON, **_stages(lambda s: replace(s, groups=4))},
    ),
    "narrow": (
        "three quarters of the width",
        {**MUON, **_stages(lambda s: replace(s, width=_scaled(s.width, 0.75)))},
    ),
    "fewer-blocks": (
        "no block before the latents of strides 8 and 4, one less in the analysis",
        {
            **MUON,
            **_stages(
                lambda s: (
                    replace(s, synthesis_blocks=0, analysis_blocks=max(1, s.analysis_blocks - 1))
                    if s.stride <= 8
                    else s
                )
            ),
        },
    ),
    "latents-at-8": (
        "24 channels in each layer of stride 8, 8 at stride 4",
        {**MUON, **_stages(lambda s: replace(s, channels={8: 24, 4: 8}.get(s.stride, s.channels)))},
    ),
    "wide-prior": (
        "a prior of one and a half times the width",
        {**MUON, **_stages(lambda s: replace(s, prior_width=s.prior_width * 3 // 2))},
    ),
    "adamw": ("AdamW, batch 4", {**MUON, "optimizer": {"name": "adamw"}, "run": {"batch": 4}}),
    "small-crops": ("Muon, 32 crops of 128", {**MUON, "run": {"batch": 32, "crop": 128}}),
}


def run(
    target: Path,
    folder: Path,
    names: Sequence[str],
    *,
    minutes: float,
    data: Path | None = None,
    device: str = "cpu",
    tick: Callable[[], None] = lambda: None,
    more: Recipe | None = None,
) -> Row:
    """Train each design (finished ones are not trained again) and write the table; `more` changes all of them.

    Rows of designs that are not named stay as they are, if they were trained for as long and rounded alike.
    """
    before = store.read(target) if target.is_file() else {}
    terms = {"minutes": minutes, "rounding": ROUNDING}
    known = {row["design"]: row for row in before.get("rows", ())} if terms.items() <= before.items() else {}
    for name in names:
        title, recipe = DESIGNS[name]
        place = folder / name
        config = configuration(recipe, folder / "cache", more or {})
        train_once(config, place, minutes=minutes, data=data, device=device)
        known[name] = {"design": name, "title": title, **judge(place)}
        tick()
        document = {
            **terms,
            "device": device,
            "threads": torch.get_num_threads(),
            "environment": environment(),
            "rows": [known[each] for each in DESIGNS if each in known],
        }
        store.write(target, document)
    return document


def train_once(config: TrainConfig, place: Path, *, minutes: float, data: Path | None, device: str) -> None:
    """Train in a folder, unless that is done; what was stopped there goes on. ConfigError if another run lies there."""
    wanted = config.given(minutes=minutes, data=data)
    found = place / "config.json"
    if found.is_file() and json.loads(found.read_text("utf-8")) != json.loads(json.dumps(wanted.to_dict())):
        raise ConfigError(f"{place} holds a run of another recipe, length or folder of pictures: name another --out")
    if not (place / "model.safetensors").is_file():
        begun = bool(checkpoint.checkpoints(place))
        train(None if begun else config, place, minutes=minutes, resume=begun, data=data, device=device)


def configuration(recipe: Recipe, cache: Path, more: Recipe) -> TrainConfig:
    """The packaged recipe with the keys of a design in place of its own; all designs share one cache."""
    table: dict[str, dict[str, Any]] = dict(load(find("default")).to_dict())
    for changes in (recipe, more):
        for section, values in changes.items():
            table[section] = dict(values) if section == "model" else {**table[section], **values}
    table["data"] = {**table["data"], "cache": str(cache.resolve())}
    return parse(table)


def judge(place: Path) -> Row:
    """Losses and speed of a finished run, the size of its model, and how long that takes to decode."""
    log = [json.loads(line) for line in (place / LOG).read_text("utf-8").splitlines()]
    last = max(row["step"] for row in log if row["kind"] == "validation")
    found = {r["level"]: r["loss"] for r in log if r["kind"] == "validation" and r["step"] == last}
    model = place / "model.safetensors"
    return {
        "steps": last,
        "crops_per_s": statistics.median(row["crops_per_s"] for row in log if row["kind"] == "train"),
        "losses": {str(level): round(found[level], 4) for level in LEVELS if level in found},
        "megabytes": round(model.stat().st_size / 1e6, 2),
        "decode_ms": round(1000 * decode_seconds(model), 1),
    }


def decode_seconds(model: Path) -> float:
    """Median time to decode a picture of 768 x 512 at a middle rate."""
    codec = Codec(model, device="cpu")
    tile = np.asarray(fixed_picture(256))
    data = codec.encode(Picture(np.tile(tile, (2, 3, 1))), [28] * codec.n_groups).data
    times = []
    for _ in range(DECODES):
        start = time.perf_counter()
        codec.decode(data)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


TINY: Recipe = {
    **_model(tiny_config()),
    "run": {"batch": 2, "crop": 64, "bf16": False, "validation_crops": 8},
}
"""Turns every design into a run of seconds: for tests and for trying the command."""
