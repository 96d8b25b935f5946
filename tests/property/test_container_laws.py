"""Laws of the container and of extras, for any fields and any bytes."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvcodec.container import File, pack, read_header, unpack
from hvcodec.errors import FormatError, TruncatedError
from hvcodec.extras import pack_alpha, pack_metadata, unpack_alpha, unpack_metadata

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
from reader import read

LAW = settings(deadline=None, max_examples=200)

sides = st.one_of(st.integers(1, 300), st.integers(1, 1 << 14))
bodies = st.binary(max_size=300)
kinds = st.one_of(st.integers(1, 4), st.integers(128, 255))


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """Any arguments that pack() accepts and unpack() takes without a larger limit."""
    chunks = draw(st.lists(bodies, min_size=1, max_size=32))
    digests = st.lists(st.integers(0, 2**32 - 1), min_size=len(chunks), max_size=len(chunks))
    return {
        "width": draw(sides),
        "height": draw(sides),
        "grey": draw(st.booleans()),
        "depth": draw(st.sampled_from([8, 16])),
        "model_id": draw(st.binary(min_size=6, max_size=6)),
        "rho": draw(st.lists(st.integers(0, 63), min_size=1, max_size=8)),
        "chunks": chunks,
        "digests": draw(st.none() | digests),
        "extras": draw(st.dictionaries(kinds, bodies, max_size=6)),
        "in_trellis": draw(st.booleans()),
    }


def fields_of(file: File) -> dict[str, Any]:
    """The arguments of pack() that gave this file."""
    header = file.header
    return {
        "width": header.width,
        "height": header.height,
        "grey": header.grey,
        "depth": header.depth,
        "model_id": header.model_id,
        "rho": list(header.rho),
        "chunks": list(file.chunks),
        "digests": None if header.digests is None else list(header.digests),
        "extras": file.extras,
        "in_trellis": header.in_trellis,
    }


@LAW
@given(fields())
def test_unpack_inverts_pack(args: dict[str, Any]) -> None:
    packed = pack(**args)
    file = unpack(packed)
    assert fields_of(file) == args  # which also makes pack injective
    assert file.header.file_bytes == len(packed)
    assert read_header(packed) == file.header


@LAW
@given(fields(), st.data())
def test_prefix_gives_the_layers_it_holds(args: dict[str, Any], data: st.DataObject) -> None:
    packed = pack(**args)
    header = read_header(packed)
    length = data.draw(st.integers(header.header_bytes, len(packed) - 1))
    part = unpack(packed[:length], partial=True)
    assert part.header == header
    n = len(part.chunks)
    assert list(part.chunks) == args["chunks"][:n]
    assert part.extras.items() <= args["extras"].items()
    assert header.header_bytes + sum(header.chunk_sizes[:n]) <= length
    assert n == header.n_layers or header.header_bytes + sum(header.chunk_sizes[: n + 1]) > length
    with pytest.raises(TruncatedError) as info:
        unpack(packed[:length])
    assert info.value.layers_complete == n


def refused_or_canonical(data: bytes) -> None:
    """Accepted bytes are the only ones for their content, but for the two unused flags."""
    try:
        file = unpack(data, max_pixels=1 << 48)
    except FormatError:
        return
    canonical = bytearray(data)
    canonical[5] &= 0x3F
    end = file.header.header_bytes
    canonical[end - 4 : end] = zlib.crc32(canonical[: end - 4]).to_bytes(4, "little")
    assert pack(**fields_of(file)) == canonical


@LAW
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: b"\xe9HVC\x01" + tail)))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    refused_or_canonical(data)
    try:
        unpack(data, partial=True)
    except FormatError:
        return


@settings(deadline=None, max_examples=300)
@given(fields(), st.data())
def test_edited_header_with_repaired_checksum_is_refused_or_canonical(
    args: dict[str, Any], data: st.DataObject
) -> None:
    packed = bytearray(pack(**args))
    end = read_header(bytes(packed)).header_bytes
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(4, end - 5))] = data.draw(st.integers(0, 255))
    packed[end - 4 : end] = zlib.crc32(packed[: end - 4]).to_bytes(4, "little")
    refused_or_canonical(bytes(packed))


@LAW
@given(fields())
def test_reader_written_from_the_document_agrees(args: dict[str, Any]) -> None:
    args["extras"] = {
        kind: body if kind > 4 else b"\0" * (kind == 1) + zlib.compress(body) for kind, body in args["extras"].items()
    }
    found = read(pack(**args))
    assert (found["Width"], found["Height"]) == (args["width"], args["height"])
    assert (found["grey"], found["depth"], found["trellis"]) == (args["grey"], args["depth"], args["in_trellis"])
    assert (found["Model_Id"], found["Rho"]) == (args["model_id"], args["rho"])
    assert found["chunks"] == args["chunks"]
    assert [layer.get("Symbol_Digest") for layer in found["layers"]] == (
        args["digests"] or [None] * len(args["chunks"])
    )
    assert {extra["Extra_Kind"]: extra["Extra_Size"] for extra in found["extras"]} == {
        kind: len(body) for kind, body in args["extras"].items()
    }


@LAW
@given(
    st.integers(1, 80),
    st.integers(1, 20),
    st.sampled_from(["u1", "u2"]),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_alpha_is_lossless(height: int, width: int, dtype: str, seed: int, smooth: bool) -> None:
    plane = np.random.default_rng(seed).integers(0, 1 << 16, (height, width)).astype(dtype)
    if smooth:
        plane = plane // 64 + np.arange(width).astype(dtype)
    back = unpack_alpha(pack_alpha(plane), width=width, height=height, depth=8 * plane.itemsize)
    np.testing.assert_array_equal(back, plane, strict=True)


@LAW
@given(bodies)
def test_metadata_are_lossless(raw: bytes) -> None:
    assert unpack_metadata(pack_metadata(raw)) == raw


@LAW
@given(bodies)
def test_any_bytes_inflate_or_are_refused(data: bytes) -> None:
    for call in (unpack_metadata, lambda data: unpack_alpha(data, width=5, height=3, depth=8)):
        try:
            call(data)
        except FormatError:
            continue
