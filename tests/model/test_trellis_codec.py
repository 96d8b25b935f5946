"""The trellis in the whole codec: files with and without it, strips, targets, masks, and models with tables for it."""

from __future__ import annotations

import copy
import hashlib
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from synthetic import MODES, picture
from torch import Tensor

import hvcodec
from hvcodec import container, trellis
from hvcodec.codec import Codec, Encoded, symbol_digest
from hvcodec.entropy import Tables, TrellisTables
from hvcodec.errors import CorruptError, DesyncError, HVCodecError, ModelError
from hvcodec.model import rounding, strips, walk
from hvcodec.model.config import lambda_of
from hvcodec.model.prior import checkerboard, magnitudes
from hvcodec.model.weights import from_tensors, identify, load_weights, save_weights, to_tensors
from hvcodec.picture import Picture
from hvcodec.targets import Bytes, Psnr

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = dict[str, Tensor]

LEVEL = 30
RHO = [LEVEL] * 5
N_LAYERS = 6
GOLDEN_MODEL = Path(__file__).parents[1] / "golden" / "models" / "tiny.safetensors"


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory: pytest.TempPathFactory, tiny_codec: Codec) -> Path:
    """The golden model with tables for a trellis."""
    path = tmp_path_factory.mktemp("trellis") / "linked.safetensors"
    save_weights(path, tiny_codec.model, tiny_codec.tables, trellis=TrellisTables.logistic())
    return path


@pytest.fixture(scope="module")
def codec(weights_path: Path) -> Codec:
    return Codec(weights_path, device="cpu")


def has_trellis(data: bytes) -> bool:
    return container.read_header(data).in_trellis


def assert_decodes(codec: Codec, encoded: Encoded) -> None:
    """To what the encoder expects, bit for bit."""
    np.testing.assert_array_equal(codec.decode(encoded.data).pixels, encoded.decoded().pixels)


def cost(encoded: Encoded) -> float:
    """R + lambda D of the real file, in bits per pixel."""
    return encoded.bpp + lambda_of(LEVEL) * 10 ** (-encoded.psnr_db / 10)


def share_of_half_values(codec: Codec, data: bytes) -> float:
    """Of all values in the trellis but zero."""
    layers = zip(codec.model.config.layers, codec.decode_symbols(container.unpack(data)), strict=True)
    values = np.concatenate([planes.ravel() for layer, planes in layers if layer.stride <= 8])
    return float((values[values != 0] % 2 != 0).mean())


# --- what comes back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_files_decode_to_what_the_encoder_expects(mode: str, codec: Codec) -> None:
    encoded = codec.encode(picture(150, 90, mode, seed=3), RHO, digests=True)
    assert has_trellis(encoded.data)
    assert_decodes(codec, encoded)
    assert 0.2 < share_of_half_values(codec, encoded.data) < 0.8


@pytest.mark.parametrize("level", [0, 15, 45, 63])
@pytest.mark.parametrize("size", [(1, 1), (65, 1), (64, 64), (200, 130)])
def test_every_rate_and_size(level: int, size: tuple[int, int], codec: Codec) -> None:
    encoded = codec.encode(picture(*size, seed=level), [level] * 5, digests=True)
    assert has_trellis(encoded.data)
    assert_decodes(codec, encoded)


def test_digests_are_of_values_in_half_steps(codec: Codec) -> None:
    data = codec.encode(picture(100, 70), RHO, digests=True).data
    file = container.unpack(data)
    values = codec.decode_symbols(file)
    assert file.header.digests == tuple(symbol_digest(planes) for planes in values)
    digests = (*file.header.digests[:-1], file.header.digests[-1] ^ 1)
    with pytest.raises(DesyncError) as info:
        codec.decode_symbols(replace(file, header=replace(file.header, digests=digests)))
    assert info.value.layer == N_LAYERS - 1


def test_effort_0_gives_the_scalar_files_of_a_model_without_a_trellis(codec: Codec, tiny_codec: Codec) -> None:
    shown = picture(90, 75, seed=5)
    data = codec.encode(shown, RHO, effort=0).data
    assert not has_trellis(data)
    assert_decodes(codec, codec.encode(shown, RHO, effort=0))
    assert container.unpack(data).chunks == container.unpack(tiny_codec.encode(shown, RHO, effort=0).data).chunks


