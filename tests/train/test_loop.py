"""Whole runs of the tiny model: it learns, it resumes, and what it writes is a codec."""

from __future__ import annotations

import copy
import json
import math
import shutil
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from short_runs import Row, Ticks, configuration, rows, shorten, write_pictures
from synthetic import picture
from torch import Tensor

from hvcodec import Bytes, Picture, container, inspect
from hvcodec.catalog import profiles_file, store_profile
from hvcodec.codec import Codec
from hvcodec.entropy import Tables, TrellisTables
from hvcodec.errors import ConfigError
from hvcodec.model import tiny_config
from hvcodec.model.rounding import CAUTION
from hvcodec.model.weights import load_weights, save_weights, to_tensors
from hvcodec.profiles import uniform
from hvcodec.train import checkpoint, loop, validation
from hvcodec.train.config import TrainConfig
from hvcodec.train.forward import forward
from hvcodec.train.journal import Journal
from hvcodec.train.loop import Trainer, mean, model_config, train
from hvcodec.train.objectives import OBJECTIVES
from hvcodec.train.tables import fit_tables

TARGETS = {"distortion_target": {"mse": 1e-3}, "geco": {"mse": 1e-3}, "rate_target": {"bpp": 0.5}}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LADDER_CROPS", "TABLE_CROPS"):
        monkeypatch.setattr(loop, name, getattr(loop, name))
    monkeypatch.setattr(loop.plots, "plot", loop.plots.plot)
    shorten()


def weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the newest checkpoint: weights, averages, moments."""
    return load_file(checkpoint.checkpoints(folder)[0])


# --- learning -----------------------------------------------------------------------------------------------


def test_the_loss_falls(pictures: Path, tmp_path: Path) -> None:
    config = configuration(
        pictures,
        data={"jitter": 0.0},
        objective={"name": "beta_vae", "params": {"rho": 24}},
        optimizer={"ema": 0.9},
        schedule={"steps": 60},
        run={"batch": 4},
    )
    trainer = Trainer(config, tmp_path, "cpu")
    trainer.validate()
    trainer.run()
    losses = [row["loss"] for row in rows(tmp_path, "train")]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    before, after = rows(tmp_path, "validation")
    assert after["loss"] < 0.9 * before["loss"]


def test_a_finished_run_is_a_codec(pictures: Path, tmp_path: Path) -> None:
    path = train(configuration(pictures), tmp_path, device="cpu")
    codec = Codec(path, device="cpu")
    photo = picture(150, 100, seed=9)
    encoded = codec.compress(photo, quality=60)
    assert np.array_equal(codec.decode(encoded.data).pixels, encoded.decoded().pixels)
    assert encoded.psnr_db > 20
    (row,) = rows(tmp_path, "tables")
    assert row["id"] == codec.model_id.hex()
    assert row["bits_fitted"] < row["bits_gaussian"]
    assert row["saved_against_gaussian"] > 0
    assert json.loads((tmp_path / "config.json").read_text())["schedule"]["steps"] == 12


def test_the_plots_are_drawn(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    shorten_tables = configuration(pictures, schedule={"steps": 2})
    monkeypatch.setattr(loop, "TABLE_CROPS", 8)
    train(shorten_tables, tmp_path, device="cpu")
    assert {path.stem for path in tmp_path.glob("*.png")} == {"loss", "rates", "distortion"}


def test_a_model_for_one_level_codes_at_that_level(pictures: Path, tmp_path: Path) -> None:
    config = configuration(pictures, objective={"name": "beta_vae", "params": {"rho": 20}})
    path = train(config, tmp_path, device="cpu")
    codec = Codec(path, device="cpu")
    photo = picture(150, 100, seed=9)
    encoded = codec.compress(photo)
    assert inspect(encoded.data).rho == (20,) * 5
    assert codec.compress(photo, quality=90).data == encoded.data
    smaller = codec.compress(photo, target=Bytes(encoded.n_bytes - 3))
    assert smaller.n_bytes <= encoded.n_bytes - 3

    # The tables are fitted to symbols of this level alone.
    trainer = Trainer(config, tmp_path / "again", "cpu", checkpoint.load(tmp_path))
    crops = trainer._sample(loop.TABLE_STEP, loop.TABLE_CROPS)
    at_20, at_all = (fit_tables(trainer.average, crops, levels, 0, CAUTION) for levels in ([20], range(64)))
    (row,) = rows(tmp_path, "tables")
    assert row["bits_logistic"] == pytest.approx(at_20.bits["logistic"])
    assert row["bits_logistic"] != pytest.approx(at_all.bits["logistic"], rel=0.1)
    # A model for the eye rounds to the nearest integer, which costs more.
    for_the_eye = fit_tables(trainer.average, crops, [20], 0, 0.0)
    assert for_the_eye.bits["logistic"] > 1.01 * at_20.bits["logistic"]


def test_a_run_can_fit_the_tables_of_a_trellis(pictures: Path, tmp_path: Path) -> None:
    path = train(configuration(pictures, run={"trellis": True}), tmp_path / "run", device="cpu")
    codec, plain = Codec(path, device="cpu"), load_weights(path)
    photo = picture(150, 100, seed=9)
    encoded = codec.encode(photo, (30,) * 5, digests=True)
    assert container.unpack(encoded.data).header.in_trellis
    assert np.array_equal(codec.decode(encoded.data).pixels, encoded.decoded().pixels)
    # Nothing else is another: without the trellis it is the model of a run without one.
    path = tmp_path / "as.safetensors"
    assert (
        save_weights(path, plain.model, plain.tables) == Codec(train(configuration(pictures), tmp_path / "b")).model_id
    )
    # The tables were fitted to what such models emit.
    save_weights(path, plain.model, plain.tables, trellis=TrellisTables.logistic())
    assert encoded.n_bytes < Codec(path, device="cpu").encode(photo, (30,) * 5, digests=True).n_bytes


def test_a_model_for_the_eye_gets_no_trellis(pictures: Path, tmp_path: Path) -> None:
    objective = {"name": "per_layer_beta", "params": {"ms_ssim": 0.5}}
    with pytest.raises(ConfigError, match=r"run\.trellis is for models of the squared error alone"):
        train(configuration(pictures, objective=objective, run={"trellis": True}), tmp_path, device="cpu")


@pytest.mark.parametrize("shares", [{}, {"ms_ssim": 0.5}], ids=["squared error", "eye"])
def test_validation_measures_what_the_encoder_gives(shares: dict[str, float], pictures: Path, tmp_path: Path) -> None:
    """Rounding by price spends fewer bits on a larger error; a model for the eye takes the nearest integer."""
    config = configuration(pictures, objective={"name": "per_layer_beta", "params": shares})
    codec = Codec(train(config, tmp_path / "run", device="cpu"), device="cpu")
    trainer = Trainer(config, tmp_path / "again", "cpu", checkpoint.load(tmp_path / "run"))
    crops, objective = trainer.validation.at(0), trainer.step_module.objective
    measured = validation.measure(trainer.average, objective, [crops], 20, bf16=False)
    photos = [Picture((crop * 255).round().byte().permute(1, 2, 0).numpy()) for crop in crops]
    coded = codec.encode_batch(photos, [(20,) * 5] * len(photos))
    errors = [10 ** (-encoded.psnr_db / 10) for encoded in coded]
    assert measured.distortion.mean() == pytest.approx(np.mean(errors), rel=2e-3)
    nearest = forward(trainer.average, crops, torch.full((len(crops), 5), 20)).rates.mean()
    assert (measured.rates.mean() == nearest) if shares else (measured.rates.mean() < 0.9 * nearest)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_runs_from_a_configuration(name: str, pictures: Path, tmp_path: Path) -> None:
    objective = {"name": name, "params": TARGETS.get(name, {})}
    config = configuration(pictures, objective=objective, schedule={"steps": 3}, run={"bf16": True})
    train(config, tmp_path, device="cpu")
    log = rows(tmp_path, "train")
    assert [row["step"] for row in log] == [1, 2, 3]
    assert all(math.isfinite(row["loss"]) and len(row["rates"]) == 5 for row in log)
    assert all(0 < row["mse"] < 1 for row in log)  # pixels in 0..1, whatever the objective calls distortion
    reported = set(log[0]) - {"step", "kind", "loss", "mse", "rates", "norm", "skipped"}
    assert ("multiplier" in reported) == (name in TARGETS)
    assert ("elbo_bits_per_dimension" in reported) == name.endswith("_scale")
    one_level = name != "per_layer_beta"
    validation = rows(tmp_path, "validation")
    assert len(validation) == (1 if one_level else 4)
    assert all(math.isfinite(row["objective"]) for row in validation)


def test_the_mean_of_runs_is_a_model(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(trainer: Trainer) -> Path:
        raise Crash

    for seed, run in enumerate(("a", "b")):
        train(configuration(pictures, schedule={"steps": 2}, run={"seed": seed}), tmp_path / run, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "finish", crash)
        with pytest.raises(Crash):
            mean([tmp_path / "a", tmp_path / "b"], tmp_path / "both", data=pictures)
    path = mean([tmp_path / "a", tmp_path / "b"], tmp_path / "both", data=pictures)
    assert [row["level"] for row in rows(tmp_path / "both", "validation")] == list(validation.LEVELS)
    a, b = (checkpoint.load(tmp_path / run)["average"] for run in ("a", "b"))
    trainer = Trainer(configuration(pictures), tmp_path / "again", "cpu")
    trainer.average.load_state_dict({name: (a[name] + b[name]) / 2 for name in a})
    expected = to_tensors(copy.deepcopy(trainer.average), Tables.logistic())
    found = load_file(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found if not name.startswith("tables."))
    assert any(not torch.equal(a[name], b[name]) for name in a)
    assert [row["kind"] for row in rows(tmp_path / "both", "tables")] == ["tables"]
    assert Codec(path).compress(picture(70, 50)).n_bytes > 0
    with pytest.raises(ConfigError, match="holds a run already"):
        mean([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    other = configuration(pictures, schedule={"steps": 1}, model={"name": "default"})
    checkpoint.save(tmp_path / "c", 1, {"average": {"x": torch.zeros(2)}, "config": json.dumps(other.to_dict())})
    with pytest.raises(ConfigError, match=r"c is of another structure than .*a, so their weights have no mean"):
        mean([tmp_path / "a", tmp_path / "c"], tmp_path / "none")
    unfinished = checkpoint.load(tmp_path / "b")
    checkpoint.save(tmp_path / "d", 1, {**unfinished, "step": 1})
    with pytest.raises(ConfigError, match=r"d is not finished: resume it first"):
        mean([tmp_path / "a", tmp_path / "d"], tmp_path / "none")
    for name, params in {"e": {"ms_ssim": 0.5}, "f": {"rho": 20}}.items():
        objective = {"name": "beta_vae" if "rho" in params else "per_layer_beta", "params": params}
        train(configuration(pictures, schedule={"steps": 1}, objective=objective), tmp_path / name, device="cpu")
        with pytest.raises(ConfigError, match=f"{name} was trained for another distortion or other levels than"):
            mean([tmp_path / "a", tmp_path / name], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_batch_that_is_not_finite_is_skipped_and_counted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(configuration(pictures), tmp_path, "cpu")
    trainer._train_step(1.0)
    before = {name: value.clone() for name, value in trainer.step_module.state_dict().items()}
    moments = [value.clone() for state in trainer.optimizer.adam.state.values() for value in state.values()]
    with monkeypatch.context() as patch:
        patch.setattr(trainer.crops, "at", lambda step: torch.full((2, 3, 64, 64), math.nan))
        row = trainer._train_step(1.0)
    assert not math.isfinite(row["norm"])
    assert trainer.optimizer.skipped == 1
    for name, value in trainer.step_module.state_dict().items():
        assert torch.equal(value, before[name]), name
    after = [value for state in trainer.optimizer.adam.state.values() for value in state.values()]
    assert all(torch.equal(a, b) for a, b in zip(after, moments, strict=True))

    row = trainer._train_step(1.0)
    assert math.isfinite(row["norm"])
    assert row["skipped"] == 1
    changed = trainer.step_module.state_dict()["model.transform.head"]
    assert not torch.equal(changed, before["model.transform.head"])


# --- resuming -----------------------------------------------------------------------------------------------


class Crash(Exception):  # noqa: N818 - stands for a kill
    pass


def crash_at(moment: int) -> Ticks:
    def crash(step: int) -> None:
        if step == moment:
            raise Crash

    return Ticks(crash)


@pytest.mark.parametrize("settle", [0.0, 0.5, 0.75])  # never, after the checkpoint, before it
def test_a_resumed_run_is_the_run_that_never_stopped(
    settle: float, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, halved = tmp_path / "straight", tmp_path / "halved"
    run = {"checkpoint_seconds": 5.0, "validate_seconds": 1000.0, "settle": settle}
    config = configuration(pictures, run=run)
    with monkeypatch.context() as patch:
        Ticks().install(patch)
        train(config, straight, device="cpu")
    with monkeypatch.context() as patch:
        crash_at(8).install(patch)
        with pytest.raises(Crash):
            train(config, halved, device="cpu")
    assert len(rows(halved, "train")) == 8
    with (halved / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "sec')  # as a kill may leave it
    torch.manual_seed(1234)  # nothing that happened in between may matter
    with monkeypatch.context() as patch:
        ticks = Ticks()
        ticks.install(patch)
        train(None, halved, resume=True, device="cpu")
    assert ticks.now == 7  # from the checkpoint at step 5 to 12
    assert rows(halved, "train") == rows(straight, "train")
    assert rows(halved, "validation") == rows(straight, "validation")
    mine, theirs = weights(halved), weights(straight)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert rows(halved, "tables") == rows(straight, "tables")  # with the id of the model


def test_only_the_last_part_of_a_run_settles(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled, gains = [], []
    step = Trainer._train_step

    def looked_at(self: Trainer, rate_factor: float) -> Row:
        row = step(self, rate_factor)
        settled.append(self.step_module.settled)
        gains.append(
            torch.cat([latent.steps_bias[0].detach() for latent in self.step_module.model.transform.latents()])
        )
        return row

    monkeypatch.setattr(Trainer, "_train_step", looked_at)
    train(configuration(pictures, run={"settle": 0.5}), tmp_path, device="cpu")
    assert settled == [False] * 6 + [True] * 6
    moved = [not torch.equal(now, before) for before, now in pairwise(gains)]
    assert moved == [True] * 5 + [False] * 6


def test_a_target_of_an_edited_configuration_counts_from_then_on(pictures: Path, tmp_path: Path) -> None:
    def aiming(mse: float, steps: int) -> TrainConfig:
        objective = {"name": "geco", "params": {"mse": mse, "rho": 20}}
        return configuration(pictures, objective=objective, schedule={"steps": steps})

    train(aiming(1e-3, 3), tmp_path, device="cpu")
    train(aiming(4e-3, 6), tmp_path, resume=True, device="cpu")
    before, after = (rows(tmp_path, "train")[i] for i in (2, 3))
    # The excess is measured over the target, which is now four times as large; the average hardly moved.
    assert (after["excess"] + 1) / (before["excess"] + 1) == pytest.approx(1 / 4, rel=0.3)


def test_a_run_that_is_often_killed_validates_too(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(pictures, run={"checkpoint_seconds": 1.0, "validate_seconds": 5.0})
    for moment, resume in ((4, False), (8, True)):  # each time before five more seconds have passed
        with monkeypatch.context() as patch:
            crash_at(moment).install(patch)
            with pytest.raises(Crash):
                train(config, tmp_path, resume=resume, device="cpu")
    assert {row["step"] for row in rows(tmp_path, "validation")} == {5}


@pytest.mark.parametrize("objective", [{"name": "geco", "params": {"mse": 1e-3}}, {}], ids=["geco", "default"])
def test_a_validation_that_a_kill_cut_short_is_made_up_for(
    objective: Row, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, halved = tmp_path / "straight", tmp_path / "halved"
    config = configuration(pictures, objective=objective, run={"validate_seconds": 5.0})
    with monkeypatch.context() as patch:
        Ticks().install(patch)
        train(config, straight, device="cpu")
    write = Journal.write

    def write_and_crash(journal: Journal, kind: str, *arguments: Any) -> None:
        write(journal, kind, *arguments)
        if kind == "validation":
            raise Crash

    for _ in range(2):  # the second time while it makes up for it
        with monkeypatch.context() as patch:
            Ticks().install(patch)
            patch.setattr(Journal, "write", write_and_crash)
            with pytest.raises(Crash):
                train(config, halved, resume=halved.exists(), device="cpu")
    with monkeypatch.context() as patch:
        Ticks().install(patch)
        train(None, halved, resume=True, device="cpu")
    assert {row["step"] for row in rows(halved, "validation")} == {5, 10, 12}
    for kind in ("train", "validation", "tables"):
        assert rows(halved, kind) == rows(straight, kind)


def test_a_shorter_interval_counts_at_once_and_older_checkpoints_do_without(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every(seconds: float) -> TrainConfig:
        return configuration(pictures, schedule={"steps": 24}, run={"validate_seconds": seconds})

    with monkeypatch.context() as patch:
        crash_at(11).install(patch)
        with pytest.raises(Crash):
            train(every(10.0), tmp_path, device="cpu")  # the checkpoint is that of step 11, after the validation
    state = checkpoint.load(tmp_path)
    assert state.pop("next_validation") == 20
    older = tmp_path / "older"
    checkpoint.save(older, 11, state)
    for folder in (tmp_path, older):
        with monkeypatch.context() as patch:
            Ticks().install(patch)
            train(every(7.0), folder, resume=True, device="cpu")
    assert {row["step"] for row in rows(tmp_path, "validation")} == {10, 14, 21, 24}
    assert {row["step"] for row in rows(older, "validation")} == {14, 21, 24}


def test_a_longer_budget_goes_on_with_a_finished_run(pictures: Path, tmp_path: Path) -> None:
    data = pictures
    train(configuration(data, schedule={"steps": 3}), tmp_path, device="cpu", data=data)
    train(configuration(data, schedule={"steps": 5}), tmp_path, resume=True, device="cpu")
    assert [row["step"] for row in rows(tmp_path, "train")] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in rows(tmp_path, "tables")] == [5]


def test_a_damaged_checkpoint_takes_no_place_of_a_resumed_run(pictures: Path, tmp_path: Path) -> None:
    config = configuration(pictures, schedule={"steps": 2}, run={"checkpoint_seconds": 1e-6})
    train(config, tmp_path, device="cpu")
    newest, older = checkpoint.checkpoints(tmp_path)
    newest.write_bytes(b"damaged")
    train(config, tmp_path, resume=True, device="cpu")
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == [newest.name, older.name]
    assert newest.with_suffix(".damaged").read_bytes() == b"damaged"


def test_minutes_that_are_over_train_nothing_and_say_so(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Ticks().install(patch)
        train(configuration(pictures), tmp_path, minutes=0.05, device="cpu")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        with pytest.raises(ConfigError, match=r"has trained for 0\.05 minutes already, and --minutes counts from its"):
            train(None, tmp_path, resume=True, minutes=0.04, device="cpu")
        assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        train(None, tmp_path, resume=True, minutes=0.1, device="cpu")
    assert len(rows(tmp_path, "train")) == 6


def test_a_run_that_is_over_finishes_again_without_a_trace(pictures: Path, tmp_path: Path) -> None:
    train(configuration(pictures, schedule={"steps": 2}), tmp_path, device="cpu")
    before = {kind: rows(tmp_path, kind) for kind in ("train", "validation", "tables")}
    train(None, tmp_path, resume=True, device="cpu")
    assert {kind: rows(tmp_path, kind) for kind in ("train", "validation", "tables")} == before


def test_a_run_that_learns_more_levels_loses_the_profile_of_one(pictures: Path, tmp_path: Path) -> None:
    one = configuration(pictures, objective={"name": "beta_vae", "params": {"rho": 20}}, schedule={"steps": 1})
    path = train(one, tmp_path, device="cpu")
    store_profile(profiles_file(path), replace(uniform(5), name="mine"))
    assert set(Codec(path).profiles) == {"equal", "trained", "mine"}
    train(configuration(pictures, schedule={"steps": 2}), tmp_path, resume=True, device="cpu")
    assert set(Codec(path).profiles) == {"equal", "mine"}


def test_minutes_replace_steps_and_data_is_remembered(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Ticks().install(patch)
        train(configuration(pictures, data={"folder": ""}), tmp_path, data=pictures, minutes=0.05, device="cpu")
    assert len(rows(tmp_path, "train")) == 3
    stored = json.loads((tmp_path / "config.json").read_text())
    assert (stored["schedule"]["minutes"], stored["schedule"]["steps"]) == (0.05, 0)
    assert stored["data"]["folder"] == str(pictures.resolve())


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_another_device(first: str, second: str, pictures: Path, tmp_path: Path) -> None:
    train(configuration(pictures, schedule={"steps": 20}), tmp_path, device=first)
    train(configuration(pictures, schedule={"steps": 30}), tmp_path, resume=True, device=second)
    losses = [row["loss"] for row in rows(tmp_path, "train")]
    assert len(losses) == 30
    assert np.mean(losses[20:25]) < 1.5 * np.mean(losses[15:20])


def losses_of_three_steps(trainer: Trainer) -> list[float]:
    return [float(trainer._train_step(1.0)["loss"]) for _ in range(3)]


@pytest.mark.filterwarnings("ignore:::torch")
def test_compiled_parts_compute_the_same(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "COMPILER", "aot_eager")  # all but the C++ compiler, which takes a minute
    plain, compiled = (Trainer(configuration(pictures, run={"compile": on}), tmp_path, "cpu") for on in (False, True))
    assert losses_of_three_steps(compiled) == pytest.approx(losses_of_three_steps(plain), rel=1e-4)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 0 < graphs < len(list(compiled.step_module.model.modules()))


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_recorded_passes_are_the_passes(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Trainer(configuration(pictures), tmp_path, "cuda")
    found = losses_of_three_steps(recorded)
    assert recorded._recorded is not None
    monkeypatch.setattr(loop, "Recorded", lambda *arguments: None)
    assert found == pytest.approx(losses_of_three_steps(Trainer(configuration(pictures), tmp_path, "cuda")), rel=1e-3)


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_never_waits_for_the_gpu(name: str, pictures: Path, tmp_path: Path) -> None:
    config = configuration(pictures, objective={"name": name, "params": TARGETS.get(name, {})})
    trainer = Trainer(config, tmp_path, "cuda")
    for _ in range(3):
        trainer._train_step(1.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer._train_step(1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- what cannot be done ------------------------------------------------------------------------------------


def test_what_cannot_be_trained_is_a_config_error(pictures: Path, tmp_path: Path) -> None:
    config = configuration(pictures)
    with pytest.raises(ConfigError, match=r"unknown model.name \['tiny'\]"):
        model_config({"name": ["tiny"]})
    wide = asdict(tiny_config())
    wide["stages"][0]["channels"] = 60
    with pytest.raises(ConfigError, match="at most as many channels as its stage is wide"):
        model_config(wide)
    with pytest.raises(ConfigError, match=r"unknown model.name 'tinny'; did you mean 'tiny'"):
        train(configuration(pictures, model={"name": "tinny"}), tmp_path, device="cpu")
    with pytest.raises(ConfigError, match=r"\[model\]: not a model configuration"):
        model_config({"stages": [{"stride": 64}]})
    with pytest.raises(ConfigError, match=r"there is no folder of pictures at .*nowhere; name one with --data"):
        train(config, tmp_path, data=tmp_path / "nowhere", device="cpu")
    with pytest.raises(ConfigError, match="no checkpoint in"):
        train(None, tmp_path / "none", resume=True, device="cpu")
    with pytest.raises(ConfigError, match="a configuration is needed"):
        train(None, tmp_path, device="cpu")
    with pytest.raises(ConfigError, match="unknown objective 'beta'"):
        train(configuration(pictures, objective={"name": "beta"}), tmp_path, device="cpu")
    assert not checkpoint.checkpoints(tmp_path)


def test_a_run_is_not_overwritten_and_only_continued_as_what_it_is(pictures: Path, tmp_path: Path) -> None:
    config = configuration(pictures, schedule={"steps": 1})
    train(config, tmp_path, device="cpu")
    with pytest.raises(ConfigError, match="holds a run already"):
        train(config, tmp_path, device="cpu")
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "alone")
    with pytest.raises(ConfigError, match="holds a model already"):
        train(config, tmp_path / "alone", device="cpu")
    other = configuration(pictures, objective={"name": "geco", "params": {"mse": 1e-3}})
    with pytest.raises(ConfigError, match="the checkpoint is of another model, objective or version"):
        train(other, tmp_path, resume=True, device="cpu")


def test_a_run_of_steps_that_were_skipped_gives_no_model(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(configuration(pictures), tmp_path, "cpu")
    monkeypatch.setattr(trainer.crops, "at", lambda step: torch.full((2, 3, 64, 64), math.nan))
    with pytest.raises(ConfigError, match=r"12 of 12 steps were skipped .* lower optimizer\.learning_rate"):
        trainer.run()
    assert not (tmp_path / "model.safetensors").exists()


def test_a_run_that_diverged_late_gives_no_model(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "DIVERGED", 3)
    trainer = Trainer(configuration(pictures), tmp_path, "cpu")
    at = trainer.crops.at
    bad = {4, 5, 9, 10, 11}
    monkeypatch.setattr(trainer.crops, "at", lambda step: at(step) * (math.nan if step in bad else 1))
    with pytest.raises(ConfigError, match=r"the last 3 of 12 steps were skipped .* and begin anew"):
        trainer.run()
    assert not (tmp_path / "model.safetensors").exists()
    state = checkpoint.load(tmp_path)
    again = Trainer(configuration(pictures), tmp_path, "cpu", state)
    assert again.optimizer.skipped_in_a_row == 3  # remembered
    del state["optimizer"]["skipped_in_a_row"]
    older = Trainer(configuration(pictures), tmp_path, "cpu", state)
    older._train_step(1.0)
    assert older.optimizer.skipped_in_a_row == 0
    again._train_step(1.0)
    assert again.optimizer.skipped_in_a_row == 0


@pytest.mark.parametrize(("part", "value"), [("transform", math.nan), ("prior", math.nan), ("transform", 1e6)])
def test_averages_that_are_not_finite_give_no_model(part: str, value: float, pictures: Path, tmp_path: Path) -> None:
    trainer = Trainer(configuration(pictures, schedule={"steps": 1}), tmp_path, "cpu")
    next(getattr(trainer.average, part).parameters()).data.fill_(value)
    with pytest.raises(ConfigError, match=r"the averaged weights are not finite.* and begin anew"):
        trainer.run()
    assert not (tmp_path / "model.safetensors").exists()


def test_two_processes_cannot_train_in_one_folder(pictures: Path, tmp_path: Path) -> None:
    with checkpoint.alone(tmp_path), pytest.raises(ConfigError, match="another process is training in"):
        train(configuration(pictures), tmp_path, device="cpu")
    assert not checkpoint.checkpoints(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_a_config_error(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no CUDA device: train with --device cpu"):
        train(configuration(pictures), tmp_path, device="cuda")
