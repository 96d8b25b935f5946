"""A learned image codec: pictures to small files and back, with the rate set layer by layer.

    data = hvcodec.compress("photo.png", quality=60)
    image = hvcodec.decompress(data)  # a Pillow image
    info = hvcodec.inspect(data)  # what the file says of itself

What needs torch is loaded at its first use, so that importing hvcodec and reading headers stay quick. It needs float32
as torch's default dtype.
After the first compress, decompress or Codec a process must not be forked, because torch's threads do not survive that:
start others with multiprocessing's "spawn".
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    ConfigError,
    CorruptError,
    DesyncError,
    FormatError,
    HVCodecError,
    ImageError,
    LimitError,
    ModelError,
    NotHVCError,
    TargetError,
    TruncatedError,
    UnsupportedError,
)
from .info import Info, LayerInfo, inspect

if TYPE_CHECKING:
    from .api import compress, decompress
    from .codec import Codec, Encoded
    from .picture import Picture
    from .rate import Bpp, Bytes, MsSsim, Psnr, Ssimulacra2

    __version__: str

__all__ = [
    "Bpp",
    "Bytes",
    "Codec",
    "ConfigError",
    "CorruptError",
    "DesyncError",
    "Encoded",
    "FormatError",
    "HVCodecError",
    "ImageError",
    "Info",
    "LayerInfo",
    "LimitError",
    "ModelError",
    "MsSsim",
    "NotHVCError",
    "Picture",
    "Psnr",
    "Ssimulacra2",
    "TargetError",
    "TruncatedError",
    "UnsupportedError",
    "compress",
    "decompress",
    "inspect",
]

_HOMES = {
    "compress": "api",
    "decompress": "api",
    "Codec": "codec",
    "Encoded": "codec",
    "Picture": "picture",
    "Bpp": "rate",
    "Bytes": "rate",
    "MsSsim": "rate",
    "Psnr": "rate",
    "Ssimulacra2": "rate",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"})
