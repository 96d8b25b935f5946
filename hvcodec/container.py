"""Pack a picture's chunks into the bytes of a .hvc file, and parse such bytes: docs/format.md as code.

    ┌───────┬─────────┬───────┬───────┬────────────┬─────────┬────────┬────────┬─────────┐
    │ Magic │ Version │ Flags │ Width │ Height ... │ chunk 0 │  ...   │ extras │ Payload │
    │       │         │       │       │ Header_Crc │ coarse  │ → fine │        │ _Crc    │
    └───────┴─────────┴───────┴───────┴────────────┴─────────┴────────┴────────┴─────────┘
    └─────────────── header ──────────────────────┘└──────── payload ─────────┘

This module knows bytes only: what a chunk means is told by entropy.py and model/, what an extra means by
extras.py. Parsing happens here, once: whoever holds a Header need not check it again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from hvcodec.errors import (
    CorruptError,
    FormatError,
    LimitError,
    NotHVCError,
    TruncatedError,
    UnsupportedError,
)

MAGIC = b"\xe9HVC"
VERSION = 1
MODEL_ID_BYTES = 6
MAX_SIDE = 1 << 24
MAX_GROUPS = 8
MAX_LAYERS = 32
MAX_RHO = 63
MAX_PIXELS = 1 << 28  # what unpack() accepts unless its caller says otherwise

_DIGESTS, _EXTRAS, _GREY, _DEEP, _TRELLIS, _RESERVED = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20  # bits of Flags
_U32 = 1 << 32
_FIRST_IGNORABLE = 128
# Magic to Flags, sides, model, Counts, ρ, size and digest of each layer, Header_Crc.
_LONGEST_PLAIN_HEADER = 6 + 8 + MODEL_ID_BYTES + 1 + MAX_GROUPS + 9 * MAX_LAYERS + 4


class Extra(IntEnum):
    """What else a file can carry beside the layers of its picture: the kinds that this version knows."""

    ALPHA = 1
    ICC = 2
    EXIF = 3
    XMP = 4


@dataclass(frozen=True)
class Header:
    """Everything that stands before the chunks of a file, parsed and checked."""

    width: int
    height: int
    grey: bool
    depth: int  # bits of a sample: 8 or 16
    model_id: bytes
    rho: tuple[int, ...]  # one per stride group, coarse to fine
    chunk_sizes: tuple[int, ...]  # one per layer, coarse to fine
    digests: tuple[int, ...] | None = None  # CRC-32 of the symbols of each layer
    extras: tuple[tuple[int, int], ...] = ()  # (kind, size), kinds ascending
    in_trellis: bool = False  # how symbols become values

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    @property
    def n_layers(self) -> int:
        """How many layers, and therefore chunks, the file has."""
        return len(self.chunk_sizes)

    @property
    def n_groups(self) -> int:
        """How many stride groups, and therefore values of ρ, the file has."""
        return len(self.rho)

    @property
    def header_bytes(self) -> int:
        """Where the first chunk starts."""
        return len(_write_header(self))

    @property
    def file_bytes(self) -> int:
        """How long the whole file is."""
        return self.header_bytes + sum(self.chunk_sizes) + sum(size for _, size in self.extras) + 4


@dataclass(frozen=True)
class File:
    """A parsed file, or the usable beginning of one: fewer chunks and extras than its header lists."""

    header: Header
    chunks: tuple[bytes, ...]
    extras: dict[int, bytes]
    is_intact: bool = True  # False: cut short, so that no checksum vouches for the payload


def pack(
    *,
    width: int,
    height: int,
    grey: bool,
    depth: int,
    model_id: bytes,
    rho: Sequence[int],
    chunks: Sequence[bytes],
    digests: Sequence[int] | None = None,
    extras: Mapping[int, bytes] | None = None,
    in_trellis: bool = False,
) -> bytes:
    """Return the bytes of a file; raise ValueError for what the format cannot hold.

    `chunks` (and `digests`, if given) run from coarse to fine; `extras` maps a kind to its bytes.
    """
    ordered = sorted((extras or {}).items())
    header = Header(
        width=width,
        height=height,
        grey=grey,
        depth=depth,
        model_id=bytes(model_id),
        rho=tuple(map(int, rho)),
        chunk_sizes=tuple(len(chunk) for chunk in chunks),
        digests=None if digests is None else tuple(map(int, digests)),
        extras=tuple((kind, len(body)) for kind, body in ordered),
        in_trellis=in_trellis,
    )
    flaw = _flaw(header) or _unknown_extra(header)
    if flaw:
        raise ValueError(f"no such file can be written: {flaw}")
    payload = b"".join([*chunks, *(body for _, body in ordered)])
    return _write_header(header) + payload + _crc(payload)


def read_header(data: bytes) -> Header:
    """Parse the header at the start of `data`; what follows it is not looked at.

    Raises NotHVCError, UnsupportedError, TruncatedError (with layers_complete=None) or CorruptError.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"the bytes of a .hvc file are needed, not {type(data).__name__}")
    if not data or not MAGIC.startswith(data[:4]):
        raise NotHVCError("this is not an hvcodec file: it does not start with the magic E9 48 56 43")
    try:
        header = _parse_header(data)
    except TruncatedError:
        if _is_one_bit_off(data):
            raise CorruptError("the header is damaged: get the file again from its source") from None
        raise
    flaw = _flaw(header)
    if flaw:
        raise CorruptError(f"the header makes no sense ({flaw}): the program that wrote the file is faulty")
    unknown = _unknown_extra(header)
    if unknown:
        raise UnsupportedError(f"the file has {unknown}: update hvcodec to read it", feature=unknown)
    return header


