"""The commands of `python -m hvcodec_benchmarks`: each step of the benchmark alone, and `all` of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from . import (
    context,
    designs,
    efforts,
    paths,
    regions,
    response,
    run,
    sheet,
    speed,
    stages,
    store,
    target_study,
    targeted,
    training,
)
from .codecs import Codec, Unavailable, catalogue
from .pictures import Sample, find, set_name
from .progress import Reporter
from .workers import crew_of

F = TypeVar("F", bound=Callable[..., Any])


def images_option(function: F) -> F:
    """`--images`, given once or more often."""
    option = click.option(
        "--images",
        "places",
        multiple=True,
        type=click.Path(exists=True, path_type=Path),
        help="Pictures, or a folder of them; by default the Kodak pictures of the shared folder.",
    )
    return option(function)


def codecs_option(function: F) -> F:
    """`--codec`, given once or more often."""
    option = click.option("--codec", "names", multiple=True, help="A codec, or the beginning of its name.")
    return option(function)


def workers_option(function: F) -> F:
    """`--workers`, by default as many as there are cores."""
    option = click.option(
        "--workers", type=click.IntRange(min=1), help="Pictures coded side by side; one for each core if unsaid."
    )
    return option(function)


class Work:
    """What every command begins with: the pictures, where their results go, and who tells the reader."""

    def __init__(self, places: Sequence[Path]) -> None:
        places = list(places) or [paths.shared_dir() / "kodak"]
        self.samples: list[Sample] = find(places)
        self.folder = paths.results_dir() / set_name(places)
        self.page = Path(f"bench-{self.folder.name}.html")
        self.reporter = Reporter()

    def codecs(self, names: Sequence[str]) -> tuple[list[Codec], list[Unavailable]]:
        """The codecs chosen, or all; those that cannot run are said so."""
        found = run.choose(names or list(catalogue()))
        for entry in found[1]:
            self.reporter.say(f"{entry.title}: not available, {entry.reason}")
        return found


@click.group()
def main() -> None:
    """Measure hvcodec beside other codecs: real files, cached row by row, one report."""


@main.command("codecs")
def list_codecs() -> None:
    """List the codecs, and why some cannot run here."""
    for entry in catalogue().values():
        known = entry.reason if isinstance(entry, Unavailable) else entry.version
        click.echo(f"{entry.name:<26}{entry.title:<34}{known}")


@main.command()
@images_option
@codecs_option
@workers_option
def rd(places: tuple[Path, ...], names: tuple[str, ...], workers: int | None) -> None:
    """Rate-distortion curves."""
    work = Work(places)
    chosen, _ = work.codecs(names)
    with crew_of(work.samples, workers) as crew:
        run.curves(work.samples, chosen, work.folder, work.reporter, crew)


@main.command()
@images_option
@click.option("--pictures", default=run.SURFACE_PICTURES, show_default=True, help="How many of the set.")
@workers_option
def allocation(places: tuple[Path, ...], pictures: int, workers: int | None) -> None:
    """Surfaces over the allocation of rate, and the rate-distortion plane in nats."""
    work = Work(places)
    with crew_of(work.samples, workers) as crew:
        run.surfaces(work.samples, work.folder, work.reporter, pictures, crew)


@main.command()
@images_option
def calibrate(places: tuple[Path, ...]) -> None:
    """Compare our JPEG and WebP with the published curves."""
    work = Work(places)
    run.agreement(work.samples, work.folder, work.reporter)


@main.command("speed")
@images_option
@click.option("--megapixels", multiple=True, type=click.Choice([str(mp) for mp in speed.MEGAPIXELS]))
@click.option("--limit", default=speed.LIMIT_S, show_default=True, help="Longest measurement in seconds.")
def measure_speed(places: tuple[Path, ...], megapixels: tuple[str, ...], limit: float) -> None:
    """Times and memory from 0.4 to 100 megapixels; leave the machine alone meanwhile."""
    sizes = [mp for mp in speed.MEGAPIXELS if not megapixels or str(mp) in megapixels]
    run_speed(Work(places), sizes, limit)


@main.command("stages")
@images_option
@click.option("--training-run", type=click.Path(exists=True, file_okay=False, path_type=Path))
def measure_stages(places: tuple[Path, ...], training_run: Path | None) -> None:
    """Where hvcodec's time goes, and the crops per second of a training run."""
    run_stages(Work(places), training_run)


