"""Shards: files of bounded size that carry pictures to another machine, one by one.

A shard is a ZIP file without further compression. It holds compressed pictures under their own names, the
MANIFEST.tsv with their licences if there is one, and `shard.json`, which says what it is; each can be read
without the others. `pack` takes a folder of shards like a folder of pictures.
"""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath

from hvcodec import image
from hvcodec.errors import ConfigError, ImageError
from hvcodec.train.cache import SHARD_SUFFIX, decode, find_pictures

log = logging.getLogger(__name__)

MANIFEST = "MANIFEST.tsv"
_ABOUT = "shard.json"
_ZIP_END = 22  # bytes of the end record of a ZIP file
_ZIP_MEMBER = 30 + 46  # bytes of the two headers of a member, without its name, which stands in both
_ABOUT_LIMIT = 300  # bytes allowed for shard.json

CODECS = ("original", "png", "webp", "jpeg")


def shards(folder: Path, out_dir: Path, *, max_bytes: int = 60_000_000, codec: str = "original") -> list[Path]:
    """Write the pictures of a folder into shards of at most `max_bytes` and return their paths.

    `codec` "original" keeps the files as they are; "png", "webp" (both lossless) and "jpeg" (quality 95,
    4:4:4) recode them for machines whose Pillow cannot read the originals; a.jpg then becomes a.jpg.png.
    Raises ConfigError when one picture alone is too large for a shard.
    """
    if codec not in CODECS:
        raise ConfigError(f"unknown shard codec {codec!r}; there are {', '.join(CODECS)}")
    out_dir.mkdir(parents=True, exist_ok=True)
    manifest = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).is_file() else b""
    fixed = _ZIP_END + _member_bytes(_ABOUT, _ABOUT_LIMIT) + _member_bytes(MANIFEST, len(manifest))
    written: list[Path] = []
    pending: list[tuple[str, bytes]] = []
    room = max_bytes - fixed
    for name, data in _recoded(folder, codec):
        n_bytes = _member_bytes(name, len(data))
        if n_bytes > max_bytes - fixed:
            raise ConfigError(f"{name} takes {n_bytes} bytes and fits into no shard of {max_bytes}")
        if n_bytes > room:
            written.append(_write(out_dir, len(written), pending, manifest, codec))
            pending, room = [], max_bytes - fixed
        pending.append((name, data))
        room -= n_bytes
    if pending:
        written.append(_write(out_dir, len(written), pending, manifest, codec))
    if not written:
        raise ConfigError(f"no readable picture in {folder}")
    return written


def _recoded(folder: Path, codec: str) -> Iterator[tuple[str, bytes]]:
    unreadable = 0
    pictures = find_pictures(folder)
    for name, read in pictures.items():
        if codec == "original":
            yield name, read()
            continue
        try:
            data = image.encode(image.from_array(decode(read())), codec)
        except ImageError:
            unreadable += 1
            continue
        yield _renamed(name, f".{codec}", pictures), data
    if unreadable:
        log.warning("left out %d unreadable pictures of %s", unreadable, folder)


def _renamed(name: str, suffix: str, others: Container[str]) -> str:
    """The name of a picture after recoding; a.jpg and a.webp must not both become a.png."""
    if PurePosixPath(name).suffix.lower() == suffix:
        return name
    name += suffix
    while name in others:  # a folder with a.jpg may hold a.jpg.png too
        name += suffix
    return name


def _write(out_dir: Path, index: int, members: list[tuple[str, bytes]], manifest: bytes, codec: str) -> Path:
    path = out_dir / f"pictures-{index:04d}{SHARD_SUFFIX}"
    about = {"shard": index, "codec": codec, "pictures": len(members), "version": 1}
    # Fixed dates make equal pictures equal shards.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr(zipfile.ZipInfo(_ABOUT), json.dumps(about))
        if manifest:
            file.writestr(zipfile.ZipInfo(MANIFEST), manifest)
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data)
    return path


def _member_bytes(name: str, n_bytes: int) -> int:
    return _ZIP_MEMBER + 2 * len(name.encode()) + n_bytes
