"""What a command tells its user: sentences on stderr, one JSON object per input on stdout, a progress bar."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from .failures import debug_option

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

F = TypeVar("F", bound=Callable[..., Any])


class Reporter:
    """Speaks to the user as loudly as asked."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False, as_json: bool = False) -> None:
        self.quiet, self.verbose, self.as_json = quiet, verbose, as_json
        self._print: Callable[[str], None] = functools.partial(click.echo, err=True)

    def say(self, text: str) -> None:
        """One line for people; silent with --quiet."""
        if not self.quiet:
            self._print(text)

    def detail(self, text: str) -> None:
        """One line for people who asked for more."""
        if self.verbose:
            self._print(text)

    def failure(self, text: str) -> None:
        """One line that is never suppressed."""
        self._print(f"Error: {text}")

    def result(self, fields: Mapping[str, object]) -> None:
        """One line for programs, with --json."""
        if self.as_json:
            click.echo(to_json(fields))

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[], None]]:
        """A progress bar for several steps, on a terminal only; the body calls what it gets after each."""
        if total < 2 or self.quiet or not is_terminal(sys.stderr):
            yield lambda: None
            return
        from rich.progress import MofNCompleteColumn

        with self._progress(MofNCompleteColumn()) as progress:
            task = progress.add_task(label, total=total)
            yield lambda: progress.advance(task)

    @contextmanager
    def gauge(self, label: str) -> Iterator[Callable[[float], None]]:
        """A progress bar for one long step, on a terminal only; the body tells it how much is done (0..1)."""
        if self.quiet or not is_terminal(sys.stderr):
            yield lambda done: None
            return
        from rich.progress import TaskProgressColumn

        with self._progress(TaskProgressColumn()) as progress:
            task = progress.add_task(label, total=1.0)
            yield lambda done: progress.update(task, completed=done)

    @contextmanager
    def _progress(self, count: ProgressColumn) -> Iterator[Progress]:
        """Bars that sentences appear above of."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
        before, self._print = self._print, lambda text: console.out(text, highlight=False)
        try:
            with Progress(*columns, console=console, transient=True) as progress:
                yield progress
        finally:
            self._print = before


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether somebody sees this stream; None is one that was closed when Python started."""
    return stream is not None and stream.isatty()


def to_json(fields: Mapping[str, object], **layout: Any) -> str:
    """JSON that every program reads: what is not finite becomes null."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}
    return json.dumps(finite, allow_nan=False, **layout)


def reporting(command: F) -> F:
    """Add --json, -q, -v and --debug to a command, which gets them as `report`."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object per input on stdout.")
    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
    @click.option("-v", "--verbose", is_flag=True, help="Say more.")
    @debug_option
    @functools.wraps(command)
    def wrapper(*args: Any, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
        return command(*args, report=Reporter(quiet=quiet, verbose=verbose, as_json=as_json), **kwargs)

    return wrapper  # type: ignore[return-value]
