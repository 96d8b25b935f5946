"""Bits of a symbol under a scale index, as a smooth function: what training and the encoder's search minimise.

The coder uses fitted integer tables; their shape is close to a logistic distribution, which is kind to
gradients (its tails are linear) and has a closed form that is stable everywhere.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import INDEX_PER_OCTAVE, SCALE_COUNT
from .prior import INDEX_ZERO

INVERSE_SCALE = math.pi / math.sqrt(3)
"""Of the logistic distribution whose standard deviation is one."""


def inverse_scales() -> Tensor:
    """One over the scales of the logistic distributions that the scale indices stand for, (SCALE_COUNT, 1)."""
    index = torch.arange(SCALE_COUNT, dtype=torch.float64)[:, None]
    return INVERSE_SCALE * torch.exp2((INDEX_ZERO - index) / INDEX_PER_OCTAVE)


def logistic_bits(y: Tensor, t: Tensor) -> Tensor:
    """-log2 of the mass between y - 1/2 and y + 1/2, at (real-valued) scale index t."""
    sigma = torch.exp2((t.clamp(0, SCALE_COUNT - 1) - INDEX_ZERO) / INDEX_PER_OCTAVE)
    inverse = INVERSE_SCALE / sigma
    y, half = y * inverse, 0.5 * inverse
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b-a)), with a - b = 2 * half
    log_mass = F.logsigmoid(y + half) + F.logsigmoid(half - y) + torch.log(-torch.expm1(-2 * half))
    return log_mass * (-1 / math.log(2))
