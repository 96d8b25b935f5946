"""Training to targets: runs are valid recipes, judged against what was asked, and kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hvcodec_benchmarks import designs, tables, targeted

from hvcodec.entropy import Tables
from hvcodec.model import Model, tiny_config
from hvcodec.model.weights import save_weights
from hvcodec.train import loop
from hvcodec.train.config import PACKAGED
from hvcodec.train.objectives import build


@pytest.mark.parametrize("name", targeted.RUNS)
def test_every_run_is_a_recipe(name: str, tmp_path: Path) -> None:
    config = targeted.recipe(name, tmp_path / "cache", 6.0, "default", {})
    assert config.run.start == "default" and config.run.validate_seconds == 60 * 6 / targeted.VALIDATIONS
    build(config.objective.name, config.objective.params, groups=5)


def test_runs_are_judged_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LADDER_CROPS", 8)
    monkeypatch.setattr(loop, "TABLE_CROPS", 8)
    monkeypatch.setattr(loop.plots, "plot", lambda log, out_dir: [])
    start = tmp_path / "start.safetensors"
    save_weights(start, Model(tiny_config()), Tables.logistic())

    def study() -> targeted.Row:
        return targeted.run(
            tmp_path / "targeted.json",
            tmp_path / "runs",
            ["geco", "rate", "rate-per-group"],
            minutes=0.03,
            start=str(start),
            data=PACKAGED / "toy",
            more=designs.TINY,
        )

    rows = study()["rows"]
    assert [row["objective"] for row in rows] == ["geco", "rate_target", "rate_target"]
    assert [len(row["asked"]) for row in rows] == [1, 1, 5]
    for row in rows:
        for asked, reached, miss in zip(row["asked"], row["reached"], row["miss_percent"], strict=True):
            assert miss == pytest.approx(100 * (reached / asked - 1), rel=1e-3, abs=0.1)
    assert rows[0]["reached"] == [pytest.approx(10 ** (-rows[0]["psnr_db"] / 10), rel=0.01)]
    assert rows[1]["reached"] == [pytest.approx(rows[1]["bpp"], rel=0.01)]
    monkeypatch.setattr(designs, "train", None)  # finished runs are not trained again
    assert study()["rows"] == rows
    table = tables.targeted(tmp_path / "kodak")
    assert table is not None and table.count("| `rate_target` |") == 2