@pytest.mark.parametrize("seed", [3, 5])
def test_refinement_is_no_worse_by_its_own_cost(seed: int, codec: Codec) -> None:
    shown = picture(192, 128, seed=seed)
    plain, refined, more = (codec.encode(shown, RHO, effort=effort, digests=True) for effort in (1, 2, 4))
    assert has_trellis(refined.data)
    assert cost(refined) < 1.005 * cost(plain)  # eight steps in half precision
    assert cost(more) < cost(plain)
    assert_decodes(codec, refined)
    assert_decodes(codec, more)


def test_a_model_for_the_eye_has_a_trellis_too(tmp_path: Path, tiny_codec: Codec) -> None:
    path = tmp_path / "eye.safetensors"
    save_weights(path, tiny_codec.model, tiny_codec.tables, {"ms_ssim": 0.5}, TrellisTables.logistic())
    eye = Codec(path, device="cpu")
    for effort in (1, 2):
        encoded = eye.encode(picture(80, 192), RHO, effort=effort, digests=True)
        assert has_trellis(encoded.data)
        assert_decodes(eye, encoded)


def test_bfloat16_decodes_to_its_own_reconstruction(weights_path: Path, codec: Codec) -> None:
    half = Codec(weights_path, device="cpu", dtype="bfloat16")
    shown = picture(120, 80, seed=6)
    for effort in (1, 2):
        encoded = half.encode(shown, RHO, effort=effort, digests=True)
        assert has_trellis(encoded.data)
        assert_decodes(half, encoded)
        difference = codec.decode(encoded.data).pixels.astype(float) - encoded.decoded().pixels
        assert np.sqrt(np.square(difference).mean()) < 1


# --- batches --------------------------------------------------------------------------------------------------


