"""A training step's passes as one recording that a GPU replays.

Forward and backward pass are some thousands of small kernels, and launching them one by one takes longer than
running them. All steps are alike, so they are recorded once and every step replays them: same kernels, same
memory, new pictures.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Outputs = tuple[Tensor, ...]
Passes = Callable[[Tensor, Tensor], Outputs]
"""Forward and backward pass of a batch (pixels, rate vectors): leaves gradients behind."""

REHEARSALS = 3  # before recording: tables are uploaded and kernels chosen


class Recorded:
    """Passes recorded for batches of one shape on a CUDA device; what they draw comes from `noise`."""

    def __init__(
        self, passes: Passes, parameters: list[nn.Parameter], noise: torch.Generator, pixels: Tensor, rho: Tensor
    ) -> None:
        self._pixels, self._rho = pixels.clone(), rho.clone()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(REHEARSALS):
                passes(self._pixels, self._rho)
        torch.cuda.current_stream().wait_stream(aside)
        for parameter in parameters:
            parameter.grad = None  # so that the recording makes its own, and each replay overwrites them
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(noise)
        with torch.cuda.graph(self._graph):
            self._outputs = passes(self._pixels, self._rho)
        self._gradients = [(parameter, parameter.grad) for parameter in parameters]

    def __call__(self, pixels: Tensor, rho: Tensor) -> Outputs:
        """Outputs of the passes, valid until the next call."""
        self._pixels.copy_(pixels)
        self._rho.copy_(rho)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return self._outputs
