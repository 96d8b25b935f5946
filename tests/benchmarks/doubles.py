"""A codec that stands in for hvcodec: layers, rate vectors and files that hold a JPEG, small and quick."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvcodec_benchmarks.codecs import Codec, Unavailable, reference_codecs
from hvcodec_benchmarks.fingerprint import fixed_picture
from hvcodec_benchmarks.pictures import Sample
from PIL import Image

STRIDES = (64, 32, 16, 8, 4)
MAGIC = b"double"


@dataclass
class LayeredDouble:
    """Bytes: a magic, the rate vector, one JPEG. Its layers divide the JPEG's bytes by their rho."""

    name: str = "hvcodec-psnr-e1"
    title: str = "Double"
    version: str = "1"
    suffix: str = ".double"
    settings: Sequence[float] = (10, 40, 70, 95)
    limits: tuple[float, float, float] = (0.0, 100.0, 1.0)
    n_groups: int = len(STRIDES)
    encodes: int = 0

    def encode(self, image: Image.Image, quality: float) -> bytes:
        return self.encode_rho(image, (round(quality * 0.63),) * self.n_groups)

    def encode_rho(self, image: Image.Image, rho: Sequence[int]) -> bytes:
        self.encodes += 1
        target = io.BytesIO()
        quality = 2 + 0.4 * sum(rho[:3]) / 3 + 1.1 * sum(rho[3:]) / 2
        image.save(target, "JPEG", quality=round(min(quality, 95)), subsampling="4:4:4", optimize=True)
        return MAGIC + bytes(rho) + target.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        if not data.startswith(MAGIC):
            raise ValueError("not a file of the double")
        with Image.open(io.BytesIO(data[len(MAGIC) + self.n_groups :])) as opened:
            return opened.convert("RGB")

    def describe(self, data: bytes) -> dict[str, Any]:
        rho = list(data[len(MAGIC) : len(MAGIC) + self.n_groups])
        body = len(data) - len(MAGIC) - self.n_groups
        weights = [2 ** (value / 9) * 4**-index for value, index in zip(rho, (3.5, 2.8, 2.0, 1.1, 0.0), strict=True)]
        sizes = [int(body * weight / sum(weights)) for weight in weights]
        sizes[-1] += body - sum(sizes)
        return {"rho": rho, "layer_bytes": sizes, "layer_strides": list(STRIDES)}


class BrokenDouble(LayeredDouble):
    """Fails on every picture at its highest setting."""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        if quality == self.settings[-1]:
            raise RuntimeError("this codec gives up")
        return super().encode(image, quality)


def reference(name: str) -> Codec:
    """A codec that every Pillow has."""
    entry = next(entry for entry in reference_codecs() if entry.name == name)
    assert not isinstance(entry, Unavailable)
    return entry


def make_pictures(folder: Path, count: int = 2, side: int = 176) -> list[Sample]:
    """Small pictures on disk, all different, large enough for MS-SSIM."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for index in range(count):
        picture = fixed_picture(side).rotate(90 * index).point([(v + 9 * index) % 256 for v in range(256)] * 3)
        path = folder / f"picture{index}.png"
        picture.save(path)
        samples.append(Sample(path.stem, path))
    return samples
