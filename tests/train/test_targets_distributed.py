"""Multipliers of a distributed run: two processes with half a batch each move like one with all of it."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hvcodec.train.objectives import build

STEPS = 5


def batches() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(STEPS, 4, generator=generator), torch.rand(STEPS, 4, 3, generator=generator)


def multiplier(rows: slice) -> list[float]:
    objective = build("rate_target", {"bpp": [0.4, 0.5, 0.9]}, groups=3)
    distortion, rates = batches()
    for step in range(STEPS):
        objective.update(distortion[step, rows], rates[step, rows])
    objective.calibrate(distortion[0, rows], rates[0, rows])
    values: list[float] = torch.cat(list(objective.report().values())).tolist()
    return values


def rank_of_two(rank: int, meeting_point: Path, answer: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=2)
    answer.send(multiplier(slice(2 * rank, 2 * rank + 2)))
    dist.destroy_process_group()


def test_two_processes_move_the_multipliers_of_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "hvcodec.train.objectives"])
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    ranks = [context.Process(target=rank_of_two, args=(rank, tmp_path / "meet", pipes[rank][1])) for rank in range(2)]
    for process in ranks:
        process.start()
    answers = []
    for ours, theirs in pipes:
        theirs.close()
        assert ours.poll(60), "a rank did not answer"
        answers.append(ours.recv())
    for process in ranks:
        process.join()
    assert answers[0] == answers[1]
    assert answers[0] == pytest.approx(multiplier(slice(0, 4)), rel=1e-5)
