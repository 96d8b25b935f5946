"""Architectures at equal cost: CompressAI's and ours, trained by one trainer on the same crops for the same time.

Each is trained at each level for R + lambda D with a warm-up and a cosine over the minutes given, and measured
on the pictures that were held out, with rounded symbols, 8-bit output and averaged weights:

    python -m hvcodec_benchmarks.compressai_training --minutes 60 --data photos

    benchmarks/results/compressai.json    a row for each architecture, level and learning rate
    OUT/ARCHITECTURE-LEVEL-RATE/          a run of the trainer; the same command again goes on where it stopped

Our structure starts as it always does, from principal components of some crops; theirs start at random, with
the optimiser of CompressAI's own example and the learning rates that are asked for. Finding a start counts apart
(`start_seconds`).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from hvcodec.errors import ConfigError, HVCodecError
from hvcodec.model.config import lambda_of
from hvcodec.train import checkpoint, plots
from hvcodec.train.config import LOG, ObjectiveConfig, TrainConfig, find, load
from hvcodec.train.data import Crops
from hvcodec.train.journal import Journal
from hvcodec.train.loop import HOST_BATCH, Trainer, channels_last
from hvcodec.train.objective import Objective, squared_error
from hvcodec.train.objectives import build
from hvcodec.train.optimizer import Optimizer
from hvcodec.train.ranks import joined
from hvcodec.train.validation import Measured

from . import paths, store
from .bridge import ARCHITECTURES, NAME, untrained
from .environment import environment, package_version

FILE = "compressai.json"
LEVELS = (24,)
LEARNING_RATES = (1e-4,)  # CompressAI's examples/train.py, which also clips gradients at 1
Row = dict[str, Any]


class GuestStep(nn.Module):
    """A model of CompressAI and an objective, behind the shape that the trainer expects of a step."""

    def __init__(self, model: nn.Module, objective: Objective, device: torch.device) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        # CompressAI draws its noise from torch's own generators; the trainer seeds this one at each step.
        self.noise = torch.default_generator
        if device.type == "cuda":
            self.noise = torch.cuda.default_generators[torch.cuda.current_device()]

    def forward(self, pixels: Tensor, rho: Tensor) -> tuple[Tensor, ...]:
        """(loss to minimise, the same for the log, distortion (N,), squared error (N,), rates (N, 1))."""
        out = self.model(pixels)
        rates = bits_per_pixel(out)
        distortion = self.objective.distortion(pixels, out["x_hat"])
        loss = self.objective.loss(distortion, rates, rho)
        error = self.objective.error(distortion, pixels, out["x_hat"])
        return loss, loss.detach(), distortion.detach(), error.detach(), rates.detach()


class GuestTrainer(Trainer):
    """Our trainer with a model of CompressAI: its own are the start, the validation and the file at the end."""

    recordable = False  # for all we know

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        folder: Path,
        device: str,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.folder, self.device = config, folder, torch.device(device)
        self.rank, self.world = 0, 1
        cache = self._cache()
        self.crops: Crops = self._crops(cache, config.run.batch, self.device)
        self.validation = self._crops(cache, HOST_BATCH, validation=True)
        objective = build(config.objective.name, config.objective.params, groups=1, seed=config.run.seed)
        model = channels_last(model.to(self.device))
        self.step_module = self.wrapped = GuestStep(model, objective.to(self.device), self.device)
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self._averaged = tuple(self.average.parameters()), tuple(model.parameters())
        self.optimizer = Optimizer(self.step_module, config.optimizer)
        self.step, self.seconds = 0, 0.0
        self.journal = Journal(folder / LOG, mute=False)
        if state is not None:
            self._load(state)

    def validate(self) -> None:
        """Measure the averaged weights on pictures never trained on, and log it."""
        batches = (self.validation.at(i) for i in range(-(-self.config.run.validation_crops // HOST_BATCH)))
        objective = self.step_module.objective
        measured = measure(self._updated(), objective, batches, bf16=self.config.run.bf16)
        self.journal.write("validation", self.step, self.seconds, measured.row(objective.rho.level))

    def finish(self) -> Path:
        """Write the plots, and a checkpoint that CompressAI's evaluation tool takes."""
        path = self.folder / "model.pth.tar"
        torch.save({"state_dict": self._updated().cpu().state_dict()}, path)
        plots.plot(self.journal.path, self.folder)
        return path

    def _updated(self) -> Any:
        """The averaged model with its tables; a copy, because their sizes are no part of a run's checkpoint."""
        model: Any = copy.deepcopy(self.average)
        # Medians by search: so there is no auxiliary loss, whose only purpose is to find them.
        model.update(force=True, update_quantiles=True)
        return model


def bits_per_pixel(out: Mapping[str, Any]) -> Tensor:
    """Rates (N, 1) from what a model of CompressAI gives."""
    bits = sum(-likelihoods.log2().sum(dim=(1, 2, 3)) for likelihoods in out["likelihoods"].values())
    return bits[:, None] / out["x_hat"][0, 0].numel()


@torch.no_grad()
def measure(model: nn.Module, objective: Objective, batches: Iterable[Tensor], *, bf16: bool) -> Measured:
    """Code batches of crops (N, 3, H, W), pixels 0..1, with rounded symbols."""
    distortion, rates, own = [], [], []
    device = next(model.parameters()).device
    for crops in batches:
        pixels = crops.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out = model(pixels)
        shown = (out["x_hat"].float().clamp(0, 1) * 255).round() / 255
        distortion.append(squared_error(pixels, shown))
        rates.append(bits_per_pixel(out))
        rho = objective.rho.at(0, len(pixels), device)
        own.append(objective.loss(objective.distortion(pixels, out["x_hat"]), rates[-1], rho))
    return Measured(torch.cat(distortion), torch.cat(rates), torch.stack(own).mean())


