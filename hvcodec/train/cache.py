"""One packed cache of all training pictures, so that a crop costs a copy and not a decode.

    folder of pictures ──┐
                         ├── pack() ──► cache folder: index.json + pixels-<fingerprint>.bin ──► Cache.open()
    folder of shards ────┘

A shard (see `shards`) counts as the pictures inside it, so a folder of shards that travelled to
another machine is packed like the folder it was made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvcodec import image
from hvcodec.errors import ConfigError, ImageError
from hvcodec.files import PICTURE_SUFFIXES, lock
from hvcodec.picture import as_rgb8

from .config import DRAWINGS, LOG

log = logging.getLogger(__name__)

SUFFIXES = PICTURE_SUFFIXES | {
    *(".mpo", ".j2c", ".jpc", ".jpf"),
    *(".heic", ".jxl"),  # not read, but they have a part in the fingerprints of caches and runs that exist
}
"""Files that are taken for pictures: one that cannot be read is counted, with the reason."""

_OTHER_FORMATS = frozenset(
    {".tga", ".pcx", ".dds", ".dib", ".pfm", ".exr", ".hdr", ".heif", ".hif", ".avifs", ".svg", ".eps", ".xcf"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef"}
)
"""Pictures too, which are counted and not opened; files that end otherwise are no pictures."""

SHARD_SUFFIX = ".shard.zip"
INDEX = "index.json"
_VERSION = 1
_NAMED_IN_MESSAGE = 5
_NO_FILE = "it is a link to what is not there, or no regular file"
_FOLDER_LINK = "it is a link to a folder: put a folder there, or name the other with --data"
_NO_TEXT = "its name is not UTF-8: rename it"
_OTHER_FORMAT = "hvcodec does not read this format: save it as PNG"


@dataclass(frozen=True)
class Member:
    """A picture where it lies: a file of its own, or inside a shard."""

    path: Path
    inside: zipfile.ZipInfo | None = None

    def read(self) -> bytes:
        """Return the bytes of the picture; raises OSError or BadZipFile."""
        if self.inside is None:
            return self.path.read_bytes()
        return _opened(self.path, self.path.stat().st_mtime_ns).read(self.inside)

    def digest(self) -> bytes:
        """Tell the picture from others by its bytes."""
        try:
            return hashlib.sha256(self.read()).digest()
        except (OSError, zipfile.BadZipFile):
            return b"unreadable"


@lru_cache(maxsize=1)
def _opened(shard: Path, changed: int) -> zipfile.ZipFile:
    """The shard that was read last, kept open: its directory takes long to read where it lists many small pictures."""
    return zipfile.ZipFile(shard)


Members = dict[str, Member]
LeftOut = dict[str, list[str]]  # names of pictures by the reason

READ_ERRORS = (ImageError, OSError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Cache:
    """The pictures of a cache folder, memory-mapped; picture i starts at pixel `offsets[i]`."""

    pixels: NDArray[np.uint8]  # (P, 3) uint8, all pictures one after the other, rows first
    names: tuple[str, ...]
    offsets: NDArray[np.int64]  # (M,) int64, in pixels
    heights: NDArray[np.int64]  # (M,) int64
    widths: NDArray[np.int64]  # (M,) int64
    fingerprint: str

    @classmethod
    def open(cls, folder: Path) -> Cache:
        """Map a cache written by `pack`; raises ConfigError if it is missing or damaged."""
        try:
            index = json.loads((folder / INDEX).read_text("utf-8"))
            if index["version"] != _VERSION:
                raise ConfigError(f"{folder} is a cache of another version; pack the pictures again")
            rows = index["pictures"]
            heights = np.array([row["height"] for row in rows], dtype=np.int64)
            widths = np.array([row["width"] for row in rows], dtype=np.int64)
            ends = np.cumsum(heights * widths)
            pixels = np.memmap(folder / index["file"], dtype=np.uint8, mode="r", shape=(int(ends[-1]), 3))
            names = tuple(row["name"] for row in rows)
            return cls(pixels, names, ends - heights * widths, heights, widths, index["fingerprint"])
        except (OSError, ValueError, KeyError, IndexError, TypeError) as err:
            raise ConfigError(f"{folder} is not a readable cache of pictures: {err}") from err

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Return one picture as a read-only view (H, W, 3)."""
        height, width = int(self.heights[index]), int(self.widths[index])
        start = int(self.offsets[index])
        return self.pixels[start : start + height * width].reshape(height, width, 3)


