"""hvcodec inside CompressAI, and CompressAI's architectures under our trainer (`make test-compressai`)."""

from __future__ import annotations

import io
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from synthetic import picture
from torch import Tensor

from hvcodec import ModelError, image
from hvcodec.catalog import DEFAULT_VARIABLE
from hvcodec.codec import Codec
from hvcodec.model.rounding import CAUTION
from hvcodec.model.weights import load_weights, save_weights
from hvcodec.train.config import PACKAGED, TrainConfig, parse
from hvcodec.train.forward import forward

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what CompressAI imports
    # Not the package alone: a folder of this name lies on the path of the tests.
    pytest.importorskip("compressai.zoo", reason="CompressAI is not installed: make test-compressai")
    from compressai.registry import MODELS
    from compressai.zoo import image_models
    from hvcodec_benchmarks import bridge, compressai_training, paths
    from hvcodec_benchmarks.bridge import ARCHITECTURES, HvcodecModel, untrained

TINY = Path(__file__).resolve().parents[1] / "golden" / "models" / "tiny.safetensors"
RHO = (40, 36, 30, 24, 20)


@pytest.fixture(scope="module")
def model() -> HvcodecModel:
    return HvcodecModel(TINY, rho=RHO).eval()


def pixels(*sizes: tuple[int, int]) -> Tensor:
    """Pictures of one size, 0..1 in 8-bit steps: (N, 3, H, W)."""
    samples = np.stack([picture(*size, seed=i).pixels for i, size in enumerate(sizes)])
    return torch.from_numpy(samples).permute(0, 3, 1, 2).float() / 255


def test_compressai_knows_the_model() -> None:
    assert MODELS["hvcodec"] is HvcodecModel
    assert image_models["hvcodec"] is bridge.pretrained


def test_the_likelihoods_are_those_of_the_estimated_rate(model: HvcodecModel) -> None:
    x = pixels((128, 64), (128, 64))
    out = model(x)
    told = forward(model.network, x, torch.tensor([RHO, RHO]), caution=CAUTION)
    assert torch.equal(out["x_hat"], told.reconstruction)
    assert list(out["likelihoods"]) == [f"stride {stride}" for stride in (64, 32, 16, 8, 4)]
    for group, likelihoods in enumerate(out["likelihoods"].values()):
        bits = -likelihoods.log2().sum(dim=(1, 2, 3))
        torch.testing.assert_close(bits / (128 * 64), told.rates[:, group])


def test_a_model_for_the_eye_is_estimated_with_its_own_rounding(tmp_path: Path) -> None:
    golden = load_weights(TINY)
    save_weights(tmp_path / "eye.safetensors", golden.model, golden.tables, {"ms_ssim": 0.5})
    eye, x = HvcodecModel(tmp_path / "eye.safetensors", rho=RHO).eval(), pixels((64, 64))
    told = forward(eye.network, x, torch.tensor([RHO]), caution=0.0)
    torch.testing.assert_close(eye(x)["x_hat"], told.reconstruction)


def test_the_estimated_rate_is_near_that_of_the_files(model: HvcodecModel) -> None:
    x = pixels((256, 192))
    bits = -sum(likelihoods.log2().sum() for likelihoods in model(x)["likelihoods"].values())
    data = model.compress(x)["strings"][0][0]
    assert float(bits) == pytest.approx(8 * len(data), rel=0.05, abs=8 * 100)


def test_the_estimate_takes_any_size(model: HvcodecModel) -> None:
    out = model(pixels((70, 50)))
    assert out["x_hat"].shape == (1, 3, 50, 70)
    assert all(math.isfinite(float(likelihoods.log2().sum())) for likelihoods in out["likelihoods"].values())


def test_files_are_those_of_the_codec(model: HvcodecModel, tiny_codec: Codec) -> None:
    x = pixels((70, 50), (70, 50))
    out = model.compress(x)
    assert out["shape"] == (50, 70)
    assert out["strings"] == [[tiny_codec.encode(picture(70, 50, seed=i), RHO).data for i in range(2)]]
    shown = model.decompress(out["strings"], out["shape"])["x_hat"]
    for data, one in zip(out["strings"][0], shown, strict=True):
        assert np.array_equal((one * 255).round().permute(1, 2, 0).numpy(), tiny_codec.decode(data).pixels)
    with pytest.raises(ValueError, match=r"\(50, 70\)"):
        model.decompress(out["strings"], (64, 64))


def test_there_is_nothing_to_update(model: HvcodecModel) -> None:
    assert model.update(force=True) is False


def test_a_checkpoint_holds_the_model(model: HvcodecModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.paths, "cache_dir", lambda: tmp_path)
    stored = io.BytesIO()
    torch.save(model.state_dict(), stored)
    stored.seek(0)
    loaded = HvcodecModel.from_state_dict(torch.load(stored))
    x = pixels((64, 64))
    assert loaded.rho == RHO
    assert loaded.compress(x)["strings"] == model.compress(x)["strings"]
    with pytest.raises(ModelError, match="state_dict"):
        HvcodecModel.from_state_dict({"weight": torch.zeros(1)})


