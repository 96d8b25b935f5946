"""The prior computes with integers: float32 at the limits of the proof gives what int64 gives."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hvcodec import container
from hvcodec.codec import Codec
from hvcodec.errors import ModelError
from hvcodec.model import Model, ModelConfig, prior, tiny_config
from hvcodec.model.blocks import Block, snap
from hvcodec.model.prior import EXACT_LIMIT, ExactConv, Prior, RhoTable, magnitudes, requantize
from hvcodec.model.weights import save_weights

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
import decoder
from make_model import tables

Array = np.ndarray[Any, np.dtype[Any]]


def small_config(width: int = 4, channels: int = 2, layers: int = 1) -> ModelConfig:
    tiny = tiny_config()
    stages = [replace(s, groups=4, prior_width=width, channels=channels, layers=layers) for s in tiny.stages]
    return replace(tiny, stages=tuple(stages))


# --- one convolution at its limits ----------------------------------------------------------------------------

# (inputs, kernel, groups): the largest fan-in that the proof lets pass with weights at their limit
WIDEST = [(518, 1, 1), (116, 3, 1), (232, 3, 2)]


@pytest.mark.parametrize(("inputs", "kernel", "groups"), WIDEST)
@pytest.mark.parametrize("signs", ["same", "alternating", "random"])
@torch.inference_mode()
def test_convolution_at_the_limit_is_the_integer_one(inputs: int, kernel: int, groups: int, signs: str) -> None:
    rng = np.random.default_rng(1)
    outputs = 2 * groups
    layer = ExactConv(inputs, outputs, kernel, groups=groups)
    shape = tuple(layer.weight.shape)
    grid = np.full(shape, layer.limit)
    if signs == "alternating":
        grid[:, ::2] *= -1
    elif signs == "random":
        grid = rng.choice([-layer.limit, layer.limit - 1, 1, layer.limit], shape)
    layer.weight.copy_(torch.from_numpy(grid).float() * 2.0**-layer.shift)
    one_input_more = layer.bound() + layer.bound() // (inputs // groups)
    assert layer.bound() < EXACT_LIMIT <= one_input_more
    for x in (
        np.full((inputs, 5, 4), 255),
        rng.integers(0, 256, (inputs, 5, 4)),
        np.where(rng.integers(0, 2, (inputs, 5, 4)) == 1, 255, 0),
    ):
        expected = decoder.conv(x.astype(np.int64), grid.astype(np.int64), groups)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            batch = torch.from_numpy(x)[None].float().contiguous(memory_format=memory_format)
            found = layer(batch)[0].numpy()
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected)
        assert np.abs(expected).max() <= layer.bound()
    if signs == "same":  # a bound that is reached, not a loose one
        reached = decoder.conv(np.full((inputs, 5, 4), 255), grid, groups).max()
        assert reached == layer.bound()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (3, 1), (4, 6), (5, 7)])
@torch.inference_mode()
def test_the_second_pass_at_its_positions_is_that_of_the_plane(rows: int, columns: int) -> None:
    """A checkerboard hides all of a kernel but the neighbours above, left, right and below."""
    rng = np.random.default_rng(rows)
    layer = ExactConv(6, 5, 3)
    seen = rng.integers(0, 65, (6, rows, columns))
    seen[:, np.indices((rows, columns)).sum(axis=0) % 2 == 1] = 0
    plane = layer(torch.from_numpy(seen)[None].float())[0].numpy()
    padded = np.pad(seen, ((0, 0), (1, 1), (1, 1)))
    for y, x in np.argwhere(np.indices((rows, columns)).sum(axis=0) % 2 == 1) + 1:
        beside = [padded[:, y - 1, x], padded[:, y, x - 1], padded[:, y, x + 1], padded[:, y + 1, x]]
        found = layer.of_neighbours(torch.from_numpy(np.concatenate(beside))[None, :, None, None].float())
        np.testing.assert_array_equal(found[0, :, 0, 0].numpy(), plane[:, y - 1, x - 1])


@pytest.mark.parametrize("shift", [5, 7])
def test_weights_round_to_their_grid_and_stop_at_its_end(shift: int) -> None:
    layer = ExactConv(3, 1, 3, shift=shift)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-3, 3, 27).view_as(layer.weight))
    grid = layer.grid_weight().detach()
    assert torch.equal(grid, grid.round())
    assert float(grid.abs().max()) == min(63, 3 * 2**shift)


# --- small steps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", [False, True])
def test_requantize_is_the_integer_shift_up_to_the_limit(gradients: bool) -> None:
    rng = np.random.default_rng(2)
    edges = [0, 63, 64, 65, -63, -64, -65, 255 * 128 + 63, 255 * 128 + 64, EXACT_LIMIT - 1, 1 - EXACT_LIMIT]
    y = np.concatenate([edges, rng.integers(1 - EXACT_LIMIT, EXACT_LIMIT, 10_000), np.arange(-40_000, 40_000)])
    with torch.set_grad_enabled(gradients):
        found = requantize(torch.from_numpy(y).float()).numpy()
    np.testing.assert_array_equal(found, decoder.q(y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_block_gives_the_same_without_gradients_and_leaves_its_input_alone(dtype: torch.dtype) -> None:
    """It works in place then."""
    torch.manual_seed(1)
    block = Block(8, 2, 4)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x, rho = torch.randn(2, 8, 5, 6), torch.randn(2, 4)
    before = x.clone()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        expected = block(x, rho).detach()
        with torch.no_grad():
            found = block(x, rho)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(x, before)
    assert not torch.equal(found, x)


def test_the_gradient_of_snap_is_that_of_a_clamp_without_the_rounding() -> None:
    x = torch.tensor([-9.0, -0.5, -0.26, -0.25, 0.0, 0.2, 3.0, 5.24, 5.25, 80.0], requires_grad=True)
    found = snap(x, 2.0, 0, 10)
    assert found.tolist() == [0, 0, 0, 0, 0, 0, 6, 10, 10, 10]
    (gradient,) = torch.autograd.grad(found, x, torch.arange(1.0, 11.0))
    # 2 x rounds to less than 0 below -0.25, and to more than 10 from 5.25 on.
    assert gradient.tolist() == [0, 0, 0, 8, 10, 12, 14, 16, 0, 0]


def test_magnitudes_of_every_value_are_those_of_the_document() -> None:
    doubled = np.arange(-2 * 32767, 2 * 32767 + 1).reshape(1, 1, -1)
    found = magnitudes(torch.from_numpy(doubled / 2).float()[None])[0].numpy()
    np.testing.assert_array_equal(found, decoder.magnitudes(doubled))
    assert found.max() == prior.MAGNITUDE_MAX


@pytest.mark.parametrize("value", [0, 1, 6, 7, 8, 31, 62, 63])
def test_tables_over_rho_are_straight_between_knots(value: int) -> None:
    table = RhoTable(2, 3, grid=128.0)
    with torch.no_grad():
        table.knots.copy_(torch.randn(table.knots.shape))
    knots = table.knots.detach().double()
    left, part = divmod(value * 9, 63)
    mixed = knots[:, left] * (1 - part / 63) + knots[:, min(left + 1, 9)] * (part / 63)
    with torch.no_grad():
        picked, whole = table(torch.tensor([[value, 0], [0, value]])), table.table()
    assert float((whole[:, value] - mixed * 128).abs().max()) < 0.51
    assert torch.equal(picked[0, :, 0, 0], whole[0, value] + whole[1, 0])
    assert torch.equal(picked[1, :, 0, 0], whole[0, 0] + whole[1, value])
    assert float(picked.abs().max()) <= table.bound()


# --- the proof ------------------------------------------------------------------------------------------------


def all_sums(model: Prior) -> dict[str, int]:
    """The bound of every sum, found by moving the limit: what check_exact says when it refuses."""
    bounds: dict[str, int] = {}
    for group in range(len(model.config.stages)):
        stage = model.stage(group)
        for i, layer in enumerate(stage.layers):
            for name, terms in layer.sums().items():
                bound = sum(term.bound() for term in terms if term is not None)
                bounds[f"stages.{group}.layers.{i}.{name}"] = bound
    return bounds


def extreme(model: Model, rng: np.random.Generator) -> None:
    """Weights and tables at the ends of their ranges."""
    with torch.no_grad():
        for module in model.prior.modules():
            if isinstance(module, ExactConv):
                grid = rng.choice([-module.limit, module.limit, 0, 1], tuple(module.weight.shape))
                module.weight.copy_(torch.from_numpy(grid).float() * 2.0**-module.shift)
            elif isinstance(module, RhoTable):
                sign = rng.choice([-1.0, 1.0, 0.01], tuple(module.knots.shape))
                module.knots.copy_(torch.from_numpy(sign * 32767 / module.grid).float())


def test_limit_of_the_proof_is_sharp(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(small_config())
    extreme(model, np.random.default_rng(3))
    largest = max(all_sums(model.prior).values())
    model.prior.check_exact()
    monkeypatch.setattr(prior, "EXACT_LIMIT", largest + 1)
    model.prior.check_exact()
    monkeypatch.setattr(prior, "EXACT_LIMIT", largest)
    with pytest.raises(ModelError, match=str(largest)):
        model.prior.check_exact()


# The narrowest widths at which the proof fails with all weights at their limits, for each kind of sum.
TOO_WIDE = {
    "first.mix": (520, 1),
    "first.out": (520, 1),
    "second.mix": (2, 240),
    "spread": (240, 1),
}


@pytest.mark.parametrize("name", sorted(TOO_WIDE))
def test_sums_that_can_leave_the_integers_are_refused(name: str) -> None:
    width, channels = TOO_WIDE[name]
    model = Prior(small_config(width, channels))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ExactConv):
                module.weight.zero_()
    model.check_exact()
    layer = model.stage(2).layers.at(0)
    part = {"first.mix": layer.first.mix, "first.out": layer.first.out, "second.mix": layer.second.near,
            "spread": layer.spread}[name]  # fmt: skip
    with torch.no_grad():
        part.weight.fill_(part.limit * 2.0**-part.shift)
    with pytest.raises(ModelError, match=rf"stages\.2\.layers\.0\.{name} can reach"):
        model.check_exact()


def test_seeds_and_lifts_are_part_of_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Prior(small_config())
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ExactConv):
                module.weight.zero_()
        model.stage(3).seed.knots.fill_(40000.0 / model.stage(3).seed.grid)
    monkeypatch.setattr(prior, "EXACT_LIMIT", 5 * 32767)  # five groups, each table at its end
    with pytest.raises(ModelError, match=r"stages\.3\.seed can reach"):
        model.check_exact()


# --- the whole prior ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_adversarial_prior_is_followed_by_an_integer_decoder(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    config = small_config(width=int(rng.choice([2, 8, 24])), channels=int(rng.integers(1, 4)), layers=1 + seed % 2)
    model = Model(config)
    extreme(model, rng)
    if seed >= 3:  # calmer tables: activations between the ends of their range
        with torch.no_grad():
            for module in model.prior.modules():
                if isinstance(module, RhoTable):
                    module.knots.mul_(float(rng.uniform(0.001, 0.05)))
    path = tmp_path / "adversarial.safetensors"
    save_weights(path, model, tables())
    codec = Codec(path, device="cpu")
    rho = [int(value) for value in rng.integers(0, 64, 5)]
    symbols = []
    for layer in codec.model.config.layers:
        shape = layer.shape(64, 64)
        wild = np.where(rng.integers(0, 2, shape) == 1, 32767, -32767)
        calm = rng.integers(-300, 301, shape)
        planes = np.where(rng.integers(0, 4, shape) == 0, wild, calm) * (rng.integers(0, 3, shape) > 0)
        symbols.append(planes.astype(np.int16))
    chunks = codec.encode_symbols(symbols, rho, 64, 64)
    doubled = decoder.prior(chunks, rho, decoder.Model(path), 1, 1, trellis=False)
    for planes, expected in zip(doubled, symbols, strict=True):
        np.testing.assert_array_equal(planes, 2 * expected.astype(int))
    data = container.pack(width=64, height=64, grey=False, depth=8, model_id=codec.model_id, rho=rho, chunks=chunks)
    for planes, expected in zip(codec.decode_symbols(container.unpack(data)), symbols, strict=True):
        np.testing.assert_array_equal(planes, expected)


@torch.inference_mode()
def test_prior_that_was_stored_is_the_one_that_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = Model(small_config())
    with torch.no_grad():
        for module in model.prior.modules():
            if isinstance(module, RhoTable):
                module.knots.copy_(torch.randn(module.knots.shape))
    trained = copy.deepcopy(model.prior)
    path = tmp_path / "model.safetensors"
    save_weights(path, model, tables())
    deployed = Codec(path, device="cpu").model.prior
    rng = np.random.default_rng(6)
    symbols = [
        torch.from_numpy(rng.integers(-9, 10, (2, *layer.shape(64, 128)))).float() for layer in model.config.layers
    ]
    rho = torch.tensor([[0.0, 63, 20, 5, 41], [7.0, 1, 62, 33, 30]])
    for a, b in zip(trained(symbols, rho), deployed(symbols, rho), strict=True):
        assert torch.equal(a, b)
