"""Training configurations: TOML files that mirror frozen dataclasses, checked key by key.

    [model]      structure of the network, passed on as it stands (hvcodec.model.config)
    [data]       pictures and how crops are varied
    [optimizer]  steps of the weights
    [schedule]   how long, and the learning rate on the way
    [objective]  what is minimised: a name and its params (hvcodec.train.objectives)
    [run]        seed, batch, precision, how often to validate and to save

Every key has a default, which is the one of the recipe in configs/default.toml, so that a file need only say
what is to be different. An unknown key or a value of the wrong type is a ConfigError that names it.
"""

from __future__ import annotations

import difflib
import math
import sys
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hvcodec.catalog import SUFFIX as MODEL_SUFFIX
from hvcodec.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

PACKAGED = Path(__file__).resolve().parent / "configs"
"""Configurations that come with hvcodec."""

LOG = "log.jsonl"
"""The log of every run, in its folder."""

DRAWINGS = ("loss", "rates", "distortion")
"""What is drawn of it, each as a PNG file beside it."""


@dataclass(frozen=True)
class DataConfig:
    """Pictures and how crops are varied; see hvcodec.train.data.Crops."""

    folder: str = ""  # of pictures or shards, as seen from the TOML file; empty: the shared photographs
    cache: str = ""  # folder of the packed pictures, likewise; empty: inside the run's own folder
    jitter: float = 0.5  # share of the crops that are reduced
    smallest_scale: float = 0.5  # how far
    colour: float = 0.0  # 0.05: each colour is scaled by 0.95 to 1
    held_out_share: float = 0.02  # of the pictures, kept for validation

    def __post_init__(self) -> None:
        _require("data.jitter", self.jitter, 0 <= self.jitter <= 1, "lie in 0..1")
        _require("data.smallest_scale", self.smallest_scale, 0 < self.smallest_scale <= 1, "lie in 0..1, above 0")
        _require("data.colour", self.colour, 0 <= self.colour < 1, "lie in 0..1, below 1")
        _require("data.held_out_share", self.held_out_share, 0 < self.held_out_share < 1, "lie between 0 and 1")


@dataclass(frozen=True)
class OptimizerConfig:
    """Steps of the weights."""

    name: str = "muon"  # for the matrices of the blocks, with AdamW for the rest; or adamw for all
    momentum: float = 0.95  # of Muon
    muon_ratio: float = 2.0  # its learning rate, against that of the blocks' other parameters
    learning_rate: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.0
    ladder_ratio: float = 0.2  # learning rate of the linear codec inside, against that of the blocks
    prior_ratio: float = 1.0  # of the exact prior
    tables_ratio: float = 15.0  # of its tables of scale indices, whose unit is larger
    clip: float = 5.0  # largest norm of a gradient
    ema: float = 0.999  # memory of the averaged weights, for each step

    def __post_init__(self) -> None:
        _require("optimizer.name", self.name, self.name in {"adamw", "muon"}, "be adamw or muon")
        _require("optimizer.learning_rate", self.learning_rate, self.learning_rate > 0, "be positive")
        for name in ("muon_ratio", "ladder_ratio", "prior_ratio", "tables_ratio"):
            value = getattr(self, name)
            _require(f"optimizer.{name}", value, value >= 0, "not be negative")
        for name in ("momentum", "beta1", "beta2", "ema"):
            value = getattr(self, name)
            _require(f"optimizer.{name}", value, 0 <= value < 1, "lie in 0..1, below 1")
        _require("optimizer.weight_decay", self.weight_decay, self.weight_decay >= 0, "not be negative")
        _require("optimizer.clip", self.clip, self.clip > 0, "be positive")


