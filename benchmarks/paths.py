"""Where benchmark results, cached rows and pictures live.

In a checkout the results are committed (`benchmarks/results`) and the cache lies beside them, ignored by
git. From an installed wheel both go to the user's cache folder: nothing is written into site-packages. What
is measured of a user's own pictures goes where `kept_in` says, and into neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
DATA = PACKAGE / "data"
PAGE = PACKAGE / "page"

_chosen: ContextVar[Path | None] = ContextVar("chosen", default=None)


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Results and cache lie in this folder while the context lasts."""
    token = _chosen.set(folder)
    try:
        yield
    finally:
        _chosen.reset(token)


def checkout() -> Path | None:
    """The root of the source checkout this package runs from, or None for an installed wheel."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "hvcodec").is_dir() else None


def user_cache() -> Path:
    """The user's own cache folder for benchmarks (XDG)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "hvcodec" / "benchmarks"


def _home() -> Path | None:
    """The folder that holds both results and cache, or None in a checkout, which has a place for each."""
    return _chosen.get() or (None if checkout() else user_cache())


def results_dir() -> Path:
    """The folder of result files, one folder per set of pictures below it."""
    return (_home() or PACKAGE) / "results"


def cache_dir() -> Path:
    """The folder of cached measurements; it carries its own .gitignore."""
    home = _home()
    folder = PACKAGE / ".cache" if home is None else home / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return folder


def shared_dir() -> Path:
    """The folder with the pictures beside the project (`HVCODEC_SHARED`, default `../shared`)."""
    named = os.environ.get("HVCODEC_SHARED")
    return Path(named) if named else PACKAGE.parent.parent / "shared"
