"""Laws of the whole codec: what comes back, prefixes, independence of calls, neighbours and threads, rate."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hvcodec_benchmarks.passes import own_kind, passes_of
from synthetic import MODES, picture

from hvcodec import container
from hvcodec.codec import Codec, Encoded
from hvcodec.errors import CorruptError, DesyncError, HVCodecError
from hvcodec.picture import Picture

GOLDEN_MODEL = Path(__file__).parents[1] / "golden" / "models" / "tiny.safetensors"
N_CASES = 200
N_LAYERS = 6
FREE_BYTES = 4  # what the length of a chunk can tell by itself
METADATA = {"icc": b"\0profile" * 9, "exif": b"II*\0\x08\0\0\0", "xmp": b"<x/>"}


def random_rho(rng: np.random.Generator) -> list[int]:
    """Mostly any vector, often an extreme one."""
    kind = rng.integers(4)
    if kind == 0:
        return [int(rng.choice([0, 63]))] * 5
    low, high = (0, 64) if kind < 3 else (20, 40)
    return [int(value) for value in rng.integers(low, high, 5)]


def random_side(rng: np.random.Generator) -> int:
    """1..150, with those around multiples of 64 more often."""
    near = [1, 2, 63, 64, 65, 127, 128, 129]
    return int(rng.choice(near)) if rng.integers(3) == 0 else int(rng.integers(1, 151))


def cases(count: int = N_CASES, seed: int = 2026) -> Iterator[tuple[Picture, list[int], bool]]:
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        metadata = {name: part for name, part in METADATA.items() if rng.integers(4) == 0}
        width, height, mode = random_side(rng), random_side(rng), str(rng.choice(MODES))
        values = rng.uniform(0, 1, (height, width, 3)) if rng.integers(8) == 0 else None
        shown = picture(width, height, mode, seed=number, values=values, **metadata)
        yield shown, random_rho(rng), bool(rng.integers(2))


def assert_same(a: Picture, b: Picture) -> None:
    """Bit for bit, with everything that belongs to a picture."""
    assert a.pixels.dtype == b.pixels.dtype
    np.testing.assert_array_equal(a.pixels, b.pixels)
    assert_same_besides_pixels(a, b)


def assert_same_besides_pixels(a: Picture, b: Picture) -> None:
    assert a.pixels.shape == b.pixels.shape
    assert a.depth == b.depth
    assert (a.icc, a.exif, a.xmp) == (b.icc, b.exif, b.xmp)
    assert (a.alpha is None) == (b.alpha is None)
    if a.alpha is not None and b.alpha is not None:
        assert a.alpha.dtype == b.alpha.dtype
        np.testing.assert_array_equal(a.alpha, b.alpha)


def difference(a: Picture, b: Picture) -> float:
    """Largest difference of two pictures in steps of 8 bits."""
    steps = np.abs(a.pixels.astype(float) - b.pixels).max()
    return float(steps * 255 / np.iinfo(a.pixels.dtype).max)


def rmse(a: Picture, b: Picture) -> float:
    """Root mean square difference in steps of 8 bits."""
    error = (a.pixels.astype(float) - b.pixels) * (255 / np.iinfo(a.pixels.dtype).max)
    return float(np.sqrt(np.mean(error**2)))


# --- what comes back ------------------------------------------------------------------------------------------


def test_decode_gives_the_encoders_own_reconstruction_bit_for_bit(tiny_codec: Codec) -> None:
    seen = set()
    for shown, rho, digests in cases():
        encoded = tiny_codec.encode(shown, rho, digests=digests)
        decoded = tiny_codec.decode(encoded.data)
        assert_same(decoded, encoded.decoded())
        assert_same_besides_pixels(decoded, shown)
        header = container.read_header(encoded.data)
        assert (header.width, header.height) == (shown.width, shown.height)
        assert header.rho == tuple(rho) == encoded.rho
        assert (header.digests is not None) == digests
        seen.add((shown.depth, shown.is_grey, shown.alpha is None))
    assert len(seen) == len(MODES)


def test_bfloat16_decodes_to_its_own_reconstruction_and_reads_what_float32_wrote(tiny_codec: Codec) -> None:
    half = Codec(GOLDEN_MODEL, device="cpu", dtype="bfloat16")
    for shown, rho, _ in cases(12, seed=9):
        encoded = half.encode(shown, rho, digests=True)
        assert_same(half.decode(encoded.data), encoded.decoded())
        assert rmse(tiny_codec.decode(encoded.data), encoded.decoded()) < 1
        full = tiny_codec.encode(shown, rho, digests=True)
        assert rmse(half.decode(full.data), full.decoded()) < 1


@pytest.mark.parametrize("mode", MODES)
def test_more_rate_gives_a_larger_file_and_a_better_picture(mode: str, tiny_codec: Codec) -> None:
    shown = picture(90, 75, mode, seed=8)
    coded = [tiny_codec.encode(shown, [value] * 5) for value in (0, 20, 40)]
    sizes = [len(encoded.data) for encoded in coded]
    errors = [rmse(encoded.decoded(), shown) for encoded in coded]
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 8


@pytest.mark.parametrize("mode", ["L", "L16"])
def test_grey_is_coded_as_the_colour_that_it_is(mode: str, tiny_codec: Codec) -> None:
    grey = picture(70, 40, mode)
    colored = Picture(np.repeat(grey.pixels[..., None], 3, axis=2))
    as_grey, as_color = (tiny_codec.encode(shown, [30] * 5) for shown in (grey, colored))
    assert container.unpack(as_grey.data).chunks == container.unpack(as_color.data).chunks
    mean = as_color.decoded().pixels.astype(float).mean(axis=2)
    assert np.abs(as_grey.decoded().pixels - mean).max() <= 1.0 * (1 if mode == "L" else 257)


def test_sixteen_bits_are_coded_from_full_precision(tiny_codec: Codec) -> None:
    fine = picture(64, 64, "RGB16", values=np.full((64, 64, 3), 0.5) + np.linspace(0, 0.01, 64)[:, None, None])
    coarse = replace(fine, pixels=(fine.pixels >> 8 << 8).astype(np.uint16))
    rho = [63] * 5
    assert tiny_codec.encode(fine, rho).data != tiny_codec.encode(coarse, rho).data
    decoded = tiny_codec.encode(fine, rho).decoded().pixels
    assert len(np.unique(decoded & 255)) > 100  # not eight bits with zeros behind


def test_arrays_of_any_layout_and_unwritable_ones_are_taken(tiny_codec: Codec) -> None:
    plain = picture(50, 40, "RGBA")
    assert plain.alpha is not None
    frozen = Picture(plain.pixels.copy(), plain.alpha.copy())
    assert frozen.alpha is not None
    frozen.pixels.setflags(write=False)
    frozen.alpha.setflags(write=False)
    fortran = Picture(np.asfortranarray(plain.pixels), np.asfortranarray(plain.alpha))
    view = Picture(plain.pixels[::-1].copy()[::-1], plain.alpha[:, ::-1].copy()[:, ::-1])
    files = {tiny_codec.encode(shown, [20] * 5).data for shown in (plain, frozen, fortran, view)}
    assert len(files) == 1


def test_pictures_are_left_as_they_were(tiny_codec: Codec) -> None:
    shown = picture(33, 44, "LA16", **METADATA)
    assert shown.alpha is not None
    pixels, alpha = shown.pixels.copy(), shown.alpha.copy()
    tiny_codec.encode(shown, [10] * 5).decoded()
    np.testing.assert_array_equal(shown.pixels, pixels)
    np.testing.assert_array_equal(shown.alpha, alpha)


# --- prefixes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digests", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "LA16"])
def test_cut_file_is_what_its_whole_layers_give(mode: str, digests: bool, tiny_codec: Codec) -> None:
    data = tiny_codec.encode(picture(80, 70, mode, **METADATA), [40] * 5, digests=digests).data
    header = container.read_header(data)
    end, rng = header.header_bytes, np.random.default_rng(3)
    for layers, size in enumerate((*header.chunk_sizes, 4)):
        expected = tiny_codec.decode(data, max_layers=layers)
        inside = end + int(rng.integers(0, max(size, 1)))
        for length in {end, inside, end + max(size, 1) - 1}:
            part = tiny_codec.decode(data[:length], partial=True)
            np.testing.assert_array_equal(part.pixels, expected.pixels)
            assert part.pixels.dtype == expected.pixels.dtype
        end += size


def test_layers_refine_the_picture(tiny_codec: Codec) -> None:
    shown = picture(128, 100, seed=4)
    data = tiny_codec.encode(shown, [45] * 5).data
    errors = [rmse(tiny_codec.decode(data, max_layers=k), shown) for k in range(N_LAYERS + 1)]
    assert errors[0] > errors[1] > errors[-1]
    assert errors == sorted(errors, reverse=True)


def test_all_layers_and_more_are_the_whole_picture(tiny_codec: Codec) -> None:
    data = tiny_codec.encode(picture(30, 90), [33] * 5).data
    whole = tiny_codec.decode(data)
    assert_same(tiny_codec.decode(data, max_layers=N_LAYERS), whole)
    assert_same(tiny_codec.decode(data, max_layers=1000), whole)
    assert_same(tiny_codec.decode(data, partial=True), whole)


def test_layer_counts_below_zero_are_refused(tiny_codec: Codec) -> None:
    data = tiny_codec.encode(picture(3, 3), [33] * 5).data
    with pytest.raises(ValueError, match="max_layers"):
        tiny_codec.decode(data, max_layers=-1)


# --- independence ---------------------------------------------------------------------------------------------


def test_results_do_not_depend_on_earlier_calls(tiny_codec: Codec) -> None:
    jobs = list(cases(12, seed=5))
    first = [tiny_codec.encode(shown, rho, digests=d).data for shown, rho, d in jobs]
    again = [tiny_codec.encode(shown, rho, digests=d).data for shown, rho, d in reversed(jobs)]
    assert first == again[::-1]
    pictures = [tiny_codec.decode(data) for data in first]
    for data, decoded in zip(reversed(first), reversed(pictures), strict=True):
        assert_same(tiny_codec.decode(data), decoded)


def neighbours() -> list[Picture]:
    """Pictures of two sizes and all modes, so that batches are formed and mixed."""
    sizes = [(70, 50), (33, 64)]
    return [picture(*sizes[i % 2], mode, seed=i) for i, mode in enumerate(MODES)]


def test_neighbours_in_a_batch_change_no_symbol_that_is_decoded(tiny_codec: Codec) -> None:
    shown = neighbours()
    rhos = [[5 * i, 40, 20, 30 - i, 10] for i in range(len(shown))]
    data = [tiny_codec.encode(p, r, digests=True).data for p, r in zip(shown, rhos, strict=True)]
    together = tiny_codec.decode_batch(data)  # digests: a wrong symbol would be a DesyncError
    for one, file in zip(together, data, strict=True):
        alone = tiny_codec.decode(file)
        assert_same_besides_pixels(one, alone)
        assert difference(one, alone) <= 1


def test_pictures_that_are_encoded_in_a_batch_decode_alone(tiny_codec: Codec) -> None:
    shown = neighbours()
    rhos = [[25 + i] * 5 for i in range(len(shown))]
    together = tiny_codec.encode_batch(shown, rhos, digests=True)
    for one, source, rho in zip(together, shown, rhos, strict=True):
        decoded = tiny_codec.decode(one.data)
        assert_same(decoded, one.decoded())
        alone = tiny_codec.encode(source, rho, digests=True)
        assert abs(len(one.data) - len(alone.data)) <= 4 + 0.01 * len(alone.data)
        assert rmse(decoded, alone.decoded()) < 1


def test_batches_keep_their_order_and_may_be_empty(tiny_codec: Codec) -> None:
    shown = [picture(8 + i % 3, 8, seed=i) for i in range(7)]
    coded = tiny_codec.encode_batch(shown, [[30] * 5] * 7)
    decoded = tiny_codec.decode_batch([encoded.data for encoded in coded])
    for one, source in zip(decoded, shown, strict=True):
        assert one.pixels.shape == source.pixels.shape
        assert rmse(one, source) < 12
    assert tiny_codec.encode_batch([], []) == []
    assert tiny_codec.decode_batch([]) == []


@pytest.mark.parametrize("count", [1, 3])
def test_batch_with_another_number_of_rate_vectors_is_refused(count: int, tiny_codec: Codec) -> None:
    with pytest.raises(ValueError, match="rate vector"):
        tiny_codec.encode_batch([picture(3, 3)] * 2, [[1] * 5] * count)


def damaged(file: container.File, layer: int, from_end: int) -> container.File:
    """Another byte near the end of a chunk, where decoding begins."""
    chunk = bytearray(file.chunks[layer])
    chunk[-from_end] ^= 0x5A
    return replace(file, chunks=(*file.chunks[:layer], bytes(chunk), *file.chunks[layer + 1 :]))


def test_one_codec_serves_several_threads(tiny_codec: Codec) -> None:
    jobs = list(cases(24, seed=6))

    def both(job: tuple[Picture, list[int], bool]) -> tuple[Encoded, Picture]:
        shown, rho, digests = job
        encoded = tiny_codec.encode(shown, rho, digests=digests)
        return encoded, tiny_codec.decode(encoded.data)

    expected = [both(job) for job in jobs]
    cudnn = torch.backends.cudnn.enabled
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(both, jobs))
    assert torch.backends.cudnn.enabled == cudnn
    for (encoded, decoded), (same_encoded, same_decoded) in zip(expected, found, strict=True):
        assert encoded.data == same_encoded.data
        assert_same(decoded, same_decoded)
        assert_same(decoded, same_encoded.decoded())


def test_errors_in_threads_leave_the_process_as_it_was(tiny_codec: Codec) -> None:
    data = tiny_codec.encode(picture(64, 64), [40] * 5, digests=True).data
    broken = damaged(container.unpack(data), layer=1, from_end=2)
    before = torch.backends.cudnn.enabled, torch.is_inference_mode_enabled(), torch.get_num_threads()

    def fail(_: int) -> str:
        with pytest.raises(HVCodecError) as info:
            tiny_codec.decode_symbols(broken)
        return type(info.value).__name__

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(fail, range(9))) == {"DesyncError"}
    assert before == (torch.backends.cudnn.enabled, torch.is_inference_mode_enabled(), torch.get_num_threads())


@pytest.mark.parametrize("layer", [0, 2])
def test_wrong_symbols_are_reported_where_they_begin(layer: int, tiny_codec: Codec) -> None:
    values = np.random.default_rng(0).uniform(0, 1, (200, 200, 3))  # many symbols, so that garbage shows
    data = tiny_codec.encode(picture(200, 200, values=values), [63] * 5, digests=True).data
    file = container.unpack(data)
    for from_end in range(2, 12, 2):
        broken = damaged(file, layer, from_end)
        with pytest.raises(DesyncError) as desync:
            tiny_codec.decode_symbols(broken)
        assert desync.value.layer == layer
        with pytest.raises(CorruptError) as corrupt:  # no checksum vouches for these bytes
            tiny_codec.decode_symbols(replace(broken, is_intact=False))
        assert corrupt.value.layer == layer


# --- rate -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["tiny", "trellis"])
def either_codec(request: pytest.FixtureRequest) -> Codec:
    """Golden models without and with a trellis."""
    return Codec(GOLDEN_MODEL.with_stem(request.param), device="cpu")


def information_bits(codec: Codec, encoded: Encoded) -> list[float]:
    """Information content of each layer under the tables of the model."""
    bits = [0.0] * N_LAYERS
    for one in passes_of(codec, container.unpack(encoded.data)):
        bits[one.layer] += one.bits(own_kind(codec))
    return bits


@pytest.mark.parametrize("value", [0, 15, 30, 45, 63])
def test_chunks_take_their_information_content(value: int, either_codec: Codec) -> None:
    encoded = either_codec.encode(picture(300, 200, seed=value), [value] * 5)
    header = container.read_header(encoded.data)
    assert header.in_trellis == (either_codec.trellis is not None)
    for size, bits in zip(header.chunk_sizes, information_bits(either_codec, encoded), strict=True):
        assert bits / 8 - FREE_BYTES <= size <= 1.003 * bits / 8 + 6
    assert len(encoded.data) - sum(header.chunk_sizes) <= 64


def test_tiny_pictures_pay_a_few_bytes_for_each_layer(either_codec: Codec) -> None:
    for shown, rho, _ in cases(20, seed=7):
        plain = Picture(shown.pixels)
        encoded = either_codec.encode(plain, rho)
        content = sum(information_bits(either_codec, encoded)) / 8
        assert content <= len(encoded.data) <= 1.003 * content + 6 * N_LAYERS + 64
