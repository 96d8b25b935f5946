"""hvcodec train and hvcodec shards, called as a user calls them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from calling import Hvcodec

from hvcodec.files import PICTURE_SUFFIXES
from hvcodec.train import loop
from hvcodec.train.cache import SUFFIXES
from hvcodec.train.config import PACKAGED, TrainConfig, find, load
from hvcodec.train.plots import read_log

QUICK = """
[model]
name = "tiny"
[data]
folder = "pictures"
[schedule]
steps = 2
[run]
batch = 1
crop = 64
bf16 = false
log_steps = 1
validation_crops = 8
"""


@pytest.fixture
def quick(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """quick.toml in the current folder, and pictures beside it."""
    monkeypatch.setattr(loop, "LADDER_CROPS", 8)
    monkeypatch.setattr(loop, "TABLE_CROPS", 8)
    toy = PACKAGED / "toy"
    (folder / "pictures").mkdir()
    for path in sorted(toy.glob("*.webp"))[:3]:
        (folder / "pictures" / path.name).write_bytes(path.read_bytes())
    (folder / "quick.toml").write_text(QUICK, "utf-8")
    return folder / "quick.toml"


def test_from_a_folder_of_pictures_to_a_codec(quick: Path, photo: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("train", "quick.toml", "--out", "my runs/it's", "--device", "cpu", "--threads", 1)
    assert result.exit_code == 0, result.stderr
    model = Path("my runs/it's/model.safetensors")
    assert f"model: {model}" in result.stdout
    command = next(line for line in result.stdout.splitlines() if line.startswith("use:"))
    words = shlex.split(command.removeprefix("use:").replace("PICTURE", "photo.png"))
    assert words[0] == "hvcodec"
    assert hvcodec(*words[1:]).exit_code == 0
    assert hvcodec("decompress", "photo.hvc", "--model", model, "-o", "back.png").exit_code == 0
    assert {path.name for path in model.parent.glob("*.png")} == {"loss.png", "rates.png", "distortion.png"}
    together = hvcodec("mean", model.parent, model.parent, "--out", "the mean")
    assert together.stdout.splitlines()[-1] == "use:   hvcodec compress --model 'the mean/model.safetensors' PICTURE"


def test_a_run_is_resumed_without_its_configuration(quick: Path, hvcodec: Hvcodec) -> None:
    assert hvcodec("train", "quick.toml", "--out", "mine", "--device", "cpu").exit_code == 0
    again = hvcodec("train", "quick.toml", "--out", "mine", "--device", "cpu")
    assert again.exit_code == 8
    assert "mine holds a run already" in again.stderr
    quick.unlink()
    result = hvcodec("train", "--resume", "mine", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert [row["step"] for row in read_log(Path("mine/log.jsonl")) if row["kind"] == "train"] == [1, 2]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "name a configuration to begin a run"),
        (("toy", "--resume", "a", "--out", "b"), 2, "--out has no say"),
        (("toys",), 8, "there is no configuration 'toys': name a TOML file, or default or perceptual or toy"),
        (("nowhere.toml",), 8, "cannot be read"),
        (("toy", "--data", "nowhere"), 8, "there is no folder of pictures at"),
        (("--resume", "nowhere"), 8, "no checkpoint in nowhere"),
        (("toy", "--minutes", "0"), 2, "not in the range"),
    ],
)
def test_failures_are_sentences(
    words: tuple[str, ...], code: int, message: str, folder: Path, hvcodec: Hvcodec
) -> None:
    result = hvcodec("train", *words)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())


def test_pictures_travel_in_shards(quick: Path, hvcodec: Hvcodec) -> None:
    largest = max(path.stat().st_size for path in Path("pictures").iterdir())
    result = hvcodec("shards", "pictures", "parcel", "--megabytes", 1.5 * largest / 1e6)
    assert result.exit_code == 0, result.stderr
    parcels = sorted(Path("parcel").iterdir())
    assert [line.split()[0] for line in result.stdout.splitlines()] == [str(path) for path in parcels]
    assert len(parcels) > 1
    assert all(path.stat().st_size <= 1.5 * largest for path in parcels)
    trained = hvcodec("train", "quick.toml", "--data", "parcel", "--device", "cpu")
    assert trained.exit_code == 0, trained.stderr
    assert Path("runs/quick/model.safetensors").is_file()
    again = hvcodec("shards", "pictures", "parcel")
    assert again.exit_code == 2
    assert "parcel: it holds shards already" in again.stderr
    assert hvcodec("shards", "pictures", "parcel", "--force").exit_code == 0
    assert [path.name for path in Path("parcel").iterdir()] == ["pictures-0000.shard.zip"]
    small = hvcodec("shards", "pictures", "small", "--megabytes", 0.001)
    assert small.exit_code == 8
    assert "fits into no shard" in small.stderr


@pytest.mark.parametrize("size", ["nan", "inf", "-inf", "1e303", "0"])
def test_a_shard_has_a_finite_size(size: str, folder: Path, hvcodec: Hvcodec) -> None:
    result = hvcodec("shards", "pictures", "parcel", "--megabytes", size)
    assert result.exit_code == 2
    assert "Invalid value for '--megabytes'" in result.stderr


def test_what_is_compressed_can_be_trained_on() -> None:
    assert PICTURE_SUFFIXES <= SUFFIXES


def test_the_packaged_configurations_are_valid_and_commented() -> None:
    assert {path.stem for path in PACKAGED.glob("*.toml")} == {"toy", "default", "perceptual"}
    for name in ("toy", "default", "perceptual"):
        config = load(find(name))
        assert loop.model_config(config.model).stages
        assert config.objective.params["balance"] == 1.0
        keys = [line for line in find(name).read_text("utf-8").splitlines() if re.match(r"\w+ = ", line)]
        assert [line for line in keys if "  # " not in line] == []
    recipe, defaults = load(find("default")), TrainConfig()
    for section in ("data", "optimizer", "schedule", "run"):  # where a file may leave out what it does not change
        assert getattr(recipe, section) == getattr(defaults, section)
    assert Path(load(find("toy")).data.folder) == PACKAGED / "toy"
    listed = [row.split("\t")[0] for row in (PACKAGED / "toy" / "MANIFEST.tsv").read_text().splitlines()[1:]]
    assert sorted(listed) == sorted(path.name for path in (PACKAGED / "toy").glob("*.webp"))
