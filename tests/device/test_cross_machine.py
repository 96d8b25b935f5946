"""One file gives one set of symbols: over threads, kernels, memory formats, batches, strips and devices."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import picture
from torch import Tensor

from hvcodec import container
from hvcodec.codec import Codec
from hvcodec.model import Model, Prior, strips, tiny_config, walk
from hvcodec.model.prior import round_index
from hvcodec.picture import Picture

pytestmark = pytest.mark.device

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = GOLDEN / "models" / "tiny.safetensors"
TRELLIS = GOLDEN / "models" / "trellis.safetensors"
BATCH = ("rho_lowest", "rho_highest", "rho_mixed")  # of one size, with digests
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

Array = np.ndarray[Any, np.dtype[Any]]


def vector(name: str) -> tuple[bytes, list[int]]:
    """A golden file and the CRC-32 of each layer's symbols, as another machine wrote them."""
    description = json.loads((GOLDEN / "vectors" / f"{name}.json").read_text(encoding="utf-8"))
    return (GOLDEN / "vectors" / f"{name}.hvc").read_bytes(), description["symbols"]


def digests(symbols: list[Array]) -> list[int]:
    return [zlib.crc32(planes.astype("<i2").tobytes()) for planes in symbols]


def largest_step(a: Picture, b: Picture) -> int:
    return int(np.abs(a.pixels.astype(int) - b.pixels).max())


@pytest.fixture(scope="module", params=[MODEL, TRELLIS], ids=lambda path: path.stem)
def writer(request: pytest.FixtureRequest) -> Codec:
    """A codec whose encoder asks the prior after the analysis, and one whose analysis has asked it."""
    return Codec(request.param, device="cpu")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@contextmanager
def kernels(onednn: bool) -> Iterator[None]:
    """Convolutions of oneDNN, or the plain ones."""
    (before, *_) = torch.backends.mkldnn.set_flags(onednn)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(before)


@contextmanager
def operands(precision: str) -> Iterator[None]:
    """Float32 operands rounded to bf16 or tf32, or whole (ieee), everywhere."""
    # Once this setting was touched, torch refuses to say what the older ones are: so never those.
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has no setting for the precision of float32 operands")
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = precision  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.fp32_precision = before


def in_memory_format(codec: Codec, contiguous: bool, patch: pytest.MonkeyPatch) -> Codec:
    """The codec, or a copy whose weights and features are not channels-last."""
    if not contiguous:
        return codec
    other = copy.copy(codec)
    other.model = copy.deepcopy(codec.model).to(memory_format=torch.contiguous_format)
    weights = other.model.prior.stage(1).layers[0].near.weight  # type: ignore[union-attr]
    assert weights.is_contiguous()
    patch.setattr(walk, "_channels_last", lambda x: x.float().contiguous())
    return other


def cut_into_strips(patch: pytest.MonkeyPatch) -> None:
    """The thinnest strips there are: two rows of the prior's features, 64 rows of pixels."""
    patch.setattr(walk, "STRIP_POSITIONS", 1)
    patch.setattr(strips, "STRIP_PIXELS", 1)


WAYS = list(product((1, 2), (True, False), (True, False), (True, False), (True, False)))


