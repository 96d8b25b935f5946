"""Killing the trainer at any moment costs at most the time between two checkpoints."""

from __future__ import annotations

import multiprocessing
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from short_runs import Ticks, configuration, rows, shorten, write_pictures

from hvcodec.train import checkpoint
from hvcodec.train.loop import train

KILLS = 10
BETWEEN = 4  # checkpoint_seconds, on a clock that counts steps


def work(pictures: Path, folder: Path, steps: int, announce: Connection) -> None:
    torch.set_num_threads(1)
    shorten()
    Ticks(announce.send).install(pytest.MonkeyPatch())
    config = configuration(
        pictures,
        schedule={"steps": steps},
        run={"batch": 1, "checkpoint_seconds": float(BETWEEN), "validate_seconds": 1e9},
    )
    train(config, folder, resume=bool(checkpoint.checkpoints(folder)), device="cpu")


def received(pipe: Connection) -> list[int]:
    """What is left in the pipe of a process that has ended."""
    announced: list[int] = []
    while True:
        try:
            announced.append(pipe.recv())
        except EOFError:
            return announced


def test_ten_kills_lose_no_more_than_allowed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "hvcodec.train.loop"])
    pictures, folder, dice = write_pictures(tmp_path / "pictures", 3), tmp_path / "run", random.Random(5)
    kept = 0
    for kill in range(KILLS + 1):
        ours, theirs = context.Pipe(duplex=False)
        steps = 10_000 if kill < KILLS else kept + 3
        child = context.Process(target=work, args=(pictures, folder, steps, theirs))
        child.start()
        theirs.close()
        if kill < KILLS:
            assert ours.poll(60), "the trainer made no step"
            announced = [ours.recv() for _ in range(dice.randint(1, 2 * BETWEEN))]
            time.sleep(dice.uniform(0, 0.05))
            child.kill()
        else:
            announced = []
        child.join(120)
        announced += received(ours)
        assert announced[0] == kept  # it went on where the checkpoint was
        kept = checkpoint.load(folder)["step"] if checkpoint.checkpoints(folder) else 0
        if kill < KILLS:
            assert announced[-1] - kept < BETWEEN  # steps done and not kept; one more was under way
    assert child.exitcode == 0
    assert not caplog.records  # no damaged checkpoint had to be passed over
    assert [row["step"] for row in rows(folder, "train")] == list(range(1, kept + 1))
    assert (folder / "model.safetensors").is_file()
    assert kept > KILLS
