"""hvcodec as a codec of the benchmarks, with the tiny model of the test suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from hvcodec_benchmarks import adapter, rows
from hvcodec_benchmarks.codecs import Codec, Unavailable, catalogue
from hvcodec_benchmarks.pictures import Sample
from hvcodec_benchmarks.rows import RhoCodec


@pytest.mark.usefixtures("tiny_model")
def test_the_shipped_profile_is_a_codec_with_layers(samples: list[Sample], tmp_path: Path) -> None:
    entry = catalogue()["hvcodec-psnr-e1"]
    assert isinstance(entry, Codec)
    assert isinstance(entry, RhoCodec)
    row = rows.measure_in(tmp_path, entry, rows.Job(samples[0], 50))
    assert len(row["rho"]) == entry.n_groups
    assert len(row["layer_bytes"]) == len(row["layer_strides"])
    assert row["layer_strides"] == sorted(row["layer_strides"], reverse=True)
    assert 0 < row["n_bytes"] - sum(row["layer_bytes"]) <= 80  # the header and the checksums
    assert entry.version == entry.version


@pytest.mark.usefixtures("tiny_model")
def test_all_equal_takes_the_setting_as_rho(samples: list[Sample]) -> None:
    codec = adapter.EqualRho()
    image = samples[0].load().crop((0, 0, 48, 32))
    assert codec.describe(codec.encode(image, 17))["rho"] == [17] * codec.n_groups


@pytest.mark.usefixtures("tiny_model")
def test_a_profile_that_the_model_lacks_is_listed_with_the_reason() -> None:
    entry = catalogue()["hvcodec-preview-e1"]
    assert isinstance(entry, Unavailable)
    assert "preview" in entry.reason


def test_without_a_model_hvcodec_is_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HVCODEC_MODEL", str(tmp_path / "missing.safetensors"))
    entries = adapter.hvcodec_entries()
    assert len(entries) == 2 * len(adapter.PROFILES) + 2
    assert {entry.name for entry in entries} >= {"hvcodec-psnr-e7", "hvcodec-perceptual-e5", "hvcodec-all-equal-e1"}
    assert all(isinstance(entry, Unavailable) and "missing" in entry.reason for entry in entries)