def pack(folder: Path, cache_dir: Path, *, min_side: int = 256) -> Path:
    """Decode every picture of a folder (or of the shards in it) once into a packed uint8 cache.

    A cache that already holds the same pictures is left as it is. What cannot be read or has a side below
    `min_side` is left out and counted in one warning, with the reasons; ConfigError when nothing is left.
    """
    members, left_out = find_pictures(folder)
    fingerprint = _fingerprint(members, min_side)
    _remove_abandoned(cache_dir)
    if _is_current(cache_dir, fingerprint):
        return cache_dir
    cache_dir.mkdir(parents=True, exist_ok=True)
    target = cache_dir / f"pixels-{fingerprint[:16]}.bin"
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            with contextlib.suppress(OSError):  # a file system without locks, where nothing is ever removed
                lock(file)
            rows = _decode_into(file, members, min_side, left_out)
        if not rows:
            raise ConfigError(f"no usable picture in {folder}:{describe(left_out)}")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    if left_out:
        log.warning("packed %d pictures of %s; left out:%s", len(rows), folder, describe(left_out))
    index = {
        "version": _VERSION,
        "fingerprint": fingerprint,
        "file": target.name,
        "pictures": rows,
        "left_out": left_out,
    }
    _write_text(cache_dir / INDEX, json.dumps(index, indent=0))
    for stale in cache_dir.glob("pixels-*.bin"):
        if stale != target:
            stale.unlink(missing_ok=True)
    return cache_dir


def find_pictures(folder: Path) -> tuple[Members, LeftOut]:
    """Map the name of every picture below a folder to where it lies, sorted by name, and tell what is left out.

    Raises ConfigError if there is none, or if two different pictures have the same name.
    """
    if not folder.is_dir():
        raise ConfigError(f"the data folder {folder} does not exist")
    members: Members = {}
    left_out: LeftOut = {}
    for path in sorted(folder.rglob("*")):
        if _is_passed_over(path, folder):
            continue
        for name, member in _pictures_at(path, folder, left_out):
            _add(members, name, member)
    if not members:
        looked_for = f"looked for {' '.join(sorted(SUFFIXES))} and {SHARD_SUFFIX}"
        raise ConfigError(f"no pictures in {folder}: {looked_for}{describe(left_out)}")
    return dict(sorted(members.items())), left_out


def _is_passed_over(path: Path, folder: Path) -> bool:
    """Whether a path is hidden, or a plot of a run that lies among the pictures."""
    is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return is_hidden or (path.suffix == ".png" and path.stem in DRAWINGS and (path.parent / LOG).is_file())


def _pictures_at(path: Path, folder: Path, left_out: LeftOut) -> list[tuple[str, Member]]:
    """The picture that a path below a folder is, or those in the shard that it is; there may be none."""
    if path.name.endswith(SHARD_SUFFIX):
        return _shard_members(path)
    suffix, is_folder = path.suffix.lower(), os.path.isdir(path)
    if not (path.is_symlink() if is_folder else suffix in SUFFIXES | _OTHER_FORMATS):
        return []
    name = path.relative_to(folder).as_posix()
    plain = name.encode(errors="backslashreplace").decode()
    if is_folder:
        reason = _FOLDER_LINK
    elif plain != name:
        reason = _NO_TEXT
    elif suffix not in SUFFIXES:
        reason = _OTHER_FORMAT
    elif not os.path.isfile(path):
        reason = _NO_FILE
    else:
        return [(name, Member(path))]
    leave_out(left_out, plain, reason)
    return []