def test_files_with_and_without_a_trellis_are_decoded_together(codec: Codec) -> None:
    coded = [
        codec.encode(picture(70 + 10 * (i // 4), 50, seed=i), [20 + 4 * i] * 5, effort=i % 2, digests=True)
        for i in range(6)
    ]
    assert [has_trellis(encoded.data) for encoded in coded] == [False, True] * 3
    for encoded, decoded in zip(coded, codec.decode_batch([encoded.data for encoded in coded]), strict=True):
        difference = decoded.pixels.astype(int) - encoded.decoded().pixels
        assert np.abs(difference).max() <= 1  # float sums of a batch


def test_a_batch_is_coded_as_its_pictures_alone(codec: Codec) -> None:
    shown = [picture(70, 90, seed=i) for i in range(3)]
    rhos = [[25 + 5 * i] * 5 for i in range(3)]
    for encoded, source, rho in zip(codec.encode_batch(shown, rhos, digests=True), shown, rhos, strict=True):
        assert_decodes(codec, encoded)
        alone = codec.encode(source, rho)
        assert abs(encoded.n_bytes - alone.n_bytes - 4 * N_LAYERS) <= 4 + 0.01 * alone.n_bytes


# --- prefixes -------------------------------------------------------------------------------------------------


def test_a_cut_file_is_what_its_whole_layers_give(codec: Codec) -> None:
    encoded = codec.encode(picture(128, 100, seed=7), RHO, digests=True)
    header = container.read_header(encoded.data)
    end, errors = header.header_bytes, []
    for layers, size in enumerate((*header.chunk_sizes, 4)):
        expected = codec.decode(encoded.data, max_layers=layers)
        for length in {end, end + max(size, 1) - 1}:
            np.testing.assert_array_equal(codec.decode(encoded.data[:length], partial=True).pixels, expected.pixels)
        end += size
        errors.append(float(np.square(expected.pixels.astype(float) - picture(128, 100, seed=7).pixels).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[-2]
    np.testing.assert_array_equal(codec.decode(encoded.data, max_layers=99).pixels, encoded.decoded().pixels)


# --- strips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effort", [1, 2])
@pytest.mark.parametrize("mask", [False, True])
def test_strips_decode_to_what_the_encoder_expects(
    effort: int, mask: bool, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = picture(96, 400, seed=8)
    roi = np.add.outer(np.arange(400), np.arange(96)).astype(np.uint16) if mask else None
    whole = codec.encode(shown, RHO, effort=effort, roi=roi)
    monkeypatch.setattr(strips, "STRIP_PIXELS", 128 * 64)
    monkeypatch.setattr(walk, "STRIP_POSITIONS", 1)
    assert len(strips.cut(codec.model.config, 448 // 16, 128 // 16)) == 4
    encoded = codec.encode(shown, RHO, effort=effort, roi=roi, digests=True)
    assert_decodes(codec, encoded)
    monkeypatch.undo()
    np.testing.assert_array_equal(codec.decode(encoded.data).pixels, encoded.decoded().pixels)
    # Seams cost little: few paths have to be repaired.
    assert abs(encoded.n_bytes - 4 * N_LAYERS - whole.n_bytes) < 0.01 * whole.n_bytes
    assert encoded.psnr_db == pytest.approx(whole.psnr_db, abs=0.1)


def test_strips_of_the_exact_world_change_no_byte(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = picture(100, 300, seed=9)
    whole = codec.encode(shown, RHO).data
    monkeypatch.setattr(walk, "STRIP_POSITIONS", 1)
    assert codec.encode(shown, RHO).data == whole


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("level", [15, 45])
def test_what_an_analysis_chooses_is_a_path_as_the_coder_sees_it(
    level: int, dtype: Literal["float32", "bfloat16"], weights_path: Path
) -> None:
    """Both foresee the same scale indices: nothing has to be repaired but at seams."""
    codec, shown = Codec(weights_path, device="cpu", dtype=dtype), picture(200, 300, seed=10)
    for effort in (1, 2):
        [(chosen, _)] = codec._analyze(
            [shown], [[level] * 5], codec.linked_groups(True), effort, None, 0.0, 0.0, lambda done: True
        )
        before = [planes.copy() for planes in chosen]
        codec.encode_symbols(chosen, [level] * 5, shown.height, shown.width, in_trellis=True)
        for a, b in zip(chosen, before, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("effort", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (64, 64), (333, 70), (130, 200)])
def test_an_analysis_of_a_whole_picture_knows_the_scale_indices_of_the_coder(
    width: int, height: int, dtype: Literal["float32", "bfloat16"], effort: int, weights_path: Path
) -> None:
    """So that the prior needs to be asked only once. A layer of zeros is among the symbols, which no chunk tells of."""
    codec = Codec(weights_path, device="cpu", dtype=dtype)
    shown = [picture(width, height, seed=seed) for seed in (20, 21)]
    rhos = [[45] * 5, [0, 50, 0, 50, 0]]
    found = codec._analyze(shown, rhos, codec.linked_groups(True), effort, None, 0.0, 0.0, lambda done: True)
    for (symbols, indices), rho in zip(found, rhos, strict=True):
        assert indices is not None
        told = [np.full(planes.shape, 255, np.uint8) for planes in symbols]

        def note(
            layer: int, own: Array, positions: Array, symbols: list[Array] = symbols, told: list[Array] = told
        ) -> Array:
            told[layer].reshape(len(own), -1)[:, positions] = own
            return np.take(symbols[layer].reshape(len(own), -1), positions, axis=1)

        prior, groups = codec.model.prior, codec.linked_groups(True)
        walk.walk_prior(prior, rho, height, width, [True] * N_LAYERS, note, linked=groups)
        for a, b in zip(told, indices, strict=True):
            np.testing.assert_array_equal(a, b)
        again = [planes.copy() for planes in symbols]
        chunks = codec.encode_symbols(again, rho, height, width, in_trellis=True)
        assert codec.encode_symbols(symbols, rho, height, width, in_trellis=True, indices=indices) == chunks
    assert any(not planes.any() for planes in symbols) and any(planes.any() for planes in symbols)


def test_where_values_are_corrected_the_prior_is_asked_again(codec: Codec) -> None:
    shown = picture(128, 64, seed=22)
    [(symbols, indices)] = codec._analyze(
        [shown], [RHO], codec.linked_groups(True), 1, None, 0.0, 0.0, lambda done: True
    )
    for layer, planes in zip(codec.model.config.layers, symbols, strict=True):
        planes[planes > 2] += layer.group in codec.linked_groups(True)
    again = [planes.copy() for planes in symbols]
    chunks = codec.encode_symbols(symbols, RHO, 64, 128, in_trellis=True, indices=indices)
    assert codec.encode_symbols(again, RHO, 64, 128, in_trellis=True) == chunks
    data = container.pack(
        width=128, height=64, grey=False, depth=8, model_id=codec.model_id, rho=RHO, chunks=chunks, in_trellis=True
    )
    for found, planes in zip(codec.decode_symbols(container.unpack(data)), symbols, strict=True):
        np.testing.assert_array_equal(found, planes)


def test_a_file_is_the_same_whether_the_prior_is_asked_again(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = picture(200, 300, seed=10)
    encoded = codec.encode(shown, RHO)
    asked = []
    monkeypatch.setattr(hvcodec.codec, "walk_prior", lambda *args, **kwargs: asked.append(1))
    assert codec.encode(shown, RHO).data == encoded.data
    assert not asked
    monkeypatch.undo()
    encode_symbols = Codec.encode_symbols
    monkeypatch.setattr(Codec, "encode_symbols", lambda *args, indices, **kwargs: encode_symbols(*args, **kwargs))
    assert codec.encode(shown, RHO).data == encoded.data


@pytest.mark.parametrize("effort", [1, 2])
def test_strips_see_what_is_above_them_as_it_was_coded(
    effort: int, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two strips of a band sees all of the second, which knows the first: no path is to be repaired."""
    monkeypatch.setattr(strips, "STRIP_PIXELS", 128 * 128)
    shown = picture(128, 256, seed=11)
    first, second = strips.cut(codec.model.config, 256 // 16, 128 // 16, codec.linked_groups(True))
    assert first.read == second.read == slice(0, 16)
    [(chosen, indices)] = codec._analyze(
        [shown], [RHO], codec.linked_groups(True), effort, None, 0.0, 0.0, lambda done: True
    )
    assert indices is None  # the first foretells the second only nearly
    before = [planes.copy() for planes in chosen]
    codec.encode_symbols(chosen, RHO, shown.height, shown.width, in_trellis=True)
    for a, b in zip(chosen, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_values_that_no_path_has_are_corrected_in_place(codec: Codec) -> None:
    rng = np.random.default_rng(1)
    wild = [
        np.where(rng.integers(0, 3, shape) > 0, rng.integers(-32766, 32767, shape), 0).astype(np.int16)
        for shape in (layer.shape(64, 128) for layer in codec.model.config.layers)
    ]
    calm = [rng.integers(-6, 7, planes.shape).astype(np.int16) for planes in wild]
    ends = [rng.choice([32766, 32765, -32766, -32765, 0], planes.shape).astype(np.int16) for planes in wild]
    for values in (wild, ends, calm):
        wanted = [planes.copy() for planes in values]
        chunks = codec.encode_symbols(values, RHO, 64, 128, in_trellis=True)
        assert any(not np.array_equal(a, b) for a, b in zip(values, wanted, strict=True))
        data = container.pack(
            width=128, height=64, grey=False, depth=8, model_id=codec.model_id, rho=RHO, chunks=chunks, in_trellis=True
        )
        for found, planes in zip(codec.decode_symbols(container.unpack(data)), values, strict=True):
            np.testing.assert_array_equal(found, planes)
        again = [planes.copy() for planes in values]
        assert codec.encode_symbols(again, RHO, 64, 128, in_trellis=True) == chunks
        for found, planes in zip(again, values, strict=True):
            np.testing.assert_array_equal(found, planes)
    for found, planes in zip(calm, wanted, strict=True):
        assert np.abs(found - planes).max() <= 6


# --- small parts ----------------------------------------------------------------------------------------------


def test_the_prior_sees_half_values_as_the_document_says() -> None:
    values = np.arange(0, 600) / 2
    found = magnitudes(torch.from_numpy(np.stack([values, -values]))[None, :, None].float())[0, :, 0].numpy()
    expected = []
    for v in values.tolist():
        u = min(v, 255) + 1
        f = math.floor(math.log2(u))
        expected.append(8 * f + math.floor(8 * (u - 2**f) / 2**f))
    # The positive and then the negative parts, each of both rows.
    none = [0] * len(values)
    assert found.tolist() == [expected, none, none, expected]


def test_only_whole_values_are_drawn_inward(codec: Codec) -> None:
    latent = next(iter(codec.model.transform.rung(3).latents))
    with torch.no_grad():
        steps = codec.model.transform.condition(torch.full((1, 5), float(LEVEL))).steps[latent.index]
        v = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, -0.5, -1.0, -2.5]).expand(1, latent.synthesis.shape[1], 1, 8)
        shown = latent.merge(torch.zeros(1, latent.synthesis.shape[0], 1, 8), v, steps)
        inward = torch.tensor([0.0, 0, 1, 0, 1, 0, -1, 0])
        expected = F.conv2d(steps.gain * (v - steps.inward * inward), latent.synthesis)
    assert torch.allclose(shown, expected, atol=1e-6)


@pytest.mark.parametrize("first_row", [0, 10])
def test_the_choice_of_a_layer_is_a_path_and_knows_its_price(first_row: int) -> None:
    """Two pictures of 12 x 10 positions of stride 8, bands of sixteen rows, the second pass."""
    generator = torch.Generator().manual_seed(1)
    x = 2 * torch.randn(2, 3, 12, 10, generator=generator).contiguous(memory_format=torch.channels_last)
    t = 5 + 15 * torch.rand(2, 3, 12, 10, generator=generator)
    prices = TrellisTables.logistic().prices
    linked = rounding.Linked(x, torch.full((1, 3, 1, 1), 50.0), 0.3, prices, 8, first_row=first_row)
    mine = checkerboard(12, 10, x.device) == 0
    values = linked(t, mine)
    places = np.flatnonzero(mine.numpy())
    scalar = rounding.round_cheaply(x, t, torch.tensor(50.0), 0.3)
    assert not values.flatten(2)[..., ~mine.flatten()].any()
    bands = np.tile((places // 10 + first_row) * 8 // 128, 3)
    for n in range(2):
        own, row, bits = (a[n].flatten(1)[:, places].flatten().numpy() for a in (values, t, linked.bits(values, t)))
        one = trellis.Pass(np.floor(row + 0.5).astype(np.uint8), bands)
        halves = (2 * own).astype(np.int16)
        symbols, is_odd = one.fitted(halves)
        np.testing.assert_array_equal(trellis.halves_of(symbols, is_odd), halves)
        expected = prices[is_odd.astype(int), one.scale_idx, np.abs(symbols)]
        np.testing.assert_allclose(bits[one.places], expected[one.places], rtol=1e-6)
        nearest = scalar[n].flatten(1)[:, places].flatten().numpy()
        np.testing.assert_array_equal(own[one.scalar], nearest[one.scalar])
        error = own - x[n].flatten(1)[:, places].flatten().numpy()
        assert np.square(error[one.places]).mean() < 0.9 / 12
        assert (halves % 2 != 0).any() and len(one.scalar) > 10


# --- masks and targets ----------------------------------------------------------------------------------------


def errors_of(encoded: Encoded, shown: Picture, mask: Array) -> tuple[float, float]:
    """Where a mask is white, and elsewhere."""
    squares = np.square(encoded.decoded().pixels.astype(float) - shown.pixels)
    return float(squares[mask > 0].mean()), float(squares[mask == 0].mean())


@pytest.mark.parametrize("effort", [1, 2])
def test_a_mask_moves_the_error(effort: int, codec: Codec) -> None:
    shown = picture(160, 128, seed=3)
    mask = np.zeros((128, 160), np.uint8)
    mask[:, :80] = 255
    plain = codec.encode(shown, RHO, effort=effort)
    chosen = codec.encode(shown, RHO, effort=effort, roi=mask, digests=True)
    assert_decodes(codec, chosen)
    assert chosen.n_bytes < 0.9 * plain.n_bytes
    (inside, outside), (plain_inside, plain_outside) = (errors_of(e, shown, mask) for e in (chosen, plain))
    assert outside > 1.3 * plain_outside
    assert inside < 1.1 * plain_inside


def test_masking_changes_the_file_and_it_decodes(codec: Codec) -> None:
    shown = picture(128, 128, seed=4)
    plain, masked = (codec.encode(shown, RHO, masking=masking, digests=True) for masking in (0.0, 0.7))
    assert plain.data != masked.data
    assert_decodes(codec, masked)


def test_trim_makes_files_smaller(codec: Codec) -> None:
    shown = picture(128, 128, seed=4)
    sizes = [codec.encode(shown, RHO, trim=trim).n_bytes for trim in (-0.15, 0.0, 0.15)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2]


@pytest.mark.parametrize("effort", [1, 2])
def test_trim_may_go_as_far_as_it_likes(effort: int, codec: Codec) -> None:
    shown = picture(70, 64, seed=4)
    far, farther = (codec.encode(shown, RHO, effort=effort, trim=trim, digests=True) for trim in (1e4, 1e300))
    assert_decodes(codec, farther)
    assert farther.n_bytes <= 1.05 * far.n_bytes
    assert_decodes(codec, codec.encode(shown, RHO, effort=effort, trim=-1e300, digests=True))


@pytest.mark.parametrize("effort", [0, 1, 2])
def test_latents_that_are_no_numbers_give_a_file_all_the_same(effort: int, codec: Codec, tmp_path: Path) -> None:
    model = copy.deepcopy(codec.model)
    for parameter in model.transform.rung(3).analysis.parameters():
        parameter.data.fill_(60000)
    save_weights(tmp_path / "wild.safetensors", model, codec.tables, trellis=codec.trellis)
    wild = Codec(tmp_path / "wild.safetensors", device="cpu")
    encoded = wild.encode(picture(70, 64), RHO, effort=effort)
    wild.decode_symbols(container.unpack(encoded.data))


@pytest.mark.parametrize("effort", [0, 1, 2])
def test_targets_are_met(effort: int, codec: Codec) -> None:
    shown = picture(192, 160, seed=5)
    middle = codec.encode(shown, RHO, effort=effort)
    small = codec.compress(shown, target=Bytes(middle.n_bytes), effort=effort)
    assert 0.9 * middle.n_bytes < small.n_bytes <= middle.n_bytes
    good = codec.compress(shown, target=Psnr(middle.psnr_db), effort=effort)
    assert good.psnr_db >= middle.psnr_db
    assert good.psnr_db == pytest.approx(middle.psnr_db, abs=0.1)
    for encoded in (small, good):
        assert has_trellis(encoded.data) == (effort > 0)
        assert_decodes(codec, encoded)


def test_a_target_with_a_mask_is_met(codec: Codec) -> None:
    shown = picture(160, 128, seed=3)
    mask = np.zeros((128, 160), np.uint8)
    mask[32:96, 16:80] = 255
    plain = codec.encode(shown, RHO)
    chosen = codec.compress(shown, target=Bytes(plain.n_bytes), roi=mask)
    assert chosen.n_bytes <= plain.n_bytes
    assert errors_of(chosen, shown, mask)[0] < errors_of(plain, shown, mask)[0]
    assert_decodes(codec, chosen)


# --- files that are wrong -------------------------------------------------------------------------------------


def test_a_model_without_a_trellis_refuses_files_with_one(codec: Codec, tiny_codec: Codec) -> None:
    file = container.unpack(codec.encode(picture(64, 64), RHO).data)
    with pytest.raises(ModelError):  # its tables are part of its name
        tiny_codec.decode_symbols(file)
    faulty = replace(file, header=replace(file.header, model_id=tiny_codec.model_id))
    with pytest.raises(CorruptError, match="trellis"):
        tiny_codec.decode_symbols(faulty)


@pytest.mark.parametrize("digests", [False, True])
def test_damage_is_told_or_gives_other_symbols_but_nothing_else(digests: bool, codec: Codec) -> None:
    values = np.random.default_rng(0).uniform(0, 1, (64, 64, 3))
    file = container.unpack(codec.encode(picture(64, 64, values=values), [45] * 5, digests=digests).data)
    right = codec.decode_symbols(file)
    rng, told = np.random.default_rng(1), 0
    for _ in range(60):
        layer = int(rng.choice(np.flatnonzero([len(chunk) for chunk in file.chunks])))
        chunk = bytearray(file.chunks[layer])
        chunk[int(rng.integers(len(chunk)))] ^= 1 << int(rng.integers(8))
        broken = replace(file, chunks=(*file.chunks[:layer], bytes(chunk), *file.chunks[layer + 1 :]))
        try:
            found = codec.decode_symbols(broken)
        except (CorruptError, DesyncError) as err:
            assert err.layer is not None and err.layer >= (layer if digests else 0)
            told += 1
        else:
            assert not digests
            assert any(not np.array_equal(a, b) for a, b in zip(found, right, strict=True))
    assert told == 60 if digests else told > 50


def test_the_flag_of_a_trellis_is_not_ignored(codec: Codec) -> None:
    for effort in (0, 1):
        file = container.unpack(codec.encode(picture(100, 100), RHO, effort=effort, digests=True).data)
        other = replace(file, header=replace(file.header, in_trellis=not file.header.in_trellis))
        with pytest.raises(HVCodecError):
            codec.decode_symbols(other)


# --- models ---------------------------------------------------------------------------------------------------


def test_weights_with_a_trellis_come_back(weights_path: Path, codec: Codec, tiny_codec: Codec) -> None:
    loaded = load_weights(weights_path)
    assert loaded.trellis is not None and tiny_codec.trellis is None
    expected = TrellisTables.logistic()
    np.testing.assert_array_equal(loaded.trellis.evens, expected.evens)
    np.testing.assert_array_equal(loaded.trellis.tables.half_widths, expected.tables.half_widths)
    np.testing.assert_array_equal(loaded.trellis.tables.counts, expected.tables.counts)
    np.testing.assert_array_equal(loaded.tables.counts, tiny_codec.tables.counts)
    tensors = to_tensors(codec.model, codec.tables, codec.trellis)
    assert identify(codec.model.config, tensors) == loaded.id == codec.model_id
    assert loaded.id != tiny_codec.model_id
    assert {name for name in tensors if name.startswith("trellis.")} == {
        "trellis.evens",
        "trellis.half_widths",
        "trellis.counts",
    }
    assert len(set(tensors) - set(to_tensors(codec.model, codec.tables))) == 3


def test_the_id_is_that_of_the_document(weights_path: Path, codec: Codec) -> None:
    tensors = load_file(weights_path)
    digest = hashlib.sha256(codec.model.config.to_json().encode())
    for name in sorted(tensors):
        kind = str(tensors[name].dtype).removeprefix("torch.")
        digest.update(f"\n{name} {kind} {list(tensors[name].shape)}\n".encode() + tensors[name].numpy().tobytes())
    assert tuple(tensors["trellis.evens"].shape) == (2, 56)
    assert tensors["trellis.evens"].dtype == torch.int32
    assert digest.digest()[:6] == codec.model_id


def lacks(name: str) -> Callable[[Tensors], None]:
    def apply(tensors: Tensors) -> None:
        del tensors[name]

    return apply


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], None]:
    def apply(tensors: Tensors) -> None:
        tensors[name] = change(tensors[name].clone()).contiguous()

    return apply


def with_value(value: int) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor.view(-1)[5] = value
        return tensor

    return change


NOT_VALID = "the frequency tables in the weights are not valid"
BROKEN: dict[str, tuple[Callable[[Tensors], None], str]] = {
    "no evens": (lacks("trellis.evens"), "the weights lack trellis.evens"),
    "no half widths": (lacks("trellis.half_widths"), "the weights lack trellis.half_widths"),
    "no counts": (lacks("trellis.counts"), "the weights lack trellis.counts"),
    "other type": (changed("trellis.evens", Tensor.float), "trellis.evens in the weights has the wrong shape or type"),
    "narrow type": (changed("trellis.counts", Tensor.short), "trellis.counts in the weights has the wrong"),
    "evens misshapen": (changed("trellis.evens", Tensor.flatten), NOT_VALID),
    "evens of 0": (changed("trellis.evens", with_value(0)), NOT_VALID),
    "evens of all": (changed("trellis.evens", with_value(65536)), NOT_VALID),
    "count of 0": (changed("trellis.counts", with_value(0)), NOT_VALID),
    "half width of 0": (changed("trellis.half_widths", with_value(0)), NOT_VALID),
    "count less": (changed("trellis.counts", lambda counts: counts[:-1]), NOT_VALID),
    "half width less": (changed("trellis.half_widths", lambda widths: widths[:-1]), NOT_VALID),
    "unknown": (lambda tensors: tensors.update({"trellis.odds": torch.zeros(1)}), "unknown tensors .trellis.odds"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_trellis_tables_are_refused(name: str, codec: Codec) -> None:
    change, message = BROKEN[name]
    tensors = to_tensors(codec.model, codec.tables, codec.trellis)
    change(tensors)
    with pytest.raises(ModelError, match=message):
        from_tensors(codec.model.config, tensors)


@pytest.mark.parametrize("n_tables", [63, 65, 216])
def test_scalar_tables_are_64(n_tables: int, codec: Codec) -> None:
    tables = Tables(np.ones(n_tables, int), np.tile([8192, 49152, 4096, 4096], n_tables))
    for linked in (None, codec.trellis):
        with pytest.raises(ModelError, match=f"{NOT_VALID}: there are {n_tables} of them, not 64"):
            from_tensors(codec.model.config, to_tensors(codec.model, tables, linked))


@pytest.mark.parametrize("n_tables", [64, 231, 233])
def test_a_trellis_has_232_tables(n_tables: int, codec: Codec) -> None:
    tensors = to_tensors(codec.model, codec.tables, codec.trellis)
    tensors["trellis.half_widths"] = torch.ones(n_tables, dtype=torch.int32)
    tensors["trellis.counts"] = torch.tensor([8192, 49152, 4096, 4096] * n_tables, dtype=torch.int32)
    with pytest.raises(ModelError, match=f"{NOT_VALID}: 232 tables of a trellis are needed, not {n_tables}"):
        from_tensors(codec.model.config, tensors)


def test_damage_to_the_tables_is_seen_by_the_id(weights_path: Path, tmp_path: Path, codec: Codec) -> None:
    tensors = load_file(weights_path)
    tensors["trellis.evens"][0, 0] += 1
    metadata = {"format": "hvcodec-model-1", "id": codec.model_id.hex(), "config": codec.model.config.to_json()}
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(save(tensors, metadata))
    with pytest.raises(ModelError, match="damaged"):
        load_weights(path)


def test_a_codec_with_a_trellis_can_be_pickled(codec: Codec) -> None:
    shown = picture(70, 60, seed=2)
    twin = pickle.loads(pickle.dumps(codec))
    encoded = codec.encode(shown, RHO)
    assert twin.encode(shown, RHO).data == encoded.data
    assert_decodes(twin, encoded)
    returned = pickle.loads(pickle.dumps(encoded))
    np.testing.assert_array_equal(returned.decoded().pixels, encoded.decoded().pixels)


def test_a_file_with_a_trellis_is_described(codec: Codec) -> None:
    encoded = codec.encode(picture(100, 70, "LA16"), RHO, digests=True)
    header = container.read_header(encoded.data)
    info = hvcodec.inspect(encoded.data)
    assert (info.size, info.depth, info.is_grey, info.has_digests) == ((100, 70), 16, True, True)
    assert info.model_id == codec.model_id.hex()
    assert info.rho == tuple(RHO)
    assert info.chunk_sizes == header.chunk_sizes
    assert info.n_bytes == info.n_bytes_present == encoded.n_bytes
