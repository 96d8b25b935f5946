"""docs/format.md is enough to read a file: reader.py was written from it and reads what pack writes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from reader import read

from hvcodec import container, extras

HERE = Path(__file__).parent
SPEC = (HERE.parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
MODEL_ID = bytes.fromhex("c0ffeec0ffee")
CHUNKS = [b"", b"\x11" * 3, b"\x22" * 127, b"\x33" * 128, b"\x44" * 20000]


def example() -> bytes:
    """The bytes of the example in section 3.6: two-digit hexadecimal words at the start of its lines."""
    block = re.search(r"```hex\n(.*?)```", SPEC, re.DOTALL)
    assert block is not None
    pairs = [re.match(r"((?:[0-9A-F]{2} +)+)", line) for line in block[1].splitlines()]
    return bytes.fromhex("".join(match[1] for match in pairs if match))


def test_example_of_the_document_is_what_pack_writes() -> None:
    packed = container.pack(
        width=300, height=2, grey=True, depth=8, model_id=MODEL_ID, rho=[20], chunks=[b"\x11\x22\x33", b""]
    )
    assert packed == example()
    fields = read(packed)
    assert (fields["Width"], fields["Height"], fields["Rho"]) == (300, 2, [20])
    assert fields["chunks"] == [b"\x11\x22\x33", b""]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("with_digests", [False, True])
@pytest.mark.parametrize("trellis", [False, True])
def test_reader_finds_every_field(depth: int, grey: bool, with_digests: bool, trellis: bool) -> None:
    digests = [7, 0, 2**32 - 1, 65536, 1] if with_digests else None
    packed = container.pack(
        width=1,
        height=2**24,
        grey=grey,
        depth=depth,
        model_id=MODEL_ID,
        rho=[0, 63, 1],
        chunks=CHUNKS,
        digests=digests,
        in_trellis=trellis,
    )
    fields = read(packed)
    flags = with_digests + 4 * grey + 8 * (depth == 16) + 16 * trellis
    assert fields == {
        "Version": 1,
        "Flags": flags,
        "Width": 1,
        "Height": 2**24,
        "Model_Id": MODEL_ID,
        "grey": grey,
        "depth": depth,
        "trellis": trellis,
        "Rho": [0, 63, 1],
        "layers": [
            {"Chunk_Size": len(chunk)} | ({"Symbol_Digest": digests[layer]} if digests else {})
            for layer, chunk in enumerate(CHUNKS)
        ],
        "extras": [],
        "chunks": CHUNKS,
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_reader_finds_extras(dtype: type) -> None:
    plane = np.arange(12, dtype=dtype).reshape(3, 4) * 5  # ramps: some filter pays
    alpha = extras.pack_alpha(plane)
    packed = container.pack(
        width=4,
        height=3,
        grey=False,
        depth=8 * plane.itemsize,
        model_id=MODEL_ID,
        rho=[1],
        chunks=[b"a"],
        extras={
            container.Extra.XMP: extras.pack_metadata(b"<x/>"),
            container.Extra.ALPHA: alpha,
            container.Extra.ICC: extras.pack_metadata(b"profile"),
            container.Extra.EXIF: extras.pack_metadata(b"II*\0"),
            200: b"later",
        },
    )
    by_kind = {extra["Extra_Kind"]: extra for extra in read(packed)["extras"]}
    assert list(by_kind) == [1, 2, 3, 4, 200]
    assert [by_kind[kind]["content"] for kind in (2, 3, 4)] == [b"profile", b"II*\0", b"<x/>"]
    assert by_kind[200] == {"Extra_Kind": 200, "Extra_Size": 5}
    assert unfiltered(by_kind[1], width=4, item=plane.itemsize) == plane.ravel().tolist()


def unfiltered(alpha: dict, *, width: int, item: int) -> list[int]:
    """Section 3.4, sample by sample."""
    raw = alpha["Alpha_Data"]
    samples = [int.from_bytes(raw[i : i + item], "big") for i in range(0, len(raw), item)]
    for i in range(len(samples)):
        if alpha["Alpha_Filter"] == 1 and i % width:
            samples[i] += samples[i - 1]
        elif alpha["Alpha_Filter"] == 2 and i >= width:
            samples[i] += samples[i - width]
        samples[i] %= 1 << 8 * item
    return samples


def test_reader_refuses_every_damaged_example() -> None:
    whole = example()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        for data in (bytes(damaged), whole[:position]):
            with pytest.raises(ValueError):
                read(data)


def test_reader_stays_short_and_independent() -> None:
    source = (HERE / "reader.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [alias.name for node in imports for alias in node.names] == ["zlib"]