@main.command("context")
@images_option
def measure_context(places: tuple[Path, ...]) -> None:
    """What context inside a layer saves."""
    work = Work(places)
    with work.reporter.bar("Context", len(context.RHOS) * len(work.samples)) as tick:
        store.write(store.study_path(work.folder, context.STUDY), context.measure(work.samples, tick))


@main.command("targets")
@images_option
@click.option("--profile", "profiles", multiple=True, default=target_study.PROFILES, show_default=True)
def measure_targets(places: tuple[Path, ...], profiles: tuple[str, ...]) -> None:
    """Targets of every kind on every picture: whether they are met, and in how many encodes."""
    work = Work(places)
    with work.reporter.bar("Targets", target_study.count(work.samples, profiles)) as tick:
        cache = run.cache_of(work.folder, target_study.STUDY)
        study = target_study.run(work.samples, work.folder, cache, tick, profiles)
    for row in study["summary"]:
        work.reporter.say(
            f"{row['profile']}, {row['kind']}: {row['met']} of {row['asked']} met, {row['out_of_reach']} out of reach, "
            f"{row['median_encodes']:g} encodes in the median, {row['most_encodes']} at most"
        )


@main.command("response")
@images_option
def measure_response(places: tuple[Path, ...]) -> None:
    """What steps of single groups do to their bytes, and the estimated against the real rate."""
    work = Work(places)
    with work.reporter.bar("Response", response.count(work.samples, 5)) as tick:
        study = response.run(work.samples, work.folder, tick)
    work.reporter.say(", ".join(f"{name} {value}" for name, value in study["summary"].items()))


@main.command("efforts")
@images_option
@click.option("--pictures", default=efforts.PICTURES, show_default=True, help="How many of the set.")
@click.option("--effort", "chosen", multiple=True, type=click.IntRange(2, 9), help="Beside 1; 3, 5, 7, 9 if unnamed.")
def measure_efforts(places: tuple[Path, ...], pictures: int, chosen: tuple[int, ...]) -> None:
    """What effort is worth in bytes at equal quality, and in time."""
    work = Work(places)
    levels = (1, *chosen) if chosen else efforts.EFFORTS
    with work.reporter.bar("Efforts", efforts.count(work.samples, pictures, levels)) as tick:
        cache = run.cache_of(work.folder, efforts.STUDY)
        study = efforts.run(work.samples, work.folder, cache, tick, pictures=pictures, efforts=levels)
    for row in study["summary"]:
        work.reporter.say(", ".join(f"{name} {value}" for name, value in row.items()))


@main.command("regions")
@images_option
def measure_regions(places: tuple[Path, ...]) -> None:
    """A region of interest: what it gains at equal bytes."""
    work = Work(places)
    with work.reporter.bar("Regions", regions.count(work.samples)) as tick:
        study = regions.run(work.samples, work.folder, run.cache_of(work.folder, regions.STUDY), tick)
    for row in study["summary"]:
        work.reporter.say(", ".join(f"{name} {value}" for name, value in row.items()))