def _add(members: Members, name: str, member: Member) -> None:
    """Add a picture; the same one may be there already, as a file beside its shard or in two shards."""
    other = members.setdefault(name, member)
    if other is not member and other.digest() != member.digest():
        raise ConfigError(
            f"two different pictures are called {name}, one of {other.path} and one of {member.path}: "
            "keep one of them, or rename its file (and make its shards again)"
        )


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a compressed picture to uint8 RGB (H, W, 3), without its alpha; raises ImageError."""
    return as_rgb8(image.read(data).pixels)


def _shard_members(path: Path) -> list[tuple[str, Member]]:
    if not os.path.isfile(path):  # a pipe would never end
        raise ConfigError(f"{path} is not a whole shard: {_NO_FILE}; fetch it again, or remove it")
    try:
        with zipfile.ZipFile(path) as shard:
            inside = shard.infolist()
    except (OSError, zipfile.BadZipFile) as err:
        raise ConfigError(f"{path} is not a whole shard: {err}; fetch it again") from err
    return [(info.filename, Member(path, info)) for info in inside if Path(info.filename).suffix.lower() in SUFFIXES]


def _fingerprint(members: Members, min_side: int) -> str:
    # Content, not dates: the same pictures on another machine continue the same sequence of crops.
    digest = hashlib.sha256(f"{_VERSION} {min_side}".encode())
    for name, member in members.items():
        digest.update(f"\n{name}\n".encode())
        digest.update(member.digest())
    return digest.hexdigest()


def _is_current(cache_dir: Path, fingerprint: str) -> bool:
    try:
        return Cache.open(cache_dir).fingerprint == fingerprint
    except ConfigError:
        return False


def _remove_abandoned(cache_dir: Path) -> None:
    """Remove the unfinished files of processes that were killed, hundreds of megabytes each."""
    for path in cache_dir.glob("pixels-*.tmp"):
        # A failure means that it is being written: by a lock, or on Windows because it is open.
        with contextlib.suppress(OSError):
            with path.open("r+b") as file:
                lock(file)
            path.unlink()


def _decode_into(file: io.BufferedWriter, members: Members, min_side: int, left_out: LeftOut) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, member in members.items():
        try:
            pixels = decode(member.read())
        except READ_ERRORS as err:
            leave_out(left_out, name, err)
            continue
        height, width = pixels.shape[:2]
        if min(height, width) < min_side:
            leave_out(left_out, name, f"a side is below {min_side} pixels")
            continue
        file.write(np.ascontiguousarray(pixels).data)
        rows.append({"name": name, "height": height, "width": width})
    return rows


def leave_out(left_out: LeftOut, name: str, reason: str | Exception) -> None:
    """Note that a picture is not taken, because of an error or for a reason in words."""
    words = reason if isinstance(reason, str) else _in_words(reason)
    left_out.setdefault(words, []).append(name)


def _in_words(err: Exception) -> str:
    """Say what is wrong with a picture in words that are the same for all with which it is wrong."""
    if isinstance(err, zipfile.BadZipFile):
        return "its shard is damaged: fetch that again"
    if isinstance(err, OSError):
        return f"its file cannot be read: {err.strerror}"
    return re.sub(r" \(.*\)", "", str(err), flags=re.DOTALL)  # details of one file stand in brackets


def describe(left_out: LeftOut) -> str:
    """List what is left out, a line for each reason."""
    lines = []
    for reason, names in left_out.items():
        more = ", ..." if len(names) > _NAMED_IN_MESSAGE else ""
        lines.append(f"\n  {len(names)} ({', '.join(names[:_NAMED_IN_MESSAGE])}{more}): {reason}")
    return "".join(lines)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)
