"""How far symbols move with their latents, against what rounding really does."""

from __future__ import annotations

import math

import pytest
import torch

from hvcodec.model.config import INDEX_PER_OCTAVE, SCALE_COUNT
from hvcodec.model.crossing import LEAST, THRESHOLD, slope, weaken
from hvcodec.model.likelihood import INVERSE_SCALE
from hvcodec.model.prior import INDEX_ZERO

INDICES = torch.arange(SCALE_COUNT).float()


def symbols(x: torch.Tensor) -> torch.Tensor:
    """The thresholds of the definition: magnitude j from j - 1 + THRESHOLD on."""
    return torch.sign(x) * torch.floor(x.abs() + 1 - THRESHOLD)


@pytest.mark.parametrize("index", [8, 14, 20, 26, 40, 60])
def test_the_slope_is_how_far_symbols_move_when_all_their_latents_move(index: int) -> None:
    scale = 2.0 ** ((index - INDEX_ZERO) / INDEX_PER_OCTAVE) / INVERSE_SCALE
    quantiles = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000
    x = scale * (quantiles.log() - (-quantiles).log1p())  # a logistic sample, evenly spread
    away = 0.01 * torch.sign(x)
    moved = (symbols(x + away) - symbols(x - away)) * torch.sign(x) / 2
    assert float(moved.mean()) / 0.01 == pytest.approx(float(slope(torch.tensor(float(index)))), rel=0.03, abs=0.002)


def test_wide_distributions_follow_and_narrow_ones_hardly_do() -> None:
    slopes = slope(INDICES)
    assert bool((slopes.diff() >= -1e-3).all())
    assert float(slopes[0]) == pytest.approx(LEAST)
    assert float(slopes[-1]) == pytest.approx(1.0, abs=1e-3)
    assert float(slopes[INDEX_ZERO]) == pytest.approx(2 * sum(_density(j + THRESHOLD) for j in range(60)), rel=1e-5)


def test_indices_beyond_the_table_or_not_finite_point_into_it() -> None:
    beyond = torch.tensor([-7.0, 1e6, math.inf, -math.inf, math.nan])
    assert set(slope(beyond).tolist()) <= {float(slope(INDICES)[0]), float(slope(INDICES)[-1])}


def test_weakening_scales_the_gradient_and_nothing_else() -> None:
    leaf = torch.linspace(-3, 3, 7, requires_grad=True)
    t = torch.full((7,), 12.0, requires_grad=True)
    x = leaf * 2
    weaken(x, t)
    assert torch.equal(x, leaf * 2)
    x.sum().backward()
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, 2 * slope(t))
    assert t.grad is None


def test_without_gradients_there_is_nothing_to_weaken() -> None:
    with torch.no_grad():
        weaken(torch.ones(2), torch.zeros(2))


def _density(x: float) -> float:
    """Of the logistic distribution whose standard deviation is one."""
    e = math.exp(-x * INVERSE_SCALE)
    return INVERSE_SCALE * e / (1 + e) ** 2