@main.command("sheet")
@images_option
@click.option("--bpp", default=0.25, show_default=True, help="Bits per pixel of every picture.")
@click.option("--out", default="sheet.webp", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def draw_sheet(places: tuple[Path, ...], bpp: float, out: Path) -> None:
    """Crops side by side: the original, and the profiles at equal bytes."""
    work = Work(places)
    with work.reporter.bar("Sheet", min(sheet.PICTURES, len(work.samples))) as tick:
        sheet.draw(work.samples, bpp, out, tick)
    work.reporter.say(f"written: {out}")


@main.command("training")
@click.option("--model", default="default", show_default=True, help="Structure that is trained: default or tiny.")
@click.option("--batch", "batches", multiple=True, type=click.IntRange(min=1), default=training.BATCHES)
@click.option("--threads", multiple=True, type=click.IntRange(min=1), default=training.THREADS)
@click.option("--steps", default=10, show_default=True, type=click.IntRange(min=1), help="Timed, for each row.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="Fuse small operations first, as run.compile does.")
def measure_training(
    model: str, batches: tuple[int, ...], threads: tuple[int, ...], steps: int, device: str, compiled: bool
) -> None:
    """Crops per second of training, and where the time goes; leave the machine alone meanwhile."""
    on_gpu = training.chosen(device) == "cuda"
    target = paths.results_dir() / (training.FILE_CUDA if on_gpu else training.FILE)
    with Reporter().bar("Training", len(batches) * len(threads)) as tick:
        training.run(
            target,
            model=model,
            batches=batches,
            threads=threads,
            steps=steps,
            device=device,
            compiled=compiled,
            tick=tick,
        )


@main.command("designs")
@click.option(
    "--design", "names", multiple=True, type=click.Choice(list(designs.DESIGNS)), help="All if none is named."
)
@click.option("--minutes", default=20.0, show_default=True, help="Time for each of them.")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Pictures or shards.")
@click.option("--out", default="runs/designs", show_default=True, type=click.Path(path_type=Path), help="Their runs.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
def measure_designs(
    names: tuple[str, ...], minutes: float, data: Path | None, out: Path, device: str, threads: int | None
) -> None:
    """Structures and ways to train, compared at equal time; leave the machine alone meanwhile."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    chosen = names or tuple(designs.DESIGNS)
    with Reporter().bar("Designs", len(chosen)) as tick:
        designs.run(
            paths.results_dir() / designs.FILE, out, chosen, minutes=minutes, data=data, device=device, tick=tick
        )


@main.command("targeted")
@click.option("--run", "names", multiple=True, type=click.Choice(list(targeted.RUNS)), help="All if none is named.")
@click.option("--minutes", default=8.0, show_default=True, help="Time for each of them.")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Pictures or shards.")
@click.option("--out", default="runs/targeted", show_default=True, type=click.Path(path_type=Path), help="Their runs.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="cpu", show_default=True)
def train_to_targets(names: tuple[str, ...], minutes: float, data: Path | None, out: Path, device: str) -> None:
    """Training to a given distortion or rate: what validation pictures get."""
    chosen = names or tuple(targeted.RUNS)
    with Reporter().bar("Targeted", len(chosen)) as tick:
        target = paths.results_dir() / targeted.FILE
        targeted.run(target, out, chosen, minutes=minutes, data=data, device=device, tick=tick)


@main.command()
@images_option
@codecs_option
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The page to write.")
def report(places: tuple[Path, ...], names: tuple[str, ...], out: Path | None) -> None:
    """The report page of what has been measured."""
    work = Work(places)
    run.page(work.samples, work.folder, out or work.page, *work.codecs(names), work.reporter)


@main.command("all")
@images_option
@codecs_option
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The page to write.")
@workers_option
def everything(places: tuple[Path, ...], names: tuple[str, ...], out: Path | None, workers: int | None) -> None:
    """All of it, unattended; what was measured before is not measured again."""
    work = Work(places)
    chosen, unavailable = work.codecs(names)
    with crew_of(work.samples, workers) as crew:
        run.curves(work.samples, chosen, work.folder, work.reporter, crew)
        run.surfaces(work.samples, work.folder, work.reporter, crew=crew)
    run.agreement(work.samples, work.folder, work.reporter)
    if store.read_study(work.folder, speed.STUDY) is None:
        run_speed(work, speed.MEGAPIXELS, speed.LIMIT_S)
    if store.read_study(work.folder, stages.STUDY) is None:
        run_stages(work, None)
    run.page(work.samples, work.folder, out or work.page, chosen, unavailable, work.reporter)


def run_speed(work: Work, sizes: Sequence[float], limit_s: float) -> None:
    """The speed study of what can run here."""
    entries = catalogue()
    others = [variant for variant in speed.OTHERS if not isinstance(entries[variant.codec], Unavailable)]
    own = () if isinstance(entries[run.SURFACE_CODEC], Unavailable) else speed.HVCODEC
    variants = [*own, *others]
    with work.reporter.bar("Speed", len(variants) * len(sizes)) as tick:
        speed.run(work.samples, work.folder, variants, sizes, tick, limit_s=limit_s)


def run_stages(work: Work, training_run: Path | None) -> None:
    """The stages study, if there is a model."""
    entry = catalogue()[run.SURFACE_CODEC]
    if isinstance(entry, Unavailable):
        work.reporter.say(f"Stages: left out, {entry.reason}")
        return
    stages.run(work.samples, work.folder, training_run)
