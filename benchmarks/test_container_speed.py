"""Micro-benchmarks of the container: packing, parsing and reading the header of files of usual sizes.

Run by hand: `pytest benchmarks/test_container_speed.py`.
"""

from __future__ import annotations

import random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from hvcodec import container

N_LAYERS = 10
SIZES = {"0.4 MP": 32_000, "12 MP": 1_000_000, "100 MP": 8_000_000}


def chunks_of(n_bytes: int) -> list[bytes]:
    """Chunks that grow towards the fine layers, as those of pictures do."""
    source = random.Random(0)
    weights = [2.0**layer for layer in range(N_LAYERS)]
    return [source.randbytes(round(n_bytes * weight / sum(weights))) for weight in weights]


def pack(chunks: list[bytes]) -> bytes:
    """A plain file of these chunks."""
    return container.pack(
        width=768,
        height=512,
        grey=False,
        depth=8,
        model_id=bytes(container.MODEL_ID_BYTES),
        rho=(30,) * 5,
        chunks=chunks,
    )


@pytest.mark.parametrize("size", SIZES)
def test_pack(benchmark: BenchmarkFixture, size: str) -> None:
    chunks = chunks_of(SIZES[size])
    data = benchmark(pack, chunks)
    assert len(data) > SIZES[size]


@pytest.mark.parametrize("size", SIZES)
def test_unpack(benchmark: BenchmarkFixture, size: str) -> None:
    chunks = chunks_of(SIZES[size])
    file = benchmark(container.unpack, pack(chunks))
    assert list(file.chunks) == chunks


def test_read_header(benchmark: BenchmarkFixture) -> None:
    data = pack(chunks_of(SIZES["12 MP"]))
    header = benchmark(container.read_header, data)
    assert header.n_layers == N_LAYERS
