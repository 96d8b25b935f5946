"""hvcodec train, mean and shards: from a folder of pictures to a model, here or on another machine."""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path

import click

from .failures import UsageFailure, debug_option
from .options import threads_option

RUNS = Path("runs")


@click.command()
@click.argument("config", required=False, metavar="CONFIG")
@click.option("--out", type=click.Path(path_type=Path), metavar="RUN", help="Folder.  [default: runs/CONFIG]")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), metavar="M", help="Time for the run.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with a run.")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Pictures, or shards of them.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@threads_option
@debug_option
def train(
    config: str | None,
    out: Path | None,
    minutes: float | None,
    resume: Path | None,
    data: Path | None,
    device: str,
    threads: int | None,
) -> None:
    """Train a model on a folder of pictures.

    CONFIG is a TOML file, or the name of one that comes with hvcodec: toy (a minute, to see it work), default,
    or perceptual. With --resume it may be left out: the run remembers its own, and --minutes counts from the
    beginning of the run. Under torchrun every process takes its share of each batch.
    """
    if config is None and resume is None:
        raise UsageFailure("name a configuration to begin a run (try: hvcodec train toy), or --resume RUN")
    if resume is not None and out is not None:
        raise UsageFailure("--resume goes on in the folder of the run, so --out has no say: leave one out")
    import torch

    from hvcodec.train import config as configs
    from hvcodec.train.loop import train as run

    if threads is not None:
        torch.set_num_threads(threads)
    settings = None if config is None else configs.load(configs.find(config))
    folder = resume or out or RUNS / Path(str(config)).stem
    model = run(settings, folder, minutes=minutes, resume=resume is not None, data=data, device=device)
    if int(os.environ.get("RANK", "0")) == 0:
        click.echo(f"model: {model}")
        click.echo(f"plots: {folder / 'loss.png'}, rates.png, distortion.png; log: {folder / 'log.jsonl'}")
        click.echo(_use(model))


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN...")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Folder of the mean.")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Pictures, or shards of them.")
@threads_option
@debug_option
def mean(runs: tuple[Path, ...], out: Path, data: Path | None, threads: int | None) -> None:
    """Make a model of the mean weights of several runs.

    They need a common beginning: one that went on from the other, or both from the same model. The frequency tables are
    fitted anew.
    """
    if len(runs) < 2:
        raise UsageFailure("a mean needs two runs or more: name the folder of each")
    import torch

    from hvcodec.train.loop import mean as run

    if threads is not None:
        torch.set_num_threads(threads)
    model = run(runs, out, data=data)
    click.echo(f"model: {model}")
    click.echo(_use(model))


def _use(model: Path) -> str:
    """How to use a model, to be pasted into a shell; Windows takes slashes too, which need no quotes."""
    return f"use:   hvcodec compress --model {shlex.quote(model.as_posix())} PICTURE"


def _in_bytes(_: click.Context, __: click.Parameter, megabytes: float) -> int:
    if not math.isfinite(megabytes * 1e6):
        raise click.BadParameter(f"{megabytes} is not a size in megabytes, such as 60")
    return int(megabytes * 1e6)


@click.command()
@click.argument("source", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.option(
    "--megabytes",
    "max_bytes",
    type=click.FloatRange(min=0, min_open=True),
    callback=_in_bytes,
    metavar="MB",
    default=60.0,
    show_default=True,
    help="The largest size of a file.",
)
@click.option(
    "--codec",
    type=click.Choice(["original", "png", "webp", "jpeg"]),
    default="original",
    show_default=True,
    help="Recode the pictures for a machine that cannot read them as they are.",
)
@click.option("--force", is_flag=True, help="Replace all shards that OUT holds.")
@debug_option
def shards(source: Path, out: Path, max_bytes: int, codec: str, force: bool) -> None:
    """Put a folder of pictures into files of bounded size.

    The shards travel one by one; a folder of them is as good for hvcodec train --data as the pictures.
    """
    from hvcodec.train.data import shards as write

    for path in write(source, out, max_bytes=max_bytes, codec=codec, force=force):
        click.echo(f"{path}  {path.stat().st_size:,} bytes")
