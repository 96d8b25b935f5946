"""The container: every field at its ends, the bytes it takes, and every way a file can be bad."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import pytest

from hvcodec.container import MAGIC, Extra, File, Header, pack, read_header, unpack
from hvcodec.errors import (
    CorruptError,
    FormatError,
    LimitError,
    NotHVCError,
    TruncatedError,
    UnsupportedError,
)

MODEL_ID = b"model6"
PLAIN: dict[str, Any] = {
    "width": 3,
    "height": 2,
    "grey": False,
    "depth": 8,
    "model_id": MODEL_ID,
    "rho": (5,),
    "chunks": (b"abc",),
}
PLAIN_BYTES = 6 + 2 + 6 + 1 + 1 + 1 + 4 + 3 + 4


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def by_hand(
    *,
    magic: bytes = MAGIC,
    version: int = 1,
    flags: int = 0,
    size: bytes = b"\x03\x02",
    counts: int = 0,
    rho: bytes = b"\x05",
    table: bytes = b"\x03",
    payload: bytes = b"abc",
    tail: bytes = b"",
) -> bytes:
    """A file put together without container.pack, with good checksums whatever its fields say."""
    head = magic + bytes([version, flags]) + size + MODEL_ID + bytes([counts]) + rho + table
    return head + u32(zlib.crc32(head)) + payload + u32(zlib.crc32(payload)) + tail


def failure(data: bytes, **options: Any) -> FormatError:
    """The error that unpack raises for these bytes."""
    with pytest.raises(FormatError) as info:
        unpack(data, **options)
    assert str(info.value)
    return info.value


def test_plain_file_is_these_bytes() -> None:
    packed = pack(**PLAIN)
    assert packed == by_hand()
    assert len(packed) == PLAIN_BYTES
    header = Header(3, 2, False, 8, MODEL_ID, (5,), (3,))
    assert unpack(packed) == File(header, (b"abc",), {})


def test_header_knows_its_sizes() -> None:
    packed = pack(**PLAIN | {"rho": (1, 2), "chunks": (b"", b"x" * 200, b"yz"), "extras": {2: b"icc"}})
    header = read_header(packed)
    assert header.pixels == 6
    assert (header.n_groups, header.n_layers) == (2, 3)
    assert header.chunk_sizes == (0, 200, 2)
    assert header.extras == ((Extra.ICC, 3),)
    assert packed[header.header_bytes :].startswith(b"x" * 200 + b"yzicc")
    assert header.file_bytes == len(packed)
    with pytest.raises(dataclasses.FrozenInstanceError):
        header.width = 4  # type: ignore[misc]


def test_plain_rgb_picture_costs_at_most_64_bytes_besides_its_chunks() -> None:
    # The size of a header depends on Chunk_Size by its number of bytes only: three below 2^21.
    largest = Header(1 << 24, 1 << 24, False, 8, MODEL_ID, (63,) * 5, ((1 << 21) - 1,) * 10)
    assert largest.file_bytes - sum(largest.chunk_sizes) == 64
    chunks = [bytes(3**layer) for layer in range(10)]
    packed = pack(**PLAIN | {"width": 6000, "height": 4000, "rho": (40,) * 5, "chunks": chunks})
    assert len(packed) - sum(map(len, chunks)) <= 64


@pytest.mark.parametrize(
    ("side", "n_bytes"), [(1, 1), (127, 1), (128, 2), (2**14 - 1, 2), (2**14, 3), (2**21, 4), (2**24, 4)]
)
def test_sides_take_few_bytes(side: int, n_bytes: int) -> None:
    packed = pack(**PLAIN | {"width": side, "height": 1})
    assert len(packed) == PLAIN_BYTES - 1 + n_bytes
    assert read_header(packed).width == side
    packed = pack(**PLAIN | {"width": 1, "height": side})
    assert len(packed) == PLAIN_BYTES - 1 + n_bytes
    assert read_header(packed).height == side


@pytest.mark.parametrize(("size", "n_bytes"), [(0, 1), (127, 1), (128, 2), (2**14, 3), (2**21, 4)])
def test_chunk_sizes_take_few_bytes(size: int, n_bytes: int) -> None:
    packed = pack(**PLAIN | {"chunks": (bytes(size),)})
    assert len(packed) == PLAIN_BYTES - 4 + n_bytes + size
    assert unpack(packed).chunks == (bytes(size),)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("in_trellis", [False, True])
def test_modes_and_depths(grey: bool, depth: int, in_trellis: bool) -> None:
    packed = pack(**PLAIN | {"grey": grey, "depth": depth, "in_trellis": in_trellis})
    assert packed == by_hand(flags=4 * grey + 8 * (depth == 16) + 16 * in_trellis)
    header = read_header(packed)
    assert (header.grey, header.depth, header.in_trellis) == (grey, depth, in_trellis)


@pytest.mark.parametrize(("groups", "layers"), [(1, 1), (8, 1), (1, 32), (8, 32)])
def test_counts(groups: int, layers: int) -> None:
    rho, chunks = tuple(range(63, 63 - groups, -1)), (b"c",) * layers
    packed = pack(**PLAIN | {"rho": rho, "chunks": chunks})
    assert packed[14] == (groups - 1) * 32 + layers - 1
    assert len(packed) == PLAIN_BYTES - 5 + groups + 2 * layers
    assert read_header(packed).rho == rho
    assert unpack(packed).chunks == chunks


def test_digests_take_four_bytes_a_layer() -> None:
    packed = pack(**PLAIN | {"chunks": (b"abc", b""), "digests": (0, 2**32 - 1)})
    table = b"\x03" + u32(0) + b"\x00" + u32(2**32 - 1)
    assert packed == by_hand(flags=1, counts=1, table=table)
    assert read_header(packed).digests == (0, 2**32 - 1)


def test_extras_are_kept_and_sorted_by_kind() -> None:
    packed = pack(**PLAIN | {"extras": {200: b"new", Extra.XMP: b"xmp!", Extra.ALPHA: b""}})
    table = b"\x03" + b"\x03" + bytes([1, 0, 4, 4, 200, 3])
    assert packed == by_hand(flags=2, table=table, payload=b"abcxmp!new")
    assert unpack(packed).extras == {1: b"", 4: b"xmp!", 200: b"new"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"width": 2**24 + 1},
        {"height": 0},
        {"height": 2**24 + 1},
        {"depth": 12},
        {"model_id": b"short"},
        {"model_id": b"too long"},
        {"rho": ()},
        {"rho": (1,) * 9},
        {"rho": (64,)},
        {"rho": (-1,)},
        {"chunks": ()},
        {"chunks": (b"",) * 33},
        {"digests": ()},
        {"digests": (1, 2)},
        {"digests": (2**32,)},
        {"extras": {0: b""}},
        {"extras": {5: b""}},
        {"extras": {127: b""}},
        {"extras": {256: b""}},
    ],
)
def test_pack_refuses_what_the_format_cannot_hold(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no such file can be written"):
        pack(**PLAIN | wrong)


# --- bad files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\xe9HV!", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"HVC", by_hand(magic=b"\xe9HVD")]
)
def test_another_file_is_not_hvc(data: bytes) -> None:
    assert type(failure(data)) is NotHVCError


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_named(version: int) -> None:
    error = failure(by_hand(version=version)[:5])  # refused at once: the rest may look different
    assert isinstance(error, UnsupportedError)
    assert error.feature == f"format version {version}"


@pytest.mark.parametrize("in_trellis", [False, True])
def test_a_flag_tells_of_a_trellis(in_trellis: bool) -> None:
    packed = pack(**PLAIN | {"in_trellis": in_trellis})
    assert packed == by_hand(flags=0x10 * in_trellis)
    assert read_header(packed).in_trellis == in_trellis


@pytest.mark.parametrize("flags", [0x20, 0x30, 0xFF])
def test_reserved_flags_are_refused_before_what_follows(flags: int) -> None:
    error = failure(by_hand(flags=flags)[:6])
    assert isinstance(error, UnsupportedError)
    assert error.feature == "reserved flag 0x20"


@pytest.mark.parametrize("flags", [0x40, 0x80, 0xC0])
def test_unused_flags_are_ignored(flags: int) -> None:
    assert unpack(by_hand(flags=flags)) == unpack(by_hand())


def names(fields: dict[str, Any]) -> str:
    return "-".join(f"{name}={value!r}" for name, value in fields.items())


@pytest.mark.parametrize(
    "fields",
    [
        {"size": b"\x83\x00\x02"},  # 3 in two bytes
        {"size": b"\x83\x80\x80\x80\x80\x00\x02"},  # 3 in six bytes
        {"size": b"\x83\x80\x80\x80\x10\x02"},  # 2^32 + 3
        {"size": b"\x83\x80\x80\x80\x80\x01\x02"},  # 2^35 + 3
        {"size": b"\xff" * 6},
        {"table": b"\x83\x00"},
        {"flags": 2, "table": b"\x03\x01\x02\x83\x00"},
    ],
    ids=names,
)
def test_varints_have_one_form(fields: dict[str, Any]) -> None:
    with pytest.raises(CorruptError, match="shortest form"):
        read_header(by_hand(**fields))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"size": b"\x00\x02"}, "width and height"),
        ({"size": b"\x03\x00"}, "width and height"),
        ({"size": b"\x81\x80\x80\x08\x02"}, "width and height"),  # 2^24 + 1
        ({"size": b"\x03\x81\x80\x80\x08"}, "width and height"),
        ({"rho": b"\x40"}, "rho"),
        ({"counts": 0x20, "rho": b"\x00\xff"}, "rho"),
        ({"flags": 2, "table": b"\x03\x00"}, "lists none"),
        ({"flags": 2, "table": b"\x03\x02\x02\x00\x02\x00"}, "ascend"),  # ICC twice
        ({"flags": 2, "table": b"\x03\x02\x03\x00\x02\x00"}, "ascend"),  # EXIF before ICC
        ({"flags": 2, "table": b"\x03\x02\x80\x00\x80\x00"}, "ascend"),
    ],
    ids=str,
)
def test_forbidden_values_are_corrupt(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CorruptError, match=complaint) as info:
        read_header(by_hand(**fields))
    assert info.value.layer is None


@pytest.mark.parametrize("tail", [b"\x00", by_hand()])
def test_bytes_after_the_end_are_corrupt(tail: bytes) -> None:
    for partial in (False, True):
        error = failure(by_hand(tail=tail), partial=partial)
        assert isinstance(error, CorruptError)
        assert f"{len(tail)} bytes follow" in str(error)


@pytest.mark.parametrize("kind", [0, 5, 64, 127])
def test_unknown_extra_is_refused_and_named(kind: int) -> None:
    error = failure(by_hand(flags=2, table=bytes([3, 1, kind, 0])))
    assert isinstance(error, UnsupportedError)
    assert error.feature == f"extra kind {kind}"


@pytest.mark.parametrize("kind", [128, 255])
def test_ignorable_extra_is_skipped(kind: int) -> None:
    file = unpack(by_hand(flags=2, table=bytes([3, 1, kind, 2]), payload=b"abc??"))
    assert file.chunks == (b"abc",)
    assert file.extras == {kind: b"??"}


def test_every_extra_kind_at_once() -> None:
    extras = {kind: bytes([kind]) * 2 for kind in (1, 2, 3, 4, *range(128, 256))}
    assert unpack(pack(**PLAIN | {"extras": extras})).extras == extras


def test_limits_are_checked_before_anything_else_is() -> None:
    huge = by_hand(size=b"\x80\x80\x80\x08" * 2)
    for data in (huge, huge[:-1]):  # whole or not
        error = failure(data)
        assert isinstance(error, LimitError)
        assert (error.limit, error.asked) == (2**28, 2**48)
    assert read_header(huge).pixels == 2**48  # looking at it is free
    assert unpack(huge, max_pixels=2**48).chunks == (b"abc",)
    assert unpack(by_hand(), max_pixels=6).chunks == (b"abc",)
    assert isinstance(failure(by_hand(), max_pixels=5), LimitError)


def test_default_limit_is_inclusive() -> None:
    side = 1 << 14
    unpack(pack(**PLAIN | {"width": side, "height": side}))
    assert isinstance(failure(pack(**PLAIN | {"width": side + 1, "height": side})), LimitError)


def test_sizes_far_beyond_the_data_cost_nothing() -> None:
    data = by_hand(counts=31, table=b"\xff\xff\xff\xff\x0f" * 32, payload=b"abc")
    assert read_header(data).file_bytes > 32 * (2**32 - 1)
    error = failure(data)
    assert isinstance(error, TruncatedError)
    assert error.layers_complete == 0
    assert unpack(data, partial=True).chunks == ()


def test_header_from_a_prefix() -> None:
    packed = pack(**PLAIN)
    header = read_header(packed)
    assert read_header(packed[: header.header_bytes]) == header
    assert read_header(packed + b"anything") == header


# --- all bit flips, all truncations -----------------------------------------------------------------------

SAMPLES: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "tiny": PLAIN | {"chunks": (b"",), "width": 1, "height": 1},  # the shortest file there is
    "zeros": PLAIN | {"rho": (0,) * 5, "chunks": (b"",) * 10, "model_id": bytes(6)},
    "grey16": PLAIN | {"grey": True, "depth": 16, "width": 300, "rho": (9, 8, 7), "chunks": (b"", b"q" * 9)},
    "ten layers": PLAIN
    | {"width": 768, "height": 512, "rho": (30,) * 5, "chunks": [b"\x01" * (2 * n) for n in range(10)]},
    "long chunk": PLAIN | {"chunks": (b"", b"\xa5" * 300, b"z")},
    "trellis": PLAIN | {"chunks": (b"a", b"bc"), "in_trellis": True},
    "digests": PLAIN | {"chunks": (b"a", b"", b"bc"), "digests": (1, 2**32 - 1, 0)},
    "extras": PLAIN | {"chunks": (b"a", b""), "extras": {1: b"\0alpha", 2: b"icc", 130: b"", 255: b"?"}},
    "all": PLAIN | {"rho": (1, 2), "chunks": (b"a", b"b" * 5), "digests": (3, 4), "extras": {3: b"exif", 4: b"xmp"}},
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_bit_flip_is_refused_with_the_right_class(name: str) -> None:
    packed = pack(**SAMPLES[name])
    for position in range(len(packed)):
        for bit in range(8):
            damaged = bytearray(packed)
            damaged[position] ^= 1 << bit
            for partial in (False, True):
                error = failure(bytes(damaged), partial=partial)
                where = (name, position, bit, error)
                if position < 4:
                    assert type(error) is NotHVCError, where
                elif position == 4:
                    assert isinstance(error, UnsupportedError), where
                    assert error.feature == f"format version {1 ^ 1 << bit}", where
                elif position == 5 and bit == 5:
                    assert isinstance(error, UnsupportedError), where
                    assert error.feature == "reserved flag 0x20", where
                else:
                    assert isinstance(error, CorruptError), where
                    assert error.layer is None, where


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_is_refused_and_counts_whole_layers(name: str) -> None:
    fields = SAMPLES[name]
    packed = pack(**fields)
    header = read_header(packed)
    ends = [header.header_bytes]
    for chunk in (*fields["chunks"], *(body for _, body in sorted(fields.get("extras", {}).items()))):
        ends.append(ends[-1] + len(chunk))
    assert ends[-1] + 4 == len(packed)
    for length in range(1, len(packed)):
        error = failure(packed[:length])
        assert isinstance(error, TruncatedError), (name, length, error)
        whole = sum(end <= length for end in ends[1:])
        layers = min(whole, header.n_layers)
        if length < header.header_bytes:
            assert error.layers_complete is None, (name, length)
            assert isinstance(failure(packed[:length], partial=True), TruncatedError)
        else:
            assert error.layers_complete == layers, (name, length)
            part = unpack(packed[:length], partial=True)
            assert part.header == header
            assert part.chunks == tuple(fields["chunks"][:layers])
            assert list(part.extras) == [kind for kind, _ in header.extras][: whole - layers]
    assert type(failure(b"")) is NotHVCError


def test_whole_file_is_checked_even_if_a_partial_one_would_do() -> None:
    packed = pack(**PLAIN)
    assert unpack(packed, partial=True) == unpack(packed)
    damaged = packed[:-5] + b"?" + packed[-4:]
    assert isinstance(failure(damaged, partial=True), CorruptError)
