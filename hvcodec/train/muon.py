"""Muon: momentum whose singular values are all set to one, for the matrices inside a network.

A step of a plain optimiser moves a matrix mostly along the few directions that its gradients share. Here a
few Newton-Schulz iterations replace the momentum by the orthogonal matrix nearest to it, so that all
directions move alike. What is not a matrix (biases, scales, tables) stays with AdamW.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of x -> a x + b x^3 + c x^5, which draws singular values towards one quickly."""

ITERATIONS = 5
RMS = 0.2
"""Root mean square of an update at learning rate one: about that of AdamW, whose rates then serve here too."""


class Muon:
    """Steps of convolution kernels (O, I, H, W) and matrices (O, I), each as a matrix of O rows."""

    def __init__(self, parameters: list[nn.Parameter], momentum: float, dtype: torch.dtype = torch.bfloat16) -> None:
        self.parameters, self.momentum, self.dtype = parameters, momentum, dtype
        # All matrices of a shape at once: a GPU is kept waiting by many calls.
        by_shape: dict[torch.Size, list[int]] = {}
        for i, parameter in enumerate(parameters):
            by_shape.setdefault(parameter.shape, []).append(i)
        self._members = list(by_shape.values())
        self._velocities = [parameters[own[0]].new_zeros(len(own), *shape) for shape, own in by_shape.items()]
        rows = zip(self._members, self._velocities, strict=True)
        of_index = {i: row for own, velocity in rows for i, row in zip(own, velocity, strict=True)}
        self.velocity = [of_index[i] for i in range(len(parameters))]

    @torch.no_grad()
    def step(self, rate: float, bad: Tensor) -> None:
        """Move the parameters; where `bad` is 1 they and their momentum stay as they were."""
        good = bad == 0
        for members, velocity in zip(self._members, self._velocities, strict=True):
            parameters = [self.parameters[i] for i in members]
            gradient = torch.where(good, torch.stack([_gradient(parameter) for parameter in parameters]), 0)
            velocity.mul_(torch.where(good, self.momentum, 1.0)).add_(gradient, alpha=1 - self.momentum)
            nesterov = gradient.lerp_(velocity, self.momentum)
            updates = orthogonal(nesterov.flatten(2), self.dtype)
            size = rate * RMS * max(updates.shape[1:]) ** 0.5
            updates = updates * torch.where(good, size, 0.0)
            torch._foreach_sub_(tuple(parameters), updates.view(velocity.shape).unbind())

    def state_dict(self) -> dict[str, Any]:
        return {"velocity": list(self.velocity)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for own, stored in zip(self.velocity, state["velocity"], strict=True):
            own.copy_(stored)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def orthogonal(matrices: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Nearly the orthogonal factors of matrices (N, rows, columns): singular values between 0.7 and 1.2."""
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, factor, x, beta=a)
    result: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return result
