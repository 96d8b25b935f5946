"""Distortions that follow the eye: the numbers of hvcodec.metrics, scaled like the squared error, with a gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from synthetic import picture
from torch import Tensor

from hvcodec import metrics, similarity
from hvcodec.model.perceptual import MS_SSIM_SCALE, SSIMULACRA2_SCALE, error_map, ms_ssim_map, ssimulacra2_map
from hvcodec.train.objectives import PerLayerBeta, build

Samples = npt.NDArray[np.uint8]


def ms_ssim_error(pixels: Tensor, shown: Tensor) -> Tensor:
    return ms_ssim_map(pixels, shown).mean(dim=(1, 2, 3))


def ssimulacra2_error(pixels: Tensor, shown: Tensor) -> Tensor:
    return ssimulacra2_map(pixels, shown).mean(dim=(1, 2, 3))


ERRORS = [ms_ssim_error, ssimulacra2_error]


def damaged(strength: float, seed: int = 3) -> tuple[Samples, Samples]:
    """A picture, and the same with noise, a blur and a shift of its colours."""
    original = picture(256, 256, seed=seed).pixels.astype(np.float64)
    noise = np.random.default_rng(seed).normal(0, 1, original.shape)
    soft = sum(np.roll(original, shift, axis) for shift in (-1, 1) for axis in (0, 1)) / 4
    worse = original + strength * (6 * noise + 0.5 * (soft - original) + np.array([2, 0, -3]))
    return original.astype(np.uint8), worse.round().clip(0, 255).astype(np.uint8)


def tensor(samples: Samples) -> Tensor:
    return torch.from_numpy(samples.astype(np.float32) / 255).permute(2, 0, 1)[None]


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_ms_ssim_is_that_of_the_metric(strength: float) -> None:
    a, b = (samples.mean(axis=2).astype(np.uint8) for samples in damaged(strength))
    grey_a, grey_b = (tensor(np.repeat(grey[..., None], 3, axis=2)) for grey in (a, b))
    mine = float(ms_ssim_error(grey_a, grey_b)) / MS_SSIM_SCALE
    assert mine == pytest.approx(1 - metrics.ms_ssim(a, b), rel=0.1)  # only borders differ


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_ssimulacra2_is_that_of_the_metric(strength: float) -> None:
    a, b = damaged(strength)
    mine = similarity._score(float(ssimulacra2_error(tensor(a), tensor(b))) / SSIMULACRA2_SCALE)
    assert 100 - mine == pytest.approx(100 - metrics.ssimulacra2(a, b), rel=0.08)  # only borders differ


@pytest.mark.parametrize("error", ERRORS)
def test_equal_pictures_have_no_error_and_each_picture_its_own(error: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = map(tensor, damaged(1.0))
    both = error(torch.cat([a, a]), torch.cat([a, b]))
    assert both.shape == (2,)
    assert both[0] == pytest.approx(0, abs=1e-7)
    assert both[1] == pytest.approx(float(error(a, b)), rel=1e-4)


@pytest.mark.parametrize("error", ERRORS)
def test_following_the_gradient_removes_the_error(error: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = map(tensor, damaged(3.0))
    shown = b.clone().requires_grad_()
    optimizer = torch.optim.Adam([shown], 2e-3)
    before = float(error(a, b))
    for _ in range(25):
        optimizer.zero_grad()
        loss = error(a, shown).sum()
        loss.backward()
        optimizer.step()
    assert loss.item() < before / 2


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_pictures_have_a_finite_gradient(
    error: Callable[[Tensor, Tensor], Tensor], value: float
) -> None:
    shown = torch.full((1, 3, 256, 256), value, requires_grad=True)
    error(torch.full((1, 3, 256, 256), 0.5), shown).sum().backward()
    assert shown.grad is not None
    assert torch.isfinite(shown.grad).all()


@pytest.mark.parametrize("name", ["ms_ssim", "ssimulacra2"])
def test_a_map_says_where_the_error_is(name: str) -> None:
    a, b = map(tensor, damaged(1.0))
    shown = a.clone()
    shown[..., :96, 128:] = b[..., :96, 128:]
    squares = error_map(a, shown, {name: 1.0})
    assert squares.shape == (1, 1, 16, 16)
    inside = squares[..., :6, 8:]
    assert inside.sum() > 0.8 * squares.sum()
    assert inside.min() > 20 * squares[..., 10:, :6].max()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 320), (192, 128)])
def test_small_pictures_have_errors_too(height: int, width: int) -> None:
    pixels = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    squares = error_map(pixels, 0.9 * pixels, {"ms_ssim": 0.3, "ssimulacra2": 0.4})
    assert squares.shape == (2, 1, height // 16, width // 16)
    assert squares.min() > 0


def test_the_objective_mixes_them_by_their_shares() -> None:
    a, b = map(tensor, damaged(1.0))
    plain = PerLayerBeta(5, 0)
    mixed = build("per_layer_beta", {"ms_ssim": 0.25, "ssimulacra2": 0.5}, groups=5)
    wanted = 0.25 * plain.distortion(a, b) + 0.25 * ms_ssim_error(a, b) + 0.5 * ssimulacra2_error(a, b)
    assert torch.allclose(mixed.distortion(a, b), wanted, rtol=1e-5)
    assert torch.equal(PerLayerBeta(5, 0, ms_ssim=0.0).distortion(a, b), plain.distortion(a, b))


@pytest.mark.parametrize("shares", [{"ms_ssim": -0.1}, {"ms_ssim": 0.6, "ssimulacra2": 0.6}])
def test_shares_that_make_no_sense_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        PerLayerBeta(5, 0, **shares)
