"""hvcodec compress: pictures to .hvc files."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from hvcodec import HVCodecError, ImageError
from hvcodec.files import PICTURE_SUFFIXES

from .failures import UsageFailure
from .jobs import HVC_SUFFIX, Job, plan, run
from .options import Engine, Spend, engine_options, rate_options, usage
from .report import Reporter, reporting

if TYPE_CHECKING:
    from hvcodec import Codec, Encoded, Picture
    from hvcodec.rate import Target


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--output", metavar="OUT", help="File, folder, or - for standard output.")
@rate_options
@click.option(
    "--effort",
    type=click.IntRange(0, 9),
    default=1,
    show_default=True,
    help="Smaller files for more time; from 2 on, Ctrl-C keeps the best so far of a single picture.",
)
@click.option(
    "--roi",
    metavar="MASK",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A grey picture of the same size: where it is white, errors count more.",
)
@click.option("--digests", is_flag=True, help="Let decoders notice a machine that computes differently.")
@click.option("--verify", is_flag=True, help="Decode the bytes and compare before they are written.")
@click.option("--force", is_flag=True, help="Replace outputs that exist.")
@engine_options("Name of a model or path of its weights; see hvcodec models.")
@reporting
def compress(
    inputs: tuple[str, ...],
    output: str | None,
    spend: Spend,
    effort: int,
    roi: Path | None,
    digests: bool,
    verify: bool,
    force: bool,
    engine: Engine,
    report: Reporter,
) -> None:
    """Compress pictures to .hvc files.

    IN is a picture, a folder (all pictures in it and below), or - for standard input. Without -o, photo.png
    becomes photo.hvc beside it.
    """
    jobs = plan(inputs, output, accept=PICTURE_SUFFIXES, suffix=HVC_SUFFIX, as_json=report.as_json)
    mask = None if roi is None else _read_mask(roi)  # before anything else: it is the same for every picture
    codec = engine.codec(spend.rate_profile)
    settings = {**spend.settings(codec), "effort": effort, "digests": digests}

    def work(job: Job) -> dict[str, Any]:
        from hvcodec import image

        picture = image.read(job.read() if job.source is None else job.source)
        start = time.perf_counter()
        with _refining(report, is_shown=effort > 1 and len(jobs) == 1) as go_on:
            roi_of_it = None if mask is None else _turned(mask, picture)
            encoded = usage(lambda: codec.compress(picture, **settings, roi=roi_of_it, go_on=go_on))
        time_s = time.perf_counter() - start
        if verify:
            _verify(codec, encoded)
        job.write(encoded.data, force=force)
        fields = {"width": picture.width, "height": picture.height, "time_s": time_s, "verified": verify}
        told = _tell(report, job, encoded, fields, settings.get("target"))
        report.detail(f"  model {codec.name} ({codec.model_id.hex()})")
        return {**fields, **told}

    run(jobs, work, report, force=force)


def _read_mask(path: Path) -> Any:
    """The grey values of a mask as it is displayed; colours are averaged."""
    from hvcodec import image

    try:
        pixels = image.as_displayed(image.read(path))
    except ImageError as err:
        raise ImageError(f"{path}: {err}") from err
    return pixels if pixels.ndim == 2 else pixels.mean(axis=2).astype(pixels.dtype)


def _turned(mask: Any, picture: Picture) -> Any:
    """The mask as the pixels of a picture are stored, whose viewers may turn it."""
    from hvcodec import image

    stored = image.as_stored(mask, picture)
    if stored.shape != picture.pixels.shape[:2]:
        (height, width), (rows, columns) = mask.shape, image.as_displayed(picture).shape[:2]
        raise UsageFailure(f"the mask is {width} x {height}, but the picture {columns} x {rows}: make one of its size")
    return stored


@contextmanager
def _refining(report: Reporter, *, is_shown: bool) -> Iterator[Callable[[float], bool]]:
    """Show how far a long encode is, and let the first Ctrl-C end it with the best so far."""
    is_main = threading.current_thread() is threading.main_thread()
    if not (is_shown and is_main) or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for a job of a script
        yield lambda done: True
        return
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, before)  # a second one ends the command
        report.say("interrupted: keeping the best so far")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with report.gauge("Refining") as show:

            def go_on(done: float) -> bool:
                show(done)
                return not interrupted

            yield go_on
    finally:
        signal.signal(signal.SIGINT, before)


def _verify(codec: Codec, encoded: Encoded) -> None:
    """Decode the bytes and compare with what the encoder expects of them."""
    import numpy as np

    found, expected = codec.decode(encoded.data), encoded.decoded()
    same_metadata = (found.icc, found.exif, found.xmp) == (expected.icc, expected.exif, expected.xmp)
    same_alpha = (found.alpha is None) == (expected.alpha is None) and (
        found.alpha is None or expected.alpha is None or np.array_equal(found.alpha, expected.alpha)
    )
    if not (same_metadata and same_alpha and np.array_equal(found.pixels, expected.pixels)):
        raise HVCodecError(
            "the compressed picture does not decode to what its encoder expects, so it was not written: "
            "try --device cpu, and report this"
        )


def _tell(
    report: Reporter, job: Job, encoded: Encoded, fields: dict[str, Any], target: Target | None
) -> dict[str, Any]:
    """Say what became of a picture; returns what was measured for it, for --json."""
    told = f"{encoded.n_bytes:,} bytes, {encoded.bpp:.3f} bpp, {fields['time_s']:.2f} s"
    measured: dict[str, Any] = {"n_bytes": encoded.n_bytes, "bpp": encoded.bpp, "rho": list(encoded.rho)}
    met = target is None or target.is_met(target.value(encoded))
    if report.as_json or report.verbose:  # costs a synthesis
        measured["psnr_db"] = encoded.psnr_db
        told += f", PSNR {encoded.psnr_db:.2f} dB, rho {','.join(map(str, encoded.rho))}"
        if target is not None:
            measured |= {"target": str(target), "reached": target.report(encoded), "met": met}
            told += f", {measured['reached']} for {target}"
    report.say(f"{job.source_name} -> {job.target_name}: {told}{', verified' if fields['verified'] else ''}")
    if target is not None and not met:
        report.say(f"  {target.report(encoded)} is the nearest to {target} that was found")
    return measured
