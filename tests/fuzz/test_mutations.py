"""Mutated files with right checksums give a picture of the declared size or an HVCodecError, nothing else."""

from __future__ import annotations

import resource
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import picture

from hvcodec import container
from hvcodec.codec import Codec
from hvcodec.errors import HVCodecError
from hvcodec.picture import Picture

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
from bad_files import Parts, parts, u32, varint, with_body, with_extras

N_MUTATIONS = 5000
MAX_PIXELS = 1 << 16
MOST_SECONDS = 5.0  # of processor time, for any file
MOST_MEMORY = 400 << 20  # that the process may grow by

Rng = np.random.Generator
METADATA = {"icc": b"\0profile" * 9, "exif": b"II*\0\x08\0\0\0", "xmp": b"<x/>"}


@pytest.fixture(scope="module")
def sources(tiny_codec: Codec) -> list[Parts]:
    """Small files of many kinds."""
    files = []
    for i, mode in enumerate(("RGB", "L", "RGBA", "LA16", "RGB16", "RGB")):
        shown = picture(9 + 5 * i, 30 - 4 * i, mode, seed=i, **(METADATA if i % 2 else {}))
        rho = [[10, 30, 50][i % 3]] * 5
        files.append(parts(tiny_codec.encode(shown, rho, digests=i % 3 == 1).data))
    files.append(parts(tiny_codec.encode(picture(100, 70), [40] * 5).data))
    return files


# --- mutations: each changes some fields; checksums are computed again by Parts.data ---------------------------


def pick(rng: Rng, values: range | list[int]) -> int:
    return int(rng.choice(np.array(values)))


def havoc(rng: Rng, data: bytes) -> bytes:
    """Flip, set, insert, delete or repeat a few bytes."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(out) + 1))
        kind = rng.integers(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1 and at < len(out):
            out[at] = pick(rng, [0, 1, 127, 128, 255])
        elif kind == 2:
            out[at:at] = rng.bytes(int(rng.integers(1, 5)))
        elif kind == 3:
            del out[at : at + int(rng.integers(1, 5))]
        else:
            out[at:at] = out[at : at + int(rng.integers(1, 20))]
    return bytes(out)


def side(rng: Rng) -> bytes:
    """A side of any size, most of them small; sometimes not a sound number."""
    if rng.integers(8) == 0:
        return bytes(rng.bytes(int(rng.integers(1, 6))))
    top = 8 if rng.integers(3) else 25
    return varint(int(2 ** rng.uniform(0, top)))


def body_havoc(rng: Rng, p: Parts, _: Parts) -> Parts:
    number = pick(rng, range(len(p.bodies)))
    return with_body(p, number, havoc(rng, p.bodies[number]))


def body_random(rng: Rng, p: Parts, _: Parts) -> Parts:
    number = pick(rng, range(len(p.bodies)))
    return with_body(p, number, rng.bytes(int(rng.integers(0, 200))))


def body_of_another(rng: Rng, p: Parts, other: Parts) -> Parts:
    number = pick(rng, range(len(p.bodies)))
    return with_body(p, number, other.bodies[pick(rng, range(len(other.bodies)))])


def rho(rng: Rng, p: Parts, _: Parts) -> Parts:
    values = rng.integers(0, 64 if rng.integers(4) else 256, 5)
    return replace(p, rho=bytes(values.astype(np.uint8)))


def sides(rng: Rng, p: Parts, _: Parts) -> Parts:
    width = side(rng) if rng.integers(2) else p.width
    height = side(rng) if rng.integers(2) else p.height
    return replace(p, width=width, height=height)


def sizes(rng: Rng, p: Parts, _: Parts) -> Parts:
    """Sizes that do not fit the bytes: a chunk takes from the next, or runs past the end."""
    number = pick(rng, range(len(p.sizes)))
    size = max(0, len(p.bodies[number]) + int(rng.integers(-9, 10)))
    size = 2**32 - 1 if rng.integers(10) == 0 else size
    changed = [*p.sizes[:number], varint(size), *p.sizes[number + 1 :]]
    if number + 1 < len(changed) and rng.integers(2):  # the sum stays
        changed[number + 1] = varint(max(0, len(p.bodies[number]) + len(p.bodies[number + 1]) - size))
    return replace(p, sizes=tuple(changed))


def flags(rng: Rng, p: Parts, _: Parts) -> Parts:
    """Other depth or colour for the same chunks and extras; other bits too."""
    return replace(p, flags=p.flags ^ pick(rng, [4, 8, 12, 64, 128, 1, 2, 16]))


def counts(rng: Rng, p: Parts, _: Parts) -> Parts:
    return replace(p, counts=int(rng.integers(256)))


def extras(rng: Rng, p: Parts, other: Parts) -> Parts:
    """Extras of another file, or of random kinds."""
    bodies = other.bodies[len(other.sizes) :] or (rng.bytes(9),)
    kinds = sorted({pick(rng, [1, 1, 2, 3, 4, 5, 127, 128, 255]) for _ in bodies})
    return with_extras(p, *zip(kinds, bodies, strict=False))


def digests(rng: Rng, p: Parts, _: Parts) -> Parts:
    if not p.digests:
        return replace(p, flags=p.flags | 1, digests=tuple(rng.bytes(4) for _ in p.sizes))
    changed = list(p.digests)
    changed[pick(rng, range(len(changed)))] = rng.bytes(4)
    return replace(p, digests=tuple(changed))


MUTATIONS: list[Callable[[Rng, Parts, Parts], Parts]] = [
    body_havoc, body_havoc, body_havoc, body_random, body_of_another, body_of_another,
    rho, sides, sides, sizes, flags, counts, extras, digests,
]  # fmt: skip


def mutated(number: int, files: list[Parts]) -> tuple[bytes, bool, int | None]:
    """File number so-and-so, and how to decode it: partial, max_layers."""
    rng = np.random.default_rng([77, number])
    p, other = files[pick(rng, range(len(files)))], files[pick(rng, range(len(files)))]
    for _ in range(1 + int(rng.integers(3) == 0)):
        p = MUTATIONS[pick(rng, range(len(MUTATIONS)))](rng, p, other)
    data = p.data
    if rng.integers(12) == 0:  # bytes anywhere in the header, with a checksum that fits
        header = havoc(rng, p.header[4:-4])
        data = p.header[:4] + header
        data += u32(zlib.crc32(data)) + p.data[len(p.header) :]
    if rng.integers(12) == 0:
        data = data[: int(rng.integers(0, len(data)))]
    return data, bool(rng.integers(4) == 0), None if rng.integers(4) else int(rng.integers(0, 8))


def peak_memory() -> int:
    """Largest resident set so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# --- the law --------------------------------------------------------------------------------------------------


