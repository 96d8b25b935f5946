"""The speed study starts real processes; what it leaves out is said, and no time is asserted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hvcodec_benchmarks import speed, speed_cuda, stages, store
from hvcodec_benchmarks.pictures import Sample
from hvcodec_benchmarks.speed import Variant
from synthetic import picture

from hvcodec.codec import Codec
from hvcodec.entropy import LayerDecoder, LayerEncoder
from hvcodec.trellis import Pass

TRELLIS = Path(__file__).parents[1] / "golden" / "models" / "trellis.safetensors"
WEBP = Variant("webp-m6", "WebP")


def test_a_row_of_real_processes(samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(speed.SHAPES, 0.4, (96, 64))
    ticks: list[int] = []
    document = speed.run(samples, tmp_path, [WEBP], [0.4], lambda: ticks.append(1), repeats=2)
    (row,) = document["rows"]
    assert ticks == [1]
    assert row["label"] == "WebP"
    assert 0 < row["encode_s"] < row["encode_cold_s"]
    assert 0 < row["decode_s"] < row["decode_cold_s"]
    assert row["peak_rss_mb"] > 10
    assert row["n_bytes"] > 50
    assert store.read_study(tmp_path, "speed") == document


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    source = tmp_path / "broken.coded"
    source.write_bytes(b"no picture")
    with pytest.raises(RuntimeError, match=r"failed to decode.*identify"):
        speed.start(WEBP, "decode", source, tmp_path / "out")


def test_what_would_take_too_long_is_left_out_with_a_reason() -> None:
    rows = [{"label": "WebP", "megapixels": 2, "encode_cold_s": 6.0, "decode_cold_s": 1.0}]
    assert speed.too_long([], WEBP, 2, 60) is None
    assert speed.too_long(rows, WEBP, 12, 60) is None
    reason = speed.too_long(rows, WEBP, 24, 60)
    assert reason == "would take about 72 s"
    assert speed.too_long([*rows, {"label": "WebP", "skipped": reason}], WEBP, 100, 60) == reason


def test_threads_that_would_share_a_core_are_left_out() -> None:
    assert speed.too_few_cores(WEBP) is None
    assert "cores" in str(speed.too_few_cores(Variant("webp-m6", "WebP", threads=10_000)))


def test_a_mosaic_has_the_size_asked_for(samples: list[Sample]) -> None:
    assert speed.mosaic(samples, (500, 300)).size == (500, 300)


@pytest.mark.usefixtures("tiny_model")
def test_batches_are_timed_by_the_picture(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_cuda, "REPEATS", 1)
    found = speed_cuda.rows(samples, batches=(1, 3), device="cpu")
    assert [(row["dtype"], row["batch"]) for row in found] == [
        ("float32", 1),
        ("float32", 3),
        ("bfloat16", 1),
        ("bfloat16", 3),
    ]
    assert all(row["encode_s"] > 0 and row["decode_s"] > 0 for row in found)


@pytest.mark.usefixtures("tiny_model")
def test_stages_of_encoding_and_decoding(samples: list[Sample]) -> None:
    encode, decode = stages.stages_of(samples[0].load().crop((0, 0, 64, 64)), 50)
    assert len(encode["times_s"]) == len(stages.STAGES)
    assert all(time_s > 0 for time_s in encode["times_s"][:3])
    assert encode["times_s"][3] == 0
    assert all(time_s > 0 for time_s in decode["times_s"][1:])


@pytest.mark.parametrize(
    ("owner", "name"),
    [(LayerEncoder, "encode_linked"), (LayerDecoder, "decode_linked"), (Pass, "fitted"), (Codec, "_linked")],
)
def test_what_a_trellis_takes_is_the_coder_s(owner: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, original, delay_s = Codec(TRELLIS, device="cpu"), getattr(owner, name), 0.1

    def slow(*args: Any) -> Any:
        time.sleep(delay_s)
        return original(*args)

    monkeypatch.setattr(owner, name, slow)
    with stages.watched() as (exact, coder):
        codec.decode(codec.encode(picture(64, 64), [50] * 5).data)
    assert exact.seconds > coder.seconds > delay_s


def test_crops_per_second_come_from_the_log_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"run": {"batch": 8}}))
    marks = [(10, 5.0), (20, 9.0), (20, 9.5), (30, 13.5), (31, 20.0)]
    lines = [json.dumps({"step": step, "seconds": seconds}) for step, seconds in marks]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert stages.crops_per_s(tmp_path) == pytest.approx(8 * 2.5)
