"""Distortions that follow the eye, with a gradient: MS-SSIM and SSIMULACRA2 (hvcodec/similarity.py) for training.

Both are brought to the scale of the squared error, so that they can take its place in R + lambda D: over
photographs and rates, one minus MS-SSIM and the weighted error inside SSIMULACRA2 keep a nearly fixed ratio to it.

Borders are mirrored, because a crop goes on where it is cut.
"""

from __future__ import annotations

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

MS_SSIM_SCALE = 1 / 35
SSIMULACRA2_SCALE = 1 / 13000
"""Mean over photographs as the default model codes them: from rho 4 to 52 the ratios stay within a fifth."""

_NEGLIGIBLE = 0.01  # of the weights of SSIMULACRA2, the largest of which is 225
_LEAST = 1e-4  # a mean structure below it has no slope; and 4-norms have none at zero


def ms_ssim_error(pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """(1 - MS-SSIM) of the grey of each picture (N, 3, H, W), pixels 0..1, on the scale of the squared error: (N,)."""
    x, y = (_shown(p).mean(dim=1, keepdim=True) for p in (pixels, reconstruction))
    similarity = x.new_ones(len(x))
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        mean_x, mean_y, loss = _local_statistics(x, y)
        term = 1 - loss
        if scale == len(MS_SSIM_WEIGHTS) - 1:
            luminance = 2 * mean_x * mean_y + LUMINANCE_FLOOR
            term = term * luminance / (mean_x.square() + mean_y.square() + LUMINANCE_FLOOR)
        else:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        similarity = similarity * term.mean(dim=(1, 2, 3)).clamp_min(_LEAST) ** weight
    return (1 - similarity) * MS_SSIM_SCALE


def ssimulacra2_error(pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """The weighted error of SSIMULACRA2 of each picture (N, 3, H, W), on the scale of the squared error: (N,)."""
    linear_x, linear_y = _to_linear(_shown(pixels)), _to_linear(_shown(reconstruction))
    total = linear_x.new_zeros(len(linear_x))
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
            for norm, exponent in enumerate((1, 4)):
                used = [i for i, c in enumerate(channels) if weights[c, norm, kind] > _NEGLIGIBLE]
                if used:
                    factors = total.new_tensor([weights[channels[i], norm, kind] for i in used])
                    total = total + (_norm(errors[:, used], exponent) * factors).sum(dim=1)
    return total * SSIMULACRA2_SCALE


def _norm(errors: Tensor, exponent: int) -> Tensor:
    if exponent == 1:
        return errors.mean(dim=(2, 3))
    return (errors.square().square().mean(dim=(2, 3)) + _LEAST**exponent) ** (1 / exponent) - _LEAST


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
    # Two products with a band matrix: on small crops several times faster than convolutions of one channel.
    rows, columns = (_band(side, planes.device) for side in planes.shape[-2:])
    return rows @ planes @ columns.T


@lru_cache(maxsize=32)
def _band(side: int, device: torch.device) -> Tensor:
    """The matrix that convolves `side` samples, mirrored at both ends, with the window of SSIM."""
    matrix = torch.zeros(side, side)
    for offset in range(1 - len(SSIM_KERNEL), len(SSIM_KERNEL)):
        for i in range(side):
            j = (i + offset) % (2 * side)
            matrix[i, j if j < side else 2 * side - 1 - j] += SSIM_KERNEL[abs(offset)]
    return matrix.to(device)


def _shown(pixels: Tensor) -> Tensor:
    return pixels.float().clamp(0, 1)


def _to_linear(samples: Tensor) -> Tensor:
    curved = ((samples.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(samples <= 0.04045, samples / 12.92, curved)


def _to_xyb(linear: Tensor, channels: list[int]) -> Tensor:
    mixed = torch.einsum("dc,nchw->ndhw", torch.from_numpy(OPSIN).to(linear), linear) + OPSIN_BIAS
    long, medium, short = (mixed ** (1 / 3) - OPSIN_BIAS ** (1 / 3)).unbind(dim=1)
    luma = (long + medium) / 2
    planes = ((long - medium) * 7 + 0.42, luma + 0.01, short - luma + 0.55)
    return torch.stack([planes[c] for c in channels], dim=1)
