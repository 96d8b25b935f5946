"""Model files that must be refused with a ModelError: damaged, not finite, not exact, or no models at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from hvcodec.codec import Codec
from hvcodec.errors import ModelError
from hvcodec.model import Model, ModelConfig, tiny_config
from hvcodec.model.weights import identify, to_tensors

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
from make_model import tables

GOLDEN = Path(__file__).parents[1] / "golden" / "models" / "tiny.safetensors"
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    head = GOLDEN.read_bytes()
    size = int.from_bytes(head[:8], "little")
    return ModelConfig.from_json(json.loads(head[8 : 8 + size])["__metadata__"]["config"])


@pytest.fixture
def tensors() -> Tensors:
    return load_file(GOLDEN)


def write(path: Path, config_text: str, tensors: Tensors, **metadata: str) -> Path:
    """A model file with the right id for its contents, whatever they are."""
    fields = {"format": "hvcodec-model-1", "config": config_text, **metadata}
    if "id" not in fields:
        fields["id"] = claim(config_text, tensors)
    path.write_bytes(save(tensors, fields))
    return path


def claim(config_text: str, tensors: Tensors) -> str:
    """The id of such a model, by docs/format.md, section 7."""
    import hashlib

    digest = hashlib.sha256(config_text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        kind = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"\n{name} {kind} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()[:6].hex()


def refusal(path: Path) -> ModelError:
    with pytest.raises(ModelError) as info:
        Codec(path, device="cpu")
    assert type(info.value) is ModelError
    assert len(str(info.value)) > 20
    return info.value


def test_writer_of_these_tests_is_sound(tmp_path: Path, config: ModelConfig, tensors: Tensors) -> None:
    path = write(tmp_path / "same.safetensors", config.to_json(), tensors)
    assert Codec(path, device="cpu").model_id == Codec(GOLDEN, device="cpu").model_id
    assert claim(config.to_json(), tensors) == identify(config, tensors).hex()


# --- tensors --------------------------------------------------------------------------------------------------

KINDS = [
    "transform.stem",
    "transform.head",
    "transform.start",
    "transform.rungs.2.latents.1.analysis",
    "transform.rungs.0.latents.0.steps_bias",
    "transform.rungs.3.after.0.0.project.weight",
    "transform.embed_rho.0.weight",
]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", KINDS)
def test_weights_that_are_not_finite_are_refused(
    name: str, value: float, tmp_path: Path, config: ModelConfig, tensors: Tensors
) -> None:
    tensors[name].view(-1)[-1] = value
    error = refusal(write(tmp_path / "bad.safetensors", config.to_json(), tensors))
    assert str(error).startswith(f"{name} in the weights is not finite")


def drop(tensors: Tensors, name: str) -> None:
    del tensors[name]


def transpose(tensors: Tensors, name: str) -> None:
    tensors[name] = tensors[name].unsqueeze(0).contiguous()


def as_float32(tensors: Tensors, name: str) -> None:
    tensors[name] = tensors[name].float()


def as_bfloat16(tensors: Tensors, name: str) -> None:
    tensors[name] = tensors[name].to(torch.bfloat16)


@pytest.mark.parametrize("change", [drop, transpose, as_float32, as_bfloat16])
@pytest.mark.parametrize(
    "name",
    ["transform.stem", "prior.stages.0.seed", "prior.stages.1.lift", "tables.half_widths", "tables.counts"],
)
def test_tensors_that_lack_or_have_another_form_are_refused(
    change: Callable[[Tensors, str], None], name: str, tmp_path: Path, config: ModelConfig, tensors: Tensors
) -> None:
    change(tensors, name)
    refusal(write(tmp_path / "bad.safetensors", config.to_json(), tensors))


@pytest.mark.parametrize("name", ["prior.stages.9.seed", "extra", "transform.rungs.0.up"])
def test_unknown_tensors_are_refused(name: str, tmp_path: Path, config: ModelConfig, tensors: Tensors) -> None:
    tensors[name] = torch.zeros(1, dtype=torch.int8)
    assert name in str(refusal(write(tmp_path / "bad.safetensors", config.to_json(), tensors)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prior.stages.0.layers.0.near", 64),
        ("prior.stages.0.layers.0.near", -64),
        ("prior.stages.2.layers.1.spread", 127),
        ("prior.stages.1.lift", -128),
        ("prior.stages.4.layers.0.first.out", -128),
    ],
)
def test_weights_beyond_their_grid_are_refused_and_not_clipped(
    name: str, value: int, tmp_path: Path, config: ModelConfig, tensors: Tensors
) -> None:
    tensors[name].view(-1)[0] = value
    assert name in str(refusal(write(tmp_path / "bad.safetensors", config.to_json(), tensors)))


@pytest.mark.parametrize(("width", "channels"), [(520, 1), (2, 240)])
def test_weights_that_break_exactness_are_refused(width: int, channels: int, tmp_path: Path) -> None:
    tiny = tiny_config()
    coarse = replace(tiny.stages[0], prior_width=width, channels=channels)
    rest = [replace(stage, prior_width=2, channels=1) for stage in tiny.stages[1:]]
    wide = replace(tiny, stages=(coarse, *rest))
    tensors = to_tensors(Model(wide), tables())
    loaded = Codec(write(tmp_path / "good.safetensors", wide.to_json(), tensors), device="cpu")
    assert loaded.model.config == wide
    tensors["prior.stages.0.layers.0.first.mix"].fill_(127)
    tensors["prior.stages.0.layers.0.second.near"].fill_(-63)
    error = refusal(write(tmp_path / "bad.safetensors", wide.to_json(), tensors))
    assert "stages.0.layers.0." in str(error)
    assert "beyond the 16777216 that exact arithmetic allows" in str(error)


def counts_that_sum_to_less(tensors: Tensors) -> None:
    tensors["tables.counts"][1] -= 1


def count_of_zero(tensors: Tensors) -> None:
    counts = tensors["tables.counts"]
    counts[1] += counts[0]
    counts[0] = 0


def negative_count(tensors: Tensors) -> None:
    counts = tensors["tables.counts"]
    counts[1] += counts[0] + 1
    counts[0] = -1


def half_width_of_zero(tensors: Tensors) -> None:
    tensors["tables.half_widths"][5] = 0


def half_width_beyond_the_limit(tensors: Tensors) -> None:
    tensors["tables.half_widths"][63] = 1024


def table_less(tensors: Tensors) -> None:
    tensors["tables.half_widths"] = tensors["tables.half_widths"][:-1].clone()


def count_more(tensors: Tensors) -> None:
    tensors["tables.counts"] = torch.cat([tensors["tables.counts"], torch.ones(1, dtype=torch.int32)])


@pytest.mark.parametrize(
    "change",
    [
        counts_that_sum_to_less,
        count_of_zero,
        negative_count,
        half_width_of_zero,
        half_width_beyond_the_limit,
        table_less,
        count_more,
    ],
)
def test_tables_that_break_a_rule_are_refused(
    change: Callable[[Tensors], None], tmp_path: Path, config: ModelConfig, tensors: Tensors
) -> None:
    change(tensors)
    error = refusal(write(tmp_path / "bad.safetensors", config.to_json(), tensors))
    assert str(error).startswith("the frequency tables in the weights are not valid")


# --- configurations -------------------------------------------------------------------------------------------


def with_stage(data: dict[str, Any], **fields: Any) -> dict[str, Any]:
    stages = [dict(stage) for stage in data["stages"]]
    stages[1].update(fields)
    return {**data, "stages": stages}


CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not_an_object": lambda data: [data],
    "null": lambda data: None,
    "no_stages": lambda data: {"rho_width": 8},
    "stages_are_a_number": lambda data: {**data, "stages": 5},
    "stage_less": lambda data: {**data, "stages": data["stages"][:-1]},
    "stage_more": lambda data: {**data, "stages": data["stages"] + data["stages"][-1:]},
    "other_stride": lambda data: with_stage(data, stride=16),
    "unknown_key": lambda data: {**data, "depth": 3},
    "unknown_key_of_a_stage": lambda data: with_stage(data, depth=3),
    "width_is_text": lambda data: with_stage(data, width="16"),
    "width_is_real": lambda data: with_stage(data, width=16.5),
    "width_is_null": lambda data: with_stage(data, width=None),
    "width_is_zero": lambda data: with_stage(data, width=0),
    "width_is_negative": lambda data: with_stage(data, width=-16),
    "width_is_huge": lambda data: with_stage(data, width=10**7),
    "width_is_beyond_64_bits": lambda data: with_stage(data, width=10**30),
    "width_fits_no_groups": lambda data: with_stage(data, width=18),
    "groups_are_zero": lambda data: with_stage(data, groups=0),
    "layers_are_many": lambda data: with_stage(data, layers=10**9),
    "layers_are_none": lambda data: with_stage(data, layers=0),
    "layers_exceed_the_format": lambda data: with_stage(data, layers=33),
    "layers_are_true": lambda data: with_stage(data, layers=True),
    "channels_are_negative": lambda data: with_stage(data, channels=-1),
    "prior_width_is_odd": lambda data: with_stage(data, prior_width=5),
    "blocks_are_negative": lambda data: with_stage(data, analysis_blocks=-1),
    "rho_width_is_text": lambda data: {**data, "rho_width": "8"},
    "rho_width_is_zero": lambda data: {**data, "rho_width": 0},
    "rho_width_is_huge": lambda data: {**data, "rho_width": 10**9},
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_configuration_that_is_none_is_refused(
    name: str, tmp_path: Path, config: ModelConfig, tensors: Tensors
) -> None:
    text = json.dumps(CONFIGS[name](asdict(config)), sort_keys=True, separators=(",", ":"))
    refusal(write(tmp_path / "bad.safetensors", text, tensors))


@pytest.mark.parametrize("text", ["", "{", "stages", "\0", "[" * 100_000])
def test_configuration_that_is_no_json_is_refused(text: str, tmp_path: Path, tensors: Tensors) -> None:
    refusal(write(tmp_path / "bad.safetensors", text, tensors))


# --- files ----------------------------------------------------------------------------------------------------


def test_damage_is_found_by_the_id(tmp_path: Path) -> None:
    data = GOLDEN.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    path = tmp_path / "damaged.safetensors"
    for position in np.linspace(start, len(data) - 1, 12).astype(int):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        error = refusal(path)
        assert str(error).startswith("damaged.safetensors is damaged")
        assert error.needed == Codec(GOLDEN, device="cpu").model_id.hex()
        assert error.found not in (None, error.needed)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, 5000, 20_000, -1])
def test_truncated_models_are_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(GOLDEN.read_bytes()[:length])
    assert "cut.safetensors" in str(refusal(path))


@pytest.mark.parametrize(
    "data",
    [
        b"not a model at all, and long enough to have eight bytes",
        (2**63).to_bytes(8, "little") + b"{}",
        (2**40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"\xff\xff",
        (16).to_bytes(8, "little") + b'{"__metadata__":1}'[:16],
    ],
    ids=["text", "size_2_63", "size_2_40", "empty_head", "list_head", "not_utf8", "cut_head"],
)
def test_files_that_are_no_models_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(data)
    assert "foreign.safetensors" in str(refusal(path))


@pytest.mark.parametrize("field", ["format", "id", "config"])
def test_metadata_that_lack_are_refused(field: str, tmp_path: Path, config: ModelConfig, tensors: Tensors) -> None:
    path = tmp_path / "bad.safetensors"
    fields = {"format": "hvcodec-model-1", "config": config.to_json(), "id": identify(config, tensors).hex()}
    del fields[field]
    path.write_bytes(save(tensors, fields))
    refusal(path)


def test_format_of_a_later_version_is_refused(tmp_path: Path, config: ModelConfig, tensors: Tensors) -> None:
    path = write(tmp_path / "late.safetensors", config.to_json(), tensors, format="hvcodec-model-2")
    assert "late.safetensors is not an hvcodec model of a format that this version knows" in str(refusal(path))


def test_folder_and_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    refusal(tmp_path / "folder.safetensors")
    error = refusal(tmp_path / "none.safetensors")
    assert error.needed == str(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("distortion", "said"),
    [
        ("{", "damaged"),
        ("[1]", "damaged"),
        ("[" * 60_000, "damaged"),
        ('{"ms_ssim": 1%s}' % ("0" * 400), "damaged"),
        ('{"ms_ssim": "much"}', "damaged"),
        ('{"ms_ssim": 1.5}', "not known here"),
        ('{"taste": 0.5}', "not known here"),
    ],
)
def test_a_distortion_that_makes_no_sense(
    config: ModelConfig, tensors: Tensors, tmp_path: Path, distortion: str, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        Codec(write(tmp_path / "bad.safetensors", config.to_json(), tensors, distortion=distortion), device="cpu")
