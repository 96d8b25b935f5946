"""Which files are pictures; writing so that nobody ever sees half of one; locks where only one process may write."""

from __future__ import annotations

import os
import secrets
import sys
from typing import IO

if sys.platform != "win32":
    import fcntl

PICTURE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".avif", ".bmp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".ico", ".psd", ".sgi", ".qoi"}
)
"""What the name of a picture ends in; whether it can be read its content tells."""


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all, with the permissions that the umask gives; an old one is replaced.

    Raises OSError (FileNotFoundError, PermissionError, a full disk) and then leaves what was there before.
    """
    target = os.path.realpath(path)  # a link stays a link
    if os.path.exists(target) and not os.path.isfile(target):
        with open(target, "wb") as device:  # a pipe or /dev/null must not be replaced by a file
            device.write(data)
        return
    temporary = os.path.join(os.path.dirname(target), f".hvcodec-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def lock(file: IO[bytes]) -> None:
    """Keep other processes from locking a file until it is closed, also by a kill.

    Raises BlockingIOError if another process has it, another OSError where the file system knows no locks.
    """
    # Not the number of the process: a folder may be shared by machines, each with numbers of its own.
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
