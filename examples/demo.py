"""Compress the example picture, decompress it, and show what happened: `make demo`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

import hvcodec
from hvcodec import image, metrics
from hvcodec.picture import Picture

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "demo"


def main() -> None:
    OUT.mkdir(exist_ok=True)
    source = HERE / "parrots.png"
    picture = image.read(source)
    codec = hvcodec.Codec()
    print(f"{source.name}: {picture.width} x {picture.height}, {source.stat().st_size:,} bytes as PNG")
    print(f"model {codec.name} ({codec.model_id.hex()}) on {codec.device}\n")
    print("quality     bytes    bpp    PSNR   encode   decode")
    shown = [picture.pixels]
    for quality in (15, 35, 55, 75):
        begin = time.perf_counter()
        data = codec.compress(picture, quality=quality).data
        middle = time.perf_counter()
        decoded = codec.decode(data)
        end = time.perf_counter()
        bpp = metrics.bpp(len(data), picture.width, picture.height)
        psnr = metrics.psnr(picture.pixels, decoded.pixels)
        times = f"{middle - begin:6.2f} s {end - middle:6.2f} s"
        print(f"{quality:7d} {len(data):9,d} {bpp:6.3f} {psnr:6.2f}  {times}")
        (OUT / f"parrots-{quality}.hvc").write_bytes(data)
        shown.append(decoded.pixels)
    half = picture.width // 2
    sheet = np.concatenate([shown[0][:, :half], shown[2][:, half:]], axis=1)
    image.write(Picture(np.ascontiguousarray(sheet)), OUT / "before-after.png")
    print(f"\nleft half original, right half quality 35: {(OUT / 'before-after.png').relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
