"""Start the ladder as a linear transform codec: principal components of a few real crops.

After this the untrained network already codes pictures about as well as a wavelet codec, so training begins
where a random start arrives after hours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hvcodec.model import Model
from hvcodec.model.config import lambda_of
from hvcodec.model.likelihood import logistic_bits
from hvcodec.model.prior import KNOTS, PriorLayer


def principal(x: Tensor) -> Tensor:
    """Components (rows) of (N, C, H, W) features, largest variance first; not centred."""
    flat = x.transpose(0, 1).flatten(1).double()
    _, vectors = torch.linalg.eigh(flat @ flat.T)
    components: Tensor = vectors.flip(1).T.float()
    return components


@torch.no_grad()
def start_ladder(model: Model, pixels: Tensor) -> None:
    """Set bases, steps and scale tables from crops (N, 3, H, W), values -0.5..0.5."""
    transform, stages = model.transform, model.config.stages
    groups = len(stages)
    features = [transform.from_pixels(pixels)]
    for group in range(groups - 1, 0, -1):
        e, width = features[-1], stages[group].width
        unfolded = F.pixel_unshuffle(e, 2)  # channel order (c, dy, dx), as a 2x2 convolution reads it
        components = principal(unfolded)
        keep = stages[group - 1].width
        basis = torch.zeros(keep, 4 * width)
        basis[: min(keep, 4 * width)] = components[:keep]
        rung = transform.rung(group)
        rung.down.copy_(basis.view(-1, width, 2, 2))
        rung.up.copy_(rung.down)
        features.append(F.conv2d(e, rung.down, stride=2))
    features.reverse()  # coarse to fine

    transform.start.zero_()
    h = torch.zeros_like(features[0])
    for group in range(groups):
        rung, e = transform.rung(group), features[group]
        if group:
            h = F.conv_transpose2d(h, rung.up, stride=2)
        for block in [*rung.analysis, *rung.synthesis, *(b for after in rung.after for b in after)]:
            spread = e.square().mean(dim=(0, 2, 3)).sqrt()
            block.scale_in.copy_(1 / spread.clamp_min(0.01))
        prior_stage = model.prior.stage(group)
        for latent, prior_layer in zip(rung.latents, prior_stage.layers, strict=True):
            basis = principal(e - h)[: stages[group].channels]
            latent.analysis.copy_(basis[:, :, None, None])
            latent.synthesis.copy_(basis.T[:, :, None, None])
            z = F.conv2d(e - h, latent.analysis)
            h = h + F.conv2d(z, latent.synthesis)
            start_scales(prior_layer, group, z)


SCALE_SAMPLES = 4096
"""Latents of each channel that its first scale is found from: more change nothing and take a minute."""


def start_scales(layer: PriorLayer, group: int, z: Tensor) -> None:
    """Best constant scale of each channel (z: latents of the last ones, not quantised) at every knot of rho."""
    candidates = torch.arange(0.0, 64.0)
    latents = z.transpose(0, 1).flatten(1)  # (Z, samples)
    latents = latents[:, :: max(1, latents.shape[1] // SCALE_SAMPLES)]
    for knot in range(KNOTS):
        step = (26.0 / lambda_of(7 * knot)) ** 0.5
        k = torch.round(latents / step).clamp(-255, 255)
        cost = torch.stack([logistic_bits(k, t).mean(dim=1) for t in candidates])
        layer.base.knots[group, knot, -len(latents) :] = candidates[cost.argmin(dim=0)]
