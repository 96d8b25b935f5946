"""Checkpoints: what is saved comes back, on any device, after a kill at any moment."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from torch import nn

from hvcodec.errors import ConfigError
from hvcodec.train import checkpoint


def net() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)).to(memory_format=torch.channels_last)
    return module, torch.optim.AdamW(module.parameters(), 1e-2)


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
    losses = []
    for _ in range(count):
        loss = module(torch.rand(2, 3, 8, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_continues_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    module, optimizer = net()
    steps(module, optimizer, 5)
    state = {
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "step": 5,
    }
    checkpoint.save(tmp_path, 5, state)
    expected = steps(module, optimizer, 5)

    other, other_optimizer = net()
    loaded = checkpoint.load(tmp_path)
    other.load_state_dict(loaded["model"])
    other_optimizer.load_state_dict(loaded["optimizer"])
    torch.set_rng_state(loaded["torch_rng"])
    assert loaded["step"] == 5
    assert steps(other, other_optimizer, 5) == expected


def test_every_kind_of_value_comes_back(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    state = {
        "int keys": {0: {"a": 1}, 7: None},
        "nested": [1, (2.5, "text"), [], {}, (), True],
        "float": float("inf"),
        "shared": [shared, shared],
        "strided": torch.arange(6).view(2, 3).t(),
        "bytes": torch.tensor([1, 255], dtype=torch.uint8),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "empty": torch.empty(0),
        "scalar": torch.tensor(3.0, dtype=torch.float64),
    }
    back = checkpoint.read(checkpoint.save(tmp_path, 1, state))
    assert repr(back) == repr(state)
    assert list(back) == list(state)
    assert type(back["nested"][1]) is tuple


@pytest.mark.parametrize("value", [{1.5: 0}, {"a": {None: 1}}, object(), {"x": [{1, 2}]}])
def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match="a checkpoint cannot hold"):
        checkpoint.save(tmp_path, 1, value)
    assert not list(tmp_path.iterdir())


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 90_000_000, 100_000_000):
        checkpoint.save(tmp_path, step, {"step": step})
    (tmp_path / "checkpoint-00000007.tmp").write_bytes(b"left by a killed writer")
    checkpoint.save(tmp_path, 100_000_001, {"step": 100_000_001})
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == [
        "checkpoint-100000001.safetensors",
        "checkpoint-100000000.safetensors",
    ]
    assert len(list(tmp_path.iterdir())) == 2
    assert checkpoint.load(tmp_path) == {"step": 100_000_001}


def test_a_save_at_an_earlier_step_stays(tmp_path: Path) -> None:
    # A run resumed from an older checkpoint by hand: what was just saved must not be removed as old.
    for step in (10, 20, 15):
        path = checkpoint.save(tmp_path, step, step)
        assert path.exists()


def test_a_checkpoint_without_room_is_an_error_and_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = checkpoint.save(tmp_path, 1, {"x": torch.ones(3)})
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match=r"checkpoint-00000002\.safetensors cannot be written .*go on with --resume"):
        checkpoint.save(tmp_path, 2, {"x": torch.ones(3)})
    assert list(tmp_path.iterdir()) == [before]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"step": step, "x": torch.ones(100)})
    newest = checkpoint.checkpoints(tmp_path)[0]
    os.truncate(newest, newest.stat().st_size - 10)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(tmp_path)["step"] == 1
    assert f"{newest} is not a whole checkpoint" in caplog.text
    checkpoint.checkpoints(tmp_path)[1].write_bytes(b"")
    with pytest.raises(ConfigError, match="no whole checkpoint in"):
        checkpoint.load(tmp_path)
    with pytest.raises(ConfigError, match="no checkpoint in"):
        checkpoint.load(tmp_path / "nowhere")


def test_a_run_that_goes_on_sets_a_damaged_checkpoint_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Path) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    older, newest = (checkpoint.save(tmp_path, step, {"step": step}) for step in (1, 2))
    newest.write_bytes(b"damaged")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        assert checkpoint.load(tmp_path, set_aside=True) == {"step": 1}
    assert checkpoint.load(tmp_path) == {"step": 1}
    assert checkpoint.checkpoints(tmp_path) == [newest, older]
    assert checkpoint.load(tmp_path, set_aside=True) == {"step": 1}
    assert f"{newest} is now called checkpoint-00000002.damaged" in caplog.text
    newer = checkpoint.save(tmp_path, 3, {"step": 3})
    assert checkpoint.checkpoints(tmp_path) == [newer, older]
    assert (tmp_path / "checkpoint-00000002.damaged").read_bytes() == b"damaged"
    # The only ones are left: without a checkpoint the folder would be free for another run.
    for path in (newer, older):
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match="no whole checkpoint in"):
        checkpoint.load(tmp_path, set_aside=True)
    assert checkpoint.checkpoints(tmp_path) == [newer, older]


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_checkpoint_moves_between_devices(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"x": torch.arange(3.0, device="cuda")})
    assert checkpoint.load(tmp_path)["x"].tolist() == [0, 1, 2]
    assert checkpoint.load(tmp_path, "cuda")["x"].device.type == "cuda"


def write_for_ever(folder: Path, started: Connection) -> None:
    """Save checkpoint after checkpoint; each holds its step in every element, and each is announced."""
    torch.set_num_threads(1)
    step = checkpoint.load(folder)["step"] if checkpoint.checkpoints(folder) else 0
    while True:
        step += 1
        tensors = [torch.full((20_000,), float(step)) for _ in range(5)]
        checkpoint.save(folder, step, {"step": step, "tensors": tensors})
        started.send(step)


def test_a_kill_at_any_moment_leaves_the_last_checkpoint_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A server process imports torch once; the children that are killed are its forks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "hvcodec.train.checkpoint"])
    moments = random.Random(3)
    latest = 0
    for _ in range(10):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=write_for_ever, args=(tmp_path, theirs))
        child.start()
        theirs.close()
        assert ours.poll(60), "the child saved nothing"
        time.sleep(moments.uniform(0, 0.1))
        child.kill()
        child.join()
        announced = []
        try:
            while True:
                announced.append(ours.recv())
        except EOFError:
            ours.close()
        loaded = checkpoint.load(tmp_path)
        assert loaded["step"] >= announced[-1] > latest
        assert all(bool((t == loaded["step"]).all()) for t in loaded["tensors"])
        latest = loaded["step"]
    assert not caplog.records  # no damaged file had to be passed over
    assert latest > 10
