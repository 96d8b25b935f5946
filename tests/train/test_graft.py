"""Beginning a run with the weights of a finished model: the same codec, also in a wider structure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from short_runs import configuration, shorten, write_pictures

from hvcodec.entropy import Tables
from hvcodec.errors import ConfigError
from hvcodec.model import Model, ModelConfig, tiny_config
from hvcodec.model.weights import load_weights, save_weights
from hvcodec.train import loop
from hvcodec.train.forward import forward
from hvcodec.train.graft import _left_undone, graft
from hvcodec.train.loop import Trainer


def grouped(groups: int) -> ModelConfig:
    return ModelConfig(tuple(replace(stage, groups=groups) for stage in tiny_config().stages), rho_width=8)


def shaken(config: ModelConfig) -> Model:
    """A model in which every weight counts: as it starts, blocks do nothing."""
    torch.manual_seed(5)
    model = Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    path = tmp_path / "finished.safetensors"
    save_weights(path, shaken(grouped(4)), Tables.logistic())
    return path


def crops() -> torch.Tensor:
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(3)) - 0.5


@pytest.mark.parametrize("groups", [4, 1])
def test_the_new_model_codes_as_the_old_one(groups: int, finished: Path) -> None:
    model = Model(grouped(groups))
    graft(model, str(finished), crops())
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    rho = torch.tensor([[7] * 5, [35, 30, 40, 20, 49]])  # at knots of the tables and between them
    with torch.no_grad():
        new, old = forward(model, pixels, rho), forward(load_weights(finished).model, pixels, rho)
    assert torch.allclose(new.reconstruction, old.reconstruction, atol=1e-4)
    assert torch.allclose(new.rates, old.rates, rtol=1e-3)


def test_added_channels_code_what_the_others_leave(finished: Path) -> None:
    """Everything else stays, and less is left to finer strides."""
    old = load_weights(finished).model
    stages = tuple(
        replace(stage, channels=stage.channels + (4 if stage.stride == 16 else 0)) for stage in grouped(4).stages
    )
    model = Model(ModelConfig(stages, rho_width=8))
    graft(model, str(finished), crops())
    bases = []
    for latent, before in zip(model.transform.latents(), old.transform.latents(), strict=True):
        kept = before.analysis.shape[0]
        assert torch.equal(latent.analysis[:kept], before.analysis)
        assert torch.equal(latent.steps_rho.weight.view(2, -1, 8)[:, :kept], before.steps_rho.weight.view(2, -1, 8))
        if latent.analysis.shape[0] > kept:
            bases.append(latent.analysis[kept:, :, 0, 0])
            assert torch.equal(latent.synthesis[:, kept:, 0, 0], bases[-1].T)
    basis = torch.cat(bases)
    assert torch.allclose(basis @ basis.T, torch.eye(8), atol=1e-4)  # two layers share the largest components
    prior, before_prior = dict(model.prior.named_parameters()), dict(old.prior.named_parameters())
    key = "stages.2.layers.0.second.near.weight"
    assert torch.equal(prior[key].view(8, 2, 12, 3, 3)[:, :, :8], before_prior[key].view(8, 2, 8, 3, 3))
    assert not prior[key].view(8, 2, 12, 3, 3)[:, :, 8:].any()
    with torch.no_grad():
        left, left_before = (_left_undone(m, crops())[2].square().mean() for m in (model, old))
    assert left < 0.9 * left_before


def test_another_structure_is_refused(finished: Path) -> None:
    stages = tuple(replace(stage, width=stage.width + 16) for stage in grouped(1).stages)
    with pytest.raises(ConfigError, match="in the weights and"):
        graft(Model(ModelConfig(stages, rho_width=8)), str(finished), crops())
    fewer = tuple(replace(stage, layers=1) for stage in grouped(1).stages)
    more = tuple(replace(stage, layers=stage.layers + (stage.stride == 8)) for stage in grouped(1).stages)
    with pytest.raises(ConfigError, match="of 6 latent layers, the model to train has 7"):
        graft(Model(ModelConfig(more, rho_width=8)), str(finished), crops())
    with pytest.raises(ConfigError, match="of 6 latent layers, the model to train has 5"):
        graft(Model(ModelConfig(fewer, rho_width=8)), str(finished), crops())


def test_a_last_phase_leaves_the_steps_alone(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LADDER_CROPS", "TABLE_CROPS"):
        monkeypatch.setattr(loop, name, getattr(loop, name))
    monkeypatch.setattr(loop.plots, "plot", loop.plots.plot)
    shorten()
    pictures = write_pictures(tmp_path / "pictures")
    stages = [{**vars(stage)} for stage in grouped(4).stages]
    config = configuration(pictures, run={"start": str(finished)})
    config = replace(config, model={"stages": stages, "rho_width": 8})
    trainer = Trainer(config, tmp_path / "run", "cpu")
    trainer.settle()
    latents = list(trainer.step_module.model.transform.latents())
    rho = torch.full((1, 5), 30.0)
    embedding = torch.ones(1, 8)
    before = [latent.steps(rho, embedding) for latent in latents]
    for _ in range(3):
        trainer._train_step(1.0)
    after = [latent.steps(rho, embedding) for latent in latents]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old.gain, new.gain)
    assert any(not torch.equal(old.inward, new.inward) for old, new in zip(before, after, strict=True))
