"""What training minimises: interchangeable pieces over a distortion D and the rates R_1..R_G.

    BetaVAE            R + lambda D at one rate
    PerLayerBeta       the same at random rates, each group of layers with its own weight (the default)
    DistortionTarget   min R where D = target       multiplier by gradient ascent on the Lagrangian
    Geco               min R where D = target       multiplier by a moving average of the constraint
    RateTarget         min D where R = target       in all, or for each group
    ObservationScale   negative ELBO, one learned scale of the error
    PixelScale         negative ELBO, a scale for each pixel

Distortion is the mean squared error of pixels in 0..1 unless an objective says otherwise; rates are bits
per pixel of each stride group. docs/objectives.md has the mathematics.

One training step: `rho = objective.rho.at(step, ...)`, a pass through the network, `objective.distortion`,
`objective.loss(...).backward()`, the optimiser's step, `objective.update(...)`. Parameters of an objective
are trained with those of the network (under DDP, keep both in the wrapped module); multipliers are buffers.
Nothing here makes the host wait for the device.
"""

from __future__ import annotations

import inspect
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hvcodec.errors import ConfigError
from hvcodec.model.config import lambda_of
from hvcodec.model.perceptual import error_map
from hvcodec.train.config import nearest
from hvcodec.train.objective import Objective, squared_error
from hvcodec.train.rho import FixedRho, RhoSampler, lambdas
from hvcodec.train.targets import DistortionTarget, Geco, RateTarget

__all__ = [
    "OBJECTIVES",
    "BetaVAE",
    "DistortionTarget",
    "Geco",
    "Objective",
    "ObservationScale",
    "PerLayerBeta",
    "PixelScale",
    "RateTarget",
    "build",
    "gaussian_bits",
]

DIMENSIONS = 3
"""Samples of a pixel: bits per dimension are a third of bits per pixel."""

ROUNDING = 1 / (12 * 255**2)
"""Variance of the noise that spreads an 8-bit pixel value evenly over its interval, pixels in 0..1."""

LN2 = math.log(2)


class BetaVAE(Objective):
    """Minimise R + lambda(rho) D at one level for everything."""

    def __init__(self, groups: int, seed: int, *, rho: int = 32) -> None:
        super().__init__()
        self.rho = FixedRho(groups, rho)

    def loss(self, distortion: Tensor, rates: Tensor, rho: Tensor) -> Tensor:
        return (rates.sum(dim=1) + lambdas(rho[:, 0]) * distortion).mean()


class PerLayerBeta(Objective):
    """Minimise the distortion plus a weighted sum of rates, the weights drawn at random.

    A picture's loss is lambda_bar (D + sum_g R_g / lambda(rho_g)), where lambda_bar is the geometric mean
    of lambda over the `reference` groups; with all levels equal that is R + lambda D. The loss grows with the
    level; with `balance` 1 it is weighed so that all levels pull about equally, with 0 it stays as it is.

    The distortion is the squared error, of which the errors of MS-SSIM and SSIMULACRA2 can take a share each.
    """

    MIDDLE, OCTAVE = 24, 13  # the level that balance leaves alone; the loss doubles in about so many

    def __init__(
        self,
        groups: int,
        seed: int,
        *,
        reference: Sequence[int] | None = None,
        together: float = 0.65,
        spread: float = 8.0,
        rare_from: int = 52,
        balance: float = 1.0,
        ms_ssim: float = 0.0,
        ssimulacra2: float = 0.0,
    ) -> None:
        super().__init__()
        self.rho = RhoSampler(groups, seed, together=together, spread=spread, rare_from=rare_from)
        self.balance = balance
        # Of the five groups of the default model those of stride 16 and 8 spend most of the bits.
        default = (2, 3) if groups == 5 else range(groups)
        self.reference = list(default if reference is None else reference)
        if not self.reference or not all(0 <= group < groups for group in self.reference):
            raise ValueError(f"reference must name some of the groups 0..{groups - 1}, not {self.reference}")
        shares = {"ms_ssim": ms_ssim, "ssimulacra2": ssimulacra2}
        self.shares = {name: share for name, share in shares.items() if share}
        if min(shares.values()) < 0 or sum(shares.values()) > 1:
            raise ValueError("the shares of ms_ssim and ssimulacra2 lie in 0..1, and so does their sum")

    def distortion(self, pixels: Tensor, reconstruction: Tensor) -> Tensor:
        if not self.shares:
            return super().distortion(pixels, reconstruction)
        return error_map(pixels, reconstruction, self.shares).mean(dim=(1, 2, 3))

    def loss(self, distortion: Tensor, rates: Tensor, rho: Tensor) -> Tensor:
        # Column by column: a list as an index would be uploaded, and the host would wait.
        level = torch.stack([rho[:, group] for group in self.reference]).float().mean(dim=0)  # (N,)
        lam_bar = lambdas(level)  # geometric mean
        weights = lam_bar[:, None] / lambdas(rho)  # (N, G)
        balance = torch.exp2(self.balance * (self.MIDDLE - level) / self.OCTAVE)
        return (balance * (lam_bar * distortion + (weights * rates).sum(dim=1))).mean()


