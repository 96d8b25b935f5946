"""Several processes that train one model: joining the others of torchrun, and agreeing with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from hvcodec.errors import ConfigError


def rank_and_world() -> tuple[int, int]:
    """Number of this process, and how many there are; (0, 1) for one alone."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_first() -> bool:
    """Whether this process does what is done once: it writes the files of the run."""
    return rank_and_world()[0] == 0


def is_first_here() -> bool:
    """Whether this process does what is done once on each machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the other processes of torchrun, if there are any; gives the device of this one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("this machine has no CUDA device: train with --device cpu")
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if device != "cpu":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True  # all batches have one shape
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    # Both kinds of tensors can be exchanged: what only the hosts need to know does not wait for a GPU.
    dist.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def of_the_first(value: float) -> float:
    """The first process's value in all of them, told from host to host."""
    if rank_and_world()[1] == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return float(shared)