def outcome(codec: Codec, data: bytes, partial: bool, max_layers: int | None) -> str:
    """Name what decoding gives, after checking it."""
    try:
        found = codec.decode(data, partial=partial, max_layers=max_layers, max_pixels=MAX_PIXELS)
    except HVCodecError as err:
        assert str(err)
        return type(err).__name__
    header = container.read_header(data)
    assert isinstance(found, Picture)
    assert found.pixels.shape == (header.height, header.width) + ((3,) if not header.grey else ())
    assert found.pixels.dtype == (np.uint8 if header.depth == 8 else np.uint16)
    assert header.pixels <= MAX_PIXELS
    return "picture"


@pytest.mark.slow
def test_mutated_files_give_a_picture_or_an_error_of_ours(tiny_codec: Codec, sources: list[Parts]) -> None:
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    memory = peak_memory()
    for number in range(N_MUTATIONS):
        data, partial, max_layers = mutated(number, sources)
        started = time.process_time()
        try:
            outcomes[outcome(tiny_codec, data, partial, max_layers)] += 1
        except BaseException as err:
            pytest.fail(f"mutation {number} ({data.hex()}, {partial=}, {max_layers=}) raises {err!r}")
        slowest = max(slowest, time.process_time() - started)
    assert slowest < MOST_SECONDS
    assert peak_memory() - memory < MOST_MEMORY
    # The mutations reach everything behind the checksums, and the law is not kept by refusing all.
    assert outcomes["picture"] > N_MUTATIONS // 10
    for name in ("CorruptError", "DesyncError", "LimitError", "TruncatedError", "UnsupportedError"):
        assert outcomes[name] > N_MUTATIONS // 100, outcomes


def test_sources_are_sound(tiny_codec: Codec, sources: list[Parts]) -> None:
    for p in sources:
        assert outcome(tiny_codec, p.data, False, None) == "picture"
    assert {bool(p.digests) for p in sources} == {True, False}
    assert {p.kinds for p in sources} >= {(), (1,), (2, 3, 4)}
