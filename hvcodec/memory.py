"""What a process does with the memory that it has freed."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of mallopt, see malloc.h
_AHEAD = 1 << 26


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones; says whether that is possible here.

    glibc gives large blocks back to the system at once and fetches them anew, cleared page by page: a third of
    the time of a large picture. The price is a larger peak, by about a fifth. It is for programs whose work is
    to code pictures, such as our own command, and works with glibc (most of Linux) only.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another libc; on Windows there is no such handle
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _AHEAD))
    return all(mallopt(name, value) for name, value in settings)
