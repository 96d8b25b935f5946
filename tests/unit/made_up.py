"""Pictures that exist only as formulas, for tests of the rate control: five stride groups, coarse to fine."""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass

N_PIXELS = 768 * 512
# Bytes of each group at the lowest and at the highest rate; shares of the squared and of the visible error.
LOW_BYTES = (200, 700, 2800, 150, 100)
HIGH_BYTES = (900, 9000, 70_000, 110_000, 55_000)
MSE = (5, 30, 100, 50, 20)
VISIBLE = (0.05, 0.35, 0.40, 0.15, 0.05)


@dataclass(frozen=True)
class MadeUpTrial:
    n_bytes: int
    psnr_db: float = 40.0
    ms_ssim: float = 0.98
    ssimulacra2: float = 70.0

    @property
    def bpp(self) -> float:
        return 8 * self.n_bytes / N_PIXELS


class MadeUpPicture:
    """Bytes and errors of groups that grow and fall exponentially with their rates, each picture in its way.

    Each rate vector adds something at random, always the same: 0.15 % of the bytes, 0.01 dB, 0.15 points. Trim
    takes a few percent of the bytes for each tenth, of some pictures three times as much as of others.
    """

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.seed = seed
        detail, error, curve = draw.gauss(0, 0.5), draw.gauss(0, 0.4), draw.gauss(0, 0.08)
        self.low_bytes = [n * math.exp(detail + draw.gauss(0, 0.2)) for n in LOW_BYTES]
        self.growth = [
            math.log(high / low) / 63 * (1 + curve + draw.gauss(0, 0.05))
            for low, high in zip(LOW_BYTES, HIGH_BYTES, strict=True)
        ]
        self.mse = [share * math.exp(error + draw.gauss(0, 0.25)) for share in MSE]
        self.visible = [share * math.exp(error / 2 + draw.gauss(0, 0.25)) for share in VISIBLE]
        self.decay = 1 + draw.gauss(0, 0.05)
        self.keenness = draw.uniform(0.3, 1.0)

    def __call__(self, rho: tuple[int, ...], trim: float = 0.0) -> MadeUpTrial:
        at_random = random.Random(zlib.crc32(bytes(rho) + repr(trim).encode()) ^ self.seed)
        wobble = [at_random.uniform(-1, 1) for _ in range(4)]
        groups = zip(self.low_bytes, self.growth, rho, strict=True)
        n_bytes = 80 + sum(low * math.exp(growth * r) for low, growth, r in groups)
        mse = self._falling(self.mse, 0.065, rho) * math.exp(self.keenness * trim)
        visible = self._falling(self.visible, 0.045, rho) * math.exp(self.keenness * trim)
        return MadeUpTrial(
            n_bytes=round(n_bytes * math.exp(0.0015 * wobble[0] - self.keenness * trim)),
            psnr_db=10 * math.log10(255**2 / mse) + 0.01 * wobble[1],
            ms_ssim=1 - 0.13 * visible**1.5 * 10 ** (0.002 * wobble[2]),
            ssimulacra2=97 - 120 * visible + 0.15 * wobble[3],
        )

    def _falling(self, shares: list[float], rate: float, rho: tuple[int, ...]) -> float:
        return sum(s * math.exp(-rate * self.decay * r) for s, r in zip(shares, rho, strict=True))
