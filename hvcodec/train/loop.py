"""The trainer: a time budget, pictures and a configuration in; a model that hvcodec can use out.

    runs/NAME/
      config.json        the configuration as it ran
      log.jsonl          a line every few steps, a line for each validation
      checkpoint-*       all that resuming needs: weights, averages, optimiser, step
      model.safetensors  averaged weights with fitted frequency tables, for `hvcodec compress --model`
      loss.png, rates.png, distortion.png

Everything random (crops, rate vectors, noise) is drawn by its address: the seed, the step and the rank. So
the step is all that a resumed run has to know of it, on whatever device it goes on.

The same command under `torchrun` trains on several devices: each rank takes its share of the batch.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hvcodec.catalog import drop_profile, profiles_file, store_profile
from hvcodec.errors import ConfigError, ModelError
from hvcodec.files import write_whole
from hvcodec.model import Model, ModelConfig, default_config, tiny_config
from hvcodec.model.blocks import Block
from hvcodec.model.likelihood import logistic_bits
from hvcodec.model.weights import save_weights
from hvcodec.profiles import TRAINED_PROFILE, single

from . import checkpoint, plots, validation
from .config import LOG, TrainConfig, nearest, parse
from .data import Cache, Crops, pack
from .draws import generator
from .forward import Bits, forward
from .graft import graft
from .journal import Journal, Show
from .ladder import start_ladder
from .objective import Objective, across_ranks
from .objectives import build
from .optimizer import Optimizer
from .ranks import is_first, is_first_here, joined, of_the_first, rank_and_world
from .recorded import Recorded
from .tables import fit_tables

LADDER_CROPS, TABLE_CROPS = 48, 96
HOST_BATCH = 8  # crops at a time for the linear start, validation and the tables
LADDER_STEP, TABLE_STEP = 1_000_000_000, 2_000_000_000  # addresses of their crops, which no run reaches
COMPILER = "inductor"  # of torch.compile; tests take one that needs no C++
SHARED_VARIABLE = "HVCODEC_SHARED"
MODEL = "model.safetensors"
DIVERGED = 20
"""A run whose last so many steps were all skipped will never take one again."""

clock = time.monotonic


class Step(nn.Module):
    """Model and objective as one module, so that distributed training sees every parameter."""

    def __init__(self, model: Model, objective: Objective, noise: torch.Generator) -> None:
        super().__init__()
        self.model, self.objective, self.noise = model, objective, noise
        self.settled = False
        self.bits: Bits = logistic_bits

    def compile_parts(self) -> None:
        """Fuse the many small operations of the blocks and of the rates, which keep a GPU busy with its memory."""
        for module in self.model.modules():
            if isinstance(module, Block):
                module.compile(backend=COMPILER, dynamic=False)  # one kernel for each stride
        self.bits = torch.compile(logistic_bits, backend=COMPILER, dynamic=True)

    def forward(self, pixels: Tensor, rho: Tensor) -> tuple[Tensor, ...]:
        """(loss to minimise, the objective's loss, distortion (N,), squared error (N,), rates (N, groups))."""
        caution = self.objective.caution if self.settled else 0.0
        out = forward(self.model, pixels, rho, self.noise, caution=caution, bits=self.bits)
        distortion = self.objective.distortion(pixels, out.reconstruction)
        objective = self.objective.loss(distortion, out.noisy_rates, rho)
        # The prior shares no parameter with the objective's loss, so the sum weighs nothing against anything.
        return (
            objective + out.rates.sum(dim=1).mean(),
            objective.detach(),
            distortion.detach(),
            self.objective.error(distortion, pixels, out.reconstruction).detach(),
            out.rates.detach(),
        )


def model_config(table: Mapping[str, Any]) -> ModelConfig:
    """The structure that a configuration names: `name` = default or tiny, or all stages spelled out."""
    named = {"default": default_config, "tiny": tiny_config}
    if set(table) <= {"name"}:
        name = table.get("name", "default")
        if not isinstance(name, str) or name not in named:
            raise ConfigError(f"unknown model.name {name!r}; {nearest(str(name), named)}")
        return named[name]()
    try:
        config = ModelConfig.from_dict(dict(table))
    except ModelError as err:
        raise ConfigError(f"[model]: {err}") from err
    for stage in config.stages:
        if stage.channels > stage.width:  # its bases begin as principal components of the features
            raise ConfigError(f"[model]: a layer has at most as many channels as its stage is wide: {stage}")
    return config


def channels_last(model: Model) -> Model:
    """Lay kernels out in memory as convolutions of channels-last pictures read them."""
    for parameter in model.parameters():
        if parameter.dim() == 4 and parameter[0, 0].numel() > 1:  # a 1x1 kernel has one layout
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


class Trainer:
    """One run, from its configuration or from a checkpoint of it."""

    recordable = True  # the passes never make the host wait, which a recording cannot
    _recorded: Recorded | None = None
    next_validation = math.inf
    """Seconds of training at which a validation is due, until then."""

    def __init__(self, config: TrainConfig, folder: Path, device: str, state: Mapping[str, Any] | None = None) -> None:
        self.config, self.folder, self.device = config, folder, torch.device(device)
        self.rank, self.world = rank_and_world()
        run = config.run
        if run.batch % self.world:
            raise ConfigError(f"run.batch ({run.batch}) must be a multiple of the {self.world} ranks")
        torch.manual_seed(run.seed)
        model = Model(model_config(config.model))
        objective = build(
            config.objective.name, config.objective.params, groups=len(model.config.stages), seed=run.seed
        )
        if run.trellis and not objective.caution:
            raise ConfigError(
                "run.trellis is for models of the squared error alone: others round to the nearest integer"
            )
        cache = self._cache()
        self.crops = self._crops(cache, run.batch // self.world, self.device, self.rank, self.world)
        # Few and rare, so cut on the host: the same for every device and any number of ranks.
        self.validation = self._crops(cache, HOST_BATCH, validation=True)
        self.samples = self._crops(cache, HOST_BATCH)
        if state is None:
            pixels = self._sample(LADDER_STEP, LADDER_CROPS) - 0.5
            start_ladder(model, pixels)
            if run.start:
                graft(model, run.start, pixels)
        model = channels_last(model.to(self.device))
        self.step_module = Step(model, objective.to(self.device), torch.Generator(self.device))
        self.wrapped: nn.Module = self.step_module
        if self.world > 1:  # which gives all ranks the weights of the first
            self.wrapped = DistributedDataParallel(self.step_module)
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        if run.compile:
            self.step_module.compile_parts()
        self._averaged = tuple(self.average.parameters()), tuple(model.parameters())
        self.optimizer = Optimizer(self.step_module, config.optimizer, bf16=run.bf16)
        self.step, self.seconds = 0, 0.0
        self.journal = Journal(folder / LOG, mute=self.rank > 0)
        if state is not None:
            self._load(state)

    # --- pictures -----------------------------------------------------------------------------------------

    def _cache(self) -> Cache:
        options = self.config.data
        shared = Path(os.environ.get(SHARED_VARIABLE) or "../shared")
        folder = Path(options.folder) if options.folder else shared / "photos"
        if not folder.is_dir():
            raise ConfigError(f"there is no folder of pictures at {folder}; name one with --data")
        cache_dir = Path(options.cache) if options.cache else self.folder / "cache"
        if is_first_here():
            pack(folder, cache_dir, min_side=self.config.run.crop)
        if self.world > 1:
            dist.barrier()
        return Cache.open(cache_dir)

    def _crops(
        self,
        cache: Cache,
        batch: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        *,
        validation: bool = False,
    ) -> Crops:
        options, run = self.config.data, self.config.run
        return Crops(
            cache, run.crop, batch, device, run.seed, validation=validation, jitter=options.jitter,
            smallest_scale=options.smallest_scale, colour=options.colour,
            held_out_share=options.held_out_share, rank=rank, world=world,
        )  # fmt: skip

    def _sample(self, address: int, count: int) -> Tensor:
        """Training crops that no step uses, always the same ones."""
        return torch.cat([self.samples.at(address + i) for i in range(count // HOST_BATCH)])

    # --- one run ------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """Train until the budget is spent; returns the path of the finished model."""
        run, schedule = self.config.run, self.config.schedule
        self.step_module.train()
        begun = clock() - self.seconds  # as if the run had never stopped
        next_save = self.seconds + run.checkpoint_seconds
        # A checkpoint says when it was to be: a validation that a kill cut short is made up for.
        self.next_validation = min(self.next_validation, self._after(run.validate_seconds))
        self._told = self.step, clock()
        with self.journal.bar() as show:
            while True:
                self.seconds = of_the_first(clock() - begun)  # or the ranks would part
                progress = schedule.progress(self.step, self.seconds)
                to_validate = progress == 1 or self.seconds >= self.next_validation
                if to_validate or self.seconds >= next_save:
                    self.save()  # before a validation, because that takes a while
                    next_save = self.seconds + run.checkpoint_seconds
                if to_validate:
                    self.validate()
                    self.next_validation = self._after(run.validate_seconds)
                    next_save = self.seconds  # what it calibrated counts from here on, also after a kill
                if progress == 1:
                    return self.finish()
                if progress >= 1 - run.settle and not self.step_module.settled:
                    self.settle()
                row = self._train_step(schedule.factor(self.step, progress))
                self.step += 1
                if self.step % run.log_steps == 0:
                    self._tell(row, progress, show)

    def _after(self, interval: float) -> float:
        """The next multiple of an interval on the clock of the run: one that is often killed must get there too."""
        return (self.seconds // interval + 1) * interval

    def _train_step(self, rate_factor: float) -> dict[str, Any]:
        run = self.config.run
        pixels = next(self.crops).contiguous(memory_format=torch.channels_last)
        rho = self.step_module.objective.rho.at(self.step, len(pixels), self.device, rank=self.rank, world=self.world)
        if self.recordable and self._recorded is None and self.device.type == "cuda" and self.world == 1:
            parameters = list(self.step_module.parameters())
            self._recorded = Recorded(self._passes, parameters, self.step_module.noise, pixels, rho)
        draws = generator(run.seed, f"noise of rank {self.rank}", self.step)
        self.step_module.noise.manual_seed(int(draws.integers(2**63)))
        objective_loss, distortion, mse, rates = (self._recorded or self._passes)(pixels, rho)
        norm = self.optimizer.step(rate_factor)
        self.step_module.objective.update(distortion, rates)
        self.optimizer.average_into(*self._averaged, self.step)
        return {
            "loss": objective_loss, "mse": mse.mean(), "rates": rates.mean(dim=0), "norm": norm,
            "skipped": self.optimizer.skipped, **self.step_module.objective.report(),
        }  # fmt: skip

    def _passes(self, pixels: Tensor, rho: Tensor) -> tuple[Tensor, ...]:
        """Forward and backward: what Step gives but for the first, and gradients."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.run.bf16):
            loss, *outputs = self.wrapped(pixels, rho)
        loss.backward()
        return tuple(outputs)

    def settle(self) -> None:
        """From now on round as the encoder will, and leave the step sizes as they are."""
        self.step_module.settled = True
        for latent in self.step_module.model.transform.latents():
            latent.freeze_gains()
            for parameter, rows in latent.gain_rows():
                self.optimizer.forget(parameter, rows)
        self._recorded = None  # its passes are no longer those of a step

    def validate(self) -> None:
        """Measure the averaged weights on pictures never trained on, and log it."""
        # The same number of batches for every rank, so that the mean of their means is the mean.
        share = -(-self.config.run.validation_crops // (HOST_BATCH * self.world))
        objective = self.step_module.objective
        for level in validation.levels_of(objective):
            batches = (self.validation.at(self.rank * share + i) for i in range(share))
            measured = validation.measure(self.average, objective, batches, level, bf16=self.config.run.bf16)
            objective.calibrate(measured.distortion, measured.rates)
            self.journal.write("validation", self.step, self.seconds, measured.row(level))

    def finish(self) -> Path:
        """Fit the frequency tables, write the model and the plots."""
        path, objective = self.folder / MODEL, self.step_module.objective
        self._check_converged()
        if self.rank == 0:
            model, levels = copy.deepcopy(self.average).cpu(), objective.rho.levels
            crops = self._sample(TABLE_STEP, TABLE_CROPS)
            fitted = fit_tables(
                model, crops, levels, self.config.run.seed, objective.caution, trellis=self.config.run.trellis
            )
            model_id = save_weights(path, model, fitted.tables, objective.shares, fitted.trellis)
            if len(levels) == 1:  # at another one this network does not know what it is told
                store_profile(profiles_file(path), single(levels[0], len(model.config.stages)))
            else:  # the run may have had one level before it was resumed with another configuration
                drop_profile(profiles_file(path), TRAINED_PROFILE)
            self.journal.write("tables", self.step, self.seconds, {"id": model_id.hex(), **fitted.report()})
            plots.plot(self.journal.path, self.folder)
        return path

    def _check_converged(self) -> None:
        """Raise ConfigError if the averaged weights are those of a run that diverged."""
        skipped, in_a_row = int(self.optimizer.skipped), int(self.optimizer.skipped_in_a_row)
        if 2 * skipped > self.step or in_a_row >= DIVERGED:
            which = f"{skipped} of {self.step}" if 2 * skipped > self.step else f"the last {in_a_row} of {self.step}"
            raise ConfigError(
                f"{which} steps were skipped because their gradient was not finite, so no model is "
                "written: lower optimizer.learning_rate, or look at objective.params, and begin anew"
            )
        transform = (tensor.half() for tensor in self.average.transform.state_dict().values())  # as a model holds it
        if not all(bool(tensor.isfinite().all()) for tensor in [*transform, *self.average.prior.state_dict().values()]):
            raise ConfigError(
                "the averaged weights are not finite, so no model is written: the run diverged, or its checkpoint is "
                "damaged; lower optimizer.learning_rate, and begin anew"
            )

    def _tell(self, row: dict[str, Any], progress: float, show: Show) -> None:
        """Log a step and show it; the one place of the loop where the host waits for the device."""
        row = {name: across_ranks(value) for name, value in row.items()}
        loss = float(row["loss"])
        (step, moment), self._told = self._told, (self.step, clock())
        speed = (self.step - step) * self.config.run.batch / max(self._told[1] - moment, 1e-9)
        self.journal.write("train", self.step, self.seconds, {**row, "crops_per_s": round(speed, 2)})
        show(progress, f"step {self.step}  {speed:.1f} crops/s  loss {loss:.3f}")

    # --- state --------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return self.config.schedule.progress(self.step, self.seconds) == 1

    def rewind(self, *, resumed: bool) -> None:
        """Forget the rows of the log that the run will write anew, or all of another run."""
        validates = self.is_over or self.seconds >= self.next_validation
        self.journal.rewind(self.step if resumed else -1, validates=validates)

    def save(self) -> None:
        """Write a checkpoint."""
        if self.rank == 0:
            state = {
                "config": json.dumps(self.config.to_dict()),
                "step": self.step,
                "seconds": self.seconds,
                "next_validation": self.next_validation,
                "model": dict(self.step_module.state_dict()),
                "average": dict(self.average.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "crops": self.crops.state_dict(),
            }
            checkpoint.save(self.folder, self.step, state)

    def _load(self, state: Mapping[str, Any]) -> None:
        try:
            self.step_module.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, ValueError, RuntimeError) as err:
            raise ConfigError(f"the checkpoint is of another model, objective or version: {err}") from err
        self.crops.load_state_dict(state["crops"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.next_validation = float(state.get("next_validation", math.inf))  # older checkpoints lack it


def train(
    config: TrainConfig | None,
    folder: Path,
    *,
    minutes: float | None = None,
    resume: bool = False,
    data: Path | None = None,
    device: str = "auto",
) -> Path:
    """Train a model, or go on with the run in `folder`; returns the path of the model.

    With `resume` the run's own configuration counts unless another is given. Under torchrun every process
    calls this. Raises ConfigError for a configuration, folder or checkpoint that cannot be used.
    """
    if not resume and checkpoint.checkpoints(folder):
        raise ConfigError(f"{folder} holds a run already: resume it, or choose another folder")
    if not resume and (folder / MODEL).exists():
        raise ConfigError(f"{folder} holds a model already: choose another folder")
    state = checkpoint.load(folder, set_aside=True) if resume else None
    if config is None:
        if state is None:
            raise ConfigError("a configuration is needed to begin a run")
        config = parse(json.loads(state["config"]))
    config = config.given(minutes=minutes, data=data)
    folder.mkdir(parents=True, exist_ok=True)
    with joined(device) as chosen, checkpoint.alone(folder) if is_first() else nullcontext():
        trainer = Trainer(config, folder, chosen, state)
        if trainer.is_over and minutes is not None:
            raise ConfigError(
                f"the run has trained for {trainer.seconds / 60:.2f} minutes already, and --minutes counts from its "
                "beginning: give more than that, or leave it out to go on as configured"
            )
        if is_first():
            write_whole(folder / "config.json", (json.dumps(config.to_dict(), indent=1) + "\n").encode())
        trainer.rewind(resumed=resume)
        path = trainer.run()
        if trainer.world > 1:
            dist.barrier()  # the first writes the model, and one that leaves early may take it along
        return path


def mean(runs: Sequence[Path], folder: Path, *, data: Path | None = None) -> Path:
    """Write the model whose weights are the mean of those of finished runs, with tables of its own; returns its path.

    Runs end beside the best weights, each elsewhere, and the mean of runs with a common beginning lies nearer. What
    counts for validation and tables is the configuration of the first. Raises ConfigError for runs that do not fit.
    """
    if checkpoint.checkpoints(folder) or (folder / MODEL).exists():
        raise ConfigError(f"{folder} holds a run already: choose another folder")
    states = [checkpoint.load(run) for run in runs]
    averages = [state["average"] for state in states]
    for run, average in zip(runs, averages, strict=True):
        if {k: v.shape for k, v in average.items()} != {k: v.shape for k, v in averages[0].items()}:
            raise ConfigError(f"{run} is of another structure than {runs[0]}, so their weights have no mean")
    configs = [parse(json.loads(state["config"])) for state in states]
    for run, config, state in zip(runs, configs, states, strict=True):
        if config.schedule.progress(state["step"], state["seconds"]) < 1:
            raise ConfigError(f"{run} is not finished: resume it first")
        if _aim(config) != _aim(configs[0]):
            raise ConfigError(f"{run} was trained for another distortion or other levels than {runs[0]}")
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoint.alone(folder):
        trainer = Trainer(configs[0].given(data=data), folder, "cpu", states[0])
        together = {name: torch.stack([average[name] for average in averages]) for name in averages[0]}
        trainer.average.load_state_dict({name: tensors.mean(dim=0) for name, tensors in together.items()})
        trainer.rewind(resumed=False)  # it may have been killed
        trainer.validate()
        return trainer.finish()


def _aim(config: TrainConfig) -> tuple[dict[str, float], list[int]]:
    """What a model is trained for: its distortion, and the levels that it knows."""
    groups = len(model_config(config.model).stages)
    objective = build(config.objective.name, config.objective.params, groups=groups, seed=config.run.seed)
    return dict(objective.shares), list(objective.rho.levels)
