"""Speed of entropy coding on one core: `pytest benchmarks/test_entropy_speed.py`.

Four million symbols, scale indices that vary in space over 0..45, symbols drawn from the tables (59 %
are zero). Bars: 20 M symbols/s to encode, 10 M symbols/s to decode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hvcodec.entropy import LayerDecoder, LayerEncoder, Tables

SIDE = 2000
Layer = tuple[NDArray[np.int16], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def tables() -> Tables:
    return Tables.gaussian()


@pytest.fixture(scope="module")
def mixed(tables: Tables) -> Layer:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    activity = np.sin(x / 170) + np.sin(y / 90 + x / 300) + 0.7 * np.sin(x / 23 + y / 31)
    activity = (activity - activity.min()) / np.ptp(activity)
    scale_idx = (activity**1.5 * 45 + rng.normal(0, 2, activity.shape)).clip(0, 45).astype(np.uint8).ravel()
    symbols = np.empty(scale_idx.shape, np.int16)
    for index in range(46):
        here = scale_idx == index
        ends = np.cumsum(tables.table(index))
        entries = np.searchsorted(ends, rng.integers(0, 1 << 16, int(here.sum())), side="right")
        symbols[here] = entries - tables.half_widths[index]
    return symbols, scale_idx


@pytest.fixture(scope="module")
def uniform(tables: Tables) -> Layer:
    """All of one scale index."""
    scale_idx = np.full(SIDE * SIDE, 5, np.uint8)
    symbols = (np.random.default_rng(0).random(len(scale_idx)) < 1e-3).astype(np.int16)
    return symbols, scale_idx


@pytest.fixture(scope="module")
def zeros(mixed: Layer) -> Layer:
    return np.zeros_like(mixed[0]), mixed[1]


def encode(tables: Tables, layer: Layer) -> bytes:
    encoder = LayerEncoder(tables)
    encoder.encode(*layer)
    return encoder.chunk()


def decode(tables: Tables, chunk: bytes, scale_idx: NDArray[np.uint8]) -> NDArray[np.int16]:
    decoder = LayerDecoder(chunk, tables)
    symbols = decoder.decode(scale_idx)
    decoder.finish()
    return symbols


def report(benchmark: Any, layer: Layer, chunk: bytes) -> None:
    benchmark.extra_info["n_bytes"] = len(chunk)
    benchmark.extra_info["symbols_per_s"] = round(len(layer[0]) / benchmark.stats.stats.min)


@pytest.mark.parametrize("kind", ["mixed", "uniform", "zeros"])
def test_encode(benchmark: Any, tables: Tables, kind: str, request: pytest.FixtureRequest) -> None:
    layer: Layer = request.getfixturevalue(kind)
    report(benchmark, layer, benchmark.pedantic(encode, (tables, layer), rounds=7, warmup_rounds=1))


@pytest.mark.parametrize("kind", ["mixed", "uniform", "zeros"])
def test_decode(benchmark: Any, tables: Tables, kind: str, request: pytest.FixtureRequest) -> None:
    layer: Layer = request.getfixturevalue(kind)
    chunk = encode(tables, layer)
    found = benchmark.pedantic(decode, (tables, chunk, layer[1]), rounds=7, warmup_rounds=1)
    np.testing.assert_array_equal(found, layer[0])
    report(benchmark, layer, chunk)
