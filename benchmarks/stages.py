"""Where hvcodec's time goes: analysis, prior, entropy coder, synthesis; and the crops per second of training.

The stages are told apart by timing the calls of the coder inside the exact part, and the exact part inside
the whole; this is the one benchmark that looks below the public API.
"""

from __future__ import annotations

import json
import pkgutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

from . import store
from .adapter import EqualRho
from .environment import environment
from .pictures import Sample

STUDY = "stages"
STAGES = ("analysis", "prior", "coder", "synthesis")
EXACT = {"codec.Codec": ("encode_symbols", "decode_symbols")}
CODER = {
    "entropy.LayerEncoder": ("encode", "encode_linked", "chunk"),
    "entropy.LayerDecoder": ("decode", "decode_linked", "finish"),
    "codec.Codec": ("_linked",),  # not Pass.of_plane, which analysis calls too
    "trellis.Pass": ("fitted",),
}
RHOS = (16, 32, 48)
REPEATS = 5


class Stopwatch:
    """Adds up the seconds inside wrapped calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


@contextmanager
def watched() -> Iterator[tuple[Stopwatch, Stopwatch]]:
    """Time the exact part of the codec and, inside it, the entropy coder, while the context lasts."""
    exact, coder = Stopwatch(), Stopwatch()
    with ExitStack() as patches:
        for watch, holders in ((exact, EXACT), (coder, CODER)):
            for path, names in holders.items():
                holder = pkgutil.resolve_name(f"hvcodec.{path}")
                for name in names:
                    timed = watch.around(getattr(holder, name))
                    patches.enter_context(mock.patch.object(holder, name, timed))
        yield exact, coder


def run(samples: Sequence[Sample], folder: Path, training_run: Path | None = None) -> dict[str, Any]:
    """Measure the stages on the first picture of the set, model loaded, and write the study."""
    image = samples[0].load()
    document = {
        "study": STUDY,
        "environment": environment(),
        "picture": {"name": samples[0].name, "width": image.width, "height": image.height},
        "stages": list(STAGES),
        "runs": [run for rho in RHOS for run in stages_of(image, rho)],
        "crops_per_s": crops_per_s(training_run) if training_run else None,
    }
    store.write(store.study_path(folder, STUDY), document)
    return document


def stages_of(image: Image.Image, rho: int) -> list[dict[str, Any]]:
    """Median seconds of each stage of encoding and of decoding one picture, all groups at one rho."""
    codec = EqualRho()
    data = codec.encode(image, rho)
    encode = _split(lambda: codec.encode(image, rho))
    decode = _split(lambda: codec.decode(data))
    # What is left beside the exact part is analysis when encoding, synthesis when decoding. An analysis in a trellis
    # asks the prior itself, and the exact part goes by that.
    return [
        {"title": f"Encode, ρ {rho}", "times_s": [encode[2], encode[0], encode[1], 0.0]},
        {"title": f"Decode, ρ {rho}", "times_s": [0.0, decode[0], decode[1], decode[2]]},
    ]


def _split(task: Callable[[], object]) -> list[float]:
    """Median seconds of prior, coder and the rest of a task, after one run to warm up."""
    times: list[tuple[float, float, float]] = []
    for _ in range(REPEATS + 1):
        with watched() as (exact, coder):
            start = time.perf_counter()
            task()
            total = time.perf_counter() - start
        times.append((exact.seconds - coder.seconds, coder.seconds, total - exact.seconds))
    return [round(statistics.median(column), 5) for column in zip(*times[1:], strict=True)]


def crops_per_s(run: Path) -> float:
    """Crops per second of a training run, from its log: the median over the log's intervals."""
    batch = json.loads((run / "config.json").read_text(encoding="utf-8"))["run"]["batch"]
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    marks = [(row["step"], row["seconds"]) for row in rows]
    steps = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(marks) if b[1] > a[1] and b[0] > a[0]]
    return float(round(batch * statistics.median(steps), 2))
