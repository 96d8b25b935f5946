"""The hvcodec command: loads its commands when they are asked for, and gives every failure its exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from hvcodec import ConfigError, DesyncError, FormatError, ImageError, ModelError, TargetError
from hvcodec.memory import keep_freed_memory

from .failures import Reported, UsageFailure, debug_option, sentence, wants_debug

EXIT_CODES: Mapping[type[Exception], int] = {
    ImageError: 3,
    FormatError: 4,
    DesyncError: 5,
    ModelError: 6,
    TargetError: 7,
    ConfigError: 8,
}
UNEXPECTED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
_WRONG_PATHS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
_WRONG_NAMES = {errno.ELOOP, errno.ENAMETOOLONG}  # which Python has no classes for


@dataclass(frozen=True)
class Lazy:
    """A command that is imported when it is called, so that the others start without what it needs."""

    target: str  # "module:command"
    help: str
    extra: str | None = None  # of the package, which brings what the command needs beyond the runtime

    @property
    def is_present(self) -> bool:
        """Whether this installation has the command."""
        try:
            return find_spec(self.target.partition(":")[0]) is not None
        except ModuleNotFoundError:  # the package around it
            return False

    def load(self) -> click.Command:
        """Import the command."""
        module, _, name = self.target.partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


COMMANDS: Mapping[str, Lazy] = {
    "compress": Lazy("hvcodec_cli.compress:compress", "Compress pictures to .hvc files."),
    "decompress": Lazy("hvcodec_cli.decompress:decompress", "Decompress .hvc files to pictures."),
    "info": Lazy("hvcodec_cli.info:info", "Show what a .hvc file says of itself.", extra="bench"),
    "models": Lazy("hvcodec_cli.models:models", "List the models that are installed, with ids and profiles."),
    "profiles": Lazy(
        "hvcodec_cli.models:profiles",
        "List the rate profiles: what each is for and what it measured.",
    ),
    "profile": Lazy("hvcodec_cli.profile:profile", "Make rate profiles.", extra="bench"),
    "train": Lazy("hvcodec_cli.train:train", "Train a model on a folder of pictures.", extra="train"),
    "mean": Lazy("hvcodec_cli.train:mean", "Make a model of the mean weights of several runs.", extra="train"),
    "shards": Lazy("hvcodec_cli.train:shards", "Put a folder of pictures into files of bounded size.", extra="train"),
    "bench": Lazy("hvcodec_cli.bench:bench", "Measure hvcodec against other codecs.", extra="bench"),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports only the one that is called."""

    def __init__(self, *args: Any, commands_by_name: Mapping[str, Lazy] = COMMANDS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.by_name = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands that this installation has."""
        return [name for name, lazy in self.by_name.items() if lazy.is_present]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        try:
            return self.by_name[cmd_name].load()
        except ModuleNotFoundError as err:
            raise self._lacking(cmd_name, err) or err from err

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands in the help, made without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.by_name[name].help) for name in self.list_commands(ctx)])

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments, which is also where click answers --help and --version of the group."""
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError:
            _silence_stdout()
            raise click.exceptions.Exit(BROKEN_PIPE) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever it raises becomes a sentence on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise  # click shows these, and its usage errors exit with 2
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _silence_stdout()
            ctx.exit(BROKEN_PIPE)
        except Exception as err:
            if wants_debug(ctx):
                traceback.print_exception(err)
            failure = self._lacking(ctx.invoked_subcommand, err) or err
            if not isinstance(failure, Reported):
                click.echo(f"Error: {sentence(failure)}", err=True)
            ctx.exit(exit_code(failure))

    def _lacking(self, command: str | None, err: Exception) -> UsageFailure | None:
        """What to install, if a command could not find what one of the extras brings."""
        lazy = self.by_name.get(command or "")
        extra = None if lazy is None else lazy.extra
        if not isinstance(err, ModuleNotFoundError) or extra is None or str(err.name).startswith("hvcodec"):
            return None
        return UsageFailure(f"this needs {err.name}, which is not installed: pip install 'hvcodec[{extra}]'")


def exit_code(err: Exception) -> int:
    """The one map from failures to exit codes."""
    if isinstance(err, Reported):
        return exit_code(err.first)
    if isinstance(err, click.ClickException):
        return err.exit_code
    if isinstance(err, _WRONG_PATHS) or (isinstance(err, OSError) and err.errno in _WRONG_NAMES):
        return USAGE
    return next((code for kind, code in EXIT_CODES.items() if isinstance(err, kind)), UNEXPECTED)


def _silence_stdout() -> None:
    """Point stdout nowhere: its reader has gone, and Python would complain when it flushes at exit."""
    with suppress(io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hvcodec", prog_name="hvcodec", message="%(prog)s %(version)s")
@debug_option
def cli() -> None:
    """A learned image codec: pictures to small .hvc files and back."""


def main() -> None:
    """Entry point of the hvcodec command."""
    keep_freed_memory()
    cli(prog_name="hvcodec")


if __name__ == "__main__":
    main()
