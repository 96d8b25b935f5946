"""Models on disk: safetensors that hold both worlds and the frequency tables, named by their content.

The prior is stored as the integers it computes with, the transform as float16. Nothing is pickled. A file of
weights is refused unless every convolution of the prior keeps its sums below 2^24 (see prior.py). How models
are found is in hvcodec/catalog.py, which needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hvcodec import catalog
from hvcodec.catalog import find, find_by_id, installed
from hvcodec.entropy import Tables, TrellisTables
from hvcodec.errors import ModelError
from hvcodec.files import write_whole

from . import Model, ModelConfig, perceptual
from .config import SCALE_COUNT
from .prior import ExactConv, RhoTable

__all__ = [
    "Loaded",
    "find",
    "find_by_id",
    "from_tensors",
    "identify",
    "installed",
    "load_weights",
    "save_weights",
    "to_tensors",
]

ID_BYTES = 6


@dataclass(frozen=True)
class Loaded:
    """A model ready to code with."""

    model: Model
    tables: Tables
    trellis: TrellisTables | None  # with it symbols are chosen in a trellis
    id: bytes
    name: str
    distortion: dict[str, float]  # shares of what it was trained to minimise, see perceptual.error_map


# --- tensors <-> model ------------------------------------------------------------------------------------


def _exact_parts(model: Model) -> Iterator[tuple[str, ExactConv | RhoTable]]:
    for name, module in model.prior.named_modules():
        if isinstance(module, ExactConv | RhoTable):
            yield name, module


@torch.no_grad()
def to_tensors(model: Model, tables: Tables, trellis: TrellisTables | None = None) -> dict[str, Tensor]:
    """Everything that defines a model, as named tensors."""
    tensors = {f"transform.{k}": v.half().contiguous() for k, v in model.transform.state_dict().items()}
    for name, module in _exact_parts(model):
        if isinstance(module, ExactConv):
            tensors[f"prior.{name}"] = module.grid_weight().to(torch.int8).contiguous()
        else:
            tensors[f"prior.{name}"] = module.table().to(torch.int16).contiguous()
    arrays = {"tables.half_widths": tables.half_widths, "tables.counts": tables.counts}
    if trellis is not None:
        arrays |= {
            "trellis.evens": trellis.evens,
            "trellis.half_widths": trellis.tables.half_widths,
            "trellis.counts": trellis.tables.counts,
        }
    return tensors | {name: torch.from_numpy(np.asarray(array, np.int32).copy()) for name, array in arrays.items()}


def identify(config: ModelConfig, tensors: dict[str, Tensor]) -> bytes:
    """The id of a model: SHA-256 over its configuration and tensors, whatever file they came from."""
    digest = hashlib.sha256(config.to_json().encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {str(tensor.dtype)[6:]} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()[:ID_BYTES]


@torch.no_grad()
def from_tensors(config: ModelConfig, tensors: dict[str, Tensor]) -> tuple[Model, Tables, TrellisTables | None]:
    """Build a model; ModelError if a tensor is missing, misshapen, not finite, or breaks exactness."""
    tensors = dict(tensors)

    def take(name: str, shape: tuple[int, ...] | None, dtype: torch.dtype) -> Tensor:
        tensor = tensors.pop(name, None)
        if tensor is None:
            raise ModelError(f"the weights lack {name}; install the model again")
        if (shape is not None and tuple(tensor.shape) != shape) or tensor.dtype != dtype:
            raise ModelError(f"{name} in the weights has the wrong shape or type; install the model again")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{name} in the weights is not finite; install the model again")
        return tensor

    model = Model(config)
    state = model.transform.state_dict()
    loaded = {k: take(f"transform.{k}", tuple(v.shape), torch.float16).float() for k, v in state.items()}
    model.transform.load_state_dict(loaded)
    for name, module in _exact_parts(model):
        if isinstance(module, ExactConv):
            grid = take(f"prior.{name}", tuple(module.weight.shape), torch.int8)
            if int(grid.abs().max()) > module.limit or int(grid.min()) < -module.limit:
                raise ModelError(f"prior.{name} in the weights exceeds {module.limit}; install the model again")
            module.fix(grid.float())
        else:
            module.fix(take(f"prior.{name}", tuple(module.table().shape), torch.int16).float())
    half_widths = take("tables.half_widths", None, torch.int32)
    counts = take("tables.counts", None, torch.int32)
    has_trellis = any(name.startswith("trellis.") for name in tensors)
    names = ("evens", "half_widths", "counts") if has_trellis else ()
    parts = [take(f"trellis.{name}", None, torch.int32).numpy() for name in names]
    if tensors:
        raise ModelError(f"the weights hold unknown tensors ({', '.join(sorted(tensors)[:3])}); update hvcodec")
    try:
        tables = Tables(half_widths.numpy(), counts.numpy())
        if len(tables.half_widths) != SCALE_COUNT:
            raise ValueError(f"there are {len(tables.half_widths)} of them, not {SCALE_COUNT}")
        trellis = TrellisTables(parts[0], Tables(*parts[1:])) if has_trellis else None
    except ValueError as err:
        raise ModelError(f"the frequency tables in the weights are not valid: {err}") from err
    model.prior.check_exact()
    model.eval().requires_grad_(False)
    return model, tables, trellis


# --- files ------------------------------------------------------------------------------------------------


def save_weights(
    path: Path,
    model: Model,
    tables: Tables,
    distortion: Mapping[str, float] = MappingProxyType({}),
    trellis: TrellisTables | None = None,
) -> bytes:
    """Write a model, with the shares of the distortion that it was trained for; returns its id."""
    tensors = to_tensors(model, tables, trellis)
    model_id = identify(model.config, tensors)
    metadata = {"format": catalog.FORMAT, "id": model_id.hex(), "config": model.config.to_json()}
    if distortion:
        metadata["distortion"] = json.dumps(dict(distortion), sort_keys=True)
    write_whole(path, save(tensors, metadata))
    return model_id


def load_weights(path: Path) -> Loaded:
    """Read a model from a file and prove that it is sound; ModelError otherwise."""
    metadata = catalog.read_metadata(path)
    config = ModelConfig.from_json(metadata.get("config", ""))
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as err:
        raise ModelError(f"{path.name} cannot be read as a model: {err}") from err
    model_id = identify(config, tensors)
    if model_id.hex() != metadata.get("id"):
        raise ModelError(
            f"{path.name} is damaged: install the model again",
            needed=metadata.get("id"),
            found=model_id.hex(),
        )
    model, tables, trellis = from_tensors(config, tensors)
    return Loaded(model, tables, trellis, model_id, path.stem, _read_distortion(path, metadata))


def _read_distortion(path: Path, metadata: Mapping[str, str]) -> dict[str, float]:
    try:
        shares = {str(name): float(share) for name, share in json.loads(metadata.get("distortion", "{}")).items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as err:
        raise ModelError(f"the head of {path.name} is damaged: install the model again") from err
    if not set(shares) <= set(perceptual.ERRORS) or any(not 0 <= share <= 1 for share in shares.values()):
        raise ModelError(f"{path.name} was trained for a distortion that is not known here; update hvcodec")
    return shares
