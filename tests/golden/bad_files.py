"""Files that must be refused, each with the error that it must give; put together byte by byte.

make_vectors.py writes them to bad/. Nothing here uses hvcodec: the fields are taken apart by reader.py and put
together here, so that every rule of docs/format.md can be broken on its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reader import read

MAGIC = bytes.fromhex("E9485643")
METADATA_LIMIT = 16 << 20


@dataclass(frozen=True)
class Bad:
    """A file, and what Codec.decode(data, **options) must raise: class, attributes, start of the message."""

    data: bytes
    error: str
    message: str
    attributes: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    model: str = "tiny"  # the one that is there

    def expectation(self) -> dict[str, Any]:
        return {
            "error": self.error,
            "attributes": self.attributes,
            "message": self.message,
            "options": self.options,
            "model": self.model,
        }


# --- taking files apart and putting them together -------------------------------------------------------------


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


@dataclass(frozen=True)
class Parts:
    """Every field of a file as bytes; checksums that are None are computed."""

    flags: int
    width: bytes
    height: bytes
    model_id: bytes
    counts: int
    rho: bytes
    sizes: tuple[bytes, ...]
    digests: tuple[bytes, ...]
    kinds: tuple[int, ...]
    extra_sizes: tuple[bytes, ...]
    bodies: tuple[bytes, ...]  # chunks, then extras
    magic: bytes = MAGIC
    version: int = 1
    extra_count: int | None = None
    header_crc: bytes | None = None
    payload_crc: bytes | None = None

    @property
    def header(self) -> bytes:
        out = self.magic + bytes([self.version, self.flags]) + self.width + self.height + self.model_id
        out += bytes([self.counts]) + self.rho
        digests = self.digests or (b"",) * len(self.sizes)
        out += b"".join(size + digest for size, digest in zip(self.sizes, digests, strict=True))
        if self.flags & 2:
            out += bytes([len(self.kinds) if self.extra_count is None else self.extra_count])
            pairs = zip(self.kinds, self.extra_sizes, strict=True)
            out += b"".join(bytes([kind]) + size for kind, size in pairs)
        return out + (u32(zlib.crc32(out)) if self.header_crc is None else self.header_crc)

    @property
    def data(self) -> bytes:
        payload = b"".join(self.bodies)
        crc = u32(zlib.crc32(payload)) if self.payload_crc is None else self.payload_crc
        return self.header + payload + crc


def parts(data: bytes) -> Parts:
    """Take a sound file apart."""
    f = read(data)
    sizes = [layer["Chunk_Size"] for layer in f["layers"]] + [extra["Extra_Size"] for extra in f["extras"]]
    bodies, end = [], len(data) - 4
    for size in reversed(sizes):
        bodies.append(data[end - size : end])
        end -= size
    n_layers = len(f["layers"])
    return Parts(
        flags=f["Flags"],
        width=varint(f["Width"]),
        height=varint(f["Height"]),
        model_id=f["Model_Id"],
        counts=(len(f["Rho"]) - 1) << 5 | (n_layers - 1),
        rho=bytes(f["Rho"]),
        sizes=tuple(map(varint, sizes[:n_layers])),
        digests=tuple(u32(layer["Symbol_Digest"]) for layer in f["layers"] if "Symbol_Digest" in layer),
        kinds=tuple(extra["Extra_Kind"] for extra in f["extras"]),
        extra_sizes=tuple(map(varint, sizes[n_layers:])),
        bodies=tuple(reversed(bodies)),
    )


def changed(data: bytes, position: int, value: int) -> bytes:
    return data[:position] + bytes([value]) + data[position + 1 :]


def header_length(data: bytes) -> int:
    return len(parts(data).header)


def repaired(data: bytes) -> bytes:
    """The same bytes with a header checksum that fits, for a header of unchanged length."""
    f = parts_length_only(data)
    return data[: f - 4] + u32(zlib.crc32(data[: f - 4])) + data[f:]


def parts_length_only(data: bytes) -> int:
    """Where the payload starts, whatever the checksum of the header says."""
    position = 6

    def skip_varint() -> None:
        nonlocal position
        while data[position] > 127:
            position += 1
        position += 1

    skip_varint()
    skip_varint()
    counts = data[position + 6]
    position += 7 + (counts >> 5) + 1
    for _ in range(counts % 32 + 1):
        skip_varint()
        position += 4 * (data[5] & 1)
    if data[5] & 2:
        n_extras = data[position]
        position += 1
        for _ in range(n_extras):
            position += 1
            skip_varint()
    return position + 4


def with_body(p: Parts, number: int, body: bytes) -> Parts:
    """Another chunk or extra, with its size in the header."""
    bodies = (*p.bodies[:number], body, *p.bodies[number + 1 :])
    sizes = tuple(varint(len(part)) for part in bodies)
    n_layers = len(p.sizes)
    return replace(p, bodies=bodies, sizes=sizes[:n_layers], extra_sizes=sizes[n_layers:])


def with_extras(p: Parts, *extras: tuple[int, bytes]) -> Parts:
    """Exactly these extras, in this order."""
    chunks = p.bodies[: len(p.sizes)]
    return replace(
        p,
        flags=p.flags | 2,
        kinds=tuple(kind for kind, _ in extras),
        extra_sizes=tuple(varint(len(body)) for _, body in extras),
        bodies=(*chunks, *(body for _, body in extras)),
    )


def garbage(body: bytes) -> bytes:
    """Other bytes of the same length, none of them zero."""
    return bytes((byte * 7 + 13 * i) % 255 + 1 for i, byte in enumerate(body))


# --- the list -------------------------------------------------------------------------------------------------


def make(
    plain: bytes, checked: bytes, rich: bytes, linked: bytes, beyond: dict[str, tuple[bytes, bytes]]
) -> dict[str, Bad]:
    """All bad files by name. `plain` has no digests, `checked` has, `rich` has alpha and metadata.

    All three are the same picture of 24 x 20, of which no layer is empty; so is `linked`, in a trellis. In `beyond`
    are files of it and chunks for their last layer alone, that hold a symbol out of range, of the trellis or not.
    """
    assert all(parts(plain).bodies) and all(parts(linked).bodies)
    return {
        **_foreign(plain),
        **_of_the_future(plain),
        **_senseless_headers(plain),
        **_damaged(plain, checked, rich),
        **_truncated(plain, rich),
        **_wrong_chunks(plain, checked),
        **_wrong_extras(plain, rich),
        **_of_other_models(plain),
        **_in_a_trellis(plain, linked, beyond),
    }


def _foreign(plain: bytes) -> dict[str, Bad]:
    def foreign(data: bytes) -> Bad:
        return Bad(data, "NotHVCError", "this is not an hvcodec file")

    return {
        "empty": foreign(b""),
        "png": foreign(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(30)),
        "text": foreign(plain.decode("latin-1").encode("utf-8")),  # what a text editor makes of a file
        "magic_off_by_one": foreign(changed(plain, 3, plain[3] + 1)),
        "magic_in_the_middle": foreign(b"\0" + plain),
    }


def _of_the_future(plain: bytes) -> dict[str, Bad]:
    p = parts(plain)

    def unsupported(data: bytes, feature: str) -> Bad:
        return Bad(data, "UnsupportedError", f"the file has {feature}", {"feature": feature})

    return {
        "version_0": unsupported(replace(p, version=0).data, "format version 0"),
        "version_2": unsupported(replace(p, version=2).data, "format version 2"),
        "version_2_other_header": unsupported(MAGIC + b"\x02" + b"\xff" * 40, "format version 2"),
        "flag_5": unsupported(replace(p, flags=0x20).data, "reserved flag 0x20"),
        "flag_5_other_header": unsupported(MAGIC + b"\x01\x20" + b"\xff" * 40, "reserved flag 0x20"),
        "extra_kind_0": unsupported(with_extras(p, (0, b"x")).data, "extra kind 0"),
        "extra_kind_5": unsupported(with_extras(p, (5, b"")).data, "extra kind 5"),
        "extra_kind_127": unsupported(with_extras(p, (127, b"x"), (128, b"")).data, "extra kind 127"),
        "alpha_filter_3": unsupported(
            with_extras(p, (1, b"\x03" + zlib.compress(bytes(24 * 20)))).data, "alpha filter 3"
        ),
    }


def _senseless_headers(plain: bytes) -> dict[str, Bad]:
    p = parts(plain)

    def not_shortest(data: bytes) -> Bad:
        return Bad(data, "CorruptError", "a number in the header is not in its shortest form", {"layer": None})

    def senseless(data: bytes, rule: str) -> Bad:
        message = f"the header makes no sense ({rule}"
        return Bad(data, "CorruptError", message, {"layer": None})

    sides, rho = "width and height must be", "rho must be"
    reversed_extras = with_extras(p, (3, zlib.compress(b"exif")), (2, zlib.compress(b"icc")))
    twice = with_extras(p, (2, zlib.compress(b"icc")), (2, zlib.compress(b"icc")))
    return {
        "varint_overlong": not_shortest(replace(p, width=b"\x98\x00").data),
        "varint_of_32_bits": not_shortest(replace(p, width=b"\xff\xff\xff\xff\x1f").data),
        "varint_of_six_bytes": not_shortest(replace(p, height=b"\x94\x80\x80\x80\x80\x00").data),
        "varint_overlong_size": not_shortest(
            replace(p, sizes=(*p.sizes[:-1], p.sizes[-1][:-1] + bytes([p.sizes[-1][-1] | 128, 0]))).data
        ),
        "width_0": senseless(replace(p, width=b"\x00").data, sides),
        "height_0": senseless(replace(p, height=b"\x00").data, sides),
        "height_above_2_24": senseless(replace(p, height=varint(2**24 + 1)).data, sides),
        "width_of_32_bits": senseless(replace(p, width=varint(2**32 - 1)).data, sides),
        "rho_64": senseless(replace(p, rho=p.rho[:-1] + b"\x40").data, rho),
        "rho_255": senseless(replace(p, rho=b"\xff" + p.rho[1:]).data, rho),
        "extras_not_ascending": senseless(reversed_extras.data, "the kinds of extras must ascend"),
        "extra_twice": senseless(twice.data, "the kinds of extras must ascend"),
        "extras_announced_none": Bad(
            replace(p, flags=2).data, "CorruptError", "the header announces extras and lists none"
        ),
        "too_many_pixels": Bad(
            replace(p, width=varint(2**24), height=varint(2**24)).data,
            "LimitError",
            f"the picture has {2**48} pixels",
            {"limit": 2**28, "asked": 2**48},
        ),
        "thin": Bad(
            replace(p, width=b"\x01", height=varint(2**24)).data,
            "LimitError",
            f"the picture of 1 x {2**24} costs as much as {2**30} pixels",
            {"limit": 2**29, "asked": 2**30},
        ),
        "wide": Bad(
            replace(p, width=varint(2**18 + 1), height=b"\x01").data,
            "LimitError",
            f"the picture of {2**18 + 1} x 1 costs as much as {2**29 + 2**17} pixels",
            {"limit": 2**29, "asked": 2**29 + 2**17},
        ),
        "more_pixels_than_allowed": Bad(
            plain,
            "LimitError",
            "the picture has 480 pixels, more than the limit of 479",
            {"limit": 479, "asked": 480},
            {"max_pixels": 479},
        ),
    }


def _damaged(plain: bytes, checked: bytes, rich: bytes) -> dict[str, Bad]:
    p, start = parts(plain), header_length(plain)
    corrupt = "CorruptError"
    in_header, in_payload = "the header is damaged", "the payload is damaged"
    nowhere = {"layer": None}

    def flipped(data: bytes, position: int, message: str, **options: bool) -> Bad:
        return Bad(changed(data, position, data[position] ^ 0x10), corrupt, message, nowhere, dict(options))

    shorter = replace(p, sizes=(*p.sizes[:-1], varint(len(p.bodies[-1]) - 1)))
    return {
        "header_crc_flipped": flipped(plain, start - 1, in_header),
        "payload_crc_flipped": flipped(plain, len(plain) - 1, in_payload),
        "payload_crc_flipped_partial": flipped(plain, len(plain) - 1, in_payload, partial=True),
        "width_flipped": flipped(plain, 6, in_header),
        "model_id_flipped": flipped(plain, 9, in_header),
        "counts_flipped": flipped(plain, 14, in_header),
        "first_chunk_flipped": flipped(plain, start, in_payload),
        "first_chunk_flipped_digests": flipped(checked, header_length(checked), in_payload),
        "last_extra_flipped": flipped(rich, len(rich) - 6, in_payload),
        "trailing_byte": Bad(plain + b"\0", corrupt, "1 bytes follow the end of the file", nowhere),
        "trailing_byte_partial": Bad(
            plain + b"\0", corrupt, "1 bytes follow the end of the file", nowhere, {"partial": True}
        ),
        "two_files": Bad(plain + plain, corrupt, f"{len(plain)} bytes follow the end of the file", nowhere),
        "size_too_small": Bad(shorter.data, corrupt, "1 bytes follow the end of the file", nowhere),
    }


def _truncated(plain: bytes, rich: bytes) -> dict[str, Bad]:
    p, start = parts(plain), header_length(plain)
    ends = [start + sum(map(len, p.bodies[:n])) for n in range(len(p.bodies) + 1)]

    def truncated(data: bytes, layers: int | None, message: str = "the file ends", **options: bool) -> Bad:
        return Bad(data, "TruncatedError", message, {"layers_complete": layers}, dict(options))

    def in_header(length: int, **options: bool) -> Bad:
        return truncated(plain[:length], None, "the file ends inside its header", **options)

    sizes = [len(body) for body in p.bodies]
    past_the_end = replace(p, sizes=(*p.sizes[:2], varint(sizes[2] + 1000), *p.sizes[3:]))
    far_past_the_end = replace(p, sizes=(varint(2**32 - 1), *p.sizes[1:]))
    files = {
        "cut_in_magic": in_header(3),
        "cut_after_magic": in_header(4),
        "cut_in_sizes": in_header(start - 8),
        "cut_in_header_crc": in_header(start - 1),
        "cut_in_header_partial": in_header(start - 1, partial=True),
        "cut_after_header": truncated(plain[:start], 0),
        "cut_in_payload_crc": truncated(plain[:-1], 6, "the file ends 1 bytes early, after 6 of 6 layers"),
        "cut_before_payload_crc": truncated(plain[:-4], 6, "the file ends 4 bytes early"),
        "cut_in_extras": truncated(rich[:-10], 6, "the file ends 10 bytes early, after 6 of 6 layers"),
        "size_past_the_end": truncated(past_the_end.data, 2, "the file ends 1000 bytes early, after 2 of 6"),
        "size_far_past_the_end": truncated(far_past_the_end.data, 0),
    }
    for layer in range(6):
        if sizes[layer]:
            middle = ends[layer] + sizes[layer] // 2
            files[f"cut_in_layer_{layer}"] = truncated(plain[:middle], layer)
    files["cut_between_layers"] = truncated(plain[: ends[3]], 3)
    return files


def _wrong_chunks(plain: bytes, checked: bytes) -> dict[str, Bad]:
    p, c = parts(plain), parts(checked)
    n_layers = len(p.sizes)

    def corrupt(changed_parts: Parts, layer: int) -> Bad:
        return Bad(changed_parts.data, "CorruptError", f"layer {layer} is damaged", {"layer": layer})

    def desync(data: bytes, layer: int, **options: bool) -> Bad:
        message = f"layer {layer} decodes to other symbols than were encoded"
        return Bad(data, "DesyncError", message, {"layer": layer}, dict(options))

    def other_digest(layer: int) -> Parts:
        digest = u32(int.from_bytes(c.digests[layer], "little") ^ 1)
        return replace(c, digests=(*c.digests[:layer], digest, *c.digests[layer + 1 :]))

    files = {
        "chunk_longer_than_its_symbols": corrupt(with_body(p, 1, p.bodies[1] + b"\x01"), 1),
        "chunk_shorter_than_its_symbols": corrupt(with_body(p, 3, p.bodies[3][:-2]), 3),
        "chunk_ends_in_zero": corrupt(with_body(p, 2, p.bodies[2] + b"\0"), 2),
        "chunk_is_zeros": corrupt(with_body(p, 0, bytes(9)), 0),
        "chunk_where_all_is_zero": corrupt(with_body(p, n_layers - 1, b"\x01"), n_layers - 1),
        "chunks_swapped": corrupt(with_body(with_body(p, 0, p.bodies[2]), 2, p.bodies[0]), 0),
        "chunk_garbage_digests": desync(with_body(c, 2, garbage(c.bodies[2])).data, 2),
        "chunk_left_out_digests": desync(with_body(c, 1, b"").data, 1),
    }
    for layer in range(n_layers):
        if p.bodies[layer]:
            files[f"chunk_garbage_{layer}"] = corrupt(with_body(p, layer, garbage(p.bodies[layer])), layer)
        files[f"digest_wrong_{layer}"] = desync(other_digest(layer).data, layer)
    near_end = len(c.header) + len(c.bodies[0]) - 2  # of layer 0; a chunk is decoded from its end
    damaged_and_cut = changed(checked, near_end, checked[near_end] ^ 1)[:-5]  # without a checksum that vouches for it
    files["damaged_and_cut_digests"] = Bad(
        damaged_and_cut, "CorruptError", "layer 0 is damaged", {"layer": 0}, {"partial": True}
    )
    return files


def _wrong_extras(plain: bytes, rich: bytes) -> dict[str, Bad]:
    p = parts(plain)

    def corrupt(extras: Sequence[tuple[int, bytes]], message: str) -> Bad:
        return Bad(with_extras(p, *extras).data, "CorruptError", message, {"layer": None})

    def alpha(n_bytes: int) -> list[tuple[int, bytes]]:
        return [(1, b"\0" + zlib.compress(bytes(n_bytes)))]

    bomb = zlib.compress(bytes(METADATA_LIMIT + 1), 9)
    stream = zlib.compress(b"profile")
    size = "the alpha plane does not have the size of the picture"
    return {
        "metadata_bomb": Bad(
            with_extras(p, (4, bomb)).data,
            "LimitError",
            f"the metadata inflate to more than {METADATA_LIMIT} bytes",
            {"limit": METADATA_LIMIT, "asked": METADATA_LIMIT + 1},
        ),
        "metadata_not_deflated": corrupt([(2, b"profile")], "the metadata cannot be inflated"),
        "metadata_empty": corrupt([(2, b"")], "the metadata is not exactly one zlib stream"),
        "metadata_cut": corrupt([(3, stream[:-1])], "the metadata is not exactly one zlib stream"),
        "metadata_and_more": corrupt([(3, stream + b"\0")], "the metadata is not exactly one zlib stream"),
        "alpha_empty": corrupt([(1, b"")], "the alpha plane is not exactly one zlib stream"),
        "alpha_without_stream": corrupt([(1, b"\0")], "the alpha plane is not exactly one zlib stream"),
        "alpha_too_small": corrupt(alpha(24 * 20 - 1), size),
        "alpha_too_large": corrupt(alpha(24 * 20 + 1), size),
        "alpha_of_16_bits": corrupt(alpha(2 * 24 * 20), size),
        "alpha_bomb": corrupt(alpha(1 << 22), size),
        # Extras are looked at one by one, in the order of the file.
        "metadata_wrong_then_bomb": corrupt([(2, b"profile"), (3, bomb)], "the metadata cannot be inflated"),
        "alpha_wrong_then_bomb": corrupt([*alpha(1), (4, bomb)], size),
        "alpha_filter_then_wrong_metadata": Bad(
            with_extras(p, (1, b"\x03"), (2, b"profile")).data,
            "UnsupportedError",
            "the file has alpha filter 3",
            {"feature": "alpha filter 3"},
        ),
        "metadata_bomb_cut": Bad(
            with_extras(p, (4, bomb[:-4])).data,
            "LimitError",
            f"the metadata inflate to more than {METADATA_LIMIT} bytes",
            {"limit": METADATA_LIMIT, "asked": METADATA_LIMIT + 1},
        ),
    }


def _of_other_models(plain: bytes) -> dict[str, Bad]:
    p = parts(plain)
    stranger = bytes.fromhex("00112233aabb")
    attributes = {"needed": stranger.hex(), "found": p.model_id.hex()}

    def misfit(**fields: Any) -> Bad:
        message = "the header does not fit its model"
        return Bad(replace(p, **fields).data, "CorruptError", message, {"layer": None})

    def unknown(changed_parts: Parts) -> Bad:
        message = f"the file needs model {stranger.hex()}"
        return Bad(changed_parts.data, "ModelError", message, attributes)

    n_layers, n_groups = len(p.sizes), len(p.rho)
    return {
        "model_unknown": unknown(replace(p, model_id=stranger)),
        "model_unknown_and_garbage": unknown(
            with_extras(replace(with_body(p, 0, b"\x01\x02"), model_id=stranger), (2, b"not deflated"))
        ),
        "layer_less": misfit(
            counts=(n_groups - 1) << 5 | (n_layers - 2), sizes=p.sizes[:-1], bodies=p.bodies[:-1]
        ),
        "layer_more": misfit(
            counts=(n_groups - 1) << 5 | n_layers, sizes=(*p.sizes, b"\0"), bodies=(*p.bodies, b"")
        ),
        "layers_32": misfit(
            counts=(n_groups - 1) << 5 | 31, sizes=p.sizes + (b"\0",) * (32 - n_layers),
            bodies=p.bodies + (b"",) * (32 - n_layers),
        ),
        "group_less": misfit(counts=(n_groups - 2) << 5 | (n_layers - 1), rho=p.rho[:-1]),
        "group_more": misfit(counts=n_groups << 5 | (n_layers - 1), rho=p.rho + b"\0"),
    }  # fmt: skip


def _in_a_trellis(plain: bytes, linked: bytes, beyond: dict[str, tuple[bytes, bytes]]) -> dict[str, Bad]:
    p = parts(linked)

    def corrupt(changed_parts: Parts, layer: int) -> Bad:
        message, attributes = f"layer {layer} is damaged", {"layer": layer}
        return Bad(changed_parts.data, "CorruptError", message, attributes, model="trellis")

    return {
        "flag_4": Bad(
            replace(parts(plain), flags=0x10).data,
            "CorruptError",
            "the file has a trellis and its model none",
            {"layer": None},
        ),
        "trellis_flag_left_out": corrupt(replace(p, flags=0), 4),
        "trellis_chunk_shorter": corrupt(with_body(p, 5, p.bodies[5][:-2]), 5),
        "trellis_chunk_longer": corrupt(with_body(p, 4, p.bodies[4] + b"\x01"), 4),
        "trellis_chunk_garbage": corrupt(with_body(p, 4, garbage(p.bodies[4])), 4),
        **{
            f"trellis_file_with_{kind}_symbol_too_large": corrupt(
                replace(parts(file), sizes=(b"\0",) * 5 + (varint(len(chunk)),), bodies=(b"",) * 5 + (chunk,)), 5
            )
            for kind, (file, chunk) in beyond.items()
        },
    }
