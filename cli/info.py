"""hvcodec info: what a .hvc file says of itself. Starts quickly: needs neither torch nor numpy."""

from __future__ import annotations

from pathlib import Path

import click

from hvcodec import Info, files, inspect

from .failures import UsageFailure, debug_option
from .jobs import Job
from .report import to_json


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--plot", metavar="OUT.png", help="Draw where the bytes went.")
@click.option("--force", is_flag=True, help="Replace a plot that exists.")
@debug_option
def info(file: str, as_json: bool, plot: str | None, force: bool) -> None:
    """Show what a .hvc file says of itself.

    Only the header is looked at, so the beginning of a file is enough; decompress tells whether the rest is sound.
    FILE may be - for standard input.
    """
    found = inspect(Job(None if file == "-" else Path(file), None).read())
    if plot is not None:
        _plot(found, file, Path(plot), force)
    click.echo(to_json({"input": file, **found.to_dict()}) if as_json else "\n".join(_lines(found)))


def _plot(found: Info, title: str, path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise UsageFailure(f"{path} exists: say --force to replace it, or name another with --plot")
    from .plot import draw

    files.write_whole(path, draw(found, click.format_filename(title), path.suffix or ".png"), replace=force)


def _lines(found: Info) -> list[str]:
    """The report for people."""
    colours = "grey" if found.is_grey else "RGB"
    digests = ", with digests" if found.has_digests else ""
    lines = [
        f"size    {found.width} x {found.height}, {found.depth}-bit {colours}",
        f"model   {found.model or 'not installed'} ({found.model_id})",
        f"rho     {','.join(map(str, found.rho))}",
        f"file    {found.n_bytes:,} bytes, {found.bpp:.4f} bpp{digests}",
    ]
    if found.n_bytes_present < found.n_bytes:
        lines.append(
            f"cut     {found.n_bytes_present:,} bytes are here: "
            f"{found.layers_present} of {len(found.layers)} layers are whole"
            + (f", without {', '.join(found.extras_missing)}" if found.extras_missing else "")
        )
    lines += ["", f"{'part':<10}{'stride':>8}{'bytes':>12}{'bpp':>10}{'share':>9}"]
    pixels = found.width * found.height

    def row(part: str, stride: int | None, n_bytes: int) -> str:
        share = 100 * n_bytes / found.n_bytes
        return f"{part:<10}{stride or '':>8}{n_bytes:>12,}{8 * n_bytes / pixels:>10.4f}{share:>8.1f}%"

    lines += [row(f"layer {layer.index}", layer.stride, layer.n_bytes) for layer in found.layers]
    lines += [row(name, None, size) for name, size in found.extras.items()]
    lines.append(row("header", None, found.header_bytes))
    return lines
