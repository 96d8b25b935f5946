"""Begin a run with the weights of a finished model, in the same structure or a wider one.

Dense 3x3 convolutions take the kernels of grouped ones as blocks on their diagonal, and blocks that the
source lacks stay the identity, so the new model starts as good as the old one. Channels that its latent
layers lack code the largest principal components of what they leave undone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hvcodec import catalog
from hvcodec.errors import ConfigError
from hvcodec.model import Model
from hvcodec.model.config import RHO_LEVELS
from hvcodec.model.prior import KNOTS, RhoTable
from hvcodec.model.transform import Latent, Steps
from hvcodec.model.weights import load_weights

from .ladder import principal, start_scales

_LEVEL = 42  # of rho, at which is looked what the old layers leave undone: a high one, where they code all they can

_BY_CHANNEL = {  # parameters with an entry for each channel of a latent layer: its dimension, and how many in turn
    "analysis": (0, 1),
    "synthesis": (1, 1),
    "steps_bias": (1, 1),
    "steps_rho.weight": (0, 2),
    "out.weight": (0, 1),
    "near.weight": (1, 2),
    "base.knots": (2, 1),
}


@torch.no_grad()
def graft(model: Model, name: str, pixels: Tensor) -> None:
    """Give `model` the weights of a model by name or path; ConfigError if a tensor has no place in it.

    `pixels` are crops (N, 3, H, W), values -0.5..0.5, to find bases of added channels with.
    """
    source = load_weights(catalog.find(name)).model
    layers, wanted = len(source.config.layers), len(model.config.layers)
    if layers != wanted:
        raise ConfigError(f"the weights of {name} are of {layers} latent layers, the model to train has {wanted}")
    targets = dict(model.named_parameters())
    values: dict[str, Tensor] = {key: value for key, value in source.named_parameters() if not key.endswith(".knots")}
    for key, table in source.named_modules():
        if isinstance(table, RhoTable):
            values[f"{key}.knots"] = table.table()[:, :: (RHO_LEVELS - 1) // (KNOTS - 1)] / table.grid
    for key, value in values.items():
        if key not in targets:
            raise ConfigError(f"the model to train has no {key}, which the weights of {name} have")
        targets[key].copy_(_widened(key, value, targets[key]))
    _start_added(model, source, pixels)


def _widened(key: str, value: Tensor, target: Tensor) -> Tensor:
    shape = target.shape
    if value.shape == shape:
        return value
    if key.endswith("spatial.weight") and value.shape[0] == shape[0] == shape[1]:
        dense = value.new_zeros(shape)
        inputs = value.shape[1]
        for start in range(0, shape[0], inputs):  # a group has as many outputs as inputs
            group = slice(start, start + inputs)
            dense[group, group] = value[group]
        return dense
    dim, turns = next((where for suffix, where in _BY_CHANNEL.items() if key.endswith(f".{suffix}")), (0, 0))
    others = [i for i in range(value.dim()) if i != dim]
    if not turns or any(value.shape[i] != shape[i] for i in others) or value.shape[dim] > shape[dim]:
        raise ConfigError(f"{key} is {list(value.shape)} in the weights and {list(shape)} in the model to train")
    # The prior neither sees added channels nor foretells them by more than their base.
    rest = torch.zeros_like(target) if key.endswith(("out.weight", "near.weight")) else target
    parts = []
    for old, new in zip(value.chunk(turns, dim), rest.chunk(turns, dim), strict=True):
        parts += [old, new.narrow(dim, old.shape[dim], new.shape[dim] - old.shape[dim])]
    return torch.cat(parts, dim)


def _start_added(model: Model, source: Model, pixels: Tensor) -> None:
    """Bases and scales of latent channels that the source lacks."""
    added = [
        (new, new.analysis.shape[0] - old.analysis.shape[0])
        for new, old in zip(model.transform.latents(), source.transform.latents(), strict=True)
    ]
    if not any(count for _, count in added):
        return
    left = _left_undone(source, pixels)
    taken = [0] * len(left)
    layers = [layer for stage in model.prior.stages for layer in stage.layers]
    for (latent, count), layer in zip(added, layers, strict=True):
        if not count:
            continue
        group = latent.group
        basis = principal(left[group])[taken[group] : taken[group] + count]
        taken[group] += count
        latent.analysis[-count:] = basis[:, :, None, None]
        latent.synthesis[:, -count:] = basis.T[:, :, None, None]
        start_scales(layer, group, torch.einsum("cw,nwyx->ncyx", basis, left[group]))


def _left_undone(model: Model, pixels: Tensor) -> list[Tensor]:
    """e - h of each stride after its last latent layer."""
    transform, groups = model.transform, len(model.config.stages)
    rho = torch.full((len(pixels), groups), float(_LEVEL))
    condition = transform.condition(rho)
    e = transform.bottom_up(transform.from_pixels(pixels), condition, range(groups - 1, -1, -1))[::-1]
    left = list(e)

    def answer(latent: Latent, steps: Steps, h: Tensor) -> Tensor:
        k = torch.round(latent.scaled(e[latent.group] - h, steps))
        left[latent.group] = e[latent.group] - latent.merge(h, k, steps)
        return k

    transform.top_down(transform.begin(len(pixels), *e[0].shape[-2:]), condition, range(groups), answer)
    return left
