"""One progress bar for all long runs: what is done, how fast, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Tick = Callable[[], None]


class Reporter:
    """Shows bars on a terminal, and one line per finished task where there is none."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Tick]:
        """A bar of `total` steps; the body calls what it is given after each."""
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(label, total=total)
            yield lambda: progress.advance(task)
        if not self.console.is_terminal:
            self.say(f"{label}: {total} done")

    def say(self, text: str) -> None:
        """One line for the reader."""
        self.console.print(text, soft_wrap=True)
