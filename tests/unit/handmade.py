"""PNG, TIFF and PSD files written byte by byte: what the reader of pictures is tested against."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Sequence

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int, color: int, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))


def png(
    samples: np.ndarray,
    depth: int,
    color: int,
    *,
    interlaced: bool = False,
    filters: Sequence[int] = (0, 1, 2, 3, 4),
    before: Sequence[bytes] = (),
    after: Sequence[bytes] = (),
    n_idat: int = 1,
    empty_idats: bool = False,
) -> bytes:
    """A PNG file of samples (H, W, C): row i gets filter i of `filters`, cyclically."""
    height, width = samples.shape[:2]
    passes = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [samples]
    raw = b"".join(_filtered(part, depth, filters) for part in passes if part.size)
    data = zlib.compress(raw)
    cuts = [len(data) * i // n_idat for i in range(n_idat + 1)]
    idats = [chunk(b"IDAT", data[a:b]) for a, b in itertools.pairwise(cuts)]
    if empty_idats:
        idats = [chunk(b"IDAT"), *(part for idat in idats for part in (idat, chunk(b"IDAT")))]
    head = header(width, height, depth, color, int(interlaced))
    return b"".join([SIGNATURE, head, *before, *idats, *after, chunk(b"IEND")])


def _filtered(samples: np.ndarray, depth: int, filters: Sequence[int]) -> bytes:
    height = samples.shape[0]
    values = samples.reshape(height, -1)
    if depth == 16:
        rows = values.astype(">u2").view(np.uint8)
    elif depth == 8:
        rows = values.astype(np.uint8)
    else:
        bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    step = max(1, samples.shape[2] * depth // 8)
    out = bytearray()
    above = [0] * rows.shape[1]
    for y, row in enumerate(rows.tolist()):
        kind = filters[y % len(filters)]
        out.append(kind)
        for i, value in enumerate(row):
            left = row[i - step] if i >= step else 0
            corner = above[i - step] if i >= step else 0
            out.append((value - _prediction(kind, left, above[i], corner)) & 255)
        above = row
    return bytes(out)


def _prediction(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        estimate = left + up - corner
        return min((left, up, corner), key=lambda value: abs(estimate - value))  # the first wins a tie
    return (0, left, up, (left + up) // 2)[kind]


def expected(samples: np.ndarray, depth: int, palette: np.ndarray | None = None) -> np.ndarray:
    """What a reader should make of samples (H, W, C): full range of 8 or 16 bits, (H, W) for grey."""
    if palette is not None:
        return palette[samples[..., 0]]
    scale = {1: 255, 2: 85, 4: 17, 8: 1, 16: 1}[depth]
    scaled = (samples * scale).astype(np.uint16 if depth == 16 else np.uint8)
    return scaled[..., 0] if scaled.shape[2] == 1 else scaled


def tiff(samples: np.ndarray, *, big_endian: bool = False, deflate: bool = False, **tags: int) -> bytes:
    """A TIFF file of samples (H, W, C) in one strip; more short tags as t274=6."""
    height, width, channels = samples.shape
    order = ">" if big_endian else "<"
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflate else data
    fields = {
        256: (width,),
        257: (height,),
        258: (8 * samples.dtype.itemsize,) * channels,
        259: (8 if deflate else 1,),
        262: (2 if channels > 2 else 1,),
        273: (0,),  # the offset, known below
        277: (channels,),
        278: (height,),
        279: (len(data),),
    }
    if channels in (2, 4):
        fields[338] = (2,)
    fields.update({int(name[1:]): (value,) for name, value in tags.items()})
    directory_size = 2 + 12 * len(fields) + 4
    extra_at = 8 + directory_size
    extra, entries = b"", b""
    extra_size = sum(2 * len(v) for v in fields.values() if len(v) > 2)
    fields[273] = (extra_at + extra_size,)
    for tag, values in sorted(fields.items()):
        if tag in (273, 279):
            entries += struct.pack(f"{order}HHII", tag, 4, 1, values[0])
        elif len(values) > 2:
            entries += struct.pack(f"{order}HHII", tag, 3, len(values), extra_at + len(extra))
            extra += struct.pack(f"{order}{len(values)}H", *values)
        else:
            entries += struct.pack(f"{order}HHI", tag, 3, len(values))
            entries += struct.pack(f"{order}{len(values)}H", *values).ljust(4, b"\0")
    start = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(f"{order}IH", 8, len(fields))
    return start + entries + bytes(4) + extra + data


def psd(samples: np.ndarray, color_mode: int = 3) -> bytes:
    """A flat Photoshop file of 8-bit samples (H, W, C)."""
    height, width, channels = samples.shape
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, 8, color_mode)
    return head + bytes(12) + bytes(2) + np.moveaxis(samples, -1, 0).astype(np.uint8).tobytes()
