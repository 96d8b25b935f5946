"""Benchmarks of hvcodec beside the codecs people use: real files, real bytes, one report.

`bench()` is the one call that a program needs; `python -m hvcodec_benchmarks --help` lists the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .run import bench

__all__ = ["bench"]


def __getattr__(name: str) -> Any:
    # Loaded at first use: the processes whose start is measured must not pay for what they do not need.
    if name == "bench":
        from .run import bench

        return bench
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
