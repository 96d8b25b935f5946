"""The studies of rate control: targets that are met or not, steps of single groups, and estimated bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hvcodec_benchmarks import context, response, store, tables, target_study
from hvcodec_benchmarks.cache import RowCache
from hvcodec_benchmarks.pictures import Sample, find
from synthetic import picture

from hvcodec import image
from hvcodec.catalog import DEFAULT_VARIABLE

GOLDEN = Path(__file__).parents[1] / "golden" / "models"


@pytest.fixture
def samples(tmp_path: Path, tiny_model: Path) -> list[Sample]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2):
        image.write(picture(176, 192, seed=i), folder / f"{i}.png")
    return find([folder])


def test_targets_are_asked_once_and_counted(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"size": (2_500, 1_000_000), "psnr": (24.0,)}
    monkeypatch.setattr(
        target_study, "KINDS", {name: replace(target_study.KINDS[name], asked=v) for name, v in asked.items()}
    )
    cache = RowCache(tmp_path / "rows")
    study = target_study.run(samples, tmp_path, cache, chosen=["psnr"])
    assert len(study["rows"]) == 6
    by_kind = {row["kind"]: row for row in study["summary"]}
    assert by_kind["size"]["asked"] == 4
    impossible = [row for row in study["rows"] if row["asked"] == 1_000_000]
    assert all(not row["met"] and row["out_of_reach"] and "no setting gives" in row["error"] for row in impossible)
    assert by_kind["size"]["out_of_reach"] >= len(impossible) == 2
    for row in study["rows"]:
        assert 1 <= row["encodes"] <= 7
        if row["kind"] == "size" and row["met"]:
            assert 0.97 * 2_500 <= row["reached"] <= 2_500
    monkeypatch.setattr(target_study, "measure", None)  # nothing is measured again
    assert target_study.run(samples, tmp_path, cache, chosen=["psnr"])["rows"] == study["rows"]
    table = tables.targets(tmp_path)
    assert table is not None and "| psnr | size |" in table


def test_a_changed_search_is_measured_again(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_study, "KINDS", {"bpp": replace(target_study.KINDS["bpp"], asked=(1.0,))})
    cache = RowCache(tmp_path / "rows")
    target_study.run(samples, tmp_path, cache, chosen=["psnr"])
    assert len(cache) == 2
    monkeypatch.setattr(target_study, "search_digest", lambda: "another")
    target_study.run(samples, tmp_path, cache, chosen=["psnr"])
    assert len(cache) == 4


@pytest.mark.parametrize("model", ["tiny", "trellis"])
def test_context_and_fitted_tables_are_weighed(
    model: str, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEFAULT_VARIABLE, str(GOLDEN / f"{model}.safetensors"))
    document = context.measure(samples)
    store.write(store.study_path(tmp_path, context.STUDY), document)
    assert document["pictures"] == 2
    for row in document["rows"]:
        assert row["bits_first"] > 0 and row["bits_second"] > 0
        saved = (row["bits_first"] - row["bits_second"]) / (2 * row["bits_first"])
        assert row["saved_percent"] == pytest.approx(100 * saved)
        gaussian, logistic = (row[f"fitted_saves_of_{kind}_percent"] for kind in ("gaussian", "logistic"))
        assert gaussian != logistic
        assert abs(logistic) < 0.5  # both models have its tables, cut short
    for draw in (tables.context, tables.fitted_tables):
        table = draw(tmp_path)
        assert table is not None and table.count("\n| ") == 1 + len(context.RHOS)


@pytest.mark.parametrize("model", [None, GOLDEN / "trellis.safetensors"])
def test_steps_and_estimates(
    model: Path | None, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if model is not None:
        monkeypatch.setenv(DEFAULT_VARIABLE, str(model))
    monkeypatch.setattr(response, "BASES", (30,))
    monkeypatch.setattr(response, "OFFSETS", (-9, 0, 9))
    ticks: list[None] = []
    study = response.run(samples, tmp_path, lambda: ticks.append(None))
    assert len(ticks) == response.count(samples, 5) == 2 * 5 * 3
    assert study["summary"]["steps"] == 2 * 5 * 2
    for row in study["estimates"]:
        assert 0 < row["n_bytes"] - row["estimated_bytes"] < 64 + 6 * 7  # header, and a little for each layer
    assert store.read_study(tmp_path, response.STUDY) is not None
    table = tables.response(tmp_path)
    assert table is not None and "worst file" in table


def test_monotone_counts_steps() -> None:
    rows = [{"bytes": [1, 2, 2]}, {"bytes": [5, 4, 6]}]
    assert response.monotone(rows) == {"steps": 4, "monotone_percent": 75.0}
