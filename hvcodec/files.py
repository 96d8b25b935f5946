"""Which files are pictures; writing so that nobody ever sees half of one; locks where only one process may write."""

from __future__ import annotations

import contextlib
import errno
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


def write_whole(path: str | os.PathLike[str], data: bytes, *, replace: bool = True) -> None:
    """Write a file whole or not at all, with the permissions that the umask gives.

    Raises OSError (FileNotFoundError, PermissionError, a full disk) and then leaves what was there before. An old
    file is replaced, or a FileExistsError without `replace`.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as device:  # a pipe or /dev/null must not be replaced by a file
            device.write(data)
        return
    target = os.path.realpath(path)  # a link stays a link
    temporary = os.path.join(os.path.dirname(target), f".hvcodec-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        if replace:
            os.replace(temporary, target)
        else:
            _rename(temporary, target)
    except OSError as err:
        if err.errno is None:
            raise
        # Name the file that was asked for, not the temporary one.
        raise OSError(err.errno, err.strerror, os.fspath(path)) from err
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _rename(temporary: str, target: str) -> None:
    """Give a file its name, unless another has it, also since a moment ago."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as err:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from err
        os.replace(temporary, target)


def lock(file: IO[bytes]) -> None:
    """Keep other processes from locking a file until it is closed, also by a kill.

    Raises BlockingIOError if another process has it, another OSError where the file system knows no locks.
    """
    # Not the number of the process: a folder may be shared by machines, each with numbers of its own.
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
