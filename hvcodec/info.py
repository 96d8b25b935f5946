"""What a compressed file says of itself: size, model, rate vector, bytes of each layer; needs no torch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import accumulate, islice
from typing import Any

from . import catalog, container
from .errors import ModelError


@dataclass(frozen=True)
class LayerInfo:
    """One layer of a compressed picture."""

    index: int  # 0 = coarsest
    stride: int | None  # pixels between two symbols; None if the model of the file is not installed
    n_bytes: int  # of its chunk
    bpp: float


@dataclass(frozen=True)
class Info:
    """A compressed picture, as its header describes it."""

    width: int
    height: int
    depth: int  # bits of a sample: 8 or 16
    is_grey: bool
    model_id: str
    model: str | None  # its name; None if it is not installed
    rho: tuple[int, ...]  # one per stride group, coarse to fine
    layers: tuple[LayerInfo, ...]  # coarse to fine
    header_bytes: int
    extras: dict[str, int]  # bytes of what else is in the file: alpha, icc, exif, xmp
    has_digests: bool
    n_bytes: int  # of the whole file
    n_bytes_present: int  # less for a file that was cut short

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return 8 * self.n_bytes / (self.width * self.height)

    @property
    def chunk_sizes(self) -> tuple[int, ...]:
        """Bytes of each layer, coarse to fine."""
        return tuple(layer.n_bytes for layer in self.layers)

    @property
    def layers_present(self) -> int:
        """How many layers are whole; fewer than `layers` for a file that was cut short."""
        end, count = self.header_bytes, 0
        for size in self.chunk_sizes:
            end += size
            count += end <= self.n_bytes_present
        return count

    @property
    def extras_missing(self) -> tuple[str, ...]:
        """The names of the extras that are not whole; none but for a file that was cut short."""
        ends = accumulate(self.extras.values(), initial=self.header_bytes + sum(self.chunk_sizes))
        return tuple(
            name for name, end in zip(self.extras, islice(ends, 1, None), strict=True) if end > self.n_bytes_present
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, ready for JSON."""
        derived = {name: getattr(self, name) for name in ("bpp", "layers_present", "extras_missing")}
        return {**asdict(self), **derived}


def inspect(data: bytes) -> Info:
    """Describe a compressed picture from its first bytes; only the header is read and has to be there.

    Raises NotHVCError, UnsupportedError, TruncatedError or CorruptError if the header cannot be read. Whether
    the payload is sound is told by decompress.
    """
    header = container.read_header(data)
    entry = None
    with suppress(ModelError):  # a header can be read without its model
        entry = catalog.entry_by_id(header.model_id)
    strides: tuple[int | None, ...] = (None,) * header.n_layers
    if entry is not None and len(entry.strides) == header.n_layers:
        strides = entry.strides
    return Info(
        width=header.width,
        height=header.height,
        depth=header.depth,
        is_grey=header.grey,
        model_id=header.model_id.hex(),
        model=None if entry is None else entry.name,
        rho=header.rho,
        layers=tuple(
            LayerInfo(index, stride, size, 8 * size / header.pixels)
            for index, (stride, size) in enumerate(zip(strides, header.chunk_sizes, strict=True))
        ),
        header_bytes=header.header_bytes,
        extras={_name(kind): size for kind, size in header.extras},
        has_digests=header.digests is not None,
        n_bytes=header.file_bytes,
        n_bytes_present=len(data),
    )


def _name(kind: int) -> str:
    return container.Extra(kind).name.lower() if kind in set(container.Extra) else f"extra {kind}"
