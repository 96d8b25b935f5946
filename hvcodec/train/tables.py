"""Frequency tables from real symbols: what the deployed model emits on training pictures, at the rates it knows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvcodec.entropy import Tables, histogram
from hvcodec.model import Model
from hvcodec.model.strips import Choice, analyze
from hvcodec.model.walk import walk_prior
from hvcodec.model.weights import from_tensors, to_tensors

from .draws import generator

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Fitted:
    """Tables with what they cost, in bits per pixel of the pictures they were fitted on and of others."""

    tables: Tables
    bits: dict[str, float]  # of pictures not used for the fit, by kind of table

    def report(self) -> dict[str, float]:
        """What fitting saved against parametric tables, in percent."""
        fitted = self.bits["fitted"]
        others = {k: v for k, v in self.bits.items() if k != "fitted"}
        # A model that codes nothing, as after a run that diverged, has nothing to save.
        saved = {f"saved_against_{k}": 100 * (1 - fitted / v) if v else 0.0 for k, v in others.items()}
        return {**{f"bits_{k}": v for k, v in self.bits.items()}, **saved}


@torch.inference_mode()
def fit_tables(model: Model, pixels: Tensor, levels: Sequence[int], seed: int, caution: float) -> Fitted:
    """Fit tables on three quarters of the crops (N, 3, H, W), 0..1, at these levels in turn; measure on the rest.

    `caution` is that of the encoder that will use them (Objective.caution).
    """
    deployed, *_ = from_tensors(model.config, to_tensors(copy.deepcopy(model), Tables.logistic()))
    choice = Choice(caution)
    counts: list[Array] = []
    order = generator(seed, "levels of the tables", 0).permutation(len(levels))
    for i, picture in enumerate(pixels):
        counts.append(_count(deployed, picture, levels[order[i % len(order)]], choice))
    cut = max(1, len(counts) * 3 // 4)
    seen, fresh = sum(counts[:cut]), sum(counts[cut:]) if counts[cut:] else sum(counts)
    assert isinstance(seen, np.ndarray)
    assert isinstance(fresh, np.ndarray)
    tables = Tables.fit(seen)
    kinds = {"fitted": tables, "gaussian": Tables.gaussian(), "logistic": Tables.logistic()}
    n_pixels = max(1, len(counts) - cut) * pixels.shape[2] * pixels.shape[3]
    bits = {name: _cost(kind, fresh) / n_pixels for name, kind in kinds.items()}
    return Fitted(Tables.fit(seen + fresh), bits)


def _count(model: Model, picture: Tensor, level: int, choice: Choice) -> Array:
    height, width = picture.shape[-2:]
    rho = [level] * len(model.config.stages)

    def rows(first: int, end: int) -> Tensor:
        return picture[None, :, first:end] - 0.5

    symbols = [s[0] for s in analyze(model, rows, torch.tensor([rho]).float(), height, width, choice)]
    total = np.zeros_like(histogram(np.zeros(0, np.int16), np.zeros(0, np.uint8)))

    def count(layer: int, indices: Array, positions: Array) -> Array:
        chosen = np.take(symbols[layer].reshape(len(symbols[layer]), -1), positions, axis=1)
        total[:] += histogram(chosen.reshape(-1), indices.reshape(-1))
        return chosen

    walk_prior(model.prior, rho, height, width, [bool(s.any()) for s in symbols], count)
    return total


def _cost(tables: Tables, counts: Array) -> float:
    """Bits of the counted symbols; those beyond the tables are left out on all sides alike."""
    bits = 0.0
    reach = counts.shape[1] // 2
    for index, row in enumerate(counts):
        half_width = int(tables.half_widths[index])
        inside = row[reach - half_width : reach + half_width + 1]
        bits += float((inside * (16.0 - np.log2(tables.table(index)[:-1]))).sum())
    return bits