def unpack(data: bytes, *, partial: bool = False, max_pixels: int = MAX_PIXELS) -> File:
    """Parse a file into header, chunks and extras, with every byte accounted for.

    With `partial`, bytes that end early give the chunks and extras that are whole, as long as the header is;
    nothing vouches for them, because the checksum of the payload is at its end.

    Raises what read_header raises, and LimitError (more than `max_pixels`), TruncatedError (with the number
    of whole chunks) or CorruptError (checksum of the payload, bytes after the end).
    """
    header = read_header(data)
    if header.pixels > max_pixels:
        raise LimitError(
            f"the picture has {header.pixels} pixels, more than the limit of {max_pixels}: raise it to go on",
            limit=max_pixels,
            asked=header.pixels,
        )
    start = header.header_bytes
    sizes = [*header.chunk_sizes, *(size for _, size in header.extras)]
    parts = _whole_parts(data, start, sizes)
    chunks = tuple(parts[: header.n_layers])
    kinds = [kind for kind, _ in header.extras]
    bodies = parts[header.n_layers :]
    missing = header.file_bytes - len(data)
    if missing < 0:
        raise CorruptError(f"{-missing} bytes follow the end of the file: cut them off or get the file again")
    if missing == 0 and _crc(memoryview(data)[start:-4]) != data[-4:]:
        raise CorruptError("the payload is damaged (checksum differs): get the file again from its source")
    if missing > 0 and not partial:
        raise TruncatedError(
            f"the file ends {missing} bytes early, after {len(chunks)} of {header.n_layers} layers: "
            "get the rest, or decode it as a partial file",
            layers_complete=len(chunks),
        )
    extras = dict(zip(kinds, bodies, strict=False))  # a partial file lacks some bodies
    return File(header, chunks, extras, is_intact=missing == 0)


def _whole_parts(data: bytes, start: int, sizes: Iterable[int]) -> list[bytes]:
    """Cut `data` into consecutive parts of these sizes, up to the last one that is whole."""
    parts = []
    for size in sizes:
        if start + size > len(data):
            break
        parts.append(data[start : start + size])
        start += size
    return parts


# --- the header -------------------------------------------------------------------------------------------


