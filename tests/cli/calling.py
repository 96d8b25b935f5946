"""How the tests of the command line call it, and what they look at afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Hvcodec = Callable[..., Result]
Process = Callable[..., "subprocess.CompletedProcess[bytes]"]


def names(folder: Path) -> list[str]:
    """Every file in a folder and below, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
