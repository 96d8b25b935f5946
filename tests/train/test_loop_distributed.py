"""Two processes that share a batch train like one process that has all of it."""

from __future__ import annotations

import multiprocessing
import os
import socket
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import configuration, rows, shorten, write_pictures

from hvcodec.model import Model
from hvcodec.train import loop
from hvcodec.train.forward import Pass, forward

OBJECTIVES = {"per_layer_beta": {"balance": 1.0}, "rate_target": {"bpp": [0.01, 0.05, 0.2, 0.3, 0.4]}}


def quiet_forward(model: Model, pixels: torch.Tensor, rho: torch.Tensor, _: Any = None, **how: Any) -> Pass:
    """Without noise, which differs between ranks: what is left must be equal."""
    return forward(model, pixels, rho, None, **how)


def work(rank: int, world: int, port: int, pictures: Path, folder: Path, name: str, answer: Connection) -> None:
    torch.set_num_threads(1)
    shorten()
    loop.forward = quiet_forward
    if world > 1:
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
        os.environ.update({key: str(value) for key, value in numbers.items()}, MASTER_ADDR="127.0.0.1")
    config = configuration(
        pictures,
        objective={"name": name, "params": OBJECTIVES[name]},
        optimizer={"name": "adamw"},  # Muon makes much of directions that hardly have a gradient
        schedule={"steps": 8},
        run={"batch": 4, "validation_crops": 16},
    )
    loop.train(config, folder, device="cpu")
    answer.send("done")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_train_like_one(name: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "hvcodec.train.loop"])
    pictures = write_pictures(tmp_path / "pictures")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes, ranks = [], []
    for rank, world, run in ((0, 2, "two"), (1, 2, "two"), (0, 1, "one")):
        ours, theirs = context.Pipe(duplex=False)
        target = (rank, world, port, pictures, tmp_path / run, name, theirs)
        ranks.append(context.Process(target=work, args=target))
        ranks[-1].start()
        theirs.close()
        pipes.append(ours)
    for ours in pipes:
        assert ours.poll(120), "a rank did not answer"
        assert ours.recv() == "done"
    for process in ranks:
        process.join()
    for kind in ("train", "validation"):
        one, two = rows(tmp_path / "one", kind), rows(tmp_path / "two", kind)
        assert [row["step"] for row in one] == [row["step"] for row in two]
        for key in ("loss", "mse", "rates"):
            for mine, theirs_ in zip(one, two, strict=True):
                assert theirs_[key] == pytest.approx(mine[key], rel=2e-3), (kind, key, mine["step"])
    assert [row["norm"] for row in rows(tmp_path / "two", "train")][:2] == pytest.approx(
        [row["norm"] for row in rows(tmp_path / "one", "train")][:2], rel=1e-3
    )
