"""The machine and the versions that a measurement was made with."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from PIL import features

from . import paths

PACKAGES = (
    "hvcodec",
    "torch",
    "numpy",
    "constriction",
    "pillow",
    "pillow-heif",
    "pillow-jxl-plugin",
)
CODEC_LIBRARIES = ("libjpeg_turbo", "jpg_2000", "webp", "avif")


def environment() -> dict[str, Any]:
    """Describe this machine and this moment; every result file carries one of these."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": cores(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "gpu": gpu_name(),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
        "libraries": {name: features.version(name) for name in CODEC_LIBRARIES if features.check(name)},
    }


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The memory of this machine, where the system tells."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


@contextmanager
def one_thread() -> Iterator[None]:
    """torch uses one thread while the context lasts: sums in another order would give other files."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def package_version(name: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def gpu_name() -> str | None:
    """The CUDA device's name, if torch is loaded already (looking must not cost an import of torch)."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())


def commit() -> str | None:
    """The git commit of the checkout, with `+` if files differ from it; None outside a checkout."""
    root = paths.checkout()
    if root is None:
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()
