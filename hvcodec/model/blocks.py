"""Small parts shared by both worlds: rounding with a gradient, and the float residual block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Modules(nn.ModuleList, Generic[M]):
    """A list of modules whose members have a type."""

    def __iter__(self) -> Iterator[M]:
        return cast("Iterator[M]", super().__iter__())

    def at(self, index: int) -> M:
        return cast("M", self[index])


class _Replace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient of x."""
    # x + (value - x).detach() is not value in float32, so the forward pass is the value itself.
    result: Tensor = _Replace.apply(x, value)  # type: ignore[no-untyped-call]
    return result


class _Snap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, low: int, high: int) -> Tensor:
        value = x.mul(scale).add_(0.5).floor_()
        ctx.save_for_backward(value)
        ctx.scale, ctx.low, ctx.high = scale, low, high
        return value.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (value,) = ctx.saved_tensors
        # One operation where the gradient of `clamp` takes five. It leaves out the bounds themselves, hence the halves.
        within: Tensor = torch.ops.aten.hardtanh_backward(grads[0], value, ctx.low - 0.5, ctx.high + 0.5)
        return within * ctx.scale, None, None, None


def snap(x: Tensor, scale: float, low: int, high: int) -> Tensor:
    """x times scale, rounded to an integer (half up) and clamped; the gradient passes where nothing was clamped."""
    result: Tensor = _Snap.apply(x, scale, low, high)  # type: ignore[no-untyped-call]
    return result


class Block(nn.Module):
    """Residual block x + f(x, rho) that starts as the identity.

    It works in whitened coordinates: `scale_in` brings the channels (which span three orders of magnitude
    in the ladder) to unit variance, `scale_out` brings corrections to the size of a quantisation step.
    The sum itself stays in the precision of x, so the residual stream may be float32 in a bfloat16 run.
    """

    def __init__(self, width: int, groups: int, rho_width: int) -> None:
        super().__init__()
        hidden = 2 * width
        self.scale_in = nn.Parameter(torch.ones(width))
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=groups)
        self.expand = nn.Conv2d(width, hidden, 1)
        self.modulate = nn.Linear(rho_width, 2 * hidden)
        self.project = nn.Conv2d(hidden, width, 1)
        self.scale_out = nn.Parameter(torch.full((width,), 0.1))
        for layer in (self.modulate, self.project):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, rho: Tensor) -> Tensor:  # (N, C, H, W), (N, rho_width)
        # Scaling the weights instead of the features costs nothing per pixel.
        groups = self.spatial.groups
        per_group = self.scale_in.view(groups, -1).repeat_interleave(self.spatial.out_channels // groups, 0)
        spatial = self.spatial.weight * per_group[:, :, None, None]
        in_place = not torch.is_grad_enabled()  # where nobody will ask for gradients: memory, and time to fetch it
        y = F.silu(F.conv2d(x, spatial, self.spatial.bias, padding=1, groups=groups), inplace=in_place)
        gain, shift = self.modulate(rho)[:, :, None, None].chunk(2, dim=1)
        y = self.expand(y)
        y = F.silu(torch.addcmul(shift, y, 1 + gain, out=y if in_place else None), inplace=in_place)
        project = self.project.weight * self.scale_out[:, None, None, None]
        assert self.project.bias is not None
        y = F.conv2d(y, project, self.project.bias * self.scale_out)
        return y.add_(x) if in_place and y.dtype == x.dtype else x + y
