"""hvcodec as one more codec of the benchmarks: the only file here that knows its API.

Each shipped profile is a curve at effort 1 and effort 5, `psnr` at effort 7 too; `all-equal` is the curve with one
rho for every stride group, which the profiles are judged against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from .codecs import Unavailable
from .environment import one_thread, package_version
from .fingerprint import digest, fixed_picture

if TYPE_CHECKING:
    from hvcodec import Codec
    from hvcodec.catalog import Entry

PROFILES = ("psnr", "perceptual", "preview")
QUALITIES = (2, 12, 22, 32, 42, 52, 62, 72, 84, 96)
FEW_QUALITIES = (12, 32, 52, 72)
MORE_QUALITIES = (2, 12, 22, 32, 52, 72, 84, 96)
EQUAL_RHOS = (2, 9, 16, 23, 30, 37, 44, 51, 58, 63)


@dataclass(frozen=True)
class HvcodecCodec:
    """hvcodec along one profile at one effort; `quality` walks along the profile."""

    profile: str
    effort: int
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    settings: Sequence[float] = QUALITIES
    limits: tuple[float, float, float] = (0.0, 100.0, 0.1)
    suffix: str = ".hvc"

    @property
    def name(self) -> str:
        """File name of its results."""
        return f"hvcodec-{self.profile}-e{self.effort}"

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return f"hvcodec {self.profile}, effort {self.effort}"

    @cached_property
    def version(self) -> str:
        """Release, and what it makes of a small fixed picture: the digest of two files and their pixels."""
        picture = fixed_picture(128)
        with one_thread():  # as every row is measured
            files = [self.encode(picture, setting) for setting in (self.settings[2], self.settings[-3])]
            shown = b"".join(self.decode(data).tobytes() for data in files)
        return f"hvcodec {package_version('hvcodec')} {self.dtype} {digest(b''.join(files) + shown)}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a file."""
        return self._compress(image, profile=self.profile, quality=quality)

    def encode_rho(self, image: Image.Image, rho: Sequence[int]) -> bytes:
        """The bytes of a file with a rate vector given by hand."""
        return self._compress(image, rho=tuple(rho))

    def _compress(self, image: Image.Image, **how: Any) -> bytes:
        import hvcodec

        return self.codec.compress(hvcodec.Picture(np.asarray(image)), effort=self.effort, **how).data

    def decode(self, data: bytes) -> Image.Image:
        """The picture in a file's bytes, as 8-bit RGB."""
        return Image.fromarray(self.codec.decode(data).pixels)

    @cached_property
    def codec(self) -> Codec:
        """The model, loaded once: weights that are replaced during a run do not mix with it."""
        import hvcodec
        from hvcodec import catalog

        return hvcodec.Codec(catalog.find_for(self.profile), device=self.device, dtype=self.dtype)

    def describe(self, data: bytes) -> dict[str, Any]:
        """The rate vector and, coarse to fine, the bytes and the stride of each layer."""
        import hvcodec

        info = hvcodec.inspect(data)
        strides = [layer.stride for layer in info.layers]
        return {"rho": list(info.rho), "layer_bytes": list(info.chunk_sizes), "layer_strides": strides}

    @cached_property
    def n_groups(self) -> int:
        """How many values a rate vector of this model has."""
        return self.codec.n_groups


@dataclass(frozen=True)
class EqualRho(HvcodecCodec):
    """hvcodec with one rho for all stride groups: the allocation that needs no search."""

    profile: str = "all-equal"
    effort: int = 1
    settings: Sequence[float] = EQUAL_RHOS
    limits: tuple[float, float, float] = (0.0, 63.0, 1.0)

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return f"hvcodec all ρ equal, effort {self.effort}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a file; here the quality is the rho."""
        return self.encode_rho(image, (round(quality),) * self.n_groups)


def hvcodec_entries() -> list[HvcodecCodec | Unavailable]:
    """Every curve of hvcodec, or the reason why there is none."""
    from hvcodec import catalog

    curves: list[HvcodecCodec] = []
    for profile in PROFILES:
        # With effort a picture takes long; the profile that is compared with the published curves gets most points.
        efforts, settings = ((5, 7), MORE_QUALITIES) if profile == "psnr" else ((5,), FEW_QUALITIES)
        curves += [HvcodecCodec(profile, 1), *(HvcodecCodec(profile, effort, settings=settings) for effort in efforts)]
    curves.append(EqualRho())
    profiles, reason = installed_profiles()
    entries: list[HvcodecCodec | Unavailable] = []
    for curve in curves:
        why = reason
        if why is None and curve.profile not in (*profiles, EqualRho.profile):
            why = f"no model has a profile {curve.profile}"
        if why is None and isinstance(curve, EqualRho) and catalog.is_of_one_level(_entry_for(curve.profile)):
            why = "the model was trained for one level and knows no others"
        entries.append(curve if why is None else Unavailable(curve.name, curve.title, why))
    return entries


def installed_profiles() -> tuple[tuple[str, ...], str | None]:
    """Those profiles that some model has; without a default model none, and the reason."""
    import hvcodec
    from hvcodec import catalog

    try:
        return tuple(name for name in PROFILES if name in catalog.profile_names(_entry_for(name))), None
    except (hvcodec.ModelError, ImportError) as error:
        return (), str(error)


def _entry_for(profile: str) -> Entry:
    from hvcodec import catalog

    return catalog.read_entry(catalog.find_for(profile))
