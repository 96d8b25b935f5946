"""How fast a model trains here: crops per second, where the time of a step goes, and the costliest kernels.

The trainer itself is run for a few steps, on the pictures of its toy configuration: how long a step takes does
not depend on them. Its parts are told apart by timing their calls, each without those inside it. Leave the
machine alone meanwhile.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from . import store
from .environment import environment

FILE, FILE_CUDA = "training.json", "training-cuda.json"
BATCHES, THREADS = (4, 8, 16), (1, 2)
WARM_UP, KERNELS = 3, 12
REST = "backward and the rest"
Row = dict[str, Any]


class Parts:
    """Adds up seconds by part; the time of a call inside another one counts for the inner one alone."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self.seconds: Counter[str] = Counter()
        self._wait, self._within, self._mark = wait, [REST], 0.0

    def turn(self) -> None:
        """Give the time since the last turn to the part that is running."""
        self._wait()
        now = time.perf_counter()
        self.seconds[self._within[-1]] += now - self._mark
        self._mark = now

    def start(self) -> None:
        """Begin to count."""
        self._wait()
        self.seconds.clear()
        self._mark = time.perf_counter()

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time given to a part."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.turn()
            self._within.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.turn()
                self._within.pop()

        return timed


@contextmanager
def watched(trainer: Any, parts: Parts) -> Iterator[None]:
    """Time the parts of a trainer's steps while the context lasts."""
    from hvcodec.model.prior import Follower

    model = trainer.step_module.model
    calls = [
        ("crops", trainer.crops, "at"),
        ("analysis", model.transform, "bottom_up"),
        ("synthesis", model.transform, "top_down"),
        ("prior", Follower, "follow"),
        ("rates", trainer.step_module, "bits"),
        ("optimizer", trainer.optimizer, "step"),
        ("averaging", trainer.optimizer, "average_into"),
    ]
    with ExitStack() as patches:
        for part, holder, name in calls:
            timed = parts.around(part, getattr(holder, name))
            patches.enter_context(mock.patch.object(holder, name, timed))
        yield


def run(
    target: Path,
    *,
    model: str = "default",
    crop: int = 256,
    batches: Sequence[int] = BATCHES,
    threads: Sequence[int] = THREADS,
    steps: int = 10,
    device: str = "auto",
    compiled: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure every batch with every number of threads and write the result file."""
    import torch

    before = torch.get_num_threads()
    rows: list[Row] = []
    kernels: list[Row] = []
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for count in threads:
                torch.set_num_threads(count)
                for batch in batches:
                    trainer, wait = start(Path(scratch), model, crop, batch, device, compiled)
                    rows.append({"batch": batch, "threads": count, **measure(trainer, steps, wait)})
                    kernels = kernels or costliest(trainer, batch)
                    tick()
    finally:
        torch.set_num_threads(before)
    document = {
        "study": "training",
        "environment": environment(),
        "model": model,
        "crop": crop,
        "bf16": True,
        "device": trainer.device.type,
        "compiled": compiled,
        "rows": rows,
        "kernels": kernels,
    }
    store.write(target, document)
    return document


def chosen(device: str) -> str:
    """What `auto` stands for here."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def start(
    folder: Path, model: str, crop: int, batch: int, device: str, compiled: bool
) -> tuple[Any, Callable[[], None]]:
    """A trainer that has made its first steps, and what waits for its device."""
    import torch

    from hvcodec.train import config
    from hvcodec.train.loop import Trainer

    recipe, toy = config.load(config.find("default")), config.load(config.find("toy"))
    settings = replace(
        recipe,
        model={"name": model},
        data=replace(recipe.data, folder=toy.data.folder),
        run=replace(recipe.run, batch=batch, crop=crop, bf16=True, compile=compiled),
    )
    trainer = Trainer(settings, folder, chosen(device))
    wait = torch.cuda.synchronize if trainer.device.type == "cuda" else lambda: None
    for _ in range(WARM_UP):
        trainer._train_step(1.0)
    return trainer, wait


def measure(trainer: Any, steps: int, wait: Callable[[], None]) -> Row:
    """Crops per second from the median step, and the mean milliseconds of each part in as many more steps."""
    times = []
    for _ in range(steps):
        wait()
        begun = time.perf_counter()
        trainer._train_step(1.0)
        wait()
        times.append(time.perf_counter() - begun)
    step_s = statistics.median(times)
    parts = Parts(wait)
    with watched(trainer, parts):
        parts.start()
        for _ in range(steps):
            trainer._train_step(1.0)
        parts.turn()
    return {
        "crops_per_s": round(trainer.config.run.batch / step_s, 2),
        "step_ms": round(1000 * step_s, 1),
        "parts_ms": {part: round(1000 * s / steps, 1) for part, s in parts.seconds.most_common()},
    }


def costliest(trainer: Any, batch: int) -> list[Row]:
    """The kernels that take most of a step, by the profiler: milliseconds, share, and number of calls."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = trainer.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        trainer._train_step(1.0)
    spent = [
        (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event)
        for event in profiler.key_averages()
    ]
    total = sum(us for us, _ in spent)
    largest = sorted(spent, key=lambda item: item[0], reverse=True)[:KERNELS]
    return [
        {
            "name": event.key,
            "batch": batch,
            "ms": round(us / 1000, 2),
            "share": round(us / total, 4),
            "calls": event.count,
        }
        for us, event in largest
    ]
