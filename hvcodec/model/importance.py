"""How much the error of each pixel counts: weights that an encoder uses when it chooses symbols.

Two sources, which multiply. A mask says where a picture matters to its user. And masking says where an eye would see
an error: less in busy surroundings than in smooth ones, which is also what structural similarity measures.
Those of masking have mean 1, so they move bits and leave the balance of rate and error to rho. Those of a mask have
1 where it is whitest: there a picture is coded as rho says, elsewhere cheaper, and rho may rise for what that saves.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

GRID = 4
"""Weights are kept for squares of so many pixels: (N, 1, height / GRID, width / GRID)."""

MASK_FLOOR = 1 / 32
"""What the error of a black pixel of a mask counts, where that of a white one counts 1."""

LEAST_BEYOND = 1e-6
"""In place of nothing, which cannot be divided by."""

WINDOW = 5
"""Surroundings in which a picture is busy or smooth: so many squares to each side of a window."""

SMOOTH = 2e-3
"""Variance of the luma (0..1) up to which surroundings count as smooth."""

_LUMA = (0.299, 0.587, 0.114)
_ROWS = 1024  # at a time

PixelRows = Callable[[int, int], Tensor]
"""Gives rows first..end of the padded picture as (N, 3, rows, width) pixels, -0.5..0.5."""


def of_mask(mask: Tensor) -> Tensor:
    """Weights from masks (N, 1, height, width) of 0 (black) to 1 (white), on a logarithmic scale."""
    weights = F.avg_pool2d(MASK_FLOOR ** (1 - mask), GRID)
    return weights / weights.amax(dim=(1, 2, 3), keepdim=True)


def of_masking(pixels: PixelRows, height: int, width: int, strength: float) -> Tensor:
    """Weights (variance of the surroundings + SMOOTH) ^ -strength; `pixels` gives rows as in strips.analyze."""
    parts = []
    for first in range(0, height, _ROWS):
        x = pixels(first, min(height, first + _ROWS))
        luma = (x * x.new_tensor(_LUMA)[None, :, None, None]).sum(dim=1, keepdim=True)
        parts.append(torch.cat([F.avg_pool2d(luma, GRID), F.avg_pool2d(luma.square(), GRID)], dim=1))
    moments = F.avg_pool2d(torch.cat(parts, dim=2), WINDOW, 1, WINDOW // 2, count_include_pad=False)
    mean, square = moments[:, :1], moments[:, 1:]
    weights = ((square - mean.square()).clamp_min(0) + SMOOTH) ** -strength
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True)


def beyond_white(weights: Tensor) -> Tensor:
    """Those of a mask, for rounding that leaves white as it is without one: there they have no bound.

    Elsewhere one over such a weight tells how much less an error counts: 1 where half as much, 31 in black.
    """
    return 1 / (1 / weights - 1).clamp_min(LEAST_BEYOND)


def combined(*weights: Tensor | None) -> Tensor | None:
    """The product of those that there are."""
    present = [weight for weight in weights if weight is not None]
    return torch.stack(present).prod(dim=0) if present else None


def at_positions(weights: Tensor | None, like: Tensor) -> Tensor | float:
    """Mean weight of the pixels of each position of a layer; 1 where all pixels matter alike."""
    return 1.0 if weights is None else F.adaptive_avg_pool2d(weights, (like.shape[-2], like.shape[-1]))


def weighed(error: Tensor, weights: Tensor | None) -> Tensor:
    """Sums of an error (N, 3, height, width) over all channels of each square, with its weight."""
    per_square = F.avg_pool2d(error.sum(dim=1, keepdim=True), GRID) * GRID**2
    return per_square if weights is None else per_square * weights
