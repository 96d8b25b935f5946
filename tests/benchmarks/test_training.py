"""The training benchmark measures the trainer itself, part by part."""

from __future__ import annotations

from pathlib import Path

import pytest
from hvcodec_benchmarks import store, tables, training
from hvcodec_benchmarks.training import REST, Parts


def test_a_short_measurement_is_written_and_shown(tmp_path: Path) -> None:
    target = tmp_path / training.FILE
    ticks: list[int] = []
    document = training.run(
        target, model="tiny", crop=64, batches=(1, 2), threads=(1,), steps=2, device="cpu", tick=lambda: ticks.append(1)
    )
    assert store.read(target) == document
    assert [row["batch"] for row in document["rows"]] == [1, 2]
    assert len(ticks) == 2
    for row in document["rows"]:
        assert row["crops_per_s"] == pytest.approx(1000 * row["batch"] / row["step_ms"], rel=0.02)
        assert set(row["parts_ms"]) == {
            "crops", "analysis", "synthesis", "prior", "rates", "optimizer", "averaging", REST
        }  # fmt: skip
        assert all(ms >= 0 for ms in row["parts_ms"].values())
    assert len(document["kernels"]) == training.KERNELS
    assert 0 < sum(row["share"] for row in document["kernels"]) <= 1
    assert any("conv" in row["name"] for row in document["kernels"])
    shown = tables.training(tmp_path / "kodak")
    assert shown is not None
    assert "| 2 crops, 1 thread |" in shown
    for units, said in ((["AMX", "AVX-512 BF16"], "with AMX and AVX-512 BF16."), ([], "with no units for bfloat16.")):
        document["environment"]["cpu_bf16"] = units
        store.write(target, document)
        assert said in str(tables.training(tmp_path / "kodak"))
    kernels = tables.training_kernels(tmp_path / "kodak")
    assert kernels is not None
    assert document["kernels"][0]["name"] in kernels


def test_without_a_measurement_there_is_no_table(tmp_path: Path) -> None:
    assert tables.training(tmp_path / "kodak") is None
    assert tables.training_kernels(tmp_path / "kodak") is None


def test_the_time_of_a_call_inside_another_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])

    def spend(seconds: float) -> None:
        now[0] += seconds

    parts = Parts(lambda: None)
    inner = parts.around("inner", lambda: spend(2))

    def outside() -> None:
        spend(1)
        inner()
        spend(4)

    spend(100)  # before the start
    parts.start()
    parts.around("outer", outside)()
    spend(8)
    parts.turn()
    assert dict(parts.seconds) == {"outer": 5, "inner": 2, REST: 8}
