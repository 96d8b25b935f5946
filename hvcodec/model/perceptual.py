"""Distortions that follow the eye, with a gradient: MS-SSIM and SSIMULACRA2 (see hvcodec/similarity.py).

Both are brought to the scale of the squared error, so that they can take its place in R + lambda D: over photographs
and rates, one minus MS-SSIM and the weighted error inside SSIMULACRA2 keep a nearly fixed ratio to it. And both are
maps whose mean is the error of the picture, so that its parts can be judged on their own. Beyond a border its
samples go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from hvcodec.similarity import (
    LUMINANCE_FLOOR,
    MS_SSIM_WEIGHTS,
    N_SCALES,
    OPSIN,
    OPSIN_BIAS,
    SSIM_KERNEL,
    STRUCTURE_FLOOR,
    WEIGHTS,
)

from .transform import full_precision

SQUARE = 16
"""A map has one value for each square of so many pixels; sides are multiples of it."""

MS_SSIM_SCALE = 1 / 35
SSIMULACRA2_SCALE = 1 / 13000
"""Mean over photographs as the default model codes them: from rho 4 to 52 the ratios stay within a fifth."""

_NEGLIGIBLE = 0.01  # of the weights of SSIMULACRA2, the largest of which is 225
_LEAST = 1e-4  # a mean structure below it has no slope; and 4-norms have none at zero


def error_map(pixels: Tensor, shown: Tensor, shares: Mapping[str, float]) -> Tensor:
    """Error of each square of pictures (N, 3, H, W), pixels 0..1: (N, 1, H / SQUARE, W / SQUARE).

    The squared error, of which others take `shares` by their names.
    """
    with full_precision(shown):
        squared = (shown.float() - pixels).square().mean(dim=1, keepdim=True)
        total = (1 - sum(shares.values())) * _in_squares(squared)
        for name, share in shares.items():
            if share > 0:
                total = total + share * ERRORS[name](pixels, shown)
        return total


def ms_ssim_map(pixels: Tensor, shown: Tensor) -> Tensor:
    """(1 - MS-SSIM) of the grey of each picture, on the scale of the squared error."""
    x, y = (_clamped(p).mean(dim=1, keepdim=True) for p in (pixels, shown))
    similarity, places = x.new_ones(len(x), 1, 1, 1), x.new_zeros(())
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        mean_x, mean_y, loss = _local_statistics(x, y)
        term = 1 - loss
        if scale == len(MS_SSIM_WEIGHTS) - 1:
            luminance = 2 * mean_x * mean_y + LUMINANCE_FLOOR
            term = term * luminance / (mean_x.square() + mean_y.square() + LUMINANCE_FLOOR)
        else:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        similarity = similarity * _mean(term).clamp_min(_LEAST) ** weight
        places = places + weight * _in_squares(1 - term.detach(), scale)
    # The scales are multiplied, so where the error is can only be told in parts of the whole.
    return MS_SSIM_SCALE * (1 - similarity) * (places + _LEAST**2) / (_mean(places) + _LEAST**2)


def ssimulacra2_map(pixels: Tensor, shown: Tensor) -> Tensor:
    """The weighted error of SSIMULACRA2, on the scale of the squared error."""
    linear_x, linear_y = _to_linear(_clamped(pixels)), _to_linear(_clamped(shown))
    total = linear_x.new_zeros(())
    for scale in range(N_SCALES):
        # (channels, 1-norm or 4-norm, SSIM error or added edges or lost detail)
        weights = WEIGHTS.reshape(3, N_SCALES, 2, 3)[:, scale]
        channels = [c for c in range(3) if weights[c].max() > _NEGLIGIBLE]
        if scale > 0:
            linear_x, linear_y = F.avg_pool2d(linear_x, 2), F.avg_pool2d(linear_y, 2)
        if not channels:
            continue
        maps = _error_maps(_to_xyb(linear_x, channels), _to_xyb(linear_y, channels))
        for kind, errors in enumerate(maps):
            for norm, is_mean in enumerate((True, False)):
                used = [i for i, c in enumerate(channels) if weights[c, norm, kind] > _NEGLIGIBLE]
                if used:
                    # Plane by plane with plain numbers: a list of them would be uploaded, and the host would wait.
                    planes = [errors[:, i : i + 1] for i in used]
                    parts = planes if is_mean else [_parts_of_4_norm(plane) for plane in planes]
                    factors = [float(weights[channels[i], norm, kind]) for i in used]
                    weighted = [part * factor for part, factor in zip(parts, factors, strict=True)]
                    total = total + _in_squares(torch.stack(weighted).sum(dim=0), scale)
    return SSIMULACRA2_SCALE * total


ERRORS = {"ms_ssim": ms_ssim_map, "ssimulacra2": ssimulacra2_map}


def _parts_of_4_norm(errors: Tensor) -> Tensor:
    """A map whose mean is the fourth root of the mean fourth power."""
    fourth = errors.square().square()
    return fourth / (_mean(fourth) + _LEAST**4) ** 0.75


def _error_maps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean_x, mean_y, loss = _local_statistics(x, y)
    shift = (mean_x - mean_y).square()
    edge_x, edge_y = (x - mean_x).abs(), (y - mean_y).abs()
    edge = (edge_y - edge_x) / (1 + edge_x)
    return (loss + shift - loss * shift).clamp_min(0), edge.clamp_min(0), (-edge).clamp_min(0)


def _local_statistics(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Local means of both, and one minus the structure term of SSIM."""
    mean_x, mean_y = _blur(x), _blur(y)
    loss = _blur((x - y).square()) - (mean_x - mean_y).square()
    variances = _blur(x.square() + y.square()) - (mean_x.square() + mean_y.square())
    return mean_x, mean_y, loss / (variances.clamp_min(0) + STRUCTURE_FLOOR)


def _blur(planes: Tensor) -> Tensor:
    # Sums of shifted planes: on a CPU much faster than convolutions of one channel.
    reach = len(SSIM_KERNEL) - 1
    for dim, padding in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        padded, side = F.pad(planes, padding, mode="replicate"), planes.shape[dim]
        planes = SSIM_KERNEL[0] * padded.narrow(dim, reach, side)
        for offset, weight in enumerate(SSIM_KERNEL[1:], start=1):
            pair = padded.narrow(dim, reach - offset, side) + padded.narrow(dim, reach + offset, side)
            planes = planes + weight * pair
    return planes


def _in_squares(planes: Tensor, scale: int = 0) -> Tensor:
    """Means over the squares, of planes that were halved `scale` times."""
    return F.avg_pool2d(planes, SQUARE >> scale)


def _mean(planes: Tensor) -> Tensor:
    return planes.mean(dim=(2, 3), keepdim=True)


def _clamped(pixels: Tensor) -> Tensor:
    return pixels.float().clamp(0, 1)


def _to_linear(samples: Tensor) -> Tensor:
    curved = ((samples.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(samples <= 0.04045, samples / 12.92, curved)


@lru_cache(maxsize=4)
def _opsin(device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # whoever asks first, training may be next
        return torch.from_numpy(OPSIN).float().to(device)


def _to_xyb(linear: Tensor, channels: list[int]) -> Tensor:
    mixed = torch.einsum("dc,nchw->ndhw", _opsin(linear.device), linear) + OPSIN_BIAS
    long, medium, short = (mixed ** (1 / 3) - OPSIN_BIAS ** (1 / 3)).unbind(dim=1)
    luma = (long + medium) / 2
    planes = ((long - medium) * 7 + 0.42, luma + 0.01, short - luma + 0.55)
    return torch.stack([planes[c] for c in channels], dim=1)
