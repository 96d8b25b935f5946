"""Which input goes to which output, and the loop over them: a failure is told and the rest goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from hvcodec import files

from .failures import Reported, UsageFailure, sentence
from .report import Reporter, is_terminal

STREAM = "-"
HVC_SUFFIX = ".hvc"


@dataclass(frozen=True)
class Job:
    """One input and its output; None stands for standard input and standard output."""

    source: Path | None
    target: Path | None

    @property
    def source_name(self) -> str:
        return STREAM if self.source is None else str(self.source)

    @property
    def target_name(self) -> str:
        return STREAM if self.target is None else str(self.target)

    def read(self) -> bytes:
        """All bytes of the input."""
        if self.source is None:
            if sys.stdin is None:
                raise UsageFailure("standard input is closed: name a file")
            return sys.stdin.buffer.read()
        return self.source.read_bytes()

    def write(self, data: bytes, *, force: bool) -> None:
        """Write the output whole or not at all, into a folder that is made if need be; `force` replaces an old one."""
        if self.target is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        self.target.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(self.target, data, replace=force)


def plan(inputs: Sequence[str], output: str | None, *, accept: frozenset[str], suffix: str, as_json: bool) -> list[Job]:
    """Pair inputs with outputs; folders give the files in them (and below) whose names end as accepted.

    Without `output` the result lies beside its input. Raises UsageFailure for what cannot be meant.
    """
    if "" in inputs or output == "":  # to pathlib it would be the current folder
        raise UsageFailure("the name of a file is empty: give its name, or . for the current folder")
    found = list(_expand(inputs, accept))
    several = len(found) > 1 or any(root is not None for _, root in found)
    into = None if output in (None, STREAM) else Path(str(output))
    if into is not None and not several and not (into.is_dir() or str(output).endswith(("/", os.sep))):
        return [Job(found[0][0], into)]
    if into is not None and into.exists() and not into.is_dir():
        raise UsageFailure(f"{into} is a file, but several inputs need a folder: name one with -o")
    jobs = [Job(source, _target(source, root, output, into, accept, suffix)) for source, root in found]
    if any(job.target is None for job in jobs):
        _check_stream(jobs, as_json)
    return jobs


def _expand(inputs: Sequence[str], accept: frozenset[str]) -> Iterator[tuple[Path | None, Path | None]]:
    """Each input file, and the folder it was found through if it was."""
    if inputs.count(STREAM) > 1:
        raise UsageFailure("standard input can be read once only: give - once")
    for name in inputs:
        path = Path(name)
        if name == STREAM:
            yield None, None
        elif path.is_dir():
            inside = sorted(_inside(path, accept))
            kinds = ".hvc files" if accept == {HVC_SUFFIX} else "pictures"
            if not inside:
                raise UsageFailure(f"the folder {path} holds no {kinds}")
            yield from ((p, path) for p in inside)
        else:
            yield path, None


def _inside(root: Path, accept: frozenset[str]) -> Iterator[Path]:
    """Files of a folder and of those below, and folders that cannot be read; nothing hidden, no links to folders."""
    unreadable: list[Path] = []
    for folder, below, names in os.walk(root, onerror=lambda err: unreadable.append(Path(err.filename))):
        below[:] = [name for name in below if not name.startswith(".")]
        paths = [Path(folder, name) for name in names if not name.startswith(".")]
        # What a link that leads nowhere or a folder that cannot be entered hides is told when it is read.
        yield from (p for p in paths if p.suffix.lower() in accept and (os.path.isfile(p) or not os.path.exists(p)))
    yield from unreadable


def _target(
    source: Path | None, root: Path | None, output: str | None, into: Path | None, accept: frozenset[str], suffix: str
) -> Path | None:
    if output == STREAM or (source is None and output is None):
        return None
    if source is None:
        raise UsageFailure("standard input has no name to give to its output: take it alone, and name a file with -o")
    # scan.001 and scan.002 must not both become scan.hvc.
    named = source.with_suffix(suffix) if source.suffix.lower() in accept else source.with_name(source.name + suffix)
    if into is None:
        return named
    return into / (named.name if root in (None, source) else named.relative_to(root))


def _check_stream(jobs: Sequence[Job], as_json: bool) -> None:
    if len(jobs) > 1:
        raise UsageFailure("several outputs do not fit into standard output: name a folder with -o")
    if as_json:
        raise UsageFailure("standard output cannot take both the result and --json: name a file with -o")
    if sys.stdout is None:
        raise UsageFailure("standard output is closed: name a file with -o")
    if is_terminal(sys.stdout):
        raise UsageFailure("a terminal cannot show these bytes: redirect standard output or name a file")


def run(jobs: Sequence[Job], work: Callable[[Job], Mapping[str, object]], report: Reporter, *, force: bool) -> None:
    """Do every job and report what came out; raises Reported at the end if some failed."""
    first: Exception | None = None
    taken: dict[str, Job] = {}
    with report.bar(click.get_current_context().info_name or "", len(jobs)) as tick:
        for job in jobs:
            try:
                if job.source is not None and job.source.is_dir():
                    os.listdir(job.source)  # raises why nothing in it was found
                _check_target(job, taken, force)
                result = {"input": job.source_name, "output": job.target_name, **work(job)}
                if job.target is not None:
                    taken[os.path.realpath(job.target)] = job  # only now: an input that fails leaves its name to others
            except BrokenPipeError:
                raise
            except Exception as err:
                first = first or err
                told = sentence(err)
                report.failure(told if told.startswith(job.source_name) else f"{job.source_name}: {told}")
                result = {"input": job.source_name, "error": type(err).__name__, "message": told}
            report.result(result)
            tick()
    if first is not None:
        raise Reported(first) from first


def _check_target(job: Job, taken: Mapping[str, Job], force: bool) -> None:
    if job.target is None:
        return
    target = os.path.realpath(job.target)  # unlike pathlib it takes links that lead in a circle
    if target in taken:
        raise UsageFailure(f"{job.target} is already the output of {taken[target].source_name}")
    if job.source is not None and os.path.realpath(job.source) == target:
        raise UsageFailure("the output would replace the input: name another with -o")
    if job.target.is_file() and not force:
        raise UsageFailure(f"{job.target} exists: say --force to replace it, or name another with -o")
    if not os.path.exists(job.target):
        parents = job.target.absolute().parents
        check_folder(next(folder for folder in parents if os.path.exists(folder)), "name another with -o")


def check_folder(folder: Path, advice: str) -> None:
    """Refuse, before the long work, a folder where nothing can be written."""
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UsageFailure(f"{folder} is no folder that can be written to: {advice}")
