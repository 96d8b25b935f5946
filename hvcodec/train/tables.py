"""Frequency tables from real symbols: what the deployed model emits on training pictures, at the rates it knows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvcodec.entropy import TRELLIS_TABLES, Tables, TrellisTables, histogram, rests_index
from hvcodec.model import Model
from hvcodec.model.strips import Choice, analyze
from hvcodec.model.walk import walk_prior
from hvcodec.model.weights import from_tensors, to_tensors
from hvcodec.trellis import FIRST, Pass, linked_groups

from .draws import generator

Array = np.ndarray[Any, np.dtype[Any]]

_ROWS = 64 - FIRST  # scale indices of trellis symbols
_ROUNDS = 2  # of fitting the tables of a trellis: what is chosen in it depends on them


@dataclass
class Counts:
    """How often each symbol came: without a trellis, or beside and in it."""

    scalar: Array
    parities: Array  # (2, rows, 2)
    linked: Array

    @classmethod
    def none(cls) -> Counts:
        nothing = np.zeros(0, np.int16), np.zeros(0, np.uint8)
        return cls(histogram(*nothing), np.zeros((2, _ROWS, 2)), histogram(*nothing, TRELLIS_TABLES))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.scalar + other.scalar, self.parities + other.parities, self.linked + other.linked)


@dataclass(frozen=True)
class Fitted:
    """Tables with what they cost, in bits per pixel of the pictures they were fitted on and of others."""

    tables: Tables
    trellis: TrellisTables | None
    bits: dict[str, float]  # of pictures not used for the fit, by kind of table

    def report(self) -> dict[str, float]:
        """What fitting saved against parametric tables, in percent."""
        fitted = self.bits["fitted"]
        others = {k: v for k, v in self.bits.items() if k != "fitted"}
        # A model that codes nothing, as after a run that diverged, has nothing to save.
        saved = {f"saved_against_{k}": 100 * (1 - fitted / v) if v else 0.0 for k, v in others.items()}
        return {**{f"bits_{k}": v for k, v in self.bits.items()}, **saved}


@torch.inference_mode()
def fit_tables(
    model: Model, pixels: Tensor, levels: Sequence[int], seed: int, caution: float, *, trellis: bool = False
) -> Fitted:
    """Fit tables on three quarters of the crops (N, 3, H, W), 0..1, at these levels in turn; measure on the rest.

    `caution` is that of the encoder that will use them (Objective.caution).
    """
    deployed, *_ = from_tensors(model.config, to_tensors(copy.deepcopy(model), Tables.logistic()))
    order = generator(seed, "levels of the tables", 0).permutation(len(levels))
    cut = max(1, len(pixels) * 3 // 4)

    def count(choice: Choice) -> tuple[Counts, Counts]:
        counts = [_count(deployed, picture, levels[order[i % len(order)]], choice) for i, picture in enumerate(pixels)]
        return sum(counts[:cut], Counts.none()), sum(counts[cut:] or counts[:cut], Counts.none())

    seen, fresh = count(Choice(caution))
    fitted = Tables.fit(seen.scalar)
    kinds = {"fitted": fitted, "gaussian": Tables.gaussian(), "logistic": Tables.logistic()}
    n_pixels = max(1, len(pixels) - cut) * pixels.shape[2] * pixels.shape[3]
    bits = {name: _bits(kind, fresh.scalar) / n_pixels for name, kind in kinds.items()}
    whole = seen + fresh
    linked = None
    for _ in range(_ROUNDS if trellis else 0):
        linked = linked or TrellisTables.logistic()
        groups = linked_groups(stage.stride for stage in model.config.stages)
        both = sum(count(Choice(caution, prices=dict.fromkeys(groups, linked.prices))), Counts.none())
        linked = TrellisTables.fit(both.parities, both.linked)
    return Fitted(Tables.fit(whole.scalar), linked, bits)


def _count(model: Model, picture: Tensor, level: int, choice: Choice) -> Counts:
    height, width = picture.shape[-2:]
    rho = [level] * len(model.config.stages)

    def rows(first: int, end: int) -> Tensor:
        return picture[None, :, first:end] - 0.5

    symbols = [s[0] for s in analyze(model, rows, torch.tensor([rho]).float(), height, width, choice).symbols]
    total = Counts.none()

    def count(layer: int, indices: Array, positions: Array) -> Array:
        chosen = np.take(symbols[layer].reshape(len(symbols[layer]), -1), positions, axis=1)
        if model.config.layers[layer].group not in choice.linked:
            total.scalar += histogram(chosen.reshape(-1), indices.reshape(-1))
            return chosen
        stride = model.config.layers[layer].stride
        linked = Pass.of_plane(indices, positions, width // stride, stride)
        own, is_odd = linked.fitted(chosen.reshape(-1))
        total.linked += histogram(own[linked.scalar], linked.scale_idx[linked.scalar], TRELLIS_TABLES)
        k, odd = own[linked.places], is_odd[linked.places].astype(int)
        row = linked.scale_idx[linked.places].astype(int)
        np.add.at(total.parities, (odd, row - FIRST, k & 1), 1)
        total.linked += histogram(k >> 1, rests_index(row, odd, k & 1).astype(np.uint8), TRELLIS_TABLES)
        return chosen

    walk_prior(model.prior, rho, height, width, [bool(s.any()) for s in symbols], count, linked=choice.linked)
    return total


def _bits(tables: Tables, counts: Array) -> float:
    """Bits of the counted symbols; those beyond the tables are left out on all sides alike."""
    bits = 0.0
    reach = counts.shape[1] // 2
    for index, row in enumerate(counts):
        half_width = int(tables.half_widths[index])
        inside = row[reach - half_width : reach + half_width + 1]
        bits += float((inside * (16.0 - np.log2(tables.table(index)[:-1]))).sum())
    return bits
