"""Steps of the weights: AdamW in four groups or Muon beside it, clipping, skipped steps, and the moving average."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .config import OptimizerConfig
from .muon import Muon

LADDER = ("stem", "head", "start", "down", "up", "analysis", "synthesis")
"""Parameters of the linear codec that training starts from: good already, and large steps would break it."""

MATRICES = ("spatial.weight", "expand.weight", "project.weight", "modulate.weight")
"""Parameters of the float blocks that Muon moves, if it is chosen."""


class Optimizer:
    """AdamW over the parameters of a training step, or Muon for the blocks' matrices; never waits for the device."""

    def __init__(self, module: nn.Module, config: OptimizerConfig, *, bf16: bool = False) -> None:
        self.config = config
        groups: dict[str, list[nn.Parameter]] = {"blocks": [], "ladder": [], "prior": [], "tables": []}
        matrices: list[nn.Parameter] = []
        for name, parameter in module.named_parameters():
            if config.name == "muon" and name.endswith(MATRICES):
                matrices.append(parameter)
            else:
                groups[_group(name)].append(parameter)
        ratios = {
            "blocks": 1.0,
            "ladder": config.ladder_ratio,
            "prior": config.prior_ratio,
            "tables": config.tables_ratio,
        }
        # The prior has a loss of its own, so it is clipped on its own.
        self.clipped = [groups["blocks"] + groups["ladder"] + matrices, groups["prior"] + groups["tables"]]
        self.rates = [config.learning_rate * ratios[name] for name in groups]
        self.adam = torch.optim.AdamW(
            [{"params": parameters, "lr": rate} for parameters, rate in zip(groups.values(), self.rates, strict=True)],
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.muon = Muon(matrices, config.momentum, torch.bfloat16 if bf16 else torch.float32) if matrices else None
        device = next(module.parameters()).device
        self.skipped = torch.zeros((), device=device)
        self.skipped_in_a_row = torch.zeros((), device=device)  # up to the last step

    def step(self, rate_factor: float) -> Tensor:
        """Take a step, or none if a gradient is not finite; returns the norm before clipping."""
        norms = [nn.utils.clip_grad_norm_(part, self.config.clip) for part in self.clipped]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        bad = (~torch.isfinite(norm)).float()
        self.skipped += bad
        self.skipped_in_a_row.add_(1).mul_(bad)
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * rate_factor
        # The fused kernel looks at this tensor on the device and leaves everything as it was if it is set.
        self.adam.found_inf = bad  # type: ignore[attr-defined]
        self.adam.step()
        if self.muon is not None:
            self.muon.step(self.config.learning_rate * self.config.muon_ratio * rate_factor, bad)
            for parameter in self.muon.parameters:
                parameter.grad = None
        self.adam.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def average_into(self, average: tuple[Tensor, ...], weights: tuple[Tensor, ...], step: int) -> None:
        """Move averaged weights towards the current ones; young averages forget faster."""
        memory = min(self.config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, weights, 1 - memory)

    def forget(self, parameter: Tensor, rows: int) -> None:
        """Drop the momentum of the first rows of one of AdamW's parameters: it would go on moving them."""
        if parameter in self.adam.state:
            self.adam.state[parameter]["exp_avg"][:rows] = 0

    def state_dict(self) -> dict[str, Any]:
        skipped = {"skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row}
        state = {"adam": self.adam.state_dict(), **skipped}
        return state if self.muon is None else {**state, "muon": self.muon.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        # Learning rates and the like are the configuration's, which may have changed.
        options = self.adam.state_dict()["param_groups"]
        self.adam.load_state_dict({"state": state["adam"]["state"], "param_groups": options})
        # The fused kernel walks raw memory: moments must lie there as their parameters do (channels last).
        for parameter, moments in self.adam.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name] = torch.empty_like(parameter).copy_(moments[name])
        if self.muon is not None:
            self.muon.load_state_dict(state["muon"])
        self.skipped.copy_(state["skipped"])
        self.skipped_in_a_row.copy_(state.get("skipped_in_a_row", self.skipped_in_a_row))  # older checkpoints lack it


def _group(name: str) -> str:
    if ".prior." in name:
        return "tables" if name.endswith("base.knots") else "prior"
    return "ladder" if name.rsplit(".", 1)[-1] in LADDER else "blocks"
