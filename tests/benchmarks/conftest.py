"""Pictures and results that the tests of the benchmarks share, measured once with doubles."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles import LayeredDouble, make_pictures, reference
from hvcodec_benchmarks import allocation, paths, rate_distortion_plane, rd, store
from hvcodec_benchmarks.cache import RowCache
from hvcodec_benchmarks.codecs import Codec
from hvcodec_benchmarks.environment import environment
from hvcodec_benchmarks.pictures import Sample


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Two small pictures."""
    return make_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cached rows of a test go nowhere else."""
    monkeypatch.setattr(paths, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def doubles() -> list[Codec]:
    """What is compared in the tests: two stand-ins for hvcodec, and WebP."""
    second = LayeredDouble(name="hvcodec-perceptual-e1", title="Double, perceptual", settings=(20, 50, 80, 99))
    return [LayeredDouble(), second, reference("webp-m6")]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample], doubles: list[Codec]) -> Path:
    """A result folder called kodak with everything a report can show."""
    base = tmp_path_factory.mktemp("results")
    folder = base / "kodak"
    for codec in doubles:
        rd.run(codec, samples, folder, RowCache(base / f"{codec.name}.jsonl"))
    cache = RowCache(base / "allocation.jsonl")
    allocation.run(LayeredDouble(), samples, folder, cache, rhos=(5, 30, 60))
    rate_distortion_plane.run(folder)
    store.write(store.study_path(folder, "speed"), speed_study())
    stages = {"study": "stages", "environment": environment(), "stages": ["analysis", "prior"]}
    runs = [{"title": "Encode", "times_s": [0.2, 0.1]}, {"title": "Decode", "times_s": [0.0, 0.1]}]
    store.write(store.study_path(folder, "stages"), {**stages, "runs": runs})
    return folder


def speed_study() -> dict[str, object]:
    """A made-up speed study: two sizes, one variant left out at the larger."""
    times = {"encode_s": 0.4, "decode_s": 0.3, "encode_cold_s": 2.0, "decode_cold_s": 1.5, "peak_rss_mb": 300}
    rows = [
        {"megapixels": size, "codec": codec, "label": label, "threads": 1, "dtype": "float32", **times}
        for size in (0.4, 2)
        for codec, label in (("hvcodec", "hvcodec, 1 thread"), ("webp-m6", "WebP"))
    ]
    kept = ("megapixels", "codec", "label", "threads", "dtype")
    rows[-1] = {**{name: rows[-1][name] for name in kept}, "skipped": "would take about 99 s"}
    return {"study": "speed", "environment": environment(), "limit_s": 60, "rows": rows}