class _Reader:
    """Takes fields off the front of a header; running out of bytes is a TruncatedError."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, n: int) -> bytes:
        start, self.position = self.position, self.position + n
        if self.position > len(self.data):
            raise TruncatedError("the file ends inside its header: get the rest of it", layers_complete=None)
        return self.data[start : self.position]

    def byte(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= _U32 or (byte == 0 and shift > 0):
                    break
                return value
        raise CorruptError("a number in the header is not in its shortest form: get the file again")


def _parse_header(data: bytes) -> Header:
    """Parse the fields up to Header_Crc and compare that; what the values mean is not judged here."""
    reader = _Reader(data)
    reader.take(len(MAGIC))
    version = reader.byte()
    if version != VERSION:
        feature = f"format version {version}"
        raise UnsupportedError(f"the file has {feature}, this decoder reads {VERSION}: update hvcodec", feature=feature)
    flags = reader.byte()
    if flags & _RESERVED:  # before anything else: a reserved flag may change what follows it
        feature = f"reserved flag 0x{flags & _RESERVED:02x}"
        raise UnsupportedError(f"the file has {feature}: update hvcodec to read it", feature=feature)
    width, height = reader.varint(), reader.varint()
    model_id = reader.take(MODEL_ID_BYTES)
    counts = reader.byte()
    rho = tuple(reader.take((counts >> 5) + 1))
    chunk_sizes, digests = [], []
    for _ in range((counts & 0x1F) + 1):
        chunk_sizes.append(reader.varint())
        if flags & _DIGESTS:
            digests.append(reader.u32())
    extras = [(reader.byte(), reader.varint()) for _ in range(reader.byte())] if flags & _EXTRAS else []
    covered = reader.position
    if reader.take(4) != _crc(memoryview(data)[:covered]):
        raise CorruptError("the header is damaged (checksum differs): get the file again from its source")
    if flags & _EXTRAS and not extras:
        raise CorruptError("the header announces extras and lists none: the writer of the file is faulty")
    return Header(
        width=width,
        height=height,
        grey=bool(flags & _GREY),
        depth=16 if flags & _DEEP else 8,
        model_id=model_id,
        rho=rho,
        chunk_sizes=tuple(chunk_sizes),
        digests=tuple(digests) if flags & _DIGESTS else None,
        extras=tuple(extras),
        in_trellis=bool(flags & _TRELLIS),
    )


def _write_header(header: Header) -> bytes:
    """The bytes of a header, Header_Crc included; inverse of _parse_header."""
    flags = _DIGESTS * (header.digests is not None) | _EXTRAS * bool(header.extras)
    flags |= _GREY * header.grey | _DEEP * (header.depth == 16) | _TRELLIS * header.in_trellis
    out = bytearray(MAGIC) + bytes([VERSION, flags])
    out += _varint(header.width) + _varint(header.height) + header.model_id
    out.append((header.n_groups - 1) << 5 | (header.n_layers - 1))
    out += bytes(header.rho)
    for layer, size in enumerate(header.chunk_sizes):
        out += _varint(size)
        if header.digests is not None:
            out += header.digests[layer].to_bytes(4, "little")
    if header.extras:
        out.append(len(header.extras))
        for kind, size in header.extras:
            out.append(kind)
            out += _varint(size)
    return bytes(out) + _crc(out)


def _flaw(header: Header) -> str | None:
    """Say what the format forbids about the values of a header, if anything."""
    kinds = [kind for kind, _ in header.extras]
    sizes = [*header.chunk_sizes, *(size for _, size in header.extras)]
    rules = {
        f"width and height must be 1 to {MAX_SIDE}": 1 <= header.width <= MAX_SIDE and 1 <= header.height <= MAX_SIDE,
        "samples must have 8 or 16 bits": header.depth in (8, 16),
        f"a model id has {MODEL_ID_BYTES} bytes": len(header.model_id) == MODEL_ID_BYTES,
        f"there must be 1 to {MAX_GROUPS} groups": 1 <= header.n_groups <= MAX_GROUPS,
        f"rho must be 0 to {MAX_RHO}": all(0 <= value <= MAX_RHO for value in header.rho),
        f"there must be 1 to {MAX_LAYERS} layers": 1 <= header.n_layers <= MAX_LAYERS,
        "a chunk or extra must be shorter than 4 GiB": max(sizes, default=0) < _U32,
        "there must be one 32-bit digest per layer": header.digests is None
        or (len(header.digests) == header.n_layers and all(0 <= value < _U32 for value in header.digests)),
        "the kinds of extras must ascend": all(a < b for a, b in pairwise(kinds)),
    }
    return next((rule for rule, kept in rules.items() if not kept), None)


def _unknown_extra(header: Header) -> str | None:
    """Name the first extra that a reader of this version must know and does not, if any."""
    known = set(Extra)
    unknown = (kind for kind, _ in header.extras if kind not in known and not _FIRST_IGNORABLE <= kind <= 255)
    return next((f"extra kind {kind}" for kind in unknown), None)


def _is_one_bit_off(data: bytes) -> bool:
    """Tell a damaged header from a cut one: True if inverting one bit of it makes it whole.

    A damaged count or flag can push the end of a header past the end of a small file. A cut header passes
    for damaged with a probability of 2^-32 per bit tried. A long table of extras is left alone to save time.
    """
    for position in range(len(MAGIC), min(len(data), _LONGEST_PLAIN_HEADER)):
        for bit in range(8):
            trial = bytearray(data)
            trial[position] ^= 1 << bit
            try:
                _parse_header(bytes(trial))
            except FormatError:
                continue
            return True
    return False


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _crc(data: bytes | bytearray | memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
