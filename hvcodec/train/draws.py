"""Random numbers by address: the draws of step n depend on the seed and n, not on the steps before.

A resumed run therefore needs no generator state, only its step; and the ranks of a distributed run
cut their rows out of the same draws that one process with the whole batch would make.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def generator(seed: int, purpose: str, step: int) -> np.random.Generator:
    """Return the generator of one step; different purposes never share numbers."""
    key = np.array([seed, zlib.crc32(purpose.encode())], dtype=np.uint64)
    # Philox counts up its first word as numbers are drawn, so the step sits in the second.
    counter = np.array([0, step, 0, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def to_device(array: NDArray[Any], device: torch.device | str) -> Tensor:
    """Copy a small host array to the device without making the host wait for a GPU."""
    tensor = torch.from_numpy(array)
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
