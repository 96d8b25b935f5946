"""hvcodec bench: one's own pictures, coded by hvcodec and by other codecs, and a page that compares them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .failures import UsageFailure
from .options import usage
from .report import Reporter, reporting

if TYPE_CHECKING:
    from hvcodec_benchmarks.codecs import Unavailable

# Codecs that Pillow has from a package of the extra. One that lacks is an error: a comparison without what
# was asked for would look complete.
PACKAGES = {"jxl-e7": "pillow_jxl", "heic": "pillow_heif"}


def _read_names(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """Read names such as hvcodec,avif-s4, given once or more often."""
    names = [name.strip() for value in values for name in value.split(",")]
    if "" in names:
        raise click.BadParameter("a name is empty: give names such as hvcodec,avif-s4")
    return names


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="IMAGES...")
@click.option(
    "--codecs",
    "--codec",
    "names",
    multiple=True,
    callback=_read_names,
    metavar="NAME,...",
    help="Codecs, or the beginnings of their names.  [default: hvcodec and the common formats]",
)
@click.option(
    "--report",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("hvcodec-bench.html"),
    show_default=True,
    metavar="OUT.html",
    help="The page to write.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("hvcodec-bench"),
    show_default=True,
    metavar="DIR",
    help="The folder that keeps what is measured.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pictures coded side by side.  [default: one for each core, as memory allows]",
)
@click.option("--force", is_flag=True, help="Replace a file at OUT.html that is no such page.")
@reporting
def bench(
    images: Sequence[Path],
    names: list[str],
    page: Path,
    out: Path,
    workers: int | None,
    force: bool,
    report: Reporter,
) -> None:
    """Measure hvcodec against other codecs.

    IMAGES are pictures, or folders of them. Every codec writes real files at several qualities; the page shows
    rate-distortion curves and the pictures at equal bytes. What is measured is kept: a run that was stopped
    goes on where it was, and a second one takes seconds.
    """
    from hvcodec_benchmarks import pictures, run
    from hvcodec_benchmarks.report import is_report

    if page.exists() and not force and not is_report(page):
        raise UsageFailure(f"{page} exists and is no page of this command: say --force, or name another with --report")
    samples = usage(lambda: pictures.find(images))
    _check_names([sample.name for sample in samples])
    chosen, unavailable = usage(lambda: run.choose(names))
    for entry in unavailable:
        _check_installed(entry)
        report.say(f"{entry.title}: left out, {entry.reason}")
    if not chosen:
        raise UsageFailure("none of these codecs can run here: name others with --codecs")
    run.bench(images, names, page, keep=out, reporter=report, workers=workers)
    report.result(
        {
            "report": str(page),
            "out": str(out),
            "pictures": [sample.name for sample in samples],
            "codecs": [codec.name for codec in chosen],
            "unavailable": {entry.name: entry.reason for entry in unavailable},
        }
    )


def _check_names(names: Sequence[str]) -> None:
    """Rows are told apart by the names of their pictures."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UsageFailure(f"{count} of the pictures are called {name}: name each once, or measure them in two runs")


def _check_installed(entry: Unavailable) -> None:
    """Fail if a codec cannot run because the model or a package lacks; other reasons are only told."""
    if entry.name.startswith("hvcodec"):
        from hvcodec import Codec

        Codec(device="cpu")  # a ModelError that says more than the reason
    package = PACKAGES.get(entry.name)
    if package is not None and find_spec(package) is None:
        raise UsageFailure(
            f"{entry.title} needs {package}, which is not installed: pip install 'hvcodec[bench]', "
            "or name other codecs with --codecs"
        )
