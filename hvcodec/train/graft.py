"""Begin a run with the weights of a finished model, in the same structure or a wider one.

Dense 3x3 convolutions take the kernels of grouped ones as blocks on their diagonal, and blocks that the
source lacks stay the identity, so the new model starts as good as the old one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hvcodec import catalog
from hvcodec.errors import ConfigError
from hvcodec.model import Model
from hvcodec.model.config import RHO_LEVELS
from hvcodec.model.prior import KNOTS, RhoTable
from hvcodec.model.weights import load_weights


@torch.no_grad()
def graft(model: Model, name: str) -> None:
    """Give `model` the weights of a model by name or path; ConfigError if a tensor has no place in it."""
    source = load_weights(catalog.find(name)).model
    targets = dict(model.named_parameters())
    for key, value in source.named_parameters():
        if not key.endswith(".knots"):
            if key not in targets:
                raise ConfigError(f"the model to train has no {key}, which the weights of {name} have")
            targets[key].copy_(_widened(key, value, targets[key].shape))
    tables = dict(model.named_modules())
    for key, table in source.named_modules():
        if isinstance(table, RhoTable):
            target = tables.get(key)
            levels = table.table()[:, :: (RHO_LEVELS - 1) // (KNOTS - 1)] / table.grid
            if not isinstance(target, RhoTable) or target.knots.shape != levels.shape:
                raise ConfigError(f"the model to train has no {key} like that of {name}")
            target.knots.copy_(levels)


def _widened(key: str, value: Tensor, shape: torch.Size) -> Tensor:
    if value.shape == shape:
        return value
    if not (key.endswith("spatial.weight") and value.shape[0] == shape[0] == shape[1]):
        raise ConfigError(f"{key} is {list(value.shape)} in the weights and {list(shape)} in the model to train")
    dense = value.new_zeros(shape)
    inputs = value.shape[1]
    for start in range(0, shape[0], inputs):  # a group has as many outputs as inputs
        group = slice(start, start + inputs)
        dense[group, group] = value[group]
    return dense
