"""How well targets are met: five of each kind on every picture, with the number of encodes that each took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hvcodec import (
    Bpp,
    Bytes,
    Codec,
    Encoded,
    Picture,
    Psnr,
    Ssimulacra2,
    TargetError,
    catalog,
    profiles,
    rate,
    targets,
)

from . import store
from .cache import RowCache, key_of
from .efforts import version
from .environment import environment
from .fingerprint import digest_of_code
from .pictures import Sample
from .rows import metrics_digest

STUDY = "targets"
PROFILES = ("psnr", "perceptual")
Row = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """One kind of target: what is asked, what is read off the result, and how far it may lie from that."""

    make: Callable[[float], rate.Target]
    asked: tuple[float, ...]
    reached: Callable[[Encoded], float]
    least: Callable[[float], float]
    most: Callable[[float], float]


KINDS = {
    "size": Kind(
        lambda value: Bytes(round(value)),
        (8_000, 16_000, 32_000, 64_000, 90_000),
        lambda encoded: encoded.n_bytes,
        lambda value: 0.97 * value,
        lambda value: value,
    ),
    "bpp": Kind(
        Bpp,
        (0.15, 0.3, 0.6, 1.0, 1.6),
        lambda encoded: encoded.bpp,
        lambda value: 0.97 * value,
        lambda value: value,
    ),
    "psnr": Kind(
        Psnr,
        (28.0, 31.0, 34.0, 37.0, 40.0),
        lambda encoded: encoded.psnr_db,
        lambda value: value,
        lambda value: value + 0.1,
    ),
    "ssimulacra2": Kind(
        Ssimulacra2,
        (20.0, 40.0, 55.0, 70.0, 85.0),
        lambda encoded: encoded.ssimulacra2,
        lambda value: value,
        lambda value: value + 1.0,
    ),
}


class Counting(Codec):
    """A codec that counts its encodes."""

    encodes = 0

    def encode(self, *args: Any, **kwargs: Any) -> Encoded:
        self.encodes += 1
        return super().encode(*args, **kwargs)


def search_digest() -> str:
    """Names the search for a target."""
    return digest_of_code(rate, targets, profiles)


def count(samples: Sequence[Sample], chosen: Sequence[str] = PROFILES) -> int:
    """How many targets a run asks for."""
    return len(chosen) * len(samples) * sum(len(kind.asked) for kind in KINDS.values())


def run(
    samples: Sequence[Sample],
    folder: Path,
    cache: RowCache,
    tick: Callable[[], None] = lambda: None,
    chosen: Sequence[str] = PROFILES,
) -> Row:
    """Ask for every target on every picture (cached rows are not measured again) and write the study."""
    rows: list[Row] = []
    for profile in chosen:
        codec = Counting(catalog.find_for(profile), device="cpu")
        made = version(codec, 1, profile), repr(codec.profile(profile)), metrics_digest(), search_digest()
        for sample in samples:
            for name, kind in KINDS.items():
                for asked in kind.asked:
                    key = key_of(sample.digest, STUDY, made, name, asked)
                    row = cache.row(key, measure, codec, sample, profile, name, asked)
                    rows.append({"picture": sample.name, "profile": profile, **row})
                    tick()
    document = {"study": STUDY, "environment": environment(), "summary": summary(rows), "rows": rows}
    store.write(store.study_path(folder, STUDY), document)
    return document


def measure(codec: Counting, sample: Sample, profile: str, name: str, asked: float) -> Row:
    """What one search for a target came to."""
    picture = Picture(np.asarray(sample.load()))
    kind, codec.encodes = KINDS[name], 0
    try:
        encoded = codec.compress(picture, profile=profile, target=kind.make(asked))
    except TargetError as error:
        row = {"kind": name, "asked": asked, "encodes": codec.encodes, "met": False, "error": str(error)}
        ends = [kind.reached(codec.compress(picture, profile=profile, quality=quality)) for quality in (0, 100)]
        return {**row, "out_of_reach": bool(kind.most(asked) < ends[0] or kind.least(asked) > ends[1])}
    reached = kind.reached(encoded)
    met = bool(kind.least(asked) <= reached <= kind.most(asked))
    return {"kind": name, "asked": asked, "reached": round(reached, 5), "encodes": codec.encodes, "met": met}


def summary(rows: Sequence[Row]) -> list[Row]:
    """How many of each kind were met or lie beyond the ends of the profile, and how many encodes they took."""
    found = []
    for profile, name in dict.fromkeys((row["profile"], row["kind"]) for row in rows):
        own = [row for row in rows if (row["profile"], row["kind"]) == (profile, name)]
        encodes = [row["encodes"] for row in own]
        found.append(
            {
                "profile": profile,
                "kind": name,
                "asked": len(own),
                "met": sum(row["met"] for row in own),
                "out_of_reach": sum(row.get("out_of_reach", False) for row in own),
                "median_encodes": median(encodes),
                "most_encodes": max(encodes),
            }
        )
    return found