def compare(
    config: TrainConfig,
    folder: Path,
    target: Path,
    *,
    architectures: Sequence[str] = (NAME, *ARCHITECTURES),
    levels: Sequence[int] = LEVELS,
    learning_rates: Sequence[float] = LEARNING_RATES,
    device: str = "auto",
) -> dict[str, Any]:
    """Train every architecture at every level, theirs at every learning rate, and write the result file.

    Raises ConfigError for a configuration, a folder of pictures or a checkpoint that cannot be used.
    """
    document = {
        "study": "compressai-training",
        "environment": environment(),
        "compressai": package_version("compressai"),
        "config": replace(config, data=replace(config.data, folder="", cache="")).to_dict(),  # no names of folders
        "threads": torch.get_num_threads(),
        "rows": [],
    }
    # Each from its own start to its own end, which is what is compared.
    run = replace(config.run, start="", settle=0.0)
    config = replace(config, run=run, data=replace(config.data, cache=config.data.cache or str(folder / "cache")))
    for level in levels:
        for name in architectures:
            for rate in (config.optimizer.learning_rate,) if name == NAME else learning_rates:
                place = folder / f"{name}-{level}-{rate:g}"
                document["rows"].append(train(name, level, config, place, rate, device))
    store.write(target, document)  # a finished table, not the first row of another
    return document


def train(name: str, level: int, config: TrainConfig, folder: Path, learning_rate: float, device: str) -> Row:
    """Train one architecture for R + lambda D at a level, or go on with that, and say what came out."""
    config = replace(config, objective=ObjectiveConfig("beta_vae", {"rho": level}))
    folder.mkdir(parents=True, exist_ok=True)
    state = checkpoint.load(folder, set_aside=True) if checkpoint.checkpoints(folder) else None
    if state and json.loads(state["config"])["schedule"]["minutes"] > config.schedule.minutes:
        raise ConfigError(
            f"{folder} was trained for longer than {config.schedule.minutes:g} minutes: name another --out"
        )
    begun = time.monotonic()
    with joined(device) as chosen:
        trainer: Trainer
        if name == NAME:
            trainer = Trainer(config, folder, chosen, state)
        else:
            torch.manual_seed(config.run.seed)
            theirs = replace(config.optimizer, name="adamw", learning_rate=learning_rate, beta2=0.999, clip=1.0)
            model = untrained(name, lambda_of(level))
            trainer = GuestTrainer(model, replace(config, optimizer=theirs), folder, chosen, state)
        start_seconds = time.monotonic() - begun
        trainer.rewind(resumed=state is not None)
        trainer.run()
    measured = [row for row in plots.read_log(trainer.journal.path) if row["kind"] == "validation"][-1]
    return {
        "architecture": name,
        "learning_rate": learning_rate,
        "level": level,
        "lambda": lambda_of(level),
        "bpp": math.fsum(measured["rates"]),
        **{key: measured[key] for key in ("psnr", "loss", "mse", "seconds")},
        "steps": trainer.step,
        "start_seconds": round(start_seconds, 1),
        "pictures": trainer.crops.fingerprint[:12],
        "parameters": sum(parameter.numel() for parameter in trainer.average.parameters()),
    }


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), required=True, help="For each training.")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Pictures to train on.")
@click.option("--config", "recipe", default="default", show_default=True, help="A configuration of the trainer.")
@click.option("--level", "levels", multiple=True, type=click.IntRange(0, 63), default=LEVELS, show_default=True)
@click.option(
    "--architecture", "names", multiple=True, type=click.Choice([NAME, *ARCHITECTURES]), help="By default all."
)
@click.option(
    "--learning-rate",
    "learning_rates",
    multiple=True,
    type=click.FloatRange(min=0, min_open=True),
    default=LEARNING_RATES,
    show_default=True,
    help="Of CompressAI's architectures, as often as wanted.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/compressai"), show_default=True
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; by default as many as there are cores.")
def main(
    minutes: float,
    data: Path | None,
    recipe: str,
    levels: tuple[int, ...],
    names: tuple[str, ...],
    learning_rates: tuple[float, ...],
    out: Path,
    device: str,
    threads: int | None,
) -> None:
    """Train CompressAI's architectures and ours on the same pictures for the same time, and compare them."""
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        config = load(find(recipe)).given(minutes=minutes, data=data)
        chosen = names or (NAME, *ARCHITECTURES)
        target = paths.results_dir() / FILE
        document = compare(
            config, out, target, architectures=chosen, levels=levels, learning_rates=learning_rates, device=device
        )
    except HVCodecError as err:
        raise click.ClickException(str(err)) from err
    click.echo(f"{'architecture':<24}{'rate':>8}{'level':>6}{'bpp':>9}{'PSNR':>8}{'R + lambda D':>14}{'steps':>9}")
    for row in document["rows"]:
        told = f"{row['bpp']:>9.4f}{row['psnr']:>8.2f}{row['loss']:>14.4f}{row['steps']:>9}"
        click.echo(f"{row['architecture']:<24}{row['learning_rate']:>8g}{row['level']:>6}{told}")
    click.echo(f"written: {target}")


if __name__ == "__main__":
    main(prog_name="python -m hvcodec_benchmarks.compressai_training")
