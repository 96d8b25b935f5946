"""Micro-benchmarks of the exact prior on one thread, on the example picture (768x512) at medium rate.

Run by hand: `pytest benchmarks/test_prior_speed.py`. `walk` is the prior alone: the symbols are given, and
nothing is coded. `share` is the part of encoding and of decoding that the prior takes, without the coder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hvcodec_benchmarks.stages import watched
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from hvcodec import Codec, Picture, container, image
from hvcodec.model.walk import walk_prior

ROOT = Path(__file__).resolve().parents[1]
MODELS = {
    "default": ROOT / "hvcodec" / "weights" / "default.safetensors",
    "tiny": ROOT / "tests" / "golden" / "models" / "tiny.safetensors",
}
RHO = 32
ROUNDS = 5
Symbols = NDArray[np.int16]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def picture() -> Picture:
    return image.read(ROOT / "examples" / "parrots.png")


@pytest.mark.parametrize("model", MODELS)
def test_walk(benchmark: BenchmarkFixture, picture: Picture, model: str) -> None:
    codec = Codec(MODELS[model], device="cpu")
    rho = (RHO,) * codec.n_groups
    file = container.unpack(codec.encode(picture, rho).data)
    symbols, linked = codec.decode_symbols(file), codec.linked_groups(file.header.in_trellis)
    present = [bool(planes.any()) for planes in symbols]

    def given(layer: int, indices: NDArray[np.uint8], positions: NDArray[Any]) -> Symbols:
        planes = symbols[layer]
        return np.take(planes.reshape(len(planes), -1), positions, axis=1)

    def walk() -> list[Symbols]:
        return walk_prior(codec.model.prior, rho, picture.height, picture.width, present, given, linked=linked)

    walked = benchmark.pedantic(walk, rounds=ROUNDS, warmup_rounds=1)
    for ours, theirs in zip(walked, symbols, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    n_symbols = sum(planes.size for planes, here in zip(symbols, present, strict=True) if here)
    benchmark.extra_info["n_symbols"] = n_symbols
    benchmark.extra_info["layers"] = f"{sum(present)} of {len(present)}"
    benchmark.extra_info["symbols_per_s"] = round(n_symbols / benchmark.stats.stats.min)


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_share(benchmark: BenchmarkFixture, picture: Picture, direction: str) -> None:
    codec = Codec(MODELS["tiny"], device="cpu")
    rho = (RHO,) * codec.n_groups
    data = codec.encode(picture, rho).data
    codec.decode(data)  # warm before the watches run
    with watched() as (exact, coder):
        if direction == "encode":
            benchmark.pedantic(codec.encode, (picture, rho), rounds=ROUNDS)
        else:
            benchmark.pedantic(codec.decode, (data,), rounds=ROUNDS)
    prior = exact.seconds - coder.seconds
    total = benchmark.stats.stats.total
    assert 0 < prior < total
    benchmark.extra_info["prior_percent"] = round(100 * prior / total, 1)
    benchmark.extra_info["prior_s"] = round(prior / ROUNDS, 4)
