"""Draws where the bytes of a file went; needs matplotlib, which the runtime does without."""

from __future__ import annotations

import io

from hvcodec import Info

from .failures import UsageFailure


def draw(info: Info, title: str, suffix: str) -> bytes:
    """A bar for every layer, coarse to fine, and for what else the file holds, as a picture file."""
    from matplotlib.figure import Figure

    parts = [(f"{layer.index}\n1:{layer.stride or '?'}", layer.n_bytes) for layer in info.layers]
    parts += [(name, size) for name, size in info.extras.items()]
    parts.append(("header", info.header_bytes))
    labels, sizes = [label for label, _ in parts], [size for _, size in parts]
    figure = Figure(figsize=(1.6 + 0.62 * len(parts), 3.6), layout="constrained")
    axes = figure.add_subplot()
    n_layers = len(info.layers)
    colours = ["#3b6ea5"] * n_layers + ["#9a9a9a"] * (len(parts) - n_layers)
    bars = axes.bar(range(len(parts)), sizes, color=colours)
    axes.bar_label(bars, [f"{100 * size / info.n_bytes:.1f}%" for size in sizes], fontsize=8, padding=2)
    axes.set_xticks(range(len(parts)), labels, fontsize=8)
    axes.set_xlabel("layer, coarse to fine, and its stride")
    axes.set_ylabel("bytes")
    axes.margins(y=0.12)
    per_pixel = axes.twinx()
    low, high = axes.get_ylim()
    per_pixel.set_ylim(8 * low / (info.width * info.height), 8 * high / (info.width * info.height))
    per_pixel.set_ylabel("bits per pixel")
    rho = ",".join(map(str, info.rho))
    axes.set_title(f"{title}: {info.n_bytes:,} bytes, {info.bpp:.3f} bpp, ρ {rho}", fontsize=9, parse_math=False)
    kind = suffix.removeprefix(".").lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise UsageFailure(f"a plot cannot be written as {suffix!r}: name a .png, .svg or .pdf file")
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=150)
    return out.getvalue()
