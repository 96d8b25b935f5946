"""One codec, one picture, one process: what `speed` starts for every measurement.

`encode` reads a picture and writes a file, `decode` reads the file and makes the picture, as a command would;
how long the whole process takes is measured from outside. With repeats the work is done again in the warm
process, and the times are printed as JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click
from PIL import Image

from hvcodec.memory import keep_freed_memory

from .codecs import Codec, Unavailable, reference_codecs

Dtype = Literal["float32", "bfloat16"]


@click.command()
@click.argument("work", type=click.Choice(["encode", "decode"]))
@click.argument("name")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--threads", default=1, show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--repeats", default=0, show_default=True, help="Times to do it again, warm.")
@click.option("--limit", default=15.0, show_default=True, help="Seconds after which repeating stops.")
def main(
    work: str, name: str, source: Path, target: Path, threads: int, dtype: Dtype, repeats: int, limit: float
) -> None:
    """Encode or decode SOURCE into TARGET with the codec NAME, and print the seconds that it took."""
    pin(threads)
    Image.MAX_IMAGE_PIXELS = None  # our own pictures, up to 100 megapixels
    codec = codec_named(name, threads, dtype)
    task = encoding(codec, source, target) if work == "encode" else decoding(codec, source, target)
    begun = time.perf_counter()
    times = [task()]
    while len(times) <= repeats and time.perf_counter() - begun < limit:
        times.append(task())
    warm = times[1:] or times
    said = {"first_s": times[0], "warm_s": statistics.median(warm), "runs": len(times), "peak_mb": peak_mb()}
    json.dump(said, sys.stdout)


def peak_mb() -> float:
    """The largest resident set of this process so far, in megabytes.

    Linux keeps the peak of the program that started us in `ru_maxrss`, so its own line is read instead.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def pin(threads: int) -> None:
    """Keep the process on as many cores as it has threads, where the system lets us."""
    if hasattr(os, "sched_getaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def codec_named(name: str, threads: int, dtype: Dtype) -> Codec:
    """The codec by its name; of hvcodec only the plain variant is loaded, to start as its command does."""
    if name == "hvcodec":
        import torch

        from .adapter import EqualRho

        torch.set_num_threads(threads)
        keep_freed_memory()  # as our command does
        return EqualRho(dtype=dtype)
    entry = next((entry for entry in reference_codecs() if entry.name == name), None)
    if entry is None or isinstance(entry, Unavailable):
        raise click.UsageError(f"{name} cannot run here")
    return entry


def encoding(codec: Codec, source: Path, target: Path) -> Callable[[], float]:
    """Encode at the middle of the codec's curve and keep the file; the task returns its own seconds."""
    with Image.open(source) as opened:
        image = opened.convert("RGB")
    quality = codec.settings[len(codec.settings) // 2]

    def task() -> float:
        start = time.perf_counter()
        data = codec.encode(image, quality)
        seconds = time.perf_counter() - start
        target.write_bytes(data)
        return seconds

    return task


def decoding(codec: Codec, source: Path, target: Path) -> Callable[[], float]:
    """Decode a file and keep the size of its picture."""
    data = source.read_bytes()

    def task() -> float:
        start = time.perf_counter()
        image = codec.decode(data)
        seconds = time.perf_counter() - start
        target.write_text(f"{image.width}x{image.height}")
        return seconds

    return task


if __name__ == "__main__":
    main()