def test_there_is_no_model_for_another_metric() -> None:
    with pytest.raises(ValueError, match="ms-ssim"):
        bridge.pretrained(50, metric="ms-ssim")


@pytest.mark.parametrize("estimate", [False, True])
def test_the_evaluation_tool_runs(
    estimate: bool,
    tmp_path: Path,
    tiny_codec: Codec,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(DEFAULT_VARIABLE, str(TINY))
    shown = picture(256, 192)  # its MS-SSIM needs more than 160 pixels
    image.write(shown, tmp_path / "one.png")
    options = ["--entropy-estimation"] if estimate else []
    bridge.main(["pretrained", str(tmp_path), "-a", "hvcodec", "-q", "30,70", *options])
    results = json.loads(capsys.readouterr().out)["results"]
    assert results["bpp"][0] < results["bpp"][1]
    assert results["psnr-rgb"][0] < results["psnr-rgb"][1]
    if not estimate:
        encoded = [tiny_codec.compress(shown, quality=quality) for quality in (30, 70)]
        assert results["bpp"] == pytest.approx([one.bpp for one in encoded])
        assert results["psnr-rgb"] == pytest.approx([one.psnr_db for one in encoded], abs=1e-3)


def test_the_evaluation_tool_takes_a_checkpoint(
    model: HvcodecModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bridge.paths, "cache_dir", lambda: tmp_path)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    image.write(picture(256, 192), pictures / "one.png")
    torch.save(model.state_dict(), tmp_path / "tiny.pth.tar")
    bridge.main(["checkpoint", str(pictures), "-a", "hvcodec", "-p", str(tmp_path / "tiny.pth.tar")])
    (bpp,) = json.loads(capsys.readouterr().out)["results"]["bpp"]
    assert bpp == pytest.approx(8 * len(model.compress(pixels((256, 192)))["strings"][0][0]) / (256 * 192))


# --- CompressAI's architectures under our trainer -----------------------------------------------------------


def configuration(steps: int) -> TrainConfig:
    return parse(
        {
            "model": {"name": "tiny"},
            "data": {"folder": str(PACKAGED / "toy")},
            "schedule": {"steps": steps, "warmup_steps": 1},
            "run": {"batch": 2, "crop": 64, "validation_crops": 8, "log_steps": 1},
        }
    )


@pytest.mark.parametrize(
    ("name", "weight", "width"), [("bmshj2018-hyperprior", 117.0, 128), ("mbt2018-mean", 11704.5, 192)]
)
def test_the_width_follows_the_rate(name: str, weight: float, width: int) -> None:
    model = untrained(name, weight)
    assert width == model.N


def test_likelihoods_are_not_rounded_to_bfloat16() -> None:
    torch.manual_seed(0)
    guest = untrained("mbt2018-mean", 100.0).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = guest(pixels((64, 64)))
    assert out["x_hat"].dtype == torch.bfloat16
    for likelihoods in out["likelihoods"].values():
        assert likelihoods.dtype == torch.float32
        assert (likelihoods != likelihoods.bfloat16().float()).any()


def test_a_short_comparison_is_written_and_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = compressai_training.compare(configuration(2), tmp_path, tmp_path / "found.json", device="cpu")
    assert json.loads((tmp_path / "found.json").read_text("utf-8")) == document
    assert [row["architecture"] for row in document["rows"]] == ["hvcodec", *ARCHITECTURES]
    for row in document["rows"]:
        assert row["steps"] == 2
        assert row["loss"] == pytest.approx(row["bpp"] + row["lambda"] * row["mse"], rel=1e-4)
        assert row["psnr"] == pytest.approx(-10 * math.log10(row["mse"]), abs=1e-3)
    again = compressai_training.compare(
        configuration(3), tmp_path, tmp_path / "again.json", architectures=ARCHITECTURES[:1], device="cpu"
    )
    assert [row["steps"] for row in again["rows"]] == [3]
    # What was trained is a checkpoint of CompressAI's own.
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    image.write(picture(256, 192), pictures / "one.png")
    trained = tmp_path / f"{ARCHITECTURES[0]}-24-0.0001" / "model.pth.tar"
    capsys.readouterr()
    bridge.main(["checkpoint", str(pictures), "-a", ARCHITECTURES[0], "-p", str(trained)])
    assert json.loads(capsys.readouterr().out)["results"]["bpp"][0] > 0


def test_the_command(tmp_path: Path) -> None:
    words = ["--minutes", "0.02", "--config", "toy", "--architecture", "hvcodec", "--device", "cpu"]
    with paths.kept_in(tmp_path):  # or a tiny run would replace the committed results
        result = CliRunner().invoke(compressai_training.main, [*words, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "R + lambda D" in result.output
    assert (tmp_path / "results" / compressai_training.FILE).is_file()
    (tmp_path / "empty").mkdir()
    broken = CliRunner().invoke(compressai_training.main, [*words, "--data", str(tmp_path / "empty")])
    assert broken.exit_code == 1
    assert "no pictures" in broken.output
