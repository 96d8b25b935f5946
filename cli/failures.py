"""Failures of the command line: what was asked wrongly, and one sentence for everything that can go wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from hvcodec import HVCodecError

F = TypeVar("F", bound=Callable[..., Any])

# torch has no class of its own for it on a CPU.
_NO_MEMORY = re.compile("can't allocate memory|not enough memory|out of memory")

_DEBUG = "hvcodec.debug"  # in the context of click, which all commands of one call share


class UsageFailure(click.ClickException):
    """The command was asked for something that it will not do; the sentence says why, and what to do."""

    exit_code = 2


class Reported(Exception):  # noqa: N818 - not an error of its own
    """Some inputs failed and the user was told; `first` decides the exit code."""

    def __init__(self, first: Exception) -> None:
        super().__init__(str(first))
        self.first = first


def debug_option(command: F) -> F:
    """Add --debug, which may stand before or after the name of a command."""

    def note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta[_DEBUG] = value or wants_debug(ctx)

    return click.option(
        "--debug", is_flag=True, expose_value=False, callback=note, help="Show the traceback of a failure."
    )(command)


def wants_debug(ctx: click.Context) -> bool:
    """Whether --debug was given."""
    return bool(ctx.meta.get(_DEBUG, False))


def sentence(err: Exception) -> str:
    """One sentence about a failure, for people who do not read Python."""
    if isinstance(err, click.ClickException):
        return err.format_message()
    if isinstance(err, OSError) and err.strerror:
        return err.strerror if err.filename is None else f"{err.filename}: {err.strerror}"
    if isinstance(err, HVCodecError):
        return str(err)
    if isinstance(err, MemoryError) or (isinstance(err, RuntimeError) and _NO_MEMORY.search(str(err))):
        return "there is not enough memory for this"
    return f"unexpected {type(err).__name__} ({err}): run it with --debug and report what that shows"
