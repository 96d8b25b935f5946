"""The network: a float transform and an exact prior, side by side."""

from __future__ import annotations

from torch import nn

from .config import Layer, ModelConfig, Stage, default_config, tiny_config
from .prior import Prior
from .transform import Transform

__all__ = ["Layer", "Model", "ModelConfig", "Prior", "Stage", "Transform", "default_config", "tiny_config"]


class Model(nn.Module):
    """Both worlds of one codec."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.transform = Transform(config)
        self.prior = Prior(config)