@pytest.mark.parametrize(("n_threads", "onednn", "contiguous", "together", "in_strips"), WAYS)
@pytest.mark.usefixtures("threads")
def test_symbols_are_the_same_in_every_way(
    n_threads: int,
    onednn: bool,
    contiguous: bool,
    together: bool,
    in_strips: bool,
    tiny_codec: Codec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [vector(name) for name in BATCH]
    plain = [tiny_codec.decode(data) for data, _ in files]
    codec = in_memory_format(tiny_codec, contiguous, monkeypatch)
    torch.set_num_threads(n_threads)
    if in_strips:
        cut_into_strips(monkeypatch)
    with kernels(onednn):
        for data, expected in files:
            assert digests(codec.decode_symbols(container.unpack(data))) == expected
        if together:
            pictures = codec.decode_batch([data for data, _ in files])
        else:
            pictures = [codec.decode(data) for data, _ in files]
    for one, other in zip(pictures, plain, strict=True):
        assert largest_step(one, other) <= 1


@pytest.mark.parametrize(("n_threads", "onednn", "contiguous", "in_strips"), [w[:3] + w[4:] for w in WAYS if w[3]])
@pytest.mark.usefixtures("threads")
def test_file_written_in_any_way_is_read_in_the_plain_way(
    n_threads: int,
    onednn: bool,
    contiguous: bool,
    in_strips: bool,
    writer: Codec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = picture(60, 200, seed=12)
    plain = writer.encode(shown, [35] * 5)
    with monkeypatch.context() as patch:
        codec = in_memory_format(writer, contiguous, patch)
        torch.set_num_threads(n_threads)
        if in_strips:
            cut_into_strips(patch)
        with kernels(onednn):
            encoded = codec.encode(shown, [35] * 5, digests=True)
            own = encoded.decoded()
    torch.set_num_threads(1)
    decoded = writer.decode(encoded.data)  # checks the digests
    assert largest_step(decoded, own) <= 1
    assert abs(len(encoded.data) - 4 * 6 - len(plain.data)) <= 4 + 0.01 * len(plain.data)


@pytest.mark.parametrize("onednn", [True, False])
def test_a_large_batch_is_read_one_by_one(onednn: bool, writer: Codec) -> None:
    """Some kernels, whose sums are not exact, are for batches from 16 on."""
    shown = [picture(128, 128, seed=i) for i in range(16)]
    with kernels(onednn):
        coded = writer.encode_batch(shown, [[30 + i] * 5 for i in range(16)], digests=True)
    for encoded in coded:
        assert largest_step(writer.decode(encoded.data), encoded.decoded()) <= 1


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast_half": lambda: torch.autocast("cpu", torch.float16),
    "gradients": torch.enable_grad,
    "inference": torch.inference_mode,
    "device": lambda: torch.device("cpu"),
}


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_settings_of_the_caller_change_nothing(name: str, tiny_codec: Codec, writer: Codec) -> None:
    data, expected = vector("rho_mixed")
    shown = picture(70, 66, seed=3)
    plain = writer.encode(shown, (63, 0, 40, 7, 55), digests=True)
    with SETTINGS[name]():
        assert digests(tiny_codec.decode_symbols(container.unpack(data))) == expected
        decoded = tiny_codec.decode(data)
        assert writer.encode(shown, (63, 0, 40, 7, 55), digests=True).data == plain.data
    np.testing.assert_array_equal(decoded.pixels, tiny_codec.decode(data).pixels)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_operands_of_lower_precision_change_no_symbol(precision: str, tiny_codec: Codec, writer: Codec) -> None:
    data, expected = vector("rho_mixed")
    with operands(precision):
        assert digests(tiny_codec.decode_symbols(container.unpack(data))) == expected
        encoded = writer.encode(picture(70, 66, seed=3), (63, 0, 40, 7, 55), digests=True)
    writer.decode(encoded.data)  # checks the digests


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_default_dtype_changes_nothing_of_what_is_decoded(tiny_codec: Codec, dtype: torch.dtype) -> None:
    data, expected = vector("rho_mixed")
    plain = tiny_codec.decode(data)
    torch.set_default_dtype(dtype)
    try:
        assert digests(tiny_codec.decode_symbols(container.unpack(data))) == expected
        assert largest_step(tiny_codec.decode(data), plain) == 0
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", BATCH)
def test_bfloat16_changes_no_symbol_and_few_pixels(name: str, tiny_codec: Codec) -> None:
    data, _ = vector(name)
    half = Codec(MODEL, device="cpu", dtype="bfloat16").decode(data)  # checks the digests
    error = half.pixels.astype(float) - tiny_codec.decode(data).pixels
    assert np.sqrt(np.mean(error**2)) < 1


# --- the exact world against float64 --------------------------------------------------------------------------


def random_symbols(codec: Codec, height: int, width: int, rng: np.random.Generator) -> list[Array]:
    """Symbols as wild as a file can hold them: mostly small, some of any size."""
    planes = []
    for layer in codec.model.config.layers:
        shape = layer.shape(height, width)
        small = rng.integers(-3, 4, shape)
        wild = rng.integers(-32767, 32768, shape)
        planes.append(np.where(rng.integers(0, 8, shape) == 0, wild, small).astype(np.int16))
    return planes


def indices_of_the_walk(prior: Prior, rho: list[int], symbols: list[Array], height: int, width: int) -> list[Array]:
    """The scale index of every symbol, as the entropy coder gets them."""
    found = [np.full(planes.shape, 255, np.uint8) for planes in symbols]

    def take(layer: int, indices: Array, positions: Array) -> Array:
        found[layer].reshape(len(indices), -1)[:, positions] = indices
        return symbols[layer].reshape(len(indices), -1)[:, positions]

    walk.walk_prior(prior, rho, height, width, [True] * len(symbols), take)
    return found


@pytest.mark.parametrize("in_strips", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@torch.inference_mode()
def test_float64_gives_the_same_scale_indices(
    batch: int, in_strips: bool, tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width = 130, 70
    rng = np.random.default_rng(batch)
    rhos = [[int(v) for v in rng.integers(0, 64, 5)] for _ in range(batch)]
    symbols = [random_symbols(tiny_codec, height, width, rng) for _ in range(batch)]
    stacked = [torch.from_numpy(np.stack(planes)).double() for planes in zip(*symbols, strict=True)]
    reference = copy.deepcopy(tiny_codec.model.prior).double()
    real = reference(stacked, torch.tensor(rhos, dtype=torch.float64))
    expected = [round_index(t.double() * 2.0**9).to(torch.uint8).numpy() for t in real]
    if in_strips:
        monkeypatch.setattr(walk, "STRIP_POSITIONS", 1)
    for i in range(batch):
        prior = tiny_codec.model.prior
        found = indices_of_the_walk(prior, rhos[i], symbols[i], height, width)
        for layer, planes in enumerate(found):
            np.testing.assert_array_equal(planes, expected[layer][i])
        assert all(planes.std(axis=(1, 2)).max() > 0.3 for planes in found)  # the context is at work


# --- strips of the float world --------------------------------------------------------------------------------


def wide_model(**blocks: int) -> Model:
    """A random model with blocks everywhere, all of them at work, so that a strip's halo is put to use."""
    torch.manual_seed(4)
    tiny = tiny_config()
    stages = tuple(replace(s, groups=4, prior_width=2, layers=2, **blocks) for s in tiny.stages)
    model = Model(replace(tiny, stages=stages))
    for name, weight in model.transform.named_parameters():
        if "project" in name or "modulate" in name:
            torch.nn.init.normal_(weight, std=0.3)
        elif "scale_out" in name:
            torch.nn.init.ones_(weight)
    return model.eval()


SHAPES = [
    {"analysis_blocks": 0, "synthesis_blocks": 0, "layer_blocks": 0},
    {"analysis_blocks": 2, "synthesis_blocks": 0, "layer_blocks": 0},
    {"analysis_blocks": 0, "synthesis_blocks": 2, "layer_blocks": 0},
    {"analysis_blocks": 0, "synthesis_blocks": 0, "layer_blocks": 2},
    {"analysis_blocks": 1, "synthesis_blocks": 1, "layer_blocks": 1},
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
@torch.inference_mode()
def test_strips_synthesize_what_the_whole_does(shape: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = wide_model(**shape), np.random.default_rng(0)
    height, width = 512, 64
    rho = torch.tensor([[20.0] * 5, [45.0] * 5])
    symbols = [rng.integers(-2, 3, (2, *layer.shape(height, width))).astype(np.int16) for layer in model.config.layers]

    def together() -> Tensor:
        parts = list(strips.synthesize(model.transform, symbols, rho, height, width))
        assert [rows.start for rows, _ in parts] == [0, *(rows.stop for rows, _ in parts[:-1])]
        return torch.cat([pixels for _, pixels in parts], dim=2)

    whole = together()
    monkeypatch.setattr(strips, "STRIP_PIXELS", 1)
    cut = together()
    assert len(strips.cut(model.config, height // 16, width // 16)) == 4
    assert whole.std() > 0.05
    assert float((cut - whole).abs().max()) <= 1e-4 * float(whole.abs().max())


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
@torch.inference_mode()
def test_strips_analyze_what_the_whole_does(shape: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = wide_model(**shape), np.random.default_rng(1)
    height, width = 512, 64
    rho = torch.tensor([[20.0] * 5])
    pixels = torch.from_numpy(rng.uniform(-0.5, 0.5, (1, 3, height, width))).float()

    def rows(first: int, end: int) -> Tensor:
        return pixels[:, :, first:end]

    whole = strips.analyze(model, rows, rho, height, width).symbols
    monkeypatch.setattr(strips, "STRIP_PIXELS", 1)
    cut = strips.analyze(model, rows, rho, height, width).symbols
    for a, b in zip(whole, cut, strict=True):
        assert a.any()
        assert np.mean(a != b) < 2e-3  # a value on the edge between two symbols may fall either way


@pytest.mark.parametrize("mode", ["RGB", "L16"])
def test_strips_change_no_symbol_and_no_pixel_by_more_than_one_of_255(
    mode: str, tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = tiny_codec.encode(picture(70, 520, mode, seed=2), [50, 45, 40, 35, 30], digests=True)
    whole = encoded.decoded()
    symbols = digests(tiny_codec.decode_symbols(container.unpack(encoded.data)))
    cut_into_strips(monkeypatch)
    assert digests(tiny_codec.decode_symbols(container.unpack(encoded.data))) == symbols
    assert largest_step(tiny_codec.decode(encoded.data), whole) <= (1 if mode == "RGB" else 257)


# --- CUDA -----------------------------------------------------------------------------------------------------


@needs_cuda
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cuda_decodes_the_same_symbols(dtype: Any, tf32: bool, tiny_codec: Codec) -> None:
    codec = Codec(MODEL, device="cuda", dtype=dtype)
    with operands("tf32" if tf32 else "ieee"):
        for path in sorted((GOLDEN / "vectors").glob("*.hvc")):
            data, expected = vector(path.stem)
            file = container.unpack(data, partial=True)
            assert digests(codec.decode_symbols(file)) == expected
            error = codec.decode(data, partial=True).pixels.astype(float)
            error -= tiny_codec.decode(data, partial=True).pixels
            error *= 255 / (2**file.header.depth - 1)
            if dtype == "float32" and not tf32:
                assert np.abs(error).max() <= 1
            assert np.sqrt(np.mean(error**2)) < 1


@needs_cuda
@pytest.mark.parametrize("model", [MODEL, TRELLIS], ids=lambda path: path.stem)
def test_cuda_batch_is_read_by_the_processor_and_the_other_way_round(model: Path) -> None:
    there, here = Codec(model, device="cuda"), Codec(model, device="cpu")
    shown = [picture(90, 70, seed=i) for i in range(20)]
    for writer, reader in ((there, here), (here, there)):
        coded = writer.encode_batch(shown, [[3 * i] * 5 for i in range(20)], digests=True)
        decoded = reader.decode_batch([encoded.data for encoded in coded])
        for one, encoded in zip(decoded, coded, strict=True):
            assert largest_step(one, encoded.decoded()) <= 1
