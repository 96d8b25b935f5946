"""The shape that all training objectives have: distortion and rates of a batch in, one number out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from hvcodec.model.rounding import usual_caution
from hvcodec.train.rho import Sampler


class Objective(nn.Module):
    """Turns the distortion and rates of a batch into the number that training minimises."""

    rho: Sampler
    shares: Mapping[str, float] = MappingProxyType({})
    """What takes the place of the squared error, by how much (hvcodec.model.perceptual.error_map)."""

    @property
    def caution(self) -> float:
        """How the encoder will round the symbols of a model that was trained so."""
        return usual_caution(self.shares)

    def distortion(self, pixels: Tensor, reconstruction: Tensor) -> Tensor:
        """What is made small beside the rate, of each picture: (N,), from pixels 0..1 (N, 3, H, W)."""
        return squared_error(pixels, reconstruction)

    def error(self, distortion: Tensor, pixels: Tensor, reconstruction: Tensor) -> Tensor:
        """The squared error of each picture, (N,), for the log: mostly that is the distortion."""
        return squared_error(pixels, reconstruction) if self.shares else distortion

    def loss(self, distortion: Tensor, rates: Tensor, rho: Tensor) -> Tensor:
        """Return the loss from the distortion (N,), rates (N, G) and levels (N, G) of a batch."""
        raise NotImplementedError

    def update(self, distortion: Tensor, rates: Tensor) -> None:
        """Move the multipliers, if there are any, after a training step; averages over all ranks."""

    def calibrate(self, distortion: Tensor, rates: Tensor) -> None:
        """Take note of what validation measured (as in `loss`), so that a target is met there.

        In a distributed run every rank calls this, each with its share of the validation pictures.
        """

    def report(self) -> dict[str, Tensor]:
        """Return what is worth a column in the log, as tensors without a gradient."""
        return {}


def squared_error(pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean squared error of each picture: (N,), from pixels 0..1 (N, 3, H, W)."""
    return mse_loss(reconstruction.float(), pixels, reduction="none").mean(dim=(1, 2, 3))


def across_ranks(value: Tensor) -> Tensor:
    """Mean of a tensor over the ranks of a distributed run; the tensor itself in a single process."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