@dataclass(frozen=True)
class ScheduleConfig:
    """How long to train, and the learning rate on the way: a linear warm-up, then a cosine."""

    minutes: float = 120.0  # ignored if steps are given
    steps: int = 0
    warmup_steps: int = 50
    final_ratio: float = 0.03  # last learning rate, as a part of the largest

    def __post_init__(self) -> None:
        _require("schedule.minutes", self.minutes, 0 < self.minutes < math.inf, "be positive and finite")
        _require("schedule.steps", self.steps, self.steps >= 0, "not be negative")
        _require("schedule.warmup_steps", self.warmup_steps, self.warmup_steps >= 0, "not be negative")
        _require("schedule.final_ratio", self.final_ratio, 0 <= self.final_ratio <= 1, "lie in 0..1")

    def progress(self, step: int, seconds: float) -> float:
        """Part of the run that is over, 0..1; `seconds` of training so far, resumed parts included."""
        done = step / self.steps if self.steps else seconds / (60 * self.minutes)
        return min(max(done, 0.0), 1.0)

    def factor(self, step: int, progress: float) -> float:
        """Learning rate at this point, as a part of the largest."""
        warm = min((step + 1) / (self.warmup_steps + 1), 1.0)
        cosine = 0.5 + 0.5 * math.cos(math.pi * progress)
        return warm * (self.final_ratio + (1 - self.final_ratio) * cosine)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised: a name of hvcodec.train.objectives.OBJECTIVES and its parameters."""

    name: str = "per_layer_beta"
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunConfig:
    """Seed, batch, precision, and how often to validate and to save."""

    seed: int = 0
    batch: int = 8  # crops of all ranks together
    crop: int = 256
    compile: bool = False  # fuse the blocks' small operations, with torch.compile
    bf16: bool = True
    checkpoint_seconds: float = 60.0
    validate_seconds: float = 600.0
    validation_crops: int = 64
    log_steps: int = 10
    start: str = ""  # a model to go on from, by name, or by path as seen from the TOML file; empty: the linear codec
    settle: float = 0.0  # last part of the run: symbols as the encoder chooses them, and steps that stay as they are
    trellis: bool = False  # fit tables for a trellis too, in which the fine layers of files will then be

    def __post_init__(self) -> None:
        _require("run.seed", self.seed, 0 <= self.seed < 2**63, "lie in 0..2^63, below that")
        for name in ("batch", "crop", "validation_crops", "log_steps"):
            _require(f"run.{name}", getattr(self, name), getattr(self, name) > 0, "be positive")
        _require("run.crop", self.crop, self.crop % 64 == 0, "be a multiple of 64")
        _require("run.settle", self.settle, 0 <= self.settle <= 1, "lie in 0..1")
        for name in ("checkpoint_seconds", "validate_seconds"):
            _require(f"run.{name}", getattr(self, name), getattr(self, name) > 0, "be positive")


@dataclass(frozen=True)
class TrainConfig:
    """A whole training configuration."""

    model: Mapping[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        decay = self.optimizer.weight_decay
        _require("optimizer.weight_decay", decay, decay == 0 or self.run.settle == 0, "be 0 with run.settle")

    def given(self, *, minutes: float | None = None, data: Path | None = None) -> TrainConfig:
        """The same for another time and with other pictures, where these are given."""
        schedule, pictures = self.schedule, self.data
        if minutes is not None:
            schedule = replace(schedule, minutes=float(minutes), steps=0)
        if data is not None:
            pictures = replace(pictures, folder=str(data.resolve()))
        return replace(self, schedule=schedule, data=pictures)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `parse` reads them back."""
        return asdict(self)


def find(config: str) -> Path:
    """The file of a configuration, given by its path or by the name of one that comes with hvcodec."""
    packaged = {path.stem: path for path in sorted(PACKAGED.glob("*.toml"))}
    path = Path(config)
    if path.suffix == ".toml" or path.is_file():
        return path
    if config in packaged:
        return packaged[config]
    raise ConfigError(f"there is no configuration {config!r}: name a TOML file, or {' or '.join(packaged)}")


def load(path: Path) -> TrainConfig:
    """Read a training configuration from a TOML file; raises ConfigError."""
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as err:
        raise ConfigError(f"the configuration {path} cannot be read: {err.strerror}") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ConfigError(f"the configuration {path} is not TOML: {err}") from err
    try:
        config = parse(table)
    except ConfigError as err:
        raise ConfigError(f"{path}: {err}") from err
    here, start = path.resolve().parent, config.run.start
    folder, cache = (value and str(here / value) for value in (config.data.folder, config.data.cache))
    if Path(start).suffix == MODEL_SUFFIX:
        start = str(here / start)
    data, run = replace(config.data, folder=folder, cache=cache), replace(config.run, start=start)
    return replace(config, data=data, run=run)


def parse(table: Mapping[str, Any]) -> TrainConfig:
    """Check plain values and make a configuration of them; raises ConfigError."""
    return _section(TrainConfig, table, "")


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known name an unknown one may have meant, as the end of an error message."""
    names = list(known)
    close = difflib.get_close_matches(word, names, 1, 0.4)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"


def _section(kind: type[T], table: Mapping[str, Any], prefix: str) -> T:
    types_ = typing.get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        if key not in known:
            what = "key" if prefix else "section"
            raise ConfigError(f"unknown {what} {prefix + key!r}; {nearest(key, known)}")
        values[key] = _value(types_[key], value, prefix + key)
    return kind(**values)


def _value(kind: Any, value: Any, name: str) -> Any:
    if is_dataclass(kind) or typing.get_origin(kind) is not None:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a table, not {_words(value)}")
        if is_dataclass(kind):
            return _section(typing.cast("type[Any]", kind), value, f"{name}.")
        return dict(value)
    if kind is float and type(value) is int:
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    if type(value) is not kind:  # not isinstance: true is no number here
        raise ConfigError(f"{name} must be {_KINDS[kind]}, not {_words(value)}")
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, not {value}")
    return value


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _words(value: Any) -> str:
    return f"{_KINDS[type(value)]} ({value!r})" if type(value) in _KINDS else f"a {type(value).__name__}"


def _require(name: str, value: object, fine: bool, demand: str) -> None:
    if not fine:
        raise ConfigError(f"{name} must {demand}; it is {value}")
