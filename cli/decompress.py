"""hvcodec decompress: .hvc files to pictures."""

from __future__ import annotations

import time
from typing import Any

import click

from hvcodec import inspect
from hvcodec.container import MAX_PIXELS

from .jobs import HVC_SUFFIX, Job, plan, run
from .options import Engine, engine_options
from .report import Reporter, reporting

DEFAULT_FORMAT = "png"


def _read_format(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Read the ending of a file name, with or without its dot."""
    if value is not None and not value.removeprefix(".").isalnum():
        raise click.BadParameter(f"{value!r} is not the ending of a file name such as png")
    return value


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--output", metavar="OUT", help="File, folder, or - for standard output.")
@click.option(
    "--format",
    "wanted",
    callback=_read_format,
    metavar="EXT",
    help="png, jpg, webp, ...  [default: as OUT ends, or png]",
)
@click.option("--max-layers", type=click.IntRange(min=0), metavar="K", help="Stop after K layers.")
@click.option("--partial", is_flag=True, help="Accept files that were cut short.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=MAX_PIXELS, show_default=True, metavar="N")
@click.option("--force", is_flag=True, help="Replace outputs that exist.")
@engine_options("Name or path of the model.  [default: the one that the file names]")
@reporting
def decompress(
    inputs: tuple[str, ...],
    output: str | None,
    wanted: str | None,
    max_layers: int | None,
    partial: bool,
    max_pixels: int,
    force: bool,
    engine: Engine,
    report: Reporter,
) -> None:
    """Decompress .hvc files to pictures.

    IN is a .hvc file, a folder (all .hvc files in it and below), or - for standard input. Without -o,
    photo.hvc becomes photo.png beside it.
    """
    suffix = f".{(wanted or DEFAULT_FORMAT).removeprefix('.')}"
    jobs = plan(inputs, output, accept=frozenset({HVC_SUFFIX}), suffix=suffix, as_json=report.as_json)
    formats = {job: _format(job, wanted) for job in jobs}
    _check_formats(set(formats.values()))

    def work(job: Job) -> dict[str, Any]:
        from hvcodec import image

        data = job.read()
        codec = engine.codec_for(data, partial=partial, max_pixels=max_pixels)
        start = time.perf_counter()
        picture = codec.decode(data, max_layers=max_layers, partial=partial, max_pixels=max_pixels)
        time_s = time.perf_counter() - start
        job.write(image.encode(picture, formats[job]), force=force)
        return _tell(report, job, data, max_layers, image.left_out(picture, formats[job]), time_s)

    run(jobs, work, report, force=force)


def _format(job: Job, wanted: str | None) -> str:
    if wanted is None and job.target is not None:
        return job.target.suffix or DEFAULT_FORMAT
    return wanted or DEFAULT_FORMAT


def _check_formats(formats: set[str]) -> None:
    """Refuse a format that does not exist before anything is decoded."""
    import numpy as np

    from hvcodec import Picture, image

    for name in formats:
        image.encode(Picture(np.zeros((1, 1), np.uint8)), name)


def _tell(
    report: Reporter, job: Job, data: bytes, max_layers: int | None, left_out: list[str], time_s: float
) -> dict[str, Any]:
    """Say what became of a file; the fields are for --json."""
    info = inspect(data)
    n_layers = len(info.layers)
    decoded = min(info.layers_present, n_layers if max_layers is None else max_layers)
    bpp = 8 * len(data) / (info.width * info.height)  # of the bytes that are here
    less = "" if decoded == n_layers else f", {decoded} of {n_layers} layers"
    if lost := [*info.extras_missing, *left_out]:
        less += f", without {', '.join(lost)}"
    report.say(
        f"{job.source_name} -> {job.target_name}: {info.width} x {info.height}, {bpp:.3f} bpp, {time_s:.2f} s{less}"
    )
    report.detail(f"  model {info.model or '?'} ({info.model_id}), rho {','.join(map(str, info.rho))}")
    return {
        "width": info.width,
        "height": info.height,
        "n_bytes": len(data),
        "bpp": bpp,
        "rho": list(info.rho),
        "model_id": info.model_id,
        "layers": decoded,
        "n_layers": n_layers,
        "extras_missing": list(info.extras_missing),
        "left_out": left_out,
        "time_s": time_s,
    }
