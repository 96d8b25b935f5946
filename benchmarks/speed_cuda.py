"""Seconds a picture on a CUDA device in batches of 1, 8 and 32, for the speed study."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any, Literal

import numpy as np

from .pictures import Sample

BATCHES = (1, 8, 32)
REPEATS = 5
RHO = 32
Row = dict[str, Any]
Device = Literal["cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]


def rows(samples: Sequence[Sample], batches: Sequence[int] = BATCHES, device: Device = "cuda") -> list[Row]:
    """One row a batch size and arithmetic; an empty list where there is no such device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return []
    dtypes: tuple[tuple[Dtype, str], ...] = (("float32", "float32"), ("bfloat16", "bf16"))
    return [_row(samples, batch, device, *names) for names in dtypes for batch in batches]


def _row(samples: Sequence[Sample], batch: int, device: Device, dtype: Dtype, short: str) -> Row:
    import hvcodec

    codec = hvcodec.Codec(device=device, dtype=dtype)
    first = samples[0].load().size
    alike = [image for sample in samples if (image := sample.load()).size == first]
    pictures = [hvcodec.Picture(np.asarray(image)) for image in islice(cycle(alike), batch)]
    rhos = [(RHO,) * codec.n_groups] * batch
    files = [encoded.data for encoded in codec.encode_batch(pictures, rhos)]
    # Bytes and pixels come back to the host: both calls end when the device has finished.
    encode_s = _median(lambda: codec.encode_batch(pictures, rhos)) / batch
    decode_s = _median(lambda: codec.decode_batch(files)) / batch
    return {
        "megapixels": 0.4,
        "codec": "hvcodec",
        "label": f"hvcodec, {short}, {device.upper()}, batch {batch}",
        "threads": torch_threads(),
        "dtype": dtype,
        "batch": batch,
        "encode_s": round(encode_s, 5),
        "decode_s": round(decode_s, 5),
    }


def torch_threads() -> int:
    """Threads of the exact part's host work."""
    import torch

    return int(torch.get_num_threads())


def _median(task: Callable[[], object]) -> float:
    task()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
