"""The structure of a model, as data: frozen, printable, stored with the weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from hvcodec.errors import ModelError

RHO_LEVELS = 64
"""A rate value is an integer 0..63, for each stride group."""

SCALE_COUNT = 64
"""The entropy coder knows this many scales; the prior picks one for each symbol."""

INDEX_PER_OCTAVE = 5
"""So many scale indices further a standard deviation is twice as large."""

ALIGN = 64
"""Pictures are padded to a multiple of the coarsest stride."""


FINEST_WIDTH = 48
"""Samples of a 4x4 patch of pixels, which the finest features hold."""

MAX_LAYERS = 32
"""As many as a file can list."""

_WIDEST = 1024
_STAGE_RANGES = {
    "stride": (4, 64),
    "width": (1, _WIDEST),
    "layers": (1, MAX_LAYERS),
    "channels": (1, _WIDEST),
    "analysis_blocks": (0, 16),
    "synthesis_blocks": (0, 16),
    "layer_blocks": (0, 16),
    "groups": (1, _WIDEST),
    "prior_width": (2, _WIDEST),
}


def _check_ranges(config: object, ranges: dict[str, tuple[int, int]]) -> None:
    """Refuse values that no model has: those of a foreign file could ask for any amount of memory."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if type(value) is not int or not low <= value <= high:
            raise ModelError(f"{name} of a model is a whole number {low}..{high}, not {value!r}")


def lambda_of(rho: float) -> float:
    """Weight of the squared error (pixels in 0..1) against one bit per pixel: six steps double it."""
    return float(2.0 ** (5 + rho / 6))


@dataclass(frozen=True)
class Stage:
    """One stride of the hierarchy: its features in both worlds, and the latent layers it codes."""

    stride: int
    width: int  # channels of the float features e and h
    layers: int  # latent layers of this stride
    channels: int  # symbols per position in each of them
    analysis_blocks: int  # blocks of the bottom-up pass
    synthesis_blocks: int  # blocks before the first latent layer of the top-down pass
    layer_blocks: int  # blocks after each latent layer
    groups: int  # groups of the 3x3 convolutions (1 = dense)
    prior_width: int  # channels of the exact features

    def __post_init__(self) -> None:
        _check_ranges(self, _STAGE_RANGES)
        if self.width % self.groups or self.prior_width % 2:
            raise ModelError(f"{self.groups} groups do not divide the width, or 2 not the prior_width, of {self}")


@dataclass(frozen=True)
class ModelConfig:
    """A model: its stages from coarse (stride 64) to fine (stride 4)."""

    stages: tuple[Stage, ...]
    rho_width: int = 64  # width of the embedding of the rate vector

    def __post_init__(self) -> None:
        strides = [stage.stride for stage in self.stages]
        if strides != [64, 32, 16, 8, 4]:
            raise ModelError(f"a model needs stages of strides 64, 32, 16, 8 and 4, not {strides}")
        _check_ranges(self, {"rho_width": (1, _WIDEST)})
        if self.stages[-1].width < FINEST_WIDTH:
            raise ModelError(f"the finest stage needs a width of {FINEST_WIDTH} or more: a patch of pixels")
        if len(self.layers) > MAX_LAYERS:
            raise ModelError(f"a model has at most {MAX_LAYERS} layers, not {len(self.layers)}")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The latent layers, coarse to fine."""
        owners = [(g, stage) for g, stage in enumerate(self.stages) for _ in range(stage.layers)]
        return tuple(Layer(i, g, stage.stride, stage.channels) for i, (g, stage) in enumerate(owners))

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Read a configuration; ModelError if it is not one."""
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, AttributeError, RecursionError) as err:
            raise ModelError("the weights carry no readable model configuration") from err

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """Build from plain data (JSON, TOML); ModelError for unknown or missing keys."""
        try:
            stages = tuple(Stage(**stage) for stage in data["stages"])
            rest = {key: value for key, value in data.items() if key != "stages"}
            config = cls(stages=stages, **rest)
        except (KeyError, TypeError) as err:
            known = ", ".join(field.name for field in fields(Stage))
            raise ModelError(f"not a model configuration ({err}); a stage has: {known}") from err
        return config


@dataclass(frozen=True)
class Layer:
    """One latent variable of the hierarchy."""

    index: int
    group: int
    stride: int
    channels: int

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, rows, columns) of its symbols in a picture of this size."""
        rows, columns = (-(-side // ALIGN) * (ALIGN // self.stride) for side in (height, width))
        return self.channels, rows, columns


def default_config() -> ModelConfig:
    """The structure of the default model (docs/decisions/0010 compares it with others at equal time)."""
    return ModelConfig(
        stages=(
            Stage(64, 192, 1, 32, 1, 0, 1, 1, 64),
            Stage(32, 192, 2, 32, 1, 1, 1, 1, 64),
            Stage(16, 192, 3, 64, 2, 1, 1, 1, 96),
            Stage(8, 128, 3, 24, 2, 1, 1, 1, 64),
            Stage(4, 64, 1, 16, 1, 1, 1, 1, 48),
        )
    )


def tiny_config() -> ModelConfig:
    """A model of some 140,000 weights, for tests and for trying the trainer."""
    return ModelConfig(
        stages=(
            Stage(64, 16, 1, 8, 0, 0, 0, 1, 8),
            Stage(32, 16, 1, 8, 0, 0, 0, 1, 8),
            Stage(16, 24, 2, 8, 0, 0, 1, 1, 8),
            Stage(8, 32, 1, 8, 1, 0, 1, 1, 8),
            Stage(4, 48, 1, 8, 0, 0, 1, 1, 8),
        ),
        rho_width=8,
    )
