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
BF16_FLAGS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}
"""What Linux calls the units of x86 processors for bfloat16, fastest first: training times differ severalfold."""

CODEC_LIBRARIES = ("libjpeg_turbo", "jpg_2000", "webp", "avif")


def environment() -> dict[str, Any]:
    """Describe this machine and this moment; every result file carries one of these."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cpu_bf16": cpu_bf16(),
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
    return _cpuinfo("model name") or platform.processor() or "unknown"


def cpu_bf16() -> list[str]:
    """The processor's units for bfloat16, as far as the system tells."""
    flags = _cpuinfo("flags").split()
    return [name for flag, name in BF16_FLAGS.items() if flag in flags]


def _cpuinfo(key: str) -> str:
    """What Linux says of the first processor, or nothing."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


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
