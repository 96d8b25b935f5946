"""The exact world: symbols so far and the rate vector to the scale index of every next symbol.

Every operand is an integer carried in float32 and every partial sum stays below 2^24, where float32 holds
integers exactly. So the result does not depend on the order of summation: threads, batch, strips, memory
format and device make no difference, and two machines always agree. `check_exact` proves the bound for each
convolution from its weights. Training runs the very same arithmetic with straight-through gradients.

Activations are integers 0..255 (16 steps to the unit); weights sit on a grid of 2^-7 (heads: 2^-5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvcodec.errors import ModelError
from hvcodec.shared import Shared
from hvcodec.trellis import NO_GROUPS, WIDER, Groups

from .blocks import Modules, snap
from .config import RHO_LEVELS, SCALE_COUNT, ModelConfig

ACTIVATION_MAX = 255
WEIGHT_SHIFT = 7
INDEX_SHIFT = 9  # heads: activations are 16 to the unit, their weights 32, so an index is 2^9 grid steps
INDEX_ZERO = 20  # scale index of a standard deviation of one step
KNOTS = 10  # tables over rho are linear between ten knots, seven levels apart
MAGNITUDE_MAX = 64
TABLE_MAX = 32767
EXACT_LIMIT = 1 << 24


@contextmanager
def _transforms_are_off() -> Iterator[None]:
    """cuDNN and NNPACK (batches from 16 on) may choose Winograd or FFT, which are not exact; the plain kernels are."""
    # Not cudnn.flags(): that also asks for the precision, and fails where it was set in torch's new way.
    cudnn, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False
    (nnpack,) = torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = cudnn
        torch.backends.nnpack.set_flags(nnpack)  # type: ignore[no-untyped-call]


_without_transforms = Shared(_transforms_are_off)


@contextmanager
def exact_kernels(device: torch.device) -> Iterator[None]:
    """Convolutions that sum integers without rounding, whatever the caller set: no Winograd, no autocast.

    Whether a file can be decoded hangs on it, for walk.py and for a Follower with groups in a trellis.
    """
    with _without_transforms, torch.autocast(device.type, enabled=False):
        yield


def requantize(y: Tensor, shift: int = WEIGHT_SHIFT) -> Tensor:
    """Sums back to activations: divide by a power of two, round half up, clamp to 0..255. Exact.

    Without gradients the sums themselves become the activations: nobody needs them any more.
    """
    if torch.is_grad_enabled():
        return snap(y, 2.0**-shift, 0, ACTIVATION_MAX)
    return y.mul_(2.0**-shift).add_(0.5).floor_().clamp_(0, ACTIVATION_MAX)


def magnitudes(k: Tensor) -> Tensor:
    """What the prior sees of values: positive and negative part, each on a logarithmic integer scale 0..64.

    The scale is linear between powers of two: v = 2^f - 1 + r becomes 8 f + floor(8 r / 2^f). These are the
    exponent of v + 1 as a float32 and the first three bits of its fraction, so they are read from its bits.
    Values are whole or, of trellis symbols, half.
    """
    one_more = torch.cat([k, -k], dim=1).clamp_(0, 255).float() + 1  # v + 1: 1 .. 256
    return (one_more.view(torch.int32) >> 20).sub_(127 << 3).to(k.dtype)  # 127 is the bias of the exponent


class ExactConv(nn.Module):
    """A convolution whose weights are integers on a grid of 2^-shift, |w| <= limit grid steps."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, *, groups: int = 1, shift: int = WEIGHT_SHIFT,
        input_max: int = ACTIVATION_MAX, gain: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.groups, self.shift, self.input_max = groups, shift, input_max
        self.limit = 127 if kernel == 1 else 63
        self.fan_in = inputs // groups * kernel * kernel
        std = gain / self.fan_in**0.5
        self.weight = nn.Parameter(torch.randn(outputs, inputs // groups, kernel, kernel) * std)
        self.register_buffer("fixed", None)

    fixed: Tensor | None

    @torch.no_grad()
    def fix(self, grid: Tensor) -> None:
        """Use these integers from now on: a model that was loaded learns no more."""
        self.weight.copy_(grid * 2.0**-self.shift)
        self.fixed = grid.to(self.weight.device)

    def grid_weight(self) -> Tensor:
        """The weights as integers."""
        if self.fixed is not None:
            return self.fixed
        return snap(self.weight, 2.0**self.shift, -self.limit, self.limit)

    def bound(self) -> int:
        """Largest absolute sum that any input can give: fan-in times largest weight times largest input."""
        return self.fan_in * int(self.grid_weight().abs().max().item()) * self.input_max

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        return F.conv2d(x, self.grid_weight(), padding=kernel // 2, groups=self.groups)

    def of_neighbours(self, x: Tensor) -> Tensor:
        """What a 3x3 kernel gives at positions that know only their neighbours above, left, right and below.

        x holds the channels of these four, one after the other, (N, 4 inputs, 1, positions).
        """
        weight = self.grid_weight()[:, :, (0, 1, 1, 2), (1, 0, 2, 1)]
        return F.conv2d(x, weight.transpose(1, 2).flatten(1)[:, :, None, None])


class RhoTable(nn.Module):
    """An integer for each channel, looked up by the rate vector: the sum of one table for each group."""

    def __init__(self, groups: int, channels: int, grid: float) -> None:
        super().__init__()
        self.grid = grid
        self.knots = nn.Parameter(torch.zeros(groups, KNOTS, channels))
        position = torch.arange(RHO_LEVELS) * ((KNOTS - 1) / (RHO_LEVELS - 1))  # multiples of 1/7
        left = position.floor().clamp(max=KNOTS - 2)
        spread = torch.zeros(RHO_LEVELS, KNOTS)
        spread.scatter_(1, left.long()[:, None], (1 - (position - left))[:, None])
        spread.scatter_(1, left.long()[:, None] + 1, (position - left)[:, None])
        self.register_buffer("spread", spread, persistent=False)
        self.register_buffer("fixed", None)
        self.register_buffer("groups", torch.arange(groups), persistent=False)

    groups: Tensor
    spread: Tensor
    fixed: Tensor | None

    def fix(self, table: Tensor) -> None:
        """Use these integers from now on: a model that was loaded has no knots."""
        self.fixed = table.to(self.spread.device)

    def table(self) -> Tensor:
        """(groups, 64, channels) integers of 16 bits."""
        if self.fixed is not None:
            return self.fixed
        return self._on_grid(self.spread.expand(len(self.knots), -1, -1))

    def _on_grid(self, spread: Tensor) -> Tensor:
        """The integers of some levels, (groups, levels, channels), from their places between the knots."""
        return snap(spread @ self.knots, self.grid, -TABLE_MAX, TABLE_MAX)

    def bound(self) -> int:
        """Largest absolute value that any rate vector can give."""
        return int(self.table().abs().amax(dim=1).sum(dim=0).max().item())

    def forward(self, rho: Tensor) -> Tensor:  # (N, groups) -> (N, channels, 1, 1)
        if self.fixed is not None:
            integers = self.fixed[self.groups, rho.long()].sum(dim=1)
        else:  # only what is asked for: looking it up in the whole table has a costly gradient
            integers = self._on_grid(self.spread[rho.long().T]).sum(dim=0)
        return integers[:, :, None, None]


class Residual(NamedTuple):
    """A term `activation << WEIGHT_SHIFT` of a sum, and the half step that rounding adds."""

    activation_max: int

    def bound(self) -> int:
        return (self.activation_max << WEIGHT_SHIFT) + (1 << INDEX_SHIFT)


Bounded = ExactConv | RhoTable | Residual | None


class Head(nn.Module):
    """Features (and, in the second pass, symbols of the first) to scale indices."""

    def __init__(self, groups: int, width: int, channels: int, context: bool) -> None:
        super().__init__()
        self.mix = ExactConv(width, width)
        self.near = ExactConv(2 * channels, width, 3, input_max=MAGNITUDE_MAX) if context else None
        self.rho_hidden = RhoTable(groups, width, grid=16 * 2.0**WEIGHT_SHIFT)
        self.out = ExactConv(width, channels, shift=5, gain=0.1)

    def forward(self, a: Tensor, rho: Tensor, seen: Tensor | None, beside: Tensor | None) -> Tensor:
        """Scale indices on the fine grid (2^INDEX_SHIFT to an index), without the layer's base."""
        y = self.mix(a) + self.rho_hidden(rho)
        if self.near is not None and seen is not None:
            y = y + self.near(seen)
        if self.near is not None and beside is not None:
            y = y + self.near.of_neighbours(beside)
        indices: Tensor = self.out(requantize(y))
        return indices


class PriorLayer(nn.Module):
    """The exact side of one latent layer: two coding passes, then the features learn its symbols."""

    def __init__(self, groups: int, width: int, channels: int, last: bool) -> None:
        super().__init__()
        self.first = Head(groups, width, channels, context=False)
        self.second = Head(groups, width, channels, context=True)
        self.base = RhoTable(groups, channels, grid=2.0**INDEX_SHIFT)
        self.last = last
        if not last:
            self.spread = ExactConv(width, width, 3, groups=2)
            self.near = ExactConv(2 * channels, width, 3, input_max=MAGNITUDE_MAX)
            self.rho_hidden = RhoTable(groups, width, grid=16 * 2.0**WEIGHT_SHIFT)
            self.mix = ExactConv(width, width, gain=0.3)

    def sums(self) -> dict[str, list[Bounded]]:
        """The terms of every sum this layer forms, rounding included, for the proof of exactness."""
        result: dict[str, list[Bounded]] = {}
        for name, head in (("first", self.first), ("second", self.second)):
            result[f"{name}.mix"] = [head.mix, head.near, head.rho_hidden, Residual(0)]
            result[f"{name}.out"] = [head.out, self.base, Residual(0)]
        if not self.last:
            result["spread"] = [self.spread, self.near, self.rho_hidden, Residual(0)]
            result["mix"] = [self.mix, Residual(ACTIVATION_MAX)]
        return result

    def predict(
        self, a: Tensor, rho: Tensor, *, seen: Tensor | None = None, beside: Tensor | None = None,
        is_linked: bool = False,
    ) -> Tensor:  # fmt: skip
        """Scale indices on the fine grid; the second pass knows the magnitudes of the first.

        Either as planes, zeros elsewhere, that it has `seen`, or what is `beside` each position
        (ExactConv.of_neighbours).
        """
        head = self.first if seen is None and beside is None else self.second
        indices: Tensor = head(a, rho, seen, beside) + self.base(rho)
        return indices - round(WIDER * (1 << INDEX_SHIFT)) if is_linked else indices  # in wider steps all is smaller

    def absorb(self, a: Tensor, seen: Tensor, rho: Tensor) -> Tensor:
        """Features that know this layer's symbols, given as magnitudes."""
        u = requantize(self.spread(a) + self.near(seen) + self.rho_hidden(rho))
        return requantize(a * 2.0**WEIGHT_SHIFT + self.mix(u))


class PriorStage(nn.Module):
    """One stride: features handed down from the coarser stride, then its layers."""

    def __init__(self, config: ModelConfig, group: int) -> None:
        super().__init__()
        stage, groups = config.stages[group], len(config.stages)
        self.seed = RhoTable(groups, stage.prior_width, grid=16 * 2.0**WEIGHT_SHIFT)
        coarser = config.stages[group - 1].prior_width if group else 0
        self.lift = ExactConv(coarser, 4 * stage.prior_width) if group else None
        final = group == len(config.stages) - 1
        self.layers: Modules[PriorLayer] = Modules(
            PriorLayer(groups, stage.prior_width, stage.channels, last=final and i == stage.layers - 1)
            for i in range(stage.layers)
        )

    def arrive(self, coarser: Tensor | None, rho: Tensor, rows: int, columns: int) -> Tensor:
        """Features as this stride begins."""
        seed = self.seed(rho)
        if self.lift is None or coarser is None:
            return requantize(seed).expand(-1, -1, rows, columns)
        return requantize(F.pixel_shuffle(self.lift(coarser), 2) + seed)


class Prior(nn.Module):
    """All strides of the exact world."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.stages: Modules[PriorStage] = Modules(PriorStage(config, g) for g in range(len(config.stages)))

    def stage(self, group: int) -> PriorStage:
        return self.stages.at(group)

    def check_exact(self) -> None:
        """Prove from the weights that no sum can leave the integers that float32 holds; ModelError if not."""
        for group in range(len(self.stages)):
            stage = self.stage(group)
            sums: dict[str, list[Bounded]] = {"seed": [stage.seed, stage.lift]}
            for i, layer in enumerate(stage.layers):
                sums |= {f"layers.{i}.{name}": parts for name, parts in layer.sums().items()}
            for name, parts in sums.items():
                bound = sum(part.bound() for part in parts if part is not None)
                if bound >= EXACT_LIMIT:
                    raise ModelError(
                        f"the prior's sum at stages.{group}.{name} can reach {bound}, beyond the "
                        f"{EXACT_LIMIT} that exact arithmetic allows; these weights cannot be used"
                    )

    def forward(self, symbols: list[Tensor], rho: Tensor) -> list[Tensor]:
        """Scale index (real-valued, not clamped) of every symbol, when all symbols are known."""
        follower = Follower(self, rho)
        return [follower.follow(lambda t, mine, k=k: k, *k.shape[-2:])[1] for k in symbols]  # type: ignore[misc]


Choose = Callable[[Tensor, Tensor], Tensor]
"""(scale indices, real-valued, where symbols are wanted (1, 1, rows, columns)) -> their values; elsewhere anything."""


class Follower:
    """The prior beside an analysis: told the symbols of each layer, it foretells the scales of the next.

    Unlike walk.py it evaluates both passes everywhere and gives real-valued indices, with gradients: for
    training, and as a hint for an encoder's choice of symbols. With groups in a trellis it has to be as exact as
    walk.py: where a scale index differs, so do the grids of whole lanes, and the coder goes by them (strips.Analysis).
    """

    def __init__(self, prior: Prior, rho: Tensor, linked: Groups = NO_GROUPS) -> None:
        self._prior, self._rho = prior, rho.long()  # once, not in every table
        self._linked = linked
        self._features: Tensor | None = None
        self._next = 0  # layer
        self._group = -1  # of the layer before it

    def within(self, rows: slice) -> Follower:
        """A follower that goes on from here with some rows of the features only."""
        part = Follower(self._prior, self._rho, self._linked)
        part._next, part._group = self._next, self._group
        part._features = None if self._features is None else self._features[:, :, rows]
        return part

    def follow(self, choose: Choose, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Values and scale indices of the next layer; `choose` gives values under scale indices."""
        if not self._linked:
            return self._follow(choose, rows, columns)
        with exact_kernels(self._rho.device):
            return self._follow(choose, rows, columns)

    def _follow(self, choose: Choose, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        layers = self._prior.config.layers
        layer, self._next = layers[self._next], self._next + 1
        stage = self._prior.stage(layer.group)
        if layer.group != self._group:
            self._group = layer.group
            arrived = stage.arrive(self._features, self._rho, rows, columns)
            self._features = arrived.contiguous(memory_format=torch.channels_last)  # as its convolutions like it
        assert self._features is not None
        first_of_stage = next(other.index for other in layers if other.group == layer.group)
        exact = stage.layers.at(layer.index - first_of_stage)
        mask = checkerboard(rows, columns, self._features.device) > 0
        first = self._predict(exact, None)
        k = choose(first, mask)
        seen = magnitudes(torch.where(mask, k, 0))
        second = self._predict(exact, seen)
        scales = torch.where(mask, first, second)
        k = torch.where(mask, k, choose(second, ~mask))
        if not exact.last:
            self._features = exact.absorb(self._features, magnitudes(k), self._rho)
        return k, scales

    def _predict(self, exact: PriorLayer, seen: Tensor | None) -> Tensor:
        assert self._features is not None
        indices = exact.predict(self._features, self._rho, seen=seen, is_linked=self._group in self._linked)
        return indices.float() * 2.0**-INDEX_SHIFT


def checkerboard(rows: int, columns: int, device: torch.device) -> Tensor:
    """1 where the first pass codes: (1, 1, rows, columns)."""
    y, x = torch.arange(rows, device=device), torch.arange(columns, device=device)
    return ((y[:, None] + x[None, :]) % 2 == 0).float()[None, None]


def round_index(t: Tensor) -> Tensor:
    """Fine-grid scale indices to what the coder takes: 0..63, exactly."""
    return torch.floor((t + 2.0 ** (INDEX_SHIFT - 1)) * 2.0**-INDEX_SHIFT).clamp(0, SCALE_COUNT - 1)
