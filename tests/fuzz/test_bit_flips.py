"""Every single-bit flip and every cut of a golden file is refused with the right class: all, not a sample."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hvcodec.codec import Codec
from hvcodec.errors import (
    CorruptError,
    HVCodecError,
    NotHVCError,
    TruncatedError,
    UnsupportedError,
)

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from bad_files import Parts, parts

PLAIN, WITH_DIGESTS = "rgba16", "grey_alpha"  # a few hundred bytes each, both with alpha


@dataclass(frozen=True)
class Golden:
    data: bytes
    fields: Parts

    @property
    def ends(self) -> list[int]:
        """Where the header and each chunk end."""
        ends = [len(self.fields.header)]
        for body in self.fields.bodies[: len(self.fields.sizes)]:
            ends.append(ends[-1] + len(body))
        return ends


@pytest.fixture(params=[PLAIN, WITH_DIGESTS])
def golden(request: pytest.FixtureRequest) -> Golden:
    return load(request.param)


def load(name: str) -> Golden:
    data = (GOLDEN / "vectors" / f"{name}.hvc").read_bytes()
    return Golden(data, parts(data))


def flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def expected_class(position: int, bit: int) -> type[HVCodecError]:
    if position < 4:
        return NotHVCError
    if position == 4 or (position == 5 and bit == 5):
        return UnsupportedError
    return CorruptError


def test_golden_files_are_small_and_differ_in_digests() -> None:
    plain, checked = load(PLAIN), load(WITH_DIGESTS)
    assert not plain.fields.digests
    assert checked.fields.digests
    for golden in (plain, checked):
        assert 100 < len(golden.data) < 400
        assert any(golden.fields.bodies[: len(golden.fields.sizes)])
        assert golden.fields.kinds == (1,)


@pytest.mark.parametrize("partial", [False, True])
def test_every_bit_flip_is_refused(golden: Golden, partial: bool, tiny_codec: Codec) -> None:
    refused: Counter[type[HVCodecError]] = Counter()
    for position in range(len(golden.data)):
        for bit in range(8):
            with pytest.raises(HVCodecError) as info:
                tiny_codec.decode(flipped(golden.data, position, bit), partial=partial)
            assert info.type is expected_class(position, bit), (position, bit)
            refused[info.type] += 1
    assert refused[NotHVCError] == 32
    assert refused[UnsupportedError] == 9
    assert refused.total() == 8 * len(golden.data)


def test_every_cut_is_refused(golden: Golden, tiny_codec: Codec) -> None:
    ends = golden.ends
    for length in range(len(golden.data)):
        with pytest.raises(HVCodecError) as info:
            tiny_codec.decode(golden.data[:length])
        if length == 0:
            assert info.type is NotHVCError
            continue
        assert info.type is TruncatedError, length
        assert isinstance(info.value, TruncatedError)
        whole = None if length < ends[0] else sum(end <= length for end in ends[1:])
        assert info.value.layers_complete == whole, length


def test_every_cut_that_holds_the_header_is_a_picture(golden: Golden, tiny_codec: Codec) -> None:
    by_layers = [tiny_codec.decode(golden.data, max_layers=k) for k in range(len(golden.ends))]
    for length in range(1, len(golden.data)):
        if length < golden.ends[0]:
            with pytest.raises(TruncatedError):
                tiny_codec.decode(golden.data[:length], partial=True)
            continue
        found = tiny_codec.decode(golden.data[:length], partial=True)
        layers = sum(end <= length for end in golden.ends[1:])
        np.testing.assert_array_equal(found.pixels, by_layers[layers].pixels)


def test_digests_find_every_bit_flip_in_a_cut_file(tiny_codec: Codec) -> None:
    golden = load(WITH_DIGESTS)
    end = golden.ends[-2] + 1  # all layers but the last, and a byte of that
    cut = golden.data[:end]
    plain = tiny_codec.decode(cut, partial=True)
    for position in range(golden.ends[0], end):
        for bit in range(8):
            if position == end - 1:  # this byte is not used
                found = tiny_codec.decode(flipped(cut, position, bit), partial=True)
                np.testing.assert_array_equal(found.pixels, plain.pixels)
                continue
            with pytest.raises(CorruptError) as info:
                tiny_codec.decode(flipped(cut, position, bit), partial=True)
            layer = info.value.layer
            assert layer is not None
            assert golden.ends[layer] <= position


@pytest.mark.parametrize("position", [4, 6, 8, 14, -1])
def test_flips_in_a_header_that_is_cut_are_still_refused(position: int, tiny_codec: Codec) -> None:
    golden = load(PLAIN)
    header = golden.data[: golden.ends[0]]
    at = position % len(header)
    for bit in range(8):
        with pytest.raises(HVCodecError) as info:
            tiny_codec.decode(flipped(header, at, bit), partial=True)
        assert info.type is expected_class(at, bit)
