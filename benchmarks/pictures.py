"""The pictures that are measured: found in folders, loaded as 8-bit RGB, named by their pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from hvcodec import ImageError, image
from hvcodec.files import PICTURE_SUFFIXES
from hvcodec.picture import as_rgb8

from .fingerprint import digest


@dataclass(frozen=True)
class Sample:
    """One picture of a set. Pixels are not kept: a set may be larger than memory."""

    name: str
    path: Path

    def load(self) -> Image.Image:
        """The picture as 8-bit RGB: what every codec is given and compared with; ImageError if it cannot be read."""
        try:
            return Image.fromarray(as_rgb8(image.read(self.path).pixels))
        except ImageError as error:
            raise ImageError(f"{self.path}: {error}") from error

    @cached_property
    def digest(self) -> str:
        """Names the pixels, so that a renamed file keeps its cached rows and an edited one loses them."""
        image = self.load()
        return digest(f"{image.width}x{image.height}:".encode() + image.tobytes())


def find(places: Iterable[Path]) -> list[Sample]:
    """The pictures in these files and folders (not their subfolders), in the order of their names.

    Raises FileNotFoundError for a place that does not exist, ValueError if there is no picture at all.
    """
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            files += sorted(file for file in place.iterdir() if _is_picture(file))
        elif place.is_file():
            files.append(place)
        else:
            raise FileNotFoundError(f"{place} does not exist")
    if not files:
        raise ValueError("there is no picture in the places named")
    stems, names = Counter(file.stem for file in files), Counter(file.name for file in files)

    def name(file: Path) -> str:
        if stems[file.stem] == 1:
            return file.stem
        return file.name if names[file.name] == 1 else file.as_posix()

    return [Sample(name(file), file) for file in files]


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".") and file.is_file()


def set_name(places: Sequence[Path]) -> str:
    """What a set of pictures is called in results: its folder's name, or `pictures` for a loose list."""
    return places[0].resolve().name if len(places) == 1 and places[0].is_dir() else "pictures"


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most `count` samples, evenly spread over the set: a smaller set for the expensive studies."""
    if count >= len(samples):
        return list(samples)
    return [samples[index * len(samples) // count] for index in range(count)]
