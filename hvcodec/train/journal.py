"""What a run tells on its way: a log of JSON lines for programs, a progress bar for people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from hvcodec.files import write_whole

from .plots import read_log

Show = Callable[[float, str], None]
"""Shows the part of the run that is over (0..1), and a few words."""


class Journal:
    """Log and progress bar of a run; mute on every rank but the first."""

    def __init__(self, path: Path, *, mute: bool) -> None:
        self.path, self.mute = path, mute

    def rewind(self, step: int, *, validates: bool = False) -> None:
        """Forget what was written after a step, its validation if the run does that again, and the tables of an end."""

        def stays(row: Mapping[str, Any]) -> bool:
            at, kind = row.get("step", 0), row.get("kind")
            return kind != "tables" and (at < step or (at == step and not (validates and kind == "validation")))

        if not self.mute and self.path.exists():
            kept = [_as_line(row) for row in read_log(self.path) if stays(row)]
            write_whole(self.path, "".join(kept).encode())

    def write(self, kind: str, step: int, seconds: float, row: Mapping[str, Any]) -> None:
        """Add a line to the log. Tensors are read here, which makes the host wait for the device."""
        if not self.mute:
            line = {"step": step, "seconds": round(seconds, 2), "kind": kind, **row}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_as_line(line))

    @contextmanager
    def bar(self) -> Iterator[Show]:
        """A progress bar on stderr while the context lasts."""
        columns = (TextColumn("training"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True), disable=self.mute) as progress:
            task = progress.add_task("", total=1.0)
            yield lambda done, words: progress.update(task, completed=done, description=words)


def _as_line(row: Mapping[str, Any]) -> str:
    return json.dumps({name: _plain(value) for name, value in row.items()}, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it, which knows no number that is not finite: null stands for it."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
