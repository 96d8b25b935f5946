"""Weights of errors: masks, masking by busy surroundings, and how they meet layers and strips."""

from __future__ import annotations

import pytest
import torch
from synthetic import picture
from torch import Tensor

from hvcodec.codec import Codec
from hvcodec.model import importance
from hvcodec.model.importance import GRID, at_positions, beyond_white, combined, of_mask, of_masking, weighed
from hvcodec.profiles import Profile, uniform


def rows_of(x: Tensor) -> importance.PixelRows:
    return lambda first, end: x[:, :, first:end]


def half_busy(height: int = 64, width: int = 128) -> Tensor:
    """Noise on the left, a slope on the right; values -0.5..0.5."""
    x = torch.linspace(-0.2, 0.2, width).expand(1, 3, height, width).clone()
    x[..., : width // 2] += 0.2 * torch.randn(1, 3, height, width // 2, generator=torch.Generator().manual_seed(0))
    return x


def test_a_mask_spans_its_range_and_white_counts_fully() -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1.0
    weights = of_mask(mask)
    assert weights.shape == (1, 1, 64 // GRID, 64 // GRID)
    assert float(weights.max()) == 1
    assert float(weights.min()) == pytest.approx(importance.MASK_FLOOR)
    less = 1 / beyond_white(weights)
    assert (less[..., 8:] < 1e-5).all() and torch.allclose(less[..., :8], torch.tensor(31.0))
    grey = of_mask(torch.full((1, 1, 64, 64), 0.5))
    assert torch.allclose(grey, torch.ones_like(grey))


def test_errors_count_less_where_it_is_busy() -> None:
    weights = of_masking(rows_of(half_busy()), 64, 128, 1.0)
    assert float(weights.mean()) == pytest.approx(1.0)
    busy, smooth = weights[..., :12].mean(), weights[..., -12:].mean()
    assert smooth > 5 * busy
    mild = of_masking(rows_of(half_busy()), 64, 128, 0.5)
    assert mild[..., -12:].mean() / mild[..., :12].mean() == pytest.approx(float(smooth / busy) ** 0.5, rel=0.1)


def test_rows_are_read_in_parts_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of_masking(rows_of(half_busy(192)), 192, 128, 0.8)
    monkeypatch.setattr(importance, "_ROWS", 64)
    assert torch.allclose(of_masking(rows_of(half_busy(192)), 192, 128, 0.8), whole, rtol=1e-4)


def test_sources_multiply() -> None:
    a, b = torch.rand(1, 1, 8, 8) + 0.5, torch.rand(1, 1, 8, 8) + 0.5
    both = combined(a, None, b)
    assert both is not None
    assert torch.equal(both, a * b)
    assert combined(None, None) is None


def test_positions_see_the_mean_of_their_pixels() -> None:
    weights = torch.arange(64.0).view(1, 1, 8, 8)
    assert at_positions(None, torch.zeros(1, 4, 2, 2)) == 1.0
    at = at_positions(weights, torch.zeros(1, 4, 2, 2))
    assert isinstance(at, Tensor)
    assert torch.equal(
        at[0, 0], torch.stack([weights[0, 0, :4].view(4, 2, 4), weights[0, 0, 4:].view(4, 2, 4)]).mean((1, 3))
    )


def test_a_weighed_error_is_a_sum() -> None:
    error = torch.rand(2, 3, 16, 16)
    assert torch.allclose(weighed(error, None).sum(dim=(1, 2, 3)), error.sum(dim=(1, 2, 3)))
    assert torch.allclose(weighed(error, torch.ones(2, 1, 4, 4)), weighed(error, None))
    doubled = torch.ones(2, 1, 4, 4)
    doubled[..., 0] = 2.0
    assert torch.allclose(
        weighed(error, doubled).sum(dim=(1, 2, 3)), error.sum(dim=(1, 2, 3)) + error[..., :4].sum(dim=(1, 2, 3))
    )


def test_a_profile_brings_its_masking(tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = uniform(5)
    masked = Profile("masked", "for this test", plain.path, masking=1.0)
    assert Profile.from_dict(masked.to_dict()) == masked
    without = {key: value for key, value in masked.to_dict().items() if key != "masking"}
    assert Profile.from_dict(without).masking == 0.0  # files of profiles from before there was masking
    monkeypatch.setattr(tiny_codec, "profiles", {"equal": plain, "masked": masked})
    shown = picture(128, 64, seed=1)
    by_profile = tiny_codec.compress(shown, profile="masked", quality=50)
    by_hand = tiny_codec.encode(shown, by_profile.rho, masking=1.0)
    assert by_profile.data == by_hand.data
    assert by_profile.data != tiny_codec.compress(shown, profile="equal", quality=50).data


@pytest.mark.parametrize("masking", [-0.1, 2.1, float("nan")])
def test_other_maskings_are_refused(masking: float) -> None:
    with pytest.raises(ValueError, match="the masking of 'wrong' must lie in"):
        Profile("wrong", "", uniform(5).path, masking=masking)
