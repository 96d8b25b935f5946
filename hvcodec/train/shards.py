"""Shards: files of bounded size that carry pictures to another machine, one by one.

A shard is a ZIP file without further compression. It holds compressed pictures under their own names, every
MANIFEST.tsv with their licences under its own, and `shard.json`, which says what it is; each can be read
without the others. `pack` takes a folder of shards like a folder of pictures.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import zipfile
from collections.abc import Container, Iterator, Mapping
from pathlib import Path, PurePosixPath

from hvcodec import image
from hvcodec.errors import ConfigError
from hvcodec.train.cache import READ_ERRORS, SHARD_SUFFIX, LeftOut, Members, decode, describe, find_pictures, leave_out

log = logging.getLogger(__name__)

MANIFEST = "MANIFEST.tsv"
_ABOUT = "shard.json"
_ZIP_END = 22  # bytes of the end record of a ZIP file
_ZIP_MEMBER = 30 + 46  # bytes of the two headers of a member, without its name, which stands in both
_ABOUT_LIMIT = 300  # bytes allowed for shard.json

# Not a shard by its suffix, so that a set that is not complete never counts.
_TEMPORARY = ".pictures-{}.tmp"

CODECS = ("original", "png", "webp", "jpeg")

Picture = tuple[str, bytes]  # its name and the bytes of its file


def shards(
    folder: Path, out_dir: Path, *, max_bytes: int = 60_000_000, codec: str = "original", force: bool = False
) -> list[Path]:
    """Write the pictures of a folder into shards of at most `max_bytes` and return their paths.

    `codec` "original" keeps the files as they are; "png", "webp" (both lossless) and "jpeg" (quality 95,
    4:4:4) recode them for machines whose Pillow cannot read the originals; a.jpg then becomes a.jpg.png.
    With `force` the new shards replace all that `out_dir` holds, once they are complete; otherwise it must
    hold none, or FileExistsError is raised. Raises ConfigError when one picture alone is too large for a shard.
    """
    if codec not in CODECS:
        raise ConfigError(f"unknown shard codec {codec!r}; there are {', '.join(CODECS)}")
    _check_out(folder, out_dir, force)
    pictures, left_out = find_pictures(folder)
    manifests = _manifests(folder, pictures)
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        n_written = 0
        for members in _parts(pictures, left_out, codec, max_bytes, manifests):
            _write(_temporary(out_dir, n_written), n_written, members, manifests, codec)
            n_written += 1
        if left_out:
            log.warning("left out of the shards of %s:%s", folder, describe(left_out))
        if n_written == 0:
            raise ConfigError(f"no readable picture in {folder}")
        return _put_in_place(out_dir, n_written)
    finally:
        for left in out_dir.glob(_TEMPORARY.format("*")):  # also by a process that was killed
            left.unlink(missing_ok=True)


def _check_out(folder: Path, out_dir: Path, force: bool) -> None:
    if out_dir.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{out_dir} lies in {folder}, so its shards would count as pictures of that: name another folder"
        )
    if not force and any(out_dir.glob(f"*{SHARD_SUFFIX}")):
        what = "it holds shards already; say --force to replace them all, or name another folder"
        raise FileExistsError(errno.EEXIST, what, str(out_dir))


def _put_in_place(out_dir: Path, n_written: int) -> list[Path]:
    """Give the new shards of a folder their names, and remove the old ones."""
    paths = [out_dir / f"pictures-{index:04d}{SHARD_SUFFIX}" for index in range(n_written)]
    for index, path in enumerate(paths):
        os.replace(_temporary(out_dir, index), path)
    for stale in set(out_dir.glob(f"*{SHARD_SUFFIX}")).difference(paths):
        stale.unlink()
    return paths


def _temporary(out_dir: Path, index: int) -> Path:
    return out_dir / _TEMPORARY.format(index)


def _manifests(folder: Path, pictures: Members) -> dict[str, bytes]:
    """The manifests above the pictures, and those in their shards; of one name there is one with the lines of all."""
    loose = [PurePosixPath(name) for name, member in pictures.items() if member.inside is None]
    places = {PurePosixPath("."), *(place for path in loose for place in path.parents)}
    paths = {str(place / MANIFEST): folder / place / MANIFEST for place in sorted(places)}
    found = {name: path.read_bytes() for name, path in paths.items() if path.is_file()}
    for path in sorted({member.path for member in pictures.values() if member.inside is not None}):
        try:
            with zipfile.ZipFile(path) as shard:
                read = {name: shard.read(name) for name in shard.namelist() if PurePosixPath(name).name == MANIFEST}
        except (OSError, zipfile.BadZipFile) as err:
            raise ConfigError(f"{path} is not a whole shard: {err}; fetch it again") from err
        for name, data in read.items():
            lines = dict.fromkeys([*found.get(name, b"").splitlines(), *data.splitlines()])
            found[name] = b"".join(line + b"\n" for line in lines)
    return found


def _parts(
    pictures: Members, left_out: LeftOut, codec: str, max_bytes: int, manifests: Mapping[str, bytes]
) -> Iterator[list[Picture]]:
    """Yield the pictures of one shard after the other."""
    fixed = _ZIP_END + _member_bytes(_ABOUT, _ABOUT_LIMIT)
    fixed += sum(_member_bytes(name, len(data)) for name, data in manifests.items())
    pending: list[Picture] = []
    room = max_bytes - fixed
    for name, data in _recoded(pictures, left_out, codec):
        n_bytes = _member_bytes(name, len(data))
        if n_bytes > max_bytes - fixed:
            raise ConfigError(f"{name} takes {n_bytes} bytes and fits into no shard of {max_bytes}")
        if n_bytes > room:
            yield pending
            pending, room = [], max_bytes - fixed
        pending.append((name, data))
        room -= n_bytes
    if pending:
        yield pending


def _recoded(pictures: Members, left_out: LeftOut, codec: str) -> Iterator[Picture]:
    for name, member in pictures.items():
        try:
            data = member.read()
            if codec != "original":
                data = image.encode(image.from_array(decode(data)), codec)
        except READ_ERRORS as err:
            leave_out(left_out, name, err)
            continue
        yield name if codec == "original" else _renamed(name, f".{codec}", pictures), data


def _renamed(name: str, suffix: str, others: Container[str]) -> str:
    """The name of a picture after recoding; a.jpg and a.webp must not both become a.png."""
    if PurePosixPath(name).suffix.lower() == suffix:
        return name
    name += suffix
    while name in others:  # a folder with a.jpg may hold a.jpg.png too
        name += suffix
    return name


def _write(path: Path, index: int, members: list[Picture], manifests: Mapping[str, bytes], codec: str) -> None:
    about = {"shard": index, "codec": codec, "pictures": len(members), "version": 1}
    # Fixed dates make equal pictures equal shards.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr(zipfile.ZipInfo(_ABOUT), json.dumps(about))
        for name, data in [*manifests.items(), *members]:
            file.writestr(zipfile.ZipInfo(name), data)


def _member_bytes(name: str, n_bytes: int) -> int:
    return _ZIP_MEMBER + 2 * len(name.encode()) + n_bytes