class ObservationScale(Objective):
    """Minimise the negative ELBO, in bits per dimension, with one learned scale of a Gaussian error."""

    elbo: Tensor

    def __init__(self, groups: int, seed: int, *, rho: int = 32, stretch: float = 30.0) -> None:
        super().__init__()
        if not stretch > 0:
            raise ValueError(f"stretch must be positive, not {stretch}")
        self.rho = FixedRho(groups, rho)
        # At this variance the gradient in the picture is that of R + lambda D.
        self.start = math.log(DIMENSIONS / (2 * LN2 * lambda_of(rho)))
        # A network's learning rate would take thousands of steps for one octave: stretch its steps.
        self.stretch = stretch
        self.offset = nn.Parameter(torch.zeros(()))
        self.register_buffer("elbo", torch.zeros(()), persistent=False)  # of the last batch

    def log_variance(self) -> Tensor:
        return self.start + self.stretch * self.offset

    def loss(self, distortion: Tensor, rates: Tensor, rho: Tensor) -> Tensor:
        error_bits = gaussian_bits(distortion, self.log_variance())
        negative_elbo = (error_bits + rates.sum(dim=1) / DIMENSIONS).mean()
        self.elbo.copy_(-negative_elbo.detach())
        return negative_elbo

    def report(self) -> dict[str, Tensor]:
        sigma = (self.log_variance() / 2).exp().detach()
        return {"elbo_bits_per_dimension": self.elbo.clone(), "sigma": sigma}


class PixelScale(Objective):
    """Minimise the negative ELBO, in bits per dimension, with a scale for each pixel.

    A small network reads the scale off the reconstruction, so it is known to the decoder and asks nothing
    of the codec's own network. `distortion` is then the negative log-likelihood.
    """

    elbo: Tensor

    def __init__(self, groups: int, seed: int, *, rho: int = 32, width: int = 16, stretch: float = 30.0) -> None:
        super().__init__()
        if width < 1 or not stretch > 0:
            raise ValueError(f"width and stretch must be positive, not {width} and {stretch}")
        self.rho = FixedRho(groups, rho)
        self.start = math.log(DIMENSIONS / (2 * LN2 * lambda_of(rho)))
        self.stretch = stretch
        last = nn.Conv2d(width, 1, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.head = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.SiLU(), last)
        self.register_buffer("elbo", torch.zeros(()), persistent=False)  # of the last batch

    def log_variance(self, reconstruction: Tensor) -> Tensor:
        """Logarithm of the variance of each pixel: (N, 1, H, W)."""
        # The scale describes the picture and must not bend it: no gradient through here.
        scale: Tensor = self.head(reconstruction.detach())
        return self.start + self.stretch * scale.float()

    def distortion(self, pixels: Tensor, reconstruction: Tensor) -> Tensor:
        error = (reconstruction.float() - pixels).square()
        return gaussian_bits(error, self.log_variance(reconstruction)).mean(dim=(1, 2, 3))

    def error(self, distortion: Tensor, pixels: Tensor, reconstruction: Tensor) -> Tensor:
        return squared_error(pixels, reconstruction)

    def loss(self, distortion: Tensor, rates: Tensor, rho: Tensor) -> Tensor:
        negative_elbo = (distortion + rates.sum(dim=1) / DIMENSIONS).mean()
        self.elbo.copy_(-negative_elbo.detach())
        return negative_elbo

    def report(self) -> dict[str, Tensor]:
        return {"elbo_bits_per_dimension": self.elbo.clone()}


def gaussian_bits(error: Tensor, log_variance: Tensor) -> Tensor:
    """Bits for an 8-bit sample of this squared error (pixels in 0..1) under a Gaussian; at least its exact cost."""
    quadratic = (error + ROUNDING) * torch.exp(-log_variance)
    return (math.log(2 * math.pi) + log_variance + quadratic) / (2 * LN2) + math.log2(255)


OBJECTIVES: dict[str, type[Objective]] = {
    "beta_vae": BetaVAE,
    "per_layer_beta": PerLayerBeta,
    "distortion_target": DistortionTarget,
    "geco": Geco,
    "rate_target": RateTarget,
    "observation_scale": ObservationScale,
    "pixel_scale": PixelScale,
}


def build(name: str, params: Mapping[str, Any], *, groups: int, seed: int = 0) -> Objective:
    """Make an objective from the [objective] section of a configuration; raises ConfigError."""
    if name not in OBJECTIVES:
        raise ConfigError(f"unknown objective {name!r}; {nearest(name, OBJECTIVES)}")
    kind = OBJECTIVES[name]
    known = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    hints = typing.get_type_hints(kind.__init__)
    for key, value in params.items():
        if key not in known:
            raise ConfigError(f"unknown parameter {key!r} of objective {name!r}; {nearest(key, known)}")
        if not _fits(hints[key], value):
            raise ConfigError(f"parameter {key!r} of objective {name!r} must be {_words(hints[key])}, not {value!r}")
    try:
        objective: Any = kind
        built: Objective = objective(groups, seed, **params)
    except (TypeError, ValueError) as err:
        raise ConfigError(f"objective {name!r} cannot be built: {err}") from err
    return built


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value from a configuration is what a parameter's annotation asks for."""
    if isinstance(hint, types.UnionType):
        return any(_fits(part, value) for part in typing.get_args(hint))
    if typing.get_origin(hint) is Sequence:
        return isinstance(value, list | tuple) and all(_fits(typing.get_args(hint)[0], item) for item in value)
    if hint is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is hint  # not isinstance: true is no number here


def _words(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(_words(part) for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is Sequence:
        return f"a list, each {_words(typing.get_args(hint)[0])}"
    return {float: "a finite number", int: "a whole number"}[hint]
