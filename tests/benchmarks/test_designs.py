"""The comparison of designs: each is a valid recipe, runs are judged, and finished ones are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hvcodec_benchmarks import designs, tables

from hvcodec.errors import ConfigError
from hvcodec.train import loop
from hvcodec.train.config import PACKAGED
from hvcodec.train.loop import model_config


@pytest.mark.parametrize("name", designs.DESIGNS)
def test_every_design_is_a_recipe(name: str, tmp_path: Path) -> None:
    config = designs.configuration(designs.DESIGNS[name][1], tmp_path / "cache", {})
    structure = model_config(config.model)
    assert [stage.stride for stage in structure.stages] == [64, 32, 16, 8, 4]
    assert config.data.cache == str(tmp_path / "cache")
    assert config.objective.name == "per_layer_beta"
    assert (config.optimizer.name == "adamw") == (name == "adamw")


def test_designs_differ(tmp_path: Path) -> None:
    configs = [designs.configuration(recipe, tmp_path, {}).to_dict() for _, recipe in designs.DESIGNS.values()]
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i])


def test_runs_are_judged_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LADDER_CROPS", 8)
    monkeypatch.setattr(loop, "TABLE_CROPS", 8)
    monkeypatch.setattr(loop.plots, "plot", lambda log, out_dir: [])
    more = {**designs.TINY, "run": {**designs.TINY["run"], "log_steps": 1}}

    def compare(minutes: float = 0.03, names: Sequence[str] = ("default", "adamw")) -> designs.Row:
        return designs.run(
            tmp_path / "designs.json",
            tmp_path / "runs",
            names,
            minutes=minutes,
            data=PACKAGED / "toy",
            more=more,
        )

    study = compare()
    assert [row["design"] for row in study["rows"]] == ["default", "adamw"]
    for row in study["rows"]:
        assert set(row["losses"]) == {"8", "24", "40"}
        assert all(loss > 0 for loss in row["losses"].values())
        assert row["steps"] > 0 and row["crops_per_s"] > 0 and row["decode_ms"] > 0 and row["megabytes"] > 0.1
    monkeypatch.setattr(designs, "train", None)  # finished runs are not trained again
    assert [row["losses"] for row in compare()["rows"]] == [row["losses"] for row in study["rows"]]
    with pytest.raises(ConfigError, match="another recipe, length or folder"):
        compare(0.06)
    assert len(compare(0.03, ["adamw"])["rows"]) == 2  # those that are not named stay
    table = tables.designs(tmp_path / "kodak")
    assert table is not None and "| AdamW, batch 4 |" in table
    monkeypatch.setattr(designs, "ROUNDING", "another")
    assert len(compare(0.03, ["adamw"])["rows"]) == 1  # losses of another rounding are another measure
