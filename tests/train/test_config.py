"""Configurations: defaults, TOML, and messages that name what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hvcodec.errors import ConfigError
from hvcodec.train.config import PACKAGED, ScheduleConfig, TrainConfig, find, load, parse
from hvcodec.train.objectives import build

FULL = """
[model]
rho_width = 8
stages = [{stride = 64, width = 16}, {stride = 32, width = 16}]

[data]
folder = "pictures"
jitter = 1

[optimizer]
learning_rate = 1e-3

[schedule]
steps = 500

[objective]
name = "geco"
params = {mse = 0.001, speed = 0.01}

[run]
batch = 4
bf16 = false
"""


def test_a_configuration_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(FULL)
    config = load(path)
    assert config.model == {
        "rho_width": 8,
        "stages": [{"stride": 64, "width": 16}, {"stride": 32, "width": 16}],
    }
    assert (config.data.folder, config.data.cache) == (str(tmp_path / "pictures"), "")
    assert config.data.jitter == 1.0
    assert config.optimizer.learning_rate == 1e-3
    assert config.optimizer.name == "muon"
    assert config.schedule.steps == 500
    assert (config.objective.name, config.objective.params) == ("geco", {"mse": 0.001, "speed": 0.01})
    assert (config.run.batch, config.run.bf16, config.run.checkpoint_seconds) == (4, False, 60.0)
    assert parse(json.loads(json.dumps(config.to_dict()))) == config


def test_a_configuration_is_found_by_path_or_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()  # a folder of that name does not count
    assert find("toy") == PACKAGED / "toy.toml"
    assert find("mine.toml") == Path("mine.toml")
    (tmp_path / "mine").write_text("")
    assert find("mine") == Path("mine")
    with pytest.raises(ConfigError, match="'yours': name a TOML file, or default or perceptual or toy"):
        find("yours")


def test_everything_has_a_default() -> None:
    assert parse({}) == TrainConfig()
    assert isinstance(parse({"data": {"jitter": 1}}).data.jitter, float)


def test_what_a_file_leaves_out_is_as_in_the_recipe() -> None:
    recipe, own = load(PACKAGED / "default.toml"), TrainConfig()
    spelled_out, left_out = (build(c.objective.name, c.objective.params, groups=5) for c in (recipe, own))
    assert recipe.objective.params
    assert not own.objective.params
    assert (spelled_out.balance, spelled_out.shares) == (left_out.balance, left_out.shares)
    assert torch.equal(spelled_out.rho.at(3, 500), left_out.rho.at(3, 500))
    assert replace(recipe, model={}, objective=own.objective) == own


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"optimiser": {}}, "unknown section 'optimiser'; did you mean 'optimizer'?"),
        (
            {"optimizer": {"learning_rte": 1}},
            "unknown key 'optimizer.learning_rte'; did you mean 'learning_rate'?",
        ),
        ({"run": {"zzz": 1}}, "unknown key 'run.zzz'; there are seed, batch"),
        ({"run": {"batch": 2.5}}, "run.batch must be a whole number, not a number (2.5)"),
        ({"run": {"batch": True}}, "run.batch must be a whole number, not true or false (True)"),
        ({"run": {"bf16": 1}}, "run.bf16 must be true or false, not a whole number (1)"),
        ({"run": 3}, "run must be a table, not a whole number (3)"),
        ({"model": []}, "model must be a table, not a list"),
        ({"objective": {"params": 1}}, "objective.params must be a table"),
        ({"data": {"folder": 1}}, "data.folder must be a text"),
        ({"data": {"colour": float("nan")}}, "data.colour must be a finite number"),
        ({"data": {"smallest_scale": 0.0}}, "data.smallest_scale must lie in 0..1, above 0; it is 0.0"),
        ({"optimizer": {"learning_rate": 0.0}}, "optimizer.learning_rate must be positive"),
        ({"optimizer": {"name": "sgd"}}, "optimizer.name must be adamw or muon; it is sgd"),
        ({"optimizer": {"ema": 1.0}}, "optimizer.ema must lie in 0..1, below 1"),
        ({"schedule": {"minutes": -1}}, "schedule.minutes must be positive"),
        ({"run": {"crop": 100}}, "run.crop must be a multiple of 64"),
        ({"run": {"seed": -1}}, "run.seed must lie in"),
        ({"optimizer": {"learning_rate": 10**400}}, "optimizer.learning_rate must be a finite number"),
        ({"data": {"held_out_share": 0}}, "data.held_out_share must lie between 0 and 1"),
        ({"optimizer": {"weight_decay": 0.1}, "run": {"settle": 0.2}}, "weight_decay must be 0 with run.settle"),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(table)
    assert message in str(caught.value)


def test_a_file_that_is_missing_or_not_toml_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "nowhere.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("[run\nbatch = 1")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(bad)
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(bad)
    bad.write_text("[run]\nbatches = 1")
    with pytest.raises(ConfigError, match=r"bad\.toml: unknown key 'run\.batches'; did you mean 'batch'"):
        load(bad)


def test_the_learning_rate_warms_up_and_follows_a_cosine() -> None:
    schedule = ScheduleConfig(minutes=10, warmup_steps=9, final_ratio=0.1)
    assert schedule.factor(0, 0.0) == pytest.approx(0.1)
    assert schedule.factor(9, 0.0) == pytest.approx(1.0)
    assert schedule.factor(1000, 0.5) == pytest.approx(0.55)
    assert schedule.factor(1000, 1.0) == pytest.approx(0.1)
    assert schedule.progress(10**6, 300.0) == pytest.approx(0.5)
    assert schedule.progress(0, 6000.0) == 1.0
    assert ScheduleConfig(steps=200).progress(50, 10**6) == pytest.approx(0.25)
