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
        self.velocity = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step(self, rate: float, bad: Tensor) -> None:
        """Move the parameters; where `bad` is 1 they and their momentum stay as they were."""
        by_shape: dict[torch.Size, list[int]] = {}
        for i, parameter in enumerate(self.parameters):
            by_shape.setdefault(parameter.shape, []).append(i)
        good = bad == 0
        for shape, members in by_shape.items():  # all matrices of a shape at once: a GPU is kept waiting by many calls
            gradient = torch.stack([_gradient(self.parameters[i]) for i in members])
            gradient = torch.where(good, gradient, 0)
            velocities = [self.velocity[i] for i in members]
            before = torch.stack(velocities)
            velocity = torch.where(good, before.lerp(gradient, 1 - self.momentum), before)
            torch._foreach_copy_(velocities, list(velocity.unbind()))
            nesterov = gradient.lerp(velocity, self.momentum)
            updates = orthogonal(nesterov.flatten(2), self.dtype)
            size = rate * RMS * max(updates.shape[1:]) ** 0.5
            updates = updates * torch.where(good, size, 0.0)
            torch._foreach_sub_([self.parameters[i] for i in members], list(updates.view(-1, *shape).unbind()))

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
