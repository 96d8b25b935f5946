"""Make models/tiny.safetensors, a seeded, untrained model that uses every part of both worlds, and
models/trellis.safetensors, the same with a trellis.

    python tests/golden/make_model.py tiny trellis

The ladder starts from principal components, so it compresses; what training would fill is filled with small
noise, so that every weight matters. Other processors may round a weight differently: then the id changes and
all vectors of that model have to be made again (make_vectors.py).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic import texture

from hvcodec.entropy import Tables, TrellisTables
from hvcodec.model import Model, ModelConfig, tiny_config
from hvcodec.model.blocks import Block
from hvcodec.model.prior import ExactConv, RhoTable
from hvcodec.model.transform import Latent
from hvcodec.model.weights import save_weights
from hvcodec.train.ladder import start_ladder

MODELS = Path(__file__).parent / "models"
WIDEST_TABLE = 40


def config() -> ModelConfig:
    """The tiny model with grouped convolutions and a narrower prior, to keep the file small."""
    tiny = tiny_config()
    return replace(tiny, stages=tuple(replace(stage, groups=4, prior_width=4) for stage in tiny.stages))


def cropped(full: Tables) -> Tables:
    """Tables that end early: small, and escapes are met in tests."""
    half_widths = np.minimum(full.half_widths, WIDEST_TABLE)
    counts = []
    for index, half_width in enumerate(half_widths):
        table, middle = full.table(index), int(full.half_widths[index])
        inside = table[middle - half_width : middle + half_width + 1]
        counts.append(np.append(inside, 2**16 - inside.sum()))
    return Tables(half_widths, np.concatenate(counts))


def tables() -> Tables:
    return cropped(Tables.logistic())


def trellis_tables() -> TrellisTables:
    full = TrellisTables.logistic()
    return TrellisTables(full.evens, cropped(full.tables))


@torch.no_grad()
def model(seed: int = 1) -> Model:
    torch.manual_seed(seed)
    result = Model(config())
    crops = np.stack([texture(128, 128, seed) for seed in range(8)]).transpose(0, 3, 1, 2) - 0.5
    start_ladder(result, torch.from_numpy(crops).float())
    for module in result.modules():
        if isinstance(module, Block):
            for weight in (module.modulate.weight, module.modulate.bias, module.project.weight):
                weight.add_(0.1 * torch.randn_like(weight))
        elif isinstance(module, Latent):
            module.steps_rho.weight.add_(0.03 * torch.randn_like(module.steps_rho.weight))
            module.steps_bias.add_(0.1 * torch.randn_like(module.steps_bias))
    for name, module in result.prior.named_modules():  # a context that matters, though it knows nothing
        if name.endswith("near") and isinstance(module, ExactConv):
            module.weight.mul_(4)
        elif name.endswith(".out") and isinstance(module, ExactConv):
            module.weight.mul_(3)
        elif isinstance(module, RhoTable) and not name.endswith("base"):
            module.knots.add_(0.3 + 0.5 * torch.randn_like(module.knots))
    result.transform.start.add_(0.02 * torch.randn_like(result.transform.start))
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    MODELS.mkdir(exist_ok=True)
    for name in sys.argv[1:]:
        path = MODELS / f"{name}.safetensors"
        model_id = save_weights(path, model(), tables(), trellis={"tiny": None, "trellis": trellis_tables()}[name])
        print(f"{path.name}: {model_id.hex()}, {path.stat().st_size} bytes")
