"""Muon: the orthogonal factor, a step that is skipped, and a run that resumes where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from short_runs import configuration, shorten, write_pictures
from torch import nn

from hvcodec.train import checkpoint, loop
from hvcodec.train.loop import Trainer, train
from hvcodec.train.muon import RMS, Muon, orthogonal


@pytest.mark.parametrize("shape", [(2, 24, 60), (1, 60, 24), (1, 8, 60)])
def test_singular_values_become_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    # Directions of very different size, as gradients have them.
    matrices = matrices * torch.logspace(0, -1.5, shape[2])
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.4 and values.max() < 1.3


def test_the_directions_are_those_of_the_matrix() -> None:
    matrix = torch.randn(1, 12, 30, generator=torch.Generator().manual_seed(1))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    similarity = torch.cosine_similarity(orthogonal(matrix).flatten(), (u @ vh).flatten(), dim=0)
    assert similarity > 0.97


def test_an_update_has_the_promised_size() -> None:
    weight = nn.Parameter(torch.zeros(16, 8, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    Muon([weight], momentum=0.9).step(0.01, torch.zeros(()))
    assert weight.detach().square().mean().sqrt() == pytest.approx(0.01 * RMS, rel=0.2)


def test_a_bad_step_changes_nothing() -> None:
    weight = nn.Parameter(torch.ones(8, 8))
    muon = Muon([weight], momentum=0.9)
    weight.grad = torch.full((8, 8), torch.nan)
    muon.step(0.1, torch.ones(()))
    assert torch.equal(weight.detach(), torch.ones(8, 8))
    assert torch.equal(muon.velocity[0], torch.zeros(8, 8))


def test_it_minimises_a_quadratic() -> None:
    wanted = torch.randn(10, 20, generator=torch.Generator().manual_seed(3))
    weight = nn.Parameter(torch.zeros(10, 20))
    muon = Muon([weight], momentum=0.9)
    for step in range(200):
        weight.grad = (weight - wanted).detach()
        muon.step(0.2 * (1 - step / 200), torch.zeros(()))
    assert (weight - wanted).abs().max() < 0.1


def test_a_run_resumes_with_its_momentum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LADDER_CROPS", "TABLE_CROPS"):
        monkeypatch.setattr(loop, name, getattr(loop, name))
    monkeypatch.setattr(loop.plots, "plot", loop.plots.plot)
    shorten()
    pictures = write_pictures(tmp_path / "pictures")
    config = configuration(pictures, optimizer={"name": "muon"}, schedule={"steps": 6})
    train(config, tmp_path / "whole", device="cpu")

    begun = Trainer(config, tmp_path / "begun", "cpu")
    for _ in range(3):
        begun._train_step(config.schedule.factor(begun.step, begun.step / 6))
        begun.step += 1
    begun.save()
    train(None, tmp_path / "begun", resume=True, device="cpu")
    whole, resumed = (load_file(checkpoint.checkpoints(tmp_path / name)[0]) for name in ("whole", "begun"))
    assert any("muon" in name for name in whole)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
